"""HNSW graphs over vectors of bits. Their edges follow the Hamming distance.

Under JACCARD the graph names candidates, whose distances the caller takes from the vectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np

from milvine.errors import DataIntegrityError
from milvine.index.base import Array, Effort, Found
from milvine.index.hnsw import HnswIndex, options
from milvine.index.scan_binary import scan
from milvine.model.types import MetricType

_JACCARD_FACTOR = 4
"""Under JACCARD a search asks for this many times the candidates, since the edges follow another distance."""


def build_graph(vectors: Array, edges: int, ef_construction: int, threads: int) -> Any:
    """A graph over uint8 (n, bytes). It can only be saved."""
    faiss.omp_set_num_threads(threads)
    graph = faiss.IndexBinaryHNSW(8 * vectors.shape[1], edges)
    graph.hnsw.efConstruction = ef_construction
    graph.add(np.ascontiguousarray(vectors))
    return graph


def save_graph(graph: Any, path: Path) -> None:
    """Writes the graph in faiss's format."""
    faiss.write_index_binary(graph, str(path))


def open_graph(payload: memoryview, name: str, metric: MetricType, path: Path) -> BinaryHnsw:
    """`payload` must be verified first, since faiss trusts it. Raises DataIntegrityError, naming the file."""
    buffer = np.frombuffer(payload, np.uint8)
    reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(buffer), buffer.size)
    try:
        graph = faiss.read_index_binary(reader, faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise DataIntegrityError(f"{path} is not an index that faiss can read: {error}") from error
    if not isinstance(graph, faiss.IndexBinaryHNSW):
        raise DataIntegrityError(f"{path} holds a {type(graph).__name__}, which Milvine does not write")
    return BinaryHnsw(graph, name, metric, buffer)


class BinaryHnsw(HnswIndex):
    """A graph read in place."""

    def search(self, queries: Array, k: int, effort: Effort, mask: Array | None) -> Found:
        if not self.is_exact:
            k, more = min(_JACCARD_FACTOR * k, self.row_count), _JACCARD_FACTOR * effort.ef
            effort = Effort(more, effort.nprobe, more)
        return super().search(queries, k, effort, mask)

    def _open_vectors(self) -> None:
        self.is_exact = self._metric is MetricType.HAMMING
        storage = faiss.downcast_IndexBinary(self._index.storage)
        start = faiss.rev_swig_ptr(storage.xb.data(), 1).ctypes.data - self._payload.ctypes.data
        flat = self._payload[start : start + self.row_count * self._index.code_size]
        self.vectors = flat.reshape(self.row_count, self._index.code_size)

    def scan(self, queries: Array, k: int, mask: Array | None) -> tuple[Array, Array]:
        return scan(self.vectors, None, queries, k, self._metric, mask)

    def _nearest(self, queries: Array, k: int, ef: int) -> tuple[Array, Array]:
        queries = np.ascontiguousarray(queries)
        counts, rows = np.empty((len(queries), k), np.int32), np.empty((len(queries), k), np.int64)
        where = faiss.swig_ptr(counts), faiss.swig_ptr(rows)
        self._index.search_c(len(queries), faiss.swig_ptr(queries), k, *where, options(ef))
        distances = counts.astype(np.float32)
        distances[rows < 0] = np.inf
        return distances, rows
