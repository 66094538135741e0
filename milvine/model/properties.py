"""Properties that place loaded data: their keys and values, and the resulting placement of each part.

`mmap.enabled` leaves a part to the page cache instead of memory; `warmup` says when its pages are read in. An index
or a field wins over its collection, the collection over its database, that over the server's settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum

from milvine.errors import ParameterInvalid
from milvine.model.collections import Collection
from milvine.model.records import record

MMAP_PROPERTY = "mmap.enabled"
WARMUP_PROPERTY = "warmup"
OFFSET_CACHE_PROPERTY = "indexoffsetcache.enabled"
SKIP_LOAD_PROPERTY = "field.skipLoad"
DYNAMIC_PROPERTY = "dynamicfield.enabled"
QUERY_MODE_PROPERTY, _LARGE_TOPK = "query_mode", "large_topk"
ENABLE_ANALYZER, ENABLE_MATCH = "enable_analyzer", "enable_match"
ANALYZER_PARAMS, MULTI_ANALYZER_PARAMS = "analyzer_params", "multi_analyzer_params"
INSERTED_IDS_PROPERTY = "allow_insert_auto_id"
INSERTED_EMBEDDINGS_PROPERTY = "collection.function.allowInsertNonBM25FunctionOutputs"
UNCHECKED_MODELS_PROPERTY = "disable_func_runtime_check"
ISOLATION_PROPERTY = "partitionkey.isolation"
TIMEZONE_PROPERTY = "timezone"
TTL_FIELD_PROPERTY = "ttl_field"
COLLECTION_DISK_QUOTA, DATABASE_DISK_QUOTA = "collection.diskProtection.diskQuota.mb", "database.diskQuota.mb"
AUTO_COMPACTION_PROPERTY = "collection.autocompaction.enabled"
SHARDING_PROPERTY = "namespace.sharding.enabled"
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


class PartKind(StrEnum):
    """The four kinds of parts, as the settings and the collection's `warmup.` keys name them."""

    SCALAR_FIELD = "scalarField"
    SCALAR_INDEX = "scalarIndex"
    VECTOR_FIELD = "vectorField"
    VECTOR_INDEX = "vectorIndex"


COLLECTION_WARMUP_PROPERTIES = frozenset(f"{WARMUP_PROPERTY}.{kind}" for kind in PartKind)
ANALYZER_PROPERTIES = frozenset({ENABLE_ANALYZER, ENABLE_MATCH, ANALYZER_PARAMS, MULTI_ANALYZER_PARAMS})
FIELD_PROPERTIES = frozenset(
    {
        MMAP_PROPERTY,
        WARMUP_PROPERTY,
        SKIP_LOAD_PROPERTY,
        *COLLECTION_WARMUP_PROPERTIES,
        *ANALYZER_PROPERTIES,
    }
)
"""The type parameters of a field that are kept as sent."""
INDEX_PROPERTIES = frozenset({MMAP_PROPERTY, WARMUP_PROPERTY, OFFSET_CACHE_PROPERTY})


class Populate(Enum):
    """When the pages of a part are read in: before the collection is loaded, in the background after it, or on use."""

    NOW = "now"
    LATER = "later"
    NEVER = "never"


@record
class Placement:
    """`in_memory`: verified, resident and counted as memory; otherwise mapped and counted separately."""

    in_memory: bool
    populate: Populate


RESIDENT = Placement(True, Populate.NOW)
MAPPED = Placement(False, Populate.NEVER)
PartKey = tuple[str, int]
"""("rows", 0), ("field", field id), ("index", index id), or ("scan", field id): vectors that no index file covers."""


def parse_bool(text: str) -> bool | None:
    """The spellings that Go's ParseBool accepts; None for anything else."""
    return True if text in _TRUE else False if text in _FALSE else None


def allows_inserted_ids(properties: Mapping[str, str]) -> bool:
    """Whether rows may have keys even though the collection's ids are automatic."""
    return parse_bool(properties.get(INSERTED_IDS_PROPERTY, "")) is True


def allows_inserted_embeddings(properties: Mapping[str, str]) -> bool:
    """Whether rows may have the vectors that a model would make from their texts."""
    return parse_bool(properties.get(INSERTED_EMBEDDINGS_PROPERTY, "")) is True


def is_compacted_automatically(properties: Mapping[str, str]) -> bool:
    """Whether segments are merged automatically. False if the value is not a boolean, as in Milvus."""
    return parse_bool(properties.get(AUTO_COMPACTION_PROPERTY, "true")) is True


def is_isolated(properties: Mapping[str, str]) -> bool:
    """Whether every search of a collection must name one value of the partition key."""
    return parse_bool(properties.get(ISOLATION_PROPERTY, "").lower()) is True


def limit_of(properties: Mapping[str, str], key: str) -> float | None:
    """The limit that a property sets; None if it is missing, negative or not a number, as in Milvus."""
    try:
        limit = float(properties.get(key, ""))
    except ValueError:
        return None
    return limit if 0 <= limit < float("inf") else None


def check_query_mode(properties: Mapping[str, str]) -> None:
    """Raises ParameterInvalid for any value but the only valid one, and for a key that differs only in case."""
    for key, value in properties.items():
        if key == QUERY_MODE_PROPERTY and value != _LARGE_TOPK:
            raise ParameterInvalid(f'invalid {key} value "{value}", valid values: [{_LARGE_TOPK}]')
        if key != QUERY_MODE_PROPERTY and key.lower() == QUERY_MODE_PROPERTY:
            raise ParameterInvalid(f'invalid property key "{key}", did you mean "{QUERY_MODE_PROPERTY}"?')


def is_of_large_topk(properties: Mapping[str, str]) -> bool:
    """Whether searches and queries of the collection may return a million rows."""
    return properties.get(QUERY_MODE_PROPERTY) == _LARGE_TOPK


def check_warmup(policy: str, prefix: str = "") -> None:
    """Raises ParameterInvalid; its text ends twice, as Milvus wraps it twice."""
    if policy not in ("disable", "sync", "async"):
        detail = f"invalid warmup policy: {policy}, must be 'disable', 'sync' or 'async'"
        raise ParameterInvalid(f"{prefix}{detail}: {ParameterInvalid.text}")


def check_index_properties(params: Mapping[str, str], *, has_offset_cache: bool = False) -> None:
    """Values of `mmap.enabled` and `indexoffsetcache.enabled`; every index here can be mapped."""
    for key in (MMAP_PROPERTY, OFFSET_CACHE_PROPERTY):
        if key in params and parse_bool(params[key]) is None:
            raise ParameterInvalid(f"invalid {key} value: {params[key]}, expected: true, false")
    if parse_bool(params.get(OFFSET_CACHE_PROPERTY, "")) and not has_offset_cache:
        raise ParameterInvalid(f"only bitmap index support {OFFSET_CACHE_PROPERTY} now")


def check_new_index_properties(params: Mapping[str, str]) -> None:
    """Checks the properties of create_index, which refuses a wrong `mmap.enabled` in other words than altering."""
    try:
        check_index_properties({k: v for k, v in params.items() if k == MMAP_PROPERTY})
    except ParameterInvalid as error:
        raise ParameterInvalid(f"invalid mmap type params: {error.message}") from None
    if WARMUP_PROPERTY in params:
        check_warmup(params[WARMUP_PROPERTY], "invalid warmup params: ")
    check_index_properties(params)


def check_collection_warmup(properties: Mapping[str, str]) -> None:
    """Raises ParameterInvalid for a collection's `warmup` properties that are wrong."""
    for key, value in properties.items():
        if key == WARMUP_PROPERTY:
            names = "/".join(f"{WARMUP_PROPERTY}.{kind}" for kind in PartKind)
            raise ParameterInvalid(
                f"warmup key '{key}' is only allowed at field level, use {names} at collection level"
            )
        if key in COLLECTION_WARMUP_PROPERTIES:
            check_warmup(value, f"invalid warmup value for key {key}: ")


def _placement(
    kind: PartKind, own: Mapping[str, str], above: tuple[Mapping[str, str], ...], mmap_by_default: bool
) -> Placement:
    said = next((p[MMAP_PROPERTY] for p in (own, *above) if MMAP_PROPERTY in p), None)
    # A value that is not a boolean counts as false, as in Milvus.
    mapped = mmap_by_default if said is None else parse_bool(said) is True
    key = f"{WARMUP_PROPERTY}.{kind}"
    match own.get(WARMUP_PROPERTY) or next((p[key] for p in above if key in p), None):
        case "disable":
            return MAPPED
        case "sync":
            return Placement(not mapped, Populate.NOW)
        case "async":
            return Placement(not mapped, Populate.LATER)
    return MAPPED if mapped else RESIDENT


def placements(
    collection: Collection, database: Mapping[str, str], mmap_by_default: Mapping[PartKind, bool]
) -> dict[PartKey, Placement]:
    """The placement of every part of the collection's segments. `database`: the properties of its database.

    Vectors without an index file (few rows, FLAT) are placed as their index, keys and timestamps as the key field.
    """
    above = (collection.properties, database)

    def place(kind: PartKind, own: Mapping[str, str]) -> Placement:
        return _placement(kind, own, above, mmap_by_default[kind])

    found: dict[PartKey, Placement] = {}
    for field in collection.schema.fields:
        is_vector = field.data_type.is_vector
        kind = PartKind.VECTOR_FIELD if is_vector else PartKind.SCALAR_FIELD
        found["field", field.field_id] = place(kind, field.properties)
        if field.is_primary:
            found["rows", 0] = found["field", field.field_id]
    for index in collection.scalar_indexes:
        found["index", index.index_id] = place(PartKind.SCALAR_INDEX, index.named_params)
    for field_id, index in collection.index_by_field.items():
        found["index", index.index_id] = place(PartKind.VECTOR_INDEX, index.named_params)
        own = {**collection.schema.by_id[field_id].properties, **index.named_params}
        found["scan", field_id] = place(PartKind.VECTOR_INDEX, own)
    return found
