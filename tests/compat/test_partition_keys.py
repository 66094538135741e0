"""Partition keys: the key chooses a row's partition, reads search only there, and callers name no partitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import requests
from conftest import ServerFactory
from grpc_calls import assert_ok, assert_refused, create_request, field, search_request
from partition_calls import Partitions
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import schema_pb2
from sample_collections import DIM, add_index, ids_of

NAMED = "not support manually specifying the partition names if partition key mode is used: invalid parameter"
KEY = field("id", schema_pb2.Int64, primary=True)
VECTOR = field("vec", schema_pb2.FloatVector, dim=DIM)
Row = dict[str, Any]


def make_tenants(client: MilvusClient, name: str, *, text: bool = True, **options: Any) -> None:
    """id, vec, a, the partition key `tenant`, and a dynamic field; loaded."""
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("a", DataType.INT64)
    kind = DataType.VARCHAR if text else DataType.INT64
    schema.add_field("tenant", kind, max_length=64, is_partition_key=True)
    client.create_collection(name, schema=schema, **options)
    add_index(client, name, "vec")
    client.load_collection(name)


def rows_of(keys: Sequence[int], text: bool = True) -> list[Row]:
    """Row i: of tenant i % 20."""
    return [
        {"id": i, "vec": [float(i)] * DIM, "a": i, "tenant": f"t{i % 20}" if text else i % 20, "extra": {"n": i}}
        for i in keys
    ]


@pytest.fixture
def tenants(client: MilvusClient, stub: Any, collection_name: str) -> Partitions:
    make_tenants(client, collection_name)
    client.insert(collection_name, rows_of(range(400)))
    return Partitions(stub, collection_name)


def counts(client: MilvusClient, name: str) -> list[int]:
    return [client.get_partition_stats(name, p)["row_count"] for p in client.list_partitions(name)]


@pytest.mark.parametrize(("options", "count"), [({}, 16), ({"num_partitions": 3}, 3), ({"num_partitions": 1024}, 1024)])
def test_partitions_are_made_with_the_collection(
    client: MilvusClient, collection_name: str, options: dict[str, Any], count: int
) -> None:
    make_tenants(client, collection_name, **options)
    assert client.list_partitions(collection_name) == [f"_default_{n}" for n in range(count)]
    described = client.describe_collection(collection_name)
    assert described["num_partitions"] == count
    assert [f["name"] for f in described["fields"] if f.get("is_partition_key")] == ["tenant"]


@pytest.mark.parametrize(
    ("fields", "count", "text"),
    [
        ([field("k", schema_pb2.Int32, is_partition_key=True)], 0, "the data type of partition key should be Int64"),
        (
            [field("k", schema_pb2.Int64, is_partition_key=True, nullable=True)],
            0,
            "partition key field not support nullable",
        ),
        (
            [field(n, schema_pb2.Int64, is_partition_key=True) for n in ("k", "l")],
            0,
            "there are more than one partition key, field name = k, l",
        ),
        (
            [field("k", schema_pb2.Int64, is_partition_key=True)],
            -1,
            "the specified partitions should be greater than 0 if partition key is used",
        ),
        (
            [field("k", schema_pb2.Int64, is_partition_key=True)],
            1025,
            "partition number (1025) exceeds max configuration (1024)",
        ),
        ([], 4, "num_partitions should only be specified with partition key field enabled"),
    ],
)
def test_a_bad_partition_key_is_refused(
    stub: Any, collection_name: str, fields: list[Any], count: int, text: str
) -> None:
    request = create_request(collection_name, [KEY, VECTOR, *fields], num_partitions=count)
    assert_refused(stub.CreateCollection(request), 1100, text, legacy=5)


def test_the_primary_key_cannot_be_the_partition_key(stub: Any, collection_name: str) -> None:
    key = field("id", schema_pb2.Int64, primary=True, is_partition_key=True)
    found = stub.CreateCollection(create_request(collection_name, [key, VECTOR]))
    assert_refused(found, 1100, "the partition key field must not be primary field")


@pytest.mark.parametrize("text", [True, False])
def test_rows_of_one_key_are_in_one_partition(client: MilvusClient, collection_name: str, text: bool) -> None:
    make_tenants(client, collection_name, text=text, num_partitions=64)
    client.insert(collection_name, rows_of(range(200), text))
    before = counts(client, collection_name)
    assert sum(before) == 200
    assert sum(n > 0 for n in before) > 10, "twenty keys share few partitions"
    client.insert(collection_name, rows_of(range(1007, 1407, 20), text))
    grown = [after - n for n, after in zip(before, counts(client, collection_name), strict=True)]
    assert sorted(grown)[-2:] == [0, 20]


@pytest.mark.parametrize("flushed", [False, True])
def test_reads_find_all_rows_of_a_key_and_no_others(client: MilvusClient, tenants: Partitions, flushed: bool) -> None:
    name = tenants.name
    if flushed:
        client.flush(name)
        client.insert(name, rows_of(range(400, 500)))
    end = 500 if flushed else 400
    assert ids_of(client, name, "id >= 0", limit=1000) == [*range(end)]
    for text, wanted in [
        ('tenant == "t3"', {3}),
        ('tenant in ["t3", "t19"]', {3, 19}),
        ('tenant in ["nobody"]', set()),
        ('tenant == "t3" or tenant == "t5"', {3, 5}),
        ('tenant == "t3" and tenant == "t5"', set()),
        ('(tenant == "t3" or tenant in ["t4"]) and a >= 0', {3, 4}),
        ('tenant == "t3" or a >= 0', set(range(20))),
        ('tenant != "t3"', set(range(20)) - {3}),
        ('not (tenant == "t3")', set(range(20)) - {3}),
        ('tenant like "t1%"', {1, *range(10, 20)}),
    ]:
        assert ids_of(client, name, text, limit=1000) == [i for i in range(end) if i % 20 in wanted], text
    hits = client.search(name, [[0.0] * DIM], filter='tenant == "t7"', limit=5, output_fields=["tenant", "extra"])[0]
    assert [(h["id"], h["entity"]["tenant"], h["entity"]["extra"]) for h in hits] == [
        (i, "t7", {"n": i}) for i in (7, 27, 47, 67, 87)
    ]


def test_a_filter_on_the_key_looks_into_one_partition(client: MilvusClient, tenants: Partitions, server: Any) -> None:
    client.flush(tenants.name)
    body: dict[str, Any] = {"collectionName": tenants.name, "data": [[0.0] * DIM], "limit": 3, "annsField": "vec"}

    def looks(text: str) -> list[Any]:
        found = requests.post(f"{server.uri}/milvine/v1/explain", json={**body, "filter": text}, timeout=10).json()
        assert found["code"] == 0
        return list(found["data"])

    assert len(looks("")) > 5
    assert len(looks('tenant == "t3"')) == 1
    assert len(looks('tenant in ["t3"] and a > 5')) == 1
    assert len(looks('tenant == "t3" or a > 5')) > 5


@pytest.mark.parametrize(("text", "wanted"), [("tenant == 1e30", 0), ("tenant == 0.5", 0), ("tenant == 3.0", 20)])
def test_a_number_outside_the_keys_type_finds_nothing(
    client: MilvusClient, collection_name: str, text: str, wanted: int
) -> None:
    make_tenants(client, collection_name, text=False)
    client.insert(collection_name, rows_of(range(400), text=False))
    assert len(ids_of(client, collection_name, text, limit=1000)) == wanted


def test_an_upsert_replaces_the_old_row_in_any_partition(client: MilvusClient, tenants: Partitions) -> None:
    name = tenants.name
    client.flush(name)
    moved = [{**row, "tenant": "elsewhere", "a": -1} for row in rows_of(range(10))]
    client.upsert(name, moved)
    assert ids_of(client, name, 'tenant == "elsewhere"') == [*range(10)]
    assert ids_of(client, name, "id < 20") == [*range(20)]
    assert ids_of(client, name, 'tenant == "t3" and id < 100') == [23, 43, 63, 83]
    assert ids_of(client, name, "a == -1") == [*range(10)]


def test_deletes_by_primary_key_and_by_partition_key(client: MilvusClient, tenants: Partitions) -> None:
    name = tenants.name
    client.delete(name, ids=[0, 1, 2])
    client.delete(name, filter='tenant == "t5"')
    client.delete(name, filter='tenant in ["t6", "t7"] and a < 100')
    left = [i for i in range(3, 400) if i % 20 != 5 and not (i % 20 in (6, 7) and i < 100)]
    assert ids_of(client, name, "id >= 0", limit=1000) == left


def test_a_delete_for_one_key_leaves_the_same_id_of_another(client: MilvusClient, tenants: Partitions) -> None:
    client.insert(tenants.name, [{"id": 3, "vec": [1.0] * DIM, "a": 3, "tenant": "twin"}])
    client.delete(tenants.name, filter='tenant == "twin"')
    assert ids_of(client, tenants.name, "id == 3") == [3]


def test_partitions_cannot_be_named_by_callers(tenants: Partitions) -> None:
    """PT-12, and what Milvus refuses in addition."""
    for found, what in [
        (tenants.create("_default_0"), "create partition"),
        (tenants.drop("_default_0"), "drop partition"),
        (tenants.load("_default_0"), "load partitions"),
        (tenants.release("_default_0"), "release partitions"),
    ]:
        assert_refused(found, 1100, f"disable {what} if partition key mode is used: invalid parameter")
    for found in (
        tenants.search("_default_0"),
        tenants.query("_default_0"),
        tenants.insert([1], "_default_0"),
        tenants.upsert([1], "_default_0"),
        tenants.delete("id in [1]", "_default_0"),
    ):
        assert_refused(found, 1100, NAMED)
    assert assert_ok(tenants.has("_default_3")).value is True
    assert assert_ok(tenants.has("_default")).value is False
    assert assert_ok(tenants.progress("_default_3")).progress == 100
    assert_ok(tenants.state("_default_3"))


def test_an_insert_without_the_key_is_refused(tenants: Partitions) -> None:
    text = "fieldSchema(tenant) has no corresponding fieldData pass in"
    assert_refused(tenants.insert([1]), 1100, text)


def test_the_partition_key_must_be_loaded(tenants: Partitions) -> None:
    """LF-04."""
    text = "load field list [id vec] does not contain partition key field tenant: invalid parameter"
    assert_refused(tenants.load_all(load_fields=["id", "vec"]), 1100, text)
    assert_ok(tenants.load_all(load_fields=["id", "vec", "tenant"]))
    assert tenants.count() == 400


def test_rows_inserted_after_a_truncation_are_in_their_keys_partition(
    client: MilvusClient, tenants: Partitions
) -> None:
    before = counts(client, tenants.name)
    assert_ok(tenants.truncate())
    assert counts(client, tenants.name) == [0] * 16
    client.insert(tenants.name, rows_of(range(400)))
    assert counts(client, tenants.name) == before


def test_log_replay_puts_rows_into_the_partitions_of_their_keys(new_server: ServerFactory) -> None:
    server = new_server()
    client = server.client()
    make_tenants(client, "c")
    client.insert("c", rows_of(range(100)))
    client.flush("c")
    client.insert("c", rows_of(range(100, 300)))
    client.upsert("c", [{**row, "tenant": "elsewhere"} for row in rows_of([5, 105])])
    before = counts(client, "c")
    client.close()
    server.kill()
    server.start()
    client = server.client()
    assert counts(client, "c") == before
    assert ids_of(client, "c", 'tenant == "elsewhere"') == [5, 105]
    assert ids_of(client, "c", 'tenant == "t5"') == [i for i in range(300) if i % 20 == 5 and i not in (5, 105)]
    assert ids_of(client, "c", 'tenant == "t5" or id == 5', limit=1000)[0] == 5
    hits = server.stub.Search(search_request("c", [[0.0] * DIM], 3, filter_text='tenant == "t9"'))
    assert list(assert_ok(hits).results.ids.int_id.data) == [9, 29, 49]


def test_a_row_with_an_automatic_id_is_in_its_keys_partition(client: MilvusClient, collection_name: str) -> None:
    schema = client.create_schema(auto_id=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("tenant", DataType.INT64, is_partition_key=True, default_value=7)
    client.create_collection(collection_name, schema=schema)
    add_index(client, collection_name, "vec")
    client.load_collection(collection_name)
    ids = client.insert(collection_name, [{"vec": [float(i)] * DIM} for i in range(5)])["ids"]
    assert ids_of(client, collection_name, "tenant == 7") == list(ids)
    client.upsert(collection_name, [{"id": ids[0], "vec": [9.0] * DIM, "tenant": 8}])
    assert len(ids_of(client, collection_name, "tenant == 8")) == 1
    assert ids_of(client, collection_name, "tenant == 7") == list(ids[1:])
