"""Changes to restore jobs, and the commit of a restored collection. Checks run inside the transaction."""

from __future__ import annotations

from dataclasses import asdict, replace

import sqlalchemy as sa

from milvine.catalog import tables
from milvine.catalog.collections import check_room, insert_collection
from milvine.catalog.contents import Snapshot
from milvine.catalog.segments import insert_delta, insert_segment
from milvine.catalog.snapshots import now_ms
from milvine.catalog.store import Catalog
from milvine.errors import ParameterInvalid, SnapshotNotFound
from milvine.model.collections import Collection
from milvine.model.segments import DeltaMeta, SegmentMeta
from milvine.model.snapshots import RestoreJob, RestoreState


def start_restore(catalog: Catalog, job: RestoreJob) -> None:
    """Stores a new job, which holds the snapshot. Raises SnapshotNotFound, and what is wrong with the target."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        if not job.is_external and job.snapshot_id not in snapshot.snapshots:
            raise SnapshotNotFound(job.snapshot_name)
        _check_target(catalog, snapshot, job)
        connection.execute(sa.insert(tables.restore_jobs).values(asdict(job)))
        return _with_job(snapshot, job)

    catalog.change(work)


def _check_target(catalog: Catalog, snapshot: Snapshot, job: RestoreJob) -> None:
    check_room(catalog, snapshot, job.database, job.collection_name)
    place = (job.database, job.collection_name)
    others = [j for j in snapshot.restore_jobs.values() if j.is_open and j.job_id != job.job_id]
    if place in snapshot.names or place in [(j.database, j.collection_name) for j in others]:
        raise ParameterInvalid(
            f"create duplicate collection with different parameters, collection: {job.collection_name}"
        ).prefixed("failed to restore collection")


def _with_job(snapshot: Snapshot, job: RestoreJob) -> Snapshot:
    return replace(snapshot, restore_jobs={**snapshot.restore_jobs, job.job_id: job})


def _store(connection: sa.Connection, snapshot: Snapshot, job: RestoreJob) -> Snapshot:
    own = tables.restore_jobs.c.job_id == job.job_id
    connection.execute(sa.update(tables.restore_jobs).where(own).values(asdict(job)))
    return _with_job(snapshot, job)


def change_job(catalog: Catalog, job_id: int, state: RestoreState, reason: str = "") -> None:
    """Stores the state of a job. One that has ended stays as it is."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        job = snapshot.restore_jobs.get(job_id)
        if job is None or not job.is_open:
            return snapshot
        following = replace(job, state=state, reason=reason)
        return _store(connection, snapshot, following if following.is_open else _ended(following))

    catalog.change(work)


def _ended(job: RestoreJob) -> RestoreJob:
    return replace(job, ended_ms=max(now_ms(), job.started_ms + 1))


def commit_restore(
    catalog: Catalog,
    job: RestoreJob,
    collection: Collection,
    segments: tuple[SegmentMeta, ...],
    deltas: tuple[DeltaMeta, ...],
) -> None:
    """The restored collection with all its rows, and the end of its job. Raises what is wrong with the target now."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        _check_target(catalog, snapshot, job)
        snapshot = insert_collection(catalog, connection, snapshot, collection)
        for meta in segments:
            insert_segment(connection, meta)
        for delta in deltas:
            insert_delta(connection, delta)
        collection_id = collection.collection_id
        snapshot = _store(connection, snapshot, _ended(replace(job, state=RestoreState.COMPLETED)))
        return replace(
            snapshot,
            segments={**snapshot.segments, collection_id: segments},
            deltas={**snapshot.deltas, collection_id: deltas},
        )

    catalog.change(work)
