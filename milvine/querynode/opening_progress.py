"""How far the opening of a segment is, and the call that ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class OpeningCancelled(Exception):
    """The segment that was being opened is not wanted."""


class OpeningProgress:
    """Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = 0
        self._stops: list[Callable[[], object]] = []
        self._is_cancelled = False

    @property
    def bytes_read(self) -> int:
        return self._bytes

    @property
    def is_cancelled(self) -> bool:
        return self._is_cancelled

    def add(self, more_bytes: int) -> None:
        with self._lock:
            self._bytes += more_bytes

    def cancel(self) -> None:
        """Stops what reads, soon; the opening raises OpeningCancelled."""
        with self._lock:
            self._is_cancelled = True
            stops = list(self._stops)
        for stop in stops:
            stop()

    @contextmanager
    def stopped_by(self, stop: Callable[[], object]) -> Iterator[None]:
        """Meanwhile `cancel` calls `stop`, and so does this if it was cancelled before."""
        with self._lock:
            self._stops.append(stop)
            is_late = self._is_cancelled
        try:
            if is_late:
                stop()
            yield
        finally:
            with self._lock:
                self._stops.remove(stop)
