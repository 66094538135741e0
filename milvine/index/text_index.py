"""From pieces of texts to the rows that may hold them: every place in the texts, sorted by the four bytes there.

A piece of four bytes or more is looked up by its rarest windows of four bytes; fewer bytes are a run of consecutive
windows. The rows found may hold the piece; the caller looks at their texts. Only places where a character starts are
listed, since a piece starts with a whole character.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.index.postings import Array, Encoded, unpack
from milvine.model.columns import Column
from milvine.model.json_paths import JsonKind, JsonPath, extract
from milvine.model.records import record

WINDOW = 4
LISTED_SHARE = 0.25
"""With more places than this fraction of the rows, matching all texts is about as fast."""

_AT_ONCE = 1 << 24
"""This many places are sorted at a time, which bounds the memory of a build."""
_FEW = 256
"""So few places are not narrowed by a further window."""
_WINDOWS = 3
"""So many windows of a piece are used, and so many pieces of a pattern:"""
_PIECES = 16
_CONTINUES, _CONTINUED_BITS = 0x80, 0xC0
"""The first two bits of a byte that continues a character of UTF-8."""
_MASKS = np.array([0xFFFFFFFF & ~(0xFFFFFFFF >> 8 * n) for n in range(WINDOW + 1)], np.uint32)


@record
class TextIndex:
    """windows: uint32, ascending, each once: four bytes, zeros where the text ends. starts: int32, one more, into
    places: int32, offsets in the bytes of the texts, ascending for each window.

    A JSON path has its own copy of the texts, and a packed bitmap of the rows with a text. Another field has neither.
    """

    row_count: int
    windows: Array
    starts: Array
    places: Array
    own_texts: Any | None = None
    known_bits: Array | None = None

    def rows(self, texts: Any, pieces: Sequence[str]) -> Array | None:
        """Ascending: all rows of `texts`, a StringArray, that may hold all of the pieces. None if there are so many
        that matching every text is about as fast."""
        found = [self._find(piece.encode()) for piece in sorted(pieces, key=len)[-_PIECES:]]
        counts = [count for count, _ in found]
        if not counts or min(counts) > LISTED_SHARE * self.row_count:
            return None
        places = found[counts.index(min(counts))][1]()
        offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, 4 * texts.offset)
        rows = np.searchsorted(offsets, places, side="right") - 1
        is_first = np.ones(len(rows), np.bool_)
        np.not_equal(rows[1:], rows[:-1], out=is_first[1:])
        distinct: Array = rows[is_first]
        return distinct

    def known(self) -> Array | None:
        """bool (n,): rows with a text; None if there is no copy of the texts."""
        return None if self.known_bits is None else unpack(self.known_bits, self.row_count)

    def _find(self, piece: bytes) -> tuple[int, Any]:
        """(how many places at most, what returns the places of the piece, ascending)"""
        if len(piece) < WINDOW:
            low, high = (int.from_bytes(piece.ljust(WINDOW, end), "big") for end in (b"\0", b"\xff"))
            first = self.starts[np.searchsorted(self.windows, np.uint32(low))]
            last = self.starts[np.searchsorted(self.windows, np.uint32(high), side="right")]
            return int(last - first), lambda: np.sort(self.places[first:last])
        data = np.frombuffer(piece, np.uint8)
        steps = np.flatnonzero(data[: len(piece) - WINDOW + 1] & _CONTINUED_BITS != _CONTINUES).astype(np.int32)
        windows = np.ndarray((len(piece) - WINDOW + 1,), ">u4", data, strides=(1,))[steps].astype(np.uint32)
        codes = np.searchsorted(self.windows, windows)
        is_there = codes < len(self.windows)
        is_there[is_there] = self.windows[codes[is_there]] == windows[is_there]
        if not is_there.all():
            return 0, lambda: self.places[:0]
        counts = self.starts[codes + 1] - self.starts[codes]
        rarest = np.argsort(counts, kind="stable")[:_WINDOWS]
        return int(counts[rarest[0]]), lambda: self._narrowed(codes[rarest], steps[rarest])

    def _narrowed(self, codes: Array, steps: Array) -> Array:
        """Places with each of the windows, given by position, `steps` bytes further on."""
        first, *others = (self.places[self.starts[c] : self.starts[c + 1]] for c in codes)
        found: Array = first[first >= steps[0]] - steps[0]
        for places, step in zip(others, steps[1:], strict=True):
            if len(found) <= _FEW:
                break
            at = np.minimum(np.searchsorted(places, found + step), len(places) - 1)
            found = found[places[at] == found + step]
        return found

    def encode(self, prefix: str, into: Encoded) -> None:
        into[f"{prefix}.windows"], into[f"{prefix}.starts"] = self.windows, self.starts
        into[f"{prefix}.places"] = self.places
        if self.own_texts is not None:
            into[f"{prefix}.texts"], into[f"{prefix}.known"] = self.own_texts, self.known_bits

    @classmethod
    def decode(cls, prefix: str, arrays: Encoded, row_count: int) -> TextIndex:
        windows, starts, places = (arrays[f"{prefix}.{part}"] for part in ("windows", "starts", "places"))
        return cls(row_count, windows, starts, places, arrays.get(f"{prefix}.texts"), arrays.get(f"{prefix}.known"))


def index_texts(column: Column) -> TextIndex:
    """Index a VARCHAR field."""
    return TextIndex(len(column), *_sorted_places(column.values))


def index_json_texts(column: Column, path: JsonPath) -> TextIndex:
    """Index the texts at a path of a JSON field."""
    assert column.paths is not None
    found = column.paths.known(len(column), path) or extract(column.values, path)
    none = pa.repeat(pa.scalar("", pa.string()), len(column))
    texts = none if found.strings is None else pc.fill_null(found.strings, "")
    return TextIndex(len(column), *_sorted_places(texts), texts, np.packbits(found.kinds == JsonKind.STRING))


def _sorted_places(texts: Any) -> tuple[Array, Array, Array]:
    """(windows, starts, places)"""
    offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, 4 * texts.offset)
    begin, end = int(offsets[0]), int(offsets[-1])
    data = np.zeros(end + WINDOW, np.uint8)
    if end > begin:
        data[begin:end] = np.frombuffer(texts.buffers()[2], np.uint8, end - begin, begin)
    left = _bytes_left(offsets, end)
    pairs = np.ndarray((end,), ">u2", data, strides=(1,)).astype(np.uint16)
    pairs[left == 1] &= 0xFF00
    is_start = data[:end] & _CONTINUED_BITS != _CONTINUES
    is_start[:begin] = False
    ends = np.cumsum(np.bincount(pairs[is_start], minlength=1 << 16))
    windows = np.ndarray((end,), ">u4", data, strides=(1,))
    places = np.empty(int(ends[-1]), np.int32)
    distinct, counts = [], []
    done = first = 0
    while done < len(places):
        last = max(int(np.searchsorted(ends, done + _AT_ONCE, side="right")), first + 1)
        is_now = is_start if last - first == 1 << 16 else is_start & (pairs >= first) & (pairs < last)
        now = np.flatnonzero(is_now).astype(np.uint64)
        keys = (windows[now].astype(np.uint32) & _MASKS[left[now]]).astype(np.uint64)
        keys = keys << np.uint64(32) | now
        keys.sort()
        places[done : done + len(keys)] = keys.astype(np.uint32).view(np.int32)
        found, times = np.unique_counts((keys >> np.uint64(32)).astype(np.uint32))
        distinct.append(found)
        counts.append(times)
        done, first = done + len(keys), last
    starts = np.zeros(sum(map(len, counts)) + 1, np.int32)
    if counts:
        np.cumsum(np.concatenate(counts), out=starts[1:])
    return np.concatenate([np.zeros(0, np.uint32), *distinct]), starts, places


def _bytes_left(offsets: Array, end: int) -> Array:
    """uint8 (end,): how many bytes of its text there are from a place on, at most WINDOW."""
    left = np.full(end, WINDOW, np.uint8)
    begins, ends = offsets[:-1], offsets[1:]
    for count in range(1, WINDOW):
        is_long = ends - begins >= count
        left[ends[is_long] - count] = count
    return left
