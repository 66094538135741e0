"""RPCs of file resources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milvine.grpc_api import encode
from milvine.grpc_api.proto import milvus_pb2
from milvine.service import file_resources
from milvine.service.context import Engine, RequestContext


def add_file_resource(engine: Engine, context: RequestContext, request: Any) -> Any:
    file_resources.add_file_resource(engine, context, request.name, request.path)
    return encode.status()


def remove_file_resource(engine: Engine, context: RequestContext, request: Any) -> Any:
    file_resources.remove_file_resource(engine, context, request.name)
    return encode.status()


def list_file_resources(engine: Engine, context: RequestContext, request: Any) -> Any:
    response = milvus_pb2.ListFileResourcesResponse(status=encode.status())
    for resource in file_resources.list_file_resources(engine, context):
        response.resources.add(id=resource.resource_id, name=resource.name, path=resource.path)
    return response


RPCS: dict[str, Callable[[Engine, RequestContext, Any], Any]] = {
    "AddFileResource": add_file_resource,
    "ListFileResources": list_file_resources,
    "RemoveFileResource": remove_file_resource,
}
