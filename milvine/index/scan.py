"""Exact nearest rows, by comparing all of them.

Distances come out smaller-is-nearer: squared L2, and the negative of the inner product and of the cosine, which is
never outside [-1, 1]. Vectors may be of any type of `model.vectors`; narrow ones become float32 block by block, so that
no large copy is made. Which of several rows at the k-th distance are returned is not defined.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np

from milvine.index.by_distance import Band, nearest_by, ordered_by, padded
from milvine.model.types import MetricType
from milvine.model.vectors.conversion import as_float32, blocks

Array = np.ndarray[Any, Any]
_BLOCK_BYTES = 64 << 20
_GATHER_SHARE = 1 / 16
"""Fewer rows than this are copied together before the scan; with more rows, skipping the others is cheaper."""
_SMALLEST = np.finfo(np.float64).tiny
"""Less than the norm of any float32 vector except zero."""
_FEW_QUERIES = 4
"""With more queries, a product of matrices costs less than one pass over the vectors per query."""
_BY_POSITION = 16
"""Below this dimension faiss computes vectors in groups and the rest singly, and rounds the two differently."""

# Above this many queries faiss would expand L2 to |x|2 - 2xq + |q|2, which loses all digits far from the origin.
faiss.cvar.distance_compute_blas_threshold = 1 << 30


def squared_norms(vectors: Array) -> Array:
    """float32 (n,) of (n, dim)."""
    result = np.empty(len(vectors), np.float32)
    for block in _float32_blocks(vectors):
        wide = np.ascontiguousarray(as_float32(vectors[block]))
        faiss.fvec_norms_L2sqr(faiss.swig_ptr(result[block]), faiss.swig_ptr(wide), wide.shape[1], len(wide))
    return result


def _float32_blocks(vectors: Array) -> Iterator[slice]:
    """Rows that may be converted to float32 at once; all of them if they are float32 already."""
    return iter([slice(None)]) if vectors.dtype == np.float32 else blocks(*vectors.shape)


def unit(vectors: Array) -> Array:
    """Rows scaled to length 1; a zero row stays zero."""
    wide = vectors.astype(np.float64)
    norms = np.sqrt(np.vecdot(wide, wide))
    wide /= np.maximum(norms, _SMALLEST)[:, None]
    scaled: Array = wide.astype(np.float32)
    return scaled


def bound_cosines(distances: Array, ascending: bool = False) -> None:
    """Clips cosines, in place, that rounding took beyond 1 or -1. `ascending`: every line is sorted."""
    if ascending and len(distances) == 1 and -1 <= distances.item(0) <= distances.item(-1) <= 1:
        return  # saves the usual search two array calls
    np.maximum(distances, -1, out=distances)
    np.minimum(distances, 1, out=distances)


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
            vectors = taken(vectors, offsets)
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


def taken(vectors: Array, offsets: Array) -> Array:
    """vectors[offsets] at half the cost, also if the numbers lie at odd addresses, as in the file of an index."""
    if not vectors.flags.c_contiguous or not len(vectors):
        return vectors[offsets]
    dim = vectors.shape[1]
    whole = vectors.view(f"V{vectors.itemsize * dim}")[:, 0]
    found: Array = whole.take(offsets).view(vectors.dtype).reshape(len(offsets), dim)
    return found


def _scan_narrow(
    vectors: Array, norms2: Array | None, queries: Array, k: int, metric: MetricType, mask: Array | None
) -> tuple[Array, Array]:
    """As `scan`: the best of all blocks, merged whenever there are several times k of them."""
    offsets = None if mask is None else np.flatnonzero(mask)
    count = len(vectors) if offsets is None else len(offsets)
    pieces: list[tuple[Array, Array]] = []
    for block in blocks(count, vectors.shape[1]):
        taken = np.arange(block.start, block.stop) if offsets is None else offsets[block]
        norms = None if norms2 is None else norms2[taken]
        some = vectors[block] if offsets is None else vectors[taken]
        near, found = scan(as_float32(some), norms, queries, min(k, len(taken)), metric, None)
        pieces.append((near, np.where(found >= 0, taken[found], -1)))
        if sum(near.shape[1] for near, _ in pieces) > 8 * k:
            pieces = [_nearest_of(pieces, k)]
    distances, rows = padded(len(queries), k)
    if pieces:
        near, found = _nearest_of(pieces, k)
        distances[:, : near.shape[1]], rows[:, : near.shape[1]] = near, found
    return distances, rows


def _nearest_of(pieces: list[tuple[Array, Array]], k: int) -> tuple[Array, Array]:
    distances, rows = (np.hstack(parts) for parts in zip(*pieces, strict=True))
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return _in_order(distances, order), _in_order(rows, order)


def _in_order(values: Array, order: Array) -> Array:
    """The entries `order` (nq, k) of each line of values (nq, n); take_along_axis costs three times as much here."""
    picked: Array = values[np.arange(len(values))[:, None], order]
    return picked


def _scan_direct(vectors: Array, queries: Array, k: int, metric: MetricType, mask: Array | None) -> tuple[Array, Array]:
    """L2 and IP, row by row in SIMD, without expanding the formula."""
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
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces])


def _scan_cosine_block(
    vectors: Array, lengths: Array, queries: Array, k: int, mask: Array | None
) -> tuple[Array, Array]:
    distances = queries @ vectors.T if len(queries) > _FEW_QUERIES else _inner_products(vectors, queries)
    distances /= lengths
    np.negative(distances, out=distances)
    bound_cosines(distances)
    if mask is not None:
        distances[:, ~mask] = np.inf
    n = distances.shape[1]
    wanted = min(n, k)
    if wanted < n:
        rows = np.argpartition(distances, wanted - 1, axis=1)[:, :wanted]
        rows = _in_order(rows, np.argsort(_in_order(distances, rows), axis=1, kind="stable"))
    else:
        rows = np.argsort(distances, axis=1, kind="stable")
    result = padded(len(queries), k)
    result[0][:, :wanted] = _in_order(distances, rows)
    result[1][:, :wanted] = rows
    result[1][np.isinf(result[0])] = -1
    return result


def _inner_products(vectors: Array, queries: Array) -> Array:
    """float32 (nq, n). Equal vectors have equal products at any position."""
    vectors = np.ascontiguousarray(vectors)
    products = np.empty((len(queries), len(vectors)), np.float32)
    for line, query in zip(products, np.ascontiguousarray(queries), strict=True):
        _for_each(faiss.fvec_inner_products_ny, faiss.fvec_inner_products_by_idx, line, query, vectors)
    return products


def _for_each(quick: Any, by_offset: Any, result: Array, query: Array, vectors: Array) -> None:
    """One of faiss's functions of one query and all vectors, which computes every vector alike."""
    where = faiss.swig_ptr(result), faiss.swig_ptr(query), faiss.swig_ptr(vectors)
    if vectors.shape[1] >= _BY_POSITION:
        quick(*where, vectors.shape[1], len(vectors))
    else:
        offsets = np.arange(len(vectors))
        by_offset(*where, faiss.swig_ptr(offsets), vectors.shape[1], 1, len(vectors))


def scan_band(
    vectors: Array, queries: Array, k: int, metric: MetricType, mask: Array | None, band: Band
) -> tuple[Array, Array]:
    """The nearest k rows inside `band`, exactly; shapes, order and padding as in `scan`."""
    return nearest_by(_distances_to, vectors, queries, k, metric, mask, band)


def exact_distances(vectors: Array, queries: Array, rows: Array, k: int, metric: MetricType) -> tuple[Array, Array]:
    """Candidates `rows` (nq, c), -1 for none, by their exact distances: the nearest k, as in `scan`.

    A row has the same distance here and in `scan_band`, to the last bit.
    """
    return ordered_by(_distances_to, vectors, queries, rows, k, metric)


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
    """float32 (n,): from one query to all vectors. The arithmetic of each does not depend on its neighbours."""
    if vectors.dtype != np.float32:
        near = [_distances_to(as_float32(vectors[block]), query, metric) for block in blocks(*vectors.shape)]
        return np.concatenate(near)
    vectors = np.ascontiguousarray(vectors)
    result: Array = np.empty(len(vectors), np.float32)
    if metric is MetricType.L2:
        query = np.ascontiguousarray(query)
        _for_each(faiss.fvec_L2sqr_ny, faiss.fvec_L2sqr_by_idx, result, query, vectors)
        return result
    query = unit(query[None])[0] if metric is MetricType.COSINE else np.ascontiguousarray(query)
    _for_each(faiss.fvec_inner_products_ny, faiss.fvec_inner_products_by_idx, result, query, vectors)
    np.negative(result, out=result)
    if metric is MetricType.COSINE:
        lengths = np.sqrt(squared_norms(vectors))
        lengths[lengths == 0] = 1
        result /= lengths
        bound_cosines(result)
    return result
