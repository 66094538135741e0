"""Partitions: create, drop, list; truncation of a collection; pruning of partitions by a partition key filter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from milvine.catalog import partitions as changes
from milvine.errors import ParameterInvalid, PartitionNotLoaded
from milvine.expr import Predicate
from milvine.expr.predicate import And, Compare, In, LiteralSet, Or, equal_values
from milvine.expr.tree import Comparator
from milvine.model.collections import Collection, Partition
from milvine.model.partition_keys import buckets
from milvine.model.schema import FieldSchema
from milvine.model.schema_rules import check_collection_name, check_partition_name
from milvine.model.types import DataType
from milvine.service.context import Engine, RequestContext, find_collection, find_partition
from milvine.service.deny_rules import PARTITION_CHANGE
from milvine.service.gate import capability


def refuse_with_key(collection: Collection, what: str) -> None:
    """Callers cannot name partitions of a collection with a partition key."""
    if collection.schema.partition_key is not None:
        raise ParameterInvalid(f"disable {what} if partition key mode is used")


def refuse_names_with_key(collection: Collection, names: tuple[str, ...]) -> None:
    if any(names) and collection.schema.partition_key is not None:
        raise ParameterInvalid("not support manually specifying the partition names if partition key mode is used")


@capability("CreatePartition", on="name", denied_as=PARTITION_CHANGE)
def create_partition(engine: Engine, context: RequestContext, name: str, partition_name: str) -> None:
    """Succeeds if the partition exists. A new partition of a loaded collection is loaded."""
    collection = find_collection(engine, context, name)
    refuse_with_key(collection, "create partition")
    check_partition_name(partition_name)
    partition = Partition(engine.clock.next(), partition_name, engine.clock.next())
    changes.create_partition(engine.catalog, collection.collection_id, partition)
    engine.loader.view_changed(collection.collection_id)


@capability("DropPartition", on="name", denied_as=PARTITION_CHANGE)
def drop_partition(engine: Engine, context: RequestContext, name: str, partition_name: str) -> None:
    """Returns when its rows are removed for good. Succeeds if the partition does not exist."""
    collection = find_collection(engine, context, name)
    refuse_with_key(collection, "drop partition")
    check_partition_name(partition_name)
    engine.datanode.drop_partition(collection.collection_id, partition_name)


@capability("HasPartition", on="name")
def has_partition(engine: Engine, context: RequestContext, name: str, partition_name: str) -> bool:
    check_collection_name(name)
    check_partition_name(partition_name)
    return partition_name in find_collection(engine, context, name).partition_by_name


@capability("ShowPartitions", on="name")
def list_partitions(engine: Engine, context: RequestContext, name: str) -> tuple[Partition, ...]:
    return find_collection(engine, context, name).partitions


@capability("ShowPartitions", on="name")
def list_loaded(
    engine: Engine, context: RequestContext, name: str, partition_names: tuple[str, ...]
) -> list[tuple[Partition, int]]:
    """The partitions of the load configuration, or those named, with the loaded percentage of each. A named partition
    that is not in the configuration is an error."""
    check_collection_name(name)
    for partition_name in partition_names:
        check_partition_name(partition_name)
    collection = find_collection(engine, context, name)
    to_load = frozenset() if collection.load is None else collection.load.partition_ids
    wanted = [find_partition(collection, n) for n in partition_names]
    wanted = wanted or [p for p in collection.partitions if p.partition_id in to_load]
    for partition in wanted:
        if partition.partition_id not in to_load:
            raise PartitionNotLoaded(partition.partition_id)
    return [(p, engine.loader.answers.progress(collection, frozenset({p.partition_id})).percent) for p in wanted]


@capability("GetStatistics", on="name")
def row_count(engine: Engine, context: RequestContext, name: str, partition_name: str) -> int:
    """Rows flushed and growing; deleted ones count until they are compacted, as in Milvus."""
    collection = find_collection(engine, context, name)
    partition = find_partition(collection, partition_name)
    return engine.datanode.row_count(collection.collection_id, partition.partition_id)


@capability("DropCollection")
def truncate_collection(engine: Engine, context: RequestContext, name: str) -> None:
    """Returns when all earlier rows are removed for good; schema, indexes and load configuration stay."""
    engine.datanode.truncate(find_collection(engine, context, name).collection_id)


def holding(collection: Collection, predicate: Predicate | None) -> frozenset[int] | None:
    """The partitions whose rows can pass the filter, by its conditions on the partition key; None for all."""
    key = collection.schema.partition_key
    return None if key is None or predicate is None else _holding(collection, key, predicate)


def _holding(collection: Collection, key: FieldSchema, predicate: Predicate) -> frozenset[int] | None:
    match predicate:
        case Compare(target, Comparator.EQ) | In(target) if target.field_id == key.field_id:
            return _of_values(collection, key, equal_values(predicate))
        case And(operands):
            found = [ids for ids in (_holding(collection, key, p) for p in operands) if ids is not None]
            return frozenset.intersection(*found) if found else None
        case Or(operands):
            each = [_holding(collection, key, p) for p in operands]
            return None if None in each else frozenset().union(*(ids for ids in each if ids is not None))
    return None


def _of_values(collection: Collection, key: FieldSchema, values: LiteralSet) -> frozenset[int]:
    wanted: Any = values.strings if key.data_type is DataType.VARCHAR else values.integers
    if wanted is None:
        wanted = pa.array([], pa.string()) if key.data_type is DataType.VARCHAR else np.zeros(0, np.int64)
    used = np.unique(buckets(wanted, len(collection.partitions)))
    return frozenset(collection.partitions[bucket].partition_id for bucket in used.tolist())
