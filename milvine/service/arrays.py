"""Values of ARRAY fields in writes: checked as a whole, with Milvus's texts, and converted to the field's type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from milvine.errors import ParameterInvalid
from milvine.model.columns import ARROW_TYPES, NUMPY_DTYPES, text_lengths
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType

Array = np.ndarray[Any, Any]
_WIRE_NAMES = {
    pa.bool_(): ("bool", "BoolData"),
    pa.int32(): ("int", "IntData"),
    pa.int64(): ("int64", "LongData"),
    pa.float32(): ("float", "FloatData"),
    pa.float64(): ("double", "DoubleData"),
    pa.string(): ("string", "StringData"),
}
_NARROW = (DataType.INT8, DataType.INT16)


def checked_arrays(field: FieldSchema, lists: pa.ListArray) -> pa.ListArray:
    """Lists without nulls, elements as wide as the wire has them (or already of the field's type)."""
    assert field.element_type is not None
    assert field.max_capacity is not None
    wanted = ARROW_TYPES[field.element_type]
    lengths = lists.value_lengths().to_numpy()
    if lengths.max(initial=0) > field.max_capacity:
        row = int(np.argmax(lengths > field.max_capacity))
        raise ParameterInvalid(
            f"the length ({lengths[row]}) of {row}th array exceeds max capacity ({field.max_capacity})",
            expected="valid length array",
            actual="array length exceeds max capacity",
        )
    elements = lists.flatten()
    if field.element_type is DataType.VARCHAR and elements.type == wanted:
        _check_lengths(field, elements, lengths)
    if elements.type == wanted:
        return lists
    if field.element_type in _NARROW and elements.type == pa.int32():
        elements = pa.array(narrowed(elements.to_numpy(), NUMPY_DTYPES[field.element_type], _starts(lengths)))
    elif pa.types.is_null(elements.type):  # all arrays are empty, so their type is unknown
        elements = pa.array([], wanted)
    else:
        expected = _WIRE_NAMES[pa.int32() if field.element_type in _NARROW else wanted][0]
        raise ParameterInvalid(
            "insert data does not match",
            expected=f"{expected} array",
            actual=f"*schemapb.ScalarField_{_WIRE_NAMES[elements.type][1]} array",
        )
    return pa.ListArray.from_arrays(_starts(lengths).astype(np.int32), elements)


def _starts(lengths: Array) -> Array:
    """Where each list starts in the elements, and where the last one ends: (n + 1,)."""
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def _check_lengths(field: FieldSchema, elements: pa.StringArray, lengths: Array) -> None:
    assert field.max_length is not None
    sizes = text_lengths(elements)
    if sizes.max(initial=0) > field.max_length:
        place = int(np.argmax(sizes > field.max_length))
        starts = _starts(lengths)
        row = int(np.searchsorted(starts, place, side="right")) - 1
        raise ParameterInvalid(
            f'length of Array array field "{field.name}" exceeds max length, row number: {row}, '
            f"array index: {place - starts[row]}, length: {sizes[place]}, max length: {field.max_length}"
        )


def narrowed(values: Array, dtype: np.dtype[Any], starts: Array | None = None) -> Array:
    """The integers as `dtype`. The error gives the position of one that does not fit; by array if `starts` is given."""
    info = np.iinfo(dtype)
    outside = (values < info.min) | (values > info.max)
    if outside.any():
        place = int(np.argmax(outside))
        shown = place if starts is None else place - starts[int(np.searchsorted(starts, place, side="right")) - 1]
        raise ParameterInvalid(
            f"the {shown}th element ({values[place]}) out of range: [{info.min}, {info.max}]",
            expected="integer doesn't overflow",
            actual="out of range",
        )
    return values.astype(dtype)
