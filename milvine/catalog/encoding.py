"""Values of the model as values of the catalog's columns: mostly JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import orjson

from milvine.model.collections import Collection, LoadConfig, Partition
from milvine.model.functions import FunctionSchema, FunctionType
from milvine.model.import_jobs import FileStats, ImportJob, JobState
from milvine.model.records import by_name
from milvine.model.resource_groups import DEFAULT_RESOURCE_GROUP, ResourceGroup, ResourceGroupConfig
from milvine.model.schema import CollectionSchema, FieldSchema, IndexSpec
from milvine.model.segments import DeltaMeta, SegmentIndexMeta, SegmentMeta
from milvine.model.types import ConsistencyLevel, DataType, MetricType
from milvine.model.users import ApiKey


def encode_schema(schema: CollectionSchema) -> dict[str, Any]:
    return {
        "description": schema.description,
        "enable_dynamic_field": schema.enable_dynamic_field,
        "version": schema.version,
        "updated_ts": schema.updated_ts,
        "fields": [by_name(f) for f in schema.fields],
        "dropped_fields": [by_name(f) for f in schema.dropped_fields],
        "functions": [by_name(f) for f in schema.functions],
    }


def decode_schema(stored: Mapping[str, Any]) -> CollectionSchema:
    return _decode_schema(orjson.dumps(stored))


@lru_cache(1024)
def _decode_schema(text: bytes) -> CollectionSchema:
    """Collections often have equal schemas, ten thousand of them perhaps, which then share one."""
    stored = orjson.loads(text)
    return CollectionSchema(
        tuple(map(_decode_field, stored["fields"])),
        stored["description"],
        stored["enable_dynamic_field"],
        stored.get("version", 0),
        stored.get("updated_ts", 0),
        tuple(map(_decode_field, stored["dropped_fields"])),
        tuple(map(_decode_function, stored["functions"])),
    )


_FIELD_TYPES: dict[str, Callable[[int], object]] = {
    "data_type": DataType,
    "element_type": DataType,
    "made_by": FunctionType,
}


def _decode_field(stored: Mapping[str, Any]) -> FieldSchema:
    types = {name: kind(stored[name]) for name, kind in _FIELD_TYPES.items() if stored.get(name) is not None}
    return FieldSchema(**(dict(stored) | types))


def _decode_function(stored: Mapping[str, Any]) -> FunctionSchema:
    function_type = FunctionType(stored["function_type"])
    inputs, outputs = tuple(stored["inputs"]), tuple(stored["outputs"])
    return FunctionSchema(**{**stored, "function_type": function_type, "inputs": inputs, "outputs": outputs})


def encode_load(load: LoadConfig | None) -> dict[str, Any] | None:
    if load is None:
        return None
    return {
        "partition_ids": sorted(load.partition_ids),
        "field_ids": sorted(load.field_ids),
        "replica_number": load.replica_number,
        "resource_group": ",".join(load.resource_groups),
    }


def decode_load(stored: Mapping[str, Any] | None) -> LoadConfig | None:
    if stored is None:
        return None
    return LoadConfig(
        frozenset(stored["partition_ids"]),
        frozenset(stored["field_ids"]),
        stored["replica_number"],
        tuple(stored.get("resource_group", DEFAULT_RESOURCE_GROUP).split(",")),
    )


def encode_resource_group(group: ResourceGroup) -> dict[str, Any]:
    """The row of a resource group."""
    return {"name": group.name, "config": by_name(group.config), "has_node": group.has_node}


def decode_resource_group(row: Any) -> ResourceGroup:
    config = row.config
    return ResourceGroup(
        row.name,
        ResourceGroupConfig(
            config["requests"],
            config["limits"],
            tuple(config["transfer_from"]),
            tuple(config["transfer_to"]),
            tuple((key, value) for key, value in config["node_labels"]),
        ),
        row.has_node,
    )


def encode_api_key(key: ApiKey) -> dict[str, Any]:
    """The row of an API key."""
    return by_name(key) | {"roles": None if key.roles is None else sorted(key.roles)}


def decode_api_key(row: Any) -> ApiKey:
    stored = dict(row._mapping)
    return ApiKey(**stored | {"roles": None if row.roles is None else frozenset(row.roles)})


def encode_collection(collection: Collection) -> dict[str, Any]:
    """A whole collection without its load configuration, as a snapshot keeps it."""
    return {
        "collection_id": collection.collection_id,
        "database": collection.database,
        "name": collection.name,
        "schema": encode_schema(collection.schema),
        "created_ts": collection.created_ts,
        "consistency_level": int(collection.consistency_level),
        "num_shards": collection.num_shards,
        "properties": dict(collection.properties),
        "partitions": [by_name(partition) for partition in collection.partitions],
        "indexes": [by_name(index) for index in collection.indexes],
        "folded_ts": collection.folded_ts,
    }


def decode_collection(stored: Mapping[str, Any]) -> Collection:
    return Collection(
        stored["collection_id"],
        stored["database"],
        stored["name"],
        decode_schema(stored["schema"]),
        stored["created_ts"],
        ConsistencyLevel(stored["consistency_level"]),
        stored["num_shards"],
        stored["properties"],
        tuple(Partition(**one) for one in stored["partitions"]),
        tuple(_decode_index(one) for one in stored["indexes"]),
        folded_ts=stored["folded_ts"],
    )


def _decode_index(stored: Mapping[str, Any]) -> IndexSpec:
    metric = stored["metric_type"]
    return IndexSpec(**{**stored, "metric_type": None if metric is None else MetricType(metric)})


def encode_segment(meta: SegmentMeta) -> dict[str, Any]:
    return by_name(meta) | {
        "field_bytes": {str(k): v for k, v in meta.field_bytes.items()},
        "indexes": [by_name(built) for built in meta.indexes.values()],
    }


def decode_segment(stored: Mapping[str, Any]) -> SegmentMeta:
    built = [SegmentIndexMeta(**one) for one in stored["indexes"]]
    return SegmentMeta(
        **{
            **stored,
            "field_bytes": {int(k): v for k, v in stored["field_bytes"].items()},
            "indexes": {one.index_id: one for one in built},
            "compacted_from": tuple(stored["compacted_from"]),
        }
    )


def encode_import_job(job: ImportJob) -> dict[str, Any]:
    """The row of an import job."""
    return by_name(job) | {
        "state": str(job.state),
        "files": [list(paths) for paths in job.files],
        "options": dict(job.options),
        "stats": [[one.size, one.row_count] for one in job.stats],
        "segments": [encode_segment(meta) for meta in job.segments],
    }


def decode_import_job(row: Any) -> ImportJob:
    return ImportJob(
        **dict(row._mapping)
        | {
            "state": JobState(row.state),
            "files": tuple(map(tuple, row.files)),
            "stats": tuple(FileStats(*one) for one in row.stats),
            "segments": tuple(map(decode_segment, row.segments)),
        }
    )


def encode_delta(delta: DeltaMeta) -> dict[str, Any]:
    return by_name(delta)


def decode_delta(stored: Mapping[str, Any]) -> DeltaMeta:
    return DeltaMeta(**stored)
