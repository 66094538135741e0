"""Throttles password guesses: counts failed logins by user and address, and by address alone.

A login with a password that this process has already verified never waits. Failures at one address do not lock a user
out at others, and at the same address for at most _MOST_SECONDS.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

_FREE_FAILURES, _FREE_FAILURES_OF_AN_ADDRESS = 5, 50
_FIRST_SECONDS, _MOST_SECONDS = 1.0, 30.0
_FORGET_SECONDS = 600.0
_MOST_ENTRIES = 10_000
_MOST_NAME_CHARACTERS = 64
_ANY_USER = ""
_Key = tuple[str, str]


class Logins:
    """Counts failures. The oldest are dropped if there are too many."""

    def __init__(self) -> None:
        self._failures: OrderedDict[_Key, tuple[int, float]] = OrderedDict()
        """The number of failures, and the time of the last one (time.monotonic)."""
        self._lock = threading.Lock()

    def seconds_to_wait(self, user: str, address: str) -> float:
        """Seconds until this login may be tried; 0 if it may be tried now."""
        now = time.monotonic()
        with self._lock:
            return max(self._wait(key, free, now) for key, free in _keys(user, address))

    def failed(self, user: str, address: str) -> None:
        now = time.monotonic()
        with self._lock:
            for key, _ in _keys(user, address):
                count, last = self._failures.pop(key, (0, now))
                self._failures[key] = (count + 1 if now - last < _FORGET_SECONDS else 1, now)
            while len(self._failures) > _MOST_ENTRIES:
                self._failures.popitem(last=False)

    def succeeded(self, user: str, address: str) -> None:
        with self._lock:
            self._failures.pop((user, address), None)

    def _wait(self, key: _Key, free_failures: int, now: float) -> float:
        count, last = self._failures.get(key, (0, now))
        if count < free_failures or now - last >= _FORGET_SECONDS:
            return 0.0
        wait = min(_MOST_SECONDS, _FIRST_SECONDS * 2.0 ** min(count - free_failures, 10))
        return max(0.0, last + wait - now)


def _keys(user: str, address: str) -> tuple[tuple[_Key, int], ...]:
    user = user[:_MOST_NAME_CHARACTERS]  # No user has a longer name, and names are kept.
    return ((user, address), _FREE_FAILURES), ((_ANY_USER, address), _FREE_FAILURES_OF_AN_ADDRESS)
