"""HNSW_PRQ: a graph with codes of product residual quantisation at its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import faiss

from milvine.index import dense
from milvine.index.graph_type import GRAPH, GraphType
from milvine.index.params import REFINE, IntParam
from milvine.model.schema import FieldSchema

_MAX_POINTS_PER_CENTROID = 64


class HnswPrq(GraphType):
    name = "HNSW_PRQ"
    params: ClassVar = {
        **GRAPH,
        "m": IntParam(2, 1, 65536),
        "nrq": IntParam(2, 1, 16),
        "nbits": IntParam(8, 1, 24),
        **REFINE,
    }
    candidates_factor = 4
    refuses_small_ef = False

    def check(self, field: FieldSchema, build_params: Mapping[str, Any]) -> None:
        dense.check_pieces(field.dim or 0, build_params["m"], "a vector")

    def nodes(self, data: dense.Prepared, build_params: Mapping[str, Any]) -> Any:
        row_count, dim = data.vectors.shape
        pieces, bits = build_params["m"], dense.code_bits(build_params["nbits"], row_count)
        # With the norms beside the codes, distances are sums from tables; without them each code would be decoded.
        kind = faiss.AdditiveQuantizer
        norms = kind.ST_norm_float if data.metric == faiss.METRIC_L2 else kind.ST_LUT_nonorm
        codes = faiss.IndexProductResidualQuantizer(dim, pieces, build_params["nrq"], bits, data.metric, norms)
        for number in range(pieces):
            quantizer = faiss.downcast_AdditiveQuantizer(codes.prq.subquantizer(number))
            # A wider beam makes a build several times slower and codes little better.
            quantizer.max_beam_size = 1
            quantizer.train_type = 0
            quantizer.cp.min_points_per_centroid = 1
            quantizer.cp.max_points_per_centroid = _MAX_POINTS_PER_CENTROID
        # faiss has no class for a graph with these codes, but reads and writes the storage of any class here.
        graph = faiss.IndexHNSWFlat(dim, build_params["M"], data.metric)
        graph.storage, graph.own_fields = codes, False
        graph.referenced_objects = [codes]
        return graph


TYPE = HnswPrq()
