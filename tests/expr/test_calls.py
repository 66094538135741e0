"""Functions in filters: Bloom filters, samples, texts, and refusals."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest
from bloom_filters import bloom_filter, xxh64
from filter_rows import SCHEMA, kept, refusal
from hypothesis import given, settings
from hypothesis import strategies as st

from milvine.expr import compile_filter, is_approximate
from milvine.expr.bloom import BloomFilter


def test_hashes_equal_the_published_values() -> None:
    assert (xxh64(b""), xxh64(b"abc")) == (0xEF46DB3751D8E999, 0x44BC2CF5AD770999)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20), st.lists(st.text(max_size=80), max_size=20))
def test_a_bloom_filter_lets_all_its_members_pass(integers: list[int], texts: list[str]) -> None:
    bloom = BloomFilter(bloom_filter([*integers, *texts]), 0)
    assert bloom.has_integers(pa.array(integers, pa.int64()).to_numpy()).all() or not integers
    assert bloom.has_texts(pa.array(["", *texts], pa.string()).slice(1)).all()


def test_bloom_match_keeps_members_and_leaves_null_out() -> None:
    rows: list[dict[str, Any]] = [
        {"small": 7, "name": "a", "doc": {"k": 7}},
        {"small": 8, "name": "long" * 20, "doc": {"k": "a"}},
        {"small": None, "name": None, "doc": {"k": 7.0}},
        {"small": -1, "name": "", "doc": {"k": [7]}},
        {"small": 0, "name": "b", "doc": None},
    ]
    seven, texts = bloom_filter([7, -1]), bloom_filter(["a", "long" * 20, ""])
    both = bloom_filter([7, "a"])
    assert kept("bloom_match(small, {b})", rows, b=seven) == [0, 3]
    assert kept("not bloom_match(small, {b})", rows, b=seven) == [1, 4]
    assert kept("bloom_match(name, {b})", rows, b=texts) == [0, 1, 3]
    assert kept("BLOOM_MATCH(doc['k'], {b}) or id > 5", rows, b=both) == [0, 1]
    assert kept("not bloom_match(doc['k'], {b})", rows, b=seven) == [1]
    assert kept("bloom_match(small, {b})", rows, b=bloom_filter([])) == []


@pytest.mark.parametrize(
    ("text", "blob", "reason"),
    [
        ("bloom_match(small)", b"", "bloom_match requires exactly 2 arguments: bloom_match(field, {blob}), got 1"),
        ("bloom_match(1, {b})", b"", "the first argument of bloom_match must be a scalar field name, got: 1"),
        (
            "bloom_match(nums[0], {b})",
            b"",
            "bloom_match does not support nested paths on non-JSON fields, got: nums[0]",
        ),
        (
            "bloom_match(price, {b})",
            b"",
            "bloom_match only supports INT8/INT16/INT32/INT64/VARCHAR fields and JSON paths, "
            "but field (price) is of type Double",
        ),
        (
            "bloom_match(small, 'x')",
            b"",
            "the second argument of bloom_match must be a {template} placeholder carrying a client pre-built filter "
            "blob, got: 'x'",
        ),
        (
            "bloom_match(small, {b})",
            "x",
            "the value of bloom_match template variable {b} must be a client pre-built filter blob (bytes)",
        ),
        (
            "bloom_match(small, {b})",
            b"MBF1",
            "bloom_match filter blob is invalid: bloom filter blob too short: 4 bytes, need at least 32",
        ),
        (
            "bloom_match(small, {b})",
            b"MBF2" + bloom_filter([1])[4:],
            'bloom_match filter blob is invalid: bloom filter blob has invalid magic "MBF2", expected "MBF1"',
        ),
        (
            "bloom_match(small, {b})",
            bloom_filter([1])[:-1],
            "bloom_match filter blob is invalid: bloom filter body length 2047 does not match num_blocks 64 "
            "(want 2048 bytes)",
        ),
        (
            "bloom_match(small, {b})",
            bloom_filter(["a"]),
            "bloom_match filter blob was built from the utf8 value domain but field (Int8) requires the int64 domain; "
            "rebuild the filter from values of the field's type",
        ),
        ("small == {b}", b"", "a bytes template value can only be used as the bloom_match filter argument"),
    ],
)
def test_an_invalid_bloom_filter_is_refused(text: str, blob: object, reason: str) -> None:
    assert refusal(text, b=blob) == reason


def test_only_bloom_filters_are_approximate() -> None:
    found = compile_filter("id > 1 or not (id == 3 and bloom_match(id, {b}))", SCHEMA, None, {"b": bloom_filter([1])})
    assert is_approximate(found)
    assert not is_approximate(compile_filter("random_sample(0.5)", SCHEMA))


def test_a_sample_has_its_share_of_the_rows_that_pass() -> None:
    rows: list[dict[str, Any]] = [{"id": i, "small": None if i % 2 else i % 10} for i in range(100)]
    samples = [kept("small >= 0 and RANDOM_SAMPLE(0.3)", rows) for _ in range(5)]
    assert all(len(sample) == 15 and all(i % 2 == 0 for i in sample) for sample in samples)
    assert len(set(map(tuple, samples))) > 1
    assert len(kept("true and random_sample({share})", rows, share=0.25)) == 25
    assert len(kept("random_sample(0.001)", rows)) == 1
    assert kept("id < 0 and random_sample(0.5)", rows) == []


_TOO_CLOSE = (
    "the sample factor should be between 0 and 1 and not too close to 0 or 1"
    "(the difference should be larger than 1e-10), but got {}"
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((f"random_sample({f})", _TOO_CLOSE.format(f)) for f in ("0.0", "1.0", "1", "-0.5", "1e-11", "'a'")),
        (
            "random_sample(id)",
            '"float factor" should be a const float expression: "float factor" passed: id',
        ),
        (
            "random_sample(0.1) and id > 1",
            "random sample expression can only be the last expression in the logical and expression",
        ),
        ("id > 1 or random_sample(0.1)", "random sample expression cannot be used in logical and expression"),
        ("not random_sample(0.1)", "random sample expression cannot be used in unary expression"),
        ("starts_with(name)", "function starts_with(VARCHAR) not found."),
        ("empty(id)", "function empty(INT64) not found."),
        ("starts_with(doc['a'], 'x')", "function starts_with(JSON, VARCHAR) not found."),
        (
            "ST_WITHIN(name, 'x')",
            "spatial operation are only supported on geometry fields now, got: ST_WITHIN(name,'x')",
        ),
        ("PHRASE_MATCH(name, 'x')", 'field "name" does not enable match'),
        ("nope(id, 1.5, [1])", "function nope(INT64, DOUBLE, ARRAY) not found."),
    ],
)
def test_an_invalid_call_is_refused(text: str, reason: str) -> None:
    assert refusal(text) == reason


def test_starts_with_matches_the_beginning_of_texts() -> None:
    rows: list[dict[str, Any]] = [
        {"name": "a%b", "title": "a%"},
        {"name": "", "title": "é"},
        {"name": None, "title": ""},
    ]
    assert kept("starts_with(name, 'a%')", rows) == [0]
    assert kept("not starts_with(name, {p})", rows, p="a_") == [0, 1]
    assert kept("starts_with(name, title)", rows) == [0]
    assert kept("starts_with('éa', title)", rows) == [1, 2]
    assert kept("EMPTY(name) or empty(title)", rows) == [1, 2]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(unclosed", "missing closing ): `(unclosed`"),
        ("[a", "missing closing ]: `[a`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        (r"\1", r"invalid escape sequence: `\1`"),
    ],
)
def test_a_bad_pattern_is_refused_with_gos_text(pattern: str, reason: str) -> None:
    for text in (f"name =~ {'{p}'}", f"name !~ r'{pattern}'"):
        assert refusal(text, p=pattern).endswith(f"invalid regex pattern: error parsing regexp: {reason}")


def test_patterns_keep_their_backslashes() -> None:
    rows: list[dict[str, Any]] = [{"name": n} for n in ("a1", "a\\d", 'q"q', "a\nb", "ab")]
    assert kept(r'name =~ "a\d"', rows) == [0]
    assert kept(r'name =~ "a\\d"', rows) == [0]
    assert kept(r'name =~ "a\\\\d"', rows) == [1]
    assert kept(r'name =~ r"a\\d"', rows) == [1]
    assert kept(r'name =~ "q\"q"', rows) == [2]
    assert kept('name =~ "a.b"', rows) == [3]
    assert kept('name =~ "(?-s)a.b"', rows) == []
    assert kept("name =~ {p}", rows, p=r"\d$") == [0]
    assert kept(r'name == r"a\d"', rows) == [1]
    assert kept(r'name like r"a\\%"', rows) == [1]


def test_a_pattern_takes_linear_time() -> None:
    """A backtracking engine would never end."""
    rows = [{"name": "a" * 60 + random.choice("bc")}]
    assert kept("name =~ '^(a|a)*(a|a)*$'", rows) == []
