"""JSON text, parsed once per batch and kept as typed path columns, so that filters do not parse text per row.

Object keys are followed to any depth, up to the first MAX_PATHS paths of a batch. `extract` builds array elements and
further paths on demand; callers cache the result by column and path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.model import json_text
from milvine.model.records import record

JsonPath = tuple[str | int, ...]
"""A step that is an integer is an index into an array, or the object key with the same digits."""
MAX_PATHS = 256
_SPARSE_SHARE = 0.25
"""A path that a smaller fraction of the rows has is kept sparsely, since its dense arrays would be mostly filler."""
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


class JsonKind(IntEnum):
    """The kind of value at a path in one row. MISSING: no such key; OTHER: an object or an array; EMPTY: an object or
    array that holds only NULLs and further empty ones."""

    MISSING = 0
    NULL = 1
    BOOL = 2
    INT = 3
    DOUBLE = 4
    STRING = 5
    OTHER = 6
    EMPTY = 7


@record
class PathColumn:
    """The values at one path, n rows.

    kinds: uint8 (n,), JsonKind. integers: int64 (n,), BOOL as 0/1, or None when no row has one.
    doubles: float64 (n,), likewise. strings: StringArray, null where the kind is not STRING, likewise.
    An integer outside int64 is kept as DOUBLE.
    """

    kinds: np.ndarray[Any, np.dtype[np.uint8]]
    integers: np.ndarray[Any, np.dtype[np.int64]] | None
    doubles: np.ndarray[Any, np.dtype[np.float64]] | None
    strings: Any | None

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def bytes_used(self) -> int:
        return int(
            self.kinds.nbytes
            + sum(0 if part is None else part.nbytes for part in (self.integers, self.doubles, self.strings))
        )

    def slice(self, start: int, stop: int) -> PathColumn:
        return PathColumn(
            self.kinds[start:stop],
            None if self.integers is None else self.integers[start:stop],
            None if self.doubles is None else self.doubles[start:stop],
            None if self.strings is None else self.strings[start:stop],
        )


@record
class SparsePathColumn:
    """The values at a path that few of `row_count` rows have. rows: int32 (m,), ascending; values: of these m rows."""

    row_count: int
    rows: np.ndarray[Any, np.dtype[np.int32]]
    values: PathColumn

    def __len__(self) -> int:
        return self.row_count

    @property
    def bytes_used(self) -> int:
        return self.rows.nbytes + self.values.bytes_used

    def slice(self, start: int, stop: int) -> SparsePathColumn:
        chosen = range(self.row_count)[start:stop]
        first, end = np.searchsorted(self.rows, (chosen.start, chosen.stop)).tolist()
        rows = self.rows[first:end] - np.int32(chosen.start)
        return SparsePathColumn(len(chosen), rows, self.values.slice(first, end))

    def dense(self) -> PathColumn:
        def scattered(part: np.ndarray[Any, Any] | None) -> Any:
            if part is None:
                return None
            whole = np.zeros(self.row_count, part.dtype)
            whole[self.rows] = part
            return whole

        strings = None
        if self.values.strings is not None:
            places = np.full(self.row_count, len(self.rows), np.int32)
            places[self.rows] = np.arange(len(self.rows), dtype=np.int32)
            strings = self.values.strings.take(pa.array(places, mask=places == len(self.rows)))
        values = self.values
        return PathColumn(scattered(values.kinds), scattered(values.integers), scattered(values.doubles), strings)


AnyPathColumn = PathColumn | SparsePathColumn


def dense(column: AnyPathColumn) -> PathColumn:
    """The column with one entry per row; a sparse column is expanded at each call."""
    return column.dense() if isinstance(column, SparsePathColumn) else column


def _sparse(column: AnyPathColumn) -> SparsePathColumn:
    if isinstance(column, SparsePathColumn):
        return column
    rows = np.flatnonzero(column.kinds).astype(np.int32)
    integers = None if column.integers is None else column.integers[rows]
    doubles = None if column.doubles is None else column.doubles[rows]
    strings = None if column.strings is None else column.strings.take(pa.array(rows))
    return SparsePathColumn(len(column), rows, PathColumn(column.kinds[rows], integers, doubles, strings))


def _present(column: AnyPathColumn) -> int:
    """How many rows have the path."""
    return len(column.rows) if isinstance(column, SparsePathColumn) else int(np.count_nonzero(column.kinds))


class _Builder:
    """Collects (row, value) pairs of one path, rows ascending, and turns them into arrays at the end."""

    __slots__ = ("rows", "values")

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.values: list[Any] = []

    def shredded(self, row_count: int) -> AnyPathColumn:
        """As `build`, but sparse if few rows have the path."""
        if len(self.rows) >= _SPARSE_SHARE * row_count:
            return self.build(row_count)
        rows, self.rows = self.rows, list(range(len(self.rows)))
        return SparsePathColumn(row_count, np.array(rows, np.int32), self.build(len(rows)))

    def build(self, row_count: int) -> PathColumn:
        kinds = np.zeros(row_count, np.uint8)
        integers: np.ndarray[Any, Any] | None = None
        doubles: np.ndarray[Any, Any] | None = None
        strings: list[str | None] | None = None
        for row, value in zip(self.rows, self.values, strict=True):
            if isinstance(value, str):
                kinds[row] = JsonKind.STRING
                if strings is None:
                    strings = [None] * row_count
                strings[row] = value
            elif isinstance(value, bool):
                kinds[row] = JsonKind.BOOL
                if integers is None:
                    integers = np.zeros(row_count, np.int64)
                integers[row] = value
            elif isinstance(value, int) and _INT64_MIN <= value <= _INT64_MAX:
                kinds[row] = JsonKind.INT
                if integers is None:
                    integers = np.zeros(row_count, np.int64)
                integers[row] = value
            elif isinstance(value, int | float):
                kinds[row] = JsonKind.DOUBLE
                if doubles is None:
                    doubles = np.zeros(row_count, np.float64)
                doubles[row] = value
            else:
                kinds[row] = JsonKind.NULL if value is None else JsonKind.EMPTY if _is_empty(value) else JsonKind.OTHER
        return PathColumn(kinds, integers, doubles, None if strings is None else pa.array(strings, pa.string()))


def _is_empty(value: Any) -> bool:
    """Whether an object or an array holds only NULLs and further empty ones."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        elif item is not None:
            return False
    return True


@record
class PathElements:
    """The elements of the arrays at one path, n rows.

    is_array: bool (n,), rows with an array there. starts: int64 (n + 1,), where each row's elements start in
    `elements`, and the end of the last. inner: the elements of those elements, if requested.
    """

    is_array: np.ndarray[Any, np.dtype[np.bool_]]
    starts: np.ndarray[Any, np.dtype[np.int64]]
    elements: PathColumn
    inner: PathElements | None = None

    @property
    def bytes_used(self) -> int:
        inner = 0 if self.inner is None else self.inner.bytes_used
        return self.is_array.nbytes + self.starts.nbytes + self.elements.bytes_used + inner


@record
class ShreddedPaths:
    """The path columns of one JSON column. `is_complete`: an object path not in `columns` is in no row."""

    columns: Mapping[JsonPath, AnyPathColumn]
    is_complete: bool

    @property
    def bytes_used(self) -> int:
        return sum(c.bytes_used for c in self.columns.values())

    def slice(self, start: int, stop: int) -> ShreddedPaths:
        return ShreddedPaths({k: c.slice(start, stop) for k, c in self.columns.items()}, self.is_complete)

    def known(self, row_count: int, path: JsonPath) -> PathColumn | None:
        """The column at `path` if it was shredded or is known to be absent; otherwise `extract` is needed."""
        column = self.columns.get(path)
        if column is None and self.is_complete and path and all(isinstance(step, str) for step in path):
            return missing(row_count)
        return None if column is None else dense(column)


def shred(texts: pa.BinaryArray) -> ShreddedPaths:
    """Path columns of all object keys in `texts`. Raises ValueError("row N: ...") for text that is not JSON."""
    builders: dict[JsonPath, _Builder] = {}
    is_complete = True

    def collect(row: int, prefix: JsonPath, value: dict[str, Any]) -> None:
        nonlocal is_complete
        for key, item in value.items():
            path = (*prefix, key)
            builder = builders.get(path)
            if builder is None:
                if len(builders) >= MAX_PATHS:
                    is_complete = False
                    continue
                builder = builders[path] = _Builder()
            builder.rows.append(row)
            builder.values.append(item)
            if isinstance(item, dict):
                collect(row, path, item)

    for row, text in enumerate(texts.to_pylist()):
        try:
            document = json_text.loads(text)
        except json_text.NotJson as error:
            raise ValueError(f"row {row}: {error}") from error
        if isinstance(document, dict):
            collect(row, (), document)
    return ShreddedPaths({path: builder.shredded(len(texts)) for path, builder in builders.items()}, is_complete)


def extract(texts: pa.BinaryArray, path: JsonPath) -> PathColumn:
    """Builds one path column by parsing every row, for array elements and for paths beyond the cap."""
    builder = _Builder()
    for row, text in enumerate(texts.to_pylist()):
        value = _at(json_text.loads(text), path)
        if value is not _NOTHING:
            builder.rows.append(row)
            builder.values.append(value)
    return builder.build(len(texts))


def values_at(texts: pa.BinaryArray, path: JsonPath) -> list[Any]:
    """The decoded value at `path` in each row, None if there is none."""
    found = (_at(json_text.loads(text), path) for text in texts.to_pylist())
    return [None if value is _NOTHING else value for value in found]


def extract_elements(texts: pa.BinaryArray, path: JsonPath, depth: int = 1) -> PathElements:
    """The elements of the arrays at `path`, by parsing every row. `depth`: levels of nested arrays to read."""
    return _elements([_at(json_text.loads(text), path) for text in texts.to_pylist()], depth)


def _elements(values: list[Any], depth: int) -> PathElements:
    is_array = np.zeros(len(values), np.bool_)
    counts = np.zeros(len(values), np.int64)
    builder = _Builder()
    for row, value in enumerate(values):
        if isinstance(value, list):
            is_array[row] = True
            counts[row] = len(value)
            builder.values += value
    builder.rows = list(range(len(builder.values)))
    inner = _elements(builder.values, depth - 1) if depth > 1 else None
    starts = np.concatenate(([0], np.cumsum(counts)))
    return PathElements(is_array, starts, builder.build(len(builder.values)), inner)


def pointer(path: JsonPath) -> JsonPath:
    """The path as a JSON pointer: a key of digits is also an index into an array."""
    return tuple(int(s) if isinstance(s, str) and _PLACE.fullmatch(s) else s for s in path)


_PLACE = re.compile(r"0|[1-9][0-9]{0,17}")
_NOTHING = object()


def _at(value: Any, path: JsonPath) -> Any:
    """The value at `path` in a parsed document, or _NOTHING."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(str(step), _NOTHING)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return _NOTHING
    return value


def missing(row_count: int) -> PathColumn:
    """A path that no row has."""
    return PathColumn(np.zeros(row_count, np.uint8), None, None, None)


def concat(pieces: Sequence[tuple[int, ShreddedPaths]]) -> ShreddedPaths:
    """Joins the path columns of consecutive batches, given as (row count, paths).

    An incomplete batch may have rows with a path that it did not shred, so such a path is left out.
    """
    names: dict[JsonPath, None] = {}
    for _, paths in pieces:
        names.update(dict.fromkeys(paths.columns))
    partial = [paths.columns for _, paths in pieces if not paths.is_complete]
    kept = [name for name in names if all(name in columns for columns in partial)]
    joined = {
        name: _join([paths.columns.get(name) or _nowhere(count) for count, paths in pieces])
        for name in kept[:MAX_PATHS]
    }
    return ShreddedPaths(joined, not partial and len(names) <= MAX_PATHS)


def _nowhere(row_count: int) -> SparsePathColumn:
    return SparsePathColumn(row_count, np.zeros(0, np.int32), missing(0))


def _join(columns: Sequence[AnyPathColumn]) -> AnyPathColumn:
    row_count = sum(map(len, columns))
    if sum(map(_present, columns)) >= _SPARSE_SHARE * row_count:
        return _join_dense([dense(c) for c in columns])
    pieces = [_sparse(c) for c in columns]
    starts = np.cumsum([0, *(len(c) for c in columns[:-1])])
    rows = np.concatenate([p.rows + np.int32(start) for p, start in zip(pieces, starts, strict=True)])
    return SparsePathColumn(row_count, rows, _join_dense([p.values for p in pieces]))


def _join_dense(columns: Sequence[PathColumn]) -> PathColumn:
    def numbers(name: str, dtype: type) -> Any:
        parts = [getattr(c, name) for c in columns]
        if all(part is None for part in parts):
            return None
        return np.concatenate(
            [np.zeros(len(c), dtype) if part is None else part for c, part in zip(columns, parts, strict=True)]
        )

    strings = None
    if any(c.strings is not None for c in columns):
        strings = pa.concat_arrays([pa.nulls(len(c), pa.string()) if c.strings is None else c.strings for c in columns])
    return PathColumn(
        np.concatenate([c.kinds for c in columns]),
        numbers("integers", np.int64),
        numbers("doubles", np.float64),
        strings,
    )
