"""Filters that match words of texts: what they keep, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from filter_rows import SCHEMA, kept, refusal

from milvine.errors import ParameterInvalid
from milvine.expr import compile_filter

ROWS: list[dict[str, Any]] = [
    {"id": 1, "body": "The quick brown fox"},
    {"id": 2, "body": "quick! A fox, quick."},
    {"id": 3, "body": None},
    {"id": 4, "body": ""},
    {"id": 5, "body": "brown and slow fox"},
    {"id": 6, "body": "allergy"},
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("text_match(body, 'QUICK slow')", [0, 1, 4]),
        ("TEXT_MATCH(body, 'quick')", [0, 1]),
        ("not text_match(body, 'quick')", [3, 4, 5]),
        ("text_match(body, '')", []),
        ("not text_match(body, '')", [0, 1, 3, 4, 5]),
        ("text_match(body, 'quick brown fox', minimum_should_match=2)", [0, 1, 4]),
        ("text_match(body, 'quick brown fox', MINIMUM_SHOULD_MATCH=0x3)", [0]),
        ("text_match(body, 'quick quick', minimum_should_match=2)", [0, 1]),
        ("text_match(body, 'quick', minimum_should_match=2)", []),
        ("text_match(body, {words})", [4]),
        ("text_match(body, 'fox') and id > 1", [1, 4]),
        ("text_match(body, 'slow') or body is null", [2, 4]),
        ("text_match_fuzzy(body, 'alergy', max_edit_distance=1)", [5]),
        ("text_match_fuzzy(body, 'alergy', max_edit_distance=0)", []),
        ("TEXT_MATCH_FUZZY(body, 'qiuck', max_edit_distance=1)", [0, 1]),
        ("text_match_fuzzy(body, 'fix bron', max_edit_distance=1)", [0, 1, 4]),
        ("phrase_match(body, 'quick brown')", [0]),
        ("phrase_match(body, 'brown fox', 0)", [0]),
        ("phrase_match(body, 'brown fox', 2)", [0, 4]),
        ("phrase_match(body, 'fox quick')", [1]),
        ("phrase_match(body, 'quick fox', 1)", [0, 1]),
        ("phrase_match(body, 'fox')", [0, 1, 4]),
        ("phrase_match(body, 'fox whale', 4294967295)", []),
        ("PHRASE_MATCH(body, {words}, 9)", [4]),
        ("not phrase_match(body, 'brown fox', 2)", [1, 3, 5]),
    ],
)
def test_words_are_found_and_null_is_unknown(text: str, expected: list[int]) -> None:
    templates = {"words": "slow"} if "{words}" in text else {}
    assert kept(text, ROWS, **templates) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("text_match(name, 'x')", 'field "name" does not enable match'),
        ("text_match(id, 'x')", "text match operation on non-string is unsupported"),
        ("text_match_fuzzy(id, 'x', max_edit_distance=1)", "text match fuzzy operation on non-string is unsupported"),
        ("phrase_match(other, 'x')", "phrase match operation on non-string is unsupported"),
        ("text_match(body, 1)", "text_match query should be a string literal or template variable, got: 1"),
        ("phrase_match(body, name)", "phrase_match query should be a string literal or template variable, got: name"),
        ("text_match(body, 'x', minimum_should_match=0)", "minimum_should_match should be >= 1, got 0"),
        ("text_match(body, 'x', minimum_should_match=1001)", "minimum_should_match should be <= 1000, got 1001"),
        (
            "text_match(body, 'x', minimum_should_match=9223372036854775808)",
            "invalid minimum_should_match value: 9223372036854775808",
        ),
        ("text_match_fuzzy(body, 'x', max_edit_distance=3)", "max_edit_distance should be in [0, 2], got 3"),
        (
            "text_match_fuzzy(body, 'x', distance=1)",
            'invalid option "distance" for text_match_fuzzy, expected max_edit_distance',
        ),
        (
            "phrase_match(body, 'x', -1)",
            '"slop" should not be a negative interger. "slop" passed: -1',
        ),
        (
            "phrase_match(body, 'x', 4294967296)",
            '"slop" exceeds the range of "uint32". "slop" expression passed: 4294967296',
        ),
        (
            "phrase_match(body, 'x', id)",
            '"slop" should be a const integer expression with "uint32" value. "slop" expression passed: id',
        ),
    ],
)
def test_a_wrong_match_of_words_is_refused_with_the_text_of_milvus(text: str, reason: str) -> None:
    assert refusal(text) == reason


@pytest.mark.parametrize(
    "text",
    [
        "text_match(body)",
        "text_match(body, 'x', 2)",
        "text_match(body, 'x', minimum_should_matchx=1)",
        "text_match(body, 'x', minimum_should_match={n})",
        "text_match(body, 'x', minimum_should_match=1.0)",
        "text_match(body, 'x', minimum_should_match=-1)",
        "text_match(body, 'x', minimum_should_match=2, minimum_should_match=3)",
        "text_match(tags[0], 'x')",
        "text_match_fuzzy(body, 'x')",
        "phrase_match(body, 'x', slop=1)",
        "phrase_match('x', 'x')",
        "empty(body, x=1)",
    ],
)
def test_a_call_with_other_arguments_is_not_an_expression(text: str) -> None:
    with pytest.raises(ParameterInvalid, match="cannot parse expression"):
        compile_filter(text, SCHEMA, None, {"n": 1})


def test_a_template_of_another_type_is_refused() -> None:
    with pytest.raises(ParameterInvalid, match="cannot cast value to VarChar, value: int64_val:1"):
        compile_filter("text_match(body, {n})", SCHEMA, None, {"n": 1})
