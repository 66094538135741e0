"""The names in a read, resolved: partitions, the searched field, the filter."""

from __future__ import annotations

from collections.abc import Mapping

from milvine.errors import ParameterInvalid, UnexpectedError
from milvine.expr import Predicate, compile_filter
from milvine.index.scalar_type import number_paths
from milvine.model.collections import Collection
from milvine.model.schema import FieldSchema
from milvine.service.context import Engine
from milvine.service.moments import zone_of
from milvine.service.partitions import refuse_names_with_key


def loaded_ids(engine: Engine, collection: Collection) -> frozenset[int] | None:
    """Fields that may be read. None (all) while nothing is loaded, which is then the error, and where unlisted fields
    are also served."""
    if collection.load is None or engine.loader.wanted.serves_unlisted_fields:
        return None
    return collection.load.field_ids


def check_loaded(engine: Engine, collection: Collection, field_ids: tuple[int, ...]) -> None:
    """Raises UnexpectedError for a field that a read needs and that is not loaded."""
    loaded = loaded_ids(engine, collection)
    for field_id in field_ids:
        if loaded is not None and field_id not in loaded:
            raise UnexpectedError(f"field {collection.schema.by_id[field_id].name} is not loaded")


def partition_ids(collection: Collection, names: tuple[str, ...]) -> frozenset[int] | None:
    refuse_names_with_key(collection, names)
    ids = set()
    for name in names:
        partition = collection.partition_by_name.get(name)
        if partition is None:
            raise ParameterInvalid(f"partition name {name} not found")
        ids.add(partition.partition_id)
    return frozenset(ids) or None


def predicate(
    engine: Engine, collection: Collection, text: str, templates: Mapping[str, object], timezone: str = ""
) -> Predicate | None:
    try:
        return compiled(engine, collection, text, templates, timezone)
    except ParameterInvalid as error:
        raise error.prefixed("failed to create query plan") from error


def compiled(
    engine: Engine, collection: Collection, text: str, templates: Mapping[str, object], timezone: str = ""
) -> Predicate | None:
    """None for an empty filter. Moments without an offset are in `timezone`, by default the collection's. Raises
    ParameterInvalid without the words of a plan before it."""
    if not text.strip():
        return None
    paths = number_paths(collection.scalar_indexes)
    zone = timezone or zone_of(collection.properties)
    return compile_filter(text, collection.schema, loaded_ids(engine, collection), templates, paths, zone)


def anns_field(collection: Collection, name: str) -> FieldSchema:
    schema = collection.schema
    if not name:
        if len(schema.vector_fields) > 1:
            raise ParameterInvalid("multiple anns_fields exist, please specify a anns_field in search_params")
        return schema.vector_fields[0]
    field = schema.by_name.get(name)
    if field is None:
        raise ParameterInvalid(f"failed to get field schema by name: fieldName({name}) not found").prefixed(
            "failed to create query plan"
        )
    if not field.data_type.is_vector:
        raise ParameterInvalid(f"failed to create query plan: field ({name}) to search is not of vector data type")
    return field
