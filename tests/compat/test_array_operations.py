"""Upserts that append elements to the stored arrays, or remove them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from grpc_calls import assert_refused, scalars
from pymilvus import DataType, FieldOp, MilvusClient
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from sample_collections import add_index

ORIGIN = [0.0, 0.0, 0.0, 0.0]
CAPACITY = 6


def _make(client: MilvusClient, name: str) -> None:
    """id, vec of 4, the nullable arrays numbers, texts and parts (DOUBLE), and label; loaded, with rows 1 to 3."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    more: dict[str, Any] = {"max_capacity": CAPACITY, "max_length": 4, "nullable": True}
    schema.add_field("numbers", DataType.ARRAY, element_type=DataType.INT16, **more)
    schema.add_field("texts", DataType.ARRAY, element_type=DataType.VARCHAR, **more)
    schema.add_field("parts", DataType.ARRAY, element_type=DataType.DOUBLE, **more)
    schema.add_field("label", DataType.VARCHAR, max_length=8, default_value="none")
    client.create_collection(name, schema=schema)
    add_index(client, name, "vec")
    client.load_collection(name)
    rows = [
        {"id": 1, "vec": ORIGIN, "numbers": [1, 2, 1], "texts": ["a", "b"], "parts": [0.5], "label": "one"},
        {"id": 2, "vec": ORIGIN, "numbers": [], "texts": ["c"], "parts": [1.5, 0.0], "label": "two"},
        {"id": 3, "vec": ORIGIN, "numbers": None, "texts": None, "parts": None},
    ]
    client.insert(name, rows)


def _rows(client: MilvusClient, name: str) -> dict[int, list[Any]]:
    found = client.query(name, filter="id > 0", output_fields=["*"])
    return {row["id"]: [row[each] for each in ("numbers", "texts", "parts", "label")] for row in found}


@pytest.mark.parametrize("flush_between", [False, True], ids=["growing", "sealed"])
def test_elements_are_appended_and_removed(client: MilvusClient, collection_name: str, flush_between: bool) -> None:
    """Fields that are not named keep their values; a key without a row makes one of the given values."""
    _make(client, collection_name)
    if flush_between:
        client.flush(collection_name)
    appended = [
        {"id": 1, "numbers": [9, 9], "texts": ["b"], "parts": [0.25]},
        {"id": 3, "numbers": [7], "texts": None, "parts": []},
        {"id": 2, "numbers": None, "texts": [], "parts": [2.5]},
        {"id": 4, "numbers": [4], "texts": None, "parts": [], "vec": ORIGIN},
    ]
    operations = dict.fromkeys(("numbers", "texts", "parts"), FieldOp.array_append())
    answer = client.upsert(collection_name, appended[:3], field_ops=operations)
    assert answer["upsert_count"] == 3
    client.upsert(collection_name, appended[3:], field_ops=operations)
    assert _rows(client, collection_name) == {
        1: [[1, 2, 1, 9, 9], ["a", "b", "b"], [0.5, 0.25], "one"],
        2: [[], ["c"], [1.5, 0.0, 2.5], "two"],
        3: [[7], None, [], "none"],
        4: [[4], None, [], "none"],
    }
    removed = [
        {"id": 1, "numbers": [1, 9, 5], "texts": ["b", "x"], "parts": []},
        {"id": 2, "numbers": [1], "texts": None, "parts": [-0.0, 2.5]},
        {"id": 3, "numbers": [7], "texts": ["a"], "parts": [1.0]},
    ]
    client.upsert(collection_name, removed, field_ops=dict.fromkeys(("numbers", "texts", "parts"), "array_remove"))
    fresh = [{"id": 5, "vec": ORIGIN, "numbers": [5, 5], "texts": ["e"], "parts": None}]
    client.upsert(collection_name, fresh, field_ops={"numbers": "array_remove", "texts": "replace"})
    assert _rows(client, collection_name) == {
        1: [[2], ["a"], [0.5, 0.25], "one"],
        2: [[], ["c"], [1.5], "two"],
        3: [[], [], [], "none"],
        4: [[4], None, [], "none"],
        5: [[5, 5], ["e"], None, "none"],
    }
    assert client.query(collection_name, filter="array_contains(numbers, 2)", output_fields=["id"]) == [{"id": 1}]


def test_nan_is_appended_and_never_removed(client: MilvusClient, collection_name: str) -> None:
    """It equals nothing, as in Milvus."""
    _make(client, collection_name)
    nan = [{"id": 1, "parts": [math.nan]}]
    client.upsert(collection_name, nan, field_ops={"parts": FieldOp.array_append()})
    client.upsert(collection_name, [{"id": 1, "parts": [math.nan, 0.5]}], field_ops={"parts": "array_remove"})
    (left,) = _rows(client, collection_name)[1][2]
    assert math.isnan(left)


def _array(name: str, *rows: list[int]) -> Any:
    data = [schema_pb2.ScalarField(int_data=schema_pb2.IntArray(data=row)) for row in rows]
    lists = schema_pb2.ArrayArray(data=data, element_type=schema_pb2.Int16)
    scalar = schema_pb2.ScalarField(array_data=lists)
    return schema_pb2.FieldData(type=schema_pb2.Array, field_name=name, scalars=scalar, valid_data=[True] * len(rows))


KEYS = scalars("id", schema_pb2.Int64, [1])
NUMBERS = _array("numbers", [1])
LABEL = scalars("label", schema_pb2.VarChar, ["new"])


@pytest.mark.parametrize(
    ("operations", "column", "code", "text"),
    [
        ([("", 1)], NUMBERS, 1101, "FieldPartialUpdateOp.field_name is required"),
        ([("numbers", 1), ("numbers", 0)], NUMBERS, 1100, 'duplicate partial-update op for field "numbers"'),
        ([("id", 1)], NUMBERS, 1100, 'field "id" is the primary key and cannot carry a partial-update op'),
        ([("absent", 2)], NUMBERS, 1100, 'field "absent" not found in collection schema'),
        ([("numbers", 7)], NUMBERS, 1100, "unsupported partial update op: 7"),
        ([("label", 1)], LABEL, 1100, 'op ARRAY_APPEND requires Array field, but field "label" is VarChar'),
        ([("numbers", 2)], LABEL, 1100, 'partial-update op targets field "numbers" not present in fields_data'),
        (
            [("numbers", 1)],
            scalars("numbers", schema_pb2.Int16, [1]),
            1100,
            'partial-update op field "numbers" payload is not an Array',
        ),
        (
            [("numbers", 1)],
            _array("numbers", [0] * (CAPACITY + 1)),
            1100,
            'ARRAY_APPEND payload for field "numbers" row 0 has length 7 exceeding max_capacity 6',
        ),
        (
            [("numbers", 1)],
            _array("numbers", [0] * CAPACITY),
            1100,
            "array length 9 exceeds max_capacity 6",
        ),
    ],
)
def test_a_bad_operation_is_refused_and_changes_nothing(
    client: MilvusClient,
    stub: Any,
    collection_name: str,
    operations: list[tuple[str, int]],
    column: Any,
    code: int,
    text: str,
) -> None:
    _make(client, collection_name)
    before = _rows(client, collection_name)
    request = milvus_pb2.UpsertRequest(
        collection_name=collection_name, num_rows=1, fields_data=[KEYS, column], partial_update=True
    )
    for name, number in operations:
        request.field_ops.add(field_name=name, op=number)
    assert_refused(stub.Upsert(request), code, text, legacy=5)
    assert _rows(client, collection_name) == before
