"""HNSW graphs, over the vectors themselves or over codes of them.

faiss's own selector visits as many nodes as an unfiltered search does, and does not report how many were allowed. So a
filtered search here asks for all `ef` rows that the graph finds and keeps the allowed ones. Their number shows how good
the answer is, even if the filter leaves only a region far from the query.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import faiss
import numpy as np

from milvine.index.base import Effort, Found
from milvine.index.by_distance import padded
from milvine.index.scan import Array, bound_cosines, first_of, scan, unit
from milvine.model.types import MetricType

EFFORT_EXPONENT, EFFORT_FACTOR = 0.7, 1.15
"""ef grows by 1.15 * share ** -0.7: less than the number of allowed rows falls, since recall grows with the rank
(measured)."""
TRUSTED_SHARE = 0.5
"""An answer is trusted if this fraction of the requested ef was found among the allowed rows."""
SCANNED_PER_EDGE = 1.2
"""A scan reads this many rows in the time that one unit of ef takes, per edge of a node (measured at 128 and 768
dimensions, with which both grow alike)."""
_CELLS = 1 << 21
_TRUSTED = np.ones(1, np.bool_)
_TRUSTED.flags.writeable = False


@lru_cache(maxsize=256)
def options(ef: int) -> Any:
    """faiss only reads the parameters, so threads share them."""
    return faiss.SearchParametersHNSW(efSearch=ef)


class HnswIndex:
    """A graph read in place. `payload` is the memory that faiss reads from; this object keeps it alive."""

    scan_by_key = None
    scan_band = None
    lists = None

    def __init__(
        self, index: Any, name: str, metric: MetricType, payload: Array, heap_bytes: int | None = None
    ) -> None:
        """`heap_bytes`: what is held beside a payload that is never resident; None if the payload is all."""
        self._index = index
        self._metric = metric
        self._payload = payload  # set after the index, so that it is freed after it
        self.name = name
        self.row_count = int(index.ntotal)
        self.memory_bytes = payload.nbytes if heap_bytes is None else heap_bytes
        self.heap_bytes = heap_bytes or 0
        self._edges = int(index.hnsw.nb_neighbors(0))
        self._open_vectors()

    def _open_vectors(self) -> None:
        storage = faiss.downcast_index(self._index.storage)
        self.is_exact = isinstance(storage, faiss.IndexFlat)
        if self.is_exact:
            # A view into our own buffer, since one made from faiss's pointer would not keep the mapping alive.
            start = faiss.rev_swig_ptr(storage.get_xb(), 1).ctypes.data - self._payload.ctypes.data
            flat = self._payload[start : start + self.row_count * self._index.d * 4].view(np.float32)
            self.vectors: Array = flat.reshape(self.row_count, self._index.d)
            """float32 (n, dim), a view; unit vectors under COSINE."""

    def _ef(self, effort: Effort, kept: int) -> int:
        share = kept / self.row_count
        return min(int(EFFORT_FACTOR * effort.ef / share**EFFORT_EXPONENT), self.row_count)

    def scan_pays(self, effort: Effort, kept: int) -> bool:
        return kept <= SCANNED_PER_EDGE * self._edges * self._ef(effort, kept)

    def scan(self, queries: Array, k: int, mask: Array | None) -> tuple[Array, Array]:
        if self._metric is MetricType.COSINE:
            distances, rows = scan(self.vectors, None, unit(queries), k, MetricType.IP, mask)
            bound_cosines(distances)
            distances[rows < 0] = np.inf
            return distances, rows
        return scan(self.vectors, None, queries, k, self._metric, mask)

    def search(self, queries: Array, k: int, effort: Effort, mask: Array | None) -> Found:
        if self._metric is MetricType.COSINE:
            queries = unit(queries)
        nq = len(queries)
        if mask is None:
            ef = max(min(effort.ef, self.row_count), k)
            distances, rows = self._nearest(queries, k, ef)
            return Found(distances, rows, _TRUSTED if nq == 1 else np.ones(nq, np.bool_), ef)
        kept = int(np.count_nonzero(mask))
        ef = max(self._ef(effort, kept), k)
        distances, rows = padded(nq, k)
        trusted = np.zeros(nq, np.bool_)
        # Where too few rows were allowed, increase ef while that is cheaper than a scan.
        while True:
            left = np.flatnonzero(~trusted)
            step = max(1, _CELLS // ef)
            for start in range(0, len(left), step):
                some = left[start : start + step]
                found = self._nearest(queries[some], ef, ef)
                allowed = mask[found[1]] & (found[1] >= 0)
                distances[some], rows[some] = first_of(*found, allowed, k)
                trusted[some] = allowed.sum(axis=1) >= min(TRUSTED_SHARE * effort.ef, kept)
            harder = 4 * ef
            if trusted.all() or kept <= SCANNED_PER_EDGE * self._edges * harder:
                return Found(distances, rows, trusted, ef)
            ef = harder

    def _nearest(self, queries: Array, k: int, ef: int) -> tuple[Array, Array]:
        queries = np.ascontiguousarray(queries)
        distances, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        # faiss's `search` wraps this. Its checks are already done, and cost a twentieth of a search.
        where = faiss.swig_ptr(distances), faiss.swig_ptr(rows)
        self._index.search_c(len(queries), faiss.swig_ptr(queries), k, *where, options(ef))
        if self._metric is not MetricType.L2:
            np.negative(distances, out=distances)
        if self._metric is MetricType.COSINE:
            bound_cosines(distances, ascending=True)
        if len(rows) != 1 or rows.item(-1) < 0:  # saves the usual search two array calls
            distances[rows < 0] = np.inf
        return distances, rows
