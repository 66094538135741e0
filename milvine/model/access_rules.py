"""Roles, who has them, and what they grant; and what one user may do by them.

The rules are immutable. A change makes new ones, so a decision is a few look-ups in dictionaries and takes no lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from milvine.model.privileges import (
    ALL,
    ANY,
    BUILT_IN_GROUPS,
    COLLECTION,
    COLLECTION_LEVEL,
    FIRST_GROUPS,
    GLOBAL,
    LEVELS,
    PRIVILEGES,
    object_type,
)
from milvine.model.records import record

ADMIN, PUBLIC = "admin", "public"
BUILT_IN_ROLES = (ADMIN, PUBLIC)
_NONE: frozenset[str] = frozenset()
_BY_TYPE = {kind: frozenset(p for p in PRIVILEGES if object_type(p) == kind) for kind in map(object_type, PRIVILEGES)}
_EVERYTHING = frozenset(PRIVILEGES)


class Grant(NamedTuple):
    """What a role may do. `object_type` is Global, Collection or User; `object_name` and `database` may be `*`.
    `privilege` is a privilege, a group, or `*`: all privileges on that type of object."""

    role: str
    object_type: str
    object_name: str
    database: str
    privilege: str


@record
class Access:
    """What one user may do. `on`: privileges by (database, object); `within`: privileges by database, on any object."""

    is_admin: bool
    on: Mapping[tuple[str, str], frozenset[str]]
    within: Mapping[str, frozenset[str]]
    seen: Mapping[str, frozenset[str]]
    """Names of the collections that the user may see, by database. Grants of `public` show none, as in Milvus."""
    seen_databases: frozenset[str]

    def allows(self, privilege: str, database: str, name: str) -> bool:
        """Whether the user has a privilege on an object; `name` does not matter for a privilege on no object."""
        if self.is_admin:
            return True
        on, within = self.on, self.within
        return (
            privilege in within.get(database, _NONE)
            or privilege in within.get(ANY, _NONE)
            or privilege in on.get((database, name), _NONE)
            or privilege in on.get((database, ANY), _NONE)
            or privilege in on.get((ANY, name), _NONE)
            or privilege in on.get((ANY, ANY), _NONE)
        )

    def sees(self, database: str, name: str) -> bool:
        """Whether the user may know that there is this collection."""
        if self.is_admin:
            return True
        here, everywhere = self.seen.get(database, _NONE), self.seen.get(ANY, _NONE)
        return name in here or ANY in here or name in everywhere or ANY in everywhere

    def sees_database(self, name: str) -> bool:
        return self.is_admin or not self.seen_databases.isdisjoint((name, ANY))


@dataclass(frozen=True)
class AccessRules:
    """`grants` maps each grant to the user who made it; `groups` are those of the users."""

    roles: Mapping[str, str] = field(default_factory=dict)
    """Descriptions by name."""
    roles_of: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The roles of each user, without `public`, unless it was added."""
    grants: Mapping[Grant, str] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _access: dict[frozenset[str], Access] = field(default_factory=dict, init=False, compare=False, repr=False)

    def held_by(self, user: str) -> frozenset[str]:
        """The roles of a user, as in `roles_of`."""
        return self.roles_of.get(user, _NONE)

    def access_by(self, roles: frozenset[str]) -> Access:
        """What these roles and `public` allow together."""
        found = self._access.get(roles)
        if found is None:
            found = self._access[roles] = self._make_access(roles)
        return found

    def members_of(self, role: str) -> list[str]:
        return sorted(user for user, roles in self.roles_of.items() if role in roles)

    def grants_of(self, role: str) -> Iterator[tuple[Grant, str]]:
        return ((grant, grantor) for grant, grantor in self.grants.items() if grant.role == role)

    def has_role(self, user: str, role: str) -> bool:
        """Every user has the role `public`."""
        return role == PUBLIC or role in self.held_by(user)

    def with_roles_of(self, user: str, roles: Iterable[str]) -> AccessRules:
        others = {name: held for name, held in self.roles_of.items() if name != user}
        kept = frozenset(roles)
        return replace(self, roles_of={**others, user: kept} if kept else others)

    def without_role(self, name: str) -> AccessRules:
        """Without the role, its grants and its members."""
        held = {user: roles - {name} for user, roles in self.roles_of.items()}
        return replace(
            self,
            roles={n: d for n, d in self.roles.items() if n != name},
            roles_of={user: roles for user, roles in held.items() if roles},
            grants={g: u for g, u in self.grants.items() if g.role != name},
        )

    def without_grants(self, removed: Iterable[Grant]) -> AccessRules:
        gone = frozenset(removed)
        return replace(self, grants={g: u for g, u in self.grants.items() if g not in gone})

    def without_grants_on(self, database: str, name: str) -> AccessRules:
        """Without the grants on one object by its name."""
        gone = [g for g in self.grants if g.database == database and g.object_name == name]
        return self.without_grants(gone) if gone else self

    def members(self, privilege: str) -> Iterable[str]:
        """The privileges of a group, or the one privilege."""
        return self.groups.get(privilege) or BUILT_IN_GROUPS.get(privilege) or (privilege,)

    def _make_access(self, roles: frozenset[str]) -> Access:
        on: dict[tuple[str, str], frozenset[str]] = {}
        within: dict[str, frozenset[str]] = {}
        seen: dict[str, frozenset[str]] = {}
        databases: set[str] = set()
        for grant in self.grants:
            if grant.role not in roles and grant.role != PUBLIC:
                continue
            database, place = grant.database, (grant.database, grant.object_name)
            on_object, anywhere = self._expanded(grant)
            if on_object:
                on[place] = on.get(place, _NONE) | on_object
            if anywhere:
                within[database] = within.get(database, _NONE) | anywhere
            if grant.role != PUBLIC:
                databases.add(database)
                if not anywhere.isdisjoint(_BY_TYPE[COLLECTION]):
                    seen[database] = seen.get(database, _NONE) | {ANY}
                elif grant.object_type == COLLECTION or self._is_of_collections(grant.privilege):
                    seen[database] = seen.get(database, _NONE) | {grant.object_name}
        return Access(ADMIN in roles, on, within, seen, frozenset(databases))

    def _is_of_collections(self, group: str) -> bool:
        built_in = BUILT_IN_GROUPS.get(group)
        return group in self.groups or (built_in is not None and LEVELS[built_in[0]] == COLLECTION_LEVEL)

    def _expanded(self, grant: Grant) -> tuple[frozenset[str], frozenset[str]]:
        """The privileges on the grant's object, and those on any object of its database."""
        if grant.privilege == ALL:
            return _NONE, _EVERYTHING
        if grant.privilege == "Admin":
            return _NONE, FIRST_GROUPS["Admin"]
        if grant.privilege == ANY:
            names = _BY_TYPE[grant.object_type]
        elif grant.privilege in FIRST_GROUPS:
            names = FIRST_GROUPS[grant.privilege]
        else:
            names = frozenset(self.members(grant.privilege))
        anywhere = frozenset(n for n in names if object_type(n) == GLOBAL)
        return names - anywhere, anywhere
