"""BM25 over random texts: by an index, by a scan, and by the formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from milvine.index import best_rows, scan_terms
from milvine.index.base import Effort
from milvine.index.by_distance import Band
from milvine.index.inverted_terms import TermIndex, build
from milvine.index.term_queries import TermQueries
from milvine.model.sparse_vectors import SparseVectors, decode_json, join
from milvine.model.types import MetricType

Array = np.ndarray[Any, Any]


def texts(rng: np.random.Generator, count: int, vocabulary: int) -> SparseVectors:
    """Terms by Zipf's law; every ninth row is empty."""
    shares = 1 / (np.arange(vocabulary) + 2)
    names = rng.choice(2**32 - 2, vocabulary, replace=False)
    rows: list[dict[str, int]] = []
    for number in range(count):
        size = rng.integers(1, 25) if number % 9 else 0
        terms = rng.choice(names, size, p=shares / shares.sum())
        found, often = np.unique(terms, return_counts=True)
        rows.append(dict(zip(map(str, found.astype(int).tolist()), often.tolist(), strict=True)))
    return decode_json(rows)


def queries(rng: np.random.Generator, rows: SparseVectors, sizes: list[int], k1: float, b: float) -> TermQueries:
    """Terms as frequent as in the rows, and one that no row has."""
    found = []
    for size in sizes:
        terms = np.unique(np.append(rng.choice(rows.indices, size), np.uint32(7)))
        values = rng.integers(1, 3, len(terms)).astype(np.float32)
        found.append(SparseVectors(np.array([0, len(terms)]), terms, values))
    raw = TermQueries(join(found), k1, b)
    return raw.weighed(scan_terms.statistics(rows, None, raw.terms()))


def formula(rows: SparseVectors, asked: TermQueries) -> Array:
    """float64 (nq, n)."""
    table = {term: place for place, term in enumerate(np.unique(rows.indices).tolist())}
    counts = np.zeros((len(rows), len(table)))
    at = np.repeat(np.arange(len(rows)), rows.sizes)
    counts[at, [table[term] for term in rows.indices.tolist()]] = rows.values
    lengths = counts.sum(axis=1)
    mean = lengths.mean()
    scores = np.zeros((len(asked), len(rows)))
    for number in range(len(asked)):
        query = asked.vectors[number : number + 1]
        for term, weight in zip(query.indices.tolist(), query.values.tolist(), strict=True):
            if term in table:
                tf = counts[:, table[term]]
                below = tf + asked.k1 * (1 - asked.b + asked.b * lengths / mean)
                impacts = np.divide(tf * (asked.k1 + 1), below, out=np.zeros_like(tf), where=tf > 0)
                scores[number] += weight * impacts
    return scores


@pytest.fixture(params=["as they are", "small", "added up"])
def _limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that send small data through every path."""
    if request.param != "as they are":
        monkeypatch.setattr(best_rows, "_FEW", 20)
        monkeypatch.setattr(best_rows, "_PROBES", 5)
        monkeypatch.setattr(best_rows, "_LOOKUP_COST", 1)
    if request.param == "added up":
        monkeypatch.setattr(best_rows, "_LISTS_READ", 0)
        monkeypatch.setattr(best_rows, "_MOST", 1.0)


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize("k1,b,vocabulary", [(1.2, 0.75, 30), (0.0, 0.5, 300), (3.0, 1.0, 4000), (1.2, 0.0, 300)])
def test_an_index_finds_the_best_rows_of_the_formula_and_of_a_scan(k1: float, b: float, vocabulary: int) -> None:
    rng = np.random.default_rng(vocabulary)
    rows = texts(rng, 900, vocabulary)
    asked = queries(rng, rows, [1, 2, 3, 3, 4, 8, 30, 0], k1, b)
    scores = formula(rows, asked)
    index = TermIndex(build(rows), "SPARSE_INVERTED_INDEX", 0)
    for mask in (None, *(rng.random(900) < share for share in (0.02, 0.9))):
        for k in (1, 10, 300):
            found = index.search(asked, k, Effort(k, 1, k), mask)
            distances, _ = scan_terms.scan(rows, None, asked, k, MetricType.BM25, mask)
            assert np.array_equal(found.distances, distances)
            for line, near, places in zip(scores, found.distances, found.rows, strict=True):
                hits = np.flatnonzero((line > 0) & (True if mask is None else mask))
                count = min(k, len(hits))
                assert np.allclose(-near[:count], np.sort(line[hits])[::-1][:count], rtol=1e-5)
                assert np.allclose(-near[:count], line[places[:count]], rtol=1e-5)
                assert len(set(places[:count].tolist())) == count
                assert np.isin(places[:count], hits).all()
                assert (places[count:] == -1).all()


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize("vocabulary", [5, 300])
def test_rows_of_equal_scores_come_in_the_order_of_their_keys(vocabulary: int) -> None:
    rng = np.random.default_rng(vocabulary)
    rows = texts(rng, 900, vocabulary)
    rows = rows[rng.integers(0, 300, 900)]
    asked = queries(rng, rows, [1, 2, 3, 8, 0], 1.2, 0.75)
    index = TermIndex(build(rows), "SPARSE_INVERTED_INDEX", 0)
    keys = rng.permutation(900)
    for mask in (None, *(rng.random(900) < share for share in (0.02, 0.9))):
        everything = scan_terms.scan(rows, None, asked, 900, MetricType.BM25, mask)
        for k in (1, 10, 300, 900):
            found = index.scan_by_key(asked, k, mask, lambda places: keys[places])
            check_order(found, everything, keys, k)


def check_order(found: tuple[Array, Array], everything: tuple[Array, Array], keys: Array, k: int) -> None:
    """The first k of all hits by distance and key."""
    for line, rows, all_near, all_rows in zip(*found, *everything, strict=True):
        hits = all_rows >= 0
        order = np.lexsort((keys[all_rows[hits]], all_near[hits]))[:k]
        assert np.array_equal(rows[: len(order)], all_rows[hits][order])
        assert np.array_equal(line[: len(order)], all_near[hits][order])
        assert (rows[len(order) :] == -1).all()
        assert np.isinf(line[len(order) :]).all()


@pytest.mark.usefixtures("_limits")
def test_a_light_term_is_left_out_and_a_range_holds_what_is_inside() -> None:
    rng = np.random.default_rng(5)
    rows = texts(rng, 900, 300)
    asked = queries(rng, rows, [3, 6, 9], 1.2, 0.75)
    index = TermIndex(build(rows), "SPARSE_INVERTED_INDEX", 0)
    dropped = index.search(asked, 20, Effort(20, 1, 20, drop_ratio=0.4), None)
    assert not dropped.finds_all
    assert (dropped.rows >= 0).all()
    for low, high in ((-3.0, -0.5), (-np.inf, -2.0), (-np.inf, np.inf)):
        band = Band(np.float32(low), np.float32(high))
        inside = index.scan_band(asked, 40, None, band)
        scanned = scan_terms.scan_band(rows, asked, 40, MetricType.BM25, None, band)
        assert np.array_equal(inside[0], scanned[0])


def test_equal_rows_share_the_last_place_of_a_search() -> None:
    """A row is not lost because its sum was rounded in another order."""
    rows = decode_json([{"1": 1, "2": 1, "3": 1}] * 3000 + [{"1": 1}] * 2000 + [{"2": 1, "3": 1}] * 2000)
    index = TermIndex(build(rows), "SPARSE_INVERTED_INDEX", 0)
    raw = TermQueries(decode_json([{"1": 1, "2": 1, "3": 1}]), 1.2, 0.75)
    asked = raw.weighed(index.statistics(raw.terms()))
    found = index.search(asked, 2500, Effort(2500, 1, 2500), None)
    assert (found.rows < 3000).all()
    assert len(np.unique(found.distances)) == 1
