"""JSON requests to model services: which hosts may be called, time limits, retries, errors in Milvus's words."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

import orjson
import urllib3

from milvine.errors import FunctionFailed, MilvineError, ParameterInvalid, ServiceUnavailable, excerpt
from milvine.model import json_text

_ATTEMPTS = 3
_FIRST_PAUSE_SECONDS = 1.0
_MAX_ANSWER_BYTES = 64 << 20
_PIECE_BYTES = 1 << 16
_TOO_MANY_REQUESTS, _SERVER_ERRORS = 429, 500
_OK = 200
EVERY_HOST = "*"


class ModelClient:
    """Calls of model services, by many threads."""

    def __init__(self, allowed_hosts: str, max_calls: int) -> None:
        """`allowed_hosts`: hosts, or hosts with ports, that callers may name, with commas; "*": all of them. At most
        `max_calls` run at a time, since each holds a request thread; further ones fail at once."""
        self._allowed = frozenset(host.strip().lower() for host in allowed_hosts.split(",") if host.strip())
        self._places = threading.BoundedSemaphore(max_calls)
        self._pool = urllib3.PoolManager(num_pools=32, maxsize=8)

    def endpoint(self, text: str) -> SplitResult:
        """A URL that a caller named. Raises ParameterInvalid unless it may be called."""
        invalid = f"endpoint: [{excerpt(text)}] is not a valid http/https link"
        try:
            url = urlsplit(text)
            host, port = url.hostname, url.port
        except ValueError:
            raise ParameterInvalid(invalid) from None
        if url.scheme not in ("http", "https") or not host or "@" in url.netloc:
            raise ParameterInvalid(invalid)
        names = {EVERY_HOST, host, f"{host}:{port}", f"[{host}]:{port}"}
        if not names & self._allowed:
            raise ParameterInvalid(
                f"endpoint: [{excerpt(text)}] is not allowed: function.model.allowedHosts does not name {host}"
            )
        return url

    def post(self, url: str, headers: Mapping[str, str], body: Any, *, seconds: float, deadline: float) -> Any:
        """The decoded answer. `seconds` bounds the whole call, with its retries; `deadline` is on time.monotonic()'s
        scale. Raises ServiceUnavailable where a later call may succeed, else FunctionFailed."""
        if not self._places.acquire(blocking=False):
            raise ServiceUnavailable("too many calls of model services are in progress").prefixed("call service failed")
        try:
            content = orjson.dumps(body)
            all_headers = {"Content-Type": "application/json", "Accept": "application/json", **headers}
            answer = self._with_retries(url, all_headers, content, min(deadline, time.monotonic() + seconds))
        finally:
            self._places.release()
        try:
            return json_text.loads(answer)
        except json_text.NotJson as error:
            raise unreadable(str(error)) from error

    def _with_retries(self, url: str, headers: Mapping[str, str], content: bytes, deadline: float) -> bytes:
        pause = _FIRST_PAUSE_SECONDS
        for attempt in range(_ATTEMPTS):
            try:
                return self._once(url, headers, content, deadline)
            except ServiceUnavailable:
                if attempt == _ATTEMPTS - 1 or time.monotonic() + pause >= deadline:
                    raise
            time.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable")

    def _once(self, url: str, headers: Mapping[str, str], content: bytes, deadline: float) -> bytes:
        try:
            left = deadline - time.monotonic()
            if left <= 0:
                raise _unavailable("context deadline exceeded")
            # Redirects are not followed: they could lead to hosts that are not allowed.
            response = self._pool.request(
                "POST",
                url,
                body=content,
                headers=dict(headers),
                timeout=urllib3.Timeout(total=left),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            try:
                answer = _read(response, deadline)
            finally:
                response.close()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise _unavailable(str(error)) from error
        if response.status == _OK:
            return answer
        text = answer[:_PIECE_BYTES].decode("utf-8", "replace")
        failure = f"call service failed, errs:[{response.status} {response.reason or ''}, {excerpt(text)}]"
        if response.status == _TOO_MANY_REQUESTS or response.status >= _SERVER_ERRORS:
            raise ServiceUnavailable(failure)
        raise FunctionFailed(failure)


def unreadable(reason: str) -> FunctionFailed:
    return FunctionFailed(f"call service failed, unmarshal response failed: {reason}")


def _unavailable(reason: str) -> MilvineError:
    return ServiceUnavailable(reason).prefixed("call service failed")


def _read(response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    pieces, size = [], 0
    while piece := response.read1(_PIECE_BYTES):
        pieces.append(piece)
        size += len(piece)
        if size > _MAX_ANSWER_BYTES:
            raise FunctionFailed(f"call service failed, the answer is larger than {_MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > deadline:
            raise _unavailable("context deadline exceeded")
    return b"".join(pieces)
