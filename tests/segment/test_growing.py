"""Growing rows: chunks are merged and replaced, and a reader's chunks never change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_rows import GROUP, META, PK, VEC, chunk_of, deletes_of

from milvine.index.scan import squared_norms
from milvine.segment import growing
from milvine.segment.growing import Chunk, GrowingSegment
from milvine.segment.rows import alive

Row = tuple[int, int, bool]
"""Key, insert ts, alive."""


def rows_of(segment: GrowingSegment, read_ts: int = 2**62) -> list[Row]:
    found: list[Row] = []
    for chunk in segment.chunks:
        living = alive(chunk, read_ts)
        flags = [True] * chunk.row_count if living is None else living.tolist()
        found += zip(chunk.column(PK).values.tolist(), chunk.insert_ts.tolist(), flags, strict=True)
    return found


steps = st.lists(
    st.tuples(st.just("insert"), st.integers(1, 9)) | st.tuples(st.just("delete"), st.integers(0, 40)), max_size=25
)


@given(steps, st.integers(2, 60))
@settings(max_examples=120, deadline=None)
def test_merging_chunks_keeps_every_row_its_ts_and_its_deletes(steps: list[tuple[str, int]], limit: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(growing, "MAX_MERGED_ROWS", limit)
        segment = GrowingSegment(5, 1)
        expected: list[Row] = []
        history: list[tuple[GrowingSegment, list[Row]]] = []
        next_key = 0
        for ts, (what, number) in enumerate(steps, 10):
            if what == "insert":
                keys = [(next_key + i) % 30 for i in range(number)]
                next_key += number
                segment = segment.with_chunk(chunk_of(keys, ts))
                expected = [*expected, *((k, ts, True) for k in keys)]
            else:
                segment = segment.with_deletes(deletes_of([number % 30], ts))
                expected = [(k, t, living and k != number % 30) for k, t, living in expected]
            history.append((segment, expected))
        for seen, rows in history:
            assert rows_of(seen) == rows, "a view held by a reader has changed"
            assert seen.row_count == len(rows)
        for chunk in segment.chunks:
            assert chunk.max_insert_ts == chunk.insert_ts.max()
            keys = chunk.column(PK).values.tolist()
            assert np.array_equal(chunk.column(VEC).values[:, 0], keys)
            assert np.array_equal(chunk.column(GROUP).values, np.array(keys) % 100)
            assert np.array_equal(chunk.prepared[VEC], squared_norms(chunk.column(VEC).values))
            assert chunk.json_path(META, ("n",)).integers.tolist() == keys  # type: ignore[union-attr]
            for key in range(30):
                rows_with_key = chunk.keys.find(np.array([key]))[0].tolist()
                assert rows_with_key == [row for row, k in enumerate(keys) if k == key]


def test_a_read_at_an_old_ts_sees_merged_rows_as_they_were() -> None:
    segment = GrowingSegment(5, 1)
    for ts in range(10, 20):
        segment = segment.with_chunk(chunk_of([ts], ts))
    segment = segment.with_deletes(deletes_of([12], 25))
    assert [k for k, _, living in rows_of(segment, 14) if living] == [10, 11, 12, 13, 14]
    assert [k for k, _, living in rows_of(segment, 24) if living] == list(range(10, 20))
    assert [k for k, _, living in rows_of(segment, 25) if living] == [10, 11, *range(13, 20)]


def test_many_small_inserts_leave_few_chunks() -> None:
    segment = GrowingSegment(5, 1)
    for ts in range(1000):
        segment = segment.with_chunk(chunk_of([ts], ts))
        assert len(segment.chunks) <= 15, "three of each power of 4"
    assert segment.row_count == 1000
    assert len(segment.chunks) <= 10


@pytest.mark.parametrize(
    "sizes", [[2, 3, 1] * 60, [30] * 40, [1, 50] * 40, [*range(60, 0, -1)], [1, 1, 1, 70] * 20], ids=str
)
def test_inserts_of_any_sizes_leave_few_chunks_and_are_rarely_copied(
    sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "MAX_MERGED_ROWS", 100)
    copied = 0
    real = growing.join_chunks

    def counted(chunks: tuple[Chunk, ...]) -> Chunk:
        nonlocal copied
        copied += sum(c.row_count for c in chunks)
        return real(chunks)

    monkeypatch.setattr(growing, "join_chunks", counted)
    segment = GrowingSegment(5, 1)
    for ts, size in enumerate(sizes):
        segment = segment.with_chunk(chunk_of(range(size), ts))
    assert max(c.row_count for c in segment.chunks) <= 100
    assert len(segment.chunks) <= sum(sizes) / 50 + 10
    assert copied <= 3 * sum(sizes)


def test_large_chunks_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    large = [chunk_of(range(100 * i, 100 * i + 100), 10 + i) for i in range(4)]
    monkeypatch.setattr(growing, "MAX_MERGED_BYTES", 2 * large[0].bytes_used - 1)
    segment = GrowingSegment(5, 1)
    for chunk in large:
        segment = segment.with_chunk(chunk)
    for ts in range(20, 30):
        segment = segment.with_chunk(chunk_of([1000 + ts], ts))
    assert [a is b for a, b in zip(segment.chunks, large, strict=False)] == [True] * 4
    assert len(segment.chunks) <= 8
    assert [k for k, _, _ in rows_of(segment)] == [*range(400), *range(1020, 1030)]


def test_bytes_used_grow_with_the_rows() -> None:
    small = GrowingSegment(5, 1).with_chunk(chunk_of(range(10)))
    large = small.with_chunk(chunk_of(range(1000)))
    assert large.bytes_used > 50 * small.bytes_used > 0
