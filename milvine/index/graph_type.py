"""What the HNSW types share. They differ in the data at the nodes of the graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import faiss

from milvine.index import dense
from milvine.index.adding import add_in_steps
from milvine.index.base import Effort, VectorIndex
from milvine.index.hnsw import HnswIndex
from milvine.index.index_type import DEFAULT_NPROBE, IndexType
from milvine.index.params import INT32_MAX, IntParam, Param, reaching, refined, searched_int
from milvine.model.types import DataType, MetricType

GRAPH: dict[str, Param] = {"M": IntParam(30, 2, 2048), "efConstruction": IntParam(360, 1, INT32_MAX)}


class GraphType(IndexType):
    data_types = dense.DENSE
    metrics = dense.METRICS
    params: ClassVar[Mapping[str, Param]] = GRAPH
    refuses_small_ef: ClassVar[bool] = True
    """Whether an `ef` below k is an error; otherwise it means the usual one."""

    def nodes(self, data: dense.Prepared, build_params: Mapping[str, Any]) -> Any | None:
        """An untrained faiss graph with other data at its nodes, or None if it has the vectors themselves."""
        return None

    def build(
        self, vectors: Any, build_params: Mapping[str, Any], metric: MetricType, data_type: DataType, threads: int
    ) -> Any:
        """The edges are always chosen by the exact vectors."""
        data = dense.prepare(vectors, metric, data_type, threads)
        graph = faiss.IndexHNSWFlat(data.vectors.shape[1], int(build_params["M"]), data.metric)
        graph.hnsw.efConstruction = int(build_params["efConstruction"])
        add_in_steps(graph, data.vectors)
        coded = self.nodes(data, build_params)
        if coded is None:
            return graph
        storage = faiss.downcast_index(coded.storage)
        storage.train(data.vectors)
        storage.add(data.vectors)
        coded.hnsw = graph.hnsw
        coded.ntotal, coded.is_trained = len(data.vectors), True
        return coded

    def save(self, built: Any, path: Path) -> None:
        dense.save(built, path)

    def open(self, payload: memoryview, metric: MetricType, path: Path) -> VectorIndex:
        index, buffer = dense.read(payload, path, faiss.IndexHNSW)
        return HnswIndex(index, self.name, metric, buffer)

    def memory_bytes(self, file_bytes: int, row_count: int, dim: int) -> int:
        return file_bytes

    def effort(self, build_params: Mapping[str, Any], params: Mapping[str, Any], k: int, data_type: DataType) -> Effort:
        """A graph measures all `ef` rows that it finds, so the list that pages are cut from does not depend on k."""
        candidates = max(self.usual_candidates(k, data_type), int(build_params.get("ef", 0)))
        if "ef" in params:
            given = searched_int(params, "ef", INT32_MAX)
            candidates = reaching(params, "ef", given, k, refuses_less=self.refuses_small_ef)
        if "refine" in self.params:
            candidates = refined(candidates, build_params, params)
        return Effort(candidates, DEFAULT_NPROBE, candidates)
