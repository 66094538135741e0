"""Failures between the steps of a write, a flush and a recovery, one at a time, in this process."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from milvine import server
from milvine.catalog.collections import create_collection, drop_collection
from milvine.config import load_settings
from milvine.datanode import flush as flush_module
from milvine.errors import DataIntegrityError, MilvineError, ServiceInternal
from milvine.model.collections import DEFAULT_DATABASE, DEFAULT_PARTITION, Collection, LoadConfig, Partition
from milvine.model.columns import Column, ColumnBatch
from milvine.model.schema import CollectionSchema, FieldSchema, with_field_ids
from milvine.model.segments import ALL_PARTITIONS
from milvine.model.types import ConsistencyLevel, DataType
from milvine.querynode.cluster import Target
from milvine.querynode.local_node import LocalNode
from milvine.segment.plans import QueryPlan
from milvine.service import admin
from milvine.service.context import Engine, RequestContext
from milvine.storage.segment_files import SegmentPaths

SCHEMA = CollectionSchema(
    with_field_ids(
        [FieldSchema(0, "id", DataType.INT64, is_primary=True), FieldSchema(0, "vec", DataType.FLOAT_VECTOR, dim=2)]
    )
)
PK, VEC = 100, 101


_running: dict[Path, Engine] = {}


def start(directory: Path, **environment: str) -> Engine:
    """A second start on the same directory is a restart: the first engine is closed."""
    if directory in _running:
        assert _running[directory].close(time.monotonic() + 60)
    _running[directory] = server.build_engine(load_settings({"data_dir": str(directory)}, environment, None))
    return _running[directory]


def new_collection(engine: Engine, name: str = "c") -> Collection:
    ids = [engine.clock.next() for _ in range(2)]
    partition = Partition(ids[1], DEFAULT_PARTITION, 0)
    collection = Collection(
        ids[0], DEFAULT_DATABASE, name, SCHEMA, ids[0], ConsistencyLevel.STRONG, partitions=(partition,)
    )
    engine.datanode.create(collection)
    assert create_collection(engine.catalog, collection)
    return collection


def batch(keys: range) -> ColumnBatch:
    numbers = np.array(keys, np.int64)
    vectors = np.stack([numbers, numbers], axis=1).astype(np.float32)
    return ColumnBatch(len(numbers), {PK: Column(DataType.INT64, numbers), VEC: Column(DataType.FLOAT_VECTOR, vectors)})


def insert(engine: Engine, collection: Collection, keys: range) -> None:
    engine.datanode.insert(collection.collection_id, collection.partitions[0].partition_id, batch(keys))


def load(engine: Engine, collection: Collection) -> None:
    current = engine.catalog.snapshot.collections[collection.collection_id]
    partitions = frozenset({collection.partitions[0].partition_id})
    engine.loader.load(current, LoadConfig(partitions, frozenset({PK, VEC})))
    assert engine.loader.answers.wait_loaded(collection.collection_id, 10)


def keys_of(engine: Engine, collection: Collection) -> list[int]:
    """The keys that a read returns, with duplicates."""
    target = Target(collection.collection_id, None, time.monotonic() + 10)
    read_ts = engine.cluster.read_ts(collection.collection_id)
    plan = QueryPlan(read_ts, None, None, None, None, (VEC,), PK)
    found = engine.cluster.query(target, plan)
    keys = [] if found is None else found.rows.columns[PK].values.tolist()
    assert engine.cluster.count(target, plan) == len(keys), "rows are there twice"
    return [int(k) for k in keys]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return start(tmp_path)


def test_recovery_syncs_the_tail_of_the_log_before_anything_relies_on_it(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed server leaves unsynced records. A restart serves them, and the next file's header calls them synced, so
    they must be synced first: otherwise a power loss would look like damage."""
    collection = new_collection(engine)
    insert(engine, collection, range(5))
    log = next(SegmentPaths(tmp_path).wal(collection.collection_id).glob("*.wal"))
    synced: list[str] = []

    def recording(real: Callable[[int], None]) -> Callable[[int], None]:
        def call(descriptor: int) -> None:
            real(descriptor)
            synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

        return call

    monkeypatch.setattr(os, "fsync", recording(os.fsync))
    monkeypatch.setattr(os, "fdatasync", recording(os.fdatasync))
    engine = start(tmp_path)
    assert synced.count(str(log)) == 1, "the replayed file itself was never synced"
    insert(engine, collection, range(5, 10))
    assert [name for name in synced if name.endswith(".wal")][1].endswith("0000000002.wal")


def test_a_flush_whose_commit_fails_changes_nothing_and_can_be_repeated(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = new_collection(engine)
    load(engine, collection)
    insert(engine, collection, range(100))
    engine.datanode.delete(collection.collection_id, np.arange(10), ALL_PARTITIONS)

    def broken(*_arguments: object) -> bool:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(flush_module, "commit_flush", broken)
        with pytest.raises(OSError, match="No space"):
            engine.datanode.flush(collection.collection_id)
    assert keys_of(engine, collection) == list(range(10, 100))
    insert(engine, collection, range(200, 210))
    engine.datanode.delete(collection.collection_id, np.arange(200, 205), ALL_PARTITIONS)
    expected = [*range(10, 100), *range(205, 210)]
    assert keys_of(engine, collection) == expected
    assert len(engine.datanode.flush(collection.collection_id)) == 2
    assert keys_of(engine, collection) == expected
    again = start(tmp_path)
    assert again.loader.answers.wait_loaded(collection.collection_id, 10)
    assert keys_of(again, collection) == expected


def test_a_flush_that_fails_after_its_commit_does_not_seal_the_rows_again(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if file descriptors ran out while the successors are opened."""
    collection = new_collection(engine)
    load(engine, collection)
    insert(engine, collection, range(100))

    def broken(*_arguments: object, **_named: object) -> Any:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("milvine.segment.sealed.open_rows", broken)
        with contextlib.suppress(OSError, MilvineError):
            engine.datanode.flush(collection.collection_id)
    engine.datanode.flush(collection.collection_id)
    assert engine.datanode.row_count(collection.collection_id) == 100
    again = start(tmp_path)
    load(again, collection)
    assert keys_of(again, collection) == list(range(100))


def test_a_failed_log_takes_no_writes_until_a_restart_and_reads_continue(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection, other = new_collection(engine), new_collection(engine, "other")
    load(engine, collection)
    insert(engine, collection, range(10))

    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", broken)
        with pytest.raises(ServiceInternal):
            insert(engine, collection, range(10, 20))
    for write in (
        lambda: insert(engine, collection, range(20, 30)),
        lambda: engine.datanode.delete(collection.collection_id, np.arange(3), ALL_PARTITIONS),
        lambda: engine.datanode.flush(collection.collection_id),
    ):
        with pytest.raises(ServiceInternal):
            write()
    assert keys_of(engine, collection) == list(range(10)), "an unsynced write is visible"
    insert(engine, other, range(5))
    again = start(tmp_path)
    assert again.loader.answers.wait_loaded(collection.collection_id, 10)
    assert keys_of(again, collection) in ([*range(10)], [*range(20)])
    insert(again, collection, range(30, 35))
    assert keys_of(start_loaded(tmp_path, collection), collection)[-5:] == list(range(30, 35))


def test_a_failed_log_does_not_prevent_sealing_of_other_collections(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have rows to be sealed; the failing one comes first."""
    broken, other = new_collection(engine), new_collection(engine, "other")
    insert(engine, broken, range(10))

    def no_sync(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", no_sync)
        with pytest.raises(ServiceInternal):
            insert(engine, broken, range(10, 20))
    insert(engine, other, range(5))
    settings = replace(engine.settings, segment_seal_seconds=0)
    monkeypatch.setattr(engine.datanode._buffer, "_settings", settings)

    def until(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def sealed_rows() -> int:
        return sum(m.row_count for m in engine.catalog.snapshot.segments.get(other.collection_id, ()))

    until(lambda: sealed_rows() == 5)
    until(lambda: admin.check_health(engine, RequestContext())[1])
    _, (reason,) = admin.check_health(engine, RequestContext())
    assert reason.startswith("flush of collection c: the log in") and "Input/output error" in reason
    assert admin.is_serving(engine) == (True, [])
    insert(engine, other, range(5, 8))
    until(lambda: sealed_rows() == 8)
    drop_collection(engine.catalog, broken.collection_id)
    engine.datanode.drop(broken.collection_id)
    assert admin.check_health(engine, RequestContext()) == (True, [])


def test_a_collection_whose_log_cannot_be_read_does_not_prevent_a_start(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, other = new_collection(engine), new_collection(engine, "other")
    insert(engine, broken, range(10))
    insert(engine, other, range(5))
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.parent.name == str(broken.collection_id):
            raise OSError(5, "Input/output error", str(path))
        return real(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", read_bytes)
        again = start(tmp_path)
    load(again, other)
    assert keys_of(again, other) == list(range(5))
    with pytest.raises(DataIntegrityError, match="Input/output error"):
        insert(again, broken, range(5))
    assert not admin.check_health(again, RequestContext())[0]
    whole = start(tmp_path)
    load(whole, broken)
    assert keys_of(whole, broken) == list(range(10))


def test_a_closed_engine_runs_no_threads_and_takes_no_writes(tmp_path: Path, engine: Engine) -> None:
    collection = new_collection(engine)
    load(engine, collection)
    insert(engine, collection, range(10))
    threads = [worker._thread for worker in engine.background._workers]
    assert any(thread.is_alive() for thread in threads)
    assert engine.close(time.monotonic() + 60)
    assert not any(thread.is_alive() for thread in threads)
    with pytest.raises(ServiceInternal, match="it is closed"):
        insert(engine, collection, range(10, 20))
    assert keys_of(start_loaded(tmp_path, collection), collection) == list(range(10))


def test_an_engine_closed_during_a_load_loads_again_after_a_restart(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = new_collection(engine)
    insert(engine, collection, range(10))
    engine.datanode.flush(collection.collection_id)
    loading = threading.Event()
    real = LocalNode.load_segment

    def load_segment(node: LocalNode, meta: Any, spec: Any, *more: Any) -> None:
        loading.set()
        while not engine.loader.wanted.is_closed:
            time.sleep(0.001)
        real(node, meta, spec, *more)

    with monkeypatch.context() as patched:
        patched.setattr(LocalNode, "load_segment", load_segment)
        partitions = frozenset({collection.partitions[0].partition_id})
        engine.loader.load(
            engine.catalog.snapshot.collections[collection.collection_id],
            LoadConfig(partitions, frozenset({PK, VEC})),
        )
        assert loading.wait(60)
        assert engine.close(time.monotonic() + 60)
    again = start_loaded(tmp_path, collection)
    assert admin.check_health(again, RequestContext()) == (True, [])
    assert keys_of(again, collection) == list(range(10))


def start_loaded(directory: Path, collection: Collection) -> Engine:
    again = start(directory)
    assert again.loader.answers.wait_loaded(collection.collection_id, 10)
    return again


def test_reads_see_an_insert_only_when_it_is_synced(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = new_collection(engine)
    load(engine, collection)
    insert(engine, collection, range(5))
    syncing, go = threading.Event(), threading.Event()
    real = os.fdatasync

    def held_up(descriptor: int) -> None:
        syncing.set()
        assert go.wait(10)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", held_up)
    writer = threading.Thread(target=insert, args=(engine, collection, range(5, 10)))
    writer.start()
    assert syncing.wait(10)
    assert keys_of(engine, collection) == list(range(5))
    go.set()
    writer.join(10)
    assert keys_of(engine, collection) == list(range(10))


def test_deletes_of_unloaded_rows_apply_after_flush_load_and_restart(tmp_path: Path, engine: Engine) -> None:
    collection = new_collection(engine)
    insert(engine, collection, range(10))
    engine.datanode.flush(collection.collection_id)
    engine.datanode.delete(collection.collection_id, np.array([1]), ALL_PARTITIONS)
    engine.datanode.flush(collection.collection_id)
    engine.datanode.delete(collection.collection_id, np.array([2]), ALL_PARTITIONS)
    load(engine, collection)
    expected = [0, *range(3, 10)]
    assert keys_of(engine, collection) == expected
    insert(engine, collection, range(1, 3))
    engine.datanode.flush(collection.collection_id)
    assert keys_of(engine, collection) == list(range(10)), "rows inserted after the delete of their key live"
    assert keys_of(start_loaded(tmp_path, collection), collection) == list(range(10))


def test_timestamps_and_ids_grow_over_restarts_even_if_the_machines_clock_goes_back(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = new_collection(engine)
    insert(engine, collection, range(5))
    last = engine.cluster.read_ts(collection.collection_id)
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    again = start(tmp_path)
    load(again, collection)
    ts = again.datanode.delete(collection.collection_id, np.arange(5), ALL_PARTITIONS)
    assert ts > last and keys_of(again, collection) == [], "the delete is older than the rows it must kill"
    sealed_ts = again.datanode.flush(collection.collection_id)[0].max_ts
    third = start(tmp_path)
    assert third.clock.next() > max(ts, sealed_ts)


def test_inserts_during_a_drop_harm_no_other_collection(tmp_path: Path, engine: Engine) -> None:
    kept = new_collection(engine, "kept")
    load(engine, kept)
    expected = 0
    for turn in range(20):
        doomed = new_collection(engine, f"doomed{turn}")

        def write(doomed: Collection = doomed) -> None:
            try:
                while True:
                    insert(engine, doomed, range(50))
            except (MilvineError, OSError):
                pass

        writers = [threading.Thread(target=write) for _ in range(3)]
        for writer in writers:
            writer.start()
        time.sleep(0.01)
        drop_collection(engine.catalog, doomed.collection_id)
        engine.datanode.drop(doomed.collection_id)
        for _ in range(3):
            insert(engine, kept, range(expected, expected + 10))
            expected += 10
        engine.datanode.flush(kept.collection_id)
        for writer in writers:
            writer.join(10)
            assert not writer.is_alive()
        assert not SegmentPaths(tmp_path).wal(doomed.collection_id).exists()
    assert keys_of(engine, kept) == list(range(expected))
    assert keys_of(start_loaded(tmp_path, kept), kept) == list(range(expected))


def test_a_failed_load_closes_segments_that_open_after_the_failure(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = new_collection(engine)
    for keys in (range(10), range(10, 20)):
        insert(engine, collection, keys)
        engine.datanode.flush(collection.collection_id)
    bad, good = engine.catalog.snapshot.segments[collection.collection_id]
    SegmentPaths(tmp_path).column(collection.collection_id, bad.segment_id, VEC).unlink()
    node = engine.loader._node
    real = node.load_segment

    begun, opened = threading.Event(), threading.Event()

    def slow(meta: Any, *rest: Any) -> Any:
        if meta.segment_id != good.segment_id:
            begun.wait(10)
            return real(meta, *rest)
        begun.set()
        wait_until(lambda: engine.loader.answers.failure(collection.collection_id) is not None, 1)
        time.sleep(0.1)
        try:
            return real(meta, *rest)
        finally:
            opened.set()

    monkeypatch.setattr(node, "load_segment", slow)
    partitions = frozenset({collection.partitions[0].partition_id})
    engine.loader.load(collection, LoadConfig(partitions, frozenset({PK, VEC})))
    failed = wait_until(lambda: engine.loader.answers.failure(collection.collection_id) is not None, 10)
    assert failed, "a load with a missing file neither ends nor fails"
    assert opened.wait(10)
    time.sleep(0.2)  # time for what follows the opening
    left = wait_until(lambda: not node.held(collection.collection_id), 2)
    assert left, "a segment of a collection that is not loaded is still open"


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()
