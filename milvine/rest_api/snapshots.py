"""/v2/vectordb/jobs/snapshot/: restore jobs."""

from __future__ import annotations

from typing import Any

from milvine.rest_api.call import Call, Route, job_id_of
from milvine.service import snapshots

_STATES = {1: "Pending", 2: "Executing", 3: "Completed", 4: "Failed"}


def _job(call: Call, found: snapshots.JobDescription) -> dict[str, Any]:
    job = found.job
    return {
        "jobId": str(job.job_id) if call.int64_as_text else job.job_id,
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
    return {"data": _job(call, snapshots.restore_state(call.engine, call.context, job_id_of(call)))}


def list_jobs(call: Call) -> dict[str, Any]:
    found = snapshots.list_restore_jobs(call.engine, call.context, call.name)
    return {"data": {"records": [_job(call, one) for one in found]}}


ROUTES: dict[str, Route] = {
    "jobs/snapshot/describe": Route(describe_job, "JobIDReq", ("jobId",)),
    "jobs/snapshot/list": Route(list_jobs, "OptionalCollectionNameReq", ()),
}
