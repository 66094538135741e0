"""Which nodes hold a segment. Pure functions of nodes, segments and what is held.

Each pair of a node and a segment has a number (rendezvous hashing), and a segment goes to the nodes with the largest
ones that have room. So a node that comes or goes moves only the segments that it gains or loses. What a node holds
keeps its room, so a segment that finds a node full never drives another one away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np

from milvine.model.records import record

Array = np.ndarray[Any, Any]
_PAIRS_AT_A_TIME = 1 << 20
_SPARE = 4
"""So many nodes beyond the copies are looked at before all are put in order."""


@record
class Room:
    """A node: `key` is the same whenever it comes back, `limit_bytes` the memory that its segments may take. `labels`:
    what resource groups choose nodes by."""

    node_id: int
    key: str
    limit_bytes: int
    labels: Mapping[str, str] = field(default_factory=dict)


@lru_cache(1 << 14)
def _seed(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest())


def _mixed(values: Array) -> Array:
    """uint64 whose bits all depend on all bits of the given ones (the finalizer of splitmix64)."""
    values = (values ^ (values >> 30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> 27)) * np.uint64(0x94D049BB133111EB)
    mixed: Array = values ^ (values >> 31)
    return mixed


class Rooms(Sequence[Room]):
    """Nodes that may hold the same segments."""

    def __init__(self, rooms: Iterable[Room]) -> None:
        self._rooms = tuple(rooms)
        self.limits = {room.node_id: room.limit_bytes for room in self._rooms}
        self.ids = np.array([room.node_id for room in self._rooms], np.int64)
        self._seeds = np.array([_seed(room.key) for room in self._rooms], np.uint64)

    def __len__(self) -> int:
        return len(self._rooms)

    def __getitem__(self, place):  # type: ignore[no-untyped-def]
        return self._rooms[place]

    def numbers(self, segment_ids: Sequence[int], places: Array | None = None) -> Array:
        """uint64 (segments, nodes): a segment goes to the nodes with the largest ones. `places` (segments, n): those of
        the nodes that are looked at."""
        mixed = _mixed(np.asarray(segment_ids, np.int64).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15))
        return _mixed(mixed[:, None] ^ (self._seeds if places is None else self._seeds[places]))

    def preferred(self, segment_id: int) -> list[int]:
        """The ids of the nodes in the order in which they get the segment."""
        order: list[int] = self.ids[np.argsort(~self.numbers([segment_id])[0], kind="stable")].tolist()
        return order

    def first(self, segment_ids: Sequence[int], count: int) -> list[list[int]]:
        """The first nodes of each segment, as `preferred` has them."""
        numbers = ~self.numbers(segment_ids)
        if count < len(self):
            places = np.argpartition(numbers, count, axis=1)[:, :count]
            numbers = np.take_along_axis(numbers, places, 1)
            order = np.take_along_axis(places, np.argsort(numbers, axis=1, kind="stable"), 1)
        else:
            order = np.argsort(numbers, axis=1, kind="stable")
        found: list[list[int]] = self.ids[order].tolist()
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """So many copies of each segment are on these nodes, each on another one."""

    rooms: Rooms
    copies: int


@record
class Wanted:
    """A segment to be placed: what it takes, who holds it, and which nodes callers have asked for, which come first."""

    segment_id: int
    size: int
    holders: Collection[int] = ()
    pinned: Collection[int] = ()


def placed(wanted: Sequence[Wanted], shares: Sequence[Share], free: dict[int, int]) -> dict[int, tuple[int, ...]]:
    """The ids of the nodes of each segment; fewer than the shares want if too few have room. A node that holds more
    than it may take gives segments away.

    `free`: the bytes that are left on each node, without what holders keep. What is given to a segment is taken from
    them.
    """
    found: dict[int, tuple[int, ...]] = {}
    count = max(1, _PAIRS_AT_A_TIME // max((len(share.rooms) for share in shares), default=1))
    for start in range(0, len(wanted), count):
        some = wanted[start : start + count]
        ids = [one.segment_id for one in some]
        firsts = [share.rooms.first(ids, share.copies + len(shares) + _SPARE) for share in shares]
        for one, *orders in zip(some, *firsts, strict=True):
            chosen: list[int] = []
            for share, order in zip(shares, orders, strict=True):
                chosen += _chosen(one, share, order, chosen, free)
            for node_id in chosen:
                if node_id not in one.holders:
                    free[node_id] -= one.size
            for node_id in one.holders:
                if node_id not in chosen and free.get(node_id, 0) < 0:  # so that it gives away no more than it must
                    free[node_id] += one.size
            found[one.segment_id] = tuple(chosen)
    return found


def _chosen(
    one: Wanted, share: Share, first: Sequence[int], others: Collection[int], free: Mapping[int, int]
) -> list[int]:
    """The nodes of a share that have room. A holder has, unless it has more than it may take."""

    def with_room(order: Sequence[int]) -> list[int]:
        fitting = (i for i in order if i not in others and free.get(i, -1) >= (0 if i in one.holders else one.size))
        return list(islice(fitting, share.copies))

    if not one.pinned:
        chosen = with_room(first)
        if len(chosen) == share.copies or len(first) == len(share.rooms):
            return chosen
    return with_room(sorted(share.rooms.preferred(one.segment_id), key=lambda i: i not in one.pinned))
