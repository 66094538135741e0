"""Merges small segments and rewrites those with many dead rows, one plan at a time, in the background.

Level-triggered: each step looks for plans in the current views. A child process writes the files. This module opens the
result where its rows are loaded, replaces the sources in one catalog transaction, changes the view, and removes the old
files. A row keeps its insert_ts, so that every delete still finds it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial

from milvine import metrics
from milvine.background import Supervisor, Work
from milvine.catalog.segments import commit_compaction
from milvine.catalog.store import Catalog
from milvine.child import NotWanted
from milvine.config import Settings
from milvine.crash_points import crash_point
from milvine.datanode.catalog_files import remove_files, remove_segments
from milvine.datanode.compaction_plans import SizeLimits, by_partition, next_merge
from milvine.datanode.delta_merge import merge_deltas, worth_merging
from milvine.datanode.index_build import IndexBuilder, build_index
from milvine.datanode.merge_process import MergeOrder, living_rows
from milvine.datanode.output_filler import resources_of
from milvine.datanode.workers import Workers
from milvine.errors import CollectionNotFound, MilvineError
from milvine.model.collections import Collection
from milvine.model.properties import is_compacted_automatically
from milvine.model.segments import DeltaMeta, SegmentMeta
from milvine.model.timestamps import HybridClock, from_physical_ms, physical_ms
from milvine.segment.view import ReadView, Views
from milvine.storage.files import remove_tree
from milvine.storage.segment_files import ROWS_FILE, open_rows
from milvine.storage.store import read_delta

_log = logging.getLogger(__name__)
DEAD_SHARE = 0.2
WORTH_WAITING_ROWS = 20_000
_LOOK_SECONDS = 0.5
_LOOK_AGAIN_SECONDS = 2.0
_KEPT_PLANS = 1000
_KEPT_COUNTS = 10_000
_MAX_TARGET_BYTES = 1 << 30


class PlanState(IntEnum):
    """Milvus's CompactionTaskState."""

    EXECUTING = 1
    PIPELINING = 2
    COMPLETED = 3
    FAILED = 4


@dataclass(slots=True)
class Plan:
    """`target` is the id of the result of `row_count` rows, which does not exist if there are none; `trigger_id` is
    that of the request, or the plan's own."""

    plan_id: int
    trigger_id: int
    collection_id: int
    sources: tuple[SegmentMeta, ...]
    target: int
    state: PlanState = PlanState.PIPELINING
    failure: str = ""
    row_count: int = 0

    @property
    def source_ids(self) -> frozenset[int]:
        return frozenset(m.segment_id for m in self.sources)


class Compactor:
    """One thread that plans, and one child process that does the work."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        views: Views,
        workers: Workers,
        clock: HybridClock,
        indexes: IndexBuilder,
        supervisor: Supervisor,
    ) -> None:
        self._indexes = indexes
        self._catalog = catalog
        self._views = views
        self._workers = workers
        self._store = workers.store
        self._paths = self._store.paths
        self._clock = clock
        self._limits = SizeLimits(settings.segment_max_rows, settings.segment_max_bytes)
        self._retention_ms = settings.retention_seconds * 1000
        self._idle_ms = settings.merge_idle_seconds * 1000
        self._condition = threading.Condition()
        self._queue: deque[Plan] = deque()
        self._running: Plan | None = None
        self._plans: deque[Plan] = deque(maxlen=_KEPT_PLANS)
        self._requests: dict[int, list[Plan]] = {}
        self._compactions: Work[int] = supervisor.work("compaction")
        """By segment of a plan, or by collection if planning failed."""
        self._delta_merges: Work[int] = supervisor.work("delta_merge")
        self._worker = supervisor.worker("compaction", self._step)
        self._working_on: int | None = None
        self._looked: dict[int, tuple[ReadView, float]] = {}
        self._dead_rows: dict[int, tuple[tuple[int, int], int]] = {}

    def start(self) -> None:
        self._worker.start()

    def look(self) -> None:
        """Called when there may be work."""
        self._worker.wake()

    # Requests

    def request(self, collection_id: int, target_bytes: int = 0) -> tuple[int, int]:
        """Compacts all that can be compacted. Returns the request's id and the number of its plans; -1 and 0 if
        there is nothing to do.

        The plans include running ones of the collection. As in Milvus, a segment that was not written by compaction
        is rewritten even alone. With `target_bytes` each segment has a plan, since clients wait until it is the source
        of one: a segment that a rewrite would not change is its own result, and keeps its indexes.
        """
        collection = self._catalog.snapshot.collections.get(collection_id)
        view = self._views.current(collection_id)
        if collection is None or view is None:
            raise CollectionNotFound(str(collection_id))
        limits = self._limits
        if target_bytes:
            limits = replace(limits, data_bytes=min(target_bytes, _MAX_TARGET_BYTES))
        removable = {m.segment_id for m in view.sealed if self._removable_rows(collection, view, m, 1)}
        with self._condition:
            # Sources leave the view before their plan leaves `_running`, so a source here is busy or in the view.
            view = self._views.current(collection_id) or view
            request_id = self._clock.next()
            plans = [p for p in (self._running, *self._queue) if p is not None and p.collection_id == collection_id]
            protected = self._protected(collection_id)
            for metas in by_partition(view.sealed):
                busy = self._busy() | protected
                while sources := next_merge(metas, limits, busy, forced=True):
                    plans.append(self._add(collection_id, sources, request_id))
                    busy = self._busy() | protected
                for meta in metas:
                    if meta.segment_id in busy:
                        continue
                    if not meta.compacted_from or meta.segment_id in removable:
                        plans.append(self._add(collection_id, (meta,), request_id))
                    elif target_bytes:
                        plans.append(self._unchanged(meta, request_id))
            if not plans:
                return -1, 0
            self._requests[request_id] = plans
            if len(self._requests) > _KEPT_PLANS:
                del self._requests[next(iter(self._requests))]
        self._worker.wake()
        return request_id, len(plans)

    def plans_of_request(self, request_id: int) -> list[Plan]:
        """Copies of the plans; none if the request is unknown, or no longer known."""
        with self._condition:
            return [replace(p) for p in self._requests.get(request_id, ())]

    def plans_of_collection(self, collection_id: int) -> list[Plan]:
        """Copies of the remembered plans, oldest first."""
        with self._condition:
            return [replace(p) for p in self._plans if p.collection_id == collection_id]

    def unfinished_plans(self) -> list[Plan]:
        """Copies of the plans that run or wait, in their order."""
        with self._condition:
            return [replace(p) for p in (self._running, *self._queue) if p is not None]

    def is_busy_with(self, segment_id: int) -> bool:
        """Whether an unfinished plan replaces the segment."""
        with self._condition:
            return segment_id in self._busy()

    def will_merge(self, meta: SegmentMeta) -> bool:
        """Whether the segment is, or soon will be, merged: an index built for it now would be discarded.

        Small ones are not worth waiting for; nor does a segment wait longer than quiet takes.
        """
        if self.is_busy_with(meta.segment_id):
            return True
        view = self._views.peek(meta.collection_id)
        collection = self._catalog.snapshot.collections.get(meta.collection_id)
        if view is None or collection is None or not is_compacted_automatically(collection.properties):
            return False
        if self._age_ms(meta.segment_id) >= self._idle_ms:
            return False
        protected = self._protected(meta.collection_id)
        neighbours = [m for m in view.sealed if m.partition_id == meta.partition_id and m.segment_id not in protected]
        for metas in by_partition(neighbours):
            sources = next_merge(metas, self._limits, quiet=True)
            if meta in sources and sum(m.row_count for m in sources) >= WORTH_WAITING_ROWS:
                return True
        return False

    def end(self, collection_id: int) -> None:
        """Returns when no work on a collection that has left the catalog is running."""
        with self._condition:
            while self._working_on == collection_id:
                self._condition.wait(1)

    def end_with(self, segment_ids: Set[int]) -> None:
        """Returns when no work on segments that have left the catalog is running."""
        with self._condition:
            while (plan := self._running) is not None and not {plan.target, *plan.source_ids}.isdisjoint(segment_ids):
                self._condition.wait(1)

    # Planning

    def _age_ms(self, ts: int) -> int:
        return time.time_ns() // 1_000_000 - physical_ms(ts)

    def _busy(self) -> set[int]:
        plans = [*self._queue, *([] if self._running is None else [self._running])]
        return {i for plan in plans for i in plan.source_ids}

    def _protected(self, collection_id: int) -> set[int]:
        """Segments that snapshots keep from being compacted for a while."""
        now = time.time_ns() // 1_000_000
        kept = self._catalog.snapshot.snapshots_of(collection_id)
        return {m.segment_id for one in kept if one.protected_until_ms > now for m in one.segments}

    def _add(self, collection_id: int, sources: tuple[SegmentMeta, ...], trigger_id: int | None = None) -> Plan:
        plan_id, target = self._clock.next(), self._clock.next()
        plan = Plan(plan_id, trigger_id or plan_id, collection_id, sources, target)
        self._queue.append(plan)
        self._plans.append(plan)
        return plan

    def _unchanged(self, meta: SegmentMeta, trigger_id: int) -> Plan:
        """A completed plan that leaves the segment as it is."""
        plan = Plan(self._clock.next(), trigger_id, meta.collection_id, (meta,), meta.segment_id, PlanState.COMPLETED)
        plan.row_count = meta.row_count
        self._plans.append(plan)
        return plan

    def _fold_ts(self) -> int:
        return from_physical_ms(time.time_ns() // 1_000_000 - self._retention_ms)

    def _find_work(self) -> None:
        """Makes plans and merges deltas. Damaged collections are skipped."""
        now = time.monotonic()
        self._forget_gone()
        waiting = self._compactions.waiting()
        snapshot = self._catalog.snapshot
        for collection_id in dict.fromkeys([*snapshot.segments, *snapshot.deltas]):
            collection, view = snapshot.collections.get(collection_id), self._views.peek(collection_id)
            if collection is None or view is None or collection_id in waiting or self._worker.is_stopping:
                continue
            seen, look_again = self._looked.get(collection_id, (None, 0.0))
            if seen is not None and seen.sealed is view.sealed and seen.deltas is view.deltas and now < look_again:
                continue
            try:
                if is_compacted_automatically(collection.properties):
                    self._look_at(collection, view, now)
                self._merge_deltas(view)
            except Exception as error:  # noqa: BLE001 - it is recorded, and the other collections go on
                self._compactions.failed(
                    [collection_id], f"planning compactions of collection {collection.name}", error
                )
            else:
                self._compactions.succeeded([collection_id])

    def _forget_gone(self) -> None:
        snapshot = self._catalog.snapshot
        self._looked = {i: seen for i, seen in self._looked.items() if i in snapshot.collections}
        self._delta_merges.retain(snapshot.collections.keys())
        if self._compactions.keys():
            segment_ids = {m.segment_id for metas in snapshot.segments.values() for m in metas}
            self._compactions.retain(segment_ids | snapshot.collections.keys())

    def _name(self, collection_id: int) -> str:
        collection = self._catalog.snapshot.collections.get(collection_id)
        return str(collection_id) if collection is None else collection.name

    def _merge_deltas(self, view: ReadView) -> None:
        collection_id = view.collection_id
        if not worth_merging(view.deltas, self._fold_ts()) or collection_id in self._delta_merges.waiting():
            return
        with self._condition:
            if self._queue:
                return  # a compaction may make the deltas unnecessary
            self._working_on = collection_id
        try:
            merge_deltas(self._catalog, self._views, self._store, self._clock, view, self._fold_ts())
            self._delta_merges.succeeded([collection_id])
        except Exception as error:  # noqa: BLE001 - it is recorded, and the other collections go on
            now = self._views.peek(collection_id)
            if now is not None and now.deltas is view.deltas:  # else they were just removed, and planning runs again
                what = f"merge of delta files of collection {self._name(collection_id)}"
                self._delta_merges.failed([collection_id], what, error)
        finally:
            with self._condition:
                self._working_on = None
                self._condition.notify_all()

    def _look_at(self, collection: Collection, view: ReadView, now: float) -> None:
        heavy = []
        for meta in view.sealed:
            enough = max(1, int(DEAD_SHARE * meta.row_count))
            if self._removable_rows(collection, view, meta, enough) >= enough:
                heavy.append(meta)
        age_ms = self._age_ms(max((m.segment_id for m in view.sealed), default=0))
        wait = min(_LOOK_AGAIN_SECONDS, max(0, self._idle_ms - age_ms) / 1000 or _LOOK_AGAIN_SECONDS)
        with self._condition:
            busy = self._busy() | self._compactions.waiting() | self._protected(collection.collection_id)
            for metas in by_partition(view.sealed):
                while sources := next_merge(metas, self._limits, busy):
                    self._add(collection.collection_id, sources)
                    busy |= {m.segment_id for m in sources}
                if age_ms >= self._idle_ms:
                    # Otherwise frequent small merges would keep ending the build of a large index.
                    busy |= {m.segment_id for m in metas if self._indexes.is_building(m.segment_id)}
                    while sources := next_merge(metas, self._limits, busy, quiet=True):
                        self._add(collection.collection_id, sources)
                        busy |= {m.segment_id for m in sources}
            for meta in heavy:
                if meta.segment_id not in busy:
                    self._add(collection.collection_id, (meta,))
        self._looked[collection.collection_id] = view, now + wait

    def _removable_rows(self, collection: Collection, view: ReadView, meta: SegmentMeta, enough: int) -> int:
        """Rows that a compaction would remove, 0 if they cannot be `enough`. The number is cached until it can grow."""
        fold_ts, expired_ts = self._fold_ts(), collection.expired_ts()
        if meta.max_ts < expired_ts:
            return meta.row_count
        deltas = [d for d in view.deltas if d.max_ts <= fold_ts and meta.needs(d)]
        some_expired = meta.min_ts < expired_ts
        if not some_expired and sum(d.row_count for d in deltas) < enough:
            return 0
        state = (max((d.delta_id for d in deltas), default=0), expired_ts if some_expired else 0)
        known, count = self._dead_rows.get(meta.segment_id, ((-1, 0), 0))
        if known != state:
            count = self._count_removable(meta, deltas, fold_ts, expired_ts)
            if len(self._dead_rows) >= _KEPT_COUNTS:
                self._dead_rows.clear()
            self._dead_rows[meta.segment_id] = state, count
        return count

    def _count_removable(self, meta: SegmentMeta, deltas: list[DeltaMeta], fold_ts: int, expired_ts: int) -> int:
        try:
            deletes = [read_delta(self._store, d.collection_id, d.delta_id) for d in deltas]
            path = self._paths.segment(meta.collection_id, meta.segment_id) / ROWS_FILE
            rows, _ = self._store.read([path], partial(open_rows, path, resident=False))
            living = living_rows(rows, meta, deletes, fold_ts, expired_ts)
        except (MilvineError, OSError) as error:
            # Just replaced or dropped; or damaged, which loading reports.
            _log.info("rows of segment %s are not counted: %s", meta.segment_id, error)
            return 0
        return int(len(living) - living.sum())

    # Execution

    def _step(self) -> float:
        """Runs one plan."""
        if not self._queue:
            self._find_work()
        with self._condition:
            if not self._queue:
                return _LOOK_SECONDS
            plan = self._running = self._queue.popleft()
            plan.state = PlanState.EXECUTING
            self._working_on = plan.collection_id
        failure = "it did not end"
        started = time.monotonic()
        try:
            self._execute(plan)
            self._compactions.succeeded(plan.source_ids)
            failure = ""
        except NotWanted:
            failure = "a source is gone"
        except Exception as error:  # noqa: BLE001 - it is recorded, and the other plans go on
            failure = str(error)
            what = f"compaction of segments {sorted(plan.source_ids)} of collection {self._name(plan.collection_id)}"
            self._compactions.failed(plan.source_ids, what, error, time.monotonic() - started)
        finally:
            with self._condition:
                plan.failure = failure
                plan.state = PlanState.FAILED if failure else PlanState.COMPLETED
                self._running = self._working_on = None
                self._condition.notify_all()
            self._indexes.look()
        return 0.0

    def _execute(self, plan: Plan) -> None:
        collection_id, source_ids = plan.collection_id, plan.source_ids

        def is_wanted() -> bool:
            metas = self._catalog.snapshot.segments.get(collection_id, ())
            return source_ids <= {m.segment_id for m in metas} and not self._worker.is_stopping

        collection = self._catalog.snapshot.collections.get(collection_id)
        view = self._views.current(collection_id)
        if collection is None or view is None or not is_wanted():
            raise NotWanted
        made = {f.field_id for f in collection.schema.made_fields}
        analyzes = any(not made <= meta.field_bytes.keys() for meta in plan.sources)
        order = MergeOrder(
            self._paths,
            collection.schema,
            plan.sources,
            view.deltas,
            plan.target,
            self._fold_ts(),
            collection.expired_ts(),
            resources_of(self._catalog.snapshot, collection.schema) if analyzes else {},
        )
        target = self._paths.segment(collection_id, plan.target)
        with contextlib.ExitStack() as handing_over:
            try:
                result: SegmentMeta | None = self._workers.run("merge", order, is_wanted)
                if result is not None:
                    result = self._indexed(collection, source_ids, result, is_wanted)
                plan.row_count = 0 if result is None else result.row_count
                crash_point("merge.files_written")
                handing_over.enter_context(self._store.storing([] if result is None else [target]))
                handing_over.enter_context(self._views.prepared(collection_id, () if result is None else (result,)))
            except BaseException:
                remove_tree(target)
                raise
            # A commit that fails may still be there after a crash, so its files stay until the next start.
            folded_ts = _folded_ts(order, plan.row_count)
            dropped = commit_compaction(self._catalog, collection_id, source_ids, result, folded_ts)
            if dropped is None:
                remove_tree(target)
                raise NotWanted
            crash_point("merge.committed")
            self._swap(plan, dropped)

    def _indexed(
        self, collection: Collection, source_ids: frozenset[int], result: SegmentMeta, is_wanted: Callable[[], bool]
    ) -> SegmentMeta:
        """The result with the indexes that a source had, so that searches need not scan it.

        Indexes that no source had are built later; until then searches are as fast as before.
        """
        metas = self._catalog.snapshot.segments.get(collection.collection_id, ())
        had = {i for m in metas if m.segment_id in source_ids for i, built in m.indexes.items() if not built.is_scan}
        types = {f.field_id: f.data_type for f in collection.schema.fields}
        built = {
            i.index_id: build_index(self._workers, result, i, types[i.field_id], is_wanted)
            for i in collection.indexes
            if i.index_id in had
        }
        return replace(result, indexes=built)

    def _swap(self, plan: Plan, dropped: tuple[DeltaMeta, ...]) -> None:
        collection_id, source_ids = plan.collection_id, plan.source_ids
        gone = {d.delta_id for d in dropped}

        def change(view: ReadView) -> ReadView:
            # The current record of the catalog, since an index may have been committed.
            found = [m for m in self._catalog.snapshot.segments.get(collection_id, ()) if m.segment_id == plan.target]
            kept = tuple(m for m in view.sealed if m.segment_id not in source_ids)
            deltas = tuple(d for d in view.deltas if d.delta_id not in gone)
            return replace(view, sealed=(*kept, *found), deltas=deltas)

        self._views.replace(collection_id, change)
        self._views.changed(collection_id)
        crash_point("merge.published")
        # Readers still have them mapped; the disk space is free after the last one.
        snapshot = self._catalog.snapshot
        remove_segments(self._paths, snapshot, collection_id, source_ids)
        remove_files(self._paths, snapshot, collection_id, [self._paths.delta(collection_id, i) for i in gone])
        metrics.compacted_rows.inc(sum(m.row_count for m in plan.sources))


def _folded_ts(order: MergeOrder, row_count: int) -> int:
    """The newest delete whose rows a merge to `row_count` rows may have removed; 0 if it removed no rows."""
    if row_count == sum(m.row_count for m in order.sources):
        return 0
    newest = max((d.max_ts for d in order.deltas if any(m.needs(d) for m in order.sources)), default=0)
    return min(order.fold_ts, newest)
