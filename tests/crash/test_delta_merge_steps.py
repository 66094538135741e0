"""Many small delta files become one: events between the steps, and what readers and openers see."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crash_load import create, row_of
from directory_check import damages
from test_compaction_steps import start
from test_recovery import insert, keys_of, load, new_collection
from test_replay import keys_at

from milvine.datanode import delta_merge
from milvine.model.collections import Collection
from milvine.model.segments import ALL_PARTITIONS
from milvine.service.context import Engine
from milvine.storage.segment_files import SegmentPaths

WAIT_SECONDS = 30.0
ROWS = 1000
FLUSHES = 20


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.01)


def delta_files(directory: Path, collection: Collection) -> set[str]:
    return {p.name for p in SegmentPaths(directory).collection(collection.collection_id).glob("*.delta")}


def delete_and_flush(engine: Engine, collection: Collection, first: int) -> dict[int, list[int]]:
    """Deletes keys one at a time with a flush after each; the living keys at each delete's timestamp."""
    history: dict[int, list[int]] = {}
    for key in range(first, first + FLUSHES):
        ts = engine.datanode.delete(collection.collection_id, np.array([key]), ALL_PARTITIONS)
        history[ts] = list(range(key + 1, ROWS))
        engine.datanode.flush(collection.collection_id)
    return history


def sealed_rows(engine: Engine) -> Collection:
    collection = new_collection(engine)
    load(engine, collection)
    insert(engine, collection, range(ROWS))
    engine.datanode.flush(collection.collection_id)
    return collection


def test_every_timestamp_reads_the_same_after_deltas_are_joined(tmp_path: Path) -> None:
    """While the collection is loaded and released repeatedly, so that deltas are removed during openings."""
    engine = start(tmp_path)
    collection = sealed_rows(engine)
    other = new_collection(engine, "only deletes")
    ending = threading.Event()

    def toggle() -> None:
        while not ending.is_set():
            engine.loader.release(collection.collection_id)
            load(engine, collection)

    thread = threading.Thread(target=toggle)
    thread.start()
    history = delete_and_flush(engine, collection, 0) | delete_and_flush(engine, collection, FLUSHES)
    for key in range(FLUSHES):
        engine.datanode.delete(other.collection_id, np.array([key]), ALL_PARTITIONS)
        engine.datanode.flush(other.collection_id)
    until(lambda: len(delta_files(tmp_path, collection)) <= delta_merge.MAX_FILES, "joined")
    until(
        lambda: len(delta_files(tmp_path, other)) <= FLUSHES - delta_merge.MAX_FILES,
        "deltas that no segment needs are removed",
    )
    ending.set()
    thread.join(WAIT_SECONDS)
    assert engine.loader.answers.failure(collection.collection_id) is None
    load(engine, collection)
    again = start(tmp_path)
    assert again.loader.answers.wait_loaded(collection.collection_id, 10)
    for each in (engine, again):
        for ts, keys in history.items():
            assert keys_at(each, collection, ts) == keys
    assert damages(tmp_path) == []
    named = {f"{d.delta_id}.delta" for d in again.catalog.snapshot.deltas[collection.collection_id]}
    assert delta_files(tmp_path, collection) == named


@pytest.mark.parametrize("step", ["save_delta", "commit_delta_merge"])
def test_a_failed_join_changes_nothing_and_is_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    engine = start(tmp_path)
    collection = sealed_rows(engine)
    failed = threading.Event()
    real = getattr(delta_merge, step)

    def broken(*arguments: Any) -> Any:
        if failed.is_set():
            return real(*arguments)
        failed.set()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(delta_merge, step, broken)
    delete_and_flush(engine, collection, 0)
    assert failed.wait(WAIT_SECONDS)
    assert keys_of(engine, collection) == list(range(FLUSHES, ROWS))
    until(lambda: len(delta_files(tmp_path, collection)) <= FLUSHES - delta_merge.MAX_FILES, "joined after all")
    again = start(tmp_path)
    assert again.loader.answers.wait_loaded(collection.collection_id, 10)
    assert keys_of(again, collection) == list(range(FLUSHES, ROWS))


@pytest.mark.nightly
@pytest.mark.parametrize("point", ["deltas.files_written", "deltas.committed"])
def test_no_delete_is_lost_by_a_crash_at(new_server: Callable[..., Any], point: str) -> None:
    environment = {"MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "600", "MILVINE_COMMON_RETENTIONDURATION": "0"}
    server = new_server(env={**environment, "MILVINE_CRASH_AT": point})
    client = server.client()
    create(client, "c", "FLAT")
    client.insert("c", [row_of(k, "x") for k in range(400)])
    client.flush("c")
    deleted = 0
    while server.process.poll() is None and deleted < 40:
        try:
            client.delete("c", ids=[deleted], retry_times=0)
            deleted += 1
            client.flush("c", retry_times=0)
        except Exception:  # noqa: BLE001 - the server is gone
            break
    assert server.process.wait(WAIT_SECONDS) == -signal.SIGKILL
    client.close()
    assert damages(server.data_dir) == []
    again = new_server(data_dir=server.data_dir, env=environment)
    client = again.client()
    until(lambda: client.get_load_state("c")["state"].name == "Loaded", "loaded again")
    found = {row["id"] for row in client.query("c", filter="id >= 0", output_fields=["id"])}
    assert found in ({*range(deleted, 400)}, {*range(deleted + 1, 400)})
    client.close()
