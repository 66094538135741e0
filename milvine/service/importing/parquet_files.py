"""Files of Parquet, as Milvus's bulk writers make them: vectors as lists, JSON and sparse vectors as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from milvine.errors import ImportFailed, MilvineError, ParameterInvalid
from milvine.model import json_text
from milvine.model.columns import ARROW_TYPES, NUMPY_DTYPES, Column, null_column
from milvine.model.schema import FieldSchema
from milvine.model.sparse_vectors import SparseVectors
from milvine.model.sparse_vectors import check as check_sparse
from milvine.model.types import DataType
from milvine.service.importing.batches import BATCH_BYTES, Convert, RawBatch, Rules, reason
from milvine.service.importing.values import check_capacity, check_lengths, column_of, spread

Array = np.ndarray[Any, Any]
_BUFFER_BYTES = 1 << 20
_MOST_ROWS = 1 << 16
_HALVES = (DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR)
_ELEMENTS = {
    DataType.FLOAT_VECTOR: pa.float32(),
    DataType.BINARY_VECTOR: pa.uint8(),
    DataType.FLOAT16_VECTOR: pa.uint8(),
    DataType.BFLOAT16_VECTOR: pa.uint8(),
    DataType.INT8_VECTOR: pa.int8(),
}
_INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
_FLOATS = (pa.float32(), pa.float64())
_OF_VIEWS = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


class ParquetReader:
    def __init__(self, file: Any, size: int, rules: Rules) -> None:
        self.size = size
        self._rules = rules
        try:
            self._file = pq.ParquetFile(
                pa.PythonFile(file, mode="r"),
                buffer_size=_BUFFER_BYTES,
                pre_buffer=False,
                page_checksum_verification=True,
            )
            found = self._file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise ImportFailed(f"new parquet reader failed, err={reason(error)}") from error
        self.row_count = self._file.metadata.num_rows
        names = found.names
        try:
            for field in rules.schema.fields:
                if field.name in names and not _is_auto_key(field) and field.made_by is None:
                    _check_type(field, found.field(names.index(field.name)).type)
            if (lacking := rules.missing(names)) is not None:
                raise ImportFailed(f"field '{lacking.name}' not in arrow schema")
        except ImportFailed as error:
            raise ImportFailed(f"schema not equal, err={error.message}") from error
        rules.check_given(names)
        self._fields = [f for f in rules.schema.fields if f.name in names]
        for field in self._fields:
            if names.count(field.name) > 1:
                raise ImportFailed(f"there is multi field with name: {field.name}")

    def batches(self) -> Iterator[RawBatch]:
        metadata = self._file.metadata
        unpacked = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        width = max(1, unpacked // max(1, self.row_count), *(_width(f) for f in self._fields))
        rows = max(1, min(_MOST_ROWS, BATCH_BYTES // width))
        done = 0
        try:
            for batch in self._file.iter_batches(rows, columns=[f.name for f in self._fields], use_threads=False):
                batch.validate(full=True)
                arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
                columns: dict[str, Convert] = {f.name: partial(_column, f, arrays[f.name]) for f in self._fields}
                done += batch.num_rows
                if batch.num_rows:
                    yield RawBatch(batch.num_rows, columns, self.size * done // max(1, self.row_count))
        except MemoryError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise ImportFailed(f"read parquet file failed after row {done}, err={reason(error)}") from error


def _is_auto_key(field: FieldSchema) -> bool:
    return field.is_primary and field.auto_id


def _width(field: FieldSchema) -> int:
    return 4 * (field.dim or 0)


def _is_list(found: pa.DataType) -> bool:
    return bool(pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found))


def _is_text(found: pa.DataType) -> bool:
    return bool(pa.types.is_string(found) or pa.types.is_large_string(found))


def _is_bytes(found: pa.DataType) -> bool:
    binary = pa.types.is_binary(found) or pa.types.is_large_binary(found)
    return bool(binary or pa.types.is_fixed_size_binary(found))


def _plain(found: pa.DataType) -> pa.DataType:
    """The type of the same values without dictionaries and views, which only memory has."""
    if pa.types.is_dictionary(found):
        return _plain(found.value_type)
    if pa.types.is_list(found) or pa.types.is_list_view(found):
        return pa.list_(_plain(found.value_type))
    if pa.types.is_large_list(found) or pa.types.is_large_list_view(found):
        return pa.large_list(_plain(found.value_type))
    return _OF_VIEWS.get(found, found)


def _widens(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether Milvus reads numbers of one type as another."""
    if found in _FLOATS:
        return wanted in _FLOATS
    if found in _INTEGERS:
        return wanted in _FLOATS or (wanted in _INTEGERS and _INTEGERS.index(found) <= _INTEGERS.index(wanted))
    if _is_text(found):
        return bool(pa.types.is_string(wanted))
    return bool(found == wanted)


def _wanted(field: FieldSchema) -> pa.DataType:
    if field.data_type in (DataType.JSON, DataType.SPARSE_FLOAT_VECTOR):
        return pa.string()
    if field.data_type is DataType.ARRAY:
        assert field.element_type is not None
        return pa.list_(ARROW_TYPES[field.element_type])
    if field.data_type.is_vector:
        return pa.list_(_ELEMENTS[field.data_type])
    return pa.string() if field.data_type is DataType.TIMESTAMPTZ else ARROW_TYPES[field.data_type]


def _fits(field: FieldSchema, found: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_null(found):
        return field.nullable or field.default_value is not None
    found = _plain(found)
    if field.data_type is DataType.SPARSE_FLOAT_VECTOR and pa.types.is_struct(found):
        return {"indices", "values"} <= {found.field(i).name for i in range(found.num_fields)}
    if not pa.types.is_list(wanted):
        return _widens(found, wanted)
    if _is_bytes(found):
        return bool(wanted.value_type == pa.uint8())
    if not _is_list(found):
        return False
    if field.data_type in _HALVES and found.value_type in _FLOATS:
        return True
    return _widens(found.value_type, wanted.value_type)


def _check_type(field: FieldSchema, found: pa.DataType) -> None:
    wanted = _wanted(field)
    if not _fits(field, found, wanted):
        raise ImportFailed(
            f"field '{field.name}' type mis-match, expect arrow type '{_go_name(wanted)}', "
            f"get arrow data type '{_go_name(found)}'"
        )


def _go_name(kind: pa.DataType) -> str:
    """A type as Go's Arrow prints it."""
    if pa.types.is_list(kind):
        return f"list<item: {_go_name(kind.value_type)}, nullable>"
    if pa.types.is_string(kind):
        return "utf8"
    names = {pa.float32(): "float32", pa.float64(): "float64"}
    return names.get(kind, str(kind))


def _column(field: FieldSchema, array: pa.Array, start: int, stop: int) -> Column:
    some = array.slice(start, stop - start)
    if (plain := _plain(some.type)) != some.type:
        some = some.cast(plain)
    if pa.types.is_null(some.type):
        return null_column(field, len(some))
    is_absent = some.is_null()
    if field.data_type is DataType.SPARSE_FLOAT_VECTOR and _is_text(some.type) and field.nullable:
        is_absent = pc.or_(is_absent, pc.fill_null(pc.equal(some, "null"), True))  # as bulk writers write None
    if not pc.any(is_absent).as_py():
        return Column(_type_of(field, some.type), _given(field, some))
    if not field.nullable and field.default_value is None and not field.is_dynamic:
        raise ImportFailed(f"the field '{field.name}' is not nullable but the file contains null value")
    validity = pc.invert(is_absent)
    flags = validity.to_numpy(zero_copy_only=False)
    if not flags.any():
        return null_column(field, len(some))
    given = _given(field, some.filter(validity))
    if field.data_type in _HALVES and given.dtype == np.float32:
        raise_to = np.zeros((len(flags), given.shape[1]), np.float32)
        raise_to[flags] = given
        return Column(DataType.FLOAT_VECTOR, raise_to, flags)
    return spread(field, given, flags)


def _type_of(field: FieldSchema, found: pa.DataType) -> DataType:
    if field.data_type in _HALVES and _is_list(found) and found.value_type in _FLOATS:
        return DataType.FLOAT_VECTOR
    return field.data_type


def _given(field: FieldSchema, array: pa.Array) -> Any:
    """The values of an array without NULLs."""
    data_type = field.data_type
    if data_type is DataType.SPARSE_FLOAT_VECTOR:
        return _sparse(field, array)
    if data_type.is_vector:
        return _vectors(field, array)
    if data_type is DataType.ARRAY:
        return _arrays(field, array)
    if data_type is DataType.JSON:
        return array.cast(pa.string()).cast(pa.binary())
    if data_type in (DataType.VARCHAR, DataType.TIMESTAMPTZ):
        texts = array.cast(pa.string())
        check_lengths(field, texts)
        return texts
    values = array.to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        return values.astype(NUMPY_DTYPES[data_type], copy=False)


def _flat(field: FieldSchema, array: pa.Array) -> tuple[Array, pa.Array]:
    """The lengths of lists, and their elements."""
    elements = array.flatten()
    if elements.null_count:
        raise ImportFailed(f"array element is not allowed to be null value for field '{field.name}'")
    if pa.types.is_fixed_size_list(array.type):
        return np.full(len(array), array.type.list_size, np.int64), elements
    return array.value_lengths().to_numpy().astype(np.int64), elements


def _vectors(field: FieldSchema, array: pa.Array) -> Array:
    assert field.dim is not None
    is_floating = _type_of(field, array.type) is DataType.FLOAT_VECTOR
    kind = _FORMS[DataType.FLOAT_VECTOR if is_floating else field.data_type]
    width = kind(field.dim)
    if _is_bytes(array.type):
        lengths = pc.binary_length(array).to_numpy().astype(np.int64)
        elements: Any = np.frombuffer(b"".join(array.to_pylist()), np.uint8)
    else:
        lengths, flat = _flat(field, array)
        elements = flat.to_numpy(zero_copy_only=False)
    wrong = lengths != width
    if wrong.any():
        raise ImportFailed(
            f"length of vector is not aligned: expected {width} but got {lengths[int(np.argmax(wrong))]}, "
            f"data type: {field.data_type.milvus_name}"
        )
    with np.errstate(over="ignore"):
        rows = elements.astype(np.float32 if is_floating else _DTYPES[field.data_type], copy=False)
    rows = rows.reshape(len(array), width)
    if field.data_type in _HALVES and not is_floating:
        rows = np.ascontiguousarray(rows).view(np.float16 if field.data_type is DataType.FLOAT16_VECTOR else np.uint16)
    found: Array = rows
    return found


_DTYPES = {
    DataType.FLOAT_VECTOR: np.float32,
    DataType.BINARY_VECTOR: np.uint8,
    DataType.FLOAT16_VECTOR: np.uint8,
    DataType.BFLOAT16_VECTOR: np.uint8,
    DataType.INT8_VECTOR: np.int8,
}
_FORMS: dict[DataType, Callable[[int], int]] = {
    DataType.FLOAT_VECTOR: lambda dim: dim,
    DataType.INT8_VECTOR: lambda dim: dim,
    DataType.BINARY_VECTOR: lambda dim: dim // 8,
    DataType.FLOAT16_VECTOR: lambda dim: 2 * dim,
    DataType.BFLOAT16_VECTOR: lambda dim: 2 * dim,
}
"""The elements of a vector's list, by its dimension."""


def _arrays(field: FieldSchema, array: pa.Array) -> pa.ListArray:
    assert field.element_type is not None
    lengths, elements = _flat(field, array)
    check_capacity(field, lengths)
    wanted = ARROW_TYPES[field.element_type]
    try:
        elements = elements.cast(wanted)
    except pa.ArrowInvalid as error:
        raise ImportFailed(f"field '{field.name}': {reason(error)}") from error
    if field.element_type is DataType.VARCHAR:
        check_lengths(field, elements)
    if field.element_type.is_floating and not np.isfinite(elements.to_numpy()).all():
        raise ImportFailed("value 'NaN' is not a number or infinity")
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), elements)


def _sparse(field: FieldSchema, array: pa.Array) -> SparseVectors:
    if _is_text(array.type):
        texts = array.to_pylist()
        try:
            values = json_text.loads(f"[{','.join(texts)}]")
        except json_text.NotJson as error:
            shown = f": '{texts[0]}'" if len(texts) == 1 else ""
            raise ImportFailed(f"Invalid JSON string for SparseFloatVector{shown}, err = {reason(error)}") from error
        found: SparseVectors = column_of(field, values).values
        return found
    indices, values = array.field("indices"), array.field("values")
    if indices.null_count or values.null_count:
        raise ImportFailed(
            "Invalid parquet struct for SparseFloatVector: 'indices' or 'values' is null for a valid sparse row"
        )
    lengths = indices.value_lengths().to_numpy().astype(np.int64)
    if (lengths != values.value_lengths().to_numpy()).any():
        raise ImportFailed(
            "Invalid parquet struct for SparseFloatVector: number of elements of 'indices' and 'values' is not equal"
        )
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    places = indices.flatten().to_numpy(zero_copy_only=False)
    if len(places) and (places.min() < 0 or places.max() >= 2**32 - 1):
        raise ParameterInvalid("invalid index in sparse float vector: must be less than 2^32-1")
    order = np.lexsort((places, np.repeat(np.arange(len(lengths)), lengths)))
    numbers = values.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    made = SparseVectors(offsets, places[order].astype(np.uint32), numbers[order])
    try:
        check_sparse(made)
    except MilvineError as error:
        raise ImportFailed(error.message) from error
    return made
