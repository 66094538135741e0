"""The RPCs of aliases and of renaming."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milvine.grpc_api import encode
from milvine.grpc_api.proto import milvus_pb2
from milvine.service import aliases
from milvine.service.context import Engine, RequestContext


def create_alias(engine: Engine, context: RequestContext, request: Any) -> Any:
    aliases.create_alias(engine, context, request.alias, request.collection_name)
    return encode.status()


def drop_alias(engine: Engine, context: RequestContext, request: Any) -> Any:
    aliases.drop_alias(engine, context, request.alias)
    return encode.status()


def alter_alias(engine: Engine, context: RequestContext, request: Any) -> Any:
    aliases.alter_alias(engine, context, request.alias, request.collection_name)
    return encode.status()


def describe_alias(engine: Engine, context: RequestContext, request: Any) -> Any:
    name = aliases.describe_alias(engine, context, request.alias)
    return milvus_pb2.DescribeAliasResponse(
        status=encode.status(), db_name=context.database, alias=request.alias, collection=name
    )


def list_aliases(engine: Engine, context: RequestContext, request: Any) -> Any:
    found = aliases.list_aliases(engine, context, request.collection_name)
    return milvus_pb2.ListAliasesResponse(
        status=encode.status(),
        db_name=context.database,
        collection_name=request.collection_name,
        aliases=found,
    )


def rename_collection(engine: Engine, context: RequestContext, request: Any) -> Any:
    aliases.rename_collection(engine, context, request.oldName, request.newName, request.newDBName)
    return encode.status()


RPCS: dict[str, Callable[[Engine, RequestContext, Any], Any]] = {
    "AlterAlias": alter_alias,
    "CreateAlias": create_alias,
    "DescribeAlias": describe_alias,
    "DropAlias": drop_alias,
    "ListAliases": list_aliases,
    "RenameCollection": rename_collection,
}
