"""The one gate of the service: each capability declares what a caller needs, and the gate checks it first.

A capability is a function of an engine and a context. It is declared where it is defined, by `capability` or by
`for_every_user`; adapters call capabilities only, and name no privilege. A refusal does not depend on whether the
object exists.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial, wraps
from operator import attrgetter
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from milvine.errors import CollectionNotFound, PermissionDenied
from milvine.model.access_rules import PUBLIC, Access
from milvine.model.collections import DEFAULT_DATABASE, Collection
from milvine.model.privileges import ANY, CLUSTER_LEVEL, COLLECTION, LEVELS, PRIVILEGES, USER, object_type
from milvine.model.records import record
from milvine.service.context import ROOT, Engine, RequestContext, find_collection
from milvine.service.deny_rules import Kind, check_allowed

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Capability = Callable[Concatenate[Engine, RequestContext, _P], _R]
_DECLARATION = "__capability__"


@record
class Declaration:
    """What a capability needs. `privilege` is empty if every user may call it. `denied_as`: the kind of call that
    settings and properties of a database may deny."""

    privilege: str
    denied_as: Kind | None = None
    object_type: str = ""
    is_of_cluster: bool = False
    """Whether databases do not matter."""


class Target(NamedTuple):
    """What a call is about: names of collections, or of one user; the database, if it is not the context's; a role
    whose members may make the call; and a user who may make it with a password."""

    names: tuple[str, ...] = (ANY,)
    database: str = ""
    role: str = ""
    user: str = ""


_NO_OBJECT = Target()
_FindTarget = Callable[[Engine, RequestContext, tuple[Any, ...], dict[str, Any]], Target]


def declaration_of(function: Callable[..., Any]) -> Declaration | None:
    """None for a function that is no capability."""
    found: Declaration | None = getattr(function, _DECLARATION, None)
    return found


def enter(engine: Engine, context: RequestContext, declaration: Declaration, target: Target = _NO_OBJECT) -> None:
    """Raises PermissionDenied, and AccessDisabled or a refusal of the rates."""
    require(engine, context, declaration, target)
    if declaration.denied_as:
        check_allowed(engine, context.database, declaration.denied_as)


def _roles(engine: Engine, context: RequestContext) -> frozenset[str] | None:
    """The roles by which the caller acts, beside `public`; None if the caller may do everything. A key that is limited
    to some roles has those of them that its user has."""
    settings = engine.settings
    if not settings.authorization_enabled:
        return None
    user, key = context.caller
    limits = None if key is None else key.roles
    if user == ROOT and not settings.root_needs_role:
        return limits
    held = engine.catalog.snapshot.access.held_by(user)
    return held if limits is None else held & limits


def _access(engine: Engine, context: RequestContext) -> Access | None:
    """What the caller may do, None for everything."""
    roles = _roles(engine, context)
    return None if roles is None else engine.catalog.snapshot.access.access_by(roles)


def require(engine: Engine, context: RequestContext, needed: Declaration, target: Target) -> None:
    """Raises PermissionDenied."""
    roles = _roles(engine, context) if needed.privilege else None
    if roles is None:
        return
    snapshot = engine.catalog.snapshot
    user, privilege = context.user, needed.privilege
    database = ANY if needed.is_of_cluster else target.database or context.database
    if _is_about_oneself(context, needed, target):
        return
    if target.role and (target.role == PUBLIC or target.role in roles):
        return
    access = snapshot.access.access_by(roles)
    for name in target.names:
        alias = snapshot.aliases.get((database, name)) if needed.object_type == COLLECTION else None
        real_name = name if alias is None else snapshot.collections[alias.collection_id].name
        if access.allows(privilege, database, real_name):
            continue
        # Clients that know no databases grant in the default one what belongs to no database.
        if not needed.is_of_cluster or not access.allows(privilege, DEFAULT_DATABASE, real_name):
            raise PermissionDenied(privilege, user, database)


def _is_about_oneself(context: RequestContext, needed: Declaration, target: Target) -> bool:
    """What users may do to themselves, by a password: a key gives what roles grant and no more."""
    user, key = context.caller
    return key is None and ((needed.object_type == USER and target.names == (user,)) or target.user == user)


def sees_everything(engine: Engine, context: RequestContext) -> bool:
    """Whether the caller may do, and so see, everything."""
    return _access(engine, context) is None


def sees(engine: Engine, context: RequestContext, collection: Collection) -> bool:
    """Whether the caller may know that there is this collection."""
    return sees_name(engine, context, collection.database, collection.name)


def sees_name(engine: Engine, context: RequestContext, database: str, name: str) -> bool:
    """Whether the caller may know whether there is a collection of this name, which is no alias."""
    access = _access(engine, context)
    return access is None or access.sees(database, name)


def sees_database(engine: Engine, context: RequestContext, name: str) -> bool:
    access = _access(engine, context)
    return access is None or access.sees_database(name)


def find_seen(engine: Engine, context: RequestContext, name: str) -> Collection:
    """As `find_collection`; a collection that the caller may not see is not found."""
    collection = find_collection(engine, context, name)
    if not sees(engine, context, collection):
        raise CollectionNotFound(name, context.database)
    return collection


def capability(
    privilege: str,
    *,
    on: str = "",
    by_id: str = "",
    moves_to: str = "",
    for_members_of: str = "",
    for_oneself: str = "",
    denied_as: Kind | None = None,
) -> Callable[[_Capability[_P, _R]], _Capability[_P, _R]]:
    """Declares a capability that needs a privilege.

    The others name parameters, or an attribute of one, as `request.name`. `on`: the collection or the user, or a
    sequence of collections, each of which needs the privilege. `by_id`: the collection's id, if it has no name.
    `moves_to`: a database; another one than the context's needs the privilege in all databases. `for_members_of`: a
    role, whose members need no privilege. `for_oneself`: a user, who needs none; empty for the caller.
    """
    assert privilege in PRIVILEGES, privilege
    is_of_cluster = LEVELS.get(privilege) == CLUSTER_LEVEL
    declaration = Declaration(privilege, denied_as, object_type(privilege), is_of_cluster)

    def find_target(function: Callable[..., Any]) -> _FindTarget | None:
        read = partial(_reader, function)
        if by_id:
            return _by_name_or_id(read(on) if on else read("name"), read(by_id))
        if moves_to:
            wanted = read(moves_to)
            return lambda _, context, args, given: Target(
                database=ANY if wanted(args, given) not in ("", context.database) else ""
            )
        if for_members_of:
            role = read(for_members_of)
            return lambda _engine, _context, args, given: Target(role=role(args, given))
        if for_oneself:
            user = read(for_oneself)
            return lambda _engine, context, args, given: Target(user=user(args, given) or context.user)
        if not on:
            return None
        names = read(on)
        return lambda _engine, _context, args, given: Target(_as_names(names(args, given)))

    return _declared(declaration, find_target)


def for_every_user(*, denied_as: Kind | None = None) -> Callable[[_Capability[_P, _R]], _Capability[_P, _R]]:
    """Declares a capability that every user has. It shows callers only what they may see."""
    return _declared(Declaration("", denied_as), lambda _function: None)


def _declared(
    declaration: Declaration, find_target: Callable[[Callable[..., Any]], _FindTarget | None]
) -> Callable[[_Capability[_P, _R]], _Capability[_P, _R]]:
    def declare(function: _Capability[_P, _R]) -> _Capability[_P, _R]:
        find = find_target(function)

        @wraps(function)
        def gated(engine: Engine, context: RequestContext, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
            target = _NO_OBJECT
            if find is not None and engine.settings.authorization_enabled:
                target = find(engine, context, args, kwargs)
            enter(engine, context, declaration, target)
            return function(engine, context, *args, **kwargs)

        setattr(gated, _DECLARATION, declaration)
        return gated

    return declare


_Read = Callable[[tuple[Any, ...], dict[str, Any]], Any]


def _reader(function: Callable[..., Any], path: str) -> _Read:
    """Reads a parameter, or an attribute of one, of a call of `function` after the engine and the context."""
    name, _, attribute = path.partition(".")
    parameters = list(inspect.signature(function).parameters.values())[2:]
    index, parameter = next((i, p) for i, p in enumerate(parameters) if p.name == name)
    read_attribute = attrgetter(attribute) if attribute else None

    def read(args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        value = args[index] if len(args) > index else given.get(name, parameter.default)
        return value if read_attribute is None else read_attribute(value)

    return read


def _as_names(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """No name at all needs the privilege on every collection."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) or ("",)


def _by_name_or_id(name: _Read, collection_id: _Read) -> _FindTarget:
    """The collection by its name or, if that is empty, by an id in any database."""

    def find(engine: Engine, context: RequestContext, args: tuple[Any, ...], given: dict[str, Any]) -> Target:
        named, number = name(args, given), collection_id(args, given)
        collection = None if named or not number else engine.catalog.snapshot.collections.get(number)
        if collection is None:
            return Target((named,))
        return Target((collection.name,), collection.database)

    return find
