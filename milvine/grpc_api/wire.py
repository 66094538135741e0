"""Unary gRPC over WSGI, framed by hand: frame, message, trailers. The servicer does not depend on the server.

A response body is one frame (flag, length, message); the gRPC status travels in trailers, or alone in the headers
when there is no message. https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import logging
import re
import struct
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from operator import attrgetter
from typing import Any

from google.protobuf.message import DecodeError

from milvine import metrics
from milvine.errors import MilvineError, PermissionDenied, RequestRateLimited, UnexpectedError
from milvine.front_threads import FrontThreads
from milvine.grpc_api import administration, encode, health
from milvine.grpc_api.proto import PROXY_SERVICE_NAME, SERVICE_NAME, TELEMETRY_SERVICE_NAME, has_field, request_class
from milvine.grpc_api.repeated import RepeatedSearches
from milvine.grpc_api.servicer import RPCS, Rpc, decoded_search
from milvine.grpc_api.unserved import WITHOUT_STATUS, refuse_unserved_fields, unserved
from milvine.grpc_api.users import Unauthenticated, authenticated, claimed_user
from milvine.intake import MAX_BODY_BYTES, BodyLost, Visit, client_address, given_request_id
from milvine.model.collections import DEFAULT_DATABASE
from milvine.model.known_keys import unsupported
from milvine.model.users import ANYONE, Caller
from milvine.service.audit import NAMES, Entry, names_of
from milvine.service.context import DEFAULT_TIMEOUT_SECONDS, Engine, RequestContext
from milvine.service.request_log import Handled

_log = logging.getLogger(__name__)
_PIECE_BYTES = 4 << 20
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_FRAME = struct.Struct(">BI")
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_TIMEOUT_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_CANCELLED, _DEADLINE_EXCEEDED, _PERMISSION_DENIED, _RESOURCE_EXHAUSTED, _FAILED_PRECONDITION = 1, 4, 7, 8, 9
_UNIMPLEMENTED, _INTERNAL, _UNAUTHENTICATED = 12, 13, 16
_SERVICES = {
    SERVICE_NAME: RPCS,
    PROXY_SERVICE_NAME: administration.PROXY_RPCS,
    TELEMETRY_SERVICE_NAME: administration.TELEMETRY_RPCS,
}
_search = RPCS["Search"]
_repeated_searches = RepeatedSearches()
_CONTENT_TYPE = ("content-type", "application/grpc")
_OK_TRAILERS = [("grpc-status", "0")]


class GrpcError(Exception):
    """A call that fails below Milvus's own status: no such method, a message too large, a broken frame."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def is_grpc(environ: dict[str, Any]) -> bool:
    content_type: str = environ.get("CONTENT_TYPE", "")
    return content_type.startswith("application/grpc")


def _body(visit: Visit, environ: dict[str, Any]) -> bytes:
    """The frame of the one message of a unary call. Raises GrpcError, before reading it, if it is too large."""
    stream = environ["wsgi.input"]
    first = visit.first_bytes(stream, _FRAME.size)
    if len(first) < _FRAME.size:
        raise GrpcError(_INTERNAL, "the request has no message")
    _, length = _FRAME.unpack_from(first)
    if length > MAX_BODY_BYTES:
        raise GrpcError(_RESOURCE_EXHAUSTED, f"received message larger than max ({length} vs. {MAX_BODY_BYTES})")
    return visit.rest(stream, first, _FRAME.size + length)


def _payload(visit: Visit, environ: dict[str, Any], body: bytes) -> bytes | memoryview:
    """The one message of a unary call, decompressed."""
    compressed, length = _FRAME.unpack_from(body)
    if len(body) != _FRAME.size + length:
        raise GrpcError(_INTERNAL, "the request's frame does not match its length")
    payload = memoryview(body)[_FRAME.size :]
    if not compressed:
        return payload
    encoding = environ.get("HTTP_GRPC_ENCODING", "identity")
    try:
        if encoding in _WINDOW_BITS:
            return _decompressed(visit, payload, _WINDOW_BITS[encoding])
    except zlib.error as error:
        raise GrpcError(_INTERNAL, f"the request does not decompress: {error}") from error
    raise GrpcError(_UNIMPLEMENTED, f"compression {encoding} is not supported")


def _decompressed(visit: Visit, payload: memoryview, window_bits: int) -> bytes:
    """Raises GrpcError(RESOURCE_EXHAUSTED) once the data exceeds the limit, without decompressing more."""
    decompressor = zlib.decompressobj(window_bits)
    pieces: list[bytes] = []
    size = 0
    rest: bytes | memoryview = payload
    while rest and not decompressor.eof:
        pieces.append(decompressor.decompress(rest, _PIECE_BYTES))
        rest = decompressor.unconsumed_tail
        size += len(pieces[-1])
        if size > MAX_BODY_BYTES:
            reason = f"received message after decompression larger than max ({size} vs. {MAX_BODY_BYTES})"
            raise GrpcError(_RESOURCE_EXHAUSTED, reason)
        visit.hold(len(payload) + size)
    if not decompressor.eof:
        raise GrpcError(_INTERNAL, "the request does not decompress: it ends too soon")
    return b"".join(pieces)


def _caller(engine: Engine, environ: dict[str, Any]) -> Caller:
    """Who calls, if the server requires a user; no RPC is exempt, as in Milvus."""
    if not engine.settings.authorization_enabled:
        return ANYONE
    try:
        return authenticated(engine, environ)
    except Unauthenticated as error:
        raise GrpcError(_UNAUTHENTICATED, str(error)) from None


def _context(environ: dict[str, Any], request: Any, caller: Caller) -> RequestContext:
    """Database: the request's, else the metadata's, else `default`. Deadline: the call's."""
    timeout = DEFAULT_TIMEOUT_SECONDS
    given_timeout = environ.get("HTTP_GRPC_TIMEOUT")
    if given_timeout and (match := _TIMEOUT.fullmatch(given_timeout)):
        timeout = int(match[1]) * _TIMEOUT_UNITS[match[2]]
    given = getattr(request, "db_name", "") or getattr(request, "dbName", "")
    database = given or environ.get("HTTP_DBNAME", "") or DEFAULT_DATABASE
    claimed = partial(claimed_user, environ.get("HTTP_AUTHORIZATION"))
    return RequestContext(database, caller, time.monotonic() + timeout, claimed)


def _message(visit: Visit, environ: dict[str, Any], method: str, body: bytes) -> Any:
    message_class = request_class(method)
    try:
        return message_class.FromString(_payload(visit, environ, body))
    except DecodeError as error:
        raise GrpcError(_INTERNAL, f"the request is no {message_class.__name__}: {error}") from error


def _answer(
    engine: Engine, visit: Visit, environ: dict[str, Any], method: str, rpc: Rpc | None, entry: Entry | None
) -> tuple[bytes, int]:
    """The response, and Milvus's code for the counters. Without `rpc` the method is refused."""
    try:
        visit.check_room()
        caller = _caller(engine, environ)
        if entry is not None:
            entry.verify(caller)
        if rpc is None:
            error = unserved(method)
            if error is None:
                raise GrpcError(_FAILED_PRECONDITION, unsupported(WITHOUT_STATUS[method]))
            visit.failure = error.message
            return encode.failure(method, error).SerializeToString(), error.code
        body = _body(visit, environ)
        visit.wait_for_turn()
        repeated = _repeated_searches.find(body) if rpc is _search else None
        request = _message(visit, environ, method, body) if repeated is None else repeated.message
    except RequestRateLimited as error:
        visit.failure = error.message
        return encode.failure(method, error).SerializeToString(), error.code
    except BodyLost:
        raise GrpcError(_CANCELLED, "the client went away") from None
    context = _context(environ, request, caller)
    visit.context, visit.subject = context, request
    if entry is not None:
        entry.database, entry.names = context.database, _names(request)
    error_code = 0
    try:
        if repeated is None:
            refuse_unserved_fields(request)
            response = rpc(engine, context, request)
        else:
            response = decoded_search(engine, context, repeated.decoded(body))
    except PermissionDenied as error:
        raise GrpcError(_PERMISSION_DENIED, error.message) from None
    except MilvineError as error:
        error_code = error.code
        visit.failure = error.message
        response = encode.failure(method, error)
    except Exception as error:  # noqa: BLE001 - the adapter is where a bug becomes an answer
        _log.exception("%s failed", method)
        error_code = UnexpectedError.code
        visit.failure = f"{type(error).__name__}: {error}"
        response = encode.failure(method, UnexpectedError(visit.failure))
    if time.monotonic() > context.deadline:
        raise GrpcError(_DEADLINE_EXCEEDED, "context deadline exceeded")
    if rpc is _search and repeated is None and not error_code:
        _repeated_searches.learn(body, request)
    return response.SerializeToString(), error_code


def _rpc(service: str, method: str) -> Rpc | None:
    """None for an RPC that is refused; GrpcError for one that is not known."""
    rpcs = _SERVICES.get(service)
    if rpcs is None:
        raise GrpcError(_UNIMPLEMENTED, f"unknown service {service}")
    rpc = rpcs.get(method)
    if rpc is None and (service != SERVICE_NAME or not (method in WITHOUT_STATUS or unserved(method))):
        raise GrpcError(_UNIMPLEMENTED, f"unknown method {method} for service {service}")
    return rpc


@cache
def _readers(message_class: Any) -> tuple[tuple[str, Callable[[Any], object]], ...]:
    """What each of the audit log's names that this message has names, and how it is read."""
    return tuple(
        (noun, attrgetter(path)) for noun, paths in NAMES for path in paths if has_field(message_class.DESCRIPTOR, path)
    )


def _names(request: Any) -> dict[str, Any]:
    return names_of((noun, read(request)) for noun, read in _readers(request.__class__))


def _entry(environ: dict[str, Any], method: str) -> Entry:
    return Entry("grpc", method, client_address(environ), claimed_user(environ.get("HTTP_AUTHORIZATION")))


def handle(engine: Engine, visit: Visit, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Serve one gRPC call."""
    started = time.perf_counter()
    path: str = environ["PATH_INFO"]
    service, _, method = path.lstrip("/").partition("/")
    audit = engine.audit
    entry = None if audit is None else _entry(environ, method)
    try:
        if service == health.SERVICE_NAME and method in health.METHODS:
            payload, error_code = health.answer(engine), 0
        else:
            payload, error_code = _answer(engine, visit, environ, method, _rpc(service, method), entry)
    except GrpcError as error:
        if audit is not None and entry is not None:
            audit.write(entry, -error.code)
        visit.failure = error.message
        _write_down(engine, visit, environ, method, -error.code, time.perf_counter() - started)
        metrics.requests_of("grpc", "error", error.code).inc()
        return refused(error, start_response)
    send(payload, environ, start_response)
    # Counted while the answer is being sent.
    if audit is not None and entry is not None and service != health.SERVICE_NAME:
        audit.write(entry, error_code)
    metrics.requests_of("grpc", method, error_code).inc()
    seconds = time.perf_counter() - started
    metrics.seconds_of(method).observe(seconds)
    if engine.request_log.wants(error_code, seconds):
        _write_down(engine, visit, environ, method, error_code, seconds)
    return taken(visit.threads)


def send(payload: bytes, environ: dict[str, Any], start_response: Any) -> None:
    """Hands the answer to the front; `taken` follows."""
    write = start_response("200 OK", [_CONTENT_TYPE])
    write(_FRAME.pack(0, len(payload)) + payload)
    environ["wsgi.ext.http.send_trailers"](_OK_TRAILERS)


def refused(error: GrpcError, start_response: Any) -> list[bytes]:
    """The answer to a call that fails below Milvus's own status."""
    message = urllib.parse.quote(error.message, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~\"")
    status = [("grpc-status", str(error.code)), ("grpc-message", message)]
    start_response("200 OK", [_CONTENT_TYPE, *status])
    return []


def _write_down(
    engine: Engine, visit: Visit, environ: dict[str, Any], method: str, error_code: int, seconds: float
) -> None:
    context, request = visit.context, visit.subject
    handled = Handled(
        protocol="grpc",
        call=method,
        code=error_code,
        seconds=seconds,
        message=visit.failure,
        user=(context and context.user) or claimed_user(environ.get("HTTP_AUTHORIZATION")),
        address=client_address(environ),
        database=context.database if context else "",
        names=_names(request) if request is not None else {},
        request_id=given_request_id(environ),
        trace_parent=environ.get("HTTP_TRACEPARENT", ""),
        searches=tuple(context.searches) if context else (),
    )
    engine.request_log.write(handled)


def taken(threads: FrontThreads | None = None) -> Iterator[bytes]:
    """Yields nothing more. The front requests the end once it has taken all data; without this turn it would log that
    the writer of the answer had ended. The client does not wait for it, so the thread may rest afterwards.

    Nothing of the request is kept here, since a thread may rest for days."""
    yield b""
    if threads is not None:
        threads.rest()
