"""RPCs that change collections, fields and indexes in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milvine.errors import ParameterInvalid, ParameterMissing
from milvine.grpc_api import decode_schema, encode
from milvine.grpc_api.key_values import pairs
from milvine.grpc_api.proto import milvus_pb2
from milvine.model.requests import NewFunction
from milvine.service import altering, schema_changes
from milvine.service.context import Engine, RequestContext


def alter_collection(engine: Engine, context: RequestContext, request: Any) -> Any:
    properties = pairs(request.properties)
    altering.alter_collection(engine, context, request.collection_name, properties, tuple(request.delete_keys))
    return encode.status()


def alter_field(engine: Engine, context: RequestContext, request: Any) -> Any:
    name, properties = request.collection_name, pairs(request.properties)
    altering.alter_field(engine, context, name, request.field_name, properties, tuple(request.delete_keys))
    return encode.status()


def alter_index(engine: Engine, context: RequestContext, request: Any) -> Any:
    name, params = request.collection_name, pairs(request.extra_params)
    altering.alter_index(engine, context, name, request.index_name, params, tuple(request.delete_keys))
    return encode.status()


def add_field(engine: Engine, context: RequestContext, request: Any) -> Any:
    schema_changes.add_field(engine, context, request.collection_name, decode_schema.added_field(request))
    return encode.status()


def alter_schema(engine: Engine, context: RequestContext, request: Any) -> Any:
    if not request.HasField("action"):
        raise ParameterInvalid("action is nil in alter schema task")
    match request.action.WhichOneof("op"):
        case "add_request":
            _add(engine, context, request.collection_name, request.action.add_request)
        case "drop_request":
            _drop(engine, context, request.collection_name, request.action.drop_request)
        case _:
            raise ParameterInvalid("unknown action type in alter collection schema request")
    return milvus_pb2.AlterCollectionSchemaResponse(alter_status=encode.status())


def _add(engine: Engine, context: RequestContext, name: str, request: Any) -> None:
    added = decode_schema.schema_addition(request)
    if isinstance(added, NewFunction):
        schema_changes.add_function_field(engine, context, name, added)
    else:
        schema_changes.add_schema_field(engine, context, name, added)


def _drop(engine: Engine, context: RequestContext, name: str, drop: Any) -> None:
    identifier = drop.WhichOneof("identifier")
    if identifier == "function_name":
        with_outputs = drop.drop_function_output_fields
        schema_changes.drop_function_field(engine, context, name, drop.function_name, with_outputs=with_outputs)
    elif identifier is None:
        raise ParameterMissing("drop request must specify field_name, field_id, or function_name")
    else:
        schema_changes.drop_field(engine, context, name, getattr(drop, identifier))


def alter_function(engine: Engine, context: RequestContext, request: Any) -> Any:
    if not request.HasField("functionSchema"):
        raise ParameterInvalid("function schema is empty")
    altered = decode_schema.function(request.functionSchema)
    schema_changes.alter_function(engine, context, request.collection_name, request.function_name, altered)
    return encode.status()


RPCS: dict[str, Callable[[Engine, RequestContext, Any], Any]] = {
    "AddCollectionField": add_field,
    "AlterCollection": alter_collection,
    "AlterCollectionField": alter_field,
    "AlterCollectionFunction": alter_function,
    "AlterCollectionSchema": alter_schema,
    "AlterIndex": alter_index,
}
