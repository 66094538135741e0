"""API keys: what a user's programs give in place of the user's password.

A key acts as its user, with all roles of the user or with some of them. It does not stand for the password: what users
may do to themselves needs that, and so do keys of root.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence

from milvine.catalog import api_keys as changes
from milvine.catalog.contents import Snapshot
from milvine.errors import ApiKeyNotFound, ParameterInvalid, ParameterOutOfRange, PrivilegeNotPermitted
from milvine.model.privileges import ANY
from milvine.model.users import ANYONE, ApiKey, Caller
from milvine.service.context import ROOT, Engine, RequestContext
from milvine.service.gate import capability
from milvine.service.roles import check_role_name
from milvine.service.users import check_user_name

_PREFIX = "mvk_"
_ID_DIGITS, _SECRET_BYTES, _SECRET_CHARACTERS = 16, 32, 43
_ID = slice(len(_PREFIX), len(_PREFIX) + _ID_DIGITS)
_CHARACTERS = _ID.stop + 1 + _SECRET_CHARACTERS
_NO_DIGEST = "0" * 64
_MAX_KEYS_OF_A_USER = 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_DAY_SECONDS = 24 * 60 * 60
DEFAULT_SECONDS, _MAX_SECONDS = 90 * _DAY_SECONDS, 3650 * _DAY_SECONDS


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _now_ms() -> int:
    return int(time.time() * 1000)


def is_expired(key: ApiKey) -> bool:
    return key.is_expired(_now_ms())


def caller_by_key(engine: Engine, token: str) -> Caller | None:
    """The caller whose key this is; None if it is no key, or one that was dropped or has expired. Failures are not
    throttled: 256 random bits cannot be guessed, and a look at them costs less than a look at the throttle."""
    if len(token) != _CHARACTERS:
        return None
    key = engine.catalog.snapshot.api_keys.get(token[_ID])
    is_right = hmac.compare_digest(_digest(token), _NO_DIGEST if key is None else key.digest)
    if key is None or not is_right or is_expired(key):
        return None
    return Caller(key.user, key)


def _check_key_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ParameterInvalid(
            f"invalid key name {name[:64]!r}, it must have 1 to 64 letters, digits, underscores, dots and hyphens, and "
            "begin with a letter or an underscore"
        )


@capability("ManageOwnership", for_oneself="user")
def create_key(
    engine: Engine,
    context: RequestContext,
    user: str,
    name: str,
    *,
    roles: Sequence[str] | None = None,
    seconds: int = DEFAULT_SECONDS,
) -> tuple[ApiKey, str]:
    """The key's description and the key, which is not stored. `user`: empty for the caller; `roles`: those that the key
    is limited to, None for all roles of its user; it expires after `seconds`."""
    user = user or context.user
    check_user_name(user)
    _check_key_name(name)
    if roles is not None and not roles:
        raise ParameterInvalid("a key needs at least one role, or no list of roles to have all of its user")
    for role in roles or ():
        check_role_name(role)
    if not 1 <= seconds <= _MAX_SECONDS:
        raise ParameterOutOfRange("invalid seconds until a key expires", seconds, 1, _MAX_SECONDS)
    if user == ROOT and context.caller not in (ANYONE, Caller(ROOT)):
        raise PrivilegeNotPermitted("only root makes API keys of root, with the password")
    key_id = secrets.token_hex(_ID_DIGITS // 2)
    token = f"{_PREFIX}{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    now_ms = _now_ms()
    limits = None if roles is None else frozenset(roles)
    key = ApiKey(key_id, user, name, _digest(token), limits, engine.clock.next(), now_ms + 1000 * seconds)
    changes.create_key(engine.catalog, key, _MAX_KEYS_OF_A_USER, now_ms, lambda found: _check_roles(engine, found, key))
    return key, token


def _check_roles(engine: Engine, snapshot: Snapshot, key: ApiKey) -> None:
    """A key is limited to roles that there are, and that its user has."""
    rules = snapshot.access
    has_all = key.user == ROOT and not engine.settings.root_needs_role
    for role in sorted(key.roles or ()):
        if role not in rules.roles or not (has_all or rules.has_role(key.user, role)):
            raise ParameterInvalid(f"the user {key.user} does not have the role {role}")


@capability("ManageOwnership", for_oneself="user")
def drop_key(engine: Engine, context: RequestContext, user: str, name: str) -> None:
    """`user`: empty for the caller."""
    changes.drop_key(engine.catalog, user or context.user, name)


@capability("SelectOwnership", for_oneself="user")
def list_keys(engine: Engine, context: RequestContext, user: str = "") -> list[ApiKey]:
    """The keys of a user by name, also expired ones; empty: of the caller, `*`: of all users."""
    wanted = user or context.user or ANY
    found = engine.catalog.snapshot.api_keys.values()
    return sorted((k for k in found if wanted in (ANY, k.user)), key=lambda k: (k.user, k.name))


@capability("SelectOwnership", for_oneself="user")
def describe_key(engine: Engine, context: RequestContext, user: str, name: str) -> ApiKey:
    """`user`: empty for the caller."""
    user = user or context.user
    for key in engine.catalog.snapshot.api_keys.values():
        if (key.user, key.name) == (user, name):
            return key
    raise ApiKeyNotFound(user, name)
