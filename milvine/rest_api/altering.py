"""/v2/vectordb/: the routes that change collections, fields and indexes in place."""

from __future__ import annotations

from typing import Any

from milvine.errors import ParameterInvalid
from milvine.model.json_text import plain_text
from milvine.rest_api import schemas
from milvine.rest_api.body import Body
from milvine.rest_api.call import Call, Route
from milvine.service import altering


def _properties(body: Body, name: str) -> dict[str, str]:
    return {k: plain_text(v) for k, v in body.mapping(name).items()}


def alter_collection(call: Call) -> dict[str, Any]:
    altering.alter_collection(call.engine, call.context, call.name, _properties(call.body, "properties"))
    return {"data": {}}


def drop_collection_properties(call: Call) -> dict[str, Any]:
    altering.alter_collection(call.engine, call.context, call.name, {}, call.body.texts("propertyKeys"))
    return {"data": {}}


def alter_field(call: Call) -> dict[str, Any]:
    properties = _properties(call.body, "fieldParams")
    altering.alter_field(call.engine, call.context, call.name, call.body.text("fieldName"), properties)
    return {"data": {}}


def add_field(call: Call) -> dict[str, Any]:
    if call.body.inner("schema").array("fields"):
        raise ParameterInvalid("StructArray field must be added through /v2/vectordb/collections/struct_fields/add")
    altering.add_field(call.engine, call.context, call.name, schemas.added_field(call.body))
    return {"data": {}}


def alter_index(call: Call) -> dict[str, Any]:
    properties = _properties(call.body, "properties")
    altering.alter_index(call.engine, call.context, call.name, call.body.text("indexName"), properties)
    return {"data": {}}


def drop_index_properties(call: Call) -> dict[str, Any]:
    keys = call.body.texts("propertyKeys")
    altering.alter_index(call.engine, call.context, call.name, call.body.text("indexName"), {}, keys)
    return {"data": {}}


_INDEX = ("collectionName", "indexName")
ROUTES: dict[str, Route] = {
    "collections/alter_properties": Route(alter_collection, "CollectionReqWithProperties"),
    "collections/drop_properties": Route(drop_collection_properties, "DropCollectionPropertiesReq"),
    "collections/fields/add": Route(add_field, "CollectionFieldReqWithSchema", ("collectionName", "schema")),
    "collections/fields/alter_properties": Route(
        alter_field, "CollectionFieldReqWithParams", ("collectionName", "fieldName")
    ),
    "indexes/alter_properties": Route(alter_index, "IndexReqWithProperties", _INDEX),
    "indexes/drop_properties": Route(drop_index_properties, "DropIndexPropertiesReq", _INDEX),
}
