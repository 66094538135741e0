"""Exact nearest rows by looking at all of them.

Distances come out smaller-is-nearer: squared L2, and the negative of the inner product and of the cosine.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from milvine.model.types import MetricType

Array = np.ndarray[Any, Any]
_BLOCK_BYTES = 64 << 20
_MARGIN = 16
"""Candidates beyond k that L2's expansion |x|2 - 2xq + |q|2 may confuse; they are measured again directly."""


def squared_norms(vectors: Array) -> Array:
    """float32 (n,) of float32 (n, dim)."""
    result: Array = np.einsum("ij,ij->i", vectors, vectors)
    return result


def unit(vectors: Array) -> Array:
    """Rows scaled to length 1; a zero row stays zero."""
    norms = np.sqrt(squared_norms(vectors))
    norms[norms == 0] = 1
    scaled: Array = vectors / norms[:, None]
    return scaled


def scan(
    vectors: Array, norms2: Array | None, queries: Array, k: int, metric: MetricType, mask: Array | None
) -> tuple[Array, Array]:
    """Exact top k of float32 vectors (n, dim) for queries (nq, dim).

    `norms2` are the squared norms, computed here if None; `mask` bool (n,) limits the rows. Returns distances
    (nq, k) float32 and row offsets (nq, k) int64, nearest first, padded with inf and -1.
    """
    offsets: Array | None = None
    if mask is not None:
        kept = int(np.count_nonzero(mask))
        if kept == 0:
            return padded(len(queries), k)
        if kept < len(vectors) // 2:
            offsets = np.flatnonzero(mask)
            vectors = vectors[offsets]
            norms2 = None if norms2 is None else norms2[offsets]
            mask = None
    if metric is MetricType.COSINE:
        queries = unit(queries)
    if norms2 is None and metric is not MetricType.IP:
        norms2 = squared_norms(vectors)
    block = max(1, _BLOCK_BYTES // (4 * max(1, len(vectors))))
    pieces = [
        _scan_block(vectors, norms2, queries[start : start + block], k, metric, mask)
        for start in range(0, len(queries), block)
    ]
    distances = np.concatenate([p[0] for p in pieces])
    rows = np.concatenate([p[1] for p in pieces])
    if offsets is not None:
        rows = np.where(rows >= 0, offsets[rows], -1)
    return distances, rows


def padded(nq: int, k: int) -> tuple[Array, Array]:
    return np.full((nq, k), np.inf, np.float32), np.full((nq, k), -1, np.int64)


def _scan_block(
    vectors: Array, norms2: Array | None, queries: Array, k: int, metric: MetricType, mask: Array | None
) -> tuple[Array, Array]:
    distances = queries @ vectors.T
    if metric is MetricType.L2:
        distances *= -2
        distances += norms2
    else:
        if metric is MetricType.COSINE:
            assert norms2 is not None
            lengths = np.sqrt(norms2)
            distances /= np.where(lengths == 0, 1, lengths)
        np.negative(distances, out=distances)
    if mask is not None:
        distances[:, ~mask] = np.inf
    n = distances.shape[1]
    wanted = min(n, k + _MARGIN if metric is MetricType.L2 else k)
    if wanted < n:
        rows = np.argpartition(distances, wanted - 1, axis=1)[:, :wanted]
        distances = np.take_along_axis(distances, rows, axis=1)
    else:
        rows = np.broadcast_to(np.arange(n), distances.shape)
    if metric is MetricType.L2:
        difference = vectors[rows] - queries[:, None, :]
        exact = np.einsum("qkd,qkd->qk", difference, difference)
        distances = np.where(np.isinf(distances), np.inf, exact)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    distances = np.take_along_axis(distances, order, axis=1)
    rows = np.where(np.isinf(distances), -1, np.take_along_axis(rows, order, axis=1))
    if distances.shape[1] < k:
        missing = k - distances.shape[1]
        distances = np.pad(distances, ((0, 0), (0, missing)), constant_values=np.inf)
        rows = np.pad(rows, ((0, 0), (0, missing)), constant_values=-1)
    return distances.astype(np.float32, copy=False), rows.astype(np.int64, copy=False)
