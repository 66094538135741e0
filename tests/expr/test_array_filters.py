"""Filters over arrays: fixed cases with NULL and empty arrays, and random ones against Python's own lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import filter_rows
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milvine.errors import ParameterInvalid
from milvine.expr import compile_filter

ROWS: list[dict[str, Any]] = [
    {"nums": [1, 2, 3], "tags": ["a", "b"], "reals": [0.1, 2.0], "flags": [True], "doc": {"l": [1, "x", 2.5]}},
    {"nums": [], "tags": [], "reals": [], "flags": [], "doc": {"l": []}},
    {"nums": None, "tags": None, "reals": [3.0], "flags": [False, True], "doc": None},
    {
        "nums": [3, 3],
        "tags": ["b", ""],
        "reals": [0.1],
        "flags": [False],
        "doc": {"l": 7},
        "$meta": {"extra": [3, None]},
    },
    {"nums": [1], "tags": ["abc"], "reals": [], "flags": [], "doc": [1, [2], True]},
]


def kept(text: str, rows: Sequence[Mapping[str, Any]] = ROWS, **templates: object) -> list[int]:
    return filter_rows.kept(text, rows, **templates)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nums[0] == 1", [0, 4]),
        ("nums[0] != 1", [3]),
        ("not (nums[0] == 1)", [3]),
        ("nums[1] >= 2", [0, 3]),
        ("nums[9] == 1 or nums[0] == 3", [3]),
        ("1 <= nums[0] < 3", [0, 4]),
        ("nums[0] in [1, 2]", [0, 4]),
        ("nums[0] not in [1, 2]", [3]),
        ("reals[0] == 0.1", [0, 3]),
        ("reals[0] > 2", [2]),
        ("flags[0] == true", [0]),
        ("tags[0] == 'b'", [3]),
        ("tags[0] like 'a%'", [0, 4]),
        ("tags[1] == ''", [3]),
        ("nums == [1, 2, 3]", [0]),
        ("nums == []", [1]),
        ("nums != [3, 3]", [0, 1, 4]),
        ("tags == ['b', '']", [3]),
        ("array_contains(nums, 3)", [0, 3]),
        ("not array_contains(nums, 3)", [1, 4]),
        ("ARRAY_CONTAINS(tags, 'b')", [0, 3]),
        ("array_contains(reals, 0.1)", [0, 3]),
        ("array_contains(reals, 2)", [0]),
        ("array_contains(flags, false)", [2, 3]),
        ("array_contains_any(nums, [2, 3, 99])", [0, 3]),
        ("array_contains_any(nums, [2.5, 1.0])", [0, 4]),
        ("array_contains_any(nums, [])", []),
        ("array_contains_all(nums, [1, 3])", [0]),
        ("array_contains_all(nums, [3, 3])", [0, 3]),
        ("array_contains_all(nums, [1, 1.5])", []),
        ("array_contains_all(nums, [])", [0, 1, 3, 4]),
        ("not array_contains_all(tags, ['a', 'b'])", [1, 3, 4]),
        ("ARRAY_CONTAINS_ALL(tags, ['a', 'b'])", [0]),
        ("array_contains_all(flags, [true, false])", [2]),
        ("array_length(nums) == 0", [1]),
        ("array_length(nums) != 2", [0, 1, 4]),
        ("ARRAY_LENGTH(tags) in [1, 2]", [0, 3, 4]),
        ("0 < array_length(nums) < 3", [3, 4]),
        ("array_length(nums) == 1 or array_length(nums) == 3", [0, 4]),
        ("nums is null", [2]),
        ("nums is not null", [0, 1, 3, 4]),
        ("json_contains(doc['l'], 1)", [0]),
        ("json_contains(doc['l'], 'x')", [0]),
        ("json_contains(doc, true)", [4]),
        ("not json_contains(doc['l'], 1)", [1]),
        ("json_contains(extra, 3)", [3]),
        ("json_contains_any(doc['l'], ['x', 9])", [0]),
        ("JSON_CONTAINS_ALL(doc['l'], [1, 'x', 2.5])", [0]),
        ("json_contains_all(doc['l'], [1, 'y'])", []),
        ("json_contains_all(doc['l'], [])", [0, 1]),
        ("array_length(doc['l']) >= 0", [0, 1]),
        ("array_length(doc) == 3", [4]),
        ("array_length($meta['extra']) == 2", [3]),
    ],
)
def test_a_filter_keeps_the_rows_for_which_it_is_true_and_neither_false_nor_unknown(
    text: str, expected: list[int]
) -> None:
    assert kept(text) == expected


def test_elements_come_from_templates_too() -> None:
    assert kept("array_contains(nums, {x})", x=3) == [0, 3]
    assert kept("array_contains_all(tags, {x})", x=["b", "a"]) == [0]
    assert kept("nums == {x}", x=[3, 3]) == [3]
    assert kept("array_length(nums) > {x}", x=1) == [0, 3]


def test_a_field_may_have_the_name_of_a_function() -> None:
    assert kept("array_contains == 1", [{"$meta": {"array_contains": 1}}, {}]) == [0]


_integers = st.integers(-3, 3)
_lists = st.none() | st.lists(_integers, max_size=4)


@given(st.lists(_lists, min_size=1, max_size=8), st.lists(_integers, max_size=4), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_arrays_answer_as_lists_do(lists: list[list[int] | None], wanted: list[int], index: int) -> None:
    rows = [{"nums": v, "tags": None if v is None else [str(n) for n in v]} for v in lists]
    there = {i: v for i, v in enumerate(lists) if v is not None}
    words = [str(n) for n in wanted]

    def where(condition: Any) -> list[int]:
        return [i for i, v in there.items() if condition(v)]

    for field, literals in (("nums", wanted), ("tags", words)):
        assert kept(f"array_contains_any({field}, {{x}})", rows, x=literals) == where(lambda v: set(v) & set(wanted))
        assert kept(f"array_contains_all({field}, {{x}})", rows, x=literals) == where(lambda v: set(v) >= set(wanted))
        assert kept(f"{field} == {{x}}", rows, x=literals) == where(lambda v: v == wanted)
    assert kept(f"array_length(nums) == {index}", rows) == where(lambda v: len(v) == index)
    assert kept(f"not nums[{index}] > 0", rows) == where(lambda v: len(v) > index and v[index] <= 0)


@pytest.mark.parametrize("index", [9, 2**31 - 1, 2**31, 2**63 - 1])
def test_an_index_beyond_the_end_of_an_array_matches_nothing(index: int) -> None:
    rows: list[Mapping[str, Any]] = [{"nums": [1], "tags": ["a"], "doc": {"a": [1]}}]
    for operand, literal in (("nums", "1"), ("tags", "'a'"), ('doc["a"]', "1")):
        assert kept(f"{operand}[{index}] == {literal}", rows) == []


@pytest.mark.parametrize("index", [2**63, 10**30, "9" * 5000])
def test_an_array_index_beyond_int64_is_refused(index: Any) -> None:
    with pytest.raises(ParameterInvalid, match="json key must be enclosed in double quotes or single quotes"):
        compile_filter(f"nums[{index}] == 1", filter_rows.SCHEMA)
