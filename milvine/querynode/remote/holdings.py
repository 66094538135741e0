"""The head's table: which nodes serve which segments, and which segments are being worked on."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

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
    serving: object = field(default_factory=object)
    """The same until the segment is closed or opened anew."""
    holder_ids: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "holder_ids", tuple(sorted(self.holders)))

    @property
    def bytes_by_holder(self) -> Mapping[int, int]:
        return {node_id: sum(parts.values()) for node_id, parts in self.holders.items()}


@dataclass(slots=True, eq=False)
class Opened:
    """A segment that is open on these nodes and not served yet."""

    meta: SegmentMeta
    spec: LoadSpec
    node_ids: list[int]


class Holdings:
    """Look-ups take no lock; changes take `lock`, which is notified when work on a segment has ended. What nodes have
    is counted with each change, since there may be a million segments."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self._placed: dict[int, dict[int, Placed]] = defaultdict(dict)
        self._of_node: dict[int, set[SegmentKey]] = defaultdict(set)
        self._bytes_of_node: Counter[int] = Counter()
        self._changes_of_node: Counter[int] = Counter()
        self._nodes_of: dict[int, Counter[int]] = defaultdict(Counter)
        self._version_of: Counter[int] = Counter()
        self._changed: dict[SegmentKey, None] = {}
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

    def collection_ids(self) -> list[int]:
        return [collection_id for collection_id, segments in list(self._placed.items()) if segments]

    def of_node(self, node_id: int) -> Set[SegmentKey]:
        """What a node serves; it changes under `lock`."""
        return self._of_node.get(node_id, frozenset())

    def serving(self, key: SegmentKey) -> object:
        """See Placed; None if the segment is closed."""
        one = self.get(*key)
        return None if one is None else one.serving

    def changes_of(self, node_id: int) -> int:
        """Grows with each change of what a node serves."""
        return self._changes_of_node[node_id]

    def version_of(self, collection_id: int) -> int:
        """Grows after each change of what a collection's segments are held by."""
        return self._version_of[collection_id]

    def nodes_of(self, collection_id: int) -> Set[int]:
        """The holders of a collection's segments; it changes under `lock`."""
        return self._nodes_of[collection_id].keys()

    def bytes_by_node(self) -> Mapping[int, int]:
        return self._bytes_of_node

    def take_changed(self) -> list[SegmentKey]:
        """The segments that were changed, and those whose work has ended, since the last call."""
        with self.lock:
            changed, self._changed = self._changed, {}
            return list(changed)

    def look_again(self, keys: Iterable[SegmentKey]) -> None:
        """They count as changed."""
        with self.lock:
            self._changed.update(dict.fromkeys(keys))

    def _set(self, key: SegmentKey, one: Placed | None) -> Placed | None:
        """Puts a segment in place of what was there, which is returned; None removes it. The caller has the lock."""
        segments, nodes = self._placed[key[0]], self._nodes_of[key[0]]
        before = segments.pop(key[1], None) if one is None else segments.get(key[1])
        if one is not None:
            segments[key[1]] = one
        self._version_of[key[0]] += 1
        for node_id, size in () if before is None else before.bytes_by_holder.items():
            self._bytes_of_node[node_id] -= size
            if one is None or node_id not in one.holders:
                self._of_node[node_id].discard(key)
                self._changes_of_node[node_id] += 1
                nodes[node_id] -= 1
                if not nodes[node_id]:
                    del nodes[node_id]
        for node_id, size in () if one is None else one.bytes_by_holder.items():
            self._bytes_of_node[node_id] += size
            if before is None or node_id not in before.holders:
                self._of_node[node_id].add(key)
                self._changes_of_node[node_id] += 1
                nodes[node_id] += 1
        self._changed[key] = None
        return before

    def put(self, key: SegmentKey, one: Placed) -> Placed | None:
        """Returns what it replaces."""
        with self.lock:
            return self._set(key, one)

    def pop(self, key: SegmentKey) -> Placed | None:
        with self.lock:
            self.pinned.pop(key[1], None)
            return self._set(key, None)

    def measured(self, key: SegmentKey, node_id: int, parts: Mapping[PartKey, int]) -> None:
        """The memory of a segment on one of its holders."""
        with self.lock:
            one = self._placed[key[0]].get(key[1])
            if one is not None and node_id in one.holders:
                self._set(key, replace(one, holders={**one.holders, node_id: parts}))

    def add_holder(self, key: SegmentKey, node_id: int, parts: Mapping[PartKey, int]) -> None:
        with self.lock:
            one = self._placed[key[0]].get(key[1])
            if one is not None:
                self._set(key, replace(one, holders={**one.holders, node_id: parts}))

    def keep_holders(self, key: SegmentKey, node_ids: Sequence[int]) -> list[int] | None:
        """Leaves these holders only and returns the others; None, with no change, if not all of these hold it."""
        with self.lock:
            one = self._placed[key[0]].get(key[1])
            if one is None or not set(node_ids) <= one.holders.keys():
                return None
            left = {i: one.holders[i] for i in node_ids}
            self._set(key, replace(one, holders=left))
            return [i for i in one.holders if i not in left]

    def drop_node(self, node_id: int) -> dict[int, list[int]]:
        """Forgets a holder; returns the segments that have no other, by collection."""
        lost: dict[int, list[int]] = defaultdict(list)
        with self.lock:
            for key in list(self._of_node[node_id]):
                one = self._placed[key[0]][key[1]]
                left = {i: parts for i, parts in one.holders.items() if i != node_id}
                self._set(key, replace(one, holders=left) if left else None)
                if not left:
                    lost[key[0]].append(key[1])
            for counted in (self._of_node, self._bytes_of_node, self._changes_of_node):
                counted.pop(node_id, None)
        return lost

    def set_schema(self, collection_id: int, schema: CollectionSchema) -> Set[int]:
        """Returns the holders of the collection's segments."""
        with self.lock:
            segments = self._placed[collection_id]
            for segment_id, one in segments.items():
                segments[segment_id] = replace(one, spec=replace(one.spec, schema=schema))
            return set(self.nodes_of(collection_id))

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
            self._changed[key] = None
            self.lock.notify_all()

    def pin(self, keys: Iterable[SegmentKey], node_ids: Sequence[int]) -> None:
        """Callers ask for these nodes as holders."""
        wanted = list(keys)
        self.pinned |= {segment_id: tuple(node_ids) for _, segment_id in wanted}
        self.look_again(wanted)
