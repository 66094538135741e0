"""Which collections rest: those unread for a while, and the longest unread when another one needs their memory.

The segments of a resting collection are closed. Its load configuration stays, and the next read wakes it.
"""

from __future__ import annotations

import logging
import threading
import time

from milvine import logs, metrics
from milvine.catalog.store import Catalog
from milvine.model.records import record
from milvine.querynode.budget import Budget
from milvine.querynode.comparison import Comparison
from milvine.querynode.load_state import LoadState, LoadStates
from milvine.querynode.wanted_segments import WantedSegments

_log = logging.getLogger(__name__)
IDLE, MEMORY = "idle", "memory"
_PAUSE_SECONDS = 0.02


@record
class RestPolicy:
    """`idle_seconds`: collections that are unread for so long rest; 0: none does. `makes_room`: the longest unread rest
    when a load does not fit."""

    idle_seconds: float = 0.0
    makes_room: bool = False


class Resting:
    """Chooses collections and closes their segments."""

    def __init__(
        self,
        policy: RestPolicy,
        catalog: Catalog,
        budget: Budget,
        *,
        states: LoadStates,
        wanted: WantedSegments,
        comparison: Comparison,
    ) -> None:
        self.policy = policy
        self._catalog = catalog
        self._budget = budget
        self._states = states
        self._wanted = wanted
        self._comparison = comparison
        self._making_room = threading.Lock()
        for reason in (IDLE, MEMORY):
            metrics.rested_collections.labels(reason)
        metrics.resting_collections.set_function(lambda: sum(s.is_resting for _, s in states.items()))

    def _candidates(self) -> list[tuple[int, LoadState, int]]:
        """Loaded collections and their bytes, the longest unread first, those being read last."""
        found = []
        for collection_id, state in self._states.items():
            usage = self._budget.usage(collection_id)
            if state.loaded.is_set() and usage:
                found.append((collection_id, state, sum(sum(parts.values()) for parts in usage.values())))
        return sorted(found, key=lambda one: (not one[1].reads.is_empty, one[1].read_at))

    def rest_idle(self) -> float:
        """Lets idle collections rest; returns the seconds until the next one may be idle."""
        idle_seconds = self.policy.idle_seconds
        next_seconds = idle_seconds
        for collection_id, state, _ in self._candidates():
            left = state.read_at + idle_seconds - time.monotonic()
            if left > 0:
                next_seconds = min(next_seconds, left)
            else:
                self._rest(collection_id, state, IDLE)
        return max(next_seconds, _PAUSE_SECONDS)

    def make_room(self, collection_id: int, more_bytes: int, deadline: float) -> bool:
        """Lets other collections rest until `more_bytes` are free, and waits for those being read. False if all of
        them together do not suffice, or at `deadline` (time.monotonic)."""
        if not self.policy.makes_room:
            return False
        if not self._making_room.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return False
        try:
            others = [one for one in self._candidates() if one[0] != collection_id]
            if self._budget.free_bytes() + sum(size for _, _, size in others) < more_bytes:
                return False
            for other_id, state, _ in others:
                if self._budget.free_bytes() >= more_bytes:
                    return True
                self._rest(other_id, state, MEMORY)
            if self._budget.free_bytes() < more_bytes:
                time.sleep(_PAUSE_SECONDS)  # what is left is being read
        finally:
            self._making_room.release()
        return time.monotonic() < deadline

    def _rest(self, collection_id: int, state: LoadState, reason: str) -> None:
        """Closes the segments of a loaded collection that nobody reads; no effect on others."""
        collection = self._catalog.snapshot.collections.get(collection_id)
        with state.lock:
            if collection is None or self._wanted.is_closed or not (state.loaded.is_set() and state.reads.is_empty):
                return
            held = self._budget.usage(collection_id)
            state.is_resting = True
            state.loaded.clear()
            state.served_config = None
        self._comparison.close_unwanted(collection_id, state)
        metrics.rested_collections.labels(reason).inc()
        held_bytes = sum(sum(parts.values()) for parts in held.values())
        logs.event(_log, logging.INFO, "rests", collection=collection.name, reason=reason, bytes=held_bytes)
