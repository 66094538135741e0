"""Inverted lists: vectors, or their codes, by nearest centroid.

Under a filter a search visits as many lists as are needed for nearly as many allowed rows as it would see without the
filter. The number is chosen per query, so a search reaches allowed rows in a region far from the query.
"""

from __future__ import annotations

import math
from typing import Any

import faiss
import numpy as np

from milvine.index.base import Effort, Found
from milvine.index.by_distance import padded
from milvine.index.scan import Array, bound_cosines, scan, unit
from milvine.index.stored_lists import StoredLists
from milvine.model.types import MetricType

COVER_EXPONENT = 0.3
"""This power of the share of allowed rows, times the rows of an unfiltered search, keeps its recall (measured)."""
MIN_SCANNED = 2000
"""Up to this many rows are scanned instead of choosing lists for them."""
_FLOAT_BYTES = 4
_TAKEN_SHARE = 0.05
"""Up to this share of the rows, a scan takes their vectors out of the lists and does not walk through the lists."""
_CELLS = 1 << 20
"""Allowed rows are counted for this many queries x lists at a time."""


def lists_target(effort: Effort, nlist: int, row_count: int, kept: int) -> float:
    """How many allowed rows to visit, if `kept` rows are allowed."""
    unfiltered = min(effort.nprobe / nlist, 1.0) * row_count
    return max(unfiltered * math.pow(kept / row_count, COVER_EXPONENT), effort.candidates)


class IvfIndex:
    """Lists read in place. faiss also copies SCANN's lists, which are small, to the heap.

    `payload` is the memory that faiss reads from; this object keeps it alive.
    """

    scan_by_key = None
    scan_band = None

    def __init__(self, index: Any, name: str, metric: MetricType, payload: Array) -> None:
        self._index = index
        self._metric = metric
        self._payload = payload  # set after the index, so that it is freed after it
        self.name = name
        self.row_count = int(index.ntotal)
        self.is_exact = isinstance(index, faiss.IndexIVFFlat)
        lists = index.invlists
        sizes = np.array([lists.list_size(number) for number in range(index.nlist)], np.int64)
        self._filled = np.flatnonzero(sizes)
        filled_sizes = sizes[self._filled]
        self._starts = np.cumsum(filled_sizes) - filled_sizes
        self._order = np.empty(self.row_count, np.int32)
        """The rows, list by list; `_starts` is where each of the `_filled` lists begins."""
        for number, start, size in zip(self._filled.tolist(), self._starts, filled_sizes, strict=True):
            self._order[start : start + size] = faiss.rev_swig_ptr(lists.get_ids(number), int(size))
        starts = np.concatenate(([0], np.cumsum(sizes)))
        self.lists = StoredLists(self._order, starts, self._ranked)
        self._list_starts = self._places_of_lists() if self.is_exact else None
        is_copied = isinstance(index, faiss.IndexIVFFastScan)
        self.heap_bytes = self._order.nbytes + (payload.nbytes if is_copied else 0)
        self.memory_bytes = payload.nbytes + self.heap_bytes

    def _places_of_lists(self) -> Array | None:
        """Where the vectors of each of the `_filled` lists begin in the payload; None if they are elsewhere."""
        lists = self._index.invlists
        base = self._payload.ctypes.data
        starts = [faiss.rev_swig_ptr(lists.get_codes(number), 1).ctypes.data - base for number in self._filled.tolist()]
        places = np.array(starts, np.int64)
        return places if ((places >= 0) & (places < self._payload.nbytes)).all() else None

    def _vectors_at(self, positions: Array) -> Array:
        """float32 (m, dim): the vectors at these positions in `_order`."""
        assert self._list_starts is not None
        width = _FLOAT_BYTES * self._index.d
        numbers = np.searchsorted(self._starts, positions, side="right") - 1
        firsts = self._list_starts[numbers] + (positions - self._starts[numbers]) * width
        # Lists begin at any byte, so whole vectors are taken, as plain memory.
        at_each_byte = np.ndarray(len(self._payload) - width + 1, f"V{width}", self._payload, strides=(1,))
        taken: Array = at_each_byte[firsts].view(np.float32).reshape(len(positions), self._index.d)
        return taken

    def _target(self, effort: Effort, kept: int) -> float:
        return lists_target(effort, int(self._index.nlist), self.row_count, kept)

    def scan_pays(self, effort: Effort, kept: int) -> bool:
        return kept <= max(MIN_SCANNED, self._target(effort, kept))

    def scan(self, queries: Array, k: int, mask: Array | None) -> tuple[Array, Array]:
        queries = self._prepared(queries)
        if mask is None or self._list_starts is None or np.count_nonzero(mask) > _TAKEN_SHARE * self.row_count:
            return self._probe(queries, k, self._index.nlist, mask)
        positions = np.flatnonzero(mask.take(self._order))
        is_cosine = self._metric is MetricType.COSINE
        metric = MetricType.IP if is_cosine else self._metric
        distances, places = scan(self._vectors_at(positions), None, queries, k, metric, None)
        if is_cosine:
            bound_cosines(distances)
            distances[places < 0] = np.inf
        rows = np.append(self._order[positions], -1)  # -1 is also the place of what is missing
        return distances, rows[places]

    def search(self, queries: Array, k: int, effort: Effort, mask: Array | None) -> Found:
        queries = self._prepared(queries)
        trusted = np.ones(len(queries), np.bool_)
        nprobe = min(effort.nprobe, self._index.nlist)
        if mask is None:
            distances, rows = self._probe(queries, k, nprobe, None)
            return Found(distances, rows, trusted, nprobe)
        kept = int(np.count_nonzero(mask))
        needed = self._needed_lists(queries, self._target(effort, kept), mask)
        needed = np.clip(needed, nprobe, self._index.nlist)
        # In steps of a quarter, so that queries with nearly the same need are searched together.
        steps = np.ceil(np.log(needed) / np.log(1.25))
        needed = np.minimum(np.ceil(1.25**steps).astype(np.int64), self._index.nlist)
        distances, rows = padded(len(queries), k)
        for count in np.unique(needed).tolist():
            some = needed == count
            distances[some], rows[some] = self._probe(queries[some], k, count, mask)
        return Found(distances, rows, trusted, int(needed.max()))

    def _ranked(self, query: Array, count: int) -> Array:
        lists: Array = self._index.quantizer.search(self._prepared(query), count)[1][0]
        return lists[lists >= 0]

    def _prepared(self, queries: Array) -> Array:
        return unit(queries) if self._metric is MetricType.COSINE else np.ascontiguousarray(queries)

    def _needed_lists(self, queries: Array, target: float, mask: Array) -> Array:
        """int64 (nq,): how many of the nearest lists hold `target` allowed rows."""
        counts = np.zeros(self._index.nlist, np.int64)
        in_lists = mask.take(self._order).view(np.uint8)
        counts[self._filled] = np.add.reduceat(in_lists, self._starts, dtype=np.int64)
        needed = np.empty(len(queries), np.int64)
        step = max(1, _CELLS // int(self._index.nlist))
        for start in range(0, len(queries), step):
            _, nearest = self._index.quantizer.search(queries[start : start + step], self._index.nlist)
            covered = np.cumsum(counts[nearest], axis=1)
            needed[start : start + step] = np.count_nonzero(covered < target, axis=1) + 1
        return needed

    def _probe(self, queries: Array, k: int, nprobe: int, mask: Array | None) -> tuple[Array, Array]:
        options = faiss.SearchParametersIVF(nprobe=nprobe)
        if mask is not None:
            bits = np.packbits(mask, bitorder="little")
            selector = faiss.IDSelectorBitmap(self.row_count, faiss.swig_ptr(bits))
            options.sel = selector
        distances, rows = self._index.search(queries, k, params=options)
        if self._metric is not MetricType.L2:
            np.negative(distances, out=distances)
        if self._metric is MetricType.COSINE:
            bound_cosines(distances)
        distances[rows < 0] = np.inf
        return distances, rows
