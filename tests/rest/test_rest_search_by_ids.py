"""`ids` of /v2/vectordb/entities/search: the vectors of the rows with these keys are the queries."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Server
from rest_client import VECTOR_INDEX, Rest, schema

BIG = 2**53 + 1
"""No float64 is this number."""


@pytest.fixture
def rest(server: Server) -> Rest:
    return Rest(server.uri)


@pytest.fixture
def filled(rest: Rest, collection_name: str) -> str:
    """Rows on a line; the vector of key 4 is NULL."""
    fields = [{"fieldName": "v", "dataType": "FloatVector", "elementTypeParams": {"dim": 2}, "nullable": True}]
    indexes = [{"fieldName": "v", "indexName": "v", "metricType": "L2"}]
    key = {"fieldName": "id", "dataType": "Int64", "isPrimary": True}
    body = {"schema": {"fields": [key, *fields]}, "indexParams": indexes}
    rest.ok("collections/create", {"collectionName": collection_name, **body})
    rows: list[dict[str, Any]] = [{"id": i, "v": [i, 0]} for i in (1, 2, 3, 5, 6)]
    rest.ok("entities/insert", {"collectionName": collection_name, "data": [*rows, {"id": 4, "v": None}]})
    rest.ok("entities/insert", {"collectionName": collection_name, "data": {"id": BIG, "v": [100, 0]}})
    rest.wait_loaded(collection_name)
    return collection_name


def _search(rest: Rest, name: str, **body: Any) -> dict[str, Any]:
    return rest.post("entities/search", {"collectionName": name, **body})


@pytest.mark.parametrize("ids", [[6, 1, BIG], ["6", "+1", str(BIG)], [6.0, 1, BIG]])
def test_numbers_and_texts_name_rows_exactly_and_in_their_order(rest: Rest, filled: str, ids: list[Any]) -> None:
    answer = _search(rest, filled, ids=ids, limit=2, annsField="v")
    found = [row["id"] for row in answer["data"]]
    assert (answer["code"], answer["topks"], found) == (0, [2, 2, 2], [6, 5, 1, 2, BIG, 6])
    assert answer == _search(rest, filled, data=[[6, 0], [1, 0], [100, 0]], limit=2, annsField="v")


def test_the_only_vector_field_need_not_be_named_and_filters_apply_to_the_hits(rest: Rest, filled: str) -> None:
    more = {"filter": "id < {top}", "exprParams": {"top": 5}, "outputFields": ["v"], "limit": 1}
    answer = _search(rest, filled, ids=[6], **more)
    assert answer == {"code": 0, "cost": 0, "topks": [1], "data": [{"id": 3, "distance": 9.0, "v": [3, 0]}]}


def test_a_null_vector_has_no_hits(rest: Rest, filled: str) -> None:
    answer = _search(rest, filled, ids=[2, 4, 1], limit=1)
    assert (answer["topks"], [row["id"] for row in answer["data"]]) == ([1, 0, 1], [2, 1])
    assert _search(rest, filled, ids=[4]) == {"code": 0, "cost": 0, "data": []}


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (
            {"ids": [1], "data": [[1, 2]]},
            1100,
            "primary keys (ids) and query vectors (data) are mutually exclusive. "
            "Please provide either 'ids' or 'data', not both",
        ),
        (
            {"ids": []},
            1802,
            "missing required parameters, error: "
            "either 'ids' (for primary key search) or 'data' (for vector search) must be provided",
        ),
        (
            {"ids": [1, 2.5]},
            1100,
            "invalid parameter, error: invalid int64 id at index 1: 2.5 has fractional part: invalid parameter",
        ),
        (
            {"ids": ["abc"]},
            1100,
            "invalid parameter, error: invalid int64 id at index 0: abc: "
            'strconv.ParseInt: parsing "abc": invalid syntax',
        ),
        (
            {"ids": [2**63]},
            1100,
            "invalid parameter, error: invalid int64 id at index 0: 9223372036854775808: "
            'strconv.ParseInt: parsing "9223372036854775808": value out of range',
        ),
        (
            {"ids": [True]},
            1100,
            "invalid parameter, error: invalid id type at index 0: expected int64, got bool: invalid parameter",
        ),
        (
            {"ids": [None]},
            1100,
            "invalid parameter, error: invalid id type at index 0: expected int64, got <nil>: invalid parameter",
        ),
        (
            {"ids": 1},
            1801,
            "can only accept json format request, error: json: cannot unmarshal number into Go struct field "
            "SearchReqV2.ids of type []interface {}",
        ),
        ({"ids": [1, "1"]}, 1100, "duplicate IDs found in search request: invalid parameter"),
        (
            {"ids": [8, 1, 7]},
            1100,
            "some of the provided primary key IDs do not exist: missing IDs = [8 7]: invalid parameter",
        ),
        (
            {"ids": [1], "annsField": "nope"},
            1700,
            "vector field not found in schema: field not found[field=nope]",
        ),
        (
            {"ids": [1], "limit": 0},
            1100,
            "topk [0] is invalid, it should be in range [1, 16384], but got 0: invalid parameter",
        ),
    ],
)
def test_invalid_ids_are_refused(rest: Rest, filled: str, body: dict[str, Any], code: int, message: str) -> None:
    answer = _search(rest, filled, **body)
    assert (answer["code"], answer["message"]) == (code, message)


def test_several_vector_fields_are_distinguished_by_name(rest: Rest, collection_name: str) -> None:
    second = {"fieldName": "other", "dataType": "Float16Vector", "elementTypeParams": {"dim": 2}}
    indexes = [VECTOR_INDEX, {**VECTOR_INDEX, "fieldName": "other", "indexName": "other"}]
    rest.ok(
        "collections/create", {"collectionName": collection_name, "schema": schema([second]), "indexParams": indexes}
    )
    rows = [{"id": i, "vec": [i, 0], "other": [0, -i * i]} for i in range(5)]
    rest.ok("entities/insert", {"collectionName": collection_name, "data": rows})
    rest.wait_loaded(collection_name)
    answer = _search(rest, collection_name, ids=[2])
    assert answer["code"] == 1100
    assert answer["message"].startswith("multiple vector fields exist, please specify anns_field in search_params")
    distances = [row["distance"] for row in _search(rest, collection_name, ids=[2], annsField="other")["data"]]
    assert distances == [0, 9, 16, 25, 144]


def test_text_keys_take_numbers_as_their_digits_but_no_empty_text(rest: Rest, collection_name: str) -> None:
    key = {"fieldName": "id", "dataType": "VarChar", "isPrimary": True, "elementTypeParams": {"max_length": 20}}
    vector = {"fieldName": "vec", "dataType": "FloatVector", "elementTypeParams": {"dim": 2}}
    body = {"schema": {"fields": [key, vector]}, "indexParams": [VECTOR_INDEX]}
    rest.ok("collections/create", {"collectionName": collection_name, **body})
    rest.ok(
        "entities/insert",
        {"collectionName": collection_name, "data": [{"id": "12345678", "vec": [1, 0]}, {"id": "k", "vec": [2, 0]}]},
    )
    rest.wait_loaded(collection_name)
    answer = _search(rest, collection_name, ids=["k", 12345678], limit=1)
    assert [row["id"] for row in answer["data"]] == ["k", "12345678"]
    for value, text in (
        ("", "empty string id at index 0"),
        (None, "invalid id type at index 0: expected string, got <nil>"),
        ([1], "invalid id type at index 0: expected string, got []interface {}"),
    ):
        answer = _search(rest, collection_name, ids=[value])
        assert (answer["code"], answer["message"]) == (1100, f"invalid parameter, error: {text}: invalid parameter")
