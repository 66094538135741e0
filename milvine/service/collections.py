"""Collections: create, drop, describe, list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from milvine.catalog import collections as changes
from milvine.crash_points import crash_point
from milvine.errors import CollectionNotFound, CollectionNotLoaded, InputError, ParameterInvalid
from milvine.index.scalar_types.terms import terms_index
from milvine.model.analyzer_params import enables_match
from milvine.model.collections import DEFAULT_PARTITION, Collection, Partition
from milvine.model.records import record
from milvine.model.requests import CreateCollectionRequest
from milvine.model.schema import (
    DYNAMIC_FIELD_NAME,
    CollectionSchema,
    FieldSchema,
    with_field_ids,
    with_function_ids,
)
from milvine.model.schema_rules import check_collection_name, check_schema
from milvine.model.types import DataType
from milvine.service.analyzers import check_analyzers
from milvine.service.collection_properties import check_new_properties, with_defaults
from milvine.service.context import NOT_DESCRIBED, Engine, RequestContext, check_database, find_described
from milvine.service.deny_rules import COLLECTION_CHANGE
from milvine.service.embeddings import check_models, skips_model_check
from milvine.service.gate import Target, capability, declaration_of, for_every_user, require, sees, sees_name
from milvine.service.moments import with_moment_defaults, with_shown_defaults

PARTITIONS_WITH_KEY = 16


@record
class LoadedCollection:
    """A collection and the requested name, which may be an alias."""

    name: str
    collection: Collection


def _complete_schema(schema: CollectionSchema) -> CollectionSchema:
    """The user's fields and functions with ids, the fields followed by `$meta` if the schema is dynamic."""
    fields = list(schema.fields)
    if schema.enable_dynamic_field:
        fields.append(FieldSchema(0, DYNAMIC_FIELD_NAME, DataType.JSON, is_dynamic=True))
    return with_function_ids(replace(schema, fields=with_field_ids(fields)))


@capability("CreateCollection", denied_as=COLLECTION_CHANGE)
def create_collection(engine: Engine, context: RequestContext, request: CreateCollectionRequest) -> None:
    """Creates a collection. Succeeds if it exists with the same schema; another schema is refused."""
    check_schema(request.name, request.schema, request.num_shards, request.num_partitions)
    most_shards = engine.settings.max_shards
    if request.num_shards > most_shards:
        raise ParameterInvalid(f"maximum shards's number should be limited to {most_shards}")
    check_analyzers(request.schema, request.name)
    check_new_properties(request.name, request.schema, request.properties)
    skips_check = skips_model_check(request.properties)
    check_database(engine, context)
    changes.check_room(engine.catalog, engine.catalog.snapshot, context.database, request.name)
    existing = engine.catalog.snapshot.find(context.database, request.name)
    properties = with_defaults(request.properties, engine.catalog.snapshot.databases[context.database].properties)
    schema = _complete_schema(with_moment_defaults(request.schema, properties))
    if existing is None:
        if not skips_check:
            check_models(engine, context, schema)
        collection_id = engine.clock.next()
        collection = Collection(
            collection_id,
            context.database,
            request.name,
            schema,
            engine.clock.next(),
            request.consistency_level,
            max(1, request.num_shards),
            properties,
            tuple(Partition(engine.clock.next(), n, engine.clock.next()) for n in _partition_names(request)),
            tuple(terms_index(engine.clock.next(), f) for f in schema.fields if enables_match(f)),
        )
        # The log exists before the catalog names the collection, so a crash in between leaves only garbage.
        collection = engine.datanode.create(collection)
        crash_point("create.log_created")
        try:
            if changes.create_collection(engine.catalog, collection):
                return
        except InputError:  # not if the catalog failed, since it may have committed
            engine.datanode.drop(collection_id)
            raise
        engine.datanode.drop(collection_id)
        existing = engine.catalog.snapshot.find(context.database, request.name)
    if existing is not None and existing.schema != schema:
        raise ParameterInvalid(f"create duplicate collection with different parameters, collection: {request.name}")


def _partition_names(request: CreateCollectionRequest) -> list[str]:
    if request.schema.partition_key is None:
        return [DEFAULT_PARTITION]
    return [f"{DEFAULT_PARTITION}_{n}" for n in range(request.num_partitions or PARTITIONS_WITH_KEY)]


@capability("DropCollection", denied_as=COLLECTION_CHANGE)
def drop_collection(engine: Engine, context: RequestContext, name: str) -> None:
    """Succeeds if the collection does not exist. Refused for an alias, and while the collection has aliases."""
    check_collection_name(name)
    if (context.database, name) in engine.catalog.snapshot.aliases:
        raise ParameterInvalid(f"cannot drop the collection via alias = {name}")
    collection = engine.catalog.snapshot.find(context.database, name)
    if collection is None:
        return
    changes.drop_collection(engine.catalog, collection.collection_id)
    crash_point("drop.committed")
    engine.loader.release(collection.collection_id)
    engine.datanode.drop(collection.collection_id)


@for_every_user()
def has_collection(engine: Engine, context: RequestContext, name: str) -> bool:
    check_collection_name(name)
    check_database(engine, context)
    collection = engine.catalog.snapshot.find(context.database, name)
    return collection is not None and sees(engine, context, collection)


@for_every_user()
def list_collections(engine: Engine, context: RequestContext) -> list[Collection]:
    """Those that the caller may see, oldest first."""
    check_database(engine, context)
    here = [c for c in engine.catalog.snapshot.collections.values() if c.database == context.database]
    return sorted((c for c in here if sees(engine, context, c)), key=lambda c: c.created_ts)


@for_every_user()
def list_loaded_collections(
    engine: Engine, context: RequestContext, names: Sequence[str] = ()
) -> list[LoadedCollection]:
    """Collections that are loaded or being loaded. If a named one is not, raises CollectionNotLoaded with the name and,
    before it, the cause if its load failed."""
    check_database(engine, context)
    if not names:
        return [LoadedCollection(c.name, c) for c in list_collections(engine, context) if c.load is not None]
    found: list[LoadedCollection] = []
    for name in dict.fromkeys(names):
        collection = engine.catalog.snapshot.find(context.database, name)
        if collection is None or not sees(engine, context, collection):
            raise CollectionNotFound(name, context.database)
        found.append(LoadedCollection(name, collection))
    for loaded in found:
        if loaded.collection.load is None:
            failure = engine.loader.answers.failure(loaded.collection.collection_id)
            error = CollectionNotLoaded(loaded.name)
            raise error if failure is None else error.prefixed(failure.message)
    return found


def collection_for(engine: Engine, context: RequestContext, needed: Callable[..., Any], name: str) -> Collection:
    """The collection of a call of the capability `needed`, for an adapter that decodes the call by the schema. Checks
    the privilege only, since the call itself passes the whole gate."""
    declaration = declaration_of(needed)
    assert declaration is not None
    require(engine, context, declaration, Target((name,)))
    return _described(engine, context, name)


@capability("DescribeCollection", by_id="collection_id")
def describe_collection(engine: Engine, context: RequestContext, name: str, collection_id: int = 0) -> Collection:
    """By name or, if the name is empty, by id in any database. What the caller may not see is not found."""
    try:
        collection = _described(engine, context, name, collection_id)
    except CollectionNotFound as error:
        if sees_name(engine, context, context.database, name):
            raise
        raise error.prefixed(_unseen(context)) from None
    if not sees(engine, context, collection):
        missing = CollectionNotFound(name or str(collection_id), context.database, NOT_DESCRIBED)
        raise missing.prefixed(_unseen(context))
    return with_shown_defaults(collection)


def _unseen(context: RequestContext) -> str:
    return f"not there, or permission deny to {context.user}"


def _described(engine: Engine, context: RequestContext, name: str, collection_id: int = 0) -> Collection:
    if not name and collection_id:
        collection = engine.catalog.snapshot.collections.get(collection_id)
        if collection is None:
            raise CollectionNotFound(str(collection_id), context.database, NOT_DESCRIBED)
        return collection
    return find_described(engine, context, name)
