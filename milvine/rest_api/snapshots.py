"""/v2/vectordb/jobs/snapshot/: restores and exports."""

from __future__ import annotations

import contextlib
from typing import Any

from milvine.datanode.snapshot_exporter import ExportJob
from milvine.errors import PermissionDenied, RestoreJobNotFound, UnexpectedError
from milvine.model.snapshots import RestoreState
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


ROUTES: dict[str, Route] = {
    "jobs/snapshot/describe": Route(describe_job, "JobIDReq", ("jobId",)),
    "jobs/snapshot/export": Route(export, "ExportSnapshotReq", ("collectionName", "snapshotName", "targetS3Path")),
    "jobs/snapshot/restore_external": Route(
        restore_external, "RestoreExternalSnapshotReq", ("targetCollectionName", "snapshotMetadataURI")
    ),
    "jobs/snapshot/list": Route(list_jobs, "OptionalCollectionNameReq", ()),
}
