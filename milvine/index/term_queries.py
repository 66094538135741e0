"""Queries of a BM25 search: the terms of texts, their weights, and what the score of a row depends on.

A row's score is the sum over the query's terms of weight * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / mean)).
`tf` is how often the row has the term, `length` how many terms the row has, `mean` the mean length of all rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from milvine.index.base import Array
from milvine.model.records import record
from milvine.model.sparse_vectors import SparseVectors, empty_vectors


@record
class TermStatistics:
    """Of some rows, deleted ones included. `frequencies` int64: how many rows have each of some terms. `length`: how
    many terms all rows have."""

    row_count: int
    length: float
    frequencies: Array

    def __add__(self, other: TermStatistics) -> TermStatistics:
        return TermStatistics(
            self.row_count + other.row_count, self.length + other.length, self.frequencies + other.frequencies
        )


@record
class TermQueries:
    """The values of `vectors` are how often each query has a term, and after `weighed` their weights."""

    vectors: SparseVectors
    k1: float
    b: float
    average_length: float = 0.0

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: slice | Array) -> TermQueries:
        return replace(self, vectors=self.vectors[rows])

    def terms(self) -> Array:
        """The terms of all queries, each once and ascending."""
        found: Array = np.unique(self.vectors.indices)
        return found

    def weighed(self, statistics: TermStatistics) -> TermQueries:
        """Queries whose terms weigh the more, the fewer rows have them. `statistics` are those of `terms()`."""
        if not statistics.row_count or not statistics.length:
            return replace(self, vectors=empty_vectors(len(self)))
        rows = statistics.frequencies.astype(np.float64)
        idf = np.log(1 + (statistics.row_count - rows + 0.5) / (rows + 0.5)).astype(np.float32)
        places = np.searchsorted(self.terms(), self.vectors.indices)
        vectors = replace(self.vectors, values=self.vectors.values * idf[places])
        return replace(self, vectors=vectors, average_length=statistics.length / statistics.row_count)

    def impacts(self, frequencies: Array, lengths: Array) -> Array:
        """float32 (n,): what values of rows with these lengths add to the score for each unit of weight."""
        k1 = np.float32(self.k1)
        factor = np.float32(self.k1 * self.b / self.average_length) if self.average_length else np.float32(0)
        found = lengths * factor
        found += np.float32(self.k1 * (1 - self.b))
        found += frequencies
        np.divide(frequencies, found, out=found)
        found *= k1 + np.float32(1)
        return found


def row_lengths(vectors: SparseVectors) -> Array:
    """float32 (n,): how many terms each row has."""
    ends = np.zeros(len(vectors.values) + 1, np.float64)
    np.cumsum(vectors.values, dtype=np.float64, out=ends[1:])
    lengths: Array = np.diff(ends[vectors.offsets]).astype(np.float32)
    return lengths
