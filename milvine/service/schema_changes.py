"""Adds fields to collections and drops them, alone or with the function that makes them, and alters functions.

Checks run under the catalog's lock, on the collection as it is then; their order and texts are Milvus's (proxy's and
root coordinator's tasks that alter schemas).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import replace

from milvine.catalog.altering import alter_collection as change_collection
from milvine.crash_points import crash_point
from milvine.errors import ParameterInvalid
from milvine.index.params import AUTOINDEX
from milvine.index.scalar_types.terms import terms_index
from milvine.index.vector_params import resolve
from milvine.model import schema_rules
from milvine.model.analyzer_params import enables_match, naming_fields
from milvine.model.collections import Collection, LoadConfig
from milvine.model.function_rules import check_added_function, check_altered_function, check_functions
from milvine.model.functions import FunctionSchema, FunctionType
from milvine.model.properties import DYNAMIC_PROPERTY, SKIP_LOAD_PROPERTY, TTL_FIELD_PROPERTY, parse_bool
from milvine.model.requests import NewFunction
from milvine.model.schema import (
    DYNAMIC_FIELD_NAME,
    CollectionSchema,
    FieldSchema,
    IndexSpec,
    flatten_params,
    with_field,
    with_function,
    without_fields,
)
from milvine.model.types import DataType, MetricType
from milvine.service.analyzers import check_analyzers
from milvine.service.context import Engine, RequestContext, find_collection, find_described
from milvine.service.embeddings import check_models, skips_model_check
from milvine.service.gate import capability
from milvine.service.moments import with_moment_default, zone_of

_FLUSHED_BYTES = 4 << 20
"""Of growing rows. More of them are sealed before a function is added, since writes wait while outputs are made."""


def switch_dynamic_field(engine: Engine, collection: Collection, properties: Mapping[str, str]) -> None:
    """Adds `$meta` or drops it, by the property of the collection, which must be the only one."""
    wanted = parse_bool(properties[DYNAMIC_PROPERTY])
    if wanted is None:
        raise ParameterInvalid(f"invalid dynamic schema property value: {properties[DYNAMIC_PROPERTY]}")
    if len(properties) != 1:
        raise ParameterInvalid("cannot alter dynamic schema with other properties at the same time")
    if collection.schema.enable_dynamic_field == wanted:
        return
    if wanted:
        field = FieldSchema(0, DYNAMIC_FIELD_NAME, DataType.JSON, is_dynamic=True)

        def with_dynamic(current: Collection, ts: int) -> Collection:
            if current.schema.enable_dynamic_field:
                return current
            schema = with_field(current.schema, field, ts)
            return replace(current, schema=schema, load=_with_loaded(current, schema.by_name[field.name]))

        _add(engine, collection, with_dynamic)
    else:
        _drop(engine, collection, lambda current: {f.field_id for f in current.schema.fields if f.is_dynamic})


@capability("AddCollectionField", on="name")
def add_field(engine: Engine, context: RequestContext, name: str, added: FieldSchema) -> None:
    """Adds a field in place. Earlier rows read as NULL or its default, loaded or not."""
    _add_plain_field(engine, find_collection(engine, context, name), name, added)


@capability("AlterCollectionSchema", on="name")
def add_schema_field(engine: Engine, context: RequestContext, name: str, added: FieldSchema) -> None:
    """As `add_field`, by the call that Milvus 3 has for it."""
    _add_plain_field(engine, find_described(engine, context, name), name, added)


def _add_plain_field(engine: Engine, collection: Collection, name: str, sent: FieldSchema) -> None:
    index_id = engine.clock.next()
    added = with_moment_default(sent, zone_of(collection.properties))

    def widened(current: Collection, ts: int) -> Collection:
        schema_rules.check_added_field(name, current.schema, added)
        check_analyzers(replace(current.schema, fields=(*current.schema.fields, added)), name)
        following = replace(current, schema=with_field(current.schema, added, ts))
        field = following.schema.by_name[added.name]
        own = (terms_index(index_id, field),) if enables_match(field) else ()
        return replace(following, indexes=(*current.indexes, *own), load=_with_loaded(current, field))

    _add(engine, collection, widened)


@capability("AlterCollectionSchema", on="name")
def add_function_field(engine: Engine, context: RequestContext, name: str, added: NewFunction) -> None:
    """Adds a function with its output field and an index on it, in place. Growing rows get their outputs at once,
    sealed ones in the background; until then they are no hits of searches in the field."""
    collection, index_id = find_described(engine, context, name), engine.clock.next()

    def widened(current: Collection, ts: int) -> Collection:
        _check_function(name, current.schema, added)
        following = with_function(current.schema, added.function, added.output, ts)
        field = following.by_name[added.output.name]
        index = _index_of(current, field, added, index_id)
        load = current.load
        if load is not None and not _skips_load(field):
            load = replace(load, field_ids=load.field_ids | {field.field_id})
        return replace(current, schema=following, indexes=(*current.indexes, index), load=load)

    widened(collection, 0)  # a refused call flushes nothing
    growing = engine.datanode.growing(collection.collection_id)
    if sum(segment.bytes_used for segment in growing) > _FLUSHED_BYTES:
        engine.datanode.flush(collection.collection_id)
    _add(engine, collection, widened)


def _check_function(name: str, schema: CollectionSchema, added: NewFunction) -> None:
    schema_rules.check_added_output(name, schema, added.output)
    check_added_function(schema, added.function, added.output)
    schema_rules.check_index_name(added.index_name)
    following = replace(schema, fields=(*schema.fields, added.output), functions=(*schema.functions, added.function))
    check_functions(following)
    check_analyzers(following, name)


def _index_of(current: Collection, field: FieldSchema, added: NewFunction, index_id: int) -> IndexSpec:
    """The index that comes with the output of a function."""
    params = dict(added.index_params)
    flat = flatten_params(params)
    if field.made_by is FunctionType.MIN_HASH and flat.get("index_type", AUTOINDEX) == AUTOINDEX:
        metric = flat.get("metric_type", MetricType.MHJACCARD)
        if metric != MetricType.MHJACCARD:
            raise ParameterInvalid(
                f"index metric type of MinHash function output field must be MHJACCARD, got {metric}"
            )
        params["metric_type"] = metric
    resolved = resolve(field, params)
    index_name = added.index_name.strip() or field.name
    if any(i.name == index_name for i in current.indexes):
        raise ParameterInvalid(f"index name {index_name} already exists in collection")
    return IndexSpec(
        index_id,
        field.field_id,
        index_name,
        resolved.index_type,
        resolved.metric_type,
        resolved.user_params,
        resolved.build_type,
        resolved.build_params,
    )


def _add(engine: Engine, collection: Collection, widened: Callable[[Collection, int], Collection]) -> None:
    """`widened`: the collection with a field more, as of a timestamp; it may raise to refuse the field, or return the
    collection as it is."""
    collection_id, ts = collection.collection_id, engine.clock.next()

    def commit(schema: CollectionSchema) -> None:
        if schema.updated_ts != ts:
            return
        before = engine.catalog.snapshot.existing(collection_id).schema
        engine.datanode.set_schema(collection_id, schema)
        crash_point("add_field.prepared")
        try:
            change_collection(engine.catalog, collection_id, lambda current: widened(current, ts))
        except BaseException:
            engine.datanode.set_schema(collection_id, before)  # its number may become that of another field
            raise
        crash_point("add_field.committed")

    engine.loader.change_schema(collection_id, lambda current: widened(current, ts).schema, commit)
    engine.datanode.fills.look()
    engine.datanode.indexes.look()


def _with_loaded(current: Collection, added: FieldSchema) -> LoadConfig | None:
    """A load of all fields includes the new one, except a vector field, which needs an index and another load."""
    load = current.load
    if load is None or added.data_type.is_vector or _skips_load(added):
        return load
    usual = {f.field_id for f in current.schema.user_fields if not f.data_type.is_vector and not _skips_load(f)}
    return replace(load, field_ids=load.field_ids | {added.field_id}) if usual <= load.field_ids else load


def _skips_load(field: FieldSchema) -> bool:
    return parse_bool(field.properties.get(SKIP_LOAD_PROPERTY, "")) is True


@capability("AlterCollectionSchema", on="name")
def drop_field(engine: Engine, context: RequestContext, name: str, field: str | int) -> None:
    """Drops a field, by its name or its id, and its indexes."""
    collection = find_described(engine, context, name)

    def chosen(current: Collection) -> Set[int]:
        schema = current.schema
        if isinstance(field, str):
            if not field:
                raise ParameterInvalid("field name is empty")
            found = schema.by_name.get(field)
        else:
            found = next((f for f in schema.fields if f.field_id == field), None)
        if found is None:
            which = f": {field}" if isinstance(field, str) else f" with id: {field}"
            raise ParameterInvalid(f"field not found{which}")
        _check_dropped(current, found)
        return {found.field_id}

    _drop(engine, collection, chosen)


def _check_dropped(current: Collection, field: FieldSchema) -> None:
    name, schema = field.name, current.schema
    if current.properties.get(TTL_FIELD_PROPERTY) == name:
        raise ParameterInvalid(
            f"cannot drop field {name} because it is referenced by collection property {TTL_FIELD_PROPERTY}, "
            "drop the property first"
        )
    if field.is_dynamic:
        raise ParameterInvalid(f"cannot drop system field: {name}")
    if field.is_primary:
        raise ParameterInvalid(f"cannot drop primary key field: {name}")
    if field.is_partition_key:
        raise ParameterInvalid(f"cannot drop partition key field: {name}")
    if field.data_type.is_vector and len(schema.vector_fields) == 1:
        raise ParameterInvalid(f"cannot drop the last vector field: {name}")
    for function in schema.functions:
        for names, what in ((function.inputs, "input"), (function.outputs, "output")):
            if name in names:
                raise ParameterInvalid(
                    f"field is referenced by function {function.name} as {what}, drop function first"
                )
    for other in schema.fields:
        if other is not field and name in naming_fields(other):
            raise ParameterInvalid(
                f"cannot drop field {name} because its values name the analyzers of field {other.name}"
            )


@capability("AlterCollectionSchema", on="name")
def drop_function_field(
    engine: Engine, context: RequestContext, name: str, function_name: str, *, with_outputs: bool
) -> None:
    """Drops a function, its output field and the indexes on that."""
    collection = find_described(engine, context, name)

    def chosen(current: Collection) -> Set[int]:
        schema = current.schema
        if not function_name:
            raise ParameterInvalid("function name is empty")
        function = next((f for f in schema.functions if f.name == function_name), None)
        if function is None:
            raise ParameterInvalid(f"function not found: {function_name}")
        if not with_outputs:
            raise ParameterInvalid(
                "detaching a function without dropping its output field is not supported; "
                f"drop_function always removes the function together with its output field: {function_name}"
            )
        if all(f.name in function.outputs for f in schema.vector_fields):
            raise ParameterInvalid(
                f"cannot drop function {function_name}: it would leave no vector field in the collection"
            )
        return {schema.by_name[output].field_id for output in function.outputs}

    _drop(engine, collection, chosen)


def _drop(engine: Engine, collection: Collection, chosen: Callable[[Collection], Set[int]]) -> None:
    """Drops fields, the indexes on them and the functions that make them. Files and the log keep the columns; merges
    leave them out. `chosen` may raise to refuse the call, or choose no field."""
    collection_id, ts = collection.collection_id, engine.clock.next()

    def narrowed(current: Collection) -> CollectionSchema:
        field_ids = chosen(current)
        return without_fields(current.schema, field_ids, ts) if field_ids else current.schema

    def commit(schema: CollectionSchema) -> None:
        if schema.updated_ts != ts:
            return
        dropped_ids: set[int] = set()

        def changed(current: Collection) -> Collection:
            following = without_fields(current.schema, chosen(current), ts)
            kept = tuple(i for i in current.indexes if i.field_id in following.field_ids)
            dropped_ids.update(i.index_id for i in current.indexes if i not in kept)
            load = current.load
            if load is not None:
                load = replace(load, field_ids=load.field_ids & following.field_ids)
            return replace(current, schema=following, indexes=kept, load=load)

        crash_point("drop_field.prepared")
        change_collection(engine.catalog, collection_id, changed)
        crash_point("drop_field.committed")
        # After the commit, since growing rows lose the column for good.
        engine.datanode.set_schema(collection_id, schema)
        for index_id in dropped_ids:
            engine.datanode.indexes.dropped(collection_id, index_id)

    engine.loader.change_schema(collection_id, narrowed, commit)


@capability("CreateCollection")
def alter_function(
    engine: Engine, context: RequestContext, name: str, function_name: str, altered: FunctionSchema
) -> None:
    """Replaces the parameters of a function that say how its model is reached."""
    if altered.function_type is FunctionType.BM25:
        raise ParameterInvalid("currently does not support alter BM25 function")
    if function_name != altered.name:
        raise ParameterInvalid("invalid function config, name not match")
    collection = find_collection(engine, context, name)
    ts = engine.clock.next()

    def changed(current: Collection) -> Collection:
        known = next((f for f in current.schema.functions if f.name == function_name), None)
        if known is None:
            raise ParameterInvalid(f"function {function_name} not found")
        check_altered_function(known, altered)
        following = replace(altered, function_id=known.function_id)
        functions = (*(f for f in current.schema.functions if f is not known), following)
        schema = replace(current.schema, functions=functions, version=current.schema.version + 1, updated_ts=ts)
        check_functions(schema)
        return replace(current, schema=schema)

    following = changed(collection)
    if not skips_model_check(collection.properties):
        check_models(engine, context, following.schema, function_name)
    change_collection(engine.catalog, collection.collection_id, changed)
