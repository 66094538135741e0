"""The query nodes of a cluster as one QueryNode: where segments are, reads of them, and what happens when nodes go.

The loader decides what is open; this decides where. A segment is served by `replica_number` nodes, or by the head, from
mapped files, while no node has it. The balancer moves segments until they are where `placement` wants them.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from milvine import metrics
from milvine.background import Supervisor
from milvine.catalog.store import Catalog
from milvine.errors import DataIntegrityError, IoFailed, MemoryLimitExceeded, MilvineError
from milvine.index.term_queries import TermStatistics
from milvine.model.properties import PartKey
from milvine.model.resource_groups import NODE_ID
from milvine.model.schema import CollectionSchema
from milvine.model.segments import DeleteBatch, DeltaMeta, SegmentMeta
from milvine.querynode.local_node import LocalNode
from milvine.querynode.node import NodeInfo, SegmentNotHeld
from milvine.querynode.reduce import merge_hits
from milvine.querynode.remote.delete_feed import DeleteFeed, Item, Outbox
from milvine.querynode.remote.fan_out import FanOut, Routes
from milvine.querynode.remote.messages import decode_result
from milvine.querynode.remote.placement import Room, placed, preferred
from milvine.querynode.remote.remote_node import RemoteNode
from milvine.querynode.remote.rpc import PendingCall, Unreachable
from milvine.segment.aggregation import Aggregation, merge_tables
from milvine.segment.plans import Hits, QueryPlan, SearchPlan
from milvine.segment.retrieve import FoundRows, merge_found
from milvine.segment.sealed import LoadSpec, part_sizes
from milvine.segment.view import Views
from milvine.storage.files import OnBytes, ignore_bytes

_log = logging.getLogger(__name__)
HERE = NODE_ID
"""The head as a holder."""
_SHORT_SECONDS, _READ_SECONDS, _CATCH_UP_SECONDS = 3.0, 60.0, 60.0
_BRIEFLY, _PATIENTLY = 0.2, 10.0
"""How long a node waits for deletes: if another holder can be asked, and if there is none."""
LOST_SECONDS = 5.0
"""A node that has not reported for so long has lost its segments."""
_LOOK_SECONDS = 0.5
_MOVES_AT_A_TIME = 4
_CLOSE_PATIENCE_SECONDS = 10.0
SegmentKey = tuple[int, int]


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


@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    """A served segment, with its memory by part for each holder. It is replaced as a whole."""

    meta: SegmentMeta
    spec: LoadSpec
    holders: Mapping[int, Mapping[PartKey, int]]


@dataclass(slots=True, eq=False)
class _Opened:
    """A segment that is open on these nodes and not served yet."""

    meta: SegmentMeta
    spec: LoadSpec
    node_ids: list[int]


@dataclass(slots=True)
class _Member:
    """A registered node, and what is on its way to it."""

    node: RemoteNode
    outbox: Outbox = field(repr=False)


class NodeSet:
    """See QueryNode. Reads take no lock."""

    def __init__(
        self, catalog: Catalog, views: Views, local: LocalNode, own_limit_bytes: int, background: Supervisor
    ) -> None:
        self._catalog = catalog
        self._views = views
        self._local = local
        self._own_limit_bytes = own_limit_bytes
        self._feed = DeleteFeed()
        self._lock = threading.Condition()
        """Guards all tables; notified when work on a segment has ended."""
        self._members: dict[int, _Member] = {}
        self._placed: dict[int, dict[int, _Placed]] = defaultdict(dict)
        self._opened: dict[SegmentKey, _Opened] = {}
        self._busy: set[SegmentKey] = set()
        self._pinned: dict[int, tuple[int, ...]] = {}
        self._listener: Listener | None = None
        self._is_closed = False
        self._later = ThreadPoolExecutor(_MOVES_AT_A_TIME, "node-work")
        self._movers = ThreadPoolExecutor(_MOVES_AT_A_TIME, "segment-mover")
        self._balancer = background.worker("balance", self._balance)
        metrics.node_bytes.update({"held": self._held_bytes_by_node, "limit": self._limit_bytes_by_node})

    def start(self, listener: Listener) -> None:
        self._listener = listener
        listener.limit_changed(self.limit_bytes)
        self._balancer.start()

    def close(self) -> None:
        self._is_closed = True
        with self._lock:
            members = list(self._members.values())
        for member in members:
            member.outbox.close()
            member.node.channel.close()
        for pool in (self._later, self._movers):
            pool.shutdown(wait=False, cancel_futures=True)

    # Membership

    def join(self, node: RemoteNode) -> None:
        """The node knows of its registration and takes segments."""
        outbox = Outbox(
            partial(self._send_deletes, node), partial(self._run_later, self.lose, node.node_id, "it is far behind")
        )
        with self._lock:
            self._members[node.node_id] = _Member(node, outbox)
        _log.info("node %s (%s) has joined", node.node_id, node.report.address)
        self._members_changed()

    def lose(self, node_id: int, why: str) -> None:
        """Forgets the node and what it held."""
        lost: dict[int, list[int]] = defaultdict(list)
        with self._lock:
            member = self._members.pop(node_id, None)
            if member is None:
                return
            member.node.is_lost = True
            for collection_id, segments in list(self._placed.items()):
                for segment_id, one in list(segments.items()):
                    if node_id in one.holders:
                        left = {i: parts for i, parts in one.holders.items() if i != node_id}
                        if left:
                            segments[segment_id] = replace(one, holders=left)
                        else:
                            del segments[segment_id]
                            lost[collection_id].append(segment_id)
        self._feed.drop_node(node_id)
        member.outbox.close()
        member.node.channel.close()
        _log.warning("node %s (%s) is lost: %s", node_id, member.node.report.address, why)
        metrics.lost_nodes.inc()
        self._members_changed()
        if lost and self._listener is not None:
            self._listener.segments_lost(lost)

    def _members_changed(self) -> None:
        if self._listener is not None and not self._is_closed:
            self._listener.limit_changed(self.limit_bytes)
        self._balancer.wake()

    @property
    def limit_bytes(self) -> int:
        """Memory for segments on all nodes, or in the head while there are none."""
        nodes = self._nodes()
        return sum(node.report.limit_bytes for node in nodes) if nodes else self._own_limit_bytes

    def _nodes(self) -> list[RemoteNode]:
        return [member.node for member in list(self._members.values())]

    def _node(self, node_id: int) -> RemoteNode | None:
        member = self._members.get(node_id)
        return None if member is None else member.node

    def _held_bytes_by_node(self) -> dict[str, float]:
        return {str(node.node_id): node.report.held_bytes for node in self._nodes()}

    def _limit_bytes_by_node(self) -> dict[str, float]:
        return {str(node.node_id): node.report.limit_bytes for node in self._nodes()}

    def nodes(self) -> tuple[NodeInfo, ...]:
        return tuple(
            NodeInfo(
                n.node_id, n.report.address, n.report.hostname, n.report.limit_bytes, n.report.held_bytes, n.is_doubtful
            )
            for n in sorted(self._nodes(), key=lambda n: n.node_id)
        )

    def holders(self, collection_id: int, segment_id: int) -> tuple[int, ...]:
        one = self._placed[collection_id].get(segment_id)
        if one is None:
            return ()
        rooms = [room for room in self._rooms(one.meta) if room.node_id in one.holders]
        first = tuple(room.node_id for room in preferred(rooms, segment_id))
        return first + tuple(i for i in one.holders if i not in first)

    def copies(self, collection_id: int) -> int:
        """How many nodes are to hold each segment."""
        collection = self._catalog.snapshot.collections.get(collection_id)
        wanted = 1 if collection is None or collection.load is None else collection.load.replica_number
        return max(1, min(wanted, len(self._members)))

    def pin(self, segment_ids: Iterable[int], node_ids: Sequence[int]) -> None:
        """Prefers nodes for segments until they are released."""
        self._pinned |= {segment_id: tuple(node_ids) for segment_id in segment_ids}
        self._balancer.wake()

    # Work on one segment at a time

    @contextmanager
    def _alone(self, key: SegmentKey) -> Iterator[None]:
        with self._lock:
            self._lock.wait_for(lambda: key not in self._busy)
            self._busy.add(key)
        try:
            yield
        finally:
            self._end(key)

    def _try_alone(self, key: SegmentKey) -> bool:
        with self._lock:
            if key in self._busy or key in self._opened:
                return False
            self._busy.add(key)
            return True

    def _end(self, key: SegmentKey) -> None:
        with self._lock:
            self._busy.discard(key)
            self._lock.notify_all()

    def _each(self, node_ids: Iterable[int], call: Callable[[RemoteNode], Any]) -> dict[int, Any]:
        """The results of calls side by side; Unreachable in place of a result. Raises what nodes raise."""
        nodes = [node for i in node_ids if (node := self._node(i)) is not None]
        found: dict[int, Any] = {}

        def run(node: RemoteNode) -> None:
            try:
                found[node.node_id] = call(node)
            except (Unreachable, SegmentNotHeld) as error:
                node.failed()
                found[node.node_id] = Unreachable(str(error))
            except Exception as error:  # noqa: BLE001 - it is raised below, by the caller's thread
                found[node.node_id] = error

        threads = [threading.Thread(target=run, args=(node,), daemon=True) for node in nodes[1:]]
        for thread in threads:
            thread.start()
        if nodes:
            run(nodes[0])
        for thread in threads:
            thread.join()
        return found

    # Opening

    def load_segment(
        self, meta: SegmentMeta, spec: LoadSpec, on_bytes: OnBytes = ignore_bytes, in_parallel: bool = True
    ) -> None:
        key = meta.collection_id, meta.segment_id
        with self._alone(key):
            node_ids = self._open_somewhere(meta, spec, on_bytes, in_parallel)
            self._opened[key] = _Opened(meta, spec, node_ids)

    def _rooms(self, meta: SegmentMeta) -> list[Room]:
        return [node.room for node in self._nodes()]

    def _candidates(self, meta: SegmentMeta, spec: LoadSpec) -> list[int]:
        """The nodes that have room, in the order in which they are asked."""
        size = sum(part_sizes(meta, spec).values())
        taken = self._bytes_by_node()
        pinned = self._pinned.get(meta.segment_id, ())
        order = [
            room.node_id
            for room in preferred(self._rooms(meta), meta.segment_id)
            if room.limit_bytes - taken[room.node_id] >= size
        ]
        doubtful = {node.node_id for node in self._nodes() if node.is_doubtful}
        return sorted(order, key=lambda i: (i in doubtful, i not in pinned))

    def _bytes_by_node(self) -> dict[int, int]:
        taken: dict[int, int] = defaultdict(int)
        for segments in list(self._placed.values()):
            for one in list(segments.values()):
                for node_id, parts in one.holders.items():
                    taken[node_id] += sum(parts.values())
        return taken

    def _open_somewhere(self, meta: SegmentMeta, spec: LoadSpec, on_bytes: OnBytes, in_parallel: bool) -> list[int]:
        """Opens the segment on its holders, or on as many nodes as it needs, or else here, mapped."""
        before = self._placed[meta.collection_id].get(meta.segment_id)
        holders = [] if before is None else [i for i in before.holders if i != HERE]
        wanted = len(holders) or self.copies(meta.collection_id)
        left = holders + [i for i in self._candidates(meta, spec) if i not in holders]
        opened: list[int] = []
        failures: list[Exception] = []
        while left and len(opened) < wanted:
            asked, left = left[: wanted - len(opened)], left[wanted - len(opened) :]
            first = asked[0]

            def open_on(node: RemoteNode, first: int = first) -> Exception | None:
                report = on_bytes if node.node_id == first else _check_with(on_bytes)
                try:
                    self._open_on(node, meta, spec, report, in_parallel)
                except MemoryLimitExceeded as error:
                    return error
                return None

            for node_id, result in self._each(asked, open_on).items():
                if result is None:
                    opened.append(node_id)
                else:
                    failures.append(result)
        for failure in failures:
            if not isinstance(failure, Unreachable | MemoryLimitExceeded):
                for node_id in opened:
                    self._discard_on(node_id, (meta.collection_id, meta.segment_id))
                raise failure
        if not opened:
            _log.warning("segment %s is opened by the head, mapped: no node has it", meta.segment_id)
            self._local.load_segment(meta, replace(spec, mapped=True), on_bytes, in_parallel)
            opened = [HERE]
        return opened

    def _open_on(
        self, node: RemoteNode, meta: SegmentMeta, spec: LoadSpec, on_bytes: OnBytes, in_parallel: bool
    ) -> None:
        member = self._members.get(node.node_id)
        if member is None:
            raise Unreachable(f"node {node.node_id} is lost")
        self._feed.subscribe(meta.collection_id, node.node_id, member.outbox)
        stream = node.channel.stream("open", node.message(meta, spec, in_parallel))
        try:
            for message in stream:
                taken = decode_result(message)
                if taken is None:
                    return
                on_bytes(taken)
        finally:
            stream.cancel()
        raise Unreachable(f"node {node.node_id} ended an opening")

    def catch_up(self, meta: SegmentMeta, deltas: Sequence[DeltaMeta], deletes: Iterable[DeleteBatch]) -> None:
        opened = self._opened.get((meta.collection_id, meta.segment_id))
        if opened is None:
            return
        batches = tuple(deletes)
        if HERE in opened.node_ids:
            self._local.catch_up(meta, deltas, batches)
            return
        call = partial(self._catch_up_on, meta=meta, deltas=deltas, deletes=batches)
        found = self._each(opened.node_ids, call)
        _raise_failures(found)
        opened.node_ids = [i for i, result in found.items() if not isinstance(result, Unreachable)]
        if not opened.node_ids:
            raise IoFailed(f"no query node opens segment {meta.segment_id}")

    @staticmethod
    def _catch_up_on(
        node: RemoteNode, *, meta: SegmentMeta, deltas: Sequence[DeltaMeta], deletes: tuple[DeleteBatch, ...]
    ) -> None:
        needed = tuple(delta for delta in deltas if delta.max_ts > meta.min_ts)
        node.call("catch_up", meta, needed, deletes, seconds=_CATCH_UP_SECONDS)

    def serve(self, collection_id: int, segment_id: int, schema: CollectionSchema) -> None:
        key = collection_id, segment_id
        opened = self._opened[key]
        holders: dict[int, Mapping[PartKey, int]] = {}
        if HERE in opened.node_ids:
            self._local.serve(collection_id, segment_id, schema)
            holders[HERE] = self._local.memory_bytes(collection_id, segment_id)
        else:
            found = self._each(opened.node_ids, lambda node: node.call("serve", *key, schema, seconds=_SHORT_SECONDS))
            _raise_failures(found)
            holders = {i: parts for i, parts in found.items() if not isinstance(parts, Unreachable)}
        with self._lock:
            holders = {i: parts for i, parts in holders.items() if i == HERE or i in self._members}
            if not holders:
                raise IoFailed(f"no query node serves segment {segment_id}")
            del self._opened[key]
            before = self._placed[collection_id].get(segment_id)
            spec = replace(opened.spec, schema=schema)
            self._placed[collection_id][segment_id] = _Placed(opened.meta, spec, holders)
        for node_id in () if before is None else before.holders.keys() - holders.keys():
            self._run_later(self._release_on, node_id, key, _CLOSE_PATIENCE_SECONDS)
        self._balancer.wake()

    def memory_bytes(self, collection_id: int, segment_id: int) -> Mapping[PartKey, int]:
        one = self._placed[collection_id].get(segment_id)
        total: dict[PartKey, int] = defaultdict(int)
        for parts in () if one is None else one.holders.values():
            for part, size in parts.items():
                total[part] += size
        return total

    def discard(self, collection_id: int, segment_id: int) -> None:
        key = collection_id, segment_id
        with self._lock:
            opened = self._opened.pop(key, None)
            self._lock.notify_all()
        for node_id in [] if opened is None else opened.node_ids:
            self._discard_on(node_id, key)

    def _discard_on(self, node_id: int, key: SegmentKey) -> None:
        if node_id == HERE:
            self._local.discard(*key)
        elif (node := self._node(node_id)) is not None:
            self._run_later(_quietly, partial(node.call, "discard", *key, seconds=_SHORT_SECONDS))
            self._run_later(self._unsubscribe_idle, key[0])

    def _run_later(self, work: Callable[..., None], *arguments: Any) -> None:
        if not self._is_closed:
            self._later.submit(work, *arguments)

    def set_schema(self, collection_id: int, schema: CollectionSchema) -> None:
        self._local.set_schema(collection_id, schema)
        with self._lock:
            segments = self._placed[collection_id]
            for segment_id, one in segments.items():
                segments[segment_id] = replace(one, spec=replace(one.spec, schema=schema))
            node_ids = {i for one in segments.values() for i in one.holders if i != HERE}
        found = self._each(
            node_ids, lambda node: node.call("set_schema", collection_id, schema, seconds=_SHORT_SECONDS)
        )
        for node_id, result in found.items():
            if isinstance(result, Exception):
                # Later, since the caller holds the lock of the collection's loads.
                self._run_later(self.lose, node_id, f"it does not take a schema: {result}")

    def release_segment(self, collection_id: int, segment_id: int, patience_seconds: float) -> None:
        key = collection_id, segment_id
        with self._alone(key):
            with self._lock:
                one = self._placed[collection_id].pop(segment_id, None)
                self._pinned.pop(segment_id, None)
            if one is None:
                return
            if HERE in one.holders:
                self._local.release_segment(collection_id, segment_id, patience_seconds)
            self._each(
                (i for i in one.holders if i != HERE),
                lambda node: node.call("release", *key, patience_seconds, seconds=patience_seconds + _SHORT_SECONDS),
            )
        self._unsubscribe_idle(collection_id)

    def _release_on(self, node_id: int, key: SegmentKey, patience_seconds: float) -> None:
        if node_id == HERE:
            self._local.release_segment(*key, patience_seconds)
        elif (node := self._node(node_id)) is not None:
            _quietly(partial(node.call, "release", *key, patience_seconds, seconds=patience_seconds + _SHORT_SECONDS))
            self._unsubscribe_idle(key[0])

    def _unsubscribe_idle(self, collection_id: int) -> None:
        """Nodes without segments of the collection get no deletes of it."""
        with self._lock:
            if any(key[0] == collection_id for key in (*self._busy, *self._opened)):
                return
            holding = {i for one in self._placed[collection_id].values() for i in one.holders}
            idle = self._members.keys() - holding
            for node_id in idle:  # under the lock, since an opening subscribes its node while it is busy
                self._feed.unsubscribe(collection_id, node_id)
            if collection_id not in self._catalog.snapshot.collections and not holding:
                self._feed.drop_collection(collection_id)

    def held(self, collection_id: int) -> Mapping[int, tuple[SegmentMeta, LoadSpec]]:
        return {i: (one.meta, one.spec) for i, one in list(self._placed[collection_id].items())}

    # Deletes

    def apply_deletes(self, collection_id: int, batch: DeleteBatch) -> Collection[int]:
        self._feed.append(collection_id, batch)
        changed = self._local.apply_deletes(collection_id, batch)
        for segment_id in changed:
            self._measured(collection_id, segment_id, HERE, self._local.memory_bytes(collection_id, segment_id))
        return changed

    def _measured(self, collection_id: int, segment_id: int, node_id: int, parts: Mapping[PartKey, int]) -> None:
        with self._lock:
            one = self._placed[collection_id].get(segment_id)
            if one is not None and node_id in one.holders:
                self._placed[collection_id][segment_id] = replace(one, holders={**one.holders, node_id: parts})

    def _send_deletes(self, node: RemoteNode, items: Sequence[Item]) -> None:
        try:
            grown = node.call("deletes", tuple(items), seconds=_SHORT_SECONDS)
        except SegmentNotHeld:
            self.lose(node.node_id, "its session has ended")
            raise
        except MilvineError as error:
            self.lose(node.node_id, f"it does not take deletes: {error}")
            raise
        for (collection_id, segment_id), parts in grown.items():
            if parts:
                self._measured(collection_id, segment_id, node.node_id, parts)
                if self._listener is not None:
                    self._listener.segment_grown(collection_id, segment_id)

    # Reads

    def _read(self, name: str, collection_id: int, segment_ids: Sequence[int], read_ts: int | None, *more: Any) -> Any:
        """The results of all holders that were asked."""
        number = 0 if read_ts is None else self._feed.number_at(collection_id, read_ts)
        return FanOut(_Reading(self, name, collection_id, number, more)).run(segment_ids)

    def term_statistics(
        self, collection_id: int, segment_ids: Sequence[int], field_id: int, terms: Any
    ) -> TermStatistics:
        serving = self._placed[collection_id]
        ids = [i for i in segment_ids if i in serving]
        if not ids:
            return self._local.term_statistics(collection_id, (), field_id, terms)
        found: list[TermStatistics] = self._read("term_statistics", collection_id, ids, None, field_id, terms)
        return sum(found[1:], found[0])

    def search(self, collection_id: int, segment_ids: Sequence[int], plan: SearchPlan) -> Hits | None:
        found = self._read("search", collection_id, segment_ids, plan.read_ts, plan)
        hits = [one for one in found if one is not None]
        return merge_hits(hits, plan) if hits else None

    def query(self, collection_id: int, segment_ids: Sequence[int], plan: QueryPlan) -> FoundRows | None:
        found = self._read("query", collection_id, segment_ids, plan.read_ts, plan)
        rows = [one for one in found if one is not None]
        return merge_found(rows, plan) if rows else None

    def count(self, collection_id: int, segment_ids: Sequence[int], plan: QueryPlan) -> int:
        return sum(self._read("count", collection_id, segment_ids, plan.read_ts, plan))

    def aggregate(
        self, collection_id: int, segment_ids: Sequence[int], plan: QueryPlan, what: Aggregation
    ) -> Any | None:
        found = self._read("aggregate", collection_id, segment_ids, plan.read_ts, plan, what)
        tables = [one for one in found if one is not None]
        return merge_tables(tables, what) if tables else None

    def routes(self, collection_id: int, segment_ids: Sequence[int], tried: frozenset[int]) -> Routes | None:
        """A holder for each segment, as few of them as possible, idle and answering ones first."""
        segments, members = self._placed[collection_id], self._members
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
        node = self._node(node_id)
        if node is None:
            return node_id != HERE, 0, node_id
        # Of equally idle nodes another one comes first each time.
        return node.is_doubtful, node.in_flight, node.turn()

    def begin_read(self, node_id: int, name: str, *arguments: Any) -> PendingCall:
        """Raises Unreachable if the node is gone."""
        node = self._node(node_id)
        if node is None:
            raise Unreachable(f"node {node_id} is lost")
        call = node.begin(name, *arguments, seconds=_READ_SECONDS)
        node.started()
        call.on_end(node.ended)
        return call

    def read_here(self, name: str, collection_id: int, segment_ids: Sequence[int], *more: Any) -> Any:
        return getattr(self._local, name)(collection_id, segment_ids, *more)

    def hedge_seconds(self, node_id: int, name: str) -> float:
        node = self._node(node_id)
        return 0.0 if node is None else node.hedge_seconds(name)

    def answered(self, node_id: int, name: str, seconds: float) -> None:
        if (node := self._node(node_id)) is not None:
            node.answered(name, seconds)

    def failed(self, node_id: int) -> None:
        metrics.failovers.inc()
        if (node := self._node(node_id)) is not None:
            node.failed()

    # Balance

    def _balance(self) -> float:
        for node in self._nodes():
            if node.silent_seconds > LOST_SECONDS:
                self.lose(node.node_id, f"no report for {node.silent_seconds:.0f} seconds")
            else:
                self._compare(node)
        rooms = [node.room for node in self._nodes()]
        if rooms:
            for key, targets in self._wanted(rooms).items():
                self._move(key, targets)
        return _LOOK_SECONDS

    def _compare(self, node: RemoteNode) -> None:
        """What the node reports with what it should hold: an answer may have been lost on its way."""
        reported = {(i, segment_id) for i, segment_ids in node.report.segments.items() for segment_id in segment_ids}
        with self._lock:
            expected = {
                (i, segment_id)
                for i, segments in list(self._placed.items())
                for segment_id, one in segments.items()
                if node.node_id in one.holders
            }
            working = {*self._busy, *self._opened}
        for key in node.lasting((reported ^ expected) - working):
            if key in reported:
                self._run_later(self._release_on, node.node_id, key, _CLOSE_PATIENCE_SECONDS)
            else:
                self.lose(node.node_id, f"it does not hold segment {key[1]} any more")
                return

    def _wanted(self, rooms: Sequence[Room]) -> dict[SegmentKey, tuple[int, ...]]:
        """The nodes of the segments that are not where they should be. Nothing is opened on a node that is silent."""
        doubtful = {node.node_id for node in self._nodes() if node.is_doubtful}
        sizes: dict[int, int] = {}
        copies: dict[int, int] = {}
        where: dict[int, tuple[SegmentKey, _Placed]] = {}
        for collection_id, segments in list(self._placed.items()):
            wanted = self.copies(collection_id)
            for segment_id, one in list(segments.items()):
                sizes[segment_id] = sum(part_sizes(one.meta, one.spec).values())
                copies[segment_id] = wanted
                where[segment_id] = (collection_id, segment_id), one
        targets = placed(sizes, rooms, copies, self._pinned)
        found: dict[SegmentKey, tuple[int, ...]] = {}
        for segment_id, node_ids in targets.items():
            key, one = where[segment_id]
            added = set(node_ids) - one.holders.keys()
            if node_ids and (added or one.holders.keys() - set(node_ids)) and not added & doubtful:
                found[key] = node_ids
        return found

    def _move(self, key: SegmentKey, targets: tuple[int, ...]) -> None:
        if self._try_alone(key):
            try:
                self._movers.submit(self._move_alone, key, targets)
            except RuntimeError:  # the process is ending
                self._end(key)

    def _move_alone(self, key: SegmentKey, targets: tuple[int, ...]) -> None:
        try:
            one = self._placed[key[0]].get(key[1])
            if one is None:
                return
            for node_id in targets:
                if node_id not in one.holders:
                    self._add_holder(key, node_id)
            with self._lock:
                one = self._placed[key[0]].get(key[1])
                if one is None or not set(targets) <= set(one.holders):
                    return
                left = {i: one.holders[i] for i in targets}
                self._placed[key[0]][key[1]] = replace(one, holders=left)
            for node_id in one.holders.keys() - left.keys():
                self._release_on(node_id, key, _CLOSE_PATIENCE_SECONDS)
            if self._listener is not None:
                self._listener.segment_grown(*key)
        except (MilvineError, OSError, Unreachable, SegmentNotHeld) as error:
            _log.info("segment %s is not moved: %s", key[1], error)
        except Exception as error:
            _log.error("segment %s is not moved", key[1], exc_info=error)
            raise
        finally:
            self._end(key)

    def _add_holder(self, key: SegmentKey, node_id: int) -> None:
        node, one = self._node(node_id), self._placed[key[0]].get(key[1])
        if node is None or one is None:
            raise Unreachable(f"node {node_id} is lost")
        self._open_on(node, one.meta, one.spec, ignore_bytes, in_parallel=True)
        try:
            self._catch_up_alone(node, one.meta)
            now = self._placed[key[0]].get(key[1])
            if now is None or now.meta is not one.meta:
                raise SegmentNotHeld(key[1])
            parts = node.call("serve", *key, now.spec.schema, seconds=_SHORT_SECONDS)
        except BaseException:
            _quietly(partial(node.call, "discard", *key, seconds=_SHORT_SECONDS))
            raise
        with self._lock:
            one = self._placed[key[0]].get(key[1])
            if one is not None and node_id in self._members:
                self._placed[key[0]][key[1]] = replace(one, holders={**one.holders, node_id: parts})

    def _catch_up_alone(self, node: RemoteNode, meta: SegmentMeta) -> None:
        """As the opener does for a segment that it opens."""
        while True:
            view = self._views.current(meta.collection_id)
            if view is None or not view.names(meta.segment_id):
                raise SegmentNotHeld(meta.segment_id)
            try:
                self._catch_up_on(node, meta=meta, deltas=view.deltas, deletes=view.deletes)
            except DataIntegrityError:
                now = self._views.current(meta.collection_id)
                if now is None or now.deltas is view.deltas:
                    raise
            else:
                return


class _Reading:
    """One kind of read of one collection, for a fan-out."""

    def __init__(self, nodes: NodeSet, name: str, collection_id: int, number: int, more: tuple[Any, ...]) -> None:
        self._nodes = nodes
        self._name = name
        self._collection_id = collection_id
        self._number = number
        self._more = more

    def routes(self, segment_ids: Sequence[int], tried: frozenset[int]) -> Routes | None:
        return self._nodes.routes(self._collection_id, segment_ids, tried)

    def begin(self, node_id: int, segment_ids: tuple[int, ...], *, has_others: bool) -> PendingCall | None:
        if node_id == HERE:
            return None
        patience = _BRIEFLY if has_others else _PATIENTLY
        return self._nodes.begin_read(
            node_id, self._name, self._number, patience, self._collection_id, segment_ids, *self._more
        )

    def read_here(self, segment_ids: tuple[int, ...]) -> Any:
        return self._nodes.read_here(self._name, self._collection_id, segment_ids, *self._more)

    def hedge_seconds(self, node_id: int) -> float:
        return self._nodes.hedge_seconds(node_id, self._name)

    def answered(self, node_id: int, seconds: float) -> None:
        self._nodes.answered(node_id, self._name, seconds)

    def failed(self, node_id: int) -> None:
        self._nodes.failed(node_id)


def _check_with(on_bytes: OnBytes) -> OnBytes:
    """Ends an opening as `on_bytes` does, without counting its bytes once more."""

    def check(_more_bytes: int) -> None:
        on_bytes(0)

    return check


def _raise_failures(found: Mapping[int, Any]) -> None:
    for result in found.values():
        if isinstance(result, Exception) and not isinstance(result, Unreachable):
            raise result


def _quietly(call: Callable[[], Any]) -> None:
    try:
        call()
    except (Unreachable, SegmentNotHeld, MilvineError) as error:
        _log.info("a node did not do what it was told: %s", error)
