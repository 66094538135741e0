"""`milvine check` where segment files are in an object store: of a directory, of a running server, of a URI alone."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator

import pytest
from conftest import Server
from object_servers import BUCKET, ObjectServer
from stored_rows import NAME, ROWS, answers, check, fill, local_files, rows

from milvine.catalog.opening import read_catalog_of

PREFIX, PREFIX_OF_LOG = "checked", "checked-log"


@pytest.fixture(scope="module")
def stored(objects: ObjectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server with sealed files, and with rows that are in its log alone."""
    lazy = {"MILVINE_STORE_REMOVAL_SECONDS": "600"}  # a sweep stores missing objects again
    server = Server(tmp_path_factory.mktemp("stored"), env={**objects.environment(PREFIX), **lazy}).start()
    client = server.client()
    fill(client)
    client.insert(NAME, rows(ROWS, ROWS + 20))
    client.close()
    yield server
    server.close()


@contextlib.contextmanager
def damaged(objects: ObjectServer, name: str, content: bytes | None, prefix: str = PREFIX) -> Iterator[None]:
    """An object with other content, or gone."""
    key = f"{prefix}/{name}"
    whole = objects.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    if content is None:
        objects.s3.delete_object(Bucket=BUCKET, Key=key)
    else:
        objects.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
    try:
        yield
    finally:
        objects.s3.put_object(Bucket=BUCKET, Key=key, Body=whole)


def test_a_running_server_is_checked_by_its_address(stored: Server, objects: ObjectServer) -> None:
    env = objects.environment(PREFIX)
    refused = check(stored, env)
    assert refused.returncode == 1 and "http://HOST:PORT" in refused.stderr
    whole = check(stored, env, stored.uri)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert f"1 collection, {ROWS + 20} rows" in whole.stdout, "rows of the log are sealed, and read"
    name = next(one for one in local_files(stored) if one.endswith(".col"))
    with damaged(objects, name, None):
        lacking = check(stored, env, stored.uri)
        assert lacking.returncode == 1 and f"{objects.uri(PREFIX)}/{name} is missing" in lacking.stdout
    assert not list((stored.data_dir / "backups").iterdir()), "nothing is held any more"
    client = stored.client()
    assert client.list_snapshots(NAME) == []
    client.close()


def test_copies_that_are_not_local_are_read_from_the_store(stored: Server, objects: ObjectServer) -> None:
    env = objects.environment(PREFIX)
    name = next(one for one in local_files(stored) if one.endswith("rows.seg"))
    kept = stored.data_dir / name
    aside = kept.rename(kept.with_suffix(".aside"))
    content = bytearray(aside.read_bytes())
    content[len(content) // 2] ^= 1
    with damaged(objects, name, bytes(content)):
        found = check(stored, env, stored.uri)
        assert found.returncode == 1
        assert f"{objects.uri(PREFIX)}/{name} does not match its checksum" in found.stdout
    aside.rename(kept)


def test_a_directory_says_where_its_objects_are(stored: Server, objects: ObjectServer) -> None:
    env = objects.environment(PREFIX)
    del env["MILVINE_STORE_URI"]
    stored.stop()
    aside = (stored.data_dir / "segments").rename(stored.data_dir.parent / "aside")
    left = [f"{PREFIX}/segments/1/{number}/rows.seg" for number in range(5)]
    for key in left:
        objects.s3.put_object(Bucket=BUCKET, Key=key, Body=b"of a crash")
    whole = check(stored, env)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    (note,) = (line for line in whole.stdout.splitlines() if "left over" in line)
    assert note.startswith(f"note: {objects.uri(PREFIX)}/segments/1/0/rows.seg and 4 more are left over")
    for key in left:
        objects.s3.delete_object(Bucket=BUCKET, Key=key)
    shutil.move(aside, stored.data_dir / "segments")
    stored.start()
    client = stored.client()
    assert answers(client)[1][0]["count(*)"] == ROWS + 10
    client.close()


def test_objects_alone_are_checked_by_their_own_checksums(stored: Server, objects: ObjectServer) -> None:
    env, uri = objects.environment(PREFIX), objects.uri(PREFIX)
    whole = check(stored, env, uri)
    assert (whole.returncode, whole.stderr) == (0, "")
    assert whole.stdout == f"{uri} is whole: {len(objects.sizes(PREFIX))} files\n"
    names = sorted(objects.sizes(PREFIX))[:2]
    with damaged(objects, names[0], b"short"), damaged(objects, names[1], bytes(1000)):
        found = check(stored, env, uri)
        assert found.returncode == 1
        assert f"{uri}/{names[0]} is truncated: 5 bytes" in found.stdout
        assert f"{uri}/{names[1]} has no valid footer" in found.stdout
        assert "has 2 damaged files" in found.stdout
    nobodys = check(stored, env, objects.uri("nobodys"))
    assert nobodys.returncode == 1 and "belongs to no data directory" in nobodys.stdout
    assert check(stored, env, "ftp://x/y").stderr.count("\n") == 1


@pytest.fixture(scope="module")
def logged(objects: ObjectServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A stopped server whose log, in the store, has rows that are not sealed."""
    env = {**objects.environment(PREFIX_OF_LOG), "MILVINE_LOG_STORE": "object"}
    server = Server(tmp_path_factory.mktemp("logged"), env=env).start()
    with contextlib.closing(server.client()) as client:
        fill(client)
        for first in range(ROWS, ROWS + 30, 10):
            client.insert(NAME, rows(first, first + 10))
    server.stop()
    return server


def flipped(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("number", "damage", "text"),
    [
        (-1, flipped, "is damaged at offset 88"),
        (-2, lambda content: content[:-9], "bytes, not"),
        (-2, lambda _content: b"short", "is truncated: 5 bytes"),
        (-3, lambda content: content[:30] + b"x" + content[31:], "has no valid header"),
        (-2, lambda _content: None, "is missing"),
        (0, lambda _content: None, "is missing"),
    ],
)
def test_damaged_cut_and_missing_objects_of_logs_are_named(
    logged: Server, objects: ObjectServer, number: int, damage: Callable[[bytes], bytes | None], text: str
) -> None:
    """0 is the mark at the checkpoint; -1 the last one, of whose loss nothing tells."""
    env, uri = objects.environment(PREFIX_OF_LOG), objects.uri(PREFIX_OF_LOG)
    whole = check(logged, env)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert f"1 collection, {ROWS + 30} rows" in whole.stdout
    (collection,) = read_catalog_of(logged.data_dir).collections.values()
    names = sorted(objects.sizes(PREFIX_OF_LOG, "log"))
    names = [name for name in names if int(name[-16:]) >= collection.checkpoint_file]
    key = f"{PREFIX_OF_LOG}/{names[number]}"
    content = damage(objects.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    with damaged(objects, names[number], content, PREFIX_OF_LOG):
        found = check(logged, env)
        assert found.returncode == 1 and "has 1 damaged file:" in found.stdout, found
        assert any(f"{uri}/{names[number]} " in line and text in line for line in found.stdout.splitlines()), found
        alone = check(logged, env, uri)
        assert alone.returncode == (0 if text == "is missing" else 1), "without a catalog nobody knows what is missing"
        assert text == "is missing" or names[number] in alone.stdout
