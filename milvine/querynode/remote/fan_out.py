"""One read of many segments by several nodes: side by side, and again elsewhere where a node fails or is slow.

Never a partial answer: either every segment is read once for the result, or SegmentNotHeld is raised.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from milvine.querynode.node import NodeBehind, SegmentNotHeld
from milvine.querynode.remote.messages import decode_result
from milvine.querynode.remote.rpc import PendingCall, Unreachable

Routes = Mapping[int, tuple[int, ...]]
"""Segments by node."""


class NoAnswer(SegmentNotHeld):
    """No holder of a segment answered in time, or all of them lack deletes; they may yet."""


class Reading(Protocol):
    """What a fan-out needs from the set of nodes."""

    def routes(self, segment_ids: Sequence[int], tried: frozenset[int]) -> Routes | None:
        """A holder for each segment among those that were not tried; None if a segment has none."""
        ...

    def begin(self, node_id: int, segment_ids: tuple[int, ...], tried: frozenset[int]) -> PendingCall | None:
        """Starts a call; None if the segments are read here. `tried` nodes, this one included, are not asked again.
        Raises Unreachable."""
        ...

    def read_here(self, segment_ids: tuple[int, ...]) -> Any: ...
    def hedge_seconds(self, node_id: int, since: float) -> float:
        """After this long without an answer the segments are read elsewhere, too. `since`: when the call began; what is
        heard of the node later may make it longer."""
        ...

    def answered(self, node_id: int, seconds: float) -> None: ...
    def failed(self, node_id: int) -> None:
        """The node could not be reached, or did not answer in time."""
        ...


class _Share:
    """Segments of one node. `others`: the shares that read the same segments elsewhere."""

    def __init__(self, node_id: int, segment_ids: tuple[int, ...], parent: _Share | None) -> None:
        self.node_id = node_id
        self.segment_ids = segment_ids
        self.parent = parent
        self.tried: frozenset[int] = frozenset() if parent is None else parent.tried | {node_id}
        self.started = time.monotonic()
        self.call: PendingCall | None = None
        self.answers: list[Any] = []
        self.is_answered = False
        self.has_failed = False
        self.is_refused = False
        """Whether the node does not hold a segment."""
        self.is_split = False
        self.others: list[_Share] = []
        self._complete_others = 0
        self.is_complete = False
        """Whether it is answered, or all others are complete."""

    def complete(self) -> None:
        """Counted upwards, since a read of many nodes would look at all of them after each answer."""
        self.is_complete = True
        parent = self.parent
        if parent is not None:
            parent._complete_others += 1
            if parent._complete_others == len(parent.others) and not parent.is_complete:
                parent.complete()

    def answer(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.is_answered = True
        if not self.is_complete:
            self.complete()

    @property
    def is_lost(self) -> bool:
        if self.is_complete or not self.has_failed:
            return False
        return not self.others or any(one.is_lost for one in self.others)

    @property
    def refuses(self) -> bool:
        return self.is_refused or any(one.refuses for one in self.others)

    def results(self) -> list[Any]:
        if self.is_answered:
            return self.answers
        return [answer for one in self.others for answer in one.results()]

    def cancel(self) -> None:
        if self.call is not None and not self.is_answered and not self.has_failed:
            self.call.cancel()
        for one in self.others:
            one.cancel()


class FanOut:
    """One attempt at a read, until `deadline` (time.monotonic)."""

    def __init__(self, reading: Reading, deadline: float) -> None:
        self._reading = reading
        self._ended: queue.SimpleQueue[_Share] = queue.SimpleQueue()
        self._deadline = deadline
        self._due: list[tuple[float, int, _Share]] = []
        """A heap of the shares that may be read elsewhere, by the time from which on they are."""
        self._order = itertools.count()

    def run(self, segment_ids: Sequence[int]) -> list[Any]:
        """The results of all parts. Raises SegmentNotHeld if a segment has no holder, NoAnswer if holders do not
        answer, and what nodes raise."""
        routes = self._reading.routes(segment_ids, frozenset())
        if routes is None:
            raise SegmentNotHeld(f"of {len(segment_ids)} segments")
        whole = _Share(0, tuple(segment_ids), None)
        whole.has_failed = True
        try:
            self._start(whole, routes)
            is_doubtful = True
            while not whole.is_complete:
                if (is_doubtful and whole.is_lost) or time.monotonic() > self._deadline:
                    kind = SegmentNotHeld if whole.refuses else NoAnswer
                    raise kind(f"of {len(segment_ids)} segments")
                try:
                    share = self._ended.get(timeout=self._seconds_to_wait())
                except queue.Empty:
                    self._hedge()
                    is_doubtful = True
                else:
                    self._settle(share)
                    is_doubtful = share.has_failed
            return whole.results()
        finally:
            whole.cancel()

    def _start(self, parent: _Share, routes: Routes) -> None:
        parent.is_split = True
        here: list[_Share] = []
        gone: list[_Share] = []
        for node_id, segment_ids in routes.items():
            share = _Share(node_id, segment_ids, parent)
            parent.others.append(share)
            try:
                share.call = self._reading.begin(node_id, segment_ids, share.tried)
            except Unreachable:
                gone.append(share)
                continue
            if share.call is None:
                here.append(share)
            else:
                self._put_due(share, self._due_at(share))
                share.call.on_end(partial(self._ended.put, share))
        for share in gone:
            share.has_failed = True
            self._elsewhere(share)
        for share in here:
            try:
                share.answer(self._reading.read_here(share.segment_ids))
            except SegmentNotHeld:
                share.has_failed = share.is_refused = True
                self._elsewhere(share)

    def _settle(self, share: _Share) -> None:
        assert share.call is not None
        try:
            answer = decode_result(share.call.result())
        except Unreachable:
            share.has_failed = True
            if time.monotonic() < self._deadline:  # otherwise its time was too short, or ended
                self._reading.failed(share.node_id)
            self._elsewhere(share)
        except NodeBehind:
            share.has_failed = True
            self._elsewhere(share)
        except SegmentNotHeld:
            share.has_failed = share.is_refused = True
            self._elsewhere(share)
        else:
            share.answer(answer)
            self._reading.answered(share.node_id, time.monotonic() - share.started)

    def _elsewhere(self, share: _Share) -> None:
        if not share.others:
            routes = self._reading.routes(share.segment_ids, share.tried)
            if routes is not None:
                self._start(share, routes)

    def _due_at(self, share: _Share) -> float:
        return share.started + self._reading.hedge_seconds(share.node_id, share.started)

    def _put_due(self, share: _Share, at: float) -> None:
        heapq.heappush(self._due, (at, next(self._order), share))

    def _seconds_to_wait(self) -> float:
        due = self._deadline
        while self._due:
            at, _, share = self._due[0]
            if not (share.is_answered or share.has_failed or share.is_split):
                due = min(due, at)
                break
            heapq.heappop(self._due)
        return max(0.0, due - time.monotonic())

    def _hedge(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, _, share = heapq.heappop(self._due)
            if share.is_answered or share.has_failed or share.is_split:
                continue
            if (later := self._due_at(share)) > now:
                self._put_due(share, later)
                continue
            routes = self._reading.routes(share.segment_ids, share.tried)
            if routes is None:
                share.is_split = True  # there is nobody else to ask
            else:
                self._reading.failed(share.node_id)
                self._start(share, routes)
