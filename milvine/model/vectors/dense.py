"""Vectors of numbers: float32, the two 16-bit floats, and int8."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from milvine.errors import ParameterInvalid
from milvine.model.json_text import json_kind
from milvine.model.numbers import check_finite
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType, MetricType
from milvine.model.vectors.base import Array, engine_type_mismatch, proxy_type_mismatch
from milvine.model.vectors.conversion import as_float32, from_float32, is_finite
from milvine.model.vectors.fixed_width import MAX_SENT_DIM, FixedWidthKind, wrong_whole_number

_NUMBERS = frozenset({int, float})


class DenseKind(FixedWidthKind):
    """Compared as float32, which holds the numbers of every such kind exactly."""

    family = "dense"
    metrics = frozenset({MetricType.L2, MetricType.IP, MetricType.COSINE})
    default_metric = MetricType.COSINE
    metric_noun = "float"

    def checked_queries(self, field: FieldSchema, query_type: int, queries: Array) -> Array:
        if query_type != self.data_type:
            raise engine_type_mismatch(field, self, query_type)
        self._check_query_size(field, queries)
        return as_float32(queries)


class _ListKind(DenseKind):
    """A vector is a list of numbers in JSON."""

    query_element: str
    """The list's type in the error for a query of another dimension."""

    def _json_size(self, value: Any) -> int:
        return len(value)

    def _json_width(self, dim: int) -> int:
        return dim

    def _wrong_query_size(self, given: list[Any], dim: int) -> str:
        return _wrong_length(given, dim, self.query_element)


class FloatKind(_ListKind):
    data_type = DataType.FLOAT_VECTOR
    dtype = np.dtype(np.float32)
    wire_name = "float_vector"
    engine_name = "VECTOR_FLOAT"
    json_element = "[]float32"
    query_element = "[]float"

    def from_wire(self, vectors: Any, has_validity: bool) -> Array:
        dim = min(int(vectors.dim), MAX_SENT_DIM)
        flat = np.array(vectors.float_vector.data, dtype=np.float32)
        self._check_length(len(flat), dim, dim, has_validity)
        return flat.reshape(len(flat) // max(dim, 1), max(dim, 0))

    def _uneven(self, length: int, dim: int, width: int) -> ParameterInvalid:
        return ParameterInvalid(
            f"the length({length}) of float data should divide the dim({dim})", expected=dim, actual=length
        )

    def to_wire(self, values: Array) -> Array:
        return values

    def check_sent(self, field: FieldSchema, values: Array, validity: Array | None) -> None:
        if values.size % (field.dim or 1):
            raise ParameterInvalid(f"the length({values.size}) of float data should divide the dim({field.dim})")
        super().check_sent(field, values, validity)

    def checked(self, values: Array) -> Array:
        check_finite(values)
        return values

    def to_json(self, values: Array) -> list[Any]:
        return list(np.ascontiguousarray(values))

    def _decoded(self, given: list[Any]) -> Array | None:
        return _numbers(given)


class HalfKind(DenseKind):
    """FLOAT16_VECTOR and BFLOAT16_VECTOR, which also take float32 numbers. numpy has no bfloat16, so its bits are
    kept."""

    def __init__(self, data_type: DataType) -> None:
        is_half = data_type is DataType.FLOAT16_VECTOR
        self.data_type = data_type
        self.dtype = np.dtype(np.float16 if is_half else np.uint16)
        self.wire_name = "float16_vector" if is_half else "bfloat16_vector"
        self.engine_name = "VECTOR_FLOAT16" if is_half else "VECTOR_BFLOAT16"
        self._wire_noun = "float16" if is_half else "bfloat"

    def takes(self, sent: DataType) -> bool:
        return sent in (self.data_type, DataType.FLOAT_VECTOR)

    def _uneven(self, length: int, dim: int, width: int) -> ParameterInvalid:
        return ParameterInvalid(f"the length({length}) of {self._wire_noun} data should divide the row width({width})")

    def checked(self, values: Array) -> Array:
        if values.dtype == np.float32:
            check_finite(values)
            values = from_float32(values, self.data_type)
        if not is_finite(values):
            raise ParameterInvalid(f"{self.noun} vector contain nan or infinity value.")
        return values

    def checked_queries(self, field: FieldSchema, query_type: int, queries: Array) -> Array:
        is_converted = query_type == DataType.FLOAT_VECTOR
        if query_type != self.data_type and not is_converted:
            if query_type > DataType.JSON:
                raise proxy_type_mismatch(field, query_type)
            raise engine_type_mismatch(field, self, query_type)
        self._check_query_size(field, queries)
        return as_float32(self.checked(queries) if is_converted else queries)

    def _decoded(self, given: list[Any]) -> Array | None:
        if not any(type(value) is str for value in given):
            made = _numbers(given)
            return None if made is None else from_float32(made, self.data_type)
        return self._from_bytes(given)

    def _numbers_as_bytes(self, value: Any) -> bytes:
        made = _numbers([value])
        assert made is not None
        return from_float32(made, self.data_type).tobytes()

    def _wrong_query_size(self, given: list[Any], dim: int) -> str:
        if type(given[0]) is not str:
            return _wrong_length(given, dim, "[]float")
        return super()._wrong_query_size(given, dim)


class Int8Kind(_ListKind):
    data_type = DataType.INT8_VECTOR
    dtype = np.dtype(np.int8)
    wire_name = "int8_vector"
    engine_name = "VECTOR_INT8"
    json_element = query_element = "[]int8"
    metric_noun = "int"

    def _uneven(self, length: int, dim: int, width: int) -> ParameterInvalid:
        return ParameterInvalid(f"the length({length}) of int8 data should divide the dim({width})")

    def checked(self, values: Array) -> Array:
        return values

    def _decoded(self, given: list[Any]) -> Array | None:
        _check_lists(given, "int8")
        elements = list(chain.from_iterable(given))
        if not set(map(type, elements)) <= {int} or min(elements, default=0) < -128 or max(elements, default=0) > 127:
            wrong = next(v for v in elements if type(v) is not int or not -128 <= v <= 127)
            raise wrong_whole_number(wrong, "int8")
        return None if len(set(map(len, given))) > 1 else np.array(given, np.int8)


def _wrong_length(given: Sequence[Any], dim: int, element: str) -> str:
    other = next((len(v) for v in given if type(v) is list and len(v) != dim), 0)
    return f"dimension: {dim}, but length of {element}: {other}"


def _check_lists(given: Sequence[Any], element: str) -> None:
    for value in given:
        if type(value) is not list:
            raise ValueError(f"json: cannot unmarshal {json_kind(value)} into Go value of type []{element}")


def _numbers(given: Sequence[Any]) -> Array | None:
    """float32 (n, dim); None if the lengths differ."""
    _check_lists(given, "float32")
    if not set(map(type, chain.from_iterable(given))) <= _NUMBERS:
        wrong = next(v for v in chain.from_iterable(given) if type(v) not in _NUMBERS)
        raise ValueError(f"json: cannot unmarshal {json_kind(wrong)} into Go value of type float32")
    if len(set(map(len, given))) > 1:
        return None
    try:
        with np.errstate(over="ignore"):
            made: Array = np.array(given, np.float32)
    except OverflowError:
        made = np.array([np.inf])
    if not np.isfinite(made).all():
        raise ValueError("json: cannot unmarshal number into Go value of type float32: out of range")
    return made
