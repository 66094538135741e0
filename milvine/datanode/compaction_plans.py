"""Chooses the segments to merge: pure functions over records of the catalog.

Neighbours (by age, of one partition) merge in steps that grow like powers of two, so that a row is rewritten
O(log rows) times; the rest is merged only when no more rows come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from milvine.model.records import record
from milvine.model.segments import SegmentMeta

MIN_SEGMENTS = 3
QUIET_SHARE = 20
"""In quiet, a merge must add at least a 20th to the largest segment; less is not worth rewriting it."""


@record
class SizeLimits:
    """The limits of a merged segment."""

    rows: int
    data_bytes: int


def by_partition(metas: Iterable[SegmentMeta]) -> list[list[SegmentMeta]]:
    """Segments of each partition, oldest rows first."""
    found: dict[int, list[SegmentMeta]] = {}
    for meta in sorted(metas, key=lambda m: (m.min_ts, m.segment_id)):
        found.setdefault(meta.partition_id, []).append(meta)
    return list(found.values())


def _pays(count: int, largest: int, total: int, *, quiet: bool, forced: bool) -> bool:
    if count < 2:
        return False
    rest = total - largest
    return forced or (count >= MIN_SEGMENTS and rest >= largest) or (quiet and rest * QUIET_SHARE >= largest)


def next_merge(
    metas: Sequence[SegmentMeta],
    limits: SizeLimits,
    busy: Collection[int] = (),
    *,
    quiet: bool = False,
    forced: bool = False,
) -> tuple[SegmentMeta, ...]:
    """The first neighbours of one partition, oldest first, that are worth merging now; () if none are.

    `quiet`: no segment was added for a while. `forced`: all segments that fit together merge.
    """
    for start in range(len(metas)):
        rows = data_bytes = largest = end = 0
        for place in range(start, len(metas)):
            meta = metas[place]
            rows, data_bytes = rows + meta.row_count, data_bytes + meta.data_bytes
            if meta.segment_id in busy or rows > limits.rows or data_bytes > limits.data_bytes:
                break
            largest = max(largest, meta.row_count)
            if _pays(place + 1 - start, largest, rows, quiet=quiet, forced=forced):
                end = place + 1
        if end:
            return tuple(metas[start:end])
    return ()
