"""IVF_PQ: lists of product codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import faiss

from milvine.index import dense
from milvine.index.lists_type import LISTS, ListsType
from milvine.index.params import REFINE, IntParam
from milvine.model.schema import FieldSchema


class IvfPq(ListsType):
    name = "IVF_PQ"
    params: ClassVar = {**LISTS, "m": IntParam(None, 1, 65536), "nbits": IntParam(8, 1, 24), **REFINE}
    candidates_factor = 4

    def check(self, field: FieldSchema, build_params: Mapping[str, Any]) -> None:
        dense.check_pieces(field.dim or 0, build_params["m"], "a vector")

    def lists(self, centroids: Any, nlist: int, data: dense.Prepared, build_params: Mapping[str, Any]) -> Any:
        row_count, dim = data.vectors.shape
        bits = dense.code_bits(build_params["nbits"], row_count)
        index = faiss.IndexIVFPQ(centroids, dim, nlist, build_params["m"], bits, data.metric)
        index.pq.cp.min_points_per_centroid = 1
        return index


TYPE = IvfPq()
