"""The exact scan against float64 arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from milvine.index import scan as scan_module
from milvine.index.by_distance import Band, padded
from milvine.index.scan import exact_distances, scan, scan_band, squared_norms, unit
from milvine.model.types import DataType, MetricType
from milvine.model.vectors import KINDS
from milvine.model.vectors import conversion as vectors_module
from milvine.model.vectors.conversion import as_float32, from_float32

Array = np.ndarray[Any, Any]
METRICS = [MetricType.L2, MetricType.IP, MetricType.COSINE]


def reference_distances(vectors: Array, queries: Array, metric: MetricType) -> Array:
    """(nq, n) float64, smaller is nearer; a zero vector has cosine 0 with everything."""
    x, q = vectors.astype(np.float64), queries.astype(np.float64)
    if metric is MetricType.L2:
        found: Array = ((q[:, None, :] - x[None]) ** 2).sum(axis=2)
        return found
    products = q @ x.T
    if metric is MetricType.COSINE:
        lengths = np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(x, axis=1)[None]
        products = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return -products


def check(vectors: Array, queries: Array, k: int, metric: MetricType, mask: Array | None, norms2: Array | None) -> None:
    """The k distances found are the k smallest, each belongs to its row, no row comes twice, the rest is padding."""
    distances, rows = scan(vectors, norms2, queries, k, metric, mask)
    assert distances.shape == rows.shape == (len(queries), k)
    assert (distances.dtype, rows.dtype) == (np.float32, np.int64)
    exact = reference_distances(vectors, queries, metric)
    allowed = np.arange(len(vectors)) if mask is None else np.flatnonzero(mask)
    scale = max(1.0, float(np.abs(exact).max(initial=0)))
    for query in range(len(queries)):
        count = min(k, len(allowed))
        found = rows[query, :count]
        assert len(set(found.tolist())) == count
        assert np.isin(found, allowed).all()
        expected = np.sort(exact[query, allowed])[:count]
        assert np.allclose(exact[query, found], expected, rtol=1e-5, atol=1e-5 * scale)
        assert np.allclose(distances[query, :count], exact[query, found], rtol=1e-5, atol=1e-5 * scale)
        assert (np.diff(distances[query, :count]) >= 0).all()
        assert (rows[query, count:] == -1).all()
        assert np.isinf(distances[query, count:]).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kept", [None, 0.0, 0.01, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("with_norms", [False, True])
def test_a_scan_finds_the_nearest_of_the_allowed_rows(metric: MetricType, kept: float | None, with_norms: bool) -> None:
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((700, 24), np.float32) * rng.uniform(0.1, 9, (700, 1)).astype(np.float32)
    vectors[[3, 400]] = 0
    queries = rng.standard_normal((7, 24), np.float32)
    queries[2] = 0
    mask = None if kept is None else rng.random(700) < kept
    norms2 = squared_norms(vectors) if with_norms else None
    for k in (1, 10, 700, 900):
        check(vectors, queries, k, metric, mask, norms2)


@pytest.mark.parametrize("metric", METRICS)
def test_all_rows_alike_still_give_k_different_rows(metric: MetricType) -> None:
    vectors = np.ones((50, 8), np.float32)
    check(vectors, vectors[:2], 20, metric, None, None)
    check(np.zeros((50, 8), np.float32), vectors[:2], 20, metric, None, None)


@pytest.mark.parametrize("metric", METRICS)
def test_a_row_is_its_own_nearest_at_distance_zero(metric: MetricType) -> None:
    vectors = unit(np.random.default_rng(6).standard_normal((300, 32), np.float32))
    distances, rows = scan(vectors, None, vectors, 1, metric, None)
    assert rows[:, 0].tolist() == list(range(300))
    expected = 0 if metric is MetricType.L2 else -1
    assert np.allclose(distances, expected, atol=1e-6)
    if metric is MetricType.L2:
        assert (distances == 0).all(), "L2 to itself is exactly 0"


@pytest.mark.parametrize("offset", [10, 100, 1000])
def test_l2_stays_exact_when_all_vectors_lie_far_from_the_origin(offset: int) -> None:
    """|x|2 - 2xq + |q|2 loses the difference of near vectors that are long."""
    rng = np.random.default_rng(7)
    vectors = (rng.standard_normal((3000, 64)) + offset).astype(np.float32)
    queries = (rng.standard_normal((5, 64)) + offset).astype(np.float32)
    exact = reference_distances(vectors, queries, MetricType.L2)
    _, rows = scan(vectors, squared_norms(vectors), queries, 10, MetricType.L2, None)
    for query in range(5):
        assert set(rows[query].tolist()) == set(np.argsort(exact[query])[:10].tolist())


def test_l2_finds_the_nearest_points_on_a_city_map() -> None:
    """Latitude and longitude: long vectors, tiny differences."""
    rng = np.random.default_rng(17)
    places = (rng.uniform(-0.1, 0.1, (5000, 2)) + np.array([48.85, 2.35])).astype(np.float32)
    queries = places[:20] + np.float32(1e-5)
    exact = reference_distances(places, queries, MetricType.L2)
    distances, rows = scan(places, squared_norms(places), queries, 5, MetricType.L2, None)
    nearest = np.sort(exact, axis=1)[:, :5]
    assert np.allclose(np.take_along_axis(exact, rows, axis=1), nearest, rtol=1e-3, atol=0)
    assert np.allclose(distances, nearest, rtol=1e-3, atol=0)


@pytest.mark.parametrize("metric", METRICS)
def test_many_queries_in_blocks_answer_as_single_ones(metric: MetricType, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    vectors, queries = rng.standard_normal((200, 8), np.float32), rng.standard_normal((33, 8), np.float32)
    mask = rng.random(200) < 0.8
    alone = [scan(vectors, None, q[None], 5, metric, mask)[1][0] for q in queries]
    monkeypatch.setattr(scan_module, "_BLOCK_BYTES", 4 * 200 * 10)
    _, rows = scan(vectors, None, queries, 5, metric, mask)
    assert rows.tolist() == [a.tolist() for a in alone]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 2, 3, 4, 8, 12, 16, 40])
def test_a_rows_distance_does_not_depend_on_other_rows(metric: MetricType, dim: int) -> None:
    """Otherwise a row could lie on both sides of the last score of an iterator's page."""
    rng = np.random.default_rng(dim)
    vectors, query = rng.standard_normal((203, dim), np.float32), rng.standard_normal((1, dim), np.float32)
    together, order = exact_distances(vectors, query, np.arange(203)[None], 203, metric)
    alone = [exact_distances(vectors, query, np.array([[row]]), 1, metric)[0][0, 0] for row in order[0]]
    assert together[0].tolist() == alone
    equal, _ = scan(np.repeat(vectors[:1], 203, axis=0), None, query, 203, metric, None)
    assert len(np.unique(equal)) == 1, "equal vectors have equal distances"


@pytest.mark.parametrize("dim", [3, 100, 128])
def test_a_cosine_is_never_beyond_one(dim: int) -> None:
    rng = np.random.default_rng(dim)
    vectors = rng.standard_normal((400, dim), np.float32)
    for queries in (vectors[:3], vectors, -vectors):
        distances, _ = scan(vectors, None, queries, 400, MetricType.COSINE, None)
        assert distances.min() >= -1
        assert distances.max() <= 1
        rows = np.tile(np.arange(400), (len(queries), 1))
        distances, _ = exact_distances(vectors, queries, rows, 400, MetricType.COSINE)
        assert distances.min() >= -1
        assert distances.max() <= 1


def test_inputs_are_not_changed() -> None:
    rng = np.random.default_rng(9)
    vectors, queries = rng.standard_normal((90, 4), np.float32), rng.standard_normal((3, 4), np.float32)
    norms2, mask = squared_norms(vectors), rng.random(90) < 0.7
    for array in (vectors, queries, norms2, mask):
        array.flags.writeable = False
    for metric in METRICS:
        scan(vectors, norms2, queries, 5, metric, mask)
        scan(vectors, norms2, queries, 5, metric, None)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_whose_distance_overflows_float32_are_found(metric: MetricType) -> None:
    vectors = np.full((4, 8), 1e30, np.float32)
    _, rows = scan(vectors, squared_norms(vectors), np.ones((1, 8), np.float32) * 1e30, 4, metric, None)
    assert sorted(rows[0].tolist()) == [0, 1, 2, 3], "rows whose distance overflows are missing"


def test_a_zero_vector_stays_zero_as_a_unit_vector() -> None:
    vectors = np.array([[0, 0], [3, 4]], np.float32)
    assert np.allclose(unit(vectors), np.array([[0, 0], [0.6, 0.8]]))
    assert squared_norms(vectors).tolist() == [0, 25]


def test_padding_has_no_row_and_no_distance() -> None:
    distances, rows = padded(2, 3)
    assert np.isposinf(distances).all()
    assert (rows == -1).all()
    assert distances.shape == rows.shape == (2, 3)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("data_type", [t for t, kind in KINDS.items() if kind.family == "dense"], ids=lambda t: t.name)
def test_vectors_of_every_type_are_scanned_block_by_block_as_exactly(
    metric: MetricType, data_type: DataType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_module, "_BLOCK_BYTES", 4 * 24 * 37)
    rng = np.random.default_rng(12)
    wide = 40 * rng.standard_normal((500, 24), np.float32)
    narrow = wide.astype(np.int8) if data_type is DataType.INT8_VECTOR else from_float32(wide, data_type)
    plain, queries = as_float32(narrow), 40 * rng.standard_normal((5, 24), np.float32)
    assert np.allclose(squared_norms(narrow), squared_norms(plain), rtol=1e-6)
    for mask in (None, rng.random(500) < 0.9, rng.random(500) < 0.02, np.zeros(500, np.bool_)):
        for k in (1, 10, 600):
            for norms2 in (None, squared_norms(narrow)):
                distances, rows = scan(narrow, norms2, queries, k, metric, mask)
                expected = scan(plain, None, queries, k, metric, mask)
                assert np.allclose(distances, expected[0], rtol=1e-5, atol=1e-2)
                assert (rows == expected[1]).mean() > 0.99, "except for ties"
        band = Band(np.float32(-1e9), np.float32(np.median(expected[0][0, :5])))
        found = scan_band(narrow, queries, 50, metric, mask, band)
        assert np.array_equal(found[1], scan_band(plain, queries, 50, metric, mask, band)[1])
    candidates = np.tile(np.arange(-1, 200), (5, 1))
    for found_one, expected_one in zip(
        exact_distances(narrow, queries, candidates, 9, metric),
        exact_distances(plain, queries, candidates, 9, metric),
        strict=True,
    ):
        assert np.array_equal(found_one, expected_one)
