"""Resource groups, replicas and loaded collections on one node, on a server that no other test uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Server
from grpc_calls import LOAD_STATE, assert_ok, assert_refused, collection_id, load_state, pairs
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2, rg_pb2
from sample_collections import c1_rows, ids_of, make_c1

pytestmark = pytest.mark.one_process("it counts one node and one replica")

DEFAULT = "__default_resource_group"
LOADED = LOAD_STATE.Value("LoadStateLoaded")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("resource-groups")).running() as server:
        yield server


@pytest.fixture
def own_stub(own: Server) -> Iterator[Any]:
    """A server without collections and other groups; those that a test leaves are dropped."""
    yield own.stub
    client = own.client()
    for name in client.list_collections():
        client.drop_collection(name)
    others = [name for name in _names(own.stub) if name != DEFAULT]
    assert_ok(_update(own.stub, {DEFAULT: _config(0, 1_000_000), **{name: _config(0, 0) for name in others}}))
    for name in others:
        assert_ok(_drop(own.stub, name))
    assert _group(own.stub, DEFAULT).num_available_node == 1


@pytest.fixture
def own_client(own: Server, own_stub: Any) -> MilvusClient:
    return own.client()


def _config(requests: int, limits: int, sources: Any = (), targets: Any = (), **labels: str) -> Any:
    config = rg_pb2.ResourceGroupConfig(
        requests=rg_pb2.ResourceGroupLimit(node_num=requests),
        limits=rg_pb2.ResourceGroupLimit(node_num=limits),
        transfer_from=[rg_pb2.ResourceGroupTransfer(resource_group=name) for name in sources],
        transfer_to=[rg_pb2.ResourceGroupTransfer(resource_group=name) for name in targets],
    )
    if labels:
        config.node_filter.node_labels.extend(pairs(labels))
    return config


def _create(stub: Any, name: str, config: Any = None) -> Any:
    return stub.CreateResourceGroup(milvus_pb2.CreateResourceGroupRequest(resource_group=name, config=config))


def _update(stub: Any, configs: dict[str, Any]) -> Any:
    return stub.UpdateResourceGroups(milvus_pb2.UpdateResourceGroupsRequest(resource_groups=configs))


def _drop(stub: Any, name: str) -> Any:
    return stub.DropResourceGroup(milvus_pb2.DropResourceGroupRequest(resource_group=name))


def _describe(stub: Any, name: str) -> Any:
    return stub.DescribeResourceGroup(milvus_pb2.DescribeResourceGroupRequest(resource_group=name))


def _group(stub: Any, name: str) -> Any:
    return assert_ok(_describe(stub, name)).resource_group


def _names(stub: Any) -> list[str]:
    return list(assert_ok(stub.ListResourceGroups(milvus_pb2.ListResourceGroupsRequest())).resource_groups)


def _transfer_node(stub: Any, source: str, target: str, count: int = 1) -> Any:
    return stub.TransferNode(
        milvus_pb2.TransferNodeRequest(source_resource_group=source, target_resource_group=target, num_node=count)
    )


def _transfer_replica(stub: Any, source: str, target: str, name: str, count: int = 1) -> Any:
    return stub.TransferReplica(
        milvus_pb2.TransferReplicaRequest(
            source_resource_group=source, target_resource_group=target, collection_name=name, num_replica=count
        )
    )


def _load(stub: Any, name: str, **others: Any) -> Any:
    return stub.LoadCollection(milvus_pb2.LoadCollectionRequest(collection_name=name, **others))


def _replicas(stub: Any, name: str) -> Any:
    return assert_ok(stub.GetReplicas(milvus_pb2.GetReplicasRequest(collection_name=name))).replicas


def test_the_node_is_in_the_default_group(own_stub: Any) -> None:
    """RP-06"""
    assert _names(own_stub) == [DEFAULT]
    group = _group(own_stub, DEFAULT)
    assert (group.name, group.capacity, group.num_available_node) == (DEFAULT, 1_000_000, 1)
    assert (group.config.requests.node_num, group.config.limits.node_num) == (0, 1_000_000)
    (node,) = group.nodes
    assert node.node_id == 1
    assert node.address.startswith("127.0.0.1:")


def test_creating_a_group_again_succeeds_with_the_same_configuration_only(own_stub: Any) -> None:
    """RP-08"""
    assert_ok(_create(own_stub, "rg"))
    assert_ok(_create(own_stub, "rg", _config(0, 0)))
    text = "resource group already exist, but create with different config[rg=rg]"
    assert_refused(_create(own_stub, "rg", _config(1, 1)), 301, text)
    group = _group(own_stub, "rg")
    assert (group.capacity, group.num_available_node, list(group.nodes)) == (0, 0, [])


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("", 1101, "resource group name couldn't be empty: missing parameter"),
        ("1a", 1100, "Invalid resource group name 1a. the first character of a resource group name must be an"),
        ("a-b", 1100, "Invalid resource group name a-b. resource group name can only contain numbers, letters and"),
        ("a" * 256, 1100, "the length of a resource group name must be less than 255 characters: invalid parameter"),
    ],
)
def test_invalid_group_names_are_refused(own_stub: Any, name: str, code: int, text: str) -> None:
    assert_refused(_create(own_stub, name), code, text)
    assert_refused(_update(own_stub, {name: _config(0, 0)}), code, text)
    assert_refused(_transfer_node(own_stub, name, DEFAULT), code, text)
    assert_refused(_transfer_node(own_stub, DEFAULT, name), code, text)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (rg_pb2.ResourceGroupConfig(), "requests or limits is required: resource group illegal config[rg=rg]"),
        (_config(-1, 0), "node num in `requests` or `limits` should not less than 0: resource group illegal config"),
        (_config(2, 1), "limits node num should not less than requests node num: resource group illegal config"),
        (_config(0, 0, ["nope"]), "resource group in `TransferFrom` nope not exist: resource group illegal config"),
        (_config(0, 0, [], ["nope"]), "resource group in `TransferTo` nope not exist: resource group illegal config"),
        (_config(0, 0, ["rg"]), "resource group in `TransferFrom` rg should not be itself"),
    ],
)
def test_an_invalid_configuration_is_refused(own_stub: Any, config: Any, text: str) -> None:
    assert_refused(_create(own_stub, "rg", config), 303, text)
    assert _names(own_stub) == [DEFAULT]
    assert_ok(_create(own_stub, "rg"))
    assert_refused(_update(own_stub, {DEFAULT: _config(0, 1), "rg": config}), 303, text)
    assert _group(own_stub, DEFAULT).config.limits.node_num == 1_000_000


def test_missing_groups_are_refused(own_stub: Any) -> None:
    """RP-07 and the half of RP-09"""
    text = "resource group not found[rg=nope]"
    assert_refused(_describe(own_stub, "nope"), 300, text)
    assert_refused(_update(own_stub, {"nope": _config(0, 0)}), 300, text)
    assert_refused(_transfer_node(own_stub, DEFAULT, "nope"), 300, text)
    assert_refused(_transfer_node(own_stub, "nope", DEFAULT), 300, text)
    assert_ok(_drop(own_stub, "nope"))
    assert_ok(_update(own_stub, {}))


def test_groups_that_are_in_use_are_not_dropped(own_stub: Any, own_client: MilvusClient) -> None:
    """RP-09"""
    text = "default resource group is not deletable: invalid parameter[expected=not default resource group]"
    assert_refused(_drop(own_stub, DEFAULT), 1100, text)
    assert_ok(_create(own_stub, "rg", _config(0, 1)))
    text = "resource group's limits node num is not 0: invalid parameter[expected=not empty resource group][actual=rg]"
    assert_refused(_drop(own_stub, "rg"), 1100, text)
    assert_ok(_update(own_stub, {"rg": _config(0, 0), DEFAULT: _config(0, 1_000_000, ["rg"])}))
    text = f"resource group rg is used by {DEFAULT}'s `TransferFrom`, remove that configuration first"
    assert_refused(_drop(own_stub, "rg"), 1100, text)
    assert_ok(_update(own_stub, {DEFAULT: _config(0, 1_000_000)}))
    make_c1(own_client, "c1", load=True)
    assert_ok(_transfer_replica(own_stub, DEFAULT, "rg", "c1"))
    assert_refused(_drop(own_stub, "rg"), 1100, "some replicas still loaded in resource group[rg], release it first")
    own_client.release_collection("c1")
    assert_ok(_drop(own_stub, "rg"))
    assert _names(own_stub) == [DEFAULT]


def test_the_node_moves_to_the_group_that_requests_it_and_back(own_stub: Any, own_client: MilvusClient) -> None:
    make_c1(own_client, "c1", load=True)
    own_client.insert("c1", c1_rows(3))
    make_c1(own_client, "other")
    assert_ok(_create(own_stub, "rg"))
    assert_ok(_transfer_node(own_stub, DEFAULT, "rg"))
    group, default = _group(own_stub, "rg"), _group(own_stub, DEFAULT)
    assert (group.capacity, group.num_available_node, dict(group.num_incoming_node)) == (1, 1, {"c1": 1})
    assert (default.num_available_node, list(default.nodes), dict(default.num_outgoing_node)) == (0, [], {"c1": 1})
    (replica,) = _replicas(own_stub, "c1")
    assert (replica.resource_group_name, dict(replica.num_outbound_node)) == (DEFAULT, {"rg": 1})
    assert ids_of(own_client, "c1", "id >= 0") == [0, 1, 2]
    text = f"resource group node not enough[rg={DEFAULT}][currentNodeNum=0][expectedNodeNum=1]"
    assert_refused(_load(own_stub, "other"), 304, text)
    assert_refused(_transfer_node(own_stub, DEFAULT, "rg"), 304, text)
    assert_ok(_load(own_stub, "c1"))
    assert_ok(_load(own_stub, "other", resource_groups=["rg"]))
    assert _replicas(own_stub, "other")[0].resource_group_name == "rg"
    assert dict(_group(own_stub, "rg").num_loaded_replica) == {"other": 1}
    assert_ok(_transfer_node(own_stub, "rg", DEFAULT))
    assert _group(own_stub, DEFAULT).num_available_node == 1
    assert (_group(own_stub, "rg").capacity, _group(own_stub, "rg").num_available_node) == (0, 0)


def test_invalid_node_transfers_are_refused(own_stub: Any) -> None:
    text = f"source resource group and target resource group should not be the same, resource group: {DEFAULT}"
    assert_refused(_transfer_node(own_stub, DEFAULT, DEFAULT), 1100, text)
    assert_ok(_create(own_stub, "rg"))
    text = "invalid parameter[expected=NumNode > 0][actual=invalid NumNode 0]"
    assert_refused(_transfer_node(own_stub, DEFAULT, "rg", 0), 1100, text)
    text = f"resource group node not enough[rg={DEFAULT}][currentNodeNum=1][expectedNodeNum=2]"
    assert_refused(_transfer_node(own_stub, DEFAULT, "rg", 2), 304, text)


def test_a_group_that_filters_by_labels_gets_no_node_without_any(own_stub: Any) -> None:
    config = _config(1, 1, zone="a")
    assert_ok(_create(own_stub, "rg", config))
    assert _group(own_stub, "rg").num_available_node == 0
    assert _group(own_stub, "rg").config == config
    assert_ok(_update(own_stub, {"rg": _config(1, 1)}))
    assert _group(own_stub, "rg").num_available_node == 1


def test_a_replica_moves_to_another_group_while_it_serves(own_stub: Any, own_client: MilvusClient) -> None:
    make_c1(own_client, "c1", load=True)
    own_client.insert("c1", c1_rows(2))
    assert_ok(_create(own_stub, "rg"))
    assert_ok(_transfer_replica(own_stub, DEFAULT, "rg", "c1"))
    (replica,) = _replicas(own_stub, "c1")
    assert (replica.resource_group_name, dict(replica.num_outbound_node)) == ("rg", {DEFAULT: 1})
    assert dict(_group(own_stub, "rg").num_loaded_replica) == {"c1": 1}
    assert load_state(own_stub, "c1") == LOADED
    assert ids_of(own_client, "c1", "id >= 0") == [0, 1]
    assert_ok(_load(own_stub, "c1", resource_groups=[DEFAULT]))
    assert _replicas(own_stub, "c1")[0].resource_group_name == DEFAULT


def test_invalid_replica_transfers_are_refused(own_stub: Any, own_client: MilvusClient) -> None:
    make_c1(own_client, "c1")
    assert_ok(_create(own_stub, "rg"))
    text = "collection not found[database=default][collection=nope]"
    assert_refused(_transfer_replica(own_stub, DEFAULT, "rg", "nope"), 100, text)
    assert_refused(_transfer_replica(own_stub, DEFAULT, "nope", "c1"), 300, "resource group not found[rg=nope]")
    assert_refused(_transfer_replica(own_stub, "nope", DEFAULT, "c1"), 300, "resource group not found[rg=nope]")
    text = f"source resource group and target resource group should not be the same, resource group: {DEFAULT}"
    assert_refused(_transfer_replica(own_stub, DEFAULT, DEFAULT, "c1"), 1100, text)
    text = "invalid parameter[expected=NumReplica > 0][actual=invalid NumReplica -1]"
    assert_refused(_transfer_replica(own_stub, DEFAULT, "rg", "c1", -1), 1100, text)
    assert_refused(_transfer_replica(own_stub, DEFAULT, "rg", "c1"), 101, "collection not loaded[collection=c1]")
    own_client.load_collection("c1")
    text = "the number of replicas to transfer is greater than the number of replicas in the collection"
    assert_refused(_transfer_replica(own_stub, DEFAULT, "rg", "c1", 2), 1100, text)
    text = "invalid parameter[expected=NumReplica not greater than the number of replica in source resource group]"
    assert_refused(_transfer_replica(own_stub, "rg", DEFAULT, "c1"), 1100, text)


def test_resource_groups_of_a_load_are_checked_as_in_milvus(own_stub: Any, own_client: MilvusClient) -> None:
    """RP-01, RP-02, RP-03"""
    make_c1(own_client, "c1")
    prefix = "call query coordinator LoadCollection: "
    text = "when load 3 replica count: service resource insufficient[currentStreamingNode=1][expectedStreamingNode=3]"
    assert_refused(_load(own_stub, "c1", replica_number=3), 12, prefix + text, retriable=True)
    text = prefix + "resource group not found[rg=nope]"
    assert_refused(_load(own_stub, "c1", resource_groups=["nope"]), 300, text)
    assert_ok(_create(own_stub, "rg"))
    text = "replica=[1] resource group=[rg,nope], resource group num can only be 0, 1 or same as replica number"
    assert_refused(_load(own_stub, "c1", resource_groups=["rg", "nope"]), 1100, prefix + text)
    text = "resource group node not enough[rg=rg][currentNodeNum=0][expectedNodeNum=1]"
    assert_refused(_load(own_stub, "c1", replica_number=1, resource_groups=["rg"]), 304, prefix + text)
    assert list(_replicas(own_stub, "c1")) == []


def test_get_replicas_answers_for_loaded_and_unloaded_collections(own_stub: Any, own_client: MilvusClient) -> None:
    """RP-05"""
    make_c1(own_client, "c1")
    assert list(_replicas(own_stub, "c1")) == []
    own_client.load_collection("c1")
    (replica,) = _replicas(own_stub, "c1")
    number = collection_id(own_stub, "c1")
    assert (replica.collectionID, replica.resource_group_name, list(replica.node_ids)) == (number, DEFAULT, [1])
    assert [shard.leaderID for shard in replica.shard_replicas] == [1]
    assert dict(replica.num_outbound_node) == {}
    by_id = milvus_pb2.GetReplicasRequest(collectionID=number, with_shard_nodes=True)
    assert list(assert_ok(own_stub.GetReplicas(by_id)).replicas) == [replica]
    missing = milvus_pb2.GetReplicasRequest(collection_name="nope")
    assert_refused(own_stub.GetReplicas(missing), 100, "collection not found[database=default][collection=nope]")


def test_groups_and_replicas_survive_a_crash(own: Server, own_stub: Any, own_client: MilvusClient) -> None:
    config = _config(1, 2, [DEFAULT], [DEFAULT], zone="a")
    assert_ok(_create(own_stub, "labelled", config))
    assert_ok(_create(own_stub, "rg", _config(1, 1)))
    make_c1(own_client, "c1")
    assert_ok(_load(own_stub, "c1", resource_groups=["rg"]))
    own.kill()
    own.start()
    assert _group(own.stub, "labelled").config == config
    assert (_group(own.stub, "rg").num_available_node, _group(own.stub, DEFAULT).num_available_node) == (1, 0)
    assert _replicas(own.stub, "c1")[0].resource_group_name == "rg"


def test_loaded_collections_and_partitions_are_listed(own_stub: Any, own_client: MilvusClient) -> None:
    """SH-01, SH-02, SH-03"""
    make_c1(own_client, "loaded", load=True)
    make_c1(own_client, "unloaded")
    assert_ok(own_stub.CreateAlias(milvus_pb2.CreateAliasRequest(alias="al", collection_name="loaded")))

    def listed(*names: str) -> Any:
        kind = milvus_pb2.ShowType.InMemory
        return own_stub.ShowCollections(milvus_pb2.ShowCollectionsRequest(type=kind, collection_names=names))

    for answer, name in ((listed(), "loaded"), (listed("loaded"), "loaded"), (listed("al"), "al")):
        found = assert_ok(answer)
        assert list(found.collection_names) == [name]
        assert list(found.collection_ids) == [collection_id(own_stub, "loaded")]
        assert (list(found.inMemory_percentages), list(found.query_service_available)) == ([100], [True])
        assert list(found.shards_num) == [1]
    assert_refused(listed("loaded", "unloaded"), 101, "collection not loaded[collection=unloaded]")
    assert_refused(listed("nope"), 100, "collection not found[database=default][collection=nope]", legacy=4)
    assert_ok(own_stub.DropAlias(milvus_pb2.DropAliasRequest(alias="al")))
    every = assert_ok(own_stub.ShowCollections(milvus_pb2.ShowCollectionsRequest(collection_names=["unloaded"])))
    assert list(every.collection_names) == ["unloaded"]
