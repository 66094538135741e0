"""Search, query and count over growing and sealed segments, against brute force."""

from __future__ import annotations

import functools
import gc
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from segment_rows import (
    DIM,
    GROUP,
    META,
    PK,
    SCHEMA,
    VEC,
    Array,
    batch_of,
    chunk_of,
    deletes_of,
    joined,
    keys_of,
    seal,
)

from milvine.errors import DataIntegrityError, ParameterInvalid
from milvine.expr import compile_filter
from milvine.in_flight import InFlight
from milvine.index.base import Effort
from milvine.index.by_distance import Band
from milvine.index.exact import exact_of
from milvine.index.scan import scan
from milvine.model.columns import ColumnBatch, json_column
from milvine.model.types import DataType, MetricType
from milvine.segment import query_threads, search
from milvine.segment.growing import GrowingSegment, make_chunk
from milvine.segment.plans import QueryPlan, SearchPlan
from milvine.segment.retrieve import count_row_sets, query_row_sets
from milvine.segment.rows import RowSet
from milvine.segment.sealed import SealedSegment, open_segment
from milvine.segment.search import search_one, search_row_sets
from milvine.storage.segment_files import SegmentPaths

OFTEN_AND_NIGHTLY = [MetricType.L2, pytest.param(MetricType.IP, marks=pytest.mark.nightly), MetricType.COSINE]
"""COSINE is IP over unit vectors, so IP alone is left to the long run."""
NOW = 2**62
ROWS = 15_000


def sample(n: int, seed: int) -> Array:
    """Clustered vectors of different lengths, which are harder for a graph than noise."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(0).standard_normal((40, DIM))
    vectors: Array = (centers[rng.integers(0, 40, n)] + 0.6 * rng.standard_normal((n, DIM))).astype(np.float32)
    return vectors


def search_plan(queries: Array, metric: MetricType, text: str = "", **changes: Any) -> SearchPlan:
    values: dict[str, Any] = {
        "field_id": VEC,
        "queries": queries,
        "k": 10,
        "metric": metric,
        "exact": exact_of(SCHEMA.by_id[VEC]),
        "effort": Effort(64, 8, 10),
        "read_ts": NOW,
        "predicate": compile_filter(text, SCHEMA) if text else None,
        "partition_ids": None,
        "output_field_ids": (GROUP,),
        "primary_field_id": PK,
    }
    return SearchPlan(**{**values, **changes})


def searched(rows: RowSet, plan: SearchPlan) -> tuple[Array, Array]:
    answer = search_one(rows, plan)
    return answer.distances, answer.rows


def query_plan(text: str = "", **changes: Any) -> QueryPlan:
    values: dict[str, Any] = {
        "read_ts": NOW,
        "predicate": compile_filter(text, SCHEMA) if text else None,
        "keys": None,
        "partition_ids": None,
        "limit": None,
        "output_field_ids": (GROUP, META),
        "primary_field_id": PK,
    }
    return QueryPlan(**{**values, **changes})


Written = tuple[SegmentPaths, SealedSegment, Array]


@pytest.fixture(scope="module")
def written_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[[MetricType], Written]:
    """A segment with a graph of a metric, made once."""

    @functools.cache
    def write(metric: MetricType) -> Written:
        root, vectors = tmp_path_factory.mktemp("written"), sample(ROWS, 1)
        return SegmentPaths(root), seal(root, chunk_of(np.arange(ROWS), 10, vectors), metric), vectors

    return write


@pytest.fixture(scope="module", params=OFTEN_AND_NIGHTLY, ids=lambda m: m.value)
def indexed(
    request: pytest.FixtureRequest, written_with: Callable[[MetricType], Written]
) -> tuple[SealedSegment, Array]:
    _, segment, vectors = written_with(request.param)
    return segment, vectors


@pytest.mark.parametrize("percent", [1, 3, 10, 11, 25, 50, 90])
def test_recall_is_high_for_any_share_of_kept_rows(indexed: tuple[SealedSegment, Array], percent: int) -> None:
    segment, vectors = indexed
    metric = next(iter(segment.spec.indexes.values())).metric_type
    assert metric is not None
    assert segment.index(VEC) is not None
    queries = sample(60, 2)
    _, rows = searched(segment, search_plan(queries, metric, f"group < {percent}"))
    mask = np.arange(ROWS) % 100 < percent
    assert mask[rows].all()
    _, exact = scan(vectors, None, queries, 10, metric, mask)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows.tolist(), exact.tolist(), strict=True)])
    assert recall >= 0.9, f"recall@10 is {recall:.3f} with {percent} % of the rows kept"


@pytest.mark.parametrize("percent", [1, 10, 50, 90])
def test_recall_is_high_for_any_share_of_deleted_rows(
    written_with: Callable[[MetricType], Written], percent: int
) -> None:
    paths, built, vectors = written_with(MetricType.L2)
    queries = sample(60, 4)
    segment = open_segment(paths, built.meta, built.spec)
    gone = [key for key in range(ROWS) if key % 100 < percent]
    segment.apply_deletes(deletes_of(gone, 20))
    _, rows = searched(segment, search_plan(queries, MetricType.L2))
    mask = np.arange(ROWS) % 100 >= percent
    assert mask[rows].all()
    _, exact = scan(vectors, None, queries, 10, MetricType.L2, mask)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows.tolist(), exact.tolist(), strict=True)])
    assert recall >= 0.9
    _, before = searched(segment, search_plan(queries, MetricType.L2, read_ts=19))
    _, exact = scan(vectors, None, queries, 10, MetricType.L2, None)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(before.tolist(), exact.tolist(), strict=True)])
    assert recall >= 0.9, "a read at an older ts must see rows deleted later"


@pytest.mark.parametrize("text", ["", "group < 50", "group < 3"], ids=["all", "half", "few"])
@pytest.mark.parametrize("band", [None, Band(np.float32(-np.inf), np.float32(0.5))], ids=["top", "range"])
def test_many_queries_are_answered_as_each_one_alone(
    indexed: tuple[SealedSegment, Array], monkeypatch: pytest.MonkeyPatch, text: str, band: Band | None
) -> None:
    segment, _ = indexed
    metric = next(iter(segment.spec.indexes.values())).metric_type
    assert metric is not None
    monkeypatch.setattr(query_threads, "_THREADS", 3)
    plan = search_plan(sample(50, 21), metric, text, band=band)
    together = search_one(segment, plan)
    for query in range(50):
        alone = search_one(segment, plan.again(plan.queries[query : query + 1], plan.read_ts))
        assert alone.rows[0].tolist() == together.rows[query].tolist()
        assert alone.distances[0].tolist() == together.distances[query].tolist()


def test_scores_of_graph_and_scan_are_on_one_scale(indexed: tuple[SealedSegment, Array]) -> None:
    segment, vectors = indexed
    metric = next(iter(segment.spec.indexes.values())).metric_type
    assert metric is not None
    queries = sample(20, 5)
    for text in ("group < 1", "group < 90"):
        distances, rows = searched(segment, search_plan(queries, metric, text))
        for query, q in enumerate(queries.astype(np.float64)):
            x = vectors[rows[query]].astype(np.float64)
            if metric is MetricType.L2:
                expected = ((x - q) ** 2).sum(axis=1)
            else:
                expected = -(x @ q)
                if metric is MetricType.COSINE:
                    expected /= np.linalg.norm(x, axis=1) * np.linalg.norm(q)
            assert np.allclose(distances[query], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric", OFTEN_AND_NIGHTLY)
@pytest.mark.parametrize("resident", [False, True], ids=["mapped", "resident"])
def test_growing_and_sealed_rows_are_searched_as_one(tmp_path: Path, metric: MetricType, resident: bool) -> None:
    """Indexed, scanned and growing rows: a row set each, with deletes, and one oracle."""
    vectors, queries = sample(2900, 6), sample(8, 7)
    numbers = np.arange(2900)
    parts = [slice(0, 1500), slice(1500, 2500), slice(2500, 2900)]
    chunks = [chunk_of(numbers[p], 10 + i, vectors[p]) for i, p in enumerate(parts)]
    sealed = [
        seal(tmp_path, chunks[0], metric, resident, segment_id=1),
        seal(tmp_path, chunks[1], None, resident, segment_id=2),
    ]
    grown = GrowingSegment(3, 1).with_chunk(chunks[2])
    gone = list(range(0, 2900, 7))
    for segment in sealed:
        segment.apply_deletes(deletes_of(gone, 50))
    grown = grown.with_deletes(deletes_of(gone, 50))
    row_sets: list[RowSet] = [*sealed, *grown.chunks]
    hits = search_row_sets(row_sets, search_plan(queries, metric, "group >= 30", output_field_ids=(GROUP, VEC)))
    assert hits is not None
    mask = (numbers % 7 != 0) & (numbers % 100 >= 30)
    distances, exact = scan(vectors, None, queries, 10, metric, mask)
    assert hits.counts.tolist() == [10] * 8
    assert hits.rows.columns[PK].values.tolist() == exact.ravel().tolist(), "all of these segments are small: exact"
    assert np.allclose(hits.distances, distances.ravel(), rtol=1e-4, atol=1e-4)
    assert np.array_equal(hits.rows.columns[GROUP].values, exact.ravel() % 100)
    assert np.array_equal(hits.rows.columns[VEC].values, vectors[exact.ravel()]), "vectors come back bit by bit"
    assert count_row_sets(row_sets, query_plan("group >= 30")) == mask.sum()
    found = query_row_sets(row_sets, query_plan("group >= 30"))
    assert found is not None
    assert found.rows.columns[PK].values.tolist() == numbers[mask].tolist()
    assert found.rows.columns[META].values[0].as_py() == b'{"n":%d}' % numbers[mask][0]


def test_a_key_in_several_segments_is_one_hit_and_the_newest_row_is_queried(tmp_path: Path) -> None:
    old = chunk_of([1, 2, 3], 10, np.ones((3, DIM), np.float32))
    new = chunk_of([2, 3, 4], 20, np.full((3, DIM), 2, np.float32))
    row_sets: list[RowSet] = [seal(tmp_path, old), new]
    hits = search_row_sets(row_sets, search_plan(np.ones((1, DIM), np.float32), MetricType.L2))
    assert hits is not None
    assert hits.rows.columns[PK].values.tolist() == [1, 2, 3, 4]
    found = query_row_sets(row_sets, query_plan(output_field_ids=(VEC,)))
    assert found is not None
    assert found.rows.columns[PK].values.tolist() == [1, 2, 3, 4]
    assert found.rows.columns[VEC].values[:, 0].tolist() == [1, 2, 2, 2]
    assert found.insert_ts.tolist() == [10, 20, 20, 20]
    assert count_row_sets(row_sets, query_plan()) == 6


@pytest.mark.parametrize("key_type", [DataType.INT64, DataType.VARCHAR])
def test_rows_are_fetched_by_key_from_all_segments(tmp_path: Path, key_type: DataType) -> None:
    sealed = seal(tmp_path, chunk_of(range(0, 50), 10, key_type=key_type))
    sealed.apply_deletes(deletes_of([7], 30, key_type=key_type))
    row_sets: list[RowSet] = [sealed, chunk_of(range(50, 90), 20, key_type=key_type)]
    keys = keys_of([88, 3, 3, 7, 1000, 55], key_type)
    found = query_row_sets(row_sets, query_plan(keys=keys))
    assert found is not None
    assert found.rows.columns[PK].values.tolist() == keys_of([3, 55, 88], key_type).tolist()
    assert found.rows.columns[GROUP].values.tolist() == [3, 55, 88]
    limited = query_row_sets(row_sets, query_plan(keys=keys, limit=2))
    assert limited is not None
    assert limited.rows.row_count == 2
    older = query_row_sets(row_sets, query_plan(keys=keys, read_ts=15))
    assert older is not None
    assert older.rows.columns[GROUP].values.tolist() == [3, 7]


def test_only_the_requested_partitions_are_read() -> None:
    row_sets = [chunk_of([1, 2], partition_id=1), chunk_of([3], partition_id=2)]
    for wanted, expected in ((frozenset({1}), 2), (frozenset({2}), 1), (None, 3), (frozenset({9}), 0)):
        assert count_row_sets(row_sets, query_plan(partition_ids=wanted)) == expected
    assert query_row_sets(row_sets, query_plan(partition_ids=frozenset({9}))) is None
    queries = np.ones((2, DIM), np.float32)
    assert search_row_sets(row_sets, search_plan(queries, MetricType.L2, partition_ids=frozenset({9}))) is None
    hits = search_row_sets(row_sets, search_plan(queries, MetricType.L2, partition_ids=frozenset({2})))
    assert hits is not None
    assert hits.rows.columns[PK].values.tolist() == [3, 3]


def test_an_answer_within_the_limit_is_given_even_if_its_first_rows_are_the_largest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = json_column(pa.array([b'{"text": "%s"}' % (b"x" * 3000), b"{}"], pa.binary()))
    rows = ColumnBatch(2, {**batch_of([1, 2]).columns, META: texts})
    chunk = make_chunk(SCHEMA, 5, 1, rows, 10)
    monkeypatch.setattr(search, "_BLOCK_CELLS", 1)
    monkeypatch.setattr(search, "MAX_OUTPUT_BYTES", 6000)
    queries = np.array([np.full(DIM, x) for x in (1, 2, 2, 2, 2, 2, 2, 2)], np.float32)
    plan = search_plan(queries, MetricType.L2, k=1, effort=Effort(1, 1, 1), output_field_ids=(META,))
    hits = search_row_sets([chunk], plan)
    assert hits is not None
    assert hits.rows.columns[PK].values.tolist() == [1, 2, 2, 2, 2, 2, 2, 2]
    with pytest.raises(ParameterInvalid, match="search results exceed the maxOutputSize Limit"):
        search_row_sets([chunk], replace(plan, queries=queries[[0, 0, 0, 1]]))


def test_a_filter_that_no_row_passes_gives_an_empty_answer() -> None:
    hits = search_row_sets([chunk_of([1, 2])], search_plan(np.ones((2, DIM), np.float32), MetricType.IP, "group > 99"))
    assert hits is not None
    assert hits.counts.tolist() == [0, 0]
    assert hits.rows.row_count == 0


def test_a_field_missing_in_the_files_reads_as_null(tmp_path: Path) -> None:
    segment = seal(tmp_path, chunk_of([1, 2]))
    spec = type(segment.spec)(SCHEMA, frozenset({PK, VEC}), {})
    partly = open_segment(SegmentPaths(tmp_path), segment.meta, spec)
    column = partly.column(GROUP)
    assert column.validity is not None
    assert column.validity.tolist() == [False, False]
    assert len(column) == 2
    assert partly.column(META).values.to_pylist() == [b"{}", b"{}"], "a dynamic field without keys"


def test_a_reopened_segment_shares_common_parts_and_stays_readable(tmp_path: Path) -> None:
    segment = seal(tmp_path, chunk_of(range(2000), 10, sample(2000, 8)), MetricType.L2)
    spec = type(segment.spec)(SCHEMA, frozenset({PK, VEC}), segment.spec.indexes)
    other = open_segment(SegmentPaths(tmp_path), segment.meta, spec, segment)
    assert other.index(VEC) is segment.index(VEC)
    assert ("field", GROUP) not in other.parts
    queries = sample(3, 9)
    expected = searched(segment, search_plan(queries, MetricType.L2))[1].tolist()
    del segment
    gc.collect()
    assert searched(other, search_plan(queries, MetricType.L2))[1].tolist() == expected


def test_resident_parts_count_as_memory_and_mapped_parts_do_not(tmp_path: Path) -> None:
    rows = joined(chunk_of(range(2000), 10, sample(2000, 8)))
    resident = seal(tmp_path, rows, MetricType.L2).memory_bytes
    assert resident["field", VEC] == 0, "the index has the vectors; the raw column is only mapped"
    assert resident["index", 900] >= 2000 * DIM * 4
    assert resident["field", GROUP] >= 2000 * 8
    assert resident["rows", 0] >= 2000 * 20
    mapped = seal(tmp_path, rows, MetricType.L2, resident=False, segment_id=8).memory_bytes
    assert set(mapped.values()) == {0}
    scanned = seal(tmp_path, rows, segment_id=9).memory_bytes
    assert scanned["field", VEC] >= 2000 * DIM * 4 + 2000 * 4


def test_deletes_count_as_memory_of_their_segment(tmp_path: Path) -> None:
    segment = seal(tmp_path, chunk_of(range(500)))
    before = segment.memory_bytes["rows", 0]
    segment.apply_deletes(deletes_of(range(100), 20))
    assert segment.memory_bytes["rows", 0] - before == 500 + 100 * 12


@pytest.mark.parametrize("name", ["rows.seg", "100.col", "900.index"])
def test_a_damaged_part_of_a_resident_segment_is_named(tmp_path: Path, name: str) -> None:
    segment = seal(tmp_path, chunk_of(range(1500), 10, sample(1500, 1)), MetricType.L2)
    path = SegmentPaths(tmp_path).segment(1, segment.segment_id) / name
    meta, spec = segment.meta, segment.spec
    del segment
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(DataIntegrityError, match=name):
        open_segment(SegmentPaths(tmp_path), meta, spec)


def test_closing_waits_for_readers_until_the_deadline() -> None:
    readers = InFlight()
    readers.enter()
    readers.enter()
    readers.leave()
    started = time.monotonic()
    assert not readers.wait_for_none(started + 0.05)
    assert time.monotonic() - started >= 0.05
    ending = threading.Timer(0.05, readers.leave)
    ending.start()
    assert readers.wait_for_none(time.monotonic() + 10)
    assert readers.wait_for_none(time.monotonic())
