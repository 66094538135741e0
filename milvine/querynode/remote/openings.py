"""Opening segments on nodes, serving and closing them there: side by side, and elsewhere where a node fails."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from milvine.catalog.store import Catalog
from milvine.errors import IoFailed, MemoryLimitExceeded
from milvine.model.properties import PartKey
from milvine.model.schema import CollectionSchema
from milvine.model.segments import DeleteBatch, DeltaMeta, SegmentMeta
from milvine.querynode.catch_up import catch_up
from milvine.querynode.local_node import LocalNode
from milvine.querynode.node import HoldersLost, SegmentNotHeld
from milvine.querynode.opening_progress import OpeningCancelled, OpeningProgress
from milvine.querynode.remote.delete_feed import DeleteFeed
from milvine.querynode.remote.holdings import HERE, Holdings, Opened, Placed
from milvine.querynode.remote.later import Later, quietly
from milvine.querynode.remote.members import Members, raise_failures
from milvine.querynode.remote.messages import decode_result
from milvine.querynode.remote.node_groups import NodeGroups
from milvine.querynode.remote.placement import Rooms
from milvine.querynode.remote.remote_node import RemoteNode, SegmentKey
from milvine.querynode.remote.rpc import Unreachable
from milvine.segment.sealed import LoadSpec, part_sizes
from milvine.segment.view import Views

_log = logging.getLogger(__name__)
_SHORT_SECONDS, _CATCH_UP_SECONDS = 3.0, 60.0
_CLOSE_PATIENCE_SECONDS = 10.0
_ELSEWHERE = (Unreachable, MemoryLimitExceeded, IoFailed)
"""Failures of a node, which others may not have: they have room, or a copy of what the store does not give now."""


@dataclass(slots=True)
class _Wanted:
    """So many nodes of these are to open a segment, the first ones if they can."""

    count: int
    node_ids: Sequence[int]

    def next(self, tried: set[int]) -> list[int]:
        """Those to be asked; they become tried."""
        asked = [i for i in dict.fromkeys(self.node_ids) if i not in tried][: self.count]
        tried.update(asked)
        return asked


class Openings:
    """Changes of what nodes hold."""

    def __init__(
        self,
        catalog: Catalog,
        views: Views,
        local: LocalNode,
        members: Members,
        groups: NodeGroups,
        holdings: Holdings,
        feed: DeleteFeed,
        later: Later,
    ) -> None:
        self._catalog = catalog
        self._views = views
        self._local = local
        self._members = members
        self._groups = groups
        self._holdings = holdings
        self._feed = feed
        self._later = later

    # Opening

    def load(self, meta: SegmentMeta, spec: LoadSpec, progress: OpeningProgress, in_parallel: bool) -> None:
        key = meta.collection_id, meta.segment_id
        with self._holdings.alone(key):
            node_ids = self._open_somewhere(meta, spec, progress, in_parallel)
            self._holdings.put_opened(key, Opened(meta, spec, node_ids))

    def _candidates(self, meta: SegmentMeta, spec: LoadSpec, rooms: Rooms) -> list[int]:
        """The nodes among these that have room for a segment, in the order in which they are asked."""
        size = sum(part_sizes(meta, spec).values())
        taken = self._holdings.bytes_by_node()
        pinned = self._holdings.pinned.get(meta.segment_id, ())
        order = [i for i in rooms.preferred(meta.segment_id) if rooms.limits[i] - taken.get(i, 0) >= size]
        silent = self._members.silent()
        # A silent node gets its copy from the balancer, once it reports.
        answering = [i for i in order if i not in silent]
        return sorted(answering or order, key=lambda i: i not in pinned)

    def _wanted(self, meta: SegmentMeta, spec: LoadSpec) -> list[_Wanted]:
        """A served segment is opened anew where it is. Others come from the same groups, then from any."""
        before = self._holdings.get(meta.collection_id, meta.segment_id)
        holders = [] if before is None else [i for i in before.holders if i != HERE]
        shares = self._groups.shares(meta.collection_id)
        candidates = [self._candidates(meta, spec, share.rooms) for share in shares]
        if holders:
            return [_Wanted(len(holders), holders + [node_id for some in candidates for node_id in some])]
        return [_Wanted(share.copies, some) for share, some in zip(shares, candidates, strict=True)]

    def _open_somewhere(
        self, meta: SegmentMeta, spec: LoadSpec, progress: OpeningProgress, in_parallel: bool
    ) -> list[int]:
        """Opens the segment on its holders, or on as many nodes as it needs, or else here, mapped."""
        wanted = self._wanted(meta, spec)
        opened: list[int] = []
        failures: dict[int, Exception] = {}
        tried: set[int] = set()
        while asked := {node_id: one for one in wanted for node_id in one.next(tried)}:
            first = next(iter(asked))

            def open_on(node: RemoteNode, first: int = first) -> Exception | None:
                try:
                    self._open_on(node, meta, spec, progress, in_parallel, counts=node.node_id == first)
                except MemoryLimitExceeded as error:
                    return error
                return None

            for node_id, result in self._members.each(asked, open_on).items():
                if result is None:
                    opened.append(node_id)
                    asked[node_id].count -= 1
                else:
                    failures[node_id] = result
        for failure in failures.values():
            if not isinstance(failure, _ELSEWHERE):
                for node_id in opened:
                    self._discard_on(node_id, (meta.collection_id, meta.segment_id))
                raise failure
        if not opened:
            why = "".join(f"; node {node_id}: {failure}" for node_id, failure in failures.items())
            _log.warning("segment %s is opened by the head, mapped: no node opens it%s", meta.segment_id, why)
            self._local.load_segment(meta, replace(spec, mapped=True), progress, in_parallel)
            opened = [HERE]
        return opened

    def _open_on(
        self,
        node: RemoteNode,
        meta: SegmentMeta,
        spec: LoadSpec,
        progress: OpeningProgress,
        in_parallel: bool,
        *,
        counts: bool = True,
    ) -> None:
        """`counts`: whether its bytes count as progress. Raises OpeningCancelled, Unreachable, and what the node
        raises."""
        self._members.subscribe(meta.collection_id, node.node_id)
        with node.streaming("open", meta, spec, in_parallel) as stream, progress.stopped_by(stream.cancel):
            try:
                for message in stream:
                    taken = decode_result(message)
                    if taken is None:
                        return
                    if counts:
                        progress.add(taken)
            except Unreachable:
                if progress.is_cancelled:
                    raise OpeningCancelled from None
                raise
        raise Unreachable(f"node {node.node_id} ended an opening")

    def catch_up(self, meta: SegmentMeta, deltas: Sequence[DeltaMeta], deletes: Iterable[DeleteBatch]) -> None:
        opened = self._holdings.opened((meta.collection_id, meta.segment_id))
        if opened is None:
            return
        batches = tuple(deletes)
        if HERE in opened.node_ids:
            self._local.catch_up(meta, deltas, batches)
            return
        found = self._members.each(opened.node_ids, lambda node: _catch_up_on(node, meta, deltas, batches))
        raise_failures(found)
        opened.node_ids = [i for i, result in found.items() if not isinstance(result, Unreachable)]
        if not opened.node_ids:
            raise HoldersLost(f"no query node opens segment {meta.segment_id}")

    def serve(self, key: SegmentKey, schema: CollectionSchema) -> None:
        opened = self._holdings.opened(key)
        if opened is None:
            raise KeyError(key)
        holders: dict[int, Mapping[PartKey, int]] = {}
        if HERE in opened.node_ids:
            self._local.serve(*key, schema)
            holders[HERE] = self._local.memory_bytes(*key)
        else:
            found = self._members.each(
                opened.node_ids, lambda node: node.call("serve", *key, schema, seconds=_SHORT_SECONDS)
            )
            raise_failures(found)
            holders = {i: parts for i, parts in found.items() if not isinstance(parts, Unreachable)}
        with self._holdings.lock:
            holders = {i: parts for i, parts in holders.items() if i == HERE or i in self._members}
            if not holders:
                raise HoldersLost(f"no query node serves segment {key[1]}")
            self._holdings.pop_opened(key)
            spec = replace(opened.spec, schema=schema)
            before = self._holdings.put(key, Placed(opened.meta, spec, holders))
        for node_id in () if before is None else before.holders.keys() - holders.keys():
            self._later.run(self.release_on, node_id, key)

    def discard(self, key: SegmentKey) -> None:
        opened = self._holdings.pop_opened(key)
        for node_id in [] if opened is None else opened.node_ids:
            self._discard_on(node_id, key)

    def _discard_on(self, node_id: int, key: SegmentKey) -> None:
        if node_id == HERE:
            self._local.discard(*key)
        elif (node := self._members.get(node_id)) is not None:
            self._later.run(quietly, partial(node.call, "discard", *key, seconds=_SHORT_SECONDS))
            self._later.run(self._unsubscribe_idle, key[0])

    # Served segments

    def add_holder(self, key: SegmentKey, node_id: int) -> None:
        """Opens and serves a segment on one more node. Raises Unreachable, SegmentNotHeld if it is gone, and what the
        node raises."""
        node, one = self._members.present(node_id), self._holdings.get(*key)
        if one is None:
            raise SegmentNotHeld(key[1])
        self._open_on(node, one.meta, one.spec, OpeningProgress(), in_parallel=True)
        try:
            if not catch_up(self._views, one.meta, partial(_catch_up_on, node)):
                raise SegmentNotHeld(key[1])
            now = self._holdings.get(*key)
            if now is None or now.meta is not one.meta:
                raise SegmentNotHeld(key[1])
            schema = now.spec.schema
            parts = node.call("serve", *key, schema, seconds=_SHORT_SECONDS)
            while (changed := self._add_told(key, node_id, parts, schema)) is not None:
                schema = changed
                node.call("set_schema", key[0], schema, seconds=_SHORT_SECONDS)
        except BaseException:
            quietly(partial(node.call, "discard", *key, seconds=_SHORT_SECONDS))
            raise

    def _add_told(
        self, key: SegmentKey, node_id: int, parts: Mapping[PartKey, int], told: CollectionSchema
    ) -> CollectionSchema | None:
        """Adds a holder that was told a schema; returns the current one, with no change, if it is another."""
        with self._holdings.lock:
            one = self._holdings.get(*key)
            if one is not None and one.spec.schema is not told:
                return one.spec.schema
            if node_id in self._members:
                self._holdings.add_holder(key, node_id, parts)
            return None

    def set_schema(self, collection_id: int, schema: CollectionSchema) -> None:
        self._local.set_schema(collection_id, schema)
        node_ids = self._holdings.set_schema(collection_id, schema)
        found = self._members.each(
            node_ids, lambda node: node.call("set_schema", collection_id, schema, seconds=_SHORT_SECONDS)
        )
        for node_id, result in found.items():
            if isinstance(result, Exception):
                # Later, since the caller holds the lock of the collection's loads.
                self._later.run(self._members.lose, node_id, f"it does not take a schema: {result}")

    def release(self, key: SegmentKey, patience_seconds: float) -> None:
        with self._holdings.alone(key):
            one = self._holdings.pop(key)
            if one is None:
                return
            if HERE in one.holders:
                self._local.release_segment(*key, patience_seconds)
            # A silent node that comes back is compared with the table, and told then.
            silent = self._members.silent()
            self._members.each(
                [i for i in one.holders if i not in silent],
                lambda node: node.call("release", *key, patience_seconds, seconds=patience_seconds + _SHORT_SECONDS),
            )
        self._unsubscribe_idle(key[0])

    def release_on(self, node_id: int, key: SegmentKey) -> None:
        """Closes a segment on a node that is no holder any more."""
        patience = _CLOSE_PATIENCE_SECONDS
        if node_id == HERE:
            self._local.release_segment(*key, patience)
        elif (node := self._members.get(node_id)) is not None:
            quietly(partial(node.call, "release", *key, patience, seconds=patience + _SHORT_SECONDS))
            self._unsubscribe_idle(key[0])

    def _unsubscribe_idle(self, collection_id: int) -> None:
        """Nodes without segments of the collection get no deletes of it."""
        with self._holdings.lock:
            if any(key[0] == collection_id for key in self._holdings.working()):
                return
            holding = self._holdings.nodes_of(collection_id)
            for node_id in self._members.ids() - holding:
                # Under the lock, since an opening subscribes its node while it is busy.
                self._feed.unsubscribe(collection_id, node_id)
            if collection_id not in self._catalog.snapshot.collections and not holding:
                self._feed.drop_collection(collection_id)


def _catch_up_on(
    node: RemoteNode, meta: SegmentMeta, deltas: Sequence[DeltaMeta], deletes: Sequence[DeleteBatch]
) -> None:
    needed = tuple(delta for delta in deltas if delta.max_ts > meta.min_ts)
    node.call("catch_up", meta, needed, tuple(deletes), seconds=_CATCH_UP_SECONDS)
