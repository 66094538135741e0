"""Runs restores of snapshots, removes the files of dropped ones, and forgets expired pins. One thread.

Level-triggered: the catalog's open jobs are the work. A crash leaves a job open and its files unnamed, so the next
start removes them, and the job begins anew.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

from milvine.background import Supervisor, Work
from milvine.catalog.file_resources import check_file_resources
from milvine.catalog.restores import change_job, commit_restore
from milvine.catalog.snapshots import forget_expired, now_ms
from milvine.catalog.store import Catalog
from milvine.child import NotWanted
from milvine.crash_points import crash_point
from milvine.datanode import restore
from milvine.datanode.catalog_files import remove_snapshot
from milvine.datanode.exported_snapshots import open_exported
from milvine.errors import InputError, IoFailed, MilvineError, SnapshotNotFound, write_failure
from milvine.model.collections import Collection
from milvine.model.snapshots import KEPT_JOB_MS, CollectionSnapshot, RestoreJob, RestoreState
from milvine.model.timestamps import HybridClock
from milvine.segment.view import ReadView
from milvine.storage.snapshot_places import SnapshotPlaces
from milvine.storage.store import SegmentStore

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0
_LONGEST_SECONDS = 60.0
_RETRIED_MS = 3600 * 1000
"""A restore is retried this long while the object store cannot be reached."""


class SnapshotKeeper:
    def __init__(
        self,
        catalog: Catalog,
        store: SegmentStore,
        clock: HybridClock,
        supervisor: Supervisor,
        open_collection: Callable[[Collection, ReadView], Collection],
        drop_collection: Callable[[int], None],
        places: SnapshotPlaces,
    ) -> None:
        """`open_collection` makes the writer of a collection that is about to be committed, `drop_collection` removes
        it and all its files."""
        self._catalog = catalog
        self._store = store
        self._clock = clock
        self._open = open_collection
        self._drop = drop_collection
        self._places = places
        self._restores: Work[int] = supervisor.work("restore")
        """By job."""
        self._worker = supervisor.worker("restore", self._step)
        self._steps: dict[int, tuple[int, int]] = {}
        self._ended = threading.Condition()

    def start(self) -> None:
        self._worker.start()

    def look(self) -> None:
        """Called when there may be work."""
        self._worker.wake()

    def dropped(self, kept: CollectionSnapshot) -> None:
        """Removes the files of a snapshot that has left the catalog."""
        remove_snapshot(self._store.paths, self._catalog.snapshot, kept)

    def percent(self, job: RestoreJob) -> int:
        if job.state is RestoreState.COMPLETED:
            return 100
        done, total = self._steps.get(job.job_id, (0, 1))
        return min(99, 100 * done // max(1, total))

    def wait(self, job_id: int, deadline: float) -> None:
        """Returns when a job has ended, or at `deadline` (time.monotonic)."""
        with self._ended:
            while (left := deadline - time.monotonic()) > 0:
                job = self._catalog.snapshot.restore_jobs.get(job_id)
                if job is None or not job.is_open:
                    return
                self._ended.wait(left)

    def _step(self) -> float | None:
        snapshot = self._catalog.snapshot
        waiting = self._restores.waiting()
        self._restores.retain(snapshot.restore_jobs.keys())
        for job in snapshot.restore_jobs.values():
            if job.is_open and job.job_id not in waiting and not self._worker.is_stopping:
                self._run(job)
        for kept in forget_expired(self._catalog):
            self.dropped(kept)
        return self._pause()

    def _pause(self) -> float | None:
        """Seconds until there may be work again; None if only calls make some."""
        snapshot = self._catalog.snapshot
        jobs = snapshot.restore_jobs.values()
        if any(job.is_open for job in jobs):
            return _LOOK_SECONDS
        ends = [ms for one in snapshot.snapshots.values() for ms in one.pins.values() if ms]
        ends += [job.ended_ms + KEPT_JOB_MS for job in jobs]
        if not ends:
            return None
        return min(_LONGEST_SECONDS, max(_LOOK_SECONDS / 10, (min(ends) + 1 - now_ms()) / 1000))

    def _run(self, job: RestoreJob) -> None:
        started = time.monotonic()
        what = f"restore of snapshot {job.snapshot_name} into collection {job.collection_name}"
        try:
            self._restore(job)
        except NotWanted:
            return
        except Exception as error:  # noqa: BLE001 - it is recorded with the job, and the other jobs go on
            is_outage = isinstance(error, IoFailed) and now_ms() - job.started_ms < _RETRIED_MS
            if is_outage or not isinstance(error, MilvineError):
                self._restores.failed([job.job_id], what, error, time.monotonic() - started)
            if not is_outage:
                _log.error("%s: %s", what, error)
                change_job(self._catalog, job.job_id, RestoreState.FAILED, str(error))
                self._restores.succeeded([job.job_id])
        else:
            self._restores.succeeded([job.job_id])
        with self._ended:
            self._steps.pop(job.job_id, None)
            self._ended.notify_all()

    def _restore(self, job: RestoreJob) -> None:
        source = self._source(job)
        kept = source.kept
        check_file_resources(self._catalog.snapshot, kept.collection.schema)
        self._drop(job.collection_id)  # what an attempt before left
        change_job(self._catalog, job.job_id, RestoreState.EXECUTING)
        restored = restore.plan(kept, job, self._store, self._clock)
        total = len(restored.clones) + len(kept.deltas)

        def on_step() -> None:
            done, _ = self._steps.get(job.job_id, (0, total))
            self._steps[job.job_id] = done + 1, total
            if self._worker.is_stopping:
                raise NotWanted

        with contextlib.ExitStack() as handing_over:
            try:
                restore.write_files(source, restored, self._store, self._clock, on_step)
                crash_point("restore.deltas_written")
                handing_over.enter_context(source.bringing(restored, on_step))
                handing_over.enter_context(self._store.storing(restored.made))
                crash_point("restore.files_written")
                view = _view(restored)
                self._clock.observe(view.ts)  # which another server may have given
                collection = self._open(restored.collection, view)
                crash_point("restore.log_created")
            except BaseException as error:
                self._drop(job.collection_id)
                if isinstance(error, OSError):
                    raise write_failure(error.filename or "a file", error) from error
                raise
            try:
                commit_restore(self._catalog, job, collection, restored.segments, restored.deltas)
            except InputError:  # not if the catalog failed, since it may have committed
                self._drop(job.collection_id)
                raise
            crash_point("restore.committed")

    def _source(self, job: RestoreJob) -> restore.Source:
        """Raises SnapshotNotFound, DataIntegrityError, IoFailed."""
        if job.is_external:
            exported = open_exported(*self._places.find(job.snapshot_name))
            return restore.Outside(exported, self._store)
        kept = self._catalog.snapshot.snapshots.get(job.snapshot_id)
        if kept is None:
            raise SnapshotNotFound(job.snapshot_name)
        return restore.Inside(kept, self._store)


def _view(restored: restore.Restored) -> ReadView:
    collection, segments, deltas = restored.collection, restored.segments, restored.deltas
    last_ts = max([collection.folded_ts, *(m.max_ts for m in segments), *(d.max_ts for d in deltas)])
    return ReadView(collection.collection_id, collection.schema, last_ts, (), segments, deltas, ())
