"""/v2/vectordb/: the routes that change collections, fields and indexes in place."""

from __future__ import annotations

from typing import Any

from milvine.errors import ParameterInvalid
from milvine.model.json_text import plain_text
from milvine.rest_api import schemas
from milvine.rest_api.body import Body
from milvine.rest_api.call import Call, Route
from milvine.service import altering, schema_changes


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
    schema_changes.add_field(call.engine, call.context, call.name, schemas.added_field(call.body))
    return {"data": {}}


def drop_field(call: Call) -> dict[str, Any]:
    collection, name, number = call.name, call.body.text("fieldName"), call.body.value("fieldId")
    if bool(name) == (number is not None):
        raise ParameterInvalid("exactly one of fieldName or fieldId is required")
    if number is not None and call.body.long("fieldId") <= 0:
        raise ParameterInvalid("fieldId must be greater than 0")
    schema_changes.drop_field(call.engine, call.context, collection, name or call.body.long("fieldId"))
    return {"data": {}}


def add_function_field(call: Call) -> dict[str, Any]:
    schema_changes.add_function_field(call.engine, call.context, call.name, schemas.new_function(call.body))
    return {"data": {}}


def drop_function_field(call: Call) -> dict[str, Any]:
    name, function_name = call.name, call.body.text("functionName")
    schema_changes.drop_function_field(call.engine, call.context, name, function_name, with_outputs=True)
    return {"data": {}}


def alter_function(call: Call) -> dict[str, Any]:
    name, function_name = call.name, call.body.text("functionName")
    altered = schemas.only_function(call.body.inner("function"))
    schema_changes.alter_function(call.engine, call.context, name, function_name, altered)
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
    "collections/add_function_field": Route(
        add_function_field, "CollectionAddFunctionField", ("collectionName", "function", "outputField")
    ),
    "collections/alter_function": Route(
        alter_function, "CollectionAlterFunction", ("collectionName", "functionName", "function")
    ),
    "collections/drop_function_field": Route(
        drop_function_field, "CollectionDropFunctionField", ("collectionName", "functionName")
    ),
    "collections/fields/drop": Route(drop_field, "CollectionDropField"),
    "collections/fields/add": Route(add_field, "CollectionFieldReqWithSchema", ("collectionName", "schema")),
    "collections/fields/alter_properties": Route(
        alter_field, "CollectionFieldReqWithParams", ("collectionName", "fieldName")
    ),
    "indexes/alter_properties": Route(alter_index, "IndexReqWithProperties", _INDEX),
    "indexes/drop_properties": Route(drop_index_properties, "DropIndexPropertiesReq", _INDEX),
}
