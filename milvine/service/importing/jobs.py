"""Import jobs: made, described, listed, committed, aborted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from milvine.catalog.import_jobs import add_job, known_job
from milvine.errors import ImportFailed, ImportSysFailed, PermissionDenied
from milvine.model.collections import DEFAULT_PARTITION
from milvine.model.import_jobs import ABORTED, FileStats, ImportJob, JobState
from milvine.model.records import record
from milvine.model.segments import ALL_PARTITIONS
from milvine.service.context import Engine, RequestContext, find_by_any_name, find_partition
from milvine.service.deny_rules import WRITING
from milvine.service.disk_quotas import check_disk_quota
from milvine.service.gate import Target, capability, declaration_of, for_every_user, require
from milvine.service.importing.binlogs import refuse_binlogs
from milvine.service.importing.options import check_options, checked_files, commits_itself
from milvine.service.importing.runner import Running


@record
class FileProgress:
    paths: tuple[str, ...]
    state: str
    progress: int
    size: int
    row_count: int


@record
class JobReport:
    """A job as callers see it. `progress`: percent."""

    job: ImportJob
    state: JobState
    progress: int
    imported_rows: int
    total_rows: int
    files: tuple[FileProgress, ...]


@capability("Import", on="name", denied_as=WRITING)
def create_job(
    engine: Engine,
    context: RequestContext,
    name: str,
    partition_name: str,
    files: Sequence[Sequence[str]],
    options: Mapping[str, str],
) -> int:
    """The id of a job that runs in the background. Paths that imports may not read are refused here; files are opened
    by the job."""
    collection = find_by_any_name(engine, context, name)
    if collection.schema.partition_key is not None:
        if partition_name:
            raise ImportFailed("not allow to set partition name for collection with partition key")
        partition_id = ALL_PARTITIONS
    else:
        partition_id = find_partition(collection, partition_name or DEFAULT_PARTITION).partition_id
    refuse_binlogs(options, partition_name, is_loaded=collection.load is not None)
    groups = checked_files(files)
    check_options(options)
    for paths in groups:
        for path in paths:
            engine.imports.places.find(path)
    check_disk_quota(engine, collection)
    job = ImportJob(
        engine.clock.next(),
        collection.collection_id,
        collection.name,
        collection.database,
        partition_id,
        groups,
        dict(options),
        time.time_ns() // 1_000_000,
    )
    add_job(engine.catalog, job)
    engine.imports.look()
    return job.job_id


@for_every_user()
def describe_job(engine: Engine, context: RequestContext, job_id: int) -> JobReport:
    """Callers need the privilege of the job's collection."""
    return _report(engine, _job(engine, context, job_id))


@for_every_user()
def list_jobs(engine: Engine, context: RequestContext, name: str) -> list[JobReport]:
    """Of a collection or, without a name, all that the caller may see."""
    collection_id = find_by_any_name(engine, context, name).collection_id if name else None
    jobs = [
        job
        for job in engine.catalog.snapshot.import_jobs.values()
        if collection_id in (None, job.collection_id) and _may_see(engine, context, job)
    ]
    return [_report(engine, job) for job in jobs]


@for_every_user()
def commit_job(engine: Engine, context: RequestContext, job_id: int) -> None:
    """Makes the rows of an uncommitted job visible. Succeeds for one that is committed."""
    _two_phase_job(engine, context, job_id)
    engine.imports.commit(job_id)


@for_every_user()
def abort_job(engine: Engine, context: RequestContext, job_id: int) -> None:
    """Ends a job that is not committed; its rows never appear. Succeeds for one that was aborted."""
    job = _two_phase_job(engine, context, job_id)
    if job.state is JobState.FAILED and job.reason == ABORTED:
        return
    if job.state is JobState.COMPLETED:
        raise ImportFailed(f"job {job_id} is in terminal/committed state {job.state}, abort not allowed")
    _require_auto_commit_off(job)
    engine.imports.abort(job_id)


def _two_phase_job(engine: Engine, context: RequestContext, job_id: int) -> ImportJob:
    if job_id not in engine.catalog.snapshot.import_jobs:
        raise ImportSysFailed(f"job {job_id} not found")
    return _job(engine, context, job_id)


def _require_auto_commit_off(job: ImportJob) -> None:
    if commits_itself(job.options):
        raise ImportFailed(f"job {job.job_id} is auto-commit, manual commit/abort not allowed")


def _job(engine: Engine, context: RequestContext, job_id: int) -> ImportJob:
    job = known_job(engine.catalog.snapshot, job_id)
    _require_import(engine, context, job)
    return job


def _require_import(engine: Engine, context: RequestContext, job: ImportJob) -> None:
    declaration = declaration_of(create_job)
    assert declaration is not None
    require(engine, context, declaration, Target((job.collection_name,), job.database))


def _may_see(engine: Engine, context: RequestContext, job: ImportJob) -> bool:
    try:
        _require_import(engine, context, job)
    except PermissionDenied:
        return False
    return True


def _report(engine: Engine, job: ImportJob) -> JobReport:
    running = engine.imports.running(job.job_id)
    if job.state is JobState.PENDING and running is not None:
        return _running_report(job, running)
    progress = {JobState.UNCOMMITTED: 99, JobState.COMPLETED: 100}.get(job.state, 0)
    is_read = job.state in (JobState.UNCOMMITTED, JobState.COMPLETED)
    rows = job.row_count if is_read else 0
    files = tuple(
        FileProgress(paths, str(JobState.COMPLETED if is_read else job.state), 100, one.size, one.row_count)
        for paths, one in zip(job.files, job.stats or (FileStats(0, 0),) * len(job.files), strict=True)
        if is_read
    )
    return JobReport(job, job.state, progress, rows, rows, files)


def _running_report(job: ImportJob, running: Running) -> JobReport:
    read = (1000 * running.file + running.thousandths) / (1000 * len(job.files))
    builds = running.builds
    progress = 10 + int(40 * min(1.0, read)) if builds is None else 50 + 48 * builds.percent() // 100
    files = tuple(
        FileProgress(
            paths,
            str(JobState.COMPLETED if place < running.file else JobState.IMPORTING),
            100 if place < running.file else running.thousandths // 10 if place == running.file else 0,
            0,
            0,
        )
        for place, paths in enumerate(job.files)
    )
    return JobReport(job, JobState.IMPORTING, progress, running.row_count, running.row_count, files)
