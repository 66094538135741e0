"""Events between the steps of a compaction, one at a time, in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_recovery
from test_recovery import insert, keys_of, load, new_collection

from milvine import metrics
from milvine.catalog.collections import drop_collection
from milvine.datanode import compactor
from milvine.datanode.workers import Workers
from milvine.errors import QuotaExceeded
from milvine.model.collections import Collection
from milvine.model.segments import ALL_PARTITIONS
from milvine.service.context import Engine
from milvine.storage.segment_files import SegmentPaths

WAIT_SECONDS = 20.0


def start(directory: Path, **environment: str) -> Engine:
    """Only requested compactions and those of many dead rows run."""
    given = {"MILVINE_COMMON_RETENTIONDURATION": "0", "MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "600", **environment}
    return test_recovery.start(directory, **given)


def two_segments(engine: Engine) -> Collection:
    """Keys 0..199 in two loaded segments."""
    collection = new_collection(engine)
    load(engine, collection)
    for keys in (range(100), range(100, 200)):
        insert(engine, collection, keys)
        engine.datanode.flush(collection.collection_id)
    return collection


def compact(engine: Engine, collection: Collection) -> list[compactor.Plan]:
    request_id, count = engine.datanode.compactor.request(collection.collection_id)
    assert count
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        plans = engine.datanode.compactor.plans_of_request(request_id)
        if all(p.state in (compactor.PlanState.COMPLETED, compactor.PlanState.FAILED) for p in plans):
            return plans
        assert time.monotonic() < deadline, "the compaction does not end"
        time.sleep(0.01)


def around_task(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> None:
    """Calls `then` after the child has written the result and before the commit."""

    run = Workers.run

    def call(workers: Workers, task: str, *arguments: Any) -> Any:
        answer = run(workers, task, *arguments)
        if task == "merge":
            then()
        return answer

    monkeypatch.setattr(Workers, "run", call)


def segment_directories(directory: Path, collection: Collection) -> set[str]:
    return {p.name for p in SegmentPaths(directory).collection(collection.collection_id).iterdir() if p.is_dir()}


@pytest.mark.parametrize("flushed", [False, True])
def test_deletes_during_a_merge_apply_to_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flushed: bool
) -> None:
    engine = start(tmp_path)
    collection = two_segments(engine)

    def delete() -> None:
        engine.datanode.delete(collection.collection_id, np.array([5, 150]), ALL_PARTITIONS)
        if flushed:
            engine.datanode.flush(collection.collection_id)

    around_task(monkeypatch, delete)
    (plan,) = compact(engine, collection)
    assert (plan.state, len(plan.sources), plan.row_count) == (compactor.PlanState.COMPLETED, 2, 200)
    expected = [k for k in range(200) if k not in (5, 150)]
    assert keys_of(engine, collection) == expected
    again = start(tmp_path)
    assert again.loader.answers.wait_loaded(collection.collection_id, 10)
    assert keys_of(again, collection) == expected


def test_a_row_keeps_its_age_through_a_merge(tmp_path: Path) -> None:
    """A delete that is older than a row must not kill it in its new segment, nor a newer one spare it."""
    engine = start(tmp_path)
    collection = two_segments(engine)
    engine.datanode.delete(collection.collection_id, np.arange(50), ALL_PARTITIONS)
    insert(engine, collection, range(10))
    engine.datanode.flush(collection.collection_id)
    compact(engine, collection)
    expected = [*range(10), *range(50, 200)]
    assert keys_of(engine, collection) == expected
    assert engine.datanode.row_count(collection.collection_id) == len(expected)
    assert not engine.catalog.snapshot.deltas[collection.collection_id], "deltas that no segment needs are dropped"
    engine.datanode.delete(collection.collection_id, np.arange(5), ALL_PARTITIONS)
    assert keys_of(engine, collection) == expected[5:]


def test_rows_deleted_within_the_retention_stay_for_reads_at_an_old_timestamp(tmp_path: Path) -> None:
    engine = start(tmp_path, MILVINE_COMMON_RETENTIONDURATION="600")
    collection = two_segments(engine)
    engine.datanode.delete(collection.collection_id, np.arange(150), ALL_PARTITIONS)
    engine.datanode.flush(collection.collection_id)
    (plan,) = compact(engine, collection)
    assert plan.row_count == 200
    assert len(engine.catalog.snapshot.deltas[collection.collection_id]) == 1
    assert keys_of(engine, collection) == list(range(150, 200))


@pytest.mark.parametrize("step", ["commit_compaction", "remove_segments"])
def test_a_compaction_that_ends_halfway_leaves_all_rows_once_and_its_files_are_garbage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    engine = start(tmp_path)
    collection = two_segments(engine)

    def broken(*_arguments: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(compactor, step, broken)
        (plan,) = compact(engine, collection)
    assert plan.state is compactor.PlanState.FAILED
    assert "Input/output error" in plan.failure
    assert keys_of(engine, collection) == list(range(200))
    again = start(tmp_path)
    assert again.loader.answers.wait_loaded(collection.collection_id, 10)
    assert keys_of(again, collection) == list(range(200))
    named = {str(m.segment_id) for m in again.catalog.snapshot.segments[collection.collection_id]}
    assert segment_directories(tmp_path, collection) == named


def test_a_collection_that_is_dropped_while_it_is_compacted_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start(tmp_path)
    collection = two_segments(engine)
    reached, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        assert go_on.wait(10)

    around_task(monkeypatch, hold)
    engine.datanode.compactor.request(collection.collection_id)
    assert reached.wait(WAIT_SECONDS)
    drop_collection(engine.catalog, collection.collection_id)
    dropping = threading.Thread(target=engine.datanode.drop, args=(collection.collection_id,))
    dropping.start()
    go_on.set()
    dropping.join(10)
    assert not dropping.is_alive()
    assert not SegmentPaths(tmp_path).collection(collection.collection_id).exists()


def test_a_merged_segment_becomes_resident_once_its_sources_are_closed(tmp_path: Path) -> None:
    engine = start(tmp_path, MILVINE_MEMORY_LIMIT="100k")
    collection = new_collection(engine)
    load(engine, collection)
    for start_key in (0, 1000):
        insert(engine, collection, range(start_key, start_key + 1000))
        engine.datanode.flush(collection.collection_id)
    before = engine.loader.budget.held_bytes()
    assert 50_000 < before < 100_000, "two sources fit, but not their successor beside them"
    compact(engine, collection)
    deadline = time.monotonic() + WAIT_SECONDS
    while engine.loader.budget.held_bytes() < 0.9 * before:
        assert time.monotonic() < deadline, "the successor stays mapped"
        time.sleep(0.01)
    assert keys_of(engine, collection) == list(range(2000))


def test_writes_are_refused_above_twice_the_write_buffer_and_accepted_again_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start(tmp_path, MILVINE_WRITE_BUFFER_LIMIT="200k")
    collection = new_collection(engine)
    load(engine, collection)
    sealing = threading.Event()
    flusher = engine.datanode._flusher
    real = flusher.flush

    def held_up(*arguments: Any) -> Any:
        assert sealing.wait(10)
        return real(*arguments)

    monkeypatch.setattr(flusher, "flush", held_up)
    written = 0
    with pytest.raises(QuotaExceeded) as refused:
        for _ in range(100):
            insert(engine, collection, range(written, written + 1000))
            written += 1000
    assert refused.value.code == 9
    (gauge,) = metrics.growing_bytes.collect()
    assert gauge.samples[0].value > 200 * 1024, "nothing is refused below the limit"
    sealing.set()
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            insert(engine, collection, range(written, written + 1000))
            break
        except QuotaExceeded:
            assert time.monotonic() < deadline, "writes stay refused"
            time.sleep(0.01)
    assert keys_of(engine, collection) == list(range(written + 1000))
