"""The one gate of the service: each capability declares what a caller needs, and the gate checks it first.

A capability is a function of an engine and a context. It is declared where it is defined, by `capability` or by
`for_every_user`; adapters call capabilities only, and name no privilege.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from milvine.model.privileges import PRIVILEGES
from milvine.service.context import Engine, RequestContext
from milvine.service.deny_rules import Kind, check_allowed

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Capability = Callable[Concatenate[Engine, RequestContext, _P], _R]
_DECLARATION = "__capability__"


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a capability needs. `privilege` is empty if every user may call it. `denied_as`: the kind of call that
    settings and properties of a database may deny."""

    privilege: str
    denied_as: Kind | None = None


def declaration_of(function: Callable[..., Any]) -> Declaration | None:
    """None for a function that is no capability."""
    found: Declaration | None = getattr(function, _DECLARATION, None)
    return found


def enter(engine: Engine, context: RequestContext, declaration: Declaration) -> None:
    """Raises AccessDisabled."""
    if declaration.denied_as:
        check_allowed(engine, context.database, declaration.denied_as)


def capability(
    privilege: str, *, on: str = "", denied_as: Kind | None = None
) -> Callable[[_Capability[_P, _R]], _Capability[_P, _R]]:
    """Declares a capability that needs a privilege. `on` is the parameter that names the collection or the user, or an
    attribute of a parameter, as `request.name`; a sequence of names needs the privilege on each."""
    assert privilege in PRIVILEGES, privilege
    return _declared(Declaration(privilege, denied_as), on)


def for_every_user(*, denied_as: Kind | None = None) -> Callable[[_Capability[_P, _R]], _Capability[_P, _R]]:
    """Declares a capability that every user has. It shows callers only what they may see."""
    return _declared(Declaration("", denied_as), "")


def _declared(declaration: Declaration, on: str) -> Callable[[_Capability[_P, _R]], _Capability[_P, _R]]:
    def declare(function: _Capability[_P, _R]) -> _Capability[_P, _R]:
        @wraps(function)
        def gated(engine: Engine, context: RequestContext, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
            enter(engine, context, declaration)
            return function(engine, context, *args, **kwargs)

        setattr(gated, _DECLARATION, declaration)
        return gated

    return declare
