"""Fields added to a collection with rows: sealed, growing and logged ones read NULL or the default in place."""

from __future__ import annotations

import signal
import threading
from typing import Any

import grpc
import pytest
from conftest import ServerFactory
from grpc_calls import assert_ok, assert_refused, field, insert_request, scalars, vectors
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from sample_collections import c1_rows, ids_of, make_c1

TYPES = [
    (DataType.BOOL, {}, True, "x == true"),
    (DataType.INT8, {}, 3, "x == 3"),
    (DataType.INT64, {}, 3, "x > 2"),
    (DataType.FLOAT, {}, 0.5, "x < 1"),
    (DataType.DOUBLE, {}, 0.5, "x < 1"),
    (DataType.VARCHAR, {"max_length": 8}, "hey", "x like 'h%'"),
    (DataType.JSON, {}, {"k": 1}, "x['k'] == 1"),
    (DataType.ARRAY, {"element_type": DataType.INT64, "max_capacity": 4}, [1, 2], "array_contains(x, 2)"),
]


@pytest.mark.parametrize(("data_type", "params", "value", "filter_text"), TYPES)
def test_older_rows_read_null_and_new_rows_their_value(
    client: MilvusClient,
    collection_name: str,
    data_type: DataType,
    params: dict[str, Any],
    value: Any,
    filter_text: str,
) -> None:
    name = collection_name
    make_c1(client, name, load=True)
    client.insert(name, c1_rows(2))
    client.flush(name)
    client.insert(name, c1_rows(2, 2))
    client.add_collection_field(name, "x", data_type, nullable=True, **params)
    client.insert(name, c1_rows(1, 4))
    client.insert(name, c1_rows(1, 5, x=value))

    def check() -> None:
        rows = client.query(name, filter="id >= 0", output_fields=["*"])
        assert [row["x"] for row in rows] == [None] * 5 + [value]
        assert ids_of(client, name, filter_text) == [5]
        assert ids_of(client, name, "x is null") == [0, 1, 2, 3, 4]
        hits = client.search(name, [[5.0, 0, 0, 0]], limit=6, filter="id >= 0", output_fields=["x"])[0]
        assert [hit["entity"]["x"] for hit in hits] == [value] + [None] * 5

    check()
    client.flush(name)
    check()


def test_older_rows_read_the_default(client: MilvusClient, collection_name: str) -> None:
    name = collection_name
    make_c1(client, name, load=True)
    client.insert(name, c1_rows(2))
    client.flush(name)
    client.insert(name, c1_rows(2, 2))
    client.add_collection_field(name, "x", DataType.INT64, nullable=True, default_value=7)
    client.add_collection_field(name, "s", DataType.VARCHAR, nullable=True, max_length=5, default_value="d")
    client.insert(name, c1_rows(1, 4, x=1, s="e"))
    assert ids_of(client, name, "x == 7 and s == 'd'") == [0, 1, 2, 3]
    client.upsert(name, c1_rows(1, 1, x=2))
    rows = client.query(name, filter="id >= 0", output_fields=["x", "s"])
    assert [(row["x"], row["s"]) for row in rows] == [(7, "d"), (2, "d"), (7, "d"), (7, "d"), (1, "e")]
    client.release_collection(name)
    client.load_collection(name)
    assert ids_of(client, name, "x == 7") == [0, 2, 3]
    described = client.describe_collection(name)
    assert described["schema_version"] == 2
    assert described["update_timestamp"] > described["created_timestamp"]


def test_added_fields_and_partial_upserts_survive_kill_9_and_merges(new_server: ServerFactory) -> None:
    server = new_server()
    client = server.client()
    for name in ("sealed", "logged"):
        make_c1(client, name, load=True)
        client.insert(name, c1_rows(2))
        if name == "sealed":
            client.flush(name)
        client.insert(name, c1_rows(2, 2))
        client.add_collection_field(name, "x", DataType.INT64, nullable=True, default_value=7)
        client.insert(name, c1_rows(2, 4, x=1))
        client.upsert(name, {"id": 0, "a": 5}, partial_update=True)
        client.upsert(name, {"id": 5, "x": 2}, partial_update=True)
        if name == "sealed":
            client.flush(name)
    for _ in range(2):
        server.kill()
        server.start()
        client = server.client()
        for name in ("sealed", "logged"):
            assert ids_of(client, name, "x == 7") == [0, 1, 2, 3]
            assert client.query(name, filter="x < 7 or a == 5", output_fields=["a", "x"]) == [
                {"id": 0, "a": 5, "x": 7},
                {"id": 4, "a": 40, "x": 1},
                {"id": 5, "a": 50, "x": 2},
            ]
            client.flush(name)
            client.compact(name)


def test_a_collection_that_is_not_loaded_can_get_fields(client: MilvusClient, collection_name: str) -> None:
    make_c1(client, collection_name)
    client.insert(collection_name, c1_rows(2))
    client.add_collection_field(collection_name, "x", DataType.INT64, nullable=True)
    client.flush(collection_name)
    client.load_collection(collection_name)
    assert ids_of(client, collection_name, "x is null") == [0, 1]


def test_a_new_field_is_not_loaded_where_fields_were_chosen(client: MilvusClient, collection_name: str) -> None:
    make_c1(client, collection_name)
    client.load_collection(collection_name, load_fields=["id", "vec"])
    client.add_collection_field(collection_name, "x", DataType.INT64, nullable=True)
    with pytest.raises(Exception, match="field x is not loaded"):
        client.query(collection_name, filter="id >= 0", output_fields=["x"])


ADDED: list[tuple[Any, str]] = [
    (field("x", schema_pb2.Int64), "added field must be nullable, please check it, field name = x"),
    (field("a", schema_pb2.Int64, nullable=True), "duplicated field name a"),
    (field("x", schema_pb2.Int64, primary=True, nullable=True), "not support to add pk field, field name = x"),
    (field("x", schema_pb2.Int64, autoID=True, nullable=True), "only primary field can speficy AutoID with true"),
    (
        field("x", schema_pb2.Int64, is_partition_key=True, nullable=True),
        "not support to add partition key field, field name  = x",
    ),
    (field("$meta", schema_pb2.JSON, nullable=True), "not support to add system field, field name = $meta"),
    (field("RowID", schema_pb2.Int64, nullable=True), "not support to add system field, field name = RowID"),
    (field("x", schema_pb2.VarChar, nullable=True, max_length=65536), "the maximum length specified for the field(x)"),
    (field("x", schema_pb2.Int64, nullable=True, warmup="bad"), "invalid warmup policy for field x"),
    (field("x", schema_pb2.FloatVector, dim=4), "added field must be nullable"),
]


@pytest.mark.parametrize(("added", "text"), ADDED)
def test_a_bad_field_is_refused(client: MilvusClient, stub: Any, collection_name: str, added: Any, text: str) -> None:
    make_c1(client, collection_name)
    assert_refused(_add(stub, collection_name, added), 1100, text, legacy=5)
    endless = field("x", schema_pb2.VarChar, nullable=True)
    missing = "type param(max_length) should be specified for the field(x)"
    assert_refused(_add(stub, collection_name, endless), 1101, missing, legacy=5)
    assert len(client.describe_collection(collection_name)["fields"]) == 3


def _add(stub: Any, name: str, added: Any) -> Any:
    request = milvus_pb2.AddCollectionFieldRequest(collection_name=name, schema=added.SerializeToString())
    return stub.AddCollectionField(request)


def test_there_are_at_most_256_fields(client: MilvusClient, stub: Any, collection_name: str) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    for number in range(253):
        schema.add_field(f"f{number}", DataType.INT8)
    client.create_collection(collection_name, schema=schema)
    assert_ok(_add(stub, collection_name, field("last", schema_pb2.Int64, nullable=True)))
    refused = _add(stub, collection_name, field("more", schema_pb2.Int64, nullable=True))
    assert_refused(refused, 1100, "The number of fields has reached the maximum value 256")


def test_an_insert_with_the_old_schema_gets_a_schema_mismatch(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    make_c1(client, collection_name, load=True)
    described = stub.DescribeCollection(milvus_pb2.DescribeCollectionRequest(collection_name=collection_name))
    request = insert_request(
        collection_name,
        1,
        scalars("id", schema_pb2.Int64, [1]),
        vectors("vec", [[0.0] * 4]),
        scalars("a", schema_pb2.Int64, [1]),
    )
    request.schema_timestamp = described.update_timestamp
    assert_ok(stub.Insert(request))
    assert_ok(_add(stub, collection_name, field("x", schema_pb2.Int64, nullable=True)))
    assert_refused(stub.Insert(request), 109, f"collection schema mismatch[collection={collection_name}]", legacy=62)
    request.schema_timestamp = 0
    assert_ok(stub.Insert(request))


def test_reads_and_writes_continue_while_fields_are_added(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    name = collection_name
    make_c1(client, name, load=True)
    client.insert(name, c1_rows(1))
    client.flush(name)
    failures: list[str] = []
    added: list[str] = []
    stopped = threading.Event()

    def write() -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            columns = [scalars("id", schema_pb2.Int64, [number]), vectors("vec", [[0.0] * 4])]
            response = stub.Insert(insert_request(name, 1, *columns, scalars("a", schema_pb2.Int64, [number])))
            if response.status.code:
                failures.append(response.status.reason)

    def read() -> None:
        while not stopped.is_set():
            for x in added[-1:]:
                request = milvus_pb2.QueryRequest(collection_name=name, expr=f"{x} is null", output_fields=[x])
                response = stub.Query(request)
                if response.status.code:
                    failures.append(response.status.reason)

    threads = [threading.Thread(target=work) for work in (write, write, read)]
    for thread in threads:
        thread.start()
    for number in range(20):
        assert_ok(_add(stub, name, field(f"f{number}", schema_pb2.Int64, nullable=True)))
        added.append(f"f{number}")
        if number % 7 == 0:
            client.flush(name)
    stopped.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert ids_of(client, name, "f0 is not null or f19 is not null") == []


def _names(client: MilvusClient) -> list[str]:
    return [f["name"] for f in client.describe_collection("c1")["fields"]]


def test_a_field_is_added_whole_or_not_at_all(new_server: ServerFactory) -> None:
    added = field("x", schema_pb2.Int64, nullable=True, default_value=schema_pb2.ValueField(long_data=7))
    server = new_server(env={"MILVINE_CRASH_AT": "add_field.prepared"})
    client = server.client()
    make_c1(client, "c1", load=True)
    client.insert("c1", c1_rows(2))
    client.flush("c1")
    client.insert("c1", c1_rows(1, 2))
    with pytest.raises(grpc.RpcError):
        _add(server.stub, "c1", added)
    assert server.process.wait(20) == -signal.SIGKILL
    server = new_server(env={"MILVINE_CRASH_AT": "add_field.committed"}, data_dir=server.data_dir)
    client = server.client()
    assert _names(client) == ["id", "vec", "a"]
    assert ids_of(client, "c1", "a >= 0") == [0, 1, 2]
    with pytest.raises(grpc.RpcError):
        _add(server.stub, "c1", added)
    assert server.process.wait(20) == -signal.SIGKILL
    client = new_server(data_dir=server.data_dir).client()
    assert _names(client) == ["id", "vec", "a", "x"]
    client.insert("c1", c1_rows(1, 3, x=1))
    assert ids_of(client, "c1", "x == 7") == [0, 1, 2]


def _change(name: str, *fields: Any, **more: Any) -> Any:
    request = milvus_pb2.AlterCollectionSchemaRequest(collection_name=name)
    added = request.action.add_request
    added.SetInParent()
    for one in fields:
        added.field_infos.add().field_schema.CopyFrom(one)
    for key, value in more.items():
        setattr(added, key, value)
    return request


def test_a_field_is_added_by_alter_collection_schema(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(1))
    answer = stub.AlterCollectionSchema(_change(collection_name, field("x", schema_pb2.Int64, nullable=True)))
    assert_ok(answer.alter_status)
    client.insert(collection_name, c1_rows(1, 1, x=7))
    rows = client.query(collection_name, filter="id >= 0", output_fields=["x"])
    assert [row["x"] for row in rows] == [None, 7]


def test_other_changes_of_a_schema_are_refused(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_c1(client, collection_name)
    column = field("x", schema_pb2.Int64, nullable=True)
    two = _change(collection_name, column, field("y", schema_pb2.Int64, nullable=True))
    with_function = _change(collection_name, column)
    with_function.action.add_request.func_schema.add(name="f")
    two_functions = _change(collection_name)
    two_functions.action.add_request.func_schema.add()
    two_functions.action.add_request.func_schema.add()
    without_field = _change(collection_name)
    without_field.action.add_request.field_infos.add()
    without_action = milvus_pb2.AlterCollectionSchemaRequest(collection_name=collection_name)
    without_kind = milvus_pb2.AlterCollectionSchemaRequest(collection_name=collection_name)
    without_kind.action.SetInParent()
    only_function = _change(collection_name)
    only_function.action.add_request.func_schema.add(name="f")
    dropped, of_function, of_no_function, of_nothing = (
        milvus_pb2.AlterCollectionSchemaRequest(collection_name=collection_name) for _ in range(4)
    )
    dropped.action.drop_request.field_name = "nothing"
    of_function.action.drop_request.function_name = "f"
    of_no_function.action.drop_request.function_name = ""
    of_nothing.action.drop_request.SetInParent()
    unsupported = "is not supported by this version of Milvine"
    for request, code, text in (
        (two, 1100, "For now, only one field info is supported"),
        (two_functions, 1100, "For now, at most one function schema is supported"),
        (_change(collection_name), 1100, "fieldInfos and function schema are both empty"),
        (without_field, 1100, "fieldSchema is nil in fieldInfos"),
        (with_function, 1100, "For now, only BM25 and MinHash functions are supported in add_function_field interface"),
        (only_function, 1100, "adding a function over existing fields is not supported; use add_function_field"),
        (_change(collection_name, column, do_physical_backfill=True), 1100, f"a physical backfill {unsupported}"),
        (without_action, 1100, "action is nil in alter schema task"),
        (without_kind, 1100, "unknown action type in alter collection schema request"),
        (dropped, 1100, "field not found: nothing"),
        (of_function, 1100, "function not found: f"),
        (of_no_function, 1100, "function name is empty"),
        (of_nothing, 1101, "drop request must specify field_name, field_id, or function_name"),
        (_change(collection_name, field("x", schema_pb2.Int64)), 1100, "added field must be nullable"),
        (_change("no_such_name", column), 100, "can't find collection"),
    ):
        assert_refused(stub.AlterCollectionSchema(request).alter_status, code, text)
    assert "x" not in [f["name"] for f in client.describe_collection(collection_name)["fields"]]
