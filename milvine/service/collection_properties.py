"""Checks of the properties of a new or altered collection; order and texts are Milvus's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from milvine.errors import CollectionIllegalSchema, ParameterInvalid
from milvine.model.known_keys import COLLECTION, refuse_unserved
from milvine.model.properties import (
    ISOLATION_PROPERTY,
    SHARDING_PROPERTY,
    TIMEZONE_PROPERTY,
    TTL_FIELD_PROPERTY,
    check_collection_warmup,
    check_query_mode,
    parse_bool,
)
from milvine.model.schema import CollectionSchema
from milvine.model.schema_rules import check_timezone, check_ttl
from milvine.model.types import DataType

_DEFAULT_TIMEZONE = "UTC"


def check_new_properties(name: str, schema: CollectionSchema, properties: Mapping[str, str]) -> None:
    refuse_unserved(COLLECTION, properties)
    check_isolation_property(name, schema, properties)
    check_query_mode(properties)
    _check_sharding(properties)
    check_timezone(properties)
    check_ttl(properties)
    check_collection_warmup(properties)
    check_ttl_field(schema, properties)


def with_defaults(properties: Mapping[str, str], database: Mapping[str, str]) -> dict[str, str]:
    """The properties of a new collection: its own, and those that every collection has."""
    timezone = database.get(TIMEZONE_PROPERTY, _DEFAULT_TIMEZONE)
    return {SHARDING_PROPERTY: "false", TIMEZONE_PROPERTY: timezone, **properties}


def check_ttl_field(schema: CollectionSchema, properties: Mapping[str, str]) -> None:
    field_name = properties.get(TTL_FIELD_PROPERTY)
    if field_name is None:
        return
    if field_name not in schema.by_name:
        raise ParameterInvalid(f"ttl field name {field_name} not found in schema")
    if schema.by_name[field_name].data_type is not DataType.TIMESTAMPTZ:
        raise ParameterInvalid(f"ttl field must be timestamptz, field name = {field_name}")
    raise ParameterInvalid(f"{TTL_FIELD_PROPERTY} is not supported by this version of Milvine")


def check_isolation_property(name: str, schema: CollectionSchema, properties: Mapping[str, str]) -> None:
    text = properties.get(ISOLATION_PROPERTY)
    if text is None:
        return
    wanted = parse_bool(text.lower())
    if wanted is None:
        reason = f'strconv.ParseBool: parsing "{text.lower()}": invalid syntax'
        raise ParameterInvalid(f"failed to parse partition key isolation: {reason}")
    if wanted and schema.partition_key is None:
        raise CollectionIllegalSchema(
            name,
            "partition key isolation mode is enabled but no partition key field is set. "
            "Please set the partition key first",
        )


def _check_sharding(properties: Mapping[str, str]) -> None:
    for key, value in properties.items():
        if key == SHARDING_PROPERTY:
            if parse_bool(value) is None:
                raise ParameterInvalid(f'invalid {key} value "{value}", valid values: [true,false]')
            if parse_bool(value):
                raise ParameterInvalid(f"{key} is not supported by this version of Milvine")
        elif key.lower() == SHARDING_PROPERTY:
            raise _other_case(key)


def refuse_altered_sharding(properties: Iterable[str], delete_keys: Iterable[str]) -> None:
    for keys, verb in ((properties, "alter"), (delete_keys, "delete")):
        for key in keys:
            if key == SHARDING_PROPERTY:
                raise ParameterInvalid(f"cannot {verb} {key} after collection creation")
            if key.lower() == SHARDING_PROPERTY:
                raise _other_case(key)


def _other_case(key: str) -> ParameterInvalid:
    return ParameterInvalid(f'invalid property key "{key}", did you mean "{SHARDING_PROPERTY}"?')
