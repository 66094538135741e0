"""The terms of a batch of texts, and the stream of them that passes from the tokenizer through the filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from milvine.model.records import record

Texts: TypeAlias = pa.StringArray | pa.ChunkedArray | Sequence[str | None]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


class Terms(NamedTuple):
    """The terms of text i are `offsets[i]:offsets[i + 1]` of the other members.

    `starts` and `ends` are offsets in the UTF-8 bytes of the text. `positions` and `lengths` are the places of the
    terms in their text: word by word, or character by character, as the tokenizer counts.
    """

    offsets: Int64
    tokens: pa.StringArray
    positions: Int32
    lengths: Int32
    starts: Int32
    ends: Int32


class Places(NamedTuple):
    """Where each token is, as in `Terms`."""

    positions: Int32
    lengths: Int32
    starts: Int32
    ends: Int32

    def at(self, selected: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Places:
        return Places(*(column[selected] for column in self))


@record
class Stream:
    """The tokens of a batch on their way: token i is `words[ids[i]]`, or `words[i]` before the words are distinct."""

    offsets: Int64
    words: pa.StringArray
    ids: Int32 | None
    places: Places | None
    """None where only the tokens are wanted."""

    def encoded(self) -> Stream:
        """With `ids`."""
        if self.ids is not None:
            return self
        encoded = self.words.dictionary_encode()
        return replace(self, words=encoded.dictionary, ids=encoded.indices.to_numpy(zero_copy_only=False))

    def kept(self, keep: npt.NDArray[np.bool_]) -> Stream:
        """Only the tokens of the words for which `keep`."""
        stream = self.encoded()
        assert stream.ids is not None
        alive = keep[stream.ids]
        if alive.all():
            return stream
        before = np.concatenate(([0], np.cumsum(alive)))
        places = None if stream.places is None else stream.places.at(alive)
        return Stream(before[stream.offsets], stream.words, stream.ids[alive], places)

    def tokens(self) -> pa.StringArray:
        return self.words if self.ids is None else self.words.take(pa.array(self.ids))


def as_texts(texts: Texts) -> pa.StringArray:
    """One array of strings; a missing text is empty."""
    array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.string())
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], pa.string())
    if array.type != pa.string():
        array = array.cast(pa.string())
    return array.fill_null("") if array.null_count else array


def strings(data: npt.NDArray[np.uint8], lengths: npt.NDArray[np.integer]) -> pa.StringArray:
    """Strings of these lengths in bytes, one after the other in `data`."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data)))


def bytes_of(texts: pa.StringArray) -> tuple[npt.NDArray[np.uint8], Int64]:
    """The bytes of all texts, one after the other, and the n + 1 offsets of the texts in them."""
    _, offset_buffer, data_buffer = texts.buffers()
    if not len(texts) or data_buffer is None:
        return np.empty(0, np.uint8), np.zeros(len(texts) + 1, np.int64)
    offsets = np.frombuffer(offset_buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    data = np.frombuffer(data_buffer, np.uint8)[offsets[0] : offsets[-1]]
    return data, offsets - offsets[0]


def blocks(texts: pa.StringArray, size_bytes: int) -> list[pa.StringArray]:
    """The texts in parts of about so many bytes, at least one part; a text is not divided."""
    _, offsets = bytes_of(texts)
    cuts = np.flatnonzero(np.diff(offsets[:-1] // size_bytes)) + 1
    return [texts[first:end] for first, end in pairwise([0, *cuts.tolist(), len(texts)])]


def concatenated(parts: Sequence[Stream], with_places: bool) -> Stream:
    """The streams of consecutive texts as one."""
    ends = np.cumsum([part.offsets[-1] for part in parts])
    offsets = np.concatenate(
        [[0], *(part.offsets[1:] + end - part.offsets[-1] for part, end in zip(parts, ends, strict=True))]
    )
    words = pa.concat_arrays([part.tokens() for part in parts])
    if not with_places:
        return Stream(offsets, words, None, None)
    columns = zip(*(part.places for part in parts if part.places is not None), strict=True)
    return Stream(offsets, words, None, Places(*map(np.concatenate, columns)))


def joined(count: int, parts: Sequence[tuple[npt.NDArray[np.intp], Stream]], with_places: bool) -> Stream:
    """The stream of `count` texts; each part has the streams of the texts at these rows, in the order of the rows."""
    counts = np.zeros(count, np.int64)
    for rows, part in parts:
        counts[rows] = np.diff(part.offsets)
    offsets = np.concatenate(([0], np.cumsum(counts)))
    targets = [_spread(offsets[rows], np.diff(part.offsets)) for rows, part in parts]
    order = np.argsort(np.concatenate([np.empty(0, np.int64), *targets]))
    words = pa.concat_arrays([pa.array([], pa.string()), *(part.tokens() for _, part in parts)]).take(pa.array(order))
    if not with_places:
        return Stream(offsets, words, None, None)
    columns = zip(*(part.places for _, part in parts if part.places is not None), strict=True)
    places = [np.concatenate(column)[order] for column in columns] or [np.empty(0, np.int32)] * 4
    return Stream(offsets, words, None, Places(*places))


def _spread(firsts: Int64, counts: Int64) -> Int64:
    """For each first number, it and the numbers that follow it, `counts` of them."""
    total = int(counts.sum())
    return np.repeat(firsts - (np.cumsum(counts) - counts), counts) + np.arange(total)
