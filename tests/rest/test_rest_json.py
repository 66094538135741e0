"""JSON bodies are read as Milvus reads them: numbers, text as it was sent, lone surrogates, the letter case of keys."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Server
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from rest_client import VECTOR_INDEX, Rest, schema

_LONG = "123456789012345678901234567890"
_TYPES: dict[str, tuple[str, dict[str, Any]]] = {
    "i": ("Int64", {}),
    "i8": ("Int8", {}),
    "i32": ("Int32", {}),
    "s": ("VarChar", {"max_length": 200}),
    "d": ("Double", {}),
    "b": ("Bool", {}),
    "j": ("JSON", {}),
    "a": ("Array", {"max_capacity": 4}),
    "ad": ("Array", {"max_capacity": 4}),
}
_ELEMENTS = {"a": "Int64", "ad": "Double"}


@pytest.fixture(scope="module")
def rest(server: Server) -> Rest:
    return Rest(server.uri)


@pytest.fixture(scope="module")
def typed(rest: Rest) -> Iterator[str]:
    """A collection with a nullable field of each kind and a dynamic field."""
    name = f"c_{uuid.uuid4().hex[:12]}"
    fields = [
        {
            "fieldName": field,
            "dataType": kind,
            "nullable": True,
            "elementTypeParams": params,
            **({"elementDataType": _ELEMENTS[field]} if field in _ELEMENTS else {}),
        }
        for field, (kind, params) in _TYPES.items()
    ]
    made = {**schema(fields), "enableDynamicField": True}
    rest.ok("collections/create", {"collectionName": name, "schema": made, "indexParams": [VECTOR_INDEX]})
    yield name
    rest.ok("collections/drop", {"collectionName": name})


def _insert(rest: Rest, name: str, field: str, text: str) -> tuple[int, dict[str, Any]]:
    key = uuid.uuid4().int >> 80
    content = (
        f'{{"collectionName": "{name}", "data": [{{"id": {key}, "vec": [0.1, 0.2], {json.dumps(field)}: {text}}}]}}'
    )
    return key, rest.send("entities/insert", content.encode()).json()


_KEPT: list[tuple[str, str, object]] = [
    ("i", "1.0", 1),
    ("i", "1e3", 1000),
    ("i", "-0.0", 0),
    ("i", '"10"', 10),
    ("i", "9007199254740993", 9007199254740993),
    ("i8", "1e2", 100),
    ("i32", "1e3", 1000),
    ("s", "1.10", "1.1"),
    ("s", "1e21", "1000000000000000000000"),
    ("s", _LONG, _LONG),
    ("s", "true", "true"),
    ("s", "[1,  2]", "[1,  2]"),
    ("s", "-0.0", "-0"),
    ("d", '"2.5"', 2.5),
    ("d", _LONG, float(_LONG)),
    ("b", "1.0", True),
    ("j", f'{{"a":  {_LONG}}}', f'{{"a":  {_LONG}}}'),
    ("j", '{"a":1,"a":1.10}', '{"a":1,"a":1.10}'),
    ("j", '"{\\"a\\": 1}"', '{"a": 1}'),
    ("j", "5", "5"),
    ("a", "[1,2]", [1, 2]),
    ("ad", f"[1, {_LONG}]", [1.0, float(_LONG)]),
    ("dyn", "1.0", 1.0),
    ("dyn", "1e2", 100),
    ("dyn", _LONG, int(_LONG)),
    ("dyn", f'{{"a": [{_LONG}]}}', {"a": [int(_LONG)]}),
]
_REFUSED = [
    ("i", "1.5"),
    ("i", "9223372036854775808"),
    ("i", "1e300"),
    ("i", '"1.0"'),
    ("i", '""'),
    ("i", "true"),
    ("i8", "300"),
    ("i32", "1.5"),
    ("d", "9" * 400),
    ("d", "true"),
    ("b", "2"),
    ("a", "[1.0]"),
    ("a", f"[{_LONG}]"),
    ("a", '["1"]'),
    ("vec", "[1, " + "9" * 400 + "]"),
]


@pytest.mark.parametrize(("field", "text", "wanted"), _KEPT, ids=lambda value: str(value)[:30])
def test_a_value_is_kept_as_milvus_keeps_it(rest: Rest, typed: str, field: str, text: str, wanted: object) -> None:
    key, answer = _insert(rest, typed, field, text)
    assert answer["code"] == 0, answer
    (row,) = rest.ok("entities/query", {"collectionName": typed, "filter": f"id == {key}", "outputFields": [field]})
    assert row[field] == wanted
    assert type(row[field]) is type(wanted)


@pytest.mark.parametrize(("field", "text"), _REFUSED, ids=lambda value: str(value)[:30])
def test_a_number_that_the_field_cannot_hold_is_refused(rest: Rest, typed: str, field: str, text: str) -> None:
    _, answer = _insert(rest, typed, field, text)
    assert answer["code"] in (1801, 1804), answer


@pytest.mark.parametrize(
    ("field", "text", "wanted"),
    [
        ("s", '"cut \\ud83d"', "cut \ufffd"),
        ("j", '{"x": "cut \\ud83d"}', '{"x": "cut \\ufffd"}'),
        ("j", '{"\\udc00": 1}', '{"\\ufffd": 1}'),
        ("dyn", '"\\ud83d"', "\ufffd"),
        ("s", '"\\\\ud83d \\ud83d\\ude00"', "\\ud83d \U0001f600"),
    ],
)
def test_a_lone_surrogate_is_replaced_only_in_its_value(
    rest: Rest, typed: str, field: str, text: str, wanted: str
) -> None:
    key, answer = _insert(rest, typed, field, text)
    assert answer["code"] == 0, answer
    (row,) = rest.ok("entities/query", {"collectionName": typed, "filter": f"id == {key}", "outputFields": [field]})
    assert row[field] == wanted


def test_a_filter_may_have_a_lone_surrogate(rest: Rest, typed: str) -> None:
    content = f'{{"collectionName": "{typed}", "filter": "s == \\"\\ud83d\\"", "outputFields": ["id"]}}'
    assert rest.send("entities/query", content.encode()).json()["code"] == 0


@pytest.mark.parametrize(("field", "is_dynamic"), [("j", False), ("$meta", True)])
def test_json_text_with_a_lone_surrogate_is_accepted_over_grpc(
    server: Server, rest: Rest, typed: str, field: str, is_dynamic: bool
) -> None:
    key, text = uuid.uuid4().int >> 80, f'{{"x": "cut \\ud83d", "n": {_LONG}}}'
    scalars = schema_pb2.ScalarField
    columns = [
        schema_pb2.FieldData(type=5, field_name="id", scalars=scalars(long_data=schema_pb2.LongArray(data=[key]))),
        schema_pb2.FieldData(
            type=101,
            field_name="vec",
            vectors=schema_pb2.VectorField(dim=2, float_vector=schema_pb2.FloatArray(data=[0.0, 1.0])),
        ),
        schema_pb2.FieldData(
            type=23,
            field_name=field,
            is_dynamic=is_dynamic,
            scalars=scalars(json_data=schema_pb2.JSONArray(data=[text.encode()])),
        ),
    ]
    request = milvus_pb2.InsertRequest(collection_name=typed, num_rows=1, fields_data=columns)
    answer = server.stub.Insert(request)
    assert answer.status.code == 0, answer.status.reason
    path, outputs = ("x", ["x", "n"]) if is_dynamic else ('j["x"]', ["j"])
    asked = {"filter": f'id == {key} and {path} == "cut \ufffd"', "outputFields": outputs}
    (row,) = rest.ok("entities/query", {"collectionName": typed, **asked})
    if is_dynamic:
        assert (row["x"], row["n"]) == ("cut \ufffd", int(_LONG))
    else:
        assert row["j"] == text


def test_integers_in_arrays_are_text_where_the_client_cannot_hold_64_bits(rest: Rest, typed: str) -> None:
    key, answer = _insert(rest, typed, "a", "[1, 9007199254740993]")
    assert answer["code"] == 0, answer
    asked = {"collectionName": typed, "filter": f"id == {key}", "outputFields": ["a", "ad"]}
    (row,) = rest.ok("entities/query", asked, Accept_Type_Allow_Int64="false")
    assert row["a"] == ["1", "9007199254740993"]


@pytest.mark.parametrize("number", ["9223372036854775808", "-9223372036854775809", _LONG])
def test_a_template_beyond_64_bits_is_refused(rest: Rest, typed: str, number: str) -> None:
    for expression, value in (("d > {x}", number), ("i in {x}", f"[1, {number}]"), ("j == {x}", number)):
        content = f'{{"collectionName": "{typed}", "filter": "{expression}", "exprParams": {{"x": {value}}}}}'
        answer = rest.send("entities/query", content.encode()).json()
        assert answer["code"] == 1100, (expression, answer)


def test_keys_of_a_body_are_read_in_any_letter_case(rest: Rest, collection_name: str) -> None:
    database = f"d_{uuid.uuid4().hex[:12]}"
    rest.ok("databases/create", {"DBNAME": database})
    rest.ok("collections/create", {"dbname": database, "CollectionName": collection_name, "Dimension": 2})
    assert rest.ok("collections/list", {"dbname": database}) == [collection_name]
    rows = [{"id": 1, "vector": [0.1, 0.2]}]
    rest.ok("entities/insert", {"DbName": database, "collectionname": collection_name, "Data": rows})
    rest.ok("collections/drop", {"dbName": database, "COLLECTIONNAME": collection_name})
    rest.ok("databases/drop", {"dbName": database})


@pytest.mark.parametrize("key", ["autoID", "autoId"])
def test_auto_id_is_read_in_any_letter_case(rest: Rest, collection_name: str, key: str) -> None:
    rest.quick_create(collection_name, **{key: True})
    answer = rest.ok("entities/insert", {"collectionName": collection_name, "data": [{"vector": [0.1, 0.2]}] * 2})
    assert len(set(answer["insertIds"])) == 2
