"""The registered nodes, deletes on their way to them, and what is lost with them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from milvine import metrics
from milvine.errors import MilvineError
from milvine.model.resource_groups import DEFAULT_RESOURCE_GROUP
from milvine.querynode.node import NodeInfo, SegmentNotHeld
from milvine.querynode.remote.delete_feed import DeleteFeed, Item, Outbox
from milvine.querynode.remote.holdings import Holdings
from milvine.querynode.remote.later import Later
from milvine.querynode.remote.placement import Rooms
from milvine.querynode.remote.remote_node import RemoteNode
from milvine.querynode.remote.rpc import Unreachable

_log = logging.getLogger(__name__)
_DELETES_SECONDS = 3.0


class Listener(Protocol):
    """The loader."""

    def segments_lost(self, lost: Mapping[int, Collection[int]]) -> None:
        """No holder is left of these segments, by collection."""
        ...

    def segment_grown(self, collection_id: int, segment_id: int) -> None:
        """Its delete marks take more memory."""
        ...

    def limit_changed(self, limit_bytes: int) -> None:
        """Nodes came or went."""
        ...


@dataclass(slots=True)
class _Member:
    """A registered node, and what is on its way to it."""

    node: RemoteNode
    outbox: Outbox = field(repr=False)


class Members:
    """Look-ups take no lock; a change takes that of the holdings."""

    def __init__(self, holdings: Holdings, feed: DeleteFeed, later: Later, on_change: Callable[[], None]) -> None:
        """`on_change` is called after a node has come or gone."""
        self._holdings = holdings
        self._feed = feed
        self._later = later
        self._on_change = on_change
        self._members: dict[int, _Member] = {}
        self._came = threading.Condition()
        self.rooms = Rooms(())
        """The nodes as places for segments; replaced when one comes or goes."""
        self.listener: Listener | None = None

    def join(self, node: RemoteNode) -> None:
        """The node knows of its registration and takes segments."""
        outbox = Outbox(
            partial(self._send_deletes, node), partial(self._later.run, self.lose, node.node_id, "it is far behind")
        )
        with self._holdings.lock:
            self._members[node.node_id] = _Member(node, outbox)
            self.rooms = Rooms(one.room for one in self.all())
        _log.info("node %s (%s) has joined", node.node_id, node.report.address)
        self._on_change()
        # After the change: who waits may wait for the memory of the node.
        with self._came:
            self._came.notify_all()

    def lose(self, node_id: int, why: str) -> None:
        """Forgets the node and what it held."""
        with self._holdings.lock:
            member = self._members.pop(node_id, None)
            if member is None:
                return
            member.node.is_lost = True
            self.rooms = Rooms(one.room for one in self.all())
            lost = self._holdings.drop_node(node_id)
        self._feed.drop_node(node_id)
        member.outbox.close()
        member.node.channel.close()
        _log.warning("node %s (%s) is lost: %s", node_id, member.node.report.address, why)
        metrics.lost_nodes.inc()
        self._on_change()
        if lost and self.listener is not None:
            self.listener.segments_lost(lost)

    def close(self) -> None:
        for member in list(self._members.values()):
            member.outbox.close()
            member.node.channel.close()

    def wait_until(self, holds: Callable[[], bool], seconds: float) -> None:
        """Returns once that is so because nodes have come, or after so long."""
        with self._came:
            self._came.wait_for(holds, max(0.0, seconds))

    def __contains__(self, node_id: int) -> bool:
        return node_id in self._members

    def __len__(self) -> int:
        return len(self._members)

    def ids(self) -> set[int]:
        return set(self._members)

    def all(self) -> list[RemoteNode]:
        return [member.node for member in list(self._members.values())]

    def get(self, node_id: int) -> RemoteNode | None:
        member = self._members.get(node_id)
        return None if member is None else member.node

    def present(self, node_id: int) -> RemoteNode:
        """Raises Unreachable if the node is gone."""
        node = self.get(node_id)
        if node is None:
            raise Unreachable(f"node {node_id} is lost")
        return node

    def doubtful(self) -> set[int]:
        """Those that do not answer at the moment."""
        return {node.node_id for node in self.all() if node.is_doubtful}

    def silent(self) -> set[int]:
        """Those that have not reported for a while."""
        return {node.node_id for node in self.all() if node.is_silent}

    def infos(self, groups: Mapping[int, str]) -> tuple[NodeInfo, ...]:
        """`groups`: the resource group of each node."""
        return tuple(
            NodeInfo(
                node_id=node.node_id,
                address=node.report.address,
                hostname=node.report.hostname,
                limit_bytes=node.report.limit_bytes,
                held_bytes=node.report.held_bytes,
                mapped_bytes=node.report.mapped_bytes,
                segment_count=node.report.segment_count,
                resource_group=groups.get(node.node_id, DEFAULT_RESOURCE_GROUP),
                is_silent=node.is_doubtful,
            )
            for node in sorted(self.all(), key=lambda n: n.node_id)
        )

    def values(self) -> dict[str, dict[str, float]]:
        """For metrics: by name and node."""
        nodes = {str(node.node_id): node for node in self.all()}
        return {
            "held_bytes": {i: node.report.held_bytes for i, node in nodes.items()},
            "limit_bytes": {i: node.report.limit_bytes for i, node in nodes.items()},
            "mapped_bytes": {i: node.report.mapped_bytes for i, node in nodes.items()},
            "segments": {i: node.report.segment_count for i, node in nodes.items()},
            "reads_in_flight": {i: node.in_flight for i, node in nodes.items()},
            "silent_seconds": {i: node.silent_seconds for i, node in nodes.items()},
        }

    def each(self, node_ids: Iterable[int], call: Callable[[RemoteNode], Any]) -> dict[int, Any]:
        """The results of calls side by side; in place of a result the error that the node raised, or Unreachable."""
        nodes = [node for i in node_ids if (node := self.get(i)) is not None]
        found: dict[int, Any] = {}

        def run(node: RemoteNode) -> None:
            try:
                found[node.node_id] = call(node)
            except (Unreachable, SegmentNotHeld) as error:
                node.failed()
                found[node.node_id] = Unreachable(str(error))
            except Exception as error:  # noqa: BLE001 - the caller looks at it
                found[node.node_id] = error

        threads = [threading.Thread(target=run, args=(node,), daemon=True) for node in nodes[1:]]
        for thread in threads:
            thread.start()
        if nodes:
            run(nodes[0])
        for thread in threads:
            thread.join()
        return found

    # Deletes

    def subscribe(self, collection_id: int, node_id: int) -> None:
        """From now on the node gets the collection's deletes. Raises Unreachable if the node is gone."""
        member = self._members.get(node_id)
        if member is None:
            raise Unreachable(f"node {node_id} is lost")
        self._feed.subscribe(collection_id, node_id, member.outbox)

    def _send_deletes(self, node: RemoteNode, items: Sequence[Item]) -> None:
        try:
            grown = node.call("deletes", tuple(items), seconds=_DELETES_SECONDS)
        except SegmentNotHeld:
            self.lose(node.node_id, "its session has ended")
            raise
        except MilvineError as error:
            self.lose(node.node_id, f"it does not take deletes: {error}")
            raise
        for key, parts in grown.items():
            if parts:
                self._holdings.measured(key, node.node_id, parts)
                if self.listener is not None:
                    self.listener.segment_grown(*key)


def raise_failures(found: Mapping[int, Any]) -> None:
    """What nodes raised, but not that they are away."""
    for result in found.values():
        if isinstance(result, Exception) and not isinstance(result, Unreachable):
            raise result
