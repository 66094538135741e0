"""Which delta files are joined, and which deletes are left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from milvine.datanode.delta_merge import MAX_FILES, still_needed, worth_merging
from milvine.model.columns import MAX_JOINED_BYTES
from milvine.model.segments import ALL_PARTITIONS, DeleteBatch, DeltaMeta, SegmentMeta

ENOUGH = MAX_FILES + 1


def deltas(*row_counts: int) -> list[DeltaMeta]:
    """Ids and newest timestamps count from 1."""
    return [DeltaMeta(i, 1, rows, i, 100) for i, rows in enumerate(row_counts, 1)]


def segment(min_ts: int, *, folded_ts: int = 0, partition_id: int = 7) -> SegmentMeta:
    return SegmentMeta(min_ts, 1, partition_id, 10, min_ts, min_ts + 5, 100, {}, folded_ts=folded_ts)


def batch(*deletes: tuple[int, int]) -> DeleteBatch:
    """A batch of (timestamp, partition) pairs; the key is the position."""
    ts, partitions = np.array(deletes, np.int64).reshape(-1, 2).T
    return DeleteBatch(np.arange(len(deletes)), ts, partitions)


def kept(found: DeleteBatch | None) -> list[int]:
    return [] if found is None else [int(k) for k in found.keys]


def test_few_files_stay_and_many_are_joined_oldest_first() -> None:
    assert worth_merging(deltas(*[5] * MAX_FILES), 100) == ()
    found = deltas(*[5] * ENOUGH)
    assert worth_merging(reversed(found), 100) == tuple(found)


def test_files_that_are_too_large_together_are_not_joined() -> None:
    small = deltas(*[5] * ENOUGH)
    large = [replace(d, delta_id=99 + i, row_count=9, file_bytes=MAX_JOINED_BYTES // 2) for i, d in enumerate(small)]
    assert worth_merging([*small, *large], 100) == tuple(sorted([*small, large[0]], key=lambda d: d.max_ts))


def test_files_within_the_retention_are_left_alone() -> None:
    found = deltas(*[5] * (ENOUGH + 3))
    assert worth_merging(found, ENOUGH) == tuple(found[:ENOUGH])
    assert worth_merging(found, MAX_FILES) == ()


def test_a_large_file_is_not_rewritten_for_a_few_small_ones() -> None:
    found = deltas(10_000, 900, *[5] * ENOUGH)
    assert worth_merging(found, 100) == tuple(found[2:])
    assert worth_merging(deltas(80, *[5] * ENOUGH), 100) == tuple(deltas(80, *[5] * ENOUGH)), (
        "it is no larger than their sum"
    )


def test_every_delete_is_rewritten_a_logarithmic_number_of_times() -> None:
    files, written, flushes = deltas(), 0, 3000
    for number in range(flushes):
        files.append(DeltaMeta(10_000 + number, 1, 10, number, 100))
        if sources := worth_merging(files, flushes):
            rows = sum(d.row_count for d in sources)
            written += rows
            files = [d for d in files if d not in sources]
            files.append(DeltaMeta(20_000 + number, 1, rows, number, 100))
    assert len(files) <= 2 * MAX_FILES
    assert written < 12 * 10 * flushes


def test_a_delete_stays_while_a_segment_of_its_partition_has_older_rows_that_were_not_folded() -> None:
    deletes = batch((10, 7), (20, 7), (30, 7), (20, 8), (20, ALL_PARTITIONS), (5, ALL_PARTITIONS))
    assert kept(still_needed(deletes, [])) == []
    assert kept(still_needed(deletes, [segment(15)])) == [1, 4, 2]
    assert kept(still_needed(deletes, [segment(1, folded_ts=20)])) == [2]
    assert kept(still_needed(deletes, [segment(1, folded_ts=20), segment(10, partition_id=8)])) == [3, 4, 2]
    assert kept(still_needed(deletes, [segment(20)])) == [2], "an upsert's delete does not kill its own row"


def test_deletes_of_text_keys_are_in_ts_order() -> None:
    deletes = DeleteBatch(pa.array(["b", "a"]), np.array([9, 8]), np.array([7, ALL_PARTITIONS]))
    found = still_needed(deletes, [segment(1)])
    assert found is not None
    assert (found.keys.to_pylist(), found.ts.tolist(), found.partition_ids.tolist()) == (["a", "b"], [8, 9], [-1, 7])
