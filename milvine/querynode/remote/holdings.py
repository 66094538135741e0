"""The head's table: which nodes serve which segments, and which segments are being worked on."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from milvine.model.properties import PartKey
from milvine.model.resource_groups import NODE_ID
from milvine.model.schema import CollectionSchema
from milvine.model.segments import SegmentMeta
from milvine.querynode.remote.remote_node import SegmentKey
from milvine.segment.sealed import LoadSpec

HERE = NODE_ID
"""The head as a holder."""


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A served segment, with its memory by part for each holder. It is replaced as a whole."""

    meta: SegmentMeta
    spec: LoadSpec
    holders: Mapping[int, Mapping[PartKey, int]]


@dataclass(slots=True, eq=False)
class Opened:
    """A segment that is open on these nodes and not served yet."""

    meta: SegmentMeta
    spec: LoadSpec
    node_ids: list[int]


class Holdings:
    """Look-ups take no lock; changes take `lock`, which is notified when work on a segment has ended."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self._placed: dict[int, dict[int, Placed]] = defaultdict(dict)
        self._opened: dict[SegmentKey, Opened] = {}
        self._busy: set[SegmentKey] = set()
        self.pinned: dict[int, tuple[int, ...]] = {}
        """Nodes that callers have asked for, by segment."""

    # Served segments

    def get(self, collection_id: int, segment_id: int) -> Placed | None:
        return self._placed[collection_id].get(segment_id)

    def of(self, collection_id: int) -> Mapping[int, Placed]:
        """Those of a collection by id; it changes."""
        return self._placed[collection_id]

    def all(self) -> Iterator[tuple[SegmentKey, Placed]]:
        for collection_id, segments in list(self._placed.items()):
            for segment_id, one in list(segments.items()):
                yield (collection_id, segment_id), one

    def put(self, key: SegmentKey, one: Placed) -> Placed | None:
        """Returns what it replaces."""
        with self.lock:
            before = self._placed[key[0]].get(key[1])
            self._placed[key[0]][key[1]] = one
            return before

    def pop(self, key: SegmentKey) -> Placed | None:
        with self.lock:
            self.pinned.pop(key[1], None)
            return self._placed[key[0]].pop(key[1], None)

    def measured(self, key: SegmentKey, node_id: int, parts: Mapping[PartKey, int]) -> None:
        """The memory of a segment on one of its holders."""
        with self.lock:
            one = self._placed[key[0]].get(key[1])
            if one is not None and node_id in one.holders:
                self._placed[key[0]][key[1]] = replace(one, holders={**one.holders, node_id: parts})

    def add_holder(self, key: SegmentKey, node_id: int, parts: Mapping[PartKey, int]) -> None:
        with self.lock:
            one = self._placed[key[0]].get(key[1])
            if one is not None:
                self._placed[key[0]][key[1]] = replace(one, holders={**one.holders, node_id: parts})

    def keep_holders(self, key: SegmentKey, node_ids: Sequence[int]) -> list[int] | None:
        """Leaves these holders only and returns the others; None, with no change, if not all of these hold it."""
        with self.lock:
            one = self._placed[key[0]].get(key[1])
            if one is None or not set(node_ids) <= one.holders.keys():
                return None
            left = {i: one.holders[i] for i in node_ids}
            self._placed[key[0]][key[1]] = replace(one, holders=left)
            return [i for i in one.holders if i not in left]

    def drop_node(self, node_id: int) -> dict[int, list[int]]:
        """Forgets a holder; returns the segments that have no other, by collection."""
        lost: dict[int, list[int]] = defaultdict(list)
        with self.lock:
            for key, one in self.all():
                if node_id in one.holders:
                    left = {i: parts for i, parts in one.holders.items() if i != node_id}
                    if left:
                        self._placed[key[0]][key[1]] = replace(one, holders=left)
                    else:
                        del self._placed[key[0]][key[1]]
                        lost[key[0]].append(key[1])
        return lost

    def set_schema(self, collection_id: int, schema: CollectionSchema) -> set[int]:
        """Returns the holders of the collection's segments."""
        with self.lock:
            segments = self._placed[collection_id]
            for segment_id, one in segments.items():
                segments[segment_id] = replace(one, spec=replace(one.spec, schema=schema))
            return {i for one in segments.values() for i in one.holders}

    def bytes_by_node(self) -> Mapping[int, int]:
        taken: dict[int, int] = defaultdict(int)
        for _, one in self.all():
            for node_id, parts in one.holders.items():
                taken[node_id] += sum(parts.values())
        return taken

    # Openings, and work on one segment at a time

    def opened(self, key: SegmentKey) -> Opened | None:
        return self._opened.get(key)

    def put_opened(self, key: SegmentKey, opened: Opened) -> None:
        self._opened[key] = opened

    def pop_opened(self, key: SegmentKey) -> Opened | None:
        with self.lock:
            opened = self._opened.pop(key, None)
            self.lock.notify_all()
            return opened

    def working(self) -> set[SegmentKey]:
        with self.lock:
            return {*self._busy, *self._opened}

    @contextmanager
    def alone(self, key: SegmentKey) -> Iterator[None]:
        with self.lock:
            self.lock.wait_for(lambda: key not in self._busy)
            self._busy.add(key)
        try:
            yield
        finally:
            self.end(key)

    def try_alone(self, key: SegmentKey) -> bool:
        """`end` follows if it returns True."""
        with self.lock:
            if key in self._busy or key in self._opened:
                return False
            self._busy.add(key)
            return True

    def end(self, key: SegmentKey) -> None:
        with self.lock:
            self._busy.discard(key)
            self.lock.notify_all()

    def pin(self, segment_ids: Iterable[int], node_ids: Sequence[int]) -> None:
        self.pinned |= {segment_id: tuple(node_ids) for segment_id in segment_ids}
