"""What of nodes by Ray needs no Ray: the process on a machine, how many are wanted, a head whose Ray is away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from conftest import Server, dies_with_parent, free_port
from node_processes import ClusterOfNodes
from test_nodes import eventually

from milvine.model.resource_groups import DEFAULT_RESOURCE_GROUP, ResourceGroup, ResourceGroupConfig
from milvine.querynode.remote.ray_cluster import NodeKeeper, node_in, wanted_nodes


@pytest.fixture
def head(tmp_path: Path) -> Iterator[ClusterOfNodes]:
    started = ClusterOfNodes(tmp_path, 0)
    try:
        yield started.start()
    finally:
        started.close()


_KEEPER = """
import sys, time
from milvine.querynode.remote.ray_cluster import NodeKeeper
keeper = NodeKeeper(*sys.argv[1:], "fast", "")
time.sleep(1000)
"""


def test_a_keeper_starts_a_node_again_and_finds_the_one_of_a_killed_keeper(
    head: ClusterOfNodes, tmp_path: Path
) -> None:
    told = f"127.0.0.1:{head.head.environment['MILVINE_CLUSTER_PORT']}", str(tmp_path / "machine")
    directory = tmp_path / "machine" / "fast" / "0"
    first = subprocess.Popen([*dies_with_parent(), sys.executable, "-c", _KEEPER, *told])
    keeper: NodeKeeper | None = None
    pids: list[int] = []
    try:
        head.wait_for_nodes(1)
        pids.append(node_in(directory)[0])
        os.kill(pids[0], signal.SIGKILL)
        eventually(lambda: node_in(directory)[0] not in (0, *pids), "a node in its place")
        pids.append(node_in(directory)[0])
        first.kill()
        first.wait()
        keeper = NodeKeeper(*told, "fast", "")
        eventually(lambda: keeper is not None and keeper.state()["pid"] == pids[1], "the same node")
        head.wait_for_nodes(1)
        keeper.stop()
        eventually(lambda: not any(map(_runs, pids)), "the end of the node")
    finally:
        first.kill()
        first.wait()
        for pid in filter(_runs, pids):
            os.kill(pid, signal.SIGKILL)


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_resource_groups_want_nodes_by_their_label() -> None:
    def group(requests: int, *labels: tuple[str, str]) -> ResourceGroup:
        return ResourceGroup("any", ResourceGroupConfig(requests, requests, node_labels=labels))

    groups = {DEFAULT_RESOURCE_GROUP: group(0), "a": group(2, ("group", "fast")), "b": group(1, ("zone", "x"))}
    assert wanted_nodes(groups) == {"": 1, "fast": 2}


def test_a_head_serves_while_ray_is_away(tmp_path: Path) -> None:
    env = {"MILVINE_CLUSTER_PORT": str(free_port()), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    server = Server(tmp_path / "head", "--cluster=127.0.0.1:1", env=env)
    with server.running():
        client = server.client()
        client.create_collection("served", dimension=4)
        assert client.list_collections() == ["served"]
        client.close()
