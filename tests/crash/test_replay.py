"""A log of many small records is replayed as a whole: every row and every delete keeps its own timestamp."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest
from test_recovery import PK, VEC, batch, insert, load, new_collection, start

from milvine.datanode import recovery
from milvine.model.collections import Collection
from milvine.model.segments import ALL_PARTITIONS
from milvine.querynode.cluster import Target
from milvine.segment.growing import MAX_MERGED_ROWS
from milvine.segment.plans import QueryPlan
from milvine.service.context import Engine

SEED = 7


def keys_at(engine: Engine, collection: Collection, ts: int) -> list[int]:
    target = Target(collection.collection_id, None, time.monotonic() + 10)
    found = engine.cluster.query(target, QueryPlan(ts, None, None, None, None, (VEC,), PK))
    return [] if found is None else [int(k) for k in found.rows.columns[PK].values]


def write_randomly(engine: Engine, collection: Collection, turns: int) -> dict[int, list[int]]:
    """The living keys at the timestamp of each write."""
    rng = random.Random(SEED)
    node, where = engine.datanode, (collection.collection_id, collection.partitions[0].partition_id)
    alive: set[int] = set()
    history: dict[int, list[int]] = {}
    for turn in range(turns):
        first = rng.randrange(40)
        keys = range(first, first + rng.randint(1, 9))
        kind = rng.choice(["upsert", "upsert", "delete", "insert"])
        if kind == "insert":
            keys = range(1000 + 10 * turn, 1000 + 10 * turn + len(keys))
            ts = node.insert(*where, batch(keys))
        elif kind == "upsert":
            ts = node.upsert(*where, batch(keys), None)
        else:
            ts = node.delete(where[0], np.array(keys, np.int64), rng.choice([where[1], ALL_PARTITIONS]))
        alive = alive - set(keys) if kind == "delete" else alive | set(keys)
        history[ts] = sorted(alive)
    return history


@pytest.mark.parametrize("chunk_rows", [MAX_MERGED_ROWS, 50], ids=["one chunk", "many chunks"])
def test_every_timestamp_reads_the_same_rows_after_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_rows: int
) -> None:
    engine = start(tmp_path)
    collection = new_collection(engine)
    load(engine, collection)
    history = write_randomly(engine, collection, 120)
    monkeypatch.setattr(recovery, "MAX_MERGED_ROWS", chunk_rows)
    again = start(tmp_path)
    assert again.loader.answers.wait_loaded(collection.collection_id, 10)
    view = again.datanode._views.current(collection.collection_id)
    assert view is not None
    (segment,) = view.growing
    assert (len(segment.chunks) == 1) == (chunk_rows > 50)
    assert all(c.row_count <= chunk_rows for c in segment.chunks)
    for ts, keys in history.items():
        assert keys_at(again, collection, ts) == keys
    insert(again, collection, range(5000, 5003))
    again.datanode.delete(collection.collection_id, np.array([5001]), ALL_PARTITIONS)
    again.datanode.flush(collection.collection_id)
    last = [*history[max(history)], 5000, 5002]
    assert keys_at(again, collection, again.cluster.read_ts(collection.collection_id)) == last
    sealed = start(tmp_path)
    assert sealed.loader.answers.wait_loaded(collection.collection_id, 10)
    for ts, keys in history.items():
        assert keys_at(sealed, collection, ts) == keys
