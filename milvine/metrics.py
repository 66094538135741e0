"""Every metric, declared once."""

from __future__ import annotations

import hmac
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

registry = CollectorRegistry(auto_describe=True)

requests = Counter(
    "milvine_requests",
    "Requests by protocol, function and Milvus code",
    ["protocol", "function", "code"],
    registry=registry,
)
request_seconds = Histogram(
    "milvine_request_seconds",
    "Time from the request's last byte to its response",
    ["function"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
    registry=registry,
)
inserted_rows = Counter("milvine_inserted_rows", "Rows acknowledged", registry=registry)
deleted_keys = Counter("milvine_deleted_keys", "Deletes acknowledged", registry=registry)
growing_bytes = Gauge(
    "milvine_growing_bytes", "Rows and deletes in memory that are not sealed yet, loaded or not", registry=registry
)
loaded_bytes = Gauge("milvine_loaded_bytes", "Memory that loading holds", registry=registry)
mapped_bytes = Gauge(
    "milvine_mapped_bytes", "Files of loaded segments that are mapped and not counted as memory", registry=registry
)
cache_bytes = Gauge(
    "milvine_cache_bytes", "Memory that a cache holds beside what loading holds", ["cache"], registry=registry
)
memory_limit_bytes = Gauge("milvine_memory_limit_bytes", "Memory that loading may hold", registry=registry)
mapped_for_lack_of_memory = Counter(
    "milvine_segments_mapped_for_lack_of_memory",
    "Sealed segments opened mapped because the budget was full when their rows were sealed",
    registry=registry,
)
compacted_rows = Counter("milvine_compacted_rows", "Rows of segments that a compaction replaced", registry=registry)
damaged_files = Gauge(
    "milvine_damaged_files",
    "Sealed files that the slow scrub found damaged, still there",
    registry=registry,
)
background_failures = Counter(
    "milvine_background_failures", "Failures of background work, by kind", ["work"], registry=registry
)
background_failing = Gauge(
    "milvine_background_failing", "What background work fails at now, by kind", ["work"], registry=registry
)
background_alive = Gauge(
    "milvine_background_alive", "1, or 0 if the thread of the work has ended", ["work"], registry=registry
)
ready_seconds = Gauge("milvine_ready_seconds", "Time from the start of the process to ready", registry=registry)


@cache
def requests_of(protocol: str, function: str, code: int) -> Counter:
    """The counter of one kind of answer."""
    return requests.labels(protocol, function, str(code))


@cache
def seconds_of(function: str) -> Histogram:
    return request_seconds.labels(function)


def may_read(token: str, authorization: str | None) -> bool:
    """Whether an `Authorization` header holds the token of the settings; always if there is none."""
    given = (authorization or "").removeprefix("Bearer ")
    return not token or hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def exposition() -> bytes:
    """All metrics in Prometheus's text format."""
    return generate_latest(registry)
