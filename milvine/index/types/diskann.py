"""DISKANN: a graph with codes of 4 bits per dimension. Only the codes are in memory; graph and vectors are mapped.

The budget is that of Milvus's default, an eighth of the vectors. A search reads the edges of the nodes that it visits
and the vectors of its candidates from the mapped files, so the page cache decides how fast it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss

from milvine.index import dense
from milvine.index.base import Effort, VectorIndex
from milvine.index.graph_type import GraphType
from milvine.index.hnsw import HnswIndex
from milvine.index.index_type import DEFAULT_NPROBE
from milvine.index.params import INT32_MAX, reaching, searched_int
from milvine.model.types import DataType, MetricType

_EDGES = 28
"""Milvus's `max_degree` of 56: nodes of the lowest level have twice as many edges."""
_BUILD = {"M": _EDGES, "efConstruction": 200}
_EDGE_BYTES, _PLACE_BYTES, _FLOAT_BYTES = 4, 12, 4
_NODE_BYTES = 2 * _EDGES * _EDGE_BYTES + _PLACE_BYTES
"""Of a node of the lowest level, at least. A dimension of the codes has a least value and a range."""
_HEADER_BYTES = 256
_TAIL_BYTES = 8
_SEARCHED = ("search_list", "search_list_size")


class Diskann(GraphType):
    """As in Milvus, the server decides how to build, and build parameters have no effect."""

    name = "DISKANN"
    data_types = dense.FLOATS
    params = {}  # noqa: RUF012
    is_resident = False

    def nodes(self, data: dense.Prepared, build_params: Mapping[str, Any]) -> Any:
        return faiss.IndexHNSWSQ(data.vectors.shape[1], faiss.ScalarQuantizer.QT_4bit, _EDGES, data.metric)

    def build(
        self, vectors: Any, build_params: Mapping[str, Any], metric: MetricType, data_type: DataType, threads: int
    ) -> Any:
        return super().build(vectors, _BUILD, metric, data_type, threads)

    def save(self, built: Any, path: Path) -> None:
        """The codes, the graph without them, and the place where the graph begins."""
        dense.save(built.storage, path)
        start = path.stat().st_size
        writer = faiss.VectorIOWriter()
        faiss.write_index(built, writer, faiss.IO_FLAG_SKIP_STORAGE)
        with path.open("ab") as file:
            file.write(faiss.vector_to_array(writer.data))
            file.write(start.to_bytes(_TAIL_BYTES, "little"))

    def open(self, payload: memoryview, metric: MetricType, path: Path) -> VectorIndex:
        start = int.from_bytes(payload[-_TAIL_BYTES:], "little")
        graph, buffer = dense.read(payload[start:-_TAIL_BYTES], path, faiss.IndexHNSW)
        codes, heap_bytes = self._codes(payload[:start], path)
        graph.storage, graph.own_fields = codes, False
        graph.referenced_objects = [codes]
        return HnswIndex(graph, self.name, metric, buffer, heap_bytes=heap_bytes)

    def _codes(self, payload: memoryview, path: Path) -> tuple[Any, int]:
        """The codes, copied to the heap, and their bytes there."""
        return dense.read_copy(payload, path, faiss.IndexScalarQuantizer), payload.nbytes

    def memory_bytes(self, file_bytes: int, row_count: int, dim: int) -> int:
        """The codes. The size of the file tells how many rows they have, since NULLs have none."""
        code_bytes = -(-dim // 2)
        rows = min(row_count, file_bytes // (code_bytes + _NODE_BYTES))
        return rows * code_bytes + _HEADER_BYTES + 2 * _FLOAT_BYTES * dim

    def effort(self, build_params: Mapping[str, Any], params: Mapping[str, Any], k: int, data_type: DataType) -> Effort:
        candidates = self.usual_candidates(k, data_type)
        for name in _SEARCHED:
            if name in params:
                candidates = reaching(params, "search_list_size", searched_int(params, name, INT32_MAX), k)
        if "beamwidth" in params:
            searched_int(params, "beamwidth", 128)
        return Effort(candidates, DEFAULT_NPROBE, candidates)


TYPE = Diskann()
