"""Writes one segment from the living rows of several; runs in a child process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from milvine.crash_points import crash_point
from milvine.model.columns import Column, absent_column, concat_columns, json_column
from milvine.model.file_resources import FileResource
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.segments import DeleteBatch, DeltaMeta, SegmentMeta
from milvine.model.types import DataType
from milvine.segment.deletes import DeleteMarks, joined_deletes
from milvine.segment.keys import KeyIndex
from milvine.storage.segment_files import (
    ROWS_FILE,
    RowsFile,
    SegmentPaths,
    open_column,
    open_delta,
    open_rows,
)
from milvine.storage.segment_writer import SegmentWriter

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class MergeOrder:
    """Sources of one partition, oldest first, become segment `segment_id`.

    Rows deleted at or before `fold_ts`, or inserted before `expired_ts`, are left out.
    """

    paths: SegmentPaths
    schema: CollectionSchema
    sources: tuple[SegmentMeta, ...]
    deltas: tuple[DeltaMeta, ...]
    segment_id: int
    fold_ts: int
    expired_ts: int
    resources: Mapping[str, FileResource]
    """Those that the schema's analyzers name, by name."""

    @property
    def needed_deltas(self) -> list[DeltaMeta]:
        """Without those that no source needs, which may be gone if the partition that needed them was dropped."""
        return [d for d in self.deltas if any(meta.needs(d) for meta in self.sources)]

    @property
    def input_bytes(self) -> int:
        return sum(meta.data_bytes for meta in self.sources)

    def elsewhere(self, paths: SegmentPaths) -> MergeOrder | None:
        return None if self.resources else replace(self, paths=paths)

    def inputs(self) -> list[Path]:
        """The files that the merge reads."""
        found = [self.paths.delta(d.collection_id, d.delta_id) for d in self.needed_deltas]
        for meta in self.sources:
            where = meta.collection_id, meta.segment_id
            known = (f.field_id for f in self.schema.fields if f.field_id in meta.field_bytes)
            found += [self.paths.segment(*where) / ROWS_FILE, *(self.paths.column(*where, i) for i in known)]
        return found


def living_rows(rows: RowsFile, meta: SegmentMeta, deletes: list[DeleteBatch], fold_ts: int, expired_ts: int) -> Array:
    """bool (n,): neither deleted at or before `fold_ts` nor inserted before `expired_ts`."""
    keys = KeyIndex(rows.sorted_keys, rows.order)
    fresh: Array = rows.insert_ts >= expired_ts
    marks = DeleteMarks.none()
    for batch in joined_deletes(deletes):
        marks = marks.with_deletes(batch, keys, rows.insert_ts, meta.partition_id)
    living = marks.living_at(fold_ts)
    return fresh if living is None else fresh & living


def merge(order: MergeOrder) -> SegmentMeta | None:
    """The new segment, with its files written and synced; None, with no file written, if no row is alive."""
    first = order.sources[0]
    deletes = {d: open_delta(order.paths.delta(d.collection_id, d.delta_id)) for d in order.needed_deltas}
    kept: list[Array | None] = []
    insert_ts: list[Array] = []
    for meta in order.sources:
        rows, _ = open_rows(order.paths.segment(meta.collection_id, meta.segment_id) / ROWS_FILE, resident=True)
        wanted = [batch for delta, batch in deletes.items() if meta.needs(delta)]
        living = living_rows(rows, meta, wanted, order.fold_ts, order.expired_ts)
        kept.append(None if living.all() else np.flatnonzero(living))
        insert_ts.append(rows.insert_ts[living])
    timestamps = np.concatenate(insert_ts)
    if len(timestamps) == 0:
        return None
    writer = SegmentWriter(order.paths, first.collection_id, first.partition_id, order.segment_id)
    for field in order.schema.fields:
        if field.is_made_here or any(field.field_id in meta.field_bytes for meta in order.sources):
            column = _merged_column(order, field, kept)
            writer.add_column(field.field_id, column)
            if field.is_primary:
                keys = KeyIndex.build(column.values)
    crash_point("merge.columns_written")
    writer.add_rows(RowsFile(timestamps, keys.sorted_keys, keys.order))
    folded_ts = min(order.fold_ts, max((d.max_ts for d in order.deltas), default=0))
    merged = writer.finish(folded_ts, tuple(m.segment_id for m in order.sources))
    crash_point("merge.child_done")
    return merged


def merge_in_child(order: MergeOrder) -> SegmentMeta | None:
    if order.resources:
        from milvine.datanode.stored_outputs import read_resources

        read_resources(order.paths, order.resources)
    return merge(order)


def _merged_column(order: MergeOrder, field: FieldSchema, kept: list[Array | None]) -> Column:
    pieces: list[Column] = []
    for meta, offsets in zip(order.sources, kept, strict=True):
        if field.field_id in meta.field_bytes:
            path = order.paths.column(meta.collection_id, meta.segment_id, field.field_id)
            piece, _ = open_column(path, field.data_type, resident=True)
        elif field.is_made_here:
            # Imported when needed, since imports take most of the time of a small merge.
            from milvine.datanode.stored_outputs import made_column

            piece = made_column(order.paths, order.schema, meta, field)
        else:
            piece = absent_column(field, meta.row_count)
        if offsets is None or len(offsets):
            pieces.append(piece if offsets is None else piece.take(offsets))
    column = concat_columns(pieces)
    if field.data_type is DataType.JSON and column.paths is None:
        return json_column(column.values, column.validity)
    return column
