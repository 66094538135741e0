"""Query nodes that read an object store: what happens when the store and the only holder of a segment are away."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from node_processes import ClusterOfNodes
from object_servers import ObjectServer
from pymilvus import MilvusException
from relay import Relay
from stored_rows import NAME, answers, eventually, fill


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
