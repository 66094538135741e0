"""Unflushed rows and deletes are counted exactly, sealed, and bounded."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_recovery import batch, insert, keys_of, load, new_collection, start

from milvine import metrics
from milvine.catalog.collections import drop_collection
from milvine.errors import QuotaExceeded, ServiceInternal
from milvine.model import columns
from milvine.model.collections import Collection
from milvine.model.segments import ALL_PARTITIONS
from milvine.segment.growing import Chunk
from milvine.segment.view import ReadView
from milvine.service import admin
from milvine.service.context import Engine, RequestContext

WAIT_SECONDS = 20.0
STEPS = 250


def delete(engine: Engine, collection: Collection, keys: range) -> None:
    engine.datanode.delete(collection.collection_id, np.array(keys, np.int64), ALL_PARTITIONS)


def chunk_bytes(chunk: Chunk) -> int:
    marks = chunk.marks
    return int(
        chunk.batch.bytes_used
        + chunk.insert_ts.nbytes
        + chunk.keys.sorted_keys.nbytes
        + chunk.keys.order.nbytes
        + sum(n.nbytes for n in chunk.prepared.values())
        + (marks._log.bytes_used if marks.count else 0)
    )


def measured(view: ReadView) -> int:
    rows = sum(chunk_bytes(chunk) for segment in view.growing for chunk in segment.chunks)
    return rows + sum(int(b.keys.nbytes + b.ts.nbytes + b.partition_ids.nbytes) for b in view.deletes)


def check_counts(engine: Engine) -> int:
    views = engine.datanode._views
    sizes = {i: measured(view) for i, view in views._views.items()}
    assert {i: views.growing_bytes(i) for i in sizes} == sizes
    (gauge,) = metrics.growing_bytes.collect()
    assert gauge.samples[0].value == views.all_growing_bytes == sum(sizes.values())
    return views.all_growing_bytes


@pytest.mark.parametrize("seed", range(3))
def test_the_counter_equals_the_sum_over_all_collections_after_any_writes(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    engine = start(tmp_path, MILVINE_SEGMENT_MERGE_IDLE_SECONDS="600")
    collections = [new_collection(engine, name) for name in "abc"]
    for _ in range(STEPS):
        collection = rng.choice(collections)
        collection_id = collection.collection_id
        first = rng.randrange(300)
        keys = range(first, first + rng.choice([1, 1, 1, 20]))
        match rng.choice(["insert"] * 8 + ["delete"] * 8 + ["upsert"] * 4 + ["flush", "truncate", "drop"]):
            case "insert":
                insert(engine, collection, keys)
            case "delete":
                delete(engine, collection, keys)
            case "upsert":
                engine.datanode.upsert(collection_id, collection.partitions[0].partition_id, batch(keys), None)
            case "flush":
                engine.datanode.flush(collection_id)
            case "truncate":
                engine.datanode.truncate(collection_id)
            case "drop":
                drop_collection(engine.catalog, collection_id)
                engine.datanode.drop(collection_id)
                collections.remove(collection)
                collections.append(new_collection(engine, str(collection_id)))
        check_counts(engine)
    assert check_counts(engine) > 0
    assert check_counts(start(tmp_path, MILVINE_SEGMENT_MERGE_IDLE_SECONDS="600")) > 0


def test_deletes_alone_fill_the_write_buffer_and_are_sealed(tmp_path: Path) -> None:
    engine = start(tmp_path, MILVINE_WRITE_BUFFER_LIMIT="100k")
    collection = new_collection(engine)
    load(engine, collection)
    insert(engine, collection, range(10))
    for first in range(0, 5000, 1000):
        delete(engine, collection, range(first + 5, first + 1005))
    deadline = time.monotonic() + WAIT_SECONDS
    while not engine.catalog.snapshot.deltas.get(collection.collection_id):
        assert time.monotonic() < deadline, "the deletes are never sealed"
        time.sleep(0.01)
    assert keys_of(engine, collection) == list(range(5))


def test_deletes_are_refused_above_twice_the_write_buffer_and_accepted_again_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start(tmp_path, MILVINE_WRITE_BUFFER_LIMIT="100k")
    collection = new_collection(engine)
    sealing = threading.Event()
    flusher = engine.datanode._flusher
    real = flusher.flush

    def held_up(*arguments: Any) -> Any:
        assert sealing.wait(WAIT_SECONDS)
        return real(*arguments)

    monkeypatch.setattr(flusher, "flush", held_up)
    with pytest.raises(QuotaExceeded) as refused:
        for first in range(0, 100_000, 1000):
            delete(engine, collection, range(first, first + 1000))
    assert refused.value.code == 9
    assert check_counts(engine) > 100 * 1024, "nothing is refused below the limit"
    sealing.set()
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            delete(engine, collection, range(1000))
            break
        except QuotaExceeded:
            assert time.monotonic() < deadline, "deletes stay refused"
            time.sleep(0.01)


LIMIT = 200 * 1024


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def fill(engine: Engine, collection: Collection, size: int) -> None:
    """Inserts until the growing rows of the collection take `size` bytes."""
    first = 0
    while engine.datanode._views.growing_bytes(collection.collection_id) < size:
        insert(engine, collection, range(first, first + 100))
        first += 100


def test_a_failed_log_leaves_the_write_buffer_to_the_other_collections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start(tmp_path, MILVINE_WRITE_BUFFER_LIMIT=str(LIMIT))
    broken, other = new_collection(engine), new_collection(engine, "other")

    def no_sync(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with engine.datanode._held[broken.collection_id].flush_lock:  # so that nothing is sealed
        fill(engine, broken, LIMIT * 17 // 10)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", no_sync)
            with pytest.raises(ServiceInternal):
                insert(engine, broken, range(10))
    until(engine.datanode._flushes.keys)
    fill(engine, other, LIMIT * 8 // 10)
    assert not engine.catalog.snapshot.segments.get(other.collection_id), "it is sealed too early"
    engine.datanode.flush(other.collection_id)
    fill(engine, other, LIMIT * 8 // 10)


def test_writes_to_a_collection_that_cannot_be_flushed_are_refused_and_the_flush_is_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start(tmp_path, MILVINE_WRITE_BUFFER_LIMIT=str(LIMIT))
    failing, other = new_collection(engine), new_collection(engine, "other")
    flusher = engine.datanode._flusher
    real = flusher.flush

    def flush(writer: Any, frozen: Any) -> Any:
        if writer.collection_id == failing.collection_id:
            raise ServiceInternal("no")
        return real(writer, frozen)

    with monkeypatch.context() as patched:
        patched.setattr(flusher, "flush", flush)
        fill(engine, failing, LIMIT * 11 // 10)
        until(engine.datanode._flushes.keys)
        with pytest.raises(QuotaExceeded):
            fill(engine, failing, LIMIT * 3)
        fill(engine, other, LIMIT * 8 // 10)
    until(lambda: engine.catalog.snapshot.segments.get(failing.collection_id))
    until(lambda: admin.check_health(engine, RequestContext()) == (True, []))
    insert(engine, failing, range(100))


def test_collections_that_cannot_be_flushed_have_a_common_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start(tmp_path, MILVINE_WRITE_BUFFER_LIMIT=str(LIMIT))

    def flush(*_arguments: Any) -> Any:
        raise ServiceInternal("no")

    monkeypatch.setattr(engine.datanode._flusher, "flush", flush)
    refused = 0
    for number in range(10):
        collection = new_collection(engine, f"c{number}")
        try:
            fill(engine, collection, LIMIT * 11 // 10)
        except QuotaExceeded:
            refused += 1
        else:
            until(lambda: engine.datanode._flushes.failure(collection.collection_id))  # noqa: B023
    assert 0 < refused < 10
    assert engine.datanode._views.all_growing_bytes <= 4 * LIMIT


def test_truncating_a_collection_that_cannot_be_flushed_clears_its_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start(tmp_path, MILVINE_WRITE_BUFFER_LIMIT=str(LIMIT))
    collection = new_collection(engine)

    def flush(*_arguments: Any) -> Any:
        raise ServiceInternal("no")

    monkeypatch.setattr(engine.datanode._flusher, "flush", flush)
    fill(engine, collection, LIMIT * 11 // 10)
    until(lambda: admin.check_health(engine, RequestContext())[1])
    engine.datanode.truncate(collection.collection_id)
    assert admin.check_health(engine, RequestContext()) == (True, [])


def test_rows_and_deletes_that_do_not_fit_into_one_array_are_flushed_loaded_and_recovered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of 1 GB is lowered to a few rows and deletes."""
    monkeypatch.setattr(columns, "MAX_JOINED_BYTES", 5000)
    environment = {"MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "600", "MILVINE_COMMON_RETENTIONDURATION": "0"}
    engine = start(tmp_path, **environment)
    collection = new_collection(engine)
    for first in range(0, 1000, 100):
        insert(engine, collection, range(first, first + 100))
    engine = start(tmp_path, **environment)
    engine.datanode.flush(collection.collection_id)
    assert len(engine.catalog.snapshot.segments[collection.collection_id]) > 1
    for first in range(0, 800, 160):
        delete(engine, collection, range(first, first + 160))
    engine = start(tmp_path, **environment)
    load(engine, collection)
    assert keys_of(engine, collection) == list(range(800, 1000))
    engine.datanode.flush(collection.collection_id)
    assert len(engine.catalog.snapshot.deltas[collection.collection_id]) == 5
    engine = start(tmp_path, **environment)
    until(lambda: engine.loader.answers.wait_loaded(collection.collection_id, 10))
    assert keys_of(engine, collection) == list(range(800, 1000))
