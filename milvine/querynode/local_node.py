"""A query node in this process: loaded segments, read by the caller's own thread."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from milvine import metrics
from milvine.crash_points import crash_point
from milvine.index.term_queries import TermStatistics
from milvine.model.collections import LoadConfig
from milvine.model.properties import PartKey
from milvine.model.resource_groups import NODE_ID
from milvine.model.schema import CollectionSchema
from milvine.model.segments import DeleteBatch, DeltaMeta, SegmentMeta
from milvine.querynode.joining import FEW, Blocks, RowSets
from milvine.querynode.node import NodeInfo, SegmentNotHeld
from milvine.querynode.opening_progress import OpeningCancelled, OpeningProgress
from milvine.querynode.stored_segments import open_stored
from milvine.segment.aggregation import Aggregation, aggregate_row_sets
from milvine.segment.deletes import joined_deletes
from milvine.segment.plans import Hits, QueryPlan, SearchPlan
from milvine.segment.retrieve import FoundRows, count_row_sets, query_row_sets
from milvine.segment.rows import RowSet
from milvine.segment.sealed import LoadSpec, Part, SealedSegment
from milvine.segment.search import search_row_sets
from milvine.segment.term_statistics import term_statistics
from milvine.storage.store import SegmentStore, read_delta

_MOST_TOGETHER = 16
_SMALL_BYTES = 1 << 20
"""Opening the local files of a smaller segment takes less time than starting threads for it."""
_Together = tuple[tuple[int, ...], frozenset[int]]
"""Ids of segments, and the fields that a read looks at."""
_Plan = TypeVar("_Plan", SearchPlan, QueryPlan)
_Result = TypeVar("_Result")


class LocalNode:
    """See QueryNode. `_serving` is read without a lock; changes to it and to delete marks take `_lock`."""

    def __init__(self, store: SegmentStore, threads: int, blocks: Blocks) -> None:
        """`threads`: the number of files of one collection that are opened at a time."""
        self._store = store
        self._blocks = blocks
        self._threads = threads
        self._pools: dict[int, tuple[ThreadPoolExecutor, int]] = {}
        """Pools of collections that are being loaded, with the number of segments being opened."""
        self._lock = threading.Lock()
        self._serving: dict[int, dict[int, SealedSegment]] = defaultdict(dict)
        self._opening: dict[int, dict[int, SealedSegment]] = defaultdict(dict)
        self._together: dict[int, dict[_Together, RowSets]] = defaultdict(dict)
        """Many segments that were read together, until one of the collection's segments is replaced."""
        metrics.mapped_bytes.set_function(self.mapped_bytes)

    def close(self) -> None:
        """Nothing has to end."""

    def nodes(self) -> tuple[NodeInfo, ...]:
        return ()

    def wait_for_nodes(self, are_enough: Callable[[], bool]) -> None:
        pass

    def holders(self, collection_id: int, segment_id: int) -> tuple[int, ...]:
        return (NODE_ID,) if segment_id in self._serving[collection_id] else ()

    def copies(self, collection_id: int, load: LoadConfig | None = None) -> int:
        return 1

    def pin(self, collection_id: int, segment_ids: Iterable[int], node_ids: Sequence[int]) -> None:
        """There is no other place."""

    def mapped_bytes(self) -> int:
        """Bytes of files of all serving segments that are mapped and not counted as memory."""
        return sum(s.mapped_bytes for segments in list(self._serving.values()) for s in list(segments.values()))

    def load_segment(
        self, meta: SegmentMeta, spec: LoadSpec, progress: OpeningProgress, in_parallel: bool = True
    ) -> None:
        def on_bytes(more_bytes: int) -> None:
            if progress.is_cancelled:
                raise OpeningCancelled
            progress.add(more_bytes)
            if in_parallel:
                crash_point("load.bytes_opened")

        previous = self._serving[meta.collection_id].get(meta.segment_id)
        has_pool = in_parallel and not (self._store.is_local_only and meta.data_bytes < _SMALL_BYTES)
        map_parts = partial(self._map_parts, meta.collection_id) if has_pool else map
        opened = open_stored(self._store, meta, spec, previous, map_parts, on_bytes)
        with self._lock:
            # From here on new deletes reach it; `catch_up` brings the older ones, in any order.
            self._opening[meta.collection_id][meta.segment_id] = opened

    def _map_parts(
        self, collection_id: int, open_part: Callable[[PartKey], Part], keys: Collection[PartKey]
    ) -> list[Part]:
        """Opens parts in the collection's pool. If one fails, all reads have ended before this raises."""
        if not keys:
            return []
        with self._pool(collection_id) as pool:
            opening = [pool.submit(open_part, key) for key in keys]
            _, left = wait(opening, return_when=FIRST_EXCEPTION)
            for one in left:
                one.cancel()
            wait(left)
        failed = next((error for one in opening if not one.cancelled() and (error := one.exception())), None)
        if failed is not None:
            raise failed
        return [one.result() for one in opening]

    @contextmanager
    def _pool(self, collection_id: int) -> Iterator[ThreadPoolExecutor]:
        """Threads that only openings of one collection share, so that none waits for the reads of others."""
        with self._lock:
            pool, users = self._pools.get(collection_id) or (ThreadPoolExecutor(self._threads, "part-loader"), 0)
            self._pools[collection_id] = pool, users + 1
        try:
            yield pool
        finally:
            with self._lock:
                pool, users = self._pools.pop(collection_id)
                if users > 1:
                    self._pools[collection_id] = pool, users - 1
            if users == 1:
                pool.shutdown(wait=False)

    def catch_up(self, meta: SegmentMeta, deltas: Sequence[DeltaMeta], deletes: Iterable[DeleteBatch]) -> None:
        segment = self._opening[meta.collection_id].get(meta.segment_id)
        if segment is None or meta.segment_id in self._serving[meta.collection_id]:
            return
        flushed = [
            read_delta(self._store, delta.collection_id, delta.delta_id)
            for delta in deltas
            if delta.max_ts > meta.min_ts
        ]
        # Looked up before taking the lock, which writers wait for.
        found = [segment.find_deleted(batch) for batch in joined_deletes([*flushed, *deletes])]
        if found:
            rows, ts = (np.concatenate(each) for each in zip(*found, strict=True))
            with self._lock:
                segment.mark(rows, ts)

    def serve(self, collection_id: int, segment_id: int, schema: CollectionSchema) -> None:
        with self._lock:
            opened = self._opening[collection_id].pop(segment_id)
            previous = self._serving[collection_id].get(segment_id)
            if previous is not None:
                opened.marks = previous.marks
            opened.spec = replace(opened.spec, schema=schema)
            self._serving[collection_id][segment_id] = opened
            self._together[collection_id] = {}

    def memory_bytes(self, collection_id: int, segment_id: int) -> Mapping[PartKey, int]:
        segment = self._serving[collection_id].get(segment_id)
        return {} if segment is None else segment.memory_bytes

    def discard(self, collection_id: int, segment_id: int) -> None:
        with self._lock:
            self._opening[collection_id].pop(segment_id, None)

    def set_schema(self, collection_id: int, schema: CollectionSchema) -> None:
        with self._lock:
            for segment in self._serving[collection_id].values():
                segment.spec = replace(segment.spec, schema=schema)
            self._together[collection_id] = {}

    def release_segment(self, collection_id: int, segment_id: int, patience_seconds: float) -> None:
        with self._lock:
            segment = self._serving[collection_id].pop(segment_id, None)
            together = self._together.pop(collection_id, {})
        if segment is not None:
            # Files are unmapped when the last reference goes, so a reader that takes longer stays safe.
            deadline = time.monotonic() + patience_seconds
            segment.readers.wait_for_none(deadline)
            for row_sets in together.values():
                row_sets.readers.wait_for_none(deadline)
            self._blocks.drop(collection_id)

    def held(self, collection_id: int) -> Mapping[int, tuple[SegmentMeta, LoadSpec]]:
        return {i: (s.meta, s.spec) for i, s in list(self._serving[collection_id].items())}

    def held_segment(self, collection_id: int, segment_id: int) -> tuple[SegmentMeta, LoadSpec] | None:
        segment = self._serving[collection_id].get(segment_id)
        return None if segment is None else (segment.meta, segment.spec)

    def serving_ids(self) -> dict[int, list[int]]:
        """The serving segments by collection."""
        return {i: list(segments) for i, segments in list(self._serving.items()) if segments}

    def apply_deletes(self, collection_id: int, batch: DeleteBatch) -> Collection[int]:
        changed: list[int] = []
        with self._lock:
            for segment in self._opening[collection_id].values():
                segment.apply_deletes(batch)
            for segment_id, segment in self._serving[collection_id].items():
                before = segment.marks.bytes_used
                segment.apply_deletes(batch)
                if segment.marks.bytes_used != before:
                    changed.append(segment_id)
        return changed

    def _read(
        self,
        collection_id: int,
        segment_ids: Sequence[int],
        plan: _Plan,
        read: Callable[[Sequence[SealedSegment], _Plan], _Result],
    ) -> _Result:
        """The result of `read` over the segments, which are not released during it."""
        if len(segment_ids) >= FEW:
            return self._read_together(collection_id, tuple(segment_ids), plan, read)
        serving = self._serving[collection_id]
        leased: list[SealedSegment] = []
        try:
            for segment_id in segment_ids:
                segment = serving.get(segment_id)
                if segment is None:
                    raise SegmentNotHeld(segment_id)
                segment.readers.enter()
                leased.append(segment)
                if segment.lacks(plan.field_ids):
                    raise SegmentNotHeld(segment_id)
            return read(leased, plan)
        finally:
            for segment in leased:
                segment.readers.leave()

    def _read_together(
        self,
        collection_id: int,
        segment_ids: tuple[int, ...],
        plan: _Plan,
        read: Callable[[Sequence[Any], _Plan], _Result],
    ) -> _Result:
        """As `_read`, without steps for each segment if the same segments were read before."""
        while True:
            together = self._together[collection_id]
            row_sets = together.get((segment_ids, plan.field_ids))
            if row_sets is None:
                row_sets = RowSets(collection_id, self._segments(collection_id, segment_ids, plan.field_ids))
                if len(together) >= _MOST_TOGETHER:
                    for key in [key for key, unread in list(together.items()) if unread.readers.is_empty]:
                        together.pop(key, None)
                together[segment_ids, plan.field_ids] = row_sets
            row_sets.readers.enter()
            try:
                if together is self._together.get(collection_id):  # else a segment was replaced
                    return read(row_sets, plan)
            finally:
                row_sets.readers.leave()

    def _segments(
        self, collection_id: int, segment_ids: Sequence[int], field_ids: frozenset[int]
    ) -> list[SealedSegment]:
        """Raises SegmentNotHeld."""
        serving = self._serving[collection_id]
        segments: list[SealedSegment] = []
        for segment_id in segment_ids:
            segment = serving.get(segment_id)
            if segment is None or segment.lacks(field_ids):
                raise SegmentNotHeld(segment_id)
            segments.append(segment)
        return segments

    # What a read takes ends with it, so none is cut off after its `seconds`.

    def term_statistics(
        self, collection_id: int, segment_ids: Sequence[int], field_id: int, terms: Any, *, seconds: float
    ) -> TermStatistics:
        serving = self._serving[collection_id]
        segments = [segment for i in segment_ids if (segment := serving.get(i)) is not None]
        return term_statistics(segments, field_id, terms)

    def search(
        self, collection_id: int, segment_ids: Sequence[int], plan: SearchPlan, *, seconds: float
    ) -> Hits | None:
        return self._read(collection_id, segment_ids, plan, self._search)

    def _search(self, row_sets: Sequence[RowSet], plan: SearchPlan) -> Hits | None:
        if isinstance(row_sets, RowSets):
            row_sets = self._blocks.for_search(row_sets, plan)
        return search_row_sets(row_sets, plan)

    def query(
        self, collection_id: int, segment_ids: Sequence[int], plan: QueryPlan, *, seconds: float
    ) -> FoundRows | None:
        return self._read(collection_id, segment_ids, plan, query_row_sets)

    def count(self, collection_id: int, segment_ids: Sequence[int], plan: QueryPlan, *, seconds: float) -> int:
        return self._read(collection_id, segment_ids, plan, count_row_sets)

    def aggregate(
        self, collection_id: int, segment_ids: Sequence[int], plan: QueryPlan, what: Aggregation, *, seconds: float
    ) -> Any | None:
        return self._read(collection_id, segment_ids, plan, partial(aggregate_row_sets, what=what))
