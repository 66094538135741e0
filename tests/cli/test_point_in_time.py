"""`milvine restore --to`: the rows of a moment between two backups, compared with a model of what was written."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_calls import runner
from conftest import ServerFactory
from directory_check import findings
from import_files import Jobs
from pymilvus import DataType, MilvusClient

DIM = 4
KEEPING = {"MILVINE_WAL_KEEPHOURS": "1"}
OF_KEPT_LOGS = pytest.mark.local_log("only files of logs are kept for moments between backups")
Rows = dict[int, Any]
State = dict[str, Rows]
"""Notes of the rows by key, of each collection."""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    return runner(capsys)


def row(key: int, note: str) -> dict[str, Any]:
    return {"id": key, "vector": [key, 1, 2, 3], "note": note}


def create(client: MilvusClient, name: str) -> None:
    client.create_collection(name, dimension=DIM)


def rows_of(client: MilvusClient) -> State:
    found: State = {}
    for name in client.list_collections():
        client.load_collection(name)
        pages = client.query_iterator(name, filter="", output_fields=["*"], consistency_level="Strong")
        found[name] = {}
        while page := pages.next():
            found[name] |= {one["id"]: one.get("note") for one in page}
        pages.close()
    return found


class Writer:
    """Random calls, and what there is after each: (timestamp after it, rows)."""

    def __init__(self, client: MilvusClient, seed: int) -> None:
        self.client = client
        self.random = random.Random(seed)
        self.backups = self.random.sample(range(60), 2)
        self.state: State = {"shop": {}}
        self.moments: list[tuple[int, State]] = []
        create(client, "shop")

    def step(self, number: int) -> None:
        steps = [
            self.insert,
            self.insert,
            self.upsert,
            self.delete,
            self.flush,
            self.compact,
            self.other,
            self.truncate,
            self.rename,
            self.add_field,
            self.partition,
        ]
        self.random.choices(steps, [5, 5, 5, 5, 2, 1, 1, 0.4, 0.6, 0.6, 1])[0](number)

    def keys(self) -> list[int]:
        return [self.random.randrange(200) for _ in range(self.random.randint(1, 20))]

    def _name(self) -> str:
        return self.random.choice([*self.state])

    def insert(self, number: int) -> None:
        name = self._name()
        new = [key for key in dict.fromkeys(self.keys()) if key not in self.state[name]]
        if new:
            self.client.insert(name, [row(key, f"i{number}") for key in new])
            self.state[name] |= dict.fromkeys(new, f"i{number}")

    def upsert(self, number: int) -> None:
        name, keys = self._name(), [*dict.fromkeys(self.keys())]
        self.client.upsert(name, [row(key, f"u{number}") for key in keys])
        self.state[name] |= dict.fromkeys(keys, f"u{number}")

    def delete(self, number: int) -> None:
        name, keys = self._name(), self.keys()
        self.client.delete(name, ids=keys)
        for key in keys:
            self.state[name].pop(key, None)

    def flush(self, number: int) -> None:
        self.client.flush(self._name())

    def compact(self, number: int) -> None:
        self.client.compact(self._name())

    def truncate(self, number: int) -> None:
        name = self._name()
        self.client.truncate_collection(name)
        self.state[name] = {}

    def rename(self, number: int) -> None:
        name = self._name()
        self.client.rename_collection(name, f"{name[:4]}{number}")
        self.state[f"{name[:4]}{number}"] = self.state.pop(name)

    def add_field(self, number: int) -> None:
        self.client.add_collection_field(self._name(), f"f{number}", DataType.INT64, nullable=True)

    def partition(self, number: int) -> None:
        """Of rows that go with it, or a new one with one row."""
        name = self._name()
        if "part" in self.client.list_partitions(name):
            gone = self.client.query(name, "id >= 0", ["id"], partition_names=["part"], consistency_level="Strong")
            self.client.release_partitions(name, ["part"])
            self.client.drop_partition(name, "part")
            for one in gone:
                del self.state[name][one["id"]]
        else:
            self.client.create_partition(name, "part")
            self.client.insert(name, [row(1000 + number, f"p{number}")], partition_name="part")
            self.state[name][1000 + number] = f"p{number}"

    def other(self, number: int) -> None:
        found = next((name for name in self.state if name.startswith("othe")), None)
        if found is not None:
            self.client.drop_collection(found)
            del self.state[found]
        else:
            create(self.client, "other")
            self.state["other"] = {}

    def note(self) -> None:
        time.sleep(0.003)
        self.moments.append(
            (time.time_ns() // 1_000_000 << 18, {name: dict(rows) for name, rows in self.state.items()})
        )
        time.sleep(0.003)


@pytest.fixture
def opened(new_server: ServerFactory) -> Iterator[Callable[[Path], State]]:
    """The rows that a server finds in a directory."""

    def rows(directory: Path) -> State:
        server = new_server(data_dir=directory)
        client = MilvusClient(server.uri)
        found = rows_of(client)
        client.close()
        server.stop()
        return found

    yield rows


SEEDS = int(os.environ.get("MILVINE_MOMENT_SEEDS", "3"))


@OF_KEPT_LOGS
@pytest.mark.parametrize("seed", [1, *(pytest.param(i, marks=pytest.mark.nightly) for i in range(2, SEEDS + 1))])
def test_a_restore_to_a_moment_has_the_rows_of_then(
    new_server: ServerFactory, run: Any, opened: Callable[[Path], State], tmp_path: Path, seed: int
) -> None:
    server = new_server(env=KEEPING)
    client = MilvusClient(server.uri)
    writer, place = Writer(client, seed), tmp_path / "place"
    for number in range(30):
        writer.step(number)
    run("backup", place, "--uri", server.uri)
    for number in range(60):
        writer.step(number)
        if number % 10 == 5:
            writer.note()
        if number in writer.backups:
            run("backup", place, "--uri", server.uri)
        if number == 40:
            client.close()
            server.kill()
            server.start()
            client = writer.client = MilvusClient(server.uri)
    run("backup", place, "--uri", server.uri)
    client.insert(next(iter(writer.state)), [row(9999, "late")])
    client.close()
    wanted = writer.random.sample(writer.moments, 2)
    for ts, state in wanted:
        directory = tmp_path / str(ts)
        found = run("restore", place, directory, "--to", ts)
        assert found["isWhole"], found
        assert opened(directory) == state
        assert findings(directory) == []


def now_ts() -> int:
    """A moment after all calls so far and before all later ones."""
    time.sleep(0.003)
    found = time.time_ns() // 1_000_000 << 18
    time.sleep(0.003)
    return found


@OF_KEPT_LOGS
def test_what_the_log_does_not_say_comes_back_too(
    new_server: ServerFactory, run: Any, opened: Callable[[Path], State], tmp_path: Path
) -> None:
    """Imports, restored snapshots, added fields, partitions, names; and what cannot come back is told."""
    files, place = tmp_path / "files", tmp_path / "place"
    files.mkdir()
    server = new_server(env={**KEEPING, "MILVINE_IMPORT_PATH": str(files)})
    client, jobs = MilvusClient(server.uri), Jobs(server)
    for name in ("shop", "gone"):
        create(client, name)
        client.insert(name, [row(key, "first") for key in range(10)])
    client.create_partition("shop", "p")
    client.insert("shop", [row(50, "in p")], partition_name="p")
    (files / "rows.json").write_text(json.dumps([row(key, "imported") for key in range(100, 110)]))
    run("backup", place, "--uri", server.uri)
    before = now_ts()
    assert jobs.run("shop", [["rows.json"]])["state"] == "Completed"
    client.delete("shop", ids=[100, 3])
    client.add_collection_field("shop", "size", DataType.INT64, nullable=True)
    client.insert("shop", [{**row(11, "sized"), "size": 7}])
    client.create_snapshot("s", "gone")
    client.restore_snapshot("s", "gone", "again")
    client.drop_collection("gone")
    client.release_partitions("shop", ["p"])
    client.drop_partition("shop", "p")
    client.rename_collection("shop", "store")
    middle = now_ts()
    (files / "more.json").write_text(json.dumps([row(key, "imported") for key in range(200, 203)]))
    assert jobs.run("store", [["more.json"]])["state"] == "Completed"
    merged = now_ts()
    client.compact("store")
    client.drop_collection("again")
    ends_at = time.monotonic() + 60
    while len(client.list_persistent_segments("store")) > 1 and time.monotonic() < ends_at:
        time.sleep(0.1)
    last = run("backup", place, "--uri", server.uri)
    after = now_ts()
    client.close()
    first_rows = dict.fromkeys(range(10), "first")
    run("restore", place, tmp_path / "before", "--to", before)
    assert opened(tmp_path / "before") == {"shop": first_rows | {50: "in p"}, "gone": first_rows}
    for ts in (middle, merged):
        text = run("restore", place, tmp_path / "lost", "--to", ts, code=1)
        assert "got rows from files" in text and last["backupId"] in text
    assert "it has the moments" in run("restore", place, tmp_path / "lost", "--to", after, code=1)
    assert "is not a time" in run("restore", place, tmp_path / "lost", "--to", "yesterday", code=1)
    assert not (tmp_path / "lost").exists()


@OF_KEPT_LOGS
def test_a_restored_backup_has_moments_of_its_own(
    new_server: ServerFactory,
    run: Any,
    opened: Callable[[Path], State],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server of a restored directory uses the same place if told to: its moments hold no rows of the other one."""
    place = tmp_path / "place"
    server = new_server(env=KEEPING)
    client = MilvusClient(server.uri)
    create(client, "shop")
    client.insert("shop", [row(1, "first")])
    first = run("backup", place, "--uri", server.uri)
    client.insert("shop", [row(2, "there")])
    there = now_ts()
    run("backup", place, "--uri", server.uri)
    client.close()
    server.stop()
    run("restore", place, tmp_path / "fork", "--backup", first["backupId"])
    fork = new_server(data_dir=tmp_path / "fork", env=KEEPING)
    client = MilvusClient(fork.uri)
    client.insert("shop", [row(3, "here")])
    between = now_ts()
    assert "is of another server" in run("backup", place, "--uri", fork.uri, code=1)
    run("backup", place, "--uri", fork.uri, "--other-server")
    client.insert("shop", [row(4, "here")])
    here = now_ts()
    run("backup", place, "--uri", fork.uri)
    client.close()
    assert "it has the moments" in run("restore", place, tmp_path / "between", "--to", between, code=1)
    copy = shutil.copyfileobj

    def full(read: Any, *arguments: Any) -> None:
        if "milvine-restore-" in str(read.name):  # the catalog of the moment
            raise OSError(28, "No space left on device", read.name)
        copy(read, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", full)
        said = run("restore", place, tmp_path / "there", "--to", there, code=1)
    assert f"cannot write {tmp_path}/there.unfinished/catalog.sqlite: No space left on device" in said
    run("restore", place, tmp_path / "there", "--to", there)
    run("restore", place, tmp_path / "here", "--to", here)
    assert opened(tmp_path / "there") == {"shop": {1: "first", 2: "there"}}
    assert opened(tmp_path / "here") == {"shop": {1: "first", 3: "here", 4: "here"}}


@OF_KEPT_LOGS
def test_backups_of_two_servers_in_one_place_do_not_mix(
    new_server: ServerFactory, run: Any, opened: Callable[[Path], State], tmp_path: Path
) -> None:
    place = tmp_path / "place"
    servers = [new_server(env=KEEPING) for _ in range(2)]
    clients = [MilvusClient(server.uri) for server in servers]

    def back_up(number: int, *more: str, code: int = 0) -> Any:
        return run("backup", place, "--uri", servers[number].uri, *more, code=code)

    def write(number: int, key: int) -> None:
        clients[number].insert("shop", [row(key, f"server {number}")])

    for number, client in enumerate(clients):
        create(client, "shop")
        write(number, 10 * number)
        first = back_up(number, *["--other-server"][:number])
        write(number, 10 * number + 1)
    refused = back_up(0, code=1)
    assert f"{first['backupId']}, is of another server ({servers[1].data_dir} on " in refused
    assert len(run("restore", place, "--list")) == 2, "a refused backup leaves nothing"
    moment = now_ts()
    last = []
    for number in range(2):
        write(number, 10 * number + 2)
        last.append(back_up(number, "--other-server")["backupId"])
    refused = run("restore", place, tmp_path / "x", "--to", moment, code=1)
    assert "of several servers" in refused and all(one in refused for one in last)
    for number, backup_id in enumerate(last):
        target = tmp_path / f"of-{number}"
        run("restore", place, target, "--to", moment, "--backup", backup_id)
        assert opened(target) == {"shop": dict.fromkeys([10 * number, 10 * number + 1], f"server {number}")}
    too_early = ("--to", moment, "--backup", first["backupId"])
    assert "has no logs of" in run("restore", place, tmp_path / "x", *too_early, code=1)
    for client in clients:
        client.close()


def test_a_place_tells_a_copied_directory_from_the_first_one(
    new_server: ServerFactory, run: Any, tmp_path: Path
) -> None:
    """Neither a restart nor a move makes another server, but of two copies only one can go on."""
    place, copy = tmp_path / "place", tmp_path / "copy"
    server = new_server()
    run("backup", place, "--uri", server.uri)
    server.stop()
    server.start()
    run("backup", place, "--uri", server.uri)
    server.stop()
    shutil.copytree(server.data_dir, copy)
    copied = new_server(data_dir=copy)
    run("backup", place, "--uri", copied.uri)
    server.start()
    assert f"is of another server ({copy} on " in run("backup", place, "--uri", server.uri, code=1)
    run("backup", place, "--uri", copied.uri)


@OF_KEPT_LOGS
def test_imports_and_restored_snapshots_come_back_while_their_files_are_there(
    new_server: ServerFactory, run: Any, opened: Callable[[Path], State], tmp_path: Path
) -> None:
    files, place, target = tmp_path / "files", tmp_path / "place", tmp_path / "target"
    files.mkdir()
    server = new_server(env={**KEEPING, "MILVINE_IMPORT_PATH": str(files), "MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "999"})
    client, jobs = MilvusClient(server.uri), Jobs(server)
    create(client, "shop")
    (files / "rows.json").write_text(json.dumps([row(key, "imported") for key in range(100, 110)]))
    run("backup", place, "--uri", server.uri)
    client.insert("shop", [row(key, "first") for key in range(10)])
    assert jobs.run("shop", [["rows.json"]])["state"] == "Completed"
    client.flush("shop")
    client.create_snapshot("s", "shop")
    client.restore_snapshot("s", "shop", "again")
    client.delete("shop", ids=[100, 3])
    client.insert("again", [row(4000, "later")])
    moment = now_ts()
    client.delete("shop", filter="id >= 0")
    run("backup", place, "--uri", server.uri)
    client.close()
    command = [sys.executable, "-m", "milvine", "restore", str(place), str(target), "--to", str(moment)]
    for point in ("backup.file_fetched", "backup.log_replayed", "backup.logs_replayed"):
        env = {**os.environ, "MILVINE_CRASH_AT": point}
        died = subprocess.run(command, env=env, capture_output=True, check=False)
        assert died.returncode == -signal.SIGKILL, died.stderr
        assert not target.exists()
    assert run("restore", place, target, "--to", moment)["isWhole"]
    rows = dict.fromkeys(range(10), "first") | dict.fromkeys(range(100, 110), "imported")
    left = {key: note for key, note in rows.items() if key not in (100, 3)}
    assert opened(target) == {"shop": left, "again": rows | {4000: "later"}}
    assert findings(target) == []
