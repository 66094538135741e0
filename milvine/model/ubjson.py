"""Universal Binary JSON (ubjson.org), as XGBoost writes its models."""

from __future__ import annotations

from typing import Any

import numpy as np

MAX_DEPTH = 128
_NUMBERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_CONSTANTS = {b"Z": None, b"T": True, b"F": False}


class NotUbjson(Exception):
    """What is wrong, and where."""


class TooDeep(NotUbjson):
    """More than MAX_DEPTH containers in each other."""


def loads(content: bytes) -> Any:
    """The value; an array of numbers of one type is a numpy array. Raises NotUbjson."""
    reader = _Reader(content)
    value = reader.value(reader.marker(), 0)
    if reader.place != len(content):
        raise NotUbjson(f"{len(content) - reader.place} bytes after the value")
    return value


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self.place = 0

    def marker(self) -> bytes:
        """The next one; no-operations are skipped."""
        found = self._take(1)
        while found == b"N":
            found = self._take(1)
        return found

    def _take(self, size: int) -> bytes:
        end = self.place + size
        if size < 0 or end > len(self._content):
            raise NotUbjson(f"unexpected end of input at byte {len(self._content)}")
        taken = self._content[self.place : end]
        self.place = end
        return taken

    def _number(self, marker: bytes) -> Any:
        dtype = np.dtype(_NUMBERS[marker])
        return np.frombuffer(self._take(dtype.itemsize), dtype)[0].item()

    def _length(self) -> int:
        marker = self.marker()
        length = self._number(marker) if marker in _NUMBERS else None
        if not isinstance(length, int) or length < 0:
            raise NotUbjson(f"no length at byte {self.place}")
        return length

    def _text(self) -> str:
        try:
            return self._take(self._length()).decode()
        except UnicodeDecodeError as error:
            raise NotUbjson(f"no UTF-8 before byte {self.place}") from error

    def value(self, marker: bytes, depth: int) -> Any:
        if marker in _NUMBERS:
            return self._number(marker)
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker in (b"S", b"H"):  # H: a number of many digits, as text
            return self._text()
        if marker == b"C":
            return chr(self._take(1)[0])
        if marker not in (b"[", b"{"):
            raise NotUbjson(f"unknown type {marker!r} at byte {self.place - 1}")
        if depth == MAX_DEPTH:
            raise TooDeep(f"more than {MAX_DEPTH} containers in each other")
        return self._array(depth + 1) if marker == b"[" else self._object(depth + 1)

    def _head(self) -> tuple[bytes | None, int | None]:
        """The type of all values and their number, as far as they are said."""
        kind = None
        if self._content[self.place : self.place + 1] == b"$":
            self.place += 1
            kind = self._take(1)
            if self._content[self.place : self.place + 1] != b"#":
                raise NotUbjson(f"a type without a count at byte {self.place}")
        if self._content[self.place : self.place + 1] != b"#":
            return kind, None
        self.place += 1
        return kind, self._length()

    def _array(self, depth: int) -> Any:
        kind, count = self._head()
        if kind in _NUMBERS and count is not None:
            dtype = np.dtype(_NUMBERS[kind])
            return np.frombuffer(self._take(count * dtype.itemsize), dtype)
        values: list[Any] = []
        while count is None or len(values) < count:
            marker = self._bounded(kind)
            if count is None and marker == b"]":
                break
            values.append(self.value(marker, depth))
        return values

    def _object(self, depth: int) -> dict[str, Any]:
        kind, count = self._head()
        values: dict[str, Any] = {}
        read = 0
        while count is None or read < count:
            if count is None and self._content[self.place : self.place + 1] == b"}":
                self.place += 1
                break
            name = self._text()
            values[name] = self.value(self._bounded(kind), depth)
            read += 1
        return values

    def _bounded(self, kind: bytes | None) -> bytes:
        """The marker of the next value. A type that takes no bytes would let a count make a list of any length."""
        if kind is None:
            return self.marker()
        if kind in _CONSTANTS:
            raise NotUbjson(f"a count of values without bytes at byte {self.place}")
        return kind
