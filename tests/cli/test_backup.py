"""`milvine backup` and `milvine restore`: a running server copied as it is at one moment, and brought back whole."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from cli_calls import runner
from conftest import Server, ServerFactory
from directory_check import findings
from pymilvus import MilvusClient

from milvine import file_locks
from milvine.catalog.opening import read_catalog_of
from milvine.errors import DataIntegrityError
from milvine.storage.backup_places import open_backup_place
from milvine.storage.encrypted_places import encrypted_place
from milvine.storage.files import walk_files

DIM = 4
TOKEN = "root:Milvus"
WITH_USERS = {"MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "true"}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("words")
    (directory / "stop.txt").write_text("the\n")
    return directory


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, words: Path) -> Iterator[Server]:
    env = {**WITH_USERS, "MILVINE_FILERESOURCE_PATH": str(words)}
    server = Server(tmp_path_factory.mktemp("source"), env=env)
    try:
        yield server.start()
        server.stop()
        assert findings(server.data_dir) == [], "a backup leaves nothing behind"
    finally:
        server.close()


@pytest.fixture(scope="module")
def client(source: Server) -> Iterator[MilvusClient]:
    client = source.client(token=TOKEN)
    yield client
    client.close()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    return runner(capsys)


def rows(first: int, count: int) -> list[dict[str, Any]]:
    return [{"id": k, "vector": [k, 1, 2, 3], "note": f"n{k}"} for k in range(first, first + count)]


def count(client: MilvusClient, name: str) -> int:
    client.load_collection(name)
    found = client.query(name, filter="", output_fields=["count(*)"], consistency_level="Strong")
    return int(found[0]["count(*)"])


def fill(client: MilvusClient) -> None:
    client.create_database("other")
    client.create_user("ann", "ann-secret")
    client.create_role("reader")
    client.grant_privilege_v2("reader", "Query", "shop", "default")
    client.grant_role("ann", "reader")
    client.add_file_resource("stop", "stop.txt")
    client.create_collection("shop", dimension=DIM)
    client.alter_collection_properties("shop", {"collection.ttl.seconds": "99999"})
    client.create_alias("shop", "store")
    client.insert("shop", rows(0, 500))
    client.flush("shop")
    client.create_snapshot("first", "shop")
    client.delete("shop", ids=[*range(100)])
    client.insert("shop", rows(1000, 50))


def test_a_whole_server_comes_back_from_a_backup(
    source: Server, client: MilvusClient, run: Any, new_server: ServerFactory, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    at = ("--uri", source.uri, "--token", TOKEN)
    fill(client)
    first = run("backup", place, *at)
    assert (first["collections"], first["rows"], first["newFiles"]) == (1, 550, first["files"])
    assert run("backup", place, *at)["newFiles"] == 0, "nothing is stored twice"
    client.insert("shop", rows(2000, 30))
    third = run("backup", place, *at)
    assert 0 < third["newFiles"] < third["files"] and third["newBytes"] < third["bytes"]
    client.drop_snapshot("first", "shop")
    client.drop_alias("store")
    client.drop_collection("shop")
    assert [one["rows"] for one in run("restore", place, "--list")] == [550, 550, 580]
    for backup, rows_then in ((first, 450), (third, 480)):
        target = tmp_path / backup["backupId"]
        assert run("restore", place, target, "--backup", backup["backupId"])["isWhole"]
        server = new_server(data_dir=target, env=WITH_USERS)
        there = MilvusClient(server.uri, token=TOKEN)
        assert count(there, "store") == rows_then, "rows that were not flushed are in it, too"
        assert there.describe_collection("shop")["properties"]["collection.ttl.seconds"] == "99999"
        assert sorted(there.list_databases()) == ["default", "other"]
        assert [one.name for one in there.list_file_resources()] == ["stop"]
        assert there.list_snapshots("shop") == ["first"]
        there.restore_snapshot("first", "shop", "again")
        assert count(there, "again") == 500
        ann = MilvusClient(server.uri, token="ann:ann-secret")
        assert len(ann.query("shop", filter="id in [200, 1001]")) == 2
        ann.close()
        there.insert("shop", rows(5000, 10))
        there.close()
        server.kill()
        server.start()
        there = MilvusClient(server.uri, token=TOKEN)
        assert count(there, "shop") == rows_then + 10
        there.close()
        server.stop()
        assert findings(target) == []
    removed = run("backup", place, *at, "--keep", 1)
    assert len(removed["removed"]) == 3
    assert [one["collections"] for one in run("restore", place, "--list")] == [0]
    left = [path.name for path in walk_files(place) if ".words." not in path.name]
    assert sorted(left) == ["catalog.sqlite", "manifest.json"], "files that no backup needs are gone"
    client.remove_file_resource("stop")


def test_a_backup_is_of_one_moment_in_all_collections(
    source: Server, client: MilvusClient, run: Any, new_server: ServerFactory, tmp_path: Path
) -> None:
    """A row is written to `left` before its twin is written to `right`, so `right` never has more."""
    for name in ("left", "right"):
        client.create_collection(name, dimension=DIM)
    ended = threading.Event()

    def write() -> None:
        writer = MilvusClient(source.uri, token=TOKEN)
        key = 0
        while not ended.is_set():
            for name in ("left", "right"):
                writer.insert(name, rows(key, 1))
            key += 1
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(3):
            run("backup", tmp_path / "place", "--uri", source.uri, "--token", TOKEN)
            run("restore", tmp_path / "place", tmp_path / f"r{number}")
    finally:
        ended.set()
        thread.join()
    server = new_server(data_dir=tmp_path / "r2", env=WITH_USERS)
    there = MilvusClient(server.uri, token=TOKEN)
    left, right = count(there, "left"), count(there, "right")
    assert 0 < right <= left <= right + 1
    there.close()
    for name in ("left", "right"):
        client.drop_collection(name)


def test_what_is_damaged_or_missing_is_named(source: Server, client: MilvusClient, run: Any, tmp_path: Path) -> None:
    place = tmp_path / "place"
    client.create_collection("small", dimension=DIM)
    client.insert("small", rows(0, 20))
    assert "has no backup" in run("restore", place, tmp_path / "x", code=1)
    assert "has no backup" in run("restore", place, "--list", code=1)
    for option in ("--list", "--verify"):
        assert "--to restores a moment" in run("restore", place, option, "--to=2026-11-29T14:02:00", code=1)
    made = run("backup", place, "--uri", source.uri, "--token", TOKEN)
    assert "has no backup nope" in run("restore", place, tmp_path / "x", "--backup", "nope", code=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "is not empty" in run("restore", place, tmp_path / "full", code=1)
    victim = max((place / "files").rglob("*.col.*"), key=lambda path: path.stat().st_size)
    content = victim.read_bytes()
    victim.write_bytes(content[:-40] + b"x" + content[-39:])
    assert f"{victim.name} is damaged" in run("restore", place, tmp_path / "x", code=1)
    assert not (tmp_path / "x").exists()
    victim.unlink()
    assert f"cannot read {victim}" in run("restore", place, tmp_path / "x", code=1)
    victim.write_bytes(content)
    assert run("restore", place, tmp_path / "x")["isWhole"], "a copy that ended halfway goes on"
    manifest = place / "backups" / made["backupId"] / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"rows":20', b'"rows":21'))
    assert "manifest.json does not match its checksum" in run("restore", place, "--list", code=1)
    for damaged in (b"", b"[]", b'{"id": 1}'):
        manifest.write_bytes(damaged)
        assert "manifest.json is damaged: it does not describe a backup" in run("restore", place, "--list", code=1)
    client.drop_collection("small")


def test_a_file_is_no_place_and_no_data_directory(source: Server, small: str, run: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    at = ("--uri", source.uri, "--token", TOKEN)
    assert f"cannot write {file}" in run("backup", file, *at, code=1)
    backed_up(source, run, tmp_path / "place")
    assert f"{file} is not a directory" in run("restore", tmp_path / "place", file, code=1)
    assert file.read_bytes() == b"mine"


def test_a_second_command_in_the_same_directory_is_refused(
    source: Server, small: str, run: Any, tmp_path: Path
) -> None:
    place, target = tmp_path / "place", tmp_path / "back"
    backed_up(source, run, place)
    with file_locks.alone_in(place):
        refused = run("backup", place, "--uri", source.uri, "--token", TOKEN, code=1)
        assert "another backup is writing to" in refused
    (tmp_path / "back.unfinished").mkdir()
    with file_locks.alone_in(tmp_path / "back.unfinished"):
        assert "another restore is writing to" in run("restore", place, target, code=1)
    assert run("restore", place, target)["isWhole"]


def test_a_restored_directory_can_be_checked_before_a_server_ran_there(
    source: Server, small: str, run: Any, tmp_path: Path
) -> None:
    backed_up(source, run, tmp_path / "place")
    run("restore", tmp_path / "place", tmp_path / "back")
    assert run("check", tmp_path / "back")["isWhole"]


def test_a_backup_needs_a_privilege_and_the_servers_directory(
    source: Server, client: MilvusClient, run: Any, tmp_path: Path
) -> None:
    client.create_user("bob", "bob-secret")
    refused = run("backup", tmp_path / "p", "--uri", source.uri, "--token", "bob:bob-secret", code=1)
    assert "permission deny" in refused
    missing = run("backup", tmp_path / "p", "--uri", source.uri, "--token", TOKEN, "--data-dir", tmp_path, code=1)
    assert "run this where the server's data directory is" in missing
    for inside in (source.data_dir, source.data_dir / "segments" / "p"):
        refused = run("backup", inside, "--uri", source.uri, "--token", TOKEN, code=1)
        assert "is in the server's data directory" in refused
    assert not (source.data_dir / "files").exists()
    url, headers = f"{source.uri}/milvine/v1/backup/end", {"Authorization": f"Bearer {TOKEN}"}
    answer = requests.post(url, json={"backupId": "x"}, headers=headers, timeout=30).json()
    assert answer["code"] == 1100
    assert not list(source.data_dir.glob("backups/*"))
    client.drop_user("bob")


def test_backups_that_do_not_end_hold_no_more_each_time(source: Server, small: str) -> None:
    def called(path: str, body: dict[str, Any]) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = requests.post(f"{source.uri}/milvine/v1/backup/{path}", json=body, headers=headers, timeout=30).json()
        assert answer["code"] == 0, answer
        return answer["data"]

    def held() -> int:
        return sum(one.name.startswith("#") for one in read_catalog_of(source.data_dir).snapshots.values())

    begun, counts = [], []
    for _ in range(4):
        begun.append(called("begin", {})["backupId"])
        counts.append(held())
    assert counts == [counts[0] * times for times in (1, 2, 3, 4)]
    for backup_id in begun:
        called("end", {"backupId": backup_id})
    assert held() == 0


def backed_up(source: Server, run: Any, place: Path, *more: object) -> Any:
    return run("backup", place, "--uri", source.uri, "--token", TOKEN, *more)


@pytest.fixture
def small(client: MilvusClient) -> Iterator[str]:
    client.create_collection("small", dimension=DIM)
    client.insert("small", rows(0, 500))
    yield "small"
    client.drop_collection("small")


def largest(place: Path) -> Path:
    return max((place / "files").rglob("*.col.*"), key=lambda path: path.stat().st_size)


def test_files_that_rot_in_the_place_are_found_and_stored_again(
    source: Server, small: str, run: Any, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    assert backed_up(source, run, place)["repaired"] == []
    assert run("restore", place, "--verify")["isWhole"]
    victim = largest(place)
    content = victim.read_bytes()
    flipped = content[:100] + bytes([content[100] ^ 1]) + content[101:]
    victim.write_bytes(flipped)
    assert run("restore", place, "--verify", code=1)["findings"] == [victim.relative_to(place).as_posix()]
    assert backed_up(source, run, place, "--no-verify")["repaired"] == [], "sizes are trusted if one says so"
    assert victim.read_bytes() == flipped
    repaired = backed_up(source, run, place)["repaired"]
    assert [path.rsplit("/", 1)[1] for path in repaired] == [victim.name.rsplit(".", 1)[0]]
    assert victim.read_bytes() == content
    victim.unlink()
    assert run("restore", place, "--verify", code=1)["findings"] == [victim.relative_to(place).as_posix()]
    assert backed_up(source, run, place)["newFiles"] == 1
    assert run("restore", place, "--verify")["isWhole"]


def test_what_killed_backups_have_left_goes_with_the_oldest_ones(
    source: Server, small: str, run: Any, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    backed_up(source, run, place)
    names = ("files/segments/1/2/x.col.00c0ffee", "files/segments/1/2/y.col.unfinished", "backups/2026/catalog.sqlite")
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
    others = place / "milvine-import" / "books.csv.unfinished"
    others.parent.mkdir()
    others.touch()
    assert backed_up(source, run, place)["removed"] == []
    assert all((place / name).exists() for name in names)
    assert len(backed_up(source, run, place, "--keep", 1)["removed"]) == 2
    assert not any((place / name).exists() for name in names)
    assert others.exists(), "another program is writing it"
    assert run("restore", place, "--verify")["isWhole"]


def test_an_encrypted_backup_needs_its_secret(
    source: Server, small: str, client: MilvusClient, run: Any, new_server: ServerFactory, tmp_path: Path
) -> None:
    place, key, wrong = tmp_path / "place", tmp_path / "key", tmp_path / "wrong"
    key.write_text("a long enough secret\n")
    wrong.write_text("another long secret\n")
    client.insert(small, [{"id": 7000 + i, "vector": [0, 0, 0, 0], "note": "plainly" * 6000} for i in range(60)])
    encrypted = ("--key-file", key)
    first = backed_up(source, run, place, *encrypted)
    assert backed_up(source, run, place, *encrypted)["newFiles"] == 0, "the second one reads what is stored"
    content = b"".join(path.read_bytes() for path in walk_files(place))
    assert len(content) > first["bytes"] > 1 << 20, "some files have several pieces"
    for plain in (b"plainly", b"small", b"SQLite", b"collections"):
        assert plain not in content
    for arguments in ((), ("--list",), ("--verify",)):
        assert "the place is encrypted" in run("restore", place, tmp_path / "x", *arguments, code=1)
        assert "not the one of this place" in run(
            "restore", place, tmp_path / "x", *arguments, "--key-file", wrong, code=1
        )
    assert run("restore", place, "--verify", *encrypted)["isWhole"]
    assert run("restore", place, tmp_path / "back", *encrypted)["isWhole"]
    server = new_server(data_dir=tmp_path / "back", env=WITH_USERS)
    there = MilvusClient(server.uri, token=TOKEN)
    assert count(there, small) == 560
    there.close()


@pytest.mark.parametrize("change", ["flipped", "cut", "exchanged", "emptied"])
def test_an_encrypted_file_that_is_not_as_it_was_written_is_refused(tmp_path: Path, change: str) -> None:
    place = encrypted_place(open_backup_place(str(tmp_path / "p")), b"a long enough secret")
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 9000)
    for name in ("files/a", "files/b"):
        place.put(name, source)
        assert place.sizes("files/")[name] == source.stat().st_size
    stored = tmp_path / "p" / "files" / "a"
    content = stored.read_bytes()
    changes = {
        "flipped": content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
        "cut": content[: 24 + 2 * ((1 << 20) + 16)],
        "exchanged": (tmp_path / "p" / "files" / "b").read_bytes(),
        "emptied": b"",
    }
    stored.write_bytes(changes[change])
    with pytest.raises(DataIntegrityError, match="files/a is damaged"):
        place.content("files/a")
    assert place.content("files/b") == source.read_bytes()


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 2 << 20])
def test_encrypted_files_of_all_sizes_come_back(tmp_path: Path, size: int) -> None:
    place = encrypted_place(open_backup_place(str(tmp_path / "p")), b"a long enough secret")
    source = tmp_path / "source"
    source.write_bytes(b"x" * size)
    place.put("files/a", source)
    assert place.sizes("files/") == {"files/a": size}
    place.fetch("files/a", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()


def test_secrets_that_do_not_fit_a_place_are_refused(
    source: Server, small: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, key = tmp_path / "place", tmp_path / "key"
    backed_up(source, run, place)
    key.write_text("a long enough secret")
    at = ("--uri", source.uri, "--token", TOKEN)
    assert "are not encrypted" in run("backup", place, *at, "--key-file", key, code=1)
    key.write_text("")
    assert "is empty" in run("backup", place, *at, "--key-file", key, code=1)
    assert "cannot read" in run("backup", place, *at, "--key-file", tmp_path / "none", code=1)
    monkeypatch.setenv("MILVINE_BACKUP_KEY", "short")
    assert "8 bytes at least" in run("backup", tmp_path / "new", *at, code=1)
    monkeypatch.setenv("MILVINE_BACKUP_KEY", "from the environment")
    run("backup", tmp_path / "new", *at)
    monkeypatch.delenv("MILVINE_BACKUP_KEY")
    assert "the place is encrypted" in run("backup", tmp_path / "new", *at, code=1)


_STORING = ["backup.file_stored", "backup.files_stored", "backup.catalog_stored"]
_FETCHING = ["backup.file_fetched", "backup.files_fetched", "backup.catalog_fetched"]


@pytest.mark.parametrize("point", [*_STORING, *_FETCHING])
def test_a_command_that_dies_leaves_what_the_next_one_finishes(
    source: Server, small: str, run: Any, tmp_path: Path, point: str
) -> None:
    place, target = tmp_path / "place", tmp_path / "back"
    at = ["--uri", source.uri, "--token", TOKEN]
    if point in _FETCHING:
        backed_up(source, run, place)
    command = ["restore", place, target] if point in _FETCHING else ["backup", place, *at]
    died = subprocess.run(
        [sys.executable, "-m", "milvine", *map(str, command)],
        env={**os.environ, "MILVINE_CRASH_AT": point},
        capture_output=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not target.exists()
    if point in _STORING:
        assert "has no backup" in run("restore", place, "--list", code=1)
        for held in (source.data_dir / "backups").iterdir():
            url, headers = f"{source.uri}/milvine/v1/backup/end", {"Authorization": f"Bearer {TOKEN}"}
            requests.post(url, json={"backupId": held.name}, headers=headers, timeout=30)
        backed_up(source, run, place)
    assert run("restore", place, target)["isWhole"]


def test_a_full_disk_ends_a_backup_and_a_restore_with_a_reason(
    source: Server, small: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    at = ("--uri", source.uri, "--token", TOKEN)
    with monkeypatch.context() as patched:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patched.setattr(shutil, "copyfileobj", full)
        assert "No space left on device" in run("backup", place, *at, code=1)
    assert [path.name for path in walk_files(place)] == [], "nothing half-done is left"
    assert not list(source.data_dir.glob("backups/*")), "the server holds nothing any more"
    backed_up(source, run, place)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", full)
        assert "No space left on device" in run("restore", place, tmp_path / "x", code=1)
    assert run("restore", place, tmp_path / "x")["isWhole"]
