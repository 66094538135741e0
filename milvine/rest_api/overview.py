"""/milvine/v1/: collections at a glance, work in the background, slow requests."""

from __future__ import annotations

from typing import Any

from milvine.rest_api.call import Call, Route
from milvine.rest_api.memory import collection_sums, totals
from milvine.service import memory, overview
from milvine.service.importing.jobs import list_jobs
from milvine.service.request_log import KEPT_SLOW_REQUESTS


def collections(call: Call) -> dict[str, Any]:
    """The collections of the database, or the one of `collectionName`."""
    found = [
        {
            **collection_sums(one.memory),
            "rows": one.rows,
            "fields": len(one.memory.collection.schema.user_fields),
            "indexes": len(one.memory.collection.indexes),
            "partitions": len(one.memory.collection.partitions),
        }
        for one in overview.collections(call.engine, call.context, call.name)
    ]
    return {"data": {"collections": found, "memory": totals(memory.totals(call.engine, call.context))}}


def work(call: Call) -> dict[str, Any]:
    found = overview.background_work(call.engine, call.context)
    builds = [
        {
            "collectionName": one.collection.name,
            "dbName": one.collection.database,
            "indexName": one.index_name,
            "isRunning": one.running_seconds is not None,
            "milliseconds": round(1000 * (one.running_seconds or 0), 3),
            "totalRows": one.total_rows,
            "indexedRows": one.indexed_rows,
            "reason": one.failure,
            "jobId": "" if one.job_id is None else str(one.job_id),
        }
        for one in found.indexes
    ]
    merges = [
        {
            "collectionName": one.collection.name,
            "dbName": one.collection.database,
            "state": one.state,
            "segments": one.segment_count,
            "rows": one.row_count,
        }
        for one in found.merges
    ]
    imports = [
        {
            "jobId": str(one.job.job_id),
            "collectionName": one.job.collection_name,
            "dbName": one.job.database,
            "state": str(one.state),
            "progress": one.progress,
            "files": len(one.job.files),
            "rows": one.imported_rows,
            "reason": one.job.reason,
        }
        for one in reversed(list_jobs(call.engine, call.context, ""))
    ]
    return {"data": {"builds": builds, "merges": merges, "imports": imports, "warnings": list(found.warnings)}}


def slow_requests(call: Call) -> dict[str, Any]:
    found = overview.slow_requests(call.engine, call.context)
    requests = [
        {"dbName": one.get("database", ""), **{k: v for k, v in one.items() if k != "database"}} for one in found
    ]
    slow_seconds = call.engine.request_log.slow_seconds
    return {"data": {"slowSeconds": slow_seconds, "kept": KEPT_SLOW_REQUESTS, "requests": requests}}


OUR_ROUTES: dict[str, Route] = {
    "collections": Route(collections, "OverviewReq", ()),
    "slow_requests": Route(slow_requests, "EmptyReq", ()),
    "work": Route(work, "EmptyReq", ()),
}
