"""/milvine/v1/api_keys/: API keys, which are shown once, when they are made."""

from __future__ import annotations

from typing import Any

from milvine.logs import timestamp
from milvine.model.timestamps import physical_ms
from milvine.model.users import ApiKey
from milvine.rest_api.call import Call, Route
from milvine.service import api_keys


def _described(key: ApiKey) -> dict[str, Any]:
    """Without the key itself. `roles` is null if the key has all roles of its user."""
    return {
        "userName": key.user,
        "keyName": key.name,
        "keyId": key.key_id,
        "roles": None if key.roles is None else sorted(key.roles),
        "created": timestamp(physical_ms(key.created_ts) / 1000),
        "expires": timestamp(key.expires_ms / 1000),
        "isExpired": api_keys.is_expired(key),
    }


def _user(call: Call) -> str:
    return call.body.text("userName")


def _name(call: Call) -> str:
    return call.body.text("keyName")


def create(call: Call) -> dict[str, Any]:
    body = call.body
    roles = None if body.value("roles") is None else body.texts("roles")
    seconds = body.integer("expiresInSeconds", api_keys.DEFAULT_SECONDS)
    key, token = api_keys.create_key(call.engine, call.context, _user(call), _name(call), roles=roles, seconds=seconds)
    return {"data": {**_described(key), "apiKey": token}}


def drop(call: Call) -> dict[str, Any]:
    api_keys.drop_key(call.engine, call.context, _user(call), _name(call))
    return {"data": {}}


def describe(call: Call) -> dict[str, Any]:
    return {"data": _described(api_keys.describe_key(call.engine, call.context, _user(call), _name(call)))}


def list_all(call: Call) -> dict[str, Any]:
    return {"data": [_described(key) for key in api_keys.list_keys(call.engine, call.context, _user(call))]}


OUR_ROUTES: dict[str, Route] = {
    "api_keys/create": Route(create, "ApiKeyReq", ("keyName",)),
    "api_keys/describe": Route(describe, "ApiKeyReq", ("keyName",)),
    "api_keys/drop": Route(drop, "ApiKeyReq", ("keyName",)),
    "api_keys/list": Route(list_all, "ApiKeyReq", ()),
}
