"""The memory that loading may take: reserved before files are opened, settled to what they measured, freed.

Counted per collection, segment and part (rows, field, index). Nothing here touches memory; it keeps the promise.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping

from milvine import metrics
from milvine.errors import MemoryLimitExceeded
from milvine.model.properties import PartKey


class Budget:
    """`limit_bytes` bounds what is held and what is reserved together; concurrent loads cannot overshoot it."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._reserved: dict[int, int] = defaultdict(int)
        self._held: dict[int, dict[int, Mapping[PartKey, int]]] = defaultdict(dict)
        metrics.memory_limit_bytes.set(limit_bytes)
        metrics.loaded_bytes.set_function(self.held_bytes)

    def _used(self) -> int:
        return sum(self._reserved.values()) + sum(map(self._collection_bytes, self._held))

    def _collection_bytes(self, collection_id: int) -> int:
        return sum(sum(parts.values()) for parts in self._held[collection_id].values())

    def held_bytes(self) -> int:
        """What all loaded segments hold, measured."""
        with self._lock:
            return sum(map(self._collection_bytes, list(self._held)))

    def usage(self, collection_id: int) -> dict[int, Mapping[PartKey, int]]:
        """Bytes by segment and part."""
        with self._lock:
            return dict(self._held.get(collection_id, {}))

    def reserve(self, collection_id: int, needed_bytes: int, names: Mapping[int, str]) -> None:
        """Set bytes aside for a collection. Raises MemoryLimitExceeded, with nothing set aside, when they do
        not fit; `names` gives the collections' names for the sentence."""
        with self._lock:
            free = self.limit_bytes - self._used()
            if needed_bytes > free:
                holders = sorted(((self._collection_bytes(i), names.get(i, str(i))) for i in self._held), reverse=True)
                held = ", ".join(f"{name} {size} bytes" for size, name in holders if size) or "nothing"
                raise MemoryLimitExceeded(
                    f"loading {names.get(collection_id, collection_id)} needs {needed_bytes} bytes, "
                    f"{max(free, 0)} of {self.limit_bytes} are free; loaded now: {held}"
                )
            self._reserved[collection_id] += needed_bytes

    def settle(self, collection_id: int, segment_id: int, reserved_bytes: int, measured: Mapping[PartKey, int]) -> None:
        """Turn a reservation into what the opened segment measured, replacing what it held before."""
        with self._lock:
            self._give_back(collection_id, reserved_bytes)
            self._held[collection_id][segment_id] = dict(measured)

    def cancel(self, collection_id: int) -> None:
        """Give back all reservations of a collection."""
        with self._lock:
            self._reserved.pop(collection_id, None)

    def free(self, collection_id: int, segment_id: int) -> None:
        """A segment was closed."""
        with self._lock:
            segments = self._held.get(collection_id)
            if segments is not None:
                segments.pop(segment_id, None)
                if not segments:
                    del self._held[collection_id]

    def _give_back(self, collection_id: int, reserved_bytes: int) -> None:
        left = self._reserved[collection_id] - reserved_bytes
        if left > 0:
            self._reserved[collection_id] = left
        else:
            self._reserved.pop(collection_id, None)
