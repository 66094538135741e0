"""Changes what is loaded, by callers and by events, and has the open segments compared with it.

Load, release, new segments, new indexes, changed fields and restart all use the same comparison. Memory is reserved
before the configuration is stored, so that a load that does not fit changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

from milvine import metrics
from milvine.background import Supervisor
from milvine.catalog.collections import change_load_config, set_load_config
from milvine.catalog.store import Catalog
from milvine.crash_points import crash_point
from milvine.errors import CollectionNotFound, MemoryLimitExceeded, MilvineError, SegmentRequestResourceFailed
from milvine.model.collections import Collection, LoadConfig
from milvine.model.properties import PartKind
from milvine.model.schema import CollectionSchema
from milvine.model.segments import DeleteBatch, SegmentMeta
from milvine.querynode.budget import Budget
from milvine.querynode.comparison import STOP_SECONDS, Comparison, as_load_failure
from milvine.querynode.joining import Blocks
from milvine.querynode.load_answers import LoadAnswers
from milvine.querynode.load_state import LoadState, LoadStates, Opening
from milvine.querynode.load_targets import common_config, needed_bytes
from milvine.querynode.node import HoldersLost, QueryNode
from milvine.querynode.opener import Opener
from milvine.querynode.resting import Resting, RestPolicy
from milvine.querynode.wanted_segments import WantedSegments
from milvine.segment.view import Views

_log = logging.getLogger(__name__)
ROOM_SECONDS = 10.0
"""How long a load that lacks memory waits for collections to rest that are being read."""
_PREPARE_ATTEMPTS = 3


class Loader:
    """A ViewListener that loads and releases."""

    def __init__(
        self,
        catalog: Catalog,
        views: Views,
        node: QueryNode,
        budget: Budget,
        blocks: Blocks,
        threads: int,
        mmap_by_default: Mapping[PartKind, bool],
        background: Supervisor,
        *,
        serves_unlisted_fields: bool = False,
        memory_may_come: bool = False,
        rest_policy: RestPolicy,
    ) -> None:
        """`threads` segments of a collection are opened at a time. `serves_unlisted_fields`: from their mapped
        files; otherwise they cannot be read. `memory_may_come`: with nodes, so what was loaded and does not fit at the
        start stays loaded, mapped."""
        self._catalog = catalog
        self._views = views
        self._node = node
        self.budget = budget
        self._memory_may_come = memory_may_come
        self._states = LoadStates(catalog, node, budget)
        self.wanted = WantedSegments(
            catalog,
            views,
            node,
            self._states,
            mmap_by_default,
            serves_unlisted_fields=serves_unlisted_fields,
        )
        self.answers = LoadAnswers(catalog, views, node, budget, states=self._states, wanted=self.wanted)
        self._opener = Opener(node, budget, views, self.wanted.current)
        self._comparison = Comparison(
            catalog,
            node,
            budget,
            blocks,
            states=self._states,
            wanted=self.wanted,
            opener=self._opener,
            threads=threads,
            background=background,
        )
        self._resting = Resting(
            rest_policy, catalog, budget, states=self._states, wanted=self.wanted, comparison=self._comparison
        )
        if rest_policy.idle_seconds:
            background.worker("rest", self._resting.rest_idle).start()
        views.subscribe(self)

    def resume(self) -> None:
        """Loads the collections that were loaded when the process ended."""
        for collection in self._catalog.snapshot.collections.values():
            if collection.load is not None:
                state = self._states.of(collection.collection_id)
                try:
                    with state.lock:
                        self._reserve(collection, state, collection.load)
                except MemoryLimitExceeded as error:
                    if self._resting.policy.makes_room:
                        state.is_resting = True
                        continue
                    if self._memory_may_come:
                        self._begin_to_resume(collection.collection_id)
                        continue
                    _log.error("%s", error)
                    self._comparison.fail(collection.collection_id, state, SegmentRequestResourceFailed("Memory"))
                except MilvineError as error:
                    self._comparison.fail(collection.collection_id, state, error)
                else:
                    self._begin_to_resume(collection.collection_id)

    def _begin_to_resume(self, collection_id: int) -> None:
        self._states.resuming.add(collection_id)
        self._comparison.schedule(collection_id)

    def close(self) -> None:
        """Ends openings and starts no more. The stored load configurations stay."""
        self.wanted.is_closed = True
        self._comparison.close()

    # Load and release

    def load(self, collection: Collection, config: LoadConfig) -> None:
        """Stores `config` and starts to load it; see `load_chosen`."""
        self.load_chosen(collection.collection_id, lambda _collection: config)

    def load_chosen(self, collection_id: int, choose: Callable[[Collection], LoadConfig]) -> None:
        """Stores the configuration that `choose` returns and starts to load it. Returns when it is durable, before the
        load is done.

        Raises MemoryLimitExceeded with nothing changed.
        """
        current = self._catalog.snapshot.collections.get(collection_id)
        if current is None:
            return
        if current.load == choose(current):
            self.wake(collection_id, time.monotonic() + ROOM_SECONDS)
            return
        stop_deadline = time.monotonic() + STOP_SECONDS

        def try_it(state: LoadState) -> bool:
            return self._try_to_change(collection_id, state, choose, stop_deadline)

        self._with_room(collection_id, try_it, time.monotonic() + ROOM_SECONDS)

    def _with_room(self, collection_id: int, try_it: Callable[[LoadState], bool], deadline: float) -> None:
        """Runs `try_it`, with the state's lock, until it returns True. While it lacks memory, others rest."""
        state = self._states.of(collection_id)
        try:
            while True:
                try:
                    with state.lock:
                        while not try_it(state):
                            pass
                    return
                except MemoryLimitExceeded as error:
                    # Without the lock, since the thread of another load may want this collection to rest.
                    if not self._resting.make_room(collection_id, error.more_bytes, deadline):
                        raise
        finally:
            self._comparison.schedule(collection_id)

    def _try_to_change(
        self, collection_id: int, state: LoadState, choose: Callable[[Collection], LoadConfig], deadline: float
    ) -> bool:
        """False if the caller must try again, after other openings of the collection have returned their memory."""
        current = self._catalog.snapshot.collections.get(collection_id)
        config = None if current is None else choose(current)
        if current is None or config is None or current.load == config:
            return True
        try:
            self._reserve(current, state, config)
        except MemoryLimitExceeded:
            if not state.stop_openings(deadline):
                if current.load is None:
                    self._states.failures[collection_id] = SegmentRequestResourceFailed("Memory")
                raise
            return False
        served = current.load if state.loaded.is_set() else state.served_config
        # Chosen again in the transaction, since a partition may have been created or dropped.
        change_load_config(self._catalog, collection_id, choose)
        crash_point("load.committed")
        self._states.failures.pop(collection_id, None)
        state.served_config = None if served is None else common_config(served, config)
        state.is_resting = state.is_waking = False
        state.loaded.clear()
        state.generation += 1
        state.note_change()
        return True

    def _reserve(self, collection: Collection, state: LoadState, config: LoadConfig) -> None:
        """Reserves the bytes that loading would add now. Raises MemoryLimitExceeded with nothing changed."""
        target = self.wanted.of(collection, config)
        needed = needed_bytes(target, self._comparison.held(collection.collection_id, state))
        for opening in state.openings():
            has_memory = opening.reserved_bytes is not None and not opening.progress.is_cancelled
            if has_memory and target.wants(opening.meta, opening.wanted):  # it continues
                needed.pop(opening.meta.segment_id, None)
        state.reservations.plan(needed, self._node.copies(collection.collection_id, config))

    def release(self, collection_id: int) -> None:
        """Stores NotLoad first, so that new reads are refused; then closes all segments and frees the memory."""
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
        self._states.failures.pop(collection_id, None)
        self._comparison.close_unwanted(collection_id, self._states.of(collection_id))

    # Rest

    def reading(self, collection_id: int) -> AbstractContextManager[None]:
        """Around a read: meanwhile the collection does not begin to rest."""
        state = self._states.known(collection_id)
        return nullcontext() if state is None else state.reading

    def wake(self, collection_id: int, deadline: float) -> None:
        """Begins to bring a resting collection back; no effect on others. Raises MemoryLimitExceeded, also if others
        that are read leave no room until `deadline` (time.monotonic)."""
        state = self._states.known(collection_id)
        if state is None or not state.is_resting:
            return
        stop_deadline = min(deadline, time.monotonic() + STOP_SECONDS)
        self._with_room(collection_id, lambda state: self._try_to_wake(collection_id, state, stop_deadline), deadline)

    def _try_to_wake(self, collection_id: int, state: LoadState, deadline: float) -> bool:
        """As `_try_to_change`."""
        collection = self._catalog.snapshot.collections.get(collection_id)
        if collection is None or collection.load is None or not state.is_resting:
            return True
        try:
            self._reserve(collection, state, collection.load)
        except MemoryLimitExceeded:
            if not state.stop_openings(deadline):
                raise
            return False
        state.is_resting, state.is_waking = False, True
        state.generation += 1
        state.note_change()
        metrics.woken_collections.inc()
        return True

    def change_schema(
        self,
        collection_id: int,
        widened: Callable[[Collection], CollectionSchema],
        commit: Callable[[CollectionSchema], None],
    ) -> None:
        """Changes the schema of the collection by added or dropped fields. Open segments, including those opened in the
        meantime, know added fields before `commit` lets reads name them."""
        state = self._states.of(collection_id)
        with state.widening:
            current = self._catalog.snapshot.collections.get(collection_id)
            if current is None:
                raise CollectionNotFound(str(collection_id))
            schema = widened(current)
            with state.lock:
                state.wider_schema = schema
                self._node.set_schema(collection_id, schema)
            try:
                commit(schema)
            finally:
                with state.lock:
                    state.wider_schema = None
                    state.generation += 1
                self._comparison.schedule(collection_id)

    # Notifications of nodes

    def segments_lost(self, lost: Mapping[int, Iterable[int]]) -> None:
        """They are opened again, where there is room."""
        for collection_id, segment_ids in lost.items():
            for segment_id in segment_ids:
                self.budget.free(collection_id, segment_id)
            self.view_changed(collection_id)

    def segment_grown(self, collection_id: int, segment_id: int) -> None:
        measure = partial(self._node.memory_bytes, collection_id, segment_id)
        self.budget.measure_again(collection_id, segment_id, measure)

    def limit_changed(self, limit_bytes: int) -> None:
        self.budget.set_limit(limit_bytes)
        for collection_id, _ in self._states.items():
            self._comparison.schedule(collection_id)

    # Notifications of the data node

    def apply_deletes(self, collection_id: int, batch: DeleteBatch) -> None:
        for segment_id in self._node.apply_deletes(collection_id, batch):
            self.segment_grown(collection_id, segment_id)

    def prepare(self, collection_id: int, segments: tuple[SegmentMeta, ...]) -> None:
        collection = self._catalog.snapshot.collections.get(collection_id)
        if collection is None or collection.load is None:
            return
        state = self._states.of(collection_id)
        try:
            for meta in segments:
                self._prepare(state, meta)
        except OSError as error:
            raise as_load_failure(error) from error

    def _prepare(self, state: LoadState, meta: SegmentMeta) -> None:
        """Not in the pool, where it would wait for the reads of a long load."""
        attempts = _PREPARE_ATTEMPTS
        while (opening := self._begin_successor(state, meta)) is not None:
            try:
                if self._opener.open(state, opening, in_parallel=False):
                    return
            except HoldersLost:
                attempts -= 1
                if not attempts:
                    raise

    def _begin_successor(self, state: LoadState, meta: SegmentMeta) -> Opening | None:
        with state.lock:
            target = self.wanted.current(meta.collection_id)
            if target is None or meta.partition_id not in target.config.partition_ids:
                return None
            state.prepared.add(meta.segment_id)
            opening = Opening(meta, target.spec, target.spec, state.generation, is_successor=True)
            state.begin(meta.segment_id, opening)
            return opening

    def handed_over(self, collection_id: int, segment_ids: Set[int]) -> None:
        with self._states.lock:
            state = self._states.known(collection_id)
        if state is not None:
            with state.lock:
                state.prepared -= segment_ids
            self._comparison.schedule(collection_id)

    def view_changed(self, collection_id: int) -> None:
        with self._states.lock:
            state = self._states.known(collection_id)
        if state is not None:
            with state.lock:
                state.generation += 1
                state.note_change()
            self._comparison.schedule(collection_id)
