"""What the log says about single requests: failures at info, slow ones at warning with their plan; and the access log,
which has a line for each request, in Milvus's words.

The caller asks `wants` first, so a request of which nothing is said costs two comparisons.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from milvine import logs
from milvine.config import Settings
from milvine.model.records import record
from milvine.segment.plans import SegmentSearchStats
from milvine.service.line_files import LineFile, write_line

_log = logging.getLogger(__name__)
_MB = 1 << 20
_KEPT_FILES = 8
_SHOWN_SEGMENTS = 8
_MOST_CHARACTERS = 512
KEPT_SLOW_REQUESTS = 100
SearchStats = tuple[int, tuple[SegmentSearchStats, ...]]
"""The number of queries of one search, and how each segment was searched."""


@record
class Handled:
    """A request whose answer is known. `code`: Milvus's, or for a call that gRPC refuses the negative of its status.
    `user` is not verified if no authorization is required. `names`: the objects of the request by their kind.
    `trace_parent`: the span of the client, in W3C's form, or empty."""

    protocol: str
    call: str
    code: int
    seconds: float
    message: str
    user: str
    address: str
    database: str
    names: Mapping[str, Any]
    request_id: str
    trace_parent: str
    searches: tuple[SearchStats, ...]


class RequestLog:
    """`slow_seconds`: a request, or one vector of a search, that takes as long is slow. `export` gets every request."""

    def __init__(
        self,
        slow_seconds: float,
        access: logging.Handler | None,
        export: Callable[[Handled], None] | None,
        *,
        as_json: bool,
    ) -> None:
        self.slow_seconds = slow_seconds
        self._export = export
        self._slow: deque[dict[str, Any]] = deque(maxlen=KEPT_SLOW_REQUESTS)
        self._access = access
        self._as_json = as_json

    def wants(self, code: int, seconds: float) -> bool:
        """Whether `write` may have something to say."""
        has_reader = self._access is not None or self._export is not None
        return code != 0 or seconds >= self.slow_seconds or has_reader

    def write(self, handled: Handled) -> None:
        if self._access is not None:
            write_line(self._access, self._access_line(handled))
        if self._export is not None:
            self._export(handled)
        if handled.code:
            logs.event(_log, logging.INFO, "request failed", **_values(handled))
        queries = sum(count for count, _ in handled.searches)
        if handled.seconds / max(1, queries) >= self.slow_seconds:
            plan = {"queries": queries, "segments": _plan(handled)} if handled.searches else {}
            values = {**_values(handled), **plan}
            self._slow.append({"time": logs.timestamp(time.time()), **values})
            logs.event(_log, logging.WARNING, "slow request", **values)

    def slow(self) -> list[dict[str, Any]]:
        """What the log said of the last slow requests, newest first."""
        return list(reversed(self._slow.copy()))

    def _access_line(self, handled: Handled) -> str:
        if self._as_json:
            return logs.json_text({"time": logs.timestamp(time.time()), **_values(handled)})
        user, address = _one_line(handled.user) or "Unknown", handled.address or "Unknown"
        status = "Successful" if handled.code == 0 else f"Grpc{-handled.code}" if handled.code < 0 else "Failed"
        marks = {
            "status": status,
            "code": handled.code,
            "msg": _one_line(handled.message),
            "traceID": _one_line(handled.request_id),
            "timeCost": f"{handled.seconds * 1000:.3f}ms",
            "database": _one_line(handled.database),
            "collection": _one_line(str(handled.names.get("collection", ""))),
        }
        written = " ".join(f"[{name}: {value}]" for name, value in marks.items())
        return f"[{logs.timestamp(time.time())}] [ACCESS] <{user}: {address}> {_one_line(handled.call)} {written}"


def _one_line(text: str) -> str:
    return logs.json_text(text[:_MOST_CHARACTERS])[1:-1]


def _values(handled: Handled) -> dict[str, Any]:
    found = {
        "protocol": handled.protocol,
        "call": handled.call[:_MOST_CHARACTERS],
        "code": handled.code,
        "ms": round(handled.seconds * 1000, 3),
        "error": handled.message[:_MOST_CHARACTERS],
        "user": handled.user[:_MOST_CHARACTERS],
        "address": handled.address,
        "database": handled.database[:_MOST_CHARACTERS],
        "on": dict(handled.names),
        "request_id": handled.request_id[:_MOST_CHARACTERS],
    }
    return {name: value for name, value in found.items() if value not in ("", {})}


def _plan(handled: Handled) -> list[dict[str, Any]]:
    """The segments that took longest."""
    stats = sorted((one for _, found in handled.searches for one in found), key=lambda one: -one.ms)
    return [
        {
            "segment": one.segment_id,
            "state": "growing" if one.is_growing else "sealed",
            "plan": one.way,
            "effort": one.effort,
            "rows": one.row_count,
            "kept": one.kept,
            "scanned": one.scanned_queries,
            "ms": round(one.ms, 3),
        }
        for one in stats[:_SHOWN_SEGMENTS]
    ]


def open_request_log(settings: Settings, export: Callable[[Handled], None] | None) -> RequestLog:
    """Raises OSError if the file of the access log cannot be opened."""
    access: logging.Handler | None = None
    if settings.access_log_enabled and settings.access_log_file:
        path = Path(settings.data_dir) / settings.access_log_path / settings.access_log_file
        path.parent.mkdir(parents=True, exist_ok=True)
        access = LineFile(path, settings.access_log_max_mb * _MB, _KEPT_FILES)
    elif settings.access_log_enabled:
        access = logging.StreamHandler(sys.stdout)
    return RequestLog(settings.slow_request_seconds, access, export, as_json=settings.log_format == logs.JSON)
