"""Admits requests: bounds the memory of all bodies, the requests in progress, and those handled at a time.

The front starts the application once the headers of a request have arrived. So the token is checked before any byte of
the body is kept, and a large body is read only once there is room for its announced size. A request gets a turn to be
handled when its body is complete: a slow sender holds a thread but never a turn.
"""

from __future__ import annotations

import re
import threading
import time
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from milvine.errors import RequestRateLimited
from milvine.front_threads import FrontThreads
from milvine.in_flight import InFlight

MAX_WAITING = 128
"""Requests that wait for their bodies or for a turn; the front has a thread for each."""
_SPARE_THREADS = 8
"""Threads kept free to refuse requests, and to answer those that need no turn."""
MAX_BODY_BYTES = 256 << 20
_FREE_BYTES = 64 << 10
"""Bodies up to this size are not counted: one per thread takes 9 MB together."""
_FIRST_BYTES, _PIECE_BYTES = 64 << 10, 4 << 20
_PAUSE_BYTES, _PAUSE_SECONDS = 1 << 20, 0.001
"""While this much is missing, reads are larger and after a pause, since each read costs a thread switch."""

_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
"""https://www.w3.org/TR/trace-context/#traceparent-header"""


def client_address(environ: dict[str, Any]) -> str:
    """The address of the client, which the front appends to the addresses that the client sent."""
    forwarded: str = environ.get("HTTP_X_FORWARDED_FOR", "")
    return forwarded.rpartition(",")[2].strip()


def given_request_id(environ: dict[str, Any]) -> str:
    """What the client calls the request: the trace of its `traceparent`, else a request id of Milvus's SDKs, else "".

    The front's variables have `_` for both `-` and `_`.
    """
    trace = _TRACE_PARENT.fullmatch(environ.get("HTTP_TRACEPARENT", ""))
    if trace:
        return trace[1]
    given: str = environ.get("HTTP_CLIENT_REQUEST_ID", "") or environ.get("HTTP_X_MILVUS_TRACE_ID", "")
    return given


class BodyTooLarge(Exception):
    """A body without an announced size exceeded MAX_BODY_BYTES."""


class BodyLost(Exception):
    """The client disconnected before its body was complete."""


def thread_count(handlers: int) -> int:
    """Threads that the front needs for this many requests handled at a time."""
    return handlers + MAX_WAITING + _SPARE_THREADS


class Intake:
    """`handling` counts the requests that have a turn."""

    def __init__(self, handlers: int, limit_bytes: int) -> None:
        self.handling = InFlight()
        self.inside: list[None] = []
        """One entry for each request in progress; `append` and `pop` are atomic."""
        self.most_inside = handlers + MAX_WAITING
        self.threads = FrontThreads(thread_count(handlers), self.inside)
        self.turns: SimpleQueue[None] = SimpleQueue()
        for _ in range(handlers):
            self.turns.put(None)
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._lock = threading.Lock()

    def visit(self) -> Visit:
        """One request, for a `with`; it leaves at the end."""
        return Visit(self)

    def reserve(self, more_bytes: int) -> None:
        """Raises RequestRateLimited if the size does not fit now."""
        with self._lock:
            if self._held_bytes + more_bytes > self._limit_bytes:
                raise RequestRateLimited("the bodies of requests in progress", self._limit_bytes, "bytes")
            self._held_bytes += more_bytes

    def free(self, held_bytes: int) -> None:
        with self._lock:
            self._held_bytes -= held_bytes


class Visit:
    """One request from its headers to its answer.

    What the log may need is kept here: `context` and `subject`, the caller's context and the decoded request, once they
    are known, and `failure`, the error's text.
    """

    __slots__ = ("_has_turn", "_held_bytes", "_intake", "context", "failure", "subject")

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._held_bytes = 0
        self._has_turn = False
        self.context: Any = None
        self.subject: Any = None
        self.failure = ""

    def __enter__(self) -> Visit:
        self._intake.inside.append(None)
        self._intake.threads.request_began()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        intake = self._intake
        intake.inside.pop()
        if self._has_turn:
            intake.handling.leave()
            intake.turns.put(None)
        if self._held_bytes:
            intake.free(self._held_bytes)

    @property
    def threads(self) -> FrontThreads:
        """Where the thread may rest once the request has left and its answer is taken."""
        return self._intake.threads

    def check_room(self) -> None:
        """Raises RequestRateLimited if too many requests are in progress."""
        intake = self._intake
        if len(intake.inside) > intake.most_inside:
            raise RequestRateLimited("requests in progress", intake.most_inside, "requests")

    def wait_for_turn(self) -> None:
        """Waits for a free turn."""
        self._intake.turns.get()
        self._has_turn = True
        self._intake.handling.enter()

    def first_bytes(self, stream: Any, at_least: int) -> bytes:
        """The beginning of a body, of `at_least` bytes unless the body is shorter. Raises BodyLost."""
        found = _read(stream, _FIRST_BYTES)
        while len(found) < at_least and (piece := _read(stream, _FIRST_BYTES)):
            found += piece
        return found

    def rest(self, stream: Any, first: bytes, size: int | None) -> bytes:
        """The whole body, which begins with `first`. `size` is the announced size, or None.

        Bytes after `size` are not read. Raises RequestRateLimited, BodyTooLarge and BodyLost.
        """
        received = len(first)
        if size is not None:
            if received >= size:
                return first
            self.hold(size)
        pieces = [first]
        while (size is None or received < size) and (piece := _read(stream, _PIECE_BYTES)):
            received += len(piece)
            if size is None:
                if received > MAX_BODY_BYTES:
                    raise BodyTooLarge
                self.hold(received)
            pieces.append(piece)
            if size is not None and size - received > _PAUSE_BYTES:
                time.sleep(_PAUSE_SECONDS)
        return b"".join(pieces)

    def hold(self, size_bytes: int) -> None:
        """Counts this request with this many bytes, if more than before. Raises RequestRateLimited."""
        more_bytes = size_bytes - self._held_bytes
        if size_bytes > _FREE_BYTES and more_bytes > 0:
            self._intake.reserve(more_bytes)
            self._held_bytes = size_bytes


def _read(stream: Any, most_bytes: int) -> bytes:
    """The next bytes of a body, b"" at its end."""
    try:
        found: bytes = stream.read(most_bytes)
    except RuntimeError as error:  # raised by pyvoy if the stream is gone
        raise BodyLost from error
    return found
