"""Fans a read out to the holders of the data: query nodes for sealed segments, this process for growing rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from milvine.catalog.store import Catalog
from milvine.errors import CollectionNotFullyLoaded, CollectionNotLoaded, PartitionNotLoaded, UnexpectedError
from milvine.index.term_queries import TermQueries
from milvine.model.records import record
from milvine.querynode.joining import Blocks, RowSets
from milvine.querynode.loader import Loader
from milvine.querynode.node import QueryNode, SegmentNotHeld
from milvine.querynode.reduce import merge_hits
from milvine.segment.aggregation import Aggregation, aggregate_row_sets, merge_tables
from milvine.segment.plans import Hits, QueryPlan, SearchPlan
from milvine.segment.retrieve import FoundRows, count_row_sets, merge_found, query_row_sets
from milvine.segment.rows import RowSet
from milvine.segment.search import search_row_sets
from milvine.segment.term_statistics import term_statistics
from milvine.segment.view import ReadView, Views

MAX_WAIT_SECONDS = 10.0
_WAKE_SECONDS = 2.0
"""How long a read of a collection that comes back waits for one of the places to wait."""
_MOST_SHARES = 64
"""Sets of partitions of one view that are remembered."""
_Plan = TypeVar("_Plan", SearchPlan, QueryPlan)
_Result = TypeVar("_Result")


@record
class Target:
    """The scope of one read: a view, its partitions, and its deadline."""

    collection_id: int
    partition_ids: frozenset[int] | None
    deadline: float

    @property
    def seconds(self) -> float:
        """How long the caller still waits."""
        return max(0.0, self.deadline - time.monotonic())


@record
class _Share:
    """What of a view is read. The view keeps it, so it must not keep the view: growing rows would wait for the garbage
    collector, which knows nothing of their size."""

    segment_ids: tuple[int, ...]
    growing: RowSets


class Cluster:
    """All reads of loaded collections."""

    def __init__(
        self, catalog: Catalog, views: Views, node: QueryNode, loader: Loader, blocks: Blocks, max_waiting: int
    ) -> None:
        """At most `max_waiting` reads wait for loading collections; further ones fail with code 103 at once, so that
        release and progress always get a thread. Those of a collection that comes back wait for a moment first."""
        self._catalog = catalog
        self._views = views
        self.node = node
        self._loader = loader
        self._answers = loader.answers
        self._blocks = blocks
        self._places_to_wait = threading.BoundedSemaphore(max_waiting)

    def read_ts(self, collection_id: int) -> int:
        """The timestamp that sees every acknowledged write."""
        view = self._views.current(collection_id)
        if view is None:
            raise CollectionNotLoaded(collection_id)
        return view.ts

    def wait_for_nodes(self, are_enough: Callable[[], bool]) -> None:
        """As QueryNode.wait_for_nodes; without a wait if too many calls wait already."""
        if not are_enough() and self._places_to_wait.acquire(blocking=False):
            try:
                self.node.wait_for_nodes(are_enough)
            finally:
                self._places_to_wait.release()

    def _expired_ts(self, target: Target) -> int:
        collection = self._catalog.snapshot.collections.get(target.collection_id)
        return 0 if collection is None else collection.expired_ts()

    def search(self, target: Target, plan: SearchPlan) -> Hits | None:
        def on_share(view: ReadView, share: _Share, plan: SearchPlan) -> Hits | None:
            ids = share.segment_ids
            if isinstance(plan.queries, TermQueries):
                plan = replace(plan, queries=self._weighed(target, view, plan.field_id, plan.queries))
            found = [
                self.node.search(target.collection_id, ids, plan, seconds=target.seconds) if ids else None,
                search_row_sets(self._joined(share.growing, plan), plan) if share.growing else None,
            ]
            hits = [h for h in found if h is not None]
            return merge_hits(hits, plan) if hits else None

        return self._read(target, plan, on_share)

    def _joined(self, growing: RowSets, plan: SearchPlan) -> Sequence[RowSet]:
        found = self._blocks.for_search(growing, plan)
        collection = self._catalog.snapshot.collections.get(growing.collection_id)
        if collection is None or collection.load is None:  # released meanwhile, perhaps before the block was made
            self._blocks.drop(growing.collection_id)
        return found

    def query(self, target: Target, plan: QueryPlan) -> FoundRows | None:
        def on_share(view: ReadView, share: _Share, plan: QueryPlan) -> FoundRows | None:
            ids = share.segment_ids
            found = [
                self.node.query(target.collection_id, ids, plan, seconds=target.seconds) if ids else None,
                query_row_sets(share.growing, plan) if share.growing else None,
            ]
            rows = [f for f in found if f is not None]
            return merge_found(rows, plan) if rows else None

        return self._read(target, plan, on_share)

    def count(self, target: Target, plan: QueryPlan) -> int:
        def on_share(view: ReadView, share: _Share, plan: QueryPlan) -> int:
            ids = share.segment_ids
            sealed = self.node.count(target.collection_id, ids, plan, seconds=target.seconds) if ids else 0
            return sealed + count_row_sets(share.growing, plan)

        return self._read(target, plan, on_share)

    def aggregate(self, target: Target, plan: QueryPlan, what: Aggregation) -> Any | None:
        """The table of results, one row for each group; None if there are no segments."""

        def on_share(view: ReadView, share: _Share, plan: QueryPlan) -> Any | None:
            ids = share.segment_ids
            found = [
                self.node.aggregate(target.collection_id, ids, plan, what, seconds=target.seconds) if ids else None,
                aggregate_row_sets(share.growing, plan, what) if share.growing else None,
            ]
            tables = [table for table in found if table is not None]
            return merge_tables(tables, what) if tables else None

        return self._read(target, plan, on_share)

    def _weighed(self, target: Target, view: ReadView, field_id: int, queries: TermQueries) -> TermQueries:
        """The queries of a BM25 search, weighed by all loaded rows, whichever of them are searched."""
        collection = self._catalog.snapshot.collections.get(target.collection_id)
        if collection is None or collection.load is None:
            raise CollectionNotLoaded(target.collection_id)
        whole, terms = _share_of(view, collection.load.partition_ids, with_growing=True), queries.terms()
        ids = whole.segment_ids
        sealed = self.node.term_statistics(target.collection_id, ids, field_id, terms, seconds=target.seconds)
        return queries.weighed(sealed + term_statistics(whole.growing, field_id, terms))

    def _read(self, target: Target, plan: _Plan, on_share: Callable[[ReadView, _Share, _Plan], _Result]) -> _Result:
        """Runs a read over one view, without expired rows. If a segment of it is not open, waits for a change and runs
        over a new view."""
        if expired_ts := self._expired_ts(target):
            plan = replace(plan, expired_ts=expired_ts)
        deadline = min(target.deadline, time.monotonic() + MAX_WAIT_SECONDS)
        with self._loader.reading(target.collection_id):
            return self._read_in_time(target, plan, on_share, deadline)

    def _read_in_time(
        self, target: Target, plan: _Plan, on_share: Callable[[ReadView, _Share, _Plan], _Result], deadline: float
    ) -> _Result:
        while True:
            seen = self._answers.changes(target.collection_id)
            partition_ids = self._readable(target, plan.field_ids)
            if partition_ids is not None:
                try:
                    view = self._view(target)
                    return on_share(view, _share_of(view, partition_ids, not plan.ignores_growing), plan)
                except SegmentNotHeld:
                    if time.monotonic() >= deadline:
                        raise CollectionNotFullyLoaded(target.collection_id) from None
                    # Mostly between two views; then the change has already happened.
                    if self._answers.changes(target.collection_id) != seen:
                        continue
            self._wait_for_change(target, plan.field_ids, seen, deadline)

    def _view(self, target: Target) -> ReadView:
        view = self._views.current(target.collection_id)
        if view is None:
            raise CollectionNotLoaded(target.collection_id)
        return view

    def _readable(self, target: Target, field_ids: frozenset[int]) -> frozenset[int] | None:
        """The partitions to read; None while they are being loaded. A partition or field that is not to be loaded is an
        error."""
        collection = self._catalog.snapshot.collections.get(target.collection_id)
        if collection is None or collection.load is None:
            raise CollectionNotLoaded(target.collection_id)
        if not self._loader.wanted.serves_unlisted_fields:
            # A read that started before a field was dropped reads it as absent.
            for field_id in (field_ids & collection.schema.field_ids) - collection.load.field_ids:
                raise UnexpectedError(f"field {collection.schema.by_id[field_id].name} is not loaded")
        named = target.partition_ids
        if named is not None:
            for partition_id in named - collection.load.partition_ids:
                raise PartitionNotLoaded(partition_id)
        if not self._answers.serves(collection, named, field_ids):
            return None
        return collection.load.partition_ids if named is None else named

    def _wait_for_change(self, target: Target, field_ids: frozenset[int], seen: int, deadline: float) -> None:
        """Returns when the read may run, after a change since `changes` was `seen`. A resting collection is woken."""
        comes_back = self._answers.comes_back(target.collection_id)
        patience = min(_WAKE_SECONDS, max(0.0, deadline - time.monotonic())) if comes_back else 0.0
        if not self._places_to_wait.acquire(timeout=patience):
            raise CollectionNotFullyLoaded(target.collection_id)
        try:
            while True:
                self._loader.wake(target.collection_id, deadline)
                if not self._answers.wait_for_change(target.collection_id, seen, deadline):
                    raise CollectionNotFullyLoaded(target.collection_id)
                seen = self._answers.changes(target.collection_id)
                if self._readable(target, field_ids) is not None:
                    return
        finally:
            self._places_to_wait.release()


def _share_of(view: ReadView, partition_ids: frozenset[int], with_growing: bool) -> _Share:
    key = partition_ids, with_growing
    share = cast(_Share | None, view.shares.get(key))
    if share is None:
        growing = [c for s in view.growing if with_growing and s.partition_id in partition_ids for c in s.chunks]
        sealed = tuple(m.segment_id for m in view.sealed if m.partition_id in partition_ids)
        if len(view.shares) >= _MOST_SHARES:
            view.shares.clear()
        share = view.shares[key] = _Share(sealed, RowSets(view.collection_id, growing))
    return share
