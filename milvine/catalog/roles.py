"""Changes to roles, their members, grants, and groups of privileges. Checks run inside the transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import sqlalchemy as sa

from milvine.catalog import tables
from milvine.catalog.api_keys import without_role
from milvine.catalog.contents import Snapshot
from milvine.catalog.store import Catalog
from milvine.errors import AccessChangeRefused, Failure, QuotaExceeded
from milvine.model.access_rules import AccessRules, Grant
from milvine.model.records import by_name
from milvine.model.users import User

_Change = Callable[[sa.Connection, AccessRules, Snapshot], AccessRules]


def _change(catalog: Catalog, change: _Change) -> None:
    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, access=change(connection, snapshot.access, snapshot))

    catalog.change(work)


def create_role(catalog: Catalog, name: str, description: str, max_roles: int) -> None:
    """Raises AccessChangeRefused, or QuotaExceeded if there are already `max_roles`."""

    def change(connection: sa.Connection, rules: AccessRules, _: Snapshot) -> AccessRules:
        if name in rules.roles:
            shown = f'name:"{name}"' + (f' description:"{description}"' if description else "")
            raise AccessChangeRefused(Failure.CREATE_ROLE, f"role [{shown}] already exists")
        if len(rules.roles) >= max_roles:
            text = "unable to create role because the number of roles has reached the limit"
            raise QuotaExceeded(f"failed to check if create role: {text}")
        connection.execute(sa.insert(tables.roles).values(name=name, description=description))
        return replace(rules, roles={**rules.roles, name: description})

    _change(catalog, change)


def alter_role(catalog: Catalog, name: str, description: str) -> None:
    def change(connection: sa.Connection, rules: AccessRules, _: Snapshot) -> AccessRules:
        if name not in rules.roles:
            raise AccessChangeRefused(Failure.UNEXPECTED, "failed to check if alter role: role not exists")
        table = tables.roles
        connection.execute(sa.update(table).where(table.c.name == name).values(description=description))
        return replace(rules, roles={**rules.roles, name: description})

    _change(catalog, change)


def drop_role(catalog: Catalog, name: str, *, force: bool) -> None:
    """Also takes it from its members and their API keys. Refused while it has grants, unless `force` is set."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        rules = snapshot.access
        if name not in rules.roles:
            raise role_not_found(Failure.DROP_ROLE)
        if not force and any(rules.grants_of(name)):
            raise AccessChangeRefused(
                Failure.DROP_ROLE,
                "failed to check if drop role: fail to drop the role that it has privileges. "
                "Use REVOKE API to revoke privileges",
            )
        connection.execute(sa.delete(tables.roles).where(tables.roles.c.name == name))
        connection.execute(sa.delete(tables.user_roles).where(tables.user_roles.c.role == name))
        connection.execute(sa.delete(tables.grants).where(tables.grants.c.role == name))
        keys = without_role(connection, snapshot.api_keys, name)
        return replace(snapshot, access=rules.without_role(name), api_keys=keys)

    catalog.change(work)


def role_not_found(failure: Failure) -> AccessChangeRefused:
    text = "not found the role, maybe the role isn't existed or internal system error"
    return AccessChangeRefused(failure, text)


def add_user_to_role(catalog: Catalog, user: str, role: str) -> None:
    def change(connection: sa.Connection, rules: AccessRules, snapshot: Snapshot) -> AccessRules:
        if role not in rules.roles:
            raise role_not_found(Failure.OPERATE_USER_ROLE)
        if user not in snapshot.users:
            text = "not found the user, maybe the user isn't existed or internal system error"
            raise AccessChangeRefused(Failure.OPERATE_USER_ROLE, text)
        held = rules.held_by(user)
        if role in held:
            return rules
        connection.execute(sa.insert(tables.user_roles).values(user=user, role=role))
        return rules.with_roles_of(user, held | {role})

    _change(catalog, change)


def remove_user_from_role(catalog: Catalog, user: str, role: str) -> None:
    """No error if the user does not have the role, or does not exist."""

    def change(connection: sa.Connection, rules: AccessRules, _: Snapshot) -> AccessRules:
        if role not in rules.roles:
            raise role_not_found(Failure.OPERATE_USER_ROLE)
        table = tables.user_roles
        connection.execute(sa.delete(table).where(table.c.user == user, table.c.role == role))
        return rules.with_roles_of(user, rules.held_by(user) - {role})

    _change(catalog, change)


def _where(grant: Grant) -> sa.ColumnElement[bool]:
    return sa.and_(*(tables.grants.c[name] == value for name, value in grant._asdict().items()))


def grant(catalog: Catalog, wanted: Sequence[Grant], grantor: str) -> None:
    """Adds the grants that there are not yet; the role has to exist."""

    def change(connection: sa.Connection, rules: AccessRules, _: Snapshot) -> AccessRules:
        if any(g.role not in rules.roles for g in wanted):
            raise role_not_found(Failure.OPERATE_PRIVILEGE)
        added = {g: grantor for g in wanted if g not in rules.grants}
        for made in added:
            connection.execute(sa.insert(tables.grants).values(**made._asdict(), grantor=grantor))
        return replace(rules, grants={**rules.grants, **added})

    _change(catalog, change)


def revoke(catalog: Catalog, unwanted: Sequence[Grant]) -> None:
    """Removes the grants; no error for one that is not there. The role has to exist."""

    def change(connection: sa.Connection, rules: AccessRules, _: Snapshot) -> AccessRules:
        if any(g.role not in rules.roles for g in unwanted):
            raise role_not_found(Failure.OPERATE_PRIVILEGE)
        for removed in unwanted:
            connection.execute(sa.delete(tables.grants).where(_where(removed)))
        return rules.without_grants(unwanted)

    _change(catalog, change)


def change_group(catalog: Catalog, name: str, changed: Callable[[AccessRules], Iterable[str] | None]) -> None:
    """Sets the privileges of a group to what `changed` returns, or drops the group for None. `changed` may raise."""

    def change(connection: sa.Connection, rules: AccessRules, _: Snapshot) -> AccessRules:
        privileges = changed(rules)
        table = tables.privilege_groups
        connection.execute(sa.delete(table).where(table.c.name == name))
        others = {n: members for n, members in rules.groups.items() if n != name}
        if privileges is None:
            return replace(rules, groups=others)
        members = tuple(dict.fromkeys(privileges))
        connection.execute(sa.insert(table).values(name=name, privileges=list(members)))
        return replace(rules, groups={**others, name: members})

    _change(catalog, change)


def restore(catalog: Catalog, check: Callable[[Snapshot], None], users: Sequence[User], restored: AccessRules) -> None:
    """Adds users and rules, all or none. `check` may refuse them."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        check(snapshot)
        rules = snapshot.access
        added = {g: by for g, by in restored.grants.items() if g not in rules.grants}
        rows: dict[sa.Table, list[dict[str, object]]] = {
            tables.users: [by_name(user) for user in users],
            tables.roles: [{"name": name, "description": text} for name, text in restored.roles.items()],
            tables.user_roles: [
                {"user": user, "role": role} for user, held in restored.roles_of.items() for role in held
            ],
            tables.grants: [{**made._asdict(), "grantor": by} for made, by in added.items()],
            tables.privilege_groups: [{"name": n, "privileges": list(p)} for n, p in restored.groups.items()],
        }
        for table, values in rows.items():
            if values:
                connection.execute(sa.insert(table), values)
        following = AccessRules(
            {**rules.roles, **restored.roles},
            {**rules.roles_of, **restored.roles_of},
            {**rules.grants, **added},
            {**rules.groups, **restored.groups},
        )
        return replace(snapshot, users={**snapshot.users, **{u.name: u for u in users}}, access=following)

    catalog.change(work)
