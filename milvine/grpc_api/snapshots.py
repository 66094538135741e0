"""RPCs of snapshots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milvine.errors import UnexpectedError
from milvine.grpc_api import encode
from milvine.grpc_api.proto import milvus_pb2
from milvine.model.snapshots import RestoreState
from milvine.service import snapshot_exports, snapshots
from milvine.service.context import Engine, RequestContext


def create_snapshot(engine: Engine, context: RequestContext, request: Any) -> Any:
    snapshots.create_snapshot(
        engine,
        context,
        request.collection_name,
        request.name,
        request.description,
        request.compaction_protection_seconds,
    )
    return encode.status()


def drop_snapshot(engine: Engine, context: RequestContext, request: Any) -> Any:
    snapshots.drop_snapshot(engine, context, request.collection_name, request.name)
    return encode.status()


def list_snapshots(engine: Engine, context: RequestContext, request: Any) -> Any:
    found = snapshots.list_snapshots(engine, context, request.collection_name)
    return milvus_pb2.ListSnapshotsResponse(status=encode.status(), snapshots=found)


def describe_snapshot(engine: Engine, context: RequestContext, request: Any) -> Any:
    found = snapshots.describe_snapshot(engine, context, request.collection_name, request.name)
    return milvus_pb2.DescribeSnapshotResponse(
        status=encode.status(),
        name=found.snapshot.name,
        description=found.snapshot.description,
        collection_name=found.collection_name,
        partition_names=[p.name for p in found.snapshot.collection.partitions],
        create_ts=found.snapshot.created_ts,
        s3_location=found.location,
    )


def restore_snapshot(engine: Engine, context: RequestContext, request: Any) -> Any:
    job_id = snapshots.restore_snapshot(
        engine,
        context,
        request.collection_name,
        request.name,
        request.target_collection_name,
        request.target_db_name,
    )
    return milvus_pb2.RestoreSnapshotResponse(status=encode.status(), job_id=job_id)


def _info(found: snapshots.JobDescription) -> Any:
    job = found.job
    return milvus_pb2.RestoreSnapshotInfo(
        job_id=job.job_id,
        snapshot_name=job.snapshot_name,
        db_name=found.database,
        collection_name=found.collection_name,
        state=int(job.state),
        progress=found.percent,
        reason=job.reason,
        start_time=job.started_ms,
        time_cost=max(0, job.ended_ms - job.started_ms),
    )


def restore_state(engine: Engine, context: RequestContext, request: Any) -> Any:
    info = _info(snapshots.restore_state(engine, context, request.job_id))
    return milvus_pb2.GetRestoreSnapshotStateResponse(status=encode.status(), info=info)


def list_restore_jobs(engine: Engine, context: RequestContext, request: Any) -> Any:
    found = snapshots.list_restore_jobs(engine, context, request.collection_name)
    return milvus_pb2.ListRestoreSnapshotJobsResponse(status=encode.status(), jobs=map(_info, found))


def pin_snapshot(engine: Engine, context: RequestContext, request: Any) -> Any:
    pin_id = snapshots.pin_snapshot(engine, context, request.collection_name, request.name, request.ttl_seconds)
    return milvus_pb2.PinSnapshotDataResponse(status=encode.status(), pin_id=pin_id)


def unpin_snapshot(engine: Engine, context: RequestContext, request: Any) -> Any:
    snapshots.unpin_snapshot(engine, context, request.pin_id)
    return encode.status()


def export_snapshot(engine: Engine, context: RequestContext, request: Any) -> Any:
    job = snapshot_exports.export_snapshot(
        engine, context, request.collection_name, request.name, request.target_s3_path
    )
    if job.state is RestoreState.FAILED:
        raise UnexpectedError(job.reason)
    return milvus_pb2.ExportSnapshotResponse(status=encode.status(), snapshot_metadata_uri=job.uri, job_id=job.job_id)


def export_state(engine: Engine, context: RequestContext, request: Any) -> Any:
    job = snapshot_exports.export_state(engine, context, request.job_id)
    info = milvus_pb2.ExportSnapshotInfo(
        job_id=job.job_id,
        snapshot_name=job.snapshot_name,
        db_name=job.held.collection.database,
        collection_name=job.held.collection.name,
        state=int(job.state),
        progress=job.percent,
        reason=job.reason,
        start_time=job.started_ms,
        time_cost=max(0, job.ended_ms - job.started_ms),
        total_files=job.total_files,
        copied_files=job.copied_files,
        snapshot_metadata_uri=job.uri,
        total_bytes=job.total_bytes,
    )
    return milvus_pb2.GetExportSnapshotStateResponse(status=encode.status(), info=info)


def restore_external_snapshot(engine: Engine, context: RequestContext, request: Any) -> Any:
    job_id = snapshot_exports.restore_external_snapshot(
        engine, context, request.target_collection_name, request.snapshot_metadata_uri
    )
    return milvus_pb2.RestoreExternalSnapshotResponse(status=encode.status(), job_id=job_id)


RPCS: dict[str, Callable[[Engine, RequestContext, Any], Any]] = {
    "CreateSnapshot": create_snapshot,
    "DescribeSnapshot": describe_snapshot,
    "DropSnapshot": drop_snapshot,
    "ExportSnapshot": export_snapshot,
    "GetExportSnapshotState": export_state,
    "GetRestoreSnapshotState": restore_state,
    "ListRestoreSnapshotJobs": list_restore_jobs,
    "ListSnapshots": list_snapshots,
    "PinSnapshotData": pin_snapshot,
    "RestoreExternalSnapshot": restore_external_snapshot,
    "RestoreSnapshot": restore_snapshot,
    "UnpinSnapshotData": unpin_snapshot,
}
