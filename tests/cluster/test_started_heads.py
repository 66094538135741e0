"""Loads that come to a head before its nodes have reported to it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from node_processes import ClusterOfNodes
from pymilvus import MilvusClient
from stored_rows import NAME, answers, fill

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterOfNodes]:
    """Two nodes, and a head without memory of its own for segments."""
    made = ClusterOfNodes(tmp_path, 2, head_env={"MILVINE_MEMORY_LIMIT": "20kb"})
    try:
        yield made.start()
    finally:
        made.close()


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_load_waits_for_the_nodes_of_a_head_that_has_just_started(cluster: ClusterOfNodes, replicas: int) -> None:
    """One replica needs the memory of a node, two need two nodes."""
    client = cluster.head.client()
    fill(client)
    before = answers(client)
    client.release_collection(NAME)
    client.close()
    cluster.head.kill()
    for node in cluster.nodes:
        node.signal(signal.SIGSTOP)
    cluster.head.start()
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(_loaded_and_read, cluster, replicas)
        time.sleep(1.0)
        assert not found.done(), found.result()
        for node in cluster.nodes:
            node.signal(signal.SIGCONT)
        assert found.result() == ([replicas], before)


def _loaded_and_read(cluster: ClusterOfNodes, replicas: int) -> tuple[list[int], Any]:
    """The number of holders of each segment, and the answers."""
    client: MilvusClient = cluster.head.client()
    client.load_collection(NAME, replica_number=replicas)
    found = [len(one.node_ids) for one in client.list_loaded_segments(NAME)], answers(client)
    client.close()
    return found
