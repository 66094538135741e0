"""What a server still has after a stop or a crash."""

from __future__ import annotations

import time
from typing import Any

import pytest
from conftest import Server, ServerFactory
from grpc_calls import LOAD_STATE, assert_refused, load_state, search_request
from pymilvus import MilvusClient
from sample_collections import add_index, c1_rows, clustered, ids_of, make_c1, nearest, recall, scores, wait_indexed

LOADED, NOT_LOAD = LOAD_STATE.Value("LoadStateLoaded"), LOAD_STATE.Value("LoadStateNotLoad")


def _end(server: Server, how: str) -> None:
    if how == "stopped":
        server.stop()
    else:
        server.kill()


def _wait_loaded(server: Server, name: str) -> None:
    deadline = time.monotonic() + 10
    while load_state(server.stub, name) != LOADED:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("how", [pytest.param("stopped", marks=pytest.mark.nightly), "killed"])
def test_acknowledged_writes_survive_a_restart(new_server: ServerFactory, how: str) -> None:
    """LS-25, LS-26, and inserts and deletes in the log, in segments and between them."""
    server = new_server()
    client: MilvusClient = server.client()
    make_c1(client, "loaded", dynamic=True, load=True)
    make_c1(client, "unloaded")
    make_c1(client, "partial", load=False)
    make_c1(client, "bare", index=False)
    client.load_collection("partial", load_fields=["id", "vec"])
    client.insert("loaded", c1_rows(10, color="red"))
    client.flush("loaded")
    client.delete("loaded", ids=[3])
    client.insert("loaded", c1_rows(10, first=10, color="blue"))
    client.delete("loaded", filter='color == "blue" and a >= 180')
    client.insert("unloaded", c1_rows(4))
    client.delete("unloaded", ids=[0])
    client.insert("partial", c1_rows(2))
    before = client.describe_collection("loaded")
    _end(server, how)

    server.start()
    client = server.client()
    _wait_loaded(server, "loaded")
    wanted = [i for i in range(18) if i != 3]
    assert ids_of(client, "loaded", "id >= 0") == wanted
    hits = client.search("loaded", [[0.0, 0.0, 0.0, 0.0]], limit=30, output_fields=["a", "color"])[0]
    assert [h["id"] for h in hits] == wanted
    assert [(h["entity"]["a"], h["entity"]["color"]) for h in hits] == [
        (10 * i, "red" if i < 10 else "blue") for i in wanted
    ]
    after = client.describe_collection("loaded")
    assert after == before
    assert client.describe_index("loaded", "vec")["index_type"] == "FLAT"

    assert load_state(server.stub, "unloaded") == NOT_LOAD
    assert load_state(server.stub, "bare") == NOT_LOAD
    refused = server.stub.Search(search_request("unloaded", [[0.0] * 4], 1))
    assert_refused(refused, 101, "collection not loaded")
    client.load_collection("unloaded")
    assert ids_of(client, "unloaded", "id >= 0") == [1, 2, 3]

    _wait_loaded(server, "partial")
    with pytest.raises(Exception, match="field a is not loaded"):
        client.query("partial", filter="id >= 0", output_fields=["a"])
    assert ids_of(client, "partial", "id >= 0") == [0, 1]

    client.insert("loaded", c1_rows(1, first=50, color="new"))
    assert ids_of(client, "loaded", "id > 17") == [50]
    assert set(client.list_collections()) == {"loaded", "unloaded", "partial", "bare"}
    server.stop()


def test_after_a_kill_a_dropped_collection_stays_dropped_and_automatic_ids_differ_from_older_ones(
    new_server: ServerFactory,
) -> None:
    server = new_server()
    client = server.client()
    make_c1(client, "gone", load=True)
    client.insert("gone", c1_rows(5))
    client.flush("gone")
    client.drop_collection("gone")
    client.create_collection("auto", dimension=2, auto_id=True)
    first = client.insert("auto", [{"vector": [1.0, 0.0]}] * 100)["ids"]
    server.kill()
    server.start()
    client = server.client()
    assert client.list_collections() == ["auto"]
    make_c1(client, "gone", load=True)
    assert ids_of(client, "gone", "id >= 0") == []
    second = client.insert("auto", [{"vector": [0.0, 1.0]}] * 100)["ids"]
    assert min(second) > max(first)
    assert client.query("auto", output_fields=["count(*)"])[0]["count(*)"] == 200


def test_a_graph_serves_after_a_restart_and_an_interrupted_build_is_done_again(new_server: ServerFactory) -> None:
    server = new_server()
    client = server.client()
    points = clustered(3040, 16, seed=9)
    base, queries = points[:3000], points[3000:]
    make: dict[str, Any] = {"M": 12, "efConstruction": 80}
    client.create_collection("graph", dimension=16, metric_type="L2")
    client.release_collection("graph")
    client.drop_index("graph", "vector")
    client.insert("graph", [{"id": i, "vector": v} for i, v in enumerate(base)])
    client.flush("graph")
    add_index(client, "graph", "vector", "HNSW", "L2", **make)
    server.kill()
    server.start()
    client = server.client()
    wait_indexed(client, "graph", "vector", 3000)
    server.stop()
    server.start()
    client = server.client()
    assert client.describe_index("graph", "vector")["indexed_rows"] == 3000
    client.load_collection("graph")
    answers = client.search("graph", queries.tolist(), limit=10)
    truth = nearest(scores(queries, base, "L2"), "L2", 10)
    assert recall([[h["id"] for h in hits] for hits in answers], truth) >= 0.9
