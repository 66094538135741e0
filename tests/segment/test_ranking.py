"""Searches of segments against a slow, obvious ranking: equal scores, keys inserted many times, pages of one list."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_rows import DIM, GROUP, PK, SCHEMA, VEC, Array, chunk_of, deletes_of, joined, keys_of, seal

from milvine.expr import compile_filter
from milvine.index.by_distance import Band
from milvine.index.exact import exact_of
from milvine.index.registry import TYPES
from milvine.model.columns import Column, ColumnBatch
from milvine.model.types import DataType, MetricType
from milvine.querynode.reduce import merge_hits
from milvine.segment.collect import TopKeys
from milvine.segment.growing import Chunk, GrowingSegment, make_chunk
from milvine.segment.plans import Hits, SearchPlan
from milvine.segment.rows import RowSet
from milvine.segment.search import search_row_sets

OFTEN_AND_NIGHTLY = [MetricType.L2, pytest.param(MetricType.IP, marks=pytest.mark.nightly), MetricType.COSINE]
"""COSINE is IP over unit vectors, so IP alone is left to the long run."""
NOW = 2**62
LIMITS = (1, 7, 20, 37)


def grid(n: int, seed: int) -> Array:
    """Vectors with many equal distances, each exact in float32: few values, and lengths that are powers of two."""
    rng = np.random.default_rng(seed)
    vectors = np.zeros((n, DIM), np.float32)
    places = np.argsort(rng.random((n, 7)), axis=1)[:, :4]
    np.put_along_axis(vectors, places, rng.choice([-1, 1], (n, 4)).astype(np.float32), axis=1)
    return vectors * rng.choice([1, 2], (n, 1)).astype(np.float32)


def distances_of(vectors: Array, query: Array, metric: MetricType) -> Array:
    if metric is MetricType.L2:
        found: Array = ((vectors - query) ** 2).sum(axis=1)
        return found
    products = vectors @ query
    if metric is MetricType.COSINE:
        products = products / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query))
    return -products


def ranked(keys: Sequence[Any], distances: Array, kept: Array) -> list[tuple[float, Any]]:
    """(distance, key) of each key's nearest kept row, in order."""
    best: dict[Any, float] = {}
    for key, distance, is_kept in zip(keys, distances.tolist(), kept.tolist(), strict=True):
        if is_kept:
            best[key] = min(best.get(key, np.inf), distance)
    return sorted((distance, key) for key, distance in best.items())


def plan_of(query: Array, metric: MetricType, k: int, text: str = "", **changes: Any) -> SearchPlan:
    values: dict[str, Any] = {
        "field_id": VEC,
        "queries": query.reshape(-1, DIM),
        "k": k,
        "metric": metric,
        "exact": exact_of(SCHEMA.by_id[VEC]),
        "effort": TYPES["HNSW"].effort({}, {"ef": 64}, min(k, 64), DataType.FLOAT_VECTOR),
        "read_ts": NOW,
        "predicate": compile_filter(text, SCHEMA) if text else None,
        "partition_ids": None,
        "output_field_ids": (GROUP,),
        "primary_field_id": PK,
    }
    return SearchPlan(**{**values, **changes})


def answered(row_sets: Sequence[RowSet], plan: SearchPlan) -> list[list[tuple[float, Any]]]:
    """(distance, key) of each query's hits. The sets are searched in two parts that are merged, as two nodes' are."""
    parts = [p for p in (row_sets[:2], row_sets[2:]) if p]
    found: list[Hits] = [h for h in (search_row_sets(p, plan) for p in parts) if h is not None]
    if not found:
        return [[] for _ in plan.queries]
    hits = merge_hits(found, plan)
    pairs = list(zip(hits.distances.tolist(), hits.rows.columns[PK].values.tolist(), strict=True))
    ends = np.cumsum(hits.counts).tolist()
    return [pairs[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@pytest.fixture(scope="module", params=OFTEN_AND_NIGHTLY, ids=lambda m: m.value)
def metric(request: pytest.FixtureRequest) -> MetricType:
    chosen: MetricType = request.param
    return chosen


@pytest.fixture(scope="module", params=[DataType.INT64, DataType.VARCHAR], ids=["int64", "varchar"])
def key_type(request: pytest.FixtureRequest) -> DataType:
    chosen: DataType = request.param
    return chosen


STATES = ("growing", "graph", "all")


class Rows:
    """The same rows in one state, with the input of the slow ranking."""

    def __init__(self, root: Path, state: str, metric: MetricType, key_type: DataType, repeats: bool) -> None:
        rng = np.random.default_rng(len(state))
        n = 1500
        numbers = rng.integers(0, 400, n) if repeats else rng.permutation(n)
        self.vectors = grid(n, 3)
        self.numbers = numbers
        pieces = [slice(i, i + 300) for i in range(0, n, 300)] if state == "all" else [slice(0, n)]
        chunks = [chunk_of(numbers[p], 10 + i, self.vectors[p], key_type=key_type) for i, p in enumerate(pieces)]
        gone = deletes_of(list(range(0, 1500, 9)), 50, key_type=key_type)
        self.sets: list[RowSet] = []
        for i, chunk in enumerate(chunks):
            how = state if state != "all" else ("graph", "sealed", "growing")[i % 3]
            if how == "growing":
                self.sets += GrowingSegment(3 + i, 1).with_chunk(chunk).with_deletes(gone).chunks
                continue
            segment = seal(root, chunk, metric if how == "graph" else None, segment_id=1 + i)
            segment.apply_deletes(gone)
            self.sets.append(segment)
        self.keys = keys_of(numbers, key_type).tolist()
        self.kept = numbers % 9 != 0


@pytest.fixture(scope="module")
def rows_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[Any, Rows] = {}

    def find(*what: Any) -> Rows:
        if what not in made:
            made[what] = Rows(tmp_path_factory.mktemp("rows"), *what)
        return made[what]

    return find


@pytest.mark.parametrize("repeats", [False, True], ids=["distinct", "repeated"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("text", ["", "group < 60", "group in [7, 8]"], ids=["all", "most", "few"])
def test_an_exact_answer_and_its_pages_are_slices_of_the_slow_ranking(
    rows_of: Any, metric: MetricType, key_type: DataType, state: str, repeats: bool, text: str
) -> None:
    rows: Rows = rows_of(state, metric, key_type, repeats)
    queries = grid(2, 99)
    kept = rows.kept.copy()
    group = rows.numbers % 100
    kept &= {"": group >= 0, "group < 60": group < 60, "group in [7, 8]": np.isin(group, [7, 8])}[text]
    truth = [ranked(rows.keys, distances_of(rows.vectors, q, metric), kept) for q in queries]
    lists = answered(rows.sets, plan_of(queries, metric, 64, text))
    for query, expected in enumerate(truth):
        whole = lists[query]
        assert len(whole) == min(64, len(expected)), "the limit is filled"
        assert whole == sorted(whole), "equal distances come in key order"
        assert len({key for _, key in whole}) == len(whole)
        if state != "graph":
            assert whole == expected[:64]
        for k in LIMITS:
            assert answered(rows.sets, plan_of(queries[query], metric, k, text))[0] == whole[:k]
    for k in LIMITS:
        assert answered(rows.sets, plan_of(queries, metric, k, text)) == [whole[:k] for whole in lists]


@pytest.mark.parametrize("repeats", [False, True], ids=["distinct", "repeated"])
@pytest.mark.parametrize("state", STATES)
def test_a_range_search_returns_each_key_once_in_order(
    rows_of: Any, metric: MetricType, key_type: DataType, state: str, repeats: bool
) -> None:
    rows: Rows = rows_of(state, metric, key_type, repeats)
    query = grid(1, 98)[0]
    distances = distances_of(rows.vectors, query, metric)
    steps = np.unique(distances)
    for low, high in itertools.pairwise(steps[:: max(1, len(steps) // 5)]):
        band = Band(np.float32(low), np.float32(high))
        expected = ranked(rows.keys, distances, rows.kept & (distances >= low) & (distances < high))
        for k in (1, 10, 64, 1000):
            plan = plan_of(query, metric, k, band=band)
            assert answered(rows.sets, plan)[0] == expected[:k]


def test_copies_of_a_key_do_not_use_up_a_graphs_answer(tmp_path: Path, metric: MetricType) -> None:
    """One key, inserted so often that it fills the graph's nearest rows."""
    vectors = grid(3000, 5)
    vectors[:1500] = vectors[0]
    numbers = np.concatenate((np.zeros(1500, np.int64), np.arange(1, 1501)))
    segment = seal(tmp_path, chunk_of(numbers, 10, vectors), metric)
    truth = ranked(numbers.tolist(), distances_of(vectors, vectors[0], metric), np.ones(3000, np.bool_))
    for k in (1, 2, 10, 64):
        found = answered([segment], plan_of(vectors[0], metric, k))[0]
        assert found[0] == truth[0]
        assert len({key for _, key in found}) == len(found) == k


@pytest.mark.parametrize("n", [5000, 200_000])
def test_equal_rows_come_in_key_order(metric: MetricType, n: int) -> None:
    numbers = np.random.default_rng(1).permutation(n)
    columns = {
        PK: Column(DataType.INT64, numbers),
        VEC: Column(DataType.FLOAT_VECTOR, np.ones((n, DIM), np.float32)),
        GROUP: Column(DataType.INT64, numbers % 100),
    }
    many = make_chunk(SCHEMA, 5, 1, ColumnBatch(n, columns), 10)
    query = np.ones(DIM, np.float32)
    for k in (1, 10, 300):
        assert [key for _, key in answered([many], plan_of(query, metric, k))[0]] == list(range(k))
    found = answered([many], plan_of(query, metric, 5, "group == 7"))[0]
    assert [key for _, key in found] == [7, 107, 207, 307, 407]


def test_the_newest_of_equally_near_copies_is_returned(tmp_path: Path, metric: MetricType) -> None:
    vectors = np.ones((4, DIM), np.float32)
    old, new = chunk_of([1, 2, 1, 2], 10, vectors), chunk_of([1, 2], 20, vectors[:2])

    def marked(chunk: Chunk, marks: list[int]) -> Chunk:
        columns = {**chunk.batch.columns, GROUP: Column(DataType.INT64, np.array(marks))}
        return replace(chunk, batch=ColumnBatch(chunk.row_count, columns))

    old, new = marked(old, [1, 2, 3, 4]), marked(new, [5, 6])
    hits = search_row_sets([old], plan_of(vectors[0], metric, 5))
    assert hits is not None
    assert hits.rows.columns[GROUP].values.tolist() == [3, 4]
    hits = search_row_sets([seal(tmp_path, old), new], plan_of(vectors[0], metric, 5))
    assert hits is not None
    assert hits.rows.columns[GROUP].values.tolist() == [5, 6]


found_rows = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 12)), min_size=1, max_size=60)


@given(found=found_rows, k=st.integers(1, 12), first=st.integers(1, 10))
@settings(max_examples=150, deadline=None)
def test_hits_collected_in_steps_equal_hits_collected_at_once(found: list[tuple[int, int]], k: int, first: int) -> None:
    """Rows of equal distance in any order, more of them in each step."""
    chunk = joined(chunk_of([key for _, key in found]))
    order = np.argsort([distance for distance, _ in found], kind="stable")
    distances = np.array([found[i][0] for i in order], np.float32)[None]
    top = TopKeys(chunk, PK, 1, k)
    wanted = first
    while len(top.left):
        count = min(wanted, len(found))
        whole = np.array([count == len(found)])
        top.add(top.left, distances[:, :count], order[None, :count], whole)
        wanted += first
    keys = [key for _, key in found]
    expected = ranked(keys, np.array([d for d, _ in found], np.float64), np.ones(len(found), np.bool_))[:k]
    count = int(np.count_nonzero(top.rows[0] >= 0))
    got = [(float(d), keys[row]) for d, row in zip(top.distances[0, :count], top.rows[0, :count].tolist(), strict=True)]
    assert got == expected


def test_pages_of_a_graph_over_equal_rows_never_repeat_a_key(tmp_path: Path, metric: MetricType) -> None:
    vectors = np.ones((6000, DIM), np.float32)
    segment = seal(tmp_path, chunk_of(np.random.default_rng(2).permutation(6000), 10, vectors), metric)
    seen: list[int] = []
    for k in range(5, 65, 5):
        seen += [key for _, key in answered([segment], plan_of(vectors[0], metric, k))[0][k - 5 :]]
    assert len(seen) == len(set(seen)) == 60
    assert seen == sorted(seen)
