"""Create, describe, list and drop collections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from grpc_calls import assert_ok, assert_refused, create_request, field, load_state, pairs
from pymilvus import DataType, MilvusClient
from pymilvus.client.types import LoadState
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from sample_collections import make_c1

KEY = field("id", schema_pb2.Int64, primary=True)
VECTOR = field("vec", schema_pb2.FloatVector, dim=4)


def test_quick_form_makes_an_indexed_and_loaded_collection(client: MilvusClient, collection_name: str) -> None:
    client.create_collection(collection_name, dimension=5)
    described = client.describe_collection(collection_name)
    assert [(f["name"], f["type"]) for f in described["fields"]] == [
        ("id", DataType.INT64),
        ("vector", DataType.FLOAT_VECTOR),
    ]
    assert described["fields"][1]["params"] == {"dim": 5}
    assert described["enable_dynamic_field"] is True
    assert client.list_indexes(collection_name) == ["vector"]
    index = client.describe_index(collection_name, "vector")
    assert (index["index_type"], index["metric_type"]) == ("AUTOINDEX", "COSINE")
    assert client.get_load_state(collection_name)["state"] == LoadState.Loaded


def test_quick_form_takes_a_varchar_key_and_a_metric(client: MilvusClient, collection_name: str) -> None:
    client.create_collection(
        collection_name,
        dimension=3,
        id_type="string",
        max_length=20,
        metric_type="IP",
        primary_field_name="key",
        vector_field_name="v",
    )
    fields = client.describe_collection(collection_name)["fields"]
    assert [(f["name"], f["type"]) for f in fields] == [
        ("key", DataType.VARCHAR),
        ("v", DataType.FLOAT_VECTOR),
    ]
    assert fields[0]["params"] == {"max_length": 20}
    assert client.describe_index(collection_name, "v")["metric_type"] == "IP"


def test_schema_with_index_params_is_loaded_when_created(client: MilvusClient, collection_name: str) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    indexes = client.prepare_index_params()
    indexes.add_index("vec", index_type="HNSW", metric_type="L2", params={"M": 8, "efConstruction": 64})
    client.create_collection(collection_name, schema=schema, index_params=indexes)
    assert client.get_load_state(collection_name)["state"] == LoadState.Loaded


def test_describe_shows_everything_that_was_requested(client: MilvusClient, collection_name: str) -> None:
    schema = client.create_schema(description="all of it", enable_dynamic_field=True)
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=77, description="the key")
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=9)
    schema.add_field("note", DataType.VARCHAR, max_length=12, nullable=True)
    schema.add_field("j", DataType.JSON)
    client.create_collection(collection_name, schema=schema, consistency_level="Strong", num_shards=2)
    described = client.describe_collection(collection_name)
    assert described["collection_name"] == collection_name
    assert described["description"] == "all of it"
    assert described["consistency_level_name"] == "Strong"
    assert described["num_shards"] == 2
    assert described["num_partitions"] == 1
    assert described["enable_dynamic_field"] is True
    by_name = {f["name"]: f for f in described["fields"]}
    assert list(by_name) == ["key", "vec", "note", "j"]
    assert by_name["key"]["is_primary"] is True
    assert by_name["key"]["description"] == "the key"
    assert by_name["key"]["params"] == {"max_length": 77}
    assert by_name["note"]["nullable"] is True
    assert [by_name[n]["field_id"] for n in by_name] == [100, 101, 102, 103]


def test_raw_description_carries_ids_channels_and_times(stub: Any, collection_name: str) -> None:
    assert_ok(stub.CreateCollection(create_request(collection_name, [KEY, VECTOR], shards_num=2)))
    request = milvus_pb2.DescribeCollectionRequest(collection_name=collection_name)
    described = assert_ok(stub.DescribeCollection(request))
    assert described.collectionID > 0
    assert described.db_name == "default"
    assert len(described.virtual_channel_names) == 2
    assert described.created_timestamp >> 18 == described.created_utc_timestamp
    by_id = milvus_pb2.DescribeCollectionRequest(collectionID=described.collectionID)
    assert assert_ok(stub.DescribeCollection(by_id)).collection_name == collection_name


def test_creating_the_same_again_is_a_success(stub: Any, collection_name: str) -> None:
    request = create_request(collection_name, [KEY, VECTOR])
    assert_ok(stub.CreateCollection(request))
    assert_ok(stub.CreateCollection(request))


def test_creating_another_schema_under_the_name_is_refused(stub: Any, collection_name: str) -> None:
    assert_ok(stub.CreateCollection(create_request(collection_name, [KEY, VECTOR])))
    other = create_request(collection_name, [KEY, field("vec", schema_pb2.FloatVector, dim=8)])
    text = f"create duplicate collection with different parameters, collection: {collection_name}"
    assert_refused(stub.CreateCollection(other), 1100, text, legacy=5)
    described = stub.DescribeCollection(milvus_pb2.DescribeCollectionRequest(collection_name=collection_name))
    assert [p.value for p in described.schema.fields[1].type_params] == ["4"]


def test_dropping_what_is_missing_is_a_success(stub: Any, client: MilvusClient, collection_name: str) -> None:
    assert_ok(stub.DropCollection(milvus_pb2.DropCollectionRequest(collection_name=collection_name)))
    client.drop_collection(collection_name)


def test_dropped_collection_is_gone_from_has_list_and_describe(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    make_c1(client, collection_name, load=True)
    assert client.has_collection(collection_name)
    assert collection_name in client.list_collections()
    client.drop_collection(collection_name)
    assert not client.has_collection(collection_name)
    assert collection_name not in client.list_collections()
    request = milvus_pb2.DescribeCollectionRequest(collection_name=collection_name)
    text = f"can't find collection[database=default][collection={collection_name}]"
    assert_refused(stub.DescribeCollection(request), 100, text, legacy=4)


def test_recreated_collection_is_empty_and_has_another_id(client: MilvusClient, collection_name: str) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, [{"id": 1, "vec": [0.0] * 4, "a": 1}])
    first = client.describe_collection(collection_name)["collection_id"]
    client.drop_collection(collection_name)
    make_c1(client, collection_name, load=True)
    assert client.describe_collection(collection_name)["collection_id"] != first
    assert client.query(collection_name, output_fields=["count(*)"]) == [{"count(*)": 0}]


def test_list_in_memory_shows_loaded_collections_only(client: MilvusClient, stub: Any, collection_name: str) -> None:
    """SH-01"""
    make_c1(client, collection_name)
    in_memory = milvus_pb2.ShowCollectionsRequest(type=milvus_pb2.ShowType.InMemory)
    assert collection_name not in assert_ok(stub.ShowCollections(in_memory)).collection_names
    client.load_collection(collection_name)
    listed = assert_ok(stub.ShowCollections(in_memory))
    place = list(listed.collection_names).index(collection_name)
    assert listed.inMemory_percentages[place] == 100
    assert listed.query_service_available[place]


def test_refused_create_leaves_nothing(stub: Any, collection_name: str) -> None:
    assert_refused(stub.CreateCollection(create_request(collection_name, [KEY])), 1100, "vector field")
    assert load_state(stub, collection_name) == LoadState.NotExist


def _with(*fields: Any) -> list[Any]:
    return [KEY, VECTOR, *fields]


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ([KEY], 1100, "schema does not contain vector field"),
        ([VECTOR], 1101, "primary key is not specified"),
        (_with(field("k2", schema_pb2.Int64, primary=True)), 1100, "there are more than one primary key"),
        (
            [field("id", schema_pb2.Double, primary=True), VECTOR],
            1100,
            "the data type of primary key should be Int64 or VarChar",
        ),
        (_with(field("vec", schema_pb2.FloatVector, dim=4)), 1100, "duplicated field name vec found"),
        ([KEY, field("vec", schema_pb2.FloatVector)], 1100, "dimension is not defined in field type params"),
        (
            [KEY, field("vec", schema_pb2.FloatVector, dim=1)],
            1100,
            "invalid dimension: 1. should be in range 2 ~",
        ),
        ([KEY, field("vec", schema_pb2.FloatVector, dim=32769)], 1100, "should be in range 2 ~ 32768"),
        (_with(field("s", schema_pb2.VarChar)), 1101, "type param(max_length) should be specified"),
        (_with(field("s", schema_pb2.VarChar, max_length=65536)), 1100, "should be in (0, 65535]"),
        (_with(field("1st", schema_pb2.Int64)), 1701, "first character of a field name must be"),
        (_with(field("a-b", schema_pb2.Int64)), 1701, "can only contain numbers, letters, and underscores"),
        (_with(field("$meta", schema_pb2.JSON)), 1701, "$meta is keyword in milvus"),
        (_with(field("n", schema_pb2.Int64, autoID=True)), 1100, "only primary field can speficy AutoID"),
        ([field("id", schema_pb2.Int64, primary=True, nullable=True), VECTOR], 1100, "primary field not support null"),
        (
            _with(*(field(f"f{i}", schema_pb2.Int8) for i in range(255))),
            1100,
            "field's number should be limited to 256",
        ),
        (
            _with(*(field(f"v{i}", schema_pb2.FloatVector, dim=2) for i in range(10))),
            1100,
            "maximum vector field's number should be limited to 10",
        ),
        (_with(field("b", schema_pb2.Geometry)), 1100, "Geometry"),
    ],
)
def test_bad_schema_is_refused(stub: Any, collection_name: str, fields: Sequence[Any], code: int, text: str) -> None:
    assert_refused(stub.CreateCollection(create_request(collection_name, fields)), code, text)
    assert load_state(stub, collection_name) == LoadState.NotExist


FILTER_WORDS = (
    "like and or not in exists EXISTS true True TRUE false False FALSE null NULL Null nUlL "
    "json_contains JSON_CONTAINS json_contains_all JSON_CONTAINS_ALL json_contains_any JSON_CONTAINS_ANY "
    "array_contains ARRAY_CONTAINS array_contains_all ARRAY_CONTAINS_ALL array_contains_any ARRAY_CONTAINS_ANY "
    "array_length ARRAY_LENGTH text_match TEXT_MATCH phrase_match PHRASE_MATCH random_sample RANDOM_SAMPLE"
)


def test_words_of_the_filter_language_are_refused_as_field_names(stub: Any, collection_name: str) -> None:
    """Milvus's list (pkg/common/keywords.go); words that are not on it are names, `LIKE` for one."""
    assert_ok(stub.CreateCollection(create_request(collection_name, _with(field("LIKE", schema_pb2.Int64)))))
    for word in FILTER_WORDS.split():
        text = f"Invalid field name: {word}. {word} is keyword in milvus."
        bad = field(word, schema_pb2.Int64, nullable=True)
        other = create_request(f"{collection_name}_2", _with(bad))
        assert_refused(stub.CreateCollection(other), 1701, text)
        added = milvus_pb2.AddCollectionFieldRequest(collection_name=collection_name, schema=bad.SerializeToString())
        assert_refused(stub.AddCollectionField(added), 1701, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "collection name should not be empty"),
        ("12-s", "the first character of a collection name must be an underscore or letter"),
        ("a-b", "Invalid collection name: a-b. collection name can only contain numbers, letters and underscores"),
        ("n" * 256, "the length of a collection name must be less than 255 characters"),
        ("naïve", "collection name can only contain numbers, letters and underscores"),
    ],
)
def test_bad_collection_name_is_refused(stub: Any, name: str, text: str) -> None:
    assert_refused(stub.CreateCollection(create_request(name, [KEY, VECTOR])), 1100, text, legacy=5)


def test_too_many_shards_are_refused(stub: Any, collection_name: str) -> None:
    request = create_request(collection_name, [KEY, VECTOR], shards_num=17)
    assert_refused(stub.CreateCollection(request), 1100, "maximum shards's number should be limited to 16")


def test_create_in_an_unknown_database_is_refused(stub: Any, collection_name: str) -> None:
    request = create_request(collection_name, [KEY, VECTOR], db_name="nodb")
    assert_refused(stub.CreateCollection(request), 800, "database not found[database=nodb]")


def test_properties_are_described_as_they_were_set(stub: Any, collection_name: str) -> None:
    properties = pairs({"collection.ttl.seconds": 0, "mine": "x"})
    assert_ok(stub.CreateCollection(create_request(collection_name, [KEY, VECTOR], properties=properties)))
    request = milvus_pb2.DescribeCollectionRequest(collection_name=collection_name)
    found = {p.key: p.value for p in stub.DescribeCollection(request).properties}
    of_every_collection = {"timezone": "UTC", "namespace.sharding.enabled": "false", "max_field_id": "101"}
    assert found == {"collection.ttl.seconds": "0", "mine": "x", **of_every_collection}
