"""How many are at something, counted without a lock: every request says so, and few ever wait for it."""

from __future__ import annotations

import time

_POLL_SECONDS = 0.001


class InFlight:
    """`enter` and `leave` are single operations on a list, which no other thread can come between."""

    def __init__(self) -> None:
        self._inside: list[None] = []

    def enter(self) -> None:
        self._inside.append(None)

    def leave(self) -> None:
        self._inside.pop()

    def wait_for_none(self, deadline: float) -> bool:
        """Wait until nobody is inside, at most until `deadline` (time.monotonic)."""
        while self._inside and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return not self._inside
