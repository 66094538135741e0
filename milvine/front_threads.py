"""Lets few of the front's threads take turns, so that they find their memory in the processor's caches.

The front has a thread for each request that may wait for its body, and gives a request to the thread that has waited
longest. So all of them would take turns, and each would find little of what it touches in the caches. Therefore a
thread that has answered rests, while enough others wait for requests. A request that leaves too few waiting wakes one.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

_FEWEST_WAITING = 2
_MOST_WAITING = 6
"""Between the two nothing happens, so that threads do not rest and wake with each request."""


class FrontThreads:
    """`inside`: one entry for each request in progress. A thread whose request has left counts as waiting."""

    def __init__(self, count: int, inside: Sequence[None]) -> None:
        self._count = count
        self._inside = inside
        self._resting: list[threading.Lock] = []
        """The thread that rests behind each lock wakes when it is released; the last one has the warmest caches."""
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        return self._count - len(self._resting) - len(self._inside)

    def request_began(self) -> None:
        """Wakes a thread if too few wait. Each request makes up for the thread that it takes."""
        if self._resting and self.waiting < _FEWEST_WAITING:
            with self._lock:
                if self._resting and self.waiting < _FEWEST_WAITING:
                    self._resting.pop().release()

    def rest(self) -> None:
        """Called by a thread whose request has left: returns at once, or when the thread is needed."""
        if self.waiting <= _MOST_WAITING:
            return
        bed = threading.Lock()
        bed.acquire()
        with self._lock:
            if self.waiting <= _MOST_WAITING:
                return
            self._resting.append(bed)
        bed.acquire()
