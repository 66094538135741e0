"""Flushes whose segments nodes are to serve, when the nodes go in the middle."""

from __future__ import annotations

from pathlib import Path

import pytest
from node_processes import ClusterOfNodes
from pymilvus import MilvusClient

NAME, ROWS = "flushed", 100


def fill(client: MilvusClient) -> None:
    client.create_collection(NAME, dimension=4, consistency_level="Strong")
    client.insert(NAME, [{"id": i, "vector": [float(i), 0.0, 0.0, 1.0]} for i in range(ROWS)])


def number_of_rows(client: MilvusClient) -> int:
    number: int = client.query(NAME, filter="", output_fields=["count(*)"])[0]["count(*)"]
    return number


@pytest.mark.parametrize("count", [1, 2])
def test_a_flush_goes_on_when_the_node_ends_that_was_to_serve_its_segment(tmp_path: Path, count: int) -> None:
    cluster = ClusterOfNodes(tmp_path, count, {"MILVINE_CRASH_AT": "node.serving"})
    try:
        client = cluster.start().head.client()
        fill(client)
        client.flush(NAME, timeout=30)
        assert client.get_collection_stats(NAME)["row_count"] == ROWS
        assert len(client.list_loaded_segments(NAME)) == 1
        assert number_of_rows(client) == ROWS
        client.close()
    finally:
        cluster.close()
