"""Exact BM25 scores of rows without an index. Shapes, order and padding are as in `index.scan`.

Only rows with a term of the query are hits. The scores are summed as in `scan_sparse`, and equal those of
`index.inverted_terms` to the last bit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from milvine.index.base import Array
from milvine.index.by_distance import Band
from milvine.index.scan_sparse import SharedValues, kept_rows, nearest_candidates, scan_shared
from milvine.index.term_queries import TermQueries, TermStatistics, row_lengths
from milvine.model.sparse_vectors import SparseVectors
from milvine.model.types import MetricType


def scan(
    vectors: SparseVectors,
    prepared: Array | None,
    queries: TermQueries,
    k: int,
    _metric: MetricType,
    mask: Array | None,
) -> tuple[Array, Array]:
    """The k nearest rows of each query. `prepared`: the lengths of the rows."""
    return _scan(vectors, prepared, queries, k, mask, None)


def scan_band(
    vectors: SparseVectors, queries: TermQueries, k: int, _metric: MetricType, mask: Array | None, band: Band
) -> tuple[Array, Array]:
    """The k nearest rows of each query inside `band`."""
    return _scan(vectors, None, queries, k, mask, band)


def exact_distances(
    vectors: SparseVectors, queries: TermQueries, rows: Array, k: int, _metric: MetricType
) -> tuple[Array, Array]:
    """Candidates `rows` (nq, c), -1 for none, by their exact distances: the nearest k of those that are hits."""

    def sums(number: int, candidates: Array) -> Array:
        query = queries[number : number + 1]
        some = vectors[candidates]
        return _shared(some, row_lengths(some), query).products(query.vectors)

    return nearest_candidates(rows, k, sums)


def statistics(vectors: SparseVectors, prepared: Array | None, terms: Array) -> TermStatistics:
    """Of all rows and these terms (ascending). `prepared`: the lengths of the rows."""
    queries = SparseVectors(np.array([0, len(terms)]), terms, np.ones(len(terms), np.float32))
    places = SharedValues.of_terms(vectors, queries).places
    length = (vectors.values if prepared is None else prepared).sum(dtype=np.float64)
    return TermStatistics(len(vectors), float(length), np.bincount(places, minlength=len(terms)))


def _scan(
    vectors: SparseVectors, lengths: Array | None, queries: TermQueries, k: int, mask: Array | None, band: Band | None
) -> tuple[Array, Array]:
    vectors, rows, allowed = kept_rows(vectors, mask)
    if lengths is None:
        lengths = row_lengths(vectors)
    elif rows is not None:
        lengths = lengths[rows]
    return scan_shared(_shared(vectors, lengths, queries), queries.vectors, k, rows, allowed, band)


def _shared(vectors: SparseVectors, lengths: Array, queries: TermQueries) -> SharedValues:
    found = SharedValues.of_terms(vectors, queries.vectors)
    rows = np.repeat(np.arange(len(vectors)), np.diff(found.offsets))
    return replace(found, values=queries.impacts(found.values, lengths[rows]))
