"""Fields that are added while a segment moves from one node to another."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from conftest import Node, Server, free_port
from pymilvus import DataType
from stored_rows import eventually

from milvine.model.resource_groups import NODE_ID

NAME = "moving"


def test_a_node_that_gets_a_segment_knows_a_field_that_was_added_meanwhile(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    port, held = free_port(), {"MILVINE_HOLD_AT": "node.serving", "MILVINE_HOLD_FIFO": str(tmp_path / "fifo")}
    source, target = Node(port, tmp_path / "source"), Node(port, tmp_path / "target", env=held)
    with Server(tmp_path / "head", env={"MILVINE_CLUSTER_PORT": str(port)}).running() as head:
        try:
            source.start()
            client = head.client()
            client.create_collection(NAME, dimension=4, consistency_level="Strong")
            client.insert(NAME, [{"id": i, "vector": [float(i), 0.0, 0.0, 1.0]} for i in range(10)])
            client.flush(NAME)
            eventually(lambda: client.list_loaded_segments(NAME)[0].node_ids[0] != NODE_ID)
            segment = client.list_loaded_segments(NAME)[0]
            target.start()
            eventually(lambda: client.describe_resource_group("__default_resource_group").num_available_node == 2)
            nodes = {one.node_id for one in client.describe_resource_group("__default_resource_group").nodes}
            old, new = segment.node_ids[0], (nodes - {*segment.node_ids}).pop()
            handler = client._get_connection()
            move = threading.Thread(target=handler.load_balance, args=(NAME, old, [new], [segment.segment_id]))
            move.start()
            time.sleep(1.0)  # the target is told to serve, and has not done so
            client.add_collection_field(NAME, "more", DataType.INT64, nullable=True, default_value=7)
            fifo = os.open(tmp_path / "fifo", os.O_RDWR)
            os.write(fifo, b"x" * 100)
            move.join(30)
            eventually(lambda: list(client.list_loaded_segments(NAME)[0].node_ids) == [new])
            assert [one["more"] for one in client.query(NAME, filter="more == 7", output_fields=["more"])] == [7] * 10
            os.close(fifo)
            client.close()
        finally:
            source.kill()
            target.kill()
