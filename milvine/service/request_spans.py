"""Requests as spans of OpenTelemetry, sent to a collector by OTLP over HTTP. The extra `trace` has the libraries."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from milvine import __version__
from milvine.config import Settings
from milvine.errors import UnexpectedError
from milvine.service.request_log import Handled

_NANOSECONDS = 1_000_000_000
Exporter = Callable[[Handled], None]


def open_spans(settings: Settings) -> Exporter | None:
    """None if the settings ask for no spans. Raises UnexpectedError if the libraries are missing."""
    if not settings.trace_exporter:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError as error:
        raise UnexpectedError("trace.exporter: otlp needs opentelemetry: pip install 'milvine[trace]'") from error
    # Without an endpoint the exporter reads OTEL_EXPORTER_OTLP_ENDPOINT.
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(settings.trace_sample_share),
        resource=Resource.create({"service.name": "milvine", "service.version": __version__}),
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.trace_endpoint or None)))
    tracer, propagator = provider.get_tracer("milvine", __version__), TraceContextTextMapPropagator()

    def export(handled: Handled) -> None:
        """The request has just ended. It queues the span; a thread of the library sends it."""
        ended = time.time_ns()
        parent = propagator.extract({"traceparent": handled.trace_parent})
        span = tracer.start_span(
            handled.call,
            context=parent,
            kind=SpanKind.SERVER,
            start_time=ended - int(handled.seconds * _NANOSECONDS),
        )
        if span.is_recording():
            span.set_attributes(_attributes(handled))
            for queries, segments in handled.searches:
                for one in segments:
                    about: dict[str, str | int | float] = {
                        "queries": queries,
                        "segment": one.segment_id,
                        "plan": one.way,
                        "rows": one.row_count,
                    }
                    span.add_event("segment searched", {**about, "kept": one.kept, "ms": one.ms}, timestamp=ended)
            if handled.code:
                span.set_status(Status(StatusCode.ERROR, handled.message))
        span.end(ended)

    return export


def _attributes(handled: Handled) -> Mapping[str, str | int]:
    found: dict[str, str | int] = {
        "rpc.system": handled.protocol,
        "rpc.method": handled.call,
        "db.system.name": "milvus",
        "db.namespace": handled.database,
        "enduser.id": handled.user,
        "client.address": handled.address,
        "milvine.request_id": handled.request_id,
        "milvine.code": handled.code,
    }
    named = {f"milvine.{kind}": str(name) for kind, name in handled.names.items()}
    return {name: value for name, value in {**found, **named}.items() if value != ""}
