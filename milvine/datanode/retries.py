"""When background work that failed is tried again: soon at first, then ever later, and until then not at all."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

FIRST_SECONDS = 1.0
MAX_SECONDS = 60.0
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Failure:
    text: str
    count: int
    again_at: float


class Retries(Generic[Key]):
    """What failed, by what it was done on. Changed by one thread, read by any."""

    def __init__(self) -> None:
        self._failures: dict[Key, _Failure] = {}

    def failed(self, keys: Iterable[Key], text: str, spent_seconds: float = 0.0) -> None:
        """They wait at least as long as the attempt took, so that no machine does nothing but fail."""
        for key in keys:
            before = self._failures.get(key)
            count = 1 if before is None else before.count + 1
            pause = max(min(FIRST_SECONDS * 2 ** (count - 1), MAX_SECONDS), spent_seconds)
            self._failures[key] = _Failure(text, count, time.monotonic() + pause)

    def forget(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._failures.pop(key, None)

    def waiting(self) -> set[Key]:
        """What is not to be tried now."""
        now = time.monotonic()
        return {key for key, failure in list(self._failures.items()) if failure.again_at > now}

    def lasting(self, key: Key) -> str:
        """Why it failed more than once, or empty: a first failure may well be an accident."""
        failure = self._failures.get(key)
        return failure.text if failure is not None and failure.count > 1 else ""
