"""The tokenizer `jieba`: by the library that Milvus uses or, with words of one's own, by the original, since the former
takes none."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import pyarrow as pa

from milvine.analysis.dictionaries import lines_of_file
from milvine.analysis.params import Params, absent_library, invalid_argument
from milvine.analysis.terms import Stream
from milvine.analysis.tokenizers.spans import cut_texts

DEFAULT, EXTENDED = "_default_", "_extend_default_"
_MODES = {"exact": "default", "search": "search"}
"""Milvus's names, and those of the libraries."""
_FREQUENCY = 3
"""Of a word in a dictionary without others: a word goes before its characters."""


@dataclass(frozen=True)
class Jieba:
    """A position is a character of the text, and a token is as long as its characters."""

    cutter: Any
    mode: str
    hmm: bool

    def split(self, texts: pa.StringArray, with_places: bool) -> Stream:
        return cut_texts(texts, lambda text: self.cutter.tokenize(text, self.mode, self.hmm), with_places)


def jieba(params: Params | None) -> Jieba:
    given = params or {}
    dictionary, items = _dictionary(given)
    words = [_Word(item) for item in items]
    if "extra_dict_file" in given:
        lines = lines_of_file(given["extra_dict_file"], "jieba extra dict file")
        words += [_word_of(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    mode, hmm = given.get("mode", "search"), given.get("hmm", True)
    if not isinstance(mode, str):
        raise invalid_argument("jieba tokenizer mode must be string")
    if mode not in _MODES:
        raise invalid_argument('jieba tokenizer mode must be "exact" or "search"')
    if not isinstance(hmm, bool):
        raise invalid_argument("jieba tokenizer mode must be boolean")
    return Jieba(_cutter(dictionary, words), _MODES[mode], hmm)


class _Word(NamedTuple):
    text: str
    frequency: int | None = None
    """None: so that the word stays whole."""


def _word_of(number: int, line: str) -> _Word:
    """Of a line of a dictionary: the word, its frequency, its part of speech; the last two may be left out."""
    text, *more = line.split()
    if not more:
        return _Word(text)
    if not more[0].isascii() or not more[0].isdigit():
        raise invalid_argument(
            f"jieba tokenizer load dict file failed with error: line {number} `{line}` "
            f"frequency {more[0]} is not a valid integer"
        )
    return _Word(text, int(more[0]))


def _dictionary(params: Params) -> tuple[str, list[str]]:
    """The name of the system's dictionary, empty for none, and further words."""
    if "dict" not in params:
        return DEFAULT, []
    items = params["dict"]
    if not isinstance(items, list):
        raise invalid_argument("jieba tokenizer dict must be array")
    if not all(isinstance(item, str) for item in items):
        raise invalid_argument("jieba tokenizer dict item must be string")
    systems = [item for item in items if item in (DEFAULT, EXTENDED)]
    if len(systems) > 1:
        raise invalid_argument("jieba tokenizer dict can only set one system dict")
    words = [item for item in items if item and item not in (DEFAULT, EXTENDED)]
    return systems[0] if systems else "", words


def _cutter(dictionary: str, words: list[_Word]) -> Any:
    if dictionary == EXTENDED:
        raise invalid_argument(
            f"the jieba dictionary {EXTENDED} is in no Python package: add jieba's dict.txt.big as a file resource and "
            'name that as extra_dict_file beside "dict": []'
        )
    return _default_cutter() if dictionary and not words else _cutter_with(words, has_default=bool(dictionary))


@cache
def _default_cutter() -> Any:
    try:
        import rjieba
    except ImportError:
        raise absent_library("the tokenizer jieba", "rjieba") from None
    return rjieba.Jieba()


def _cutter_with(words: list[_Word], *, has_default: bool) -> Any:
    """With frequencies of words that stand before those of the dictionary, which all cutters share."""
    cutter = _original().Tokenizer()
    known, total = _frequencies() if has_default else ({}, 1)
    cutter.FREQ, cutter.total, cutter.initialized = ChainMap({}, known), total, True
    for word in words:
        default = None if has_default else _FREQUENCY
        cutter.add_word(word.text, default if word.frequency is None else word.frequency)
    return cutter


@cache
def _frequencies() -> tuple[dict[str, int], int]:
    """Of the words in the dictionary, and their sum. Read here, since the library itself would keep a file in /tmp."""
    cutter = _original().Tokenizer()
    frequencies, total = cutter.gen_pfdict(cutter.get_dict_file())
    return frequencies, total


def _original() -> Any:
    try:
        import jieba as library
    except ImportError:
        raise absent_library("a dictionary of the tokenizer jieba", "jieba") from None
    return library
