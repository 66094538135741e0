"""Files of CSV. A header names the fields; vectors, arrays and JSON are JSON text in their cells."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from milvine.errors import ImportFailed
from milvine.model import json_text
from milvine.model.columns import ARROW_TYPES, NUMPY_DTYPES, Column, null_column
from milvine.model.schema import DYNAMIC_FIELD_NAME, FieldSchema
from milvine.model.types import DataType
from milvine.service.importing.batches import Convert, RawBatch, Rules, reason
from milvine.service.importing.csv_quotes import CheckedQuotes
from milvine.service.importing.json_files import dynamic_members
from milvine.service.importing.values import check_lengths, column_of, spread

_STEP_BYTES = 8 << 20
_HEADER_BYTES = 1 << 20
_WRONG_WIDTH = re.compile(r"Expected \d+ columns, got \d+")
_ROW = re.compile(r"Row #(\d+)")
_BOOLEANS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "FALSE", "false", "False"), False
)
_BAD_SEPARATORS = frozenset({"\0", "\n", "\r", '"', "\ufffd"})


def separator_of(options: Mapping[str, str]) -> str:
    """Raises ImportFailed."""
    text = options.get("sep", "")
    if text and text[0] in _BAD_SEPARATORS:
        raise ImportFailed(f"unsupported csv separator: {text}")
    return text[:1] or ","


class CsvReader:
    row_count = 0

    def __init__(self, file: Any, size: int, rules: Rules, separator: str, null_key: str) -> None:
        self._file = file
        self.size = size
        self._rules = rules
        self._separator = separator
        self._null_key = null_key

    def batches(self) -> Iterator[RawBatch]:
        header = self._header()
        schema = self._rules.schema
        self._rules.check_given(header)
        if (field := self._rules.missing(header)) is not None:
            raise ImportFailed(f"value of field is missed: '{field.name}'")
        known = [f for f in schema.user_fields if f.name in header]
        extra = [name for name in header if name not in schema.by_name or name == DYNAMIC_FIELD_NAME]
        quotes = CheckedQuotes(self._file, self._separator)
        try:
            reader = pa_csv.open_csv(
                pa.PythonFile(quotes, mode="r"),
                read_options=pa_csv.ReadOptions(block_size=_STEP_BYTES, use_threads=False),
                parse_options=pa_csv.ParseOptions(delimiter=self._separator, newlines_in_values=True),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
                ),
            )
            for batch in reader:
                cells = dict(zip(batch.schema.names, batch.columns, strict=True))
                columns: dict[str, Convert] = {f.name: partial(self._column, f, cells[f.name]) for f in known}
                if extra and schema.dynamic_field is not None:
                    some = {name: cells[name] for name in extra}
                    columns[DYNAMIC_FIELD_NAME] = partial(_dynamic, schema.dynamic_field, some)
                if batch.num_rows:
                    yield RawBatch(batch.num_rows, columns, self._file.tell())
            quotes.check_end()
        except pa.ArrowInvalid as error:
            text = reason(error)
            if _WRONG_WIDTH.search(text):
                text = f"the number of fields in the row is not equal to the header ({text})"
            elif "straddling object" in text:
                text = f"a row has more than {_STEP_BYTES} bytes, or quotes that do not end"
            # The first row of the file is the header.
            number = _ROW.search(text)
            numbered = f", row number: {int(number[1]) - 2}" if number else ""
            raise ImportFailed(f"failed to parse row, error: {text}{numbered}") from error

    def _header(self) -> list[str]:
        start = self._file.read(_HEADER_BYTES)
        self._file.seek(0)
        lines = csv.reader(
            io.StringIO(start.decode(errors="replace").removeprefix("\ufeff"), newline=""), delimiter=self._separator
        )
        try:
            header = next(lines, None)
        except csv.Error as error:
            raise ImportFailed(f"failed to read csv header, error: {error}") from error
        if not header:
            raise ImportFailed("failed to read csv header, error: EOF")
        if len(set(header)) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise ImportFailed(f"there is multi field with name: {twice}")
        return header

    def _column(self, field: FieldSchema, cells: pa.StringArray, start: int, stop: int) -> Column:
        some = cells.slice(start, stop - start)
        if not field.nullable and field.default_value is None:
            return _given(field, some)
        validity = pc.not_equal(some, self._null_key)
        flags = validity.to_numpy(zero_copy_only=False)
        if flags.all():
            return _given(field, some)
        if not flags.any():
            return null_column(field, len(some))
        return spread(field, _given(field, some.filter(validity)).values, flags)


def _given(field: FieldSchema, cells: pa.StringArray) -> Column:
    if field.data_type in (DataType.VARCHAR, DataType.TIMESTAMPTZ):
        check_lengths(field, cells)
        return Column(field.data_type, cells)
    if field.data_type is DataType.JSON:
        return Column(field.data_type, cells.cast(pa.binary()))
    if field.data_type in _PARSERS:
        return Column(field.data_type, _PARSERS[field.data_type](field, cells))
    return column_of(field, _decoded(field, cells))


def _decoded(field: FieldSchema, cells: pa.StringArray) -> list[Any]:
    texts: list[str] = cells.to_pylist()
    try:
        values = json_text.loads(f"[{','.join(texts)}]")
    except json_text.NotJson:
        values = []
    if len(values) != len(texts):
        raise _wrong(field, texts[0] if len(texts) == 1 else "")
    found: list[Any] = values
    return found


def _wrong(field: FieldSchema, text: str) -> ImportFailed:
    return ImportFailed(
        f"expected type '{field.data_type.milvus_name}' for field '{field.name}', got type 'string' with value '{text}'"
    )


def _numbers(field: FieldSchema, cells: pa.StringArray) -> Any:
    shown = cells[0].as_py() if len(cells) == 1 else ""
    try:
        values = pc.cast(cells, ARROW_TYPES[field.data_type])
    except pa.ArrowInvalid as error:
        raise _wrong(field, shown) from error
    # Arrow reads 0xFF, too, as -1 in an INT8; Milvus reads decimal numbers only.
    if pc.any(pc.match_substring(cells, "x", ignore_case=True)).as_py():
        raise _wrong(field, shown)
    return np.asarray(values.to_numpy(zero_copy_only=False), NUMPY_DTYPES[field.data_type])


def _flags(field: FieldSchema, cells: pa.StringArray) -> Any:
    texts = cells.to_pylist()
    try:
        return np.array([_BOOLEANS[text] for text in texts], np.bool_)
    except KeyError as error:
        raise _wrong(field, texts[0] if len(texts) == 1 else "") from error


_PARSERS: dict[DataType, Callable[[FieldSchema, pa.StringArray], Any]] = {
    DataType.BOOL: _flags,
    DataType.INT8: _numbers,
    DataType.INT16: _numbers,
    DataType.INT32: _numbers,
    DataType.INT64: _numbers,
    DataType.FLOAT: _numbers,
    DataType.DOUBLE: _numbers,
}


def _dynamic(field: FieldSchema, cells: Mapping[str, pa.StringArray], start: int, stop: int) -> Column:
    """Cells are strings; `$meta` is a JSON object."""
    columns = {name: column.slice(start, stop - start).to_pylist() for name, column in cells.items()}
    objects: list[dict[str, Any]] = [
        dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
    ]
    for extra in objects:
        if (text := extra.pop(DYNAMIC_FIELD_NAME, None)) is not None:
            extra.update(dynamic_members(text, extra))
    return column_of(field, objects)
