"""Exports in pages: a program begins one, reads its rows page by page, in its own time, and ends it.

An export is a held copy of the record of a snapshot, or of the collection as it is now, so all pages show one moment,
and nothing is copied. The server writes nowhere and keeps nothing in memory between pages that it could not make
again. What it holds goes when the program ends the export, after a day, or at the next start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.catalog.snapshots import find_snapshot, hold, let_go
from milvine.crash_points import crash_point
from milvine.errors import DataIntegrityError, ParameterInvalid, SnapshotNotFound
from milvine.expr import Predicate, compile_filter, referenced_field_ids
from milvine.model.columns import Column, null_column, taken_bytes
from milvine.model.functions import FunctionType
from milvine.model.records import record
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.snapshots import BACKUP_PREFIX, CollectionSnapshot
from milvine.model.timestamps import physical_ms
from milvine.segment.rows import RowSet
from milvine.segment.search import allowed
from milvine.service.context import Engine, RequestContext, find_by_any_name
from milvine.service.deny_rules import READING
from milvine.service.exporting.file_columns import file_column, file_field
from milvine.service.gate import capability
from milvine.service.moments import zone_of
from milvine.service.reading.names import partition_ids
from milvine.service.roles import check_name
from milvine.sized_cache import SizedCache

Array = np.ndarray[Any, Any]
PAGE_BYTES = 8 << 20
_MOST_ROWS = 1 << 18
_passing: SizedCache[tuple[int, int, str], Array] = SizedCache("export_rows", 64 << 20)
"""Offsets of the rows that pass, by export, segment and filter."""


@record
class ExportPlan:
    """`row_count`: of all rows that are looked at, deleted ones included. `fields`: those that are exported if the
    caller names none."""

    export_id: int
    collection_id: int
    created_ts: int
    row_count: int
    fields: tuple[str, ...]


@record
class PageRequest:
    """`partitions`: by name, () for all. `fields`: () for all that imports take back. `segment` and `row`: where the
    page begins."""

    export_id: int
    filter: str = ""
    partitions: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    segment: int = 0
    row: int = 0


@record
class Page:
    """Some rows. `segment` and `row`: where the next page begins; `segment` is -1 after the last one. `passed`: how
    many rows were looked at so far."""

    rows: pa.RecordBatch
    segment: int
    row: int
    passed: int


@capability("Query", on="collection_name", denied_as=READING)
def begin_export(engine: Engine, context: RequestContext, collection_name: str, snapshot_name: str = "") -> ExportPlan:
    """Holds a snapshot or, without a name, every row that was written before the call. Raises SnapshotNotFound."""
    collection = find_by_any_name(engine, context, collection_name)
    if snapshot_name:
        check_name(snapshot_name, "snapshot name")
    export_id = engine.clock.next()
    if not snapshot_name:
        engine.datanode.flush(collection.collection_id)
    elif find_snapshot(engine.catalog.snapshot, collection.collection_id, snapshot_name) is None:
        raise SnapshotNotFound(snapshot_name, collection.collection_id)
    kept = hold(engine.catalog, collection.collection_id, snapshot_name, export_id, engine.clock.next)
    crash_point("export.begun")
    engine.datanode.snapshots.look()
    fields = tuple(field.name for field in _fields(kept.collection.schema, ()))
    row_count = sum(meta.row_count for meta in kept.segments)
    return ExportPlan(export_id, collection.collection_id, kept.created_ts, row_count, fields)


@capability("Query", by_id="collection_id", on="collection_name", denied_as=READING)
def read_page(
    engine: Engine, context: RequestContext, collection_name: str, collection_id: int, wanted: PageRequest
) -> Page:
    """The page that begins at a place. The same request gives the same rows, so a lost answer is asked for again."""
    kept = _find(engine, collection_id, wanted.export_id)
    schema = kept.collection.schema
    fields = _fields(schema, wanted.fields)
    zone = zone_of(kept.collection.properties)
    predicate = compile_filter(wanted.filter, schema, None, {}, (), zone) if wanted.filter.strip() else None
    named = partition_ids(kept.collection, wanted.partitions)
    segments = [m for m in kept.segments if named is None or m.partition_id in named]
    number, row = wanted.segment, wanted.row
    if not 0 <= number <= len(segments) or row < 0:
        raise ParameterInvalid(f"an export of {len(segments)} segments has no place {number}, {row}")
    pieces: list[pa.RecordBatch] = []
    size = 0
    try:
        while number < len(segments) and size < PAGE_BYTES:
            meta = segments[number]
            field_ids = frozenset(f.field_id for f in fields) | _looked_at(predicate)
            rows = engine.held_segments.segment(kept, meta, field_ids)
            offsets = _passing_rows(kept, rows, predicate, wanted.filter)
            first = int(np.searchsorted(offsets, row))
            some = _page_of(rows, fields, offsets[first:], PAGE_BYTES - size)
            pieces.append(_batch(fields, [rows.column(f.field_id).take(some) for f in fields]))
            size += pieces[-1].nbytes
            is_done = first + len(some) == len(offsets)
            number, row = (number + 1, 0) if is_done else (number, int(some[-1]) + 1)
    except DataIntegrityError:
        _find(engine, collection_id, wanted.export_id)  # else the files went with the export
        raise
    passed = sum(meta.row_count for meta in segments[:number]) + row
    batch = _joined(pieces) if pieces else _batch(fields, [null_column(f, 0) for f in fields])
    return Page(batch, number if number < len(segments) else -1, row, passed)


@capability("Query", by_id="collection_id", on="collection_name", denied_as=READING)
def end_export(
    engine: Engine, context: RequestContext, collection_name: str, collection_id: int, export_id: int
) -> None:
    """Lets the files go. No error for an export that has ended."""
    for kept in let_go(engine.catalog, f"{BACKUP_PREFIX}{export_id}"):
        engine.held_segments.forget(kept.snapshot_id)
        engine.datanode.snapshots.dropped(kept)
    _passing.remove(lambda key: key[0] == export_id)


def _find(engine: Engine, collection_id: int, export_id: int) -> CollectionSnapshot:
    name = f"{BACKUP_PREFIX}{export_id}"
    found = engine.catalog.snapshot.snapshots.get(export_id)
    if found is None or found.name != name or found.collection_id != collection_id:
        raise ParameterInvalid(f"there is no export {export_id}; it has ended, or the server has been restarted")
    return found


def _fields(schema: CollectionSchema, names: Sequence[str]) -> list[FieldSchema]:
    """Those with these names or, without names, all that files of imports may have: no outputs of functions."""
    if not names:
        return [f for f in schema.fields if f.made_by is None]
    found = []
    for name in dict.fromkeys(names):
        field = schema.by_name.get(name)
        if field is None:
            raise ParameterInvalid(f"field {name} not exist")
        if field.made_by is FunctionType.BM25:
            raise ParameterInvalid(f"not allowed to retrieve raw data of field {name}")
        found.append(field)
    return found


def _looked_at(predicate: Predicate | None) -> frozenset[int]:
    return frozenset() if predicate is None else referenced_field_ids(predicate)


def _passing_rows(kept: CollectionSnapshot, rows: RowSet, predicate: Predicate | None, text: str) -> Array:
    """Row offsets, int64, of the rows that are alive and pass the filter."""
    key = kept.snapshot_id, rows.segment_id, text
    found = _passing.get(key)
    if found is None:
        mask = allowed(
            rows, predicate, np.iinfo(np.int64).max, kept.collection.expired_ts(physical_ms(kept.snapshot_id))
        )
        found = np.arange(rows.row_count) if mask is None else np.flatnonzero(mask)
        _passing.put(key, found, found.nbytes)
    return found


def _page_of(rows: RowSet, fields: Sequence[FieldSchema], offsets: Array, room: int) -> Array:
    """The first rows that fit into `room`, at least one if there is any."""
    some = offsets[:_MOST_ROWS]
    while len(some) > 1:
        size = sum(taken_bytes(rows.column(f.field_id), some) for f in fields)
        if size <= room:
            break
        some = some[: max(1, min(len(some) // 2, int(len(some) * room / size)))]
    return some


def _batch(fields: Sequence[FieldSchema], columns: Sequence[Column]) -> pa.RecordBatch:
    arrays = [file_column(f, column) for f, column in zip(fields, columns, strict=True)]
    named = [file_field(f, array) for f, array in zip(fields, arrays, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(named))


def _joined(pieces: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(pieces) == 1:
        return pieces[0]
    return pa.Table.from_batches(pieces).combine_chunks().to_batches()[0]
