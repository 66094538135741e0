"""Which rows a filter keeps: fixed cases, Milvus's JSON cases, and random trees compared with a slow oracle."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from filter_rows import COMPARATORS, MIRRORED, kept, kept_by_indexes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Row = Mapping[str, Any]
Verdict = Callable[[Row], bool | None]


EXAMPLES = int(os.environ.get("MILVINE_FILTER_EXAMPLES", "250"))
_DOCUMENTS: list[Any] = [
    None,
    {},
    {"a": None},
    {"a": "bad"},
    {"a": 2},
    {"a": 3},
    {"a": 2.5},
    {"a": True},
    {"a": [2]},
    {"a": {"b": "abc"}},
    {"s": "abc"},
    {"s": "a%c"},
    {"s": 7},
    {"list": [1, "x", None]},
    {"list": []},
    {"a": 2**63},
]
JSON_ROWS: list[Row] = [{"doc": document} for document in _DOCUMENTS]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('doc["a"] == 2', [4]),
        ('doc["a"] != 2', [5, 6, 15]),
        ('doc["a"] > 2', [5, 6, 15]),
        ('not (doc["a"] > 2)', [4]),
        ('doc["a"] >= 2.5', [5, 6, 15]),
        ('doc["a"] < 2.5', [4]),
        ('2 <= doc["a"] < 3', [4, 6]),
        ('doc["a"] == "bad"', [3]),
        ('doc["a"] != "x"', [3]),
        ('doc["a"] == true', [7]),
        ('doc["a"] != true', []),
        ('doc["a"] == 1', []),
        ('doc["a"] in [2, 2.5]', [4, 6]),
        ('doc["a"] not in [2]', [5, 6, 15]),
        ('doc["a"] in [2, "bad", true]', [3, 4, 7]),
        ('doc["a"] not in [2, "bad"]', []),
        ('doc["a"] in []', []),
        ('doc["a"] not in []', [3, 4, 5, 6, 7, 8, 9, 15]),
        ('doc["a"]["b"] like "ab%"', [9]),
        ('doc["s"] like "a_c"', [10, 11]),
        ('not (doc["s"] like "a%")', []),
        ('doc["list"][0] == 1', [13]),
        ('doc["list"][1] == "x"', [13]),
        ('doc["list"][2] is null', [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
        ('exists doc["a"]', [3, 4, 5, 6, 7, 8, 9, 15]),
        ('doc["a"] is null', [0, 1, 2, 10, 11, 12, 13, 14]),
        ("doc is null", [0]),
        ('not exists doc["list"]', [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15]),
        ('doc["list"] is not null', [13]),
        ('not (doc["a"] > 100 and doc["a"] < 50)', [4, 5, 6, 15]),
        ('doc["missing"] == 1 or doc["a"] == 2', [4]),
    ],
)
def test_json_values_compare_with_their_own_kind_only(text: str, expected: list[int]) -> None:
    assert kept(text, JSON_ROWS) == expected


def test_integers_compare_exactly() -> None:
    rows = [{"id": 2**53, "doc": {"n": 2**53}}, {"id": 2**53 + 1, "doc": {"n": 2**53 + 1}}]
    for operand in ("id", 'doc["n"]'):
        assert kept(f"{operand} == {2**53 + 1}", rows) == [1]
        assert kept(f"{operand} in [{2**53 + 1}]", rows) == [1]
        assert kept(f"{operand} > {float(2**53)}", rows) == [1]
        assert kept(f"{operand} == 0.5", rows) == []
        assert kept(f"{operand} != 0.5", rows) == [0, 1]
        assert kept(f"{operand} < 1e300", rows) == [0, 1]
        assert kept(f"{operand} < {{nan}}", rows, nan=float("nan")) == []


def test_literals_outside_the_type_match_all_or_no_rows_except_null() -> None:
    rows: list[Row] = [{"small": 127}, {"small": None}, {"small": -128}]
    assert kept("small < 128", rows) == [0, 2]
    assert kept("small == 300", rows) == []
    assert kept("not (small == 300)", rows) == [0, 2]
    assert kept("small in [127, 300, -1000]", rows) == [0]
    assert kept("ratio < 1e300", [{"ratio": 1.0}, {"ratio": None}]) == [0]


def test_float_fields_compare_in_their_own_precision() -> None:
    rows: list[Row] = [{"ratio": 0.1, "price": 0.1}, {"ratio": 0.2, "price": 0.2}]
    assert kept("ratio == 0.1", rows) == kept("price == 0.1", rows) == [0]
    assert kept("ratio in [0.1, 7]", rows) == kept("price in [0.1, 7]", rows) == [0]
    assert kept("ratio > 0", rows) == [0, 1]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("ab%", [0, 1, 2]),
        ("%b", [0]),
        ("%b%", [0, 1, 2, 4, 7]),
        ("a_c", [1]),
        ("a%c", [1, 2]),
        ("ab", [0]),
        ("", [6]),
        ("%", [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("%%", [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (r"100\\%", [3]),
        (r"%\\%%", [3]),
        (r"a.c%", []),
        (r"%\\\\%", [4]),
        ("_", [5]),
        ("line_break", [7]),
        ("l%k", [7]),
        (r"x\\_z%", [8]),
    ],
)
def test_like_knows_percent_underscore_and_backslash(pattern: str, expected: list[int]) -> None:
    names = ["ab", "abc", "ab c", "100%", "back\\slash", "é", "", "line\nbreak", "x_zz"]
    assert kept(f'name like "{pattern}"', [{"name": n} for n in names] + [{"name": None}]) == expected


def test_fields_compare_row_by_row() -> None:
    rows: list[Row] = [
        {"id": 1, "small": 1, "ratio": 0.5, "name": "a", "title": "a"},
        {"id": 2, "small": None, "ratio": None, "name": None, "title": "b"},
        {"id": 3, "small": 5, "ratio": 3.0, "name": "b", "title": "a"},
    ]
    assert kept("id == small", rows) == [0]
    assert kept("not (id == small)", rows) == [2]
    assert kept("small > ratio", rows) == [0, 2]
    assert kept("name > title", rows) == [2]
    assert kept("name != title", rows) == [2]


def test_dynamic_keys_are_read_from_the_dynamic_field() -> None:
    rows: list[Row] = [
        {"$meta": {"color": "red"}},
        {"$meta": {}},
        {"$meta": {"color": "blue", "k": {"x": [3]}}},
    ]
    assert kept("color == 'red'", rows) == [0]
    assert kept("color != 'red'", rows) == [2]
    assert kept("$meta['k']['x'][0] == 3 and exists k", rows) == [2]
    assert kept("color is null", rows) == [1]


def test_constants_keep_all_or_nothing() -> None:
    rows: list[Row] = [{"id": 1}, {"id": 2}]
    assert kept("true", rows) == [0, 1]
    assert kept("1 > 2", rows) == []
    assert kept("id > 0", []) == []


def test_a_field_that_cannot_be_null_is_never_null() -> None:
    assert kept("id is null", [{"id": 1}]) == []
    assert kept("id is not null", [{"id": 1}]) == [0]


def test_many_keys_are_found() -> None:
    rows = [{"id": i, "name": str(i)} for i in range(0, 1000, 2)]
    assert kept(f"id in {list(range(500))}", rows) == list(range(250))
    assert kept(f"name in {[str(i) for i in range(500)]}", rows) == list(range(250))
    assert kept(" or ".join(f"id == {i}" for i in range(5000)), rows) == list(range(500))


# The oracle: a node of a random filter is its text and a function of one row that says True, False or None.

_INTEGERS = st.integers(-3, 3)
_FLOATS = st.integers(-6, 6).map(lambda n: n / 2)
_TEXTS = st.text("ab%_", max_size=3)
_JSON_SCALARS = st.one_of(st.none(), st.booleans(), _INTEGERS, _FLOATS, _TEXTS)
_SCALARS: st.SearchStrategy[Any] = st.one_of(st.booleans(), _INTEGERS, _FLOATS, _TEXTS)
_LISTS: st.SearchStrategy[Any] = st.lists(_SCALARS | st.lists(st.sampled_from([1, 2.0, "a"]), max_size=1), max_size=2)
_JSON_LISTS = st.lists(_JSON_SCALARS | st.lists(st.sampled_from([1, 2.0, "a", None]), max_size=1), max_size=2)
_JSON = st.dictionaries(
    st.sampled_from(["a", "b", "1"]),
    st.one_of(_JSON_SCALARS, _JSON_LISTS, st.dictionaries(st.sampled_from("b1"), _JSON_SCALARS)),
)
_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": _INTEGERS,
            "flag": st.none() | st.booleans(),
            "small": st.none() | _INTEGERS,
            "big": st.none() | _INTEGERS,
            "ratio": st.none() | _FLOATS,
            "price": _FLOATS,
            "name": st.none() | _TEXTS,
            "title": _TEXTS,
            "doc": st.one_of(st.none(), _JSON, _SCALARS, _JSON_LISTS),
            "$meta": _JSON,
        }
    ),
    max_size=8,
)
_NUMERIC_FIELDS = ("id", "small", "big", "ratio", "price")
_PATHS: dict[str, tuple[str, tuple[str | int, ...]]] = {
    'doc["a"]': ("doc", ("a",)),
    'doc["a"]["b"]': ("doc", ("a", "b")),
    'doc["a"][1]': ("doc", ("a", 1)),
    'doc["a"]["1"]': ("doc", ("a", 1)),
    "doc": ("doc", ()),
    "a": ("$meta", ("a",)),
    '$meta["b"]': ("$meta", ("b",)),
}


def _written(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return repr(value).lower() if isinstance(value, bool) else repr(value)


def _at(row: Row, operand: str) -> Any:
    """The value of a field or a path; None for NULL, null and missing."""
    if operand not in _PATHS:
        return row[operand]
    field, path = _PATHS[operand]
    value = row[field]
    for step in path:
        if isinstance(value, dict):
            value = value.get(str(step))
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            value = None
    return value


def _kind(value: Any) -> str:
    kinds: dict[type, str] = {bool: "bool", int: "number", float: "number", str: "text"}
    return kinds.get(type(value), "other")


def _compared(left: Any, sign: str, right: Any) -> bool | None:
    return COMPARATORS[sign](left, right) if _kind(left) == _kind(right) != "other" else None


def _same(found: Any, wanted: Any) -> bool:
    """In lists an integer literal does not equal a floating element."""
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_same, found, wanted))
    if isinstance(wanted, float):
        return _kind(found) == "number" and found == wanted
    return type(found) is type(wanted) and found == wanted


def _is_empty(value: Any) -> bool:
    if isinstance(value, dict | list):
        return all(map(_is_empty, value.values() if isinstance(value, dict) else value))
    return value is None


def _any_of(verdicts: Sequence[bool | None]) -> bool | None:
    return True if True in verdicts else None if None in verdicts else False


def _negated(verdict: bool | None) -> bool | None:
    return None if verdict is None else not verdict


def _fits(pattern: str, text: str) -> bool:
    regex = "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in pattern)
    return re.fullmatch(regex, text, re.DOTALL) is not None


@st.composite
def _leaves(draw: st.DrawFn) -> tuple[str, Verdict]:
    operand = draw(st.sampled_from([*_NUMERIC_FIELDS, "flag", "name", "title", *_PATHS]))
    is_path = operand in _PATHS
    is_integer = operand in ("id", "small", "big")
    values = _SCALARS
    if not is_path:
        values = {"flag": st.booleans(), "name": _TEXTS, "title": _TEXTS}.get(operand, _INTEGERS | _FLOATS)
    shape = draw(
        st.sampled_from(["compare", "in", "like", "regex", "lists", "contains", "texts", "null", "range", "fields"])
    )
    if shape == "in":
        chosen = draw(st.lists(_INTEGERS if is_integer else values, max_size=3))
        sign = draw(st.sampled_from(["in", "not in"]))

        def is_in(row: Row) -> bool | None:
            found = _at(row, operand)
            verdict = None if found is None else _any_of([_compared(found, "==", v) for v in chosen])
            return verdict if sign == "in" else _negated(verdict)

        return f"{operand} {sign} {_written(chosen)}", is_in
    if shape == "like" and (is_path or operand in ("name", "title")):
        pattern = draw(_TEXTS)

        def is_like(row: Row) -> bool | None:
            found = _at(row, operand)
            return _fits(pattern, found) if isinstance(found, str) else None

        return f"{operand} like {pattern!r}", is_like
    if shape == "regex" and (is_path or operand in ("name", "title")):
        pattern = draw(st.sampled_from(["^a", "b$", "^ab$", "a.", "[ab]+%", "^(a|b)*$", "", "a|_", "^$", "(?i)A"]))
        sign = draw(st.sampled_from(["=~", "!~"]))

        def has_match(row: Row) -> bool | None:
            found = _at(row, operand)
            verdict = re.search(pattern, found) is not None if isinstance(found, str) else None
            return verdict if sign == "=~" else _negated(verdict)

        return f"{operand} {sign} {pattern!r}", has_match
    if shape == "lists" and is_path:
        wanted = draw(st.lists(_LISTS, min_size=1, max_size=2))
        sign = draw(st.sampled_from(["==", "!=", "in", "not in"]))
        wanted = wanted if "in" in sign else wanted[:1]

        def is_list(row: Row) -> bool | None:
            found = _at(row, operand)
            if not isinstance(found, list):
                return None
            verdict = any(_same(found, w) for w in wanted)
            return verdict if sign in ("==", "in") else not verdict

        return f"{operand} {sign} {_written(wanted if 'in' in sign else wanted[0])}", is_list
    if shape == "contains" and is_path:
        wanted = draw(st.lists(st.lists(st.sampled_from([1, 2.0, "a"]), max_size=2), min_size=1, max_size=2))
        mode = draw(st.sampled_from(["", "_any", "_all"]))
        wanted = wanted if mode else wanted[:1]

        def has_lists(row: Row) -> bool | None:
            found = _at(row, operand)
            if not isinstance(found, list):
                return None
            return (all if mode == "_all" else any)(any(_same(f, w) for f in found) for w in wanted)

        return f"json_contains{mode}({operand}, {_written(wanted if mode else wanted[0])})", has_lists
    if shape == "texts" and operand in ("name", "title"):
        prefix = draw(st.sampled_from(["name", "title", "'a'", "''", "'a%'"]))
        if draw(st.booleans()):
            return f"empty({operand})", lambda row: None if row[operand] is None else row[operand] == ""

        def starts(row: Row) -> bool | None:
            text, start = row[operand], row[prefix] if prefix in row else prefix[1:-1]
            return None if text is None or start is None else text.startswith(start)

        return f"starts_with({operand}, {prefix})", starts
    if shape == "null":

        def is_null(row: Row) -> bool | None:
            found = _at(row, operand)
            return found is None if operand == "doc" or not is_path else _is_empty(found)

        return f"{operand} is null", is_null
    if shape == "range" and (is_path or operand in _NUMERIC_FIELDS):
        low, high = sorted(draw(st.lists(_INTEGERS, min_size=2, max_size=2, unique=True)))

        def is_between(row: Row) -> bool | None:
            return None if _kind(_at(row, operand)) != "number" else low < _at(row, operand) <= high

        return draw(st.sampled_from([f"{low} < {operand} <= {high}", f"{high} >= {operand} > {low}"])), is_between
    if shape == "fields" and operand in _NUMERIC_FIELDS:
        other, sign = draw(st.sampled_from(_NUMERIC_FIELDS)), draw(st.sampled_from(list(COMPARATORS)))
        return f"{operand} {sign} {other}", lambda row: _compared(row[operand], sign, row[other])
    value = draw(values)
    sign = draw(st.sampled_from(["==", "!="] if isinstance(value, bool) else list(COMPARATORS)))
    text = draw(st.sampled_from([f"{operand} {sign} {value!r}", f"{value!r} {MIRRORED[sign]} {operand}"]))
    return text, lambda row: _compared(_at(row, operand), sign, value)


def _grown(inner: st.SearchStrategy[tuple[str, Verdict]]) -> st.SearchStrategy[tuple[str, Verdict]]:
    def negation(node: tuple[str, Verdict]) -> tuple[str, Verdict]:
        return f"not ({node[0]})", lambda row: _negated(node[1](row))

    def disjunction(nodes: list[tuple[str, Verdict]]) -> tuple[str, Verdict]:
        return " or ".join(f"({n[0]})" for n in nodes), lambda row: _any_of([n[1](row) for n in nodes])

    def conjunction(nodes: list[tuple[str, Verdict]]) -> tuple[str, Verdict]:
        def verdict(row: Row) -> bool | None:
            return _negated(_any_of([_negated(n[1](row)) for n in nodes]))

        return " && ".join(f"({n[0]})" for n in nodes), verdict

    several = st.lists(inner, min_size=2, max_size=3)
    return inner.map(negation) | several.map(disjunction) | several.map(conjunction)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_ROWS, st.recursive(_leaves(), _grown, max_leaves=6))
def test_random_filters_keep_the_same_rows_as_an_oracle(rows: list[Row], node: tuple[str, Verdict]) -> None:
    text, verdict = node
    expected = [i for i, row in enumerate(rows) if verdict(row) is True]
    assert kept(text, rows) == expected, text
    assert kept_by_indexes(text, rows) == expected, text
