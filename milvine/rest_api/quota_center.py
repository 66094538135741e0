"""/v2/vectordb/quotacenter/."""

from __future__ import annotations

from typing import Any

from milvine.model import json_text
from milvine.rest_api.call import Call, Route
from milvine.service import quota_metrics


def describe_quota_center(call: Call) -> dict[str, Any]:
    """The metrics as JSON text, as in Milvus."""
    return {"data": json_text.dumps(quota_metrics.describe_quota_center(call.engine, call.context)).decode()}


ROUTES: dict[str, Route] = {"quotacenter/describe": Route(describe_quota_center, "GetQuotaMetricsReq", ())}
