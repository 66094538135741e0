"""Sets of Unicode code points as tables, and the runs of such code points in texts."""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from milvine.analysis.tantivy_words import simple_tokens
from milvine.analysis.terms import Places, Stream, bytes_of, strings

CODE_POINTS = 0x110000
_SURROGATES = slice(0xD800, 0xE000)
Table = npt.NDArray[np.bool_]
"""For each code point whether it is in the set."""
WHITESPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""Unicode's White_Space."""
ASCII_WHITESPACE = "\t\n\f\r "


def table_of(characters: str) -> Table:
    table = np.zeros(CODE_POINTS, np.bool_)
    table[[ord(character) for character in characters]] = True
    return table


@cache
def alphanumeric() -> Table:
    """Rust's char::is_alphanumeric, as tantivy uses it: Python's isalnum lacks the vowel signs of many scripts."""
    spaced = np.full((CODE_POINTS, 2), ord(" "), np.uint32)
    spaced[:, 0] = np.arange(CODE_POINTS)
    spaced[_SURROGATES, 0] = ord(" ")
    found = "".join(simple_tokens(spaced.tobytes().decode("utf-32-le")))
    table = np.zeros(CODE_POINTS, np.bool_)
    table[np.frombuffer(found.encode("utf-32-le"), np.uint32)] = True
    return table


@cache
def categories() -> npt.NDArray[np.str_]:
    """The general category of each code point, as `Lu`."""
    return np.array([unicodedata.category(chr(code)) for code in range(CODE_POINTS)], "<U2")


def runs(texts: pa.StringArray, table: Table, with_places: bool) -> Stream:
    """The longest runs of code points of a set; a run is one place long, and the runs of a text are counted."""
    data, text_offsets = bytes_of(texts)
    inside = _inside(data, table)
    firsts = text_offsets[:-1][text_offsets[:-1] < len(data)]
    starts = inside.copy()
    starts[1:] &= ~inside[:-1]
    starts[firsts] = inside[firsts]
    ends = inside.copy()
    ends[:-1] &= ~inside[1:]
    lasts = firsts[firsts > 0] - 1
    ends[lasts] = inside[lasts]
    first, last = np.flatnonzero(starts), np.flatnonzero(ends)
    lengths = last - first + 1
    words = strings(data[inside], lengths)
    offsets = np.searchsorted(first, text_offsets).astype(np.int64)
    if not with_places:
        return Stream(offsets, words, None, None)
    counts = np.diff(offsets)
    begins = first - np.repeat(text_offsets[:-1], counts)
    positions = np.arange(len(first)) - np.repeat(offsets[:-1], counts)
    return Stream(
        offsets,
        words,
        None,
        Places(
            positions.astype(np.int32),
            np.ones(len(first), np.int32),
            begins.astype(np.int32),
            (begins + lengths).astype(np.int32),
        ),
    )


def _inside(data: npt.NDArray[np.uint8], table: Table) -> npt.NDArray[np.bool_]:
    """For each byte whether it belongs to a code point of the set."""
    if not len(data) or data.max() < 0x80:
        return table[:0x80][data]
    points = np.frombuffer(data.tobytes().decode().encode("utf-32-le"), np.uint32)
    leads = np.flatnonzero((data & 0xC0) != 0x80)
    return np.repeat(table[points], np.diff(leads, append=len(data)))
