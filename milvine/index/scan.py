"""Exact nearest rows by looking at all of them.

Distances come out smaller-is-nearer: squared L2, and the negative of the inner product and of the cosine. Vectors may
be of any type of `model.vectors`; narrow ones become float32 block by block, so that no large copy is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from milvine.model.types import MetricType
from milvine.model.vectors import as_float32, blocks

Array = np.ndarray[Any, Any]
_BLOCK_BYTES = 64 << 20
_GATHER_SHARE = 1 / 16
"""Fewer rows than this are copied together before they are looked at; of more, looking past the others is cheaper."""
_SMALLEST = np.finfo(np.float64).tiny
"""Less than any norm of a float32 vector but zero."""

# Above this many queries faiss would expand L2 to |x|2 - 2xq + |q|2, which loses all digits far from the origin.
faiss.cvar.distance_compute_blas_threshold = 1 << 30


def squared_norms(vectors: Array) -> Array:
    """float32 (n,) of (n, dim)."""
    result = np.empty(len(vectors), np.float32)
    for block in _float32_blocks(vectors):
        wide = as_float32(vectors[block])
        np.einsum("ij,ij->i", wide, wide, out=result[block])
    return result


def _float32_blocks(vectors: Array) -> Iterator[slice]:
    """What may be taken as float32 at once: all of what is float32 already."""
    return iter([slice(None)]) if vectors.dtype == np.float32 else blocks(*vectors.shape)


def unit(vectors: Array) -> Array:
    """Rows scaled to length 1; a zero row stays zero."""
    wide = vectors.astype(np.float64)
    norms = np.sqrt(np.vecdot(wide, wide))
    wide /= np.maximum(norms, _SMALLEST)[:, None]
    scaled: Array = wide.astype(np.float32)
    return scaled


def scan(
    vectors: Array, norms2: Array | None, queries: Array, k: int, metric: MetricType, mask: Array | None
) -> tuple[Array, Array]:
    """Exact top k of vectors (n, dim) for float32 queries (nq, dim).

    `norms2` are the squared norms, which COSINE needs, computed here if None; `mask` bool (n,) limits the rows.
    Returns distances (nq, k) float32 and row offsets (nq, k) int64, nearest first, padded with inf and -1.
    """
    if vectors.dtype != np.float32:
        return _scan_narrow(vectors, norms2, queries, k, metric, mask)
    offsets: Array | None = None
    if mask is not None:
        kept = int(np.count_nonzero(mask))
        if kept < len(vectors) * (0.5 if metric is MetricType.COSINE else _GATHER_SHARE):
            offsets = np.flatnonzero(mask)
            vectors = vectors[offsets]
            norms2 = None if norms2 is None else norms2[offsets]
            mask = None
    if len(vectors) == 0:
        return padded(len(queries), k)
    if metric is MetricType.COSINE:
        distances, rows = _scan_cosine(vectors, norms2, unit(queries), k, mask)
    else:
        distances, rows = _scan_direct(vectors, queries, k, metric, mask)
    if offsets is not None:
        rows = np.where(rows >= 0, offsets[rows], -1)
    return distances, rows


def _scan_narrow(
    vectors: Array, norms2: Array | None, queries: Array, k: int, metric: MetricType, mask: Array | None
) -> tuple[Array, Array]:
    """As `scan`: the best of every block compete with the best so far."""
    offsets = None if mask is None else np.flatnonzero(mask)
    distances, rows = padded(len(queries), k)
    for block in blocks(len(vectors) if offsets is None else len(offsets), vectors.shape[1]):
        taken = np.arange(block.start, block.stop) if offsets is None else offsets[block]
        norms = None if norms2 is None else norms2[taken]
        some = vectors[block] if offsets is None else vectors[taken]
        near, found = scan(as_float32(some), norms, queries, k, metric, None)
        found = np.where(found >= 0, taken[found], -1)
        distances, rows = np.hstack((distances, near)), np.hstack((rows, found))
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        distances, rows = np.take_along_axis(distances, order, axis=1), np.take_along_axis(rows, order, axis=1)
    return distances, rows


def padded(nq: int, k: int) -> tuple[Array, Array]:
    return np.full((nq, k), np.inf, np.float32), np.full((nq, k), -1, np.int64)


def _scan_direct(vectors: Array, queries: Array, k: int, metric: MetricType, mask: Array | None) -> tuple[Array, Array]:
    """L2 and IP, row by row in SIMD, without expanding anything."""
    vectors, queries = np.ascontiguousarray(vectors), np.ascontiguousarray(queries)
    distances, rows = padded(len(queries), k)
    wanted = min(k, len(vectors))
    found = np.empty((len(queries), wanted), np.float32), np.empty((len(queries), wanted), np.int64)
    selector = bits = None
    if mask is not None:
        bits = np.packbits(mask, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(vectors), faiss.swig_ptr(bits))
    arguments = [
        faiss.swig_ptr(queries),
        faiss.swig_ptr(vectors),
        vectors.shape[1],
        len(queries),
        len(vectors),
        wanted,
        faiss.swig_ptr(found[0]),
        faiss.swig_ptr(found[1]),
    ]
    if metric is MetricType.L2:
        faiss.knn_L2sqr(*arguments, None, selector)
    else:
        faiss.knn_inner_product(*arguments, selector)
        np.negative(found[0], out=found[0])
    distances[:, :wanted], rows[:, :wanted] = found
    distances[rows < 0] = np.inf
    return distances, rows


def _scan_cosine(
    vectors: Array, norms2: Array | None, queries: Array, k: int, mask: Array | None
) -> tuple[Array, Array]:
    lengths = np.sqrt(squared_norms(vectors) if norms2 is None else norms2)
    lengths = np.where(lengths == 0, np.float32(1), lengths)
    block = max(1, _BLOCK_BYTES // (4 * len(vectors)))
    pieces = [
        _scan_cosine_block(vectors, lengths, queries[start : start + block], k, mask)
        for start in range(0, len(queries), block)
    ]
    return np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces])


def _scan_cosine_block(
    vectors: Array, lengths: Array, queries: Array, k: int, mask: Array | None
) -> tuple[Array, Array]:
    distances = queries @ vectors.T
    distances /= lengths
    np.negative(distances, out=distances)
    if mask is not None:
        distances[:, ~mask] = np.inf
    n = distances.shape[1]
    wanted = min(n, k)
    if wanted < n:
        rows = np.argpartition(distances, wanted - 1, axis=1)[:, :wanted]
        distances = np.take_along_axis(distances, rows, axis=1)
    else:
        rows = np.broadcast_to(np.arange(n), distances.shape)
    order = np.argsort(distances, axis=1, kind="stable")
    result = padded(len(queries), k)
    result[0][:, :wanted] = np.take_along_axis(distances, order, axis=1)
    result[1][:, :wanted] = np.take_along_axis(rows, order, axis=1)
    result[1][np.isinf(result[0])] = -1
    return result


@dataclass(frozen=True, slots=True)
class Band:
    """Distances that are wanted: low <= distance < high, compared as float32."""

    low: np.float32
    high: np.float32

    def holds(self, distances: Array) -> Array:
        inside: Array = (distances >= self.low) & (distances < self.high)
        return inside


def scan_band(
    vectors: Array, queries: Array, k: int, metric: MetricType, mask: Array | None, band: Band
) -> tuple[Array, Array]:
    """The nearest k rows inside `band`, exactly; shapes, order and padding as in `scan`."""
    rows = np.arange(len(vectors)) if mask is None else np.flatnonzero(mask)
    distances, found = padded(len(queries), k)
    if len(rows) == 0:
        return distances, found
    if len(rows) < len(vectors):
        vectors = vectors[rows]
    for number, query in enumerate(queries):
        all_distances = _distances_to(vectors, query, metric)
        inside = np.flatnonzero(band.holds(all_distances))
        if len(inside) > k:
            inside = inside[np.argpartition(all_distances[inside], k - 1)[:k]]
        inside = inside[np.argsort(all_distances[inside], kind="stable")]
        distances[number, : len(inside)] = all_distances[inside]
        found[number, : len(inside)] = rows[inside]
    return distances, found


def exact_distances(vectors: Array, queries: Array, rows: Array, k: int, metric: MetricType) -> tuple[Array, Array]:
    """Candidates `rows` (nq, c), -1 for none, by their exact distances: the nearest k, as in `scan`.

    A row has the same distance here and in `scan_band`, to the last bit.
    """
    distances, found = padded(len(queries), k)
    for number, query in enumerate(queries):
        candidates = rows[number][rows[number] >= 0]
        if len(candidates):
            exact = _distances_to(vectors[candidates], query, metric)
            order = np.argsort(exact, kind="stable")[:k]
            distances[number, : len(order)] = exact[order]
            found[number, : len(order)] = candidates[order]
    return distances, found


def first_of(distances: Array, rows: Array, wanted: Array, k: int) -> tuple[Array, Array]:
    """The first k of each line where bool `wanted`, padded; all of shape (nq, c), distances and rows as in `scan`."""
    rank = np.cumsum(wanted, axis=1) - 1
    lines, places = np.nonzero(wanted & (rank < k))
    kept_distances, kept_rows = padded(len(rows), k)
    columns = rank[lines, places]
    kept_distances[lines, columns] = distances[lines, places]
    kept_rows[lines, columns] = rows[lines, places]
    return kept_distances, kept_rows


def _distances_to(vectors: Array, query: Array, metric: MetricType) -> Array:
    """float32 (n,): from one query to all vectors, each by the same arithmetic whatever its neighbours are."""
    if vectors.dtype != np.float32:
        near = [_distances_to(as_float32(vectors[block]), query, metric) for block in blocks(*vectors.shape)]
        return np.concatenate(near)
    vectors = np.ascontiguousarray(vectors)
    result = np.empty(len(vectors), np.float32)
    if metric is MetricType.COSINE:
        query = unit(query[None])[0]
    query = np.ascontiguousarray(query)
    arguments = [
        faiss.swig_ptr(result),
        faiss.swig_ptr(query),
        faiss.swig_ptr(vectors),
        vectors.shape[1],
        len(vectors),
    ]
    if metric is MetricType.L2:
        faiss.fvec_L2sqr_ny(*arguments)
        return result
    faiss.fvec_inner_products_ny(*arguments)
    if metric is MetricType.COSINE:
        norms2 = np.empty_like(result)
        faiss.fvec_norms_L2sqr(faiss.swig_ptr(norms2), faiss.swig_ptr(vectors), vectors.shape[1], len(vectors))
        norms2[norms2 == 0] = 1
        result /= np.sqrt(norms2)
    return np.negative(result, out=result)
