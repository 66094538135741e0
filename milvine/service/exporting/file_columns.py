"""Columns as imports read them from Parquet: the inverse of `service.importing.parquet_files`.

Each Arrow field names the type of its field of the schema, so that writers of other formats know what bytes mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from milvine.model.columns import ARROW_TYPES, Column
from milvine.model.moments import UTC, moment_texts
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType
from milvine.storage.export_files import TYPE_KEY

_TEXTS = (DataType.VARCHAR, DataType.JSON)


def file_column(field: FieldSchema, column: Column) -> pa.Array:
    """Vectors are lists of numbers, or of bytes where imports take bytes; sparse ones are structs of `indices` and
    `values`; JSON is text, and so are moments."""
    values = column.values
    mask = None if column.validity is None or column.validity.all() else ~column.validity
    if column.data_type is DataType.SPARSE_FLOAT_VECTOR:
        offsets = pa.array(values.offsets.astype(np.int32))
        lists = [pa.ListArray.from_arrays(offsets, pa.array(part)) for part in (values.indices, values.values)]
        return pa.StructArray.from_arrays(lists, ["indices", "values"], mask=None if mask is None else pa.array(mask))
    if column.data_type.is_vector:
        rows = np.ascontiguousarray(values)
        if column.data_type not in (DataType.FLOAT_VECTOR, DataType.INT8_VECTOR):
            rows = rows.view(np.uint8)
        flat, width = pa.array(rows.reshape(-1)), rows.shape[1]
        return pa.FixedSizeListArray.from_arrays(flat, width, mask=None if mask is None else pa.array(mask))
    if column.data_type is DataType.ARRAY:
        return _with_nulls(values, mask)
    if column.data_type is DataType.TIMESTAMPTZ:
        return _with_nulls(moment_texts(values, UTC), mask)
    if column.data_type in _TEXTS:
        return _with_nulls(values.cast(pa.string()), mask)
    return pa.array(values, ARROW_TYPES[column.data_type], mask=mask)


def _with_nulls(values: pa.Array, mask: np.ndarray[Any, Any] | None) -> pa.Array:
    if mask is None:
        return values
    places: np.ndarray[Any, Any] = np.arange(len(values))
    return values.take(pa.array(places, mask=mask))


def file_field(field: FieldSchema, array: pa.Array) -> pa.Field:
    return pa.field(field.name, array.type, True, {TYPE_KEY: field.data_type.milvus_name.encode()})
