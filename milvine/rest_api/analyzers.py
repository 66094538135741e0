"""/v2/vectordb/common/."""

from __future__ import annotations

from typing import Any

from milvine.rest_api.call import Call, Route
from milvine.service import text_analysis
from milvine.service.text_analysis import AnalyzerRequest

_NAMES = {
    "token": "token",
    "start_offset": "startOffset",
    "end_offset": "endOffset",
    "position": "position",
    "position_length": "positionLength",
    "hash": "hash",
}


def run_analyzer(call: Call) -> dict[str, Any]:
    body = call.body
    wanted = AnalyzerRequest(
        texts=[text.encode("utf-8", "replace") for text in body.texts("text")],
        params=body.text("analyzerParams"),
        collection_name=call.name,
        field_name=body.text("fieldName"),
        names=body.texts("analyzerNames"),
        with_detail=body.boolean("withDetail"),
        with_hash=body.boolean("withHash"),
    )
    found = text_analysis.run_analyzer(call.engine, call.context, wanted)
    results = [
        {"tokens": [{_NAMES[key]: value for key, value in token.items()} for token in tokens]} for tokens in found
    ]
    return {"data": {"results": results}}


ROUTES: dict[str, Route] = {"common/run_analyzer": Route(run_analyzer, "RunAnalyzerReq", ("text",))}
