"""Query nodes that read an object store: what happens when the store is away and a holder goes, or comes back."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from node_processes import ClusterOfNodes
from object_servers import ObjectServer
from pymilvus import MilvusClient, MilvusException
from relay import Relay
from stored_rows import NAME, answers, eventually, fill


@contextmanager
def one_node(tmp_path: Path, objects: ObjectServer, prefix: str, **more: str) -> Iterator[tuple[ClusterOfNodes, Relay]]:
    """A head with a loaded collection, its node, and what is before their store."""
    relay = Relay(int(objects.endpoint.rpartition(":")[2]))
    cluster = ClusterOfNodes(
        tmp_path, 1, {**objects.environment(prefix), "MILVINE_STORE_ENDPOINT": relay.endpoint, **more}
    )
    try:
        client = cluster.start().head.client()
        fill(client)
        client.close()
        yield cluster, relay
    finally:
        cluster.close()
        relay.close()


def holders(cluster: ClusterOfNodes, client: MilvusClient) -> set[str]:
    """`head`, or the address of a node."""
    names = {one["nodeId"]: one["address"] for one in cluster.listed()}
    return {names.get(i, "head") for one in client.list_loaded_segments(NAME) for i in one.node_ids}


@pytest.mark.cluster
def test_the_head_opens_what_a_node_cannot_fetch(tmp_path: Path, objects: ObjectServer) -> None:
    with one_node(tmp_path, objects, "fetched") as (cluster, relay):
        client = cluster.head.client()
        before = answers(client)
        node = cluster.nodes[0]
        client.release_collection(NAME)
        shutil.rmtree(node.directory / "segments")
        relay.is_broken = True
        client.load_collection(NAME, timeout=60)
        assert answers(client) == before
        assert holders(cluster, client) == {"head"}
        assert re.search(r"mapped: no node opens it; node \d+: cannot read from s3://", cluster.head.log)
        assert "a segment is not opened: cannot read from s3://" in node.log
        relay.is_broken = False
        eventually(lambda: holders(cluster, client) == {node.address})
        assert answers(client) == before
        client.close()


@pytest.mark.cluster
def test_a_read_that_nobody_can_serve_ends_in_103_and_is_whole_again_later(
    tmp_path: Path, objects: ObjectServer
) -> None:
    relay = Relay(int(objects.endpoint.rpartition(":")[2]))
    env = {**objects.environment("nobody"), "MILVINE_STORE_ENDPOINT": relay.endpoint}
    cluster = ClusterOfNodes(tmp_path, 1, env)
    try:
        client = cluster.start().head.client()
        fill(client)
        client.load_collection(NAME)
        before = answers(client)
        shutil.rmtree(cluster.head.data_dir / "segments")
        relay.cut_after_bytes = 0
        cluster.nodes[0].kill()
        started = time.monotonic()
        with pytest.raises(MilvusException, match="collection not fully loaded") as refused:
            client.query(NAME, filter="", output_fields=["count(*)"], timeout=30, retry_times=1)
        assert refused.value.code == 103
        assert 9 < time.monotonic() - started < 25, "a read waits ten seconds"
        relay.cut_after_bytes = None
        eventually(lambda: client.get_load_state(NAME)["state"].name == "Loaded")
        assert answers(client) == before, "from the head, which has fetched the files"
        cluster.nodes[0].start()
        cluster.wait_for_nodes(1)
        node_id = cluster.listed()[0]["nodeId"]
        eventually(lambda: {i for one in client.list_loaded_segments(NAME) for i in one.node_ids} == {node_id})
        assert answers(client) == before
        client.close()
    finally:
        cluster.close()
        relay.close()
