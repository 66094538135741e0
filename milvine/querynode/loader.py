"""Keeps in memory what should be there: compares load configuration x current view with what is held, and acts.

Load, release, new segments, new indexes, changed fields and restart are this one comparison. Memory is reserved
before the configuration is stored, so that a load that does not fit changes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace

from milvine import metrics
from milvine.catalog.collections import change_load_config, set_load_config
from milvine.catalog.store import Catalog
from milvine.crash_points import crash_point
from milvine.errors import (
    CollectionNotFound,
    DataIntegrityError,
    MemoryLimitExceeded,
    MilvineError,
    SegmentRequestResourceFailed,
    UnexpectedError,
)
from milvine.model.collections import Collection, LoadConfig
from milvine.model.properties import PartKey, PartKind, placements
from milvine.model.schema import CollectionSchema
from milvine.model.segments import DeleteBatch, SegmentMeta
from milvine.querynode.budget import Budget
from milvine.querynode.node import QueryNode
from milvine.segment.sealed import LoadSpec, is_to_warm, part_plans, part_sizes
from milvine.segment.view import Views
from milvine.storage.files import OnBytes, ignore_bytes

_log = logging.getLogger(__name__)
RELEASE_DEADLINE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """`percent` of the bytes to be loaded that are in memory, 0..100; `is_loaded` once all of them serve."""

    percent: int
    is_loaded: bool


class _LoadCancelled(Exception):
    """What is being opened is not wanted any more."""


class _Status:
    """One collection's loading. `lock` serialises everything that opens or closes its segments."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.loaded = threading.Event()
        self.scheduled = False
        self.again = False
        """Something came while it was being reconciled."""
        self.waiting_changes = 0
        """Loads of something else that wait for `lock`: what is being opened is not worth going on with."""
        self.served_config: LoadConfig | None = None
        """What goes on being served while another configuration is opened in its place."""
        self.opened: dict[int, int] = defaultdict(int)
        """Bytes that are resident of segments that do not serve yet."""
        self.reserved: dict[int, int] = {}
        self.prepared: set[int] = set()
        """Successors that are open and not in the view yet."""


def _both(first: LoadConfig, second: LoadConfig) -> LoadConfig:
    """What two configurations have in common."""
    partition_ids, field_ids = first.partition_ids & second.partition_ids, first.field_ids & second.field_ids
    return replace(second, partition_ids=partition_ids, field_ids=field_ids)


def _differs(held: tuple[SegmentMeta, LoadSpec], meta: SegmentMeta, spec: LoadSpec) -> bool:
    """Whether an opened segment lacks or exceeds what is wanted now."""
    held_spec = replace(held[1], mapped=False)
    return part_plans(held[0], held_spec) != part_plans(meta, spec) or held_spec.schema != spec.schema


def _lacking_bytes(sizes: Mapping[PartKey, int], held: Mapping[PartKey, int]) -> int:
    """What making the parts resident adds to those that are (`held` has 0 for the ones that are only mapped)."""
    return sum(size for key, size in sizes.items() if not held.get(key))


def _as_load_failure(error: Exception) -> MilvineError:
    if isinstance(error, MilvineError):
        return error
    if isinstance(error, OSError):
        return SegmentRequestResourceFailed("Disk", str(error))
    _log.error("a load failed unexpectedly", exc_info=error)
    return UnexpectedError(f"{type(error).__name__}: {error}")


class Loader:
    """A ViewListener, and the one who loads and releases."""

    def __init__(
        self,
        catalog: Catalog,
        views: Views,
        node: QueryNode,
        budget: Budget,
        threads: int,
        mmap_by_default: Mapping[PartKind, bool],
        *,
        serves_unlisted_fields: bool = False,
    ) -> None:
        """`serves_unlisted_fields`: from their mapped files; else they cannot be read."""
        self._catalog = catalog
        self._mmap_by_default = mmap_by_default
        self._views = views
        self._node = node
        self.budget = budget
        self.serves_unlisted_fields = serves_unlisted_fields
        self._lock = threading.Lock()
        self._status: dict[int, _Status] = {}
        self._failures: dict[int, MilvineError] = {}
        self._collections = ThreadPoolExecutor(threads, thread_name_prefix="loader")
        self._segments = ThreadPoolExecutor(threads, thread_name_prefix="segment-loader")
        self._warmer = ThreadPoolExecutor(1, thread_name_prefix="warm-up")
        views.subscribe(self)

    def resume(self) -> None:
        """Load again what was loaded when the process ended."""
        for collection in self._catalog.snapshot.collections.values():
            if collection.load is not None:
                try:
                    self._reserve(collection, collection.load)
                except MemoryLimitExceeded as error:
                    _log.error("%s", error)
                    self._fail(collection.collection_id, SegmentRequestResourceFailed("Memory"))
                    continue
                except MilvineError as error:
                    self._fail(collection.collection_id, error)
                    continue
                self._schedule(collection.collection_id)

    def _names(self) -> Mapping[int, str]:
        return {i: c.name for i, c in self._catalog.snapshot.collections.items()}

    def _state(self, collection_id: int) -> _Status:
        with self._lock:
            return self._status.setdefault(collection_id, _Status())

    def _wanted(
        self, collection: Collection, config: LoadConfig, partition_ids: frozenset[int] | None = None
    ) -> tuple[SegmentMeta, ...]:
        """Segments to be open, of some partitions or of all that the configuration names."""
        view = self._views.current(collection.collection_id)
        metas = () if view is None else view.sealed
        wanted = config.partition_ids if partition_ids is None else partition_ids
        return tuple(m for m in metas if m.partition_id in wanted)

    def _spec(self, collection: Collection, config: LoadConfig) -> LoadSpec:
        database = self._catalog.snapshot.databases.get(collection.database)
        placed = placements(collection, {} if database is None else database.properties, self._mmap_by_default)
        all_ids = frozenset(collection.schema.by_id)
        field_ids = config.field_ids & all_ids
        return LoadSpec(
            collection.schema,
            field_ids,
            collection.index_by_field,
            tuple(i for i in collection.scalar_indexes if i.field_id in field_ids),
            unlisted_field_ids=all_ids - field_ids if self.serves_unlisted_fields else frozenset(),
            placements=placed,
        )

    def estimate(
        self, collection: Collection, config: LoadConfig, partition_ids: frozenset[int] | None = None
    ) -> list[tuple[SegmentMeta, dict[PartKey, int]]]:
        """Bytes that each part will hold once loaded, by segment, of some partitions or of all."""
        spec = self._spec(collection, config)
        return [(meta, part_sizes(meta, spec)) for meta in self._wanted(collection, config, partition_ids)]

    def _needed(self, collection: Collection, config: LoadConfig) -> dict[int, int]:
        held = self._held_sizes(collection.collection_id)
        return {
            meta.segment_id: _lacking_bytes(sizes, held.get(meta.segment_id, {}))
            for meta, sizes in self.estimate(collection, config)
        }

    def needed_bytes(self, collection: Collection, config: LoadConfig) -> int:
        """What loading would add to what is held now."""
        return sum(self._needed(collection, config).values())

    def _held_sizes(self, collection_id: int) -> dict[int, dict[PartKey, int]]:
        """What was estimated of the parts that are open, by segment; 0 of those that are only mapped."""
        return {i: part_sizes(meta, spec) for i, (meta, spec) in self._node.held(collection_id).items()}

    def _reserve(self, collection: Collection, config: LoadConfig) -> None:
        """Set aside what loading would add now. Raises MemoryLimitExceeded with nothing changed."""
        status = self._state(collection.collection_id)
        with status.lock:
            needed = self._needed(collection, config)
            self.budget.reserve(collection.collection_id, sum(needed.values()), self._names, anew=True)
            status.reserved = needed

    def load(self, collection: Collection, config: LoadConfig) -> None:
        """Make `config` what is to be loaded; see `load_chosen`."""
        self.load_chosen(collection.collection_id, lambda _collection: config)

    def load_chosen(self, collection_id: int, choose: Callable[[Collection], LoadConfig]) -> None:
        """Make what `choose` says of the collection what is to be loaded, and start. Returns when that is durable,
        not when it is done.

        Raises MemoryLimitExceeded with nothing changed.
        """
        current = self._catalog.snapshot.collections.get(collection_id)
        if current is None or current.load == choose(current):
            return
        status = self._state(collection_id)
        try:
            with self._change_of(status), status.lock:
                current = self._catalog.snapshot.collections.get(collection_id)
                if current is not None and current.load != choose(current):
                    self._change(current, status, choose)
        except MemoryLimitExceeded:
            if current is not None and current.load is None:
                self._failures[collection_id] = SegmentRequestResourceFailed("Memory")
            raise
        finally:
            # Not before this change has ceased to wait: what is opened while one waits stops at once.
            self._schedule(collection_id)

    @contextmanager
    def _change_of(self, status: _Status) -> Iterator[None]:
        """Whoever opens what was to be loaded until now stops at once."""
        with self._lock:
            status.waiting_changes += 1
        try:
            yield
        finally:
            with self._lock:
                status.waiting_changes -= 1

    def _change(self, current: Collection, status: _Status, choose: Callable[[Collection], LoadConfig]) -> None:
        config = choose(current)
        self._reserve(current, config)
        served = current.load if status.loaded.is_set() else status.served_config
        # Chosen again in the transaction: a partition may have been created or dropped meanwhile.
        change_load_config(self._catalog, current.collection_id, choose)
        crash_point("load.committed")
        self._failures.pop(current.collection_id, None)
        status.served_config = None if served is None else _both(served, config)
        status.loaded.clear()

    def release(self, collection_id: int) -> None:
        """Store NotLoad first, so that new reads are refused; then close everything and give the memory back."""
        set_load_config(self._catalog, collection_id, None)
        self._close_released(collection_id)

    def release_partitions(self, collection_id: int, partition_ids: frozenset[int]) -> None:
        """As `release`, for some partitions; without the last of them the collection is NotLoad."""

        def choose(collection: Collection) -> LoadConfig | None:
            load = collection.load
            left = frozenset() if load is None else load.partition_ids - partition_ids
            return replace(load, partition_ids=left) if load is not None and left else None

        change_load_config(self._catalog, collection_id, choose)
        self._close_released(collection_id)

    def _close_released(self, collection_id: int) -> None:
        self._failures.pop(collection_id, None)
        status = self._state(collection_id)
        with status.lock:
            collection = self._catalog.snapshot.collections.get(collection_id)
            if collection is None or collection.load is None:
                self._close_all(collection_id)
                return
            wanted = {m.segment_id for m in self._wanted(collection, collection.load)}
            self._close_unwanted(collection, collection.load, wanted, status)
        self._schedule(collection_id)  # a load that was under way has stopped

    def _close_unwanted(self, collection: Collection, config: LoadConfig, wanted: set[int], status: _Status) -> None:
        """Close what is open beyond `wanted`, but for successors that will come into the view."""
        collection_id = collection.collection_id
        metas = self._catalog.snapshot.segments.get(collection_id, ())
        coming = {m.segment_id for m in metas if m.partition_id in config.partition_ids} - wanted
        status.prepared &= coming
        for segment_id in self._node.held(collection_id).keys() - wanted - status.prepared:
            self._node.release_segment(collection_id, segment_id, time.monotonic() + RELEASE_DEADLINE_SECONDS)
            self.budget.free(collection_id, segment_id)

    def _close_all(self, collection_id: int) -> None:
        status = self._state(collection_id)
        status.loaded.clear()
        status.served_config = None
        deadline = time.monotonic() + RELEASE_DEADLINE_SECONDS
        for segment_id in self._node.held(collection_id):
            self._node.release_segment(collection_id, segment_id, deadline)
            self.budget.free(collection_id, segment_id)
        self.budget.cancel(collection_id)
        status.reserved = {}

    def progress(self, collection: Collection, partition_ids: frozenset[int] | None = None) -> LoadProgress:
        """How far the collection's load configuration, or the part of it for some partitions, is fulfilled."""
        config = collection.load
        if config is None or (partition_ids is not None and not partition_ids <= config.partition_ids):
            return LoadProgress(0, False)
        status = self._state(collection.collection_id)
        if status.loaded.is_set() or (partition_ids is not None and self._are_open(collection, config, partition_ids)):
            return LoadProgress(100, True)
        opened = dict(status.opened)  # before what is held: a segment leaves the one after it has come to the other
        held = self._held_sizes(collection.collection_id)
        total = done = 0
        for meta, sizes in self.estimate(collection, config, partition_ids):
            size = sum(sizes.values())
            lacking = _lacking_bytes(sizes, held.get(meta.segment_id, {}))
            total += size
            done += min(size, size - lacking + opened.get(meta.segment_id, 0))
        return LoadProgress(min(99, 100 * done // total) if total else 0, False)

    def _are_open(self, collection: Collection, config: LoadConfig, partition_ids: frozenset[int]) -> bool:
        """Whether the partitions' segments are open as the configuration wants them."""
        spec = self._spec(collection, config)
        held = self._node.held(collection.collection_id)
        wanted = self._wanted(collection, config, partition_ids)
        return all(m.segment_id in held and not _differs(held[m.segment_id], m, spec) for m in wanted)

    def loaded(self, collection_id: int) -> list[tuple[SegmentMeta, Mapping[PartKey, int]]]:
        """Open segments that the view names, with their bytes in memory by part, oldest first."""
        held = self._node.held(collection_id)
        usage = self.budget.usage(collection_id)
        metas = sorted((meta for meta, _ in held.values() if self._is_in_view(meta)), key=lambda m: m.min_ts)
        return [(meta, usage.get(meta.segment_id, {})) for meta in metas]

    def failure(self, collection_id: int) -> MilvineError | None:
        """Why the last load ended, if it failed."""
        return self._failures.get(collection_id)

    def serves(self, collection: Collection, partition_ids: frozenset[int] | None, field_ids: frozenset[int]) -> bool:
        """Whether a read of these (None: all partitions that are to be loaded) can run now. It takes no lock."""
        status = self._status.get(collection.collection_id)
        if status is None or collection.load is None:
            return False
        if status.loaded.is_set():
            return True
        served = status.served_config
        if served is not None and (partition_ids or collection.load.partition_ids) <= served.partition_ids:
            return self.serves_unlisted_fields or field_ids <= served.field_ids
        return partition_ids is not None and self._are_open(collection, collection.load, partition_ids)

    def wait_loaded(self, collection_id: int, timeout: float) -> bool:
        """Wait until the collection is loaded; False if it is not in time."""
        return self._state(collection_id).loaded.wait(timeout)

    def all_loaded(self) -> bool:
        """Whether everything that is to be loaded is."""
        return all(
            self._state(c.collection_id).loaded.is_set()
            for c in self._catalog.snapshot.collections.values()
            if c.load is not None
        )

    def _schedule(self, collection_id: int) -> None:
        status = self._state(collection_id)
        with self._lock:
            status.again = True
            if status.scheduled:
                return
            status.scheduled = True
        self._collections.submit(self._reconcile, collection_id)

    def _reconcile(self, collection_id: int) -> None:
        status = self._state(collection_id)
        while True:
            with self._lock:
                if not status.again:
                    status.scheduled = False
                    return
                status.again = False
            with status.lock:
                try:
                    self._reconcile_once(collection_id, status)
                except Exception as error:  # noqa: BLE001 - a thread pool would swallow it; so it ends the load, with its text
                    self._fail(collection_id, _as_load_failure(error))

    def _reconcile_once(self, collection_id: int, status: _Status) -> None:
        collection = self._catalog.snapshot.collections.get(collection_id)
        if collection is None or collection.load is None:
            self._close_all(collection_id)
            if collection is None:
                with self._lock:
                    self._status.pop(collection_id, None)
            return
        config = collection.load
        spec = self._spec(collection, config)
        wanted = {m.segment_id: m for m in self._wanted(collection, config)}
        held = self._node.held(collection_id)
        missing = [
            meta
            for segment_id, meta in wanted.items()
            if segment_id not in held or _differs(held[segment_id], meta, spec)
        ]

        def is_wanted() -> bool:
            now = self._catalog.snapshot.collections.get(collection_id)
            return now is not None and now.load == config and not status.waiting_changes

        def open_one(meta: SegmentMeta) -> None:
            def on_bytes(more_bytes: int) -> None:
                if not is_wanted():
                    raise _LoadCancelled
                with self._lock:
                    status.opened[meta.segment_id] += more_bytes
                crash_point("load.bytes_opened")

            if not is_wanted():
                return
            try:
                self._open(meta, spec, status.reserved.get(meta.segment_id), on_bytes=on_bytes)
                status.reserved.pop(meta.segment_id, None)
            except _LoadCancelled:
                pass
            except (MilvineError, OSError):
                if self._is_in_view(meta):
                    raise
            finally:
                status.opened.pop(meta.segment_id, None)

        opening = [self._segments.submit(open_one, meta) for meta in missing]
        wait(opening)  # all of them, so that none opens behind the back of a failure
        for opened in opening:
            opened.result()
        self._close_unwanted(collection, config, set(wanted), status)
        self._make_resident([m for i, m in wanted.items() if i in held and held[i][1].mapped], spec)
        if is_wanted():
            self.budget.cancel(collection_id)
            status.reserved = {}
            status.loaded.set()
            status.served_config = None
        if any(is_to_warm(*one) for one in self._node.held(collection_id).values()):
            self._warmer.submit(self._warm_up, collection_id)

    def _warm_up(self, collection_id: int) -> None:
        """Read in the pages of what was loaded without them, one segment after the other."""
        status = self._state(collection_id)
        for segment_id in self._node.held(collection_id):
            with status.lock:
                held = self._node.held(collection_id).get(segment_id)
                if held is None or not is_to_warm(*held):
                    continue
                try:
                    self._warm(*held)
                except Exception as error:  # noqa: BLE001 - what cannot be read must not go on serving
                    self._fail(collection_id, _as_load_failure(error))

    def _warm(self, meta: SegmentMeta, spec: LoadSpec) -> None:
        usage = self.budget.usage(meta.collection_id).get(meta.segment_id, {})
        needed = _lacking_bytes(part_sizes(meta, spec), usage)
        try:
            self.budget.reserve(meta.collection_id, needed, self._names)
        except MemoryLimitExceeded as error:
            _log.warning("segment %s stays mapped: %s", meta.segment_id, error)
            metrics.mapped_for_lack_of_memory.inc()
            return
        measured = self._node.load_segment(meta, replace(spec, warmed=True))
        self.budget.settle(meta.collection_id, meta.segment_id, needed, measured)

    def change_schema(
        self,
        collection_id: int,
        widened: Callable[[Collection], CollectionSchema],
        commit: Callable[[CollectionSchema], None],
    ) -> None:
        """Give the collection a schema with more fields. Open segments know them before `commit` lets reads name them;
        no segment is opened and no other schema made in between."""
        status = self._state(collection_id)
        with status.lock:
            current = self._catalog.snapshot.collections.get(collection_id)
            if current is None:
                raise CollectionNotFound(str(collection_id))
            schema = widened(current)
            for meta, spec in self._node.held(collection_id).values():
                self._node.load_segment(meta, replace(spec, schema=schema))
            commit(schema)

    def _open(
        self,
        meta: SegmentMeta,
        spec: LoadSpec,
        reserved: int | None,
        *,
        is_successor: bool = False,
        on_bytes: OnBytes = ignore_bytes,
    ) -> None:
        """Open one segment under a reservation; without one (it came after the load) mapped if need be."""
        if reserved is None:
            held = self._held_sizes(meta.collection_id).get(meta.segment_id, {})
            reserved, spec = self._reserve_late(meta, spec, held)
        measured = self._load_segment(meta, spec, on_bytes)
        try:
            serves = self._catch_up(meta, is_successor=is_successor)
        except MilvineError:
            self._node.release_segment(meta.collection_id, meta.segment_id, time.monotonic())
            raise
        self.budget.settle(meta.collection_id, meta.segment_id, reserved, measured)
        if not serves:
            self._node.release_segment(meta.collection_id, meta.segment_id, time.monotonic())
            self.budget.free(meta.collection_id, meta.segment_id)

    def _reserve_late(self, meta: SegmentMeta, spec: LoadSpec, held: Mapping[PartKey, int]) -> tuple[int, LoadSpec]:
        """Bytes that were set aside, and what to open with them: without scalar indexes rather than mapped."""
        for attempt in (spec, replace(spec, scalar_indexes=())):
            needed = _lacking_bytes(part_sizes(meta, attempt), held)
            try:
                self.budget.reserve(meta.collection_id, needed, self._names)
            except MemoryLimitExceeded as error:
                failure = error
            else:
                return needed, attempt
        _log.warning("segment %s is opened mapped: %s", meta.segment_id, failure)
        metrics.mapped_for_lack_of_memory.inc()
        return 0, replace(spec, mapped=True)

    def _load_segment(
        self, meta: SegmentMeta, spec: LoadSpec, on_bytes: OnBytes = ignore_bytes
    ) -> Mapping[PartKey, int]:
        """Open it without the indexes that were dropped, with their files, while it was being opened."""
        while True:
            try:
                return self._node.load_segment(meta, spec, on_bytes)
            except DataIntegrityError:
                collection = self._catalog.snapshot.collections.get(meta.collection_id)
                known = () if collection is None else collection.indexes
                kept = tuple(i for i in spec.scalar_indexes if i in known)
                if kept == spec.scalar_indexes:
                    raise
                spec = replace(spec, scalar_indexes=kept)

    def _is_in_view(self, meta: SegmentMeta) -> bool:
        view = self._views.current(meta.collection_id)
        return view is not None and view.names(meta.segment_id)

    def _catch_up(self, meta: SegmentMeta, *, is_successor: bool) -> bool:
        """Bring all deletes to an opened segment and let it serve; False if compaction has replaced it.

        The deltas must be those of a view that names the segment: a later view may lack those that only it needed.
        """
        while True:
            view = self._views.current(meta.collection_id)
            if view is None or not (is_successor or view.names(meta.segment_id)):
                return False
            try:
                self._node.catch_up(meta, view.deltas, view.deletes)
            except DataIntegrityError:
                now = self._views.current(meta.collection_id)
                if now is None or now.deltas is view.deltas:
                    raise
            else:
                return True

    def _make_resident(self, metas: list[SegmentMeta], spec: LoadSpec) -> None:
        """Segments that were opened mapped become resident as far as there is room now."""
        for meta in metas:
            needed = sum(part_sizes(meta, spec).values())
            try:
                self.budget.reserve(meta.collection_id, needed, self._names)
            except MemoryLimitExceeded:
                continue
            measured = self._load_segment(meta, spec)
            self.budget.settle(meta.collection_id, meta.segment_id, needed, measured)

    def _fail(self, collection_id: int, error: MilvineError) -> None:
        """A load that cannot be done leaves its reason, the partitions that were loaded before, or else NotLoad, and
        no memory but theirs."""
        collection = self._catalog.snapshot.collections.get(collection_id)
        if collection is None:
            return
        _log.error("loading %s: %s", collection.name, error)
        metrics.background_failures.labels("load").inc()
        self._failures[collection_id] = error
        status = self._state(collection_id)
        with status.lock:
            left = self._still_loaded(collection, status.served_config)
            set_load_config(self._catalog, collection_id, left)
            if left is None:
                self._close_all(collection_id)
                return
            status.served_config = None
            status.loaded.clear()
            self.budget.cancel(collection_id)
            status.reserved = {}
            self._close_unwanted(collection, left, {m.segment_id for m in self._wanted(collection, left)}, status)
        self._schedule(collection_id)

    def _still_loaded(self, collection: Collection, before: LoadConfig | None) -> LoadConfig | None:
        """What of the configuration before the failed load is loaded as ever."""
        now = collection.load
        if now is None or before is None or before.field_ids != now.field_ids:
            return None
        left = before.partition_ids & now.partition_ids
        is_whole = bool(left) and self._are_open(collection, now, left)
        return replace(now, partition_ids=left) if is_whole else None

    def apply_deletes(self, collection_id: int, batch: DeleteBatch) -> None:
        self._node.apply_deletes(collection_id, batch)

    def prepare(self, collection_id: int, segments: tuple[SegmentMeta, ...]) -> None:
        """Open the sealed successors of growing rows or of sealed segments. A failure ends the load, never the flush
        or the compaction that calls."""
        status = self._state(collection_id)
        with status.lock:
            collection = self._catalog.snapshot.collections.get(collection_id)
            if collection is None or collection.load is None:
                return
            spec = self._spec(collection, collection.load)
            try:
                for meta in segments:
                    if meta.partition_id in collection.load.partition_ids:
                        status.prepared.add(meta.segment_id)
                        self._open(meta, spec, None, is_successor=True)
            except Exception as error:  # noqa: BLE001 - the flush has committed and must go on to its end
                self._fail(collection_id, _as_load_failure(error))

    def view_changed(self, collection_id: int) -> None:
        with self._lock:
            known = collection_id in self._status
        if known:
            self._schedule(collection_id)
