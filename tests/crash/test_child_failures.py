"""A child process that crashes fails its plan or build, which is retried while the server goes on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crash_load import create, row_of, vector_of
from directory_check import damages
from pymilvus import MilvusClient
from test_compaction_steps import around_task, compact, start, two_segments

from milvine.datanode.compactor import PlanState
from milvine.model.segments import ALL_PARTITIONS

NAME, GRAPH, GRAPH_ROWS = "merged", "graph", 1200
LAZY = {"MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "600", "MILVINE_COMMON_RETENTIONDURATION": "0"}
WAIT_SECONDS = 60.0


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.005)
    return found


def child_of(pid: int) -> int | None:
    """The running child process of a server, if any."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                continue
            if b"milvine.datanode.child_process" in command:
                return int(child)
    return None


def two_flushes(client: MilvusClient) -> set[int]:
    """Two segments with a few deletes; returns the living keys."""
    create(client, NAME, "FLAT")
    for keys in (range(200), range(200, 400)):
        client.insert(NAME, [row_of(k, "x") for k in keys])
        client.delete(NAME, ids=[*keys][:20])
        client.flush(NAME)
    return {*range(20, 200), *range(220, 400)}


def keys_of(client: MilvusClient) -> set[int]:
    rows = client.query(NAME, filter="id >= 0", output_fields=["id"])
    assert client.query(NAME, filter="", output_fields=["count(*)"])[0]["count(*)"] == len(rows)
    return {row["id"] for row in rows}


def segment_directories(data_dir: Path) -> int:
    return len([p for p in (data_dir / "segments").glob("*/*") if p.is_dir()])


def test_the_work_of_a_killed_child_fails_and_is_retried(new_server: Callable[..., Any]) -> None:
    server = new_server(env={**LAZY, "MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "1"})
    client = server.client()
    alive = two_flushes(client)
    os.kill(until(lambda: child_of(server.pid), "a merge"), signal.SIGKILL)
    until(lambda: "ended with -9" in server.log, "the plan fails")
    assert keys_of(client) == alive
    until(lambda: len(client.list_persistent_segments(NAME)) == 1, "the merge is done after all")
    assert keys_of(client) == alive
    until(lambda: segment_directories(server.data_dir) == 1, "nothing else is left")
    create(client, GRAPH, "HNSW")
    client.insert(GRAPH, [row_of(k, "graph") for k in range(GRAPH_ROWS)])
    client.flush(GRAPH)
    os.kill(until(lambda: child_of(server.pid), "a build"), signal.SIGKILL)
    until(lambda: server.log.count("ended with -9") == 2, "the build fails")
    assert client.describe_index(GRAPH, "vec")["state"] != "Failed", "a first failure may be an accident"
    assert client.search(GRAPH, [vector_of(77)], anns_field="vec", limit=1)[0][0]["id"] == 77
    until(lambda: client.describe_index(GRAPH, "vec")["indexed_rows"] == GRAPH_ROWS, "the index is there after all")
    client.close()


@pytest.mark.parametrize(
    "point",
    [
        "merge.committed",
        *(pytest.param(p, marks=pytest.mark.nightly) for p in ("merge.files_written", "merge.published")),
    ],
)
def test_no_row_is_lost_or_doubled_by_a_crash_at(new_server: Callable[..., Any], point: str) -> None:
    server = new_server(env={**LAZY, "MILVINE_CRASH_AT": point})
    client = server.client()
    alive = two_flushes(client)
    client.compact(NAME, retry_times=0)
    assert server.process.wait(WAIT_SECONDS) == -signal.SIGKILL
    client.close()
    assert damages(server.data_dir) == []
    again = new_server(data_dir=server.data_dir, env=LAZY)
    client = again.client()
    assert segment_directories(again.data_dir) == len(client.list_persistent_segments(NAME)), "garbage goes at start"
    until(lambda: client.get_load_state(NAME)["state"].name == "Loaded", "loaded again")
    assert keys_of(client) == alive
    client.close()


@pytest.mark.nightly
@pytest.mark.parametrize(
    "point", ["merge.columns_written", "merge.child_done", "build.index_written", "build.child_done"]
)
def test_a_child_that_always_crashes_leaves_nothing_and_harms_no_other_collection(
    new_server: Callable[..., Any], point: str
) -> None:
    server = new_server(env={**LAZY, "MILVINE_CRASH_AT": point})
    client = server.client()
    alive = two_flushes(client)
    create(client, GRAPH, "HNSW")
    client.insert(GRAPH, [row_of(k, "graph") for k in range(GRAPH_ROWS)])
    client.flush(GRAPH)
    if point.startswith("merge"):
        client.compact(NAME)
        until(lambda: "ended with -9" in server.log, "the plan fails")
        until(lambda: segment_directories(server.data_dir) == 3, "no file of the result is left")
    else:
        until(lambda: client.describe_index(GRAPH, "vec")["state"] == "Failed", "the build fails again and again")
        assert "ended with -9" in server.log
    assert keys_of(client) == alive
    assert client.search(GRAPH, [vector_of(77)], anns_field="vec", limit=1)[0][0]["id"] == 77
    client.close()
    server.kill()
    again = new_server(data_dir=server.data_dir, env=LAZY)
    client = again.client()
    until(lambda: client.describe_index(GRAPH, "vec")["indexed_rows"] == GRAPH_ROWS, "the index")
    client.compact(NAME)
    until(lambda: segment_directories(again.data_dir) == 2, "merged")
    until(lambda: client.get_load_state(NAME)["state"].name == "Loaded", "loaded again")
    assert keys_of(client) == alive
    client.close()


def test_a_request_while_a_plan_ends_plans_no_removed_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = start(tmp_path)
    collection = two_segments(engine)
    compactor = engine.datanode.compactor
    merging, requested = threading.Event(), threading.Event()

    def hold() -> None:
        merging.set()
        assert requested.wait(WAIT_SECONDS)

    around_task(monkeypatch, hold)
    first, _ = compactor.request(collection.collection_id)
    assert merging.wait(WAIT_SECONDS)
    real = compactor._removable_rows

    def slowly(*arguments: Any) -> int:
        """The plan ends after the request has read the view."""
        requested.set()
        until(lambda: compactor.plans_of_request(first)[0].state is PlanState.COMPLETED, "the first plan")
        return real(*arguments)

    monkeypatch.setattr(compactor, "_removable_rows", slowly)
    assert compactor.request(collection.collection_id) == (-1, 0), "the result of the plan is not compacted again"
    monkeypatch.setattr(compactor, "_removable_rows", real)
    engine.datanode.delete(collection.collection_id, np.arange(5), ALL_PARTITIONS)
    engine.datanode.flush(collection.collection_id)
    time.sleep(0.01)
    assert [p.state for p in compact(engine, collection)] == [PlanState.COMPLETED]
