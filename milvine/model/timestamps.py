"""Milvus's hybrid timestamps: physical milliseconds << 18 | logical counter, in one process-wide order."""

from __future__ import annotations

import threading
import time

LOGICAL_BITS = 18
MAX_TIMESTAMP = 2**63 - 1
_RUNNING = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def running_seconds() -> float:
    """By a clock that only durations are taken from. It goes on while the machine sleeps, if there is such a clock."""
    return time.clock_gettime(_RUNNING)


def physical_ms(ts: int) -> int:
    return ts >> LOGICAL_BITS


def from_physical_ms(ms: int) -> int:
    return ms << LOGICAL_BITS


class HybridClock:
    """Gives timestamps that only grow, also across restarts once `observe` has seen all stored ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> int:
        return self.reserve(1)

    def reserve(self, count: int) -> int:
        """The first of `count` consecutive values that are given only once. They also serve as ids."""
        with self._lock:
            first = max(self._last + 1, from_physical_ms(time.time_ns() // 1_000_000))
            self._last = first + count - 1
            return first

    def observe(self, ts: int) -> None:
        """Gives only values above `ts` from now on."""
        with self._lock:
            self._last = max(self._last, ts)
