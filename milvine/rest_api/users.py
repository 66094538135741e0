"""/v2/vectordb/users/, and the user of a request."""

from __future__ import annotations

import base64
from typing import Any

from milvine.errors import RestNeedAuthenticate
from milvine.intake import client_address
from milvine.model.users import Caller
from milvine.rest_api.call import Call, Route
from milvine.service import api_keys, certificates, users
from milvine.service.context import Engine


def authenticated(engine: Engine, environ: dict[str, Any]) -> Caller:
    """The caller by `Authorization`: Basic, Bearer, or plain, `user:password` or an API key; without it by the client's
    certificate. Raises RestNeedAuthenticate."""
    authorization = environ.get("HTTP_AUTHORIZATION")
    if authorization is None:
        by_certificate = certificates.caller_by_certificate(engine, environ.get(certificates.HEADER))
        if by_certificate is None:
            raise RestNeedAuthenticate
        return by_certificate
    try:
        token = _token(authorization)
    except ValueError:
        raise RestNeedAuthenticate from None
    name, separator, password = token.partition(":")
    if not separator:
        caller = api_keys.caller_by_key(engine, token)
        if caller is None:
            raise RestNeedAuthenticate
        return caller
    try:
        is_let_in = bool(password) and users.authenticate(engine, name, password, client_address(environ))
    except users.TooManyFailures as error:
        raise RestNeedAuthenticate(f"{RestNeedAuthenticate.text}, {error}") from None
    if not is_let_in:
        raise RestNeedAuthenticate
    return Caller(name)


def claimed_user(authorization: str) -> str:
    """The user that the header names, whose password is not checked; "" if it names none."""
    try:
        name, separator, _ = _token(authorization).partition(":")
    except ValueError:
        return ""
    return name if separator else ""


def _token(authorization: str) -> str:
    """Raises ValueError if the header should be base64 and is not."""
    if authorization[:6].lower() == "basic ":
        return base64.b64decode(authorization[6:], validate=True).decode("utf-8", "surrogateescape")
    return authorization.removeprefix("Bearer ")


def _done() -> dict[str, Any]:
    return {"data": {}}


def create_user(call: Call) -> dict[str, Any]:
    body = call.body
    users.create_user(call.engine, call.context, body.text("userName"), body.text("password"), body.text("description"))
    return _done()


def update_password(call: Call) -> dict[str, Any]:
    body = call.body
    description = body.text("description") if body.value("description") is not None else None
    users.update_user(
        call.engine, call.context, body.text("userName"), body.text("password"), body.text("newPassword"), description
    )
    return _done()


def drop_user(call: Call) -> dict[str, Any]:
    users.drop_user(call.engine, call.context, call.body.text("userName"))
    return _done()


def list_users(call: Call) -> dict[str, Any]:
    return {"data": users.list_users(call.engine, call.context)}


ROUTES: dict[str, Route] = {
    "users/create": Route(create_user, "PasswordReq", ("userName", "password")),
    "users/drop": Route(drop_user, "UserReq", ("userName",)),
    "users/list": Route(list_users, "DatabaseReq", ()),
    "users/update_password": Route(update_password, "NewPasswordReq", ("userName",)),
}
