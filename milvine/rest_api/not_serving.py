"""What a head answers that does not serve: 503, so that load balancers and clients try another one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from milvine.errors import ServiceNotReady

_RETRY = ("Retry-After", "1")


def answer(error: ServiceNotReady, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """`/healthz` tells the state alone, all other paths Milvus's code and text."""
    if environ["PATH_INFO"] == "/healthz":
        media_type, body = "text/plain; charset=utf-8", error.state.encode()
    else:
        media_type, body = (
            "application/json; charset=utf-8",
            orjson.dumps({"code": error.code, "message": error.message}),
        )
    headers = [("Content-Type", media_type), ("Content-Length", str(len(body))), _RETRY]
    start_response("503 Service Unavailable", headers)
    return [body]
