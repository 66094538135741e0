"""The codes of groups: equal where all values are, counted in a cache, gone with their owner."""

from __future__ import annotations

import gc
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from milvine.segment.group_codes import KnownGroups, coded, group_codes, rows_by_group


@pytest.mark.parametrize("field_count", [1, 2, 3])
def test_rows_of_one_code_have_the_values_of_their_group(field_count: int) -> None:
    rng = random.Random(field_count)
    columns: list[list[Any]] = [[rng.choice([None, 1, 2, 3]) for _ in range(200)]]
    columns.append([rng.choice([None, "", "a", "b"]) for _ in range(200)])
    columns.append([rng.choice([None, True, False]) for _ in range(200)])
    found = coded([pa.array(column) for column in columns[:field_count]])
    rows = list(zip(*columns[:field_count], strict=True))
    groups = list(zip(*(array.to_pylist() for array in found.values), strict=True))
    assert [groups[code] for code in found.codes.tolist()] == rows
    assert len(groups) == len(set(rows))


def test_codes_are_made_once_and_go_with_their_owner() -> None:
    before, made = group_codes.bytes_used, []

    def values() -> list[Any]:
        made.append(1)
        return [pa.array([1, 2, 1])]

    owner = KnownGroups()
    first = owner.find("field", values)
    assert owner.find("field", values) is first
    assert made == [1]
    assert group_codes.bytes_used == before + first.bytes_used
    del owner
    gc.collect()
    KnownGroups().find("other", lambda: [pa.array([], pa.int64())])
    assert group_codes.bytes_used == before


def test_the_rows_of_groups_are_found_by_their_codes() -> None:
    groups = coded([pa.array(["b", "a", None, "b", "a", "b"])])
    found = rows_by_group(groups)
    wanted = [code for code, value in enumerate(groups.values[0].to_pylist()) if value in ("b", None)]
    assert sorted(found.of(np.array(wanted)).tolist()) == [0, 2, 3, 5]
    assert found.of(np.array([], np.int64)).tolist() == []
