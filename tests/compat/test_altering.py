"""Properties of collections, fields and indexes: set, deleted, refused while loaded, shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import ServerFactory
from grpc_calls import LOAD_STATE, assert_ok, assert_refused, create_request, field, load_state, pairs
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from sample_collections import add_index, c1_rows, ids_of, make_c1

Call = Callable[[Any, str], Any]


def _collection(properties: dict[str, object], delete: tuple[str, ...] = ()) -> Call:
    def call(stub: Any, name: str) -> Any:
        request = milvus_pb2.AlterCollectionRequest(
            collection_name=name, properties=pairs(properties), delete_keys=delete
        )
        return stub.AlterCollection(request)

    return call


def _field(field_name: str, properties: dict[str, object], delete: tuple[str, ...] = ()) -> Call:
    def call(stub: Any, name: str) -> Any:
        request = milvus_pb2.AlterCollectionFieldRequest(
            collection_name=name, field_name=field_name, properties=pairs(properties), delete_keys=delete
        )
        return stub.AlterCollectionField(request)

    return call


def _index(index_name: str, params: dict[str, object], delete: tuple[str, ...] = ()) -> Call:
    def call(stub: Any, name: str) -> Any:
        request = milvus_pb2.AlterIndexRequest(
            collection_name=name, index_name=index_name, extra_params=pairs(params), delete_keys=delete
        )
        return stub.AlterIndex(request)

    return call


LOADED = "collection already loaded[collection="


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (_collection({"mmap.enabled": "true"}), "can not alter mmap properties if collection loaded"),
        (_collection({"warmup.vectorIndex": "sync"}), "can not alter warmup properties if collection loaded"),
        (_collection({}, ("mmap.enabled",)), "can not delete mmap properties if collection loaded"),
        (
            _collection({}, ("warmup.scalarField",)),
            "can not delete warmup.scalarField properties if collection loaded",
        ),
        (_field("a", {"mmap.enabled": "true"}), "can not alter collection field properties if collection loaded"),
        (_field("a", {"mmap_enabled": "true"}), "can not alter collection field properties if collection loaded"),
        (_field("a", {"warmup": "sync"}), "can not alter warmup if collection loaded"),
        (_field("a", {}, ("warmup",)), "can not drop collection field properties if collection loaded"),
        (
            _index("vec", {"mmap.enabled": "true"}),
            "can't alter index on loaded collection, please release the collection first",
        ),
        (
            _index("vec", {}, ("mmap.enabled",)),
            "can't alter index on loaded collection, please release the collection first",
        ),
    ],
)
def test_placement_cannot_be_altered_while_loaded(
    client: MilvusClient, stub: Any, collection_name: str, call: Call, text: str
) -> None:
    make_c1(client, collection_name, load=True)
    assert_refused(call(stub, collection_name), 104, f"{text}: {LOADED}{collection_name}]")
    client.release_collection(collection_name)
    assert_ok(call(stub, collection_name))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (_collection({"a": "b"}, ("c",)), "cannot provide both DeleteKeys and ExtraParams"),
        (_collection({}), "no properties or delete keys provided"),
        (
            _collection({"warmup.vectorIndex": "bogus"}),
            "invalid warmup value for key warmup.vectorIndex: invalid warmup policy: bogus, must be",
        ),
        (
            _collection({"warmup": "sync"}),
            "warmup key 'warmup' is only allowed at field level, use warmup.scalarField/",
        ),
        (_collection({"collection.ttl.seconds": "x"}), "collection TTL is not a valid positive integer"),
        (_collection({"timezone": "Mars/Base"}), "unknown or invalid IANA Time Zone ID: Mars/Base"),
        (_collection({"allow_insert_auto_id": "true"}), "the value for allow_insert_auto_id must be false when autoID"),
        (_collection({"ttl_field": "nope"}), "ttl field name nope not found in schema"),
        (_collection({"ttl_field": "a"}), "ttl field must be timestamptz, field name = a"),
        (_collection({"max_field_id": "1"}), "cannot alter reserved collection property max_field_id"),
        (_collection({"collection.description": "x" * 1025}), "description must not exceed 1024 bytes"),
        (_collection({}, ("dynamicfield.enabled",)), "cannot delete key dynamicfield.enabled"),
        (_collection({"dynamicfield.enabled": "x"}), "invalid dynamic schema property value: x"),
        (_field("a", {"element_type": "1"}), "element_type does not allow update in collection field param"),
        (_field("a", {"max_length": "10"}), "can not modify the maxlength for non-string types"),
        (_field("s", {"max_length": "x"}), "max_length should be an integer, but got string"),
        (_field("s", {"max_length": "65536"}), "65536 exceeds the maximum allowed value 65535"),
        (_field("a", {"max_capacity": "10"}), "can not modify the maxcapacity for non-array types"),
        (_field("tags", {"max_capacity": "0"}), "the maximum capacity specified for a Array should be in (0, 4096]"),
        (_field("a", {"warmup": "SYNC"}), "invalid warmup policy: SYNC, must be 'disable', 'sync' or 'async'"),
        (_field("nope", {"mmap.enabled": "true"}), "field nope does not exist in collection"),
        (_field("a", {}, ("max_length",)), "max_length is not allowed to drop in collection field param"),
        (_index("vec", {"M": "8"}), "M is not a configable index property"),
        (_index("vec", {}, ("M",)), "M is not a configable index property"),
        (_index("vec", {"mmap.enabled": "x"}), "invalid mmap.enabled value: x, expected: true, false"),
        (_index("vec", {"warmup": "x"}), "invalid warmup params: invalid warmup policy: x"),
        (_index("", {"warmup": "sync"}), "index name is empty"),
        (_index("vec", {"indexoffsetcache.enabled": "true"}), "only bitmap index support indexoffsetcache.enabled now"),
    ],
)
def test_a_bad_change_is_refused_and_changes_nothing(
    client: MilvusClient, stub: Any, collection_name: str, call: Call, text: str
) -> None:
    _make_rich(client, collection_name)
    before = client.describe_collection(collection_name), client.describe_index(collection_name, "vec")
    assert_refused(call(stub, collection_name), 1100, text, legacy=5)
    assert (client.describe_collection(collection_name), client.describe_index(collection_name, "vec")) == before


def _make_rich(client: MilvusClient, name: str, **key: Any) -> None:
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True, **key)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    schema.add_field("a", DataType.INT64, nullable=True)
    schema.add_field("s", DataType.VARCHAR, max_length=4, nullable=True)
    tags = {"element_type": DataType.VARCHAR, "max_capacity": 2, "max_length": 4, "nullable": True}
    schema.add_field("tags", DataType.ARRAY, **tags)
    client.create_collection(name, schema=schema)
    add_index(client, name, "vec")


def test_altering_what_does_not_exist_is_refused(client: MilvusClient, stub: Any, collection_name: str) -> None:
    assert_refused(_collection({"a": "b"})(stub, collection_name), 100, "collection not found", legacy=4)
    make_c1(client, collection_name)
    assert_refused(_index("nope", {"warmup": "sync"})(stub, collection_name), 700, "index not found[indexName=nope]")


def test_properties_are_shown_and_survive_a_restart(new_server: ServerFactory) -> None:
    server = new_server()
    client = server.client()
    make_c1(client, "c1", load=True)
    client.alter_collection_properties("c1", {"collection.ttl.seconds": 1000, "collection.description": "altered"})
    client.release_collection("c1")
    client.alter_collection_properties("c1", {"mmap.enabled": True, "warmup.scalarField": "async", "my.own": "x"})
    client.drop_collection_properties("c1", ["my.own"])
    client.alter_collection_field("c1", "a", {"mmap.enabled": True, "warmup": "sync", "field.description": "number"})
    client.alter_index_properties("c1", "vec", {"mmap.enabled": True, "warmup": "disable"})
    client.drop_index_properties("c1", "vec", ["warmup"])
    client.load_collection("c1")
    for _ in range(2):
        described = client.describe_collection("c1")
        wanted = {"collection.ttl.seconds": "1000", "mmap.enabled": "True", "warmup.scalarField": "async"}
        assert described["properties"].items() >= wanted.items()
        assert "my.own" not in described["properties"]
        assert described["description"] == "altered"
        field = next(f for f in described["fields"] if f["name"] == "a")
        assert (field["params"], field["description"]) == ({"mmap_enabled": True, "warmup": "sync"}, "number")
        index = client.describe_index("c1", "vec")
        assert (index["mmap.enabled"], "warmup" in index) == ("True", False)
        client.close()
        server.kill()
        server.start()
        client = server.client()
        assert load_state(server.stub, "c1") in (LOAD_STATE.LoadStateLoading, LOAD_STATE.LoadStateLoaded)


def test_a_time_to_live_set_later_hides_old_rows_of_a_loaded_collection(
    client: MilvusClient, collection_name: str
) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(3))
    client.alter_collection_properties(collection_name, {"collection.ttl.seconds": 100000})
    assert ids_of(client, collection_name, "id >= 0") == [0, 1, 2]
    client.drop_collection_properties(collection_name, ["collection.ttl.seconds"])
    assert ids_of(client, collection_name, "id >= 0") == [0, 1, 2]


def test_altered_limits_hold_for_the_next_insert(client: MilvusClient, stub: Any, collection_name: str) -> None:
    _make_rich(client, collection_name)
    row = {"id": 1, "vec": [0.0] * 4, "s": "12345", "tags": ["1", "2", "3"]}
    with pytest.raises(Exception, match="length of varchar field s exceeds max length"):
        client.insert(collection_name, row)
    client.alter_collection_field(collection_name, "s", {"max_length": 5})
    with pytest.raises(Exception, match="exceeds max capacity"):
        client.insert(collection_name, row)
    client.alter_collection_field(collection_name, "tags", {"max_capacity": 3})
    client.insert(collection_name, row)
    client.alter_collection_field(collection_name, "s", {"max_length": 4})
    with pytest.raises(Exception, match="max length: 4"):
        client.insert(collection_name, row)
    client.load_collection(collection_name)
    assert client.query(collection_name, filter="id == 1", output_fields=["s"])[0]["s"] == "12345"


def test_automatic_ids_may_be_given_if_the_collection_allows_it(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    schema = client.create_schema(auto_id=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection(collection_name, schema=schema)
    add_index(client, collection_name, "vec")
    client.load_collection(collection_name)
    client.alter_collection_properties(collection_name, {"allow_insert_auto_id": True})
    assert client.insert(collection_name, {"id": 7, "vec": [1.0] * 4})["ids"] == [7]
    assert client.upsert(collection_name, {"id": 7, "vec": [2.0] * 4})["ids"] == [7]
    assert client.insert(collection_name, {"vec": [1.0] * 4})["ids"] != [7]
    client.drop_collection_properties(collection_name, ["allow_insert_auto_id"])
    with pytest.raises(Exception, match="more fieldData has pass in"):
        client.insert(collection_name, {"id": 8, "vec": [1.0] * 4})
    assert len(ids_of(client, collection_name, "id >= 0")) == 2


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"warmup": "x"}, "invalid warmup policy for field a: invalid warmup policy: x"),
        ({"field.skipLoad": "true"}, ""),
    ],
)
def test_a_field_may_say_at_creation_how_it_is_loaded(
    client: MilvusClient, stub: Any, collection_name: str, params: dict[str, str], text: str
) -> None:
    created = _create(stub, collection_name, a=params)
    if text:
        assert_refused(created, 1100, text)
        return
    assert_ok(created)
    add_index(client, collection_name, "vec")
    client.load_collection(collection_name)
    with pytest.raises(Exception, match="field a is not loaded"):
        client.query(collection_name, filter="id >= 0", output_fields=["a"])
    client.release_collection(collection_name)
    client.load_collection(collection_name, load_fields=["id", "vec", "a"])
    assert client.query(collection_name, filter="id >= 0", output_fields=["a"]) == []


def _create(stub: Any, name: str, **params: Any) -> Any:
    fields = [
        field("id", schema_pb2.Int64, primary=True, **params.get("id", {})),
        field("vec", schema_pb2.FloatVector, dim=4, **params.get("vec", {})),
        field("a", schema_pb2.Int64, **params.get("a", {})),
    ]
    return stub.CreateCollection(create_request(name, fields))


@pytest.mark.parametrize(
    ("of", "text"),
    [
        ("id", "Primary key field id cannot skip loading"),
        ("vec", "cannot config all vector field(s) skip loading"),
    ],
)
def test_fields_that_every_load_needs_cannot_be_skipped(stub: Any, collection_name: str, of: str, text: str) -> None:
    assert_refused(_create(stub, collection_name, **{of: {"field.skipLoad": "true"}}), 1100, text)


def test_a_dynamic_field_can_be_enabled_later(client: MilvusClient, collection_name: str) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(2))
    client.flush(collection_name)
    client.insert(collection_name, c1_rows(1, 2))
    client.alter_collection_properties(collection_name, {"dynamicfield.enabled": True})
    client.alter_collection_properties(collection_name, {"dynamicfield.enabled": True})
    client.insert(collection_name, c1_rows(1, 3, color="red"))
    assert client.describe_collection(collection_name)["enable_dynamic_field"] is True
    assert ids_of(client, collection_name, "color == 'red'") == [3]
    rows = client.query(collection_name, filter="id >= 0", output_fields=["color"])
    assert [row.get("color") for row in rows] == [None, None, None, "red"]
