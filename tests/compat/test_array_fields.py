"""ARRAY fields: what schemas and inserts are refused, values in and out, filters on a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from grpc_calls import assert_ok, assert_refused, count, create_request, field, insert_request, scalars, vectors
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import schema_pb2
from sample_collections import add_index, ids_of

VALUES: dict[str, tuple[DataType, list[list[Any]]]] = {
    "b": (DataType.BOOL, [[True, False], [], [False]]),
    "i8": (DataType.INT8, [[-128, 127], [], [0]]),
    "i16": (DataType.INT16, [[-32768, 32767], [1], []]),
    "i32": (DataType.INT32, [[-(2**31), 2**31 - 1], [], [3]]),
    "i64": (DataType.INT64, [[-(2**63), 2**63 - 1], [2**53 + 1], []]),
    "f": (DataType.FLOAT, [[0.5, -0.25], [], [1.0]]),
    "d": (DataType.DOUBLE, [[0.1], [5e-324, 1e308], []]),
    "s": (DataType.VARCHAR, [["", "wörd", "a"], [], ["x"]]),
}


def _make(client: MilvusClient, name: str, *, nullable: bool = False) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    for field_name, (element_type, _) in VALUES.items():
        schema.add_field(
            field_name,
            DataType.ARRAY,
            element_type=element_type,
            max_capacity=4,
            nullable=nullable,
            **({"max_length": 8} if element_type is DataType.VARCHAR else {}),
        )
    client.create_collection(name, schema=schema)
    add_index(client, name, "vec")
    client.load_collection(name)


def _rows() -> list[dict[str, Any]]:
    return [{"id": i, "vec": [i, 0], **{name: lists[i] for name, (_, lists) in VALUES.items()}} for i in range(3)]


@pytest.mark.parametrize("state", ["growing", "sealed", "reloaded"])
@pytest.mark.parametrize("nullable", [False, True], ids=["not nullable", "nullable"])
def test_arrays_of_every_element_type_round_trip(
    client: MilvusClient, collection_name: str, state: str, nullable: bool
) -> None:
    _make(client, collection_name, nullable=nullable)
    rows = _rows()
    if nullable:
        rows += [{"id": 3, "vec": [3, 0]}, {"id": 4, "vec": [4, 0], **dict.fromkeys(VALUES)}]
    client.insert(collection_name, rows[:2])
    client.insert(collection_name, rows[2:])
    if state != "growing":
        client.flush(collection_name)
    if state == "reloaded":
        client.release_collection(collection_name)
        client.load_collection(collection_name)
    wanted = [{name: row.get(name) for name in VALUES} for row in rows]
    got = client.query(collection_name, filter="id >= 0", output_fields=["*"])
    assert [{name: row[name] for name in VALUES} for row in got] == wanted
    hits = client.search(collection_name, [[0, 0]], limit=9, output_fields=["*"])[0]
    assert [{name: hit["entity"][name] for name in VALUES} for hit in hits] == wanted


def test_arrays_survive_a_kill(new_server: Any) -> None:
    server = new_server()
    client = server.client()
    _make(client, "c", nullable=True)
    client.insert("c", [*_rows(), {"id": 3, "vec": [3, 0]}])
    before = list(client.query("c", filter="id >= 0", output_fields=["*"]))
    client.close()
    server.kill()
    server.start()
    client = server.client()
    client.load_collection("c")
    assert list(client.query("c", filter="id >= 0", output_fields=["*"])) == before
    client.close()


@pytest.mark.parametrize("flush", [False, True], ids=["growing", "sealed"])
def test_filters_look_into_arrays(client: MilvusClient, collection_name: str, flush: bool) -> None:
    _make(client, collection_name, nullable=True)
    client.insert(collection_name, _rows())
    client.insert(collection_name, [{"id": 3, "vec": [3, 0]}])
    if flush:
        client.flush(collection_name)
    for text, wanted in {
        "i8[0] == -128": [0],
        "array_contains(i64, 9007199254740993)": [1],
        "array_contains_any(s, ['x', 'a'])": [0, 2],
        "array_contains_all(s, ['wörd', 'a'])": [0],
        "array_length(b) == 0": [1],
        "not array_contains(b, true)": [1, 2],
        "f == [0.5, -0.25]": [0],
        "d is null": [3],
    }.items():
        assert ids_of(client, collection_name, text) == wanted, text
    params = {"x": ["x", "a"]}
    found = client.query(collection_name, filter="array_contains_any(s, {x})", filter_params=params)
    assert [row["id"] for row in found] == [0, 2]
    hits = client.search(collection_name, [[0, 0]], limit=9, filter="array_length(i16) > 0")[0]
    assert [h["id"] for h in hits] == [0, 1]
    client.delete(collection_name, filter="array_contains(i32, 3)")
    assert ids_of(client, collection_name, "id >= 0") == [0, 1, 3]


def test_describe_shows_element_type_and_capacity(client: MilvusClient, collection_name: str) -> None:
    _make(client, collection_name)
    fields = {f["name"]: f for f in client.describe_collection(collection_name)["fields"]}
    for name, (element_type, _) in VALUES.items():
        assert fields[name]["element_type"] is element_type
        assert fields[name]["params"]["max_capacity"] == 4
    assert fields["s"]["params"]["max_length"] == 8


def _array(element_type: Any, **params: Any) -> Any:
    made = field("a", schema_pb2.Array, **params)
    made.element_type = element_type
    return made


@pytest.mark.parametrize(
    ("array", "code", "text"),
    [
        (_array(schema_pb2.Int8), 1101, "type param(max_capacity) should be specified for array field a of collection"),
        (_array(schema_pb2.Int8, max_capacity=0), 1100, "should be in (0, 4096]"),
        (_array(schema_pb2.Int8, max_capacity=4097), 1100, "the maximum capacity specified for a Array should be in"),
        (_array(schema_pb2.Int8, max_capacity="x"), 1100, "the value for max_capacity of field a must be an integer"),
        (_array(schema_pb2.VarChar, max_capacity=4), 1101, "type param(max_length) should be specified"),
        (_array(schema_pb2.JSON, max_capacity=4), 1100, "element type JSON is not supported"),
        (_array(schema_pb2.Array, max_capacity=4), 1100, "element type Array is not supported"),
        (_array(schema_pb2.FloatVector, max_capacity=4), 1100, "element type FloatVector is not supported"),
        (_array(schema_pb2.BinaryVector, max_capacity=4), 1100, "element type BinaryVector is not supported"),
        (schema_pb2.FieldSchema(name="a", data_type=22), 1100, "element data type None is not valid"),
        (
            _array(schema_pb2.Int8, max_capacity=4, default_value=schema_pb2.ValueField(int_data=1)),
            1100,
            "type not support default_value, type:Array, name:a",
        ),
    ],
)
def test_an_invalid_array_field_is_refused(stub: Any, collection_name: str, array: Any, code: int, text: str) -> None:
    fields = [field("id", schema_pb2.Int64, primary=True), field("vec", schema_pb2.FloatVector, dim=2), array]
    assert_refused(stub.CreateCollection(create_request(collection_name, fields)), code, text)


def _arrays(name: str, kind: str, lists: Sequence[Sequence[object]]) -> Any:
    data = schema_pb2.FieldData(type=schema_pb2.Array, field_name=name)
    for values in lists:
        getattr(data.scalars.array_data.data.add(), kind).data.extend(values)
    return data


@pytest.mark.parametrize(
    ("numbers", "words", "text"),
    [
        (("int_data", [[1], [1] * 5]), None, "the length (5) of 1th array exceeds max capacity (4)"),
        (("int_data", [[1], [7, 128]]), None, "the 1th element (128) out of range: [-128, 127]"),
        (
            ("long_data", [[1], [2]]),
            None,
            "insert data does not match: invalid parameter[expected=int array]"
            "[actual=*schemapb.ScalarField_LongData array]",
        ),
        (
            None,
            ("string_data", [["a", "b"], ["ok", "日本語", "x"]]),
            'length of Array array field "s" exceeds max length, row number: 1, array index: 1, '
            "length: 9, max length: 8",
        ),
        (None, ("int_data", [[1], [2]]), "expected=string array"),
        (("int_data", [[1]]), None, "the num_rows (1) of field (i8) is not equal to passed num_rows (2)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_and_write_nothing(
    client: MilvusClient,
    stub: Any,
    collection_name: str,
    numbers: tuple[str, list[list[Any]]] | None,
    words: tuple[str, list[list[Any]]] | None,
    text: str,
) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("i8", DataType.ARRAY, element_type=DataType.INT8, max_capacity=4)
    schema.add_field("s", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=4, max_length=8)
    client.create_collection(collection_name, schema=schema)
    add_index(client, collection_name, "vec")
    client.load_collection(collection_name)
    rows = [scalars("id", schema_pb2.Int64, [1, 2]), vectors("vec", [[0, 0]] * 2)]
    good = _arrays("i8", "int_data", [[1], []]), _arrays("s", "string_data", [["a"], []])
    bad = _arrays("i8", *numbers) if numbers else good[0], _arrays("s", *words) if words else good[1]
    assert_refused(stub.Insert(insert_request(collection_name, 2, *rows, *bad)), 1100, text, legacy=5)
    plain = scalars("i8", schema_pb2.Int8, [1, 2])
    refused = stub.Insert(insert_request(collection_name, 2, *rows, plain, good[1]))
    assert_refused(refused, 1100, "array field 'i8' is illegal, array type mismatch")
    assert count(stub, collection_name) == 0
    assert_ok(stub.Insert(insert_request(collection_name, 2, *rows, *good)))
    assert count(stub, collection_name) == 2
