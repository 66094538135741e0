"""REST v1, as Milvus serves it beside v2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from conftest import Server, ServerFactory
from rest_client import Rest

from milvine.rest_api.v1 import V1


class First:
    """A client of v1. `ok` requires success and returns the data."""

    def __init__(self, uri: str) -> None:
        self.uri = f"{uri}/v1/vector/"
        self.rest = Rest(uri)

    def send(self, path: str, body: Any = None, **more: Any) -> requests.Response:
        is_get = V1.routes[path].method == "GET"
        given = {"params": body} if is_get else {"json": body}
        return requests.request("GET" if is_get else "POST", self.uri + path, timeout=30, **given, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.send(path, body, **more).json()
        return answer

    def ok(self, path: str, body: Any = None, **more: Any) -> Any:
        answer = self.post(path, body, **more)
        assert answer["code"] == 200, answer
        return answer["data"]


@pytest.fixture
def first(server: Server) -> First:
    return First(server.uri)


@pytest.fixture
def filled(first: First, request: pytest.FixtureRequest) -> Iterator[str]:
    """A collection of v2 with keys 1 to 3, each with the vector [key, 0] and a `tag`."""
    name = f"v1_{abs(hash(request.node.name))}"
    vector = {"fieldName": "vec", "dataType": "FloatVector", "elementTypeParams": {"dim": 2}}
    text = {"fieldName": "s", "dataType": "VarChar", "elementTypeParams": {"max_length": 9}, "defaultValue": "d"}
    fields = [{"fieldName": "key", "dataType": "Int64", "isPrimary": True}, vector, text]
    index = {"fieldName": "vec", "indexName": "vec", "metricType": "L2"}
    schema = {"fields": fields, "enableDynamicField": True}
    first.rest.ok("collections/create", {"collectionName": name, "schema": schema, "indexParams": [index]})
    rows = [{"key": n, "vec": [n, 0.0], "tag": f"t{n}"} for n in (1, 2, 3)]
    assert first.ok("insert", {"collectionName": name, "data": rows}) == {"insertCount": 3, "insertIds": [1, 2, 3]}
    yield name
    first.rest.ok("collections/drop", {"collectionName": name})


def test_a_new_collection_has_an_automatic_key_and_is_indexed_and_loaded(first: First) -> None:
    body = {"collectionName": "v1_new", "dimension": 2, "description": "about", "primaryField": "book"}
    assert first.ok("collections/create", body) == {}
    described = first.ok("collections/describe", {"collectionName": "v1_new"})
    basics = {"clusteringKey": False, "description": "", "nullable": False, "partitionKey": False}
    assert described == {
        "collectionName": "v1_new",
        "description": "about",
        "enableDynamicField": True,
        "fields": [
            {**basics, "autoId": True, "name": "book", "primaryKey": True, "type": "Int64"},
            {**basics, "autoId": False, "name": "vector", "primaryKey": False, "type": "FloatVector(2)"},
        ],
        "indexes": [{"fieldName": "vector", "indexName": "vector_idx", "metricType": "L2"}],
        "load": described["load"],
        "shardsNum": 1,
    }
    assert described["load"] in ("LoadStateLoading", "LoadStateLoaded")
    assert "v1_new" in first.ok("collections")
    assert first.ok("insert", {"collectionName": "v1_new", "data": {"vector": [0.0, 1.0]}})["insertCount"] == 1
    refused = first.post("upsert", {"collectionName": "v1_new", "data": {"book": 1, "vector": [0.0, 1.0]}})
    text = "cannot upsert an autoID collection: invalid parameter[expected=autoID: false][actual=autoID: true]"
    assert refused == {"code": 1100, "message": text}
    assert first.ok("collections/drop", {"collectionName": "v1_new"}) == {}
    again = first.post("collections/drop", {"collectionName": "v1_new"})
    assert again == {"code": 100, "message": "collection not found, database: default, collection: v1_new"}


def test_names_metric_and_dynamic_fields_of_a_new_collection(first: First) -> None:
    more = {"metricType": "IP", "vectorField": "v", "enableDynamicField": False}
    first.ok("collections/create", {"collectionName": "v1_named", "dimension": 4, **more})
    described = first.ok("collections/describe", {"collectionName": "v1_named"})
    assert described["indexes"] == [{"fieldName": "v", "indexName": "vector_idx", "metricType": "IP"}]
    assert [f["name"] for f in described["fields"]] == ["id", "v"]
    assert described["enableDynamicField"] is False
    first.ok("collections/drop", {"collectionName": "v1_named"})


def test_types_have_dimensions_and_lengths(first: First, filled: str) -> None:
    fields = {f["name"]: f for f in first.ok("collections/describe", {"collectionName": filled})["fields"]}
    assert {name: f["type"] for name, f in fields.items()} == {
        "key": "Int64",
        "vec": "FloatVector(2)",
        "s": "VarChar(9)",
    }
    assert fields["s"]["defaultValue"] == {"Data": {"StringData": "d"}}


def test_rows_are_written_read_and_deleted(first: First, filled: str) -> None:
    name = {"collectionName": filled}
    upserted = first.ok("upsert", {**name, "data": [{"key": 3, "vec": [3.0, 0.0], "s": "x", "tag": "new"}]})
    assert upserted == {"upsertCount": 1, "upsertIds": [3]}
    assert first.ok("query", {**name, "filter": "key > 1", "outputFields": ["tag"]}) == [
        {"key": 2, "tag": "t2"},
        {"key": 3, "tag": "new"},
    ]
    assert len(first.ok("query", {**name, "filter": "key > 0", "limit": 1})) == 1
    assert first.ok("get", {**name, "id": [1], "outputFields": ["vec", "s"]}) == [{"key": 1, "vec": [1, 0], "s": "d"}]
    assert first.ok("delete", {**name, "id": [1]}) == {}
    assert first.ok("delete", {**name, "filter": "key == 2"}) == {}
    assert [row["key"] for row in first.ok("query", {**name, "filter": "key > 0"})] == [3]


def test_hits_of_a_search_have_the_key_under_id(first: First, filled: str) -> None:
    search = {"collectionName": filled, "vector": [1, 0]}
    hits = first.ok("search", {**search, "outputFields": ["tag"]})
    assert [(h["id"], h["distance"], h["tag"]) for h in hits] == [(1, 0, "t1"), (2, 1, "t2"), (3, 4, "t3")]
    assert [h["id"] for h in first.ok("search", {**search, "limit": 1, "offset": 1})] == [2]
    assert [h["id"] for h in first.ok("search", {**search, "filter": "key > 2"})] == [3]
    assert [h["id"] for h in first.ok("search", {**search, "params": {"radius": 4, "range_filter": 1}})] == [2]
    assert first.ok("search", {**search, "filter": "key > 9"}) == []
    assert [h["id"] for h in first.ok("search", search, headers={"Accept-Type-Allow-Int64": "false"})] == [
        "1",
        "2",
        "3",
    ]


def test_keys_of_the_second_version_are_ignored(first: First, filled: str) -> None:
    body = {"collectionName": filled, "filter": "key > 0", "partitionNames": ["absent"], "orderByFields": ["tag:asc"]}
    assert len(first.ok("query", body)) == 3


@pytest.mark.parametrize(
    ("path", "required", "body"),
    [
        ("collections/create", "collectionName, dimension", {"collectionName": "c", "dimension": 0}),
        ("collections/describe", "collectionName", {}),
        ("collections/drop", "collectionName", {"collectionName": ""}),
        ("delete", "collectionName, id/filter", {"collectionName": "c", "filter": ""}),
        ("get", "collectionName, id", {"collectionName": "c"}),
        ("insert", "collectionName, data", {"collectionName": "c"}),
        ("query", "collectionName, filter", {"collectionName": "c"}),
        ("search", "collectionName, vector", {"collectionName": "c", "vector": None}),
        ("upsert", "collectionName, data", {"data": [{}]}),
    ],
)
def test_all_required_parameters_are_named_if_one_is_missing(
    first: First, path: str, required: str, body: dict[str, Any]
) -> None:
    text = f"missing required parameters, required parameters: [{required}]"
    assert first.post(path, body) == {"code": 1802, "message": text}


@pytest.mark.parametrize(
    ("path", "body", "code", "text"),
    [
        ("query", {"filter": "key > 0", "limit": "x"}, 1801, "error: json: cannot unmarshal string into"),
        (
            "search",
            {"vector": ["x"]},
            1801,
            "cannot unmarshal string into Go struct field SearchReq.vector of type float32",
        ),
        ("search", {"vector": [1e300, 0]}, 1801, "of type float32"),
        ("search", {"vector": [1, 0], "params": {"radius": "x"}}, 1801, "SearchReq.params of type float64"),
        ("search", {"vector": [1, 0], "params": {"range_filter": 1}}, 1801, "error: invalid search params"),
        ("search", {"vector": [1, 0, 0]}, 1100, "dimension"),
        ("search", {"vector": [1, 0], "limit": 0}, 1100, "topk"),
        (
            "search",
            {"vector": [1, 0], "searchAggregation": {}},
            1100,
            "searchAggregation is not supported for REST v1 search",
        ),
        ("search", {"vector": [1, 0], "filter": "nope >"}, 1100, "cannot parse expression"),
        ("get", {"id": ["x"]}, 1806, "please check the primary key and its' type can only in [int, string], error: "),
        ("insert", {"data": []}, 1804, "fail to deal the insert data, error: missing required parameters"),
        ("insert", {"data": [{"key": 9, "vec": [1]}]}, 1804, "fail to deal the insert data, error: "),
        ("insert", {"data": "x"}, 1801, "SingleInsertReq.data of type map[string]interface {}"),
    ],
)
def test_bad_values_are_refused_as_in_milvus(
    first: First, filled: str, path: str, body: dict[str, Any], code: int, text: str
) -> None:
    answer = first.post(path, {"collectionName": filled, **body})
    assert answer["code"] == code, answer
    assert text in answer["message"]


@pytest.mark.parametrize("path", sorted(path for path, route in V1.routes.items() if route.method == "POST"))
def test_no_body_is_an_unexpected_end(first: First, path: str) -> None:
    answer = requests.post(first.uri + path, data=b"", headers={"Content-Type": "application/json"}, timeout=30)
    assert answer.json() == {"code": 1801, "message": "can only accept json format request, error: EOF"}


@pytest.mark.parametrize("path", sorted(V1.routes))
def test_another_method_is_the_routers_404(first: First, path: str) -> None:
    other = "POST" if V1.routes[path].method == "GET" else "GET"
    answer = requests.request(other, first.uri + path, timeout=30)
    assert (answer.status_code, answer.text) == (404, "404 page not found")


@pytest.mark.parametrize("path", sorted(set(V1.routes) - {"collections"}))
def test_an_absent_collection_and_an_absent_database_are_refused(first: First, path: str) -> None:
    body: dict[str, Any] = {"collectionName": "absent", "data": [{"id": 1}], "id": 1, "filter": "id > 0", "vector": [1]}
    if path != "collections/create":
        assert first.post(path, body)["code"] == 100
    answer = first.post(path, {**body, "dimension": 2, "dbName": "nowhere"})
    assert answer == {"code": 800, "message": "database not found, database: nowhere"}


def test_other_databases_are_reached_by_name(first: First) -> None:
    first.rest.ok("databases/create", {"dbName": "v1_db"})
    there = {"dbName": "v1_db", "collectionName": "c"}
    first.ok("collections/create", {**there, "dimension": 2})
    assert first.ok("collections", {"dbName": "v1_db"}) == ["c"]
    assert "c" not in first.ok("collections")
    assert first.ok("collections/describe", there)["collectionName"] == "c"
    first.ok("collections/drop", there)
    first.rest.ok("databases/drop", {"dbName": "v1_db"})


def test_a_rate_refuses_with_its_text_twice(new_server: ServerFactory) -> None:
    env = {"MILVINE_QUOTAANDLIMITS_DQL_ENABLED": "true", "MILVINE_QUOTAANDLIMITS_DQL_QUERYRATE_MAX": "0"}
    first = First(new_server(env=env).uri)
    first.ok("collections/create", {"collectionName": "c", "dimension": 2})
    answer = first.post("query", {"collectionName": "c", "filter": "id > 0"})
    text = "quota exceeded[reason=rate type: DQLQuery]"
    assert answer == {"code": 9, "message": f"{text}, error: {text}"}
