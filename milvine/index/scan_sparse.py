"""Exact inner products of sparse vectors without an index. Shapes, order and padding are as in `index.scan`.

Only rows with a positive product are hits. The products of a row are added by ascending index in float32, here and in
`index.inverted`, so both give the same distance to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from milvine.index.base import Array, KeyCodes
from milvine.index.by_distance import Band, padded
from milvine.index.sparse_kernels import row_sums
from milvine.model.records import record
from milvine.model.sparse_vectors import SparseVectors
from milvine.model.types import MetricType

_SMALL_TABLE = 1 << 16
"""A table of this size is made at once. It finds indices several times as fast as a binary search."""
_ENDS = np.uint32(1 << 16)
"""Indices are first told apart by their lowest bits, which rules out most of them at a fraction of a binary search."""
_BLOCK_VALUES = 1 << 20
_FEW_QUERIES = 4
"""For more queries the values that they need are looked up once, which costs as much as this many scans."""
_MAX_WIDTH = 2**31
_GATHER_SHARE = 1 / 8
"""Fewer rows than this are copied together first."""
_LARGEST_GROUP = 64
"""Sums are compared in groups of up to this many, to find a sum that at least k rows have."""


def scan(
    vectors: SparseVectors,
    _prepared: Array | None,
    queries: SparseVectors,
    k: int,
    _metric: MetricType,
    mask: Array | None,
) -> tuple[Array, Array]:
    """The k nearest rows of each query."""
    return _scan(vectors, queries, k, mask, None)


def scan_band(
    vectors: SparseVectors, queries: SparseVectors, k: int, _metric: MetricType, mask: Array | None, band: Band
) -> tuple[Array, Array]:
    """The k nearest rows of each query inside `band`."""
    return _scan(vectors, queries, k, mask, band)


def exact_distances(
    vectors: SparseVectors, queries: SparseVectors, rows: Array, k: int, _metric: MetricType
) -> tuple[Array, Array]:
    """Candidates `rows` (nq, c), -1 for none, by their exact distances: the nearest k of those that are hits."""

    def sums(number: int, candidates: Array) -> Array:
        query = queries[number : number + 1]
        return SharedValues.of(vectors[candidates], query).products(query)

    return nearest_candidates(rows, k, sums)


def nearest_candidates(rows: Array, k: int, sums: Callable[[int, Array], Array]) -> tuple[Array, Array]:
    """As `exact_distances`. `sums` takes the number of a query and its candidates, and returns their inner products."""
    distances, found = padded(len(rows), k)
    for number, row in enumerate(rows):
        candidates = row[row >= 0]
        put_nearest(sums(number, candidates), candidates, k, None, distances[number], found[number])
    return distances, found


def _scan(
    vectors: SparseVectors, queries: SparseVectors, k: int, mask: Array | None, band: Band | None
) -> tuple[Array, Array]:
    vectors, rows, allowed = kept_rows(vectors, mask)
    return scan_shared(SharedValues.of(vectors, queries), queries, k, rows, allowed, band)


def kept_rows(vectors: SparseVectors, mask: Array | None) -> tuple[SparseVectors, Array | None, Array | None]:
    """The vectors to scan. If they are only some, their rows; otherwise the mask as float32, if there is one."""
    if mask is None:
        return vectors, None, None
    if np.count_nonzero(mask) < _GATHER_SHARE * len(mask):
        rows = np.flatnonzero(mask)
        return vectors[rows], rows, None
    return vectors, None, mask.astype(np.float32)


def scan_shared(
    shared: SharedValues,
    queries: SparseVectors,
    k: int,
    rows: Array | None,
    allowed: Array | None,
    band: Band | None,
) -> tuple[Array, Array]:
    """The k nearest rows of each query inside `band`; `rows` and `allowed` as of `kept_rows`."""
    distances, found = padded(len(queries), k)
    for number in range(len(queries)):
        sums = shared.products(queries[number : number + 1])
        if allowed is not None:
            sums *= allowed
        put_nearest(sums, rows, k, band, distances[number], found[number])
    return distances, found


@record
class SharedValues:
    """The values of rows that some queries may need: row i has `values` at `places` from `offsets[i]` to
    `offsets[i + 1]`. The places are those among `terms` (ascending), or without `terms` the indices themselves."""

    offsets: Array
    places: Array
    values: Array
    terms: Array | None
    width: int

    @classmethod
    def of(cls, vectors: SparseVectors, queries: SparseVectors) -> SharedValues:
        width = vectors.dim
        if len(queries) <= _FEW_QUERIES and width <= min(_SMALL_TABLE + len(vectors.indices), _MAX_WIDTH):
            places = vectors.indices.view(np.int32)
            return cls(vectors.offsets.astype(np.int32), places, vectors.values, None, width)
        return cls.of_terms(vectors, queries)

    @classmethod
    def of_terms(cls, vectors: SparseVectors, queries: SparseVectors) -> SharedValues:
        """Only the values of the queries' terms."""
        terms = np.unique(queries.indices)
        find = _finder(terms, len(vectors.indices))
        all_kept, all_places = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
        for start in range(0, len(vectors.indices), _BLOCK_VALUES):
            kept, places = find(vectors.indices[start : start + _BLOCK_VALUES])
            all_kept.append(kept + start)
            all_places.append(places)
        kept = np.concatenate(all_kept)
        offsets = np.searchsorted(kept, vectors.offsets).astype(np.int32)
        return cls(offsets, np.concatenate(all_places), vectors.values[kept], terms, len(terms))

    def products(self, query: SparseVectors) -> Array:
        """float32 (n,): the inner products with one of the queries."""
        weights = np.zeros(self.width, np.float32)
        if self.terms is None:
            known = query.indices < self.width
            weights[query.indices[known]] = query.values[known]
        else:
            weights[np.searchsorted(self.terms, query.indices)] = query.values
        return row_sums(self.offsets, self.places, self.values, weights)


def _finder(terms: Array, count: int) -> Callable[[Array], tuple[Array, Array]]:
    """A function that finds which of some indices are among `terms`, and their places (int32) there. `count`: how many
    indices it will be asked for."""
    if len(terms) == 0:
        return lambda indices: (np.zeros(0, np.int64), np.zeros(0, np.int32))
    beyond = int(terms[-1]) + 1
    if beyond < _SMALL_TABLE + count:
        table = np.full(beyond + 1, -1, np.int32)
        table[terms] = np.arange(len(terms), dtype=np.int32)

        def look_up(indices: Array) -> tuple[Array, Array]:
            places = table.take(np.minimum(indices, np.uint32(beyond)))
            kept = np.flatnonzero(places >= 0)
            return kept, places[kept]

        return look_up

    ends = np.zeros(_ENDS, np.bool_)
    ends[terms % _ENDS] = True

    def bisect(indices: Array) -> tuple[Array, Array]:
        likely = np.flatnonzero(ends.take(indices % _ENDS))
        indices = indices[likely]
        places = np.searchsorted(terms, indices)
        kept = np.flatnonzero(terms.take(places, mode="clip") == indices)
        return likely[kept], places[kept].astype(np.int32)

    return bisect


def put_nearest(sums: Array, rows: Array | None, k: int, band: Band | None, distances: Array, found: Array) -> None:
    """Writes the k nearest rows into `distances` and `found` (k,). `sums` are inner products of `rows`, or of all."""
    near = _hits(sums, k) if band is None else _inside(sums, band)
    scores = sums[near]
    if len(near) > k:
        best = np.argpartition(-scores, k - 1)[:k]
        near, scores = near[best], scores[best]
    order = np.lexsort((near, -scores))
    near, scores = near[order], scores[order]
    distances[: len(near)] = -scores
    found[: len(near)] = near if rows is None else rows[near]


def nearest_by_key(sums: Array, rows: Array | None, k: int, codes: KeyCodes) -> tuple[Array, Array]:
    """Distances and rows of the k nearest, equal ones in the order of their codes. `sums` as of `put_nearest`."""
    near = _hits(sums, k)
    scores = sums[near]
    if len(near) > k:
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        places = np.flatnonzero(scores >= least)
        near, scores = near[places], scores[places]
    near = near if rows is None else rows[near]
    keys = codes(near)
    if len(near) > k:
        is_last = scores == least
        last = np.flatnonzero(is_last)
        wanted = k - (len(near) - len(last))
        chosen = last[np.argpartition(keys[last], wanted - 1)[:wanted]]
        places = np.concatenate((np.flatnonzero(~is_last), chosen))
        near, scores, keys = near[places], scores[places], keys[places]
    order = np.lexsort((keys, -scores))
    return -scores[order], near[order]


def _hits(sums: Array, k: int) -> Array:
    """Places of positive sums: the k largest, and as few others as is quick to find."""
    group_count = len(sums) // max(1, min(_LARGEST_GROUP, len(sums) // (4 * k)))
    if group_count < k:
        return np.flatnonzero(sums > 0)
    largest = sums[: len(sums) // group_count * group_count].reshape(-1, group_count).max(axis=0)
    least = np.partition(largest, group_count - k)[group_count - k]  # k groups have a sum of this size
    return np.flatnonzero(sums >= least if least > 0 else sums > 0)


def _inside(sums: Array, band: Band) -> Array:
    return np.flatnonzero(band.holds(-sums) & (sums > 0))
