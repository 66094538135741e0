"""Sparse vectors, scanned and by an inverted index, against dicts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from milvine.index import scan_sparse
from milvine.index.by_distance import Band
from milvine.index.inverted import InvertedIndex, build
from milvine.index.partial import PartialIndex
from milvine.index.types.sparse_inverted_index import SparseIndex
from milvine.model.sparse_vectors import SparseVectors, decode_json, empty_vectors, join
from milvine.model.types import MetricType

Array = np.ndarray[Any, Any]
VOCABULARIES = [40, 30_000, 2**32 - 1]


def sample(rng: np.random.Generator, count: int, vocabulary: int, size: int) -> SparseVectors:
    """Vectors of up to `size` values; every seventh is empty, and many are equal to another."""
    some = rng.integers(0, vocabulary, 25, np.uint32)
    rows: list[dict[str, float]] = []
    for number in range(count):
        if number % 7 == 3:
            rows.append({})
        elif number % 5 == 4:
            rows.append(rows[int(rng.integers(number))])
        else:
            often, seldom = rng.choice(some, size // 2), rng.integers(0, vocabulary, size - size // 2, np.uint32)
            values = rng.choice([0.0, 0.1, 0.25, 1.5, 3.3], size)
            rows.append(dict(zip(map(str, [*often.tolist(), *seldom.tolist()]), values.tolist(), strict=True)))
    return decode_json(rows)


def as_dicts(vectors: SparseVectors) -> list[dict[int, np.float32]]:
    bounds = vectors.offsets.tolist()
    return [dict(zip(vectors.indices[a:b].tolist(), vectors.values[a:b], strict=True)) for a, b in pairwise(bounds)]


def reference(vectors: SparseVectors, queries: SparseVectors) -> Array:
    """float32 (nq, n) inner products, added by ascending index."""
    products = np.zeros((len(queries), len(vectors)), np.float32)
    rows = as_dicts(vectors)
    for line, query in zip(products, as_dicts(queries), strict=True):
        for number, row in enumerate(rows):
            for index in sorted(query.keys() & row.keys()):
                line[number] += row[index] * query[index]
    return products


def check(found: tuple[Array, Array], products: Array, k: int, mask: Array | None, band: Band | None = None) -> None:
    """The k largest positive products of the allowed rows, and nothing else."""
    distances, rows = found
    assert distances.shape == rows.shape == (len(products), k)
    assert (distances.dtype, rows.dtype) == (np.float32, np.int64)
    for line, near, offsets in zip(products, distances, rows, strict=True):
        is_hit = line > 0
        if mask is not None:
            is_hit &= mask
        if band is not None:
            is_hit &= (-line >= band.low) & (-line < band.high)
        expected = np.sort(-line[is_hit])[:k]
        count = len(expected)
        assert len(set(offsets[:count].tolist())) == count
        assert is_hit[offsets[:count]].all()
        assert np.allclose(near[:count], expected, rtol=1e-6)
        assert np.allclose(near[:count], -line[offsets[:count]], rtol=1e-6)
        assert (np.diff(near[:count]) >= 0).all()
        assert (offsets[count:] == -1).all()
        assert np.isinf(near[count:]).all()


def masks(rng: np.random.Generator, count: int) -> list[Array | None]:
    return [None, *(rng.random(count) < share for share in (0.0, 0.05, 0.6, 1.0))]


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("k", [1, 3, 200, 2000])
@pytest.mark.parametrize("nq", [1, 9])
def test_a_scan_and_an_index_find_the_same_rows_as_dicts(vocabulary: int, k: int, nq: int) -> None:
    rng = np.random.default_rng(k)
    vectors, queries = sample(rng, 900, vocabulary, 12), sample(rng, nq, vocabulary, 15)
    products = reference(vectors, queries)
    index = InvertedIndex(build(vectors), "SPARSE_INVERTED_INDEX")
    for mask in masks(rng, 900):
        scanned = scan_sparse.scan(vectors, None, queries, k, MetricType.IP, mask)
        check(scanned, products, k, mask)
        asked = index.search(queries, k, mask)
        check(asked, products, k, mask)
        assert np.array_equal(scanned[0], asked[0])


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_a_range_holds_the_rows_whose_distance_is_inside(vocabulary: int) -> None:
    rng = np.random.default_rng(1)
    vectors, queries = sample(rng, 500, vocabulary, 12), sample(rng, 4, vocabulary, 15)
    products = reference(vectors, queries)
    index = InvertedIndex(build(vectors), "SPARSE_INVERTED_INDEX")
    for low, high in ((-3.0, -0.5), (-np.inf, -2.0), (-np.inf, np.inf), (0.0, 5.0)):
        band = Band(np.float32(low), np.float32(high))
        for mask in masks(rng, 500):
            check(index.search(queries, 40, mask, band=band), products, 40, mask, band)
            check(scan_sparse.scan_band(vectors, queries, 40, MetricType.IP, mask, band), products, 40, mask, band)


def test_rows_of_equal_distance_come_in_the_order_of_their_keys() -> None:
    rng = np.random.default_rng(11)
    valid = rng.random(900) < 0.7
    vectors = sample(rng, int(valid.sum()), 40, 6)
    queries, keys = sample(rng, 5, 40, 4), rng.permutation(900)
    index = PartialIndex(SparseIndex(build(vectors), "SPARSE_INVERTED_INDEX", 0), valid)
    assert index.scan_by_key is not None
    for mask in (valid, valid & (rng.random(900) < 0.5)):
        all_near, all_rows = index.scan(queries, 900, mask)
        for k in (1, 10, 900):
            found = index.scan_by_key(queries, k, mask, lambda places: keys[places])
            for near, rows, all_distances, all_places in zip(*found, all_near, all_rows, strict=True):
                hits = all_places >= 0
                order = np.lexsort((keys[all_places[hits]], all_distances[hits]))[:k]
                assert np.array_equal(rows[: len(order)], all_places[hits][order])
                assert np.array_equal(near[: len(order)], all_distances[hits][order])
                assert (rows[len(order) :] == -1).all()


def test_a_row_has_the_same_distance_to_the_last_bit_however_it_is_found() -> None:
    rng = np.random.default_rng(2)
    rows = [
        dict(zip(map(str, rng.choice(60, 40, False).tolist()), rng.random(40).tolist(), strict=True))
        for _ in range(400)
    ]
    vectors, queries = decode_json(rows), decode_json(rows[:5])
    index = InvertedIndex(build(vectors), "SPARSE_INVERTED_INDEX")
    asked = index.search(queries, 400, None)
    scanned = scan_sparse.scan(vectors, None, queries, 400, MetricType.IP, None)
    alone = scan_sparse.scan(vectors, None, queries[:1], 400, MetricType.IP, None)
    measured = scan_sparse.exact_distances(vectors, queries, asked[1], 400, MetricType.IP)
    for other in (scanned, measured):
        assert np.array_equal(asked[0], other[0])
        assert np.array_equal(asked[1], other[1])
    assert np.array_equal(asked[0][:1], alone[0])


def test_exact_distances_keep_the_nearest_of_the_candidates() -> None:
    rng = np.random.default_rng(3)
    vectors, queries = sample(rng, 300, 50, 10), sample(rng, 6, 50, 10)
    candidates = rng.integers(0, 300, (6, 30))
    candidates = np.array([np.pad(np.unique(line), (0, 30))[:30] for line in candidates])
    candidates[:, 20:] = -1
    products = reference(vectors, queries)
    masked = np.zeros_like(products)
    for line, some, whole in zip(masked, candidates, products, strict=True):
        line[some[:20]] = whole[some[:20]]
    check(scan_sparse.exact_distances(vectors, queries, candidates, 8, MetricType.IP), masked, 8, None)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.99])
def test_a_share_of_the_smallest_values_of_a_query_can_be_left_out(ratio: float) -> None:
    rng = np.random.default_rng(4)
    vectors, queries = sample(rng, 400, 40, 12), sample(rng, 6, 40, 15)
    kept = []
    for query in as_dicts(queries):
        least = sorted(query.values())[int(ratio * len(query))] if query else 0.0
        kept.append({str(index): float(value) for index, value in query.items() if value >= least})
    products = reference(vectors, decode_json(kept))
    index = InvertedIndex(build(vectors), "SPARSE_INVERTED_INDEX")
    check(index.search(queries, 20, None, drop_ratio=ratio), products, 20, None)


def test_many_equal_rows_fill_the_first_k() -> None:
    vectors = decode_json([{"5": 2.0}] * 5000)
    index = InvertedIndex(build(vectors), "SPARSE_INVERTED_INDEX")
    distances, rows = index.search(decode_json([{"5": 1.0, "9": 1.0}]), 10, None)
    assert (distances == -2).all()
    assert len(set(rows[0].tolist())) == 10


def test_vectors_without_values_are_never_hits() -> None:
    index = InvertedIndex(build(empty_vectors(5)), "SPARSE_INVERTED_INDEX")
    queries = decode_json([{"1": 1.0}, {}])
    for found in (
        index.search(queries, 3, None),
        scan_sparse.scan(empty_vectors(5), None, queries, 3, MetricType.IP, None),
        scan_sparse.scan(empty_vectors(0), None, queries, 3, MetricType.IP, None),
    ):
        assert (found[1] == -1).all()
    assert (index.search(join([queries[1:], queries[1:]]), 3, None)[1] == -1).all()
    full = InvertedIndex(build(queries), "SPARSE_INVERTED_INDEX")
    assert full.search(queries, 2, None)[1].tolist() == [[0, -1], [-1, -1]]
    assert full.search(queries[:0], 2, None)[1].shape == (0, 2)


def test_an_index_takes_as_much_memory_as_its_arrays() -> None:
    vectors = sample(np.random.default_rng(5), 200, 1000, 10)
    arrays = build(vectors)
    index = InvertedIndex(arrays, "SPARSE_INVERTED_INDEX")
    assert index.memory_bytes == sum(array.nbytes for array in arrays.values())
    assert (index.row_count, index.heap_bytes, index.is_exact) == (200, 0, True)
