"""What is known of one collection's loading: what is wanted, what is being opened, what serves, and who waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from milvine.model.collections import LoadConfig
from milvine.model.schema import CollectionSchema
from milvine.model.segments import SegmentMeta
from milvine.querynode.reservations import Reservations
from milvine.segment.sealed import LoadSpec


@dataclass(slots=True, eq=False)
class Opening:
    """A segment that is opened, or opened anew: by `spec`, which `wanted` asks for; the two differ when memory lacks.

    `generation` is the last one at which this was still wanted. `reserved_bytes` is None until they are reserved.
    """

    meta: SegmentMeta
    wanted: LoadSpec
    spec: LoadSpec
    generation: int
    reserved_bytes: int | None = None
    is_successor: bool = False
    is_cancelled: bool = False
    opened_bytes: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Closing:
    """A segment that is closed once its readers are done."""


class LoadState:
    """`lock` guards all of this. It is held while decisions are made and stored, and never while bytes are read or
    readers are waited for: whoever reads or waits has put the segment into `working` before.

    `loaded` and `served_config` are read without the lock.
    """

    def __init__(self, reservations: Reservations) -> None:
        self.lock = threading.Condition(threading.RLock())
        """Notified when work on a segment has ended."""
        self.reservations = reservations
        self.generation = 0
        """Grows with everything that may change what is wanted; an opening that finds it changed asks again."""
        self.loaded = threading.Event()
        self.served_config: LoadConfig | None = None
        """What goes on being served while another configuration is opened in its place."""
        self.wider_schema: CollectionSchema | None = None
        """A schema with more fields that the catalog is about to name."""
        self.widening = threading.Lock()
        """Held by one who adds fields, so that schemas come one after the other."""
        self.to_open: dict[int, Opening] = {}
        """What no thread has begun with, by segment."""
        self.working: dict[int, Opening | Closing] = {}
        """One at a time works on a segment."""
        self.openers = 0
        """Threads that open segments of this collection."""
        self.prepared: set[int] = set()
        """Successors that the view does not name yet."""
        self.failing: set[int] = set()
        """Segments that were not opened as wanted and are tried again; what was open of them serves."""
        self.comparing = False
        self.compare_again = False
        self.warming = False
        self._changes = 0
        self._changed = threading.Condition()

    # Who works

    def openings(self) -> list[Opening]:
        return [work for work in list(self.working.values()) if isinstance(work, Opening)]

    def opened_bytes(self) -> dict[int, int]:
        """Bytes that are resident of segments that do not serve yet."""
        return {o.meta.segment_id: o.opened_bytes for o in self.openings() if not o.is_cancelled}

    def begin(self, segment_id: int, work: Opening | Closing) -> None:
        assert segment_id not in self.working
        self.working[segment_id] = work

    def end(self, segment_id: int) -> None:
        with self.lock:
            del self.working[segment_id]
            self.lock.notify_all()

    def wait_until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait, without the lock, for what an end of work brings."""
        return self.lock.wait_for(holds, seconds)

    # Who waits for what serves

    @property
    def changes(self) -> int:
        """How often something changed that a read may wait for."""
        return self._changes

    def note_change(self) -> None:
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def wait_for_change(self, seen: int, deadline: float) -> bool:
        """Whether something has changed since `changes` was `seen`; waits for it until `deadline`
        (time.monotonic)."""
        with self._changed:
            return self._changed.wait_for(lambda: self._changes != seen, max(0.0, deadline - time.monotonic()))
