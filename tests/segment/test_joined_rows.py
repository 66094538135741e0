"""Small segments and chunks that are scanned as one, against the same search of each of them."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from segment_rows import DIM, GROUP, META, PK, VEC, chunk_of, deletes_of, schema_of, seal

from milvine.expr import compile_filter
from milvine.index.base import Effort
from milvine.index.by_distance import Band
from milvine.index.exact import exact_of
from milvine.model import columns
from milvine.model.types import DataType, MetricType
from milvine.querynode.budget import Budget
from milvine.querynode.cluster import Cluster, Target
from milvine.querynode.joining import FEW, Blocks, RowSets
from milvine.segment.growing import Chunk, GrowingSegment
from milvine.segment.joined_rows import as_joined
from milvine.segment.plans import Hits, SearchPlan
from milvine.segment.rows import RowSet
from milvine.segment.search import search_row_sets
from milvine.segment.view import ReadView, Views

COLLECTION = 1
PLENTY = 1 << 30
NOW = 2**62


def chunks_of(rng: np.random.Generator, count: int, key_type: DataType = DataType.INT64) -> list[Chunk]:
    """Chunks of partitions of their own. A key may be in several of them, and some vectors are equal."""
    found = []
    for number in range(count):
        rows = int(rng.integers(1, 40))
        keys = rng.choice(20 * count + 40, rows, replace=False)
        vectors = rng.standard_normal((rows, DIM)).astype(np.float32)
        vectors[rng.random(rows) < 0.2] = 1.0
        found.append(chunk_of(keys, 10 + number, vectors, partition_id=number + 1, key_type=key_type))
    return found


def some_deleted(rng: np.random.Generator, chunks: Sequence[Chunk]) -> list[Chunk]:
    def deleted(chunk: Chunk) -> Chunk:
        numbers = rng.choice(20 * len(chunks), 100).tolist()
        ts = np.sort(rng.integers(1, 100, 100)).tolist()
        batch = deletes_of(numbers, ts, key_type=chunk.batch.columns[PK].data_type)
        return replace(chunk, marks=chunk.marks.with_deletes(batch, chunk.keys, chunk.insert_ts, 1))

    return [deleted(chunk) if rng.random() < 0.5 else chunk for chunk in chunks]


def plan_of(rng: np.random.Generator, key_type: DataType, **changes: Any) -> SearchPlan:
    schema = schema_of(key_type)
    text = rng.choice(["", "group < 30", "n % 2 == 0", "group in [1, 2, 3, 50] or n < 40"])
    metric = [MetricType.L2, MetricType.IP, MetricType.COSINE][rng.integers(3)]
    k = int(rng.integers(1, 60))
    plan = SearchPlan(
        field_id=VEC,
        queries=rng.standard_normal((int(rng.integers(1, 4)), DIM)).astype(np.float32),
        k=k,
        metric=metric,
        exact=exact_of(schema.by_id[VEC]),
        effort=Effort(64, 8, k),
        read_ts=int(rng.choice([NOW, 30, 60])),
        predicate=compile_filter(text, schema) if text else None,
        partition_ids=None,
        output_field_ids=((GROUP, META), (GROUP,), ())[rng.integers(3)],
        primary_field_id=PK,
        expired_ts=int(rng.choice([0, 20])),
    )
    return replace(plan, **changes)


def assert_same(found: Hits | None, expected: Hits | None) -> None:
    assert found is not None and expected is not None
    assert found.counts.tolist() == expected.counts.tolist()
    assert np.allclose(found.distances, expected.distances, rtol=1e-4, atol=1e-4)
    assert found.rows.columns.keys() == expected.rows.columns.keys()
    for field_id in found.rows.columns:
        ours, theirs = found.rows.columns[field_id].values, expected.rows.columns[field_id].values
        assert ours.tolist() == theirs.tolist() if isinstance(ours, np.ndarray) else ours.equals(theirs)


def joined_in(row_sets: Sequence[RowSet]) -> list[int]:
    """How many row sets each joined one has."""
    return [joined.size for rows in row_sets if (joined := as_joined(rows)) is not None]


@pytest.mark.parametrize("key_type", [DataType.INT64, DataType.VARCHAR])
def test_hits_are_those_of_the_segments_one_by_one(key_type: DataType) -> None:
    rng = np.random.default_rng(1)
    for _ in range(8):
        blocks = Blocks(Budget(PLENTY))
        chunks = chunks_of(rng, int(rng.integers(FEW, 40)), key_type)
        for _ in range(6):
            chunks = some_deleted(rng, chunks)
            row_sets = RowSets(COLLECTION, chunks)
            band = Band(np.float32(-1), np.float32(30)) if rng.random() < 0.2 else None
            plan = plan_of(rng, key_type, band=band)
            searched = blocks.for_search(row_sets, plan)
            assert joined_in(searched) == [len(chunks)]
            assert_same(search_row_sets(searched, plan), search_row_sets(chunks, plan))


def test_a_block_is_used_again_while_most_of_its_rows_are_read() -> None:
    rng = np.random.default_rng(2)
    blocks = Blocks(Budget(PLENTY))
    chunks = chunks_of(rng, 60)
    plan = plan_of(rng, DataType.INT64)
    blocks.for_search(RowSets(COLLECTION, chunks), plan)
    held = blocks.bytes_used
    for _ in range(10):  # some go, and others come
        chunks = [*chunks[1:], *chunks_of(rng, 1)]
        searched = blocks.for_search(RowSets(COLLECTION, chunks), plan)
        assert blocks.bytes_used == held, "the block was copied"
        assert_same(search_row_sets(searched, plan), search_row_sets(chunks, plan))
    chunks = chunks[:20]
    searched = blocks.for_search(RowSets(COLLECTION, chunks), plan)
    assert joined_in(searched) == [20], "a third of the rows has a block of its own"
    assert_same(search_row_sets(searched, plan), search_row_sets(chunks, plan))


@pytest.mark.parametrize("text", ["n % 2 == 0", "n < 40 or group == 50", "exists n", "l is null"])
def test_filters_look_into_json_beside_rows_that_are_gone(text: str) -> None:
    rng = np.random.default_rng(7)
    blocks = Blocks(Budget(PLENTY))
    chunks = chunks_of(rng, 40)
    plan = plan_of(rng, DataType.INT64, predicate=compile_filter(text, schema_of(DataType.INT64)))
    blocks.for_search(RowSets(COLLECTION, chunks), plan)
    chunks = chunks[3:]
    searched = blocks.for_search(RowSets(COLLECTION, chunks), plan)
    assert joined_in(searched) == [len(chunks)]
    assert_same(search_row_sets(searched, plan), search_row_sets(chunks, plan))


def test_a_search_of_some_partitions_sees_only_these() -> None:
    rng = np.random.default_rng(3)
    blocks = Blocks(Budget(PLENTY))
    chunks = chunks_of(rng, 50)
    row_sets = RowSets(COLLECTION, chunks)
    blocks.for_search(row_sets, plan_of(rng, DataType.INT64))
    for partition_ids in (frozenset(range(1, 41)), frozenset(range(1, 20)), frozenset([3])):
        plan = plan_of(rng, DataType.INT64, partition_ids=partition_ids)
        assert_same(
            search_row_sets(blocks.for_search(row_sets, plan), plan),
            search_row_sets([c for c in chunks if c.partition_id in partition_ids], plan),
        )


def test_sealed_segments_see_deletes_that_come_later(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    blocks = Blocks(Budget(PLENTY))
    segments = [seal(tmp_path, c, segment_id=n + 1) for n, c in enumerate(chunks_of(rng, 20))]
    row_sets = RowSets(COLLECTION, segments)
    plan = plan_of(rng, DataType.INT64, read_ts=NOW, expired_ts=0, predicate=None, k=1000)
    before = search_row_sets(blocks.for_search(row_sets, plan), plan)
    for segment in segments[::2]:
        segment.apply_deletes(deletes_of(range(0, 400, 3), 500))
    after = search_row_sets(blocks.for_search(row_sets, plan), plan)
    assert before is not None and after is not None and after.counts[0] < before.counts[0]
    assert_same(after, search_row_sets(segments, plan))
    early = plan.changed(read_ts=499)
    assert_same(search_row_sets(blocks.for_search(row_sets, early), early), search_row_sets(segments, early))


def test_few_large_or_mapped_segments_are_searched_one_by_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    blocks = Blocks(Budget(PLENTY))
    plan = plan_of(rng, DataType.INT64)
    few = chunks_of(rng, FEW - 1)
    assert not joined_in(blocks.for_search(RowSets(COLLECTION, few), plan))
    large = [chunk_of(range(2000), 10, rng.standard_normal((2000, DIM)).astype(np.float32)) for _ in range(FEW)]
    assert not joined_in(blocks.for_search(RowSets(COLLECTION, large), plan))
    mapped = [seal(tmp_path, c, resident=False, segment_id=n + 1) for n, c in enumerate(chunks_of(rng, FEW))]
    assert not joined_in(blocks.for_search(RowSets(COLLECTION, mapped), plan))


def test_no_more_bytes_are_joined_than_one_array_of_texts_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(10)
    chunks = chunks_of(rng, 60)
    segments = [seal(tmp_path, c, segment_id=n + 1) for n, c in enumerate(chunks)]
    plan = plan_of(rng, DataType.INT64)
    for row_sets in (chunks, segments):
        monkeypatch.setattr(columns, "MAX_JOINED_BYTES", sum(r.bytes_used for r in row_sets[:40]))
        searched = Blocks(Budget(PLENTY)).for_search(RowSets(COLLECTION, row_sets), plan)
        assert joined_in(searched) == [40] and len(searched) == 21
        assert_same(search_row_sets(searched, plan), search_row_sets(row_sets, plan))


def test_blocks_are_counted_and_give_way_to_loads() -> None:
    rng = np.random.default_rng(6)
    chunks = chunks_of(rng, 30)
    plan = plan_of(rng, DataType.INT64)
    budget = Budget(100_000)
    blocks = Blocks(budget)
    row_sets = RowSets(COLLECTION, chunks)
    assert joined_in(blocks.for_search(row_sets, plan))
    assert budget.held_bytes() == blocks.bytes_used > 0
    budget.reserve(2, 100_000, dict)  # would not fit beside the block
    assert budget.held_bytes() == blocks.bytes_used == 0
    searched = blocks.for_search(row_sets, plan)
    assert not joined_in(searched), "there is no memory"
    assert_same(search_row_sets(searched, plan), search_row_sets(chunks, plan))
    budget.give_back(2, 100_000)
    assert joined_in(blocks.for_search(RowSets(COLLECTION, chunks), plan))
    blocks.drop(COLLECTION)
    assert budget.held_bytes() == blocks.bytes_used == 0


class ReleasedAtOnce(Views):
    """Views of a collection that is released as soon as a read has taken one."""

    def __init__(self, collection: Any) -> None:
        super().__init__()
        self._collection = collection

    def current(self, collection_id: int) -> ReadView | None:
        self._collection.load = None
        return super().current(collection_id)


def reads_of(chunks: Sequence[Chunk], blocks: Blocks, *, released: bool = False) -> tuple[Views, Cluster]:
    """Reads of growing rows alone. `released`: during the read."""
    load = SimpleNamespace(partition_ids=frozenset(c.partition_id for c in chunks))
    collection = SimpleNamespace(load=load, schema=SimpleNamespace(field_ids=frozenset()), expired_ts=lambda: 0)
    views = ReleasedAtOnce(collection) if released else Views()
    growing = tuple(GrowingSegment(n, c.partition_id, (c,)) for n, c in enumerate(chunks))
    views.add(ReadView(COLLECTION, schema_of(), NOW, growing))
    catalog: Any = SimpleNamespace(snapshot=SimpleNamespace(collections={COLLECTION: collection}))
    loader: Any = SimpleNamespace(
        reading=lambda _: nullcontext(),
        wanted=SimpleNamespace(serves_unlisted_fields=True),
        answers=SimpleNamespace(changes=lambda _: 0, serves=lambda *_: True),
    )
    node: Any = SimpleNamespace()
    return views, Cluster(catalog, views, node, loader, blocks, 1)


def target() -> Target:
    return Target(COLLECTION, None, time.monotonic() + 60)


def test_growing_rows_go_with_their_view_and_not_when_the_collector_comes() -> None:
    rng = np.random.default_rng(8)
    chunks = chunks_of(rng, 30)
    blocks = Blocks(Budget(PLENTY))
    views, cluster = reads_of(chunks, blocks)
    rows = weakref.ref(chunks[0].insert_ts)
    gc.disable()
    try:
        assert cluster.search(target(), plan_of(rng, DataType.INT64)) is not None
        assert blocks.bytes_used
        chunks.clear()
        assert rows() is not None
        views.replace(COLLECTION, lambda view: replace(view, growing=()))
        assert rows() is None
    finally:
        gc.enable()


def test_a_search_that_outlives_its_load_leaves_no_block() -> None:
    rng = np.random.default_rng(9)
    budget = Budget(PLENTY)
    _, cluster = reads_of(chunks_of(rng, 30), Blocks(budget), released=True)
    assert cluster.search(target(), plan_of(rng, DataType.INT64)) is not None
    assert budget.held_bytes() == 0
