"""Small RPCs of old and administrative clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import requests
from conftest import Server
from grpc_calls import assert_ok, assert_refused
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc
from sample_collections import add_index, c1_rows, make_c1, wait_indexed

_ABSENT_NODE = 999


@pytest.fixture
def indexed(client: MilvusClient, collection_name: str) -> str:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(10))
    client.flush(collection_name)
    wait_indexed(client, collection_name, "vec", 10)
    return collection_name


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as made:
        yield made


def test_the_state_and_the_progress_of_an_index_are_those_of_its_description(stub: Any, indexed: str) -> None:
    asked = {"collection_name": indexed, "index_name": "vec"}
    assert assert_ok(stub.GetIndexState(milvus_pb2.GetIndexStateRequest(**asked))).state == 3
    progress = assert_ok(stub.GetIndexBuildProgress(milvus_pb2.GetIndexBuildProgressRequest(**asked)))
    assert (progress.indexed_rows, progress.total_rows) == (10, 10)
    found = assert_ok(stub.GetIndexStatistics(milvus_pb2.GetIndexStatisticsRequest(**asked))).index_descriptions
    assert [(d.index_name, d.field_name) for d in found] == [("vec", "vec")]


def test_states_of_missing_and_of_several_indexes_are_refused(stub: Any, client: MilvusClient, indexed: str) -> None:
    for call, kind in (
        (stub.GetIndexState, milvus_pb2.GetIndexStateRequest),
        (stub.GetIndexBuildProgress, milvus_pb2.GetIndexBuildProgressRequest),
        (stub.GetIndexStatistics, milvus_pb2.GetIndexStatisticsRequest),
    ):
        missing = call(kind(collection_name=indexed, index_name="nope"))
        assert_refused(missing, 700, "index not found[indexName=nope]")
    add_index(client, indexed, "a", "INVERTED", "")
    several = stub.GetIndexState(milvus_pb2.GetIndexStateRequest(collection_name=indexed))
    assert_refused(several, 702, "index duplicates")


def test_segments_are_balanced_within_the_one_node(stub: Any, client: MilvusClient, indexed: str) -> None:
    node = client.describe_replica(indexed)[0].group_nodes[0]
    segments = [s.segment_id for s in client.list_loaded_segments(indexed)]

    def balance(source: int, destinations: list[int], ids: list[int], name: str = indexed) -> Any:
        return stub.LoadBalance(
            milvus_pb2.LoadBalanceRequest(
                collectionName=name, src_nodeID=source, dst_nodeIDs=destinations, sealed_segmentIDs=ids
            )
        )

    assert balance(node, [], segments).code == 0
    assert_refused(balance(_ABSENT_NODE, [], []), 901, "source node not found in any replica of collection")
    assert_refused(balance(node, [_ABSENT_NODE], []), 901, "destination node not found in the same replica")
    assert_refused(balance(node, [], [1]), 600, "segment not found in source node: segment not found[segment=1]")
    assert_refused(balance(node, [], [], "no_such_name"), 100, "collection not found")
    client.release_collection(indexed)
    assert_refused(balance(node, [], []), 103, "collection not fully loaded", retriable=True)


def test_links_and_heartbeats_of_old_and_new_clients_are_taken(channel: grpc.Channel, stub: Any) -> None:
    for made in (stub, milvus_pb2_grpc.ProxyServiceStub(channel)):
        status = made.RegisterLink(milvus_pb2.RegisterLinkRequest()).status
        assert (status.code, status.error_code, status.reason) == (0, 0, "STANDALONE")
    telemetry = milvus_pb2_grpc.ClientTelemetryServiceStub(channel)
    beat = assert_ok(telemetry.ClientHeartbeat(milvus_pb2.ClientHeartbeatRequest()))
    assert list(beat.commands) == []
    with pytest.raises(grpc.RpcError) as refused:
        telemetry.PushClientCommand(milvus_pb2.PushClientCommandRequest())
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_no_cluster_is_replicated(stub: Any) -> None:
    found = assert_ok(stub.GetReplicateConfiguration(milvus_pb2.GetReplicateConfigurationRequest()))
    assert list(found.configuration.clusters) == []
    assert not stub.GetReplicateInfo(milvus_pb2.GetReplicateInfoRequest()).HasField("checkpoint")


def test_no_collection_is_external(stub: Any, indexed: str) -> None:
    def refresh(name: str, source: str = "", spec: str = "") -> Any:
        request = milvus_pb2.RefreshExternalCollectionRequest(
            collection_name=name, external_source=source, external_spec=spec
        )
        return stub.RefreshExternalCollection(request)

    def jobs(name: str) -> Any:
        request = milvus_pb2.ListRefreshExternalCollectionJobsRequest(collection_name=name)
        return stub.ListRefreshExternalCollectionJobs(request)

    def progress(job_id: int) -> Any:
        request = milvus_pb2.GetRefreshExternalCollectionProgressRequest(job_id=job_id)
        return stub.GetRefreshExternalCollectionProgress(request)

    refused = f"collection {indexed} is not an external collection: invalid parameter"
    assert_refused(refresh(indexed), 1100, refused)
    assert_refused(refresh(indexed, "s3://bucket", "{}"), 1100, refused)
    half = 'must be both provided or both omitted on refresh (got source="s3://bucket", spec="")'
    assert_refused(refresh(indexed, "s3://bucket"), 1100, half)
    assert_refused(refresh("no_such_name"), 100, "collection not found")
    assert list(assert_ok(jobs("")).jobs) == []
    assert_refused(jobs(indexed), 1100, refused)
    assert_refused(jobs("no_such_name"), 100, "collection not found")
    assert_refused(progress(0), 1101, "job_id is required")
    assert_refused(progress(7), 1100, "refresh job 7 not found")


@pytest.mark.parametrize("request_type", ["", "query", "[]", "{", '{"request_type": "insert"}', '{"request_type": 1}'])
def test_a_dummy_request_that_is_no_query_fails(stub: Any, request_type: str) -> None:
    answer = stub.Dummy(milvus_pb2.DummyRequest(request_type=request_type))
    assert answer.response == '{"status": "fail"}'


def test_the_quota_center_knows_the_size_of_each_collection(server: Server, client: MilvusClient, indexed: str) -> None:
    answer = requests.post(f"{server.uri}/v2/vectordb/quotacenter/describe", json={}).json()
    assert answer["code"] == 0
    found = json.loads(answer["data"])
    assert set(found) == {"QueryNodeMetrics", "DataNodeMetrics", "ProxyMetrics", "DataCoordMetrics"}
    collection_id = str(client.describe_collection(indexed)["collection_id"])
    sizes = found["DataCoordMetrics"]
    assert 0 < sizes["CollectionBinlogSize"][collection_id] <= sizes["TotalBinlogSize"]
    assert sum(sizes["PartitionsBinlogSize"][collection_id].values()) == sizes["CollectionBinlogSize"][collection_id]
