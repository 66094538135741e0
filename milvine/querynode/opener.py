"""Opens one segment: reserves memory, reads, applies deletes, and serves it if it is still wanted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from milvine.errors import MilvineError
from milvine.querynode.budget import Budget
from milvine.querynode.catch_up import catch_up
from milvine.querynode.load_state import LoadState, Opening
from milvine.querynode.load_targets import LoadTarget
from milvine.querynode.node import QueryNode
from milvine.querynode.opening_progress import OpeningCancelled
from milvine.segment.sealed import part_sizes
from milvine.segment.view import Views


class _NotWanted(Exception):
    """The segment being opened is no longer wanted."""


class Opener:
    """Runs in its callers' threads. No lock is held while it reads."""

    def __init__(
        self, node: QueryNode, budget: Budget, views: Views, target_of: Callable[[int], LoadTarget | None]
    ) -> None:
        """`target_of` returns the current target of a collection."""
        self._node = node
        self._budget = budget
        self._views = views
        self._target_of = target_of

    def open(self, state: LoadState, opening: Opening, *, in_parallel: bool = True) -> bool:
        """Does the work in `state.working` and ends it. False if it is no longer wanted; only a failure of wanted work
        is raised."""
        meta = opening.meta
        serves = False
        failed = True
        try:
            self._reserve(state, opening)
            self._node.load_segment(meta, opening.spec, opening.progress, in_parallel)
            if not catch_up(self._views, meta, self._node.catch_up, is_successor=opening.is_successor):
                raise _NotWanted
            serves = self._publish(state, opening)
            failed = False
        except (_NotWanted, OpeningCancelled):
            failed = False
        except (MilvineError, OSError):
            # Files are removed after the view has changed, so a missing file may not be wanted any more.
            with state.lock:
                failed = self.target_that_wants(state, opening) is not None
                opening.generation = state.generation
            if failed:
                raise
        finally:
            self._end(state, opening, serves=serves, failed=failed)
        return serves

    def target_that_wants(self, state: LoadState, opening: Opening) -> LoadTarget | None:
        """The target, if it wants the segment being opened, or None."""
        with state.lock:
            target = None if opening.progress.is_cancelled else self._target_of(opening.meta.collection_id)
            if target is not None and opening.is_successor:
                target = target.with_successor(opening.meta)
            return target if target is not None and target.wants(opening.meta, opening.wanted) else None

    def _reserve(self, state: LoadState, opening: Opening) -> None:
        meta = opening.meta
        with state.lock:
            if self.target_that_wants(state, opening) is None:
                raise _NotWanted
            if opening.reserved_bytes is None:
                held = self._node.held_segment(meta.collection_id, meta.segment_id)
                sizes = {} if held is None else part_sizes(*held)
                opening.reserved_bytes, opening.spec = state.reservations.take(meta, opening.spec, sizes)

    def _publish(self, state: LoadState, opening: Opening) -> bool:
        meta = opening.meta
        with state.lock:
            target = self.target_that_wants(state, opening)
            if target is None:
                return False
            where = meta.collection_id, meta.segment_id
            self._node.serve(*where, target.spec.schema)
            measure = partial(self._node.memory_bytes, *where)
            self._budget.settle(*where, opening.reserved_bytes or 0, measure)
            opening.reserved_bytes = None
        state.note_change()
        return True

    def _end(self, state: LoadState, opening: Opening, *, serves: bool, failed: bool) -> None:
        meta = opening.meta
        with state.lock:
            try:
                if not serves:
                    self._node.discard(meta.collection_id, meta.segment_id)
                if opening.reserved_bytes is not None:
                    target = self._target_of(meta.collection_id)
                    is_to_open_again = target is not None and meta.segment_id in target.segments
                    if is_to_open_again and not (failed or state.loaded.is_set()):
                        state.reservations.take_back(meta.segment_id, opening.reserved_bytes)
                    else:
                        state.reservations.give_back(opening.reserved_bytes)
            finally:
                state.end(meta.segment_id)
