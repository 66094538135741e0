"""The top k, compared with slow oracles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milvine.segment.topk import first_by_key, key_codes, select_winners

candidates = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([-1.0, 0.0, 0.5, 0.5, 2.0, 7.0]), st.integers(-3, 6)), max_size=30
)


def as_keys(numbers: list[int], as_text: bool) -> Any:
    return pa.array([f"k{n}" for n in numbers], pa.string()) if as_text else np.array(numbers, np.int64)


def as_key(number: int, as_text: bool) -> Any:
    return f"k{number}" if as_text else number


@pytest.mark.parametrize("as_text", [False, True])
@given(found=candidates, k=st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_winners_are_the_nearest_one_per_key_with_ties_in_key_order(
    as_text: bool, found: list[tuple[int, float, int]], k: int
) -> None:
    query = np.array([q for q, _, _ in found], np.int64)
    distances = np.array([d for _, d, _ in found], np.float32)
    places, counts = select_winners(query, distances, as_keys([key for _, _, key in found], as_text), 4, k)
    expected: list[int] = []
    expected_counts: list[int] = []
    for wanted in range(4):
        best: list[int] = []
        seen: set[int] = set()
        mine = [p for p, f in enumerate(found) if f[0] == wanted]
        for place in sorted(mine, key=lambda p: (found[p][1], as_key(found[p][2], as_text), -p)):
            if found[place][2] not in seen:
                seen.add(found[place][2])
                best.append(place)
        expected += best[:k]
        expected_counts.append(len(best[:k]))
    assert places.tolist() == expected
    assert counts.tolist() == expected_counts


@pytest.mark.parametrize("as_text", [False, True])
@given(
    rows=st.lists(st.tuples(st.integers(-5, 12), st.integers(0, 4)), max_size=40),
    limit=st.none() | st.integers(1, 20),
)
@settings(max_examples=200, deadline=None)
def test_rows_come_in_key_order_and_the_newest_of_equal_keys(
    as_text: bool, rows: list[tuple[int, int]], limit: int | None
) -> None:
    keys = as_keys([k for k, _ in rows], as_text)
    insert_ts = np.array([ts for _, ts in rows], np.int64)
    found = first_by_key(keys, insert_ts, limit).tolist()
    values = keys.tolist()
    newest: dict[Any, int] = {}
    for key, ts in zip(values, insert_ts.tolist(), strict=True):
        newest[key] = max(newest.get(key, -1), ts)
    expected = sorted(newest, key=lambda key: key.encode() if isinstance(key, str) else key)
    expected = expected if limit is None else expected[:limit]
    assert [values[place] for place in found] == expected
    assert [int(insert_ts[place]) for place in found] == [newest[key] for key in expected]


@pytest.mark.parametrize("distinct", [3, 50, 4000, 10**9])
@pytest.mark.parametrize("limit", [1, 7, 100])
def test_a_small_limit_over_many_rows_equals_sorting_all(distinct: int, limit: int) -> None:
    rng = np.random.default_rng(distinct)
    keys, insert_ts = rng.integers(-distinct, distinct, 20_000), rng.permutation(20_000)
    expected = first_by_key(keys, insert_ts, None)[:limit]
    assert first_by_key(keys, insert_ts, limit).tolist() == expected.tolist()
    assert (np.diff(keys[expected]) > 0).all()
    for place in expected[:5]:
        assert insert_ts[place] == insert_ts[keys == keys[place]].max()


@given(st.lists(st.text(max_size=2), max_size=30))
@settings(max_examples=50, deadline=None)
def test_codes_are_equal_exactly_where_keys_are(keys: list[str]) -> None:
    codes = key_codes(pa.array(keys, pa.string())).tolist()
    assert len(set(codes)) == len(set(keys)) == len(set(zip(codes, keys, strict=True)))
