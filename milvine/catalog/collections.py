"""Changes to collections, their indexes and their load configurations."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import replace

import sqlalchemy as sa

from milvine.catalog import encoding, tables
from milvine.catalog.contents import Snapshot
from milvine.catalog.file_resources import check_file_resources
from milvine.catalog.snapshots import without_free_snapshots
from milvine.catalog.store import Catalog
from milvine.errors import (
    AliasCollectionNameConflict,
    CollectionNumLimitExceeded,
    DatabaseNotFound,
    GeneralCapacityExceeded,
    ParameterInvalid,
    ResourceGroupNotFound,
    ServiceInternal,
)
from milvine.model.collections import MAX_COLLECTIONS_PROPERTY, Collection, LoadConfig
from milvine.model.schema import IndexSpec


def check_capacity(catalog: Catalog, snapshot: Snapshot, added: int) -> None:
    """Raises GeneralCapacityExceeded if partitions times shards, of all collections, would be too many."""
    size = added + sum(len(c.partitions) * c.num_shards for c in snapshot.collections.values())
    if size > catalog.limits.general_capacity:
        raise GeneralCapacityExceeded(size, catalog.limits.general_capacity)


def check_room(catalog: Catalog, snapshot: Snapshot, database_name: str, name: str) -> None:
    """Checks that a database may have a further collection, of this name. Raises the reason if not."""
    database = snapshot.databases.get(database_name)
    if database is None:
        raise DatabaseNotFound(database_name)
    text = database.properties.get(MAX_COLLECTIONS_PROPERTY, "")
    try:
        limit = int(text) if text else catalog.limits.collections_per_database
    except ValueError:
        raise ServiceInternal(f"parse value of property fail, key:{MAX_COLLECTIONS_PROPERTY}, value:{text}") from None
    if sum(c.database == database_name for c in snapshot.collections.values()) >= limit:
        raise CollectionNumLimitExceeded(database_name, limit)
    if len(snapshot.collections) >= catalog.limits.collections:
        raise CollectionNumLimitExceeded(database_name, catalog.limits.collections)
    if (database_name, name) in snapshot.aliases:
        raise AliasCollectionNameConflict(database_name, name).prefixed("please choose a unique name")


def create_collection(catalog: Catalog, collection: Collection) -> bool:
    """Stores a new collection with its partitions. False, with nothing changed, if another collection has the name."""
    created = True

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        nonlocal created
        check_room(catalog, snapshot, collection.database, collection.name)
        if (collection.database, collection.name) in snapshot.names:
            created = False
            return snapshot
        return insert_collection(catalog, connection, snapshot, collection)

    catalog.change(work)
    return created


def insert_collection(
    catalog: Catalog, connection: sa.Connection, snapshot: Snapshot, collection: Collection
) -> Snapshot:
    """Adds a collection, for whose name there is room, with its partitions and indexes."""
    check_capacity(catalog, snapshot, len(collection.partitions) * collection.num_shards)
    check_file_resources(snapshot, collection.schema)
    connection.execute(
        sa.insert(tables.collections).values(
            collection_id=collection.collection_id,
            database=collection.database,
            name=collection.name,
            schema=encoding.encode_schema(collection.schema),
            created_ts=collection.created_ts,
            consistency_level=int(collection.consistency_level),
            num_shards=collection.num_shards,
            properties=dict(collection.properties),
            load_config=encoding.encode_load(collection.load),
            checkpoint_file=collection.checkpoint_file,
            folded_ts=collection.folded_ts,
        )
    )
    for partition in collection.partitions:
        connection.execute(
            sa.insert(tables.partitions).values(
                partition_id=partition.partition_id,
                collection_id=collection.collection_id,
                name=partition.name,
                created_ts=partition.created_ts,
            )
        )
    for index in collection.indexes:
        insert_index(connection, collection.collection_id, index)
    return snapshot.with_collection(collection)


def drop_collection(catalog: Catalog, collection_id: int) -> None:
    """Removes a collection, all that belongs to it, and the grants on it. No error if it is gone. One with aliases is
    refused. Snapshots that are pinned stay until the last pin goes."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        collection = snapshot.collections.get(collection_id)
        if collection is None:
            return snapshot
        if aliases := snapshot.aliases_of(collection_id):
            raise ParameterInvalid(
                f"unable to drop the collection [{collection.name}] because it has associated aliases "
                f"[{' '.join(aliases)}], please remove all aliases before dropping the collection"
            )
        own = sa.select(tables.segments.c.segment_id).where(tables.segments.c.collection_id == collection_id)
        connection.execute(sa.delete(tables.segment_indexes).where(tables.segment_indexes.c.segment_id.in_(own)))
        for table in (tables.segments, tables.deltas, tables.indexes, tables.partitions, tables.collections):
            connection.execute(sa.delete(table).where(table.c.collection_id == collection_id))
        snapshot = without_free_snapshots(connection, snapshot, collection_id)
        place = (collection.database, collection.name)
        grants = tables.grants.c
        connection.execute(sa.delete(tables.grants).where(grants.database == place[0], grants.object_name == place[1]))
        return replace(
            snapshot,
            access=snapshot.access.without_grants_on(*place),
            collections={i: c for i, c in snapshot.collections.items() if i != collection_id},
            names={k: i for k, i in snapshot.names.items() if i != collection_id},
            segments={i: s for i, s in snapshot.segments.items() if i != collection_id},
            deltas={i: d for i, d in snapshot.deltas.items() if i != collection_id},
        )

    catalog.change(work)


def add_index(catalog: Catalog, collection_id: int, index: IndexSpec) -> None:
    """Raises ParameterInvalid if its field has been dropped in the meantime."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        collection = snapshot.collections.get(collection_id)
        if collection is None:
            return snapshot
        if index.field_id not in collection.schema.field_ids:
            name = collection.schema.by_id[index.field_id].name
            raise ParameterInvalid(f"cannot create index on non-exist field: {name}")
        insert_index(connection, collection_id, index)
        return snapshot.with_collection(replace(collection, indexes=(*collection.indexes, index)))

    catalog.change(work)


def insert_index(connection: sa.Connection, collection_id: int, index: IndexSpec) -> None:
    """Adds an index to the tables."""
    connection.execute(
        sa.insert(tables.indexes).values(
            index_id=index.index_id,
            collection_id=collection_id,
            field_id=index.field_id,
            name=index.name,
            index_type=index.index_type,
            metric_type=index.metric_type,
            params=index.params,
            build_type=index.build_type,
            build_params=index.build_params,
        )
    )


def drop_index(catalog: Catalog, collection_id: int, index_id: int) -> None:
    """Removes an index and its builds; their files become garbage."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        if collection_id not in snapshot.collections:
            return snapshot
        return without_indexes(connection, snapshot, collection_id, {index_id})

    catalog.change(work)


def without_indexes(connection: sa.Connection, snapshot: Snapshot, collection_id: int, index_ids: Set[int]) -> Snapshot:
    """Removes indexes of a collection and their builds from the snapshot and the tables."""
    for table in (tables.indexes, tables.segment_indexes):
        connection.execute(sa.delete(table).where(table.c.index_id.in_(index_ids)))
    collection = snapshot.collections[collection_id]
    kept = tuple(i for i in collection.indexes if i.index_id not in index_ids)
    metas = tuple(
        replace(s, indexes={i: m for i, m in s.indexes.items() if i not in index_ids})
        for s in snapshot.segments.get(collection_id, ())
    )
    following = snapshot.with_collection(replace(collection, indexes=kept))
    return replace(following, segments={**snapshot.segments, collection_id: metas})


def set_load_config(catalog: Catalog, collection_id: int, load: LoadConfig | None) -> None:
    """Stores a load configuration; None releases."""
    change_load_config(catalog, collection_id, lambda _collection: load)


def change_load_config(catalog: Catalog, collection_id: int, choose: Callable[[Collection], LoadConfig | None]) -> None:
    """Stores the load configuration that `choose` returns for the collection as it is in the transaction."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        collection = snapshot.collections.get(collection_id)
        if collection is None:
            return snapshot
        load = choose(collection)
        if load == collection.load:
            return snapshot
        store_load(connection, collection_id, load)
        return snapshot.with_collection(replace(collection, load=load))

    catalog.change(work)


def set_resource_groups(catalog: Catalog, collection_id: int, names: tuple[str, ...]) -> None:
    """Moves the replicas of a loaded collection to other resource groups."""
    collection = catalog.snapshot.collections.get(collection_id)
    if collection is None or collection.load is None or collection.load.resource_groups == names:
        return

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        current = snapshot.collections.get(collection_id)
        if current is None or current.load is None:
            return snapshot
        for name in names:
            if name not in snapshot.resource_groups:
                raise ResourceGroupNotFound(name)
        load = replace(current.load, resource_groups=names)
        store_load(connection, collection_id, load)
        return snapshot.with_collection(replace(current, load=load))

    catalog.change(work)


def store_load(connection: sa.Connection, collection_id: int, load: LoadConfig | None) -> None:
    connection.execute(
        sa.update(tables.collections)
        .where(tables.collections.c.collection_id == collection_id)
        .values(load_config=encoding.encode_load(load))
    )
