"""Every metric, declared once."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

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
resting_collections = Gauge(
    "milvine_resting_collections", "Loaded collections that have given their memory back", registry=registry
)
rested_collections = Counter(
    "milvine_rested_collections", "Collections that began to rest, by reason", ["reason"], registry=registry
)
woken_collections = Counter(
    "milvine_woken_collections", "Resting collections that a read or a load brought back", registry=registry
)
compacted_rows = Counter("milvine_compacted_rows", "Rows of segments that a compaction replaced", registry=registry)
damaged_files = Gauge(
    "milvine_damaged_files",
    "Sealed files that the slow scrub found damaged, still there",
    registry=registry,
)
store_uploaded_bytes = Counter(
    "milvine_store_uploaded_bytes", "Bytes of segment files written to the object store", registry=registry
)
store_downloaded_bytes = Counter(
    "milvine_store_downloaded_bytes", "Bytes of segment files read from the object store", registry=registry
)
store_hits = Counter("milvine_store_hits", "Files that were in the cache when they were opened", registry=registry)
store_misses = Counter("milvine_store_misses", "Files that were fetched when they were opened", registry=registry)
store_failures = Counter("milvine_store_failures", "Calls that the object store did not answer", registry=registry)
store_cached_bytes = Gauge(
    "milvine_store_cached_bytes", "Segment files in the data directory, with an object store", registry=registry
)
log_objects = Counter("milvine_log_objects", "Objects that logs have written to the object store", registry=registry)
log_object_bytes = Counter(
    "milvine_log_object_bytes", "Bytes that logs have written to the object store", registry=registry
)
log_objects_removed = Counter(
    "milvine_log_objects_removed", "Objects of logs that were removed from the object store", registry=registry
)
log_retries = Counter(
    "milvine_log_retries",
    "Calls of logs that the object store did not answer and that were repeated",
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
tasks_elsewhere = Counter(
    "milvine_tasks_elsewhere",
    "Builds and merges that other machines have done, or failed to do",
    ["result"],
    registry=registry,
)
lost_nodes = Counter("milvine_nodes_lost", "Query nodes whose registration ended", registry=registry)
failovers = Counter(
    "milvine_reads_asked_elsewhere",
    "Parts of reads that another query node was asked for, since the first failed or was slow",
    registry=registry,
)
ready_seconds = Gauge("milvine_ready_seconds", "Time from the start of the process to ready", registry=registry)

milvus_gauges: dict[str, Callable[[], float]] = {}
"""Milvus's names of what the server counts anyway, read when metrics are; `server` fills it."""
_SAME_COUNTERS = {
    "milvus_proxy_insert_vectors_count": inserted_rows,
    "milvus_proxy_delete_vectors_count": deleted_keys,
}
_NODE = "1"


class _MilvusNames:
    """Our metrics under the names of Milvus's dashboards, where it counts the same. They are made from ours when they
    are read, so requests pay nothing for them."""

    def collect(self) -> Iterator[Metric]:
        yield self._request_counts()
        yield self._request_latencies()
        for name, counter in _SAME_COUNTERS.items():
            yield _family(name, [({"node_id": _NODE}, _value(counter))])
        for name, read in milvus_gauges.items():
            yield _family(name, [({"node_id": _NODE}, read())])

    @staticmethod
    def _request_counts() -> Metric:
        counts: dict[tuple[str, str], float] = {}
        for sample in _samples(requests, "_total"):
            function = sample.labels["function"]
            status = "success" if sample.labels["code"] == "0" else "fail"
            for key in ((function, status), (function, "total")):
                counts[key] = counts.get(key, 0.0) + sample.value
        labelled = [
            ({"node_id": _NODE, "function_name": function, "status": status}, count)
            for (function, status), count in counts.items()
        ]
        return _family("milvus_proxy_req_count", labelled)

    @staticmethod
    def _request_latencies() -> Metric:
        """In milliseconds."""
        family = Metric("milvus_proxy_req_latency", "milvine_request_seconds in milliseconds", "histogram")
        for sample in _samples(request_seconds, ""):
            suffix = sample.name.removeprefix("milvine_request_seconds")
            if suffix == "_created":
                continue
            labels = {"node_id": _NODE, "function_name": sample.labels["function"]}
            value = sample.value
            if suffix == "_bucket":
                labels["le"] = str(floatToGoString(float(sample.labels["le"]) * 1000))  # type: ignore[no-untyped-call]
            elif suffix == "_sum":
                value *= 1000
            family.add_sample(family.name + suffix, labels, value)
        return family


def _samples(metric: Counter | Histogram, suffix: str) -> Iterator[Sample]:
    for family in metric.collect():
        yield from (sample for sample in family.samples if sample.name.endswith(suffix))


def _value(counter: Counter) -> float:
    return sum(sample.value for sample in _samples(counter, "_total"))


def _family(name: str, labelled: list[tuple[dict[str, str], float]]) -> Metric:
    """A family without a type, since Milvus's counters lack the suffix that the format demands."""
    family = Metric(name, "Milvus's name of what milvine_ metrics count", "unknown")
    for labels, value in labelled:
        family.add_sample(name, labels, value)
    return family


registry.register(_MilvusNames())


class _NodeValues:
    """Read when metrics are, since nodes come and go."""

    def collect(self) -> Iterator[Metric]:
        for name, text in _NODE_VALUES.items():
            family = Metric(f"milvine_node_{name}", text, "gauge")
            for node, value in node_values().get(name, {}).items():
                family.add_sample(family.name, {"node": node}, value)
            yield family


_NODE_VALUES = {
    "held_bytes": "Memory that segments hold on a query node",
    "limit_bytes": "Memory that they may hold there",
    "mapped_bytes": "Bytes of files that are mapped there and not counted as memory",
    "segments": "Segments that serve there",
    "reads_in_flight": "Reads that the node has not answered yet",
    "silent_seconds": "Time since its last report",
}


def node_values() -> Mapping[str, Mapping[str, float]]:
    """Values by their name and node; of the set of nodes, if there is one."""
    return {} if read_nodes is None else read_nodes()


read_nodes: Callable[[], Mapping[str, Mapping[str, float]]] | None = None
registry.register(_NodeValues())


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
