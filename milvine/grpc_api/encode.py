"""Results of the service -> protobuf, and errors -> status."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from milvine.datanode.compactor import Plan, PlanState
from milvine.errors import MilvineError
from milvine.grpc_api import buckets
from milvine.grpc_api.proto import common_pb2, milvus_pb2, response_class, schema_pb2
from milvine.model.collections import Collection
from milvine.model.columns import Column
from milvine.model.functions import FunctionSchema
from milvine.model.requests import IndexDescription, MutationResult, OutputField, ReadResult
from milvine.model.resource_groups import NODE_ID
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.timestamps import physical_ms
from milvine.model.types import DataType, SegmentState
from milvine.model.vectors import kind_of
from milvine.service.context import channel_name
from milvine.service.replicas import Replica
from milvine.service.segments import CompactionStatus, FlushedCollection, LoadedSegment, SegmentInfo

_SCALARS: dict[DataType, str] = {
    DataType.BOOL: "bool_data",
    DataType.INT8: "int_data",
    DataType.INT16: "int_data",
    DataType.INT32: "int_data",
    DataType.INT64: "long_data",
    DataType.FLOAT: "float_data",
    DataType.DOUBLE: "double_data",
    DataType.VARCHAR: "string_data",
    DataType.JSON: "json_data",
    DataType.TIMESTAMPTZ: "string_data",
}

_LENGTH_DELIMITED = 2
_CHANNEL, _TIME = "milvine-dml_0", "_tt"
"""The channel of all writes in the answer of FlushAll, and the property of a message that is its time, in base 36."""


def status(error: MilvineError | None = None) -> Any:
    """An empty Status is success; an error sets both codes, since old SDKs read only the legacy one."""
    if error is None:
        return common_pb2.Status()
    extra = {"is_input_error": "true"} if error.is_input_error else {}
    return common_pb2.Status(
        code=error.code,
        error_code=error.legacy_code,
        reason=error.message,
        detail=error.message,
        retriable=error.retriable,
        extra_info=extra,
    )


_STATUS_FIELDS = {"AlterCollectionSchemaResponse": "alter_status"}
"""The field of the status in answers that name it otherwise."""


def failure(method: str, error: MilvineError) -> Any:
    """The RPC's own response message with the error in its status."""
    message_class = response_class(method)
    failed = status(error)
    if message_class is common_pb2.Status:
        return failed
    return message_class(**{_STATUS_FIELDS.get(message_class.DESCRIPTOR.name, "status"): failed})


def key_values(values: Mapping[str, object]) -> list[Any]:
    return [common_pb2.KeyValuePair(key=k, value=str(v)) for k, v in values.items()]


def ids(keys: Any, target: Any) -> None:
    """Fill a schema.IDs from int64 (n,) or a StringArray."""
    if isinstance(keys, np.ndarray):
        target.int_id.data.extend(keys.tolist())
    else:
        target.str_id.data.extend(keys.to_pylist())


def _add_floats(target: Any, field_name: str, values: Any) -> None:
    """Fills a repeated float of an empty message from an array, by its bytes on the wire (packed), a hundred times as
    fast as number by number. https://protobuf.dev/programming-guides/encoding/#packed"""
    data = np.asarray(values, "<f4").tobytes()
    if data:
        tag = target.DESCRIPTOR.fields_by_name[field_name].number << 3 | _LENGTH_DELIMITED
        target.MergeFromString(_varint(tag) + _varint(len(data)) + data)


def _varint(number: int) -> bytes:
    low_first = []
    while number > 0x7F:
        low_first.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*low_first, number])


def _plain(values: Any) -> list[Any]:
    plain: list[Any] = values.tolist() if isinstance(values, np.ndarray) else values.to_pylist()
    return plain


def field_data(field: FieldSchema, column: Column) -> Any:
    """One result column. NULLs are in valid_data. Vectors are sent for valid rows only; other types with fillers."""
    data = schema_pb2.FieldData(
        type=int(field.data_type), field_name=field.name, field_id=field.field_id, is_dynamic=field.is_dynamic
    )
    if field.data_type.is_vector:
        _add_vectors(data.vectors, field, column)
    elif field.data_type is DataType.ARRAY:
        _add_arrays(data.scalars.array_data, field, column)
    else:
        getattr(data.scalars, _SCALARS[field.data_type]).data.extend(_plain(column.values))
        getattr(data.scalars, _SCALARS[field.data_type]).SetInParent()
    if field.nullable:
        validity = np.ones(len(column), np.bool_) if column.validity is None else column.validity
        data.valid_data.extend(validity.tolist())
    return data


def _add_vectors(target: Any, field: FieldSchema, column: Column) -> None:
    kind = kind_of(field.data_type)
    values = column.values if column.validity is None else column.values[column.validity]
    target.dim = kind.wire_dim(field, values)
    content = kind.to_wire(values)
    if isinstance(content, np.ndarray):
        _add_floats(getattr(target, kind.wire_name), "data", content)
    elif isinstance(content, list):
        rows = getattr(target, kind.wire_name)
        rows.dim = target.dim
        rows.contents.extend(content)
    else:
        setattr(target, kind.wire_name, content)


def _add_arrays(target: Any, field: FieldSchema, column: Column) -> None:
    assert field.element_type is not None
    target.element_type = int(field.element_type)
    kind = _SCALARS[field.element_type]
    for row in column.values.to_pylist():
        getattr(target.data.add(), kind).data.extend(row)


def fields_data(fields: Iterable[OutputField]) -> list[Any]:
    return [field_data(output.field, output.column) for output in fields]


def search_results(name: str, result: ReadResult) -> Any:
    if result.buckets is not None:
        return buckets.search_results(name, result)
    ranking = result.ranking
    assert ranking is not None
    response = milvus_pb2.SearchResults(collection_name=name, session_ts=result.ts)
    response.status.SetInParent()
    data = response.results
    counts = ranking.counts.tolist()
    data.num_queries = len(counts)
    data.top_k = ranking.limit
    data.topks.extend(counts)
    _add_floats(data, "scores", ranking.scores)
    data.primary_field_name = result.primary_field.name
    data.output_fields.extend(result.output_names)
    data.fields_data.extend(fields_data(result.fields))
    ids(ranking.keys.values, data.ids)
    data.all_search_count = sum(counts)
    if ranking.lists_groups:
        data.group_by_field_values.extend(fields_data(ranking.groups))
    elif ranking.groups:
        (group,) = ranking.groups
        data.group_by_field_value.CopyFrom(field_data(group.field, group.column))
    for highlights in ranking.highlights:
        data.highlight_results.add(
            field_name=highlights.field_name,
            datas=[
                common_pb2.HighlightData(fragments=found, scores=scores)
                for found, scores in itertools.zip_longest(highlights.fragments, highlights.scores)
            ],
        )
    if ranking.iterator_token:
        data.search_iterator_v2_results.token = ranking.iterator_token
        data.search_iterator_v2_results.last_bound = ranking.last_bound
    return response


def query_results(name: str, result: ReadResult) -> Any:
    return milvus_pb2.QueryResults(
        status=status(),
        collection_name=name,
        session_ts=result.ts,
        primary_field_name=result.primary_field.name,
        output_fields=result.output_names,
        fields_data=fields_data(result.fields),
    )


def mutation(result: MutationResult, kind: str) -> Any:
    """`kind`: insert_cnt, delete_cnt or upsert_cnt, which sets all three. Deletes return no keys, as in Milvus."""
    response = milvus_pb2.MutationResult(timestamp=result.ts, acknowledged=True)
    response.status.SetInParent()
    for name in ("insert_cnt", "delete_cnt", "upsert_cnt"):
        if kind in (name, "upsert_cnt"):
            setattr(response, name, result.row_count)
    if kind != "delete_cnt":
        ids(result.keys, response.IDs)
        response.succ_index.extend(range(result.row_count))
    return response


def _field_schema(field: FieldSchema) -> Any:
    params: dict[str, object] = {}
    if field.dim is not None:
        params["dim"] = field.dim
    if field.max_length is not None:
        params["max_length"] = field.max_length
    if field.max_capacity is not None:
        params["max_capacity"] = field.max_capacity
    params.update(field.properties)
    default = None
    if field.default_value is not None:
        default = schema_pb2.ValueField(**{_SCALARS[field.data_type]: field.default_value})
    return schema_pb2.FieldSchema(
        fieldID=field.field_id,
        name=field.name,
        is_primary_key=field.is_primary,
        description=field.description,
        data_type=int(field.data_type),
        type_params=key_values(params),
        autoID=field.auto_id,
        nullable=field.nullable,
        element_type=int(field.element_type or 0),
        default_value=default,
        is_partition_key=field.is_partition_key,
        is_function_output=field.made_by is not None,
    )


def _function_schema(schema: CollectionSchema, function: FunctionSchema) -> Any:
    def ids_of(names: Sequence[str]) -> list[int]:
        return [schema.by_name[name].field_id for name in names]

    return schema_pb2.FunctionSchema(
        id=function.function_id,
        name=function.name,
        description=function.description,
        type=int(function.function_type),
        input_field_names=function.inputs,
        input_field_ids=ids_of(function.inputs),
        output_field_names=function.outputs,
        output_field_ids=ids_of(function.outputs),
        params=key_values(function.params),
    )


def describe_collection(
    collection: Collection, database_id: int, aliases: Sequence[str] = (), asked_name: str = ""
) -> Any:
    """`asked_name` is the name or alias in the request, which Milvus also returns."""
    schema = collection.schema
    channels = [channel_name(collection.collection_id, shard) for shard in range(collection.num_shards)]
    return milvus_pb2.DescribeCollectionResponse(
        status=status(),
        schema=schema_pb2.CollectionSchema(
            name=collection.name,
            description=schema.description,
            fields=[_field_schema(f) for f in schema.user_fields],
            enable_dynamic_field=schema.enable_dynamic_field,
            version=schema.version,
            functions=[_function_schema(schema, f) for f in schema.functions],
        ),
        collectionID=collection.collection_id,
        collection_name=asked_name or collection.name,
        aliases=aliases,
        virtual_channel_names=channels,
        physical_channel_names=channels,
        created_timestamp=collection.created_ts,
        created_utc_timestamp=physical_ms(collection.created_ts),
        update_timestamp=collection.updated_ts,
        update_timestamp_str=str(collection.updated_ts),
        shards_num=collection.num_shards,
        consistency_level=int(collection.consistency_level),
        properties=key_values(collection.described_properties),
        db_name=collection.database,
        db_id=database_id,
        num_partitions=len(collection.partitions),
    )


def index_description(description: IndexDescription) -> Any:
    return milvus_pb2.IndexDescription(
        index_name=description.name,
        indexID=description.index_id,
        params=key_values(description.params),
        field_name=description.field_name,
        indexed_rows=description.indexed_rows,
        total_rows=description.total_rows,
        pending_index_rows=description.pending_rows,
        state=description.state,
        index_state_fail_reason=description.failure,
    )


def flushed_all(ts: int, flushed: Iterable[FlushedCollection]) -> Any:
    """With the message of one channel, whose time milvus-backup asks GetFlushAllState for."""
    response = milvus_pb2.FlushAllResponse(
        status=status(), flush_all_ts=ts, cluster_info=milvus_pb2.ClusterInfo(pchannels=[_CHANNEL])
    )
    response.flush_all_msgs[_CHANNEL].properties[_TIME] = np.base_repr(ts, 36).lower()
    results: dict[str, Any] = {}
    for one in flushed:
        database = one.collection.database
        if database not in results:
            results[database] = response.flush_results.add(db_name=database)
        result = results[database].collection_results.add(
            collection_name=one.collection.name, seal_time=physical_ms(one.ts) // 1000, flush_ts=one.ts
        )
        result.segment_ids.data.extend(one.segment_ids)
        result.flush_segment_ids.data.extend(one.segment_ids)
    return response


def compaction_state(found: CompactionStatus) -> Any:
    return common_pb2.CompactionState.Completed if found.is_completed else common_pb2.CompactionState.Executing


def compaction_plan(plan: Plan) -> Any:
    info = milvus_pb2.CompactionMergeInfo(
        sources=[m.segment_id for m in plan.sources],
        target=plan.target,
        plan_id=plan.plan_id,
        trigger_id=plan.trigger_id,
        collection_id=plan.collection_id,
        partition_id=plan.sources[0].partition_id,
        channel=channel_name(plan.collection_id),
        type=common_pb2.CompactionType.CompactionTypeMix,
        state=int(plan.state),
        failure_reason=plan.failure,
    )
    if plan.state is PlanState.COMPLETED and plan.row_count:
        info.targets.append(plan.target)
    return info


def stored_segment(segment: SegmentInfo) -> Any:
    return milvus_pb2.PersistentSegmentInfo(
        segmentID=segment.segment_id,
        collectionID=segment.collection_id,
        partitionID=segment.partition_id,
        num_rows=segment.row_count,
        state=int(segment.state),
        level=common_pb2.SegmentLevel.L1,
        is_sorted=segment.state is SegmentState.FLUSHED,
        insert_channel=channel_name(segment.collection_id),
        compaction_from=segment.compacted_from,
    )


def loaded_segment(segment: LoadedSegment) -> Any:
    index = segment.index
    return milvus_pb2.QuerySegmentInfo(
        segmentID=segment.meta.segment_id,
        collectionID=segment.meta.collection_id,
        partitionID=segment.meta.partition_id,
        mem_size=segment.memory_bytes,
        num_rows=segment.meta.row_count,
        index_name="" if index is None else index.name,
        indexID=0 if index is None else index.index_id,
        nodeID=segment.node_ids[0] if segment.node_ids else 0,
        nodeIds=segment.node_ids,
        state=common_pb2.SegmentState.Sealed,
        level=common_pb2.SegmentLevel.L1,
        is_sorted=True,
    )


def replica(held: Replica) -> Any:
    collection_id = held.collection.collection_id
    shards = range(held.collection.num_shards)
    return milvus_pb2.ReplicaInfo(
        replicaID=held.replica_id,
        collectionID=collection_id,
        partition_ids=sorted(held.load.partition_ids),
        shard_replicas=[
            milvus_pb2.ShardReplica(
                leaderID=NODE_ID, dm_channel_name=channel_name(collection_id, shard), node_ids=held.node_ids
            )
            for shard in shards
        ],
        node_ids=held.node_ids,
        resource_group_name=held.resource_group,
        num_outbound_node=held.outbound,
    )
