"""Rows, which exist only as columns.

Shapes, for a batch of n rows:
  BOOL, INT*, FLOAT, DOUBLE   numpy (n,), of the type's own dtype
  TIMESTAMPTZ                 numpy (n,) of int64, microseconds of UTC (`model.moments`)
  vectors                     the values of their kind (`model.vectors`), such as numpy (n, dim)
  VARCHAR                     pyarrow.StringArray without nulls
  ARRAY                       pyarrow.ListArray without nulls, its elements of the element type, without nulls
  JSON                        pyarrow.BinaryArray of UTF-8 JSON text, without nulls, and its shredded paths
`validity` is None (every row has a value) or numpy bool (n,); where it is False the value is a filler (of an
ARRAY the empty list, of a vector zeros).
Columns are immutable, so readers hold them without a lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.model import json_paths
from milvine.model.json_paths import ShreddedPaths
from milvine.model.records import record
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType
from milvine.model.vectors import kind_of

NUMPY_DTYPES: dict[DataType, np.dtype[Any]] = {
    DataType.BOOL: np.dtype(np.bool_),
    DataType.INT8: np.dtype(np.int8),
    DataType.INT16: np.dtype(np.int16),
    DataType.INT32: np.dtype(np.int32),
    DataType.INT64: np.dtype(np.int64),
    DataType.FLOAT: np.dtype(np.float32),
    DataType.DOUBLE: np.dtype(np.float64),
    DataType.TIMESTAMPTZ: np.dtype(np.int64),
}
ARROW_TYPES: dict[DataType, pa.DataType] = {
    DataType.BOOL: pa.bool_(),
    DataType.INT8: pa.int8(),
    DataType.INT16: pa.int16(),
    DataType.INT32: pa.int32(),
    DataType.INT64: pa.int64(),
    DataType.FLOAT: pa.float32(),
    DataType.DOUBLE: pa.float64(),
    DataType.VARCHAR: pa.string(),
    DataType.JSON: pa.binary(),
    DataType.TIMESTAMPTZ: pa.int64(),
}
MAX_JOINED_BYTES = 1 << 30
"""Rows and keys are joined up to this size, since one array of texts holds at most 2 GB."""


@record
class Column:
    """One field's values; see the module's head for shapes."""

    data_type: DataType
    values: Any
    validity: np.ndarray[Any, np.dtype[np.bool_]] | None = None
    paths: ShreddedPaths | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def bytes_used(self) -> int:
        size = int(self.values.nbytes)
        if self.validity is not None:
            size += self.validity.nbytes
        if self.paths is not None:
            size += self.paths.bytes_used
        return size

    def slice(self, start: int, stop: int) -> Column:
        return Column(
            self.data_type,
            self.values[start:stop],
            None if self.validity is None else self.validity[start:stop],
            None if self.paths is None else self.paths.slice(start, stop),
        )

    def take(self, row_offsets: np.ndarray[Any, Any]) -> Column:
        """The rows at `row_offsets` (int64), in that order, without shredded paths."""
        values = self.values
        is_arrow = isinstance(values, pa.Array)
        taken = values.take(pa.array(row_offsets)) if is_arrow else values[row_offsets]
        return Column(self.data_type, taken, None if self.validity is None else self.validity[row_offsets])


class ConstantColumn(Column):
    """One value for all of `row_count` rows; only the rows that are taken are built."""

    __slots__ = ("_one", "_row_count")

    def __init__(self, one: Column, row_count: int) -> None:
        """`one`: a column of one row."""
        self._one = one
        self._row_count = row_count

    def __len__(self) -> int:
        return self._row_count

    @property
    def data_type(self) -> DataType:
        return self._one.data_type

    @property
    def values(self) -> Any:
        one = self._one.values
        if isinstance(one, np.ndarray):
            return np.broadcast_to(one, (self._row_count, *one.shape[1:]))
        if not isinstance(one, pa.Array):
            return one[np.zeros(self._row_count, np.int64)]
        return pa.repeat(one[0], self._row_count) if self._row_count else one[:0]

    @property
    def validity(self) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        one = self._one.validity
        return None if one is None else np.broadcast_to(one, self._row_count)

    @property
    def paths(self) -> ShreddedPaths | None:
        return self._one.paths

    @property
    def bytes_used(self) -> int:
        return self._one.bytes_used

    def slice(self, start: int, stop: int) -> Column:
        return ConstantColumn(self._one, len(range(self._row_count)[start:stop]))

    def take(self, row_offsets: np.ndarray[Any, Any]) -> Column:
        return ConstantColumn(self._one, len(row_offsets))


def lacking_column(field: FieldSchema, row_count: int) -> Column:
    """As `absent_column`, for reads: it holds no memory, and only the rows that are taken are built."""
    return ConstantColumn(absent_column(field, 1), row_count)


def absent_column(field: FieldSchema, row_count: int) -> Column:
    """The values of rows written without the field: its default value, or NULL; for `$meta` no key."""
    if field.is_dynamic:
        return Column(DataType.JSON, pa.repeat(pa.scalar(b"{}", pa.binary()), row_count), None, ShreddedPaths({}, True))
    return null_column(field, row_count) if field.default_value is None else default_column(field, row_count)


def default_column(field: FieldSchema, row_count: int) -> Column:
    """A column of the field's default value."""
    if field.data_type is DataType.VARCHAR:
        return Column(field.data_type, pa.repeat(pa.scalar(field.default_value, pa.string()), row_count))
    return Column(field.data_type, np.full(row_count, field.default_value, NUMPY_DTYPES[field.data_type]))


def with_default(field: FieldSchema, column: Column) -> Column:
    """The column with NULLs replaced by the field's default value, if the field has one."""
    if column.validity is None or field.default_value is None:
        return column
    if field.data_type is DataType.VARCHAR:
        default = pa.scalar(field.default_value, pa.string())
        return Column(field.data_type, pc.if_else(pa.array(column.validity), column.values, default))
    default = NUMPY_DTYPES[field.data_type].type(field.default_value)
    return Column(field.data_type, np.where(column.validity, column.values, default))


def null_column(field: FieldSchema, row_count: int) -> Column:
    """A column of NULLs."""
    validity = np.zeros(row_count, dtype=np.bool_)
    if field.data_type.is_vector:
        return Column(field.data_type, kind_of(field.data_type).fillers(row_count, field.dim or 0), validity)
    if field.data_type is DataType.VARCHAR:
        return Column(field.data_type, pa.repeat(pa.scalar("", pa.string()), row_count), validity)
    if field.data_type is DataType.ARRAY:
        assert field.element_type is not None
        no_elements = pa.array([], ARROW_TYPES[field.element_type])
        offsets = pa.array(np.zeros(row_count + 1, np.int32))
        return Column(field.data_type, pa.ListArray.from_arrays(offsets, no_elements), validity)
    if field.data_type is DataType.JSON:
        nulls = pa.repeat(pa.scalar(b"null", pa.binary()), row_count)
        return Column(field.data_type, nulls, validity, ShreddedPaths({}, True))
    return Column(field.data_type, np.zeros(row_count, NUMPY_DTYPES[field.data_type]), validity)


def json_column(values: pa.BinaryArray, validity: np.ndarray[Any, Any] | None = None) -> Column:
    """Parses and shreds JSON text once. Raises ValueError with the row's offset if a text is not JSON."""
    return Column(DataType.JSON, values, validity, json_paths.shred(values))


def text_lengths(values: pa.StringArray | pa.BinaryArray) -> np.ndarray[Any, np.dtype[np.int32]]:
    """The bytes of each text; three times as fast as `pc.binary_length` for a few texts."""
    if len(values) == 0:
        return np.zeros(0, np.int32)
    offsets = np.frombuffer(values.buffers()[1], np.int32, len(values) + 1, 4 * values.offset)
    return offsets[1:] - offsets[:-1]


def taken_bytes(column: Column, row_offsets: np.ndarray[Any, Any]) -> int:
    """The bytes of the values at `row_offsets`, without taking them."""
    if isinstance(column, ConstantColumn):
        return len(row_offsets) * (column.bytes_used if column.validity is None else 1)
    values = column.values
    if column.data_type.is_vector:
        return kind_of(column.data_type).taken_bytes(values, row_offsets)
    if isinstance(values, np.ndarray):
        return int(len(row_offsets) * values[:1].nbytes) if len(values) else 0
    starts, ends = _bounds(values, row_offsets)
    if not isinstance(values, pa.ListArray):
        return int((ends - starts).sum())
    elements = values.values
    if pa.types.is_string(elements.type):
        offsets = np.frombuffer(elements.buffers()[1], np.int32, len(elements) + 1, 4 * elements.offset)
        return int((offsets[ends] - offsets[starts]).sum())
    width: int = elements.type.bit_width
    return int((ends - starts).sum()) * max(1, width // 8)


def _bounds(values: Any, row_offsets: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """int64: the starts and ends of the rows' texts or elements."""
    if len(values) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    offsets = np.frombuffer(values.buffers()[1], np.int32, len(values) + 1, 4 * values.offset)
    return offsets[row_offsets].astype(np.int64), offsets[row_offsets + 1].astype(np.int64)


class _Sized(Protocol):
    @property
    def bytes_used(self) -> int: ...


_Item = TypeVar("_Item", bound=_Sized)


def joinable(items: Iterable[_Item]) -> Iterator[tuple[_Item, ...]]:
    """The items in order, in groups of at most MAX_JOINED_BYTES each; a larger item is alone."""
    group: list[_Item] = []
    size = 0
    for item in items:
        if group and size + item.bytes_used > MAX_JOINED_BYTES:
            yield tuple(group)
            group, size = [], 0
        group.append(item)
        size += item.bytes_used
    if group:
        yield tuple(group)


def concat_columns(columns: Sequence[Column]) -> Column:
    first = columns[0]
    if len(columns) == 1:
        return first
    pieces = [c.values for c in columns]
    if first.data_type.is_vector:
        values: Any = kind_of(first.data_type).join(pieces)
    elif isinstance(first.values, np.ndarray):
        values = np.concatenate(pieces)
    else:
        values = pa.concat_arrays(pieces)
    validity = None
    if any(c.validity is not None for c in columns):
        validity = np.concatenate([np.ones(len(c), np.bool_) if c.validity is None else c.validity for c in columns])
    paths = None
    if all(c.paths is not None for c in columns):
        paths = json_paths.concat([(len(c), c.paths) for c in columns if c.paths is not None])
    return Column(first.data_type, values, validity, paths)


@record
class ColumnBatch:
    """Rows of one collection: field id -> Column, all of `row_count` rows."""

    row_count: int
    columns: Mapping[int, Column]

    @property
    def bytes_used(self) -> int:
        return sum(c.bytes_used for c in self.columns.values())

    def slice(self, start: int, stop: int) -> ColumnBatch:
        return ColumnBatch(stop - start, {i: c.slice(start, stop) for i, c in self.columns.items()})

    def take(self, row_offsets: np.ndarray[Any, Any]) -> ColumnBatch:
        return ColumnBatch(len(row_offsets), {i: c.take(row_offsets) for i, c in self.columns.items()})


def concat_batches(batches: Sequence[ColumnBatch]) -> ColumnBatch:
    """Joins batches of the same fields, in order."""
    if len(batches) == 1:
        return batches[0]
    return ColumnBatch(
        sum(b.row_count for b in batches),
        {i: concat_columns([b.columns[i] for b in batches]) for i in batches[0].columns},
    )
