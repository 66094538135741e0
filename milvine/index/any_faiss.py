"""Any index of faiss, over numbers or bits, of which only its search is known.

Not all of them take a filter, so a filtered search asks for more rows and keeps the allowed ones.
"""

from __future__ import annotations

import math
from typing import Any

import faiss
import numpy as np

from milvine.index.base import Effort, Found
from milvine.index.by_distance import padded
from milvine.index.scan import Array, first_of, unit
from milvine.model.types import MetricType

MORE_ASKED = 1.5
"""A filtered search asks for this many times the rows that would do if the allowed ones were spread evenly."""
SCANNED_SHARE = 0.1
"""With fewer allowed rows than this fraction, a scan of them is preferred."""


class AnyFaissIndex:
    """`payload` is the memory that faiss may read from; this object keeps it alive."""

    is_exact = False
    scan_by_key = None
    scan_band = None
    lists = None

    def __init__(self, index: Any, name: str, metric: MetricType, payload: Array) -> None:
        self._index = index
        self._metric = metric
        self._payload = payload  # set after the index, so that it is freed after it
        self.name = name
        self.row_count = int(index.ntotal)
        # Some classes are read in place and others copied.
        self.heap_bytes = payload.nbytes
        self.memory_bytes = 2 * payload.nbytes

    def scan_pays(self, effort: Effort, kept: int) -> bool:
        return kept < max(effort.candidates, SCANNED_SHARE * self.row_count)

    def search(self, queries: Array, k: int, effort: Effort, mask: Array | None) -> Found:
        queries = unit(queries) if self._metric is MetricType.COSINE else np.ascontiguousarray(queries)
        options = search_options(self._index, effort)
        if mask is None:
            distances, rows = self._nearest(queries, k, options)
            return Found(distances, rows, np.ones(len(queries), np.bool_), k)
        kept = int(np.count_nonzero(mask))
        wanted = max(k, effort.candidates)
        asked = min(math.ceil(MORE_ASKED * wanted * self.row_count / max(kept, 1)), self.row_count)
        found = self._nearest(queries, asked, options)
        allowed = mask[found[1]] & (found[1] >= 0)
        distances, rows = first_of(*found, allowed, k)
        return Found(distances, rows, allowed.sum(axis=1) >= min(wanted, kept), asked)

    def scan(self, queries: Array, k: int, mask: Array | None) -> tuple[Array, Array]:
        raise NotImplementedError

    def _nearest(self, queries: Array, k: int, options: Any) -> tuple[Array, Array]:
        distances, rows = padded(len(queries), k)
        asked = min(k, self.row_count)
        distances[:, :asked], rows[:, :asked] = self._index.search(queries, asked, params=options)
        if self._metric.larger_is_nearer:
            np.negative(distances, out=distances)
        distances[rows < 0] = np.inf
        return distances, rows


def search_options(index: Any, effort: Effort) -> Any:
    """faiss's parameters of a search; None if an index of this class has none."""
    if isinstance(index, faiss.IndexPreTransform):
        inner = search_options(faiss.downcast_index(index.index), effort)
        return None if inner is None else faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(index, faiss.IndexRefine):
        inner = search_options(faiss.downcast_index(index.base_index), effort)
        # The refined vectors are those of the column, so only the rows that are found matter, not their order.
        return faiss.IndexRefineSearchParameters(k_factor=1.0, base_index_params=inner)
    if isinstance(index, faiss.IndexIVF | faiss.IndexBinaryIVF):
        return faiss.SearchParametersIVF(nprobe=min(effort.nprobe, index.nlist))
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(efSearch=effort.ef)
    return None
