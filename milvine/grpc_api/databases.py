"""The RPCs of databases. They name their database only in the request, not in the metadata."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milvine.grpc_api import encode
from milvine.grpc_api.key_values import pairs
from milvine.grpc_api.proto import milvus_pb2
from milvine.service import databases
from milvine.service.context import Engine, RequestContext


def create_database(engine: Engine, context: RequestContext, request: Any) -> Any:
    databases.create_database(engine, context, request.db_name, pairs(request.properties))
    return encode.status()


def drop_database(engine: Engine, context: RequestContext, request: Any) -> Any:
    databases.drop_database(engine, context, request.db_name)
    return encode.status()


def list_databases(engine: Engine, context: RequestContext, request: Any) -> Any:
    found = databases.list_databases(engine, context)
    return milvus_pb2.ListDatabasesResponse(
        status=encode.status(),
        db_names=[d.name for d in found],
        created_timestamp=[d.created_ts for d in found],
        db_ids=[d.database_id for d in found],
    )


def describe_database(engine: Engine, context: RequestContext, request: Any) -> Any:
    found = databases.describe_database(engine, context, request.db_name)
    return milvus_pb2.DescribeDatabaseResponse(
        status=encode.status(),
        db_name=found.name,
        dbID=found.database_id,
        created_timestamp=found.created_ts,
        properties=encode.key_values(found.properties),
    )


def alter_database(engine: Engine, context: RequestContext, request: Any) -> Any:
    properties = pairs(request.properties)
    databases.alter_database(engine, context, request.db_name, properties, tuple(request.delete_keys))
    return encode.status()


RPCS: dict[str, Callable[[Engine, RequestContext, Any], Any]] = {
    "AlterDatabase": alter_database,
    "CreateDatabase": create_database,
    "DescribeDatabase": describe_database,
    "DropDatabase": drop_database,
    "ListDatabases": list_databases,
}
