"""A full disk: writes are refused with Milvus's text, reads go on, nothing acknowledged is lost, room cures it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from pymilvus import DataType, MilvusClient, MilvusException
from test_recovery import insert, keys_of, load, new_collection, start, start_loaded

from milvine.catalog.sqlite_file import open_catalog
from milvine.errors import DiskLimitExceeded
from milvine.model.segments import ALL_PARTITIONS
from milvine.service.context import Engine
from milvine.storage.files import walk_files
from milvine.storage.segment_files import SegmentPaths

DIM = 64
_MB = 1 << 20


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return start(tmp_path)


def full(*_arguments: object, **_named: object) -> Any:
    raise OSError(28, "No space left on device")


def test_a_log_on_a_full_disk_refuses_writes_and_keeps_what_was_acknowledged(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full after half of the record."""
    collection = new_collection(engine)
    load(engine, collection)
    insert(engine, collection, range(10))
    real = os.pwritev

    def half(descriptor: int, buffers: Any, offset: int) -> int:
        data = b"".join(bytes(b) for b in buffers)
        real(descriptor, [data[: len(data) // 2]], offset)
        return full()  # type: ignore[no-any-return]

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwritev", half)
        with pytest.raises(DiskLimitExceeded, match="No space left on device"):
            insert(engine, collection, range(10, 20))
    with pytest.raises(DiskLimitExceeded, match="takes no writes until restart"):
        engine.datanode.delete(collection.collection_id, np.arange(3), ALL_PARTITIONS)
    assert keys_of(engine, collection) == list(range(10))
    again = start_loaded(tmp_path, collection)
    assert keys_of(again, collection) == list(range(10))
    insert(again, collection, range(30, 35))
    assert keys_of(start_loaded(tmp_path, collection), collection) == [*range(10), *range(30, 35)]


@pytest.mark.parametrize("call", ["mkdir", "fsync"])
@pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
def test_a_flush_on_a_full_disk_leaves_no_files_and_succeeds_when_there_is_room(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, call: str, after: int
) -> None:
    """The disk is full from the call of this number on, after the log's rotation."""
    collection = new_collection(engine)
    load(engine, collection)
    insert(engine, collection, range(100))
    engine.datanode.delete(collection.collection_id, np.arange(10), ALL_PARTITIONS)
    writer = engine.datanode._held[collection.collection_id].writer
    frozen = writer.freeze()
    assert frozen is not None
    real, calls = getattr(os, call), 0

    def limited(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        return real(*arguments, **named) if calls <= after else full()

    flusher = engine.datanode._flusher
    failed = False
    with monkeypatch.context() as patched:
        patched.setattr(os, call, limited)
        try:
            flusher.flush(writer, frozen)
        except DiskLimitExceeded as error:
            failed = True
            assert "No space left on device" in error.message
    assert failed == (calls > after)
    if failed:
        assert list(walk_files(SegmentPaths(tmp_path).collection(collection.collection_id))) == []
        flusher.flush(writer, frozen)
    assert keys_of(engine, collection) == list(range(10, 100))
    insert(engine, collection, range(200, 210))
    assert keys_of(start_loaded(tmp_path, collection), collection) == [*range(10, 100), *range(200, 210)]


def test_catalog_changes_on_a_full_disk_fail_whole_and_succeed_when_there_is_room(
    tmp_path: Path, engine: Engine
) -> None:
    """SQLite treats its limit on pages as a full disk."""
    collection = new_collection(engine)
    load(engine, collection)
    insert(engine, collection, range(100))

    def limit(pages: int) -> None:
        with engine.catalog._database.engine.connect() as connection:
            connection.execute(sa.text(f"PRAGMA max_page_count = {pages}"))

    assert engine.background.stop(time.monotonic() + 60)  # a merge could make room in the catalog
    limit(1)  # as small as the database is
    with pytest.raises(DiskLimitExceeded, match="the catalog cannot be written"):
        for number in range(200):
            new_collection(engine, f"{'x' * 200}{number}")
    known = engine.catalog.snapshot
    with pytest.raises(DiskLimitExceeded, match="the catalog cannot be written"):
        for number in range(500):
            known = engine.catalog.snapshot
            engine.datanode.flush(collection.collection_id)
            insert(engine, collection, range(1000 + number, 1001 + number))
    assert engine.catalog.snapshot is known
    count = len(keys_of(engine, collection))
    limit(2**30)
    engine.datanode.flush(collection.collection_id)
    assert len(keys_of(engine, collection)) == count
    assert len(keys_of(start_loaded(tmp_path, collection), collection)) == count


def test_the_catalog_is_in_wal_mode_with_full_synchronous(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path / "catalog.sqlite")
    for _ in range(2):
        with catalog._database.engine.connect() as connection:
            assert connection.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"
            assert connection.execute(sa.text("PRAGMA synchronous")).scalar() == 2
    catalog.close()


def test_a_collection_refused_by_a_full_disk_does_not_exist(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwritev", full)
        with pytest.raises(DiskLimitExceeded):
            new_collection(engine)
    assert engine.catalog.snapshot.collections == {}
    insert(engine, new_collection(engine), range(5))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 48 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=False)


def fill_disk(disk: Path, left_bytes: int) -> Path:
    """Fills the disk except for this many bytes; returns the file to remove again."""
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - left_bytes)
    return ballast


def rows(first: int, count: int, name: str = "vec") -> list[dict[str, Any]]:
    vectors = np.random.default_rng(first).standard_normal((count, DIM)).astype(np.float32)
    return [{"id": first + i, name: v} for i, v in enumerate(vectors)]


def code_of(call: Callable[[], object]) -> int:
    with pytest.raises(MilvusException) as caught:
        call()
    assert "No space left on device" in caught.value.message or "disk is full" in caught.value.message
    return int(caught.value.code)


@pytest.mark.local_catalog("a start writes its epoch, which needs room")
@pytest.mark.local_log("a log in a store needs no room")
def test_a_server_on_a_full_disk_starts_refuses_writes_serves_reads_and_recovers_with_room(
    small_disk: Path, new_server: Callable[..., Any]
) -> None:
    server = new_server(data_dir=small_disk / "data")
    client = MilvusClient(uri=server.uri)
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    indexes = client.prepare_index_params()
    indexes.add_index("vec", index_type="HNSW", metric_type="L2", params={"M": 8, "efConstruction": 16})
    for name in ("c", "d"):
        client.create_collection(name, schema=schema, index_params=indexes)
    client.insert("c", rows(0, 8000))

    def count(name: str = "c") -> int:
        return int(client.query(name, filter="", output_fields=["count(*)"])[0]["count(*)"])

    # No room for sealed files: the flush fails and leaves nothing, the rows stay.
    ballast = fill_disk(small_disk, _MB)
    used = os.statvfs(small_disk).f_bavail
    assert code_of(lambda: client.flush("c")) == 7
    assert abs(os.statvfs(small_disk).f_bavail - used) < 20, "the files of the failed flush are still there"
    assert count() == 8000
    ballast.unlink()
    client.flush("c")
    deadline = time.monotonic() + 30
    while client.describe_index("c", "vec")["indexed_rows"] < 8000:
        assert time.monotonic() < deadline
        time.sleep(0.02)

    # No room for the log: its collection takes no more writes, and reads continue.
    ballast = fill_disk(small_disk, 200_000)
    acknowledged = 8000
    while True:
        try:
            client.insert("c", rows(acknowledged, 200), retry_times=0)
        except MilvusException as error:
            assert error.code == 7 and "takes no writes until restart" in error.message
            break
        acknowledged += 200
    assert count() == acknowledged
    assert client.search("c", [rows(0, 1)[0]["vec"]], limit=1)[0][0]["id"] == 0
    code_of(lambda: client.create_collection("e", schema=schema))
    assert not client.has_collection("e")

    # No room at all: the server starts after a crash and after a clean stop, reads continue, writes fail.
    fill_more = small_disk / "more"
    for end in (server.kill, server.stop):
        with contextlib.suppress(OSError), fill_more.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        client.close()
        end()
        with contextlib.suppress(OSError), fill_more.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        server.start()
        client = MilvusClient(uri=server.uri)
        client.load_collection("c")
        assert count() in (acknowledged, acknowledged + 200)
        for name in ("c", "d"):
            assert code_of(partial(client.insert, name, rows(10**6, 200), retry_times=0)) == 7
        assert code_of(partial(client.flush, "c")) == 7
        assert count("d") == 0
    assert "Traceback" not in server.log

    # Room is enough: no restart is needed.
    ballast.unlink()
    fill_more.unlink(missing_ok=True)
    client.insert("c", rows(10**6, 200))
    client.insert("d", rows(0, 2000))
    client.flush("d")
    client.flush("c")
    assert count("d") == 2000
    client.close()


@pytest.mark.local_catalog("a start writes its epoch, which needs room")
def test_a_full_disk_stops_no_writes_to_a_log_in_a_store(
    small_disk: Path, new_server: Callable[..., Any], objects: Any
) -> None:
    env = {**objects.environment("full"), "MILVINE_LOG_STORE": "object"}
    server = new_server(data_dir=small_disk / "data", env=env)
    client = MilvusClient(uri=server.uri)
    client.create_collection("c", DIM)
    ballast = fill_disk(small_disk, 0)
    client.insert("c", rows(0, 8000, "vector"))
    assert code_of(lambda: client.flush("c")) == 7
    for first, end in ((8000, server.kill), (9000, server.stop)):
        client.insert("c", rows(first, 1000, "vector"))
        client.close()
        end()
        server.start()
        client = MilvusClient(uri=server.uri)
        assert client.query("c", "", output_fields=["count(*)"])[0]["count(*)"] == first + 1000
    assert "Traceback" not in server.log
    ballast.unlink()
    client.flush("c")
    assert sum(one.num_rows for one in client.list_persistent_segments("c")) == 10_000
    client.close()
