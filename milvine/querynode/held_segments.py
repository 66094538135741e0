"""Reads of snapshots of collections: their segments, mapped, opened when they are read, without any load.

What was read last stays open, within bounds. Nothing is made resident, so the memory of loads is not needed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from milvine.index.term_queries import TermQueries
from milvine.model.collections import Collection, LoadConfig
from milvine.model.records import record
from milvine.model.segments import SegmentMeta
from milvine.model.snapshots import CollectionSnapshot
from milvine.querynode.cluster import Target
from milvine.querynode.stored_segments import open_stored
from milvine.segment.aggregation import Aggregation, aggregate_row_sets
from milvine.segment.deletes import joined_deletes
from milvine.segment.plans import Hits, QueryPlan, SearchPlan
from milvine.segment.retrieve import FoundRows, count_row_sets, query_row_sets
from milvine.segment.sealed import LoadSpec, SealedSegment
from milvine.segment.search import search_row_sets
from milvine.segment.term_statistics import term_statistics
from milvine.storage.store import SegmentStore, read_delta

_MOST_OPEN = 64
_Plan = TypeVar("_Plan", SearchPlan, QueryPlan)
_Result = TypeVar("_Result")
_Key = tuple[int, int]
"""A snapshot and a segment."""


class HeldSegments:
    """The opened segments of snapshots. Files are unmapped when their last reader ends."""

    def __init__(self, store: SegmentStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._opened: OrderedDict[_Key, SealedSegment] = OrderedDict()

    def segment(self, kept: CollectionSnapshot, meta: SegmentMeta, field_ids: frozenset[int]) -> SealedSegment:
        """The segment with at least these fields, and with the deletes of the snapshot. Raises DataIntegrityError and
        IoFailed."""
        key = kept.snapshot_id, meta.segment_id
        with self._lock:
            known = self._opened.get(key)
        if known is None or known.lacks(field_ids):
            known = self._open(kept, meta, field_ids, known)
        with self._lock:
            self._opened[key] = known
            self._opened.move_to_end(key)
            while len(self._opened) > _MOST_OPEN:
                self._opened.popitem(last=False)
        return known

    def forget(self, snapshot_id: int) -> None:
        """Closes what is open of a snapshot that is gone."""
        with self._lock:
            for key in [key for key in self._opened if key[0] == snapshot_id]:
                del self._opened[key]

    def _open(
        self, kept: CollectionSnapshot, meta: SegmentMeta, field_ids: frozenset[int], known: SealedSegment | None
    ) -> SealedSegment:
        collection = kept.collection
        wanted = field_ids & collection.schema.field_ids
        if known is not None:
            wanted |= known.spec.field_ids
        scalar = tuple(i for i in collection.scalar_indexes if i.field_id in wanted)
        spec = LoadSpec(collection.schema, wanted, collection.index_by_field, scalar, mapped=True)
        opened = open_stored(self._store, meta, spec, known)
        if known is not None:
            opened.marks = known.marks
            return opened
        deltas = [read_delta(self._store, d.collection_id, d.delta_id) for d in kept.deltas if meta.needs(d)]
        for batch in joined_deletes(deltas):
            opened.apply_deletes(batch)
        return opened


@record
class HeldReads:
    """Reads of one snapshot, in the form of `Cluster`. Every field can be read."""

    segments: HeldSegments
    kept: CollectionSnapshot
    collection: Collection
    """The record of then, as if all were loaded."""

    @classmethod
    def of(cls, segments: HeldSegments, kept: CollectionSnapshot) -> HeldReads:
        partition_ids = frozenset(p.partition_id for p in kept.collection.partitions)
        everything = LoadConfig(partition_ids, kept.collection.schema.field_ids)
        return cls(segments, kept, replace(kept.collection, load=everything))

    def read_ts(self, collection_id: int) -> int:
        """A timestamp that sees all of the snapshot."""
        newest = [meta.max_ts for meta in self.kept.segments] + [delta.max_ts for delta in self.kept.deltas]
        return max(self.kept.created_ts, *newest, 0)

    def search(self, target: Target, plan: SearchPlan) -> Hits | None:
        if isinstance(plan.queries, TermQueries):
            every = self._opened(None, plan.field_ids)
            statistics = term_statistics(every, plan.field_id, plan.queries.terms())
            plan = replace(plan, queries=plan.queries.weighed(statistics))
        return self._read(target, plan, search_row_sets)

    def query(self, target: Target, plan: QueryPlan) -> FoundRows | None:
        return self._read(target, plan, query_row_sets)

    def count(self, target: Target, plan: QueryPlan) -> int:
        return self._read(target, plan, count_row_sets)

    def aggregate(self, target: Target, plan: QueryPlan, what: Aggregation) -> Any | None:
        return self._read(target, plan, partial(aggregate_row_sets, what=what))

    def _opened(self, partition_ids: frozenset[int] | None, field_ids: frozenset[int]) -> list[SealedSegment]:
        wanted = [m for m in self.kept.segments if partition_ids is None or m.partition_id in partition_ids]
        return [self.segments.segment(self.kept, meta, field_ids) for meta in wanted]

    def _read(self, target: Target, plan: _Plan, read: Callable[[Sequence[SealedSegment], _Plan], _Result]) -> _Result:
        if expired_ts := self.kept.collection.expired_ts():
            plan = replace(plan, expired_ts=expired_ts)
        return read(self._opened(target.partition_ids, plan.field_ids), plan)
