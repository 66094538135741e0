"""Deletes on their way to nodes: numbered by collection, kept until a node has them, sent in order by a thread a node.

No writer waits for a node. A read says which number it must see, and a node that does not have it yet says so.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from milvine.model.segments import DeleteBatch

_MOST_ITEMS = 256
_MOST_BYTES = 8 << 20
QUEUE_BYTES = 256 << 20
"""A node that lacks more than this is registered anew, without segments."""
_RETRY_SECONDS = 0.05
_REMEMBERED = 4096
Item = tuple[Any, ...]
"""("from", collection, number), ("batch", collection, number, deletes) or ("forget", collection)."""


class Outbox:
    """The items for one node. `send` returns when the node has them; whatever it raises, they are sent again."""

    def __init__(self, send: Callable[[Sequence[Item]], None], on_overflow: Callable[[], None]) -> None:
        self._send = send
        self._on_overflow = on_overflow
        self._changed = threading.Condition()
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="deletes", daemon=True)
        self._thread.start()

    @property
    def bytes_used(self) -> int:
        return self._bytes

    def put(self, item: Item, size: int = 0) -> None:
        with self._changed:
            if self._is_closed:
                return
            self._items.append((item, size))
            self._bytes += size
            is_full = self._bytes > QUEUE_BYTES
            self._changed.notify_all()
        if is_full:
            self._on_overflow()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._items.clear()
            self._bytes = 0
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._is_closed)
                if self._is_closed:
                    return
                batch = self._first()
            try:
                self._send([item for item, _ in batch])
            except Exception:  # noqa: BLE001 - the node is behind until it answers, or is lost
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closed, _RETRY_SECONDS)
                continue
            with self._changed:
                if not self._is_closed:
                    for _, size in batch:
                        self._items.popleft()
                        self._bytes -= size

    def _first(self) -> list[tuple[Item, int]]:
        found: list[tuple[Item, int]] = []
        size = 0
        for one in self._items:
            if found and (len(found) == _MOST_ITEMS or size + one[1] > _MOST_BYTES):
                break
            found.append(one)
            size += one[1]
        return found


class _Numbers:
    """The numbers of one collection's batches. `recent`: numbers and last timestamps, ascending."""

    def __init__(self) -> None:
        self.last = 0
        self.recent: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)
        self.nodes: dict[int, Outbox] = {}


class DeleteFeed:
    """All collections and nodes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._collections: dict[int, _Numbers] = {}

    def append(self, collection_id: int, batch: DeleteBatch) -> None:
        """Numbers a batch and hands it to the nodes of its collection. The caller publishes one at a time."""
        numbers = self._collections.get(collection_id)
        if numbers is None:
            return  # no node has segments of it
        with self._lock:
            numbers.last += 1
            numbers.recent.append((numbers.last, int(batch.ts[-1])))
            for outbox in numbers.nodes.values():
                outbox.put(("batch", collection_id, numbers.last, batch), batch.bytes_used)

    def subscribe(self, collection_id: int, node_id: int, outbox: Outbox) -> None:
        """From now on the node gets the collection's deletes. Those before come with each segment."""
        with self._lock:
            numbers = self._collections.setdefault(collection_id, _Numbers())
            if node_id not in numbers.nodes:
                numbers.nodes[node_id] = outbox
                outbox.put(("from", collection_id, numbers.last))

    def unsubscribe(self, collection_id: int, node_id: int) -> None:
        with self._lock:
            numbers = self._collections.get(collection_id)
            outbox = None if numbers is None else numbers.nodes.pop(node_id, None)
            if outbox is not None:
                outbox.put(("forget", collection_id))

    def drop_node(self, node_id: int) -> None:
        with self._lock:
            for numbers in self._collections.values():
                numbers.nodes.pop(node_id, None)

    def drop_collection(self, collection_id: int) -> None:
        with self._lock:
            self._collections.pop(collection_id, None)

    def number_at(self, collection_id: int, ts: int) -> int:
        """The number of the last batch that a read at `ts` must see."""
        numbers = self._collections.get(collection_id)
        if numbers is None or not numbers.recent:
            return 0
        number, last_ts = numbers.recent[-1]
        if last_ts <= ts:
            return number
        recent = numbers.recent.copy()
        for number, last_ts in reversed(recent):
            if last_ts <= ts:
                return number
        return recent[0][0] - 1
