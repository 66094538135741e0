"""Which segments are to move, and where to. Looks only at what has changed: segments, nodes, groups, replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any

import numpy as np

from milvine.querynode.remote.holdings import HERE, Holdings, Placed
from milvine.querynode.remote.placement import Room, Rooms, Share, Wanted, placed
from milvine.querynode.remote.remote_node import SegmentKey
from milvine.segment.sealed import part_sizes

Array = np.ndarray[Any, Any]
Targets = tuple[int, ...]
_AT_A_TIME, _COMPARED_AT_A_TIME = 64, 10_000
LOOKED_AT_IN_A_TURN = 20_000
"""At most so many segments. Those that found no room are looked at again and again."""
Shares = Sequence[Share]


class Moves:
    """Used by one thread."""

    def __init__(self, holdings: Holdings, shares_of: Callable[[int], Shares]) -> None:
        """`shares_of` tells where copies of a collection's segments are to be: the same object while nothing has
        changed."""
        self._holdings = holdings
        self._shares_of = shares_of
        self._shares: dict[int, Shares] = {}
        self._doubts: dict[SegmentKey, None] = {}
        """Segments that may not be where they should be, those that have waited longest first."""
        self._coming: dict[SegmentKey, tuple[Set[int], int]] = {}
        """Nodes that segments are on their way to, and the bytes that each takes."""

    @property
    def waiting(self) -> int:
        """How many segments are still to be looked at."""
        return len(self._doubts)

    def wanted(self, rooms: Iterable[Room], doubtful: Set[int], most: int) -> dict[SegmentKey, Targets]:
        """The nodes of some of the segments, about `most` at a time, that are not where they should be. A caller who
        does not move one says so by `Holdings.look_again`. `rooms`: all nodes. Nothing is moved to a `doubtful` one."""
        for key in self._holdings.take_changed():
            self._coming.pop(key, None)
            self._doubts[key] = None
        self._compare_shares()
        if not self._doubts:
            return {}
        free = self._free(rooms)
        found: dict[SegmentKey, Targets] = {}
        left = min(len(self._doubts), LOOKED_AT_IN_A_TURN)
        while left > 0 and len(found) < most:
            keys = [key for key, _ in zip(self._doubts, range(min(_AT_A_TIME, left)), strict=False)]
            left -= len(keys)
            for key in keys:
                del self._doubts[key]
            found |= self._settled(keys, free, doubtful)
        return found

    def _free(self, rooms: Iterable[Room]) -> dict[int, int]:
        taken = self._holdings.bytes_by_node()
        free = {room.node_id: room.limit_bytes - taken.get(room.node_id, 0) for room in rooms}
        for node_ids, size in self._coming.values():
            for node_id in node_ids:
                if node_id in free:
                    free[node_id] -= size
        return free

    def _settled(
        self, keys: Sequence[SegmentKey], free: dict[int, int], doubtful: Set[int]
    ) -> dict[SegmentKey, Targets]:
        """The nodes of those that are elsewhere."""
        by_collection: dict[int, list[tuple[SegmentKey, Placed, Wanted]]] = {}
        for key in keys:
            if (one := self._holdings.get(*key)) is not None:
                by_collection.setdefault(key[0], []).append((key, one, self._as_wanted(key, one)))
        found: dict[SegmentKey, Targets] = {}
        for collection_id, some in by_collection.items():
            shares = self._shares_of(collection_id)
            copies = sum(share.copies for share in shares)
            targets = placed([wanted for *_, wanted in some], shares, free)
            for key, one, wanted in some:
                node_ids = targets[key[1]]
                added = set(node_ids) - one.holders.keys()
                if len(node_ids) < copies or doubtful & added:
                    self._doubts[key] = None
                if not node_ids or doubtful & added:
                    continue
                if added or len(one.holders) > len(node_ids):
                    found[key] = node_ids
                    self._coming[key] = added, wanted.size
        return found

    def _as_wanted(self, key: SegmentKey, one: Placed) -> Wanted:
        holders = {i: size for i, size in one.bytes_by_holder.items() if i != HERE}
        size = max([sum(part_sizes(one.meta, one.spec).values()), *holders.values()])
        return Wanted(key[1], size, holders, self._holdings.pinned.get(key[1], ()))

    # Changes of nodes

    def _compare_shares(self) -> None:
        """Adds the segments that changed nodes or numbers of copies concern."""
        ids = self._holdings.collection_ids()
        for collection_id in ids:
            shares = self._shares_of(collection_id)
            before = self._shares.get(collection_id)
            if before is not shares:
                self._shares[collection_id] = shares
                if before is not None:
                    self._doubts.update(dict.fromkeys(self._concerned(collection_id, before, shares)))
        for collection_id in self._shares.keys() - set(ids):
            del self._shares[collection_id]

    def _concerned(self, collection_id: int, before: Shares, now: Shares) -> list[SegmentKey]:
        """Those that lack a copy are in doubt anyway."""
        if len(before) != 1 or len(now) != 1 or before[0].copies != now[0].copies:
            return [(collection_id, segment_id) for segment_id in list(self._holdings.of(collection_id))]
        known, kept = ({room.node_id for room in shares[0].rooms} for shares in (before, now))
        with self._holdings.lock:
            left = [key for i in known - kept for key in self._holdings.of_node(i) if key[0] == collection_id]
        came = Rooms(room for room in now[0].rooms if room.node_id not in known)
        return left + self._better_on(came, now[0], collection_id) if came else left

    def _better_on(self, came: Rooms, share: Share, collection_id: int) -> list[SegmentKey]:
        """The segments of a collection that go to one of the nodes that came rather than to a holder."""
        places = {room.node_id: place for place, room in enumerate(share.rooms)}
        held = [
            (segment_id, [places[i] for i in one.holders])
            for segment_id, one in list(self._holdings.of(collection_id).items())
            if len(one.holders) == share.copies and one.holders.keys() <= places.keys()
        ]
        found: list[SegmentKey] = []
        for start in range(0, len(held), _COMPARED_AT_A_TIME):
            some = held[start : start + _COMPARED_AT_A_TIME]
            ids = [segment_id for segment_id, _ in some]
            worst = share.rooms.numbers(ids, np.array([holders for _, holders in some])).min(axis=1)
            is_better = came.numbers(ids).max(axis=1) > worst
            found += [(collection_id, ids[place]) for place in np.flatnonzero(is_better)]
        return found
