"""Requests are spans of OpenTelemetry if the settings say so."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from conftest import ServerFactory
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pymilvus import MilvusClient

from milvine import config

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Receives spans as a collector does."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        received = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    received.extend(span for scope in resource.scope_spans for span in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1/traces"

    def span(self, name: str) -> Any:
        deadline = time.monotonic() + 20
        while not (found := [span for span in list(self.spans) if span.name == name]):
            assert time.monotonic() < deadline, [span.name for span in self.spans]
            time.sleep(0.05)
        return found[0]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


def _attributes(span: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_requests_of_both_protocols_are_spans_of_the_clients_trace(
    new_server: ServerFactory, collector: Collector
) -> None:
    env = {"MILVINE_TRACE_EXPORTER": "otlp", "MILVINE_TRACE_OTLP_ENDPOINT": collector.endpoint}
    server = new_server(env=env | {"OTEL_BSP_SCHEDULE_DELAY": "100"})
    client: MilvusClient = server.client()
    client.create_collection("books", dimension=2)
    client.insert("books", [{"id": i, "vector": [i, 1]} for i in range(5)])
    client.search("books", [[1, 1]], limit=1)
    client.close()
    created, searched = collector.span("CreateCollection"), collector.span("Search")
    assert _attributes(created).items() >= {"rpc.system": "grpc", "milvine.collection": "books"}.items()
    assert created.end_time_unix_nano > created.start_time_unix_nano
    (event,) = searched.events
    assert (event.name, _attributes(event)["rows"]) == ("segment searched", 5)
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    body = {"collectionName": "nothing"}
    requests.post(f"{server.uri}/v2/vectordb/collections/describe", json=body, headers=headers, timeout=10)
    refused = collector.span("collections/describe")
    assert (refused.trace_id.hex(), refused.parent_span_id.hex()) == (TRACE, SPAN)
    assert refused.status.code == 2
    assert _attributes(refused)["milvine.code"] == 100


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("MILVINE_TRACE_EXPORTER", "jaeger", "it must be noop or otlp"),
        ("MILVINE_TRACE_OTLP_METHOD", "grpc", "it must be http"),
        ("MILVINE_TRACE_SAMPLEFRACTION", "2", "it must be a number from 0 to 1"),
    ],
)
def test_what_is_not_served_is_refused_at_the_start(key: str, value: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        config.load_settings({}, {key: value}, None)
