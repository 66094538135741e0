"""Dropping the dynamic field removes its keys from sealed, growing, logged and merged rows for good."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import ServerFactory
from directory_check import findings
from grpc_calls import assert_ok, assert_refused, insert_request, query_request, scalars, vectors
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2
from sample_collections import ids_of

from milvine.catalog.altering import alter_collection
from milvine.catalog.collections import add_index, create_collection
from milvine.catalog.sqlite_file import open_catalog
from milvine.errors import ParameterInvalid
from milvine.model.collections import Collection
from milvine.model.schema import CollectionSchema, FieldSchema, IndexSpec, with_field_ids, without_fields
from milvine.model.types import ConsistencyLevel
from milvine.model.types import DataType as DataTypes

VECTOR = [1.0, 0.0, 0.0, 0.0]


def _rows(*ids: int, **extra: Any) -> list[dict[str, Any]]:
    return [{"id": i, "vec": VECTOR, "a": 10 * i, **extra} for i in ids]


def _make(client: MilvusClient, name: str, *, dynamic: bool = True) -> None:
    schema = client.create_schema(enable_dynamic_field=dynamic)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    schema.add_field("a", DataType.INT64, nullable=True)
    index = client.prepare_index_params()
    index.add_index("vec", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")


def _fill(client: MilvusClient, name: str) -> None:
    """Rows 0-1 of a merged segment, 2 and 3 of small ones, 4 and 5 growing, all with the key `color`."""
    _make(client, name)
    for key in (0, 1):
        client.insert(name, _rows(key, color="red"))
        client.flush(name)
    client.compact(name)
    for key in (2, 3):
        client.insert(name, _rows(key, color="red"))
        client.flush(name)
    client.insert(name, _rows(4, color="red"))
    client.upsert(name, _rows(5, color="red"))


def _switch(client: MilvusClient, name: str, *, enabled: bool) -> None:
    client.alter_collection_properties(name, {"dynamicfield.enabled": enabled}, retry_times=0)


def _check_gone(client: MilvusClient, name: str, keys: int = 6) -> None:
    rows = client.query(name, filter="id >= 0", output_fields=["*"])
    assert [(row["id"], sorted(row)) for row in rows] == [(i, ["a", "id", "vec"]) for i in range(keys)]
    hits = client.search(name, [VECTOR], limit=10, output_fields=["*"])[0]
    assert [sorted(hit["entity"]) for hit in hits] == keys * [["a", "id", "vec"]]


def _max_field_id(client: MilvusClient, name: str) -> int:
    return int(client.describe_collection(name)["properties"]["max_field_id"])


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "not loaded"])
def test_dynamic_keys_are_removed_from_all_rows_and_stay_removed(
    client: MilvusClient, stub: Any, collection_name: str, loaded: bool
) -> None:
    name = collection_name
    _fill(client, name)
    if loaded:
        client.load_collection(name)
        assert ids_of(client, name, "color == 'red'") == [*range(6)]
    highest = _max_field_id(client, name)
    _switch(client, name, enabled=False)
    _switch(client, name, enabled=False)
    if not loaded:
        client.load_collection(name)
    described = client.describe_collection(name)
    assert described["enable_dynamic_field"] is False
    assert [f["name"] for f in described["fields"]] == ["id", "vec", "a"]
    assert _max_field_id(client, name) == highest
    _check_gone(client, name)
    for request in (
        query_request(name, "color == 'red'"),
        query_request(name, "id >= 0", output_fields=["color"]),
        query_request(name, "id >= 0", output_fields=["$meta"]),
    ):
        named = "$meta" if "$meta" in request.output_fields else "color"
        assert_refused(stub.Query(request), 1100, f"field {named} not exist")

    _switch(client, name, enabled=True)
    assert _max_field_id(client, name) == highest + 1
    assert ids_of(client, name, "color == 'red'") == []
    client.insert(name, _rows(6, color="blue"))
    client.upsert(name, [{"id": 4, "shape": "round"}], partial_update=True)
    for _ in range(2):
        rows = client.query(name, filter="id >= 0", output_fields=["color", "shape"])
        assert {row["id"]: row.get("color") for row in rows} == {**dict.fromkeys(range(6)), 6: "blue"}
        assert [row["id"] for row in rows if row.get("shape")] == [4]
        client.flush(name)
        client.compact(name)
        client.release_collection(name)
        client.load_collection(name)
    _switch(client, name, enabled=False)
    _check_gone(client, name, 7)
    assert _max_field_id(client, name) == highest + 1


def test_an_index_of_a_dynamic_path_goes_with_the_field(client: MilvusClient, collection_name: str) -> None:
    name = collection_name
    _fill(client, name)
    index = client.prepare_index_params()
    params = {"json_cast_type": "VARCHAR", "json_path": "color"}
    index.add_index("color", index_type="INVERTED", index_name="by_color", params=params)
    client.create_index(name, index)
    client.load_collection(name)
    assert "by_color" in client.list_indexes(name)
    assert ids_of(client, name, "color == 'red'") == [*range(6)]
    _switch(client, name, enabled=False)
    assert client.list_indexes(name) == ["vec"]
    _check_gone(client, name)
    _switch(client, name, enabled=True)
    assert client.list_indexes(name) == ["vec"]
    client.create_index(name, index)
    client.insert(name, _rows(6, color="red"))
    client.flush(name)
    assert ids_of(client, name, "color == 'red'") == [6]


def test_loads_of_chosen_fields_continue_without_the_dynamic_field(client: MilvusClient, collection_name: str) -> None:
    name = collection_name
    _fill(client, name)
    client.load_collection(name, load_fields=["id", "vec"])
    _switch(client, name, enabled=False)
    assert ids_of(client, name, "id >= 0") == [*range(6)]
    with pytest.raises(MilvusException, match="field a is not loaded"):
        client.query(name, filter="a >= 0")


def test_undeclared_keys_and_writes_with_the_old_schema_are_refused(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    name = collection_name
    _fill(client, name)
    client.load_collection(name)
    described = stub.DescribeCollection(milvus_pb2.DescribeCollectionRequest(collection_name=name))
    columns = (
        scalars("id", schema_pb2.Int64, [7]),
        vectors("vec", [VECTOR]),
        scalars("a", schema_pb2.Int64, [1]),
        schema_pb2.FieldData(
            type=schema_pb2.JSON,
            is_dynamic=True,
            scalars=schema_pb2.ScalarField(json_data=schema_pb2.JSONArray(data=[b'{"color": "red"}'])),
        ),
    )
    request = insert_request(name, 1, *columns)
    assert_ok(stub.Insert(request))
    client.delete(name, ids=[7])
    _switch(client, name, enabled=False)
    request.schema_timestamp = described.update_timestamp
    assert_refused(stub.Insert(request), 109, f"collection schema mismatch[collection={name}]", legacy=62)
    request.schema_timestamp = 0
    _make(client, f"{name}_plain", dynamic=False)
    never_had_one = stub.Insert(insert_request(f"{name}_plain", 1, *columns)).status
    assert never_had_one.code != 0
    refused = stub.Insert(request).status
    assert (refused.code, refused.reason) == (never_had_one.code, never_had_one.reason.replace(f"{name}_plain", name))
    client.drop_collection(f"{name}_plain")
    with pytest.raises(Exception, match="Attempt to insert an unexpected field `color`"):
        client.insert(name, _rows(8, color="red"))
    _check_gone(client, name)


def test_the_bytes_of_the_dropped_field_stay_until_a_merge(new_server: ServerFactory) -> None:
    server = new_server()
    client = server.client()
    _make(client, "c1")
    for key in (0, 1):
        client.insert("c1", _rows(key, color="red"))
        client.flush("c1")
    number = _max_field_id(client, "c1")
    files = list(server.data_dir.glob(f"segments/**/{number}.col"))
    assert files
    _switch(client, "c1", enabled=False)
    assert all(file.exists() for file in files)
    client.load_collection("c1")
    client.delete("c1", ids=[0])
    client.flush("c1")
    client.compact("c1")
    deadline = time.monotonic() + 60
    while left := [*server.data_dir.glob(f"segments/**/{number}.col")]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert ids_of(client, "c1", "a >= 0") == [1]
    server.stop()
    assert findings(server.data_dir) == []


def test_an_index_on_a_dropped_field_is_refused(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path / "catalog.sqlite")
    fields = with_field_ids(
        [
            FieldSchema(0, "id", DataTypes.INT64, is_primary=True),
            FieldSchema(0, "$meta", DataTypes.JSON, is_dynamic=True),
        ]
    )
    schema = CollectionSchema(fields, enable_dynamic_field=True)
    create_collection(catalog, Collection(7, "default", "c1", schema, 1, ConsistencyLevel.STRONG))
    alter_collection(catalog, 7, lambda now: replace(now, schema=without_fields(now.schema, {fields[1].field_id}, 2)))
    with pytest.raises(ParameterInvalid, match="non-exist field"):
        add_index(catalog, 7, IndexSpec(8, fields[1].field_id, "late", "INVERTED", None))
    assert catalog.snapshot.collections[7].indexes == ()
    catalog.close()


def test_an_iterator_that_began_before_the_drop_continues(client: MilvusClient, collection_name: str) -> None:
    name = collection_name
    _fill(client, name)
    client.load_collection(name)
    pages = client.query_iterator(name, batch_size=2, filter="id >= 0", output_fields=["a"])
    found = [row["id"] for row in pages.next()]
    _switch(client, name, enabled=False)
    while page := pages.next():
        found += [row["id"] for row in page]
    assert found == [*range(6)]


def test_reads_and_writes_continue_while_the_dynamic_field_is_switched(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    """A call that names a dynamic key may be refused as an unknown field; all others succeed."""
    name = collection_name
    _fill(client, name)
    client.load_collection(name)
    failures: list[str] = []
    stopped = threading.Event()

    def note(status: common_pb2.Status, *allowed: str) -> None:
        if status.code and not any(text in status.reason for text in allowed):
            failures.append(f"{status.code} {status.reason}")

    def write() -> None:
        number = 100
        while not stopped.is_set():
            number += 1
            columns = [scalars("id", schema_pb2.Int64, [number]), vectors("vec", [VECTOR])]
            note(stub.Insert(insert_request(name, 1, *columns, scalars("a", schema_pb2.Int64, [number]))).status)

    def upsert() -> None:
        while not stopped.is_set():
            columns = [scalars("id", schema_pb2.Int64, [2]), scalars("a", schema_pb2.Int64, [20])]
            request = milvus_pb2.UpsertRequest(
                collection_name=name, fields_data=columns, num_rows=1, partial_update=True
            )
            note(stub.Upsert(request).status)

    def read() -> None:
        while not stopped.is_set():
            everything = stub.Query(query_request(name, "id in [0, 1, 2, 3, 4, 5]", output_fields=["*"]))
            note(everything.status)
            count = len(everything.fields_data[0].scalars.long_data.data) if not everything.status.code else 6
            if count != 6:
                failures.append(f"{count} rows")
            note(stub.Query(query_request(name, "color == 'red'", output_fields=["color"])).status, "not exist")

    threads = [threading.Thread(target=work) for work in (write, upsert, read, read)]
    for thread in threads:
        thread.start()
    for number in range(12):
        _switch(client, name, enabled=number % 2 == 1)
        if number % 5 == 0:
            client.flush(name)
            client.compact(name)
    stopped.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert ids_of(client, name, "color == 'red'") == []


def test_the_dynamic_field_is_dropped_whole_or_not_at_all(new_server: ServerFactory) -> None:
    server = new_server(env={"MILVINE_CRASH_AT": "drop_field.prepared"})
    client = server.client()
    _fill(client, "c1")
    client.load_collection("c1")
    highest = _max_field_id(client, "c1")
    with pytest.raises((grpc.RpcError, MilvusException)):
        _switch(client, "c1", enabled=False)
    assert server.process.wait(20) == -signal.SIGKILL
    server = new_server(env={"MILVINE_CRASH_AT": "drop_field.committed"}, data_dir=server.data_dir)
    client = server.client()
    assert ids_of(client, "c1", "color == 'red'") == [*range(6)]
    with pytest.raises((grpc.RpcError, MilvusException)):
        _switch(client, "c1", enabled=False)
    assert server.process.wait(20) == -signal.SIGKILL
    server = new_server(data_dir=server.data_dir)
    client = server.client()
    _check_gone(client, "c1")
    assert _max_field_id(client, "c1") == highest
    _switch(client, "c1", enabled=True)
    client.insert("c1", _rows(6, color="blue"))
    for _ in range(2):
        server.kill()
        server.start()
        client = server.client()
        assert ids_of(client, "c1", "color == 'blue'") == [6]
        assert ids_of(client, "c1", "color == 'red'") == []
        client.flush("c1")
        client.compact("c1")
    assert _max_field_id(client, "c1") == highest + 1
    server.stop()
