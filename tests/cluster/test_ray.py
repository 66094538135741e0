"""Query nodes that Ray starts on three machines: what searches see of lost machines, of Ray's own loss, of a partition.

The machines are namespaces (`ray_machines.py`), so this needs root, and Ray.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Certificates
from conftest import Server, free_port
from node_processes import ClusterOfNodes
from object_servers import VERSITYGW, ObjectServer, find_versitygw
from pymilvus import MilvusClient
from pymilvus.client.types import ResourceGroupConfig
from pymilvus.grpc_gen import milvus_pb2
from ray_machines import CAGED, HEAD, Machine, RayHead, in_cage, waited_for
from test_nodes import Traffic, fill, holders

pytestmark = pytest.mark.cluster
SECONDS = 400.0
WHOLE_SECONDS = 60.0
PARTITION_SECONDS = float(os.environ.get("MILVINE_PARTITION_SECONDS", "30"))
HEADLESS_SECONDS = float(os.environ.get("MILVINE_HEADLESS_SECONDS", "90"))
"""A driver of Ray gives up after 60."""
NAME = "spread"
is_caged = CAGED in os.environ


@pytest.mark.skipif(is_caged, reason="this is the cage")
@pytest.mark.timeout(1500)
def test_nodes_by_ray_in_a_cage() -> None:
    pytest.importorskip("ray")
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    done = in_cage(Path(__file__), 1400.0, "-v", "-s")
    assert done.returncode == 0, done.stdout[-20_000:]
    print(done.stdout[-5_000:])  # noqa: T201 - the figures


class Cluster(ClusterOfNodes):
    """A head, Ray, and three machines: two of group a, one of group b."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ray = RayHead(directory)
        certificates = Certificates(directory)
        certificates.authority("ca")
        names = ",".join(f"IP:{address}" for address in (HEAD, "10.77.0.11", "10.77.0.12", "10.77.0.13"))
        certificates.signed("internal", "ca", names=names)
        pem, key = certificates.pair("internal")
        self.objects = ObjectServer(directory, VERSITYGW if find_versitygw() else "moto", HEAD)
        common = {
            **self.ray.environment,
            **self.objects.environment("ray"),
            "MILVINE_STORE_REMOVAL_SECONDS": "600",
            "MILVINE_INTERNALTLS_CAPEMPATH": certificates.path("ca.pem"),
            "MILVINE_INTERNALTLS_SERVERPEMPATH": pem,
            "MILVINE_INTERNALTLS_SERVERKEYPATH": key,
        }
        head = {**common, "MILVINE_CLUSTER_HOST": HEAD, "MILVINE_CLUSTER_PORT": str(free_port())}
        self.head = Server(directory / "head", f"--cluster={self.ray.address}", env=head, metrics_port=free_port())
        offers = ['{"milvine-a": 1}', '{"milvine-b": 1}', '{"milvine-a": 1}']
        self.machines = [Machine(number, offer, directory, common) for number, offer in enumerate(offers, 1)]
        self.nodes = []

    def start(self) -> Cluster:
        self.ray.start()
        self.head.start(SECONDS)
        for machine in self.machines:
            machine.start()
        self.wait(3)
        return self

    def live(self) -> set[str]:
        """The machines whose nodes report."""
        return {one["address"].split(":")[0] for one in self.listed() if not one["isSilent"]}

    def wait(self, count: int, seconds: float = SECONDS) -> float:
        try:
            return waited_for(lambda: len(self.live()) == count, seconds, f"{count} nodes")
        except AssertionError:
            print(self.head.log[-6000:], *(machine.log for machine in self.machines), sep="\n----\n")  # noqa: T201
            raise

    def close(self) -> None:
        self.head.close()
        for machine in self.machines:
            machine.kill()
        self.ray.kill()
        self.objects.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not is_caged:
        pytest.skip("runs in a cage")
    made = Cluster(tmp_path_factory.mktemp("ray"))
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Iterator[MilvusClient]:
    made = cluster.head.client()
    default = "__default_resource_group"
    for group, count in (("a", 2), ("b", 1)):
        config = ResourceGroupConfig(
            requests={"node_num": count},
            limits={"node_num": count},
            node_filter={"node_labels": [{"key": "group", "value": group}]},
            transfer_from=[{"resource_group": default}],
        )
        made.create_resource_group(group, config=config)
    waited_for(lambda: made.describe_resource_group("a").num_available_node == 2, SECONDS, "both nodes of a")
    waited_for(lambda: made.describe_resource_group("b").num_available_node == 1, SECONDS, "the node of b")
    fill(made, NAME, replicas=2, groups=["a", "b"])
    yield made
    made.close()


def ids(cluster: Cluster) -> dict[str, int]:
    return {one["address"].split(":")[0]: one["nodeId"] for one in cluster.listed() if not one["isSilent"]}


def health(cluster: Cluster) -> list[str]:
    return list(cluster.head.stub.CheckHealth(milvus_pb2.CheckHealthRequest()).reasons)


def is_whole(client: MilvusClient, cluster: Cluster, *without: Machine) -> bool:
    """Whether each segment is on two live nodes, one of each group."""
    live = ids(cluster)
    of_b = {live.get(cluster.machines[1].address)}
    of_a = {live.get(machine.address) for machine in cluster.machines[::2] if machine not in without}
    found = holders(client, NAME)
    return bool(found) and all(len(one) == 2 and len(one & of_a) == 1 and one & of_b for one in found)


def test_each_replica_is_on_machines_that_offer_its_group(cluster: Cluster, client: MilvusClient) -> None:
    waited_for(lambda: is_whole(client, cluster), SECONDS, "both replicas")
    assert cluster.live() == {machine.address for machine in cluster.machines}


def test_a_lost_machine_fails_no_search_and_its_replica_is_whole_elsewhere(
    cluster: Cluster, client: MilvusClient
) -> None:
    lost = cluster.machines[0]
    with Traffic(cluster, NAME) as traffic:
        time.sleep(1)
        lost.kill()
        began = time.monotonic()
        waited_for(lambda: lost.address not in cluster.live(), SECONDS, "the loss")
        waited_for(lambda: is_whole(client, cluster, lost), WHOLE_SECONDS, "the replica of a")
        whole = time.monotonic() - began
    print(f"\nmachine lost: whole after {whole:.1f} s; {traffic.slowest()}")  # noqa: T201
    assert traffic.failures == []
    lost.start()
    print(f"its node is back after {cluster.wait(3):.1f} s")  # noqa: T201
    waited_for(lambda: is_whole(client, cluster), SECONDS, "both replicas")


def test_a_killed_raylet_ends_no_node(cluster: Cluster, client: MilvusClient) -> None:
    before, nodes = ids(cluster), [machine.node() for machine in cluster.machines]
    with Traffic(cluster, NAME) as traffic:
        time.sleep(1)
        cluster.machines[2].kill_raylet()
        time.sleep(5)
    print(f"\nraylet killed: {traffic.slowest()}")  # noqa: T201
    assert traffic.failures == []
    assert [machine.node() for machine in cluster.machines] == nodes
    waited_for(lambda: ids(cluster) == before, SECONDS, "their reports")


def test_a_partition_gives_no_wrong_answer(cluster: Cluster, client: MilvusClient) -> None:
    apart = cluster.machines[1]
    with Traffic(cluster, NAME) as traffic:
        time.sleep(1)
        apart.cut()
        time.sleep(PARTITION_SECONDS)
        apart.join()
        time.sleep(5)
    print(f"\npartition of {PARTITION_SECONDS:.0f} s: {traffic.slowest()}")  # noqa: T201
    assert traffic.failures == []
    assert traffic.writes
    waited_for(lambda: is_whole(client, cluster), SECONDS, "both replicas")


def test_searches_go_on_without_the_head_of_ray(cluster: Cluster, client: MilvusClient) -> None:
    before = ids(cluster)
    assert len(before) == 3
    with Traffic(cluster, NAME) as traffic:
        time.sleep(1)
        cluster.ray.kill()
        began = time.monotonic()
        told = waited_for(lambda: any(cluster.ray.address in one for one in health(cluster)), SECONDS, "its absence")
        time.sleep(max(0.0, began + HEADLESS_SECONDS - time.monotonic()))
    print(f"\nCheckHealth names its absence after {told:.1f} s")  # noqa: T201
    print(f"\n{HEADLESS_SECONDS:.0f} s without Ray's head: {traffic.slowest()}")  # noqa: T201
    assert traffic.failures == []
    waited_for(lambda: ids(cluster) == before, SECONDS, "their reports")
    assert is_whole(client, cluster)
