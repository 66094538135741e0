"""Tokens that a library cuts out of each text, with places counted in characters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

import numpy as np
import pyarrow as pa

from milvine.analysis.terms import Places, Stream, bytes_of

Span = tuple[str, int, int]
"""A token, and its first and last character + 1."""


def cut_texts(texts: pa.StringArray, cut: Callable[[str], Iterable[Span]], with_places: bool) -> Stream:
    """The tokens of each text in the order of `cut`. A position is the token's first character."""
    spans = [list(cut(text)) for text in texts.to_pylist()]
    counts = np.array([len(part) for part in spans], np.int64)
    offsets = np.concatenate(([0], np.cumsum(counts)))
    words, firsts, ends = zip(*chain.from_iterable(spans), strict=True) if offsets[-1] else ((), (), ())
    tokens = pa.array(words, pa.string())
    if not with_places:
        return Stream(offsets, tokens, None, None)
    first, end = np.array(firsts, np.int64), np.array(ends, np.int64)
    data, text_offsets = bytes_of(texts)
    leads = np.append(np.flatnonzero((data & 0xC0) != 0x80), len(data))
    """The byte of each character of all texts."""
    begins = np.repeat(text_offsets[:-1], counts)
    characters = np.repeat(np.searchsorted(leads, text_offsets[:-1]), counts)
    columns = (first, end - first, leads[characters + first] - begins, leads[characters + end] - begins)
    return Stream(offsets, tokens, None, Places(*(column.astype(np.int32) for column in columns)))
