"""Quotes of CSV as strict as those of Go's `encoding/csv`: one that does not end would take the rows after it into its
cell, and pyarrow accepts it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from milvine.errors import ImportFailed

_QUOTE, _NEWLINE = ord('"'), ord("\n")
_BOM = b"\xef\xbb\xbf"


class CheckedQuotes(io.RawIOBase):
    """A file of CSV for pyarrow. A read raises ImportFailed at a quote where none may be, with the line, from 1.

    A quote that is open at the end is for `check_end`: pyarrow reads ahead, and refuses too long rows at any time.
    """

    def __init__(self, file: Any, separator: str) -> None:
        super().__init__()
        self._file = file
        self._around = np.frombuffer(f'{separator}\r\n"'.encode(), np.uint8)
        self._last = _NEWLINE
        """The byte before the next read; at the start one that may be before a quote."""
        self._quotes = 0
        self._lines = 1
        self._opened_line = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content: bytes = self._file.read(size)
        if content:
            self._check(content)
        return content

    def check_end(self) -> None:
        """After all is read. Raises ImportFailed."""
        if self._quotes % 2:
            raise _missing(self._opened_line)

    def _check(self, content: bytes) -> None:
        found = np.frombuffer(content, np.uint8)
        quotes = np.flatnonzero(found == _QUOTE)
        opening = quotes[self._quotes % 2 :: 2]
        closing = quotes[1 - self._quotes % 2 :: 2]
        before = found[opening - 1]
        before[opening == 0] = self._last
        if self._lines == 1 and not self._quotes and content.startswith(_BOM):
            before[opening == len(_BOM)] = _NEWLINE
        bare = opening[~np.isin(before, self._around)]
        open_ended = closing[closing < len(found) - 1]
        open_ended = open_ended[~np.isin(found[open_ended + 1], self._around)]
        first_is_closed = self._last == _QUOTE and self._quotes and not self._quotes % 2
        if first_is_closed and not np.isin(found[0], self._around):
            raise _missing(self._lines)
        if len(bare) and (not len(open_ended) or bare[0] < open_ended[0]):
            raise _wrong(self._line(content, bare[0]), 'bare " in non-quoted field')
        if len(open_ended):
            raise _missing(self._line(content, open_ended[0]))
        if len(opening):
            self._opened_line = self._line(content, opening[-1])
        self._quotes += len(quotes)
        self._lines += content.count(b"\n")
        self._last = int(found[-1])

    def _line(self, content: bytes, offset: int) -> int:
        return self._lines + content.count(b"\n", 0, int(offset))


def _missing(line: int) -> ImportFailed:
    return _wrong(line, 'extraneous or missing " in quoted-field')


def _wrong(line: int, text: str) -> ImportFailed:
    return ImportFailed(f"failed to parse row, error: parse error on line {line}: {text}")
