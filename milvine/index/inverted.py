"""An inverted index over sparse vectors: for each index of the vectors the rows that have it, with their values.

A search adds the lists of its query into one sum per row, so it is exact, and takes the time that these lists take. The
lists lie in descending order of their index, which `sparse_kernels` needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from milvine.index.base import Array, KeyCodes
from milvine.index.by_distance import Band, padded
from milvine.index.scan_sparse import nearest_by_key, put_nearest
from milvine.index.sparse_kernels import MAX_VALUES, add_lists, by_place
from milvine.model.sparse_vectors import SparseVectors

_TABLE_SIZE = 1 << 26
"""Below this index the lists are counted in a table instead of sorting all indices."""


def build(vectors: SparseVectors) -> dict[str, Array]:
    """The arrays of an index: `terms` (uint32, ascending), `starts` (int64, one more than terms, descending), `rows`
    (int32) and `values` (float32). The list of term i is from `starts[i + 1]` to `starts[i]`."""
    if len(vectors.values) > MAX_VALUES:
        raise ValueError(f"an index cannot hold {len(vectors.values)} values")
    terms, places = _numbered(vectors.indices)
    backwards = np.subtract(len(terms) - 1, places, dtype=np.int32)
    starts, rows, values = by_place(vectors.offsets.astype(np.int32), backwards, vectors.values, len(terms))
    return {
        "terms": terms,
        "starts": starts[::-1].astype(np.int64),
        "rows": rows,
        "values": values,
        "row_count": np.array([len(vectors)], np.int64),
    }


def _numbered(indices: Array) -> tuple[Array, Array]:
    """The distinct indices, ascending, and the place (int32) of each index among them."""
    if len(indices) and int(indices.max()) < _TABLE_SIZE:
        is_there = np.zeros(int(indices.max()) + 1, np.bool_)
        is_there[indices] = True
        return np.flatnonzero(is_there).astype(np.uint32), (np.cumsum(is_there, dtype=np.int32) - 1).take(indices)
    terms, places = np.unique(indices, return_inverse=True)
    return terms, places.astype(np.int32)


class InvertedIndex:
    """The arrays of `build`, read in place; threads share it."""

    is_exact = True

    def __init__(self, arrays: Mapping[str, Array], name: str) -> None:
        self._terms, self._starts = arrays["terms"], arrays["starts"]
        self._rows, self._values = arrays["rows"], arrays["values"]
        self.name = name
        self.row_count = int(arrays["row_count"][0])
        self.heap_bytes = 0
        self.memory_bytes = sum(array.nbytes for array in arrays.values())

    def scan(self, queries: SparseVectors, k: int, mask: Array | None) -> tuple[Array, Array]:
        """The nearest k rows of bool (n,) `mask`, exactly."""
        return self.search(queries, k, mask)

    def search(
        self, queries: SparseVectors, k: int, mask: Array | None, drop_ratio: float = 0.0, band: Band | None = None
    ) -> tuple[Array, Array]:
        """The nearest k rows of `mask` inside `band`, for float32 distances and int64 rows (nq, k).

        They are exact unless `drop_ratio` leaves out that share of each query's smallest values. Then the rows are only
        candidates, whose distances the caller takes from the vectors.
        """
        distances, found = padded(len(queries), k)
        for number, sums in enumerate(self._sums(queries, mask, drop_ratio)):
            put_nearest(sums, None, k, band, distances[number], found[number])
        return distances, found

    def scan_by_key(self, queries: SparseVectors, k: int, mask: Array | None, codes: KeyCodes) -> tuple[Array, Array]:
        distances, found = padded(len(queries), k)
        for number, sums in enumerate(self._sums(queries, mask, 0.0)):
            near, rows = nearest_by_key(sums, None, k, codes)
            distances[number, : len(near)], found[number, : len(near)] = near, rows
        return distances, found

    def _sums(self, queries: SparseVectors, mask: Array | None, drop_ratio: float) -> Iterator[Array]:
        """The inner products of all rows, zero outside the mask, with each query in turn; in one array."""
        allowed = None if mask is None else mask.astype(np.float32)
        sums = np.empty(self.row_count, np.float32)
        for number in range(len(queries)):
            query = queries[number : number + 1]
            sums.fill(0)
            self._add(*largest(query.indices, query.values, drop_ratio), sums)
            if allowed is not None:
                np.multiply(sums, allowed, out=sums)
            yield sums

    def _add(self, indices: Array, weights: Array, sums: Array) -> None:
        if len(self._terms) == 0:
            return
        places = np.searchsorted(self._terms, indices)
        known = self._terms.take(places, mode="clip") == indices
        places = places[known]
        add_lists(self._starts[places + 1], self._starts[places], self._rows, self._values, weights[known], sums)


def largest(indices: Array, values: Array, drop_ratio: float) -> tuple[Array, Array]:
    """The terms of a query without that share of the smallest values, as in knowhere: all of equal values stay."""
    dropped = int(np.float32(drop_ratio) * np.float32(len(values)))
    if dropped == 0:
        return indices, values
    kept = values >= np.partition(values, dropped)[dropped]
    return indices[kept], values[kept]
