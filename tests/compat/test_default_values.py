"""Default values: on create, in rows, and in descriptions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from grpc_calls import assert_ok, assert_refused, create_request, field, insert_request, query_request, scalars, vectors
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from sample_collections import add_index

DEFAULTS: dict[str, tuple[DataType, Any, dict[str, Any]]] = {
    "b": (DataType.BOOL, True, {}),
    "i8": (DataType.INT8, np.int8(-8), {}),
    "i16": (DataType.INT16, np.int16(16), {}),
    "i32": (DataType.INT32, np.int32(32), {}),
    "i64": (DataType.INT64, 2**53 + 1, {}),
    "f": (DataType.FLOAT, np.float32(0.5), {}),
    "d": (DataType.DOUBLE, 0.1, {}),
    "s": (DataType.VARCHAR, "wörd", {"max_length": 8}),
    "empty": (DataType.VARCHAR, "", {"max_length": 8}),
    "zero": (DataType.INT64, 0, {}),
}
GIVEN = {"b": False, "i8": 1, "i16": 2, "i32": 3, "i64": 4, "f": 1.5, "d": 2.5, "s": "x", "empty": "y", "zero": 5}


def _make(client: MilvusClient, name: str, nullable: bool) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    for field_name, (data_type, value, params) in DEFAULTS.items():
        schema.add_field(field_name, data_type, nullable=nullable, default_value=value, **params)
    client.create_collection(name, schema=schema)
    add_index(client, name, "vec")
    client.load_collection(name)


@pytest.mark.parametrize("nullable", [False, True], ids=["not nullable", "nullable"])
@pytest.mark.parametrize("flush", [False, True], ids=["growing", "sealed"])
def test_rows_get_the_default_where_a_value_is_missing_or_null(
    client: MilvusClient, collection_name: str, nullable: bool, flush: bool
) -> None:
    _make(client, collection_name, nullable)
    client.insert(collection_name, [{"id": 0, "vec": [0, 0]}, {"id": 1, "vec": [0, 0]}])
    nulls = dict.fromkeys(DEFAULTS)
    client.insert(collection_name, [{"id": 2, "vec": [0, 0], **nulls}, {"id": 3, "vec": [0, 0], **GIVEN}])
    client.upsert(collection_name, [{"id": 1, "vec": [1, 1]}])
    if flush:
        client.flush(collection_name)
        client.release_collection(collection_name)
        client.load_collection(collection_name)
    rows = client.query(collection_name, filter="id >= 0", output_fields=list(DEFAULTS))
    default = {name: value for name, (_, value, _) in DEFAULTS.items()}
    assert [{k: row[k] for k in DEFAULTS} for row in rows] == [default, default, default, GIVEN]
    assert [r["id"] for r in client.query(collection_name, filter="s == 'wörd' and b == true")] == [0, 1, 2]
    assert client.query(collection_name, filter="i64 is null") == []


def test_describe_shows_the_default(client: MilvusClient, collection_name: str) -> None:
    _make(client, collection_name, False)
    fields = {f["name"]: f for f in client.describe_collection(collection_name)["fields"]}
    for name, (_, value, _) in DEFAULTS.items():
        default = fields[name]["default_value"]
        assert getattr(default, default.WhichOneof("data")) == value
    assert not fields["vec"].get("default_value")
    _make(client, collection_name, False)  # the same schema again is a success


def test_defaults_survive_a_restart(new_server: Any) -> None:
    server = new_server()
    client = server.client()
    _make(client, "c", False)
    client.insert("c", [{"id": 0, "vec": [0, 0]}])
    client.close()
    server.kill()
    server.start()
    client = server.client()
    client.load_collection("c")
    client.insert("c", [{"id": 1, "vec": [0, 0]}])
    rows = client.query("c", filter="id >= 0", output_fields=list(DEFAULTS))
    default = {name: value for name, (_, value, _) in DEFAULTS.items()}
    assert [{k: row[k] for k in DEFAULTS} for row in rows] == [default, default]
    client.close()


def _value(**data: Any) -> Any:
    return schema_pb2.ValueField(**data)


KEY = field("id", schema_pb2.Int64, primary=True)
VECTOR = field("vec", schema_pb2.FloatVector, dim=2)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            [field("id", schema_pb2.Int64, primary=True, default_value=_value(long_data=1)), VECTOR],
            "primary field not support default_value, type:Int64, name:id",
        ),
        (
            [KEY, VECTOR, field("x", schema_pb2.JSON, default_value=_value(bytes_data=b"{}"))],
            "type not support default_value, type:JSON, name:x",
        ),
        (
            [KEY, field("vec", schema_pb2.FloatVector, dim=2, default_value=_value(float_data=1))],
            "type not support default_value, type:FloatVector, name:vec",
        ),
        (
            [KEY, VECTOR, field("x", schema_pb2.Int64, default_value=_value(int_data=1))],
            "type (Int64) of field (x) is not equal to the type(DataType_Int) of default_value",
        ),
        (
            [KEY, VECTOR, field("x", schema_pb2.Bool, default_value=_value(string_data="1"))],
            "type (Bool) of field (x) is not equal to the type(DataType_VarChar) of default_value",
        ),
        (
            [KEY, VECTOR, field("x", schema_pb2.Int8, default_value=_value(int_data=128))],
            "default value out of range: invalid parameter[128 out of range -128 <= value <= 127]",
        ),
        (
            [KEY, VECTOR, field("x", schema_pb2.Int16, default_value=_value(int_data=-32769))],
            "default value out of range: invalid parameter[-32769 out of range -32768 <= value <= 32767]",
        ),
        (
            [KEY, VECTOR, field("x", schema_pb2.VarChar, max_length=3, default_value=_value(string_data="日本"))],
            "the length (6) of string exceeds max length (3)",
        ),
        (
            [KEY, VECTOR, field("x", schema_pb2.Double, default_value=_value(double_data=float("nan")))],
            "is not a number or infinity",
        ),
    ],
)
def test_a_default_that_does_not_fit_is_refused(stub: Any, collection_name: str, fields: list[Any], text: str) -> None:
    assert_refused(stub.CreateCollection(create_request(collection_name, fields)), 1100, text)
    has = stub.HasCollection(milvus_pb2.HasCollectionRequest(collection_name=collection_name))
    assert assert_ok(has).value is False


@pytest.mark.parametrize("compact", [True, False], ids=["valid values only", "all values"])
def test_nulls_become_the_default_in_both_encodings(
    client: MilvusClient, stub: Any, collection_name: str, compact: bool
) -> None:
    """A field that is not nullable accepts NULLs too, since they mean the default."""
    fields = [KEY, VECTOR, field("n", schema_pb2.Int64, default_value=_value(long_data=7))]
    assert_ok(stub.CreateCollection(create_request(collection_name, fields)))
    add_index(client, collection_name, "vec")
    client.load_collection(collection_name)
    numbers = scalars("n", schema_pb2.Int64, [5] if compact else [0, 5])
    numbers.valid_data.extend([False, True])
    columns = [scalars("id", schema_pb2.Int64, [1, 2]), vectors("vec", [[0, 0]] * 2), numbers]
    assert_ok(stub.Insert(insert_request(collection_name, 2, *columns)))
    (found,) = [
        f
        for f in assert_ok(stub.Query(query_request(collection_name, "id > 0", ["n"]))).fields_data
        if f.field_name == "n"
    ]
    assert list(found.scalars.long_data.data) == [7, 5]
    assert list(found.valid_data) == []
