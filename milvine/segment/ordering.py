"""Rows in the order of the values of fields."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.model import json_text
from milvine.model.columns import Column
from milvine.model.json_paths import JsonPath, values_at
from milvine.model.records import record
from milvine.segment.topk import key_ranks

Array = np.ndarray[Any, Any]
_MAX = sys.float_info.max
_TEXT, _NUMBER, _ARRAY, _BOOL, _OBJECT = range(5)
"""The order of JSON values of different kinds, which is that of the first characters of their texts."""


@record
class SortKey:
    """`path`: rows are ordered by the value there in a JSON field."""

    field_id: int
    is_descending: bool
    nulls_first: bool
    path: JsonPath | None = None


def _numbers(values: Any) -> Array:
    """Numbers in the order of a column's values."""
    if isinstance(values, pa.Array):
        return key_ranks(values)
    return np.asarray(values.astype(np.int8) if values.dtype == np.bool_ else values)


def _directed(values: Array, is_descending: bool) -> Array:
    if not is_descending:
        return values
    return np.asarray(-values if values.dtype.kind == "f" else ~values)


def _of_field(column: Column) -> tuple[tuple[Array, ...], Array | None]:
    return (_numbers(column.values),), column.validity


def _of_path(column: Column, path: JsonPath) -> tuple[tuple[Array, ...], Array]:
    """The values at a path as kinds, numbers and the places of texts. An absent value and a null are NULLs."""
    values = values_at(column.values, path)
    found = [_parts_of(value) for value in values]
    kinds, numbers, texts = (list(part) for part in zip(*found, strict=True)) if found else ([], [], [])
    is_valid = np.array([value is not None for value in values], np.bool_)
    if column.validity is not None:
        is_valid &= column.validity
    ranks = key_ranks(pa.array(texts, pa.string()))
    return (np.array(kinds, np.int8), np.array(numbers, np.float64), ranks), is_valid


def _parts_of(value: Any) -> tuple[int, float, str]:
    if isinstance(value, str):
        return _TEXT, 0.0, value
    if isinstance(value, bool):
        return _BOOL, float(value), ""
    if isinstance(value, int | float):
        return _NUMBER, float(min(max(value, -_MAX), _MAX)), ""
    return (_ARRAY if isinstance(value, list) else _OBJECT), 0.0, json_text.dumps(value).decode()


def ordered(columns: Sequence[Column], keys: Sequence[SortKey]) -> Array:
    """Positions of the rows, int64 (n,), in the order of the keys; equal rows stay as they are. columns: of n rows, one
    for each key."""
    parts: list[Array] = []
    for column, key in zip(columns, keys, strict=True):
        values, validity = _of_field(column) if key.path is None else _of_path(column, key.path)
        if validity is not None:
            parts.append(validity if key.nulls_first else ~validity)
            values = tuple(np.where(validity, part, part.dtype.type(0)) for part in values)
        parts.extend(_directed(part, key.is_descending) for part in values)
    return np.lexsort(parts[::-1])


def ordered_within(owner: Array, columns: Sequence[Column], keys: Sequence[SortKey]) -> Array:
    """As `ordered`, owner by owner. owner: int64 (n,), of each row."""
    positions = ordered(columns, keys) if keys else np.arange(len(owner))
    return positions[np.argsort(owner[positions], kind="stable")]
