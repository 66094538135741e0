"""Load, release, load state and progress."""

from __future__ import annotations

from collections.abc import Callable

from milvine.catalog.collections import set_resource_groups
from milvine.errors import (
    CollectionNotLoaded,
    IndexNotFound,
    MemoryLimitExceeded,
    MilvineError,
    ParameterInvalid,
    PartitionNotFound,
    PartitionNotLoaded,
)
from milvine.model.collections import Collection, LoadConfig
from milvine.model.properties import SKIP_LOAD_PROPERTY, parse_bool
from milvine.model.requests import LoadRequest, LoadStatus
from milvine.model.schema_rules import check_collection_name
from milvine.model.types import LoadState
from milvine.service.context import Engine, RequestContext, find_collection, find_partition
from milvine.service.deny_rules import COLLECTION_CHANGE, PARTITION_CHANGE
from milvine.service.gate import capability
from milvine.service.partitions import refuse_with_key
from milvine.service.replicas import assign_replicas

_COORDINATOR = "call query coordinator LoadCollection"


def fields_to_load(collection: Collection, request: LoadRequest) -> frozenset[int]:
    """Ids of the fields that a load names (all if it names none), with `$meta` unless it is skipped."""
    schema = collection.schema
    dynamic = schema.dynamic_field
    wanted = {f.field_id for f in schema.user_fields if not parse_bool(f.properties.get(SKIP_LOAD_PROPERTY, ""))}
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
        if schema.partition_key is not None and schema.partition_key.field_id not in wanted:
            raise ParameterInvalid(f"{listed} does not contain partition key field {schema.partition_key.name}")
    if dynamic is not None and not request.skip_load_dynamic_field:
        wanted.add(dynamic.field_id)
    return frozenset(wanted)


def _check_indexes(collection: Collection, field_ids: frozenset[int]) -> None:
    if not collection.user_indexes:
        raise IndexNotFound(collection=collection.name)
    lacking = [
        f.name
        for f in collection.schema.vector_fields
        if f.field_id in field_ids and f.field_id not in collection.index_by_field
    ]
    if lacking:
        raise ParameterInvalid(f"there is no vector index on field: [{' '.join(lacking)}], please create index firstly")


@capability("Load", on="request.name", denied_as=COLLECTION_CHANGE)
def load_collection(engine: Engine, context: RequestContext, request: LoadRequest) -> None:
    """Returns when the load configuration is durable and fits in memory; loading continues in the background."""
    collection = find_collection(engine, context, request.name)
    field_ids = fields_to_load(collection, request)
    _check_indexes(collection, field_ids)
    if request.refresh:
        _refresh(engine, collection)
        return
    try:
        replicas, groups = assign_replicas(engine, collection, request, check_nodes=collection.load is None)
    except MilvineError as error:
        raise error.prefixed(_COORDINATOR) from error

    def choose(now: Collection) -> LoadConfig:
        return LoadConfig(frozenset(p.partition_id for p in now.partitions), field_ids, replicas, groups)

    _load(engine, collection.collection_id, choose)
    set_resource_groups(engine.catalog, collection.collection_id, groups)


def _load(engine: Engine, collection_id: int, choose: Callable[[Collection], LoadConfig]) -> None:
    """Waits for the memory of nodes that may still report to a head that has just started."""
    budget = engine.loader.budget
    while True:
        known = budget.limit_bytes
        try:
            engine.loader.load_chosen(collection_id, choose)
            return
        except MemoryLimitExceeded:
            engine.cluster.wait_for_nodes(lambda known=known: budget.limit_bytes > known)  # type: ignore[misc]
            if budget.limit_bytes <= known:
                raise


def _refresh(engine: Engine, collection: Collection) -> None:
    """Loaded collections always see all stored data, so only the state is checked."""
    if collection.load is None:
        raise CollectionNotLoaded(collection.collection_id)
    if not engine.loader.answers.progress(collection).is_loaded:
        raise CollectionNotLoaded(collection.collection_id).prefixed("collection not fully loaded")


@capability("Load", on="request.name", denied_as=PARTITION_CHANGE)
def load_partitions(
    engine: Engine, context: RequestContext, request: LoadRequest, partition_names: tuple[str, ...]
) -> None:
    """As `load_collection`, but loads further partitions. All loaded partitions get the fields of this call."""
    collection = find_collection(engine, context, request.name)
    refuse_with_key(collection, "load partitions")
    field_ids = fields_to_load(collection, request)
    _check_indexes(collection, field_ids)
    wanted = frozenset(find_partition(collection, name).partition_id for name in partition_names)
    if not wanted:
        raise ParameterInvalid("failed to load partition, due to no partition specified")
    if request.refresh:
        _refresh(engine, collection)
        return
    replicas = max(1, request.replica_number)
    if collection.load is not None and request.replica_number > 0 and replicas != collection.load.replica_number:
        raise ParameterInvalid(
            "can't change the replica number for loaded partitions",
            expected=collection.load.replica_number,
            actual=replicas,
        )
    replicas, groups = assign_replicas(engine, collection, request)

    def choose(now: Collection) -> LoadConfig:
        there = frozenset(p.partition_id for p in now.partitions)
        if not wanted <= there:
            raise PartitionNotFound(next(p for p in partition_names if p not in now.partition_by_name))
        loaded = frozenset() if now.load is None else now.load.partition_ids
        return LoadConfig(loaded | wanted, field_ids, replicas, groups)

    _load(engine, collection.collection_id, choose)
    set_resource_groups(engine.catalog, collection.collection_id, groups)


@capability("Release", on="name", denied_as=PARTITION_CHANGE)
def release_partitions(engine: Engine, context: RequestContext, name: str, partition_names: tuple[str, ...]) -> None:
    """Returns when the memory is released. Without its last loaded partition the collection is not loaded."""
    collection = find_collection(engine, context, name)
    refuse_with_key(collection, "release partitions")
    partition_ids = frozenset(find_partition(collection, p).partition_id for p in partition_names)
    if not partition_ids:
        raise ParameterInvalid(expected="any partition", actual="empty partition list")
    engine.loader.release_partitions(collection.collection_id, partition_ids)


@capability("Release", on="name", denied_as=COLLECTION_CHANGE)
def release_collection(engine: Engine, context: RequestContext, name: str) -> None:
    """Returns when the memory is released; succeeds if the collection is not loaded."""
    collection = find_collection(engine, context, name)
    engine.loader.release(collection.collection_id)


@capability("GetLoadState", on="name")
def get_load_state(
    engine: Engine, context: RequestContext, name: str, partition_names: tuple[str, ...] = ()
) -> LoadStatus:
    """NotExist if the collection is not found. A malformed name or an unknown partition raises."""
    check_collection_name(name)
    try:
        collection = find_collection(engine, context, name)
    except MilvineError:
        return LoadStatus(LoadState.NOT_EXIST, 0)
    partition_ids = frozenset(find_partition(collection, p).partition_id for p in partition_names)
    if collection.load is None or not partition_ids <= collection.load.partition_ids:
        return LoadStatus(LoadState.NOT_LOAD, 0)
    progress = engine.loader.answers.progress(collection, partition_ids or None)
    return LoadStatus(LoadState.LOADED if progress.is_loaded else LoadState.LOADING, progress.percent)


@capability("GetLoadState", on="name")
def get_loading_progress(
    engine: Engine, context: RequestContext, name: str, partition_names: tuple[str, ...] = ()
) -> int:
    """Percent, 0..100; of named partitions the mean. Raises CollectionNotLoaded or PartitionNotLoaded, with the cause
    first if a load failed."""
    collection = find_collection(engine, context, name)
    partition_ids = [find_partition(collection, p).partition_id for p in partition_names]
    failure = engine.loader.answers.failure(collection.collection_id)
    loaded = frozenset() if collection.load is None else collection.load.partition_ids
    error: MilvineError | None = None
    if not partition_ids and collection.load is None:
        error = CollectionNotLoaded(collection.collection_id)
    for partition_id in partition_ids:
        if partition_id not in loaded:
            error = PartitionNotLoaded(partition_id)
            break
    if error is not None:
        raise error if failure is None else error.prefixed(failure.message)
    if not partition_ids:
        return engine.loader.answers.progress(collection).percent
    percents = [engine.loader.answers.progress(collection, frozenset({i})).percent for i in partition_ids]
    return sum(percents) // len(percents)
