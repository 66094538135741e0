"""/v2/vectordb/jobs/import/."""

from __future__ import annotations

import time
from typing import Any

from milvine.errors import ParameterInvalid
from milvine.model.import_jobs import check_auto_commit
from milvine.rest_api.body import Body, parse_int64
from milvine.rest_api.call import Call, Route, job_id_of
from milvine.service.importing import jobs


def create(call: Call) -> dict[str, Any]:
    body = call.body
    options = _options(body)
    job_id = jobs.create_job(call.engine, call.context, call.name, body.text("partitionName"), _files(body), options)
    return {"data": {"jobId": str(job_id)}}


def _files(body: Body) -> list[list[str]]:
    groups = body.value("files")
    if not isinstance(groups, list):
        raise body.bad_type("files", groups, "[][]string")
    for paths in groups:
        if not isinstance(paths, list):
            raise body.bad_type("files", paths, "[]string")
        for path in paths:
            if not isinstance(path, str):
                raise body.bad_type("files", path, "string")
    return groups


def _options(body: Body) -> dict[str, str]:
    given = body.mapping("options")
    for value in given.values():
        if value is not None and not isinstance(value, str):
            raise body.bad_type("options", value, "string")
    check_auto_commit(given)
    return {name: value or "" for name, value in given.items()}


def _number(call: Call) -> int:
    text = call.body.text("jobId")
    try:
        return parse_int64(text)
    except ValueError as error:
        raise ParameterInvalid(f"parse job id failed: {error}") from error


def describe(call: Call) -> dict[str, Any]:
    report = jobs.describe_job(call.engine, call.context, _number(call))
    job = report.job
    ended = _time(job.ended_ms)
    data = {
        "jobId": str(job.job_id),
        "createTime": _time(job.created_ms),
        "collectionName": job.collection_name,
        "completeTime": ended,
        "state": str(report.state),
        "progress": report.progress,
        "importedRows": report.imported_rows,
        "totalRows": report.total_rows,
        "fileSize": sum(one.size for one in report.files),
        "details": [
            {
                "fileName": f"[{' '.join(one.paths)}]",
                "fileSize": one.size,
                "progress": one.progress,
                "completeTime": ended,
                "state": one.state,
                "importedRows": one.row_count,
                "totalRows": one.row_count,
            }
            for one in report.files
        ],
    }
    if job.reason:
        data["reason"] = job.reason
    return {"data": data}


def _time(ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms / 1000)) if ms else ""


def list_jobs(call: Call) -> dict[str, Any]:
    records = []
    for report in jobs.list_jobs(call.engine, call.context, call.name):
        record = {
            "jobId": str(report.job.job_id),
            "collectionName": report.job.collection_name,
            "state": str(report.state),
            "progress": report.progress,
        }
        if report.job.reason:
            record["reason"] = report.job.reason
        records.append(record)
    return {"data": {"records": records}}


def commit(call: Call) -> dict[str, Any]:
    jobs.commit_job(call.engine, call.context, job_id_of(call))
    return {"data": {}}


def abort(call: Call) -> dict[str, Any]:
    jobs.abort_job(call.engine, call.context, job_id_of(call))
    return {"data": {}}


ROUTES: dict[str, Route] = {
    "jobs/import/abort": Route(abort, "JobIDReq", ("jobId",)),
    "jobs/import/commit": Route(commit, "JobIDReq", ("jobId",)),
    "jobs/import/create": Route(create, "ImportReq", ("collectionName", "files")),
    "jobs/import/describe": Route(describe, "JobIDReq", ("jobId",)),
    "jobs/import/get_progress": Route(describe, "JobIDReq", ("jobId",)),
    "jobs/import/list": Route(list_jobs, "OptionalCollectionNameReq", ()),
}
