"""Which neighbours are worth merging."""

from __future__ import annotations

from collections.abc import Sequence

from milvine.datanode.compaction_plans import SizeLimits, by_partition, next_merge
from milvine.model.segments import SegmentMeta

LIMITS = SizeLimits(1_000_000, 1 << 40)


def segments(*rows: int, partition_id: int = 1) -> list[SegmentMeta]:
    return [SegmentMeta(100 + i, 7, partition_id, n, i, i, n, {}) for i, n in enumerate(rows)]


def chosen(metas: Sequence[SegmentMeta], *, quiet: bool = False, forced: bool = False) -> list[int]:
    return [m.row_count for m in next_merge(metas, LIMITS, quiet=quiet, forced=forced)]


def test_three_neighbours_merge_when_the_smaller_ones_outweigh_the_largest() -> None:
    assert chosen(segments(10, 10)) == []
    assert chosen(segments(10, 10, 10)) == [10, 10, 10]
    assert chosen(segments(1000, 10, 10)) == []
    assert chosen(segments(1000, 10, 10, 10)) == [10, 10, 10]
    assert chosen(segments(10, 10, 10, 1000)) == [10, 10, 10]


def test_without_new_segments_two_merge_if_the_smaller_is_worth_rewriting_the_larger() -> None:
    assert chosen(segments(100, 5), quiet=True) == [100, 5]
    assert chosen(segments(100, 4), quiet=True) == []
    assert chosen(segments(100, 4), forced=True) == [100, 4]


def test_a_merge_stays_within_the_limits_of_rows_and_of_bytes() -> None:
    assert chosen(segments(600_000, 600_000, 300_000), forced=True) == [600_000, 300_000]
    metas = segments(10, 10, 10)
    assert len(next_merge(metas, SizeLimits(1_000_000, 20), forced=True)) == 2
    assert next_merge(segments(1_000_000), LIMITS, forced=True) == ()


def test_busy_segments_separate_their_neighbours() -> None:
    metas = segments(10, 10, 10, 10)
    assert next_merge(metas, LIMITS, {metas[1].segment_id}, forced=True) == tuple(metas[2:])
    assert next_merge(metas, LIMITS, {metas[1].segment_id}) == ()


def test_only_segments_of_one_partition_are_neighbours_in_the_order_of_their_rows() -> None:
    first, second = segments(1, 2), segments(3, 4, partition_id=2)
    assert by_partition([second[1], first[1], second[0], first[0]]) == [first, second] or by_partition(
        [second[1], first[1], second[0], first[0]]
    ) == [second, first]


def test_a_row_is_rewritten_only_a_few_times_over_many_flushes() -> None:
    metas: list[SegmentMeta] = []
    written = 0
    for number in range(1000):
        metas.append(SegmentMeta(number, 7, 1, 10, number, number, 10, {}))
        while sources := next_merge(metas, LIMITS):
            rows = sum(m.row_count for m in sources)
            written += rows
            place = metas.index(sources[0])
            merged = SegmentMeta(10_000 + number, 7, 1, rows, sources[0].min_ts, number, rows, {})
            metas = [*metas[:place], merged, *metas[place + len(sources) :]]
    assert written < 12 * 10_000
    assert len(metas) < 25
