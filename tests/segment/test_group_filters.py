"""Searches among the rows of some groups, against sorting all rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from segment_rows import DIM, GROUP, PK, SCHEMA, VEC, chunk_of, joined

from milvine.index.base import Effort
from milvine.index.exact import exact_of
from milvine.model.types import MetricType
from milvine.segment.groups import GroupField, GroupFilter
from milvine.segment.plans import SearchPlan
from milvine.segment.search import search_row_sets

GROUPS = [3, 7, 40]
Row = tuple[float, int, int]


def _plan(query: Any, k: int, groups: GroupFilter) -> SearchPlan:
    return SearchPlan(
        field_id=VEC,
        queries=query[None],
        k=k,
        metric=MetricType.L2,
        exact=exact_of(SCHEMA.by_id[VEC]),
        effort=Effort(64, 8, 10),
        read_ts=2**62,
        predicate=None,
        partition_ids=None,
        output_field_ids=(GROUP,),
        primary_field_id=PK,
        groups=groups,
    )


def _sorted_rows(keys: Any, vectors: Any, query: Any) -> list[Row]:
    """(distance, key, group) of the rows of the groups, one per key."""
    near: dict[int, float] = {}
    for key, vector in zip(keys.tolist(), vectors, strict=True):
        distance = float(np.sum((vector - query) ** 2, dtype=np.float32))
        if key % 100 in GROUPS:
            near[key] = min(distance, near.get(key, np.inf))
    return sorted((distance, key, key % 100) for key, distance in near.items())


@pytest.mark.parametrize("best", [1, 3, 0])
@pytest.mark.parametrize("has_ties", [False, True])
@pytest.mark.parametrize("repeats_keys", [False, True])
def test_the_best_rows_of_each_group_are_found(best: int, has_ties: bool, repeats_keys: bool) -> None:
    rng = np.random.default_rng(best)
    keys = np.arange(1000)
    if repeats_keys:
        keys[500:700] = keys[:200]
    vectors = rng.integers(0, 2, (1000, DIM)).astype(np.float32) if has_ties else rng.random((1000, DIM), np.float32)
    rows = joined(chunk_of(keys[:400], 10, vectors[:400]), chunk_of(keys[400:], 11, vectors[400:]))
    query = vectors[5] + np.float32(0.25)
    groups = GroupFilter((GroupField(GROUP),), (pa.array(GROUPS),), excludes=False, best=best)
    hits = search_row_sets([rows], _plan(query, 1000, groups))
    assert hits is not None
    found = list(zip(hits.distances.tolist(), hits.rows.columns[PK].values.tolist(), strict=True))
    wanted = _sorted_rows(keys, vectors, query)
    if not best or repeats_keys:
        assert [key for _, key in found] == [key for _, key, _ in wanted]
        return
    # All rows as near as the last needed one of their group, and no others, in order of distance and key.
    last = {group: [d for d, _, g in wanted if g == group][best - 1] for group in GROUPS}
    needed = [(distance, key) for distance, key, group in wanted if distance <= last[group]]
    assert [key for _, key in found] == [key for _, key in needed]
    np.testing.assert_allclose([d for d, _ in found], [d for d, _ in needed], rtol=1e-5)
    few = search_row_sets([rows], _plan(query, 2, groups))
    assert few is not None
    assert few.rows.columns[PK].values.tolist() == [key for _, key in needed[:2]]


def test_other_groups_are_excluded_row_by_row() -> None:
    rows = chunk_of(np.arange(300))
    groups = GroupFilter((GroupField(GROUP),), (pa.array(GROUPS),), excludes=False)
    inside, outside = groups.mask(rows), replace(groups, excludes=True).mask(rows)
    assert inside.tolist() == [number % 100 in GROUPS for number in range(300)]
    assert (inside ^ outside).all()


def test_rows_that_are_no_hits_are_not_needed() -> None:
    rows = chunk_of(np.arange(300))
    groups = GroupFilter((GroupField(GROUP),), (pa.array(GROUPS),), excludes=False, best=2)
    assert groups.are_needed(rows, np.zeros(0, np.int64), np.zeros(0, np.float32)).tolist() == []
