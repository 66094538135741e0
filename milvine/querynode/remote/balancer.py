"""Moves segments until they are where `placement` wants them, and loses nodes that are gone, silent or forgetful."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from milvine.background import Supervisor
from milvine.errors import MilvineError
from milvine.querynode.node import SegmentNotHeld
from milvine.querynode.remote.holdings import Holdings
from milvine.querynode.remote.later import Later
from milvine.querynode.remote.members import Members
from milvine.querynode.remote.moves import Moves
from milvine.querynode.remote.node_groups import NodeGroups
from milvine.querynode.remote.openings import Openings
from milvine.querynode.remote.remote_node import RemoteNode, SegmentKey
from milvine.querynode.remote.rpc import Unreachable

_log = logging.getLogger(__name__)
LOST_SECONDS = 5.0
"""A node that has not reported for so long has lost its segments."""
_LOOK_SECONDS = 0.5
_MOVES_AT_A_TIME = 4
_MOST_UNDER_WAY = 64
"""A segment whose move waits for others cannot be released meanwhile."""


class Balancer:
    """One thread that looks, and a few that move."""

    def __init__(
        self,
        members: Members,
        groups: NodeGroups,
        holdings: Holdings,
        openings: Openings,
        later: Later,
        background: Supervisor,
    ) -> None:
        self._members = members
        self._groups = groups
        self._holdings = holdings
        self._openings = openings
        self._later = later
        self._moves = Moves(holdings, groups.shares)
        self._told: dict[SegmentKey, str] = {}
        """Why segments could not be moved, as it was logged."""
        self._movers = ThreadPoolExecutor(_MOVES_AT_A_TIME, "segment-mover")
        self._under_way: set[SegmentKey] = set()
        self._compared: dict[int, tuple[Any, int]] = {}
        """What nodes reported, and how often their holdings had changed, when both agreed."""
        self._probed: set[int] = set()
        """Nodes that are being asked for a connection."""
        self._worker = background.worker("balance", self._look)

    def start(self) -> None:
        self._worker.start()

    def wake(self) -> None:
        self._worker.wake()

    def close(self) -> None:
        self._movers.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> float:
        for node in self._members.all():
            if node.silent_seconds > LOST_SECONDS:
                self._members.lose(node.node_id, f"no report for {node.silent_seconds:.0f} seconds")
                continue
            if node.is_doubtful and node.node_id not in self._probed:
                self._probed.add(node.node_id)
                self._later.run(self._probe, node)
            if node.is_silent and any(not other.is_silent for other in self._members.all()):
                node.cut()
            self._compare(node)
        for node_id in self._compared.keys() - self._members.ids():
            del self._compared[node_id]
        if self._members and (most := _MOST_UNDER_WAY - len(self._under_way)) > 0:
            wanted = self._moves.wanted(self._members.rooms, self._members.doubtful(), most)
            for key, targets in wanted.items():
                self._move(key, targets)
        return _LOOK_SECONDS

    def _probe(self, node: RemoteNode) -> None:
        """Loses a node whose process has ended, for which nobody needs to wait."""
        try:
            if node.channel.is_refused():
                self._members.lose(node.node_id, "its process has ended")
        finally:
            self._probed.discard(node.node_id)

    def _compare(self, node: RemoteNode) -> None:
        """What the node reports with what it should hold: an answer may have been lost on its way."""
        seen = node.report.segments, self._holdings.changes_of(node.node_id)
        if self._compared.get(node.node_id) == seen:
            return
        reported = {(i, segment_id) for i, segment_ids in node.report.segments.items() for segment_id in segment_ids}
        with self._holdings.lock:
            strays = reported ^ self._holdings.of_node(node.node_id)
            working = self._holdings.working() if strays else set()
            serving = {key: self._holdings.serving(key) for key in strays - working}
        lasting = node.lasting(serving)
        if not strays:
            self._compared[node.node_id] = seen
        for key in lasting:
            if key in reported:
                self._later.run(self._close_stray, node.node_id, key)
            else:
                self._members.lose(node.node_id, f"it does not hold segment {key[1]} any more")
                return

    def _close_stray(self, node_id: int, key: SegmentKey) -> None:
        """Closes a segment on a node that is not to hold it, unless it is being opened there."""
        if not self._holdings.try_alone(key):
            return
        try:
            if key not in self._holdings.of_node(node_id):
                self._openings.release_on(node_id, key)
        finally:
            self._holdings.end(key)

    def _move(self, key: SegmentKey, targets: tuple[int, ...]) -> None:
        if not self._holdings.try_alone(key):
            self._holdings.look_again([key])
            return
        self._under_way.add(key)
        try:
            self._movers.submit(self._move_alone, key, targets)
        except RuntimeError:  # the process is ending
            self._end(key)

    def _end(self, key: SegmentKey) -> None:
        self._under_way.discard(key)
        self._holdings.end(key)

    def _move_alone(self, key: SegmentKey, targets: tuple[int, ...]) -> None:
        try:
            one = self._holdings.get(*key)
            if one is None:
                self._told.pop(key, None)
                return
            for node_id in targets:
                if node_id not in one.holders:
                    self._openings.add_holder(key, node_id)
            self._told.pop(key, None)
            others = self._holdings.keep_holders(key, targets)
            if others is None:
                return
            for node_id in others:
                self._openings.release_on(node_id, key)
            if self._members.listener is not None:
                self._members.listener.segment_grown(*key)
        except (MilvineError, OSError, Unreachable, SegmentNotHeld) as error:
            if self._told.get(key) != str(error):  # it is tried twice a second
                self._told[key] = str(error)
                _log.warning("segment %s is not moved: %s", key[1], error)
        except Exception as error:
            _log.error("segment %s is not moved", key[1], exc_info=error)
            raise
        finally:
            self._end(key)
