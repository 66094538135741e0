"""The memory of loads: reserved before files are opened, then set to their measured bytes, then freed.

Counted per collection, segment and part (rows, field, index). This module only counts.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping

from milvine import metrics
from milvine.errors import MemoryLimitExceeded
from milvine.model.properties import PartKey

Measure = Callable[[], Mapping[PartKey, int]]
"""Measures the bytes of a segment by part. It runs under the budget's lock, after the change that it measures, so that
of changes at the same time the last one counts all."""


class Budget:
    """`limit_bytes` bounds held and reserved bytes together; concurrent loads cannot exceed it."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._reserved: dict[int, int] = {}
        self._held: dict[int, dict[int, Mapping[PartKey, int]]] = defaultdict(dict)
        self._held_bytes: dict[int, int] = defaultdict(int)
        self._all_reserved = self._all_held = 0
        """The sums over all collections, of which there may be ten thousand."""
        self.spare: Callable[[], None] = lambda: None
        """Frees what is held only to be fast. Called without the lock when memory lacks."""
        metrics.memory_limit_bytes.set(limit_bytes)
        metrics.loaded_bytes.set_function(self.held_bytes)

    def set_limit(self, limit_bytes: int) -> None:
        """What is held already stays, even if it is more."""
        with self._lock:
            self.limit_bytes = limit_bytes
        metrics.memory_limit_bytes.set(limit_bytes)

    def _used(self) -> int:
        return self._all_reserved + self._all_held

    def held_bytes(self) -> int:
        """Measured bytes of all loaded segments."""
        return self._all_held

    def reserved_bytes(self, collection_id: int | None = None) -> int:
        """Bytes reserved for files that are being opened, of one collection or of all."""
        with self._lock:
            return self._all_reserved if collection_id is None else self._reserved.get(collection_id, 0)

    def free_bytes(self) -> int:
        with self._lock:
            return max(0, self.limit_bytes - self._used())

    def usage(self, collection_id: int) -> dict[int, Mapping[PartKey, int]]:
        """Bytes by segment and part."""
        with self._lock:
            return dict(self._held.get(collection_id, {}))

    def reserve(
        self,
        collection_id: int,
        needed_bytes: int,
        names: Callable[[], Mapping[int, str]],
        *,
        instead_of: int = 0,
    ) -> None:
        """Reserves bytes for a collection in place of `instead_of` earlier reserved bytes. Raises MemoryLimitExceeded,
        with nothing changed, if they do not fit. `names`: the collections that the message may list."""
        if self._lacks(needed_bytes, instead_of):
            self.spare()
        with self._lock:
            free = self.limit_bytes - self._used() + instead_of
            if needed_bytes > max(free, instead_of):
                refusal = self._refusal(collection_id, needed_bytes, free, names())
                raise MemoryLimitExceeded(refusal, needed_bytes - instead_of)
            self._give_back(collection_id, instead_of - needed_bytes)

    def _lacks(self, needed_bytes: int, instead_of: int) -> bool:
        with self._lock:
            return needed_bytes > max(self.limit_bytes - self._used() + instead_of, instead_of)

    def _refusal(self, collection_id: int, needed_bytes: int, free: int, names: Mapping[int, str]) -> str:
        def listed(sizes: Mapping[int, int]) -> str:
            known = sorted(((size, names[i]) for i, size in sizes.items() if size and i in names), reverse=True)
            others = sum(size for i, size in sizes.items() if i not in names)
            found = [f"{name} {size} bytes" for size, name in known]
            return ", ".join([*found, f"other databases {others} bytes"] if others else found)

        held = listed(self._held_bytes)
        loading = listed({i: size for i, size in self._reserved.items() if i != collection_id})
        return (
            f"loading {names.get(collection_id, collection_id)} needs {needed_bytes} bytes, "
            f"{max(free, 0)} of {self.limit_bytes} are free; loaded now: {held or 'nothing'}"
            + (f"; being loaded: {loading}" if loading else "")
        )

    def settle(self, collection_id: int, segment_id: int, reserved_bytes: int, measure: Measure) -> None:
        """Replaces a reservation, and the bytes held before, by the measured bytes of the opened segment."""
        with self._lock:
            self._give_back(collection_id, reserved_bytes)
            self._hold(collection_id, segment_id, measure())

    def measure_again(self, collection_id: int, segment_id: int, measure: Measure) -> None:
        """Counts the bytes of a segment anew after a change, unless it is being closed. Never refused."""
        with self._lock:
            if segment_id in self._held.get(collection_id, {}) and (measured := measure()):
                self._hold(collection_id, segment_id, measured)

    def _hold(self, collection_id: int, segment_id: int, measured: Mapping[PartKey, int]) -> None:
        self._forget(collection_id, segment_id)
        self._held[collection_id][segment_id] = dict(measured)
        size = sum(measured.values())
        self._held_bytes[collection_id] += size
        self._all_held += size

    def try_hold(self, collection_id: int, number: int, part: PartKey, size: int) -> bool:
        """Counts memory that is not a segment's, under a negative number; False if there is too little."""
        with self._lock:
            if size > self.limit_bytes - self._used():
                return False
            self._hold(collection_id, number, {part: size})
            return True

    def give_back(self, collection_id: int, reserved_bytes: int) -> None:
        """Returns reserved bytes that are not needed."""
        with self._lock:
            self._give_back(collection_id, reserved_bytes)

    def free(self, collection_id: int, segment_id: int) -> None:
        """Frees the bytes of a closed segment."""
        with self._lock:
            self._forget(collection_id, segment_id)
            if not self._held.get(collection_id):
                self._held.pop(collection_id, None)
                self._held_bytes.pop(collection_id, None)

    def _forget(self, collection_id: int, segment_id: int) -> None:
        size = sum(self._held[collection_id].pop(segment_id, {}).values())
        self._held_bytes[collection_id] -= size
        self._all_held -= size

    def _give_back(self, collection_id: int, reserved_bytes: int) -> None:
        left = self._reserved.get(collection_id, 0) - reserved_bytes
        assert left >= 0, "bytes are given back twice"
        self._all_reserved -= reserved_bytes
        if left:
            self._reserved[collection_id] = left
        else:
            self._reserved.pop(collection_id, None)
