"""Files of JSON: a list of rows, an object with the list `rows`, or a row on each line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from milvine.errors import ImportFailed
from milvine.model import json_text
from milvine.model.columns import Column
from milvine.model.schema import DYNAMIC_FIELD_NAME, FieldSchema
from milvine.service.importing.batches import Convert, RawBatch, Rules, reason
from milvine.service.importing.values import column_of

Array = np.ndarray[Any, Any]
_STEP_BYTES = 8 << 20
_MAX_ROW_BYTES = 128 << 20
_BETWEEN = b" \t\r\n,"
_ROOT = re.compile(rb'\s*"((?:[^"\\]|\\.)*)"\s*:\s*(\[?)')
_TOKEN_END = re.compile(rb"[,\]\s]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_VALUE_STARTS = b'{"-0123456789'
_QUOTE, _BACKSLASH, _OPEN, _CLOSE = b'"\\{}'


class JsonReader:
    """Splits the text between rows and decodes many rows at a time."""

    row_count = 0

    def __init__(self, file: Any, size: int, rules: Rules, *, is_lines: bool) -> None:
        self._file = file
        self.size = size
        self._rules = rules
        self._is_lines = is_lines
        self._names = {f.name for f in rules.schema.user_fields}

    def batches(self) -> Iterator[RawBatch]:
        first_row = 0
        for texts, read_bytes in self._texts():
            rows = _decoded(texts, first_row)
            yield self._batch(rows, read_bytes, first_row)
            first_row += len(rows)

    def _texts(self) -> Iterator[tuple[list[bytes], int]]:
        """The text of rows, many at a time, and the bytes of the file up to there."""
        left = self._start()
        first_row = 0
        while True:
            step = self._file.read(_STEP_BYTES)
            read_bytes = self._file.tell()
            text = left + step
            starts, ends = _row_bounds(text)
            if len(ends):
                _check_between(text, starts, ends, first_row)
                first_row += len(ends)
                yield [text[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)], read_bytes
            left = text[int(ends[-1]) if len(ends) else 0 :].lstrip(_BETWEEN)
            if not self._is_lines and left.startswith(b"]"):
                return
            if not step:
                self._end(left, first_row)
                return
            if len(left) > _MAX_ROW_BYTES:
                raise ImportFailed(
                    f"failed to decode row, error: a row has more than {_MAX_ROW_BYTES} bytes, row number: {first_row}"
                )

    def _start(self) -> bytes:
        """Reads up to the first row; returns what was read beyond."""
        text = self._file.read(_STEP_BYTES).removeprefix(_BYTE_ORDER_MARK)
        if self._is_lines:
            return bytes(text)
        text = text.lstrip()
        if not text:
            raise ImportFailed("init failed, failed to decode JSON, error: EOF")
        if text[:1] == b"[":
            return bytes(text[1:])
        if text[:1] != b"{":
            raise ImportFailed("invalid JSON format, the content should be started with '{' or '['")
        root = _ROOT.match(text, 1)
        if root is None:
            raise ImportFailed("failed to decode the JSON file, error: the object has no key")
        name = root[1].decode(errors="replace")
        if name.lower() != "rows":
            raise ImportFailed(f"invalid JSON format, the root key should be 'rows', but get '{name}'")
        if not root[2]:
            raise ImportFailed("invalid JSON format, rows list should begin with '['")
        return bytes(text[root.end() :])

    def _end(self, left: bytes, row: int) -> None:
        if left.strip():
            _refuse(left, row)
        if not self._is_lines:
            raise ImportFailed(f"failed to decode JSON, error: unexpected EOF, row number: {row}")

    def _batch(self, rows: list[dict[str, Any]], read_bytes: int, first_row: int) -> RawBatch:
        given = set().union(*map(dict.keys, rows))
        self._rules.check_given(given)
        columns: dict[str, Convert] = {}
        for field in self._rules.schema.user_fields:
            if field.name in given:
                columns[field.name] = partial(_column, field, rows)
            elif not self._rules.may_be_missing(field):
                raise _missed(field, first_row)
        if self._rules.schema.enable_dynamic_field and not given <= self._names:
            dynamic = self._rules.schema.dynamic_field
            assert dynamic is not None
            columns[DYNAMIC_FIELD_NAME] = partial(self._dynamic, dynamic, rows)
        return RawBatch(len(rows), columns, read_bytes)

    def _dynamic(self, field: FieldSchema, rows: list[dict[str, Any]], start: int, stop: int) -> Column:
        return column_of(field, [_extra(row, self._names) for row in rows[start:stop]])


def _column(field: FieldSchema, rows: list[dict[str, Any]], start: int, stop: int) -> Column:
    some = rows[start:stop]
    may_lack = field.nullable or field.default_value is not None
    if not may_lack and any(field.name not in row for row in some):
        raise _missed(field)
    return column_of(field, [row.get(field.name) for row in some])


def _missed(field: FieldSchema, row: int | None = None) -> ImportFailed:
    inner = ImportFailed(f"value of field '{field.name}' is missed")
    return ImportFailed(f"failed to parse row, error: {inner.message}{_numbered(row)}")


def _numbered(row: int | None) -> str:
    return "" if row is None else f", row number: {row}"


def _extra(row: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """The members for the dynamic field: beside the schema's, and in `$meta`."""
    extra = {k: v for k, v in row.items() if k not in names}
    if DYNAMIC_FIELD_NAME in extra:
        extra |= dynamic_members(extra.pop(DYNAMIC_FIELD_NAME), extra)
    return extra


def dynamic_members(value: object, others: Mapping[str, Any]) -> dict[str, Any]:
    """The members in a value of `$meta`. Raises ImportFailed."""
    if isinstance(value, str):
        try:
            value = json_text.loads(value)
        except json_text.NotJson:
            value = None
        if not isinstance(value, dict):
            raise ImportFailed("illegal value for dynamic field, not a JSON format string")
    if not isinstance(value, dict):
        raise ImportFailed("illegal value for dynamic field, not a JSON object")
    if twice := sorted(value.keys() & others.keys()):
        raise ImportFailed(f"duplicated key is not allowed, key={twice[0]}")
    return value


def _row_bounds(text: bytes) -> tuple[Array, Array]:
    """Where the complete objects at the outermost level begin and end."""
    content = np.frombuffer(text, np.uint8)
    braces = np.flatnonzero((content == _OPEN) | (content == _CLOSE))
    quotes = np.flatnonzero(content == _QUOTE)
    if _BACKSLASH in text:
        quotes = quotes[~_escaped(content, quotes)]
    outside = np.searchsorted(quotes, braces) % 2 == 0
    braces = braces[outside]
    steps = np.where(content[braces] == _OPEN, 1, -1)
    depth = np.cumsum(steps)
    if (depth < 0).any():  # what follows the list's end
        few = int(np.argmax(depth < 0))
        braces, steps, depth = braces[:few], steps[:few], depth[:few]
    ends = braces[(depth == 0) & (steps < 0)] + 1
    starts = braces[(depth == 1) & (steps > 0)][: len(ends)]
    return starts, ends


def _escaped(content: Array, places: Array) -> Array:
    """Whether an odd number of backslashes precedes each place."""
    backslashes = np.flatnonzero(content == _BACKSLASH)
    begins = np.flatnonzero(np.diff(backslashes, prepend=-2) != 1)
    run_starts = backslashes[begins]
    run_ends = backslashes[np.concatenate((begins[1:], [len(backslashes)])) - 1]
    run = np.searchsorted(run_ends, places - 1)
    inside = np.minimum(run, len(run_ends) - 1)
    is_after = (run < len(run_ends)) & (run_ends[inside] == places - 1)
    odd: Array = is_after & ((run_ends[inside] - run_starts[inside]) % 2 == 0)
    return odd


def _check_between(text: bytes, starts: Array, ends: Array, first_row: int) -> None:
    """Raises ImportFailed for anything but commas and white space before a row."""
    begins = np.concatenate(([0], ends[:-1]))
    wide = np.flatnonzero(starts - begins > 0)
    gaps = [text[a:b] for a, b in zip(begins[wide].tolist(), starts[wide].tolist(), strict=True)]
    if b"".join(gaps).translate(None, _BETWEEN):
        place = next(i for i, gap in enumerate(gaps) if gap.translate(None, _BETWEEN))
        _refuse(gaps[place].strip(_BETWEEN), first_row + int(wide[place]))


def _refuse(text: bytes, row: int) -> None:
    """Raises ImportFailed for text that is no row."""
    value: object = []
    try:
        if not text.startswith(b"["):
            value = json_text.loads(_TOKEN_END.split(text, maxsplit=1)[0])
    except json_text.NotJson as error:
        told = reason(error) if text[0] in _VALUE_STARTS else f"invalid character {chr(text[0])!r} at its start"
        raise ImportFailed(f"failed to decode row, error: {told}{_numbered(row)}") from error
    if not isinstance(value, dict):
        inner = ImportFailed(
            f"invalid JSON format, each row should be a key-value map, but got type {json_text.go_type(value)}"
        )
        raise ImportFailed(f"failed to parse row, error: {inner.message}{_numbered(row)}")
    raise ImportFailed(f"failed to decode row, error: unexpected EOF{_numbered(row)}")


def _decoded(texts: list[bytes], first_row: int) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = json_text.loads(b"[" + b",".join(texts) + b"]")
        return rows
    except json_text.NotJson as error:
        for number, text in enumerate(texts):
            try:
                json_text.loads(text)
            except json_text.NotJson as found:
                raise ImportFailed(
                    f"failed to decode row, error: {reason(found)}, row number: {first_row + number}"
                ) from error
        raise ImportFailed(f"failed to decode row, error: {reason(error)}") from error
