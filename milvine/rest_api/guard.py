"""Keeps web pages of other sites out of REST, and lets those of allowed origins in.

A browser sends text, forms, multipart bodies and bodies without a type to any address without a preflight request, and
a foreign name may resolve to a loopback address (DNS rebinding). gRPC requests do not come from browsers.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import falcon

from milvine.config import Settings, is_loopback
from milvine.errors import RestBadMediaType, RestForbidden

_FORM = "application/x-www-form-urlencoded"
_HEADERS = (
    "Accept, Accept-Type-Allow-Int64, Authorization, ContentType, Content-Type, DB-Name, Request-Timeout, traceparent"
)
_PREFLIGHT_SECONDS = 600


def _names(text: str) -> frozenset[str]:
    return frozenset(name for name in text.lower().split(",") if name)


class Guard:
    """Refuses requests by their headers."""

    def __init__(self, settings: Settings) -> None:
        self._listens_on_loopback = not settings.host or is_loopback(settings.host)
        self._origins = _names(settings.rest_allowed_origins)
        self._hosts = _names(settings.rest_allowed_hosts)

    def check(self, request: falcon.Request) -> None:
        """Raises RestBadMediaType and RestForbidden."""
        # Milvus's SDK for Node names the type in its own header, which foreign pages cannot send without a preflight.
        named = request.get_header("ContentType") or request.content_type or ""
        media_type = named.partition(";")[0].strip().lower()
        if media_type == _FORM or media_type.startswith(("text/", "multipart/")):
            raise RestBadMediaType(media_type)
        host = (request.get_header("Host") or "").lower()
        if self._listens_on_loopback and host:
            self._check_host(host)
        origin = (request.get_header("Origin") or "").lower()
        if origin and (self._listens_on_loopback or not media_type):
            self._check_origin(origin, host)

    def _check_host(self, host: str) -> None:
        name = _host_name(host)
        if not is_loopback(name) and name not in self._hosts and host not in self._hosts:
            raise RestForbidden(f"the host {host} is neither a loopback address nor in rest.allowedHosts")

    def _check_origin(self, origin: str, host: str) -> None:
        own = {f"http://{host}", f"https://{host}"}
        if origin not in own and origin not in self._origins:
            raise RestForbidden(f"the origin {origin} is neither this server nor in rest.allowedOrigins")


class CrossOrigin:
    """Middleware that tells browsers that pages of the allowed origins may use REST (CORS)."""

    def __init__(self, origins: frozenset[str]) -> None:
        self._origins = origins

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answers a preflight request."""
        wanted = request.get_header("Access-Control-Request-Method")
        if request.method != "OPTIONS" or wanted is None or self._allowed_origin(request) is None:
            return
        response.set_header("Access-Control-Allow-Methods", "GET, POST")
        response.set_header("Access-Control-Allow-Headers", _HEADERS)
        response.set_header("Access-Control-Max-Age", str(_PREFLIGHT_SECONDS))
        if request.get_header("Access-Control-Request-Private-Network"):
            response.set_header("Access-Control-Allow-Private-Network", "true")
        response.status = falcon.HTTP_204
        response.complete = True

    def process_response(
        self, request: falcon.Request, response: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        response.append_header("Vary", "Origin")
        origin = self._allowed_origin(request)
        if origin is not None:
            response.set_header("Access-Control-Allow-Origin", origin)
            response.set_header("Access-Control-Allow-Credentials", "true")
            response.set_header("Access-Control-Expose-Headers", "X-Milvus-Trace-Id")

    def _allowed_origin(self, request: falcon.Request) -> str | None:
        origin = request.get_header("Origin")
        return origin if origin is not None and origin.lower() in self._origins else None


def cross_origin(settings: Settings) -> list[CrossOrigin]:
    """The middleware, if any origin is allowed."""
    origins = _names(settings.rest_allowed_origins)
    return [CrossOrigin(origins)] if origins else []


def _host_name(host: str) -> str:
    """A host header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
