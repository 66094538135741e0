"""Exports snapshots to places outside, one after the other, in a thread.

Jobs live in memory: a restart ends them, and what an export left at its place has no metadata, so it is no snapshot.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace

from milvine.background import Supervisor
from milvine.catalog.snapshots import let_go, now_ms
from milvine.catalog.store import Catalog
from milvine.child import NotWanted
from milvine.datanode.catalog_files import files_of, remove_snapshot
from milvine.datanode.exported_snapshots import export
from milvine.errors import MilvineError, write_failure
from milvine.model.records import record
from milvine.model.snapshots import KEPT_JOB_MS, CollectionSnapshot, RestoreState
from milvine.storage.backup_places import BackupPlace
from milvine.storage.store import SegmentStore

_log = logging.getLogger(__name__)


@record
class ExportJob:
    """`held`: the record whose files the catalog keeps for the job. `uri`: of the metadata. Times in ms (Unix time)."""

    job_id: int
    held: CollectionSnapshot
    snapshot_name: str
    place: BackupPlace
    directory: str
    uri: str
    started_ms: int
    state: RestoreState = RestoreState.PENDING
    reason: str = ""
    ended_ms: int = 0
    total_files: int = 0
    total_bytes: int = 0
    copied_files: int = 0
    copied_bytes: int = 0

    @property
    def percent(self) -> int:
        if self.state is RestoreState.COMPLETED:
            return 100
        return min(99, 100 * self.copied_bytes // max(1, self.total_bytes))


class SnapshotExporter:
    def __init__(self, catalog: Catalog, store: SegmentStore, supervisor: Supervisor) -> None:
        self._catalog = catalog
        self._store = store
        self._jobs: dict[int, ExportJob] = {}
        self._changed = threading.Condition()
        """Guards the table."""
        self._worker = supervisor.worker("snapshot-export", self._step)

    def start(self) -> None:
        self._worker.start()

    def add(self, job: ExportJob) -> None:
        files = files_of(self._store.paths, job.held.segments, job.held.deltas)
        with self._changed:
            old = [i for i, one in self._jobs.items() if one.ended_ms and one.ended_ms < now_ms() - KEPT_JOB_MS]
            for job_id in old:
                del self._jobs[job_id]
            self._jobs[job.job_id] = replace(job, total_files=len(files), total_bytes=sum(files.values()))
        self._worker.wake()

    def find(self, job_id: int) -> ExportJob | None:
        with self._changed:
            return self._jobs.get(job_id)

    def wait(self, job_id: int, deadline: float) -> None:
        """Returns when a job has ended, or at `deadline` (time.monotonic)."""
        with self._changed:
            while (left := deadline - time.monotonic()) > 0 and not self._jobs[job_id].ended_ms:
                self._changed.wait(left)

    def _change(self, job_id: int, **changes: object) -> ExportJob:
        with self._changed:
            job = self._jobs[job_id] = replace(self._jobs[job_id], **changes)  # type: ignore[arg-type]
            self._changed.notify_all()
            return job

    def _step(self) -> float | None:
        with self._changed:
            job_id = next((i for i, one in self._jobs.items() if not one.ended_ms), None)
        if job_id is None:
            return None
        self._run(self._change(job_id, state=RestoreState.EXECUTING))
        return 0.0

    def _run(self, job: ExportJob) -> None:
        def on_file(size: int) -> None:
            found = self.find(job.job_id)
            assert found is not None
            self._change(job.job_id, copied_files=found.copied_files + 1, copied_bytes=found.copied_bytes + size)
            if self._worker.is_stopping:
                raise NotWanted

        state, reason = RestoreState.COMPLETED, ""
        named = replace(job.held, name=job.snapshot_name)
        try:
            export(named, self._store, job.place, job.directory, on_file)
        except Exception as error:  # noqa: BLE001 - it is recorded with the job, and the other jobs go on
            shown = write_failure(error.filename or "a file", error) if isinstance(error, OSError) else error
            state, reason = RestoreState.FAILED, str(shown) if isinstance(shown, MilvineError) else repr(shown)
            _log.error("export of snapshot %s to %s: %s", job.snapshot_name, job.uri, reason)
        for kept in let_go(self._catalog, job.held.name):
            remove_snapshot(self._store.paths, self._catalog.snapshot, kept)
        self._change(job.job_id, state=state, reason=reason, ended_ms=max(now_ms(), job.started_ms + 1))
