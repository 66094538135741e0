"""The query nodes of a cluster as one QueryNode.

The loader decides what is open; this decides where. A segment is served by `replica_number` nodes, or by the head, from
mapped files, while no node has it.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from milvine import metrics
from milvine.background import Supervisor
from milvine.catalog.store import Catalog
from milvine.index.term_queries import TermStatistics
from milvine.model.collections import LoadConfig
from milvine.model.properties import PartKey
from milvine.model.schema import CollectionSchema
from milvine.model.segments import DeleteBatch, DeltaMeta, SegmentMeta
from milvine.querynode.local_node import LocalNode
from milvine.querynode.node import NodeInfo
from milvine.querynode.opening_progress import OpeningProgress
from milvine.querynode.reduce import merge_hits
from milvine.querynode.remote.balancer import Balancer
from milvine.querynode.remote.delete_feed import DeleteFeed
from milvine.querynode.remote.holdings import HERE, Holdings
from milvine.querynode.remote.later import Later
from milvine.querynode.remote.members import Listener, Members
from milvine.querynode.remote.node_groups import NodeGroups
from milvine.querynode.remote.openings import Openings
from milvine.querynode.remote.placement import Rooms
from milvine.querynode.remote.reads import Read, Reads
from milvine.segment.aggregation import Aggregation, merge_tables
from milvine.segment.plans import Hits, QueryPlan, SearchPlan
from milvine.segment.retrieve import FoundRows, merge_found
from milvine.segment.sealed import LoadSpec
from milvine.segment.view import Views

_COMING_SECONDS = 10.0
"""For so long after the start of a head its nodes may still have to report to it."""


class NodeSet:
    """See QueryNode. Reads take no lock."""

    def __init__(
        self, catalog: Catalog, views: Views, local: LocalNode, own_limit_bytes: int, background: Supervisor
    ) -> None:
        self._local = local
        self._own_limit_bytes = own_limit_bytes
        self._is_closed = False
        self._changing = threading.Lock()
        """Of two nodes that join at a time, the one that counted fewer must not tell its sum last."""
        self._started_at = time.monotonic()
        self._feed = DeleteFeed()
        self._holdings = Holdings()
        self._later = Later()
        self.members = Members(self._holdings, self._feed, self._later, self._members_changed)
        self._groups = NodeGroups(catalog, self.members, lambda: self._coming_seconds > 0)
        self._openings = Openings(
            catalog, views, local, self.members, self._groups, self._holdings, self._feed, self._later
        )
        self._balancer = Balancer(self.members, self._groups, self._holdings, self._openings, self._later, background)
        self._reads = Reads(local, self.members, self._holdings, self._feed)
        metrics.read_nodes = self.members.values

    def start(self, listener: Listener) -> None:
        self.members.listener = listener
        self._started_at = time.monotonic()
        self._tell_limit(listener)
        self._balancer.start()

    def close(self) -> None:
        self._is_closed = True
        self.members.close()
        self._later.close()
        self._balancer.close()

    def _members_changed(self) -> None:
        if self.members.listener is not None and not self._is_closed:
            self._tell_limit(self.members.listener)
        self._balancer.wake()

    def _tell_limit(self, listener: Listener) -> None:
        with self._changing:
            listener.limit_changed(self.limit_bytes)

    @property
    def limit_bytes(self) -> int:
        """Memory for segments on all nodes, or in the head while there are none."""
        nodes = self.members.all()
        return sum(node.report.limit_bytes for node in nodes) if nodes else self._own_limit_bytes

    # Where segments are

    def nodes(self) -> tuple[NodeInfo, ...]:
        return self.members.infos(self._groups.by_node())

    @property
    def _coming_seconds(self) -> float:
        return self._started_at + _COMING_SECONDS - time.monotonic()

    def wait_for_nodes(self, are_enough: Callable[[], bool]) -> None:
        self.members.wait_until(are_enough, self._coming_seconds)

    def holders(self, collection_id: int, segment_id: int) -> tuple[int, ...]:
        one = self._holdings.get(collection_id, segment_id)
        if one is None:
            return ()
        first = tuple(Rooms(room for room in self.members.rooms if room.node_id in one.holders).preferred(segment_id))
        return first + tuple(i for i in one.holders if i not in first)

    def copies(self, collection_id: int, load: LoadConfig | None = None) -> int:
        return self._groups.copies(collection_id, load)

    def pin(self, collection_id: int, segment_ids: Iterable[int], node_ids: Sequence[int]) -> None:
        self._holdings.pin([(collection_id, segment_id) for segment_id in segment_ids], node_ids)
        self._balancer.wake()

    def held(self, collection_id: int) -> Mapping[int, tuple[SegmentMeta, LoadSpec]]:
        return {i: (one.meta, one.spec) for i, one in list(self._holdings.of(collection_id).items())}

    def held_segment(self, collection_id: int, segment_id: int) -> tuple[SegmentMeta, LoadSpec] | None:
        one = self._holdings.get(collection_id, segment_id)
        return None if one is None else (one.meta, one.spec)

    def has_left(self, collection_id: int, segment_id: int) -> bool:
        """Whether no node holds a segment or opens it, by the table and by their reports."""
        key = collection_id, segment_id
        if self._holdings.get(*key) is not None or key in self._holdings.working():
            return False
        return not any(segment_id in node.report.segments.get(collection_id, ()) for node in self.members.all())

    def memory_bytes(self, collection_id: int, segment_id: int) -> Mapping[PartKey, int]:
        one = self._holdings.get(collection_id, segment_id)
        total: dict[PartKey, int] = defaultdict(int)
        for parts in () if one is None else one.holders.values():
            for part, size in parts.items():
                total[part] += size
        return total

    # Opening and closing

    def load_segment(
        self, meta: SegmentMeta, spec: LoadSpec, progress: OpeningProgress, in_parallel: bool = True
    ) -> None:
        self._openings.load(meta, spec, progress, in_parallel)

    def catch_up(self, meta: SegmentMeta, deltas: Sequence[DeltaMeta], deletes: Iterable[DeleteBatch]) -> None:
        self._openings.catch_up(meta, deltas, deletes)

    def serve(self, collection_id: int, segment_id: int, schema: CollectionSchema) -> None:
        self._openings.serve((collection_id, segment_id), schema)
        self._balancer.wake()

    def discard(self, collection_id: int, segment_id: int) -> None:
        self._openings.discard((collection_id, segment_id))

    def set_schema(self, collection_id: int, schema: CollectionSchema) -> None:
        self._openings.set_schema(collection_id, schema)

    def release_segment(self, collection_id: int, segment_id: int, patience_seconds: float) -> None:
        self._openings.release((collection_id, segment_id), patience_seconds)

    # Deletes

    def apply_deletes(self, collection_id: int, batch: DeleteBatch) -> Collection[int]:
        self._feed.append(collection_id, batch)
        changed = self._local.apply_deletes(collection_id, batch)
        for segment_id in changed:
            parts = self._local.memory_bytes(collection_id, segment_id)
            self._holdings.measured((collection_id, segment_id), HERE, parts)
        return changed

    # Reads

    def term_statistics(
        self, collection_id: int, segment_ids: Sequence[int], field_id: int, terms: Any, *, seconds: float
    ) -> TermStatistics:
        serving = self._holdings.of(collection_id)
        ids = [i for i in segment_ids if i in serving]
        if not ids:
            return self._local.term_statistics(collection_id, (), field_id, terms, seconds=seconds)
        read = Read("term_statistics", collection_id, (field_id, terms), None, seconds)
        found: list[TermStatistics] = self._reads.run(read, ids)
        return sum(found[1:], found[0])

    def search(
        self, collection_id: int, segment_ids: Sequence[int], plan: SearchPlan, *, seconds: float
    ) -> Hits | None:
        found = self._reads.run(Read("search", collection_id, (plan,), plan.read_ts, seconds), segment_ids)
        hits = [one for one in found if one is not None]
        return merge_hits(hits, plan) if hits else None

    def query(
        self, collection_id: int, segment_ids: Sequence[int], plan: QueryPlan, *, seconds: float
    ) -> FoundRows | None:
        found = self._reads.run(Read("query", collection_id, (plan,), plan.read_ts, seconds), segment_ids)
        rows = [one for one in found if one is not None]
        return merge_found(rows, plan) if rows else None

    def count(self, collection_id: int, segment_ids: Sequence[int], plan: QueryPlan, *, seconds: float) -> int:
        return sum(self._reads.run(Read("count", collection_id, (plan,), plan.read_ts, seconds), segment_ids))

    def aggregate(
        self, collection_id: int, segment_ids: Sequence[int], plan: QueryPlan, what: Aggregation, *, seconds: float
    ) -> Any | None:
        read = Read("aggregate", collection_id, (plan, what), plan.read_ts, seconds)
        tables = [one for one in self._reads.run(read, segment_ids) if one is not None]
        return merge_tables(tables, what) if tables else None
