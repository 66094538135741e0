"""One function per RPC: decode, call, encode. Other RPCs answer as `unserved` says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milvine.errors import MilvineError, ParameterMissing, PermissionDenied
from milvine.grpc_api import (
    administration,
    aliases,
    altering,
    analyzers,
    databases,
    decode,
    decode_schema,
    encode,
    external_collections,
    file_resources,
    imports,
    partitions,
    resource_groups,
    roles,
    snapshots,
    users,
)
from milvine.grpc_api.key_values import pairs
from milvine.grpc_api.proto import common_pb2, milvus_pb2
from milvine.model import json_text
from milvine.model.collections import Collection
from milvine.model.requests import SearchRequest
from milvine.model.timestamps import physical_ms
from milvine.service import admin, collections, indexes, loading, reading, segments, system_info, writes
from milvine.service.context import Engine, RequestContext

Rpc = Callable[[Engine, RequestContext, Any], Any]
_IN_MEMORY = 1


def connect(engine: Engine, context: RequestContext, request: Any) -> Any:
    identifier = admin.connect(engine, context)
    info = common_pb2.ServerInfo(
        build_tags=admin.get_version(engine, context),
        deploy_mode="STANDALONE",
        git_commit="",
        go_version="",
        build_time="",
    )
    return milvus_pb2.ConnectResponse(status=encode.status(), server_info=info, identifier=identifier)


def get_version(engine: Engine, context: RequestContext, request: Any) -> Any:
    return milvus_pb2.GetVersionResponse(status=encode.status(), version=admin.get_version(engine, context))


def check_health(engine: Engine, context: RequestContext, request: Any) -> Any:
    healthy, reasons = admin.check_health(engine, context)
    return milvus_pb2.CheckHealthResponse(status=encode.status(), isHealthy=healthy, reasons=reasons)


def get_component_states(engine: Engine, context: RequestContext, request: Any) -> Any:
    healthy = admin.get_component_state(engine, context)
    state = milvus_pb2.ComponentInfo(
        nodeID=1,
        role="proxy",
        state_code=common_pb2.StateCode.Healthy if healthy else common_pb2.StateCode.Initializing,
    )
    return milvus_pb2.ComponentStates(state=state, status=encode.status())


def get_metrics(engine: Engine, context: RequestContext, request: Any) -> Any:
    topology = system_info.metrics(engine, context, request.request)
    return milvus_pb2.GetMetricsResponse(
        status=encode.status(),
        response=json_text.dumps(topology).decode(),
        component_name=system_info.component_name("proxy"),
    )


def alloc_timestamp(engine: Engine, context: RequestContext, request: Any) -> Any:
    ts = admin.allocate_timestamp(engine, context)
    return milvus_pb2.AllocTimestampResponse(status=encode.status(), timestamp=ts)


def create_collection(engine: Engine, context: RequestContext, request: Any) -> Any:
    collections.create_collection(engine, context, decode_schema.create_collection(request))
    return encode.status()


def drop_collection(engine: Engine, context: RequestContext, request: Any) -> Any:
    collections.drop_collection(engine, context, request.collection_name)
    return encode.status()


def has_collection(engine: Engine, context: RequestContext, request: Any) -> Any:
    value = collections.has_collection(engine, context, request.collection_name)
    return milvus_pb2.BoolResponse(status=encode.status(), value=value)


def describe_collection(engine: Engine, context: RequestContext, request: Any) -> Any:
    return _describe(engine, context, request.collection_name, request.collectionID)


def _describe(engine: Engine, context: RequestContext, name: str, collection_id: int = 0) -> Any:
    found = collections.describe_collection(engine, context, name, collection_id)
    snapshot = engine.catalog.snapshot
    database = snapshot.databases.get(found.database)
    aliases = snapshot.aliases_of(found.collection_id)
    return encode.describe_collection(found, 0 if database is None else database.database_id, aliases, name)


def batch_describe_collection(engine: Engine, context: RequestContext, request: Any) -> Any:
    """One response per name; the status of a failed one has its error."""
    if not request.collection_name:
        raise ParameterMissing("collection names cannot be empty")
    responses = []
    for name in request.collection_name:
        try:
            responses.append(_describe(engine, context, name))
        except PermissionDenied:
            raise
        except MilvineError as error:
            failed = encode.failure("DescribeCollection", error)
            failed.collection_name, failed.db_name = name, context.database
            responses.append(failed)
    return milvus_pb2.BatchDescribeCollectionResponse(status=encode.status(), responses=responses)


def show_collections(engine: Engine, context: RequestContext, request: Any) -> Any:
    """All collections, or with type InMemory those loaded or being loaded; only the given names, if any."""
    names = tuple(request.collection_names)
    response = milvus_pb2.ShowCollectionsResponse(status=encode.status())
    if request.type == _IN_MEMORY:
        for loaded in collections.list_loaded_collections(engine, context, names):
            _add_collection(engine, response, loaded.name, loaded.collection)
        return response
    for collection in collections.list_collections(engine, context):
        if not names or collection.name in names:
            _add_collection(engine, response, collection.name, collection)
    return response


def _add_collection(engine: Engine, response: Any, name: str, collection: Collection) -> None:
    progress = engine.loader.answers.progress(collection)
    response.collection_names.append(name)
    response.collection_ids.append(collection.collection_id)
    response.created_timestamps.append(collection.created_ts)
    response.created_utc_timestamps.append(physical_ms(collection.created_ts))
    response.inMemory_percentages.append(progress.percent)
    response.query_service_available.append(progress.is_loaded)
    response.shards_num.append(collection.num_shards)


def get_collection_statistics(engine: Engine, context: RequestContext, request: Any) -> Any:
    count = writes.row_count(engine, context, request.collection_name)
    stats = encode.key_values({"row_count": count})
    return milvus_pb2.GetCollectionStatisticsResponse(status=encode.status(), stats=stats)


def create_index(engine: Engine, context: RequestContext, request: Any) -> Any:
    params = pairs(request.extra_params)
    name, field = request.collection_name, request.field_name
    indexes.create_index(engine, context, name, field, request.index_name, params)
    return encode.status()


def describe_index(engine: Engine, context: RequestContext, request: Any) -> Any:
    found = indexes.describe_indexes(engine, context, request.collection_name, request.index_name, request.field_name)
    return milvus_pb2.DescribeIndexResponse(
        status=encode.status(), index_descriptions=[encode.index_description(d) for d in found]
    )


def drop_index(engine: Engine, context: RequestContext, request: Any) -> Any:
    name = request.index_name or request.field_name
    indexes.drop_index(engine, context, request.collection_name, name)
    return encode.status()


def insert(engine: Engine, context: RequestContext, request: Any) -> Any:
    return encode.mutation(writes.insert(engine, context, decode.insert(request)), "insert_cnt")


def upsert(engine: Engine, context: RequestContext, request: Any) -> Any:
    return encode.mutation(writes.upsert(engine, context, decode.upsert(request)), "upsert_cnt")


def delete(engine: Engine, context: RequestContext, request: Any) -> Any:
    return encode.mutation(writes.delete(engine, context, decode.delete(request)), "delete_cnt")


def flush(engine: Engine, context: RequestContext, request: Any) -> Any:
    response = milvus_pb2.FlushResponse(status=encode.status(), db_name=context.database)
    names = tuple(request.collection_names)
    for name, flushed in zip(names, segments.flush(engine, context, names), strict=True):
        response.coll_segIDs[name].data.extend(flushed.segment_ids)
        response.flush_coll_segIDs[name].data.extend(flushed.segment_ids)
        response.coll_seal_times[name] = physical_ms(flushed.ts) // 1000
        response.coll_flush_ts[name] = flushed.ts
    return response


def flush_all(engine: Engine, context: RequestContext, request: Any) -> Any:
    ts, flushed = segments.flush_all(engine, context, request.db_name, decode.flush_targets(request))
    return encode.flushed_all(ts, flushed)


def get_flush_state(engine: Engine, context: RequestContext, request: Any) -> Any:
    flushed = segments.is_flushed(engine, context, request.collection_name, tuple(request.segmentIDs), request.flush_ts)
    return milvus_pb2.GetFlushStateResponse(status=encode.status(), flushed=flushed)


def get_flush_all_state(engine: Engine, context: RequestContext, request: Any) -> Any:
    ts = max([request.flush_all_ts, *request.flush_all_tss.values()])
    flushed = segments.is_all_flushed(engine, context, request.db_name, ts, decode.flush_targets(request))
    return milvus_pb2.GetFlushAllStateResponse(status=encode.status(), flushed=flushed)


def manual_compaction(engine: Engine, context: RequestContext, request: Any) -> Any:
    request_id, plan_count = segments.compact(
        engine,
        context,
        request.collection_name,
        request.collectionID,
        request.target_size,
        request.majorCompaction or request.l0Compaction,
    )
    return milvus_pb2.ManualCompactionResponse(
        status=encode.status(), compactionID=request_id, compactionPlanCount=plan_count
    )


def get_compaction_state(engine: Engine, context: RequestContext, request: Any) -> Any:
    found = segments.compaction_status(segments.compaction_plans(engine, context, request.compactionID))
    return milvus_pb2.GetCompactionStateResponse(
        status=encode.status(),
        state=encode.compaction_state(found),
        executingPlanNo=found.executing,
        completedPlanNo=found.completed,
        failedPlanNo=found.failed,
    )


def get_compaction_state_with_plans(engine: Engine, context: RequestContext, request: Any) -> Any:
    plans = segments.compaction_plans(engine, context, request.compactionID, request.collection_name)
    return milvus_pb2.GetCompactionPlansResponse(
        status=encode.status(),
        state=encode.compaction_state(segments.compaction_status(plans)),
        mergeInfos=[encode.compaction_plan(plan) for plan in plans],
    )


def get_persistent_segment_info(engine: Engine, context: RequestContext, request: Any) -> Any:
    found = segments.stored_segments(engine, context, request.collectionName, frozenset(request.states))
    return milvus_pb2.GetPersistentSegmentInfoResponse(
        status=encode.status(), infos=[encode.stored_segment(segment) for segment in found]
    )


def get_query_segment_info(engine: Engine, context: RequestContext, request: Any) -> Any:
    found = segments.loaded_segments(engine, context, request.collectionName)
    return milvus_pb2.GetQuerySegmentInfoResponse(
        status=encode.status(), infos=[encode.loaded_segment(segment) for segment in found]
    )


def load_collection(engine: Engine, context: RequestContext, request: Any) -> Any:
    loading.load_collection(engine, context, decode.load(request))
    return encode.status()


def release_collection(engine: Engine, context: RequestContext, request: Any) -> Any:
    loading.release_collection(engine, context, request.collection_name)
    return encode.status()


def get_load_state(engine: Engine, context: RequestContext, request: Any) -> Any:
    names = tuple(request.partition_names)
    found = loading.get_load_state(engine, context, request.collection_name, names)
    return milvus_pb2.GetLoadStateResponse(status=encode.status(), state=int(found.state))


def get_loading_progress(engine: Engine, context: RequestContext, request: Any) -> Any:
    """refresh_progress is 100 while no refresh is in progress; SDKs that refresh wait for it."""
    names = tuple(request.partition_names)
    percent = loading.get_loading_progress(engine, context, request.collection_name, names)
    return milvus_pb2.GetLoadingProgressResponse(status=encode.status(), progress=percent, refresh_progress=100)


def search(engine: Engine, context: RequestContext, request: Any) -> Any:
    return decoded_search(engine, context, decode.search(request))


def decoded_search(engine: Engine, context: RequestContext, request: SearchRequest) -> Any:
    return encode.search_results(request.name, reading.search(engine, context, request))


def hybrid_search(engine: Engine, context: RequestContext, request: Any) -> Any:
    result = reading.hybrid_search(engine, context, decode.hybrid_search(request))
    return encode.search_results(request.collection_name, result)


def query(engine: Engine, context: RequestContext, request: Any) -> Any:
    result = reading.query(engine, context, decode.query(request))
    return encode.query_results(request.collection_name, result)


RPCS: dict[str, Rpc] = {
    **databases.RPCS,
    **aliases.RPCS,
    **resource_groups.RPCS,
    **altering.RPCS,
    **administration.RPCS,
    **analyzers.RPCS,
    **external_collections.RPCS,
    **file_resources.RPCS,
    **imports.RPCS,
    **snapshots.RPCS,
    "AllocTimestamp": alloc_timestamp,
    "BatchDescribeCollection": batch_describe_collection,
    "CheckHealth": check_health,
    "Connect": connect,
    "CreateCollection": create_collection,
    "CreateIndex": create_index,
    "Delete": delete,
    "DescribeCollection": describe_collection,
    "DescribeIndex": describe_index,
    "DropCollection": drop_collection,
    "DropIndex": drop_index,
    "Flush": flush,
    "FlushAll": flush_all,
    "GetCollectionStatistics": get_collection_statistics,
    "GetCompactionState": get_compaction_state,
    "GetCompactionStateWithPlans": get_compaction_state_with_plans,
    "GetComponentStates": get_component_states,
    "GetFlushAllState": get_flush_all_state,
    "GetFlushState": get_flush_state,
    "GetLoadState": get_load_state,
    "GetLoadingProgress": get_loading_progress,
    "GetMetrics": get_metrics,
    "GetPersistentSegmentInfo": get_persistent_segment_info,
    "GetQuerySegmentInfo": get_query_segment_info,
    "GetVersion": get_version,
    "HasCollection": has_collection,
    "HybridSearch": hybrid_search,
    "Insert": insert,
    "LoadCollection": load_collection,
    "ManualCompaction": manual_compaction,
    "Query": query,
    "ReleaseCollection": release_collection,
    "Search": search,
    "ShowCollections": show_collections,
    "Upsert": upsert,
    **partitions.RPCS,
    **roles.RPCS,
    **users.RPCS,
}
