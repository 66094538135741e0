"""/v2/vectordb/databases/."""

from __future__ import annotations

from typing import Any

from milvine.model.json_text import plain_text
from milvine.rest_api.call import Call, Route
from milvine.service import databases

_DATABASE = ("dbName",)


def _properties(call: Call) -> dict[str, str]:
    return {name: plain_text(value) for name, value in call.body.mapping("properties").items()}


def create_database(call: Call) -> dict[str, Any]:
    databases.create_database(call.engine, call.context, call.body.text("dbName"), _properties(call))
    return {"data": {}}


def drop_database(call: Call) -> dict[str, Any]:
    databases.drop_database(call.engine, call.context, call.body.text("dbName"))
    return {"data": {}}


def list_databases(call: Call) -> dict[str, Any]:
    return {"data": [d.name for d in databases.list_databases(call.engine, call.context)]}


def describe_database(call: Call) -> dict[str, Any]:
    found = databases.describe_database(call.engine, call.context, call.body.text("dbName"))
    properties = [{"key": k, "value": v} for k, v in found.properties.items()]
    return {"data": {"dbName": found.name, "dbID": found.database_id, "properties": properties}}


def alter_database(call: Call) -> dict[str, Any]:
    databases.alter_database(call.engine, call.context, call.body.text("dbName"), _properties(call), ())
    return {"data": {}}


def drop_properties(call: Call) -> dict[str, Any]:
    databases.alter_database(call.engine, call.context, call.body.text("dbName"), {}, call.body.texts("propertyKeys"))
    return {"data": {}}


ROUTES: dict[str, Route] = {
    "databases/alter": Route(alter_database, "DatabaseReqWithProperties", _DATABASE),
    "databases/alter_properties": Route(alter_database, "DatabaseReqWithProperties", _DATABASE),
    "databases/create": Route(create_database, "DatabaseReqWithProperties", _DATABASE),
    "databases/describe": Route(describe_database, "DatabaseReqRequiredName", _DATABASE),
    "databases/drop": Route(drop_database, "DatabaseReqRequiredName", _DATABASE),
    "databases/drop_properties": Route(drop_properties, "DropDatabasePropertiesReq", _DATABASE),
    "databases/list": Route(list_databases, "EmptyReq", ()),
}
