"""RPCs of import jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milvine.grpc_api import encode
from milvine.grpc_api.proto import milvus_pb2
from milvine.model.import_jobs import JobState
from milvine.service.context import Engine, RequestContext
from milvine.service.importing import jobs

_STATES = {
    JobState.PENDING: 0,
    JobState.FAILED: 1,
    JobState.IMPORTING: 2,
    JobState.COMPLETED: 6,
}
"""common.ImportState. As in Milvus, an uncommitted job is shown as failed: its calls belong to REST."""


def import_files(engine: Engine, context: RequestContext, request: Any) -> Any:
    options = {pair.key: pair.value for pair in request.options}
    job_id = jobs.create_job(
        engine, context, request.collection_name, request.partition_name, [list(request.files)], options
    )
    return milvus_pb2.ImportResponse(status=encode.status(), tasks=[job_id])


def get_import_state(engine: Engine, context: RequestContext, request: Any) -> Any:
    report = jobs.describe_job(engine, context, request.task)
    response = milvus_pb2.GetImportStateResponse(status=encode.status())
    response.row_count = report.imported_rows
    response.create_ts = report.job.created_ms // 1000
    return _with_state(response, report)


def list_import_tasks(engine: Engine, context: RequestContext, request: Any) -> Any:
    response = milvus_pb2.ListImportTasksResponse(status=encode.status())
    for report in jobs.list_jobs(engine, context, request.collection_name):
        _with_state(response.tasks.add(status=encode.status()), report)
    return response


def _with_state(response: Any, report: jobs.JobReport) -> Any:
    response.state = _STATES.get(report.state, 1)
    response.infos.add(key="failed_reason", value=report.job.reason)
    response.infos.add(key="progress_percent", value=str(report.progress))
    return response


RPCS: dict[str, Callable[[Engine, RequestContext, Any], Any]] = {
    "GetImportState": get_import_state,
    "Import": import_files,
    "ListImportTasks": list_import_tasks,
}
