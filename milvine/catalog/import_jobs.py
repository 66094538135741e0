"""Changes to import jobs. Checks run inside the transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import sqlalchemy as sa

from milvine.catalog import encoding, tables
from milvine.catalog.contents import Snapshot
from milvine.catalog.segments import insert_segment
from milvine.catalog.store import Catalog
from milvine.errors import CollectionNotFound, ImportFailed, ImportSysFailed
from milvine.model.import_jobs import MAX_JOBS, RETENTION_SECONDS, ImportJob, JobState
from milvine.model.segments import SegmentMeta


def add_job(catalog: Catalog, job: ImportJob) -> None:
    """Also forgets jobs that ended long ago."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        if job.collection_id not in snapshot.collections:
            raise CollectionNotFound(job.collection_name)
        if sum(not one.state.has_ended for one in snapshot.import_jobs.values()) >= MAX_JOBS:
            raise ImportFailed(
                "The number of jobs has reached the limit, please try again later. If your request is set to only "
                "import a single file, please consider importing multiple files in one request for better efficiency."
            )
        oldest = job.created_ms - 1000 * RETENTION_SECONDS
        old = [i for i, one in snapshot.import_jobs.items() if one.state.has_ended and one.ended_ms < oldest]
        table = tables.import_jobs
        if old:
            connection.execute(sa.delete(table).where(table.c.job_id.in_(old)))
        connection.execute(sa.insert(table).values(encoding.encode_import_job(job)))
        kept = {i: one for i, one in snapshot.import_jobs.items() if i not in old}
        return replace(snapshot, import_jobs={**kept, job.job_id: job})

    catalog.change(work)


def change_job(catalog: Catalog, job_id: int, change: Callable[[ImportJob], ImportJob]) -> ImportJob:
    """The changed job; `change` may refuse by raising. Raises ImportSysFailed if there is none."""
    following: ImportJob | None = None

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        nonlocal following
        following = change(known_job(snapshot, job_id))
        return _with_job(connection, snapshot, following)

    catalog.change(work)
    assert following is not None
    return following


def known_job(snapshot: Snapshot, job_id: int) -> ImportJob:
    job = snapshot.import_jobs.get(job_id)
    if job is None:
        raise ImportSysFailed(f"import job does not exist, jobID={job_id}")
    return job


def commit_import(catalog: Catalog, job: ImportJob, segments: tuple[SegmentMeta, ...], ended_ms: int) -> None:
    """Adds the segments to their collection and completes the job, in one transaction.

    Raises ImportFailed, with nothing changed, if the job, its collection or a partition is gone, or if a function was
    added since the files were read. Indexes that have been dropped are not stored.
    """

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        stored = known_job(snapshot, job.job_id)
        if stored.state.has_ended:
            raise ImportFailed(f"job {job.job_id} is in state {stored.state}, expected {JobState.UNCOMMITTED}")
        collection = snapshot.collections.get(job.collection_id)
        if collection is None:
            raise ImportFailed(f"collection {job.collection_id} dropped")
        partitions = {p.partition_id for p in collection.partitions}
        if gone := {m.partition_id for m in segments} - partitions:
            raise ImportFailed(f"partition {min(gone)} dropped")
        for field in collection.schema.fields:
            if field.made_by is not None and any(field.field_id not in m.field_bytes for m in segments):
                raise ImportFailed(f"the function field '{field.name}' was added after the files were read")
        known = {i.index_id for i in collection.indexes}
        metas = tuple(replace(m, indexes={i: built for i, built in m.indexes.items() if i in known}) for m in segments)
        for meta in metas:
            insert_segment(connection, meta)
        ended = replace(job, state=JobState.COMPLETED, reason="", ended_ms=ended_ms, segments=())
        before = snapshot.segments.get(job.collection_id, ())
        with_segments = replace(snapshot, segments={**snapshot.segments, job.collection_id: (*before, *metas)})
        return _with_job(connection, with_segments, ended)

    catalog.change(work)


def _with_job(connection: sa.Connection, snapshot: Snapshot, job: ImportJob) -> Snapshot:
    table = tables.import_jobs
    values = encoding.encode_import_job(job)
    connection.execute(sa.update(table).where(table.c.job_id == job.job_id).values(values))
    return replace(snapshot, import_jobs={**snapshot.import_jobs, job.job_id: job})
