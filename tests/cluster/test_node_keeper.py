"""What of nodes by Ray needs no Ray: the process on a machine, how many are wanted, a head whose Ray is away, and how
it tells that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from conftest import Server, dies_with_parent, free_port
from node_processes import ClusterOfNodes
from test_nodes import eventually

from milvine.background import Supervisor
from milvine.model.resource_groups import DEFAULT_RESOURCE_GROUP, ResourceGroup, ResourceGroupConfig
from milvine.querynode.remote import ray_cluster
from milvine.querynode.remote.ray_cluster import NodeKeeper, RayNodes, node_in, wanted_nodes

pytestmark = pytest.mark.cluster


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


_MODULE = """
import os, time
def init(**_):
    print("printed lines are no answers")
    while not os.path.exists(os.environ["RAY_IS_THERE"]):
        time.sleep(0.05)
def cluster_resources():
    init()
    return {}
def wait(*_, **__): pass
def shutdown(): pass
"""


@pytest.fixture
def ray_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While there is such a file, calls of a module in Ray's place return."""
    (tmp_path / "ray.py").write_text(_MODULE)
    monkeypatch.setenv("MILVINE_OUTER_PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("RAY_IS_THERE", str(tmp_path / "there"))
    return tmp_path / "there"


def test_a_head_serves_while_ray_is_away(ray_file: Path, tmp_path: Path) -> None:
    env = {"MILVINE_CLUSTER_PORT": str(free_port()), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    env |= {"PYTHONPATH": str(ray_file.parent)}
    server = Server(tmp_path / "head", "--cluster=127.0.0.1:1", env=env)
    with server.running():
        client = server.client()
        client.create_collection("served", dimension=4)
        assert client.list_collections() == ["served"]
        client.close()


def test_an_absence_of_ray_is_told_until_it_answers(ray_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(ray_cluster, "_TELL_SECONDS", 0.1)
    background = Supervisor()
    nodes = RayNodes("far:1", "127.0.0.1:2", "unused", dict, background)
    nodes.start()
    told = ["Ray at far:1: no answer"]
    try:
        eventually(lambda: background.failing() == told, "the absence at the start")
        ray_file.touch()
        eventually(lambda: background.failing() == [], "an answer")
        ray_file.unlink()
        eventually(lambda: background.failing() == told, "the absence later")
    finally:
        ray_file.touch()
        nodes.close()
        background.stop(time.monotonic() + 5.0)


def test_drivers_that_end_again_and_again_are_told(ray_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray_file.with_name("ray.py").write_text("def init(**_): raise ConnectionError('nobody is there')")
    monkeypatch.setattr(ray_cluster, "_TELL_SECONDS", 0.1)
    background = Supervisor()
    nodes = RayNodes("far:1", "127.0.0.1:2", "unused", dict, background)
    nodes.start()
    try:
        told = ["Ray at far:1: the driver has ended with 1; it is started again"]
        eventually(lambda: background.failing() == told, "its end")
    finally:
        nodes.close()
        background.stop(time.monotonic() + 5.0)


_HEAD = """
import time
from milvine.background import Supervisor
from milvine.querynode.remote.ray_cluster import RayNodes
RayNodes("far:1", "127.0.0.1:2", "unused", dict, Supervisor()).start()
time.sleep(1000)
"""


def test_a_driver_that_waits_for_ray_ends_with_a_killed_head(ray_file: Path) -> None:
    asked = ray_file.with_name("asked")
    ray_file.with_name("ray.py").write_text(f"open({str(asked)!r}, 'w').close()\n{_MODULE}")
    head = subprocess.Popen([*dies_with_parent(), sys.executable, "-c", _HEAD])
    drivers: list[psutil.Process] = []
    try:
        eventually(asked.exists, "a call of Ray")
        drivers = psutil.Process(head.pid).children()
        head.kill()
        head.wait()
        eventually(lambda: not any(_runs(driver.pid) for driver in drivers), "its end")
        assert len(drivers) == 1
    finally:
        head.kill()
        head.wait()
        for driver in drivers:
            if _runs(driver.pid):
                driver.kill()
