"""Exact distances between vectors of bits, given as uint8 (n, bytes).

HAMMING counts the bits that differ. JACCARD is 1 - |a & b| / |a | b|, and 1 for two vectors without bits.
SUBSTRUCTURE finds the rows that have all bits of the query, and SUPERSTRUCTURE those that have no other bits, both at
the distance 0; other rows are no hits. Shapes, order and padding are as in `index.scan`.
"""

from __future__ import annotations

from collections.abc import Iterator

import faiss
import numpy as np

from milvine.index.base import Array
from milvine.index.by_distance import Band, nearest_by, ordered_by, padded
from milvine.model.types import MetricType

_BLOCK_BYTES = 1 << 18
"""Rows that are compared at once, so that the intermediate results stay in the cache."""
_FAISS_LIMIT = 1 << 12
"""faiss's heaps of results are fast up to this k."""


def scan(
    vectors: Array, _prepared: Array | None, queries: Array, k: int, metric: MetricType, mask: Array | None
) -> tuple[Array, Array]:
    """The nearest k rows of each query."""
    if metric is MetricType.HAMMING and mask is None and k <= min(_FAISS_LIMIT, len(vectors)):
        return _scan_hamming(np.ascontiguousarray(vectors), np.ascontiguousarray(queries), k)
    if metric is MetricType.HAMMING and mask is not None:
        found = _among_more(np.ascontiguousarray(vectors), np.ascontiguousarray(queries), k, mask)
        if found is not None:
            return found
    return nearest_by(distances_to, vectors, queries, k, metric, mask, None)


def scan_band(
    vectors: Array, queries: Array, k: int, metric: MetricType, mask: Array | None, band: Band
) -> tuple[Array, Array]:
    """The nearest k rows of each query inside `band`."""
    return nearest_by(distances_to, vectors, queries, k, metric, mask, band)


def _scan_hamming(vectors: Array, queries: Array, k: int) -> tuple[Array, Array]:
    distances, rows = padded(len(queries), k)
    counts = np.empty((len(queries), k), np.int32)
    heaps = faiss.int_maxheap_array_t()
    heaps.nh, heaps.k = len(queries), k
    heaps.val, heaps.ids = faiss.swig_ptr(counts), faiss.swig_ptr(rows)
    faiss.hammings_knn_hc(heaps, faiss.swig_ptr(queries), faiss.swig_ptr(vectors), len(vectors), vectors.shape[1], 1)
    distances[:] = counts
    return distances, rows


def _among_more(vectors: Array, queries: Array, k: int, mask: Array) -> tuple[Array, Array] | None:
    """The nearest k rows of the mask, if they are among the nearest rows of all; else None. A scan of all rows is ten
    times as fast as one of chosen rows, so this pays where most rows are in the mask."""
    kept = int(np.count_nonzero(mask))
    if 2 * kept < len(mask):
        return None
    more = k * len(mask) // kept + k // 4 + 16
    if more > min(_FAISS_LIMIT, len(mask)):
        return None
    distances, rows = _scan_hamming(vectors, queries, more)
    inside = mask[rows]
    if (np.count_nonzero(inside, axis=1) < k).any():
        return None
    first = np.argsort(~inside, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, first, 1), np.take_along_axis(rows, first, 1)


def _words(vectors: Array) -> Array:
    """The bits in words of 8 bytes if they fill them."""
    contiguous = np.ascontiguousarray(vectors)
    return contiguous.view(np.uint64) if contiguous.shape[1] % 8 == 0 else contiguous


def _blocks(vectors: Array) -> Iterator[slice]:
    step = max(1, _BLOCK_BYTES // max(vectors.shape[1] * vectors.itemsize, 1))
    return (slice(start, min(start + step, len(vectors))) for start in range(0, len(vectors), step))


def _bits(words: Array) -> Array:
    """int32 (n,): the bits that are set in each row."""
    counts: Array = np.bitwise_count(words).sum(axis=1, dtype=np.int32)
    return counts


def _jaccard_to(vectors: Array, query: Array) -> Array:
    """|a ^ b| / |a | b|. faiss counts the bits that differ from two queries, ours and one without bits, which
    gives the bits of each row; a | b has half of the bits of a, of b and of a ^ b together."""
    result = np.empty(len(vectors), np.float32)
    queries = np.stack([query, np.zeros_like(query)])
    own_bits = np.float32(_bits(query[None])[0])
    for block in _blocks(vectors):
        some = vectors[block]
        counts = np.empty((2, len(some)), np.int32)
        faiss.hammings(
            faiss.swig_ptr(queries), faiss.swig_ptr(some), 2, len(some), vectors.shape[1], faiss.swig_ptr(counts)
        )
        differing, bits = counts.astype(np.float32)
        either = (bits + own_bits + differing) / 2
        result[block] = np.divide(differing, either, out=np.ones_like(either), where=either > 0)
    return result


def distances_to(vectors: Array, query: Array, metric: MetricType) -> Array:
    """float32 (n,): from one query to all vectors; inf for rows that are no hits."""
    if metric is MetricType.JACCARD:
        return _jaccard_to(np.ascontiguousarray(vectors), query)
    rows, asked = _words(vectors), _words(query[None])[0]
    result = np.empty(len(rows), np.float32)
    for block in _blocks(rows):
        some = rows[block]
        match metric:
            case MetricType.HAMMING:
                result[block] = _bits(some ^ asked)
            case MetricType.SUBSTRUCTURE:
                result[block] = np.where(((some & asked) == asked).all(axis=1), 0, np.inf)
            case _:
                result[block] = np.where(((some & asked) == some).all(axis=1), 0, np.inf)
    return result


def exact_distances(vectors: Array, queries: Array, rows: Array, k: int, metric: MetricType) -> tuple[Array, Array]:
    """As `index.scan.exact_distances`."""
    return ordered_by(distances_to, vectors, queries, rows, k, metric)
