"""Caches that are bounded in bytes and counted in a metric."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from milvine import metrics

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SizedCache(Generic[Key, Value]):
    """Values by key, at most `limit_bytes` by the sizes given to `put`; the least recently used are dropped first."""

    def __init__(self, name: str, limit_bytes: int) -> None:
        self._lock = threading.Lock()
        self._limit_bytes = limit_bytes
        self._bytes_used = 0
        self._values: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._removals: deque[Callable[[Key], bool]] = deque()
        metrics.cache_bytes.labels(name).set_function(lambda: self._bytes_used)

    @property
    def bytes_used(self) -> int:
        return self._bytes_used

    def set_limit(self, limit_bytes: int) -> None:
        with self._lock:
            self._limit_bytes = limit_bytes
            self._shrink()

    def get(self, key: Key) -> Value | None:
        with self._lock:
            self._remove_gone()
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: Key, value: Value, size_bytes: int) -> None:
        """Keeps a value, unless it is larger than the whole cache."""
        with self._lock:
            self._remove_gone()
            self._bytes_used -= self._values.pop(key, (None, 0))[1]
            if size_bytes <= self._limit_bytes:
                self._values[key] = value, size_bytes
                self._bytes_used += size_bytes
                self._shrink()

    def remove(self, is_gone: Callable[[Key], bool]) -> None:
        """Removes the keys for which `is_gone`, now or, if the cache is in use, at its next use.

        Never waits, since a finalizer that calls this may run in the thread that holds the lock.
        """
        self._removals.append(is_gone)
        if self._lock.acquire(blocking=False):
            try:
                self._remove_gone()
            finally:
                self._lock.release()

    def _remove_gone(self) -> None:
        while self._removals:
            is_gone = self._removals.popleft()
            for key in [key for key in self._values if is_gone(key)]:
                self._bytes_used -= self._values.pop(key)[1]

    def _shrink(self) -> None:
        while self._bytes_used > self._limit_bytes:
            _, (_, size) = self._values.popitem(last=False)
            self._bytes_used -= size
