"""Collections, indexes and databases over REST."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rest_client import VECTOR_INDEX, Rest, schema

HNSW = {"fieldName": "vec", "indexType": "HNSW", "metricType": "L2"}
OF_EVERY_COLLECTION = [
    {"key": "namespace.sharding.enabled", "value": "false"},
    {"key": "timezone", "value": "UTC"},
    {"key": "max_field_id", "value": "102"},
]


@pytest.fixture
def rest(server: Any) -> Rest:
    return Rest(server.uri)


def test_a_quick_collection_is_described_as_milvus_does(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name, 5, description="words")
    rest.wait_loaded(collection_name)
    answer = rest.post("collections/describe", {"collectionName": collection_name})
    assert answer["code"] == 0
    assert answer["message"] == ""
    data = answer["data"]
    assert isinstance(data.pop("collectionID"), int)
    common = {"autoId": False, "clusteringKey": False, "description": "", "nullable": False, "partitionKey": False}
    assert data == {
        "aliases": [],
        "autoId": False,
        "collectionName": collection_name,
        "consistencyLevel": "Bounded",
        "description": "words",
        "enableDynamicField": True,
        "externalSource": "",
        "externalSpec": "",
        "fields": [
            {**common, "id": 100, "name": "id", "primaryKey": True, "type": "Int64"},
            {
                **common,
                "id": 101,
                "name": "vector",
                "params": [{"key": "dim", "value": "5"}],
                "primaryKey": False,
                "type": "FloatVector",
            },
        ],
        "functions": [],
        "indexes": [{"fieldName": "vector", "indexName": "vector", "metricType": "COSINE"}],
        "load": "LoadStateLoaded",
        "partitionsNum": 1,
        "properties": OF_EVERY_COLLECTION,
        "shardsNum": 1,
        "structFields": [],
    }


def test_every_option_of_a_quick_create_is_applied(rest: Rest, collection_name: str) -> None:
    rest.quick_create(
        collection_name,
        3,
        idType="VarChar",
        autoID=True,
        metricType="IP",
        primaryFieldName="key",
        vectorFieldName="v",
        params={"max_length": 64, "enableDynamicField": False, "ttlSeconds": 60, "consistencyLevel": "Strong"},
    )
    data = rest.ok("collections/describe", {"collectionName": collection_name})
    assert [(f["name"], f["type"]) for f in data["fields"]] == [("key", "VarChar"), ("v", "FloatVector")]
    assert data["fields"][0]["params"] == [{"key": "max_length", "value": "64"}]
    assert data["fields"][0]["autoId"]
    assert data["autoId"]
    assert not data["enableDynamicField"]
    assert data["consistencyLevel"] == "Strong"
    assert {"key": "collection.ttl.seconds", "value": "60"} in data["properties"]
    assert data["indexes"] == [{"fieldName": "v", "indexName": "v", "metricType": "IP"}]


@pytest.mark.parametrize("auto_id", ["autoID", "autoId"])
def test_a_custom_schema_keeps_its_types_and_has_no_index(rest: Rest, collection_name: str, auto_id: str) -> None:
    fields: list[dict[str, Any]] = [
        {"fieldName": "t", "dataType": "VarChar", "elementTypeParams": {"max_length": "20"}, "nullable": True},
        {"fieldName": "b", "dataType": "Bool"},
        {"fieldName": "i8", "dataType": "Int8"},
        {"fieldName": "i16", "dataType": "Int16"},
        {"fieldName": "i32", "dataType": "Int32"},
        {"fieldName": "f", "dataType": "Float"},
        {"fieldName": "d", "dataType": "Double"},
        {"fieldName": "j", "dataType": "JSON"},
    ]
    body = {"collectionName": collection_name, "schema": schema(fields, **{auto_id: True, "enableDynamicField": True})}
    rest.ok("collections/create", body)
    answer = rest.post("collections/describe", {"collectionName": collection_name})
    data = answer["data"]
    names = ["Int64", "FloatVector", "VarChar", "Bool", "Int8", "Int16", "Int32", "Float", "Double", "JSON"]
    assert [f["type"] for f in data["fields"]] == names
    assert [f["nullable"] for f in data["fields"]][:4] == [False, False, True, False]
    assert data["fields"][0]["autoId"]
    assert data["enableDynamicField"]
    assert data["indexes"] == []
    assert answer["message"] == f"index not found[collection={collection_name}];"


def test_the_index_params_of_a_create_are_described(rest: Rest, collection_name: str) -> None:
    index = {
        "fieldName": "vec",
        "indexName": "near",
        "metricType": "IP",
        "indexType": "HNSW",
        "params": {"M": 16, "efConstruction": "64"},
    }
    rest.custom_create(collection_name, [], indexParams=[index])
    (data,) = rest.ok("indexes/describe", {"collectionName": collection_name, "indexName": "near"})
    assert (data["fieldName"], data["indexName"]) == ("vec", "near")
    assert (data["indexType"], data["metricType"], data["indexState"]) == ("HNSW", "IP", "Finished")
    assert (data["totalRows"], data["indexedRows"], data["pendingRows"]) == (0, 0, 0)
    assert data["failReason"] == ""
    params = {p["key"]: p["value"] for p in data["indexParams"]}
    assert json.loads(params["params"]) == {"M": 16, "efConstruction": "64"}, "as it was sent"


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ({}, 1100, "dimension is required for quickly create collection(default metric type: COSINE)"),
        ({"dimension": 1}, 1100, "invalid dimension: 1. should be in range 2 ~ 32768"),
        ({"dimension": 4, "metricType": "NEAR"}, 1100, "float vector index does not support metric type: NEAR"),
        ({"dimension": 4, "idType": "Float"}, 1100, "idType can only be [Int64, VarChar], default: Int64"),
        ({"dimension": 4, "idType": "VarChar"}, 1100, "max_length of field id must be an integer"),
        ({"dimension": 4, "vectorFieldType": "Near"}, 1100, "vectorFieldType can only be [FloatVector, "),
        (
            {"dimension": 4, "vectorFieldType": "BinaryVector"},
            1100,
            "binary vector dimension should be multiple of 8. ",
        ),
        ({"dimension": 4, "consistencyLevel": "Weak"}, 1100, "consistencyLevel can only be [Strong, Session, "),
        (
            {"dimension": 4, "consistencyLevel": "Strong", "params": {"consistencyLevel": "Bounded"}},
            1100,
            "top-level consistencyLevel conflicts with params.consistencyLevel",
        ),
        (
            {"dimension": 4, "properties": {"ttl.seconds": 1}, "params": {"ttlSeconds": 2}},
            1100,
            "collection TTL is specified multiple times",
        ),
        ({"dimension": 4, "params": {"enableDynamicField": "maybe"}}, 65535, "parse enableDynamicField fail"),
        ({"dimension": 4, "primaryFieldName": "1d"}, 1701, "Invalid field name: 1d."),
        ({"schema": schema([{"fieldName": "x", "dataType": "int64"}])}, 1100, "int64 is invalid(case sensitive)"),
        (
            {"schema": schema([{"fieldName": "x", "dataType": "Array", "elementDataType": "int8"}])},
            1100,
            "element data type int8 is invalid(case sensitive)",
        ),
        (
            {"schema": schema([{"fieldName": "x", "dataType": "Array", "elementDataType": "JSON"}])},
            1100,
            "element type JSON is not supported",
        ),
        (
            {"schema": schema([{"fieldName": "x", "dataType": "Array", "elementDataType": "Int8"}])},
            1101,
            "type param(max_capacity) should be specified for array field x",
        ),
        ({"schema": schema([{"fieldName": "id", "dataType": "Int64"}])}, 1100, "duplicated field name id found"),
        ({"schema": schema([{"fieldName": "x", "dataType": "VarChar"}])}, 1101, "type param(max_length)"),
        (
            {"schema": schema([{"fieldName": "x", "dataType": "Int32", "isPartitionKey": True}])},
            1100,
            "the data type of partition key should be Int64 or VarChar",
        ),
        (
            {"schema": schema([{"fieldName": "x", "dataType": "Int64", "defaultValue": "0"}])},
            1100,
            'cannot use "0"(type: string) as long default value',
        ),
        (
            {"schema": schema([{"fieldName": "x", "dataType": "Int8", "defaultValue": 128}])},
            1100,
            "default value out of range: invalid parameter[128 out of range -128 <= value <= 127]",
        ),
        (
            {"schema": schema([{"fieldName": "x", "dataType": "JSON", "defaultValue": {}}])},
            1100,
            "Unexpected default value type: JSON",
        ),
        ({"schema": schema([], functions=[{"name": "f", "type": "F"}])}, 1100, "Unsupported function type: F"),
        ({"schema": schema([], functions=[{"name": "f"}])}, 1100, "Unsupported function type: "),
        ({"schema": schema([], functions=[{"type": "BM25"}])}, 1101, "function name cannot be empty"),
        (
            {"schema": schema([]), "indexParams": [{"fieldName": "nope"}]},
            1802,
            "missing required parameters, error: `nope` hasn't defined in schema",
        ),
    ],
)
def test_a_create_that_is_refused_leaves_no_collection(
    rest: Rest, collection_name: str, body: dict[str, Any], code: int, text: str
) -> None:
    answer = rest.post("collections/create", {"collectionName": collection_name, **body})
    assert answer["code"] == code, answer
    assert text in answer["message"]
    assert rest.ok("collections/has", {"collectionName": collection_name}) == {"has": False}


def test_creating_the_same_again_succeeds_and_another_schema_is_refused(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name)
    rest.quick_create(collection_name)
    answer = rest.post("collections/create", {"collectionName": collection_name, "dimension": 8})
    assert answer["code"] == 1100
    assert "create duplicate collection with different parameters" in answer["message"]


def test_list_has_and_drop_agree(rest: Rest, collection_name: str) -> None:
    assert collection_name not in rest.ok("collections/list", {})
    assert rest.ok("collections/has", {"collectionName": collection_name}) == {"has": False}
    rest.quick_create(collection_name)
    assert collection_name in rest.ok("collections/list", {})
    assert rest.ok("collections/has", {"collectionName": collection_name}) == {"has": True}
    assert rest.ok("collections/drop", {"collectionName": collection_name}) == {}
    assert rest.ok("collections/drop", {"collectionName": collection_name}) == {}
    assert rest.ok("collections/has", {"collectionName": collection_name}) == {"has": False}


@pytest.mark.parametrize("path", ["list", "has", "describe", "get_stats", "flush", "release"])
def test_a_missing_database_is_800_on_every_route_that_looks_for_a_collection(rest: Rest, path: str) -> None:
    answer = rest.post(f"collections/{path}", {"collectionName": "c", "dbName": "nowhere"})
    assert answer == {"code": 800, "message": "database not found[database=nowhere]"}


@pytest.mark.parametrize("path", ["collections/get_stats", "collections/flush", "indexes/list"])
def test_a_missing_collection_is_100(rest: Rest, path: str) -> None:
    answer = rest.post(path, {"collectionName": "nowhere"})
    assert answer == {"code": 100, "message": "collection not found[database=default][collection=nowhere]"}


def test_describing_a_missing_collection_is_100_with_its_own_text(rest: Rest) -> None:
    answer = rest.post("collections/describe", {"collectionName": "nowhere"})
    assert answer == {"code": 100, "message": "can't find collection[database=default][collection=nowhere]"}


def test_stats_count_rows_before_and_after_a_flush(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name)
    assert rest.ok("collections/get_stats", {"collectionName": collection_name}) == {"rowCount": 0}
    rows = [{"id": i, "vector": [0.5, i]} for i in range(7)]
    rest.ok("entities/insert", {"collectionName": collection_name, "data": rows})
    assert rest.ok("collections/flush", {"collectionName": collection_name}) == {}
    assert rest.ok("collections/get_stats", {"collectionName": collection_name}) == {"rowCount": 7}


def test_an_index_is_created_listed_described_and_dropped(rest: Rest, collection_name: str) -> None:
    rest.custom_create(collection_name, [])
    here = {"collectionName": collection_name}
    assert rest.ok("indexes/list", here) == []
    assert rest.ok("indexes/create", {**here, "indexParams": [VECTOR_INDEX]}) == {}
    assert rest.ok("indexes/create", {**here, "indexParams": [VECTOR_INDEX]}) == {}
    assert rest.ok("indexes/list", here) == ["vec"]
    (data,) = rest.ok("indexes/describe", {**here, "indexName": "vec"})
    assert (data["indexType"], data["metricType"]) == ("AUTOINDEX", "L2")
    assert rest.ok("indexes/drop", {**here, "indexName": "vec"}) == {}
    assert rest.ok("indexes/drop", {**here, "indexName": "vec"}) == {}
    assert rest.ok("indexes/list", here) == []


def test_a_missing_index_is_700(rest: Rest, collection_name: str) -> None:
    rest.custom_create(collection_name, [])
    answer = rest.post("indexes/describe", {"collectionName": collection_name, "indexName": "nope"})
    assert answer == {"code": 700, "message": "index not found[indexName=nope]"}


@pytest.mark.parametrize(
    ("index", "text"),
    [
        ({"fieldName": "nope"}, "cannot create index on non-exist field: nope"),
        ({"fieldName": "vec", "indexType": "NEAR"}, "invalid index type: NEAR"),
        ({"fieldName": "vec", "params": {"index_type": "NEAR"}}, "invalid index type: NEAR"),
        ({"fieldName": "vec", "metricType": "NEAR"}, "float vector index does not support metric type: NEAR"),
        ({**HNSW, "params": {"M": 1}}, "should be in range [2, 2048]"),
        ({**HNSW, "params": {"M": "x"}}, "invalid integer value"),
        ({}, "cannot create index on non-exist field"),
    ],
)
def test_a_refused_index_is_1100_and_is_not_created(
    rest: Rest, collection_name: str, index: dict[str, Any], text: str
) -> None:
    rest.custom_create(collection_name, [])
    answer = rest.post("indexes/create", {"collectionName": collection_name, "indexParams": [index]})
    assert answer["code"] == 1100
    assert text in answer["message"]
    assert rest.ok("indexes/list", {"collectionName": collection_name}) == []


def test_the_vector_index_of_a_loaded_collection_cannot_be_dropped(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name)
    answer = rest.post("indexes/drop", {"collectionName": collection_name, "indexName": "vector"})
    assert answer["code"] == 1100
    assert "vector index cannot be dropped on loaded collection" in answer["message"]


def test_databases_are_listed(rest: Rest) -> None:
    assert rest.ok("databases/list", {}) == ["default"]


@pytest.mark.parametrize("element", ["ArrayOfStruct", "Struct", "ArrayOfVector", "Array"])
def test_arrays_of_structs_are_refused(rest: Rest, element: str) -> None:
    fields = [
        {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
        {"fieldName": "v", "dataType": "FloatVector", "elementTypeParams": {"dim": "4"}},
    ]
    structs = {"fieldName": "st", "fields": [{"fieldName": "a", "dataType": "Int64"}]}
    body: dict[str, Any] = {"collectionName": "structs", "schema": {"fields": fields, "structFields": [structs]}}
    unsupported = "is not supported by this version of Milvine"
    refused = {"code": 1100, "message": f"a struct field {unsupported}: invalid parameter"}
    assert rest.post("collections/create", body) == refused
    kinds = {"dataType": element, "elementDataType": "Struct"}
    body["schema"] = {"fields": [*fields, {"fieldName": "st", "elementTypeParams": {"max_capacity": "4"}, **kinds}]}
    noun = f"{'element' if element == 'Array' else 'data'} type {'Struct' if element == 'Array' else element}"
    refused["message"] = f"{noun} of field st {unsupported}: invalid parameter"
    assert rest.post("collections/create", body) == refused
    assert rest.ok("collections/has", {"collectionName": "structs"})["has"] is False
