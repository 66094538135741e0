"""An index over the rows of a segment that have a vector."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from milvine.index.base import Effort, Found, KeyCodes, Lists, VectorIndex
from milvine.index.by_distance import Band
from milvine.index.scan import Array


class PartialIndex:
    """Takes and returns row offsets of the segment; the inner index has only the valid rows. Masks allow only those."""

    def __init__(self, index: VectorIndex, validity: Array) -> None:
        self._index = index
        self._places = np.flatnonzero(validity).astype(np.int32)
        """The segment's row of each row of the index."""
        self.name = index.name
        self.row_count = index.row_count
        self.is_exact = index.is_exact
        self.scan_by_key = None if index.scan_by_key is None else self._scan_by_key
        self.scan_band = None if index.scan_band is None else self._scan_band
        self.lists = None if index.lists is None else _PartialLists(index.lists, self._places)
        self.heap_bytes = index.heap_bytes + self._places.nbytes
        self.memory_bytes = index.memory_bytes + self._places.nbytes

    def scan_pays(self, effort: Effort, kept: int) -> bool:
        return self._index.scan_pays(effort, kept)

    def search(self, queries: Any, k: int, effort: Effort, mask: Array | None) -> Found:
        found = self._index.search(queries, k, effort, self._within(mask))
        return replace(found, rows=self._outside(found.rows))

    def scan(self, queries: Any, k: int, mask: Array | None) -> tuple[Array, Array]:
        distances, rows = self._index.scan(queries, k, self._within(mask))
        return distances, self._outside(rows)

    def _scan_by_key(self, queries: Any, k: int, mask: Array | None, codes: KeyCodes) -> tuple[Array, Array]:
        assert self._index.scan_by_key is not None

        def inner_codes(rows: Array) -> Array:
            return codes(self._places[rows])

        distances, rows = self._index.scan_by_key(queries, k, self._within(mask), inner_codes)
        return distances, self._outside(rows)

    def _scan_band(self, queries: Any, k: int, mask: Array | None, band: Band) -> tuple[Array, Array]:
        assert self._index.scan_band is not None
        distances, rows = self._index.scan_band(queries, k, self._within(mask), band)
        return distances, self._outside(rows)

    def _within(self, mask: Array | None) -> Array | None:
        """The mask over the rows of the inner index; None if it allows all of them."""
        if mask is None or int(np.count_nonzero(mask)) == len(self._places):
            return None
        return mask.take(self._places)

    def _outside(self, rows: Array) -> Array:
        mapped: Array = np.where(rows >= 0, self._places[rows], -1).astype(np.int64)
        return mapped


class _PartialLists:
    def __init__(self, lists: Lists, places: Array) -> None:
        self._lists, self._places = lists, places
        self.count = lists.count

    def ranked(self, query: Any, count: int) -> Array:
        return self._lists.ranked(query, count)

    def rows_of(self, lists: Array) -> tuple[Array, Array]:
        rows, sizes = self._lists.rows_of(lists)
        return self._places[rows], sizes
