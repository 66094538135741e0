"""The calls that clients make first."""

from __future__ import annotations

import json
import time
from typing import Any

import grpc
import pytest
from conftest import Server
from grpc_calls import assert_ok, assert_refused
from pymilvus import MilvusClient, MilvusException, connections, utility
from pymilvus.grpc_gen import common_pb2, milvus_pb2


def test_connect_answers_with_an_identifier_and_a_server_version(stub: Any) -> None:
    request = milvus_pb2.ConnectRequest(client_info=common_pb2.ClientInfo(sdk_type="Python"))
    response = assert_ok(stub.Connect(request))
    assert response.identifier > 0
    assert response.server_info.build_tags.startswith("v2.6.")
    assert response.server_info.deploy_mode == "STANDALONE"


def test_connect_to_an_unknown_database_is_refused(stub: Any) -> None:
    response = stub.Connect(milvus_pb2.ConnectRequest(), metadata=[("dbname", "nodb")])
    assert_refused(response, 800, "database not found[database=nodb]")


def test_client_for_an_unknown_database_says_so(server: Server) -> None:
    with pytest.raises(MilvusException, match=r"database not found\[database=nodb\]"):
        server.client(db_name="nodb", dedicated=True).list_collections()


def test_any_token_is_accepted_without_authorization(server: Server) -> None:
    for token in ("root:Milvus", "somebody:else", "an-api-key"):
        client = server.client(token=token)
        assert isinstance(client.list_collections(), list)
        client.close()


def test_version_is_one_that_the_sdks_gate_their_features_on(client: MilvusClient, stub: Any) -> None:
    version = assert_ok(stub.GetVersion(milvus_pb2.GetVersionRequest())).version
    assert version.startswith("v2.6.")
    assert client.get_server_version() == version


def test_health_is_green_without_reasons(stub: Any) -> None:
    response = assert_ok(stub.CheckHealth(milvus_pb2.CheckHealthRequest()))
    assert response.isHealthy
    assert list(response.reasons) == []


@pytest.mark.parametrize("call", ["unary_unary", "unary_stream"])
def test_grpc_health_answers_serving(server: Server, call: str) -> None:
    method = {"unary_unary": "Check", "unary_stream": "Watch"}[call]
    with grpc.insecure_channel(server.address) as channel:
        probe = getattr(channel, call)(f"/grpc.health.v1.Health/{method}")
        for service in (b"", b"\n\x01x"):  # all services, and one named x
            found = probe(service, timeout=30)
            answers = [found] if call == "unary_unary" else list(found)
            assert answers == [b"\x08\x01"], "SERVING, once"
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/grpc.health.v1.Health/List")(b"", timeout=30)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_system_info_shows_the_roles_and_the_machine(stub: Any) -> None:
    request = milvus_pb2.GetMetricsRequest(request='{"metric_type": "system_info"}')
    response = assert_ok(stub.GetMetrics(request))
    assert response.component_name == "proxy1"
    nodes = json.loads(response.response)["nodes_info"]
    assert {n["infos"]["type"] for n in nodes} >= {"proxy", "rootcoord", "querynode", "datanode"}
    for node in nodes:
        hardware = node["infos"]["hardware_infos"]
        assert 0 < hardware["memory_usage"] < hardware["memory"]
        assert 0 < hardware["disk_usage"] <= hardware["disk"]
        assert node["infos"]["system_info"]["deploy_mode"] == "STANDALONE"
        assert node["infos"]["has_error"] is False
    assert nodes[0]["connected"]


def test_coordinators_are_connected_to_each_other_and_manage_their_nodes(stub: Any) -> None:
    request = milvus_pb2.GetMetricsRequest(request='{"metric_type": "system_info"}')
    nodes = json.loads(assert_ok(stub.GetMetrics(request)).response)["nodes_info"]
    edges = {n["infos"]["type"]: {e["target_type"]: e["type"] for e in n["connected"]} for n in nodes}
    assert edges["querycoord"] == {"rootcoord": "forward", "datacoord": "forward", "querynode": "manage"}
    assert edges["datacoord"] == {"rootcoord": "forward", "querycoord": "forward", "datanode": "manage"}
    assert set(edges["proxy"]) == set(edges) - {"proxy"}


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"type": 1}'])
def test_metrics_without_a_type_are_refused(stub: Any, text: str) -> None:
    response = stub.GetMetrics(milvus_pb2.GetMetricsRequest(request=text))
    assert_refused(response, 1100, "metric_type or req_type not found in request")


def test_metrics_of_another_type_are_refused(stub: Any) -> None:
    response = stub.GetMetrics(milvus_pb2.GetMetricsRequest(request='{"metric_type": "nosuch"}'))
    assert_refused(response, 1200, "metric not found[metric=nosuch]")


def test_component_states_say_healthy(stub: Any) -> None:
    response = assert_ok(stub.GetComponentStates(milvus_pb2.GetComponentStatesRequest()))
    assert response.state.state_code == common_pb2.StateCode.Healthy


def test_timestamps_grow_and_hold_the_present_time(stub: Any) -> None:
    taken = [assert_ok(stub.AllocTimestamp(milvus_pb2.AllocTimestampRequest())).timestamp for _ in range(20)]
    assert taken == sorted(set(taken))
    assert abs((taken[-1] >> 18) / 1000 - time.time()) < 5


def test_databases_hold_the_default_one(client: MilvusClient) -> None:
    assert client.list_databases() == ["default"]


def test_orm_connects_and_lists(server: Server) -> None:
    connections.connect("orm-connection", uri=server.uri, token="root:Milvus")
    try:
        assert utility.get_server_version(using="orm-connection").startswith("v2.6.")
        assert isinstance(utility.list_collections(using="orm-connection"), list)
    finally:
        connections.disconnect("orm-connection")


def test_an_unknown_service_answers_unimplemented(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary("/no.such.Service/Method")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
