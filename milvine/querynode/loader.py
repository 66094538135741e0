"""Keeps in memory what should be there: compares load configuration x current view with what is held, and acts.

Load, release, new segments, new indexes, changed fields and restart are this one comparison. Memory is reserved
before the configuration is stored, so that a load that does not fit changes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace

from milvine import metrics
from milvine.catalog.collections import set_load_config
from milvine.catalog.store import Catalog
from milvine.crash_points import crash_point
from milvine.errors import (
    DataIntegrityError,
    MemoryLimitExceeded,
    MilvineError,
    SegmentRequestResourceFailed,
    UnexpectedError,
)
from milvine.model.collections import Collection, LoadConfig
from milvine.model.segments import DeleteBatch, SegmentMeta
from milvine.querynode.budget import Budget
from milvine.querynode.node import QueryNode
from milvine.segment.sealed import LoadSpec, PartKey, part_sizes
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
        self.meanwhile: LoadConfig | None = None
        """What goes on being served while another configuration is opened in its place."""
        self.opened: dict[int, int] = defaultdict(int)
        """Bytes that are resident of segments that do not serve yet."""
        self.reserved: dict[int, int] = {}
        self.prepared: set[int] = set()
        """Successors that are open and not in the view yet."""


def _both(first: LoadConfig, second: LoadConfig) -> LoadConfig:
    """What two configurations have in common."""
    return LoadConfig(first.partition_ids & second.partition_ids, first.field_ids & second.field_ids)


def _differs(held: tuple[SegmentMeta, LoadSpec], meta: SegmentMeta, spec: LoadSpec) -> bool:
    """Whether an opened segment lacks or exceeds what is wanted now."""
    held_spec = replace(held[1], mapped=False)
    return part_sizes(held[0], held_spec) != part_sizes(meta, spec)


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
        *,
        serves_unlisted_fields: bool = False,
    ) -> None:
        """`serves_unlisted_fields`: from their mapped files; else they cannot be read."""
        self._catalog = catalog
        self._views = views
        self._node = node
        self.budget = budget
        self.serves_unlisted_fields = serves_unlisted_fields
        self._lock = threading.Lock()
        self._status: dict[int, _Status] = {}
        self._failures: dict[int, MilvineError] = {}
        self._collections = ThreadPoolExecutor(threads, thread_name_prefix="loader")
        self._segments = ThreadPoolExecutor(threads, thread_name_prefix="segment-loader")
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

    def _wanted(self, collection: Collection, config: LoadConfig) -> tuple[SegmentMeta, ...]:
        view = self._views.current(collection.collection_id)
        metas = () if view is None else view.sealed
        return tuple(m for m in metas if m.partition_id in config.partition_ids)

    def _spec(self, collection: Collection, config: LoadConfig) -> LoadSpec:
        unlisted: frozenset[int] = frozenset()
        if self.serves_unlisted_fields:
            unlisted = frozenset(collection.schema.by_id) - config.field_ids
        return LoadSpec(collection.schema, config.field_ids, collection.index_by_field, unlisted_field_ids=unlisted)

    def estimate(self, collection: Collection, config: LoadConfig) -> list[tuple[SegmentMeta, dict[PartKey, int]]]:
        """Bytes that each part will hold once loaded, by segment."""
        spec = self._spec(collection, config)
        return [(meta, part_sizes(meta, spec)) for meta in self._wanted(collection, config)]

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
        """Make `config` what is to be loaded, and start. Returns when that is durable, not when it is done.

        Raises MemoryLimitExceeded with nothing changed.
        """
        collection_id = collection.collection_id
        current = self._catalog.snapshot.collections.get(collection_id)
        if current is None or current.load == config:
            return
        status = self._state(collection_id)
        with self._change_of(status), status.lock:
            current = self._catalog.snapshot.collections.get(collection_id)
            if current is None:
                return
            try:
                if current.load != config:
                    self._change(current, status, config)
            except MemoryLimitExceeded:
                if current.load is None:
                    self._failures[collection_id] = SegmentRequestResourceFailed("Memory")
                raise
            finally:
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

    def _change(self, current: Collection, status: _Status, config: LoadConfig) -> None:
        self._reserve(current, config)
        served = current.load if status.loaded.is_set() else status.meanwhile
        set_load_config(self._catalog, current.collection_id, config)
        crash_point("load.committed")
        self._failures.pop(current.collection_id, None)
        status.meanwhile = None if served is None else _both(served, config)
        status.loaded.clear()

    def release(self, collection_id: int) -> None:
        """Store NotLoad first, so that new reads are refused; then close everything and give the memory back."""
        status = self._state(collection_id)
        set_load_config(self._catalog, collection_id, None)
        self._failures.pop(collection_id, None)
        with status.lock:
            collection = self._catalog.snapshot.collections.get(collection_id)
            if collection is None or collection.load is None:  # else it was loaded again, and that is under way
                self._close_all(collection_id)

    def _close_all(self, collection_id: int) -> None:
        status = self._state(collection_id)
        status.loaded.clear()
        status.meanwhile = None
        deadline = time.monotonic() + RELEASE_DEADLINE_SECONDS
        for segment_id in self._node.held(collection_id):
            self._node.release_segment(collection_id, segment_id, deadline)
            self.budget.free(collection_id, segment_id)
        self.budget.cancel(collection_id)
        status.reserved = {}

    def progress(self, collection: Collection) -> LoadProgress:
        """How far the collection's load configuration is fulfilled."""
        config = collection.load
        if config is None:
            return LoadProgress(0, False)
        status = self._state(collection.collection_id)
        if status.loaded.is_set():
            return LoadProgress(100, True)
        held = self._held_sizes(collection.collection_id)
        total = done = 0
        for meta, sizes in self.estimate(collection, config):
            size = sum(sizes.values())
            lacking = _lacking_bytes(sizes, held.get(meta.segment_id, {}))
            total += size
            done += min(size, size - lacking + status.opened.get(meta.segment_id, 0))
        return LoadProgress(min(99, 100 * done // total) if total else 0, False)

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
        served = status.meanwhile
        if served is None or not (partition_ids or collection.load.partition_ids) <= served.partition_ids:
            return False
        return self.serves_unlisted_fields or field_ids <= served.field_ids

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
                    self._make_it_so(collection_id, status)
                except Exception as error:  # noqa: BLE001 - a thread pool would swallow it; so it ends the load, with its text
                    self._fail(collection_id, _as_load_failure(error))

    def _make_it_so(self, collection_id: int, status: _Status) -> None:
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
        status.prepared -= wanted.keys()
        for segment_id in held.keys() - wanted.keys() - status.prepared:
            self._node.release_segment(collection_id, segment_id, time.monotonic() + RELEASE_DEADLINE_SECONDS)
            self.budget.free(collection_id, segment_id)
        self._make_resident([m for i, m in wanted.items() if i in held and held[i][1].mapped], spec)
        if is_wanted():
            self.budget.cancel(collection_id)
            status.reserved = {}
            status.loaded.set()
            status.meanwhile = None

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
            reserved = _lacking_bytes(part_sizes(meta, spec), held)
            try:
                self.budget.reserve(meta.collection_id, reserved, self._names)
            except MemoryLimitExceeded as error:
                _log.warning("segment %s is opened mapped: %s", meta.segment_id, error)
                metrics.mapped_for_lack_of_memory.inc()
                reserved, spec = 0, replace(spec, mapped=True)
        measured = self._node.load_segment(meta, spec, on_bytes)
        try:
            serves = self._catch_up(meta, is_successor=is_successor)
        except MilvineError:
            self._node.release_segment(meta.collection_id, meta.segment_id, time.monotonic())
            raise
        self.budget.settle(meta.collection_id, meta.segment_id, reserved, measured)
        if not serves:
            self._node.release_segment(meta.collection_id, meta.segment_id, time.monotonic())
            self.budget.free(meta.collection_id, meta.segment_id)

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
            measured = self._node.load_segment(meta, spec)
            self.budget.settle(meta.collection_id, meta.segment_id, needed, measured)

    def _fail(self, collection_id: int, error: MilvineError) -> None:
        """A load that cannot be done leaves NotLoad, its reason, and no memory."""
        collection = self._catalog.snapshot.collections.get(collection_id)
        if collection is None:
            return
        _log.error("loading %s: %s", collection.name, error)
        metrics.background_failures.labels("load").inc()
        self._failures[collection_id] = error
        set_load_config(self._catalog, collection_id, None)
        with self._state(collection_id).lock:
            self._close_all(collection_id)

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
