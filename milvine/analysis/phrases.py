"""How far the terms of a phrase stand from each other in a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.analysis.analyzer import Analyzer
from milvine.analysis.terms import Int64


def slops(analyzer: Analyzer, phrase: str, texts: Sequence[str]) -> list[int | None]:
    """For each text the smallest slop with which it matches the phrase; None if it lacks a term. 0 for a phrase
    without terms."""
    wanted = analyzer.terms([phrase])
    if not len(wanted.tokens):
        return [0] * len(texts)
    encoded = wanted.tokens.dictionary_encode()
    shifts = wanted.positions.max() - wanted.positions.astype(np.int64)
    found = analyzer.terms(texts)
    numbers = _numbers_in(encoded.dictionary, found.tokens)
    answer: list[int | None] = []
    for row in range(len(texts)):
        part = slice(*found.offsets[row : row + 2])
        known, positions = numbers[part], found.positions[part].astype(np.int64)
        places = [
            positions[known == term] + shift for term, shift in zip(encoded.indices.to_pylist(), shifts, strict=True)
        ]
        answer.append(_smallest_range(places) if all(map(len, places)) else None)
    return answer


def _numbers_in(words: pa.StringArray, tokens: pa.StringArray) -> Int64:
    """The index of each token among the words, or -1."""
    found: Int64 = pc.index_in(tokens, value_set=words).fill_null(-1).to_numpy(zero_copy_only=False)
    return found


def _smallest_range(places: Sequence[Int64]) -> int:
    """The smallest range that has a value of each list: for each value as the least, the next values of all others."""
    ordered = [np.sort(values) for values in places]
    firsts = np.unique(np.concatenate(ordered))
    ends = np.full(len(firsts), firsts[0])
    is_whole = np.ones(len(firsts), np.bool_)
    for values in ordered:
        following = np.searchsorted(values, firsts)
        is_whole &= following < len(values)
        ends = np.maximum(ends, values[np.minimum(following, len(values) - 1)])
    return int((ends - firsts)[is_whole].min())
