"""Builds and merges on other machines, over a module in Ray's place: files go through the object store, and the head
does itself what they fail to do. `test_ray.py` has the real one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from conftest import Server, free_port
from object_servers import ObjectServer
from pymilvus import DataType, MilvusClient

from milvine.storage.files import walk_files
from milvine.storage.objects import Place
from milvine.storage.segment_files import SegmentPaths
from milvine.storage.store import CachedStore, open_store

pytestmark = pytest.mark.cluster

pytest.importorskip("obstore")
DIM, ROWS, BATCH = 1024, 6000, 1500
SECONDS = 120.0
_VECTORS = np.random.default_rng(5).normal(size=(ROWS, DIM)).astype(np.float32)
_MODULES = {
    "__init__.py": """
import os, time
from . import exceptions
def init(**_): pass
def cluster_resources(): return {"milvine_tasks": 1.0}
def wait(*_, **__): pass
def shutdown(): pass
class remote:
    def __init__(self, function): self._function = function
    def options(self, **_): return self
    def remote(self, content):
        if os.path.exists(os.environ["RAY_IS_LOST"]):
            raise exceptions.RayError("the machine has died")
        return self._function(content)
def get(answer): return answer
""",
    "exceptions.py": "class RayError(Exception): pass",
    "util/__init__.py": "",
    "util/placement_group.py": """
class placement_group:
    def __init__(self, bundles): assert bundles == [{"milvine_tasks": 1}]
    def wait(self, seconds): return True
""",
    "util/scheduling_strategies.py": "def PlacementGroupSchedulingStrategy(**_): pass",
}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    made = ObjectServer(tmp_path_factory.mktemp("objects"))
    yield made
    made.stop()


@pytest.fixture
def lost(tmp_path: Path) -> Path:
    """While there is such a file, machines are lost."""
    return tmp_path / "lost"


@pytest.fixture
def head(tmp_path: Path, objects: ObjectServer, lost: Path) -> Iterator[Server]:
    for name, content in _MODULES.items():
        path = tmp_path / "modules" / "ray" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    env = {
        **objects.environment(tmp_path.name),
        "MILVINE_CLUSTER_PORT": str(free_port()),
        "MILVINE_CLUSTER_RAY_DIRECTORY": str(tmp_path / "machine"),
        "PYTHONPATH": str(tmp_path / "modules"),
        "RAY_IS_LOST": str(lost),
    }
    with Server(tmp_path / "head", "--cluster=127.0.0.1:1", env=env, metrics_port=free_port()).running() as server:
        yield server


def tasks(server: Server, result: str) -> float:
    lines = requests.get(f"{server.metrics_uri}/metrics", timeout=SECONDS).text.splitlines()
    label = f'milvine_tasks_elsewhere_total{{result="{result}"}}'
    return sum(float(line.split()[1]) for line in lines if line.startswith(label))


def wait_for(server: Server, result: str, count: int) -> None:
    deadline = time.monotonic() + SECONDS
    while tasks(server, result) < count:
        assert time.monotonic() < deadline, server.log[-4000:]
        time.sleep(0.1)


def fill(client: MilvusClient, flushes: int) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection("far", schema=schema, consistency_level="Strong")
    for first in range(0, ROWS, BATCH):
        client.insert("far", [{"id": i, "vec": _VECTORS[i].tolist()} for i in range(first, first + BATCH)])
        if (first // BATCH + 1) % (ROWS // BATCH // flushes) == 0:
            client.flush("far")


def index(client: MilvusClient) -> None:
    params = client.prepare_index_params("vec", index_type="IVF_FLAT", metric_type="L2", params={"nlist": 16})
    client.create_index("far", params)
    state = client.describe_index("far", "vec")
    assert (state["indexed_rows"], state["pending_index_rows"]) == (ROWS, 0)


def nearest(client: MilvusClient) -> list[int]:
    client.load_collection("far")
    found = client.search("far", _VECTORS[:5].tolist(), limit=1, search_params={"params": {"nprobe": 4}})
    return [one[0]["id"] for one in found]


def wait_for_machines(server: Server) -> None:
    """The driver has said that there are some."""
    time.sleep(5.0)
    assert "the driver has ended" not in server.log


def test_an_index_is_built_elsewhere_and_here_if_that_fails(
    head: Server, objects: ObjectServer, lost: Path, tmp_path: Path
) -> None:
    wait_for_machines(head)
    client = head.client()
    fill(client, 1)
    index(client)
    assert tasks(head, "done") == 1
    assert nearest(client) == list(range(5))
    assert not objects.sizes(tmp_path.name, "tasks")
    assert not list(walk_files(tmp_path / "machine"))
    client.release_collection("far")
    client.drop_index("far", "vec")
    lost.touch()
    index(client)
    assert (tasks(head, "done"), tasks(head, "failed")) == (1, 1)
    assert "the machine has died" in head.log
    assert nearest(client) == list(range(5))
    client.close()


def test_a_merge_and_the_index_of_its_result_are_made_elsewhere(
    head: Server, objects: ObjectServer, tmp_path: Path
) -> None:
    wait_for_machines(head)
    client = head.client()
    fill(client, 2)
    index(client)
    before = tasks(head, "done")
    client.compact("far")
    wait_for(head, "done", int(before) + 2)
    assert nearest(client) == list(range(5))
    assert int(client.query("far", filter="", output_fields=["count(*)"])[0]["count(*)"]) == ROWS
    head.stop()
    head.start()
    client = head.client()
    assert nearest(client) == list(range(5))
    assert tasks(head, "failed") == 0
    client.close()


def test_what_a_task_has_left_is_swept_and_what_a_running_one_has_stays(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    store = open_store(SegmentPaths(tmp_path), Place("memory:///"), 1 << 20)
    assert isinstance(store, CachedStore)
    path = store.paths.column(1, 2, 100)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a column")
    store.objects.create("tasks/of-another-head/segments/1/2/9.index", b"late")
    with store.lent([path]) as lent:
        (name,) = lent.names.values()
        assert name.startswith(lent.prefix)
        assert store.sweep(dict, 0.0) == 1
        assert list(store.objects.sizes("tasks/")) == [name]
    assert store.objects.sizes("tasks/") == {}
