"""kill -9 of a real server at crash points of the write path: acknowledged writes survive, none is half done."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from crash_load import WRITTEN, Batch, Row, check_searches, create, row_of, settle, vector_of
from damage import AS_IT_LIES, GRAPH, GRAPH_ROWS, OTHER, SMALL, filled_copy
from directory_check import damages
from pymilvus import MilvusClient, MilvusException

from milvine.crash_points import _pass_by, crash_point

NEW = "new"
BASE = {*range(100, 300), *range(1000, 1100)}
ROUNDS = 3
DEAD_SECONDS = 20.0
_IN_FILES = pytest.mark.local_log("objects have other steps")
_IN_STORE = pytest.mark.skipif(not os.environ.get("MILVINE_TEST_LOG"), reason="of logs in a store: MILVINE_TEST_LOG")
_OFTEN = [
    pytest.param("log.written", marks=_IN_FILES),
    pytest.param("log.object_made", marks=_IN_STORE),
    pytest.param("log.object_stored", marks=_IN_STORE),
    "flush.committed",
    "build.files_written",
]
_NIGHTLY = [
    pytest.param("log.synced", marks=[_IN_FILES, pytest.mark.nightly]),
    *(
        pytest.param(point, marks=pytest.mark.nightly)
        for point in (
            "flush.files_written",
            "log.rotated",
            "flush.rows_written",
            "flush.published",
            "build.committed",
            "load.committed",
            "create.log_created",
            "drop.committed",
        )
    ),
]


@pytest.fixture
def data_dir(new_server: Any, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    return filled_copy(new_server, tmp_path_factory, tmp_path)


@dataclass
class Work:
    """Calls of every kind in turn, and those that were answered."""

    batches: list[Batch] = field(default_factory=list)
    graph_rows: int = GRAPH_ROWS
    has_new: bool | None = False
    """None while a call on the new collection is not answered."""

    def until_dead(self, client: MilvusClient) -> None:
        try:
            for number in range(ROUNDS):
                self._round(client, number)
        except (MilvusException, grpc.RpcError):
            pass

    def _round(self, client: MilvusClient, number: int) -> None:
        self._write(client, 10_000 * (number + 1), delete=number > 0)
        client.flush(SMALL, retry_times=0)
        self._write(client, 10_000 * (number + 1) + 1000, delete=True)
        rows = [row_of(k, "graph") for k in range(GRAPH_ROWS * (number + 1), GRAPH_ROWS * (number + 2))]
        client.insert(GRAPH, rows, retry_times=0)
        self.graph_rows += GRAPH_ROWS
        client.flush(GRAPH, retry_times=0)
        self._wait_built(client)
        client.release_collection(SMALL, retry_times=0)
        client.load_collection(SMALL, retry_times=0)
        self.has_new = None
        create(client, NEW, "FLAT")
        self.has_new = True
        client.flush(SMALL, retry_times=0)
        self.has_new = None
        client.drop_collection(NEW, retry_times=0)
        self.has_new = False

    def _write(self, client: MilvusClient, first: int, *, delete: bool) -> None:
        batch = Batch(f"b{first}", [*range(first, first + 30)])
        self.batches.append(batch)
        client.insert(SMALL, [row_of(k, batch.name) for k in batch.keys], retry_times=0)
        batch.acknowledged = True
        if delete:
            batch.delete_keys = batch.keys[:10]
            client.delete(SMALL, ids=batch.delete_keys, retry_times=0)
            batch.delete_acknowledged = True

    def _wait_built(self, client: MilvusClient) -> None:
        deadline = time.monotonic() + DEAD_SECONDS
        while client.describe_index(GRAPH, "vec", retry_times=0)["indexed_rows"] < self.graph_rows:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def check(self, client: MilvusClient) -> None:
        for name in (SMALL, GRAPH, OTHER):
            client.load_collection(name)
        found = {row["id"]: row for row in client.query(SMALL, filter="id >= 0", output_fields=WRITTEN)}
        alive: dict[int, Row] = {key: row_of(key, "x") for key in BASE}
        wrong: list[str] = []
        for batch in self.batches:
            rows, complaints = settle(batch, found)
            alive |= rows
            wrong += complaints
        assert wrong == []
        assert found.keys() == alive.keys()
        check_searches(client, SMALL, alive, len(alive))
        assert client.query(SMALL, filter="", output_fields=["count(*)"])[0]["count(*)"] == len(alive)
        graph = client.query(GRAPH, filter="", output_fields=["count(*)"])[0]["count(*)"]
        assert graph in (self.graph_rows, self.graph_rows + GRAPH_ROWS), "an insert is half there, twice there, or lost"
        assert client.search(GRAPH, [vector_of(77)], anns_field="vec", limit=1)[0][0]["id"] == 77
        assert client.query(OTHER, filter="", output_fields=["count(*)"])[0]["count(*)"] == 200
        if self.has_new is not None:
            assert client.has_collection(NEW) == self.has_new
        client.insert(SMALL, [row_of(10**6, "goes on")])
        client.flush(SMALL)


def ended_by_itself(server: Any) -> None:
    assert server.process.wait(DEAD_SECONDS) == -signal.SIGKILL, "the server never passed the point"


@pytest.mark.parametrize("point", [*_OFTEN, *_NIGHTLY])
def test_what_was_acknowledged_survives_a_crash_at(new_server: Callable[..., Any], data_dir: Path, point: str) -> None:
    server = new_server(data_dir=data_dir, env={**AS_IT_LIES, "MILVINE_CRASH_AT": point})
    client = MilvusClient(uri=server.uri)
    work = Work()
    work.until_dead(client)
    client.close()
    ended_by_itself(server)
    assert damages(data_dir) == []
    client = MilvusClient(uri=new_server(data_dir=data_dir).uri)
    work.check(client)
    client.close()


@pytest.mark.parametrize(
    "point",
    [pytest.param("recovery.replayed", marks=pytest.mark.nightly), pytest.param("log.fenced", marks=_IN_STORE)],
)
def test_a_crash_during_recovery_is_recovered(new_server: Callable[..., Any], data_dir: Path, point: str) -> None:
    for _ in range(3):
        server = new_server(data_dir=data_dir, env={"MILVINE_CRASH_AT": point}, start=False)
        server.spawn()
        ended_by_itself(server)
    client = MilvusClient(uri=new_server(data_dir=data_dir).uri)
    Work().check(client)
    client.close()


def test_a_crash_point_does_nothing_without_the_variable() -> None:
    assert crash_point is _pass_by
