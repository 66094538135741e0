"""Snapshots exported below the places of the settings, and restored from there: by other servers, too."""

from __future__ import annotations

import time

from milvine.catalog import restores
from milvine.catalog.snapshots import hold, now_ms
from milvine.crash_points import crash_point
from milvine.datanode.exported_snapshots import METADATA, open_exported
from milvine.datanode.snapshot_exporter import ExportJob
from milvine.errors import ParameterInvalid, RestoreJobNotFound
from milvine.model.schema_rules import check_collection_name
from milvine.model.snapshots import RestoreJob, RestoreState
from milvine.service.context import Engine, RequestContext, check_database, find_by_any_name
from milvine.service.deny_rules import COLLECTION_CHANGE
from milvine.service.gate import capability
from milvine.service.roles import check_name

_SPARE_SECONDS = 1.0
"""An answer is given this long before the deadline of the call."""
_RESTORE_SECONDS = 1.0


@capability("ExportSnapshot")
def export_snapshot(engine: Engine, context: RequestContext, collection_name: str, name: str, target: str) -> ExportJob:
    """Copies a snapshot into a directory of its own below `target`. Returns its job, which has ended unless the
    deadline of the call comes first."""
    check_name(name, "snapshot name")
    if not collection_name:
        raise ParameterInvalid("collection_name is required for export snapshot")
    if not target:
        raise ParameterInvalid("target_s3_path is required for export snapshot")
    collection = find_by_any_name(engine, context, collection_name)
    job_id = engine.clock.next()
    directory = f"{target.rstrip('/')}/{name}-{job_id}"
    place, below = engine.datanode.snapshot_places.find(directory)
    held = hold(engine.catalog, collection.collection_id, name, job_id, engine.clock.next)
    crash_point("snapshot_export.begun")
    uri = f"{engine.datanode.snapshot_places.full(directory)}/{METADATA}"
    engine.datanode.exporter.add(ExportJob(job_id, held, name, place, below, uri, now_ms()))
    engine.datanode.exporter.wait(job_id, context.deadline - _SPARE_SECONDS)
    return _existing(engine, job_id)


def _existing(engine: Engine, job_id: int) -> ExportJob:
    job = engine.datanode.exporter.find(job_id)
    if job is None:
        raise RestoreJobNotFound(job_id, "export")
    return job


@capability("ExportSnapshot")
def export_state(engine: Engine, context: RequestContext, job_id: int) -> ExportJob:
    return _existing(engine, job_id)


@capability("RestoreExternalSnapshot", denied_as=COLLECTION_CHANGE)
def restore_external_snapshot(engine: Engine, context: RequestContext, target_name: str, uri: str) -> int:
    """Starts a restore of an exported snapshot into a new collection. Returns the job's id, after the job if that takes
    less than a second. What is wrong with the metadata is an error of the call."""
    if not uri:
        raise ParameterInvalid("snapshot_metadata_uri is required for restore external snapshot")
    check_collection_name(target_name)
    check_database(engine, context)
    full = engine.datanode.snapshot_places.full(uri)
    open_exported(*engine.datanode.snapshot_places.find(uri))
    job_id, collection_id = engine.clock.next(), engine.clock.next()
    job = RestoreJob(job_id, 0, full, collection_id, context.database, target_name, RestoreState.PENDING, "", now_ms())
    restores.start_restore(engine.catalog, job)
    crash_point("restore.started")
    engine.datanode.snapshots.look()
    engine.datanode.snapshots.wait(job_id, min(context.deadline, time.monotonic() + _RESTORE_SECONDS))
    return job_id
