"""The rows of a partial upsert: the stored rows, with given columns replaced or changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.errors import ParameterInvalid
from milvine.model import json_text
from milvine.model.columns import Column, ColumnBatch, absent_column, concat_columns, json_column
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import DataType
from milvine.segment.keys import KeyIndex
from milvine.service.array_operations import Operation

Array = np.ndarray[Any, Any]


def read_field_ids(schema: CollectionSchema, replaced: Collection[int]) -> tuple[int, ...]:
    """Fields whose old values are needed: those not replaced, the key, and `$meta`, whose keys are merged. What the
    engine makes from other fields is made anew."""
    stored = (f for f in schema.fields if not f.is_made_here)
    return tuple(f.field_id for f in stored if f.field_id not in replaced or f.is_primary or f.is_dynamic)


def merged_rows(
    schema: CollectionSchema,
    given: Mapping[int, Column],
    found: ColumnBatch | None,
    operations: Mapping[int, Operation],
) -> ColumnBatch:
    """One row for each given key, in their order, without what the engine makes from other fields. `given` has the
    key's column, checked like the others; `found` the old rows, one per key. A new row has the given values whatever
    the operation. Raises ParameterInvalid if a new row lacks a required field, or if an operation refuses values."""
    keys = given[schema.primary_field.field_id].values
    count = len(keys)
    source = np.full(count, -1, np.int64)
    if found is not None and found.row_count:
        rows, places = KeyIndex.build(found.columns[schema.primary_field.field_id].values).find(keys)
        source[places] = rows
    else:
        found = None
    is_new = source < 0
    if is_new.any():
        _check_complete(schema, given)
    old_count = 0 if found is None else found.row_count
    new_count = int(np.count_nonzero(is_new))
    source[is_new] = old_count + np.arange(new_count)

    def old_values(field: FieldSchema) -> Column:
        pieces = [] if found is None else [found.columns[field.field_id]]
        if new_count:
            pieces.append(absent_column(field, new_count))
        return concat_columns(pieces).take(source)

    columns: dict[int, Column] = {}
    for field in schema.fields:
        if field.is_made_here:
            continue
        column = given.get(field.field_id)
        if column is None:
            column = old_values(field)
        elif field.is_dynamic:
            column = _merged_keys(old_values(field), column)
        elif operation := operations.get(field.field_id):
            changed = operation(field, old_values(field), column)
            column = concat_columns([changed, column]).take(np.arange(count) + np.where(is_new, count, 0))
        needs_paths = field.data_type is DataType.JSON and column.paths is None
        columns[field.field_id] = json_column(column.values, column.validity) if needs_paths else column
    return ColumnBatch(count, columns)


def _check_complete(schema: CollectionSchema, given: Mapping[int, Column]) -> None:
    for field in schema.fields:
        has_value = field.is_dynamic or field.is_made_here
        may_lack = field.nullable or field.default_value is not None or has_value
        if not may_lack and field.field_id not in given:
            raise ParameterInvalid(f"fieldSchema({field.name}) has no corresponding fieldData pass in")


def _merged_keys(old: Column, new: Column) -> Column:
    """`$meta` with the given keys in place of the old ones, row by row."""
    pairs = zip(old.values.to_pylist(), new.values.to_pylist(), strict=True)
    texts = [json_text.dumps({**json_text.members(was), **json_text.members(now)}) for was, now in pairs]
    return Column(DataType.JSON, pa.array(texts, pa.binary()))
