"""The bytes of loaded segments are counted exactly, also under deletes while a segment is reopened."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_recovery import PK, VEC, insert, load, new_collection, start

from milvine.model.collections import Collection, LoadConfig
from milvine.model.segments import ALL_PARTITIONS
from milvine.service.context import Engine

ROWS = 5000


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return start(tmp_path, MILVINE_SEGMENT_MERGE_IDLE_SECONDS="600")


@pytest.fixture
def sealed(engine: Engine) -> Collection:
    collection = new_collection(engine)
    insert(engine, collection, range(ROWS))
    engine.datanode.flush(collection.collection_id)
    return collection


def delete(engine: Engine, collection: Collection, keys: range) -> None:
    engine.datanode.delete(collection.collection_id, np.array(keys, np.int64), ALL_PARTITIONS)


def load_keys_only(engine: Engine, collection: Collection) -> None:
    current = engine.catalog.snapshot.collections[collection.collection_id]
    partitions = frozenset({collection.partitions[0].partition_id})
    engine.loader.load(current, LoadConfig(partitions, frozenset({PK})))
    deadline = time.monotonic() + 20
    while any(("field", VEC) in parts for parts in engine.loader.budget.usage(collection.collection_id).values()):
        assert time.monotonic() < deadline, "the segment is not reopened"
        time.sleep(0.001)


def check_counts(engine: Engine, collection: Collection) -> None:
    usage = engine.loader.budget.usage(collection.collection_id)
    assert usage, "nothing is loaded"
    for segment_id, counted in usage.items():
        assert counted == engine.loader._node.memory_bytes(collection.collection_id, segment_id)


def then(first: Callable[..., Any], after: Callable[[], None]) -> Callable[..., Any]:
    """`first`, which in its first call also calls `after` before it returns."""
    waiting = [after]

    def call(*arguments: Any) -> Any:
        result = first(*arguments)
        if waiting:
            waiting.pop()()
        return result

    return call


def test_deletes_just_after_a_segment_serves_are_counted(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = engine.loader._node
    monkeypatch.setattr(node, "serve", then(node.serve, lambda: delete(engine, sealed, range(1000))))
    load(engine, sealed)
    check_counts(engine, sealed)
    monkeypatch.setattr(node, "serve", then(node.serve, lambda: delete(engine, sealed, range(1000, 4000))))
    load_keys_only(engine, sealed)
    check_counts(engine, sealed)


def test_deletes_just_before_a_segment_is_reopened_are_counted_once(
    engine: Engine, sealed: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(engine, sealed)
    node = engine.loader._node
    monkeypatch.setattr(node, "apply_deletes", then(node.apply_deletes, lambda: load_keys_only(engine, sealed)))
    delete(engine, sealed, range(1000))
    check_counts(engine, sealed)
