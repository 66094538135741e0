"""Objects that no collection needs wait, go, and leave nothing behind, whatever compactions and drops do meanwhile."""

from __future__ import annotations

import os
import shutil
import threading
import time

import pytest
from conftest import Server, ServerFactory
from object_servers import ObjectServer
from pymilvus import MilvusClient
from stored_rows import NAME, ROWS, answers, check, eventually, fill, local_files, rows

WORK_SECONDS = float(os.environ.get("MILVINE_SWEEP_SECONDS", "10"))
REMOVAL_SECONDS = float(os.environ.get("MILVINE_SWEEP_REMOVAL_SECONDS", "3"))
_PAUSE_SECONDS = float(os.environ.get("MILVINE_SWEEP_PAUSE_SECONDS", str(min(1.0, WORK_SECONDS / 100))))
"""Between two rounds, so that an hour of them need not take an hour of a core."""
_LOOK_SECONDS = 0.25
_BATCH = 400


class Watch:
    """Looks at objects and local files all the time. A local file goes when the catalog lets go of it."""

    def __init__(self, server: Server, objects: ObjectServer, prefix: str) -> None:
        self._server, self._objects, self._prefix = server, objects, prefix
        self._unneeded_since: dict[str, float] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.removed = 0
        self.early: list[tuple[str, float]] = []
        self.most_unneeded = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(_LOOK_SECONDS):
            stored, now = self._objects.sizes(self._prefix).keys(), time.monotonic()
            unneeded = stored - local_files(self._server).keys()
            for name in self._unneeded_since.keys() - stored:
                waited = now - self._unneeded_since.pop(name)
                self.removed += 1
                if waited < REMOVAL_SECONDS - 2 * _LOOK_SECONDS:
                    self.early.append((name, waited))
            self._unneeded_since = {name: self._unneeded_since.get(name, now) for name in unneeded}
            self.most_unneeded = max(self.most_unneeded, len(unneeded))


def work(client: MilvusClient, seconds: float) -> int:
    """Writes, deletes, flushes, compacts, drops; returns the number of rows that are left in the collection."""
    deadline, number, alive = time.monotonic() + seconds, 0, ROWS - 10
    while time.monotonic() < deadline:
        number += 1
        first = ROWS + number * _BATCH
        client.insert(NAME, rows(first, first + _BATCH))
        client.flush(NAME)
        client.delete(NAME, ids=[*range(first, first + _BATCH - 1)])
        alive += 1
        client.flush(NAME)
        found = client.query(NAME, filter="", output_fields=["count(*)"])[0]["count(*)"]
        assert found == alive, f"{found} rows in round {number}, not {alive}"
        if number % 3 == 0:
            job = client.compact(NAME)
            eventually(lambda job=job: client.get_compaction_state(job) == "Completed", 300)  # type: ignore[misc]
        if number % 5 == 0:
            fill(client, "short_lived")
            client.drop_collection("short_lived")
        time.sleep(_PAUSE_SECONDS)
    return alive


@pytest.mark.cluster
def test_compactions_and_drops_leave_no_object_behind(objects: ObjectServer, new_server: ServerFactory) -> None:
    prefix = "swept"
    waits = {"MILVINE_STORE_REMOVAL_SECONDS": str(REMOVAL_SECONDS), "MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "1"}
    env = {**objects.environment(prefix), **waits}
    server = new_server(env=env)
    client = server.client()
    fill(client)
    with Watch(server, objects, prefix) as watch:
        alive = work(client, WORK_SECONDS)
        eventually(lambda: objects.sizes(prefix) == local_files(server), 2 * REMOVAL_SECONDS + 300)
    figures = (
        f"{watch.removed} objects removed, at most {watch.most_unneeded} waited, {len(objects.sizes(prefix))} left"
    )
    print(figures)  # noqa: T201
    assert watch.removed > 20, figures
    assert watch.early == [], "they wait"
    before = answers(client)
    assert before[1][0]["count(*)"] == alive
    client.close()
    server.stop()
    shutil.rmtree(server.data_dir / "segments")
    whole = check(server, env)
    assert whole.returncode == 0 and "note:" not in whole.stdout, whole.stdout + whole.stderr
    server.start()
    client = server.client()
    assert answers(client) == before, "from an empty cache"
    client.close()
