"""Arithmetic in filters: folded constants, kept rows compared with an oracle, and refusals."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from filter_rows import COMPARATORS, MIRRORED, SCHEMA, kept, refusal
from hypothesis import given, settings
from hypothesis import strategies as st

from milvine.expr import compile_filter
from milvine.expr.errors import FilterError
from milvine.expr.literals import MAX_COMPUTED_ELEMENTS
from milvine.expr.parser import parse
from milvine.expr.predicate import Always
from milvine.expr.tree import Literal

Row = Mapping[str, Any]
EXAMPLES = int(os.environ.get("MILVINE_FILTER_EXAMPLES", "250"))
LOWEST = -(2**63)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("10 - 3 - 2", 5),
        ("10**2", 100),
        ("2 ** 3 ** 2", 64),
        ("2 ** -1", 0.5),
        ("-2 ** 2", -4),
        ("2 ** -1 ** 2", 0.5),
        ("2.0 ** 3", 8.0),
        ("7 / 2", 3),
        ("-7 / 2", -3),
        ("7 / -2", -3),
        ("-7 % 3", -1),
        ("7 % -3", 1),
        ("7 / 2.0", 3.5),
        ("1 + 0.5", 1.5),
        ("9223372036854775807 + 1", LOWEST),
        ("-9223372036854775808", LOWEST),
        ("- 9223372036854775808 / -1", LOWEST),
        ("--5", 5),
        ("+5 - -5", 10),
        ("~5", -6),
        ("6 & 3", 2),
        ("6 | 1 ^ 3", 6),
        ("1 << 3 + 1", 16),
        ("1 << 63", LOWEST),
        ("-256 >> 2", -64),
        ("0x10 + 010 + 0b11", 27),
        ("1e308 * 10", math.inf),
        ("10 ** 400", math.inf),
        ("2 ** 63", LOWEST),
    ],
)
def test_constants_fold_as_go_computes_them(text: str, expected: float) -> None:
    node = parse(text)
    assert isinstance(node, Literal)
    assert (node.value, type(node.value)) == (expected, type(expected))


def test_constants_fold_in_every_place_of_a_literal() -> None:
    rows: list[Row] = [{"big": n, "name": str(n), "doc": {"a": n}} for n in (100, 300, 500, 501, 1000, None)]
    assert kept("big == 10**2", rows) == [0]
    assert kept("200+300 < big <= 500+500", rows) == [3, 4]
    assert kept("500*2 >= doc['a'] > 1000/2", rows) == [3, 4]
    assert kept("big in [10**2, 5, (2+3)*100, -1 - 2]", rows) == [0, 2]
    assert kept("doc['a'] in [1000/2 + 1]", rows) == [3]
    assert kept("big + (2 ** 3) == 108", rows) == [0]
    assert compile_filter("2 + 3 == 5", SCHEMA) == Always(True)


def test_a_long_chain_of_constants_costs_no_depth() -> None:
    node = parse("+".join(["1"] * 20_000))
    assert isinstance(node, Literal)
    assert node.value == 20_000
    with pytest.raises(FilterError, match="nested deeper"):
        parse("big" + "+1" * 200 + " == 1")
    with pytest.raises(FilterError, match="elements to compute"):
        parse("big in [" + "1+1," * (MAX_COMPUTED_ELEMENTS + 1) + "1]")


def test_integers_wrap_around_and_division_goes_towards_zero() -> None:
    rows: list[Row] = [{"big": n} for n in (-7, 7, 2**63 - 1, LOWEST, None)]
    assert kept("big / 2 == -3", rows) == [0]
    assert kept("big % 3 == -1", rows) == [0]
    assert kept("big % -3 == 1", rows) == [1, 2]
    assert kept(f"big + 1 == {LOWEST}", rows) == [2]
    assert kept(f"big / -1 == {LOWEST}", rows) == [3]
    assert kept("big % -1 == 0", rows) == [0, 1, 2, 3]
    assert kept("not (big % 2 == 1)", rows) == [0, 3]


def test_small_integers_compute_in_64_bits_and_floats_in_their_own_precision() -> None:
    rows: list[Row] = [{"small": 127, "ratio": 0.1, "nums": [2**31 - 1], "reals": [0.1]}]
    assert kept("small + 1 == 128", rows) == [0]
    assert kept("small * 1000 == 127000", rows) == [0]
    assert kept("nums[0] * 2 == 4294967294", rows) == [0]
    assert kept("ratio + 0.1 == 0.2", rows) == [0]
    assert kept("ratio * 2 > 0", rows) == [0]


def test_json_numbers_compute_by_their_own_kind_and_other_values_are_unknown() -> None:
    rows: list[Row] = [{"doc": {"a": v}} for v in (3, 2.5, "3", True, None, [3])] + [{"doc": None}, {"doc": {}}]
    assert kept('doc["a"] + 1 == 4', rows) == [0]
    assert kept('doc["a"] + 1 != 4', rows) == [1]
    assert kept('not (doc["a"] + 1 == 4)', rows) == [1]
    assert kept('doc["a"] / 2 == 1', rows) == [0]
    assert kept('doc["a"] / 2.0 == 1.25', rows) == [1]
    assert kept('doc["a"] / 2.0 == 1.5', rows) == [0]
    assert kept('(doc["a"] & 2) == 2', rows) == [0, 1]
    assert kept("k % 2 == 1", [{"$meta": {"k": 3}}, {"$meta": {"k": 4}}, {"$meta": {}}]) == [0]


def test_templates_stand_for_either_number() -> None:
    rows: list[Row] = [{"big": 1, "price": 1.0}, {"big": 2, "price": 2.0}, {"big": None, "price": 0.5}]
    assert kept("big + {v} == {w}", rows, v=1, w=3) == [1]
    assert kept("{w} < big * {v}", rows, v=2, w=3) == [1]
    assert kept("{v} + price > 2", rows, v=0.5) == [1]
    assert kept("(big << {v}) == 4", rows, v=1) == [1]
    assert kept("big in [1 + 1] and price / {v} == 1", rows, v=2) == [1]


# The oracle computes one row at a time with Python's integers and IEEE doubles.

_BITS: dict[str, Callable[[int, int], int]] = {
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<<": operator.lshift,
    ">>": operator.rshift,
}


def _wrapped(n: int) -> int:
    return (n + 2**63) % 2**64 - 2**63


def _computed(value: Any, sign: str, operand: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if sign in _BITS:
        return _wrapped(_BITS[sign](int(value), int(operand)))
    if sign == "%":
        return math.fmod(value, operand) if isinstance(value, float) else int(math.fmod(value, operand))
    are_integers = isinstance(value, int) and isinstance(operand, int)
    if sign == "/":
        return math.trunc(value / operand) if are_integers else value / operand
    found = {"+": operator.add, "-": operator.sub, "*": operator.mul}[sign](value, operand)
    return _wrapped(found) if are_integers else float(found)


_INTEGERS = st.integers(-9, 9)
_HALVES = st.integers(-9, 9).map(lambda n: n / 2)
_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "small": st.none() | _INTEGERS,
            "big": st.none() | _INTEGERS,
            "ratio": st.none() | _HALVES,
            "price": _HALVES,
            "nums": st.none() | st.lists(_INTEGERS, max_size=2),
            "reals": st.lists(_HALVES, max_size=2),
            "doc": st.none() | st.fixed_dictionaries({"a": st.one_of(st.none(), st.booleans(), _INTEGERS, _HALVES)}),
        }
    ),
    max_size=6,
)
_OPERANDS: dict[str, Callable[[Row], Any]] = {
    "small": lambda row: row["small"],
    "big": lambda row: row["big"],
    "ratio": lambda row: row["ratio"],
    "price": lambda row: row["price"],
    "nums[1]": lambda row: (row["nums"] or [])[1] if len(row["nums"] or []) > 1 else None,
    "reals[0]": lambda row: row["reals"][0] if row["reals"] else None,
    'doc["a"]': lambda row: (row["doc"] or {}).get("a"),
}


@st.composite
def _filters(draw: st.DrawFn) -> tuple[str, Callable[[Row], bool]]:
    name = draw(st.sampled_from(list(_OPERANDS)))
    is_floating = name in ("ratio", "price", "reals[0]")
    sign = draw(st.sampled_from(["+", "-", "*", "/", *(() if is_floating else ("%", *_BITS))]))
    may_be_fraction = is_floating or (name == 'doc["a"]' and sign in "+-*/")
    operand: float = draw(_HALVES if may_be_fraction and draw(st.booleans()) else _INTEGERS)
    if sign in ("<<", ">>"):
        operand = abs(operand)
    if sign in "/%" and operand == 0:
        operand = 2
    is_fraction = is_floating or isinstance(operand, float)
    value: float = draw(_HALVES if is_fraction else _INTEGERS)
    comparator = draw(st.sampled_from(list(COMPARATORS)))
    computed = f"({name} {sign} {operand!r})"
    if sign in "+*" and draw(st.booleans()):
        computed = f"{operand!r} {sign} {name}"
    texts = f"{computed} {comparator} {value!r}", f"{value!r} {MIRRORED[comparator]} {computed}"
    is_negated = draw(st.booleans())
    text = draw(st.sampled_from(texts))

    def verdict(row: Row) -> bool:
        found = _computed(_OPERANDS[name](row), sign, operand)
        if found is None:
            return False
        is_single = name == "ratio"
        left, right = (np.float32(found), np.float32(value)) if is_single else (found, value)
        return bool(COMPARATORS[comparator](left, right)) is not is_negated

    return f"not ({text})" if is_negated else text, verdict


@settings(max_examples=EXAMPLES, deadline=None)
@given(_ROWS, _filters())
def test_random_arithmetic_keeps_the_same_rows_as_an_oracle(
    rows: list[Row], node: tuple[str, Callable[[Row], bool]]
) -> None:
    text, verdict = node
    assert kept(text, rows) == [i for i, row in enumerate(rows) if verdict(row)], text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("big == 1 / 0", "cannot divide by zero"),
        ("price == 1 / 0.0", "cannot divide by zero"),
        ("big == 1 % 0", "cannot modulo by zero"),
        ("big == 1.5 % 2", "modulo can only apply on integer"),
        ("big == 1 + 'a'", "add cannot apply on string field"),
        ("big == true * 2", "multiply cannot apply on bool field"),
        ("big == (1 == 1) - 2", "subtract cannot apply on bool field"),
        ("big == (1.5 & 1)", "bitand can only apply on integer fields"),
        ("big == ~1.5", "bitnot can only apply on integer fields"),
        ("big == 1 << 64", "shift amount must be in range [0, 64), got 64"),
        ("big == 9223372036854775808", "int64 overflow: 9223372036854775808"),
        ("big in [1, 2 / 0]", "cannot divide by zero"),
        ("big in [1, 2 +]", "array element type must be generic value, but got: 2 +"),
        ("big in [1, big + 1]", "array element type must be generic value, but got: big + 1"),
        ("big in [1, 2 - 0.5]", "value 'float_val:1.5' in list cannot be casted to Int64"),
        ("big / 0 == 1", "division or modulus by zero"),
        ("big % 0 == 1", "division or modulus by zero"),
        ("price / 0 == 1", "division or modulus by zero"),
        ("price % 2 == 1", "modulo can only apply on integer types"),
        ("doc['a'] % 2.5 == 1", "modulo can only apply on integer types"),
        ("(price & 1) == 1", "bitwise operations can only apply on integer types"),
        ("(big << 64) == 1", "shift amount must be in range [0, 64), got int64_val:64"),
        ("big + 1.1 == 2", "'add' cannot perform arithmetic between Int64 field and Double"),
        ("flag * 2 == 2", "'multiply' cannot perform arithmetic between Bool field and Int64"),
        ("2 - name == 2", "'subtract' cannot perform arithmetic between VarChar field and Int64"),
        ("~flag == 0", "'bitnot' cannot perform arithmetic between Bool field and Int64"),
        ("big % [1, 2] == 1", "incompatible data type, Int64, None"),
        ("nums + 1 == 2", "can not comparisons array fields directly"),
        ("big + small == 2", "not supported to do arithmetic operations between multiple fields"),
        ("2 - big == 1", "module field is not yet supported"),
        ("(2 & big) == 1", "module field is not yet supported"),
        ("big + 1 + 1 == 2", "complicated arithmetic operations are not supported"),
        ("array_length(nums) + 1 == 2", "complicated arithmetic operations are not supported"),
        ("big ** 2 == 4", "power can only apply on constants: big**2"),
        ("2 ** (big + 1) == 4", "power can only apply on constants: 2**(big+1)"),
        ("-big == 1", "unexpected op: -"),
        ("big + 1 == true", "comparisons between Int64 and Bool are not supported"),
        ("'x' == big + 1", "comparisons between VarChar and Int64 are not supported"),
        ("big + 1 == 1.5", "cannot cast value to Int64, value: float_val:1.5"),
        ("big + 1 == big", "only comparison between two fields is supported"),
        ("big + 1 in [1]", "'term' can only be used on single field, but got: big+1"),
        ("1 < (big + 1) < 3", "range operations are only supported on single fields now, got: (big+1)"),
        ("big + 1", "predicate is not a boolean expression: big + 1, data type: Int64"),
        ("1 < big < small + 1", "upperbound cannot be a non-const expression: small+1"),
        ("big == 1 and big + 1", "'and' can only be used between boolean expressions"),
    ],
)
def test_refused_arithmetic_has_milvus_text(text: str, reason: str) -> None:
    assert refusal(text) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("big == {v} + 1", "placeholder was not supported between two constants with operator: +"),
        ("big == ({v} & 1)", "placeholder was not supported between two constants with operator: {v}&1"),
        ("~{v} == big", "bitnot cannot be applied on placeholder: ~{v}"),
        ("big / {zero} == 1", "division or modulus by zero"),
        ("(big >> {many}) == 1", "shift amount must be in range [0, 64), got int64_val:64"),
        ("big + {text} == 1", "incompatible data type, Int64, VarChar"),
        ("big + {list} == 1", "can not comparisons array directly"),
        ("big % {half} == 1", "modulo can only apply on integer types"),
        ("big + 1 == {half}", "cannot cast value to Int64, value: float_val:0.5"),
        ("big + {missing} == 1", "the right operand value of expression template variable name {missing} is not found"),
        ("big + 1 == {missing}", "the value of expression template variable name {missing} is not found"),
    ],
)
def test_templates_that_do_not_fit_are_refused_with_milvus_text(text: str, reason: str) -> None:
    assert refusal(text, v=1, zero=0, many=64, text="a", list=[1], half=0.5) == reason
