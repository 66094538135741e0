"""`milvine check` where segment files are in an object store: of a directory, of a running server, of a URI alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from conftest import Server
from object_servers import BUCKET, ObjectServer
from stored_rows import NAME, ROWS, answers, check, fill, local_files, rows

PREFIX = "checked"


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


@contextmanager
def damaged(objects: ObjectServer, name: str, content: bytes | None) -> Iterator[None]:
    """An object with other content, or gone."""
    key = f"{PREFIX}/{name}"
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
    assert f"1 collections, {ROWS + 20} rows" in whole.stdout, "rows of the log are sealed, and read"
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
    whole = check(stored, env)
    assert whole.returncode == 0, whole.stdout + whole.stderr
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
