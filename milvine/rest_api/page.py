"""The page for people at `/`: its files, from memory, with headers that let it load nothing from elsewhere."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import falcon
import orjson

from milvine.model.records import record

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}
_PLACES = {"/": "index.html", "/docs": "docs.html"}
"""Addresses of their own; the other files are below `/web/`."""


@record
class File:
    """Answers with bytes that are the same for everybody."""

    content: bytes
    media_type: str
    compressed: bytes
    tag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> File:
        return cls(
            content, media_type, gzip.compress(content, mtime=0), f'"{hashlib.sha256(content).hexdigest()[:20]}"'
        )

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        for name, value in _HEADERS.items():
            response.set_header(name, value)
        response.set_header("ETag", self.tag)
        if self.tag in (request.get_header("If-None-Match") or ""):
            response.status = falcon.HTTP_304
            return
        response.content_type = self.media_type
        if "gzip" in (request.get_header("Accept-Encoding") or ""):
            response.set_header("Content-Encoding", "gzip")
            response.data = self.compressed
        else:
            response.data = self.content

    on_head = on_get


@cache
def page_files() -> dict[str, File]:
    """By name. The files do not change while a server runs."""
    found = {path.name: path.read_bytes() for path in files("milvine").joinpath("web").iterdir() if path.is_file()}
    return {name: File.of(content, _TYPES[name.rpartition(".")[2]]) for name, content in found.items()}


class Description:
    """The OpenAPI description, made when it is first asked for."""

    def __init__(self, describe: Callable[[], dict[str, Any]]) -> None:
        self._file = cache(lambda: File.of(orjson.dumps(describe()), "application/json"))

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        self._file().on_get(request, response)


class _Redirect:
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        raise falcon.HTTPFound("/")


def add_routes(app: falcon.App[falcon.Request, falcon.Response], describe: Callable[[], dict[str, Any]]) -> None:
    """The page, its files, the description of REST, and Milvus's address of its own page."""
    app.add_route("/openapi.json", Description(describe))
    found = page_files()
    for path, name in _PLACES.items():
        app.add_route(path, found[name])
    for name, file in found.items():
        app.add_route(f"/web/{name}", file)
    for path in ("/webui", "/webui/"):
        app.add_route(path, _Redirect())
