"""Keeps web pages of other sites out of REST.

A browser sends text, forms, multipart bodies and bodies without a type to any address without a preflight request, and
a foreign name may resolve to a loopback address (DNS rebinding). gRPC requests do not come from browsers.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import falcon

from milvine.config import Settings
from milvine.errors import RestBadMediaType, RestForbidden

_FORM = "application/x-www-form-urlencoded"
_LOCALHOST = "localhost"


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == _LOCALHOST


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


def _host_name(host: str) -> str:
    """A host header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
