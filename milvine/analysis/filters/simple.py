"""The filters without parameters, and those with one number or name."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from milvine.analysis import tantivy_words
from milvine.analysis.code_points import WHITESPACE
from milvine.analysis.filters.base import Dropping, Filter, Renaming
from milvine.analysis.params import Params, internal_error

_DOTTED_I, _SMALL_DOTTED_I = "\u0130", "i\u0307"
_DIGIT_ZEROS = (
    *(0x0660, 0x06F0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66, 0x0E50, 0x0ED0, 0x0F20),
    *(0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50),
    *(0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10),
)
"""Milvus's list of the zeros of decimal digits."""
_TO_ASCII_DIGITS = {zero + digit: str(digit) for zero in _DIGIT_ZEROS for digit in range(10)}
_ARABIC = {
    **dict.fromkeys([0x0622, 0x0623, 0x0625], "\u0627"),
    0x0629: "\u0647",
    0x0649: "\u064a",
    **dict.fromkeys([0x0640, *range(0x064B, 0x0660)], None),
}
"""Alef with hamza or madda, teh marbuta, alef maksura; tatweel and harakat go."""


def lowercased(words: pa.StringArray) -> pa.StringArray:
    """Character by character, as in Rust: no rule for a final sigma, and two characters for one dotted capital I."""
    return pc.utf8_lower(pc.replace_substring(words, _DOTTED_I, _SMALL_DOTTED_I))


def _translating(table: dict[int, Any]) -> Renaming:
    """Only words that are not ASCII are changed."""

    def rename(words: pa.StringArray) -> pa.StringArray:
        is_wide = pc.not_equal(pc.binary_length(words), pc.utf8_length(words))
        changed = [word.translate(table) for word in words.filter(is_wide).to_pylist()]
        return pc.replace_with_mask(words, is_wide, pa.array(changed, pa.string())) if changed else words

    return Renaming(rename)


def _with(pattern: str) -> Dropping:
    """Keeps the words in which a pattern is found."""
    return Dropping(lambda words: pc.match_substring_regex(words, pattern))


def _without(pattern: str) -> Dropping:
    return Dropping(lambda words: pc.invert(pc.match_substring_regex(words, pattern)))


LOWERCASE = Renaming(lowercased, is_array_wide=True)
DECIMAL_DIGIT = _translating(_TO_ASCII_DIGITS)
ARABIC_NORMALIZATION = _translating(_ARABIC)
CN_ALPHANUM_ONLY = _with(r"[\p{Han}a-zA-Z0-9]")
NAMED: dict[str, Filter] = {
    "alphanumonly": _with(r"\A[0-9A-Za-z]*\z"),
    "arabic_normalization": ARABIC_NORMALIZATION,
    "asciifolding": Renaming(tantivy_words.ascii_folding()),
    "cnalphanumonly": CN_ALPHANUM_ONLY,
    "cncharonly": _with(r"\p{Han}"),
    "decimaldigit": DECIMAL_DIGIT,
    "lowercase": LOWERCASE,
    "removepunct": _without(rf"[\pP{WHITESPACE}]"),
}
"""The filters that are given by their name alone."""


def length(params: Params) -> Filter:
    """At most `max` bytes."""
    limit = params.get("max")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise internal_error("lenth max param was none or not uint")
    return Dropping(lambda words: pc.less_equal(pc.binary_length(words), limit))


def stemmer(params: Params) -> Filter:
    language = params.get("language")
    if not isinstance(language, str):
        raise internal_error("stemmer language field should be string")
    name = language.lower()
    name = "arabic" if name == "arabig" else name
    if name not in tantivy_words.STEMMERS:
        raise internal_error(f"create stemmer failed : InternalError: unsupport language: {name}")
    return Renaming(tantivy_words.stemmer(name))
