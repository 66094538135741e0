"""The k nearest rows of one segment for each query, one per key, in the order of distance and key.

The result of a segment may end among rows of equal distance, and copies of a key take up places. So a search asks for
one row more than it needs. If the order of the keys is still open, it asks for more and more rows, until the order is
known or all rows have been seen.

Each effort has one list, which does not depend on k, and an answer is its beginning; so pages never overlap. The list
starts with the first result of an index, in order. If that has too few keys, the list continues with the rows that
searches of more effort find beyond it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from milvine.index.by_distance import padded
from milvine.segment.rows import RowSet
from milvine.segment.topk import has_repeats, select_winners

Array = np.ndarray[Any, Any]


def is_plain(segment: RowSet, primary_field_id: int, distances: Array, rows: Array, k: int) -> bool:
    """Whether the first k of one query's rows (c,) are already its answer: there are k + 1 rows, and no distance and
    no key is repeated. TopKeys gives the same answer at ten times the cost."""
    if len(rows) <= k or rows.item(k) < 0:
        return False
    near = distances.tolist() if len(rows) == k + 1 else distances[: k + 1].tolist()
    if len(set(near)) <= k:
        return False
    return not segment.keys.has_repeats or not has_repeats(segment.column(primary_field_id).take(rows[:k]).values)


class TopKeys:
    """The beginnings of the lists of `nq` queries; distances and rows (nq, k), padded with inf and -1."""

    def __init__(self, rows: RowSet, primary_field_id: int, nq: int, k: int) -> None:
        self._keys = rows.column(primary_field_id)
        self._has_repeats = rows.keys.has_repeats
        self._k = k
        self.distances, self.rows = padded(nq, k)
        self.is_full: Array = np.zeros(nq, np.bool_)
        """bool (nq,): True for queries whose answer is complete."""

    @property
    def left(self) -> Array:
        return np.flatnonzero(~self.is_full)

    def forget(self, lines: Array) -> None:
        """Leaves these queries without rows."""
        self.distances[lines], self.rows[lines] = np.inf, -1

    def add(self, lines: Array, distances: Array, rows: Array, is_whole: Array, suffices: int | None = None) -> None:
        """Rows (m, c) found for the queries `lines`, nearest first, padded with inf and -1.

        `is_whole` bool (m,): these are all rows. Otherwise rows at the distance of the last one may be missing, and
        rows of that distance are left for the next search, unless `suffices` keys have been found.
        """
        if not len(lines):
            return
        plain = self._plain(lines, distances, rows, is_whole, suffices)
        count = min(self._k, distances.shape[1])
        some = lines[plain]
        self.distances[some, :count], self.rows[some, :count] = distances[plain, :count], rows[plain, :count]
        self.is_full[some] = True
        if not plain.all():
            others = ~plain
            self._merge(lines[others], distances[others], rows[others], is_whole[others], suffices)

    def _plain(self, lines: Array, distances: Array, rows: Array, is_whole: Array, suffices: int | None) -> Array:
        """bool (m,): where the rows are already the beginning of the list."""
        count, k = distances.shape[1], self._k
        head = distances[:, : k + 1]
        plain: Array = (head[:, 1:] > head[:, :-1]).all(axis=1) & (rows[:, min(k, count - 1)] >= 0)
        plain &= self.rows[lines, 0] < 0
        if count <= k and not (count == k and suffices is not None and count >= suffices):
            plain &= is_whole
        if self._has_repeats:
            for line in np.flatnonzero(plain).tolist():
                plain[line] = not has_repeats(self._keys.take(rows[line, :k]).values)
        return plain

    def _merge(self, lines: Array, distances: Array, rows: Array, is_whole: Array, suffices: int | None) -> None:
        valid = rows >= 0
        last = np.max(distances, axis=1, where=valid, initial=-np.inf)
        known, known_rows = self.distances[lines], self.rows[lines]
        known_counts = np.count_nonzero(known_rows >= 0, axis=1)
        ends = np.where(known_counts > 0, known[np.arange(len(lines)), np.maximum(known_counts, 1) - 1], np.nan)
        beyond = valid & ~(distances <= ends[:, None])
        query, place = np.nonzero(np.hstack((known_rows >= 0, beyond)))
        near, found = np.hstack((known, distances))[query, place], np.hstack((known_rows, rows))[query, place]
        # Later rows come last, so that the newest of equally near copies of a key wins.
        order = np.lexsort((found, query))
        query, near, found = query[order], near[order], found[order]
        winners, counts = select_winners(query, near, self._keys.take(found).values, len(lines), None)
        query, near, found = query[winners], near[winners], found[winners]
        stands = is_whole | (False if suffices is None else counts >= suffices)
        complete = stands[query] | (near < last[query])
        query, near, found = query[complete], near[complete], found[complete]
        counts = np.bincount(query, minlength=len(lines))
        rank = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
        first = rank < self._k
        places = lines[query[first]], rank[first]
        self.distances[places], self.rows[places] = near[first], found[first]
        self.is_full[lines] = is_whole | (counts >= self._k)
