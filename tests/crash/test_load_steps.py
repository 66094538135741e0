"""Events while a segment is being opened, one at a time, in this process. A "slow" load reads until it is released, and
checks at every step whether it is still wanted."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_recovery import PK, VEC, insert, keys_of, load, new_collection, start, wait_until

from milvine import metrics
from milvine.catalog.altering import alter_collection
from milvine.catalog.collections import drop_collection
from milvine.catalog.databases import create_database
from milvine.datanode.compactor import PlanState
from milvine.errors import CollectionNotFullyLoaded, CollectionNotLoaded, MemoryLimitExceeded, MilvineError
from milvine.model.collections import Collection, Database, LoadConfig
from milvine.model.schema import FieldSchema
from milvine.model.segments import ALL_PARTITIONS, SegmentMeta
from milvine.model.types import DataType
from milvine.querynode import cluster, comparison
from milvine.querynode.cluster import Target
from milvine.querynode.opening_progress import OpeningCancelled, OpeningProgress
from milvine.segment.plans import QueryPlan
from milvine.service import schema_changes
from milvine.service.context import Engine, RequestContext

PATIENCE_SECONDS = 20.0


class SlowReads:
    """Holds openings of segments that existed when this was made until `go`."""

    def __init__(self, engine: Engine, collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.begun: list[int] = []
        self.reading = 0
        self.most_of_a_segment = 0
        segment_ids = {m.segment_id for m in engine.catalog.snapshot.segments[collection.collection_id]}
        reading: list[int] = []
        real = engine.loader._node.load_segment

        def slow(meta: SegmentMeta, spec: Any, progress: OpeningProgress, *others: Any) -> None:
            if meta.segment_id in segment_ids:
                self.begun.append(meta.segment_id)
                reading.append(meta.segment_id)
                self.most_of_a_segment = max(self.most_of_a_segment, reading.count(meta.segment_id))
                try:
                    while not self.go.wait(0.005):
                        if progress.is_cancelled:
                            raise OpeningCancelled
                finally:
                    reading.remove(meta.segment_id)
            real(meta, spec, progress, *others)

        monkeypatch.setattr(engine.loader._node, "load_segment", slow)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = start(tmp_path, MILVINE_SEGMENT_MERGE_IDLE_SECONDS="600", MILVINE_COMMON_RETENTIONDURATION="0")
    yield engine
    assert engine.close(time.monotonic() + 60)


@pytest.fixture
def sealed(engine: Engine) -> Collection:
    """Keys 0..199 in two segments, not loaded."""
    return sealed_in(engine)


def sealed_in(engine: Engine, name: str = "c") -> Collection:
    collection = new_collection(engine, name)
    for keys in (range(100), range(100, 200)):
        insert(engine, collection, keys)
        engine.datanode.flush(collection.collection_id)
    return collection


def config_of(collection: Collection, *field_ids: int) -> LoadConfig:
    return LoadConfig(frozenset({collection.partitions[0].partition_id}), frozenset(field_ids or (PK, VEC)))


def begin(engine: Engine, collection: Collection, monkeypatch: pytest.MonkeyPatch) -> SlowReads:
    """Starts a load and returns while it runs."""
    reads = SlowReads(engine, collection, monkeypatch)
    engine.loader.load(engine.catalog.snapshot.collections[collection.collection_id], config_of(collection))
    assert wait_until(lambda: len(reads.begun) > 0, PATIENCE_SECONDS)
    return reads


def is_idle(engine: Engine, collection: Collection) -> Callable[[], bool]:
    """Whether no segment is open or being opened and no memory is reserved for the collection."""
    return lambda: (
        not engine.loader._node.held(collection.collection_id)
        and engine.loader.budget.held_bytes() == engine.loader.budget.reserved_bytes() == 0
        and not any(state.working for _, state in engine.loader._states.items())
    )


def loads_again(engine: Engine, collection: Collection, keys: list[int]) -> None:
    """Checks that a new load serves the rows and that its release frees all memory."""
    load(engine, collection)
    assert sorted(keys_of(engine, collection)) == keys
    assert wait_until(lambda: engine.loader.budget.reserved_bytes() == 0, PATIENCE_SECONDS)
    engine.loader.release(collection.collection_id)
    assert is_idle(engine, collection)()


def compacted(engine: Engine, collection: Collection) -> PlanState:
    """The result of compacting all segments into one."""
    request_id, count = engine.datanode.compactor.request(collection.collection_id)
    assert count == 1

    def state() -> PlanState:
        (plan,) = engine.datanode.compactor.plans_of_request(request_id)
        return plan.state

    assert wait_until(lambda: state() in (PlanState.COMPLETED, PlanState.FAILED), PATIENCE_SECONDS)
    return state()


def test_a_flush_does_not_wait_for_a_load(engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = begin(engine, sealed, monkeypatch)
    insert(engine, sealed, range(200, 210))
    engine.datanode.delete(sealed.collection_id, np.array([7, 205]), ALL_PARTITIONS)
    assert len(engine.datanode.flush(sealed.collection_id)) == 1
    assert not engine.loader.answers.wait_loaded(sealed.collection_id, 0), "the load must still run"
    reads.go.set()
    assert engine.loader.answers.wait_loaded(sealed.collection_id, PATIENCE_SECONDS)
    assert keys_of(engine, sealed) == [k for k in range(210) if k not in (7, 205)]


def test_a_compaction_replaces_segments_that_are_being_opened(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = begin(engine, sealed, monkeypatch)
    engine.datanode.delete(sealed.collection_id, np.array([3, 150]), ALL_PARTITIONS)
    assert compacted(engine, sealed) is PlanState.COMPLETED
    # The successor serves, and what is read for the sources is not wanted any more: the load ends by itself.
    assert engine.loader.answers.wait_loaded(sealed.collection_id, PATIENCE_SECONDS)
    assert not reads.go.is_set()
    assert keys_of(engine, sealed) == [k for k in range(200) if k not in (3, 150)]
    assert wait_until(lambda: len(engine.loader._node.held(sealed.collection_id)) == 1, PATIENCE_SECONDS)
    assert wait_until(lambda: engine.loader.budget.reserved_bytes() == 0, PATIENCE_SECONDS)


def test_a_release_stops_what_is_being_opened_and_gives_the_memory_back(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(engine, sealed, monkeypatch)
    assert engine.loader.budget.reserved_bytes() > 0
    engine.loader.release(sealed.collection_id)
    assert is_idle(engine, sealed)()
    with pytest.raises(CollectionNotLoaded):
        keys_of(engine, sealed)
    monkeypatch.undo()
    loads_again(engine, sealed, [*range(200)])


def test_a_release_does_not_wait_for_a_read_that_stalls(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory stays reserved until the opening ends; then nothing of it is open."""
    monkeypatch.setattr(comparison, "STOP_SECONDS", 0.05)
    stalled, go = threading.Event(), threading.Event()
    real = engine.loader._node.load_segment

    def stall(*arguments: Any) -> None:
        real(*arguments)
        stalled.set()
        assert go.wait(PATIENCE_SECONDS)

    monkeypatch.setattr(engine.loader._node, "load_segment", stall)
    engine.loader.load(sealed, config_of(sealed))
    assert stalled.wait(PATIENCE_SECONDS)
    engine.loader.release(sealed.collection_id)
    assert engine.loader.budget.reserved_bytes() > 0, "the memory is not free yet"
    go.set()
    assert wait_until(is_idle(engine, sealed), PATIENCE_SECONDS)
    loads_again(engine, sealed, [*range(200)])


def test_a_drop_stops_what_is_being_opened(engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(engine, sealed, monkeypatch)
    drop_collection(engine.catalog, sealed.collection_id)
    engine.loader.release(sealed.collection_id)
    engine.datanode.drop(sealed.collection_id)
    assert wait_until(is_idle(engine, sealed), PATIENCE_SECONDS)
    assert wait_until(lambda: engine.loader._states.known(sealed.collection_id) is None, PATIENCE_SECONDS), (
        "all reservations are freed"
    )


def test_a_truncation_stops_what_is_being_opened(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(engine, sealed, monkeypatch)
    engine.datanode.truncate(sealed.collection_id)
    assert engine.loader.answers.wait_loaded(sealed.collection_id, PATIENCE_SECONDS)
    assert keys_of(engine, sealed) == []
    assert wait_until(is_idle(engine, sealed), PATIENCE_SECONDS)


def test_a_segment_is_opened_once_at_a_time_however_often_it_is_loaded_and_released(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = begin(engine, sealed, monkeypatch)
    for _ in range(20):
        engine.loader.release(sealed.collection_id)
        engine.loader.load(sealed, config_of(sealed))
        engine.loader.load(sealed, config_of(sealed, PK))
        engine.loader.load(sealed, config_of(sealed))
    reads.go.set()
    assert engine.loader.answers.wait_loaded(sealed.collection_id, PATIENCE_SECONDS)
    assert reads.most_of_a_segment == 1
    assert keys_of(engine, sealed) == [*range(200)]
    assert wait_until(lambda: engine.loader.budget.reserved_bytes() == 0, PATIENCE_SECONDS)
    engine.loader.release(sealed.collection_id)
    assert is_idle(engine, sealed)()


def test_an_opening_continues_if_another_load_wants_the_same_parts(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = begin(engine, sealed, monkeypatch)
    assert wait_until(lambda: len(reads.begun) == 2, PATIENCE_SECONDS)
    more = replace(config_of(sealed), partition_ids=config_of(sealed).partition_ids | {12345})
    reserved = engine.loader.budget.reserved_bytes()
    engine.loader.load(sealed, more)
    assert engine.loader.budget.reserved_bytes() == reserved, "no memory is reserved twice"
    reads.go.set()
    assert engine.loader.answers.wait_loaded(sealed.collection_id, PATIENCE_SECONDS)
    assert sorted(reads.begun) == sorted(set(reads.begun))


def test_a_smaller_load_takes_the_memory_of_the_running_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = start(tmp_path, MILVINE_SEGMENT_MERGE_IDLE_SECONDS="600")
    collection = sealed_in(engine)
    whole = engine.loader.wanted.needed_bytes(collection, config_of(collection))
    engine.loader.budget.limit_bytes = whole + 10
    reads = begin(engine, collection, monkeypatch)
    engine.loader.load(collection, config_of(collection, PK))
    reads.go.set()
    assert engine.loader.answers.wait_loaded(collection.collection_id, PATIENCE_SECONDS)
    specs = [spec for _, spec in engine.loader._node.held(collection.collection_id).values()]
    assert [spec.field_ids for spec in specs] == 2 * [frozenset({PK})]
    assert not any(spec.mapped for spec in specs)


def test_a_load_that_does_not_fit_does_not_stop_the_running_one(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.loader.budget.limit_bytes = engine.loader.wanted.needed_bytes(sealed, config_of(sealed, PK))
    reads = SlowReads(engine, sealed, monkeypatch)
    engine.loader.load(sealed, config_of(sealed, PK))
    assert wait_until(lambda: len(reads.begun) > 0, PATIENCE_SECONDS)
    with pytest.raises(MemoryLimitExceeded):
        engine.loader.load(sealed, config_of(sealed))
    reads.go.set()
    assert engine.loader.answers.wait_loaded(sealed.collection_id, PATIENCE_SECONDS)
    held = engine.loader._node.held(sealed.collection_id)
    assert [(spec.field_ids, spec.mapped) for _, spec in held.values()] == 2 * [(frozenset({PK}), False)]
    assert engine.loader.budget.held_bytes() <= engine.loader.budget.limit_bytes


def test_a_field_added_while_segments_are_opened_is_in_them(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = begin(engine, sealed, monkeypatch)
    assert wait_until(lambda: len(reads.begun) == 2, PATIENCE_SECONDS)
    schema_changes.add_field(engine, RequestContext(), sealed.name, FieldSchema(0, "x", DataType.INT64, nullable=True))
    assert not engine.loader.answers.wait_loaded(sealed.collection_id, 0), "the load must still run"
    reads.go.set()
    assert engine.loader.answers.wait_loaded(sealed.collection_id, PATIENCE_SECONDS)
    field = engine.catalog.snapshot.collections[sealed.collection_id].schema.by_name["x"]
    plan = QueryPlan(engine.cluster.read_ts(sealed.collection_id), None, None, None, None, (field.field_id,), PK)
    found = engine.cluster.query(Target(sealed.collection_id, None, time.monotonic() + 10), plan)
    assert found is not None
    validity = found.rows.columns[field.field_id].validity
    assert validity is not None and not validity.any()
    assert len(reads.begun) == 2, "running openings are not started again"


def test_deletes_while_a_segment_is_opened_are_applied(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = begin(engine, sealed, monkeypatch)
    engine.datanode.delete(sealed.collection_id, np.array([1]), ALL_PARTITIONS)
    engine.datanode.flush(sealed.collection_id)
    engine.datanode.delete(sealed.collection_id, np.array([2]), ALL_PARTITIONS)
    reads.go.set()
    assert engine.loader.answers.wait_loaded(sealed.collection_id, PATIENCE_SECONDS)
    engine.datanode.delete(sealed.collection_id, np.array([102]), ALL_PARTITIONS)
    assert keys_of(engine, sealed) == [k for k in range(200) if k not in (1, 2, 102)]


def test_a_long_load_does_not_delay_loads_of_other_collections(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sealed_in(engine, "other")
    reads = begin(engine, sealed, monkeypatch)
    load(engine, other)
    assert keys_of(engine, other) == [*range(200)]
    assert not engine.loader.answers.wait_loaded(sealed.collection_id, 0)
    reads.go.set()
    assert engine.loader.answers.wait_loaded(sealed.collection_id, PATIENCE_SECONDS)


def test_loads_releases_writes_and_merges_of_many_threads_neither_exceed_nor_leak_the_budget(engine: Engine) -> None:
    collection = sealed_in(engine)
    collection_id = collection.collection_id
    budget = engine.loader.budget
    budget.limit_bytes = 3 * engine.loader.wanted.needed_bytes(collection, config_of(collection))
    rng, ending = random.Random(7), threading.Event()
    wrong: list[str] = []

    def repeat(step: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            while not ending.is_set():
                try:
                    step()
                except (CollectionNotLoaded, CollectionNotFullyLoaded, MemoryLimitExceeded):
                    pass
                except Exception as error:  # noqa: BLE001 - it fails the test, in its own thread
                    if "field vec is not loaded" not in str(error):
                        wrong.append(repr(error))

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def watch() -> None:
        used = budget.held_bytes() + budget.reserved_bytes()
        if used > budget.limit_bytes:
            wrong.append(f"{used} of {budget.limit_bytes} bytes are used")
        time.sleep(0.001)

    def read() -> None:
        keys = keys_of(engine, collection)
        if len(set(keys)) != len(keys):
            wrong.append("a row is there twice")

    def load_some() -> None:
        engine.loader.load(collection, config_of(collection, *rng.choice([(PK, VEC), (PK,)])))
        time.sleep(rng.random() / 50)

    def release() -> None:
        time.sleep(rng.random() / 20)
        engine.loader.release(collection_id)

    def compact() -> None:
        engine.datanode.compactor.request(collection_id)
        time.sleep(0.2)

    threads = [repeat(step) for step in (load_some, load_some, release, compact, read, watch)]
    for first in range(1000, 1100, 10):
        insert(engine, collection, range(first, first + 10))
        engine.datanode.delete(collection_id, np.arange(first, first + 5), ALL_PARTITIONS)
        engine.datanode.flush(collection_id)
    ending.set()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    assert wrong == []
    assert wait_until(
        lambda: budget.reserved_bytes() == 0 or not engine.loader.answers.wait_loaded(collection_id, 0), 10
    )
    engine.loader.release(collection_id)
    assert wait_until(is_idle(engine, collection), PATIENCE_SECONDS)
    assert engine.loader.answers.failure(collection_id) is None
    loads_again(engine, collection, sorted([*range(200), *(k for k in range(1000, 1100) if k % 10 >= 5)]))


# Failures


def failing_once(engine: Engine, monkeypatch: pytest.MonkeyPatch, times: int = 1) -> list[SegmentMeta]:
    """Makes this many openings fail, as if file descriptors ran out; returns what they were to open."""
    failed: list[SegmentMeta] = []
    real = engine.loader._node.load_segment

    def broken(meta: SegmentMeta, *others: Any) -> None:
        if len(failed) < times:
            failed.append(meta)
            raise OSError(24, "Too many open files")
        real(meta, *others)

    monkeypatch.setattr(engine.loader._node, "load_segment", broken)
    return failed


def test_rows_are_served_while_their_successor_cannot_be_opened(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(engine, sealed)
    insert(engine, sealed, range(200, 210))
    failed = failing_once(engine, monkeypatch)
    with pytest.raises(MilvineError, match="Too many open files"):
        engine.datanode.flush(sealed.collection_id)
    assert failed
    assert keys_of(engine, sealed) == [*range(210)]
    assert engine.catalog.snapshot.collections[sealed.collection_id].load == config_of(sealed)
    assert len(engine.catalog.snapshot.segments[sealed.collection_id]) == 2, "nothing is committed"
    assert len(engine.datanode.flush(sealed.collection_id)) == 1
    assert keys_of(engine, sealed) == [*range(210)]
    assert engine.loader.budget.reserved_bytes() == 0


def test_a_compaction_whose_result_cannot_be_opened_changes_nothing_and_is_retried(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(engine, sealed)
    before = {m.segment_id for m in engine.catalog.snapshot.segments[sealed.collection_id]}
    failing_once(engine, monkeypatch)
    for state in (PlanState.FAILED, PlanState.COMPLETED):
        assert compacted(engine, sealed) is state
        assert keys_of(engine, sealed) == [*range(200)]
        after = {m.segment_id for m in engine.catalog.snapshot.segments[sealed.collection_id]}
        assert (after == before) == (state is PlanState.FAILED)
    assert wait_until(lambda: engine.loader._node.held(sealed.collection_id).keys() == after, PATIENCE_SECONDS)


def test_a_failed_opening_in_a_loaded_collection_is_retried_and_reported(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a segment that entered the view without being opened first."""
    collection = new_collection(engine)
    load(engine, collection)
    failures = metrics.background_failures.labels("load")._value.get()
    monkeypatch.setattr(engine.loader, "prepare", lambda *_: None)
    failing_once(engine, monkeypatch, times=2)
    insert(engine, collection, range(10))
    engine.datanode.flush(collection.collection_id)
    assert wait_until(lambda: any("load of collection c" in r for r in engine.background.failing()), PATIENCE_SECONDS)
    assert engine.catalog.snapshot.collections[collection.collection_id].load == config_of(collection)
    assert keys_of(engine, collection) == [*range(10)]
    assert wait_until(lambda: not engine.background.failing(), PATIENCE_SECONDS)
    assert metrics.background_failures.labels("load")._value.get() == failures + 2


def test_a_failed_warm_up_is_retried_while_the_rows_are_served(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = new_collection(engine)
    insert(engine, collection, range(100))
    engine.datanode.flush(collection.collection_id)
    changed = replace(collection, properties={"warmup.scalarField": "async"})
    alter_collection(engine.catalog, collection.collection_id, lambda _now: changed)
    real, failed = engine.loader._node.load_segment, threading.Event()

    def broken(meta: SegmentMeta, spec: Any, *others: Any) -> None:
        if spec.warmed and not failed.is_set():
            failed.set()
            raise OSError(5, "Input/output error")
        real(meta, spec, *others)

    monkeypatch.setattr(engine.loader._node, "load_segment", broken)
    load(engine, changed)
    assert failed.wait(PATIENCE_SECONDS)
    assert keys_of(engine, collection) == [*range(100)]

    def is_warm() -> bool:
        return all(spec.warmed for _, spec in engine.loader._node.held(collection.collection_id).values())

    assert wait_until(is_warm, PATIENCE_SECONDS)
    assert engine.catalog.snapshot.collections[collection.collection_id].load == config_of(collection)
    assert wait_until(lambda: engine.loader.budget.reserved_bytes() == 0, PATIENCE_SECONDS)


# Reads that meet a segment that is not held


def not_held(engine: Engine, collection: Collection, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A loaded collection whose view names a segment that opens only after the event."""
    load(engine, collection)
    go = threading.Event()
    real = engine.loader._node.load_segment

    def held_up(*arguments: Any) -> None:
        assert go.wait(PATIENCE_SECONDS)
        real(*arguments)

    monkeypatch.setattr(engine.loader, "prepare", lambda *_: None)
    monkeypatch.setattr(engine.loader._node, "load_segment", held_up)
    insert(engine, collection, range(200, 210))
    engine.datanode.flush(collection.collection_id)
    return go


def test_a_read_of_a_segment_not_held_waits_for_a_change(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = not_held(engine, sealed, monkeypatch)
    places, looks = threading.BoundedSemaphore(3), list[int]()
    monkeypatch.setattr(engine.cluster, "_places_to_wait", places)
    real = engine.cluster._readable

    def counted(*arguments: Any) -> Any:
        looks.append(1)
        return real(*arguments)

    monkeypatch.setattr(engine.cluster, "_readable", counted)
    found: list[list[int]] = []
    reading = threading.Thread(target=lambda: found.append(keys_of(engine, sealed)))
    reading.start()
    assert wait_until(lambda: places._value == 2, PATIENCE_SECONDS)
    time.sleep(0.3)
    assert len(looks) <= 4, "it checks after changes, not continuously"
    go.set()
    reading.join(PATIENCE_SECONDS)
    assert found == [[*range(210)]]


def test_reads_of_a_segment_not_held_count_as_waiting_reads(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = not_held(engine, sealed, monkeypatch)
    places = threading.BoundedSemaphore(1)
    monkeypatch.setattr(engine.cluster, "_places_to_wait", places)
    waiting = threading.Thread(target=keys_of, args=(engine, sealed))
    waiting.start()
    assert wait_until(lambda: places._value == 0, PATIENCE_SECONDS)
    started = time.monotonic()
    with pytest.raises(CollectionNotFullyLoaded):
        keys_of(engine, sealed)
    assert time.monotonic() - started < cluster.MAX_WAIT_SECONDS / 2, "it is refused at once"
    go.set()
    waiting.join(PATIENCE_SECONDS)
    assert places._value == 1


def test_a_read_gives_up_after_a_bounded_time_despite_a_longer_client_deadline(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = not_held(engine, sealed, monkeypatch)
    monkeypatch.setattr(cluster, "MAX_WAIT_SECONDS", 0.2)
    target = Target(sealed.collection_id, None, time.monotonic() + 3600)
    plan = QueryPlan(engine.cluster.read_ts(sealed.collection_id), None, None, None, None, (VEC,), PK)
    with pytest.raises(CollectionNotFullyLoaded):
        engine.cluster.count(target, plan)
    go.set()


def test_a_refused_load_names_only_collections_of_its_own_database(engine: Engine) -> None:
    create_database(engine.catalog, Database(engine.clock.next(), "other", 1))
    secret, mine, asking = (sealed_in(engine, name) for name in ("secret", "mine", "asking"))
    moved = replace(engine.catalog.snapshot.collections[secret.collection_id], database="other")
    engine.catalog.snapshot = engine.catalog.snapshot.with_collection(moved)
    for collection in (secret, mine):
        load(engine, collection)
    engine.loader.budget.limit_bytes = engine.loader.budget.held_bytes() + 1
    with pytest.raises(MemoryLimitExceeded) as refused:
        engine.loader.load(asking, config_of(asking))
    assert "mine" in str(refused.value)
    assert "secret" not in str(refused.value)
