"""Reads by nodes: which holder reads which segment, and the calls."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from math import inf
from typing import Any

from milvine import metrics
from milvine.model.records import record
from milvine.querynode.local_node import LocalNode
from milvine.querynode.node import SegmentNotHeld
from milvine.querynode.remote.delete_feed import DeleteFeed
from milvine.querynode.remote.fan_out import FanOut, NoAnswer, Routes
from milvine.querynode.remote.holdings import HERE, Holdings
from milvine.querynode.remote.layout import Array, Layout, layout_of
from milvine.querynode.remote.members import Members
from milvine.querynode.remote.rpc import PendingCall

_BRIEFLY, _PATIENTLY = 0.2, 10.0
"""How long a node waits for deletes: if another holder can be asked, and if there is none."""
_AGAIN_SECONDS = 0.02
_MANY = 256
"""From so many segments on a read is planned by arrays, which are kept for the next one."""
_MOST_LAYOUTS = 64
_MOST_SECONDS, _REFUSED_SECONDS = 10.0, 1.0
"""For so long the holders of a segment are asked again: if they do not answer, and if one says that it is no holder."""


@record
class Read:
    """A read of one collection: a method of a QueryNode, and its arguments after the segments. `read_ts`: it must see
    the deletes up to then. `seconds`: how long its caller waits."""

    name: str
    collection_id: int
    arguments: tuple[Any, ...]
    read_ts: int | None
    seconds: float


class Reads:
    """Threads share it; it takes no lock."""

    def __init__(self, local: LocalNode, members: Members, holdings: Holdings, feed: DeleteFeed) -> None:
        self.local = local
        self.members = members
        self._holdings = holdings
        self._feed = feed
        self._layouts: dict[int, Layout] = {}
        """By collection: of the large read that was planned last."""

    def run(self, read: Read, segment_ids: Sequence[int]) -> list[Any]:
        """The results of all holders that were asked. Raises SegmentNotHeld if a segment cannot be read now, and what
        nodes raise."""
        number = 0 if read.read_ts is None else self._feed.number_at(read.collection_id, read.read_ts)
        started = time.monotonic()
        deadline = started + read.seconds
        while True:
            try:
                return FanOut(_Reading(self, read, number, deadline), deadline).run(segment_ids)
            except SegmentNotHeld as error:
                # Of two holders, say, one was killed, and the other lacks deletes or has just come back.
                most = _MOST_SECONDS if isinstance(error, NoAnswer) else _REFUSED_SECONDS
                now = time.monotonic()
                if now >= min(deadline, started + most) or self.routes(read.collection_id, segment_ids) is None:
                    raise
                time.sleep(_AGAIN_SECONDS)

    def routes(
        self, collection_id: int, segment_ids: Sequence[int], tried: frozenset[int] = frozenset()
    ) -> Routes | None:
        """A holder for each segment, as few of them as possible, idle and answering ones first."""
        layout = None if tried else self.layout(collection_id, segment_ids)
        if layout is not None:
            places = self.chosen(layout)
            return None if places is None else {i: layout.ids_at(some) for i, some in places.items()}
        segments, members = self._holdings.of(collection_id), self.members
        together: dict[Iterable[int], list[int]] = defaultdict(list)
        for segment_id in segment_ids:
            one = segments.get(segment_id)
            if one is None:
                return None
            together[one.holder_ids].append(segment_id)
        usable = {ids: [i for i in ids if i not in tried and (i == HERE or i in members)] for ids in together}
        seen = {i for ids in usable.values() for i in ids}
        order = {i: place for place, i in enumerate(sorted(seen, key=self._load_of))}
        found: dict[int, list[int]] = defaultdict(list)
        for holders, ids in together.items():
            if not usable[holders]:
                return None
            found[min(usable[holders], key=order.__getitem__)] += ids
        return {i: tuple(ids) for i, ids in found.items()}

    def layout(self, collection_id: int, segment_ids: Sequence[int]) -> Layout | None:
        """None if the segments are few, or one has no holder. Callers pass the same tuple again and again."""
        if len(segment_ids) < _MANY or not isinstance(segment_ids, tuple):
            return None
        version, known = self._holdings.version_of(collection_id), self._layouts.get(collection_id)
        if known is not None and known.version == version and known.segment_ids is segment_ids:
            return known
        made = layout_of(segment_ids, version, self._holdings.of(collection_id))
        if made is not None:
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            self._layouts[collection_id] = made
        return made

    def chosen(self, layout: Layout) -> dict[int, Array] | None:
        """Places in the layout by node; as `routes`."""
        present = [i for i in layout.node_ids if i == HERE or i in self.members]
        return layout.chosen(sorted(present, key=self._load_of))

    def are_held(self, collection_id: int, segment_ids: Iterable[int], node_ids: Set[int]) -> bool:
        """Whether one of the nodes holds each segment."""
        segments = self._holdings.of(collection_id)
        return all(
            (one := segments.get(i)) is not None and not node_ids.isdisjoint(one.holder_ids) for i in segment_ids
        )

    def _load_of(self, node_id: int) -> tuple[float, int, int]:
        node = self.members.get(node_id)
        if node is None:
            return 0.0 if node_id == HERE else inf, 0, node_id
        # Of doubtful nodes the one that was heard last is the likeliest to answer; one that has stopped is idle, too.
        # Of equally idle ones another one comes first each time.
        return node.unheard_seconds if node.is_doubtful else 0.0, node.in_flight, node.last_read


class _Reading:
    """One read, for a fan-out. `number`: that of the last batch of deletes that it must see."""

    def __init__(self, reads: Reads, read: Read, number: int, deadline: float) -> None:
        self._reads = reads
        self._members = reads.members
        self._read = read
        self._number = number
        self._deadline = deadline
        self._answering: set[int] | None = None
        self._layout: Layout | None = None
        self._counts: Array | None = None
        """How many of the nodes that answer hold each segment, in the layout."""
        self._places: dict[int, Array] = {}
        """What each node is asked for first, in the layout."""

    def routes(self, segment_ids: Sequence[int], tried: frozenset[int]) -> Routes | None:
        layout = None if tried else self._reads.layout(self._read.collection_id, segment_ids)
        if layout is None:
            return self._reads.routes(self._read.collection_id, segment_ids, tried)
        places = self._reads.chosen(layout)
        if places is None:
            return None
        self._layout, self._places = layout, places
        return {node_id: layout.ids_at(some) for node_id, some in places.items()}

    def begin(self, node_id: int, segment_ids: tuple[int, ...], tried: frozenset[int]) -> PendingCall | None:
        if node_id == HERE:
            return None
        read, node = self._read, self._members.present(node_id)
        seconds = max(0.0, self._deadline - time.monotonic())
        patience = min(seconds, _BRIEFLY if self._has_others(node_id, segment_ids, tried) else _PATIENTLY)
        asked = self._number, patience, seconds, read.collection_id, segment_ids, *read.arguments
        call = node.begin(read.name, *asked, seconds=seconds)
        node.started()
        call.on_end(node.ended)
        return call

    def _has_others(self, node_id: int, segment_ids: Sequence[int], tried: frozenset[int]) -> bool:
        """Whether nodes that were not tried, and that answer, can read the segments."""
        if self._answering is None:
            self._answering = {HERE, *self._members.ids()} - self._members.doubtful()
        layout = self._layout
        if layout is not None and tried == {node_id}:
            if self._counts is None:
                self._counts = layout.counts(self._answering)
            return bool(self._counts[self._places[node_id]].min() > (node_id in self._answering))
        return self._reads.are_held(self._read.collection_id, segment_ids, self._answering - tried)

    def read_here(self, segment_ids: tuple[int, ...]) -> Any:
        read = self._read
        seconds = max(0.0, self._deadline - time.monotonic())
        return getattr(self._reads.local, read.name)(read.collection_id, segment_ids, *read.arguments, seconds=seconds)

    def hedge_seconds(self, node_id: int, since: float) -> float:
        node = self._members.get(node_id)
        return 0.0 if node is None else node.hedge_seconds(self._read.name, since)

    def answered(self, node_id: int, seconds: float) -> None:
        if (node := self._members.get(node_id)) is not None:
            node.answered(self._read.name, seconds)

    def failed(self, node_id: int) -> None:
        metrics.failovers.inc()
        if (node := self._members.get(node_id)) is not None:
            node.failed()
