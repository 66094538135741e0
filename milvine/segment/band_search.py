"""The rows inside a band of distances, found in an index of inverted lists.

As in Milvus, lists are visited in the order of their centroids until some in a row (`max_empty_result_buckets`) hold no
row nearer than the far end of the band; but at least as many are visited as a search without a band would visit. A
search for k rows needs only the k nearest of the band, so the k-th of them becomes the far end. An iterator goes on
behind its k-th row, so for its steps the whole band counts: they all visit the same lists, and together they return
every row of them.

The index names the nearest rows of the first lists. The distances of the rows of further lists, and of all if these
rows do not show the whole band, are computed from the column.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from milvine.index.base import Array, Lists, VectorIndex
from milvine.model.records import record
from milvine.segment.collect import TopKeys
from milvine.segment.plans import SearchPlan
from milvine.segment.query_threads import in_threads
from milvine.segment.rows import RowSet
from milvine.segment.topk import key_ranks

_MORE_ASKED = 4
MEASURED_SHARE = 0.05
"""Beyond this fraction of the rows, taking some of them out of the column costs more than scanning all."""


@record
class _Found:
    """Distances float32 (n,) and rows int64 (n,) inside the band, nearest first, and how many lists were visited."""

    distances: Array
    rows: Array
    visited: int


def search_lists(
    top: TopKeys, rows: RowSet, index: VectorIndex, lists: Lists, plan: SearchPlan, mask: Array | None
) -> int:
    """Completes the queries of `top` except those for which a scan of all rows costs less. Returns how many lists were
    visited for one query at most."""

    def walked(queries: Any) -> list[_Found | None]:
        return [_Walk(rows, index, lists, plan, queries[n : n + 1], mask).run() for n in range(len(queries))]

    most = 0
    for number, found in enumerate(itertools.chain.from_iterable(in_threads(plan.queries, walked))):
        if found is None:
            continue
        most = max(most, found.visited)
        if not rows.keys.has_repeats:
            near, nearest = _by_key(rows, plan, found)
            top.distances[number, : len(near)], top.rows[number, : len(near)] = near, nearest
            top.is_full[number] = True
            continue
        line = np.array([number])
        for size in (_MORE_ASKED * (plan.k + 1), len(found.rows)):
            if len(found.rows) and not top.is_full[number]:
                is_whole = np.array([size >= len(found.rows)])
                top.add(line, found.distances[None, :size], found.rows[None, :size], is_whole)
        top.is_full[number] = True
    return most


def _by_key(rows: RowSet, plan: SearchPlan, found: _Found) -> tuple[Array, Array]:
    """The first k distances and rows, in the order of the key where distances are equal. No key is repeated."""
    near, nearest = found.distances[: plan.k + 1], found.rows[: plan.k]
    if (near[1:] > near[:-1]).all():
        return near[: plan.k], nearest
    count = int(np.searchsorted(found.distances, near[: plan.k][-1], side="right"))
    near, nearest = found.distances[:count], found.rows[:count]
    keys = rows.column(plan.primary_field_id).take(nearest).values
    order = np.lexsort((keys if isinstance(keys, np.ndarray) else key_ranks(keys), near))[: plan.k]
    return near[order], nearest[order]


class _Walk:
    def __init__(
        self, rows: RowSet, index: VectorIndex, lists: Lists, plan: SearchPlan, query: Any, mask: Array | None
    ) -> None:
        assert plan.band is not None
        self._index, self._lists, self._plan, self._query, self._mask = index, lists, plan, query, mask
        self._vectors, _ = rows.vectors(plan.field_id)
        self._row_count = rows.row_count
        self._most = MEASURED_SHARE * rows.row_count
        self._band, self._far = plan.band, plan.band.high
        # Copies of a key are removed later, so that more than k rows may be needed.
        self._needed = None if plan.wants_whole_band or rows.keys.has_repeats else plan.k
        self._distances, self._rows = np.empty(0, np.float32), np.empty(0, np.int64)
        """All rows of the visited lists that are nearer than the far end, nearest first."""
        self._hits = np.empty(0, np.int64)
        """Which of the visited lists, in the order of the visits, hold some of them."""
        self._ranked = np.empty(0, np.int64)

    def run(self) -> _Found | None:
        first, is_covered = self._ask()
        visited, measured = 0, 0
        if is_covered:
            visited = first
            start = max(0, first - self._plan.effort.max_empty)
            self._hits = np.array([start - 1])  # only the last of the first lists can end the search
            self._note_hits(*self._lists.rows_of(self._nearest(start, first)), start)
        while visited < self._lists.count and not self._is_done(visited, first):
            count = max(self._plan.effort.max_empty, visited // 2) if visited else first
            lists = self._nearest(visited, visited + count)
            some, sizes = self._lists.rows_of(lists)
            allowed = some if self._mask is None else some[self._mask[some]]
            measured += len(allowed)
            if measured > self._most:
                return None
            self._keep(*self._measured(allowed))
            self._note_hits(some, sizes, visited)
            visited += len(lists)
        start = int(np.searchsorted(self._distances, self._band.low))
        return _Found(self._distances[start:], self._rows[start:], visited)

    def _ask(self) -> tuple[int, bool]:
        """Lets the index name the nearest rows of the first lists. Returns the number of these lists, and whether the
        rows are all that are nearer than the far end."""
        effort = self._plan.effort
        wanted = max(effort.candidates, self._plan.k + 1)
        while True:
            found = self._index.search(self._query, min(wanted, self._row_count), effort, self._mask)
            near, rows = self._measured(found.rows[0])
            count = len(near)
            self._distances, self._rows = near[:0], rows[:0]
            self._keep(near, rows)
            nearer = len(self._distances)
            if found.rows[0, -1] < 0 or (nearer < count and (self._index.is_exact or 2 * nearer <= count)):
                return found.effort, True
            wanted *= _MORE_ASKED
            if wanted > self._most:
                self._distances, self._rows = near[:0], rows[:0]
                return found.effort, False

    def _measured(self, rows: Array) -> tuple[Array, Array]:
        plan = self._plan
        distances, found = plan.exact.exact_distances(self._vectors, self._query, rows[None], len(rows), plan.metric)
        count = int(np.count_nonzero(found[0] >= 0))
        return distances[0, :count], found[0, :count]

    def _keep(self, distances: Array, rows: Array) -> None:
        """Adds rows that come nearest first."""
        if len(self._rows):
            distances, rows = np.append(self._distances, distances), np.append(self._rows, rows)
            order = np.argsort(distances, kind="stable")
            distances, rows = distances[order], rows[order]
        if self._needed is not None:
            last = int(np.searchsorted(distances, self._band.low)) + self._needed - 1
            if last < len(distances):
                self._far = min(self._far, np.nextafter(distances[last], np.float32(np.inf)))
        count = int(np.searchsorted(distances, self._far))
        self._distances, self._rows = distances[:count], rows[:count]

    def _note_hits(self, rows: Array, sizes: Array, visited: int) -> None:
        is_hit = np.zeros(self._row_count, np.bool_)
        is_hit[self._rows] = True
        sums = np.concatenate(([0], np.cumsum(is_hit[rows])))
        ends = np.cumsum(sizes)
        self._hits = np.append(self._hits, visited + np.flatnonzero(sums[ends] > sums[ends - sizes]))

    def _is_done(self, visited: int, first: int) -> bool:
        """Whether some lists in a row had no hit. The search could have ended there, but not before `first` lists."""
        if not self._plan.effort.max_empty or not visited:
            return False
        starts, ends = np.append(0, self._hits + 1), np.append(self._hits, visited)
        done: bool = (np.maximum(starts + self._plan.effort.max_empty, first) <= ends).any()
        return done

    def _nearest(self, start: int, stop: int) -> Array:
        if stop > len(self._ranked):
            self._ranked = self._lists.ranked(self._query, min(2 * stop, self._lists.count))
        return self._ranked[start:stop]
