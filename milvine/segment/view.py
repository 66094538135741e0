"""The view that one read of a collection sees, and the listeners to its changes.

The data node replaces the view as a whole; a reader takes it with one attribute read and no lock. A frozen growing
segment stays in the view until its sealed successor is open wherever it is needed; then the view changes at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import field, replace
from typing import Protocol, cast

from milvine.errors import DataIntegrityError
from milvine.model.records import record
from milvine.model.schema import CollectionSchema
from milvine.model.segments import DeleteBatch, DeltaMeta, SegmentMeta
from milvine.segment.deletes import append_deletes
from milvine.segment.growing import GrowingSegment

_SEALED_IDS = "sealed ids"


@record
class ReadView:
    """`ts`: the view has everything acknowledged at or before it. `deletes` are those not yet in a delta file."""

    collection_id: int
    schema: CollectionSchema
    ts: int = 0
    growing: tuple[GrowingSegment, ...] = ()
    sealed: tuple[SegmentMeta, ...] = ()
    deltas: tuple[DeltaMeta, ...] = ()
    deletes: tuple[DeleteBatch, ...] = ()
    shares: dict[object, object] = field(init=False, compare=False, default_factory=dict)
    """What readers found out about the view, until it is replaced."""

    def names(self, segment_id: int) -> bool:
        """Whether the view has this sealed segment."""
        ids = self.shares.get(_SEALED_IDS)
        if ids is None:
            ids = self.shares[_SEALED_IDS] = frozenset(m.segment_id for m in self.sealed)
        return segment_id in cast(frozenset[int], ids)

    def with_current(self, segment_id: int, known: Iterable[SegmentMeta]) -> ReadView:
        """The view with the record of a sealed segment among those that the catalog knows."""
        found = next((m for m in known if m.segment_id == segment_id), None)
        if found is None:
            return self
        return replace(self, sealed=tuple(found if m.segment_id == segment_id else m for m in self.sealed))

    def with_all_current(self, known: Iterable[SegmentMeta]) -> ReadView:
        """The view with the records that the catalog knows of its sealed segments."""
        by_id = {m.segment_id: m for m in known}
        return replace(self, sealed=tuple(by_id.get(m.segment_id, m) for m in self.sealed))

    @property
    def growing_bytes(self) -> int:
        """Memory of the growing rows and deletes, which only the log holds on disk."""
        return sum(s.bytes_used for s in self.growing) + sum(b.bytes_used for b in self.deletes)

    @property
    def oldest_unsealed_ts(self) -> int | None:
        """The timestamp of the oldest row or delete that only the log holds on disk; None if there is none."""
        rows = [int(s.chunks[0].insert_ts[0]) for s in self.growing if s.chunks]
        return min([*rows, *(int(batch.ts[0]) for batch in self.deletes[:1])], default=None)


class ViewListener(Protocol):
    """A holder of sealed segments. The data node calls it in the order of its commits."""

    def apply_deletes(self, collection_id: int, batch: DeleteBatch) -> None:
        """Marks rows of the held segments. The writer acknowledges after this returns."""
        ...

    def prepare(self, collection_id: int, segments: tuple[SegmentMeta, ...]) -> None:
        """Opens sealed successors of growing or sealed segments, if their rows are loaded, before the view names
        them. If it raises, the caller tries again with other successors."""
        ...

    def handed_over(self, collection_id: int, segment_ids: Set[int]) -> None:
        """Called when the view names these successors, or never will."""
        ...

    def view_changed(self, collection_id: int) -> None:
        """Called when sealed segments, indexes or the collection were added or removed; only wakes the holder."""
        ...


class Views:
    """The current view of every collection. Each collection has a lock that serialises its changes."""

    def __init__(self) -> None:
        self._locks: dict[int, threading.Lock] = {}
        self._views: dict[int, ReadView] = {}
        self._damaged: dict[int, DataIntegrityError] = {}
        self._listeners: tuple[ViewListener, ...] = ()
        self._growing_bytes: dict[int, int] = {}
        """Of collections that have any."""
        self._all_growing_bytes = 0
        self._count_lock = threading.Lock()

    def subscribe(self, listener: ViewListener) -> None:
        self._listeners = (*self._listeners, listener)

    def current(self, collection_id: int) -> ReadView | None:
        """None if the collection is gone. Raises DataIntegrityError if it could not be recovered."""
        view = self._views.get(collection_id)
        if view is None and (damage := self._damaged.get(collection_id)) is not None:
            raise damage.prefixed(f"collection {collection_id} cannot be opened")
        return view

    def peek(self, collection_id: int) -> ReadView | None:
        """None if the collection is gone or damaged; for work on all collections."""
        return self._views.get(collection_id)

    def damage(self, collection_id: int) -> DataIntegrityError | None:
        """Why the collection could not be recovered."""
        return self._damaged.get(collection_id)

    def mark_damaged(self, collection_id: int, damage: DataIntegrityError) -> None:
        """Records that the collection has no view; `current` raises the reason."""
        self._damaged[collection_id] = damage

    def add(self, view: ReadView) -> None:
        self._locks[view.collection_id] = threading.Lock()
        self._views[view.collection_id] = view
        self._count(view.collection_id, view.growing_bytes)

    def remove(self, collection_id: int) -> None:
        self._damaged.pop(collection_id, None)
        lock = self._locks.get(collection_id)
        if lock is not None:
            with lock:
                del self._views[collection_id]
                self._count(collection_id, 0)
            del self._locks[collection_id]
        for listener in self._listeners:
            listener.view_changed(collection_id)

    def replace(self, collection_id: int, change: Callable[[ReadView], ReadView]) -> None:
        """Replaces the view by the result of `change`. Does nothing if the collection is gone."""
        lock = self._locks.get(collection_id)
        if lock is None:
            return
        with lock:
            view = self._views.get(collection_id)
            if view is not None:
                following = self._views[collection_id] = change(view)
                if following.growing is not view.growing or following.deletes is not view.deletes:
                    self._count(collection_id, following.growing_bytes)

    def growing_bytes(self, collection_id: int) -> int:
        """`ReadView.growing_bytes` of the current view; 0 if the collection is gone."""
        return self._growing_bytes.get(collection_id, 0)

    def with_growing(self) -> list[int]:
        """The collections with growing rows or deletes."""
        return list(self._growing_bytes)

    @property
    def all_growing_bytes(self) -> int:
        """The sum over all collections."""
        return self._all_growing_bytes

    def _count(self, collection_id: int, growing_bytes: int) -> None:
        """Updates the sum. The caller holds the collection's lock, or no other thread knows the collection yet."""
        with self._count_lock:
            self._all_growing_bytes += growing_bytes - self._growing_bytes.get(collection_id, 0)
            if growing_bytes:
                self._growing_bytes[collection_id] = growing_bytes
            else:
                self._growing_bytes.pop(collection_id, None)

    def publish_deletes(self, collection_id: int, batch: DeleteBatch) -> None:
        """Publishes deletes to loaders first and to holders second, so that no opening segment misses them."""
        self.replace(collection_id, lambda view: replace(view, deletes=append_deletes(view.deletes, batch)))
        for listener in self._listeners:
            listener.apply_deletes(collection_id, batch)

    @contextmanager
    def prepared(self, collection_id: int, segments: tuple[SegmentMeta, ...]) -> Iterator[None]:
        """Opens sealed successors, which are only on disk so far, wherever their rows are loaded. The block commits
        them and puts them into the view; otherwise they are closed."""
        try:
            for listener in self._listeners:
                listener.prepare(collection_id, segments)
            yield
        finally:
            for listener in self._listeners:
                listener.handed_over(collection_id, frozenset(m.segment_id for m in segments))

    def changed(self, collection_id: int) -> None:
        for listener in self._listeners:
            listener.view_changed(collection_id)
