"""Alters properties of collections, fields and indexes, adds fields, and drops `$meta`.

The placement of loaded data cannot change while it is loaded. Checks run under the catalog's lock, on the collection as
it is then; their order and texts are Milvus's (proxy's alter tasks, root and index coordinator).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from milvine.catalog.altering import alter_collection as change_collection
from milvine.errors import CollectionLoaded, IndexDuplicate, IndexNotFound, ParameterInvalid
from milvine.index.scalar_registry import SCALAR_TYPES
from milvine.model import schema_rules
from milvine.model.analyzer_params import enables_match, feeds
from milvine.model.collections import MAX_FIELD_ID_PROPERTY, Collection
from milvine.model.functions import FunctionType
from milvine.model.known_keys import COLLECTION, refuse_unserved
from milvine.model.properties import (
    ANALYZER_PARAMS,
    COLLECTION_WARMUP_PROPERTIES,
    DYNAMIC_PROPERTY,
    ENABLE_ANALYZER,
    INDEX_PROPERTIES,
    ISOLATION_PROPERTY,
    MMAP_PROPERTY,
    QUERY_MODE_PROPERTY,
    WARMUP_PROPERTY,
    allows_inserted_ids,
    check_collection_warmup,
    check_index_properties,
    check_query_mode,
    check_warmup,
    is_isolated,
    parse_bool,
)
from milvine.model.schema import (
    CollectionSchema,
    FieldSchema,
    IndexSpec,
)
from milvine.model.types import ConsistencyLevel, DataType
from milvine.service.analyzers import check_analyzers
from milvine.service.collection_properties import (
    check_isolation_property,
    check_ttl_field,
    refuse_altered_sharding,
)
from milvine.service.context import Engine, RequestContext, find_by_any_name, find_collection
from milvine.service.gate import capability
from milvine.service.schema_changes import switch_dynamic_field

_DESCRIPTION = "collection.description"
_FIELD_DESCRIPTION = "field.description"
_LEVEL = "consistency_level"
_ANALYZER = (ENABLE_ANALYZER, ANALYZER_PARAMS)
_DROPPABLE_OF_FIELD = frozenset({MMAP_PROPERTY, WARMUP_PROPERTY, *COLLECTION_WARMUP_PROPERTIES, *_ANALYZER})
_ALTERABLE_OF_FIELD = _DROPPABLE_OF_FIELD | {"max_length", "max_capacity", _FIELD_DESCRIPTION}
_PLACING = frozenset({MMAP_PROPERTY, WARMUP_PROPERTY, *COLLECTION_WARMUP_PROPERTIES})
_INTEGER = re.compile(r"[+-]?[0-9]+")
_BOTH = "cannot provide both DeleteKeys and ExtraParams"


@capability("CreateCollection")
def alter_collection(
    engine: Engine,
    context: RequestContext,
    name: str,
    properties: Mapping[str, str],
    delete_keys: Sequence[str] = (),
) -> None:
    """Sets or deletes properties; one call cannot do both."""
    if properties and delete_keys:
        raise ParameterInvalid(_BOTH)
    refuse_altered_sharding(properties, delete_keys)
    refuse_unserved(COLLECTION, properties)
    collection = find_by_any_name(engine, context, name)

    def changed(current: Collection) -> Collection:
        if properties:
            _check_collection_properties(name, current, properties)
        _check_deleted(name, current, delete_keys)
        if not properties and not delete_keys:
            raise ParameterInvalid("no properties or delete keys provided")
        following = _with_properties(current, properties, delete_keys)
        _check_vector_indexes(current, following)
        return following

    if DYNAMIC_PROPERTY in properties:
        switch_dynamic_field(engine, collection, properties)
    else:
        change_collection(engine.catalog, collection.collection_id, changed)


def _check_collection_properties(name: str, current: Collection, properties: Mapping[str, str]) -> None:
    if current.load is not None:
        if MMAP_PROPERTY in properties:
            raise CollectionLoaded(name, "can not alter mmap properties if collection loaded")
        if _PLACING & properties.keys():
            raise CollectionLoaded(name, "can not alter warmup properties if collection loaded")
    description = properties.get(_DESCRIPTION, current.schema.description)
    if description != current.schema.description:
        schema_rules.check_description(description)
    if allows_inserted_ids(properties) and not current.schema.primary_field.auto_id:
        raise ParameterInvalid("the value for allow_insert_auto_id must be false when autoID is false")
    schema_rules.check_timezone(properties)
    schema_rules.check_ttl(properties)
    check_ttl_field(current.schema, properties)
    check_collection_warmup(properties)
    check_query_mode(properties)
    check_isolation_property(name, current.schema, properties)
    if MAX_FIELD_ID_PROPERTY in properties:
        raise ParameterInvalid(f"cannot alter reserved collection property {MAX_FIELD_ID_PROPERTY}")


def _check_deleted(name: str, current: Collection, keys: Sequence[str]) -> None:
    placing = next((k for k in keys if k in _PLACING), None)
    if placing is not None and current.load is not None:
        what = "mmap" if placing == MMAP_PROPERTY else placing
        raise CollectionLoaded(name, f"can not delete {what} properties if collection loaded")
    if MAX_FIELD_ID_PROPERTY in keys:
        raise ParameterInvalid(f"cannot delete reserved collection property {MAX_FIELD_ID_PROPERTY}")
    if DYNAMIC_PROPERTY in keys:
        raise ParameterInvalid(
            f"cannot delete key {DYNAMIC_PROPERTY}, dynamic field schema could support set to true/false"
        )


def _with_properties(current: Collection, properties: Mapping[str, str], delete_keys: Sequence[str]) -> Collection:
    """Description and consistency level are set like properties but stored elsewhere."""
    plain = {k: v for k, v in properties.items() if k not in (_DESCRIPTION, _LEVEL)}
    kept = {k: v for k, v in {**current.properties, **plain}.items() if k not in delete_keys}
    return replace(
        current,
        schema=replace(current.schema, description=properties.get(_DESCRIPTION, current.schema.description)),
        consistency_level=_level(properties.get(_LEVEL, ""), current.consistency_level),
        properties=kept,
    )


def _check_vector_indexes(current: Collection, following: Collection) -> None:
    """What a vector index is built for stays while there is one."""
    if not current.index_by_field:
        return
    field_name = current.schema.by_id[next(iter(current.index_by_field))].name
    for key, what in ((ISOLATION_PROPERTY, "partition key isolation mode"), (QUERY_MODE_PROPERTY, QUERY_MODE_PROPERTY)):
        before, after = current.properties.get(key), following.properties.get(key)
        if key == ISOLATION_PROPERTY:
            is_changed = is_isolated(current.properties) != is_isolated(following.properties)
        else:
            is_changed = before != after
        if is_changed:
            raise IndexDuplicate(
                field_name,
                f"can not alter {what} if the collection already has a vector index. Please drop the index first",
            )


def _level(text: str, otherwise: ConsistencyLevel) -> ConsistencyLevel:
    """By name or number; any other value changes nothing, as in Milvus."""
    return next((level for level in ConsistencyLevel if text in (level.milvus_name, str(int(level)))), otherwise)


@capability("CreateCollection")
def alter_field(
    engine: Engine,
    context: RequestContext,
    name: str,
    field_name: str,
    properties: Mapping[str, str],
    delete_keys: Sequence[str] = (),
) -> None:
    """Sets a field's limits, description, placement and analyzer, and deletes properties of the last two."""
    collection = find_collection(engine, context, name)
    given = {_field_key(k): v for k, v in properties.items()}
    deleted = [_field_key(k) for k in delete_keys]

    def changed(current: Collection) -> Collection:
        field = current.schema.by_name.get(field_name)
        for key, value in given.items():
            if key in _ANALYZER:
                _check_analyzer(current.schema, field, field_name)
            _check_field_property(name, current, field, key, value)
        for key in deleted:
            if key in _ANALYZER:
                _check_analyzer(current.schema, field, field_name)
            _check_deleted_of_field(name, current, key)
        if field is None:
            raise ParameterInvalid(f"field {field_name} does not exist in collection")
        following = _altered_field(field, given, deleted)
        fields = tuple(following if f is field else f for f in current.schema.fields)
        if following == field:
            return current
        schema = replace(
            current.schema, fields=fields, version=current.schema.version + 1, updated_ts=engine.clock.next()
        )
        check_analyzers(schema, name)
        return replace(current, schema=schema)

    change_collection(engine.catalog, collection.collection_id, changed)


def _field_key(key: str) -> str:
    return MMAP_PROPERTY if key == "mmap_enabled" else key


def _check_field_property(name: str, current: Collection, field: FieldSchema | None, key: str, value: str) -> None:
    if key not in _ALTERABLE_OF_FIELD:
        raise ParameterInvalid(f"{key} does not allow update in collection field param")
    if key == MMAP_PROPERTY and current.load is not None:
        raise CollectionLoaded(name, "can not alter collection field properties if collection loaded")
    if key == WARMUP_PROPERTY:
        if current.load is not None:
            raise CollectionLoaded(name, "can not alter warmup if collection loaded")
        check_warmup(value)
    if key == ENABLE_ANALYZER and parse_bool(value) is None:
        raise ParameterInvalid(f"{key} should be a boolean, but got {value}")
    if key == "max_length":
        if field is None or DataType.VARCHAR not in (field.data_type, field.element_type):
            raise ParameterInvalid(" can not modify the maxlength for non-string types")
        if not _INTEGER.fullmatch(value):
            raise ParameterInvalid(f"{key} should be an integer, but got string")
        if int(value) > schema_rules.MAX_VARCHAR_BYTES:
            raise ParameterInvalid(f"{value} exceeds the maximum allowed value {schema_rules.MAX_VARCHAR_BYTES}")
    if key == "max_capacity":
        if field is None or field.data_type is not DataType.ARRAY:
            raise ParameterInvalid(" can not modify the maxcapacity for non-array types")
        if not _INTEGER.fullmatch(value):
            raise ParameterInvalid(f"the value for {key} of field {field.name} must be an integer")
        if not 0 < int(value) <= schema_rules.MAX_ARRAY_CAPACITY:
            raise ParameterInvalid(
                f"the maximum capacity specified for a Array should be in (0, {schema_rules.MAX_ARRAY_CAPACITY}]"
            )


def _check_analyzer(schema: CollectionSchema, field: FieldSchema | None, field_name: str) -> None:
    if field is None:
        raise ParameterInvalid(f"field not found: {field_name}")
    if field.data_type is not DataType.VARCHAR:
        raise ParameterInvalid(f"can not alter analyzer params for non-string field {field.name}")
    if enables_match(field) or feeds(schema, field, FunctionType.BM25, FunctionType.MIN_HASH):
        raise ParameterInvalid(
            f"can not alter analyzer params for field {field.name} after text match is enabled "
            "or a BM25/MinHash function depends on it"
        )


def _check_deleted_of_field(name: str, current: Collection, key: str) -> None:
    if key not in _DROPPABLE_OF_FIELD:
        raise ParameterInvalid(f"{key} is not allowed to drop in collection field param")
    if key in (MMAP_PROPERTY, WARMUP_PROPERTY) and current.load is not None:
        raise CollectionLoaded(name, "can not drop collection field properties if collection loaded")


def _altered_field(field: FieldSchema, given: Mapping[str, str], deleted: Sequence[str]) -> FieldSchema:
    properties = {k: v for k, v in given.items() if k in _PLACING or k in _ANALYZER}
    kept = {k: v for k, v in {**field.properties, **properties}.items() if k not in deleted}
    return replace(
        field,
        description=given.get(_FIELD_DESCRIPTION, field.description),
        max_length=int(given["max_length"]) if "max_length" in given else field.max_length,
        max_capacity=int(given["max_capacity"]) if "max_capacity" in given else field.max_capacity,
        properties=kept,
    )


@capability("CreateIndex", on="name")
def alter_index(
    engine: Engine,
    context: RequestContext,
    name: str,
    index_name: str,
    params: Mapping[str, str],
    delete_keys: Sequence[str] = (),
) -> None:
    """Sets or deletes the load properties of an index; refused while it is loaded."""
    if params and delete_keys:
        raise ParameterInvalid(_BOTH)
    for key in (*params, *delete_keys):
        if key not in INDEX_PROPERTIES:
            raise ParameterInvalid(f"{key} is not a configable index property")
    if WARMUP_PROPERTY in params:
        check_warmup(params[WARMUP_PROPERTY], "invalid warmup params: ")
    collection = find_by_any_name(engine, context, name)
    if not index_name:
        raise ParameterInvalid("index name is empty")

    def altered(index: IndexSpec) -> IndexSpec:
        kept = {k: v for k, v in {**index.params, **params}.items() if k not in delete_keys}
        return replace(index, params=kept)

    def changed(current: Collection) -> Collection:
        if current.load is not None:
            raise CollectionLoaded(name, "can't alter index on loaded collection, please release the collection first")
        index = next((i for i in current.user_indexes if i.name == index_name), None)
        if index is None:
            raise IndexNotFound(indexName=index_name)
        found = SCALAR_TYPES.get(index.index_type)
        check_index_properties(params, has_offset_cache=found is not None and found.has_offset_cache)
        return replace(current, indexes=tuple(altered(i) if i.name == index_name else i for i in current.indexes))

    change_collection(engine.catalog, collection.collection_id, changed)
