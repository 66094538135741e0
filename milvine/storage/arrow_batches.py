"""Columns as Arrow IPC streams: the payload of log records and of segment files.

A stream holds one record batch; a column of ours is one Arrow column named by its field id. Reading makes views
into the given buffer wherever the type allows (all but BOOL and validity), so a mapped file is not copied.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.errors import DataIntegrityError
from milvine.model.columns import ARROW_TYPES, NUMPY_DTYPES, Column
from milvine.model.types import DataType
from milvine.model.vectors import kind_of
from milvine.storage.files import Buffer

_LARGE_BYTES = 1 << 20
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def to_arrow(column: Column) -> pa.Array:
    mask = None if column.validity is None else ~column.validity
    values = column.values
    if column.data_type.is_vector:
        return kind_of(column.data_type).to_arrow(values, None if mask is None else pa.array(mask))
    if isinstance(values, np.ndarray):
        if mask is None and column.data_type is not DataType.BOOL:
            return _plain_array(values)
        return pa.array(values, ARROW_TYPES[column.data_type], mask=mask)
    if column.data_type is DataType.ARRAY:
        return _lists(values, mask)
    if mask is not None:
        return pa.compute.if_else(pa.array(mask), pa.scalar(None, values.type), values)
    return values


def _plain_array(values: np.ndarray[Any, Any]) -> pa.Array:
    """A view of numbers without NULLs, twice as fast as `pa.array`."""
    content = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, content], null_count=0)


def from_arrow(data_type: DataType, array: pa.Array) -> Column:
    """The inverse of `to_arrow`; JSON comes back without its shredded paths."""
    validity = None
    if array.null_count:
        validity = array.is_valid().to_numpy(zero_copy_only=False)
    if data_type.is_vector:
        values: Any = kind_of(data_type).from_arrow(array)
    elif data_type is DataType.ARRAY:
        values = _lists(array, None) if validity is not None else array
    elif data_type is DataType.BOOL:
        filled = array.fill_null(False) if validity is not None else array
        values = filled.to_numpy(zero_copy_only=False)
    elif data_type in (DataType.VARCHAR, DataType.JSON):
        filler = "" if data_type is DataType.VARCHAR else b"null"
        values = array.fill_null(filler) if validity is not None else array
    else:
        values = _numpy_view(array, NUMPY_DTYPES[data_type])
    return Column(data_type, values, validity)


def _lists(array: pa.ListArray, mask: np.ndarray[Any, np.dtype[np.bool_]] | None) -> pa.ListArray:
    """The lists, with NULL where `mask` is set (None: nowhere) and without the elements of other rows."""
    offsets = array.offsets.to_numpy()
    elements = array.values.slice(offsets[0], offsets[-1] - offsets[0])
    starts = pa.array(offsets - offsets[0])
    return pa.ListArray.from_arrays(starts, elements, mask=None if mask is None else pa.array(mask))


def _numpy_view(array: pa.Array, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The values buffer, including NULL slots."""
    data = array.buffers()[1]
    if data is None:
        return np.zeros(len(array), dtype)
    return np.frombuffer(data, dtype)[array.offset : array.offset + len(array)]


def encode_stream(arrays: Mapping[str, pa.Array], metadata: Mapping[str, str] | None = None) -> list[Buffer]:
    """The parts of an IPC stream of one record batch, of equally long arrays: schema, batch, end.

    A stream writer takes twice as long for a small batch. The arrays of a large one are not copied.
    """
    batch = pa.record_batch(list(arrays.values()), names=list(arrays), metadata=metadata)
    if batch.nbytes < _LARGE_BYTES:
        return [memoryview(batch.schema.serialize()), memoryview(batch.serialize()), _END_OF_STREAM]
    parts = _Parts()
    with pa.ipc.new_stream(pa.PythonFile(parts, mode="w"), batch.schema) as writer:
        writer.write_batch(batch)
    return parts.written


class _Parts:
    """The file of a stream writer: keeps what is written, which is the arrays' own memory."""

    closed = False

    def __init__(self) -> None:
        self.written: list[Buffer] = []

    def write(self, part: Any) -> int:
        content = memoryview(part)
        self.written.append(content)
        return content.nbytes

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def decode_stream(buffer: Any, source: object) -> tuple[dict[str, pa.Array], dict[str, str]]:
    """Arrays by name, viewing `buffer`, and the metadata. Raises DataIntegrityError naming `source`."""
    return decode_streams(buffer, source)[0]


def decode_streams(buffer: Any, source: object) -> list[tuple[dict[str, pa.Array], dict[str, str]]]:
    """As `decode_stream`, for all streams that follow one another in `buffer`, at least one."""
    found: list[tuple[dict[str, pa.Array], dict[str, str]]] = []
    whole = pa.py_buffer(buffer)
    file = pa.BufferReader(whole)
    try:
        while not found or file.tell() < whole.size:
            with pa.ipc.open_stream(file) as reader:
                batch = reader.read_next_batch()
                metadata = {k.decode(): v.decode() for k, v in (reader.schema.metadata or {}).items()}
                with contextlib.suppress(StopIteration):  # reads the end of the stream
                    reader.read_next_batch()
            batch.validate()
            found.append((dict(zip(batch.schema.names, batch.columns, strict=True)), metadata))
    except (pa.ArrowException, OSError, StopIteration, ValueError) as error:
        raise DataIntegrityError(f"{source} does not hold what was written: {error}") from error
    return found
