"""Exact search among vectors of bits, against distances of Python's integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvine.index.by_distance import Band
from milvine.index.scan_binary import distances_to, exact_distances, scan, scan_band
from milvine.model.types import MetricType

METRICS = [MetricType.HAMMING, MetricType.JACCARD, MetricType.SUBSTRUCTURE, MetricType.SUPERSTRUCTURE]


def _slow(row: bytes, query: bytes, metric: MetricType) -> float:
    a, b = int.from_bytes(row, "big"), int.from_bytes(query, "big")
    if metric is MetricType.HAMMING:
        return (a ^ b).bit_count()
    if metric is MetricType.JACCARD:
        return 1 - (a & b).bit_count() / (a | b).bit_count() if a | b else 1.0
    inner, outer = (b, a) if metric is MetricType.SUBSTRUCTURE else (a, b)
    return 0.0 if inner & outer == inner else np.inf


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("width", [1, 3, 8, 24])
@given(seed=st.integers(0, 2**32 - 1), density=st.sampled_from([0.05, 0.5, 0.95]))
def test_distances_are_those_of_whole_numbers(metric: MetricType, width: int, seed: int, density: float) -> None:
    random = np.random.default_rng(seed)
    bits = random.random((21, 8 * width)) < density
    vectors = np.packbits(bits, axis=1)
    vectors[random.integers(21)] = 0
    expected = [_slow(row.tobytes(), vectors[0].tobytes(), metric) for row in vectors]
    assert np.allclose(distances_to(vectors, vectors[0], metric), expected, rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("share", [1.0, 0.95, 0.6, 0.3])
def test_the_nearest_rows_come_first(metric: MetricType, share: float) -> None:
    random = np.random.default_rng(3)
    vectors = random.integers(0, 256, (500, 8), np.uint8) & random.integers(0, 256, (500, 8), np.uint8)
    queries = vectors[:7] & random.integers(0, 256, (7, 8), np.uint8)
    mask = None if share == 1 else random.random(500) < share
    distances, rows = scan(vectors, None, queries, 20, metric, mask)
    for number, query in enumerate(queries):
        slow = np.array([_slow(row.tobytes(), query.tobytes(), metric) for row in vectors], np.float32)
        allowed = slow if mask is None else np.where(mask, slow, np.inf)
        wanted = np.sort(allowed[np.isfinite(allowed)])[:20]
        hits = rows[number] >= 0
        assert np.array_equal(distances[number][hits], wanted)
        assert np.array_equal(slow[rows[number][hits]], wanted)
        assert np.isinf(distances[number][~hits]).all()
        assert mask is None or mask[rows[number][hits]].all()
    again, ordered = exact_distances(vectors, queries, rows, 20, metric)
    assert np.array_equal(again, distances)
    assert set(ordered[0].tolist()) == set(rows[0].tolist())


def test_a_band_limits_the_distances() -> None:
    vectors = np.packbits(np.tri(9, 16, dtype=np.bool_), axis=1)
    distances, rows = scan_band(vectors, vectors[:1], 9, MetricType.HAMMING, None, Band(np.float32(2), np.float32(5)))
    assert distances[0, :3].tolist() == [2, 3, 4]
    assert rows[0].tolist() == [2, 3, 4, -1, -1, -1, -1, -1, -1]


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_the_nearest_of_many_rows_are_found_where_the_first_rows_are_far(share: float) -> None:
    """Or near: both ways they only tell how many of the others may be hits."""
    random = np.random.default_rng(4)
    vectors = random.integers(0, 256, (90_000, 2), np.uint8)
    mask = None if share == 1 else random.random(len(vectors)) < share
    order = np.argsort(distances_to(vectors, vectors[0], MetricType.JACCARD))
    for rows in (vectors, vectors[order], vectors[order[::-1]]):
        (distances,), (found,) = scan(rows, None, vectors[:1], 50, MetricType.JACCARD, mask)
        expected = distances_to(rows, vectors[0], MetricType.JACCARD)
        allowed = expected if mask is None else expected[mask]
        assert np.array_equal(distances, np.sort(allowed)[:50])
        assert np.array_equal(expected[found], distances)
        assert mask is None or mask[found].all()
