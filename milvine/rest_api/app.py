"""The WSGI application: routes, the envelope around every answer, errors, headers; /healthz and /metrics."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import falcon
import orjson

from milvine import metrics
from milvine.errors import (
    MilvineError,
    ParameterInvalid,
    RequestRateLimited,
    RequestTimeout,
    RestBadJson,
    RestBadMediaType,
    RestForbidden,
    RestNeedAuthenticate,
    RestPermissionDenied,
    UnexpectedError,
)
from milvine.intake import MAX_BODY_BYTES, BodyLost, BodyTooLarge, Visit, client_address, given_request_id
from milvine.model.collections import DEFAULT_DATABASE
from milvine.model.users import ANYONE, Caller
from milvine.rest_api import (
    aliases,
    altering,
    analyzers,
    api_keys,
    backups,
    databases,
    entities,
    exports,
    external_collections,
    file_resources,
    imports,
    memory,
    openapi,
    overview,
    page,
    partitions,
    quota_center,
    resource_groups,
    resources,
    roles,
    snapshots,
    unserved,
    users,
)
from milvine.rest_api.body import Body, parse, parse_bool
from milvine.rest_api.call import Call, Content, Route, Version
from milvine.rest_api.guard import Guard, cross_origin
from milvine.rest_api.v1 import V1
from milvine.service import admin
from milvine.service.audit import NAMES, Entry, names_of
from milvine.service.context import Engine, RequestContext
from milvine.service.request_log import Handled

ROUTES: dict[str, Route] = {
    **resources.ROUTES,
    **entities.ROUTES,
    **altering.ROUTES,
    **databases.ROUTES,
    **external_collections.ROUTES,
    **file_resources.ROUTES,
    **imports.ROUTES,
    **aliases.ROUTES,
    **analyzers.ROUTES,
    **partitions.ROUTES,
    **quota_center.ROUTES,
    **resource_groups.ROUTES,
    **users.ROUTES,
    **roles.ROUTES,
    **snapshots.ROUTES,
}
OUR_ROUTES: dict[str, Route] = {
    **entities.OUR_ROUTES,
    **memory.OUR_ROUTES,
    **overview.OUR_ROUTES,
    **api_keys.OUR_ROUTES,
    **backups.OUR_ROUTES,
    **exports.OUR_ROUTES,
    **snapshots.OUR_ROUTES,
}
VERSIONS = (Version("/v2/vectordb/", {**unserved.ROUTES, **ROUTES}), V1, Version("/milvine/v1/", OUR_ROUTES))
_NAMED_KEYS = tuple((noun, key) for noun, keys in NAMES for key in keys if "." not in key)
_VISIT = "milvine.visit"
"""The key of a request's visit in its environment."""
_TOO_LARGE = RestBadJson("error: http: request body too large")
DEFAULT_TIMEOUT_SECONDS = 30
_JSON = "application/json; charset=utf-8"
_INITIALIZING, _HEALTHY = 0, 1
"""Milvus's codes of states."""
_TRACE = re.compile(r"(?!0{32})[0-9a-f]{32}")
_TEXT = "text/plain; charset=utf-8"
_JSON_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY
_log = logging.getLogger(__name__)


_STATUS: dict[type[MilvineError], str] = {
    RequestRateLimited: falcon.HTTP_429,
    RequestTimeout: falcon.HTTP_408,
    RestBadMediaType: falcon.HTTP_415,
    RestForbidden: falcon.HTTP_403,
    RestNeedAuthenticate: falcon.HTTP_401,
    RestPermissionDenied: falcon.HTTP_403,
}
"""Milvus answers 200 to all others."""


def _read(visit: Visit, request: falcon.Request) -> bytes:
    """The whole body. Raises RestBadJson beyond the limit, without reading further."""
    size = request.content_length
    if size is not None and size > MAX_BODY_BYTES:
        raise _TOO_LARGE
    try:
        return visit.rest(request.stream, b"", size)
    except BodyTooLarge:
        raise _TOO_LARGE from None


def _deadline(request: falcon.Request) -> float:
    text = request.get_header("Request-Timeout") or str(DEFAULT_TIMEOUT_SECONDS)
    try:
        seconds = int(text)
    except ValueError:
        reason = f'strconv.ParseInt: parsing "{text}": invalid syntax'
        raise ParameterInvalid(f"Request-Timeout parse failed, err: {reason}") from None
    if seconds <= 0:
        raise RequestTimeout
    return time.monotonic() + seconds


def _caller(engine: Engine, request: falcon.Request) -> Caller:
    """Who sends the request, if the server requires a user. Raises RestNeedAuthenticate."""
    if not engine.settings.authorization_enabled:
        return ANYONE
    return users.authenticated(engine, request.env)


def _context(request: falcon.Request, body: Body, caller: Caller, deadline: float) -> RequestContext:
    """Database: the body's, else the header's, else `default`."""
    database = body.text("dbName") or request.get_header("DB-Name") or DEFAULT_DATABASE
    return RequestContext(database, caller, deadline)


def _int64_as_text(request: falcon.Request) -> bool:
    try:
        return not parse_bool(request.get_header("Accept-Type-Allow-Int64") or "true")
    except ValueError:
        return False


def _names(body: Body) -> dict[str, Any]:
    """What the request is about; keys are read as its handler reads them."""
    return names_of(body.several(_NAMED_KEYS))


def _entry(path: str, request: falcon.Request) -> Entry:
    return Entry(
        "rest", path, client_address(request.env), users.claimed_user(request.get_header("Authorization") or "")
    )


def _answer(
    engine: Engine, version: Version, route: Route, request: falcon.Request, entry: Entry | None
) -> dict[str, Any] | Content:
    """The handler's answer, once the request's headers are checked. Raises RequestTimeout if it is too late."""
    visit: Visit = request.env[_VISIT]
    visit.check_room()
    caller = _caller(engine, request)
    if entry is not None:
        entry.verify(caller)
    deadline = _deadline(request)
    content = _read(visit, request)
    visit.wait_for_turn()
    body = _body(version, route, request, content)
    version.require(body, route.required)
    body.refuse_unserved(route.kind)
    call = Call(engine, _context(request, body, caller, deadline), body, _int64_as_text(request))
    visit.context, visit.subject = call.context, body
    if entry is not None:
        entry.database, entry.names = call.context.database, _names(body)
    try:
        answer = route.handler(call)
    except MilvineError as error:
        refusal = version.refusal(error, call.context)
        if refusal is error:
            raise
        raise refusal from error
    if time.monotonic() > deadline:
        raise RequestTimeout
    return answer if isinstance(answer, Content) else {"code": version.success, **answer}


def _body(version: Version, route: Route, request: falcon.Request, content: bytes) -> Body:
    if route.method == "GET":
        return Body(route.kind, {name: request.get_param(name) for name in request.params})
    return parse(route.kind, content, version.text_of_no_body)


class _Endpoint:
    """One route."""

    def __init__(self, engine: Engine, guard: Guard, version: Version, path: str) -> None:
        self._engine = engine
        self._guard = guard
        self._version = version
        self._path = version.label + path
        self._route = version.routes[path]

    def serve(self, request: falcon.Request, response: falcon.Response) -> None:
        started = time.perf_counter()
        audit = self._engine.audit
        entry = None if audit is None else _entry(self._path, request)
        content: Content | None = None
        answer: dict[str, Any]
        try:
            self._guard.check(request)
            found = _answer(self._engine, self._version, self._route, request, entry)
            if isinstance(found, Content):
                content, answer = found, {"code": self._version.success}
            else:
                answer = found
        except BodyLost:
            answer = _failure(RestBadJson("error: unexpected EOF"))
        except MilvineError as error:
            response.status = _STATUS.get(type(error), falcon.HTTP_200)
            answer = _failure(error)
        except Exception as error:  # noqa: BLE001 - the adapter is where a bug becomes an answer
            _log.exception("%s failed", self._path)
            answer = _failure(UnexpectedError(f"{type(error).__name__}: {error}"))
        if audit is not None and entry is not None:
            audit.write(entry, answer["code"])
        response.content_type = _JSON if content is None else content.media_type
        given_id = given_request_id(request.env)
        trace_id = given_id if _TRACE.fullmatch(given_id) else secrets.token_hex(16)
        response.set_header("X-Milvus-Trace-Id", trace_id)
        response.data = orjson.dumps(answer, option=_JSON_OPTIONS) if content is None else content.data
        seconds = time.perf_counter() - started
        code = 0 if answer["code"] == self._version.success else answer["code"]
        metrics.requests_of("rest", self._path, code).inc()
        metrics.seconds_of(self._path).observe(seconds)
        if self._engine.request_log.wants(code, seconds):
            self._write_down(request, code, answer.get("message", "") if code else "", seconds, given_id or trace_id)

    def _write_down(self, request: falcon.Request, code: int, message: str, seconds: float, request_id: str) -> None:
        visit: Visit = request.env[_VISIT]
        context, body = visit.context, visit.subject
        handled = Handled(
            protocol="rest",
            call=self._path,
            code=code,
            seconds=seconds,
            message=message,
            user=(context and context.user) or users.claimed_user(request.get_header("Authorization") or ""),
            address=client_address(request.env),
            database=context.database if context else "",
            names=_names(body) if body else {},
            request_id=request_id,
            trace_parent=request.env.get("HTTP_TRACEPARENT", ""),
            searches=tuple(context.searches) if context else (),
        )
        self._engine.request_log.write(handled)

    def on_options(self, request: falcon.Request, response: falcon.Response) -> None:
        raise falcon.HTTPNotFound


class _Post(_Endpoint):
    on_post = _Endpoint.serve


class _Get(_Endpoint):
    on_get = _Endpoint.serve


_ENDPOINTS: dict[str, type[_Endpoint]] = {"POST": _Post, "GET": _Get}


def _failure(error: MilvineError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message}


class _Health:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Text, or JSON as on Milvus's health page if the content type of the request is JSON."""
        healthy, reasons = admin.is_serving(self._engine)
        response.status = falcon.HTTP_200 if healthy else falcon.HTTP_503
        state = "OK" if healthy else "; ".join(reasons)
        if request.content_type == "application/json":
            response.content_type = "application/json"
            detail = {"name": "standalone", "code": _HEALTHY if healthy else _INITIALIZING}
            response.data = orjson.dumps({"state": state, "detail": [detail]})
        else:
            response.content_type = _TEXT
            response.data = state.encode()


class _Metrics:
    def __init__(self, engine: Engine) -> None:
        self._token = engine.settings.metrics_token

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        if not metrics.may_read(self._token, request.get_header("Authorization")):
            response.status = falcon.HTTP_401
            response.content_type = _TEXT
            response.data = b"401 metrics need a token"
            return
        response.content_type = "text/plain; version=0.0.4; charset=utf-8"
        response.data = metrics.exposition()


def _not_found(
    request: falcon.Request, response: falcon.Response, error: falcon.HTTPError, params: dict[str, Any]
) -> None:
    """The answer of Milvus's router to an unknown path or method."""
    response.status = falcon.HTTP_404
    response.content_type = _TEXT
    response.data = b"404 page not found"


def make_app(engine: Engine) -> Callable[[Visit, dict[str, Any], Any], Iterable[bytes]]:
    """A WSGI callable over the engine that also takes the visit of the request."""
    app = falcon.App(middleware=cross_origin(engine.settings))
    guard = Guard(engine.settings)
    for version in VERSIONS:
        for path, route in version.routes.items():
            app.add_route(version.prefix + path, _ENDPOINTS[route.method](engine, guard, version, path))
    app.add_route("/healthz", _Health(engine))
    app.add_route("/metrics", _Metrics(engine))
    page.add_routes(app, partial(openapi.describe, VERSIONS, unserved.ROUTES))
    app.add_error_handler(falcon.HTTPError, _not_found)

    def application(visit: Visit, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ[_VISIT] = visit
        answer: Iterable[bytes] = app(environ, start_response)
        return answer

    return application
