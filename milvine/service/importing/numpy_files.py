"""Files of numpy: one of each field, named by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy

from milvine.errors import ImportFailed
from milvine.model.columns import NUMPY_DTYPES, Column
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType
from milvine.service.importing.batches import BATCH_BYTES, Convert, RawBatch, Rules, reason
from milvine.service.importing.values import check_lengths

Array = np.ndarray[Any, Any]
_UNSUPPORTED = (DataType.ARRAY, DataType.SPARSE_FLOAT_VECTOR)
_HALVES = (DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR)
_TEXTS = (DataType.VARCHAR, DataType.JSON, DataType.TIMESTAMPTZ)
_ELEMENTS = {
    "b1": "Bool",
    "u1": "BinaryVector",
    "i1": "Int8",
    "i2": "Int16",
    "i4": "Int32",
    "i8": "Int64",
    "f4": "Float",
    "f8": "Double",
}
_VECTORS = {
    DataType.FLOAT_VECTOR: ("f4", "f8"),
    DataType.BINARY_VECTOR: ("u1",),
    DataType.INT8_VECTOR: ("i1",),
    DataType.FLOAT16_VECTOR: ("u1", "f4", "f8"),
    DataType.BFLOAT16_VECTOR: ("u1", "f4", "f8"),
}
_MAX_HEADER_BYTES = 1 << 16


class NumpyReader:
    def __init__(self, files: Mapping[str, tuple[Any, int]], rules: Rules) -> None:
        """`files`: by path, with their sizes."""
        self.size = sum(size for _, size in files.values())
        self._rules = rules
        by_name = {PurePosixPath(path).stem: (path, file) for path, (file, _) in files.items()}
        rules.check_given(by_name)
        for field in rules.schema.fields:
            if field.data_type in _UNSUPPORTED and (field.name in by_name or not rules.may_be_missing(field)):
                raise ImportFailed(
                    f"unsupported importing numpy files for collection with data type: {field.data_type.milvus_name}"
                )
        if (lacking := rules.missing(by_name)) is not None:
            raise ImportFailed(f"no file for field: {lacking.name}, files: [{' '.join(files)}]")
        self._columns = {
            field: _Column(field, *by_name[field.name]) for field in rules.schema.fields if field.name in by_name
        }
        if not self._columns:
            raise ImportFailed("no file to import")
        counts = {column.row_count for column in self._columns.values()}
        if len(counts) > 1:
            told = ", ".join(f"{f.name}: {c.row_count}" for f, c in self._columns.items())
            raise ImportFailed(f"inconsistent row count between the numpy files ({told})")
        self.row_count = counts.pop()

    def batches(self) -> Iterator[RawBatch]:
        width = sum(column.row_bytes for column in self._columns.values())
        step = max(1, min(1 << 17, BATCH_BYTES // max(1, width)))
        for start in range(0, self.row_count, step):
            count = min(step, self.row_count - start)
            columns: dict[str, Convert] = {}
            for field, column in self._columns.items():
                columns[field.name] = partial(_converted, field, column.read(count))
            yield RawBatch(count, columns, self.size * (start + count) // max(1, self.row_count))


class _Column:
    """One file, whose header fits the field."""

    def __init__(self, field: FieldSchema, path: str, file: Any) -> None:
        self._path = path
        self._file = file
        try:
            version = npy.read_magic(file)
            read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, is_fortran, dtype = read_header(file, max_header_size=_MAX_HEADER_BYTES)
            if min(shape, default=0) < 0:
                raise ValueError(f"the shape {shape} has a negative number")
        except (ValueError, KeyError, EOFError, SyntaxError, TypeError) as error:
            raise ImportFailed(f"failed to read the numpy file '{path}', error: {reason(error)}") from error
        if is_fortran and len(shape) > 1:
            raise ImportFailed(f"unsupported numpy file '{path}' with fortran order")
        self._dtype = dtype
        _check(field, shape, dtype)
        self._shape = shape
        self.row_count = int(shape[0])
        self.row_bytes = int(dtype.itemsize * np.prod(shape[1:], dtype=np.int64))

    def read(self, row_count: int) -> Array:
        content = self._file.read(row_count * self.row_bytes)
        if len(content) < row_count * self.row_bytes:
            raise ImportFailed(f"failed to read the numpy file '{self._path}', error: unexpected EOF")
        found = np.frombuffer(content, self._dtype).reshape(row_count, *self._shape[1:])
        return found.astype(self._dtype.newbyteorder("="), copy=False)


def _check(field: FieldSchema, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raises ImportFailed in Milvus's words."""
    code = f"{dtype.kind}{dtype.itemsize}"
    element = "VarChar" if dtype.kind in "US" else _ELEMENTS.get(code)
    if element is None or dtype.hasobject:
        raise ImportFailed(
            f"unexpected numpy header for field '{field.name}': 'the numpy file dtype '{dtype.str}' is not supported'"
        )
    is_vector = field.data_type.is_vector
    if is_vector:
        fits = code in _VECTORS[field.data_type]
    elif field.data_type in _TEXTS:
        fits = element == "VarChar"
    else:
        fits = dtype.newbyteorder("=") == NUMPY_DTYPES[field.data_type]
    if not fits:
        raise ImportFailed(
            f"expected element type '{field.data_type.milvus_name}' for field '{field.name}', got type '{element}'"
        )
    if len(shape) != 1 + is_vector:
        raise ImportFailed(
            f"expected shape '{1 + is_vector}' for {field.data_type.milvus_name} field '{field.name}', "
            f"got shape '{len(shape)}'"
        )
    if not is_vector:
        return
    assert field.dim is not None
    width, scale = field.dim, 1
    if field.data_type is DataType.BINARY_VECTOR:
        width, scale = field.dim // 8, 8
    elif field.data_type in _HALVES and code == "u1":
        width = 2 * field.dim
    if shape[1] != width:
        raise ImportFailed(
            f"expected dim '{width * scale}' for {field.data_type.milvus_name} field '{field.name}', "
            f"got dim '{shape[1] * scale}'"
        )


def _converted(field: FieldSchema, values: Array, start: int, stop: int) -> Column:
    some = values[start:stop]
    if field.data_type in _TEXTS:
        try:
            texts = pa.array([v.decode() if isinstance(v, bytes) else v for v in some.tolist()], pa.string())
        except (UnicodeError, pa.ArrowInvalid) as error:
            raise ImportFailed(f"field '{field.name}' contains invalid UTF-8 data") from error
        if field.data_type is DataType.JSON:
            return Column(field.data_type, texts.cast(pa.binary()))
        check_lengths(field, texts)
        return Column(field.data_type, texts)
    if field.data_type in _HALVES:
        if some.dtype == np.uint8:
            kept = np.float16 if field.data_type is DataType.FLOAT16_VECTOR else np.uint16
            return Column(field.data_type, np.ascontiguousarray(some).view(kept))
        return Column(DataType.FLOAT_VECTOR, some.astype(np.float32))
    if field.data_type is DataType.FLOAT_VECTOR:
        with np.errstate(over="ignore"):
            return Column(field.data_type, some.astype(np.float32, copy=False))
    return Column(field.data_type, some)
