"""HNSW_SQ: a graph with scalar codes at its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import faiss

from milvine.index import dense
from milvine.index.graph_type import GRAPH, GraphType
from milvine.index.params import REFINE_4_BITS, ChoiceParam

_QUANTIZERS = {
    "sq4u": faiss.ScalarQuantizer.QT_4bit_uniform,
    "sq6": faiss.ScalarQuantizer.QT_6bit,
    "sq8": faiss.ScalarQuantizer.QT_8bit,
    "bf16": faiss.ScalarQuantizer.QT_bf16,
    "fp16": faiss.ScalarQuantizer.QT_fp16,
}


class HnswSq(GraphType):
    name = "HNSW_SQ"
    params: ClassVar = {
        **GRAPH,
        "sq_type": ChoiceParam("sq8", tuple(_QUANTIZERS), "invalid scalar quantizer type"),
        **REFINE_4_BITS,
    }
    candidates_factor = 2
    auto_codes: ClassVar = {kind: {"M": 16, "efConstruction": 100, "sq_type": "sq8", "ef": 96} for kind in dense.FLOATS}

    def nodes(self, data: dense.Prepared, build_params: Mapping[str, Any]) -> Any:
        codes = _QUANTIZERS[build_params["sq_type"]]
        return faiss.IndexHNSWSQ(data.vectors.shape[1], codes, int(build_params["M"]), data.metric)


TYPE = HnswSq()
