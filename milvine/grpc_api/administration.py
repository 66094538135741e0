"""Small RPCs of old and administrative clients: states of an index, balancing, replication, telemetry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milvine.errors import IndexDuplicate, MilvineError
from milvine.grpc_api import decode, encode
from milvine.grpc_api.proto import common_pb2, milvus_pb2
from milvine.model import json_text
from milvine.model.requests import IndexDescription
from milvine.service import admin, balancing, indexes, reading
from milvine.service.context import Engine, RequestContext

_FAIL, _SUCCESS = '{"status": "fail"}', '{"status": "success"}'


def _index(engine: Engine, context: RequestContext, request: Any) -> IndexDescription:
    found = indexes.describe_indexes(engine, context, request.collection_name, request.index_name, request.field_name)
    if len(found) > 1:
        raise IndexDuplicate(request.index_name)
    return found[0]


def get_index_state(engine: Engine, context: RequestContext, request: Any) -> Any:
    index = _index(engine, context, request)
    return milvus_pb2.GetIndexStateResponse(status=encode.status(), state=index.state, fail_reason=index.failure)


def get_index_build_progress(engine: Engine, context: RequestContext, request: Any) -> Any:
    index = _index(engine, context, request)
    return milvus_pb2.GetIndexBuildProgressResponse(
        status=encode.status(), indexed_rows=index.indexed_rows, total_rows=index.total_rows
    )


def get_index_statistics(engine: Engine, context: RequestContext, request: Any) -> Any:
    found = indexes.describe_indexes(engine, context, request.collection_name, request.index_name)
    return milvus_pb2.GetIndexStatisticsResponse(
        status=encode.status(), index_descriptions=[encode.index_description(index) for index in found]
    )


def load_balance(engine: Engine, context: RequestContext, request: Any) -> Any:
    balancing.balance_load(
        engine, context, request.collectionName, request.src_nodeID, request.dst_nodeIDs, request.sealed_segmentIDs
    )
    return encode.status()


def register_link(engine: Engine, context: RequestContext, request: Any) -> Any:
    status = encode.status()
    status.reason = "STANDALONE"
    return milvus_pb2.RegisterLinkResponse(status=status)


def dummy(engine: Engine, context: RequestContext, request: Any) -> Any:
    """Runs the query in `request_type`, JSON text, and answers only whether it succeeded."""
    try:
        asked = json_text.loads(request.request_type)
        if not isinstance(asked, dict) or asked.get("request_type") != "query":
            return milvus_pb2.DummyResponse(response=_FAIL)
        wanted = milvus_pb2.QueryRequest(
            db_name=asked.get("dbname", ""),
            collection_name=asked.get("collection_name", ""),
            partition_names=asked.get("partition_names", ()),
            output_fields=asked.get("output_fields", ()),
        )
        reading.query(engine, context.in_database(wanted.db_name or context.database), decode.query(wanted))
    except (json_text.NotJson, MilvineError, TypeError):
        return milvus_pb2.DummyResponse(response=_FAIL)
    return milvus_pb2.DummyResponse(response=_SUCCESS)


def get_replicate_configuration(engine: Engine, context: RequestContext, request: Any) -> Any:
    clusters = [common_pb2.MilvusCluster(cluster_id=name) for name in admin.list_replicating_clusters(engine, context)]
    return milvus_pb2.GetReplicateConfigurationResponse(
        status=encode.status(), configuration=common_pb2.ReplicateConfiguration(clusters=clusters)
    )


def get_replicate_info(engine: Engine, context: RequestContext, request: Any) -> Any:
    """No checkpoints, as from any cluster that is no replica."""
    return milvus_pb2.GetReplicateInfoResponse()


def client_heartbeat(engine: Engine, context: RequestContext, request: Any) -> Any:
    """No commands for the client; what it reports is not kept."""
    return milvus_pb2.ClientHeartbeatResponse(status=encode.status())


RPCS: dict[str, Callable[[Engine, RequestContext, Any], Any]] = {
    "Dummy": dummy,
    "GetIndexBuildProgress": get_index_build_progress,
    "GetIndexState": get_index_state,
    "GetIndexStatistics": get_index_statistics,
    "GetReplicateConfiguration": get_replicate_configuration,
    "GetReplicateInfo": get_replicate_info,
    "LoadBalance": load_balance,
    "RegisterLink": register_link,
}
TELEMETRY_RPCS: dict[str, Callable[[Engine, RequestContext, Any], Any]] = {"ClientHeartbeat": client_heartbeat}
"""Those of ClientTelemetryService, of which clients need this one; the others are for operators."""
PROXY_RPCS: dict[str, Callable[[Engine, RequestContext, Any], Any]] = {"RegisterLink": register_link}
"""Those of ProxyService."""
