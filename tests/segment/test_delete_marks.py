"""Which rows are dead when, against the sentence in "Versions" evaluated row by row."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_rows import chunk_of, deletes_of, joined, keys_of

from milvine.model.segments import ALL_PARTITIONS, DeleteBatch
from milvine.model.types import DataType
from milvine.segment.deletes import DeleteMarks, concat_deletes, join_marks
from milvine.segment.keys import KeyIndex
from milvine.segment.rows import alive

Delete = tuple[int, int, int]
"""Key, ts, partition."""

rows_strategy = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 20)), min_size=1, max_size=15)
deletes_strategy = st.lists(
    st.tuples(st.integers(0, 11), st.integers(1, 24), st.sampled_from([ALL_PARTITIONS, 1, 2])), max_size=12
)


def dead_by_hand(rows: list[tuple[int, int]], deletes: list[Delete], read_ts: int, partition_id: int) -> list[bool]:
    return [
        any(
            key == k and insert_ts < ts <= read_ts and partition in (partition_id, ALL_PARTITIONS)
            for k, ts, partition in deletes
        )
        for key, insert_ts in rows
    ]


def apply(rows: list[tuple[int, int]], batches: list[list[Delete]], key_type: DataType) -> DeleteMarks:
    keys = KeyIndex.build(keys_of([k for k, _ in rows], key_type))
    insert_ts = np.array([ts for _, ts in rows], np.int64)
    marks = DeleteMarks.none()
    for batch in batches:
        deletes = DeleteBatch(
            keys_of([k for k, _, _ in batch], key_type),
            np.array([ts for _, ts, _ in batch], np.int64),
            np.array([p for _, _, p in batch], np.int64),
        )
        marks = marks.with_deletes(deletes, keys, insert_ts, 1)
    return marks


def dead(marks: DeleteMarks, read_ts: int, row_count: int) -> list[bool]:
    found = marks.dead_at(read_ts)
    return [False] * row_count if found is None else found.tolist()


@pytest.mark.parametrize("key_type", [DataType.INT64, DataType.VARCHAR])
@given(rows=rows_strategy, deletes=deletes_strategy, seed=st.integers(0, 999))
@settings(max_examples=150, deadline=None)
def test_deletes_in_any_order_and_any_number_of_times_give_what_versions_says_at_every_ts(
    key_type: DataType, rows: list[tuple[int, int]], deletes: list[Delete], seed: int
) -> None:
    rng = random.Random(seed)
    mixed = [*deletes, *rng.sample(deletes, len(deletes) // 2)]
    rng.shuffle(mixed)
    batches = [list(b) for _, b in itertools.groupby(mixed, key=lambda _: rng.random() < 0.5)]
    marks = apply(rows, batches, key_type)
    for read_ts in range(26):
        assert dead(marks, read_ts, len(rows)) == dead_by_hand(rows, deletes, read_ts, 1), read_ts


def test_the_earliest_delete_counts_whichever_came_first() -> None:
    rows = [(1, 5)]
    for order in ([10, 20], [20, 10]):
        marks = apply(rows, [[(1, ts, ALL_PARTITIONS)] for ts in order], DataType.INT64)
        assert [dead(marks, ts, 1)[0] for ts in (9, 10, 15, 20, 99)] == [False, True, True, True, True]


def test_a_row_inserted_at_the_deletes_own_ts_lives_as_an_upsert_needs() -> None:
    marks = apply([(1, 10), (1, 9), (1, 11)], [[(1, 10, ALL_PARTITIONS)]], DataType.INT64)
    assert dead(marks, 99, 3) == [False, True, False]


def test_deletes_that_hit_nothing_change_nothing() -> None:
    marks = apply([(1, 10)], [[(2, 50, ALL_PARTITIONS)], [(1, 50, 2)], [(1, 10, 1)]], DataType.INT64)
    assert marks is DeleteMarks.none()
    once = apply([(1, 10)], [[(1, 20, 1)]], DataType.INT64)
    twice = apply([(1, 10)], [[(1, 20, 1)], [(1, 20, 1)], [(1, 30, 1)]], DataType.INT64)
    assert (twice.rows.tolist(), twice.ts.tolist()) == (once.rows.tolist(), once.ts.tolist()) == ([0], [20])


def test_marks_of_pieces_join_to_the_marks_of_the_whole() -> None:
    rows = [(k, 1) for k in range(12)]
    deletes = [(k, 5 + k, ALL_PARTITIONS) for k in (0, 3, 4, 11)]
    whole = apply(rows, [deletes], DataType.INT64)
    parts = (rows[:4], rows[4:5], rows[5:9], rows[9:])
    pieces = [(len(part), apply(part, [deletes], DataType.INT64)) for part in parts]
    together = join_marks(pieces)
    for read_ts in range(20):
        assert dead(together, read_ts, 12) == dead(whole, read_ts, 12)
    assert join_marks([(3, DeleteMarks.none()), (2, DeleteMarks.none())]).dead_at(99) is None


def test_rows_are_alive_from_their_insert_to_their_delete() -> None:
    chunk = joined(chunk_of([1, 2], ts=10), chunk_of([3, 1], ts=20))
    marks = chunk.marks.with_deletes(deletes_of([1], 15), chunk.keys, chunk.insert_ts, 1)
    deleted = replace(chunk, marks=marks)

    def living(read_ts: int) -> list[bool]:
        found = alive(deleted, read_ts)
        return [True] * 4 if found is None else found.tolist()

    assert living(9) == [False, False, False, False]
    assert living(10) == [True, True, False, False]
    assert living(15) == [False, True, False, False]
    assert living(20) == living(99) == [False, True, True, True]


def test_delete_batches_join_in_order() -> None:
    for key_type in (DataType.INT64, DataType.VARCHAR):
        batch = concat_deletes([deletes_of([1, 2], 5, key_type=key_type), deletes_of([3], 6, 9, key_type=key_type)])
        assert batch.keys.tolist() == keys_of([1, 2, 3], key_type).tolist()
        assert (batch.ts.tolist(), batch.partition_ids.tolist()) == ([5, 5, 6], [-1, -1, 9])
