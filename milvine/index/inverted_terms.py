"""An inverted index over the terms of texts, searched by BM25. It is `index.inverted` with the lengths of the rows.

A search for the nearest rows reads the lists of the rarer terms and looks rows up in the others (`index.best_rows`). A
search by a range, and one that has to read most of its lists, adds them all into one sum per row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from milvine.index import inverted
from milvine.index.base import Array, Effort, Found, KeyCodes
from milvine.index.best_rows import TermList, best_rows
from milvine.index.by_distance import Band, padded
from milvine.index.scan_sparse import nearest_by_key, put_nearest
from milvine.index.sparse_kernels import add_joined
from milvine.index.term_queries import TermQueries, TermStatistics, row_lengths
from milvine.model.sparse_vectors import SparseVectors


def build(vectors: SparseVectors) -> dict[str, Array]:
    """The arrays of `inverted.build`, and `lengths` (float32), how many terms each row has."""
    return {**inverted.build(vectors), "lengths": row_lengths(vectors)}


class TermIndex:
    """The arrays of `build`, read in place; threads share it."""

    is_exact = True
    lists = None

    def __init__(self, arrays: Mapping[str, Array], name: str, payload_bytes: int) -> None:
        self._terms, self._starts = arrays["terms"], arrays["starts"]
        self._rows, self._frequencies, self._lengths = arrays["rows"], arrays["values"], arrays["lengths"]
        self._length = float(self._lengths.sum(dtype=np.float64))
        self._shortest = np.float32(self._lengths.min(initial=np.inf, where=self._lengths > 0))
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

    def scan_by_key(self, queries: TermQueries, k: int, mask: Array | None, codes: KeyCodes) -> tuple[Array, Array]:
        distances, found = padded(len(queries), k)
        for number, (sums, some) in enumerate(self._scores(queries, k, mask, 0.0)):
            near, rows = nearest_by_key(sums, some, k, codes)
            distances[number, : len(near)], found[number, : len(near)] = near, rows
        return distances, found

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
        for number, (sums, rows) in enumerate(self._scores(queries, k if band is None else None, mask, drop_ratio)):
            put_nearest(sums, rows, k, band, distances[number], found[number])
        return distances, found

    def _scores(
        self, queries: TermQueries, k: int | None, mask: Array | None, drop_ratio: float
    ) -> Iterator[tuple[Array, Array | None]]:
        """For each query the scores of some rows of the mask, ascending, among them all that are as near as the k-th
        nearest; or of all rows, zero outside the mask, in one array for all queries. Without `k`, of all rows."""
        sums: Array | None = None
        for number in range(len(queries)):
            query = queries.vectors[number : number + 1]
            spans, weights = self._spans(*inverted.largest(query.indices, query.values, drop_ratio))
            if not spans:
                yield np.zeros(0, np.float32), np.zeros(0, np.int32)
                continue
            best = None if k is None else best_rows(self._lists(queries, spans, weights), weights, k, mask)
            if best is not None:
                rows, scores = best
                yield scores, rows
                continue
            sums = np.empty(self.row_count, np.float32) if sums is None else sums
            self._add(queries, spans, weights, sums)
            if mask is not None:
                np.multiply(sums, mask, out=sums)
            yield sums, None

    def _spans(self, terms: Array, weights: Array) -> tuple[list[slice], Array]:
        """The lists of the terms that the index has, and their weights."""
        places, known = self._places(terms)
        starts, ends = self._starts[places + 1].tolist(), self._starts[places].tolist()
        return [slice(start, end) for start, end in zip(starts, ends, strict=True)], np.ascontiguousarray(
            weights[known]
        )

    def _lists(self, queries: TermQueries, spans: Sequence[slice], weights: Array) -> list[TermList]:
        return [
            TermList(self._rows[span], self._frequencies[span], self._lengths, self._shortest, queries, weight)
            for span, weight in zip(spans, weights, strict=True)
        ]

    def _add(self, queries: TermQueries, spans: Sequence[slice], weights: Array, sums: Array) -> None:
        """Sets the sums to the scores of all rows."""
        sums.fill(0)
        rows = np.concatenate([self._rows[span] for span in spans])
        frequencies = np.concatenate([self._frequencies[span] for span in spans])
        bounds = np.zeros(len(spans) + 1, np.int32)
        np.cumsum([span.stop - span.start for span in spans], out=bounds[1:])
        impacts = queries.impacts(frequencies, self._lengths.take(rows))
        add_joined(bounds, rows, impacts, weights, sums)

    def _places(self, terms: Array) -> tuple[Array, Array]:
        """The places of the terms that the index has, and which these are."""
        if len(self._terms) == 0:
            return np.zeros(0, np.int64), np.zeros(len(terms), np.bool_)
        places = np.searchsorted(self._terms, terms)
        known = self._terms.take(places, mode="clip") == terms
        return places[known], known
