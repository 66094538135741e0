"""Loading, dropping and truncating partitions step by step, in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from directory_check import damages
from test_recovery import PK, VEC, batch, keys_of, new_collection, start, wait_until

from milvine.catalog import partitions
from milvine.catalog.partitions import create_partition
from milvine.catalog.segments import commit_compaction
from milvine.errors import (
    CollectionNotFullyLoaded,
    MilvineError,
    PartitionNotFound,
    PartitionNotLoaded,
    ServiceInternal,
)
from milvine.model.collections import Collection, LoadConfig, Partition
from milvine.querynode.cluster import Target
from milvine.segment.plans import QueryPlan
from milvine.service.context import Engine
from milvine.storage.segment_files import SegmentPaths

FIRST, SECOND = range(100), range(100, 150)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = start(tmp_path)
    yield engine
    engine.catalog.close()


@pytest.fixture
def two(engine: Engine) -> Collection:
    """FIRST sealed in `_default`, SECOND sealed in p."""
    collection = new_collection(engine)
    partition = Partition(engine.clock.next(), "p", engine.clock.next())
    create_partition(engine.catalog, collection.collection_id, partition)
    collection = current(engine, collection)
    for keys, part in zip((FIRST, SECOND), collection.partitions, strict=True):
        engine.datanode.insert(collection.collection_id, part.partition_id, batch(keys))
    engine.datanode.flush(collection.collection_id)
    return collection


def current(engine: Engine, collection: Collection) -> Collection:
    return engine.catalog.snapshot.collections[collection.collection_id]


def ids(collection: Collection) -> tuple[int, int]:
    first, second = (p.partition_id for p in collection.partitions)
    return first, second


def load(engine: Engine, collection: Collection, *partition_ids: int) -> None:
    engine.loader.load(current(engine, collection), LoadConfig(frozenset(partition_ids), frozenset({PK, VEC})))


def count(engine: Engine, collection: Collection, *partition_ids: int, seconds: float = 5) -> int:
    target = Target(collection.collection_id, frozenset(partition_ids) or None, time.monotonic() + seconds)
    plan = QueryPlan(engine.cluster.read_ts(collection.collection_id), None, None, None, None, (VEC,), PK)
    return engine.cluster.count(target, plan)


def hold_openings(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """No segment is opened until the event is set."""
    go_on = threading.Event()
    real = engine.loader._node.load_segment

    def held_up(*arguments: Any) -> Any:
        assert go_on.wait(20)
        return real(*arguments)

    monkeypatch.setattr(engine.loader._node, "load_segment", held_up)
    return go_on


def test_a_loaded_partition_is_read_while_another_is_loading(
    engine: Engine, two: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ids(two)
    load(engine, two, first)
    assert engine.loader.answers.wait_loaded(two.collection_id, 10)
    go_on = hold_openings(engine, monkeypatch)
    load(engine, two, first, second)
    assert count(engine, two, first) == len(FIRST)
    for named in ((), (second,), (first, second)):
        with pytest.raises(CollectionNotFullyLoaded):
            count(engine, two, *named, seconds=0.1)
    progress = engine.loader.answers.progress
    now = current(engine, two)
    assert [progress(now, frozenset({p})).percent for p in (first, second)] == [100, 0]
    assert 0 < progress(now).percent < 100
    go_on.set()
    assert count(engine, two) == len(FIRST) + len(SECOND)
    assert progress(now, frozenset({second})).percent == 100


def test_a_partition_released_while_another_loads_is_refused_and_the_load_continues(
    engine: Engine, two: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ids(two)
    load(engine, two, first)
    assert engine.loader.answers.wait_loaded(two.collection_id, 10)
    go_on = hold_openings(engine, monkeypatch)
    load(engine, two, first, second)
    releasing = threading.Thread(target=engine.loader.release_partitions, args=(two.collection_id, frozenset({first})))
    releasing.start()

    def is_released() -> bool:
        config = current(engine, two).load
        return config is not None and config.partition_ids == {second}

    assert wait_until(is_released, 10)
    with pytest.raises(PartitionNotLoaded):
        count(engine, two, first)
    go_on.set()
    releasing.join(10)
    assert count(engine, two) == len(SECOND)
    assert {meta.partition_id for meta, _ in engine.loader._node.held(two.collection_id).values()} == {second}


def test_a_partition_that_cannot_be_loaded_leaves_the_others_loaded(
    engine: Engine, two: Collection, tmp_path: Path
) -> None:
    first, second = ids(two)
    load(engine, two, first)
    assert engine.loader.answers.wait_loaded(two.collection_id, 10)
    before = engine.loader.budget.held_bytes()
    bad = next(m for m in engine.catalog.snapshot.segments[two.collection_id] if m.partition_id == second)
    SegmentPaths(tmp_path).column(two.collection_id, bad.segment_id, VEC).unlink()
    load(engine, two, first, second)
    assert wait_until(lambda: engine.loader.answers.failure(two.collection_id) is not None, 10)
    assert wait_until(lambda: engine.loader.answers.wait_loaded(two.collection_id, 0), 10)
    assert current(engine, two).load == LoadConfig(frozenset({first}), frozenset({PK, VEC}))
    assert count(engine, two) == len(FIRST)
    assert engine.loader.budget.held_bytes() == before
    engine.loader.release(two.collection_id)
    load(engine, two, first, second)
    left = wait_until(lambda: current(engine, two).load is None, 10)
    assert left, "a failed first load holds no memory"
    assert wait_until(lambda: engine.loader.budget.held_bytes() == 0, 10)


def test_a_write_during_a_drop_is_refused_or_removed(engine: Engine, two: Collection, tmp_path: Path) -> None:
    first, second = ids(two)
    engine.datanode.insert(two.collection_id, second, batch(range(500, 510)))
    engine.datanode.drop_partition(two.collection_id, "p")
    with pytest.raises(PartitionNotFound):
        engine.datanode.insert(two.collection_id, second, batch(range(5)))
    with pytest.raises(PartitionNotFound):
        engine.datanode.upsert(two.collection_id, second, batch(range(5)), None)
    with pytest.raises(PartitionNotFound):
        engine.datanode.delete(two.collection_id, batch(range(5)).columns[PK].values, second)
    assert engine.datanode.row_count(two.collection_id) == len(FIRST)
    assert engine.datanode.flush(two.collection_id) == ()
    again = start(tmp_path)
    load(again, two, first)
    assert keys_of(again, two) == [*FIRST]


def test_a_drop_that_cannot_be_committed_changes_nothing(
    engine: Engine, two: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ids(two)
    engine.datanode.insert(two.collection_id, second, batch(range(500, 510)))

    def failing(*_: Any) -> Any:
        raise ServiceInternal("the catalog cannot be written")

    with monkeypatch.context() as patched:
        patched.setattr(partitions, "drop_partition", failing)
        patched.setattr(partitions, "truncate_collection", failing)
        with pytest.raises(MilvineError):
            engine.datanode.drop_partition(two.collection_id, "p")
        with pytest.raises(MilvineError):
            engine.datanode.truncate(two.collection_id)
    engine.datanode.insert(two.collection_id, second, batch(range(600, 610)))
    load(engine, two, first, second)
    expected = [*FIRST, *SECOND, *range(500, 510), *range(600, 610)]
    assert keys_of(engine, two) == expected
    assert sum(m.row_count for m in engine.datanode.flush(two.collection_id)) == 20
    assert keys_of(engine, two) == expected


def test_truncating_during_inserts_keeps_later_rows(engine: Engine, two: Collection, tmp_path: Path) -> None:
    """Every insert is there whole or gone whole, and those that began after the answer are there."""
    first, second = ids(two)
    load(engine, two, first, second)
    done, written = threading.Event(), list[int]()

    def write() -> None:
        while not done.is_set():
            key = 1000 + 10 * len(written)
            engine.datanode.insert(two.collection_id, second, batch(range(key, key + 10)))
            written.append(key)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(5):
        wait_until(lambda: len(written) % 7 == 6, 0.2)
        began = len(written)
        engine.datanode.truncate(two.collection_id)
        left = keys_of(engine, two)
        assert all(key >= 1000 + 10 * began for key in left)
    ended = len(written) + 1  # one may be in progress
    wait_until(lambda: len(written) > ended + 3, 5)
    done.set()
    writer.join(10)
    keys = keys_of(engine, two)
    assert {k - k % 10 for k in keys} >= set(written[ended:])
    assert len(keys) == 10 * len({k // 10 for k in keys})
    again = start(tmp_path)
    assert again.loader.answers.wait_loaded(two.collection_id, 10)
    assert keys_of(again, two) == keys


def test_the_successor_of_a_truncated_segment_does_not_stay_open(
    engine: Engine, two: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ids(two)
    load(engine, two, first, second)
    assert engine.loader.answers.wait_loaded(two.collection_id, 10)
    truncating = threading.Thread(target=engine.datanode.truncate, args=(two.collection_id,))

    def after_truncation(*arguments: Any) -> Any:
        """The successor is open but not yet in the catalog or the view."""
        if truncating.ident is None:
            truncating.start()
        assert wait_until(lambda: not engine.catalog.snapshot.segments.get(two.collection_id), 10)
        return commit_compaction(*arguments)

    monkeypatch.setattr("milvine.datanode.compactor.commit_compaction", after_truncation)
    engine.datanode.compactor.request(two.collection_id)
    assert wait_until(lambda: truncating.ident is not None, 20)
    truncating.join(20)
    assert wait_until(lambda: not engine.loader._node.held(two.collection_id), 10)
    assert wait_until(lambda: engine.loader.budget.held_bytes() == 0, 10), "freed once its readers are done"


def test_check_names_segments_without_a_partition(engine: Engine, two: Collection, tmp_path: Path) -> None:
    _, second = ids(two)
    load(engine, two, second)
    assert damages(tmp_path) == []
    engine.catalog.change(lambda connection, snapshot: _forget(connection, snapshot, two, second))
    texts = damages(tmp_path)
    assert len(texts) == 2
    assert f"is to load partition {second}, which it does not have" in texts[0]
    assert f"is of partition {second}, which it does not have" in texts[1]


def _forget(connection: Any, snapshot: Any, collection: Collection, partition_id: int) -> Any:
    connection.exec_driver_sql(f"DELETE FROM partitions WHERE partition_id = {partition_id}")
    kept = tuple(p for p in collection.partitions if p.partition_id != partition_id)
    following = replace(snapshot.collections[collection.collection_id], partitions=kept)
    return replace(snapshot, collections={collection.collection_id: following})
