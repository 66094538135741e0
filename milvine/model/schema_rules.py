"""The checks of create_collection, with Milvus's messages and limits (internal/proxy/util.go, task.go)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from zoneinfo import available_timezones

from milvine.errors import (
    DatabaseNameInvalid,
    FieldNameInvalid,
    ParameterInvalid,
    ParameterMissing,
    ParameterOutOfRange,
    UnexpectedError,
)
from milvine.model.collections import MAX_PARTITIONS, TTL_PROPERTY
from milvine.model.function_rules import check_functions
from milvine.model.properties import SKIP_LOAD_PROPERTY, TIMEZONE_PROPERTY, WARMUP_PROPERTY, check_warmup, parse_bool
from milvine.model.schema import DYNAMIC_FIELD_NAME, CollectionSchema, FieldSchema
from milvine.model.types import DataType
from milvine.model.vectors import kind_of

MAX_NAME_BYTES = 255
MAX_FIELDS = 256
MAX_VECTOR_FIELDS = 10
MAX_SHARDS = 16
MAX_VARCHAR_BYTES = 65535
MAX_ARRAY_CAPACITY = 4096
MAX_JSON_BYTES = 65536
MAX_DESCRIPTION_BYTES = 1024
ELEMENT_TYPES = frozenset(
    {
        DataType.BOOL,
        DataType.INT8,
        DataType.INT16,
        DataType.INT32,
        DataType.INT64,
        DataType.FLOAT,
        DataType.DOUBLE,
        DataType.VARCHAR,
    }
)
_INTEGER_BITS = {DataType.INT8: 8, DataType.INT16: 16, DataType.INT32: 32, DataType.INT64: 64}
MAX_TTL_SECONDS = 3_155_760_000
_SYSTEM_FIELDS = frozenset({"RowID", "Timestamp", DYNAMIC_FIELD_NAME, "__virtual_pk__", "$namespace_id"})
_FUNCTIONS = (
    *(f"{kind}_contains{mode}" for kind in ("array", "json") for mode in ("", "_all", "_any")),
    "array_length",
    "text_match",
    "phrase_match",
    "random_sample",
)
FILTER_KEYWORDS = frozenset(
    {
        *("like", "and", "or", "not", "in", "exists", "EXISTS"),
        *("true", "True", "TRUE", "false", "False", "FALSE"),
        *_FUNCTIONS,
        *map(str.upper, _FUNCTIONS),
    }
)
"""Milvus's list of refused field names. Other cases of these words are allowed, except of NULL."""
NO_STRING = "string data type not supported yet, please use VarChar type instead"
_FIRST = re.compile(r"[A-Za-z_]")
_NAME = re.compile(r"[A-Za-z0-9_]+")
_PARTITION_FIRST = re.compile(r"[A-Za-z0-9_]")
_INDEX_NAME = re.compile(r"[A-Za-z0-9_\[\]]+")
_PARTITION_NAME = re.compile(r"[A-Za-z0-9_-]+")


@lru_cache(maxsize=1024)
def check_collection_name(name: str, kind: str = "name") -> None:
    """`kind` is "name" or "alias", as in the message. Valid names are cached."""
    if not name:
        raise ParameterInvalid(f"collection {kind} should not be empty")
    invalid = f"Invalid collection {kind}: {name}."
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ParameterInvalid(
            f"{invalid} the length of a collection {kind} must be less than {MAX_NAME_BYTES} characters"
        )
    if not _FIRST.match(name):
        raise ParameterInvalid(f"{invalid} the first character of a collection {kind} must be an underscore or letter")
    if not _NAME.fullmatch(name):
        raise ParameterInvalid(f"{invalid} collection {kind} can only contain numbers, letters and underscores")


def check_database_name(name: str) -> None:
    if not name:
        raise DatabaseNameInvalid(name, "database name couldn't be empty")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise DatabaseNameInvalid(name, f"the length of a database name must be less than {MAX_NAME_BYTES} characters")
    if not _FIRST.match(name):
        raise DatabaseNameInvalid(name, "the first character of a database name must be an underscore or letter")
    if not _NAME.fullmatch(name):
        raise DatabaseNameInvalid(name, "database name can only contain numbers, letters and underscores")


def check_resource_group_name(name: str) -> None:
    if not name:
        raise ParameterMissing("resource group name couldn't be empty")
    invalid = f"Invalid resource group name {name}."
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ParameterInvalid(
            f"{invalid} the length of a resource group name must be less than {MAX_NAME_BYTES} characters"
        )
    if not _FIRST.match(name):
        raise ParameterInvalid(
            f"{invalid} the first character of a resource group name must be an underscore or letter"
        )
    if not _NAME.fullmatch(name):
        raise ParameterInvalid(f"{invalid} resource group name can only contain numbers, letters and underscores")


def check_partition_name(name: str) -> None:
    trimmed = name.strip()
    invalid = f"Invalid partition name: {trimmed}."
    if not trimmed:
        raise ParameterInvalid(f"{invalid} Partition name should not be empty.")
    if len(trimmed.encode()) > MAX_NAME_BYTES:
        raise ParameterInvalid(
            f"{invalid} The length of a partition name must be less than {MAX_NAME_BYTES} characters."
        )
    if not _PARTITION_FIRST.match(trimmed):
        raise ParameterInvalid(f"{invalid} The first character of a partition name must be an underscore or letter.")
    if not _PARTITION_NAME.fullmatch(trimmed):
        raise ParameterInvalid(f"{invalid} Partition name can only contain numbers, letters and underscores.")


def check_field_name(name: str) -> None:
    if not name.strip():
        raise FieldNameInvalid(name, "field name should not be empty")
    invalid = f"Invalid field name: {name}."
    if len(name.encode()) > MAX_NAME_BYTES:
        raise FieldNameInvalid(
            name, f"{invalid} The length of a field name must be less than {MAX_NAME_BYTES} characters."
        )
    if name in _SYSTEM_FIELDS or name in FILTER_KEYWORDS or name.lower() == "null":
        raise FieldNameInvalid(name, f"{invalid} {name} is keyword in milvus.")
    if not _FIRST.match(name):
        raise FieldNameInvalid(name, f"{invalid} The first character of a field name must be an underscore or letter.")
    if not _NAME.fullmatch(name):
        raise FieldNameInvalid(name, f"{invalid} Field name can only contain numbers, letters, and underscores.")


def check_index_name(name: str) -> None:
    """Checks a chosen name; an empty one was not chosen."""
    trimmed = name.strip()
    if not trimmed:
        return
    invalid = f"Invalid index name: {trimmed}."
    if len(trimmed.encode()) > MAX_NAME_BYTES:
        raise ParameterInvalid(f"{invalid} The length of a index name must be less than {MAX_NAME_BYTES} characters.")
    if not _FIRST.match(trimmed):
        raise ParameterInvalid(f"{invalid} The first character of a index name must be an underscore or letter.")
    if not _INDEX_NAME.fullmatch(trimmed):
        raise ParameterInvalid(f"{invalid} Index name can only contain numbers, letters, and underscores.")


def check_schema(name: str, schema: CollectionSchema, num_shards: int, num_partitions: int = 0) -> None:
    """Checks a schema as the user sent it, still without `$meta`."""
    check_functions(schema)
    if num_shards > MAX_SHARDS:
        raise ParameterInvalid(f"maximum shards's number should be limited to {MAX_SHARDS}")
    if len(schema.fields) > MAX_FIELDS:
        raise ParameterInvalid(f"maximum field's number should be limited to {MAX_FIELDS}")
    if len(schema.vector_fields) > MAX_VECTOR_FIELDS:
        raise ParameterInvalid(f"maximum vector field's number should be limited to {MAX_VECTOR_FIELDS}")
    if not schema.vector_fields:
        raise ParameterInvalid("schema does not contain vector field")
    check_collection_name(name)
    check_description(schema.description)
    seen: set[str] = set()
    for field in schema.fields:
        check_field_name(field.name)
        if field.name in seen:
            raise ParameterInvalid(f"duplicated field name {field.name} found")
        seen.add(field.name)
    _check_primary(schema)
    for field in schema.fields:
        _check_field(name, field)
    _check_partition_key(schema, num_partitions)
    _check_skipped(schema)


def check_description(description: str) -> None:
    if len(description.encode()) > MAX_DESCRIPTION_BYTES:
        raise ParameterInvalid(f"the length of a collection description must not exceed {MAX_DESCRIPTION_BYTES} bytes")


def check_added_field(collection: str, schema: CollectionSchema, field: FieldSchema) -> None:
    """Checks a field that is to be added to the schema of a collection."""
    _check_added(schema, field)
    if not field.nullable:
        raise ParameterInvalid(f"added field must be nullable, please check it, field name = {field.name}")
    check_field_name(field.name)
    _check_field(collection, field)


def check_added_output(collection: str, schema: CollectionSchema, field: FieldSchema) -> None:
    """Checks the output of a function that is to be added."""
    _check_added(schema, field)
    check_field_name(field.name)
    _check_field(collection, field)


def _check_added(schema: CollectionSchema, field: FieldSchema) -> None:
    if len(schema.fields) >= MAX_FIELDS:
        raise ParameterInvalid(f"The number of fields has reached the maximum value {MAX_FIELDS}")
    if field.name in schema.by_name:
        raise ParameterInvalid(f"duplicated field name {field.name}")
    if field.name in _SYSTEM_FIELDS:
        raise ParameterInvalid(f"not support to add system field, field name = {field.name}")
    if field.is_primary:
        raise ParameterInvalid(f"not support to add pk field, field name = {field.name}")
    if field.auto_id:
        raise ParameterInvalid(f"only primary field can speficy AutoID with true, field name = {field.name}")
    if field.data_type.is_vector:
        if len(schema.vector_fields) >= MAX_VECTOR_FIELDS:
            raise ParameterInvalid(f"maximum vector field's number should be limited to {MAX_VECTOR_FIELDS}")
        if field.dim is None and kind_of(field.data_type).has_dim:
            raise ParameterInvalid(f"vector field must have dimension specified, field name = {field.name}")


def _check_skipped(schema: CollectionSchema) -> None:
    """`field.skipLoad` leaves a field out of loads that name no fields."""
    skipped: set[str] = set()
    for field in schema.fields:
        text = field.properties.get(SKIP_LOAD_PROPERTY)
        skips = None if text is None else parse_bool(text)
        if text is not None and skips is None:
            raise UnexpectedError(f'strconv.ParseBool: parsing "{text}": invalid syntax')
        if skips and field.is_primary:
            raise ParameterInvalid(f"Primary key field {field.name} cannot skip loading")
        if skips:
            skipped.add(field.name)
    if schema.vector_fields and all(f.name in skipped for f in schema.vector_fields):
        raise ParameterInvalid("cannot config all vector field(s) skip loading")


def _check_partition_key(schema: CollectionSchema, num_partitions: int) -> None:
    keys = [f for f in schema.fields if f.is_partition_key]
    if not keys:
        if num_partitions:
            raise ParameterInvalid("num_partitions should only be specified with partition key field enabled")
        return
    first = keys[0]
    if first.is_primary:
        raise ParameterInvalid("the partition key field must not be primary field")
    if first.nullable:
        raise ParameterInvalid("partition key field not support nullable")
    if first.data_type not in (DataType.INT64, DataType.VARCHAR):
        raise ParameterInvalid("the data type of partition key should be Int64 or VarChar")
    if num_partitions < 0:
        raise ParameterInvalid("the specified partitions should be greater than 0 if partition key is used")
    if num_partitions > MAX_PARTITIONS:
        raise ParameterInvalid(f"partition number ({num_partitions}) exceeds max configuration ({MAX_PARTITIONS})")
    if len(keys) > 1:
        raise ParameterInvalid(f"there are more than one partition key, field name = {first.name}, {keys[1].name}")


def _check_primary(schema: CollectionSchema) -> None:
    primaries = [f for f in schema.fields if f.is_primary]
    if not primaries:
        raise ParameterMissing("primary key is not specified")
    if len(primaries) > 1:
        raise ParameterInvalid(
            f"there are more than one primary key, field name = {primaries[0].name}, {primaries[1].name}"
        )
    if primaries[0].data_type not in (DataType.INT64, DataType.VARCHAR):
        raise ParameterInvalid("the data type of primary key should be Int64 or VarChar")
    if primaries[0].nullable:
        raise ParameterInvalid("primary field not support null")


def _check_field(collection: str, field: FieldSchema) -> None:
    if field.auto_id and not field.is_primary:
        raise ParameterInvalid(f"only primary field can speficy AutoID with true, field name = {field.name}")
    if field.data_type.is_vector:
        kind_of(field.data_type).check_dim(field)
    if field.data_type is DataType.VARCHAR or field.element_type is DataType.VARCHAR:
        if field.max_length is None:
            raise ParameterMissing(
                f"type param(max_length) should be specified for the field({field.name}) of collection {collection}"
            )
        if not 0 < field.max_length <= MAX_VARCHAR_BYTES:
            raise ParameterInvalid(
                f"the maximum length specified for the field({field.name}) should be in "
                f"(0, {MAX_VARCHAR_BYTES}], but got {field.max_length} instead"
            )
    if field.data_type is DataType.ARRAY:
        _check_array(collection, field)
    if WARMUP_PROPERTY in field.properties:
        check_warmup(field.properties[WARMUP_PROPERTY], f"invalid warmup policy for field {field.name}: ")
    if field.default_value is not None:
        _check_default(field)


def _check_array(collection: str, field: FieldSchema) -> None:
    if field.element_type is None:
        raise ParameterInvalid("element data type None is not valid")
    if field.element_type not in ELEMENT_TYPES:
        raise ParameterInvalid(f"element type {field.element_type.milvus_name} is not supported")
    if field.max_capacity is None:
        raise ParameterMissing(
            f"type param(max_capacity) should be specified for array field {field.name} of collection {collection}"
        )
    if not 0 < field.max_capacity <= MAX_ARRAY_CAPACITY:
        raise ParameterInvalid(f"the maximum capacity specified for a Array should be in (0, {MAX_ARRAY_CAPACITY}]")


def _check_default(field: FieldSchema) -> None:
    """The adapters have checked the kind of the value, since each protocol names kinds differently."""
    value, data_type = field.default_value, field.data_type
    place = f"type:{data_type.milvus_name}, name:{field.name}"
    if field.is_primary:
        raise ParameterInvalid(f"primary field not support default_value, {place}")
    if data_type in (DataType.ARRAY, DataType.JSON) or data_type.is_vector:
        raise ParameterInvalid(f"type not support default_value, {place}")
    if isinstance(value, str) and field.max_length is not None and len(value.encode()) > field.max_length:
        raise ParameterInvalid(
            f"the length ({len(value.encode())}) of string exceeds max length ({field.max_length})",
            expected="valid length string",
            actual="string length exceeds max length",
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ParameterInvalid(f"default value '{value}' of field {field.name} is not a number or infinity")
    if data_type.is_integer and isinstance(value, int):
        bits = _INTEGER_BITS[data_type]
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        if not low <= value <= high:
            raise ParameterOutOfRange("default value out of range", value, low, high)


def check_ttl(properties: Mapping[str, str]) -> None:
    """A collection's time to live: whole seconds, 0 and -1 for none."""
    text = properties.get(TTL_PROPERTY)
    if text is None:
        return
    try:
        seconds = int(text)
    except ValueError:
        raise ParameterInvalid("collection TTL is not a valid positive integer") from None
    if not -1 <= seconds <= MAX_TTL_SECONDS:
        raise ParameterInvalid(f"collection TTL is out of range, expect [-1, {MAX_TTL_SECONDS}], got {seconds}")


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def check_timezone(values: Mapping[str, str]) -> None:
    """The time zone in properties or in the parameters of a read."""
    zone = values.get(TIMEZONE_PROPERTY)
    if zone and str(zone) not in _zones():
        raise ParameterInvalid(f"unknown or invalid IANA Time Zone ID: {zone}")
