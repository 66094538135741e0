"""SCANN: lists of 4-bit product codes, compared many at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import faiss

from milvine.errors import ParameterInvalid
from milvine.index import dense
from milvine.index.base import Effort
from milvine.index.lists_type import LISTS, ListsType
from milvine.index.params import INT32_MAX, BoolParam, reaching, searched_int
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType

_PIECE = 2
"""Dimensions per code."""


class Scann(ListsType):
    name = "SCANN"
    params: ClassVar = {**LISTS, "with_raw_data": BoolParam(True)}
    candidates_factor = 4

    def check(self, field: FieldSchema, build_params: Mapping[str, Any]) -> None:
        if (field.dim or 0) % _PIECE:
            raise ParameterInvalid(
                "The dimension of a vector (dim) should be a multiple of sub_dim. "
                f"Dimension:{field.dim}, sub_dim:{_PIECE}"
            )

    def lists(self, centroids: Any, nlist: int, data: dense.Prepared, build_params: Mapping[str, Any]) -> Any:
        dim = data.vectors.shape[1]
        pieces = dim // _PIECE if dim % _PIECE == 0 else dim
        index = faiss.IndexIVFPQFastScan(centroids, dim, nlist, pieces, 4, data.metric)
        index.pq.cp.min_points_per_centroid = 1
        return index

    def memory_bytes(self, file_bytes: int, row_count: int, dim: int) -> int:
        """faiss copies the lists to the heap."""
        return super().memory_bytes(2 * file_bytes, row_count, dim)

    def effort(self, build_params: Mapping[str, Any], params: Mapping[str, Any], k: int, data_type: DataType) -> Effort:
        usual = super().effort(build_params, params, k, data_type)
        if "reorder_k" not in params:
            return usual
        candidates = reaching(params, "reorder_k", searched_int(params, "reorder_k", INT32_MAX), k)
        return replace(usual, ef=candidates, candidates=candidates)


TYPE = Scann()
