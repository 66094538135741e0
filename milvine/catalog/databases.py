"""Changes to databases. Checks run inside the transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import sqlalchemy as sa

from milvine.catalog import tables
from milvine.catalog.contents import Snapshot
from milvine.catalog.store import Catalog
from milvine.errors import DatabaseNotFound, DatabaseNumLimitExceeded, ParameterInvalid
from milvine.model.collections import DEFAULT_DATABASE, Database


def insert_database(connection: sa.Connection, database: Database) -> None:
    connection.execute(
        sa.insert(tables.databases).values(
            database_id=database.database_id,
            name=database.name,
            created_ts=database.created_ts,
            properties=dict(database.properties),
        )
    )


def create_database(catalog: Catalog, database: Database) -> None:
    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        if database.name in snapshot.databases:
            raise ParameterInvalid(f"database already exist: {database.name}")
        if len(snapshot.databases) > catalog.limits.databases:
            raise DatabaseNumLimitExceeded(catalog.limits.databases)
        insert_database(connection, database)
        return replace(snapshot, databases={**snapshot.databases, database.name: database})

    catalog.change(work)


def drop_database(catalog: Catalog, name: str) -> None:
    """Removes a database without collections; no error if it does not exist."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        if name == DEFAULT_DATABASE:
            raise ParameterInvalid("can not drop default database")
        if name not in snapshot.databases:
            return snapshot
        if any(c.database == name for c in snapshot.collections.values()):
            raise ParameterInvalid(f"database:{name} not empty, must drop all collections before drop database")
        connection.execute(sa.delete(tables.databases).where(tables.databases.c.name == name))
        return replace(snapshot, databases={k: d for k, d in snapshot.databases.items() if k != name})

    catalog.change(work)


def change_properties(catalog: Catalog, name: str, changed: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
    """Replaces the properties of a database by the result of `changed`."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        database = snapshot.databases.get(name)
        if database is None:
            raise DatabaseNotFound(name).prefixed("failed to get database by name")
        properties = dict(changed(database.properties))
        connection.execute(
            sa.update(tables.databases).where(tables.databases.c.name == name).values(properties=properties)
        )
        return replace(snapshot, databases={**snapshot.databases, name: replace(database, properties=properties)})

    catalog.change(work)
