"""/v2/vectordb/aliases/ and collections/rename."""

from __future__ import annotations

from typing import Any

from milvine.rest_api.call import Call, Route
from milvine.service import aliases


def _alias(call: Call) -> str:
    return call.body.text("aliasName")


def create_alias(call: Call) -> dict[str, Any]:
    aliases.create_alias(call.engine, call.context, _alias(call), call.name)
    return {"data": {}}


def drop_alias(call: Call) -> dict[str, Any]:
    aliases.drop_alias(call.engine, call.context, _alias(call))
    return {"data": {}}


def alter_alias(call: Call) -> dict[str, Any]:
    aliases.alter_alias(call.engine, call.context, _alias(call), call.name)
    return {"data": {}}


def describe_alias(call: Call) -> dict[str, Any]:
    name = aliases.describe_alias(call.engine, call.context, _alias(call))
    return {"data": {"dbName": call.context.database, "collectionName": name, "aliasName": _alias(call)}}


def list_aliases(call: Call) -> dict[str, Any]:
    return {"data": aliases.list_aliases(call.engine, call.context, call.name)}


def rename_collection(call: Call) -> dict[str, Any]:
    new_name, new_database = call.body.text("newCollectionName"), call.body.text("newDbName")
    aliases.rename_collection(call.engine, call.context, call.name, new_name, new_database)
    return {"data": {}}


ROUTES: dict[str, Route] = {
    "aliases/alter": Route(alter_alias, "AliasCollectionReq", ("collectionName", "aliasName")),
    "aliases/create": Route(create_alias, "AliasCollectionReq", ("collectionName", "aliasName")),
    "aliases/describe": Route(describe_alias, "AliasReq", ("aliasName",)),
    "aliases/drop": Route(drop_alias, "AliasReq", ("aliasName",)),
    "aliases/list": Route(list_aliases, "OptionalCollectionNameReq", ()),
    "collections/rename": Route(rename_collection, "RenameCollectionReq", ("collectionName", "newCollectionName")),
}
