"""REST routes that change collections, fields and indexes in place, and partial upserts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Server
from rest_client import VECTOR_INDEX, Rest

A = {"fieldName": "a", "dataType": "Int64", "nullable": True}


@pytest.fixture(scope="module")
def rest(server: Server) -> Iterator[Rest]:
    client = Rest(server.uri)
    yield client
    client.session.close()


def _create(rest: Rest, name: str, *, load: bool, **more: Any) -> None:
    indexes = {"indexParams": [VECTOR_INDEX]} if load else {}
    rest.custom_create(name, [A], **indexes, **more)
    if load:
        rest.wait_loaded(name)
    else:
        rest.ok("indexes/create", {"collectionName": name, "indexParams": [VECTOR_INDEX]})


def _described(rest: Rest, name: str) -> Any:
    return rest.ok("collections/describe", {"collectionName": name})


def _pairs(details: Any) -> dict[str, str]:
    return {pair["key"]: pair["value"] for pair in details}


def _rows(rest: Rest, name: str) -> Any:
    return rest.ok("entities/query", {"collectionName": name, "filter": "id >= 0", "outputFields": ["*"]})


def test_properties_of_a_collection_are_set_and_dropped(rest: Rest, collection_name: str) -> None:
    _create(rest, collection_name, load=False)
    body = {"collectionName": collection_name, "properties": {"mmap.enabled": True, "collection.ttl.seconds": 100000}}
    assert rest.ok("collections/alter_properties", body) == {}
    given = {"mmap.enabled": "true", "collection.ttl.seconds": "100000"}
    assert _pairs(_described(rest, collection_name)["properties"]).items() >= given.items()
    rest.ok("collections/drop_properties", {"collectionName": collection_name, "propertyKeys": ["mmap.enabled"]})
    assert "mmap.enabled" not in _pairs(_described(rest, collection_name)["properties"])


def test_properties_of_a_field_and_of_an_index_are_set_and_dropped(rest: Rest, collection_name: str) -> None:
    _create(rest, collection_name, load=False)
    field = {"collectionName": collection_name, "fieldName": "a", "fieldParams": {"mmap.enabled": True}}
    rest.ok("collections/fields/alter_properties", field)
    assert _pairs(_described(rest, collection_name)["fields"][-1]["params"]) == {"mmap.enabled": "true"}
    index = {"collectionName": collection_name, "indexName": "vec"}
    rest.ok("indexes/alter_properties", {**index, "properties": {"mmap.enabled": True, "warmup": "sync"}})
    described = rest.ok("indexes/describe", index)[0]
    assert (described["mmap.enabled"], described["warmup"]) == ("true", "sync")
    rest.ok("indexes/drop_properties", {**index, "propertyKeys": ["warmup"]})
    described = rest.ok("indexes/describe", index)[0]
    assert (described["mmap.enabled"], described["warmup"]) == ("true", "")


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("collections/alter_properties", {"properties": {"mmap.enabled": True}}),
        ("collections/drop_properties", {"propertyKeys": ["mmap.enabled"]}),
        ("collections/fields/alter_properties", {"fieldName": "a", "fieldParams": {"mmap.enabled": True}}),
        ("indexes/alter_properties", {"indexName": "vec", "properties": {"mmap.enabled": True}}),
        ("indexes/drop_properties", {"indexName": "vec", "propertyKeys": ["mmap.enabled"]}),
    ],
)
def test_a_loaded_collection_answers_104(rest: Rest, collection_name: str, route: str, body: dict[str, Any]) -> None:
    _create(rest, collection_name, load=True)
    answer = rest.post(route, {"collectionName": collection_name, **body})
    assert (answer["code"], "collection already loaded[collection=" in answer["message"]) == (104, True), answer


@pytest.mark.parametrize(
    ("route", "kind", "lacking"),
    [
        ("collections/alter_properties", "CollectionReqWithProperties", "CollectionName"),
        ("collections/drop_properties", "DropCollectionPropertiesReq", "CollectionName"),
        ("collections/fields/alter_properties", "CollectionFieldReqWithParams", "FieldName"),
        ("collections/fields/add", "CollectionFieldReqWithSchema", "Schema"),
        ("indexes/alter_properties", "IndexReqWithProperties", "IndexName"),
        ("indexes/drop_properties", "DropIndexPropertiesReq", "IndexName"),
    ],
)
def test_missing_required_parameters_are_named(rest: Rest, route: str, kind: str, lacking: str) -> None:
    answer = rest.post(route, {} if lacking == "CollectionName" else {"collectionName": "x"})
    assert (answer["code"], f"'{kind}.{lacking}'" in answer["message"]) == (1802, True), answer


def test_a_field_is_added_in_place(rest: Rest, collection_name: str) -> None:
    _create(rest, collection_name, load=True)
    rows = [{"id": 1, "vec": [1, 2], "a": 1}]
    rest.ok("entities/insert", {"collectionName": collection_name, "data": rows})
    added = {"fieldName": "b", "dataType": "VarChar", "nullable": True, "elementTypeParams": {"max_length": 9}}
    body = {"collectionName": collection_name, "schema": {**added, "defaultValue": "old"}}
    assert rest.ok("collections/fields/add", body) == {}
    rest.ok(
        "entities/insert", {"collectionName": collection_name, "data": [{"id": 2, "vec": [1, 2], "a": 2, "b": "new"}]}
    )
    assert [row["b"] for row in _rows(rest, collection_name)] == ["old", "new"]
    again = rest.post("collections/fields/add", body)
    assert (again["code"], "duplicated field name b" in again["message"]) == (1100, True), again


def test_a_partial_upsert_keeps_what_a_row_does_not_name(rest: Rest, collection_name: str) -> None:
    _create(rest, collection_name, load=True)
    name = {"collectionName": collection_name}
    rest.ok("entities/insert", {**name, "data": [{"id": 1, "vec": [1, 2], "a": 1}, {"id": 2, "vec": [3, 4], "a": 2}]})
    answer = rest.ok(
        "entities/upsert", {**name, "data": [{"id": 2, "a": None}, {"id": 1, "a": 9}], "partialUpdate": True}
    )
    assert answer == {"upsertCount": 2, "upsertIds": [2, 1]}
    assert _rows(rest, collection_name) == [
        {"id": 1, "vec": [1, 2], "a": 9},
        {"id": 2, "vec": [3, 4], "a": None},
    ]
    uneven = rest.post("entities/upsert", {**name, "data": [{"id": 1, "a": 3}, {"id": 2}], "partialUpdate": True})
    assert (uneven["code"], "row 1 does not has field a" in uneven["message"]) == (1804, True), uneven
    new = rest.post("entities/upsert", {**name, "data": [{"id": 3, "a": 3}], "partialUpdate": True})
    text = "fieldSchema(vec) has no corresponding fieldData pass in: invalid parameter"
    assert (new["code"], new["message"]) == (1100, text)


def test_a_partial_upsert_merges_dynamic_keys(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name)
    rest.wait_loaded(collection_name)
    name = {"collectionName": collection_name}
    rest.ok("entities/insert", {**name, "data": [{"id": 1, "vector": [1, 2], "red": 1, "blue": 1}]})
    rest.ok("entities/upsert", {**name, "data": [{"id": 1, "red": 2, "green": 3}], "partialUpdate": True})
    rest.ok("entities/upsert", {**name, "data": [{"id": 1, "vector": [5, 6]}], "partialUpdate": True})
    assert _rows(rest, collection_name) == [{"id": 1, "vector": [5, 6], "red": 2, "blue": 1, "green": 3}]


def test_an_upsert_appends_elements_or_removes_them(rest: Rest, collection_name: str) -> None:
    tags = {
        "fieldName": "tags",
        "dataType": "Array",
        "elementDataType": "Int64",
        "elementTypeParams": {"max_capacity": 4},
    }
    fields = [
        {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
        {"fieldName": "vec", "dataType": "FloatVector", "elementTypeParams": {"dim": 2}},
        tags,
    ]
    index = [{"fieldName": "vec", "indexName": "vec", "metricType": "L2"}]
    name = {"collectionName": collection_name}
    rest.ok("collections/create", {**name, "schema": {"fields": fields}, "indexParams": index})
    rest.wait_loaded(collection_name)
    rest.ok("entities/insert", {**name, "data": [{"id": 1, "vec": [1, 2], "tags": [1, 2, 1]}]})
    partial = {**name, "data": [{"id": 1, "tags": [1]}], "partialUpdate": True}

    def upserted(op: str) -> Any:
        return rest.post("entities/upsert", {**partial, "fieldOps": [{"fieldName": "tags", "op": op}]})

    assert upserted("array_append")["code"] == 0
    assert _rows(rest, collection_name) == [{"id": 1, "vec": [1, 2], "tags": [1, 2, 1, 1]}]
    text = "array length 5 exceeds max_capacity 4: invalid parameter"
    assert upserted("ARRAY_APPEND") == {"code": 1100, "message": text}
    assert upserted(" ARRAY_REMOVE ")["code"] == 0
    assert _rows(rest, collection_name) == [{"id": 1, "vec": [1, 2], "tags": [2]}]
    unknown = {"code": 1100, "message": "unsupported partial update op: ARRAY_SORT: invalid parameter"}
    assert upserted("ARRAY_SORT") == unknown


def test_automatic_ids_may_be_given_if_the_collection_allows_it(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name, autoID=True)
    name = {"collectionName": collection_name}
    row = {"id": 7, "vector": [1, 2]}
    refused = rest.post("entities/insert", {**name, "data": [row]})
    assert refused["code"] == 1804, refused
    rest.ok("collections/alter_properties", {**name, "properties": {"allow_insert_auto_id": True}})
    assert rest.ok("entities/insert", {**name, "data": [row]})["insertIds"] == [7]
    assert rest.ok("entities/insert", {**name, "data": [{"vector": [1, 2]}]})["insertIds"] != [7]


def test_a_function_is_added_and_dropped_with_its_field(rest: Rest, collection_name: str) -> None:
    text = {
        "fieldName": "text",
        "dataType": "VarChar",
        "elementTypeParams": {"max_length": 99, "enable_analyzer": True},
    }
    rest.custom_create(collection_name, [text], indexParams=[VECTOR_INDEX])
    rest.wait_loaded(collection_name)
    row = {"id": 1, "vec": [1, 2], "text": "old words"}
    rest.ok("entities/insert", {"collectionName": collection_name, "data": [row]})
    name = {"collectionName": collection_name}
    function = {"name": "f", "type": "BM25", "inputFieldNames": ["text"], "outputFieldNames": ["terms"]}
    output = {"fieldName": "terms", "dataType": "SparseFloatVector"}
    index = {"fieldName": "terms", "indexName": "by_terms", "metricType": "BM25", "indexType": "AUTOINDEX"}
    added = {**name, "function": function, "outputField": output, "indexParams": index}
    for change, text_of_error in (
        (
            {"indexParams": {**index, "fieldName": "text"}},
            'indexParams.fieldName "text" must match outputField.fieldName',
        ),
        ({"function": {**function, "type": "Bm25"}}, "Unsupported function type: Bm25"),
        (
            {"function": {**function, "inputFieldNames": ["id"]}},
            "BM25 function input field must be a VARCHAR/TEXT field",
        ),
    ):
        answer = rest.post("collections/add_function_field", {**added, **change})
        assert (answer["code"], text_of_error in answer["message"]) == (1100, True), answer
    assert rest.ok("collections/add_function_field", added) == {}
    row = {"id": 2, "vec": [1, 2], "text": "fresh words"}
    rest.ok("entities/insert", {**name, "data": [row]})
    search = {**name, "data": ["words"], "annsField": "terms", "consistencyLevel": "Strong"}
    assert sorted(hit["id"] for hit in rest.ok("entities/search", search)) == [1, 2]
    details = _described(rest, collection_name)
    assert [f["name"] for f in details["functions"]] == ["f"]
    assert [i["indexName"] for i in details["indexes"]] == ["vec", "by_terms"]

    altered = rest.post("collections/alter_function", {**name, "functionName": "f", "function": function})
    assert altered["message"] == "currently does not support alter BM25 function: invalid parameter"
    for route, body in (("add_function", {"function": function}), ("drop_function", {"functionName": "f"})):
        answer = rest.post(f"collections/{route}", {**name, **body})
        assert (answer["code"], "RPC is no longer supported" in answer["message"]) == (1100, True), answer
    assert rest.ok("collections/drop_function_field", {**name, "functionName": "f"}) == {}
    details = _described(rest, collection_name)
    assert (details["functions"], [f["name"] for f in details["fields"]]) == ([], ["id", "vec", "text"])


def test_a_field_is_dropped_by_its_name_or_its_id(rest: Rest, collection_name: str) -> None:
    _create(rest, collection_name, load=True)
    name = {"collectionName": collection_name}
    for body, text in (
        ({}, "exactly one of fieldName or fieldId is required"),
        ({"fieldName": "a", "fieldId": 102}, "exactly one of fieldName or fieldId is required"),
        ({"fieldId": 0}, "fieldId must be greater than 0"),
        ({"fieldName": "b"}, "field not found: b"),
        ({"fieldId": 109}, "field not found with id: 109"),
    ):
        answer = rest.post("collections/fields/drop", {**name, **body})
        assert answer == {"code": 1100, "message": f"{text}: invalid parameter"}
    number = next(f["id"] for f in _described(rest, collection_name)["fields"] if f["name"] == "a")
    assert rest.ok("collections/fields/drop", {**name, "fieldId": number}) == {}
    assert [f["name"] for f in _described(rest, collection_name)["fields"]] == ["id", "vec"]
