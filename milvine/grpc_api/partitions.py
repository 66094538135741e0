"""The RPCs of partitions, and TruncateCollection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from milvine.grpc_api import decode, encode
from milvine.grpc_api.proto import milvus_pb2
from milvine.model.collections import Partition
from milvine.model.timestamps import physical_ms
from milvine.service import loading, partitions
from milvine.service.context import Engine, RequestContext

_IN_MEMORY = 1


def create_partition(engine: Engine, context: RequestContext, request: Any) -> Any:
    partitions.create_partition(engine, context, request.collection_name, request.partition_name)
    return encode.status()


def drop_partition(engine: Engine, context: RequestContext, request: Any) -> Any:
    partitions.drop_partition(engine, context, request.collection_name, request.partition_name)
    return encode.status()


def has_partition(engine: Engine, context: RequestContext, request: Any) -> Any:
    value = partitions.has_partition(engine, context, request.collection_name, request.partition_name)
    return milvus_pb2.BoolResponse(status=encode.status(), value=value)


def show_partitions(engine: Engine, context: RequestContext, request: Any) -> Any:
    """All partitions, even if names are given; with type InMemory those to be loaded, or the named ones."""
    name = request.collection_name
    if request.type != _IN_MEMORY:
        return _shown(partitions.list_partitions(engine, context, name), ())
    found = partitions.list_loaded(engine, context, name, tuple(request.partition_names))
    return _shown([p for p, _ in found], [percent for _, percent in found])


def _shown(found: Iterable[Partition], percents: Iterable[int]) -> Any:
    response = milvus_pb2.ShowPartitionsResponse(status=encode.status(), inMemory_percentages=percents)
    for partition in found:
        response.partition_names.append(partition.name)
        response.partitionIDs.append(partition.partition_id)
        response.created_timestamps.append(partition.created_ts)
        response.created_utc_timestamps.append(physical_ms(partition.created_ts))
    return response


def get_partition_statistics(engine: Engine, context: RequestContext, request: Any) -> Any:
    count = partitions.row_count(engine, context, request.collection_name, request.partition_name)
    stats = encode.key_values({"row_count": count})
    return milvus_pb2.GetPartitionStatisticsResponse(status=encode.status(), stats=stats)


def load_partitions(engine: Engine, context: RequestContext, request: Any) -> Any:
    loading.load_partitions(engine, context, decode.load(request), tuple(request.partition_names))
    return encode.status()


def release_partitions(engine: Engine, context: RequestContext, request: Any) -> Any:
    loading.release_partitions(engine, context, request.collection_name, tuple(request.partition_names))
    return encode.status()


def truncate_collection(engine: Engine, context: RequestContext, request: Any) -> Any:
    partitions.truncate_collection(engine, context, request.collection_name)
    return milvus_pb2.TruncateCollectionResponse(status=encode.status())


RPCS: dict[str, Callable[[Engine, RequestContext, Any], Any]] = {
    "CreatePartition": create_partition,
    "DropPartition": drop_partition,
    "GetPartitionStatistics": get_partition_statistics,
    "HasPartition": has_partition,
    "LoadPartitions": load_partitions,
    "ReleasePartitions": release_partitions,
    "ShowPartitions": show_partitions,
    "TruncateCollection": truncate_collection,
}
