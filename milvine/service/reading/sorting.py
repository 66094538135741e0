"""The order that a query or a search requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from milvine.errors import MilvineError, ParameterInvalid
from milvine.model.columns import ColumnBatch
from milvine.model.json_paths import JsonPath
from milvine.model.records import record
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import DataType
from milvine.segment.groups import Arrangement, Array
from milvine.segment.ordering import SortKey, ordered_within
from milvine.service.field_paths import field_path

SORTABLE = frozenset(
    {
        DataType.BOOL,
        DataType.INT8,
        DataType.INT16,
        DataType.INT32,
        DataType.INT64,
        DataType.FLOAT,
        DataType.DOUBLE,
        DataType.VARCHAR,
        DataType.TIMESTAMPTZ,
    }
)
_DIRECTIONS = {"": False, "asc": False, "ascending": False, "desc": True, "descending": True}
_NULLS = {"nulls_first": True, "nulls_last": False}


def sort_keys(specs: Sequence[str], schema: CollectionSchema) -> tuple[SortKey, ...]:
    """The order of a query. Each of `specs` is `field`, `field:direction` or `field:direction:nulls_first`."""
    return tuple(_sort_key(spec.strip(), schema) for spec in specs if spec.strip())


def _sort_key(spec: str, schema: CollectionSchema) -> SortKey:
    name, *options = [part.strip() for part in spec.split(":")]
    is_descending, nulls_first = _directions(name, [option.lower() for option in options[:2]], "must be")
    field = schema.by_name.get(name)
    if field is None:
        raise ParameterInvalid(f"order_by field '{name}' does not exist in collection schema")
    if field.data_type not in SORTABLE:
        raise ParameterInvalid(f"order_by field '{name}' has type {field.data_type.milvus_name} which is not sortable")
    return SortKey(field.field_id, is_descending, nulls_first)


def _directions(name: str, options: Sequence[str], verb: str) -> tuple[bool, bool]:
    """Whether values descend, and whether NULLs come first, by default where values descend."""
    direction, nulls = [*options, "", ""][:2]
    is_descending = _DIRECTIONS.get(direction.lower())
    if is_descending is None:
        raise ParameterInvalid(f"invalid order direction '{direction}' for field '{name}', {verb} 'asc' or 'desc'")
    nulls_first = _NULLS.get(nulls.lower()) if len(options) > 1 else is_descending
    if nulls_first is None:
        raise ParameterInvalid(f"invalid null ordering '{nulls}', {verb} 'nulls_first' or 'nulls_last'")
    return is_descending, nulls_first


@record
class SearchOrder:
    """The hits of a search in the order of the values of fields; groups in that of their best hits."""

    keys: tuple[SortKey, ...]

    @property
    def field_ids(self) -> tuple[int, ...]:
        return tuple(key.field_id for key in self.keys)

    def arranged(self, query: Array, places: Arrangement, rows: ColumnBatch) -> Arrangement:
        """The groups in this order; equal ones stay as they are. `query` and `rows`: of each hit, nearest first."""
        heads = np.flatnonzero(places.members == 0)
        columns = [rows.columns[field_id].take(heads) for field_id in self.field_ids]
        positions = ordered_within(query[heads], columns, self.keys)
        first_group = np.cumsum(places.counts) - places.counts
        rank = np.empty(len(heads), np.int64)
        rank[positions] = np.arange(len(heads)) - first_group[query[heads][positions]]
        return Arrangement(rank[first_group[query] + places.groups], places.members, places.counts)


def search_order(text: str, schema: CollectionSchema) -> SearchOrder | None:
    """The order of a search, None if `text` requests none: keys as of a query, with commas between them; also values at
    paths in JSON fields and keys of the dynamic field."""
    keys = tuple(_search_key(spec.strip(), schema) for spec in text.split(",") if spec.strip())
    return SearchOrder(keys) if keys else None


def _search_key(spec: str, schema: CollectionSchema) -> SortKey:
    name, *options = _parts(spec)
    if len(options) > 2:
        raise ParameterInvalid(f"too many order_by field options in '{spec}'")
    if not name:
        raise ParameterInvalid("empty field name in order_by_fields")
    # An empty place of NULLs is none.
    is_descending, nulls_first = _directions(name, options if all(options[1:]) else options[:1], "expected")
    field, path = _field(name, schema)
    return SortKey(field.field_id, is_descending, nulls_first, path)


def _parts(spec: str) -> list[str]:
    """The parts between colons that are outside of brackets."""
    parts, depth = [""], 0
    for character in spec:
        depth += (character == "[") - (character == "]")
        if character == ":" and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _field(name: str, schema: CollectionSchema) -> tuple[FieldSchema, JsonPath | None]:
    has_brackets = "[" in name and "]" in name
    base = name.split("[")[0] if has_brackets else name
    field = schema.by_name.get(base)
    if field is None or (field.is_dynamic and has_brackets):
        field = schema.dynamic_field
        if field is None and has_brackets:
            raise ParameterInvalid(f"order_by field '{base}' not found in schema and no dynamic field available")
        if field is None:
            raise ParameterInvalid(f"order_by field '{name}' does not exist in collection schema")
        noun = "JSON path in order_by field" if has_brackets else "dynamic field key"
        return field, _path(name, field, schema, noun)
    if has_brackets and field.data_type is not DataType.JSON:
        raise ParameterInvalid(f"order_by field '{name}' has brackets but is not a JSON type")
    if has_brackets:
        return field, _path(name, field, schema, "JSON path in order_by field")
    if field.data_type not in SORTABLE:
        raise ParameterInvalid(
            f"order_by field '{name}' has unsortable type {field.data_type.milvus_name}; supported types: bool, "
            'int8/16/32/64, float, double, string, varchar; for JSON fields use path syntax like field["key"]'
        )
    return field, None


def _path(name: str, field: FieldSchema, schema: CollectionSchema, noun: str) -> JsonPath:
    try:
        return field_path(schema, field, name)
    except MilvineError as error:
        raise ParameterInvalid(f"invalid {noun} '{name}': {error.message}") from error
