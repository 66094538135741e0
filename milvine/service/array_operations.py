"""Operations of a partial upsert on ARRAY fields: elements are appended to the stored lists, or removed from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.errors import ParameterInvalid, ParameterMissing
from milvine.model.columns import Column
from milvine.model.requests import InsertRequest
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import DataType

Array = np.ndarray[Any, Any]
Operation = Callable[[FieldSchema, Column, Column], Column]
"""Takes the stored rows and the given ones of a field. Where a given row is NULL the stored one stays."""

REPLACE = "REPLACE"


def checked_operations(schema: CollectionSchema, request: InsertRequest) -> dict[int, Operation]:
    """The operation of each field that has one other than REPLACE. Raises ParameterInvalid or ParameterMissing."""
    seen: set[str] = set()
    operations: dict[int, Operation] = {}
    for name, operation in request.field_ops:
        if not name:
            raise ParameterMissing("FieldPartialUpdateOp.field_name is required")
        if name in seen:
            raise ParameterInvalid(f'duplicate partial-update op for field "{name}"')
        seen.add(name)
        if operation != REPLACE:
            field = _array_field(schema, name, operation)
            _check_payload(field, request.columns.get(name), operation)
            operations[field.field_id] = _OPERATIONS[operation]
    return operations


def _array_field(schema: CollectionSchema, name: str, operation: str) -> FieldSchema:
    if name == schema.primary_field.name:
        raise ParameterInvalid(f'field "{name}" is the primary key and cannot carry a partial-update op')
    field = schema.by_name.get(name)
    if field is None:
        raise ParameterInvalid(f'field "{name}" not found in collection schema')
    if operation not in _OPERATIONS:
        raise ParameterInvalid(f"unsupported partial update op: {operation}")
    if field.data_type is not DataType.ARRAY:
        kind = field.data_type.milvus_name
        raise ParameterInvalid(f'op {operation} requires Array field, but field "{name}" is {kind}')
    return field


def _check_payload(field: FieldSchema, column: Column | None, operation: str) -> None:
    if column is None:
        raise ParameterInvalid(f'partial-update op targets field "{field.name}" not present in fields_data')
    if column.data_type is not DataType.ARRAY:
        raise ParameterInvalid(f'partial-update op field "{field.name}" payload is not an Array')
    assert field.max_capacity is not None
    lengths = column.values.value_lengths().to_numpy()
    if operation == _APPEND and lengths.max(initial=0) > field.max_capacity:
        row = int(np.argmax(lengths > field.max_capacity))
        raise ParameterInvalid(
            f'ARRAY_APPEND payload for field "{field.name}" row {row} has length {lengths[row]} '
            f"exceeding max_capacity {field.max_capacity}"
        )


def appended(field: FieldSchema, old: Column, new: Column) -> Column:
    """Raises ParameterInvalid if a list gets longer than the field's capacity."""
    assert field.max_capacity is not None
    old_lengths, new_lengths = _lengths(old), _lengths(new)
    starts = _starts(old_lengths + new_lengths)
    longest = int((old_lengths + new_lengths).max(initial=0))
    if longest > field.max_capacity:
        raise ParameterInvalid(f"array length {longest} exceeds max_capacity {field.max_capacity}")
    old_elements, new_elements = old.values.flatten(), new.values.flatten()
    order = np.empty(starts[-1], np.int64)
    order[_places(starts[:-1], old_lengths)] = np.arange(len(old_elements))
    order[_places(starts[:-1] + old_lengths, new_lengths)] = len(old_elements) + np.arange(len(new_elements))
    elements = pa.concat_arrays([old_elements, new_elements]).take(pa.array(order))
    return _column(starts, elements, old, new)


def removed(_: FieldSchema, old: Column, new: Column) -> Column:
    """Without each element that equals one of the given list."""
    old_lengths, new_lengths = _lengths(old), _lengths(new)
    elements = old.values.flatten()
    codes, count = _codes(pa.concat_arrays([elements, new.values.flatten()]))
    rows = np.arange(len(old))
    pairs = np.concatenate((np.repeat(rows, old_lengths), np.repeat(rows, new_lengths))) * count + codes
    keeps = ~np.isin(pairs[: len(elements)], pairs[len(elements) :])
    kept = np.concatenate(([0], np.cumsum(keeps)))[_starts(old_lengths)]
    return _column(kept, elements.filter(pa.array(keeps)), old, new)


_APPEND = "ARRAY_APPEND"
_OPERATIONS: Mapping[str, Operation] = {_APPEND: appended, "ARRAY_REMOVE": removed}
NAMES = frozenset({REPLACE, *_OPERATIONS})


def _lengths(column: Column) -> Array:
    lengths: Array = column.values.value_lengths().to_numpy().astype(np.int64)
    return lengths


def _starts(lengths: Array) -> Array:
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def _places(starts: Array, lengths: Array) -> Array:
    """Where the elements of lists stand that begin at `starts`: (sum of lengths,)."""
    return np.repeat(starts - _starts(lengths)[:-1], lengths) + np.arange(int(lengths.sum()))


def _codes(elements: pa.Array) -> tuple[Array, int]:
    """A number for each element, equal for equal elements, and how many numbers there are, at least 1. NaN equals
    nothing."""
    if pa.types.is_string(elements.type):
        encoded = elements.dictionary_encode()
        return encoded.indices.to_numpy().astype(np.int64), max(len(encoded.dictionary), 1)
    distinct, codes = np.unique(elements.to_numpy(zero_copy_only=False), return_inverse=True, equal_nan=False)
    return codes.astype(np.int64), max(len(distinct), 1)


def _column(starts: Array, elements: pa.Array, old: Column, new: Column) -> Column:
    lists = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), elements)
    if old.validity is None or new.validity is None:
        return Column(DataType.ARRAY, lists)
    return Column(DataType.ARRAY, lists, np.logical_or(old.validity, new.validity))
