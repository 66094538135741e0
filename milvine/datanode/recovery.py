"""Start-up: replays each log over the sealed segments."""

from __future__ import annotations

from milvine.catalog.contents import Snapshot
from milvine.crash_points import crash_point
from milvine.errors import DataIntegrityError
from milvine.model import columns
from milvine.model.collections import Collection
from milvine.model.columns import ColumnBatch
from milvine.model.partition_keys import routed
from milvine.model.schema import CollectionSchema
from milvine.model.segments import ALL_PARTITIONS, DeleteBatch, make_deletes
from milvine.model.timestamps import MAX_TIMESTAMP, HybridClock
from milvine.segment.deletes import joined_deletes
from milvine.segment.growing import MAX_MERGED_ROWS, Chunk, GrowingSegment, join_inserts
from milvine.segment.view import ReadView
from milvine.storage.wal_format import Log, LogReader, WalRecord
from milvine.storage.wal_records import RecordType, decode_deletes, decode_insert


def recover(
    collection: Collection, snapshot: Snapshot, reader: LogReader, clock: HybridClock, until: int = MAX_TIMESTAMP
) -> tuple[ReadView, Log]:
    """The view from log and catalog, without records after `until`, and the log, ready to continue.

    The clock is moved past every timestamp that is read. Raises DataIntegrityError naming a damaged file.
    """
    collection_id = collection.collection_id
    growing: dict[int, _GrowingRows] = {}
    deletes: list[DeleteBatch] = []
    sealed = snapshot.segments.get(collection_id, ())
    deltas = snapshot.deltas.get(collection_id, ())
    # What was written last may be removed, and reads before that are refused.
    last_ts = max([collection.folded_ts, *(meta.max_ts for meta in sealed), *(delta.max_ts for delta in deltas)])
    replay = Replay(collection)
    for record in reader.records():
        if record.ts > until:
            continue
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
    log = reader.go_on()
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
    return view, log


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
