"""Changes to the names of collections: aliases and renaming. Checks run inside the transaction."""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from milvine.catalog import tables
from milvine.catalog.contents import Snapshot
from milvine.catalog.store import Catalog
from milvine.errors import (
    AliasAlreadyExist,
    AliasCollectionNameConflict,
    AliasNotFound,
    CollectionNotFound,
    DatabaseNotFound,
    ParameterInvalid,
)
from milvine.model.collections import Alias, Collection


def _collection_for_alias(snapshot: Snapshot, database: str, alias: str, name: str) -> Collection | None:
    """The collection that the alias is to name. Raises the errors that CreateAlias and AlterAlias share."""
    if database not in snapshot.databases:
        raise DatabaseNotFound(database)
    if (database, alias) in snapshot.names:
        raise AliasCollectionNameConflict(database, alias)
    return snapshot.find(database, name)


def create_alias(catalog: Catalog, database: str, alias: str, name: str, created_ts: int) -> None:
    """Adds an alias to a collection, given by its name or an alias; no change if it exists already."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        collection = _collection_for_alias(snapshot, database, alias, name)
        if collection is None:
            raise CollectionNotFound(name, database)
        existing = snapshot.aliases.get((database, alias))
        if existing is not None:
            if existing.collection_id == collection.collection_id:
                return snapshot
            other = snapshot.collections[existing.collection_id].name
            raise AliasAlreadyExist(database, alias, f"{alias} is alias to another collection: {other}")
        made = Alias(database, alias, collection.collection_id, created_ts)
        connection.execute(
            sa.insert(tables.aliases).values(
                database=database, name=alias, collection_id=collection.collection_id, created_ts=created_ts
            )
        )
        return replace(snapshot, aliases={**snapshot.aliases, (database, alias): made})

    catalog.change(work)


def alter_alias(catalog: Catalog, database: str, alias: str, name: str) -> None:
    """Moves an alias to another collection."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        collection = _collection_for_alias(snapshot, database, alias, name)
        if collection is None:
            raise CollectionNotFound(name, None)
        existing = snapshot.aliases.get((database, alias))
        if existing is None:
            raise AliasNotFound(database, alias)
        connection.execute(
            sa.update(tables.aliases)
            .where(tables.aliases.c.database == database, tables.aliases.c.name == alias)
            .values(collection_id=collection.collection_id)
        )
        altered = replace(existing, collection_id=collection.collection_id)
        return replace(snapshot, aliases={**snapshot.aliases, (database, alias): altered})

    catalog.change(work)


def drop_alias(catalog: Catalog, database: str, alias: str) -> None:
    """No error if the alias does not exist."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        if database not in snapshot.databases:
            raise DatabaseNotFound(database)
        if (database, alias) not in snapshot.aliases:
            return snapshot
        connection.execute(
            sa.delete(tables.aliases).where(tables.aliases.c.database == database, tables.aliases.c.name == alias)
        )
        return replace(snapshot, aliases={k: a for k, a in snapshot.aliases.items() if k != (database, alias)})

    catalog.change(work)


def rename_collection(catalog: Catalog, database: str, name: str, new_database: str, new_name: str) -> None:
    """Renames a collection, also into another database; its id and all that belongs to it stay."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        collection = _renamable(snapshot, database, name, new_database, new_name)
        connection.execute(
            sa.update(tables.collections)
            .where(tables.collections.c.collection_id == collection.collection_id)
            .values(database=new_database, name=new_name)
        )
        renamed = replace(collection, database=new_database, name=new_name)
        names = {k: i for k, i in snapshot.names.items() if i != collection.collection_id}
        return replace(
            snapshot,
            collections={**snapshot.collections, collection.collection_id: renamed},
            names={**names, (new_database, new_name): collection.collection_id},
        )

    catalog.change(work)


def _renamable(snapshot: Snapshot, database: str, name: str, new_database: str, new_name: str) -> Collection:
    """The collection, if it may get the name. Raises the reason if not."""
    if database != new_database:
        if database not in snapshot.databases:
            raise DatabaseNotFound(database).prefixed("failed to get original database")
        if new_database not in snapshot.databases:
            raise DatabaseNotFound(new_database).prefixed(f"target database {new_database} not found")
    if new_database not in snapshot.databases:
        raise DatabaseNotFound(new_database)
    if (database, name) in snapshot.aliases:
        raise ParameterInvalid(f"unsupported use an alias to rename collection, alias:{name}")
    if (new_database, new_name) in snapshot.aliases:
        raise AliasCollectionNameConflict(new_database, new_name)
    if (new_database, new_name) in snapshot.names:
        raise ParameterInvalid(
            f"duplicated new collection name {new_database}:{new_name} with other collection name or alias"
        )
    collection = snapshot.find(database, name)
    if collection is None:
        raise CollectionNotFound(name, database)
    if database != new_database and snapshot.aliases_of(collection.collection_id):
        raise ParameterInvalid("fail to rename db name, must drop all aliases of this collection before rename")
    return collection
