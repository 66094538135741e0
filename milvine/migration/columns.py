"""The Arrow columns in which rows travel, and the rows of pymilvus made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.migration.shape import DYNAMIC_COLUMN, Field, Shape
from milvine.model.columns import ARROW_TYPES
from milvine.model.types import DataType

_TEXTS = (DataType.VARCHAR, DataType.JSON, DataType.TIMESTAMPTZ)
_SCALARS = {**ARROW_TYPES, **dict.fromkeys(_TEXTS, pa.large_string())}
_NUMBERS = {DataType.FLOAT_VECTOR: np.dtype(np.float32), DataType.INT8_VECTOR: np.dtype(np.int8)}
_BYTES_OF_VALUES = {DataType.FLOAT16_VECTOR: 16, DataType.BFLOAT16_VECTOR: 16, DataType.BINARY_VECTOR: 1}
_SPARSE = pa.map_(pa.uint32(), pa.float32())


def arrow_type(field: Field) -> pa.DataType:
    """JSON and moments are text. Vectors are lists of fixed size, bytes (for values of 16 bits or one) or, if sparse,
    maps."""
    kind = field.data_type
    if kind in _NUMBERS:
        return pa.list_(pa.from_numpy_dtype(_NUMBERS[kind]), field.dim)
    if kind in _BYTES_OF_VALUES:
        return pa.binary(field.dim * _BYTES_OF_VALUES[kind] // 8)
    if kind is DataType.SPARSE_FLOAT_VECTOR:
        return _SPARSE
    if kind is DataType.ARRAY:
        assert field.element_type is not None
        return pa.list_(_SCALARS[field.element_type])
    return _SCALARS[kind]


def arrow_schema(shape: Shape) -> pa.Schema:
    columns = [pa.field(field.name, arrow_type(field)) for field in shape.stored_fields]
    if shape.has_dynamic_field:
        columns.append(pa.field(DYNAMIC_COLUMN, pa.large_string()))
    return pa.schema(columns)


def batch_of(shape: Shape, values: Mapping[str, Sequence[Any]]) -> pa.RecordBatch:
    """The batch of columns of Python values: vectors as sequences of numbers or bytes, sparse ones as dicts.

    Raises pyarrow's ArrowInvalid or ArrowTypeError if a value is not of its field's type."""
    schema = arrow_schema(shape)
    arrays = [_column(list(values[column.name]), column.type) for column in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind.equals(_SPARSE):
        values = [None if value is None else [*value.items()] for value in values]
    elif pa.types.is_fixed_size_list(kind):
        values = [None if value is None else np.asarray(value, kind.value_type.to_pandas_dtype()) for value in values]
    return pa.array(values, kind)


def json_text(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def rows_of(batch: pa.RecordBatch, fields: Sequence[Field]) -> list[dict[str, Any]]:
    """The rows as `MilvusClient.insert` takes them. What is null is left out, so that a default may stand for it."""
    columns = {field.name: _values(batch.column(field.name), field.data_type) for field in fields}
    nullable = {field.name for field in fields if field.nullable}
    rows = [
        {name: value for name, value in zip(columns, values, strict=True) if value is not None or name in nullable}
        for values in zip(*columns.values(), strict=True)
    ]
    if DYNAMIC_COLUMN in batch.schema.names:
        for row, text in zip(rows, batch.column(DYNAMIC_COLUMN).to_pylist(), strict=True):
            row.update({dynamic_key(key, columns): value for key, value in json.loads(text or "{}").items()})
    return rows


def dynamic_key(key: str, taken: Container[str]) -> str:
    """The key under which the dynamic field has what the source calls `key`: fields keep their names."""
    return f"{key}_" if key in taken else key


def _values(column: pa.Array, kind: DataType) -> list[Any]:
    read: Callable[[pa.Array], list[Any]] = _READERS.get(kind, pa.Array.to_pylist)
    return read(column)


def _vectors(column: pa.FixedSizeListArray) -> list[Any]:
    if column.null_count:
        numbers = column.type.value_type.to_pandas_dtype()
        return [None if value is None else np.asarray(value, numbers) for value in column.to_pylist()]
    # `flatten` respects the offset of a slice, unlike `values`.
    return list(column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1))


def _sparse(column: pa.MapArray) -> list[Any]:
    return [None if value is None else dict(value) for value in column.to_pylist()]


def _documents(column: pa.Array) -> list[Any]:
    return [None if text is None else json.loads(text) for text in column.to_pylist()]


_READERS: dict[DataType, Callable[[pa.Array], list[Any]]] = {
    DataType.FLOAT_VECTOR: _vectors,
    DataType.INT8_VECTOR: _vectors,
    DataType.SPARSE_FLOAT_VECTOR: _sparse,
    DataType.JSON: _documents,
}
