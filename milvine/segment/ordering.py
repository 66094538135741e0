"""Rows in the order of the values of fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.model.columns import Column
from milvine.model.records import record
from milvine.segment.topk import key_ranks

Array = np.ndarray[Any, Any]


@record
class SortKey:
    field_id: int
    is_descending: bool
    nulls_first: bool


def _values(column: Column, is_descending: bool) -> Array:
    """Numbers in the order of the column's values; NULLs have any."""
    values = column.values
    if isinstance(values, pa.Array):
        values = key_ranks(values)
    if values.dtype == np.bool_:
        values = values.astype(np.int8)
    if not is_descending:
        return np.asarray(values)
    return np.asarray(-values if values.dtype.kind == "f" else ~values)


def ordered(columns: Sequence[Column], keys: Sequence[SortKey]) -> Array:
    """Positions of the rows, int64 (n,), in the order of the keys; equal rows stay as they are. columns: of n rows, one
    for each key."""
    parts: list[Array] = []
    for column, key in zip(columns, keys, strict=True):
        values = _values(column, key.is_descending)
        if column.validity is not None:
            parts.append(column.validity if key.nulls_first else ~column.validity)
            values = np.where(column.validity, values, values.dtype.type(0))
        parts.append(values)
    return np.lexsort(parts[::-1])
