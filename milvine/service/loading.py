"""Load, release, state and progress."""

from __future__ import annotations

from milvine.errors import (
    CollectionNotLoaded,
    IndexNotFound,
    MilvineError,
    ParameterInvalid,
    PartitionNotLoaded,
    ResourceGroupNotFound,
    ResourceInsufficient,
)
from milvine.model.collections import Collection, LoadConfig
from milvine.model.requests import LoadRequest, LoadStatus
from milvine.model.schema_rules import check_collection_name
from milvine.model.types import LoadState
from milvine.service.context import Engine, RequestContext, find_collection, find_partition

DEFAULT_RESOURCE_GROUP = "__default_resource_group"
_COORDINATOR = "call query coordinator LoadCollection"


def fields_to_load(collection: Collection, request: LoadRequest) -> frozenset[int]:
    """Ids of the fields a load names (none named: all), `$meta` unless it is skipped."""
    schema = collection.schema
    dynamic = schema.dynamic_field
    wanted = {f.field_id for f in schema.user_fields}
    if request.load_fields:
        listed = f"load field list [{' '.join(request.load_fields)}]"
        for name in request.load_fields:
            if name not in schema.by_name:
                raise ParameterInvalid(f"failed to get field schema by name: fieldName({name}) not found")
        wanted = {schema.by_name[name].field_id for name in request.load_fields}
        if schema.primary_field.field_id not in wanted:
            raise ParameterInvalid(f"{listed} does not contain primary key field {schema.primary_field.name}")
        if not any(f.field_id in wanted for f in schema.vector_fields):
            raise ParameterInvalid(f"{listed} does not contain vector field")
    if dynamic is not None and not request.skip_load_dynamic_field:
        wanted.add(dynamic.field_id)
    return frozenset(wanted)


def _check_indexes(collection: Collection, field_ids: frozenset[int]) -> None:
    if not collection.indexes:
        raise IndexNotFound(collection=collection.name)
    lacking = [
        f.name
        for f in collection.schema.vector_fields
        if f.field_id in field_ids and f.field_id not in collection.index_by_field
    ]
    if lacking:
        raise ParameterInvalid(f"there is no vector index on field: [{' '.join(lacking)}], please create index firstly")


def _check_replicas(request: LoadRequest) -> None:
    """One node, one replica, one resource group."""
    replicas, groups = max(1, request.replica_number), request.resource_groups
    if len(groups) > 1 and len(groups) != replicas:
        raise ParameterInvalid(
            f"replica=[{replicas}] resource group=[{','.join(groups)}], "
            "resource group num can only be 0, 1 or same as replica number"
        ).prefixed(_COORDINATOR)
    for group in groups:
        if group != DEFAULT_RESOURCE_GROUP:
            raise ResourceGroupNotFound(group).prefixed(_COORDINATOR)
    if replicas > 1:
        raise ResourceInsufficient(
            f"when load {replicas} replica count", currentStreamingNode=1, expectedStreamingNode=replicas
        ).prefixed(_COORDINATOR)


def load_collection(engine: Engine, context: RequestContext, request: LoadRequest) -> None:
    """Returns when what to load is durable and fits in memory; loading goes on in the background."""
    collection = find_collection(engine, context, request.name)
    field_ids = fields_to_load(collection, request)
    _check_indexes(collection, field_ids)
    if request.refresh:
        if collection.load is None:
            raise CollectionNotLoaded(collection.collection_id)
        if not engine.loader.progress(collection).is_loaded:
            raise CollectionNotLoaded(collection.collection_id).prefixed("collection not fully loaded")
        return
    if collection.load is None:
        _check_replicas(request)
    partition_ids = frozenset(p.partition_id for p in collection.partitions)
    engine.loader.load(collection, LoadConfig(partition_ids, field_ids))


def release_collection(engine: Engine, context: RequestContext, name: str) -> None:
    """Returns when the memory is given back; releasing twice is a success."""
    collection = find_collection(engine, context, name)
    engine.loader.release(collection.collection_id)


def get_load_state(
    engine: Engine, context: RequestContext, name: str, partition_names: tuple[str, ...] = ()
) -> LoadStatus:
    """NotExist for whatever cannot be found, but for a malformed name and an unknown partition."""
    check_collection_name(name)
    try:
        collection = find_collection(engine, context, name)
    except MilvineError:
        return LoadStatus(LoadState.NOT_EXIST, 0)
    partition_ids = {find_partition(collection, p).partition_id for p in partition_names}
    if collection.load is None or not partition_ids <= collection.load.partition_ids:
        return LoadStatus(LoadState.NOT_LOAD, 0)
    progress = engine.loader.progress(collection)
    return LoadStatus(LoadState.LOADED if progress.is_loaded else LoadState.LOADING, progress.percent)


def get_loading_progress(
    engine: Engine, context: RequestContext, name: str, partition_names: tuple[str, ...] = ()
) -> int:
    """Percent, 0..100. Raises CollectionNotLoaded, behind its cause after a load that failed."""
    collection = find_collection(engine, context, name)
    if collection.load is None:
        error: MilvineError = CollectionNotLoaded(collection.collection_id)
        failure = engine.loader.failure(collection.collection_id)
        raise error if failure is None else error.prefixed(failure.message)
    for partition_name in partition_names:
        partition = find_partition(collection, partition_name)
        if partition.partition_id not in collection.load.partition_ids:
            raise PartitionNotLoaded(partition.partition_id)
    return engine.loader.progress(collection).percent


def load_config(collection: Collection) -> LoadConfig:
    """What of the collection is to be loaded. Raises CollectionNotLoaded."""
    if collection.load is None:
        raise CollectionNotLoaded(collection.collection_id)
    return collection.load
