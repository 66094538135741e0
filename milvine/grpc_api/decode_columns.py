"""FieldData -> columns. No loop over rows: numpy and Arrow read the buffers of repeated fields."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.errors import ParameterInvalid
from milvine.model.columns import NUMPY_DTYPES, Column
from milvine.model.types import DataType
from milvine.model.vectors import KINDS, kind_of

Array = np.ndarray[Any, Any]
_SCALARS: dict[str, DataType] = {
    "bool_data": DataType.BOOL,
    "int_data": DataType.INT32,
    "long_data": DataType.INT64,
    "float_data": DataType.FLOAT,
    "double_data": DataType.DOUBLE,
    "string_data": DataType.VARCHAR,
    "json_data": DataType.JSON,
    "timestamptz_data": DataType.TIMESTAMPTZ,
}
_ARROW_TYPES = {DataType.VARCHAR: pa.string(), DataType.JSON: pa.binary()}
_ELEMENTS = {
    "bool_data": pa.bool_(),
    "int_data": pa.int32(),
    "long_data": pa.int64(),
    "float_data": pa.float32(),
    "double_data": pa.float64(),
    "string_data": pa.string(),
}
_VECTORS = {kind.wire_name: data_type for data_type, kind in KINDS.items()}


def _expanded(values: Any, validity: Array) -> Any:
    """The values of the valid rows, expanded to all rows with fillers."""
    if isinstance(values, np.ndarray):
        spread = np.zeros((len(validity), *values.shape[1:]), values.dtype)
        spread[validity] = values
        return spread
    return _with_fillers(values, np.where(validity, np.cumsum(validity), 0))


def _with_fillers(values: Any, places: Array) -> Any:
    """The values at positions `places`, from 1; a filler for 0."""
    kinds: list[Any] = [[] if pa.types.is_list(values.type) else "" if pa.types.is_string(values.type) else b"null"]
    return pa.concat_arrays([pa.array(kinds, values.type), values]).take(pa.array(places))


def _lists(field: Any) -> pa.ListArray:
    """ArrayArray, a message per row, as one list array; elements as wide as on the wire."""
    rows = field.scalars.array_data.data
    kinds = {row.WhichOneof("data") for row in rows}
    kinds.discard(None)
    if not kinds <= _ELEMENTS.keys() or len(kinds) > 1:
        shown = " and ".join(sorted(kinds))
        raise ParameterInvalid(f"insert data does not match, array field {field.field_name} has elements of {shown}")
    if not kinds:
        return pa.array([[]] * len(rows), pa.list_(pa.null()))
    (kind,) = kinds
    lists = [getattr(row, kind).data for row in rows]
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, lists), np.int64, len(rows)), out=offsets[1:])
    element_type = _ELEMENTS[kind]
    if element_type == pa.string():
        elements = pa.array(list(chain.from_iterable(lists)), element_type)
    else:
        arrays = [np.array(values, element_type.to_pandas_dtype()) for values in lists]
        elements = pa.array(np.concatenate(arrays), element_type)
    return pa.ListArray.from_arrays(pa.array(offsets), elements)


def _declared_type(field: Any) -> DataType:
    """The stated type of a FieldData without data."""
    try:
        return DataType(field.type)
    except ValueError:
        raise ParameterInvalid(f"undefined data type:{field.type}") from None


def _vectors(field: Any) -> Column:
    """Compact: only the vectors of valid rows. A column of NULLs may lack a dimension."""
    vectors = field.vectors
    sent = vectors.WhichOneof("data")
    data_type = _VECTORS.get(sent) if sent else _declared_type(field)
    if data_type not in KINDS:
        raise ParameterInvalid(f"field {field.field_name}: {sent} is not supported by this version of Milvine")
    valid_data = field.valid_data
    values = kind_of(data_type).from_wire(vectors, bool(valid_data))
    if not valid_data:
        return Column(data_type, values)
    validity = np.array(valid_data, dtype=np.bool_)
    valid = int(np.count_nonzero(validity))
    if len(values) != valid:
        raise ParameterInvalid(
            f"nullable vector field {field.field_name} has {valid} valid rows, "
            f"but compact physical payload rows is {len(values)}"
        )
    return Column(data_type, values, validity)


def column(field: Any) -> Column:
    """A FieldData as sent: INT8 and INT16 are as wide as on the wire, vectors are compact, and a validity may be true
    for all rows."""
    sent = field.WhichOneof("field")
    if sent == "struct_arrays":
        raise ParameterInvalid(f"field {field.field_name}: {sent} is not supported by this version of Milvine")
    scalars = field.scalars
    kind = scalars.WhichOneof("data") if sent == "scalars" else None
    if sent == "vectors" or (kind is None and _declared_type(field).is_vector):
        return _vectors(field)
    if kind is not None and kind not in _SCALARS and kind != "array_data":
        raise ParameterInvalid(f"field {field.field_name}: {kind} is not supported by this version of Milvine")
    data_type = _SCALARS.get(kind, DataType.ARRAY) if kind else _declared_type(field)
    data = getattr(scalars, kind).data if kind else []
    if data_type is DataType.ARRAY:
        values = _lists(field)
    elif data_type in _ARROW_TYPES:
        values = pa.array(data, _ARROW_TYPES[data_type])
    else:
        values = np.array(data, dtype=NUMPY_DTYPES[data_type])
    valid_data = field.valid_data
    if not valid_data:
        return Column(data_type, values)
    validity = np.array(valid_data, dtype=np.bool_)
    if len(values) != len(validity) or not validity.all():
        if len(values) == int(np.count_nonzero(validity)):
            values = _expanded(values, validity)
        elif data_type is DataType.ARRAY and len(values) == len(validity):
            values = _with_fillers(values, np.where(validity, np.arange(1, len(validity) + 1), 0))
    return Column(data_type, values, validity)
