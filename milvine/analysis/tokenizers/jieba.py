"""The tokenizer `jieba`, by the library that Milvus uses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa

from milvine.analysis.params import Params, absent_library, invalid_argument, lines_of_file
from milvine.analysis.terms import Stream
from milvine.analysis.tokenizers.spans import cut_texts

DEFAULT, EXTENDED = "_default_", "_extend_default_"
_MODES = {"exact": "default", "search": "search"}
"""Milvus's names, and those of the library."""


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
    dictionary, words = _dictionary(given)
    if "extra_dict_file" in given:
        words = words + lines_of_file(given["extra_dict_file"], "jieba extra dict file")
    mode, hmm = given.get("mode", "search"), given.get("hmm", True)
    if not isinstance(mode, str):
        raise invalid_argument("jieba tokenizer mode must be string")
    if mode not in _MODES:
        raise invalid_argument('jieba tokenizer mode must be "exact" or "search"')
    if not isinstance(hmm, bool):
        raise invalid_argument("jieba tokenizer mode must be boolean")
    return Jieba(_cutter(dictionary, words), _MODES[mode], hmm)


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


def _cutter(dictionary: str, words: list[str]) -> Any:
    if dictionary == EXTENDED:
        raise invalid_argument(f"the jieba dictionary {EXTENDED} is not supported by this version of Milvine")
    if dictionary and not words:
        return _default_cutter()
    library = _library()
    cutter = library.Jieba() if dictionary else library.Jieba.empty()
    for word in words:
        cutter.add_word(word, None, None)
    return cutter


@cache
def _default_cutter() -> Any:
    return _library().Jieba()


def _library() -> Any:
    try:
        import rjieba
    except ImportError:
        raise absent_library("the tokenizer jieba", "rjieba") from None
    return rjieba
