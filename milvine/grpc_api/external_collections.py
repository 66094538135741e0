"""RPCs of external collections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milvine.grpc_api import encode
from milvine.grpc_api.proto import milvus_pb2
from milvine.service import external_collections
from milvine.service.context import Engine, RequestContext


def refresh(engine: Engine, context: RequestContext, request: Any) -> Any:
    name, source, spec = request.collection_name, request.external_source, request.external_spec
    external_collections.refresh(engine, context, name, source, spec)
    return milvus_pb2.RefreshExternalCollectionResponse(status=encode.status())


def refresh_progress(engine: Engine, context: RequestContext, request: Any) -> Any:
    external_collections.refresh_progress(engine, context, request.job_id)
    return milvus_pb2.GetRefreshExternalCollectionProgressResponse(status=encode.status())


def list_refresh_jobs(engine: Engine, context: RequestContext, request: Any) -> Any:
    external_collections.list_refresh_jobs(engine, context, request.collection_name)
    return milvus_pb2.ListRefreshExternalCollectionJobsResponse(status=encode.status())


RPCS: dict[str, Callable[[Engine, RequestContext, Any], Any]] = {
    "GetRefreshExternalCollectionProgress": refresh_progress,
    "ListRefreshExternalCollectionJobs": list_refresh_jobs,
    "RefreshExternalCollection": refresh,
}
