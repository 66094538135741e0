"""Checks vectors in rows and searches against their field."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from milvine.errors import ParameterInvalid
from milvine.model.columns import NUMPY_DTYPES, Column
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType
from milvine.model.vectors import as_float32, from_float32, is_finite

Array = np.ndarray[Any, Any]
MAX_SPREAD_BYTES = 512 << 20
FLOAT_TAKING = (DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR)
"""What float32 vectors are turned into where they are given for such a field."""
_ENGINE_NAMES = {
    DataType.FLOAT_VECTOR: "VECTOR_FLOAT",
    DataType.FLOAT16_VECTOR: "VECTOR_FLOAT16",
    DataType.BFLOAT16_VECTOR: "VECTOR_BFLOAT16",
    DataType.INT8_VECTOR: "VECTOR_INT8",
}
_PLACEHOLDERS = {
    21: ("VarChar", "VARCHAR"),
    100: ("BinaryVector", "VECTOR_BINARY"),
    104: ("SparseFloatVector", "VECTOR_SPARSE_U32_F32"),
    **{int(data_type): (data_type.milvus_name, name) for data_type, name in _ENGINE_NAMES.items()},
}
"""The names of query types in Milvus's proxy and its engine, by the placeholder's number."""


def spread_vectors(field: FieldSchema, column: Column) -> Column:
    """The column, which may be compact, expanded to a vector per row, zeros for NULL. Raises ParameterInvalid."""
    values, validity = column.values, column.validity
    if not values.size and validity is None and not field.nullable:
        raise no_vectors(field)
    if field.data_type is DataType.FLOAT_VECTOR and values.size % (field.dim or 1):
        raise ParameterInvalid(f"the length({values.size}) of float data should divide the dim({field.dim})")
    if values.shape[1] != field.dim and (len(values) or validity is None):
        raise ParameterInvalid(
            f"the dim ({values.shape[1]}) of field data({field.name}) is not equal to schema dim ({field.dim})",
            expected=field.dim,
            actual=values.shape[1],
        )
    if validity is None or len(values) == len(validity):
        return column
    check_filler(field, len(validity))
    spread = np.zeros((len(validity), field.dim or 0), values.dtype)
    if len(values):
        spread[validity] = values
    return Column(column.data_type, spread, validity)


def no_vectors(field: FieldSchema) -> ParameterInvalid:
    """The error for missing vectors of a field, or vectors of another type."""
    kind = field.data_type.milvus_name.removesuffix("Vector").lower()
    return ParameterInvalid(
        f"{kind} vector field '{field.name}' is illegal, array type mismatch",
        expected=f"need {kind} vector",
        actual="got nil",
    )


def check_filler(field: FieldSchema, row_count: int) -> None:
    """Bounds the rows of a small request, since NULLs take the memory of vectors."""
    if field.data_type.is_vector:
        size = row_count * (field.dim or 0) * NUMPY_DTYPES[field.data_type].itemsize
        if size > MAX_SPREAD_BYTES:
            raise ParameterInvalid(
                f"{row_count} rows with NULLs of field {field.name} take {size} bytes, more than {MAX_SPREAD_BYTES}"
            )


def checked_vectors(field: FieldSchema, vectors: Array) -> Array:
    """The vectors in the field's own type. Raises ParameterInvalid with Milvus's texts."""
    if vectors.dtype == np.float32:
        check_finite(vectors)
        vectors = from_float32(vectors, field.data_type)
    if field.data_type in FLOAT_TAKING and not is_finite(vectors):
        kind = field.data_type.milvus_name.removesuffix("Vector").lower()
        raise ParameterInvalid(f"{kind} vector contain nan or infinity value.")
    return vectors


def check_finite(values: Array) -> None:
    """Raises ParameterInvalid if float32 or float64 values are not all finite."""
    # One sum shows whether all values are finite, at a tenth of isfinite's cost; if it overflows, isfinite decides.
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.add.reduce(values, axis=None))
    if not math.isfinite(total) and not np.isfinite(values).all():
        bad = values[~np.isfinite(values)][0]
        text = "NaN" if np.isnan(bad) else ("+Inf" if bad > 0 else "-Inf")
        raise ParameterInvalid(f"value '{text}' is not a number or infinity")


def checked_queries(field: FieldSchema, query_type: int, queries: Array) -> Array:
    """float32 (nq, dim), rounded to the field's type. Raises ParameterInvalid with Milvus's texts."""
    wanted = field.data_type
    takes_float = wanted in FLOAT_TAKING
    is_converted = takes_float and query_type == DataType.FLOAT_VECTOR
    if query_type != wanted and not is_converted:
        sent, engine_name = _PLACEHOLDERS.get(query_type, (str(query_type), str(query_type)))
        if takes_float and query_type > DataType.JSON:
            raise ParameterInvalid(f"vector type must be the same: field type {wanted.milvus_name}, search type {sent}")
        raise ParameterInvalid(
            f"vector type must be the same, field {field.name} - type {_ENGINE_NAMES[wanted]}, "
            f"search ph type {engine_name}"
        ).prefixed("failed to search")
    if queries.shape[1] != field.dim:
        size = NUMPY_DTYPES[wanted].itemsize
        raise ParameterInvalid(
            f"vector dimension mismatch, expected vector size(byte) {size * (field.dim or 0)}, "
            f"actual {size * queries.shape[1]}"
        ).prefixed("failed to search")
    return as_float32(checked_vectors(field, queries) if is_converted else queries)
