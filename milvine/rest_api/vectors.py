"""Vectors in JSON: lists of numbers, for INT8 whole numbers only; 16-bit vectors also as base64 of their bytes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from milvine.model.columns import NUMPY_DTYPES
from milvine.model.json_text import plain_text
from milvine.model.types import DataType
from milvine.model.vectors import from_float32
from milvine.rest_api.body import json_kind

Array = np.ndarray[Any, Any]
_NUMBERS = frozenset({int, float})
_TAKES_BYTES = frozenset({DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR})


def decode(values: Sequence[Any], data_type: DataType) -> Array | None:
    """Rows of the field's own type, None if their lengths differ. Raises ValueError with Go's text."""
    if data_type is DataType.INT8_VECTOR:
        return _whole_numbers(values)
    if data_type in _TAKES_BYTES and any(type(value) is str for value in values):
        return _from_bytes([_as_bytes(value, data_type) for value in values], data_type)
    made = _numbers(values)
    return None if made is None else from_float32(made, data_type)


def go_type(data_type: DataType) -> str:
    """The name in Milvus's texts of the elements of a vector in a row."""
    if data_type in _TAKES_BYTES:
        return "[]byte"
    return "[]int8" if data_type is DataType.INT8_VECTOR else "[]float32"


def size(value: Any, data_type: DataType) -> int:
    """The length of a vector in a row, in units of `go_type`."""
    return len(_as_bytes(value, data_type)) if data_type in _TAKES_BYTES else len(value)


def wrong_size(values: Sequence[Any], data_type: DataType, dim: int) -> str:
    """The error for queries some of which are not of `dim`."""
    if data_type in _TAKES_BYTES and type(values[0]) is str:
        length = NUMPY_DTYPES[data_type].itemsize * dim
        other = next(n for n in (size(v, data_type) for v in values) if n != length)
        return f"dimension: {dim}, bytesLen: {length}, but length of []byte: {other}"
    kind = "[]int8" if data_type is DataType.INT8_VECTOR else "[]float"
    other = next((len(v) for v in values if type(v) is list and len(v) != dim), 0)
    return f"dimension: {dim}, but length of {kind}: {other}"


def encode(vectors: Array) -> list[Any]:
    """Rows for orjson: float32 as numpy arrays, narrow vectors as base64 text of their bytes."""
    contiguous = np.ascontiguousarray(vectors)
    if vectors.dtype == np.float32:
        return list(contiguous)
    return [base64.b64encode(row).decode() for row in contiguous]


def _lists(values: Sequence[Any], element: str) -> None:
    for value in values:
        if type(value) is not list:
            raise ValueError(f"json: cannot unmarshal {json_kind(value)} into Go value of type []{element}")


def _numbers(values: Sequence[Any]) -> Array | None:
    _lists(values, "float32")
    if not set(map(type, chain.from_iterable(values))) <= _NUMBERS:
        wrong = next(v for v in chain.from_iterable(values) if type(v) not in _NUMBERS)
        raise ValueError(f"json: cannot unmarshal {json_kind(wrong)} into Go value of type float32")
    if len(set(map(len, values))) > 1:
        return None
    try:
        with np.errstate(over="ignore"):
            made: Array = np.array(values, np.float32)
    except OverflowError:
        made = np.array([np.inf])
    if not np.isfinite(made).all():
        raise ValueError("json: cannot unmarshal number into Go value of type float32: out of range")
    return made


def _whole_numbers(values: Sequence[Any]) -> Array | None:
    _lists(values, "int8")
    elements = list(chain.from_iterable(values))
    if not set(map(type, elements)) <= {int} or min(elements, default=0) < -128 or max(elements, default=0) > 127:
        wrong = next(v for v in elements if type(v) is not int or not -128 <= v <= 127)
        shown = f"number {plain_text(wrong)}" if type(wrong) in _NUMBERS else json_kind(wrong)
        raise ValueError(f"json: cannot unmarshal {shown} into Go value of type int8")
    return None if len(set(map(len, values))) > 1 else np.array(values, np.int8)


def _as_bytes(value: Any, data_type: DataType) -> bytes:
    if type(value) is str:
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(f"illegal base64 data: {error}") from error
    made = _numbers([value])
    assert made is not None
    return from_float32(made, data_type).tobytes()


def _from_bytes(rows: Sequence[bytes], data_type: DataType) -> Array | None:
    dtype = NUMPY_DTYPES[data_type]
    lengths = set(map(len, rows))
    if len(lengths) > 1 or lengths.pop() % dtype.itemsize:
        return None
    return np.frombuffer(b"".join(rows), dtype).reshape(len(rows), -1)
