"""Changes to sealed segments: what a flush, a compaction and an index build commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

import sqlalchemy as sa

from milvine.catalog import tables
from milvine.catalog.contents import Snapshot
from milvine.catalog.store import Catalog
from milvine.model.segments import DeltaMeta, SegmentIndexMeta, SegmentMeta


def commit_flush(
    catalog: Catalog,
    collection_id: int,
    flushed: tuple[SegmentMeta, ...],
    deltas: tuple[DeltaMeta, ...],
    checkpoint_file: int,
) -> bool:
    """Sealed segments, their deletes and the checkpoint, in one transaction; False if the collection is gone."""
    exists = True

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        nonlocal exists
        collection = snapshot.collections.get(collection_id)
        if collection is None:
            exists = False
            return snapshot
        insert_segments(connection, flushed)
        for delta in deltas:
            insert_delta(connection, delta)
        connection.execute(
            sa.update(tables.collections)
            .where(tables.collections.c.collection_id == collection_id)
            .values(checkpoint_file=checkpoint_file)
        )
        known = snapshot.segments.get(collection_id, ())
        known_deltas = snapshot.deltas.get(collection_id, ())
        return replace(
            snapshot.with_collection(replace(collection, checkpoint_file=checkpoint_file)),
            segments={**snapshot.segments, collection_id: (*known, *flushed)},
            deltas={**snapshot.deltas, collection_id: (*known_deltas, *deltas)},
        )

    catalog.change(work)
    return exists


def insert_segment(connection: sa.Connection, meta: SegmentMeta) -> None:
    insert_segments(connection, [meta])


def insert_segments(connection: sa.Connection, metas: Sequence[SegmentMeta]) -> None:
    if not metas:
        return
    rows = [
        {
            "segment_id": meta.segment_id,
            "collection_id": meta.collection_id,
            "partition_id": meta.partition_id,
            "row_count": meta.row_count,
            "min_ts": meta.min_ts,
            "max_ts": meta.max_ts,
            "rows_bytes": meta.rows_bytes,
            "field_bytes": {str(k): v for k, v in meta.field_bytes.items()},
            "folded_ts": meta.folded_ts,
            "compacted_from": list(meta.compacted_from),
        }
        for meta in metas
    ]
    connection.execute(sa.insert(tables.segments), rows)
    for meta in metas:
        for built in meta.indexes.values():
            _insert_built(connection, meta.segment_id, built)


def insert_delta(connection: sa.Connection, delta: DeltaMeta) -> None:
    connection.execute(
        sa.insert(tables.deltas).values(
            delta_id=delta.delta_id,
            collection_id=delta.collection_id,
            row_count=delta.row_count,
            max_ts=delta.max_ts,
            file_bytes=delta.file_bytes,
        )
    )


def _insert_built(connection: sa.Connection, segment_id: int, built: SegmentIndexMeta) -> None:
    connection.execute(
        sa.insert(tables.segment_indexes).values(
            segment_id=segment_id,
            index_id=built.index_id,
            file_name=built.file_name,
            file_bytes=built.file_bytes,
            is_scan=built.is_scan,
        )
    )


def commit_compaction(
    catalog: Catalog, collection_id: int, source_ids: frozenset[int], result: SegmentMeta | None, folded_ts: int
) -> tuple[DeltaMeta, ...] | None:
    """Replaces the sources by `result` (None: no row is left), and drops the deltas that no segment needs now.

    `folded_ts` of the collection becomes at least the given one.
    Returns those deltas, or None, with nothing changed, if a source is gone. Indexes that have been dropped
    are not stored.
    """
    dropped: tuple[DeltaMeta, ...] | None = None

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        nonlocal dropped
        metas = snapshot.segments.get(collection_id, ())
        if not source_ids <= {m.segment_id for m in metas}:
            return snapshot
        for table in (tables.segment_indexes, tables.segments):
            connection.execute(sa.delete(table).where(table.c.segment_id.in_(source_ids)))
        following = [m for m in metas if m.segment_id not in source_ids]
        if result is not None:
            known = {i.index_id for i in snapshot.collections[collection_id].indexes}
            stored = replace(result, indexes={i: built for i, built in result.indexes.items() if i in known})
            insert_segment(connection, stored)
            following.append(stored)
        deltas = snapshot.deltas.get(collection_id, ())
        dropped = tuple(d for d in deltas if not any(m.needs(d) for m in following))
        gone = [d.delta_id for d in dropped]
        connection.execute(sa.delete(tables.deltas).where(tables.deltas.c.delta_id.in_(gone)))
        collection = snapshot.collections[collection_id]
        if folded_ts > collection.folded_ts:
            own = tables.collections.c.collection_id == collection_id
            connection.execute(sa.update(tables.collections).where(own).values(folded_ts=folded_ts))
            collection = replace(collection, folded_ts=folded_ts)
        return replace(
            snapshot.with_collection(collection),
            segments={**snapshot.segments, collection_id: tuple(following)},
            deltas={**snapshot.deltas, collection_id: tuple(d for d in deltas if d.delta_id not in gone)},
        )

    catalog.change(work)
    return dropped


def commit_delta_merge(
    catalog: Catalog, collection_id: int, source_ids: frozenset[int], result: DeltaMeta | None
) -> bool:
    """Replaces deltas by `result` (None: no delete is needed any more). False, with nothing changed, if one of them
    is gone."""
    done = False

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        nonlocal done
        deltas = snapshot.deltas.get(collection_id, ())
        if not source_ids <= {d.delta_id for d in deltas}:
            return snapshot
        done = True
        connection.execute(sa.delete(tables.deltas).where(tables.deltas.c.delta_id.in_(source_ids)))
        following = [d for d in deltas if d.delta_id not in source_ids]
        if result is not None:
            insert_delta(connection, result)
            following.insert(0, result)
        return replace(snapshot, deltas={**snapshot.deltas, collection_id: tuple(following)})

    catalog.change(work)
    return done


def commit_fields(catalog: Catalog, collection_id: int, segment_id: int, sizes: Mapping[int, int]) -> bool:
    """Adds columns, with their sizes by field, to a segment. False, with nothing changed, if the segment or one of the
    fields is gone."""
    done = False

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        nonlocal done
        collection = snapshot.collections.get(collection_id)
        metas = snapshot.segments.get(collection_id, ())
        meta = next((m for m in metas if m.segment_id == segment_id), None)
        if collection is None or meta is None or not sizes.keys() <= collection.schema.field_ids:
            return snapshot
        done = True
        field_bytes = {**meta.field_bytes, **sizes}
        table = tables.segments
        stored = {str(k): v for k, v in field_bytes.items()}
        connection.execute(sa.update(table).where(table.c.segment_id == segment_id).values(field_bytes=stored))
        following = tuple(replace(m, field_bytes=field_bytes) if m is meta else m for m in metas)
        return replace(snapshot, segments={**snapshot.segments, collection_id: following})

    catalog.change(work)
    return done


def commit_scans(catalog: Catalog, collection_id: int, index_id: int, segment_ids: Set[int]) -> None:
    """Notes, in one transaction, that these segments need no file of the index. Those that are gone are left out."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        collection = snapshot.collections.get(collection_id)
        if collection is None or all(i.index_id != index_id for i in collection.indexes):
            return snapshot
        built = SegmentIndexMeta(index_id, "", 0, is_scan=True)

        def following(meta: SegmentMeta) -> SegmentMeta:
            if meta.segment_id not in segment_ids or index_id in meta.indexes:
                return meta
            _insert_built(connection, meta.segment_id, built)
            return replace(meta, indexes={**meta.indexes, index_id: built})

        metas = tuple(map(following, snapshot.segments.get(collection_id, ())))
        return replace(snapshot, segments={**snapshot.segments, collection_id: metas})

    catalog.change(work)


def commit_index_build(
    catalog: Catalog, collection_id: int, segment_id: int, built: SegmentIndexMeta
) -> SegmentMeta | None:
    """The segment with its new index, or None if the segment or the index is gone."""
    result: SegmentMeta | None = None

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        nonlocal result
        collection = snapshot.collections.get(collection_id)
        metas = snapshot.segments.get(collection_id, ())
        meta = next((m for m in metas if m.segment_id == segment_id), None)
        if collection is None or meta is None or all(i.index_id != built.index_id for i in collection.indexes):
            return snapshot
        _insert_built(connection, segment_id, built)
        result = replace(meta, indexes={**meta.indexes, built.index_id: built})
        following = tuple(result if m.segment_id == segment_id else m for m in metas)
        return replace(snapshot, segments={**snapshot.segments, collection_id: following})

    catalog.change(work)
    return result
