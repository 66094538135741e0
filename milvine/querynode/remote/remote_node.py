"""A query node as the head sees it: its address, its registration, its speed, and calls to it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

from milvine.model.records import record
from milvine.querynode.remote.messages import codec, decode_result
from milvine.querynode.remote.placement import Room
from milvine.querynode.remote.rpc import PendingCall, RpcChannel, StreamingCall

_LEAST_HEDGE_SECONDS = 0.05
_HEDGE_FACTOR = 3
_REMEMBERED = 128
_SORTED_EVERY = 16
_SILENT_SECONDS = 1.5
"""A node that has not reported for so long is asked only if there is no other holder."""

_STRAY_BEATS = 3
_reads = count(1)
SegmentKey = tuple[int, int]
"""Collection and segment."""


@record
class Report:
    """What a node tells about itself twice a second. `epoch` and `session`: those that it was registered with, or 0.
    `segments`: the serving ones, by collection. `labels`: what resource groups choose nodes by."""

    key: str
    address: str
    hostname: str
    limit_bytes: int
    held_bytes: int
    mapped_bytes: int
    epoch: int
    session: int
    segments: Mapping[int, Any]
    labels: Mapping[str, str]

    @property
    def segment_count(self) -> int:
        return sum(len(ids) for ids in self.segments.values())


class _Latencies:
    """The recent ones of one kind of call."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_REMEMBERED)
        self._count = 0
        self.high = 0.0
        """The 95th percentile."""

    def add(self, seconds: float) -> None:
        self._recent.append(seconds)
        self._count += 1
        if self._count % _SORTED_EVERY == 0:
            ordered = sorted(self._recent)
            self.high = ordered[int(0.95 * (len(ordered) - 1))]


class RemoteNode:
    """One registration of a node. Threads share it."""

    def __init__(self, node_id: int, report: Report, channel: RpcChannel, epoch: int, session: int) -> None:
        self.node_id = node_id
        self.report = report
        self.channel = channel
        self.epoch = epoch
        self.session = session
        self.is_live = False
        """Whether the node knows of its registration."""
        self.is_lost = False
        self._lock = threading.Lock()
        self._in_flight = 0
        self._waited_for: dict[int, PendingCall | StreamingCall] = {}
        self.last_read = 0
        """The number, among those of all nodes, of the read that began last."""
        self._beat_at = self._heard_at = time.monotonic()
        """When it reported last; when it reported or answered a read last."""
        self._failed_at = float("-inf")
        self._latencies: dict[str, _Latencies] = {}
        self._strays: dict[SegmentKey, tuple[object, int]] = {}
        """What each is served by, and the number of the report that first differed."""
        self._beats = 0

    @property
    def room(self) -> Room:
        return Room(self.node_id, self.report.key, self.report.limit_bytes, self.report.labels)

    def beat(self, report: Report) -> None:
        self.report = report
        self._beats += 1
        self._beat_at = self._heard_at = time.monotonic()

    def lasting(self, strays: Mapping[SegmentKey, object]) -> list[SegmentKey]:
        """Those of the segments that were already strays some reports ago. `strays`: what each is served by, since one
        that was closed and opened again meanwhile is not the one of earlier reports."""
        before = self._strays
        self._strays = {
            key: before[key] if key in before and before[key][0] is serving else (serving, self._beats)
            for key, serving in strays.items()
        }
        return [key for key, (_, beat) in self._strays.items() if self._beats - beat >= _STRAY_BEATS]

    @property
    def in_flight(self) -> int:
        """Reads in progress."""
        return self._in_flight

    def started(self) -> None:
        with self._lock:
            self._in_flight += 1
            self.last_read = next(_reads)

    def ended(self) -> None:
        with self._lock:
            self._in_flight -= 1

    @property
    def silent_seconds(self) -> float:
        return time.monotonic() - self._beat_at

    @property
    def is_silent(self) -> bool:
        return self.silent_seconds > _SILENT_SECONDS

    @property
    def is_doubtful(self) -> bool:
        """Whether others are asked first: it failed, or was slow, since it was last heard."""
        return self._failed_at > self._heard_at or self.is_silent

    @property
    def unheard_seconds(self) -> float:
        """How long it has neither reported nor answered."""
        return time.monotonic() - self._heard_at

    def failed(self) -> None:
        self._failed_at = time.monotonic()

    def answered(self, name: str, seconds: float) -> None:
        self._heard_at = time.monotonic()
        self._latencies.setdefault(name, _Latencies()).add(seconds)

    def hedge_seconds(self, name: str, since: float) -> float:
        """How long a read that began at `since` (time.monotonic) is waited for. A node that answers others is slow; one
        that has not been heard since may have stopped."""
        latencies = self._latencies.get(name)
        high = 0.0 if latencies is None else latencies.high
        return max(_LEAST_HEDGE_SECONDS, high * (_HEDGE_FACTOR if self._heard_at > since else 1))

    def message(self, *arguments: Any) -> bytes:
        return codec.encode((self.epoch, self.session, *arguments))

    def begin(self, name: str, *arguments: Any, seconds: float) -> PendingCall:
        return self.channel.begin(name, self.message(*arguments), seconds)

    def call(self, name: str, *arguments: Any, seconds: float) -> Any:
        """Raises Unreachable, and what the node raises."""
        call = self.begin(name, *arguments, seconds=seconds)
        with self._waiting_for(call):
            return decode_result(call.result())

    @contextmanager
    def streaming(self, name: str, *arguments: Any) -> Iterator[StreamingCall]:
        """A call that ends with the block. Raises Unreachable."""
        stream = self.channel.stream(name, self.message(*arguments))
        with self._waiting_for(stream):
            try:
                yield stream
            finally:
                stream.cancel()

    @contextmanager
    def _waiting_for(self, call: PendingCall | StreamingCall) -> Iterator[None]:
        self._waited_for[id(call)] = call
        try:
            yield
        finally:
            del self._waited_for[id(call)]

    def cut(self) -> None:
        """Ends the calls that are waited for, but not reads, which are hedged: they raise Unreachable."""
        for call in list(self._waited_for.values()):
            call.cancel()
