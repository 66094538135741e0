"""The steps of a read, with their times, for those who ask how it ran."""

from __future__ import annotations

import time
from collections.abc import Mapping

from milvine.model.records import record
from milvine.segment.plans import SegmentSearchStats


@record
class Step:
    """`segments`: of a search in segments, how each was searched."""

    name: str
    ms: float
    details: Mapping[str, object]
    segments: tuple[SegmentSearchStats, ...] = ()


class Trace:
    """A step begins where the one before it ended."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._last = time.perf_counter()

    def ended(self, name: str, segments: tuple[SegmentSearchStats, ...] = (), **details: object) -> None:
        now = time.perf_counter()
        self.steps.append(Step(name, 1000 * (now - self._last), details, segments))
        self._last = now


class _NoTrace(Trace):
    """Of reads about which nothing is asked."""

    def ended(self, name: str, segments: tuple[SegmentSearchStats, ...] = (), **details: object) -> None:
        pass


NO_TRACE: Trace = _NoTrace()
