"""Which nodes hold the segments of a large read, as arrays: a thousand nodes may have a million of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from itertools import chain
from typing import Any

import numpy as np

from milvine.querynode.remote.holdings import Placed

Array = np.ndarray[Any, Any]


class Layout:
    """It stays as it was when it was made. Nodes are numbered in it; the number after the last stands for nobody."""

    def __init__(self, segment_ids: tuple[int, ...], version: int, holders: Sequence[tuple[int, ...]]) -> None:
        """`version`: that of the holdings of the collection. `holders`: nodes by segment."""
        self.segment_ids = segment_ids
        self.version = version
        self._ids: Array = np.fromiter(segment_ids, np.int64, len(segment_ids))
        self.node_ids = sorted(set(chain.from_iterable(set(holders))))
        self._number_of = {node_id: number for number, node_id in enumerate(self.node_ids)}
        nobody = -1
        copies = max(map(len, holders))
        even = [one + (nobody,) * (copies - len(one)) if len(one) < copies else one for one in holders]
        found = np.fromiter(chain.from_iterable(even), np.int64, copies * len(holders)).reshape(-1, copies).T
        numbers = np.searchsorted(np.array(self.node_ids), found)
        numbers[found == nobody] = len(self.node_ids)
        kind = np.uint16 if len(self.node_ids) < np.iinfo(np.uint16).max else np.uint32
        self._holders: Array = np.ascontiguousarray(numbers, kind)
        """By copy and segment."""

    def chosen(self, order: Sequence[int]) -> dict[int, Array] | None:
        """Places of segments by node: each is read by the holder that comes first in `order`. None if one has none."""
        nobody = len(order)
        ranks = np.full(len(self.node_ids) + 1, nobody, self._holders.dtype)
        ranks[[self._number_of[node_id] for node_id in order]] = np.arange(nobody)
        best = ranks[self._holders].min(axis=0)
        by_rank = np.argsort(best, kind="stable")
        counts = np.bincount(best, minlength=nobody + 1)
        if counts[nobody]:
            return None
        ends = np.cumsum(counts)
        return {
            node_id: by_rank[end - count : end]
            for node_id, count, end in zip(order, counts.tolist(), ends.tolist(), strict=False)
            if count
        }

    def ids_at(self, places: Array) -> tuple[int, ...]:
        return tuple(self._ids[places].tolist())

    def counts(self, node_ids: Set[int]) -> Array:
        """How many of the nodes hold each segment, by place."""
        marks = np.array([*(node_id in node_ids for node_id in self.node_ids), False], np.uint8)
        found: Array = marks[self._holders].sum(axis=0, dtype=np.uint8)
        return found


def layout_of(segment_ids: tuple[int, ...], version: int, segments: Mapping[int, Placed]) -> Layout | None:
    """None if a segment has no holder."""
    try:
        return Layout(segment_ids, version, [segments[segment_id].holder_ids for segment_id in segment_ids])
    except KeyError:
        return None
