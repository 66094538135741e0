"""Changes to collections, their indexes and what of them is to be loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import sqlalchemy as sa

from milvine.catalog import store
from milvine.catalog.store import Catalog, Snapshot
from milvine.model.collections import Collection, LoadConfig
from milvine.model.schema import IndexSpec


def _with_collection(snapshot: Snapshot, collection: Collection) -> Snapshot:
    found = {**snapshot.collections, collection.collection_id: collection}
    names = {**snapshot.names, (collection.database, collection.name): collection.collection_id}
    return replace(snapshot, collections=found, names=names)


def create_collection(catalog: Catalog, collection: Collection) -> bool:
    """Store a new collection with its partitions; False, with nothing changed, if the name is taken."""
    created = True

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        nonlocal created
        if snapshot.find(collection.database, collection.name) is not None:
            created = False
            return snapshot
        connection.execute(
            sa.insert(store.collections).values(
                collection_id=collection.collection_id,
                database=collection.database,
                name=collection.name,
                schema=store.encode_schema(collection.schema),
                created_ts=collection.created_ts,
                consistency_level=int(collection.consistency_level),
                num_shards=collection.num_shards,
                properties=dict(collection.properties),
                load_config=store.encode_load(collection.load),
                checkpoint_file=collection.checkpoint_file,
            )
        )
        for partition in collection.partitions:
            connection.execute(
                sa.insert(store.partitions).values(
                    partition_id=partition.partition_id,
                    collection_id=collection.collection_id,
                    name=partition.name,
                    created_ts=partition.created_ts,
                )
            )
        return _with_collection(snapshot, collection)

    catalog.change(work)
    return created


def drop_collection(catalog: Catalog, collection_id: int) -> None:
    """Forget a collection and all that hangs on it; no error if it is gone."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        collection = snapshot.collections.get(collection_id)
        if collection is None:
            return snapshot
        own = sa.select(store.segments.c.segment_id).where(store.segments.c.collection_id == collection_id)
        connection.execute(sa.delete(store.segment_indexes).where(store.segment_indexes.c.segment_id.in_(own)))
        for table in (store.segments, store.deltas, store.indexes, store.partitions, store.collections):
            connection.execute(sa.delete(table).where(table.c.collection_id == collection_id))

        return replace(
            snapshot,
            collections={i: c for i, c in snapshot.collections.items() if i != collection_id},
            names={k: i for k, i in snapshot.names.items() if i != collection_id},
            segments={i: s for i, s in snapshot.segments.items() if i != collection_id},
            deltas={i: d for i, d in snapshot.deltas.items() if i != collection_id},
        )

    catalog.change(work)


def add_index(catalog: Catalog, collection_id: int, index: IndexSpec) -> None:
    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        collection = snapshot.collections.get(collection_id)
        if collection is None:
            return snapshot
        connection.execute(
            sa.insert(store.indexes).values(
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
        return _with_collection(snapshot, replace(collection, indexes=(*collection.indexes, index)))

    catalog.change(work)


def drop_index(catalog: Catalog, collection_id: int, index_id: int) -> None:
    """Forget an index and what was built for it; its files are garbage from now on."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        collection = snapshot.collections.get(collection_id)
        if collection is None:
            return snapshot
        connection.execute(sa.delete(store.indexes).where(store.indexes.c.index_id == index_id))
        connection.execute(sa.delete(store.segment_indexes).where(store.segment_indexes.c.index_id == index_id))
        kept = tuple(i for i in collection.indexes if i.index_id != index_id)
        metas = tuple(
            replace(s, indexes={i: m for i, m in s.indexes.items() if i != index_id})
            for s in snapshot.segments.get(collection_id, ())
        )
        following = _with_collection(snapshot, replace(collection, indexes=kept))
        return replace(following, segments={**snapshot.segments, collection_id: metas})

    catalog.change(work)


def set_load_config(catalog: Catalog, collection_id: int, load: LoadConfig | None) -> None:
    """Make durable what is to be loaded; None releases."""
    change_load_config(catalog, collection_id, lambda _collection: load)


def change_load_config(catalog: Catalog, collection_id: int, choose: Callable[[Collection], LoadConfig | None]) -> None:
    """Make durable what `choose` makes of the collection as it is then."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        collection = snapshot.collections.get(collection_id)
        if collection is None:
            return snapshot
        load = choose(collection)
        if load == collection.load:
            return snapshot
        connection.execute(
            sa.update(store.collections)
            .where(store.collections.c.collection_id == collection_id)
            .values(load_config=store.encode_load(load))
        )
        return _with_collection(snapshot, replace(collection, load=load))

    catalog.change(work)
