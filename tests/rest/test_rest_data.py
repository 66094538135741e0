"""Upserts, default values and arrays over REST."""

from __future__ import annotations

from typing import Any

import pytest
from rest_client import VECTOR_INDEX, Rest, schema


@pytest.fixture
def rest(server: Any) -> Rest:
    return Rest(server.uri)


def _create(rest: Rest, name: str, fields: list[dict[str, Any]], dynamic: bool = False) -> None:
    body = {"schema": schema(fields, enableDynamicField=dynamic), "indexParams": [VECTOR_INDEX]}
    rest.ok("collections/create", {"collectionName": name, **body})


def _rows(rest: Rest, name: str, **body: Any) -> Any:
    return rest.ok("entities/query", {"collectionName": name, "filter": "id >= 0", **body})


def _write(rest: Rest, route: str, name: str, data: Any, **more: Any) -> dict[str, Any]:
    return rest.post(f"entities/{route}", {"collectionName": name, "data": data, **more})


def test_an_upsert_replaces_whole_rows_and_returns_their_keys(rest: Rest, collection_name: str) -> None:
    fields = [{"fieldName": "n", "dataType": "Int64", "nullable": True}]
    _create(rest, collection_name, fields, dynamic=True)
    _write(rest, "insert", collection_name, [{"id": i, "vec": [i, 0], "n": i, "old": i} for i in range(3)])
    answer = _write(rest, "upsert", collection_name, [{"id": 1, "vec": [9, 9]}, {"id": 5, "vec": [5, 5], "n": 5}])
    assert answer == {"code": 0, "cost": 0, "data": {"upsertCount": 2, "upsertIds": [1, 5]}}
    assert _rows(rest, collection_name) == [
        {"id": 0, "vec": [0, 0], "n": 0, "old": 0},
        {"id": 1, "vec": [9, 9], "n": None},
        {"id": 2, "vec": [2, 0], "n": 2, "old": 2},
        {"id": 5, "vec": [5, 5], "n": 5},
    ]
    one = _write(rest, "upsert", collection_name, {"id": 0, "vec": [0, 0]}, **{})
    assert one["data"] == {"upsertCount": 1, "upsertIds": [0]}


def test_an_upsert_names_rows_with_automatic_ids(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name, autoID=True)
    (old,) = _write(rest, "insert", collection_name, {"vector": [1, 2], "n": 1})["data"]["insertIds"]
    (new,) = _write(rest, "upsert", collection_name, {"id": old, "vector": [1, 2], "n": 2})["data"]["upsertIds"]
    assert new != old
    assert [(row["id"], row["n"]) for row in _rows(rest, collection_name)] == [(new, 2)]
    refused = _write(rest, "upsert", collection_name, {"vector": [1, 2]})
    assert (refused["code"], "row 0 does not has field id" in refused["message"]) == (1804, True), refused


@pytest.mark.parametrize(
    ("data", "more", "code", "text"),
    [
        ([{"id": 1, "vec": [1, 2]}, {"id": 1, "vec": [1, 2]}], {}, 1100, "duplicate primary keys are not allowed"),
        ([{"vec": [1, 2]}], {}, 1804, "row 0 does not has field id"),
        ([{"id": 1, "vec": [1, 2, 3]}], {}, 1804, "doesn't equal to vector dimension 2"),
        ([], {}, 1804, "missing required parameters"),
        (
            [{"id": 1, "vec": [1, 2]}],
            {"fieldOps": [{"fieldName": "n", "op": "ARRAY_APPEND"}]},
            1100,
            'field "n" not found in collection schema',
        ),
    ],
)
def test_a_bad_upsert_is_refused(
    rest: Rest, collection_name: str, data: Any, more: dict[str, Any], code: int, text: str
) -> None:
    _create(rest, collection_name, [])
    answer = _write(rest, "upsert", collection_name, data, **more)
    assert (answer["code"], text in answer["message"]) == (code, True), answer
    assert rest.count(collection_name) == 0


DEFAULTS: dict[str, tuple[str, Any, str]] = {
    "b": ("Bool", True, "BoolData"),
    "i8": ("Int8", -8, "IntData"),
    "i64": ("Int64", 64, "LongData"),
    "f": ("Float", 0.5, "FloatData"),
    "d": ("Double", 0.1, "DoubleData"),
    "s": ("VarChar", "wörd", "StringData"),
}


@pytest.mark.parametrize("nullable", [False, True])
def test_defaults_replace_missing_and_null_values(rest: Rest, collection_name: str, nullable: bool) -> None:
    fields = [
        {
            "fieldName": name,
            "dataType": data_type,
            "defaultValue": value,
            "nullable": nullable,
            "elementTypeParams": {"max_length": 9} if data_type == "VarChar" else {},
        }
        for name, (data_type, value, _) in DEFAULTS.items()
    ]
    _create(rest, collection_name, fields)
    given = {"b": False, "i8": 1, "i64": 2, "f": 1.5, "d": 2.5, "s": ""}
    rows = [{"id": 0, "vec": [0, 0]}, {"id": 1, "vec": [0, 0], **dict.fromkeys(DEFAULTS)}]
    _write(rest, "insert", collection_name, [*rows, {"id": 2, "vec": [0, 0], **given}])
    default = {name: value for name, (_, value, _) in DEFAULTS.items()}
    found = _rows(rest, collection_name, outputFields=list(DEFAULTS))
    assert [{k: row[k] for k in DEFAULTS} for row in found] == [default, default, given]
    described = rest.ok("collections/describe", {"collectionName": collection_name})["fields"]
    found = {f["name"]: f.get("defaultValue") for f in described}
    assert found == {"id": None, "vec": None} | {n: {"Data": {kind: v}} for n, (_, v, kind) in DEFAULTS.items()}


ARRAYS: dict[str, tuple[str, list[Any]]] = {
    "b": ("Bool", [True, False]),
    "i8": ("Int8", [-128, 127]),
    "i32": ("Int32", []),
    "i64": ("Int64", [2**53 + 1, -1]),
    "f": ("Float", [0.1, 2]),
    "d": ("Double", [0.1]),
    "s": ("VarChar", ["wörd", ""]),
}


def _array(name: str, element_type: str, **more: Any) -> dict[str, Any]:
    params = {"max_capacity": 3, **({"max_length": 9} if element_type == "VarChar" else {})}
    return {
        "fieldName": name,
        "dataType": "Array",
        "elementDataType": element_type,
        "elementTypeParams": params,
        **more,
    }


def test_arrays_round_trip(rest: Rest, collection_name: str) -> None:
    _create(rest, collection_name, [_array(n, t, nullable=True) for n, (t, _) in ARRAYS.items()])
    row = {"id": 1, "vec": [1, 0], **{name: value for name, (_, value) in ARRAYS.items()}}
    texts = {"id": 2, "vec": [2, 0], **dict.fromkeys(ARRAYS), "i8": "[1, 2]"}
    assert _write(rest, "insert", collection_name, [row, texts, {"id": 3, "vec": [3, 0]}])["code"] == 0
    nulls = dict.fromkeys(ARRAYS)
    wanted = [row, {**texts, "i8": [1, 2]}, {"id": 3, "vec": [3, 0], **nulls}]
    assert _rows(rest, collection_name) == wanted
    rest.ok("collections/flush", {"collectionName": collection_name})
    assert _rows(rest, collection_name) == wanted
    assert [r["id"] for r in _rows(rest, collection_name, filter="array_contains(s, 'wörd')")] == [1]
    found = _rows(rest, collection_name, filter="array_contains_any(i8, {x})", exprParams={"x": [2, 127]})
    assert [r["id"] for r in found] == [1, 2]
    described = rest.ok("collections/describe", {"collectionName": collection_name})["fields"]
    found = next(f for f in described if f["name"] == "s")
    assert (found["type"], found["elementType"]) == ("Array", "VarChar")
    assert found["params"] == [{"key": "max_length", "value": "9"}, {"key": "max_capacity", "value": "3"}]


@pytest.mark.parametrize(
    ("values", "code", "text"),
    [
        ({"a": [1, 2, 3, 4]}, 1100, "the length (4) of 0th array exceeds max capacity (3)"),
        ({"a": [1, 128]}, 1804, "invalid parameter[expected=Array of Int8][actual=[[1,128],[]]]"),
        ({"a": ["x"]}, 1804, "invalid parameter[expected=Array of Int8]"),
        ({"a": [1.5]}, 1804, "invalid parameter[expected=Array of Int8]"),
        ({"a": [True]}, 1804, "invalid parameter[expected=Array of Int8]"),
        ({"a": [None]}, 1804, "invalid parameter[expected=Array of Int8]"),
        ({"a": 5}, 1804, "invalid parameter[expected=Array of Int8]"),
        ({"a": "[1"}, 1804, "invalid parameter[expected=Array of Int8]"),
        ({}, 1804, "row 0 does not has field a"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    rest: Rest, collection_name: str, values: dict[str, Any], code: int, text: str
) -> None:
    _create(rest, collection_name, [_array("a", "Int8")])
    rows = [{"id": 1, "vec": [1, 2], **values}, {"id": 2, "vec": [1, 2], "a": []}]
    answer = _write(rest, "insert", collection_name, rows)
    assert (answer["code"], text in answer["message"]) == (code, True), answer
    assert rest.count(collection_name) == 0
