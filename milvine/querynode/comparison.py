"""Finds what of a collection is open and should not be, or the reverse, and acts: opens, closes, retries.

The comparison only decides; other threads open and close segments, and wake it when they are done.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from milvine import metrics
from milvine.background import Supervisor, Work
from milvine.catalog.collections import set_load_config
from milvine.catalog.store import Catalog
from milvine.crash_points import crash_point
from milvine.errors import (
    DataIntegrityError,
    DiskLimitExceeded,
    IoFailed,
    MemoryLimitExceeded,
    MilvineError,
    SegmentRequestResourceFailed,
    UnexpectedError,
    WriteFailed,
)
from milvine.model.collections import Collection, LoadConfig
from milvine.querynode.budget import Budget
from milvine.querynode.joining import Blocks
from milvine.querynode.load_state import Closing, LoadState, LoadStates, Opening
from milvine.querynode.load_targets import Difference, Held, difference, lacking_bytes, reads_files
from milvine.querynode.node import QueryNode
from milvine.querynode.opener import Opener
from milvine.querynode.wanted_segments import WantedSegments
from milvine.querynode.warmer import Warmer
from milvine.segment.sealed import part_sizes

_log = logging.getLogger(__name__)
RELEASE_DEADLINE_SECONDS = 30.0
"""How long the closing of a segment waits for its readers."""
STOP_SECONDS = 2.0
"""How long a release, or a load that lacks memory, waits for openings that are no longer wanted. They stop after a few
megabytes, unless the disk stalls; their memory stays reserved until then."""
_RETRY_SECONDS = 1.0
_PASSING = (IoFailed, DiskLimitExceeded, WriteFailed)
"""A load waits for the end of these."""
_CLOSERS = 4
_LOADS_AT_A_TIME = 4
"""Long loads of at most this many collections run at a time; the others wait until a segment is done."""


def as_load_failure(error: Exception) -> MilvineError:
    if isinstance(error, MilvineError):
        return error
    if isinstance(error, OSError):
        return SegmentRequestResourceFailed("Disk", str(error))
    _log.error("a load failed unexpectedly", exc_info=error)
    return UnexpectedError(f"{type(error).__name__}: {error}")


class Comparison:
    """Compares in threads of its own. What it decides about a collection it keeps in the collection's LoadState."""

    def __init__(
        self,
        catalog: Catalog,
        node: QueryNode,
        budget: Budget,
        blocks: Blocks,
        *,
        states: LoadStates,
        wanted: WantedSegments,
        opener: Opener,
        threads: int,
        background: Supervisor,
    ) -> None:
        """`threads` segments of a collection are opened at a time."""
        self._catalog = catalog
        self._node = node
        self._budget = budget
        self._blocks = blocks
        self._states = states
        self._wanted = wanted
        self._opener = opener
        self._threads = threads
        self._collections = ThreadPoolExecutor(threads, thread_name_prefix="loader")
        self._segments = ThreadPoolExecutor(_LOADS_AT_A_TIME * threads, thread_name_prefix="segment-loader")
        self._closers = ThreadPoolExecutor(_CLOSERS, thread_name_prefix="segment-closer")
        self._warm_ups = ThreadPoolExecutor(1, thread_name_prefix="warm-up")
        self._warmer = Warmer(node, budget, wanted.current, self._open_one)
        self._work: Work[tuple[int, int]] = background.work("load")
        """Segments, with their collection, that could not be opened and are retried."""
        self._retrier = background.worker("load", self._retry)
        self._retrier.start()

    def close(self) -> None:
        """Ends openings and starts no more, after the wanted segments are closed."""
        for _, state in self._states.items():
            with state.lock:
                state.to_open.clear()
                state.generation += 1
                for opening in state.openings():
                    opening.progress.cancel()
        for pool in (self._collections, self._warm_ups, self._segments, self._closers):
            pool.shutdown(cancel_futures=True)

    def schedule(self, collection_id: int) -> None:
        state = self._states.of(collection_id)
        with state.lock:
            state.compare_again = True
            if state.comparing or self._wanted.is_closed:
                return
            state.comparing = True
        self._submit(self._collections, self._compare, collection_id, state)

    def _submit(
        self, pool: ThreadPoolExecutor, work: Callable[..., None], collection_id: int, state: LoadState, *more: Any
    ) -> None:
        def guarded() -> None:
            try:
                work(collection_id, state, *more)
            except Exception as error:  # noqa: BLE001 - a thread pool would swallow it
                self._keep_failure(collection_id, state, collection_id, error)

        with contextlib.suppress(RuntimeError):  # the process is ending
            pool.submit(guarded)

    def _keep_failure(
        self, collection_id: int, state: LoadState, segment_id: int, error: Exception, spent_seconds: float = 0.0
    ) -> None:
        """Retries a segment, or all of them (the collection's id), after a while."""
        collection = self._catalog.snapshot.collections.get(collection_id)
        what = f"load of collection {collection_id if collection is None else collection.name}"
        with state.lock:
            state.failing.add(segment_id)
            self._work.failed([(collection_id, segment_id)], what, error, spent_seconds)
        self._retrier.wake()

    def _compare(self, collection_id: int, state: LoadState) -> None:
        while True:
            with state.lock:
                if not state.compare_again:
                    state.comparing = False
                    return
                state.compare_again = False
            try:
                self._compare_once(collection_id, state)
            except Exception as error:  # noqa: BLE001 - a pool would swallow it; it ends the load, with its text
                self.fail(collection_id, state, as_load_failure(error))

    def held(self, collection_id: int, state: LoadState) -> Held:
        """The open segments that are not being closed."""
        held = self._node.held(collection_id)
        return {i: one for i, one in held.items() if not isinstance(state.working.get(i), Closing)}

    def _differ(self, collection_id: int, state: LoadState) -> Difference:
        """The work to do. Reservations for other work are returned."""
        target, held = self._wanted.current(collection_id), self.held(collection_id, state)
        if target is None:
            state.loaded.clear()
            state.is_resting = state.is_waking = False
            state.served_config = None
            state.to_open.clear()
            self._blocks.drop(collection_id)
        elif state.is_resting:
            self._blocks.drop(collection_id)
        found = difference(target, held, state.prepared)
        state.reservations.keep({m.segment_id for m in found.to_open})
        return found

    def _compare_once(self, collection_id: int, state: LoadState) -> None:
        with state.lock:
            self._cancel_unwanted(state)
            found = self._differ(collection_id, state)
            closing = self._begin_closing(collection_id, state, found.to_close)
            shared = self._plan_openings(collection_id, state, found)
            self._forget_failures(collection_id, state)
            self._start_openers(collection_id, state)
        if closing:
            self._submit(self._closers, self._close_and_compare, collection_id, state, closing)
        for opening in shared:
            self._open_one(collection_id, state, opening)
        crash_point("load.compared")
        with state.lock:
            self._conclude(collection_id, state)
        if self._warmer.lacking(collection_id):
            self._submit(self._warm_ups, self._warmer.warm_up, collection_id, state, self._work.waiting())

    def _plan_openings(self, collection_id: int, state: LoadState, found: Difference) -> list[Opening]:
        """Queues the segments to open; returns started openings that read no file."""
        state.to_open = {}
        shared: list[Opening] = []
        target, held = self._wanted.current(collection_id), self.held(collection_id, state)
        if target is None:
            return shared
        waiting = self._work.waiting() if state.failing else set()
        if (collection_id, collection_id) in waiting:
            return shared
        for meta in found.to_open:
            segment_id = meta.segment_id
            if segment_id in state.working or (collection_id, segment_id) in waiting:
                continue
            opening = Opening(meta, target.spec, target.spec, state.generation)
            if reads_files(held.get(segment_id), meta, target.spec):
                state.to_open[segment_id] = opening
            else:
                state.begin(segment_id, opening)
                shared.append(opening)
        for meta in found.short:
            segment_id = meta.segment_id
            if segment_id in state.working or (collection_id, segment_id) in waiting:
                continue
            needed = lacking_bytes(part_sizes(meta, target.spec), part_sizes(*held[segment_id]))
            with contextlib.suppress(MemoryLimitExceeded):  # there is still no memory
                state.reservations.plan_more(segment_id, needed)
                state.to_open[segment_id] = Opening(meta, target.spec, target.spec, state.generation)
        return shared

    def _conclude(self, collection_id: int, state: LoadState) -> None:
        collection = self._catalog.snapshot.collections.get(collection_id)
        target, held = self._wanted.current(collection_id), self.held(collection_id, state)
        is_open = target is not None and not state.is_resting and target.is_open(held)
        if is_open and not state.loaded.is_set():
            state.reservations.keep(state.to_open.keys())
            state.read_at = time.monotonic()
            state.loaded.set()
            state.is_waking = False
            state.served_config = None
            state.note_change()
        if collection is None and not self._node.held(collection_id) and not state.working:
            self._states.forget(collection_id)

    # Opening and closing

    def _start_openers(self, collection_id: int, state: LoadState) -> None:
        while state.openers < min(self._threads, len(state.to_open)):
            state.openers += 1
            self._submit(self._segments, self._open_next, collection_id, state)

    def _open_next(self, collection_id: int, state: LoadState) -> None:
        """Opens one segment and queues again after other collections, so that short loads do not wait for long ones."""
        with state.lock:
            opening = None
            if state.to_open:
                segment_id = next(iter(state.to_open))
                opening = state.to_open.pop(segment_id)
                if segment_id in state.working:
                    opening = None  # its end wakes the comparison
                else:
                    state.begin(segment_id, opening)
        try:
            if opening is not None:
                self._open_one(collection_id, state, opening)
        finally:
            with state.lock:
                goes_on = bool(state.to_open)
                if not goes_on:
                    state.openers -= 1
            if goes_on:
                self._submit(self._segments, self._open_next, collection_id, state)
            else:
                self.schedule(collection_id)

    def _open_one(self, collection_id: int, state: LoadState, opening: Opening) -> None:
        started = time.monotonic()
        try:
            serves = self._opener.open(state, opening)
        except Exception as error:  # noqa: BLE001 - it ends the load, or is kept and tried again
            self._opening_failed(collection_id, state, opening, error, time.monotonic() - started)
        else:
            if not serves:
                self.schedule(collection_id)

    def _opening_failed(
        self, collection_id: int, state: LoadState, opening: Opening, error: Exception, spent_seconds: float
    ) -> None:
        """Damage, and any failure before a load is done, ends the load, except that of an object store that is away, or
        of a disk without room for copies. After other failures the open segments are still served, and are opened as
        wanted later."""
        with state.lock:
            if state.generation != opening.generation:
                self.schedule(collection_id)  # perhaps of an earlier load; the current one may fail again, or not
            elif isinstance(error, DataIntegrityError) or not (state.loaded.is_set() or isinstance(error, _PASSING)):
                self.fail(collection_id, state, as_load_failure(error))
            else:
                self._keep_failure(collection_id, state, opening.meta.segment_id, error, spent_seconds)

    def _forget_failures(self, collection_id: int, state: LoadState) -> None:
        """Of segments that are open as wanted now, or are gone."""
        if not state.failing:
            return
        target, held = self._wanted.current(collection_id), self._node.held(collection_id)
        wrong = {m.segment_id for m in difference(target, held).to_open} | set(self._warmer.lacking(collection_id))
        if target is not None and not state.loaded.is_set():
            wrong.add(collection_id)
        done = state.failing - wrong
        state.failing -= done
        self._work.succeeded([(collection_id, segment_id) for segment_id in done])

    def _retry(self) -> float | None:
        failing = [collection_id for collection_id, state in self._states.items() if state.failing]
        for collection_id in failing:
            self.schedule(collection_id)
        return _RETRY_SECONDS if failing else None

    def _begin_closing(self, collection_id: int, state: LoadState, segment_ids: Iterable[int]) -> list[int]:
        """The segments without work in progress; the others are compared again when it has ended."""
        closing = [i for i in segment_ids if i not in state.working]
        for segment_id in closing:
            state.begin(segment_id, Closing())
        return closing

    def _close(self, collection_id: int, state: LoadState, segment_ids: list[int]) -> None:
        deadline = time.monotonic() + RELEASE_DEADLINE_SECONDS
        for segment_id in segment_ids:
            try:
                self._node.release_segment(collection_id, segment_id, max(0.0, deadline - time.monotonic()))
            finally:
                self._budget.free(collection_id, segment_id)
                state.end(segment_id)

    def _close_and_compare(self, collection_id: int, state: LoadState, segment_ids: list[int]) -> None:
        self._close(collection_id, state, segment_ids)
        self.schedule(collection_id)

    def close_unwanted(self, collection_id: int, state: LoadState) -> None:
        """Closes segments that are no longer wanted, and waits for their openings and closings to end."""
        with state.lock:
            state.generation += 1
            state.note_change()
            self._cancel_unwanted(state)
            closing = self._begin_closing(collection_id, state, self._differ(collection_id, state).to_close)
        self._close(collection_id, state, closing)
        with state.lock:
            state.wait_until(lambda: not self._unwanted_openings(state), STOP_SECONDS)
            closing = self._begin_closing(collection_id, state, self._differ(collection_id, state).to_close)
        self._close(collection_id, state, closing)
        with state.lock:
            state.wait_until(
                lambda: not any(isinstance(work, Closing) for work in state.working.values()),
                RELEASE_DEADLINE_SECONDS,
            )
        self.schedule(collection_id)

    def _unwanted_openings(self, state: LoadState) -> list[Opening]:
        return [one for one in state.openings() if self._opener.target_that_wants(state, one) is None]

    def _cancel_unwanted(self, state: LoadState) -> None:
        for opening in self._unwanted_openings(state):
            opening.progress.cancel()

    def fail(self, collection_id: int, state: LoadState, error: MilvineError) -> None:
        """Ends a failed load: keeps its reason and the partitions that were loaded before, or else stores NotLoad, and
        frees all other memory."""
        with state.lock:
            collection = self._catalog.snapshot.collections.get(collection_id)
            if collection is None or collection.load is None or self._wanted.is_closed:
                return
            _log.error("loading %s: %s", collection.name, error)
            metrics.background_failures.labels("load").inc()
            self._states.failures[collection_id] = error
            try:
                set_load_config(self._catalog, collection_id, self._still_loaded(collection, state.served_config))
            except Exception as failure:  # noqa: BLE001 - the disk is full, say: the load runs, and fails, once more
                self._keep_failure(collection_id, state, collection_id, failure)
                return
            state.generation += 1
            state.served_config = None
            state.is_resting = state.is_waking = False
            state.loaded.clear()
            state.to_open.clear()
            state.reservations.keep(set())
            state.note_change()
        self.schedule(collection_id)

    def _still_loaded(self, collection: Collection, before: LoadConfig | None) -> LoadConfig | None:
        """The part of the configuration before the failed load that is still loaded."""
        now = collection.load
        if now is None or before is None or before.field_ids != now.field_ids:
            return None
        left = before.partition_ids & now.partition_ids
        target = self._wanted.of(collection, now, left)
        is_whole = bool(left) and target.is_open(self._node.held(collection.collection_id))
        return replace(now, partition_ids=left) if is_whole else None
