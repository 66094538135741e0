"""The second port: health, metrics, the level of the log and the settings, as on Milvus's."""

from __future__ import annotations

import json
import logging
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from milvine import logs, metrics
from milvine.background import Supervisor
from milvine.config import Settings
from milvine.errors import STANDBY
from milvine.service import admin, configuration
from milvine.service.context import Engine

_log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_POLL_SECONDS = 0.5
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_LEVEL_PATH = "/log/level"
_ALL_CONFIGS_PATH, _CONFIGS_PATH = "/_cluster/configs", "/management/config/get"
_HEALTH_PATH, _LIVE_PATH = "/healthz", "/livez"
_MOST_BODY_BYTES = 4096


def _wanted_level(content_type: str, body: bytes) -> str:
    """The level that a request names, as JSON or as a form. Raises ValueError."""
    text = body.decode("utf-8", "replace")
    if content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        level = parse_qs(text).get("level", [""])[0]
    else:
        found = json.loads(text)
        level = found.get("level", "") if isinstance(found, dict) else ""
    if not isinstance(level, str) or not level:
        raise ValueError("must specify logging level")
    if level.lower() not in logs.LEVELS:
        raise ValueError(f'unrecognized level: "{level}"')
    return level.lower()


class _Handler(BaseHTTPRequestHandler):
    port: MetricsPort
    timeout = 30

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == _HEALTH_PATH:
            self._reply(*self.port.health(), _TEXT)
        elif path == _LIVE_PATH:
            self._reply(*self.port.life(), _TEXT)
        elif path not in ("/metrics", _LEVEL_PATH, _ALL_CONFIGS_PATH, _CONFIGS_PATH):
            self._reply(404, b"404 page not found", _TEXT)
        elif not self._may_read():
            self._reply(401, b"401 metrics need a token", _TEXT)
        elif path == _LEVEL_PATH:
            self._reply_level()
        elif path == "/metrics":
            self._reply(200, metrics.exposition(), "text/plain; version=0.0.4; charset=utf-8")
        else:
            self._reply_configs(path)

    def _reply_configs(self, path: str) -> None:
        """Where users are required, settings are shown only to who has the token."""
        settings = self.port.settings
        if settings.authorization_enabled and not settings.metrics_token:
            self._reply_json(401, {"msg": "settings need metrics.token where users are required"})
        elif path == _ALL_CONFIGS_PATH:
            self._reply_json(200, configuration.configurations(settings))
        else:
            given = parse_qs(urlsplit(self.path).query).get("keys", [""])[0]
            keys = [key.strip() for key in given.split(",") if key.strip()]
            if keys:
                self._reply_json(200, {"configs": configuration.named_configurations(settings, keys)})
            else:
                reason = "no valid keys provided" if given else "query parameter 'keys' is required"
                self._reply_json(400, {"msg": reason})

    def do_PUT(self) -> None:
        if self.path != _LEVEL_PATH:
            self._reply(404, b"404 page not found", _TEXT)
        elif not self._may_read():
            self._reply(401, b"401 the level of the log needs a token", _TEXT)
        else:
            self._set_level()

    def _set_level(self) -> None:
        size = self.headers["Content-Length"] or "0"
        body = self.rfile.read(min(int(size), _MOST_BODY_BYTES)) if size.isdecimal() else b""
        try:
            level = _wanted_level(self.headers["Content-Type"] or "", body)
        except ValueError as error:
            self._reply_json(400, {"error": str(error)})
            return
        logs.set_level(level)
        self._reply_level()

    def _may_read(self) -> bool:
        return metrics.may_read(self.port.settings.metrics_token, self.headers["Authorization"])

    def _reply_level(self) -> None:
        self._reply(200, f'{{"level":"{logs.level()}"}}\n'.encode(), _JSON)

    def _reply_json(self, code: int, answer: object) -> None:
        self._reply(code, json.dumps(answer).encode() + b"\n", _JSON)

    def _reply(self, code: int, body: bytes, content_type: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class MetricsPort:
    """`engine` is None while the head waits for its turn."""

    def __init__(self, settings: Settings, background: Supervisor) -> None:
        self.settings = settings
        self.engine: Engine | None = None
        self._background = background

    def health(self) -> tuple[int, bytes]:
        if self.engine is None:
            return 503, STANDBY.encode()
        healthy, reasons = admin.is_serving(self.engine)
        return (200, b"OK") if healthy else (503, "; ".join(reasons).encode())

    def life(self) -> tuple[int, bytes]:
        """A standby is alive: who restarts servers by this must leave it alone."""
        return (200, b"OK") if self.engine is None else self.health()

    def start(self) -> int:
        """The port, served in a background thread, or 0 if it is switched off or another process has taken it."""
        settings = self.settings
        if not settings.metrics_port:
            return 0

        class Handler(_Handler):
            port = self

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
            timeout = _POLL_SECONDS

        try:
            ports = Server((settings.host or _LOOPBACK, settings.metrics_port), Handler)
        except OSError as error:  # two servers that start at once both found it free
            _log.warning("port %d cannot be used, no metrics port: %s", settings.metrics_port, error.strerror)
            return 0

        def step() -> float:
            ports.handle_request()
            return 0.0

        self._background.worker("metrics_port", step).start()
        return settings.metrics_port
