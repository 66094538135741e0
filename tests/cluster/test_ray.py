"""Query nodes that Ray starts on three machines: what searches see of lost machines, of Ray's own loss, of a partition;
and indexes that are built on one of them.

The machines are namespaces (`ray_machines.py`), so this needs root, and Ray.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from object_servers import VERSITYGW, ObjectServer, find_versitygw
from pymilvus import DataType, MilvusClient
from pymilvus.client.types import ResourceGroupConfig
from pymilvus.grpc_gen import milvus_pb2
from ray_machines import CAGED, HEAD, Machine, RayCluster, RayHead, in_cage, waited_for
from test_nodes import Traffic, fill, holders
from test_random_model import Walk, weights_for

pytestmark = pytest.mark.cluster
SECONDS = 400.0
WHOLE_SECONDS = 60.0
PARTITION_SECONDS = float(os.environ.get("MILVINE_PARTITION_SECONDS", "30"))
HEADLESS_SECONDS = float(os.environ.get("MILVINE_HEADLESS_SECONDS", "90"))
"""A driver of Ray gives up after 60."""
SEED = int(os.environ.get("MILVINE_MODEL_SEED", "7"))
NAME, FAR = "spread", "far"
FAR_DIM, FAR_ROWS = 1024, 6000
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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """Two machines of group a, one of group b."""
    if not is_caged:
        pytest.skip("runs in a cage")
    directory = tmp_path_factory.mktemp("ray")
    ray = RayHead(directory)
    objects = ObjectServer(directory, VERSITYGW if find_versitygw() else "moto", HEAD)
    environment = {**objects.environment("ray"), "MILVINE_STORE_REMOVAL_SECONDS": "600"}
    offers = ['{"milvine-a": 1}', '{"milvine-b": 1}', '{"milvine-a": 1, "milvine_tasks": 1}']
    made = RayCluster(directory, ray, offers, environment)
    try:
        yield made.start()
    finally:
        made.close()
        objects.stop()


@pytest.fixture(scope="module")
def client(cluster: RayCluster) -> Iterator[MilvusClient]:
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


def ids(cluster: RayCluster) -> dict[str, int]:
    return {one["address"].split(":")[0]: one["nodeId"] for one in cluster.listed() if not one["isSilent"]}


def health(cluster: RayCluster) -> list[str]:
    return list(cluster.head.stub.CheckHealth(milvus_pb2.CheckHealthRequest()).reasons)


def is_whole(client: MilvusClient, cluster: RayCluster, *without: Machine) -> bool:
    """Whether each segment is on two live nodes, one of each group."""
    live = ids(cluster)
    of_b = {live.get(cluster.machines[1].address)}
    of_a = {live.get(machine.address) for machine in cluster.machines[::2] if machine not in without}
    found = holders(client, NAME)
    return bool(found) and all(len(one) == 2 and len(one & of_a) == 1 and one & of_b for one in found)


def test_each_replica_is_on_machines_that_offer_its_group(cluster: RayCluster, client: MilvusClient) -> None:
    waited_for(lambda: is_whole(client, cluster), SECONDS, "both replicas")
    assert cluster.live() == {machine.address for machine in cluster.machines}


def test_a_lost_machine_fails_no_search_and_its_replica_is_whole_elsewhere(
    cluster: RayCluster, client: MilvusClient
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


def build(client: MilvusClient, index_type: str, **params: int) -> None:
    index = client.prepare_index_params("vec", index_type=index_type, metric_type="L2", params=params)
    client.create_index(FAR, index, sync=False)


def is_built(client: MilvusClient) -> bool:
    state = client.describe_index(FAR, "vec")
    return bool(state["indexed_rows"] == FAR_ROWS and not state["pending_index_rows"])


def test_an_index_is_built_on_a_machine_or_by_the_head_if_its_raylet_is_killed(
    cluster: RayCluster, client: MilvusClient
) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=FAR_DIM)
    client.create_collection(FAR, schema=schema)
    vectors = np.random.default_rng(5).normal(size=(FAR_ROWS, FAR_DIM)).astype(np.float32)
    for first in range(0, FAR_ROWS, 1500):
        client.insert(FAR, [{"id": i, "vec": vectors[i].tolist()} for i in range(first, first + 1500)])
    client.flush(FAR)
    build(client, "IVF_FLAT", nlist=16)
    waited_for(lambda: is_built(client), SECONDS, "the index")
    assert "a task was done elsewhere" in cluster.head.log, cluster.head.log[-3000:]
    client.drop_index(FAR, "vec")
    machine = cluster.machines[2]
    build(client, "HNSW", M=32, efConstruction=300)
    waited_for(lambda: machine.task_files("*.col"), SECONDS, "its work on the machine")
    machine.kill_raylet()
    waited_for(lambda: "the task build is done here" in cluster.head.log, SECONDS, "the loss of the task")
    waited_for(lambda: is_built(client), SECONDS, "the index")
    print("\n", *(line for line in cluster.head.log.splitlines() if ".workers" in line), sep="\n")  # noqa: T201
    client.load_collection(FAR, resource_groups=["a"])
    found = client.search(FAR, vectors[:3].tolist(), limit=1)
    assert [one[0]["id"] for one in found] == [0, 1, 2]
    client.drop_collection(FAR)
    cluster.wait(3)


def test_a_killed_raylet_ends_no_node(cluster: RayCluster, client: MilvusClient) -> None:
    before, nodes = ids(cluster), [machine.node() for machine in cluster.machines]
    with Traffic(cluster, NAME) as traffic:
        time.sleep(1)
        cluster.machines[2].kill_raylet()
        time.sleep(5)
    print(f"\nraylet killed: {traffic.slowest()}")  # noqa: T201
    assert traffic.failures == []
    assert [machine.node() for machine in cluster.machines] == nodes
    waited_for(lambda: ids(cluster) == before, SECONDS, "their reports")


def walk_for(walk: Walk, seconds: float) -> None:
    """Steps of the model test, each checked."""
    others = "restart", "kill", "create", "drop", "load", "release"  # no load is taken while a group has no node
    weights = {step: weight for step, weight in weights_for(walk).items() if step not in others}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        step = walk.rng.choices(list(weights), list(weights.values()))[0]
        walk.history.append(step)
        try:
            getattr(walk, step)()
            walk.check()
        except BaseException:
            print(f"MILVINE_MODEL_SEED={SEED}, after {walk.history[-12:]}")  # noqa: T201
            raise


def test_a_partition_gives_no_wrong_answer(cluster: RayCluster, client: MilvusClient) -> None:
    """Neither to traffic, nor to the model test, whose collections have a replica on the machine that is cut off."""
    apart = cluster.machines[1]
    client.alter_database_properties("default", {"database.replica.number": "2", "database.resource_groups": "a,b"})
    walk = Walk(cluster.head, random.Random(SEED))
    walk.create()
    walk.create()
    with Traffic(cluster, NAME) as traffic:
        walk_for(walk, 5)
        apart.cut()
        walk_for(walk, PARTITION_SECONDS)
        apart.join()
        walk_for(walk, 5)
    walk.check_all()
    walk.client.close()
    print(f"\npartition of {PARTITION_SECONDS:.0f} s: {traffic.slowest()}, {len(walk.history)} steps")  # noqa: T201
    assert traffic.failures == []
    assert traffic.writes
    waited_for(lambda: is_whole(client, cluster), SECONDS, "both replicas")


def test_searches_go_on_without_the_head_of_ray(cluster: RayCluster, client: MilvusClient) -> None:
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
