"""kill -9 at each step of a snapshot's life: what was answered holds, and a restore is whole or does not exist."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from crash_load import row_of
from damage import AS_IT_LIES, SMALL, filled_copy
from directory_check import damages, findings
from pymilvus import MilvusClient, MilvusException
from test_crash_points import ended_by_itself

AGAIN = "again"
_OFTEN = ["restore.files_written", "restore.committed"]
_NIGHTLY = [
    "snapshot.created",
    "restore.started",
    "restore.deltas_written",
    "restore.log_created",
    "snapshot.dropped",
    "export.begun",
    "backup.frozen",
    "backup.begun",
]
_SECONDS = 30.0


def count(client: MilvusClient, name: str) -> int:
    client.load_collection(name)
    return int(client.query(name, filter="", output_fields=["count(*)"])[0]["count(*)"])


class Life:
    """The calls, and what was answered."""

    def __init__(self) -> None:
        self.rows = 0
        self.is_made: bool | None = False
        self.job_id = 0
        self.is_dropped: bool | None = False

    def until_dead(self, client: MilvusClient, uri: str) -> None:
        try:
            client.delete(SMALL, ids=[100, 101], retry_times=0)
            client.flush(SMALL, retry_times=0)
            self.rows = count(client, SMALL)
            self.is_made = None
            client.create_snapshot("s", SMALL, retry_times=0)
            self.is_made = True
            client.delete(SMALL, ids=[102], retry_times=0)
            self.job_id = client.restore_snapshot("s", SMALL, AGAIN, retry_times=0)
            while client.get_restore_snapshot_state(self.job_id).progress < 100:
                time.sleep(0.01)
            self.is_dropped = None
            client.drop_snapshot("s", SMALL, retry_times=0)
            self.is_dropped = True
            client.insert(SMALL, [row_of(7000, "late")], retry_times=0)
            requests.post(f"{uri}/milvine/v1/export/begin", json={"collectionName": SMALL}, timeout=_SECONDS)
            requests.post(f"{uri}/milvine/v1/backup/begin", json={}, timeout=_SECONDS)
        except (MilvusException, grpc.RpcError, requests.ConnectionError):
            pass

    def check(self, client: MilvusClient) -> None:
        has_snapshot = "s" in client.list_snapshots(SMALL)
        if self.is_dropped is False and self.is_made is not None:
            assert has_snapshot == self.is_made
        jobs = client.list_restore_snapshot_jobs()
        assert not self.job_id or self.job_id in [job.job_id for job in jobs]
        for job in jobs:
            deadline = time.monotonic() + _SECONDS
            while (found := client.get_restore_snapshot_state(job.job_id)).progress < 100:
                assert found.state != "RestoreSnapshotFailed" and time.monotonic() < deadline, found
                time.sleep(0.02)
        assert client.has_collection(AGAIN) == bool(jobs)
        if jobs:
            assert count(client, AGAIN) == self.rows
        if has_snapshot:
            client.drop_snapshot("s", SMALL)
        client.create_snapshot("next", SMALL)
        client.restore_snapshot("next", SMALL, "further")


@pytest.mark.parametrize("point", [*_OFTEN, *(pytest.param(p, marks=pytest.mark.nightly) for p in _NIGHTLY)])
def test_a_snapshot_and_its_restore_survive_a_crash_at(
    new_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, point: str
) -> None:
    data_dir = filled_copy(new_server, tmp_path_factory, tmp_path)
    server = new_server(data_dir=data_dir, env={**AS_IT_LIES, "MILVINE_CRASH_AT": point})
    client = MilvusClient(uri=server.uri)
    life = Life()
    life.until_dead(client, server.uri)
    client.close()
    ended_by_itself(server)
    assert damages(data_dir) == []
    server = new_server(data_dir=data_dir)
    client = MilvusClient(uri=server.uri)
    life.check(client)
    client.drop_collection(AGAIN)
    client.close()
    server.stop()
    left = findings(data_dir)
    assert left == [], "nothing is damaged, and nothing is left over"
