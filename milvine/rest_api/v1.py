"""/v1/vector/: Milvus's first version of REST, for collections that have one vector field and a key."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from milvine.errors import (
    CollectionNotFound,
    DatabaseNotFound,
    MilvineError,
    ParameterInvalid,
    PermissionDenied,
    RejectedByLimiter,
    RestBadJson,
    RestCollectionNotFound,
    RestDatabaseNotFound,
    RestMissingAny,
    RestPermissionDenied,
    RestV1Rejected,
)
from milvine.model.known_keys import KEYS
from milvine.model.requests import CreateCollectionRequest, DeleteRequest, SearchRequest
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import ConsistencyLevel, DataType
from milvine.rest_api import codec, entities, resources, rows
from milvine.rest_api.body import Body
from milvine.rest_api.call import Call, Handler, Route, Version
from milvine.rest_api.schemas import NewIndex
from milvine.service import collections, reading, writes
from milvine.service.context import RequestContext

_KEY_NAME, _VECTOR_NAME, _INDEX_NAME = "id", "vector", "vector_idx"
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
_NOTHING: dict[str, tuple[Any, ...]] = {"dimension": (None, 0), "id": (None,)}
"""The values of parameters with which they count as not given; of others null and the empty text."""


def _require(body: Body, required: Sequence[str]) -> None:
    """Raises RestMissingAny. Of parameters joined by a slash one is enough."""
    for names in required:
        if all(body.value(name) in _NOTHING.get(name, (None, "")) for name in names.split("/")):
            raise RestMissingAny(", ".join(required))


def _refusal(error: MilvineError, context: RequestContext) -> MilvineError:
    if isinstance(error, RejectedByLimiter):
        return RestV1Rejected(error)
    if isinstance(error, DatabaseNotFound):
        return RestDatabaseNotFound(context.database)
    return RestPermissionDenied(error) if isinstance(error, PermissionDenied) else error


def _as_in_v2(handler: Handler) -> Handler:
    """The answer of the second version to the keys that the first one knows."""

    def handle(call: Call) -> dict[str, Any]:
        known = {name.lower() for name in KEYS[call.body.kind]}
        values = {key: value for key, value in call.body.values.items() if key.lower() in known}
        answer = handler(replace(call, body=replace(call.body, values=values)))
        assert isinstance(answer, dict)
        return {"data": answer["data"]}

    return handle


def create_collection(call: Call) -> dict[str, Any]:
    """The key is automatic; the collection is indexed and loaded."""
    body = call.body
    key = FieldSchema(0, body.text("primaryField", _KEY_NAME), DataType.INT64, is_primary=True, auto_id=True)
    vector_name = body.text("vectorField", _VECTOR_NAME)
    vector = FieldSchema(0, vector_name, DataType.FLOAT_VECTOR, dim=body.integer("dimension"))
    dynamic = body.value("enableDynamicField") is None or body.boolean("enableDynamicField")
    schema = CollectionSchema((key, vector), body.text("description"), dynamic)
    index = NewIndex(vector_name, _INDEX_NAME, {"metric_type": body.text("metricType", "L2")})
    request = CreateCollectionRequest(call.name, schema, 1, ConsistencyLevel.BOUNDED)
    resources.create(call, request, [index])
    return {"data": {}}


def drop_collection(call: Call) -> dict[str, Any]:
    try:
        call.collection(collections.drop_collection)
    except CollectionNotFound:
        raise RestCollectionNotFound(call.name, call.context.database) from None
    return resources.drop_collection(call)


def describe_collection(call: Call) -> dict[str, Any]:
    """With the indexes of the first vector field only."""
    collection = collections.describe_collection(call.engine, call.context, call.name)
    state, found, _ = resources.load_and_indexes(call)
    schema = collection.schema
    return {
        "data": {
            "collectionName": call.name,
            "description": schema.description,
            "enableDynamicField": schema.enable_dynamic_field,
            "fields": [_field_details(field) for field in schema.user_fields],
            "indexes": [codec.index_basics(i) for i in found if i.field_name == schema.vector_fields[0].name],
            "load": "" if state is None else state.milvus_name,
            "shardsNum": collection.num_shards,
        }
    }


def _field_details(field: FieldSchema) -> dict[str, Any]:
    """The type has the vector's dimension or the text's length."""
    details = codec.field_basics(field)
    if field.data_type.is_vector:
        details["type"] += f"({field.dim or 0})"
    elif field.data_type is DataType.VARCHAR:
        details["type"] += f"({field.max_length})"
    return details


def upsert(call: Call) -> dict[str, Any]:
    if call.schema(writes.upsert).primary_field.auto_id:
        raise ParameterInvalid("cannot upsert an autoID collection", expected="autoID: false", actual="autoID: true")
    return entities.upsert(call)


def delete(call: Call) -> dict[str, Any]:
    """By filter or, without one, by ids."""
    schema = call.schema(writes.delete)
    body = call.body
    request = DeleteRequest(call.name, "", body.text("filter"))
    if not request.filter:
        wanted = codec.get(body, schema)
        request = replace(request, filter=wanted.filter, templates=wanted.templates)
    writes.delete(call.engine, call.context, request)
    return {"data": {}}


def search(call: Call) -> dict[str, Any]:
    """By one vector of floats. The keys of the hits are named `id`, whatever their field is named."""
    body = call.body
    if body.value("searchAggregation") is not None:
        raise ParameterInvalid("searchAggregation is not supported for REST v1 search")
    request = SearchRequest(
        call.name,
        np.array([_numbers(body, "vector", body.array("vector"), _LARGEST_FLOAT, "float32")], np.float32),
        body.integer("limit", codec.DEFAULT_LIMIT),
        body.integer("offset"),
        params=_search_params(body),
        filter=body.text("filter"),
        output_fields=body.texts("outputFields"),
    )
    result = reading.search(call.engine, call.context, request)
    return {"data": rows.of_search(result, call.int64_as_text, _KEY_NAME)}


def _numbers(body: Body, name: str, values: Collection[Any], largest: float, wanted: str) -> Collection[float]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > largest:
            raise body.bad_type(name, value, wanted)
    return values


def _search_params(body: Body) -> Mapping[str, float]:
    """The radius and the range filter; Milvus leaves out all others."""
    given = body.mapping("params")
    _numbers(body, "params", given.values(), float(np.finfo(np.float64).max), "float64")
    if "range_filter" in given and "radius" not in given:
        raise RestBadJson("error: invalid search params")
    return {name: given[name] for name in ("radius", "range_filter") if name in given}


_ROWS = ("collectionName", "data")
V1 = Version(
    "/v1/vector/",
    {
        "collections": Route(_as_in_v2(resources.list_collections), "DatabaseReq", (), "GET"),
        "collections/create": Route(create_collection, "CreateCollectionReq", ("collectionName", "dimension")),
        "collections/describe": Route(describe_collection, method="GET"),
        "collections/drop": Route(drop_collection, "DropCollectionReq"),
        "delete": Route(delete, "DeleteReq", ("collectionName", "id/filter")),
        "get": Route(_as_in_v2(entities.get), "GetReq", ("collectionName", "id")),
        "insert": Route(_as_in_v2(entities.insert), "SingleInsertReq", _ROWS),
        "query": Route(_as_in_v2(entities.query), "QueryReq", ("collectionName", "filter")),
        "search": Route(search, "SearchReq", ("collectionName", "vector")),
        "upsert": Route(_as_in_v2(upsert), "SingleUpsertReq", _ROWS),
    },
    label="v1/",
    success=200,
    text_of_no_body="error: EOF",
    require=_require,
    refusal=_refusal,
)
