"""Changes to partitions, and the removal of all rows of one of them or of a collection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import sqlalchemy as sa

from milvine.catalog import tables
from milvine.catalog.collections import check_capacity, store_load
from milvine.catalog.contents import Snapshot
from milvine.catalog.store import Catalog
from milvine.errors import ParameterInvalid
from milvine.model.collections import DEFAULT_PARTITION, Partition
from milvine.model.records import record
from milvine.model.segments import DeltaMeta, SegmentMeta


@record
class Removed:
    """Segments and deltas that the catalog no longer names."""

    segments: tuple[SegmentMeta, ...]
    deltas: tuple[DeltaMeta, ...]


def create_partition(catalog: Catalog, collection_id: int, partition: Partition) -> None:
    """Stores a partition unless the name exists. A new partition of a loaded collection is also loaded."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        collection = snapshot.existing(collection_id)
        if partition.name in collection.partition_by_name:
            return snapshot
        most = catalog.limits.partitions
        if len(collection.partitions) >= most:
            raise ParameterInvalid(
                f"partition number ({len(collection.partitions)}) exceeds max configuration ({most}), "
                f"collection: {collection.name}"
            )
        check_capacity(catalog, snapshot, 1)
        connection.execute(
            sa.insert(tables.partitions).values(
                partition_id=partition.partition_id,
                collection_id=collection_id,
                name=partition.name,
                created_ts=partition.created_ts,
            )
        )
        load = collection.load
        if load is not None:
            load = replace(load, partition_ids=load.partition_ids | {partition.partition_id})
            store_load(connection, collection_id, load)
        following = replace(collection, partitions=(*collection.partitions, partition), load=load)
        return snapshot.with_collection(following)

    catalog.change(work)


def drop_partition(catalog: Catalog, collection_id: int, name: str) -> tuple[Partition, Removed] | None:
    """Removes a partition, its segments and the deltas that only they needed; None if there is no such partition.

    Raises ParameterInvalid for one that is to be loaded and for the default one.
    """
    dropped: tuple[Partition, Removed] | None = None

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        nonlocal dropped
        collection = snapshot.existing(collection_id)
        partition = collection.partition_by_name.get(name)
        if partition is None:
            return snapshot
        if collection.load is not None and partition.partition_id in collection.load.partition_ids:
            raise ParameterInvalid("partition cannot be dropped, partition is loaded, please release it first")
        if name == DEFAULT_PARTITION:
            raise ParameterInvalid("default partition cannot be deleted")
        connection.execute(
            sa.delete(tables.partitions).where(tables.partitions.c.partition_id == partition.partition_id)
        )
        kept = tuple(p for p in collection.partitions if p is not partition)
        following = snapshot.with_collection(replace(collection, partitions=kept))
        following, removed = _without_segments(
            connection, following, collection_id, lambda meta: meta.partition_id == partition.partition_id
        )
        dropped = partition, removed
        return following

    catalog.change(work)
    return dropped


def truncate_collection(catalog: Catalog, collection_id: int, checkpoint_file: int | None, folded_ts: int) -> Removed:
    """Removes all segments and deltas of a collection and, with a checkpoint, the rows in the log before it.

    Reads before `folded_ts`, which is after all of them, are refused.
    """
    removed = Removed((), ())

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        nonlocal removed
        collection = snapshot.existing(collection_id)
        checkpoint = collection.checkpoint_file if checkpoint_file is None else checkpoint_file
        connection.execute(
            sa.update(tables.collections)
            .where(tables.collections.c.collection_id == collection_id)
            .values(checkpoint_file=checkpoint, folded_ts=folded_ts)
        )
        moved = replace(collection, checkpoint_file=checkpoint, folded_ts=folded_ts)
        snapshot = snapshot.with_collection(moved)
        following, removed = _without_segments(connection, snapshot, collection_id, lambda _meta: True)
        return following

    catalog.change(work)
    return removed


def _without_segments(
    connection: sa.Connection, snapshot: Snapshot, collection_id: int, is_gone: Callable[[SegmentMeta], bool]
) -> tuple[Snapshot, Removed]:
    metas, deltas = snapshot.segments.get(collection_id, ()), snapshot.deltas.get(collection_id, ())
    gone = tuple(m for m in metas if is_gone(m))
    kept = tuple(m for m in metas if not is_gone(m))
    unneeded = tuple(d for d in deltas if not any(m.needs(d) for m in kept))
    gone_ids, unneeded_ids = [m.segment_id for m in gone], [d.delta_id for d in unneeded]
    for table in (tables.segment_indexes, tables.segments):
        connection.execute(sa.delete(table).where(table.c.segment_id.in_(gone_ids)))
    connection.execute(sa.delete(tables.deltas).where(tables.deltas.c.delta_id.in_(unneeded_ids)))
    following = replace(
        snapshot,
        segments={**snapshot.segments, collection_id: kept},
        deltas={**snapshot.deltas, collection_id: tuple(d for d in deltas if d not in unneeded)},
    )
    return following, Removed(gone, unneeded)
