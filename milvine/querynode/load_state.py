"""The state of each collection's loading: its target, openings, open segments, and waiting reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from milvine.catalog.store import Catalog
from milvine.errors import MilvineError
from milvine.in_flight import InFlight
from milvine.model.collections import LoadConfig
from milvine.model.schema import CollectionSchema
from milvine.model.segments import SegmentMeta
from milvine.querynode.budget import Budget
from milvine.querynode.load_targets import LoadTarget
from milvine.querynode.node import QueryNode
from milvine.querynode.opening_progress import OpeningProgress
from milvine.querynode.reservations import Reservations
from milvine.segment.sealed import LoadSpec


@dataclass(slots=True, eq=False)
class Opening:
    """The opening, or new opening, of a segment. `spec` has less than `wanted` if memory is short.

    `generation` is the last one at which this was still wanted. `reserved_bytes` is None until they are reserved.
    """

    meta: SegmentMeta
    wanted: LoadSpec
    spec: LoadSpec
    generation: int
    reserved_bytes: int | None = None
    is_successor: bool = False
    progress: OpeningProgress = field(default_factory=OpeningProgress)


@dataclass(frozen=True, slots=True, eq=False)
class Closing:
    """The closing of a segment, after its readers."""


class Reading:
    """Around a read, by any number of threads. Every read enters it, so it is no generator, which costs three times as
    much."""

    __slots__ = ("_state",)

    def __init__(self, state: LoadState) -> None:
        self._state = state

    def __enter__(self) -> None:
        self._state.reads.enter()

    def __exit__(self, *_: object) -> None:
        self._state.read_at = time.monotonic()
        self._state.reads.leave()


class LoadState:
    """`lock` guards all of this. It is held while decisions are made and stored, and never while bytes are read or
    readers are waited for. A thread puts its segment into `working` before it reads or waits.

    `loaded`, `served_config`, `is_resting`, `is_waking` and `read_at` are read without the lock.
    """

    def __init__(self, reservations: Reservations) -> None:
        self.lock = threading.Condition(threading.RLock())
        """Notified when work on a segment has ended."""
        self.reservations = reservations
        self.generation = 0
        """Grows with every event that may change the target. The comparison that follows cancels what is not wanted."""
        self.loaded = threading.Event()
        self.served_config: LoadConfig | None = None
        """The configuration that is served until its replacement is open."""
        self.wider_schema: CollectionSchema | None = None
        """A schema with more fields that the catalog is about to name."""
        self.known_target: tuple[tuple[object, ...], LoadTarget] | None = None
        """The last target, and the objects that it was made of."""
        self.widening = threading.Lock()
        """Held while fields are added, so that schemas change one after the other."""
        self.to_open: dict[int, Opening] = {}
        """Openings that no thread has started, by segment."""
        self.working: dict[int, Opening | Closing] = {}
        """The work in progress; at most one per segment."""
        self.openers = 0
        """Threads that open segments of this collection."""
        self.prepared: set[int] = set()
        """Successors that the view does not name yet."""
        self.failing: set[int] = set()
        """Segments that could not be opened as wanted and are retried; their open parts are served."""
        self.is_resting = False
        """Nothing is open, though the collection is to be loaded; a read wakes it."""
        self.is_waking = False
        """From the end of a rest until all is open again."""
        self.read_at = time.monotonic()
        """When the last read ended, or the load."""
        self.reads = InFlight()
        self.reading = Reading(self)
        self.comparing = False
        self.compare_again = False
        self.warming = False
        self._changes = 0
        self._changed = threading.Condition()

    @property
    def is_loaded(self) -> bool:
        """Whether the collection counts as loaded; while it rests and wakes, reads wait."""
        return self.loaded.is_set() or self.is_resting or self.is_waking

    # Work

    def openings(self) -> list[Opening]:
        return [work for work in list(self.working.values()) if isinstance(work, Opening)]

    def opened_bytes(self) -> dict[int, int]:
        """Resident bytes of segments that are not served yet."""
        return {o.meta.segment_id: o.progress.bytes_read for o in self.openings() if not o.progress.is_cancelled}

    def begin(self, segment_id: int, work: Opening | Closing) -> None:
        assert segment_id not in self.working
        self.working[segment_id] = work

    def end(self, segment_id: int) -> None:
        with self.lock:
            del self.working[segment_id]
            self.lock.notify_all()

    def wait_until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Waits, without the lock, for the end of some work."""
        return self.lock.wait_for(holds, seconds)

    def stop_openings(self, deadline: float) -> bool:
        """Waits until the opening or closing of a segment returns memory; False if there is none, or none does before
        `deadline` (time.monotonic)."""
        self.to_open.clear()
        stopping = {i: w for i, w in self.working.items() if isinstance(w, Closing) or not w.is_successor}
        for work in stopping.values():
            if isinstance(work, Opening):
                work.progress.cancel()

        def has_stopped() -> bool:
            return any(self.working.get(i) is not work for i, work in stopping.items())

        return bool(stopping) and self.wait_until(has_stopped, max(0.0, deadline - time.monotonic()))

    # Waiting reads

    @property
    def changes(self) -> int:
        """The number of changes that a read may wait for."""
        return self._changes

    def note_change(self) -> None:
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def wait_for_change(self, seen: int, deadline: float) -> bool:
        """Whether there was a change since `changes` was `seen`; waits for one until `deadline`
        (time.monotonic)."""
        with self._changed:
            return self._changed.wait_for(lambda: self._changes != seen, max(0.0, deadline - time.monotonic()))


class LoadStates:
    """The states of all collections that are or were to be loaded, until they are dropped."""

    def __init__(self, catalog: Catalog, node: QueryNode, budget: Budget) -> None:
        self._catalog = catalog
        self._node = node
        self._budget = budget
        self.lock = threading.Lock()
        """Held while a state is added or removed."""
        self._states: dict[int, LoadState] = {}
        self.failures: dict[int, MilvineError] = {}
        """Why the last load ended, of collections whose load failed."""
        self.resuming: set[int] = set()
        """Collections that were loaded when the process ended, and perhaps are not yet again."""

    def of(self, collection_id: int) -> LoadState:
        """The state of a collection, made if there is none."""
        with self.lock:
            state = self._states.get(collection_id)
            if state is None:
                names = partial(self._names, collection_id)
                copies = partial(self._node.copies, collection_id)
                state = LoadState(Reservations(self._budget, collection_id, names, copies))
                self._states[collection_id] = state
            return state

    def known(self, collection_id: int) -> LoadState | None:
        """The state of a collection, if there is one. It takes no lock."""
        return self._states.get(collection_id)

    def items(self) -> list[tuple[int, LoadState]]:
        return list(self._states.items())

    def forget(self, collection_id: int) -> None:
        with self.lock:
            self._states.pop(collection_id, None)
            self.failures.pop(collection_id, None)

    def _names(self, collection_id: int) -> Mapping[int, str]:
        """The collections of one collection's database."""
        collections = self._catalog.snapshot.collections
        own = collections.get(collection_id)
        return {i: c.name for i, c in collections.items() if own is not None and c.database == own.database}
