"""Which nodes hold a segment. Pure functions: the same nodes and segments give the same placement.

Each pair of a node and a segment has a number (rendezvous hashing), and a segment goes to the nodes with the largest
ones that have room. So a node that comes or goes moves only the segments that it gains or loses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class Room:
    """A node: `key` is the same whenever it comes back, `limit_bytes` the memory that its segments may take."""

    node_id: int
    key: str
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class Share:
    """So many copies of each segment are on these nodes, each on another one."""

    rooms: Sequence[Room]
    copies: int


@lru_cache(1 << 16)
def _number(key: str, segment_id: int) -> int:
    return int.from_bytes(blake2b(f"{key} {segment_id}".encode(), digest_size=8).digest())


def preferred(rooms: Iterable[Room], segment_id: int) -> list[Room]:
    """The nodes in the order in which they get the segment."""
    return sorted(rooms, key=lambda room: _number(room.key, segment_id), reverse=True)


def placed(
    sizes: Mapping[int, int],
    shares: Mapping[int, Sequence[Share]],
    pinned: Mapping[int, Collection[int]] | None = None,
) -> dict[int, tuple[int, ...]]:
    """The ids of the nodes of each segment; fewer than its shares want if too few have room. `sizes`: bytes by segment.
    `pinned`: nodes that callers have asked for, which come first."""
    free = {room.node_id: room.limit_bytes for some in shares.values() for share in some for room in share.rooms}
    found: dict[int, tuple[int, ...]] = {}
    for segment_id in sorted(sizes):
        first = (pinned or {}).get(segment_id, ())
        chosen: list[int] = []
        for share in shares[segment_id]:
            order = [room.node_id for room in preferred(share.rooms, segment_id) if room.node_id not in chosen]
            order.sort(key=lambda node_id: node_id not in first)
            chosen += [node_id for node_id in order if free[node_id] >= sizes[segment_id]][: share.copies]
        for node_id in chosen:
            free[node_id] -= sizes[segment_id]
        found[segment_id] = tuple(chosen)
    return found
