"""Start-up: removes files that the catalog does not name, then replays each log over the sealed segments."""

from __future__ import annotations

from pathlib import Path

from milvine.catalog.store import Snapshot
from milvine.crash_points import crash_point
from milvine.errors import DataIntegrityError
from milvine.model import columns
from milvine.model.collections import Collection
from milvine.model.columns import ColumnBatch
from milvine.model.partition_keys import routed
from milvine.model.schema import CollectionSchema
from milvine.model.segments import ALL_PARTITIONS, DeleteBatch, SegmentMeta, make_deletes
from milvine.model.timestamps import HybridClock
from milvine.segment.deletes import joined_deletes
from milvine.segment.growing import MAX_MERGED_ROWS, Chunk, GrowingSegment, join_inserts
from milvine.segment.view import ReadView
from milvine.storage.garbage import remove_unnamed
from milvine.storage.resource_files import resource_directory, resource_file
from milvine.storage.segment_files import ROWS_FILE, SegmentPaths
from milvine.storage.wal import Wal, WalReader, WalRecord, remove_files_before
from milvine.storage.wal_records import RecordType, decode_deletes, decode_insert


def _segment_files(meta: SegmentMeta, paths: SegmentPaths) -> dict[str, int]:
    """Names and sizes."""
    columns = {paths.column(0, 0, i).name: size for i, size in meta.field_bytes.items()}
    indexes = {i.file_name: i.file_bytes for i in meta.indexes.values() if i.file_name}
    return {ROWS_FILE: meta.rows_bytes} | columns | indexes


def remove_garbage(paths: SegmentPaths, snapshot: Snapshot) -> int:
    """Removes leftovers of flushes, builds and drops that a crash interrupted; returns their number."""
    collection_names = {str(i) for i in snapshot.collections}
    removed = remove_unnamed(paths.root / "segments", collection_names)
    removed += remove_unnamed(paths.root / "wal", collection_names)
    removed += remove_unnamed(resource_directory(paths.root), {p.name for p in named_resources(paths, snapshot)})
    for collection_id in snapshot.collections:
        metas = snapshot.segments.get(collection_id, ())
        names = {str(m.segment_id) for m in metas}
        names |= {paths.delta(collection_id, d.delta_id).name for d in snapshot.deltas.get(collection_id, ())}
        removed += remove_unnamed(paths.collection(collection_id), names)
        for meta in metas:
            removed += remove_unnamed(paths.segment(collection_id, meta.segment_id), _segment_files(meta, paths))
    return len(removed)


def named_resources(paths: SegmentPaths, snapshot: Snapshot) -> set[Path]:
    return {resource_file(paths.root, one.resource_id) for one in snapshot.file_resources.values()}


def named_files(paths: SegmentPaths, snapshot: Snapshot) -> dict[Path, int]:
    """Every file of segments and deltas that the catalog names, with its size."""
    named: dict[Path, int] = {}
    for collection_id, metas in snapshot.segments.items():
        for meta in metas:
            directory = paths.segment(collection_id, meta.segment_id)
            named |= {directory / name: size for name, size in _segment_files(meta, paths).items()}
    for collection_id, deltas in snapshot.deltas.items():
        named |= {paths.delta(collection_id, d.delta_id): d.file_bytes for d in deltas}
    return named


def is_named(paths: SegmentPaths, snapshot: Snapshot, path: Path) -> bool:
    """Whether the catalog names a file, a delta or a file of a segment."""
    collection, name, *more = path.relative_to(paths.root / "segments").parts
    if more:
        return any(str(m.segment_id) == name for m in snapshot.segments.get(int(collection), ()))
    return any(f"{d.delta_id}.delta" == name for d in snapshot.deltas.get(int(collection), ()))


def recover(
    collection: Collection, snapshot: Snapshot, paths: SegmentPaths, clock: HybridClock
) -> tuple[ReadView, Wal]:
    """The view from log and catalog, and the log, ready to continue in a new file.

    The clock is moved past every timestamp that is read. Raises DataIntegrityError naming a damaged file.
    """
    collection_id = collection.collection_id
    directory = paths.wal(collection_id)
    remove_files_before(directory, collection.checkpoint_file)
    reader = WalReader(directory, collection_id, collection.checkpoint_file)
    growing: dict[int, _GrowingRows] = {}
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
        for partition_id, batch in inserted:
            if partition_id not in growing:
                growing[partition_id] = _GrowingRows(collection.schema, clock.next(), partition_id)
            growing[partition_id].add(batch, record.ts)
    crash_point("recovery.replayed")
    if reader.unborn is not None:
        reader.unborn.unlink()
    reader.sync_tail()
    deletes = joined_deletes(deletes)
    view = ReadView(
        collection_id,
        collection.schema,
        last_ts,
        tuple(rows.segment(deletes) for rows in growing.values()),
        sealed,
        deltas,
        tuple(deletes),
    )
    return view, Wal(directory, collection_id, reader.end)


class _GrowingRows:
    """Collects rows of one partition from the log into chunks; small inserts are joined once."""

    def __init__(self, schema: CollectionSchema, segment_id: int, partition_id: int) -> None:
        self._schema = schema
        self._segment_id = segment_id
        self._partition_id = partition_id
        self._inserts: list[tuple[ColumnBatch, int]] = []
        self._row_count, self._bytes = 0, 0
        self._chunks: list[Chunk] = []

    def add(self, batch: ColumnBatch, ts: int) -> None:
        if self._inserts:
            has_same_fields = self._inserts[0][0].columns.keys() == batch.columns.keys()
            fits = self._row_count + batch.row_count <= MAX_MERGED_ROWS
            if not (has_same_fields and fits and self._bytes + batch.bytes_used <= columns.MAX_JOINED_BYTES):
                self._join()
        self._inserts.append((batch, ts))
        self._row_count += batch.row_count
        self._bytes += batch.bytes_used

    def _join(self) -> None:
        self._chunks.append(join_inserts(self._schema, self._segment_id, self._partition_id, self._inserts))
        self._inserts, self._row_count, self._bytes = [], 0, 0

    def segment(self, deletes: list[DeleteBatch]) -> GrowingSegment:
        """The rows of at least one insert, with the deletes applied by timestamps."""
        self._join()
        found = GrowingSegment(self._segment_id, self._partition_id, tuple(self._chunks))
        for batch in deletes:
            found = found.with_deletes(batch)
        return found


class Replay:
    """The effect of a collection's log records, without partitions that have been dropped."""

    def __init__(self, collection: Collection) -> None:
        self._schema = collection.schema
        self._data_types = {f.field_id: f.data_type for f in collection.schema.fields}
        self._partition_ids = tuple(p.partition_id for p in collection.partitions)
        self._known = {ALL_PARTITIONS, *self._partition_ids}

    def read(self, record: WalRecord) -> tuple[list[tuple[int, ColumnBatch]], DeleteBatch | None]:
        """The inserts (partition ids and rows) and deletes of a record."""
        match record.record_type:
            case RecordType.INSERT:
                partition_id, batch, _ = decode_insert(record.body, self._data_types)
                return self._rows(partition_id, batch), None
            case RecordType.DELETE:
                deletes = decode_deletes(record.body)
                return [], deletes if self._known.issuperset(deletes.partition_ids[:1].tolist()) else None
            case RecordType.UPSERT:
                partition_id, batch, keys = decode_insert(record.body, self._data_types)
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
