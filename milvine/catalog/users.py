"""Changes to users."""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from milvine.catalog import tables
from milvine.catalog.api_keys import without_user
from milvine.catalog.contents import Snapshot
from milvine.catalog.store import Catalog
from milvine.errors import QuotaExceeded, UserAlreadyExists, UserNotFound
from milvine.model.users import User


def create_user(catalog: Catalog, user: User, max_users: int) -> None:
    """Raises UserAlreadyExists, or QuotaExceeded if there are already `max_users`."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        if user.name in snapshot.users:
            raise UserAlreadyExists(user.name)
        if len(snapshot.users) >= max_users:
            raise QuotaExceeded("unable to add user because the number of users has reached the limit")
        connection.execute(
            sa.insert(tables.users).values(
                name=user.name,
                password_hash=user.password_hash,
                created_ts=user.created_ts,
                description=user.description,
            )
        )
        return replace(snapshot, users={**snapshot.users, user.name: user})

    catalog.change(work)


def update_user(catalog: Catalog, name: str, password_hash: str | None, description: str | None) -> None:
    """Changes the given fields. Raises UserNotFound."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        user = snapshot.users.get(name)
        if user is None:
            raise UserNotFound
        if password_hash is not None:
            user = replace(user, password_hash=password_hash)
        if description is not None:
            user = replace(user, description=description)
        connection.execute(
            sa.update(tables.users)
            .where(tables.users.c.name == name)
            .values(password_hash=user.password_hash, description=user.description)
        )
        return replace(snapshot, users={**snapshot.users, name: user})

    catalog.change(work)


def drop_user(catalog: Catalog, name: str) -> None:
    """Also takes the user's roles and API keys away. No error if the user does not exist."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        connection.execute(sa.delete(tables.users).where(tables.users.c.name == name))
        connection.execute(sa.delete(tables.user_roles).where(tables.user_roles.c.user == name))
        return replace(
            snapshot,
            users={n: u for n, u in snapshot.users.items() if n != name},
            access=snapshot.access.with_roles_of(name, ()),
            api_keys=without_user(connection, snapshot.api_keys, name),
        )

    catalog.change(work)
