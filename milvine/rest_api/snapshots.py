"""/v2/vectordb/jobs/snapshot/: restore jobs."""

from __future__ import annotations

import json
import re
from typing import Any

from milvine.errors import ParameterInvalid
from milvine.rest_api.call import Call, Route
from milvine.service import snapshots

_LONGEST = 25
"""Characters of a number: longer ones are out of range, too."""
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


def _job_id(call: Call) -> int:
    text = call.body.text("jobId")
    if not re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII):
        wrong = "invalid syntax"
    elif not -(2**63) <= int(text[:_LONGEST]) < 2**63:
        wrong = "value out of range"
    else:
        return int(text)
    detail = f"strconv.ParseInt: parsing {json.dumps(text)}: {wrong}"
    raise ParameterInvalid(detail, expected="int64 jobId", actual=text)


def describe_job(call: Call) -> dict[str, Any]:
    return {"data": _job(call, snapshots.restore_state(call.engine, call.context, _job_id(call)))}


def list_jobs(call: Call) -> dict[str, Any]:
    found = snapshots.list_restore_jobs(call.engine, call.context, call.name)
    return {"data": {"records": [_job(call, one) for one in found]}}


ROUTES: dict[str, Route] = {
    "jobs/snapshot/describe": Route(describe_job, "JobIDReq", ("jobId",)),
    "jobs/snapshot/list": Route(list_jobs, "OptionalCollectionNameReq", ()),
}
