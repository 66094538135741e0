"""RPCs that change collections, fields and indexes in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milvine.grpc_api import decode, encode
from milvine.grpc_api.proto import milvus_pb2
from milvine.service import altering
from milvine.service.context import Engine, RequestContext


def alter_collection(engine: Engine, context: RequestContext, request: Any) -> Any:
    properties = decode.pairs(request.properties)
    altering.alter_collection(engine, context, request.collection_name, properties, tuple(request.delete_keys))
    return encode.status()


def alter_field(engine: Engine, context: RequestContext, request: Any) -> Any:
    name, properties = request.collection_name, decode.pairs(request.properties)
    altering.alter_field(engine, context, name, request.field_name, properties, tuple(request.delete_keys))
    return encode.status()


def alter_index(engine: Engine, context: RequestContext, request: Any) -> Any:
    name, params = request.collection_name, decode.pairs(request.extra_params)
    altering.alter_index(engine, context, name, request.index_name, params, tuple(request.delete_keys))
    return encode.status()


def add_field(engine: Engine, context: RequestContext, request: Any) -> Any:
    altering.add_field(engine, context, request.collection_name, decode.added_field(request))
    return encode.status()


def alter_schema(engine: Engine, context: RequestContext, request: Any) -> Any:
    drop = request.action.drop_request
    if drop.WhichOneof("identifier") == "function_name":
        name, with_outputs = request.collection_name, drop.drop_function_output_fields
        altering.drop_function(engine, context, name, drop.function_name, with_outputs=with_outputs)
    altering.alter_schema(engine, context, request.collection_name, decode.schema_change(request))
    return milvus_pb2.AlterCollectionSchemaResponse(alter_status=encode.status())


RPCS: dict[str, Callable[[Engine, RequestContext, Any], Any]] = {
    "AddCollectionField": add_field,
    "AlterCollection": alter_collection,
    "AlterCollectionField": alter_field,
    "AlterCollectionSchema": alter_schema,
    "AlterIndex": alter_index,
}
