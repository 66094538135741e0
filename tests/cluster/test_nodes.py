"""Query nodes in other processes: same answers, no failed read when one of two holders goes, and true reports."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
import requests
from conftest import Node, Server, free_port
from node_processes import ClusterOfNodes
from pymilvus import DataType, MilvusClient, MilvusException

from milvine.querynode.remote.balancer import LOST_SECONDS

DIM = 16
ROWS = 1200
SEGMENTS = 3
ROUNDS = int(os.environ.get("MILVINE_NODE_ROUNDS", "1"))
SECONDS = 30.0
SLOWEST_SECONDS = float(os.environ.get("MILVINE_NODE_SLOWEST_SECONDS", "1"))
"""A quarter of a second on an idle machine; node processes that start take the time of a busy one."""
_VECTORS = np.random.default_rng(17).normal(size=(ROWS, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterOfNodes]:
    started = ClusterOfNodes(tmp_path_factory.mktemp("cluster"), 2)
    try:
        yield started.start()
    finally:
        started.close()


@pytest.fixture(scope="module")
def client(cluster: ClusterOfNodes) -> Iterator[MilvusClient]:
    made = cluster.head.client()
    yield made
    made.close()


def fill(client: MilvusClient, name: str, replicas: int = 1, groups: Sequence[str] = ()) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("tag", DataType.VARCHAR, max_length=20)
    # A merge would make one segment of them.
    properties = {"collection.autocompaction.enabled": "false"}
    client.create_collection(name, schema=schema, consistency_level="Strong", properties=properties)
    index = client.prepare_index_params("vec", index_type="HNSW", metric_type="L2", params={"M": 8})
    client.create_index(name, index)
    for first in range(0, ROWS, ROWS // SEGMENTS):
        client.insert(name, rows(first, first + ROWS // SEGMENTS))
        client.flush(name)
    client.load_collection(name, replica_number=replicas, resource_groups=list(groups))


def rows(first: int, end: int) -> list[dict[str, Any]]:
    return [{"id": i, "vec": _VECTORS[i % ROWS].tolist(), "tag": f"t{i % 7}"} for i in range(first, end)]


def nearest(client: MilvusClient, name: str, number: int) -> int:
    """The key of the row nearest to that of a number."""
    found = client.search(name, [_VECTORS[number].tolist()], limit=1, search_params={"params": {"ef": 32}})
    key: int = found[0][0]["id"]
    return key


def eventually(holds: Callable[[], bool], what: str = "it") -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"{what} never happened"
        time.sleep(0.05)


def holders(client: MilvusClient, name: str) -> list[set[int]]:
    """The nodes of each loaded segment."""
    return [set(one.node_ids) for one in client.list_loaded_segments(name)]


def nodes_of(cluster: ClusterOfNodes) -> set[int]:
    return {one["nodeId"] for one in cluster.listed() if not one["isSilent"]}


def test_segments_are_divided_among_the_nodes_and_read_together(client: MilvusClient, cluster: ClusterOfNodes) -> None:
    fill(client, "divided")
    found = client.search("divided", _VECTORS[:4].tolist(), limit=3, filter='tag != "t3"', output_fields=["tag", "vec"])
    assert [hits[0]["id"] for hits in found[:3]] == [0, 1, 2]
    assert found[1][0]["entity"]["vec"] == _VECTORS[1].tolist()
    assert all(len(one) == 1 and one <= nodes_of(cluster) for one in holders(client, "divided"))
    client.delete("divided", ids=[*range(5, 50)])
    assert client.query("divided", filter="", output_fields=["count(*)"])[0]["count(*)"] == ROWS - 45
    assert [row["id"] for row in client.query("divided", filter="id < 52")] == [0, 1, 2, 3, 4, 50, 51]
    sums = client.query("divided", filter="", output_fields=["tag", "count(*)"], group_by_fields=["tag"])
    assert sum(row["count(*)"] for row in sums) == ROWS - 45
    with pytest.raises(MilvusException, match="not exist"):
        client.query("divided", filter="nothing > 1")
    client.release_collection("divided")
    eventually(lambda: all(one["measuredBytes"] == 0 for one in cluster.listed()), "the release")


def test_replicas_are_told_and_moved_as_asked(client: MilvusClient, cluster: ClusterOfNodes) -> None:
    fill(client, "moved")
    assert set(replica_nodes(client, "moved")[0]) <= nodes_of(cluster)
    source = next(iter(holders(client, "moved")[0]))
    target = (nodes_of(cluster) - {source}).pop()
    segment = client.list_loaded_segments("moved")[0].segment_id
    handler = client._get_connection()
    handler.load_balance("moved", source, [target], [segment])
    moved = {one.segment_id: set(one.node_ids) for one in client.list_loaded_segments("moved")}
    assert moved[segment] == {target}
    assert nearest(client, "moved", 7) == 7
    with pytest.raises(MilvusException, match="node not found"):
        handler.load_balance("moved", 77, [target], [segment])
    with pytest.raises(MilvusException, match="replica count"):
        client.release_collection("moved")
        client.load_collection("moved", replica_number=3)
    client.load_collection("moved", replica_number=2)
    eventually(lambda: all(one == nodes_of(cluster) for one in holders(client, "moved")), "the second copy")
    assert len(replica_nodes(client, "moved")) == 2
    group = client.describe_resource_group("__default_resource_group")
    assert group.num_available_node == 2
    assert {node.node_id for node in group.nodes} == nodes_of(cluster)
    client.drop_collection("moved")


def replica_nodes(client: MilvusClient, name: str) -> list[list[int]]:
    found = client._get_connection().describe_replica(name)
    return [list(one.group_nodes) for one in found]


def test_memory_and_metrics_tell_what_each_node_has(client: MilvusClient, cluster: ClusterOfNodes) -> None:
    fill(client, "counted", replicas=2)
    eventually(lambda: [one["segments"] for one in cluster.listed()] == [SEGMENTS] * 2, "the report")
    for one in cluster.listed():
        assert 0 < one["measuredBytes"] < one["limitBytes"]
        assert one["resourceGroup"] == "__default_resource_group"
        labelled = f'{{node="{one["nodeId"]}"}}'
        values = metrics(cluster)
        assert values[f"milvine_node_segments{labelled}"] == SEGMENTS
        assert values[f"milvine_node_held_bytes{labelled}"] == one["measuredBytes"]
        assert values[f"milvine_node_limit_bytes{labelled}"] == one["limitBytes"]
        assert values[f"milvine_node_silent_seconds{labelled}"] < SECONDS
    mapped = one["mappedBytes"]
    client.release_collection("counted")
    client.alter_collection_properties("counted", {"mmap.enabled": "true"})
    client.load_collection("counted", replica_number=2)
    eventually(lambda: all(one["mappedBytes"] > mapped for one in cluster.listed()), "the mapping")
    client.drop_collection("counted")


def metrics(cluster: ClusterOfNodes) -> dict[str, float]:
    lines = requests.get(f"{cluster.head.metrics_uri}/metrics", timeout=SECONDS).text.splitlines()
    return {name: float(value) for line in lines if line[0] != "#" for name, _, value in [line.rpartition(" ")]}


@pytest.fixture
def group(client: MilvusClient) -> Iterator[str]:
    """A resource group that has one of the two nodes."""
    name, default = "half", "__default_resource_group"
    client.create_resource_group(name)
    client._get_connection().transfer_node(default, name, 1)
    yield name
    client._get_connection().transfer_node(name, default, 1)
    client.drop_resource_group(name)


def group_nodes(client: MilvusClient, name: str) -> set[int]:
    described = client.describe_resource_group(name)
    assert described.num_available_node == len(described.nodes)
    return {node.node_id for node in described.nodes}


def test_segments_are_on_the_nodes_of_their_resource_group(
    client: MilvusClient, cluster: ClusterOfNodes, group: str
) -> None:
    default = "__default_resource_group"
    here, there = group_nodes(client, group), group_nodes(client, default)
    assert (len(here), len(there), here | there) == (1, 1, nodes_of(cluster))
    fill(client, "grouped", groups=[group])
    assert holders(client, "grouped") == [here] * SEGMENTS
    (replica,) = client._get_connection().describe_replica("grouped")
    assert (set(replica.group_nodes), replica.resource_group, dict(replica.num_outbound_node)) == (here, group, {})
    assert client.describe_resource_group(group).num_loaded_replica == {"grouped": 1}
    client.transfer_replica(group, default, "grouped", 1)
    eventually(lambda: holders(client, "grouped") == [there] * SEGMENTS, "the move")
    assert nearest(client, "grouped", 5) == 5
    assert client.describe_resource_group(group).num_loaded_replica == {}
    with pytest.raises(MilvusException, match="node not enough"):
        client.load_collection("grouped", replica_number=2)
    client.drop_collection("grouped")


class Traffic:
    """Searches, inserts and deletes until it is stopped; deletes are looked for at once, at Strong."""

    def __init__(self, cluster: ClusterOfNodes, name: str) -> None:
        self._cluster = cluster
        self._name = name
        self._stopping = threading.Event()
        self.failures: list[str] = []
        self.seconds: dict[str, list[float]] = {"search": [], "insert": [], "delete": [], "query": []}
        self.writes = 0
        self._next = 1_000_000
        self._threads = [threading.Thread(target=self._run, args=(step,)) for step in (self._search, self._write)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, step: Callable[[MilvusClient], None]) -> None:
        client = self._cluster.head.client()
        while not self._stopping.is_set():
            try:
                step(client)
            except Exception as error:  # noqa: BLE001 - the test fails by it
                self.failures.append(f"{type(error).__name__}: {error}")
        client.close()

    @contextmanager
    def _timed(self, kind: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[kind].append(time.monotonic() - started)

    def slowest(self) -> str:
        """The numbers of calls, and how long the slowest took."""
        return ", ".join(f"{len(all_)} {kind} at most {max(all_):.3f} s" for kind, all_ in self.seconds.items() if all_)

    def _search(self, client: MilvusClient) -> None:
        with self._timed("search"):
            key = nearest(client, self._name, 7)
        if key != 7:
            self.failures.append(f"7 was not found, but {key}")

    def _write(self, client: MilvusClient) -> None:
        key, self._next = self._next, self._next + 1
        with self._timed("insert"):
            client.insert(self._name, [{"id": key, "vec": [9.0] * DIM, "tag": "new"}])
        victim = 100 + self.writes % (ROWS - 100)
        with self._timed("delete"):
            client.delete(self._name, ids=[key, victim])
        with self._timed("query"):
            left = client.query(self._name, filter=f"id in [{key}, {victim}]", output_fields=["id"])
        if left:
            self.failures.append(f"{left} were deleted")
        self.writes += 1


@pytest.fixture(scope="module")
def doubled(client: MilvusClient, cluster: ClusterOfNodes) -> str:
    """A collection of two replicas."""
    fill(client, "doubled", replicas=2)
    return "doubled"


def wait_for_both(client: MilvusClient, cluster: ClusterOfNodes, name: str) -> None:
    cluster.wait_for_nodes(2)
    eventually(
        lambda: len(nodes_of(cluster)) == 2 and all(one == nodes_of(cluster) for one in holders(client, name)),
        "both copies",
    )


def _killed(node: Node) -> None:
    node.kill()
    time.sleep(1.0)
    node.start()


def _stopped(node: Node) -> None:
    node.signal(signal.SIGSTOP)
    time.sleep(2.5)
    node.signal(signal.SIGCONT)


def _stopped_for_long(node: Node) -> None:
    node.signal(signal.SIGSTOP)
    time.sleep(7.0)
    node.signal(signal.SIGCONT)


@pytest.mark.parametrize("harm", [_killed, _stopped, pytest.param(_stopped_for_long, marks=pytest.mark.cluster)])
def test_no_read_fails_when_one_of_two_holders_goes(
    client: MilvusClient,
    cluster: ClusterOfNodes,
    doubled: str,
    harm: Callable[[Node], None],
    record_property: Callable[[str, object], None],
) -> None:
    wait_for_both(client, cluster, doubled)
    nearest(client, doubled, 7)  # the SDK's first search imports scipy
    with Traffic(cluster, doubled) as traffic:
        for number in range(ROUNDS):
            time.sleep(0.5)
            harm(cluster.nodes[number % 2])
            wait_for_both(client, cluster, doubled)
    record_property("traffic", traffic.slowest())
    assert traffic.failures == []
    assert traffic.writes
    assert max(traffic.seconds["search"]) < SLOWEST_SECONDS


def searches_per_cpu_second(client: MilvusClient, cluster: ClusterOfNodes, name: str, count: int) -> float:
    """By the node that needs most: the searches of all nodes in a second, if each has a core of its own."""

    def seconds() -> list[float]:
        processes = [node.process for node in cluster.nodes if node.process is not None]
        return [sum(psutil.Process(one.pid).cpu_times()[:2]) for one in processes]

    nearest(client, name, 7)
    before = seconds()
    for _ in range(count):
        nearest(client, name, 7)
    return count / max(after - first for first, after in zip(before, seconds(), strict=True))


@pytest.mark.cluster
def test_a_second_node_doubles_the_searches_at_equal_cpu_of_a_node(
    client: MilvusClient, cluster: ClusterOfNodes, record_property: Callable[[str, object], None]
) -> None:
    """By CPU accounting, since the machine of a test has no core for each process."""
    cluster.nodes[1].kill()
    cluster.wait_for_nodes(1)
    fill(client, "rate")
    eventually(lambda: all(len(one) == 1 and 1 not in one for one in holders(client, "rate")), "one node")
    one = searches_per_cpu_second(client, cluster, "rate", 2000)
    client.release_collection("rate")
    cluster.nodes[1].start()
    cluster.wait_for_nodes(2)
    client.load_collection("rate", replica_number=2)
    wait_for_both(client, cluster, "rate")
    two = searches_per_cpu_second(client, cluster, "rate", 2000)
    record_property("searches per CPU second", f"{one:.0f} of one node, {two:.0f} of two, {two / one:.2f} times")
    print(f"\nsearches per CPU second: {one:.0f} of one node, {two:.0f} of two")  # noqa: T201
    client.drop_collection("rate")
    assert two > 1.5 * one  # on a busy machine each node finds its caches cold more often


def test_an_answer_is_whole_while_the_only_holder_of_a_segment_is_gone(
    client: MilvusClient, cluster: ClusterOfNodes
) -> None:
    fill(client, "single")
    cluster.wait_for_nodes(2)
    ids = {one["address"]: one["nodeId"] for one in cluster.listed()}
    held = set().union(*holders(client, "single"))
    gone = next(node for node in cluster.nodes if ids[node.address] in held)
    gone.kill()
    counts: list[int] = []
    while not counts or any(ids[gone.address] in one for one in holders(client, "single")):
        counts.append(client.query("single", filter="", output_fields=["count(*)"])[0]["count(*)"])
    counts.append(client.query("single", filter="", output_fields=["count(*)"])[0]["count(*)"])
    assert set(counts) == {ROWS}
    assert f"({gone.address}) is lost: its process has ended" in cluster.head.log
    gone.start()
    cluster.wait_for_nodes(2)
    client.drop_collection("single")


def test_a_load_does_not_wait_until_a_stopped_node_is_lost(
    client: MilvusClient, cluster: ClusterOfNodes, doubled: str
) -> None:
    wait_for_both(client, cluster, doubled)
    client.release_collection(doubled)
    cluster.nodes[0].signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        client.load_collection(doubled, replica_number=2)
        assert nearest(client, doubled, 11) == 11
        seconds = time.monotonic() - started
    finally:
        cluster.nodes[0].signal(signal.SIGCONT)
    assert seconds < LOST_SECONDS
    wait_for_both(client, cluster, doubled)
    assert nearest(client, doubled, 12) == 12


def test_a_release_does_not_wait_until_a_stopped_node_is_lost(client: MilvusClient, cluster: ClusterOfNodes) -> None:
    name, partitions = "many", 16
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("key", DataType.INT64, is_partition_key=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection(name, schema=schema, num_partitions=partitions, consistency_level="Strong")
    client.create_index(name, client.prepare_index_params("vec", index_type="FLAT", metric_type="L2"))
    client.insert(name, [{"id": i, "key": i, "vec": _VECTORS[i].tolist()} for i in range(ROWS)])
    client.flush(name)
    cluster.wait_for_nodes(2)
    eventually(lambda: len(nodes_of(cluster)) == 2, "two nodes that answer")
    client.load_collection(name, replica_number=2)
    before = {one["nodeId"] for one in cluster.listed()}
    cluster.nodes[0].signal(signal.SIGSTOP)
    try:
        eventually(lambda: len(nodes_of(cluster)) == 1, "silence")
        client.release_collection(name)
        assert {one["nodeId"] for one in cluster.listed()} == before
    finally:
        cluster.nodes[0].signal(signal.SIGCONT)
    eventually(lambda: len(nodes_of(cluster)) == 2, "two nodes that answer")
    client.load_collection(name, replica_number=2)
    assert nearest(client, name, 13) == 13
    client.drop_collection(name)


def test_a_head_that_starts_again_before_its_nodes_keeps_what_only_they_have_room_for(tmp_path: Path) -> None:
    port = free_port()
    node = Node(port, tmp_path / "node")
    small = {"MILVINE_CLUSTER_PORT": str(port), "MILVINE_MEMORY_LIMIT": "20kb"}
    with Server(tmp_path / "head", env=small).running() as head:
        node.start()
        try:
            client = head.client()
            eventually(lambda: memory(head)["limitBytes"] > 1 << 20, "the node")
            fill(client, "large")
            client.close()
            node.kill()
            head.kill()
            head.start()
            client = head.client()
            assert nearest(client, "large", 3) == 3
            assert memory(head)["measuredBytes"] < 20_000
            node.start()
            eventually(lambda: memory(head)["measuredBytes"] > 100_000, "its return to memory")
            assert nearest(client, "large", 4) == 4
            client.close()
        finally:
            node.kill()


@pytest.mark.cluster
def test_a_load_needs_memory_for_each_replica(tmp_path: Path) -> None:
    port, limit = free_port(), {"MILVINE_MEMORY_LIMIT": "100kb"}  # one replica takes about 110 kB
    nodes = [Node(port, tmp_path / f"node-{i}", env=limit) for i in range(2)]
    with Server(tmp_path / "head", env={"MILVINE_CLUSTER_PORT": str(port)}).running() as head:
        try:
            for node in nodes:
                node.start()
            eventually(lambda: len(memory(head).get("nodes", [])) == 2, "both nodes")
            client = head.client()
            fill(client, "twice")
            client.release_collection("twice")
            with pytest.raises(MilvusException, match="memory limit exceeded"):
                client.load_collection("twice", replica_number=2)
            client.load_collection("twice", replica_number=1)
            assert nearest(client, "twice", 6) == 6
            client.close()
        finally:
            for node in nodes:
                node.kill()


def memory(head: Server) -> dict[str, Any]:
    found: dict[str, Any] = requests.post(f"{head.uri}/milvine/v1/memory", json={}, timeout=SECONDS).json()["data"]
    return found


def test_the_head_serves_what_no_node_is_left_for(client: MilvusClient, cluster: ClusterOfNodes, doubled: str) -> None:
    wait_for_both(client, cluster, doubled)
    for node in cluster.nodes:
        node.kill()
    assert nearest(client, doubled, 8) == 8
    client.delete(doubled, ids=[8])
    assert nearest(client, doubled, 8) != 8
    eventually(lambda: holders(client, doubled) == [{1}] * len(holders(client, doubled)), "the head's turn")
    for node in cluster.nodes:
        node.start()
    wait_for_both(client, cluster, doubled)
    assert nearest(client, doubled, 8) != 8
    assert nearest(client, doubled, 9) == 9
