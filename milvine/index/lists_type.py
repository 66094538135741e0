"""What the types of inverted lists share. They differ in the data in the lists."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import faiss

from milvine.index import dense
from milvine.index.adding import add_in_steps
from milvine.index.base import DEFAULT_MAX_EMPTY, Effort, VectorIndex
from milvine.index.index_type import DEFAULT_NPROBE, IndexType
from milvine.index.ivf import IvfIndex
from milvine.index.params import IntParam, Param, refined, searched_int
from milvine.model.types import DataType, MetricType

LISTS: dict[str, Param] = {"nlist": IntParam(128, 1, 65536)}


def max_empty(params: Mapping[str, Any]) -> int:
    """As knowhere, which reads it for range searches only. Raises UnexpectedError."""
    name = "max_empty_result_buckets"
    if name not in params or "radius" not in params:
        return DEFAULT_MAX_EMPTY
    return searched_int(params, name, 65536, 0)


class ProbedType(IndexType):
    """A type whose searches visit `nprobe` of its lists."""

    params: ClassVar[Mapping[str, Param]] = LISTS

    def effort(self, build_params: Mapping[str, Any], params: Mapping[str, Any], k: int, data_type: DataType) -> Effort:
        candidates = self.usual_candidates(k, data_type)
        usual = int(build_params.get("nprobe", DEFAULT_NPROBE))
        nprobe = searched_int(params, "nprobe", 65536) if "nprobe" in params else usual
        if "refine" in self.params:
            candidates = refined(candidates, build_params, params)
        return Effort(candidates, nprobe, candidates, max_empty=max_empty(params))


class ListsType(ProbedType):
    data_types = dense.FLOATS
    metrics = dense.METRICS

    @abstractmethod
    def lists(self, centroids: Any, nlist: int, data: dense.Prepared, build_params: Mapping[str, Any]) -> Any:
        """An untrained faiss index with empty lists."""

    def build(
        self, vectors: Any, build_params: Mapping[str, Any], metric: MetricType, data_type: DataType, threads: int
    ) -> Any:
        data = dense.prepare(vectors, metric, data_type, threads)
        row_count, dim = data.vectors.shape
        centroids = faiss.IndexFlat(dim, data.metric)
        index = self.lists(centroids, min(int(build_params["nlist"]), row_count), data, build_params)
        index.cp.min_points_per_centroid = 1  # no warning on stderr if there are few rows
        index.train(data.vectors)
        add_in_steps(index, data.vectors)
        return index

    def save(self, built: Any, path: Path) -> None:
        dense.save(built, path)

    def open(self, payload: memoryview, metric: MetricType, path: Path) -> VectorIndex:
        index, buffer = dense.read(payload, path, faiss.IndexIVF)
        return IvfIndex(index, self.name, metric, buffer)

    def memory_bytes(self, file_bytes: int, row_count: int, dim: int) -> int:
        return file_bytes + 4 * row_count
