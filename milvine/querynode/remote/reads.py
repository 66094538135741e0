"""Reads by nodes: which holder reads which segment, and the calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from milvine import metrics
from milvine.querynode.local_node import LocalNode
from milvine.querynode.remote.delete_feed import DeleteFeed
from milvine.querynode.remote.fan_out import FanOut, Routes
from milvine.querynode.remote.holdings import HERE, Holdings
from milvine.querynode.remote.members import Members
from milvine.querynode.remote.rpc import PendingCall

_READ_SECONDS = 60.0
_BRIEFLY, _PATIENTLY = 0.2, 10.0
"""How long a node waits for deletes: if another holder can be asked, and if there is none."""


class Reads:
    """Threads share it; it takes no lock."""

    def __init__(self, local: LocalNode, members: Members, holdings: Holdings, feed: DeleteFeed) -> None:
        self.local = local
        self._members = members
        self._holdings = holdings
        self._feed = feed

    def run(self, name: str, collection_id: int, segment_ids: Sequence[int], read_ts: int | None, *more: Any) -> Any:
        """The results of all holders that were asked. `name`: a method of a QueryNode; `more`: its other arguments."""
        number = 0 if read_ts is None else self._feed.number_at(collection_id, read_ts)
        return FanOut(_Reading(self, name, collection_id, number, more)).run(segment_ids)

    def routes(self, collection_id: int, segment_ids: Sequence[int], tried: frozenset[int]) -> Routes | None:
        """A holder for each segment, as few of them as possible, idle and answering ones first."""
        segments, members = self._holdings.of(collection_id), self._members
        holders: list[tuple[int, list[int]]] = []
        for segment_id in segment_ids:
            one = segments.get(segment_id)
            usable = [] if one is None else [i for i in one.holders if i not in tried and (i == HERE or i in members)]
            if not usable:
                return None
            holders.append((segment_id, usable))
        seen = {i for _, usable in holders for i in usable}
        order = {i: place for place, i in enumerate(sorted(seen, key=self._load_of))}
        found: dict[int, list[int]] = defaultdict(list)
        for segment_id, usable in holders:
            found[min(usable, key=order.__getitem__)].append(segment_id)
        return {i: tuple(ids) for i, ids in found.items()}

    def _load_of(self, node_id: int) -> tuple[bool, int, int]:
        node = self._members.get(node_id)
        if node is None:
            return node_id != HERE, 0, node_id
        # Of equally idle nodes another one comes first each time.
        return node.is_doubtful, node.in_flight, node.turn()

    def begin(self, node_id: int, name: str, *arguments: Any) -> PendingCall:
        """Raises Unreachable if the node is gone."""
        node = self._members.present(node_id)
        call = node.begin(name, *arguments, seconds=_READ_SECONDS)
        node.started()
        call.on_end(node.ended)
        return call

    def hedge_seconds(self, node_id: int, name: str) -> float:
        node = self._members.get(node_id)
        return 0.0 if node is None else node.hedge_seconds(name)

    def answered(self, node_id: int, name: str, seconds: float) -> None:
        if (node := self._members.get(node_id)) is not None:
            node.answered(name, seconds)

    def failed(self, node_id: int) -> None:
        metrics.failovers.inc()
        if (node := self._members.get(node_id)) is not None:
            node.failed()


class _Reading:
    """One kind of read of one collection, for a fan-out."""

    def __init__(self, reads: Reads, name: str, collection_id: int, number: int, more: tuple[Any, ...]) -> None:
        self._reads = reads
        self._name = name
        self._collection_id = collection_id
        self._number = number
        self._more = more

    def routes(self, segment_ids: Sequence[int], tried: frozenset[int]) -> Routes | None:
        return self._reads.routes(self._collection_id, segment_ids, tried)

    def begin(self, node_id: int, segment_ids: tuple[int, ...], *, has_others: bool) -> PendingCall | None:
        if node_id == HERE:
            return None
        patience = _BRIEFLY if has_others else _PATIENTLY
        return self._reads.begin(
            node_id, self._name, self._number, patience, self._collection_id, segment_ids, *self._more
        )

    def read_here(self, segment_ids: tuple[int, ...]) -> Any:
        return getattr(self._reads.local, self._name)(self._collection_id, segment_ids, *self._more)

    def hedge_seconds(self, node_id: int) -> float:
        return self._reads.hedge_seconds(node_id, self._name)

    def answered(self, node_id: int, seconds: float) -> None:
        self._reads.answered(node_id, self._name, seconds)

    def failed(self, node_id: int) -> None:
        self._reads.failed(node_id)
