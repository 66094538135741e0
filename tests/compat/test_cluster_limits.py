"""Limits that the settings set for the whole server, for databases, collections and partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import Server
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2
from sample_collections import add_index, c1_rows, make_c1

ORIGIN = [0.0, 0.0, 0.0, 0.0]
SETTINGS = """
quotaAndLimits:
  limits: {maxCollectionNum: 6, maxCollectionNumPerDB: 4, maxInsertSize: 100000}
  ddl: {enabled: true, db: {partitionRate: 0.001}}
  indexRate: {enabled: true, db: {max: 0}}
  flushRate: {collection: {max: 0.001}}
  compactionRate: {enabled: true, max: 0.001}
  dbRate: {enabled: true, max: 0.001}
  dml:
    enabled: true
    insertRate: {partition: {max: 0.001}}
    deleteRate: {max: 0}
  dql:
    enabled: true
    queryRate: {db: {max: 0.001}, max: 1000}
    searchRate: {collection: {max: 0.001}}
rootCoord: {maxPartitionNum: 3, maxGeneralCapacity: 9, maxDatabaseNum: 1}
proxy: {maxShardNum: 2}
"""
REJECTED = "request is rejected by grpc RateLimiter middleware, please retry later: rate limit exceeded[rate={}]"


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("limited-server")
    config = directory / "limits.yaml"
    config.write_text(SETTINGS)
    # The number of replicas is set by a call, which would count.
    with Server(directory, f"--config={config}", can_replicate=False).running() as server:
        yield server


@pytest.fixture(scope="module")
def clients(limited: Server) -> Iterator[dict[str, MilvusClient]]:
    """A client of the default database and one of another, which is the only one that may be made."""
    main = limited.client()
    main.create_database("other")
    both = {"default": main, "other": limited.client(db_name="other")}
    yield both
    for client in both.values():
        client.close()


@pytest.fixture
def collection(clients: dict[str, MilvusClient]) -> Iterator[str]:
    main = clients["default"]
    make_c1(main, "limited", index=False)
    yield "limited"
    main.drop_collection("limited")


def _schema(client: MilvusClient) -> Any:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    return schema


def _refusal(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(MilvusException) as refused:
        call()
    return refused.value.code, refused.value.message


def test_a_rate_of_one_collection_leaves_others_alone(clients: dict[str, MilvusClient], collection: str) -> None:
    main = clients["default"]
    make_c1(main, "limited_too", index=False)
    main.flush(collection, retry_on_rate_limit=False)
    assert _refusal(lambda: main.flush(collection, retry_on_rate_limit=False)) == (8, REJECTED.format("0.001"))
    main.flush("limited_too", retry_on_rate_limit=False)
    main.drop_collection("limited_too")


def test_a_flush_of_two_collections_takes_nothing_if_one_is_over_its_rate(
    limited: Server, clients: dict[str, MilvusClient], collection: str
) -> None:
    main = clients["default"]
    make_c1(main, "limited_too", index=False)
    main.flush(collection, retry_on_rate_limit=False)
    both = limited.stub.Flush(milvus_pb2.FlushRequest(collection_names=["limited_too", collection]))
    assert (both.status.code, both.status.retriable) == (8, True)
    main.flush("limited_too", retry_on_rate_limit=False)
    main.drop_collection("limited_too")


def test_a_rate_of_zero_refuses_every_call_of_its_kind(clients: dict[str, MilvusClient], collection: str) -> None:
    main = clients["default"]
    assert _refusal(lambda: main.delete(collection, ids=[1])) == (9, "quota exceeded[reason=rate type: DMLDelete]")
    assert _refusal(lambda: add_index(main, collection, "vec")) == (9, "quota exceeded[reason=rate type: DDLIndex]")


def test_a_rate_of_partitions_is_counted_for_each(clients: dict[str, MilvusClient], collection: str) -> None:
    main = clients["default"]
    main.create_partition(collection, "p1")
    main.insert(collection, c1_rows(100), retry_on_rate_limit=False)
    again = partial(main.insert, collection, c1_rows(100), retry_on_rate_limit=False)
    assert _refusal(again) == (8, REJECTED.format("1048.576"))
    main.insert(collection, c1_rows(100), partition_name="p1", retry_on_rate_limit=False)


def test_rest_calls_count_with_those_of_grpc(limited: Server, clients: dict[str, MilvusClient]) -> None:
    main = clients["default"]
    body = {"dbName": "other"}
    refused = requests.post(f"{limited.uri}/v2/vectordb/databases/drop", json=body).json()
    assert refused == {
        "code": 1807,
        "message": f"request is rejected by limiter, error: {REJECTED.format('0.001')}",
    }
    assert "other" in main.list_databases()


def test_numbers_of_collections_partitions_and_shards_are_limited(
    clients: dict[str, MilvusClient], collection: str
) -> None:
    main, other = clients["default"], clients["other"]
    code, text = _refusal(lambda: main.create_collection("sharded", schema=_schema(main), num_shards=3))
    assert (code, text) == (1100, "maximum shards's number should be limited to 2: invalid parameter")
    for n in range(3):
        make_c1(main, f"more_{n}", index=False)
    assert _refusal(lambda: make_c1(main, "fifth", index=False)) == (
        102,
        "exceeded the limit number of collections[dbName=default][limit=4]",
    )
    for n in range(2):
        make_c1(other, f"more_{n}", index=False)
    assert _refusal(lambda: make_c1(other, "seventh", index=False))[0] == 102
    for n in range(3):
        main.drop_collection(f"more_{n}")
    for n in range(2):
        other.drop_collection(f"more_{n}")


def test_an_insert_above_the_largest_size_is_refused_whole(clients: dict[str, MilvusClient], collection: str) -> None:
    main = clients["default"]
    assert _refusal(lambda: main.insert(collection, c1_rows(20000))) == (
        1102,
        "insert request size exceeds maxInsertSize: parameter too large",
    )
    assert main.get_collection_stats(collection) == {"row_count": 0}


def test_limits_can_be_switched_off_together(new_server: Any, tmp_path: Path) -> None:
    config = tmp_path / "off.yaml"
    config.write_text(
        "quotaAndLimits: {enabled: false, forceDenyAllDDL: true, limitWriting: {forceDeny: true},"
        " dql: {enabled: true, queryRate: {max: 0}}}"
    )
    client = new_server(f"--config={config}").client()
    make_c1(client, "free", load=True)
    client.alter_collection_properties("free", {"collection.queryRate.max.qps": "0"})
    client.insert("free", c1_rows(3))
    assert len(client.query("free", filter="id >= 0")) == 3


def test_all_changes_of_definitions_can_be_denied(new_server: Any) -> None:
    client = new_server(env={"MILVINE_QUOTAANDLIMITS_FORCEDENYALLDDL": "true"}).client()
    assert _refusal(lambda: make_c1(client, "none")) == (9, "quota exceeded[reason=rate type: DDLCollection]")
    assert _refusal(lambda: client.create_database("none")) == (9, "quota exceeded[reason=rate type: DDLDB]")
