"""/v2/vectordb/jobs/snapshot/: restores and exports. /milvine/v1/snapshot/: the calls that Milvus has as RPCs only."""

from __future__ import annotations

import contextlib
from typing import Any

from milvine.datanode.snapshot_exporter import ExportJob
from milvine.errors import ParameterInvalid, PermissionDenied, RestoreJobNotFound, UnexpectedError
from milvine.logs import timestamp
from milvine.model.snapshots import RestoreState
from milvine.model.timestamps import physical_ms
from milvine.rest_api.body import parse_int64
from milvine.rest_api.call import Call, Route, job_id_of
from milvine.service import snapshot_exports, snapshots

_STATES = {1: "Pending", 2: "Executing", 3: "Completed", 4: "Failed"}


def _job(call: Call, found: snapshots.JobDescription) -> dict[str, Any]:
    job = found.job
    return {
        "jobId": _id(call, job.job_id),
        "snapshotName": job.snapshot_name,
        "dbName": found.database,
        "collectionName": found.collection_name,
        "state": f"RestoreSnapshot{_STATES[job.state]}",
        "progress": found.percent,
        "reason": job.reason,
        "startTime": job.started_ms,
        "timeCost": max(0, job.ended_ms - job.started_ms),
    }


def describe_job(call: Call) -> dict[str, Any]:
    """Of restores, and of exports."""
    job_id = job_id_of(call)
    try:
        return {"data": _job(call, snapshots.restore_state(call.engine, call.context, job_id))}
    except RestoreJobNotFound:
        with contextlib.suppress(RestoreJobNotFound, PermissionDenied):
            return {"data": _export(call, snapshot_exports.export_state(call.engine, call.context, job_id))}
        raise


def list_jobs(call: Call) -> dict[str, Any]:
    found = snapshots.list_restore_jobs(call.engine, call.context, call.name)
    return {"data": {"records": [_job(call, one) for one in found]}}


def _id(call: Call, number: int) -> int | str:
    return str(number) if call.int64_as_text else number


def _export(call: Call, job: ExportJob) -> dict[str, Any]:
    return {
        "jobId": _id(call, job.job_id),
        "snapshotName": job.snapshot_name,
        "dbName": job.held.collection.database,
        "collectionName": job.held.collection.name,
        "state": f"ExportSnapshot{_STATES[job.state]}",
        "progress": job.percent,
        "reason": job.reason,
        "startTime": job.started_ms,
        "timeCost": max(0, job.ended_ms - job.started_ms),
        "snapshotMetadataURI": job.uri,
    }


def export(call: Call) -> dict[str, Any]:
    """Copies a snapshot below the setting snapshot.path. If the deadline comes first, `jobId` is described."""
    name, target = call.body.text("snapshotName"), call.body.text("targetS3Path")
    job = snapshot_exports.export_snapshot(call.engine, call.context, call.name, name, target)
    if job.state is RestoreState.FAILED:
        raise UnexpectedError(job.reason)
    return {"data": {"snapshotMetadataURI": job.uri, "jobId": _id(call, job.job_id)}}


def restore_external(call: Call) -> dict[str, Any]:
    """Makes a collection of an exported snapshot, in a job."""
    body = call.body
    job_id = snapshot_exports.restore_external_snapshot(
        call.engine,
        call.context,
        body.text("targetCollectionName"),
        body.text("snapshotMetadataURI"),
    )
    return {"data": {"jobId": _id(call, job_id)}}


def _name(call: Call) -> str:
    return call.body.text("snapshotName")


def create(call: Call) -> dict[str, Any]:
    """Keeps a collection as its last flush left it."""
    body = call.body
    snapshots.create_snapshot(
        call.engine, call.context, call.name, _name(call), body.text("description"), body.long("protectionSeconds")
    )
    return {"data": {}}


def drop(call: Call) -> dict[str, Any]:
    snapshots.drop_snapshot(call.engine, call.context, call.name, _name(call))
    return {"data": {}}


def list_all(call: Call) -> dict[str, Any]:
    """The names, oldest first."""
    return {"data": snapshots.list_snapshots(call.engine, call.context, call.name)}


def describe(call: Call) -> dict[str, Any]:
    found = snapshots.describe_snapshot(call.engine, call.context, call.name, _name(call))
    kept = found.snapshot
    return {
        "data": {
            "snapshotName": kept.name,
            "collectionName": found.collection_name,
            "description": kept.description,
            "created": timestamp(physical_ms(kept.created_ts) / 1000),
            "partitionNames": [one.name for one in kept.collection.partitions],
            "rowCount": sum(one.row_count for one in kept.segments),
            "pins": [
                {"pinId": str(pin_id), "expires": timestamp(ms / 1000) if ms else ""}
                for pin_id, ms in found.pins.items()
            ],
            "protectedUntil": timestamp(kept.protected_until_ms / 1000) if kept.protected_until_ms else "",
            "location": found.location,
        }
    }


def restore(call: Call) -> dict[str, Any]:
    """Makes a collection of a snapshot, in a job that `jobs/snapshot/describe` knows."""
    body = call.body
    target, database = body.text("targetCollectionName"), body.text("targetDbName") or call.context.database
    job_id = snapshots.restore_snapshot(call.engine, call.context, call.name, _name(call), target, database)
    return {"data": {"jobId": str(job_id)}}


def pin(call: Call) -> dict[str, Any]:
    """Keeps a snapshot from being dropped, for ever without `ttlSeconds`."""
    seconds = call.body.long("ttlSeconds")
    return {"data": {"pinId": str(snapshots.pin_snapshot(call.engine, call.context, call.name, _name(call), seconds))}}


def unpin(call: Call) -> dict[str, Any]:
    text = call.body.text("pinId")
    try:
        pin_id = parse_int64(text)
    except ValueError as error:
        raise ParameterInvalid(str(error), expected="int64 pinId", actual=text) from error
    snapshots.unpin_snapshot(call.engine, call.context, pin_id)
    return {"data": {}}


ROUTES: dict[str, Route] = {
    "jobs/snapshot/describe": Route(describe_job, "JobIDReq", ("jobId",)),
    "jobs/snapshot/export": Route(export, "ExportSnapshotReq", ("collectionName", "snapshotName", "targetS3Path")),
    "jobs/snapshot/restore_external": Route(
        restore_external, "RestoreExternalSnapshotReq", ("targetCollectionName", "snapshotMetadataURI")
    ),
    "jobs/snapshot/list": Route(list_jobs, "OptionalCollectionNameReq", ()),
}
_NAMED = ("collectionName", "snapshotName")
OUR_ROUTES: dict[str, Route] = {
    "snapshot/create": Route(create, "SnapshotCreateReq", _NAMED),
    "snapshot/describe": Route(describe, "SnapshotReq", _NAMED),
    "snapshot/drop": Route(drop, "SnapshotReq", _NAMED),
    "snapshot/list": Route(list_all),
    "snapshot/pin": Route(pin, "SnapshotPinReq", _NAMED),
    "snapshot/restore": Route(restore, "SnapshotRestoreReq", (*_NAMED, "targetCollectionName")),
    "snapshot/unpin": Route(unpin, "SnapshotUnpinReq", ("pinId",)),
}
