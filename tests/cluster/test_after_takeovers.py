"""What belongs to a head and goes on with the next one: query nodes, and objects that nothing needs."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from conftest import HOST, Node, free_port
from object_servers import KEYS
from pymilvus import MilvusClient, MilvusException
from stored_rows import eventually
from test_standby import held_by
from test_takeovers import HEADS, NAME, SLOW, TAKEOVER_SECONDS, Group, make

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
ROWS = 500


def fill(client: MilvusClient, name: str) -> None:
    client.insert(name, [{"id": key, "vec": [key, 1]} for key in range(ROWS)])
    client.flush(name)


class Searches:
    """Repeated until they are over, through every take-over."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.right = self.failed = 0
        self.wrong: list[object] = []
        self.longest_pause = 0.0
        self.is_over = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        client, last = None, time.monotonic()
        while not self.is_over:
            key = (self.right * 7) % ROWS
            try:
                client = client or MilvusClient(uri=self.uri, **SLOW)
                hits = client.search(NAME, [[key, 1]], limit=1, consistency_level="Strong")
            except (MilvusException, grpc.RpcError):
                self.failed += 1
                time.sleep(0.1)
                continue
            if [hit["id"] for hit in hits[0]] == [key]:
                self.right += 1
            else:
                self.wrong.append(hits)
            self.longest_pause = max(self.longest_pause, time.monotonic() - last)
            last = time.monotonic()

    def flow(self) -> None:
        before = self.right
        eventually(lambda: self.right > before + 20, TAKEOVER_SECONDS)


def test_nodes_go_to_the_next_head_under_searches(tmp_path: Path) -> None:
    ports = [free_port() for _ in range(HEADS)]
    own = {number: {"MILVINE_CLUSTER_PORT": str(port)} for number, port in enumerate(ports)}
    with closing(Group(tmp_path, own=own).start()) as group:
        head = group.serving()
        group.balancer.wait_for(head.server.port)
        make(group.balancer.uri)
        addresses = ",".join(f"{HOST}:{port}" for port in ports)
        nodes = [Node(ports[0], tmp_path / f"node-{i}", f"--head={addresses}", env=KEYS).start() for i in range(2)]
        try:
            fill(MilvusClient(uri=head.server.uri, **SLOW), NAME)
            held_by(head.server, 2)
            searches = Searches(group.balancer.uri)
            searches.flow()
            head.server.process.kill()
            head.server.process.wait()
            successor = group.serving(but=head)
            held_by(successor.server, 2)
            group.balancer.wait_for(successor.server.port)
            searches.flow()
            searches.is_over = True
            searches.thread.join(TAKEOVER_SECONDS)
        finally:
            for node in nodes:
                node.kill()
    sys.stdout.write(
        f"\n{searches.right} searches right, {len(searches.wrong)} wrong, {searches.failed} failed, "
        f"longest pause {searches.longest_pause:.1f} s\n"
    )
    assert searches.wrong == []


def test_objects_of_a_dropped_collection_go_after_a_take_over_and_no_others(tmp_path: Path) -> None:
    with closing(Group(tmp_path, {"MILVINE_STORE_REMOVAL_SECONDS": "1"}).start()) as group:
        head = group.serving()
        group.balancer.wait_for(head.server.port)
        make(group.balancer.uri)
        client = MilvusClient(uri=head.server.uri, **SLOW)
        fill(client, NAME)
        client.insert(NAME, [{"id": ROWS, "vec": [0, 0]}])
        client.create_collection("dropped", 2)
        client.insert("dropped", [{"id": key, "vector": [key, 1]} for key in range(ROWS)])
        client.flush("dropped")
        client.insert("dropped", [{"id": ROWS, "vector": [0, 0]}])
        kept, dropped = (str(client.describe_collection(name)["collection_id"]) for name in (NAME, "dropped"))

        def of(collection: str, kind: str) -> set[str]:
            return {one for one in group.objects.sizes("heads", kind) if one.split("/")[1] == collection}

        segments = of(kept, "segments")
        assert segments and of(dropped, "segments") and of(dropped, "log")
        client.drop_collection("dropped")
        head.server.process.kill()
        head.server.process.wait()
        shutil.rmtree(head.server.data_dir)
        successor = group.serving(but=head)
        after = MilvusClient(uri=successor.server.uri, **SLOW)

        def are_gone() -> bool:
            assert segments <= of(kept, "segments"), "objects that are named are gone"
            return not of(dropped, "segments") and not of(dropped, "log")

        eventually(are_gone, 3 * TAKEOVER_SECONDS)
        rows = after.query(NAME, "", output_fields=["count(*)"], consistency_level="Strong")
        assert rows[0]["count(*)"] == ROWS + 2
        assert of(kept, "log")
