"""The best rows of a BM25 query, found without reading the lists that cannot change them (known as MaxScore).

A list adds at most its bound to the score of a row. Once k rows have a score that the bounds of some lists together do
not reach, every hit is in one of the other lists. These are read; the rows that may still be hits are looked up in the
rest. Lists of frequent terms have low bounds, so the longest lists are seldom read.

Sums on the way are float32 in any order, and compared with a margin. The scores of the rows that remain are added by
ascending term, as `index.scan_terms` adds them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from milvine.index.base import Array
from milvine.index.sparse_kernels import add_joined, row_sums
from milvine.index.term_queries import TermQueries

_FEW = 2048
"""So many rows of all lists together are scored one by one."""
_PROBES = 256
"""So many rows of a list, its best ones, are scored first, to learn what a hit must reach."""
_LISTS_READ = 3
"""Lists that are read one by one. Where a hit may have only terms of later ones, those to be read are added up."""
_LOOKUP_COST = 4
"""How much longer it takes to look up a row in a list than to add a row of a list to the sums of all."""
_MOST = 0.8
"""Where this share of all values has to be read, adding up all lists takes no longer."""
_ROUNDING = 2.0**-22
"""For each term of a sum, more than float32 loses of it."""


class TermList:
    """The rows (int32, ascending) that have a term, and how often each has it. `lengths` are those of all rows."""

    __slots__ = ("_frequencies", "_lengths", "_queries", "_weight", "bound", "rows")

    def __init__(
        self,
        rows: Array,
        frequencies: Array,
        lengths: Array,
        shortest: np.float32,
        queries: TermQueries,
        weight: np.float32,
    ) -> None:
        self.rows, self._frequencies, self._lengths = rows, frequencies, lengths
        self._queries, self._weight = queries, weight
        largest = queries.impacts(frequencies.max(keepdims=True), np.array([shortest]))
        self.bound = float(largest[0] * weight)
        """What the term adds to a score at most. `shortest` is the least of the lengths."""

    def scores(self) -> Array:
        """float32: what the term adds to the score of each row of the list."""
        found = self._impacts(self.rows, self._frequencies)
        found *= self._weight
        return found

    def impacts(self, rows: Array) -> tuple[Array, Array]:
        """Which of the rows (ascending) have the term, and its impact on these."""
        places = self.rows.searchsorted(rows)
        known = np.flatnonzero(self.rows.take(places, mode="clip") == rows)
        return known, self._impacts(rows[known], self._frequencies.take(places[known]))

    def add_to(self, sums: Array, rows: Array) -> None:
        """Adds the scores of the rows (ascending) to their sums."""
        known, impacts = self.impacts(rows)
        sums[known] += impacts * self._weight

    def add_to_all(self, sums: Array) -> None:
        """Adds the scores to the sums of all rows of the index."""
        bounds = np.array([0, len(self.rows)], np.int32)
        impacts = self._impacts(self.rows, self._frequencies)
        add_joined(bounds, self.rows, impacts, np.array([self._weight]), sums)

    def sums_of_all(self) -> Array:
        """Zeros, one for each row of the index."""
        return np.zeros(len(self._lengths), np.float32)

    def _impacts(self, rows: Array, frequencies: Array) -> Array:
        return self._queries.impacts(frequencies, self._lengths.take(rows, mode="clip"))


def best_rows(lists: Sequence[TermList], weights: Array, k: int, mask: Array | None) -> tuple[Array, Array] | None:
    """Rows (ascending) of bool (n,) `mask`, among them the k with the highest scores, and their scores (float32).

    `lists` are those of the query's terms (at least one) by ascending term. None if the sums of all lists are found
    faster.
    """
    if sum(len(each.rows) for each in lists) <= _FEW:
        rows = _merged([each.rows for each in lists])
        rows = rows if mask is None else rows[mask.take(rows)]
    else:
        found = _Race(lists, k, mask).run()
        if found is None:
            return None
        rows = found
    return rows, _scores(lists, weights, rows)


class _Race:
    def __init__(self, lists: Sequence[TermList], k: int, mask: Array | None) -> None:
        self._ordered = sorted(lists, key=lambda each: -each.bound)
        self._size = sum(len(each.rows) for each in lists)
        self._k, self._mask = k, mask
        self._margin = 1 + (len(lists) + 4) * _ROUNDING
        bounds = np.array([each.bound for each in self._ordered] + [0.0])
        self._reach: list[float] = (np.cumsum(bounds[::-1])[::-1] * self._margin).tolist()
        """No row has more from the lists from number i on."""
        self._least = 0.0
        """At least k rows have this score."""

    def run(self) -> Array | None:
        """The rows that may be hits, ascending; None if most values would be read."""
        found: list[Array] = []
        for number, each in enumerate(self._ordered):
            if self._reach[number] < self._least:
                break
            scores = each.scores()
            if self._mask is not None:
                scores *= self._mask.take(each.rows)
            self._raise_least(scores)
            self._probe(number, scores)
            kept = np.flatnonzero((scores > 0) & (scores >= self._least - self._reach[number + 1]))
            if self._needed() > _LISTS_READ or _LOOKUP_COST * len(kept) > self._size:
                return self._added_up()
            found.append(self._completed(number, each.rows[kept], scores[kept]))
        return _merged(found)

    def _needed(self) -> int:
        """How many lists have to be read."""
        return next((i for i, reach in enumerate(self._reach) if reach < self._least), len(self._ordered))

    def _probe(self, number: int, scores: Array) -> None:
        """Completes the best scores of list `number`, if there are many others."""
        count = max(self._k, _PROBES)
        if len(scores) > 4 * count and number + 1 < len(self._ordered):
            best = np.argpartition(scores, len(scores) - count)[-count:]
            best = np.sort(best[scores[best] > 0])
            self._completed(number, self._ordered[number].rows[best], scores[best])

    def _added_up(self) -> Array | None:
        """As `run`, from sums of all lists that have to be read."""
        count = self._needed()
        read = self._ordered[:count]
        least = self._least - self._reach[count]
        if least <= 0 or sum(len(each.rows) for each in read) > _MOST * self._size:
            return None
        sums = read[0].sums_of_all()
        for each in read:
            each.add_to_all(sums)
        parts = [each.rows[sums.take(each.rows, mode="clip") >= least] for each in read]
        if _LOOKUP_COST * sum(map(len, parts)) > self._size:
            return None
        rows = _merged(parts)
        if self._mask is not None:
            rows = rows[self._mask.take(rows)]
        return self._completed(count - 1, rows, sums.take(rows))

    def _completed(self, number: int, rows: Array, sums: Array) -> Array:
        """Adds to sums of the lists up to `number` what the later ones add. Returns the rows that may be hits."""
        self._raise_least(sums)
        for later in range(number + 1, len(self._ordered)):
            kept = np.flatnonzero(sums >= self._least - self._reach[later])
            rows, sums = rows[kept], sums[kept]
            self._ordered[later].add_to(sums, rows)
            self._raise_least(sums)
        return rows[sums >= self._least]

    def _raise_least(self, sums: Array) -> None:
        """After scores of different rows were found to be at least these sums."""
        if len(sums) >= self._k:
            place = len(sums) - self._k
            self._least = max(self._least, float(np.partition(sums, place)[place]) / self._margin)


def _merged(parts: Sequence[Array]) -> Array:
    """The rows of all parts (at least one), ascending and each once."""
    rows = np.sort(np.concatenate(parts))
    return rows[np.concatenate(([True], rows[1:] != rows[:-1]))] if len(rows) else rows


def _scores(lists: Sequence[TermList], weights: Array, rows: Array) -> Array:
    """float32: the scores of the rows (ascending)."""
    impacts = np.zeros((len(rows), len(lists)), np.float32)
    for number, each in enumerate(lists):
        known, values = each.impacts(rows)
        impacts[known, number] = values
    offsets = np.arange(0, impacts.size + 1, len(lists), dtype=np.int32)
    places = np.tile(np.arange(len(lists), dtype=np.int32), len(rows))
    return row_sums(offsets, places, impacts.ravel(), weights)
