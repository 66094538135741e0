"""Users and their passwords."""

from __future__ import annotations

import logging
import math
import string

from milvine import logs
from milvine.catalog import users as changes
from milvine.errors import ParameterInvalid, ParameterOutOfRange, PrivilegeNotAuthenticated, PrivilegeNotPermitted
from milvine.model.users import User
from milvine.service.context import ROOT, Engine, RequestContext
from milvine.service.gate import capability
from milvine.service.passwords import hash_password

_log = logging.getLogger(__name__)
_SHOWN_CHARACTERS = 64
_MAX_USERS = 100
_MAX_NAME_BYTES = 32
_MIN_PASSWORD_BYTES, _MAX_PASSWORD_BYTES = 6, 72
_MAX_DESCRIPTION_BYTES = 1024
_LETTERS = frozenset(string.ascii_letters)
_NAME_CHARACTERS = _LETTERS | frozenset(string.digits + "_-.")


def ensure_root(engine: Engine) -> None:
    """The first user, made at the first start. A later start keeps a changed password."""
    if ROOT not in engine.catalog.snapshot.users:
        made = hash_password(engine.settings.default_root_password)
        changes.create_user(engine.catalog, User(ROOT, made, engine.clock.next()), _MAX_USERS)


class TooManyFailures(Exception):
    """The login failed too often; it may be tried again in `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = math.ceil(seconds)
        super().__init__(f"too many failed logins, try again in {self.seconds} s")


def authenticate(engine: Engine, name: str, password: str, address: str = "") -> bool:
    """Whether `password` is this user's. After too many failures it raises TooManyFailures without a check."""
    user = engine.catalog.snapshot.users.get(name)
    stored = None if user is None else user.password_hash
    if stored is not None and engine.passwords.is_known(password, stored):
        return True
    seconds = engine.logins.seconds_to_wait(name, address)
    if seconds:
        raise TooManyFailures(seconds)
    is_right = engine.passwords.verify(password, stored)
    if is_right and stored is not None and not _is_current(engine, name, stored):
        engine.passwords.forget(stored)
        is_right = False
    (engine.logins.succeeded if is_right else engine.logins.failed)(name, address)
    if not is_right:
        logs.event(_log, logging.WARNING, "login failed", user=name[:_SHOWN_CHARACTERS], address=address)
    return is_right


def _is_current(engine: Engine, name: str, stored: str) -> bool:
    """Whether this is the user's hash still: a hash may wait for others, and the password change meanwhile."""
    user = engine.catalog.snapshot.users.get(name)
    return user is not None and user.password_hash == stored


def check_user_name(name: str) -> None:
    name = name.strip()
    if not name:
        raise ParameterInvalid("username must be not empty")
    size = len(name.encode())
    if size > _MAX_NAME_BYTES:
        raise ParameterInvalid(
            f"invalid username {name} with length {size}, the length of username must be less than {_MAX_NAME_BYTES}"
        )
    if name[0] not in _LETTERS:
        raise ParameterInvalid(f"invalid user name {name}, the first character must be a letter, but got {name[0]}")
    strange = next((c for c in name if c not in _NAME_CHARACTERS), None)
    if strange is not None:
        raise ParameterInvalid(
            f"invalid user name {name}, username must contain only numbers, letters, underscores, dots, and hyphens, "
            f"but got {strange}"
        )


def _check_password(password: str) -> None:
    size = len(password.encode("utf-8", "surrogateescape"))
    if not _MIN_PASSWORD_BYTES <= size <= _MAX_PASSWORD_BYTES:
        raise ParameterOutOfRange("invalid password length", size, _MIN_PASSWORD_BYTES, _MAX_PASSWORD_BYTES)


def _check_description(description: str) -> None:
    size = len(description.encode())
    if size > _MAX_DESCRIPTION_BYTES:
        raise ParameterInvalid(
            f"invalid user description with length {size}, the length of user description must be less than or equal "
            f"to {_MAX_DESCRIPTION_BYTES}"
        )


@capability("CreateOwnership")
def create_user(engine: Engine, context: RequestContext, name: str, password: str, description: str = "") -> None:
    check_user_name(name)
    _check_description(description)
    _check_password(password)
    user = User(name, hash_password(password), engine.clock.next(), description)
    changes.create_user(engine.catalog, user, _MAX_USERS)


def _is_super_user(engine: Engine, context: RequestContext) -> bool:
    """With a password: a key never replaces one."""
    return bool(context.user) and context.caller.key is None and context.user in engine.settings.super_users.split(",")


def _check_old_password(engine: Engine, name: str, password: str) -> None:
    try:
        is_right = authenticate(engine, name, password)
    except TooManyFailures as error:
        raise PrivilegeNotAuthenticated(f"old password of {name}: {error}") from None
    if not is_right:
        raise PrivilegeNotAuthenticated(f"old password not correct for {name}")


@capability("UpdateUser", on="name")
def update_user(
    engine: Engine,
    context: RequestContext,
    name: str,
    old_password: str = "",
    new_password: str = "",
    description: str | None = None,
) -> None:
    """Changes a password, given the old one, or a description. Later calls with the old password are refused."""
    _check_description(description or "")
    if not new_password and description is None:
        raise ParameterInvalid("must update either password or description")
    made = None
    if new_password:
        _check_password(new_password)
        if not _is_super_user(engine, context):
            _check_old_password(engine, name, old_password)
        made = hash_password(new_password)
    before = engine.catalog.snapshot.users.get(name)
    changes.update_user(engine.catalog, name, made, description)
    if made is not None and before is not None:
        engine.passwords.forget(before.password_hash)


@capability("DropOwnership")
def drop_user(engine: Engine, context: RequestContext, name: str) -> None:
    """No error if the user does not exist."""
    if name == ROOT:
        raise PrivilegeNotPermitted("root user cannot be deleted")
    before = engine.catalog.snapshot.users.get(name)
    if before is not None:
        changes.drop_user(engine.catalog, name)
        engine.passwords.forget(before.password_hash)


@capability("SelectOwnership")
def list_users(engine: Engine, context: RequestContext) -> list[str]:
    return sorted(engine.catalog.snapshot.users)
