"""Every value round-trips bit for bit: growing, sealed and read from files again."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from grpc_calls import (
    assert_ok,
    count,
    create_request,
    field,
    insert_request,
    query_request,
    scalars,
    search_request,
    vectors,
)
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from sample_collections import add_index, make_quick

FLOAT_MAX = float(np.finfo(np.float32).max)
FLOAT_TINY = float(np.float32(1e-45))
VALUES: dict[str, tuple[Any, list[Any], dict[str, Any]]] = {
    "bool": (DataType.BOOL, [True, False, True, False], {}),
    "int8": (DataType.INT8, [-128, 127, 0, -1], {}),
    "int16": (DataType.INT16, [-32768, 32767, 0, -1], {}),
    "int32": (DataType.INT32, [-(2**31), 2**31 - 1, 0, -1], {}),
    "int64": (DataType.INT64, [-(2**63), 2**63 - 1, 2**53 + 1, 0], {}),
    "float": (DataType.FLOAT, [FLOAT_MAX, -FLOAT_MAX, FLOAT_TINY, -0.0], {}),
    "double": (DataType.DOUBLE, [1.7976931348623157e308, 5e-324, -0.0, 0.1], {}),
    "varchar": (DataType.VARCHAR, ["", "日本語 🦜", 'quote " and \\ and \n', "e\u0301 \u00e9"], {"max_length": 64}),
    "json": (
        DataType.JSON,
        [{}, {"a": [1, {"b": None}], "π": 0.5}, [1, "two", False], {"deep": {"er": {"est": [[]]}}}],
        {},
    ),
}
STATES = ["growing", "sealed", "reloaded"]


def _settle(client: MilvusClient, name: str, state: str) -> None:
    if state != "growing":
        client.flush(name)
    if state == "reloaded":
        client.release_collection(name)
        client.load_collection(name)


@pytest.mark.parametrize("state", STATES)
def test_every_scalar_type_round_trips(client: MilvusClient, collection_name: str, state: str) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    for name, (data_type, _, params) in VALUES.items():
        schema.add_field(name, data_type, **params)
    client.create_collection(collection_name, schema=schema)
    add_index(client, collection_name, "vec")
    client.load_collection(collection_name)
    rows = [{"id": i, "vec": [float(i), 0.5], **{name: v[1][i] for name, v in VALUES.items()}} for i in range(4)]
    client.insert(collection_name, rows)
    _settle(client, collection_name, state)
    got = client.query(collection_name, filter="id >= 0", output_fields=["*"])
    assert [row["id"] for row in got] == [0, 1, 2, 3]
    for name, (_, values, _) in VALUES.items():
        column = [row[name] for row in got]
        assert column == values, name
        assert [type(v) for v in column] == [type(v) for v in values], name
    assert math.copysign(1, got[3]["float"]) == -1
    assert math.copysign(1, got[2]["double"]) == -1
    hits = client.search(collection_name, [[0.0, 0.5]], limit=4, output_fields=["*"])[0]
    assert [{name: hit["entity"][name] for name in VALUES} for hit in hits] == [
        {name: row[name] for name in VALUES} for row in rows
    ]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("metric", ["L2", "IP", "COSINE"])
def test_vectors_come_back_bit_for_bit_under_every_metric(
    client: MilvusClient, collection_name: str, metric: str, state: str
) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=33)
    client.create_collection(collection_name, schema=schema)
    add_index(client, collection_name, "vec", metric=metric)
    client.load_collection(collection_name)
    wanted = np.random.default_rng(7).normal(size=(50, 33)).astype(np.float32) * 1e3
    wanted[0, 0] = -0.0
    wanted[1, 1] = np.float32(1e-45)
    client.insert(collection_name, [{"id": i, "vec": v} for i, v in enumerate(wanted)])
    _settle(client, collection_name, state)
    rows = client.query(collection_name, filter="id >= 0", output_fields=["vec"])
    got = np.array([row["vec"] for row in rows], np.float32)
    assert got.tobytes() == wanted.tobytes()
    hit = client.search(collection_name, [wanted[5]], limit=1, output_fields=["vec"])[0][0]
    assert np.array(hit["entity"]["vec"], np.float32).tobytes() == wanted[hit["id"]].tobytes()


@pytest.mark.parametrize("state", STATES)
def test_nulls_come_back_as_nulls_and_missing_columns_are_null(
    client: MilvusClient, collection_name: str, state: str
) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    for name, (data_type, _, params) in VALUES.items():
        schema.add_field(name, data_type, nullable=True, **params)
    client.create_collection(collection_name, schema=schema)
    add_index(client, collection_name, "vec")
    client.load_collection(collection_name)
    some: dict[str, Any] = {name: v[1][1] for name, v in VALUES.items()}
    none: dict[str, Any] = dict.fromkeys(VALUES)
    client.insert(collection_name, [{"id": 0, "vec": [0, 0], **some}, {"id": 1, "vec": [1, 0], **none}])
    client.insert(collection_name, [{"id": 2, "vec": [2, 0]}])
    _settle(client, collection_name, state)
    got = client.query(collection_name, filter="id >= 0", output_fields=list(VALUES))
    assert [{name: row[name] for name in VALUES} for row in got] == [some, none, none]
    for name in VALUES:
        assert [r["id"] for r in client.query(collection_name, filter=f"{name} is null")] == [1, 2], name
        assert [r["id"] for r in client.query(collection_name, filter=f"{name} is not null")] == [0], name


@pytest.mark.parametrize("state", STATES)
def test_dynamic_keys_keep_their_types(client: MilvusClient, collection_name: str, state: str) -> None:
    make_quick(client, collection_name, 2)
    extra: list[dict[str, Any]] = [
        {"color": "red", "n": 2**53 + 1, "x": 0.25, "flag": True, "list": [1, "a", None], "obj": {"k": {"d": 1}}},
        {"color": None, "n": -1},
        {},
    ]
    client.insert(collection_name, [{"id": i, "vector": [1.0, i], **e} for i, e in enumerate(extra)])
    _settle(client, collection_name, state)
    got = client.query(collection_name, filter="id >= 0", output_fields=["*"])
    assert [{k: v for k, v in row.items() if k not in ("id", "vector")} for row in got] == extra
    one = client.query(collection_name, filter="id == 0", output_fields=["color", "obj"])
    assert list(one) == [{"id": 0, "color": "red", "obj": {"k": {"d": 1}}}]


def test_dynamic_field_travels_as_one_json_column_marked_dynamic(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    make_quick(client, collection_name, 2)
    client.insert(collection_name, [{"id": 1, "vector": [1.0, 0.0], "color": "red", "size": 3}])
    response = assert_ok(stub.Query(query_request(collection_name, "id == 1", ["color"])))
    dynamic = [f for f in response.fields_data if f.is_dynamic]
    assert [f.field_name for f in dynamic] == ["$meta"]
    assert json.loads(dynamic[0].scalars.json_data.data[0]) == {"color": "red"}


@pytest.mark.parametrize("state", STATES)
def test_varchar_keys_order_find_and_delete_rows(client: MilvusClient, collection_name: str, state: str) -> None:
    make_quick(client, collection_name, 2, data_type=DataType.VARCHAR, max_length=32)
    keys = ["", "a", "B", "日本", 'q"uote', "zz" * 16]
    client.insert(collection_name, [{"id": k, "vector": [1.0, i]} for i, k in enumerate(keys)])
    _settle(client, collection_name, state)
    everything = [r["id"] for r in client.query(collection_name, filter="", limit=10)]
    assert everything == sorted(keys, key=str.encode)
    assert [r["id"] for r in client.get(collection_name, ids=["日本", "nope", 'q"uote'])] == ['q"uote', "日本"]
    hits = client.search(collection_name, [[1.0, 3.0]], limit=6)[0]
    assert hits[0]["id"] == "日本"
    assert sorted(h["id"] for h in hits) == sorted(keys)
    client.delete(collection_name, ids=["a", "日本"])
    assert client.query(collection_name, output_fields=["count(*)"]) == [{"count(*)": 4}]


@pytest.mark.parametrize("key_type", [int, str])
def test_automatic_ids_are_unique_returned_and_found(
    client: MilvusClient, collection_name: str, key_type: type
) -> None:
    key: dict[str, Any] = {"data_type": DataType.VARCHAR, "max_length": 32} if key_type is str else {}
    make_quick(client, collection_name, 2, auto_id=True, **key)
    returned: list[Any] = []
    for batch in range(3):
        result = client.insert(collection_name, [{"vector": [1.0, batch], "n": batch}] * 10)
        assert result["insert_count"] == 10
        returned += result["ids"]
    assert len(set(returned)) == 30
    assert {type(t) for t in returned} == {key_type}
    got = client.get(collection_name, ids=[returned[0], returned[29]], output_fields=["n"])
    assert sorted(r["n"] for r in got) == [0, 2]
    assert client.query(collection_name, output_fields=["count(*)"]) == [{"count(*)": 30}]


@pytest.mark.parametrize("compact", [True, False], ids=["valid values only", "all values"])
def test_nulls_are_accepted_in_both_encodings(stub: Any, collection_name: str, compact: bool) -> None:
    """SDKs differ: some send a filler for each NULL, some send only the valid values."""
    key = field("id", schema_pb2.Int64, primary=True)
    fields = [key, field("vec", schema_pb2.FloatVector, dim=2)]
    fields += [field("s", schema_pb2.VarChar, nullable=True, max_length=9), field("n", schema_pb2.Int64, nullable=True)]
    assert_ok(stub.CreateCollection(create_request(collection_name, fields)))
    strings: Sequence[str] = ["x", "y"] if compact else ["x", "", "y"]
    numbers: Sequence[int] = [5] if compact else [0, 5, 0]
    s, n = scalars("s", schema_pb2.VarChar, strings), scalars("n", schema_pb2.Int64, numbers)
    s.valid_data.extend([True, False, True])
    n.valid_data.extend([False, True, False])
    keys = scalars("id", schema_pb2.Int64, [1, 2, 3])
    assert_ok(stub.Insert(insert_request(collection_name, 3, keys, vectors("vec", [[1, 0]] * 3), s, n)))
    index = milvus_pb2.CreateIndexRequest(collection_name=collection_name, field_name="vec")
    assert_ok(stub.CreateIndex(index))
    assert_ok(stub.LoadCollection(milvus_pb2.LoadCollectionRequest(collection_name=collection_name)))
    response = assert_ok(stub.Query(query_request(collection_name, "id > 0", ["s", "n"])))
    by_name = {f.field_name: f for f in response.fields_data}
    assert list(by_name["s"].valid_data) == [True, False, True]
    assert list(by_name["n"].valid_data) == [False, True, False]
    assert [by_name["s"].scalars.string_data.data[i] for i in (0, 2)] == ["x", "y"]
    assert by_name["n"].scalars.long_data.data[1] == 5


def test_a_key_inserted_twice_is_one_hit_and_one_delete_removes_both_rows(
    client: MilvusClient, collection_name: str
) -> None:
    make_quick(client, collection_name, 2, metric="L2")
    client.insert(collection_name, [{"id": 1, "vector": [0.0, 0.0]}, {"id": 2, "vector": [5.0, 0.0]}])
    client.insert(collection_name, [{"id": 1, "vector": [1.0, 0.0]}])
    hits = client.search(collection_name, [[0.0, 0.0]], limit=3)[0]
    assert [h["id"] for h in hits] == [1, 2]
    client.delete(collection_name, ids=[1])
    assert [h["id"] for h in client.search(collection_name, [[0.0, 0.0]], limit=3)[0]] == [2]


def test_answers_have_the_key_field_and_the_number_of_hits_of_each_query(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    make_quick(client, collection_name, 2, metric="L2")
    client.insert(collection_name, [{"id": i, "vector": [float(i), 0.0]} for i in range(3)])
    request = search_request(collection_name, [[0, 0], [2, 0]], 2, anns_field="vector")
    results = assert_ok(stub.Search(request)).results
    assert (results.num_queries, results.top_k, list(results.topks)) == (2, 2, [2, 2])
    assert results.primary_field_name == "id"
    assert list(results.ids.int_id.data) == [0, 1, 2, 1]
    assert list(results.scores) == [0.0, 1.0, 0.0, 1.0]
    assert count(stub, collection_name) == 3
    flushed = milvus_pb2.FlushRequest(collection_names=[collection_name])
    response = assert_ok(stub.Flush(flushed))
    assert len(response.coll_segIDs[collection_name].data) == 1
    segments = milvus_pb2.GetFlushStateRequest(segmentIDs=response.coll_segIDs[collection_name].data)
    assert assert_ok(stub.GetFlushState(segments)).flushed
