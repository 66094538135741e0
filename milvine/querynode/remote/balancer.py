"""Moves segments until they are where `placement` wants them, and loses nodes that are silent or forgetful."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

from milvine.background import Supervisor
from milvine.errors import MilvineError
from milvine.querynode.node import SegmentNotHeld
from milvine.querynode.remote.holdings import Holdings, Placed
from milvine.querynode.remote.later import Later
from milvine.querynode.remote.members import Members
from milvine.querynode.remote.node_groups import NodeGroups
from milvine.querynode.remote.openings import Openings
from milvine.querynode.remote.placement import Share, placed
from milvine.querynode.remote.remote_node import RemoteNode, SegmentKey
from milvine.querynode.remote.rpc import Unreachable
from milvine.segment.sealed import part_sizes

_log = logging.getLogger(__name__)
LOST_SECONDS = 5.0
"""A node that has not reported for so long has lost its segments."""
_LOOK_SECONDS = 0.5
_MOVES_AT_A_TIME = 4


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
        self._movers = ThreadPoolExecutor(_MOVES_AT_A_TIME, "segment-mover")
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
            if node.is_silent and any(not other.is_silent for other in self._members.all()):
                node.cut()
            self._compare(node)
        if self._members:
            for key, targets in self._wanted().items():
                self._move(key, targets)
        return _LOOK_SECONDS

    def _compare(self, node: RemoteNode) -> None:
        """What the node reports with what it should hold: an answer may have been lost on its way."""
        reported = {(i, segment_id) for i, segment_ids in node.report.segments.items() for segment_id in segment_ids}
        with self._holdings.lock:
            expected = {key for key, one in self._holdings.all() if node.node_id in one.holders}
            working = self._holdings.working()
        for key in node.lasting((reported ^ expected) - working):
            if key in reported:
                self._later.run(self._openings.release_on, node.node_id, key)
            else:
                self._members.lose(node.node_id, f"it does not hold segment {key[1]} any more")
                return

    def _wanted(self) -> dict[SegmentKey, tuple[int, ...]]:
        """The nodes of the segments that are not where they should be. Nothing is opened on a node that is silent."""
        doubtful = self._members.doubtful()
        sizes: dict[int, int] = {}
        shares: dict[int, list[Share]] = {}
        where: dict[int, tuple[SegmentKey, Placed]] = {}
        for key, one in self._holdings.all():
            sizes[key[1]] = sum(part_sizes(one.meta, one.spec).values())
            shares[key[1]] = self._groups.shares(key[0])
            where[key[1]] = key, one
        targets = placed(sizes, shares, self._holdings.pinned)
        found: dict[SegmentKey, tuple[int, ...]] = {}
        for segment_id, node_ids in targets.items():
            key, one = where[segment_id]
            added = set(node_ids) - one.holders.keys()
            if node_ids and (added or one.holders.keys() - set(node_ids)) and not added & doubtful:
                found[key] = node_ids
        return found

    def _move(self, key: SegmentKey, targets: tuple[int, ...]) -> None:
        if self._holdings.try_alone(key):
            try:
                self._movers.submit(self._move_alone, key, targets)
            except RuntimeError:  # the process is ending
                self._holdings.end(key)

    def _move_alone(self, key: SegmentKey, targets: tuple[int, ...]) -> None:
        try:
            one = self._holdings.get(*key)
            if one is None:
                return
            for node_id in targets:
                if node_id not in one.holders:
                    self._openings.add_holder(key, node_id)
            others = self._holdings.keep_holders(key, targets)
            if others is None:
                return
            for node_id in others:
                self._openings.release_on(node_id, key)
            if self._members.listener is not None:
                self._members.listener.segment_grown(*key)
        except (MilvineError, OSError, Unreachable, SegmentNotHeld) as error:
            _log.info("segment %s is not moved: %s", key[1], error)
        except Exception as error:
            _log.error("segment %s is not moved", key[1], exc_info=error)
            raise
        finally:
            self._holdings.end(key)
