"""tantivy's own tokenizer and token filters, which are those of Milvus, over lists of words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tantivy import Filter, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

STEMMERS = (
    *("arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian"),
    *("norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish"),
)
_SIMPLE = TextAnalyzerBuilder(Tokenizer.simple()).build()
_SEPARATORS = r"[\t\n\f\r ]"
"""What the whitespace tokenizer splits at."""
_FEW_WORDS = 64
"""So few words are mapped sooner one by one."""


def simple_tokens(text: str) -> list[str]:
    """The runs of alphanumeric characters."""
    tokens: list[str] = _SIMPLE.analyze(text)
    return tokens


class WordMap:
    """A tantivy filter that makes one word of each word. Many words go through it as one text."""

    def __init__(self, word_filter: Filter) -> None:
        self._joined = _analyzer(Tokenizer.whitespace(), word_filter)
        self._alone = _analyzer(Tokenizer.raw(), word_filter)

    def __call__(self, words: pa.StringArray) -> pa.StringArray:
        if len(words) <= _FEW_WORDS:
            return self._each(words)
        joinable = _joinable(words)
        text = pc.binary_join(pa.ListArray.from_arrays([0, int(joinable.sum())], words.filter(pa.array(joinable))), " ")
        mapped = pa.array(self._joined.analyze(text[0].as_py()), pa.string())
        if joinable.all():
            return mapped
        others = self._each(words.filter(pa.array(~joinable)))
        places = np.empty(len(words), np.int64)
        places[np.concatenate([np.flatnonzero(joinable), np.flatnonzero(~joinable)])] = np.arange(len(words))
        return pa.concat_arrays([mapped, others]).take(pa.array(places))

    def _each(self, words: pa.StringArray) -> pa.StringArray:
        return pa.array([self._alone.analyze(word)[0] for word in words.to_pylist()], pa.string())


def stemmer(language: str) -> WordMap:
    """`language` is one of STEMMERS."""
    return WordMap(Filter.stemmer(language))


def ascii_folding() -> WordMap:
    return WordMap(Filter.ascii_fold())


def compound_splitter(parts: Sequence[str]) -> Callable[[str], list[str]]:
    """Splits a word that consists of these parts. Raises ValueError for parts that make no dictionary."""
    analyzer = _analyzer(Tokenizer.raw(), Filter.split_compound(list(parts)))
    return lambda word: list(analyzer.analyze(word))


def _analyzer(tokenizer: Tokenizer, word_filter: Filter) -> TextAnalyzer:
    return TextAnalyzerBuilder(tokenizer).filter(word_filter).build()


def _joinable(words: pa.StringArray) -> npt.NDArray[np.bool_]:
    plain = pc.and_(pc.invert(pc.match_substring_regex(words, _SEPARATORS)), pc.greater(pc.binary_length(words), 0))
    return np.asarray(plain.to_numpy(zero_copy_only=False), np.bool_)
