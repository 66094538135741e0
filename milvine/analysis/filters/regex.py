"""The filter `regex`: keeps the words in which an expression is found."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from milvine.analysis.filters.base import Dropping, Filter
from milvine.analysis.params import Params, absent_library, internal_error, invalid_argument

_UNICODE_CLASS = re.compile(r"\\[wWdDsSbB]")
"""Of all Unicode in Milvus, of ASCII in RE2."""
_SECONDS_FOR_A_WORD = 0.05
"""Milvus, too, stops an expression that tries too much, and keeps the word."""
_MAX_STOPPED = 20
"""After so many such words of a batch the others are kept, too."""


def regex(params: Params) -> Filter:
    if "expr" not in params:
        raise internal_error("must set expr for regex filter")
    expression = params["expr"]
    if not isinstance(expression, str):
        raise internal_error("expr must be string")
    return Dropping(_linear(expression) or _backtracking(expression))


def _linear(expression: str) -> Callable[[pa.StringArray], pa.BooleanArray] | None:
    """By RE2, which takes time in proportion to the words; None for expressions that it does not know or reads
    otherwise."""
    if _UNICODE_CLASS.search(expression):
        return None
    try:
        pc.match_substring_regex(pa.array([""]), expression)
    except pa.ArrowInvalid:
        return None
    return lambda words: pc.match_substring_regex(words, expression)


def _backtracking(expression: str) -> Callable[[pa.StringArray], pa.BooleanArray]:
    try:
        import regex as library
    except ImportError:
        raise absent_library("this regular expression", "regex") from None
    try:
        pattern: Any = library.compile(expression)
    except library.error as error:
        raise invalid_argument(f"regex expression invalid, expr:{expression}, err: {error}") from error

    def keeps(words: pa.StringArray) -> pa.BooleanArray:
        kept, stopped = [True] * len(words), 0
        for place, word in enumerate(words.to_pylist()):
            try:
                kept[place] = pattern.search(word, timeout=_SECONDS_FOR_A_WORD) is not None
            except TimeoutError:
                stopped += 1
                if stopped == _MAX_STOPPED:
                    break
        return pa.array(kept, pa.bool_())

    return keeps
