"""/v2/vectordb/jobs/external_collection/."""

from __future__ import annotations

from typing import Any

from milvine.rest_api.call import Call, Route
from milvine.service import external_collections


def refresh(call: Call) -> dict[str, Any]:
    source, spec = call.body.text("externalSource"), call.body.text("externalSpec")
    external_collections.refresh(call.engine, call.context, call.name, source, spec)
    return {"data": {}}


def refresh_progress(call: Call) -> dict[str, Any]:
    external_collections.refresh_progress(call.engine, call.context, call.body.long("jobId"))
    return {"data": {}}


def list_refresh_jobs(call: Call) -> dict[str, Any]:
    external_collections.list_refresh_jobs(call.engine, call.context, call.name)
    return {"data": {"records": []}}


ROUTES: dict[str, Route] = {
    "jobs/external_collection/describe": Route(refresh_progress, "RefreshExternalCollectionProgressReq", ("jobId",)),
    "jobs/external_collection/list": Route(list_refresh_jobs, "OptionalCollectionNameReq", ()),
    "jobs/external_collection/refresh": Route(refresh, "RefreshExternalCollectionReq"),
}
