"""An inverted index over the terms of texts, searched by BM25. It is `index.inverted` with the lengths of the rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from milvine.index import inverted
from milvine.index.base import Array, Effort, Found
from milvine.index.by_distance import Band, padded
from milvine.index.scan_sparse import put_nearest
from milvine.index.sparse_kernels import add_joined
from milvine.index.term_queries import TermQueries, TermStatistics, row_lengths
from milvine.model.sparse_vectors import SparseVectors


def build(vectors: SparseVectors) -> dict[str, Array]:
    """The arrays of `inverted.build`, and `lengths` (float32), how many terms each row has."""
    return {**inverted.build(vectors), "lengths": row_lengths(vectors)}


class TermIndex:
    """The arrays of `build`, read in place; threads share it."""

    is_exact = True

    def __init__(self, arrays: Mapping[str, Array], name: str, payload_bytes: int) -> None:
        self._terms, self._starts = arrays["terms"], arrays["starts"]
        self._rows, self._frequencies, self._lengths = arrays["rows"], arrays["values"], arrays["lengths"]
        self._length = float(self._lengths.sum(dtype=np.float64))
        self.name = name
        self.row_count = len(self._lengths)
        self.heap_bytes = 0
        self.memory_bytes = payload_bytes

    def statistics(self, terms: Array) -> TermStatistics:
        """Of all rows and these terms (ascending)."""
        frequencies = np.zeros(len(terms), np.int64)
        places, known = self._places(terms)
        frequencies[known] = self._starts[places] - self._starts[places + 1]
        return TermStatistics(self.row_count, self._length, frequencies)

    def scan_pays(self, effort: Effort, kept: int) -> bool:
        """Never: a search takes the time of its lists, whatever the filter keeps."""
        return False

    def scan(self, queries: TermQueries, k: int, mask: Array | None) -> tuple[Array, Array]:
        return self._search(queries, k, mask)

    def scan_band(self, queries: TermQueries, k: int, mask: Array | None, band: Band) -> tuple[Array, Array]:
        return self._search(queries, k, mask, band=band)

    def search(self, queries: TermQueries, k: int, effort: Effort, mask: Array | None) -> Found:
        distances, rows = self._search(queries, k, mask, effort.drop_ratio)
        return Found(distances, rows, np.ones(len(queries), np.bool_), effort.candidates, not effort.drop_ratio)

    def _search(
        self, queries: TermQueries, k: int, mask: Array | None, drop_ratio: float = 0.0, band: Band | None = None
    ) -> tuple[Array, Array]:
        """As `InvertedIndex.search`."""
        distances, found = padded(len(queries), k)
        allowed = None if mask is None else mask.astype(np.float32)
        sums = np.empty(self.row_count, np.float32)
        for number in range(len(queries)):
            query = queries.vectors[number : number + 1]
            sums.fill(0)
            self._add(queries, *inverted.largest(query.indices, query.values, drop_ratio), sums)
            if allowed is not None:
                np.multiply(sums, allowed, out=sums)
            put_nearest(sums, None, k, band, distances[number], found[number])
        return distances, found

    def _add(self, queries: TermQueries, terms: Array, weights: Array, sums: Array) -> None:
        places, known = self._places(terms)
        if len(places) == 0:
            return
        starts, ends = self._starts[places + 1].tolist(), self._starts[places].tolist()
        spans = [slice(start, end) for start, end in zip(starts, ends, strict=True)]
        rows = np.concatenate([self._rows[span] for span in spans])
        frequencies = np.concatenate([self._frequencies[span] for span in spans])
        bounds = np.zeros(len(spans) + 1, np.int32)
        np.cumsum([span.stop - span.start for span in spans], out=bounds[1:])
        impacts = queries.impacts(frequencies, self._lengths.take(rows))
        add_joined(bounds, rows, impacts, np.ascontiguousarray(weights[known]), sums)

    def _places(self, terms: Array) -> tuple[Array, Array]:
        """The places of the terms that the index has, and which these are."""
        if len(self._terms) == 0:
            return np.zeros(0, np.int64), np.zeros(len(terms), np.bool_)
        places = np.searchsorted(self._terms, terms)
        known = self._terms.take(places, mode="clip") == terms
        return places[known], known
