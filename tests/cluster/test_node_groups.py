"""Nodes with labels, in resource groups that ask for them, and a collection with replicas in two groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from node_processes import ClusterOfNodes
from pymilvus import MilvusClient, MilvusException
from pymilvus.client.types import ResourceGroupConfig
from stored_rows import eventually, fill

DEFAULT = "__default_resource_group"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterOfNodes]:
    """A node in zone a, one in zone b, and one in neither."""
    started = ClusterOfNodes(tmp_path_factory.mktemp("zones"), 3, labels=("zone=a", "zone=b", "disk=slow"))
    try:
        yield started.start()
    finally:
        started.close()


@pytest.fixture(scope="module")
def client(cluster: ClusterOfNodes) -> Iterator[MilvusClient]:
    made = cluster.head.client()
    for zone in "ab":
        made.create_resource_group(zone, config=_config(1, zone))
    yield made
    made.close()


def _config(count: int, zone: str) -> ResourceGroupConfig:
    labels = {"node_labels": [{"key": "zone", "value": zone}]}
    return ResourceGroupConfig(requests={"node_num": count}, limits={"node_num": count}, node_filter=labels)


def nodes(client: MilvusClient, group: str) -> set[int]:
    return {one.node_id for one in client.describe_resource_group(group).nodes}


def replicas(client: MilvusClient, name: str) -> list[tuple[str, set[int]]]:
    """The group and the nodes of each, in the order of the groups' names."""
    found = client._get_connection().describe_replica(name)
    return sorted((one.resource_group, set(one.group_nodes)) for one in found)


def holders(client: MilvusClient, name: str) -> list[set[int]]:
    return [set(one.node_ids) for one in client.list_loaded_segments(name)]


def test_a_group_gets_the_nodes_that_have_its_labels(client: MilvusClient, cluster: ClusterOfNodes) -> None:
    zone_of = {one["nodeId"]: one["resourceGroup"] for one in cluster.listed()}
    ids = {one["address"]: one["nodeId"] for one in cluster.listed()}
    assert [zone_of[ids[node.address]] for node in cluster.nodes] == ["a", "b", DEFAULT]
    client.update_resource_groups({"b": _config(1, "a")})
    assert (len(nodes(client, "a")), nodes(client, "b"), len(nodes(client, DEFAULT))) == (1, set(), 2)
    client.update_resource_groups({"b": _config(1, "b")})
    assert [len(nodes(client, name)) for name in ("a", "b", DEFAULT)] == [1, 1, 1]
    cluster.restart(cluster.nodes[1])
    assert len(nodes(client, "b")) == 1


def test_one_replica_is_in_each_of_two_groups_until_it_is_transferred(
    client: MilvusClient, cluster: ClusterOfNodes
) -> None:
    a, b = nodes(client, "a"), nodes(client, "b")
    fill(client, "zoned")
    client.release_collection("zoned")
    with pytest.raises(MilvusException, match="node not enough") as refused:
        client.load_collection("zoned", replica_number=2, resource_groups=["a"])
    assert refused.value.code == 304
    client.load_collection("zoned", replica_number=2, resource_groups=["b", "a"])
    assert replicas(client, "zoned") == [("a", a), ("b", b)]
    assert all(one == a | b for one in holders(client, "zoned"))
    for name in ("a", "b"):
        described = client.describe_resource_group(name)
        assert (described.num_loaded_replica, described.num_outgoing_node) == ({"zoned": 1}, {})
    with pytest.raises(MilvusException, match="some replicas still loaded"):
        client.drop_resource_group("b")
    before = _answer(client)

    cluster.nodes[1].kill()
    assert _answer(client) == before, "the replica of the other zone answers"
    cluster.restart(cluster.nodes[1])
    b = nodes(client, "b")
    eventually(lambda: all(one == a | b for one in holders(client, "zoned")))

    with pytest.raises(MilvusException, match=r"only found \[1\] replicas"):
        client.transfer_replica("b", DEFAULT, "zoned", 2)
    client.transfer_replica("b", DEFAULT, "zoned", 1)
    default = nodes(client, DEFAULT)
    eventually(lambda: holders(client, "zoned") == [a | default])
    assert replicas(client, "zoned") == [(DEFAULT, default), ("a", a)]
    client.load_collection("zoned", replica_number=2, resource_groups=["a", "b"])
    eventually(lambda: holders(client, "zoned") == [a | b])
    assert _answer(client) == before

    cluster.head.kill()
    cluster.head.start()
    cluster.wait_for_nodes(3)
    client = cluster.head.client()
    a, b = nodes(client, "a"), nodes(client, "b")
    eventually(lambda: replicas(client, "zoned") == [("a", a), ("b", b)] and holders(client, "zoned") == [a | b])
    assert _answer(client) == before
    client.load_collection("zoned", replica_number=1, resource_groups=["b"])
    eventually(lambda: holders(client, "zoned") == [b])
    assert replicas(client, "zoned") == [("b", b)]
    client.close()


def _answer(client: MilvusClient) -> Any:
    vector = np.zeros(16, np.float32).tolist()
    hits = client.search("zoned", [vector], limit=5, search_params={"params": {"ef": 64}})[0]
    return [hit["id"] for hit in hits], client.query("zoned", filter="", output_fields=["count(*)"])[0]["count(*)"]
