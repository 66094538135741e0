"""Start-up: drop what the catalog does not name, then replay each collection's log over its sealed segments."""

from __future__ import annotations

from pathlib import Path

from milvine.catalog.store import Snapshot
from milvine.crash_points import crash_point
from milvine.errors import DataIntegrityError
from milvine.model.collections import Collection
from milvine.model.columns import ColumnBatch
from milvine.model.partition_keys import routed
from milvine.model.segments import ALL_PARTITIONS, DeleteBatch, SegmentMeta, make_deletes
from milvine.model.timestamps import HybridClock
from milvine.segment.growing import GrowingSegment, make_chunk
from milvine.segment.view import ReadView
from milvine.storage.garbage import remove_unnamed
from milvine.storage.segment_files import ROWS_FILE, SegmentPaths
from milvine.storage.wal import Wal, WalReader, WalRecord, remove_files_before
from milvine.storage.wal_records import RecordType, decode_deletes, decode_insert, decode_upsert


def _segment_files(meta: SegmentMeta, paths: SegmentPaths) -> set[str]:
    files = {ROWS_FILE} | {paths.column(0, 0, i).name for i in meta.field_bytes}
    return files | {i.file_name for i in meta.indexes.values()}


def remove_garbage(paths: SegmentPaths, snapshot: Snapshot) -> int:
    """Remove leftovers of flushes, builds and drops that a crash cut short; returns how many entries went."""
    collection_names = {str(i) for i in snapshot.collections}
    removed = remove_unnamed(paths.root / "segments", collection_names)
    removed += remove_unnamed(paths.root / "wal", collection_names)
    for collection_id in snapshot.collections:
        metas = snapshot.segments.get(collection_id, ())
        names = {str(m.segment_id) for m in metas}
        names |= {paths.delta(collection_id, d.delta_id).name for d in snapshot.deltas.get(collection_id, ())}
        removed += remove_unnamed(paths.collection(collection_id), names)
        for meta in metas:
            removed += remove_unnamed(paths.segment(collection_id, meta.segment_id), _segment_files(meta, paths))
    return len(removed)


def named_files(paths: SegmentPaths, snapshot: Snapshot) -> set[Path]:
    """Every file of segments and deltas that the catalog names."""
    named: set[Path] = set()
    for collection_id, metas in snapshot.segments.items():
        for meta in metas:
            directory = paths.segment(collection_id, meta.segment_id)
            named |= {directory / name for name in _segment_files(meta, paths)}
    for collection_id, deltas in snapshot.deltas.items():
        named |= {paths.delta(collection_id, d.delta_id) for d in deltas}
    return named


def recover(
    collection: Collection, snapshot: Snapshot, paths: SegmentPaths, clock: HybridClock
) -> tuple[ReadView, Wal]:
    """The view that the log and the catalog give, and the log, ready to go on in a new file.

    The clock is moved past every timestamp met. Raises DataIntegrityError naming a damaged file.
    """
    collection_id = collection.collection_id
    directory = paths.wal(collection_id)
    remove_files_before(directory, collection.checkpoint_file)
    reader = WalReader(directory, collection_id, collection.checkpoint_file)
    growing: dict[int, GrowingSegment] = {}
    deletes: list[DeleteBatch] = []
    sealed = snapshot.segments.get(collection_id, ())
    deltas = snapshot.deltas.get(collection_id, ())
    last_ts = max([0, *(meta.max_ts for meta in sealed), *(delta.max_ts for delta in deltas)])
    replay = Replay(collection)
    for record in reader.records():
        last_ts = max(last_ts, record.ts)
        clock.observe(record.ts)
        inserted, deleted = replay.read(record)
        if deleted is not None:
            deletes.append(deleted)
            growing = {i: s.with_deletes(deleted) for i, s in growing.items()}
        for partition_id, batch in inserted:
            segment = growing.get(partition_id) or GrowingSegment(clock.next(), partition_id)
            chunk = make_chunk(collection.schema, segment.segment_id, partition_id, batch, record.ts)
            growing[partition_id] = segment.with_chunk(chunk)
    crash_point("recovery.replayed")
    if reader.unborn is not None:
        reader.unborn.unlink()
    reader.sync_tail()
    view = ReadView(
        collection_id,
        collection.schema,
        last_ts,
        tuple(growing.values()),
        sealed,
        deltas,
        tuple(deletes),
    )
    return view, Wal(directory, collection_id, reader.next_file_number, reader.valid_end)


class Replay:
    """What the log records of one collection do; nothing in partitions that were dropped since."""

    def __init__(self, collection: Collection) -> None:
        self._schema = collection.schema
        self._data_types = {f.field_id: f.data_type for f in collection.schema.fields}
        self._partition_ids = tuple(p.partition_id for p in collection.partitions)
        self._known = {ALL_PARTITIONS, *self._partition_ids}

    def read(self, record: WalRecord) -> tuple[list[tuple[int, ColumnBatch]], DeleteBatch | None]:
        """What a record inserts (partition ids and rows) and deletes."""
        match record.record_type:
            case RecordType.INSERT:
                partition_id, batch = decode_insert(record.body, self._data_types)
                return self._rows(partition_id, batch), None
            case RecordType.DELETE:
                deletes = decode_deletes(record.body)
                return [], deletes if self._known.issuperset(deletes.partition_ids[:1].tolist()) else None
            case RecordType.UPSERT:
                partition_id, batch, keys = decode_upsert(record.body, self._data_types)
                if partition_id not in self._known:
                    return [], None
                if keys is None:
                    keys = batch.columns[self._schema.primary_field.field_id].values
                return self._rows(partition_id, batch), make_deletes(keys, record.ts, partition_id)
        raise DataIntegrityError(f"a log record has the unknown type {record.record_type}")

    def _rows(self, partition_id: int, batch: ColumnBatch) -> list[tuple[int, ColumnBatch]]:
        return routed(self._schema, self._partition_ids, partition_id, batch) if partition_id in self._known else []


def empty_view(collection: Collection) -> ReadView:
    return ReadView(collection.collection_id, collection.schema)
