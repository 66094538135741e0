"""Users over gRPC: the credential RPCs, and the user of a call."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from milvine.errors import ParameterInvalid
from milvine.grpc_api import encode
from milvine.grpc_api.proto import milvus_pb2
from milvine.intake import client_address
from milvine.model.users import Caller
from milvine.service import api_keys, certificates, users
from milvine.service.context import Engine, RequestContext

_WRONG_PASSWORD = "auth check failure, please check username and password are correct"


class Unauthenticated(Exception):
    """Why a caller is refused, in Milvus's words."""


def authenticated(engine: Engine, environ: dict[str, Any]) -> Caller:
    """The caller by `authorization`: `user:password`, plain or as base64, or an API key as base64; without it by the
    client's certificate. Raises Unauthenticated."""
    authorization = environ.get("HTTP_AUTHORIZATION")
    if authorization is None:
        by_certificate = certificates.caller_by_certificate(engine, environ.get(certificates.HEADER))
        if by_certificate is None:
            raise Unauthenticated("missing authorization in header")
        return by_certificate
    token = authorization if ":" in authorization else _decoded_token(authorization)
    name, separator, password = token.partition(":")
    if not separator:
        caller = api_keys.caller_by_key(engine, token)
        if caller is None:
            raise Unauthenticated("auth check failure, please check api key is correct")
        return caller
    try:
        is_let_in = users.authenticate(engine, name, password, client_address(environ))
    except users.TooManyFailures as error:
        raise Unauthenticated(f"{_WRONG_PASSWORD}; {error}") from None
    if not is_let_in:
        raise Unauthenticated(_WRONG_PASSWORD)
    return Caller(name)


def claimed_user(authorization: str | None) -> str:
    """The user that a token names, whose password is not checked; "" if it names none."""
    if not authorization:
        return ""
    try:
        name, separator, _ = (authorization if ":" in authorization else _decoded(authorization)).partition(":")
    except ValueError:
        return ""
    return name if separator else ""


def _decoded_token(authorization: str) -> str:
    try:
        return _decoded(authorization)
    except ValueError:
        raise Unauthenticated("invalid token format") from None


def _decoded(text: str) -> str:
    """Raises ValueError if the text is not base64."""
    return base64.b64decode(text, validate=True).decode("utf-8", "surrogateescape")


def _password(text: str, failure: str) -> str:
    try:
        return _decoded(text)
    except binascii.Error:
        raise ParameterInvalid(f"{failure}: illegal base64 data") from None


def create_credential(engine: Engine, context: RequestContext, request: Any) -> Any:
    users.create_user(
        engine, context, request.username, _password(request.password, "decode password fail"), request.description
    )
    return encode.status()


def update_credential(engine: Engine, context: RequestContext, request: Any) -> Any:
    old, new = "", ""
    if request.newPassword:
        old = _password(request.oldPassword, "decode old password failed")
        new = _password(request.newPassword, "decode password failed")
    description = request.description if request.HasField("description") else None
    users.update_user(engine, context, request.username, old, new, description)
    return encode.status()


def delete_credential(engine: Engine, context: RequestContext, request: Any) -> Any:
    users.drop_user(engine, context, request.username)
    return encode.status()


def list_cred_users(engine: Engine, context: RequestContext, request: Any) -> Any:
    return milvus_pb2.ListCredUsersResponse(status=encode.status(), usernames=users.list_users(engine, context))


RPCS: dict[str, Callable[[Engine, RequestContext, Any], Any]] = {
    "CreateCredential": create_credential,
    "DeleteCredential": delete_credential,
    "ListCredUsers": list_cred_users,
    "UpdateCredential": update_credential,
}
