"""Key look-ups, compared with a dict."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milvine.segment.keys import KeyIndex

integers = st.lists(st.integers(-5, 25) | st.integers(-(2**63), 2**63 - 1), max_size=40)
texts = st.lists(st.text(max_size=2) | st.sampled_from(["", "a", "aa", "я", "\U0001f600", "\uffff"]), max_size=40)


def check(stored: list[Any], asked: list[Any], keys: Any, wanted: Any) -> None:
    oracle: dict[Any, list[int]] = defaultdict(list)
    for row, key in enumerate(stored):
        oracle[key].append(row)
    index = KeyIndex.build(keys)
    rows, places = index.find(wanted)
    assert rows.dtype == np.int64
    found: list[tuple[int, int]] = list(zip(places.tolist(), rows.tolist(), strict=True))
    expected = [(place, row) for place, key in enumerate(asked) for row in oracle.get(key, [])]
    assert found == expected, "every row of every key, key by key, equal keys in row order"
    ends = (min(stored), max(stored)) if stored else None
    for place, key in enumerate(asked[:50]):
        assert index.may_hold(key, key) == (ends is not None and ends[0] <= key <= ends[1])
        assert index.find(wanted[place : place + 1])[0].tolist() == oracle.get(key, [])


@given(integers, integers)
@settings(max_examples=200, deadline=None)
def test_integer_keys_are_found_as_in_a_dict(stored: list[int], asked: list[int]) -> None:
    asked = asked + stored[:7]
    check(stored, asked, np.array(stored, np.int64), np.array(asked, np.int64))


@given(texts, texts)
@settings(max_examples=200, deadline=None)
def test_text_keys_are_found_as_in_a_dict(stored: list[str], asked: list[str]) -> None:
    asked = asked + stored[:7]
    check(stored, asked, pa.array(stored, pa.string()), pa.array(asked, pa.string()))


@pytest.mark.parametrize("as_text", [False, True])
def test_many_keys_with_repetitions_are_found_as_in_a_dict(as_text: bool) -> None:
    rng = np.random.default_rng(1)
    stored, asked = rng.integers(0, 20_000, 30_000), rng.integers(-100, 21_000, 5_000)
    if as_text:
        names, wanted = [f"k{x}" for x in stored], [f"k{x}" for x in asked]
        check(names, wanted, pa.array(names, pa.string()), pa.array(wanted, pa.string()))
    else:
        check(stored.tolist(), asked.tolist(), stored, asked)


def test_keys_in_a_slice_of_a_text_array_are_found() -> None:
    names = pa.array([f"k{i}" for i in range(20)], pa.string())
    rows, places = KeyIndex.build(names[5:15]).find(names[8:18])
    assert rows.tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert places.tolist() == [0, 1, 2, 3, 4, 5, 6]
