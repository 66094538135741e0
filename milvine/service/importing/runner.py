"""Runs import jobs, one at a time, in the background.

Level-triggered: each step looks for the oldest job that has not run, of the collection whose last turn was first, so
that many jobs of one collection do not delay those of others. A job whose files could not be reached is tried again a
few times. A restart begins the jobs again that had not written their rows.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from milvine.background import Supervisor
from milvine.catalog.import_jobs import change_job, known_job
from milvine.catalog.store import Catalog
from milvine.child import NotWanted
from milvine.config import Settings
from milvine.crash_points import crash_point
from milvine.datanode.node import DataNode
from milvine.errors import ImportFailed, MilvineError, ServiceInternal
from milvine.model.import_jobs import ABORTED, COMMIT_WITHIN, FileStats, ImportJob, JobState
from milvine.model.segments import SegmentMeta
from milvine.model.timestamps import HybridClock
from milvine.service.importing.builds import ImportBuilds
from milvine.service.importing.options import commit_seconds, commits_itself, timeout_seconds
from milvine.service.importing.orders import TASK, ReadAnswer, ReadOrder, progress_of
from milvine.storage.directories import sync_directory
from milvine.storage.files import remove_tree
from milvine.storage.import_files import ImportPlaces

_log = logging.getLogger(__name__)
_ATTEMPTS = 3
_LOOK_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 2.0
_SEGMENT_IDS = 1 << 16
_KEYS_OF_IMPORTS = 1 << 62
"""Keys that imports make are above those of inserts, which may take the same numbers at the same time. A child makes
fewer keys than the clock has numbers in the time that it takes, so those of two imports differ."""


@dataclass(slots=True)
class Running:
    """How far the running job is. `file`: the place of the file that is being read; `thousandths`: of it."""

    job_id: int
    file: int = 0
    thousandths: int = 0
    row_count: int = 0
    builds: ImportBuilds | None = None
    """Once all rows are read."""


class ImportRunner:
    """One thread that takes jobs, and one child process that reads files."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        datanode: DataNode,
        clock: HybridClock,
        places: ImportPlaces,
        allowed_hosts: str,
        supervisor: Supervisor,
    ) -> None:
        self.places = places
        self._settings = settings
        self._catalog = catalog
        self._datanode = datanode
        self._paths = datanode.workers.store.paths
        self._clock = clock
        self._allowed_hosts = allowed_hosts
        self._running: Running | None = None
        self._turns: dict[int, int] = {}
        """By collections that have jobs: the number of their last turn, or of the last one before their first job."""
        self._turn = 0
        self._uncommitted_since: dict[int, float] = {}
        """time.monotonic() by job. It begins anew with the server."""
        # A commit reads the files that an abort removes.
        self._ending = threading.RLock()
        self._worker = supervisor.worker("import", self._step)

    def start(self) -> None:
        self._worker.start()

    def look(self) -> None:
        """Called when there is a job."""
        self._worker.wake()

    def running(self, job_id: int) -> Running | None:
        """None if the job is not the one that runs."""
        found = self._running
        return found if found is not None and found.job_id == job_id else None

    def building(self) -> tuple[int, ImportBuilds] | None:
        """The job whose indexes are being built, and how far they are."""
        found = self._running
        return None if found is None or found.builds is None else (found.job_id, found.builds)

    def commit(self, job_id: int) -> None:
        """Makes the rows of an uncommitted job visible, unless they are. Raises ImportFailed, after which the job has
        failed, if its collection or a partition is gone."""
        with self._ending:
            job = known_job(self._catalog.snapshot, job_id)
            if job.state is JobState.COMPLETED:
                return
            if job.state is not JobState.UNCOMMITTED:
                raise ImportFailed(f"job {job_id} is in state {self._shown(job)}, expected {JobState.UNCOMMITTED}")
            try:
                self._datanode.commit_import(job, job.segments)
            except ImportFailed as error:
                self._fail(job_id, error.message)
                raise

    def _shown(self, job: ImportJob) -> JobState:
        is_running = job.state is JobState.PENDING and self.running(job.job_id) is not None
        return JobState.IMPORTING if is_running else job.state

    def abort(self, job_id: int) -> None:
        """Ends a job that is not committed; one that has failed keeps its reason. Raises ImportFailed."""

        def aborted(job: ImportJob) -> ImportJob:
            if job.state is JobState.COMPLETED:
                raise ImportFailed(f"job {job_id} is in terminal/committed state {job.state}, abort not allowed")
            return job if job.state is JobState.FAILED else _failed(job, ABORTED)

        self._end(job_id, aborted)

    def _step(self) -> float | None:
        pause = self._end_forgotten()
        waiting = self._next()
        if waiting is None:
            return pause
        self._running = Running(waiting.job_id)
        try:
            self._run(waiting)
        except NotWanted:
            pass
        except MilvineError as error:
            self._fail(waiting.job_id, error.message)
        finally:
            self._running = None
        return 0.0

    def _next(self) -> ImportJob | None:
        oldest: dict[int, ImportJob] = {}
        for job in self._catalog.snapshot.import_jobs.values():
            if job.state is JobState.PENDING:
                oldest.setdefault(job.collection_id, job)
        turns = self._turns = {i: self._turns.get(i, self._turn) for i in oldest}
        found = min(oldest.values(), key=lambda job: turns[job.collection_id], default=None)
        if found is not None:
            self._turn += 1
            turns[found.collection_id] = self._turn
        return found

    def _end_forgotten(self) -> float:
        """Ends uncommitted jobs whose collection is gone, or whose commit does not come in time. Returns the seconds
        until there may be one."""
        snapshot = self._catalog.snapshot
        uncommitted = [job for job in snapshot.import_jobs.values() if job.state is JobState.UNCOMMITTED]
        now, pause = time.monotonic(), _LOOK_SECONDS
        since = self._uncommitted_since
        self._uncommitted_since = {job.job_id: since.get(job.job_id, now) for job in uncommitted}
        for job in uncommitted:
            seconds = commit_seconds(job.options)
            if job.collection_id not in snapshot.collections:
                self._fail(job.job_id, f"collection {job.collection_id} dropped")
            elif seconds is not None:
                left = self._uncommitted_since[job.job_id] + seconds - now
                if left <= 0:
                    self._fail(job.job_id, f"no commit within {job.options[COMMIT_WITHIN]}")
                pause = min(pause, max(left, 0.1))
        return pause

    def _run(self, job: ImportJob) -> None:
        """Raises NotWanted if the job has ended, or the server stops."""
        seconds = timeout_seconds(job.options)
        ends_at = None if seconds is None else job.created_ms + 1000 * seconds
        for attempt in range(_ATTEMPTS):
            if attempt and self._worker.pause(_FIRST_PAUSE_SECONDS * attempt):
                raise NotWanted
            try:
                answer = self._read(job, ends_at)
            except ServiceInternal as error:  # the child died
                answer = ReadAnswer(failure=error.message, is_input_error=False)
            if not answer.failure or answer.is_input_error:
                break
        if answer.failure:
            self._fail(job.job_id, answer.failure)
            return
        try:
            segments = self._indexed(job, answer.segments, ends_at)
            if segments:
                sync_directory(self._paths.collection(job.collection_id))
            crash_point("import.files_written")
            if commits_itself(job.options):
                self._datanode.commit_import(_with_stats(job, answer.stats), segments)
                _log.info("import job %s: %d rows", job.job_id, sum(one.row_count for one in answer.stats))
            else:
                self._keep(job, replace(answer, segments=segments))
        except BaseException:
            self._remove_unless_named(job, answer.segments)
            raise

    def _keep(self, job: ImportJob, answer: ReadAnswer) -> None:
        """Stores the segments with the job, until it is committed or aborted."""

        def kept(stored: ImportJob) -> ImportJob:
            if stored.state is not JobState.PENDING:
                raise NotWanted
            return replace(_with_stats(stored, answer.stats), state=JobState.UNCOMMITTED, segments=answer.segments)

        made = [self._paths.segment(meta.collection_id, meta.segment_id) for meta in answer.segments]
        with self._datanode.workers.store.storing(made):
            change_job(self._catalog, job.job_id, kept)
        crash_point("import.uncommitted")

    def _is_wanted(self, job: ImportJob, ends_at: float | None) -> Callable[[], bool]:
        def is_wanted() -> bool:
            if ends_at is not None and 1000 * time.time() > ends_at:
                raise ImportFailed(f"import timeout expired, jobID={job.job_id}")
            stored = self._catalog.snapshot.import_jobs.get(job.job_id)
            if job.collection_id not in self._catalog.snapshot.collections:
                raise ImportFailed(f"collection {job.collection_id} dropped")
            return stored is not None and stored.state is JobState.PENDING and not self._worker.is_stopping

        return is_wanted

    def _read(self, job: ImportJob, ends_at: float | None) -> ReadAnswer:
        collection = self._catalog.snapshot.collections.get(job.collection_id)
        if collection is None:
            raise ImportFailed(f"collection {job.collection_id} dropped")
        running = self._running
        assert running is not None
        check = self._is_wanted(job, ends_at)
        first_segment_id = self._clock.reserve(_SEGMENT_IDS)
        with _pipe() as (reading, writing):
            order = ReadOrder(
                self._paths,
                self._settings,
                self.places,
                self._allowed_hosts,
                collection,
                job.partition_id,
                tuple(p.partition_id for p in collection.partitions),
                job.files,
                job.options,
                dict(self._catalog.snapshot.file_resources),
                first_segment_id,
                _KEYS_OF_IMPORTS + first_segment_id,
                first_segment_id,
                writing,
            )

            def is_wanted() -> bool:
                told = progress_of(reading)
                if told is not None:
                    running.file, running.thousandths, running.row_count = told
                return check()

            try:
                answer: ReadAnswer = self._datanode.workers.run(TASK, order, is_wanted, (writing,))
            except BaseException:
                self._remove_numbered(job.collection_id, first_segment_id)
                raise
        if answer.stats:
            running.row_count = sum(one.row_count for one in answer.stats)
            running.file, running.thousandths = len(job.files), 0
        return answer

    def _indexed(
        self, job: ImportJob, segments: tuple[SegmentMeta, ...], ends_at: float | None
    ) -> tuple[SegmentMeta, ...]:
        """The segments with the indexes of their collection, so that searches need not scan them."""
        collection = self._catalog.snapshot.collections.get(job.collection_id)
        running = self._running
        if collection is None or running is None or not collection.indexes:
            return segments
        running.builds = ImportBuilds(self._datanode.workers, collection, segments)

        def pause(failures: int) -> None:
            if self._worker.pause(_FIRST_PAUSE_SECONDS * failures):
                raise NotWanted

        return running.builds.run(self._is_wanted(job, ends_at), pause)

    def _fail(self, job_id: int, reason: str) -> None:
        _log.warning("import job %s failed: %s", job_id, reason)

        def failed(job: ImportJob) -> ImportJob:
            return job if job.state.has_ended else _failed(job, reason)

        self._end(job_id, failed)

    def _end(self, job_id: int, change: Callable[[ImportJob], ImportJob]) -> None:
        """Ends a job in the catalog first, then removes its files."""
        before: ImportJob | None = None

        def ended(job: ImportJob) -> ImportJob:
            nonlocal before
            before = job
            return change(job)

        with self._ending:
            change_job(self._catalog, job_id, ended)
            crash_point("import.ended")
            if before is not None:
                self._remove_unless_named(before, before.segments)

    def _remove_unless_named(self, job: ImportJob, segments: tuple[SegmentMeta, ...]) -> None:
        """Files that the catalog names after all, as when a commit that failed was made, stay."""
        snapshot = self._catalog.snapshot
        named = {m.segment_id for m in snapshot.segments.get(job.collection_id, ())}
        stored = snapshot.import_jobs.get(job.job_id)
        if stored is not None:
            named |= {m.segment_id for m in stored.segments}
        with contextlib.suppress(OSError):  # the next start removes the rest
            for meta in segments:
                if meta.segment_id not in named:
                    remove_tree(self._paths.segment(meta.collection_id, meta.segment_id))

    def _remove_numbered(self, collection_id: int, first_segment_id: int) -> None:
        """Removes the files of a child that ended early."""
        directory = self._paths.collection(collection_id)
        with contextlib.suppress(OSError):
            for path in list(directory.iterdir()) if directory.is_dir() else ():
                if path.name.isdigit() and 0 <= int(path.name) - first_segment_id < _SEGMENT_IDS:
                    remove_tree(path)
            if collection_id not in self._catalog.snapshot.collections:
                directory.rmdir()


def _with_stats(job: ImportJob, stats: tuple[FileStats, ...]) -> ImportJob:
    return replace(job, stats=stats, row_count=sum(one.row_count for one in stats))


def _failed(job: ImportJob, reason: str) -> ImportJob:
    return replace(job, state=JobState.FAILED, reason=reason, ended_ms=time.time_ns() // 1_000_000, segments=())


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe that never waits."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)
