"""Decoded JSON values to columns, for files of JSON and for cells of CSV."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.errors import ImportFailed, ParameterInvalid
from milvine.model import json_text
from milvine.model.columns import ARROW_TYPES, NUMPY_DTYPES, Column, null_column
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType
from milvine.model.vectors import kind_of
from milvine.model.vectors.base import JsonMismatch
from milvine.service.importing.batches import go_value

Array = np.ndarray[Any, Any]
_NUMBERS = frozenset({int, float})
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
_MILVUS_NUMBER = "json.Number"


def _go_type(value: object) -> str:
    name = json_text.go_type(value)
    return _MILVUS_NUMBER if name == "float64" else name


def _wrong_type(field: FieldSchema, value: object) -> ImportFailed:
    return ImportFailed(
        f"expected type '{field.data_type.milvus_name}' for field '{field.name}', "
        f"got type '{_go_type(value)}' with value '{go_value(value)}'"
    )


def _require(field: FieldSchema, values: list[Any], kinds: frozenset[type]) -> None:
    if not set(map(type, values)) <= kinds:
        raise _wrong_type(field, next(v for v in values if type(v) not in kinds))


def _integers(field: FieldSchema, values: list[Any]) -> Array:
    _require(field, values, _NUMBERS)
    if float in set(map(type, values)):
        wrong = next(v for v in values if type(v) is float)
        raise ImportFailed(f'strconv.ParseInt: parsing "{json_text.plain_text(wrong)}": invalid syntax')
    dtype = NUMPY_DTYPES[field.data_type]
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if values and (min(values) < low or max(values) > high):
        wrong = next(v for v in values if not low <= v <= high)
        raise ImportFailed(f'strconv.ParseInt: parsing "{wrong}": value out of range')
    return np.array(values, dtype)


def _floats(field: FieldSchema, values: list[Any]) -> Array:
    _require(field, values, _NUMBERS)
    try:
        found = np.array(values, np.float64)
    except OverflowError as error:
        raise ImportFailed("strconv.ParseFloat: parsing a number: value out of range") from error
    if field.data_type is DataType.DOUBLE:
        return found
    too_large = np.abs(found) > _LARGEST_FLOAT
    if too_large.any():
        wrong = found[int(np.argmax(too_large))]
        raise ImportFailed(f'strconv.ParseFloat: parsing "{wrong:g}": value out of range')
    return found.astype(np.float32)


def _booleans(field: FieldSchema, values: list[Any]) -> Array:
    _require(field, values, frozenset({bool}))
    return np.array(values, np.bool_)


def _texts(field: FieldSchema, values: list[Any]) -> pa.StringArray:
    _require(field, values, frozenset({str}))
    texts = pa.array(values, pa.string())
    check_lengths(field, texts)
    return texts


def check_lengths(field: FieldSchema, texts: pa.StringArray) -> None:
    """Raises ParameterInvalid in the words of imports."""
    lengths = pa.compute.binary_length(texts)
    longest = pa.compute.max(lengths).as_py() or 0
    if field.max_length is not None and longest > field.max_length:
        raise ParameterInvalid(f"value length({longest}) for field {field.name} exceeds max_length({field.max_length})")


def check_capacity(field: FieldSchema, lengths: Array) -> None:
    """Raises ParameterInvalid in the words of imports."""
    longest = int(lengths.max(initial=0))
    if field.max_capacity is not None and longest > field.max_capacity:
        raise ParameterInvalid(
            f"array capacity({longest}) for field {field.name} exceeds max_capacity({field.max_capacity})"
        )


def _json(field: FieldSchema, values: list[Any]) -> pa.BinaryArray:
    """A string is JSON text itself, as in Milvus."""
    _require(field, values, frozenset({str, dict}))
    return pa.array([v.encode() if type(v) is str else json_text.dumps(v) for v in values], pa.binary())


_ELEMENTS: dict[DataType, frozenset[type]] = {
    DataType.BOOL: frozenset({bool}),
    DataType.VARCHAR: frozenset({str}),
    DataType.FLOAT: _NUMBERS,
    DataType.DOUBLE: _NUMBERS,
}


def _arrays(field: FieldSchema, values: list[Any]) -> pa.ListArray:
    assert field.element_type is not None
    _require(field, values, frozenset({list}))
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    check_capacity(field, lengths)
    elements = list(chain.from_iterable(values))
    kinds = _ELEMENTS.get(field.element_type, frozenset({int}))
    if not set(map(type, elements)) <= kinds:
        wrong = next(v for v in values if not set(map(type, v)) <= kinds)
        raise ImportFailed(
            f"expected element type '{field.element_type.milvus_name}' in array field, "
            f"got type '[]interface {{}}' with value '{go_value(wrong)}'"
        )
    try:
        if field.element_type.is_floating:
            elements = list(map(float, elements))
        flat = pa.array(elements, ARROW_TYPES[field.element_type])
    except (pa.ArrowInvalid, OverflowError) as error:
        raise ImportFailed(f"failed to parse {field.element_type.milvus_name.lower()}: value out of range") from error
    if field.element_type is DataType.VARCHAR:
        check_lengths(field, flat)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat)


def _vectors(field: FieldSchema, values: list[Any]) -> Any:
    if field.data_type is DataType.SPARSE_FLOAT_VECTOR:
        _require(field, values, frozenset({dict}))
    else:
        _require(field, values, frozenset({list}))
        assert field.dim is not None
        each = 8 if field.data_type is DataType.BINARY_VECTOR else 1
        wrong = next((v for v in values if len(v) * each != field.dim), None)
        if wrong is not None:
            raise ImportFailed(
                f"expected dim '{field.dim}' for field '{field.name}' with type '{field.data_type.milvus_name}', "
                f"got dim '{len(wrong) * each}'"
            )
        elements = chain.from_iterable(values)
        if not set(map(type, elements)) <= _NUMBERS:
            raise _wrong_type(field, next(v for v in chain.from_iterable(values) if type(v) not in _NUMBERS))
    try:
        return kind_of(field.data_type).from_json(field, values)
    except JsonMismatch as error:
        raise ImportFailed(error.reason) from error


_DECODERS: dict[DataType, Callable[[FieldSchema, list[Any]], Any]] = {
    DataType.BOOL: _booleans,
    DataType.INT8: _integers,
    DataType.INT16: _integers,
    DataType.INT32: _integers,
    DataType.INT64: _integers,
    DataType.FLOAT: _floats,
    DataType.DOUBLE: _floats,
    DataType.VARCHAR: _texts,
    DataType.TIMESTAMPTZ: _texts,
    DataType.JSON: _json,
    DataType.ARRAY: _arrays,
}


def column_of(field: FieldSchema, values: list[Any]) -> Column:
    """Decoded values, None for NULL. Raises ImportFailed in Milvus's words."""
    decode = _vectors if field.data_type.is_vector else _DECODERS[field.data_type]
    if None not in values or not (field.nullable or field.default_value is not None):
        return Column(field.data_type, decode(field, values))
    validity: Array = np.fromiter((v is not None for v in values), np.bool_, len(values))
    given = [v for v in values if v is not None]
    if not given:
        return null_column(field, len(values))
    return spread(field, decode(field, given), validity)


def spread(field: FieldSchema, given: Any, validity: Array) -> Column:
    """The column of a row for each flag, from the values of the valid ones; the others hold fillers."""
    if field.data_type.is_vector:
        return Column(field.data_type, kind_of(field.data_type).spread(given, validity, field.dim or 0), validity)
    fillers: Any = pa.array([""]) if field.data_type is DataType.TIMESTAMPTZ else null_column(field, 1).values
    if isinstance(given, np.ndarray):
        values = np.full(len(validity), fillers[0], given.dtype)
        values[validity] = given
        return Column(field.data_type, values, validity)
    places = np.where(validity, np.cumsum(validity) - 1, len(given))
    joined = pa.concat_arrays([given, fillers.cast(given.type)])
    return Column(field.data_type, joined.take(pa.array(places)), validity)
