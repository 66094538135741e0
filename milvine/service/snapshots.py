"""Snapshots of collections: made, dropped, described, pinned, and restored into new collections."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from milvine.catalog import restores
from milvine.catalog import snapshots as changes
from milvine.catalog.snapshots import find_snapshot, now_ms
from milvine.config import LOCAL_STORE
from milvine.crash_points import crash_point
from milvine.errors import ParameterInvalid, ParameterMissing, RestoreJobNotFound, SnapshotNotFound
from milvine.model.collections import DEFAULT_DATABASE, Collection
from milvine.model.records import record
from milvine.model.schema_rules import check_collection_name
from milvine.model.snapshots import (
    MAX_PIN_SECONDS,
    MAX_PROTECTION_SECONDS,
    CollectionSnapshot,
    RestoreJob,
    RestoreState,
)
from milvine.querynode.held_segments import HeldReads
from milvine.service.context import Engine, RequestContext, check_database, find_by_any_name
from milvine.service.deny_rules import COLLECTION_CHANGE
from milvine.service.gate import capability, for_every_user, sees_name
from milvine.service.roles import check_name

_SHORT_SECONDS = 1.0
"""Most restores are done by then, so that the collection is there when the call returns."""


@record
class SnapshotDescription:
    """`location`: where the files are, below the data directory or as a URI. `collection_name` is today's. `pins`: when
    those that hold it expire, 0 for never, by their ids."""

    snapshot: CollectionSnapshot
    collection_name: str
    location: str
    pins: Mapping[int, int]


@record
class JobDescription:
    """`collection_name` is today's, and empty if the restored collection was dropped."""

    job: RestoreJob
    database: str
    collection_name: str
    percent: int


def _check_snapshot_name(name: str) -> None:
    check_name(name, "snapshot name")


def _find(engine: Engine, context: RequestContext, collection_name: str, name: str) -> CollectionSnapshot:
    collection = find_by_any_name(engine, context, collection_name)
    kept = find_snapshot(engine.catalog.snapshot, collection.collection_id, name)
    if kept is None:
        raise SnapshotNotFound(name, collection.collection_id)
    return kept


def _require_collection(collection_name: str, what: str) -> None:
    if not collection_name:
        raise ParameterMissing(f"collection_name is required for {what}")


@capability("CreateSnapshot", on="collection_name")
def create_snapshot(
    engine: Engine,
    context: RequestContext,
    collection_name: str,
    name: str,
    description: str = "",
    protection_seconds: int = 0,
) -> None:
    """Keeps the collection as its last flush left it, without copies: rows that are not flushed are not part of it.
    Its segments are not compacted for `protection_seconds`."""
    _check_snapshot_name(name)
    if protection_seconds < 0:
        raise ParameterInvalid("compaction_protection_seconds must be non-negative")
    if protection_seconds > MAX_PROTECTION_SECONDS:
        raise ParameterInvalid(f"compaction_protection_seconds must not exceed {MAX_PROTECTION_SECONDS}")
    collection = find_by_any_name(engine, context, collection_name)
    protected_until_ms = now_ms() + 1000 * protection_seconds if protection_seconds else 0
    snapshot_id, created_ts = engine.clock.next(), engine.clock.next()
    empty = CollectionSnapshot(snapshot_id, name, description, created_ts, collection, (), (), protected_until_ms)
    changes.create_snapshot(engine.catalog, collection.collection_id, empty)
    crash_point("snapshot.created")


@capability("DropSnapshot", on="collection_name")
def drop_snapshot(engine: Engine, context: RequestContext, collection_name: str, name: str) -> None:
    """Succeeds if there is none. Refused while it is pinned or being restored."""
    _check_snapshot_name(name)
    _require_collection(collection_name, "drop snapshot")
    collection = find_by_any_name(engine, context, collection_name)
    dropped = changes.drop_snapshot(engine.catalog, collection.collection_id, name)
    crash_point("snapshot.dropped")
    if dropped is not None:
        engine.held_segments.forget(dropped.snapshot_id)
        engine.datanode.snapshots.dropped(dropped)


@capability("ListSnapshots", on="collection_name")
def list_snapshots(engine: Engine, context: RequestContext, collection_name: str) -> list[str]:
    """The names of a collection's snapshots, oldest first."""
    check_database(engine, context)
    _require_collection(collection_name, "ListSnapshots")
    collection = find_by_any_name(engine, context, collection_name)
    every = engine.catalog.snapshot.snapshots_of(collection.collection_id)
    return [one.name for one in every if not one.is_of_backup]


@capability("DescribeSnapshot", on="collection_name")
def describe_snapshot(engine: Engine, context: RequestContext, collection_name: str, name: str) -> SnapshotDescription:
    _check_snapshot_name(name)
    _require_collection(collection_name, "describe snapshot")
    kept = _find(engine, context, collection_name, name)
    collection = engine.catalog.snapshot.existing(kept.collection_id)
    uri = engine.settings.store_uri
    place = "" if uri == LOCAL_STORE else f"{uri.rstrip('/')}/"
    pins = {pin_id: kept.pins[pin_id] for pin_id in sorted(kept.live_pins(now_ms()))}
    return SnapshotDescription(kept, collection.name, f"{place}segments/{kept.collection_id}", pins)


@capability("DescribeSnapshot", on="collection_name")
def at_snapshot(engine: Engine, context: RequestContext, collection_name: str, name: str) -> Engine:
    """An engine whose reads of the collection find what the snapshot has, without a load. Each read needs its own
    privilege, too."""
    _check_snapshot_name(name)
    kept = _find(engine, context, collection_name, name)
    return replace(engine, held=HeldReads.of(engine.held_segments, kept))


@capability("RestoreSnapshot", on="collection_name", denied_as=COLLECTION_CHANGE)
def restore_snapshot(
    engine: Engine,
    context: RequestContext,
    collection_name: str,
    name: str,
    target_name: str,
    target_database: str = "",
) -> int:
    """Starts a restore into a new collection, which comes into being with all its rows when the job is done. Returns
    the job's id, after the job if that takes less than a second."""
    _check_snapshot_name(name)
    _require_collection(collection_name, "restore snapshot")
    if not target_name:
        raise ParameterMissing("target_collection_name is required for restore snapshot")
    check_collection_name(target_name)
    kept = _find(engine, context, collection_name, name)
    target = context.in_database(target_database or DEFAULT_DATABASE)
    check_database(engine, target)
    job_id, collection_id = engine.clock.next(), engine.clock.next()
    job = RestoreJob(
        job_id,
        kept.snapshot_id,
        name,
        collection_id,
        target.database,
        target_name,
        RestoreState.PENDING,
        "",
        now_ms(),
    )
    restores.start_restore(engine.catalog, job)
    crash_point("restore.started")
    engine.datanode.snapshots.look()
    engine.datanode.snapshots.wait(job_id, min(context.deadline, time.monotonic() + _SHORT_SECONDS))
    return job_id


def _described(engine: Engine, job: RestoreJob) -> JobDescription:
    percent = engine.datanode.snapshots.percent(job)
    if job.state is not RestoreState.COMPLETED:
        return JobDescription(job, job.database, job.collection_name, percent)
    collection: Collection | None = engine.catalog.snapshot.collections.get(job.collection_id)
    if collection is None:
        return JobDescription(job, "", "", percent)
    return JobDescription(job, collection.database, collection.name, percent)


@for_every_user()
def restore_state(engine: Engine, context: RequestContext, job_id: int) -> JobDescription:
    """A job whose target the caller may not see is not found."""
    job = engine.catalog.snapshot.restore_jobs.get(job_id)
    if job is None or not sees_name(engine, context, job.database, job.collection_name):
        raise RestoreJobNotFound(job_id)
    return _described(engine, job)


@capability("RestoreSnapshot", on="collection_name")
def list_restore_jobs(engine: Engine, context: RequestContext, collection_name: str = "") -> list[JobDescription]:
    """Those into one collection or, without a name, into the collections of the database; oldest first."""
    check_database(engine, context)
    jobs = engine.catalog.snapshot.restore_jobs.values()
    if collection_name:
        collection = find_by_any_name(engine, context, collection_name)
        return [_described(engine, job) for job in jobs if job.collection_id == collection.collection_id]
    return [_described(engine, job) for job in jobs if job.database == context.database]


@capability("PinSnapshotData")
def pin_snapshot(engine: Engine, context: RequestContext, collection_name: str, name: str, ttl_seconds: int) -> int:
    """Keeps the snapshot from being dropped, for ever if `ttl_seconds` is 0. Returns the pin's id."""
    _check_snapshot_name(name)
    _require_collection(collection_name, "pin snapshot data")
    if ttl_seconds < 0:
        raise ParameterInvalid("ttl_seconds must be non-negative")
    if ttl_seconds > MAX_PIN_SECONDS:
        raise ParameterInvalid(f"ttl_seconds exceeds maximum of {MAX_PIN_SECONDS} (30 days)")
    collection = find_by_any_name(engine, context, collection_name)
    pin_id = engine.clock.next()
    expires_ms = now_ms() + 1000 * ttl_seconds if ttl_seconds else 0
    changes.pin_snapshot(engine.catalog, collection.collection_id, name, pin_id, expires_ms)
    engine.datanode.snapshots.look()
    return pin_id


@capability("UnpinSnapshotData")
def unpin_snapshot(engine: Engine, context: RequestContext, pin_id: int) -> None:
    """Succeeds if there is no such pin. A pinned snapshot of a dropped collection goes with its last pin."""
    if not pin_id:
        raise ParameterMissing("pin_id is required for unpin snapshot data")
    changes.unpin_snapshot(engine.catalog, pin_id)
    engine.datanode.snapshots.look()
