"""Rows RP: replicas and resource groups on the one node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from grpc_calls import assert_ok, assert_refused, collection_id, load_state
from pymilvus.grpc_gen import milvus_pb2, rg_pb2
from row_calls import DEFAULT_GROUP, LOADED, NOT_LOAD, c1, load, loaded, loaded_c1, release


@pytest.mark.one_process("it counts one node and one replica")
def test_rp_01_three_replicas_are_too_many_for_one_node(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    text = (
        "call query coordinator LoadCollection: when load 3 replica count: "
        "service resource insufficient[currentStreamingNode=1][expectedStreamingNode=3]"
    )
    assert_refused(load(stub, collection_name, replica_number=3), 12, text, legacy=1, retriable=True)
    assert load_state(stub, collection_name) == NOT_LOAD


def test_rp_02_an_unknown_resource_group_is_not_found(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    assert_refused(load(stub, collection_name, resource_groups=["nope"]), 300, "resource group not found[rg=nope]")
    assert load_state(stub, collection_name) == NOT_LOAD


def test_rp_03_three_replicas_cannot_have_two_groups(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    text = "resource group=[g1,g2], resource group num can only be 0, 1 or same as replica number: invalid parameter"
    response = load(stub, collection_name, replica_number=3, resource_groups=["g1", "g2"])
    assert_refused(response, 1100, text, legacy=5)
    assert load_state(stub, collection_name) == NOT_LOAD


@pytest.mark.one_process("it counts one node and one replica")
def test_rp_04_no_replica_number_and_a_negative_one_mean_one(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    for number in (0, -1):
        loaded(stub, collection_name, replica_number=number)
        assert load_state(stub, collection_name) == LOADED
        assert len(_replicas(stub, collection_name)) == 1
        assert_ok(release(stub, collection_name))


def _replicas(stub: Any, name: str) -> list[Any]:
    request = milvus_pb2.GetReplicasRequest(collectionID=collection_id(stub, name), with_shard_nodes=True)
    return list(assert_ok(stub.GetReplicas(request)).replicas)


@pytest.mark.one_process("it counts one node and one replica")
def test_rp_05_a_loaded_collection_has_one_replica_and_an_unloaded_one_none(stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    (replica,) = _replicas(stub, collection_name)
    assert replica.resource_group_name == DEFAULT_GROUP
    assert replica.collectionID == collection_id(stub, collection_name)
    assert len(replica.node_ids) == 1
    assert dict(replica.num_outbound_node) == {}
    (shard,) = replica.shard_replicas
    assert shard.dm_channel_name
    assert list(shard.node_ids) == list(replica.node_ids)
    assert_ok(release(stub, collection_name))
    assert _replicas(stub, collection_name) == []


def test_rp_06_the_default_resource_group_is_listed(stub: Any) -> None:
    listed = assert_ok(stub.ListResourceGroups(milvus_pb2.ListResourceGroupsRequest()))
    assert DEFAULT_GROUP in listed.resource_groups


def test_rp_07_an_unknown_resource_group_is_not_described(stub: Any) -> None:
    request = milvus_pb2.DescribeResourceGroupRequest(resource_group="nope")
    assert_refused(stub.DescribeResourceGroup(request), 300, "resource group not found[rg=nope]", legacy=1)


@pytest.fixture
def group(stub: Any, collection_name: str) -> Iterator[str]:
    """A name for a resource group, which is dropped afterwards."""
    name = f"rg_{collection_name}"
    yield name
    emptied = rg_pb2.ResourceGroupConfig(
        requests=rg_pb2.ResourceGroupLimit(node_num=0), limits=rg_pb2.ResourceGroupLimit(node_num=0)
    )
    stub.UpdateResourceGroups(milvus_pb2.UpdateResourceGroupsRequest(resource_groups={name: emptied}))
    stub.DropResourceGroup(milvus_pb2.DropResourceGroupRequest(resource_group=name))


def test_rp_08_a_group_may_be_created_again_with_the_same_configuration_only(stub: Any, group: str) -> None:
    def create(nodes: int) -> Any:
        config = rg_pb2.ResourceGroupConfig(
            requests=rg_pb2.ResourceGroupLimit(node_num=nodes), limits=rg_pb2.ResourceGroupLimit(node_num=nodes)
        )
        request = milvus_pb2.CreateResourceGroupRequest(resource_group=group, config=config)
        return stub.CreateResourceGroup(request)

    assert_ok(create(0))
    assert_ok(create(0))
    text = f"resource group already exist, but create with different config[rg={group}]"
    assert_refused(create(1), 301, text, legacy=1)


def test_rp_09_the_default_group_cannot_be_dropped_and_an_unknown_one_can(stub: Any) -> None:
    def drop(name: str) -> Any:
        return stub.DropResourceGroup(milvus_pb2.DropResourceGroupRequest(resource_group=name))

    text = (
        "default resource group is not deletable: "
        f"invalid parameter[expected=not default resource group][actual={DEFAULT_GROUP}]"
    )
    assert_refused(drop(DEFAULT_GROUP), 1100, text, legacy=5)
    assert_ok(drop("nope"))
