"""HNSW_PQ: a graph with product codes at its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import faiss

from milvine.index import dense
from milvine.index.graph_type import GRAPH, GraphType
from milvine.index.params import REFINE_4_BITS, IntParam
from milvine.model.schema import FieldSchema


class HnswPq(GraphType):
    name = "HNSW_PQ"
    params: ClassVar = {**GRAPH, "m": IntParam(32, 1, 65536), "nbits": IntParam(8, 1, 24), **REFINE_4_BITS}
    candidates_factor = 4
    refuses_small_ef = False

    def check(self, field: FieldSchema, build_params: Mapping[str, Any]) -> None:
        dense.check_pieces(field.dim or 0, build_params["m"], "the vector")

    def nodes(self, data: dense.Prepared, build_params: Mapping[str, Any]) -> Any:
        row_count, dim = data.vectors.shape
        bits = dense.code_bits(build_params["nbits"], row_count)
        graph = faiss.IndexHNSWPQ(dim, build_params["m"], build_params["M"], bits, data.metric)
        faiss.downcast_index(graph.storage).pq.cp.min_points_per_centroid = 1
        return graph


TYPE = HnswPq()
