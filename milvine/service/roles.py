"""Roles, and the users who have them."""

from __future__ import annotations

from collections.abc import Sequence

from milvine.catalog import roles as changes
from milvine.errors import ParameterInvalid, ParameterOutOfRange, PrivilegeNotPermitted
from milvine.model.access_rules import BUILT_IN_ROLES, PUBLIC, Grant
from milvine.model.privileges import ANY, COLLECTION, GLOBAL
from milvine.model.records import record
from milvine.service.context import ROOT, Engine, RequestContext
from milvine.service.gate import capability
from milvine.service.users import check_user_name

_MAX_NAME_BYTES, _MAX_DESCRIPTION_BYTES = 255, 1024
_SIGNS = "$"
_PUBLIC_GRANTS = (
    Grant(PUBLIC, GLOBAL, ANY, ANY, "DescribeCollection"),
    Grant(PUBLIC, GLOBAL, ANY, ANY, "ListAliases"),
    Grant(PUBLIC, COLLECTION, ANY, ANY, "IndexDetail"),
)


@record
class RoleDescription:
    """`users` are those to whom the role was added."""

    name: str
    description: str
    users: tuple[str, ...]


@record
class UserDescription:
    """`roles` are those that were added to the user."""

    name: str
    description: str
    roles: tuple[str, ...]


def ensure_public_privileges(engine: Engine) -> None:
    """Grants what every user may do, at each start as Milvus does, unless it is switched off."""
    if engine.settings.public_privileges and not engine.catalog.snapshot.access.grants.keys() >= set(_PUBLIC_GRANTS):
        changes.grant(engine.catalog, _PUBLIC_GRANTS, ROOT)


def check_name(name: str, kind: str) -> None:
    """Raises ParameterInvalid as Milvus does for names of roles and of what is granted."""
    stripped = name.strip()
    if not stripped:
        error = ParameterInvalid(f"{kind} should be not empty", expected="not empty", actual=stripped)
        raise error
    size = len(stripped.encode("utf-8", "surrogateescape"))
    if size > _MAX_NAME_BYTES:
        raise ParameterOutOfRange(f"the length of {kind} must be not greater than limit", size, 0, _MAX_NAME_BYTES)
    first = stripped[0]
    if not (first == "_" or (first.isascii() and first.isalpha())):
        detail = f"the first character of {kind} must be an underscore or letter"
        raise ParameterInvalid(detail, expected=ord("_"), actual=ord(first))
    for position, sign in enumerate(stripped):
        if not (sign.isascii() and (sign.isalnum() or sign == "_")) and sign not in _SIGNS:
            raise ParameterInvalid(
                f"{kind} can only contain numbers, letters, underscores, and allowed characters ({_SIGNS}), "
                f"found {sign} at {position}"
            )


def check_role_name(name: str) -> None:
    check_name(name, "role name")


def check_role_description(description: str) -> None:
    size = len(description.encode())
    if size > _MAX_DESCRIPTION_BYTES:
        detail = "the length of role description must be not greater than limit"
        raise ParameterOutOfRange(detail, size, 0, _MAX_DESCRIPTION_BYTES)


def _refuse_built_in(name: str, what: str) -> None:
    if name in BUILT_IN_ROLES:
        raise PrivilegeNotPermitted(f"the role[{name}] is a default role, which can't be {what}")


@capability("CreateOwnership")
def create_role(engine: Engine, context: RequestContext, name: str, description: str = "") -> None:
    check_role_name(name)
    check_role_description(description)
    changes.create_role(engine.catalog, name, description, engine.settings.max_roles)


@capability("CreateOwnership")
def alter_role(engine: Engine, context: RequestContext, name: str, description: str) -> None:
    check_role_name(name)
    check_role_description(description)
    _refuse_built_in(name, "altered")
    changes.alter_role(engine.catalog, name, description)


@capability("DropOwnership")
def drop_role(engine: Engine, context: RequestContext, name: str, *, force: bool = False) -> None:
    check_role_name(name)
    _refuse_built_in(name, "dropped")
    changes.drop_role(engine.catalog, name, force=force)


@capability("ManageOwnership")
def add_user_to_role(engine: Engine, context: RequestContext, user: str, role: str) -> None:
    check_user_name(user)
    check_role_name(role)
    changes.add_user_to_role(engine.catalog, user, role)


@capability("ManageOwnership")
def remove_user_from_role(engine: Engine, context: RequestContext, user: str, role: str) -> None:
    check_user_name(user)
    check_role_name(role)
    changes.remove_user_from_role(engine.catalog, user, role)


@capability("SelectOwnership")
def list_roles(engine: Engine, context: RequestContext, name: str | None = None) -> list[RoleDescription]:
    """All roles by name, or the named one, if it exists."""
    if name is not None:
        check_role_name(name)
    rules = engine.catalog.snapshot.access
    wanted: Sequence[str] = sorted(rules.roles) if name is None else [name] if name in rules.roles else []
    return [RoleDescription(n, rules.roles[n], tuple(rules.members_of(n))) for n in wanted]


@capability("SelectUser", on="name")
def list_users_with_roles(engine: Engine, context: RequestContext, name: str = ANY) -> list[UserDescription]:
    """All users by name, or the named one, if it exists."""
    if name != ANY:
        check_user_name(name)
    users, rules = engine.catalog.snapshot.users, engine.catalog.snapshot.access
    wanted: Sequence[str] = sorted(users) if name == ANY else [name] if name in users else []
    return [UserDescription(n, users[n].description, tuple(sorted(rules.held_by(n)))) for n in wanted]
