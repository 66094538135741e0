"""Graph indexes over float vectors, on faiss. The only file that imports it.

A COSINE index holds unit vectors under the inner product; distances leave smaller-is-nearer, as in `scan`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np

from milvine.errors import DataIntegrityError
from milvine.index import params
from milvine.index.scan import Array, unit
from milvine.model.types import MetricType

faiss.omp_set_num_threads(1)
"""One thread a search: requests are the parallelism. Builds run in a process of their own."""


def build(vectors: Array, build_type: str, build_params: dict[str, Any], metric: MetricType, threads: int) -> Any:
    """Build an index over float32 (n, dim); the result is only good for `save`."""
    if build_type != params.HNSW:
        raise ValueError(f"{build_type} is not built")
    faiss.omp_set_num_threads(threads)
    faiss_metric = faiss.METRIC_L2 if metric is MetricType.L2 else faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexHNSWFlat(vectors.shape[1], int(build_params["M"]), faiss_metric)
    index.hnsw.efConstruction = int(build_params["efConstruction"])
    data = unit(vectors) if metric is MetricType.COSINE else np.ascontiguousarray(vectors)
    index.add(data)
    return index


def save(index: Any, path: Path) -> None:
    """Write what faiss writes; the caller adds the footer and syncs."""
    faiss.write_index(index, str(path))


class HnswIndex:
    """An HNSW graph read in place from a mapped file."""

    def __init__(self, payload: memoryview, metric: MetricType, path: Path) -> None:
        """`payload` must be verified before, since faiss trusts it; it is held as long as this object."""
        buffer = np.frombuffer(payload, np.uint8)
        reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(buffer), buffer.size)
        try:
            self._index = faiss.read_index(reader, faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise DataIntegrityError(f"{path} is no index that faiss reads: {error}") from error
        self._metric = metric
        self._buffer = buffer  # set after the index, so that it goes after it
        self.row_count = int(self._index.ntotal)
        dim = int(self._index.d)
        # A view into our own buffer: one made from faiss's pointer would not keep the mapping alive.
        storage = faiss.downcast_index(self._index.storage)
        start = faiss.rev_swig_ptr(storage.get_xb(), 1).ctypes.data - buffer.ctypes.data
        flat = buffer[start : start + self.row_count * dim * 4].view(np.float32)
        self.vectors: Array = flat.reshape(self.row_count, dim)
        """float32 (n, dim), a view; unit vectors under COSINE."""

    def search(self, queries: Array, k: int, ef: int, mask: Array | None) -> tuple[Array, Array]:
        """Approximate top k among the rows of `mask`; shapes, order and padding as in `scan.scan`."""
        if self._metric is MetricType.COSINE:
            queries = unit(queries)
        selector = None
        if mask is not None:
            bits = np.packbits(mask, bitorder="little")
            selector = faiss.IDSelectorBitmap(self.row_count, faiss.swig_ptr(bits))
        options = faiss.SearchParametersHNSW(efSearch=max(ef, k))
        if selector is not None:
            options.sel = selector
        distances, rows = self._index.search(np.ascontiguousarray(queries), k, params=options)
        if self._metric is not MetricType.L2:
            np.negative(distances, out=distances)
        distances[rows < 0] = np.inf
        return distances, rows
