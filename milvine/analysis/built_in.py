"""The analyzers that are given by a type: standard, english, chinese, arabic, thai."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from milvine.analysis import tantivy_words
from milvine.analysis.analyzer import Analyzer
from milvine.analysis.filters import simple, stop_words
from milvine.analysis.filters.base import Renaming
from milvine.analysis.tokenizers import icu
from milvine.analysis.tokenizers.jieba import jieba
from milvine.analysis.tokenizers.runs import STANDARD


def standard() -> Analyzer:
    return Analyzer(STANDARD, (simple.LOWERCASE,))


def english() -> Analyzer:
    stemmed = Renaming(tantivy_words.stemmer("english"))
    return Analyzer(STANDARD, (simple.LOWERCASE, stemmed, stop_words.without(stop_words.list_of("english"))))


def chinese() -> Analyzer:
    return Analyzer(jieba(None), (simple.CN_ALPHANUM_ONLY,))


def arabic() -> Analyzer:
    stemmed = Renaming(tantivy_words.stemmer("arabic"))
    stopped = stop_words.without(stop_words.list_of("arabic"))
    return Analyzer(STANDARD, (simple.LOWERCASE, simple.DECIMAL_DIGIT, simple.ARABIC_NORMALIZATION, stemmed, stopped))


def thai() -> Analyzer:
    return Analyzer(
        icu.thai(), (simple.LOWERCASE, simple.DECIMAL_DIGIT, stop_words.without(stop_words.list_of("thai")))
    )


BUILT_IN: Mapping[str, Callable[[], Analyzer]] = {
    "arabic": arabic,
    "chinese": chinese,
    "english": english,
    "standard": standard,
    "thai": thai,
}
