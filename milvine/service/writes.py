"""Insert, upsert, delete. A request is checked as a whole before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.analysis.outputs import with_outputs
from milvine.errors import (
    CollectionNotLoaded,
    CollectionSchemaMismatch,
    MilvineError,
    ParameterInvalid,
    ParameterTooLarge,
    PartitionNotFound,
    UnexpectedError,
)
from milvine.expr import compile_filter, is_always_true, is_approximate, primary_keys
from milvine.index.scalar_type import number_paths
from milvine.model.collections import DEFAULT_PARTITION, Collection
from milvine.model.columns import (
    Column,
    ColumnBatch,
    absent_column,
    json_column,
)
from milvine.model.properties import allows_inserted_ids
from milvine.model.requests import DeleteRequest, InsertRequest, MutationResult
from milvine.model.schema import DYNAMIC_FIELD_NAME, FieldSchema
from milvine.model.schema_rules import check_partition_name
from milvine.model.segments import ALL_PARTITIONS, delete_bytes
from milvine.model.types import DataType
from milvine.querynode.cluster import Target
from milvine.segment.keys import has_duplicates
from milvine.segment.plans import QueryPlan
from milvine.service.array_operations import Operation, checked_operations
from milvine.service.checked_columns import check_type, checked_column
from milvine.service.context import Engine, RequestContext, find_collection, find_partition
from milvine.service.deny_rules import WRITING
from milvine.service.disk_quotas import check_disk_quota
from milvine.service.embeddings import with_embeddings
from milvine.service.functions import check_no_output
from milvine.service.gate import capability
from milvine.service.moments import with_moments, zone_of
from milvine.service.partial_upserts import merged_rows, read_field_ids
from milvine.service.partitions import holding, refuse_names_with_key
from milvine.service.rate_limits import DELETED, INSERTED
from milvine.service.vectors import check_filler

Array = np.ndarray[Any, Any]


@capability("Insert", on="request.name", denied_as=WRITING)
def insert(engine: Engine, context: RequestContext, request: InsertRequest) -> MutationResult:
    """Returns when the rows are durable and visible. A refused batch writes nothing."""
    collection = find_collection(engine, context, request.name)
    _check_limits(engine, collection, request)
    partition_id = _partition_id(collection, request.partition_name)
    _check_row_count(request)
    primary = collection.schema.primary_field
    _check_schema_ts(collection, request)
    request = with_moments(collection, request)
    if primary.auto_id and primary.name in request.columns and not allows_inserted_ids(collection.properties):
        expected = len(collection.schema.fields)
        raise ParameterInvalid("more fieldData has pass in", expected=expected, actual=expected + 1)
    batch = _checked_batch(engine, context, collection, request)
    ts = engine.datanode.insert(collection.collection_id, partition_id, batch)
    return MutationResult(batch.columns[primary.field_id].values, batch.row_count, ts)


@capability("Upsert", on="request.name", denied_as=WRITING)
def upsert(engine: Engine, context: RequestContext, request: InsertRequest) -> MutationResult:
    """Replaces the rows with the given keys by whole rows. A missing field gets its default or NULL, not the old value,
    except in a partial update, which an operation on an ARRAY field is, too.

    With automatic ids the keys name the rows to replace, and the rows get new ids, unless they may have their own. With
    a partition key, the old row of a key is replaced in any partition. Returns as `insert` does.
    """
    collection = find_collection(engine, context, request.name)
    _check_limits(engine, collection, request)
    partition_id = _partition_id(collection, request.partition_name)
    _check_schema_ts(collection, request)
    operations = checked_operations(collection.schema, request)
    primary = collection.schema.primary_field
    keys = request.columns.get(primary.name)
    if keys is None:
        raise ParameterInvalid(f"must assign pk when upsert, primary field: {primary.name}")
    check_type(primary, keys)
    if has_duplicates(keys.values):
        raise ParameterInvalid("duplicate primary keys are not allowed in the same batch")
    _check_row_count(request)
    request = with_moments(collection, request)
    if request.partial_update or operations:
        return _partial_upsert(engine, context, collection, partition_id, request, operations=operations)
    replaced = None
    if primary.auto_id and not allows_inserted_ids(collection.properties):
        replaced = checked_column(collection.schema, primary, keys, request.row_count).values
        others = {name: column for name, column in request.columns.items() if name != primary.name}
        request = replace(request, columns=others)
    batch = _checked_batch(engine, context, collection, request)
    ts = engine.datanode.upsert(collection.collection_id, partition_id, batch, replaced)
    return MutationResult(batch.columns[primary.field_id].values, batch.row_count, ts)


def _partial_upsert(
    engine: Engine,
    context: RequestContext,
    collection: Collection,
    partition_id: int,
    request: InsertRequest,
    *,
    operations: Mapping[int, Operation],
) -> MutationResult:
    """Replaces the given columns of the rows with the given keys, or changes them by the operation of their field; new
    keys make new rows.

    The read and the write are atomic: no other write of the same keys is lost in between.
    """
    schema = collection.schema
    primary = schema.primary_field
    _check_names(collection, request)
    given = {
        field.field_id: checked_column(schema, field, request.columns[field.name], request.row_count, is_partial=True)
        for field in schema.fields
        if field.name in request.columns
    }
    given = with_embeddings(engine, context, schema, given)
    keys = given[primary.field_id].values
    new_ids = primary.auto_id and not allows_inserted_ids(collection.properties)

    def merged() -> tuple[ColumnBatch, Any | None]:
        current = engine.catalog.snapshot.collections.get(collection.collection_id, collection)
        outputs = read_field_ids(current.schema, given.keys() - operations.keys())
        found = _rows_by_key(engine, context, current, partition_id, keys, outputs)
        batch = with_outputs(current.schema, merged_rows(current.schema, given, found, operations))
        if not new_ids:
            return batch, None
        made = _new_keys(engine, primary, batch.row_count)
        return ColumnBatch(batch.row_count, {**batch.columns, primary.field_id: made}), keys

    batch, ts = engine.datanode.merge(collection.collection_id, partition_id, merged, context.deadline)
    return MutationResult(batch.columns[primary.field_id].values, batch.row_count, ts)


def _rows_by_key(
    engine: Engine,
    context: RequestContext,
    collection: Collection,
    partition_id: int,
    keys: Any,
    outputs: tuple[int, ...],
) -> ColumnBatch | None:
    """The current rows of a partition, or of ALL_PARTITIONS, with these keys. Raises as a query does."""
    collection_id = collection.collection_id
    if collection.load is None:
        raise CollectionNotLoaded(collection_id).prefixed("failed to query")
    for field_id in outputs:
        if field_id not in collection.load.field_ids:
            name = collection.schema.by_id[field_id].name
            raise UnexpectedError(f"field {name} is not loaded").prefixed("failed to query")
    partition_ids = None if partition_id == ALL_PARTITIONS else frozenset({partition_id})
    read_ts = engine.cluster.read_ts(collection_id)
    primary_id = collection.schema.primary_field.field_id
    plan = QueryPlan(read_ts, None, keys, partition_ids, None, outputs, primary_id)
    try:
        found = engine.cluster.query(Target(collection_id, partition_ids, context.deadline), plan)
    except MilvineError as error:
        raise error.prefixed("failed to query") from error
    return None if found is None else found.rows


def _check_limits(engine: Engine, collection: Collection, request: InsertRequest) -> None:
    check_disk_quota(engine, collection)

    def size() -> int:
        return sum(c.bytes_used for c in request.columns.values())

    most = engine.settings.max_insert_bytes
    if 0 <= most < size():
        raise ParameterTooLarge("insert request size exceeds maxInsertSize")
    engine.rates.check(collection, INSERTED, size, _written_partitions(collection, request.partition_name))


def _written_partitions(collection: Collection, name: str) -> tuple[str, ...]:
    """The partition that a write names, or none if the partition key decides."""
    return (name or DEFAULT_PARTITION,) if collection.schema.partition_key is None else ()


def _check_schema_ts(collection: Collection, request: InsertRequest) -> None:
    if request.schema_ts and request.schema_ts != collection.updated_ts:
        raise CollectionSchemaMismatch(request.name)


def _partition_id(collection: Collection, name: str) -> int:
    """The partition to write to; the default one if the name is empty. ALL_PARTITIONS: the partition key decides."""
    refuse_names_with_key(collection, (name,))
    if collection.schema.partition_key is not None:
        return ALL_PARTITIONS
    name = name or DEFAULT_PARTITION
    check_partition_name(name)
    return find_partition(collection, name).partition_id


def _check_row_count(request: InsertRequest) -> None:
    if request.row_count <= 0:
        raise ParameterInvalid(
            "num_rows should be greater than 0", expected="invalid num_rows", actual=request.row_count
        )


def _checked_batch(
    engine: Engine, context: RequestContext, collection: Collection, request: InsertRequest
) -> ColumnBatch:
    """All columns of the schema. Given columns are checked before any column of `row_count` rows is made, and before a
    model is called."""
    schema = collection.schema
    _check_names(collection, request)
    columns: dict[int, Column] = {}
    missing: list[FieldSchema] = []
    for field in schema.fields:
        column = request.columns.get(field.name)
        if column is not None:
            columns[field.field_id] = checked_column(schema, field, column, request.row_count)
        elif field.made_by is not None:
            continue
        elif _may_be_missing(field):
            check_filler(field, request.row_count)
            missing.append(field)
        else:
            raise ParameterInvalid(f"fieldSchema({field.name}) has no corresponding fieldData pass in")
    made = {field.field_id: _made_column(engine, field, request.row_count) for field in missing}
    embedded = with_embeddings(engine, context, schema, {**columns, **made})
    return with_outputs(schema, ColumnBatch(request.row_count, embedded))


def _check_names(collection: Collection, request: InsertRequest) -> None:
    schema = collection.schema
    for name in request.columns:
        if name not in schema.by_name:
            if name == DYNAMIC_FIELD_NAME:
                raise ParameterInvalid(f"without dynamic schema enabled, the field name cannot be set to {name}")
            raise ParameterInvalid(f"fieldName {name} not exist in collection schema")
        check_no_output(schema.by_name[name], collection.properties)


def _may_be_missing(field: FieldSchema) -> bool:
    return field.is_dynamic or field.auto_id or field.nullable or field.default_value is not None


def _made_column(engine: Engine, field: FieldSchema, row_count: int) -> Column:
    if field.is_dynamic:
        return json_column(pa.repeat(pa.scalar(b"{}", pa.binary()), row_count))
    return _new_keys(engine, field, row_count) if field.auto_id else absent_column(field, row_count)


def _new_keys(engine: Engine, field: FieldSchema, row_count: int) -> Column:
    first = engine.clock.reserve(row_count)
    keys: Any = np.arange(first, first + row_count, dtype=np.int64)
    return Column(field.data_type, keys if field.data_type is DataType.INT64 else pc.cast(keys, pa.string()))


@capability("Delete", on="request.name", denied_as=WRITING)
def delete(engine: Engine, context: RequestContext, request: DeleteRequest) -> MutationResult:
    """Deletes by key, loaded or not; by any other filter only if loaded, since the rows must be found."""
    collection = find_collection(engine, context, request.name)
    loaded = None if collection.load is None else collection.load.field_ids
    predicate = None
    if request.filter.strip():
        paths = number_paths(collection.scalar_indexes)
        try:
            zone = zone_of(collection.properties)
            predicate = compile_filter(request.filter, collection.schema, loaded, request.templates, paths, zone)
        except ParameterInvalid as error:
            raise error.prefixed("failed to create delete plan") from error
    if predicate is None or is_always_true(predicate):
        raise ParameterInvalid(f"delete plan can't be empty or always true : {request.filter}")
    if is_approximate(predicate):
        raise ParameterInvalid("bloom_match is approximate and cannot be used in delete expressions")
    refuse_names_with_key(collection, (request.partition_name,))
    partitions = holding(collection, predicate)
    if request.partition_name:
        check_partition_name(request.partition_name)
        try:
            partitions = frozenset({find_partition(collection, request.partition_name).partition_id})
        except PartitionNotFound as error:
            raise error.prefixed("Failed to get partition id") from error
    partition_id = next(iter(partitions)) if partitions is not None and len(partitions) == 1 else ALL_PARTITIONS
    keys = primary_keys(predicate)
    if keys is None:
        if collection.load is None:
            raise CollectionNotLoaded(collection.collection_id)
        primary = collection.schema.primary_field.field_id
        read_ts = engine.cluster.read_ts(collection.collection_id)
        plan = QueryPlan(read_ts, predicate, None, partitions, None, (), primary)
        target = Target(collection.collection_id, partitions, context.deadline)
        found = engine.cluster.query(target, plan)
        keys = [] if found is None else found.rows.columns[primary].values
    if len(keys) == 0:
        return MutationResult(keys, 0, engine.clock.next())
    named = (request.partition_name,) if request.partition_name else ()
    engine.rates.check(collection, DELETED, lambda: delete_bytes(keys), named)
    ts = engine.datanode.delete(collection.collection_id, keys, partition_id)
    return MutationResult(keys, len(keys), ts)


@capability("GetStatistics", on="name")
def row_count(engine: Engine, context: RequestContext, name: str) -> int:
    """Rows flushed and growing; deleted ones count until they are compacted, as in Milvus."""
    collection = find_collection(engine, context, name)
    return engine.datanode.row_count(collection.collection_id)
