"""The composition root: builds everything and starts it in order. The only file that knows all concrete classes."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa

from milvine import metrics
from milvine.background import Supervisor
from milvine.catalog.limits import Limits
from milvine.catalog.store import CATALOG_FILE, open_catalog
from milvine.config import HINT, Settings
from milvine.datanode.node import DataNode
from milvine.grpc_api import wire
from milvine.intake import Intake
from milvine.model.properties import PartKind
from milvine.model.timestamps import HybridClock
from milvine.querynode.budget import Budget
from milvine.querynode.cluster import Cluster
from milvine.querynode.loader import Loader
from milvine.querynode.local_node import LocalNode
from milvine.rest_api.app import make_app
from milvine.segment.rows import parsed_json
from milvine.segment.view import Views
from milvine.service import admin, roles, users
from milvine.service.audit import open_audit_log
from milvine.service.context import Engine
from milvine.service.logins import Logins
from milvine.service.passwords import Passwords
from milvine.service.rate_limits import RateLimits
from milvine.service.weak_defaults import warnings_at_start
from milvine.storage.files import make_directory, sync_directory
from milvine.storage.segment_files import SegmentPaths

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]
LOOPBACK = "127.0.0.1"
_POLL_SECONDS = 0.5
_log = logging.getLogger(__name__)


def build_engine(settings: Settings) -> Engine:
    """Opens the catalog, replays the logs, starts background work, and starts to load what was loaded before.

    Raises DataIntegrityError, naming the file, if the catalog is damaged.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    root = Path(settings.data_dir)
    make_directory(root / "segments")
    make_directory(root / "wal")
    paths = SegmentPaths(root)
    catalog = open_catalog(root / CATALOG_FILE)
    catalog.limits = Limits(
        settings.max_collections,
        settings.max_collections_per_database,
        settings.max_databases,
        settings.max_partitions,
        settings.max_general_capacity,
    )
    sync_directory(root)
    background = Supervisor()
    views, clock = Views(), HybridClock()
    datanode = DataNode(settings, catalog, views, paths, clock, background)
    threads = max(2, os.cpu_count() or 1)
    node = LocalNode(paths, threads)
    budget = Budget(settings.memory_limit_bytes)
    parsed_json.set_limit(settings.json_cache_bytes)
    mmap_by_default = {
        PartKind.VECTOR_FIELD: settings.mmap_vector_field,
        PartKind.VECTOR_INDEX: settings.mmap_vector_index,
        PartKind.SCALAR_FIELD: settings.mmap_scalar_field,
        PartKind.SCALAR_INDEX: settings.mmap_scalar_index,
    }
    serves_unlisted = settings.load_fields_mode == HINT
    loader = Loader(
        catalog, views, node, budget, threads, mmap_by_default, background, serves_unlisted_fields=serves_unlisted
    )
    cluster = Cluster(catalog, views, node, loader, max(1, 3 * settings.worker_threads // 4))
    datanode.recover()
    datanode.start()
    loader.resume()
    rates = RateLimits(catalog, settings.rates, enabled=settings.limits_enabled)
    audit = open_audit_log(settings)
    passwords, logins = Passwords(), Logins()
    engine = Engine(settings, catalog, clock, datanode, loader, cluster, passwords, logins, rates, background, audit)
    users.ensure_root(engine)
    for warning in warnings_at_start(engine):
        _log.warning("%s", warning)
    roles.ensure_public_privileges(engine)
    return engine


def make_application(engine: Engine, intake: Intake) -> Application:
    """The WSGI application of the one port: gRPC by its content type, everything else REST."""
    rest = make_app(engine)

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with intake.visit() as visit:
            if intake.handling.is_closed:  # gRPC clients read it as UNAVAILABLE and retry
                start_response("503 Service Unavailable", [("Content-Length", "0")])
                return []
            if wire.is_grpc(environ):
                return wire.handle(engine, visit, environ, start_response)
            return rest(visit, environ, start_response)

    return application


def health(engine: Engine) -> tuple[int, bytes]:
    """Status and body of /healthz."""
    healthy, reasons = admin.is_serving(engine)
    return (200, b"OK") if healthy else (503, "; ".join(reasons).encode())


def start_metrics_port(settings: Settings, engine: Engine) -> None:
    """Serves /healthz and /metrics on their own port, unless it is switched off."""
    if not settings.metrics_port:
        return

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics" and not metrics.may_read(settings.metrics_token, self.headers["Authorization"]):
                self._reply(401, b"401 metrics need a token", "text/plain; charset=utf-8")
            elif self.path == "/metrics":
                self._reply(200, metrics.exposition(), "text/plain; version=0.0.4; charset=utf-8")
            elif self.path in ("/healthz", "/livez"):
                code, body = health(engine)
                self._reply(code, body, "text/plain; charset=utf-8")
            else:
                self._reply(404, b"404 page not found", "text/plain; charset=utf-8")

        def _reply(self, code: int, body: bytes, content_type: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        timeout = _POLL_SECONDS

    ports = Server((settings.host or LOOPBACK, settings.metrics_port), Handler)

    def step() -> float:
        ports.handle_request()
        return 0.0

    engine.background.worker("metrics_port", step).start()
