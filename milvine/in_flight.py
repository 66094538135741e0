"""Counts requests or readers in progress without a lock: every one is counted, but few threads wait for the end."""

from __future__ import annotations

import time

_POLL_SECONDS = 0.001


class InFlight:
    """`enter` and `leave` are single operations on a list, which no other thread can come between."""

    def __init__(self) -> None:
        self._inside: list[None] = []
        self.is_closed = False
        """Nothing more should enter; those inside continue."""

    def enter(self) -> None:
        self._inside.append(None)

    def leave(self) -> None:
        self._inside.pop()

    @property
    def is_empty(self) -> bool:
        return not self._inside

    def wait_for_none(self, deadline: float) -> bool:
        """Waits until none is inside, at most until `deadline` (time.monotonic)."""
        while self._inside and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return not self._inside
