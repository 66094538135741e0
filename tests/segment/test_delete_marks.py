"""Which rows are dead at which ts, compared with the rule in ARCHITECTURE.md ("Versions") row by row."""

from __future__ import annotations

import itertools
import random
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_rows import chunk_of, deletes_of, joined, keys_of

from milvine.model import columns
from milvine.model.segments import ALL_PARTITIONS, DeleteBatch
from milvine.model.types import DataType
from milvine.segment.deletes import (
    DeleteMarks,
    append_deletes,
    concat_deletes,
    join_marks,
    joined_deletes,
    split_deletes,
)
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
    living = marks.living_at(read_ts)
    return [False] * row_count if living is None else (~living).tolist()


@pytest.mark.parametrize("key_type", [DataType.INT64, DataType.VARCHAR])
@given(rows=rows_strategy, deletes=deletes_strategy, seed=st.integers(0, 999))
@settings(max_examples=150, deadline=None)
def test_deletes_in_any_order_kill_the_right_rows_at_every_ts(
    key_type: DataType, rows: list[tuple[int, int]], deletes: list[Delete], seed: int
) -> None:
    rng = random.Random(seed)
    mixed = [*deletes, *rng.sample(deletes, len(deletes) // 2)]
    rng.shuffle(mixed)
    batches = [list(b) for _, b in itertools.groupby(mixed, key=lambda _: rng.random() < 0.5)]
    marks = apply(rows, batches, key_type)
    for read_ts in range(26):
        assert dead(marks, read_ts, len(rows)) == dead_by_hand(rows, deletes, read_ts, 1), read_ts


steps_strategy = st.lists(
    st.tuples(
        st.sampled_from(["next", "late", "again", "older state"]),
        st.lists(st.integers(0, 11), min_size=1, max_size=4),
        st.sampled_from([ALL_PARTITIONS, 1, 2]),
    ),
    max_size=14,
)


@pytest.mark.parametrize("key_type", [DataType.INT64, DataType.VARCHAR])
@given(rows=rows_strategy, steps=steps_strategy, seed=st.integers(0, 999))
@settings(max_examples=150, deadline=None)
def test_marks_held_by_a_reader_never_change(
    key_type: DataType, rows: list[tuple[int, int]], steps: list[tuple[str, list[int], int]], seed: int
) -> None:
    rng = random.Random(seed)
    keys = KeyIndex.build(keys_of([k for k, _ in rows], key_type))
    insert_ts = np.array([ts for _, ts in rows], np.int64)
    history: list[tuple[DeleteMarks, list[list[Delete]]]] = [(DeleteMarks.none(), [])]
    for ts, (how, numbers, partition_id) in enumerate(steps, 12):
        marks, batches = history[-1] if how != "older state" else rng.choice(history)
        if how == "again" and batches:
            batch = rng.choice(batches)
        else:
            batch = [(k, rng.randint(1, ts) if how == "late" else ts, partition_id) for k in numbers]
        deletes = DeleteBatch(
            keys_of([k for k, _, _ in batch], key_type),
            np.array([t for _, t, _ in batch], np.int64),
            np.array([p for _, _, p in batch], np.int64),
        )
        history.append((marks.with_deletes(deletes, keys, insert_ts, 1), [*batches, batch]))
    for marks, batches in history:
        deletes_so_far = list(itertools.chain.from_iterable(batches))
        for read_ts in range(28):
            assert dead(marks, read_ts, len(rows)) == dead_by_hand(rows, deletes_so_far, read_ts, 1), read_ts
        assert marks.count == len(set(marks.rows.tolist())) == sum(dead(marks, 99, len(rows)))
        assert marks.bytes_used >= 12 * marks.count


def test_a_reader_sees_its_own_moment_while_rows_are_deleted() -> None:
    row_count, before = 1 << 20, 500
    keys = KeyIndex.build(np.arange(row_count))
    insert_ts = np.ones(row_count, np.int64)
    first = deletes_of(range(before), range(2, 2 + before))
    state = [DeleteMarks.none().with_deletes(first, keys, insert_ts, 1)]
    wrong: list[str] = []
    ended = threading.Event()

    def read(at_newest: bool) -> None:
        while not ended.is_set():
            marks = state[0]
            read_ts = marks.newest_ts if at_newest else before // 2
            living = marks.living_at(read_ts)
            # The delete at ts kills the row ts - 2, so all rows up to read_ts - 2 are dead, and no other.
            if living is None or row_count - int(living.sum()) != read_ts - 1 or living[: read_ts - 1].any():
                wrong.append(f"at {read_ts} of {marks.newest_ts}")

    readers = [threading.Thread(target=read, args=(at_newest,)) for at_newest in (True, False)]
    for reader in readers:
        reader.start()
    for ts in range(2 + before, 2 + before + 3000):
        state[0] = state[0].with_deletes(deletes_of([ts - 2], ts), keys, insert_ts, 1)
    ended.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_a_delete_copies_neither_the_marks_nor_the_bitmap() -> None:
    keys = KeyIndex.build(np.arange(10_000))
    insert_ts = np.ones(10_000, np.int64)
    marks = DeleteMarks.none().with_deletes(deletes_of([0], 2), keys, insert_ts, 1)
    logs = set()
    for ts in range(3, 5000):
        marks = marks.with_deletes(deletes_of([ts], ts), keys, insert_ts, 1)
        logs.add((id(marks.rows.base), id(marks._log.dead)))
    assert len(logs) <= 20, "full arrays are replaced by larger ones"
    assert marks.count == 4998


@given(st.lists(st.integers(1, 40), max_size=120), st.data())
@settings(max_examples=100, deadline=None)
def test_unflushed_deletes_are_kept_in_few_batches_and_can_be_cut_anywhere(sizes: list[int], data: Any) -> None:
    batches: tuple[DeleteBatch, ...] = ()
    expected: list[tuple[int, int]] = []
    for ts, size in enumerate(sizes, 10):
        batches = append_deletes(batches, deletes_of(range(size), ts))
        expected += [(key, ts) for key in range(size)]
    count = data.draw(st.integers(0, len(expected)))
    parts = split_deletes(batches, count)
    found = [[pair for b in part for pair in zip(b.keys.tolist(), b.ts.tolist(), strict=True)] for part in parts]
    assert found == [expected[:count], expected[count:]]
    assert sum(b.bytes_used for part in parts for b in part) == sum(b.bytes_used for b in batches) == 24 * len(expected)


def test_many_single_deletes_are_kept_in_few_batches() -> None:
    batches: tuple[DeleteBatch, ...] = ()
    for ts in range(5000):
        batches = append_deletes(batches, deletes_of([ts], ts))
        assert len(batches) <= 4 * 15
    assert concat_deletes(batches).ts.tolist() == list(range(5000))


def test_the_earliest_delete_counts_in_any_order_of_arrival() -> None:
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


def test_the_joined_marks_of_pieces_equal_the_marks_of_the_whole() -> None:
    rows = [(k, 1) for k in range(12)]
    deletes = [(k, 5 + k, ALL_PARTITIONS) for k in (0, 3, 4, 11)]
    whole = apply(rows, [deletes], DataType.INT64)
    parts = (rows[:4], rows[4:5], rows[5:9], rows[9:])
    pieces = [(len(part), apply(part, [deletes], DataType.INT64)) for part in parts]
    together = join_marks(pieces)
    for read_ts in range(20):
        assert dead(together, read_ts, 12) == dead(whole, read_ts, 12)
    assert join_marks([(3, DeleteMarks.none()), (2, DeleteMarks.none())]).living_at(99) is None


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


def test_no_marks_kill_no_row() -> None:
    marks = DeleteMarks.of(np.zeros(0, np.int64), np.zeros(0, np.int64), 3)
    assert marks.count == 0
    assert marks.living_at(99) is None
    assert marks.with_marks(np.array([1]), np.array([5]), 3).living_at(5) is not None


@pytest.mark.parametrize("key_type", [DataType.INT64, DataType.VARCHAR])
def test_deletes_are_joined_up_to_a_size_in_their_order(key_type: DataType, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [deletes_of(range(size), ts, key_type=key_type) for ts, size in enumerate([3, 50, 2, 2, 1, 60, 1])]
    limit = 6 * batches[2].bytes_used // 2
    monkeypatch.setattr(columns, "MAX_JOINED_BYTES", limit)
    joined = joined_deletes(batches)
    assert [len(batch) for batch in joined] == [3, 50, 5, 60, 1]
    assert concat_deletes(joined).ts.tolist() == concat_deletes(batches).ts.tolist()
    assert concat_deletes(joined).keys.tolist() == concat_deletes(batches).keys.tolist()
    assert joined_deletes([]) == []
    few: tuple[DeleteBatch, ...] = ()
    for ts in range(200):
        few = append_deletes(few, deletes_of([ts], ts, key_type=key_type))
    assert max(batch.bytes_used for batch in few) <= limit
