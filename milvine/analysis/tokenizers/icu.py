"""The tokenizers `icu` and `thai`: ICU's boundaries of words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.analysis.code_points import alphanumeric
from milvine.analysis.params import absent_library
from milvine.analysis.terms import Stream
from milvine.analysis.tokenizers.spans import Span, cut_texts

_BASIC_PLANE = "\uffff"
_KATAKANA = re.compile("[\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f]{2}")
"""ICU4X, which Milvus uses, never divides katakana; ICU4C looks for shorter words in it."""
_CHINESE_OR_JAPANESE = re.compile(
    "[\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]{2}"
)
"""The tokenizer `thai` has no dictionary of these in Milvus and leaves their runs whole."""


@dataclass(frozen=True)
class Boundaries:
    """The parts between boundaries of words. A position is a character of the text."""

    breaker: Any
    undivided: re.Pattern[str]
    """Two characters between which there is no boundary."""
    is_token: Callable[[str], bool]

    def split(self, texts: pa.StringArray, with_places: bool) -> Stream:
        return cut_texts(texts, self._cut, with_places)

    def _cut(self, text: str) -> Iterator[Span]:
        first = 0
        for end in self._ends(text):
            if end < len(text) and self.undivided.match(text, end - 1):
                continue
            if self.is_token(token := text[first:end]):
                yield token, first, end
            first = end

    def _ends(self, text: str) -> list[int]:
        ends = [end for _, end in self.breaker(text, "").segments()]
        if not text or max(text) <= _BASIC_PLANE:
            return ends
        units = np.cumsum([1 + (character > _BASIC_PLANE) for character in text])
        return [int(end) + 1 for end in np.searchsorted(units, ends)]


def icu() -> Boundaries:
    return Boundaries(_breaker("icu"), _KATAKANA, bool)


def thai() -> Boundaries:
    """Only parts with a letter or digit are tokens."""
    table = alphanumeric()
    return Boundaries(
        _breaker("thai"), _CHINESE_OR_JAPANESE, lambda part: bool(table[[ord(character) for character in part]].any())
    )


def _breaker(tokenizer: str) -> Any:
    try:
        from icu4py.breakers import WordBreaker
    except ImportError:
        raise absent_library(f"the tokenizer {tokenizer}", "icu4py") from None
    return WordBreaker
