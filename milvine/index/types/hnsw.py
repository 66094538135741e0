"""HNSW: a graph over the vectors themselves, as narrow as the column, or over vectors of bits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import faiss

from milvine.index import dense
from milvine.index.base import VectorIndex
from milvine.index.binary_graph import build_graph, open_graph, save_graph
from milvine.index.graph_type import GraphType
from milvine.model.types import DataType, MetricType

_BINARY_METRICS = frozenset({MetricType.HAMMING, MetricType.JACCARD})


class Hnsw(GraphType):
    name = "HNSW"
    data_types = dense.DENSE | {DataType.BINARY_VECTOR}
    metrics = dense.METRICS | _BINARY_METRICS
    auto: ClassVar = {kind: {"M": 16, "efConstruction": 100, "ef": 88} for kind in dense.DENSE}
    """docs/operations.md explains the choice, with measurements."""

    def nodes(self, data: dense.Prepared, build_params: Mapping[str, Any]) -> Any | None:
        if data.narrow is None:
            return None
        return faiss.IndexHNSWSQ(data.vectors.shape[1], data.narrow, int(build_params["M"]), data.metric)

    def build(
        self, vectors: Any, build_params: Mapping[str, Any], metric: MetricType, data_type: DataType, threads: int
    ) -> Any:
        if data_type is not DataType.BINARY_VECTOR:
            return super().build(vectors, build_params, metric, data_type, threads)
        return build_graph(vectors, int(build_params["M"]), int(build_params["efConstruction"]), threads)

    def save(self, built: Any, path: Path) -> None:
        (save_graph if isinstance(built, faiss.IndexBinaryHNSW) else dense.save)(built, path)

    def open(self, payload: memoryview, metric: MetricType, path: Path) -> VectorIndex:
        if metric in _BINARY_METRICS:
            return open_graph(payload, self.name, metric, path)
        return super().open(payload, metric, path)


TYPE = Hnsw()
