"""RPCs of analyzers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milvine.grpc_api import encode
from milvine.grpc_api.proto import milvus_pb2
from milvine.service import text_analysis
from milvine.service.context import Engine, RequestContext
from milvine.service.text_analysis import AnalyzerRequest


def run_analyzer(engine: Engine, context: RequestContext, request: Any) -> Any:
    wanted = AnalyzerRequest(
        texts=request.placeholder,
        params=request.analyzer_params,
        collection_name=request.collection_name,
        field_name=request.field_name,
        names=tuple(request.analyzer_names),
        with_detail=request.with_detail,
        with_hash=request.with_hash,
    )
    response = milvus_pb2.RunAnalyzerResponse(status=encode.status())
    for tokens in text_analysis.run_analyzer(engine, context, wanted):
        response.results.add(tokens=[milvus_pb2.AnalyzerToken(**token) for token in tokens])
    return response


def compute_phrase_match_slop(engine: Engine, context: RequestContext, request: Any) -> Any:
    params, phrase, texts = request.analyzer_params, request.query_text, tuple(request.data_texts)
    found = text_analysis.phrase_slops(engine, context, params, phrase, texts)
    return milvus_pb2.ComputePhraseMatchSlopResponse(
        status=encode.status(),
        is_match=[slop is not None for slop in found],
        slops=[-1 if slop is None else slop for slop in found],
    )


RPCS: dict[str, Callable[[Engine, RequestContext, Any], Any]] = {
    "ComputePhraseMatchSlop": compute_phrase_match_slop,
    "RunAnalyzer": run_analyzer,
}
