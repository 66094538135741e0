"""Partial upserts: the given columns replace those of the old row at once, and no update is lost."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from grpc_calls import assert_refused, collection_id, scalars
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from sample_collections import add_index, c1_rows, ids_of, make_c1


def _make(client: MilvusClient, name: str, *, key: DataType = DataType.INT64, auto_id: bool = False) -> None:
    schema = client.create_schema(auto_id=auto_id, enable_dynamic_field=True)
    schema.add_field("id", key, is_primary=True, max_length=20)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("a", DataType.INT64)
    schema.add_field("b", DataType.VARCHAR, max_length=20, nullable=True)
    schema.add_field("c", DataType.INT64, default_value=5)
    schema.add_field("j", DataType.JSON, nullable=True)
    schema.add_field("t", DataType.ARRAY, element_type=DataType.INT64, max_capacity=4, nullable=True)
    client.create_collection(name, schema=schema)
    add_index(client, name, "vec")
    client.load_collection(name)


def _row(key: Any, **more: Any) -> dict[str, Any]:
    return {"id": key, "vec": [1.0, 2.0], "a": 1, "b": "b", "c": 3, "j": {"x": 1}, "t": [1], "red": 1, **more}


@pytest.mark.parametrize("key", [DataType.INT64, DataType.VARCHAR])
@pytest.mark.parametrize("flushed", [False, True])
def test_columns_that_are_not_given_keep_their_values(
    client: MilvusClient, collection_name: str, key: DataType, flushed: bool
) -> None:
    name = collection_name
    one, two = (1, 2) if key is DataType.INT64 else ("one", "two")
    _make(client, name, key=key)
    client.insert(name, [_row(one), _row(two)])
    if flushed:
        client.flush(name)
    assert client.upsert(name, [{"id": two, "a": 9}, {"id": one, "a": 8}], partial_update=True)["ids"] == [two, one]
    client.upsert(name, [{"id": one, "vec": [3.0, 4.0], "b": None, "c": None}], partial_update=True)
    client.upsert(name, [{"id": two, "j": {"y": 2}, "t": [2, 3], "red": 2, "blue": 3}], partial_update=True)
    rows = {row["id"]: row for row in client.query(name, filter="a >= 0", output_fields=["*"])}
    assert rows == {
        one: {**_row(one), "a": 8, "vec": [3.0, 4.0], "b": None, "c": 5},
        two: {**_row(two), "a": 9, "j": {"y": 2}, "t": [2, 3], "red": 2, "blue": 3},
    }
    assert ids_of(client, name, "j['y'] == 2 and red == 2") == [two]
    client.flush(name)
    assert client.query(name, filter="blue == 3", output_fields=["*"])[0] == rows[two]


def test_a_new_key_makes_a_row_and_must_be_complete(client: MilvusClient, stub: Any, collection_name: str) -> None:
    name = collection_name
    _make(client, name)
    client.insert(name, [_row(1)])
    incomplete = milvus_pb2.UpsertRequest(
        collection_name=name,
        num_rows=2,
        fields_data=[scalars("id", schema_pb2.Int64, [1, 2]), scalars("a", schema_pb2.Int64, [7, 7])],
        partial_update=True,
    )
    text = "fieldSchema(vec) has no corresponding fieldData pass in: invalid parameter"
    assert_refused(stub.Upsert(incomplete), 1100, text, legacy=5)
    assert client.query(name, filter="id > 0", output_fields=["a"])[0]["a"] == 1
    whole = [{"id": 2, "vec": [0.0, 0.0], "a": 2}, {"id": 1, "vec": [0.0, 1.0], "a": 7}]
    client.upsert(name, whole, partial_update=True)
    rows = client.query(name, filter="id > 0", output_fields=["*"])
    nothing = {"b": None, "c": 5, "j": None, "t": None}
    assert rows[0] == {**_row(1), "vec": [0.0, 1.0], "a": 7}
    assert rows[1] == {"id": 2, "vec": [0.0, 0.0], "a": 2, **nothing}


def test_a_partial_upsert_needs_the_fields_it_keeps_loaded(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    name = collection_name
    make_c1(client, name)
    client.insert(name, c1_rows(2))
    request = milvus_pb2.UpsertRequest(
        collection_name=name,
        num_rows=1,
        fields_data=[scalars("id", schema_pb2.Int64, [1]), scalars("a", schema_pb2.Int64, [7])],
        partial_update=True,
    )
    text = f"failed to query: collection not loaded[collection={collection_id(stub, name)}]"
    assert_refused(stub.Upsert(request), 101, text)
    client.load_collection(name, load_fields=["id", "vec"])
    client.upsert(name, {"id": 1, "a": 7}, partial_update=True)
    with pytest.raises(Exception, match="failed to query: field a is not loaded"):
        client.upsert(name, {"id": 1, "vec": [0.0] * 4}, partial_update=True)
    client.load_collection(name)
    rows = client.query(name, filter="id >= 0", output_fields=["a", "vec"])
    assert [(row["a"], row["vec"][0]) for row in rows] == [(0, 0.0), (7, 1.0)]


def test_with_automatic_ids_the_row_gets_a_new_id(client: MilvusClient, collection_name: str) -> None:
    _make(client, collection_name, auto_id=True)
    row = _row(0)
    del row["id"]
    (old,) = client.insert(collection_name, row)["ids"]
    (new,) = client.upsert(collection_name, {"id": old, "a": 2}, partial_update=True)["ids"]
    assert new != old
    assert list(client.query(collection_name, filter="a >= 0", output_fields=["*"])) == [{**row, "id": new, "a": 2}]


def test_a_field_added_later_is_kept_too(client: MilvusClient, collection_name: str) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(1))
    client.flush(collection_name)
    client.add_collection_field(collection_name, "x", DataType.INT64, nullable=True, default_value=7)
    client.upsert(collection_name, {"id": 0, "a": 1}, partial_update=True)
    client.upsert(collection_name, {"id": 0, "x": 8}, partial_update=True)
    client.upsert(collection_name, {"id": 0, "a": 2}, partial_update=True)
    assert [(r["a"], r["x"]) for r in client.query(collection_name, filter="id == 0", output_fields=["a", "x"])] == [
        (2, 8)
    ]


def test_updates_of_other_columns_are_not_lost_to_each_other(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    """Each writer counts in its own column, in the same rows; another one replaces whole rows."""
    name, writers, steps, keys = collection_name, 4, 25, [1, 2, 3]
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    for number in range(writers):
        schema.add_field(f"n{number}", DataType.INT64, default_value=0)
    client.create_collection(name, schema=schema)
    add_index(client, name, "vec")
    client.load_collection(name)
    client.insert(name, [{"id": key, "vec": [0.0, 0.0]} for key in keys])
    refusals: list[str] = []

    def count(number: int) -> None:
        for step in range(1, steps + 1):
            columns = [scalars("id", schema_pb2.Int64, keys), scalars(f"n{number}", schema_pb2.Int64, [step] * 3)]
            request = milvus_pb2.UpsertRequest(
                collection_name=name, num_rows=3, fields_data=columns, partial_update=True
            )
            response = stub.Upsert(request)
            if response.status.code:
                refusals.append(response.status.reason)

    threads = [threading.Thread(target=count, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    client.flush(name)
    for thread in threads:
        thread.join()
    assert refusals == []
    rows = client.query(name, filter="id > 0", output_fields=["*"])
    assert [[row[f"n{number}"] for number in range(writers)] for row in rows] == [[steps] * writers] * 3


def test_a_partial_upsert_does_not_undo_a_whole_one_in_between(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    """A plain upsert sets `a` and `b` alike, a partial one only `a`: `b` must be what the last plain one said."""
    name = collection_name
    _make(client, name)
    client.insert(name, [_row(1, a=0, b="0")])
    stopped = threading.Event()

    def touch() -> None:
        while not stopped.is_set():
            client.upsert(name, {"id": 1, "a": -1}, partial_update=True)

    thread = threading.Thread(target=touch)
    thread.start()
    for number in range(1, 60):
        client.upsert(name, [_row(1, a=number, b=str(number))])
        row = client.query(name, filter="id == 1", output_fields=["a", "b"], consistency_level="Strong")[0]
        assert row["b"] == str(number), row
    stopped.set()
    thread.join()
