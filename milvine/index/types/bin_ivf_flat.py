"""BIN_IVF_FLAT: inverted lists of vectors of bits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from milvine.index.array_file import read_arrays, write_arrays
from milvine.index.base import VectorIndex
from milvine.index.binary_lists import BinaryLists, build_lists, check_arrays
from milvine.index.lists_type import ProbedType
from milvine.model.types import DataType, MetricType


class BinIvfFlat(ProbedType):
    name = "BIN_IVF_FLAT"
    data_types = frozenset({DataType.BINARY_VECTOR})
    metrics = frozenset({MetricType.HAMMING, MetricType.JACCARD})

    def build(
        self, vectors: Any, build_params: Mapping[str, Any], metric: MetricType, data_type: DataType, threads: int
    ) -> Any:
        return build_lists(vectors, int(build_params["nlist"]), metric)

    def save(self, built: Any, path: Path) -> None:
        write_arrays(path, built)

    def open(self, payload: memoryview, metric: MetricType, path: Path) -> VectorIndex:
        arrays = read_arrays(payload, path, self.name, check_arrays)
        return BinaryLists(arrays, self.name, metric, len(payload))

    def memory_bytes(self, file_bytes: int, row_count: int, dim: int) -> int:
        return file_bytes


TYPE = BinIvfFlat()
