"""HNSW graphs over vectors of bits. Their edges follow the Hamming distance.

Under JACCARD the graph names candidates, whose distances the caller takes from the vectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np

from milvine.index import dense
from milvine.index.adding import add_in_steps
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
    add_in_steps(graph, np.ascontiguousarray(vectors))
    return graph


def save_graph(graph: Any, path: Path) -> None:
    """Writes the graph in faiss's format."""
    faiss.write_index_binary(graph, str(path))


def open_graph(payload: memoryview, name: str, metric: MetricType, path: Path) -> BinaryHnsw:
    """`payload` must be verified first, since faiss trusts it. Raises DataIntegrityError, naming the file."""
    graph, buffer = dense.read(payload, path, faiss.IndexBinaryHNSW, faiss.read_index_binary)
    return BinaryHnsw(graph, name, metric, buffer)


class BinaryHnsw(HnswIndex):
    """A graph read in place."""

    def search(self, queries: Array, k: int, effort: Effort, mask: Array | None) -> Found:
        if not self.is_exact:
            k, effort = min(_JACCARD_FACTOR * k, self.row_count), effort.times(_JACCARD_FACTOR)
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
