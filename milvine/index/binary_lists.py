"""Inverted lists of vectors of bits, by nearest centroid, which are vectors of bits themselves.

The vectors lie list by list, so a search compares a few long stretches of them. Under a filter it visits as many lists
as hold nearly as many allowed rows as it would see without the filter.
"""

from __future__ import annotations

from collections.abc import Mapping

import faiss
import numpy as np

from milvine.index.base import Array, Effort, Found
from milvine.index.by_distance import padded
from milvine.index.ivf import MIN_SCANNED, lists_target
from milvine.index.scan_binary import distances_to, scan
from milvine.index.stored_lists import StoredLists
from milvine.model.types import MetricType


def build_lists(vectors: Array, nlist: int, metric: MetricType) -> dict[str, Array]:
    """The arrays of an index over uint8 (n, bytes)."""
    nlist = min(nlist, len(vectors))
    vectors = np.ascontiguousarray(vectors)
    bits = 8 * vectors.shape[1]
    quantizer = faiss.IndexBinaryFlat(bits)
    index = faiss.IndexBinaryIVF(quantizer, bits, nlist)
    index.cp.min_points_per_centroid = 1  # no warning on stderr if there are few rows
    index.train(vectors)
    centroids = faiss.vector_to_array(quantizer.xb).reshape(-1, vectors.shape[1])
    owners = _owners(vectors, centroids, metric)
    order = np.argsort(owners, kind="stable").astype(np.int32)
    starts = np.zeros(len(centroids) + 1, np.int64)
    np.cumsum(np.bincount(owners, minlength=len(centroids)), out=starts[1:])
    return {"centroids": centroids, "starts": starts, "order": order, "vectors": vectors[order]}


def _owners(vectors: Array, centroids: Array, metric: MetricType) -> Array:
    """int64 (n,): the nearest centroid of each vector."""
    owners, nearest = np.zeros(len(vectors), np.int64), np.full(len(vectors), np.inf, np.float32)
    for number, centroid in enumerate(centroids):
        distances = distances_to(vectors, centroid, metric)
        is_nearer = distances < nearest
        owners[is_nearer], nearest[is_nearer] = number, distances[is_nearer]
    return owners


class BinaryLists:
    """Lists read in place from the arrays of `build_lists`."""

    is_exact = True
    scan_by_key = None
    scan_band = None

    def __init__(self, arrays: Mapping[str, Array], name: str, metric: MetricType, payload_bytes: int) -> None:
        self._centroids, self._starts = arrays["centroids"], arrays["starts"]
        self._order, self._vectors = arrays["order"], arrays["vectors"]
        """The row of each vector; list i is from `_starts[i]` to `_starts[i + 1]`."""
        self._metric = metric
        self.lists = StoredLists(self._order, self._starts, self._ranked)
        self.name = name
        self.row_count = len(self._order)
        self.heap_bytes = 0
        self.memory_bytes = payload_bytes

    def scan_pays(self, effort: Effort, kept: int) -> bool:
        return kept <= max(MIN_SCANNED, lists_target(effort, len(self._centroids), self.row_count, kept))

    def scan(self, queries: Array, k: int, mask: Array | None) -> tuple[Array, Array]:
        here = None if mask is None else mask[self._order]
        distances, places = scan(self._vectors, None, queries, k, self._metric, here)
        return distances, np.where(places >= 0, self._order[places], -1).astype(np.int64)

    def search(self, queries: Array, k: int, effort: Effort, mask: Array | None) -> Found:
        nlist = len(self._centroids)
        here = None if mask is None else mask[self._order]
        allowed = np.diff(self._starts)
        target = 0.0
        if here is not None:
            sums = np.concatenate(([0], np.cumsum(here, dtype=np.int64)))
            allowed = sums[self._starts[1:]] - sums[self._starts[:-1]]
            target = lists_target(effort, nlist, self.row_count, int(sums[-1]))
        distances, rows = padded(len(queries), k)
        most = nprobe = min(effort.nprobe, nlist)
        for number, query in enumerate(queries):
            ranked = self._ranked(query[None], nlist)
            needed = nprobe
            if here is not None:
                needed = max(needed, int(np.count_nonzero(np.cumsum(allowed[ranked]) < target)) + 1)
            most = max(most, min(needed, nlist))
            places, _ = self.lists.places(ranked[:needed])
            if here is not None:
                places = places[here[places]]
            near = distances_to(self._vectors.take(places, axis=0), query, self._metric)
            best = np.argpartition(near, k - 1)[:k] if k < len(near) else np.arange(len(near))
            best = best[np.argsort(near[best], kind="stable")]
            distances[number, : len(best)], rows[number, : len(best)] = near[best], self._order[places[best]]
        return Found(distances, rows, np.ones(len(queries), np.bool_), most)

    def _ranked(self, query: Array, count: int) -> Array:
        lists: Array = np.argsort(distances_to(self._centroids, query[0], self._metric), kind="stable")[:count]
        return lists


def check_arrays(arrays: Mapping[str, Array]) -> None:
    """Raises KeyError and ValueError if the arrays are not those of an index."""
    order, starts = arrays["order"], arrays["starts"]
    if len(order) != len(arrays["vectors"]) or len(starts) != len(arrays["centroids"]) + 1 or starts[-1] != len(order):
        raise ValueError("its arrays do not fit one another")
