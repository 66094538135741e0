"""The filters that make several words of one: decompounder, synonym, pinyin."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.analysis import tantivy_words
from milvine.analysis.dictionaries import lines_of_file
from milvine.analysis.filters.base import Expanding, Expansion, Filter
from milvine.analysis.filters.synonyms import Synonyms
from milvine.analysis.params import Params, absent_library, internal_error, invalid_argument

WHOLE = -1
"""The step of a word that stands for its whole token."""
_TONES = dict.fromkeys(map(ord, "\u0300\u0301\u0304\u030c"))


def _by_word(expand: Callable[[str], Sequence[tuple[str, int]]]) -> Expanding:
    """Of a function from a word to its new words and their steps."""

    def expand_all(words: pa.StringArray) -> Expansion:
        found = [expand(word) for word in words.to_pylist()]
        counts = np.array([len(part) for part in found], np.int64)
        flat = list(chain.from_iterable(found))
        texts = pa.array([text for text, _ in flat], pa.string())
        return Expansion(counts, texts, np.array([step for _, step in flat], np.int32))

    return Expanding(expand_all)


def decompounder(params: Params) -> Filter:
    """A word that consists of words of the list becomes these words."""
    parts: list[str] = []
    if "word_list" in params:
        parts = params["word_list"]
        if not isinstance(parts, list):
            raise internal_error("decompounder word list should be array")
        if not all(isinstance(part, str) for part in parts):
            raise internal_error("decompounder word list item should be string")
    if "word_list_file" in params:
        parts = [*parts, *lines_of_file(params["word_list_file"], "decompounder word list file")]
    if not parts:
        raise internal_error("decompounder word list is empty")
    try:
        split = tantivy_words.compound_splitter(parts)
    except ValueError as error:
        raise internal_error(f"create decompounder failed: {error}") from error
    return _by_word(lambda word: [(part, WHOLE) for part in split(word)])


def synonym(params: Params) -> Filter:
    expands = params.get("expand", True)
    if not isinstance(expands, bool):
        raise invalid_argument("create synonym filter failed, `expand` must be bool")
    synonyms = Synonyms(expands)
    rows: Any = params.get("synonyms", [])
    if not isinstance(rows, list):
        raise invalid_argument("create synonym filter failed, `synonyms` must be array")
    if not all(isinstance(row, str) for row in rows):
        raise invalid_argument("create synonym filter failed, item in `synonyms` must be string")
    if "synonyms_file" in params:
        rows = [*rows, *lines_of_file(params["synonyms_file"], "synonyms dict file")]
    for row in rows:
        synonyms.add_row(row)
    return _by_word(lambda word: [(other, WHOLE) for other in synonyms.of(word)])


def pinyin(params: Params) -> Filter:
    """For a word of Chinese characters their sounds: each, joined, or the first letters."""
    defaults = {
        "keep_original": True,
        "keep_full_pinyin": True,
        "keep_joined_full_pinyin": False,
        "keep_separate_first_letter": False,
    }
    for key in defaults:
        if not isinstance(params.get(key, True), bool):
            raise internal_error(f"{key} must be a boolean value")
    original, full, is_joined, letters = (params.get(key, default) for key, default in defaults.items())
    sounds = _sounds()

    def expand(word: str) -> list[tuple[str, int]]:
        found = [sounds[ord(character)] for character in word if ord(character) in sounds]
        return [
            *([(word, WHOLE)] if original else ()),
            *([(sound, step) for step, sound in enumerate(found)] if full else ()),
            *([("".join(found), WHOLE)] if is_joined and found else ()),
            *([("".join(sound[0] for sound in found), WHOLE)] if letters and found else ()),
        ]

    return _by_word(expand)


@cache
def _sounds() -> dict[int, str]:
    """The first reading of each character, without its tone."""
    try:
        from pypinyin.constants import PINYIN_DICT
    except ImportError:
        raise absent_library("the filter pinyin", "pypinyin") from None
    return {code: _plain(readings.split(",", 1)[0]) for code, readings in PINYIN_DICT.items()}


def _plain(reading: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", reading).translate(_TONES))
