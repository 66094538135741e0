"""Builds sealed segments from batches of rows, in bounded memory.

Vectors of a fixed width are appended to files beside the segment, which are mapped once its columns are written. The
other columns wait in memory, so a segment also ends when these are many bytes.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from milvine.model.columns import Column, ColumnBatch, concat_columns, json_column
from milvine.model.schema import CollectionSchema
from milvine.model.segments import SegmentMeta
from milvine.model.types import DataType
from milvine.segment.keys import KeyIndex
from milvine.storage.files import remove_tree
from milvine.storage.segment_files import RowsFile, SegmentPaths
from milvine.storage.segment_writer import SegmentWriter

_ENOUGH_BYTES = 96 << 20
"""Columns in memory, of all segments that are being built."""


class SegmentBuilder:
    """The segment that is being built for one partition."""

    def __init__(self, paths: SegmentPaths, collection_id: int, partition_id: int, segment_id: int) -> None:
        self._writer = SegmentWriter(paths, collection_id, partition_id, segment_id)
        self._kept: dict[int, list[Column]] = {}
        self._spilled: dict[int, np.ndarray[Any, Any]] = {}
        """An empty array of the vectors' type and width, by field."""
        self._validity: dict[int, list[Column]] = {}
        self.row_count = 0
        self.data_bytes = 0
        self.kept_bytes = 0

    @property
    def directory(self) -> Path:
        return self._writer.directory

    def _spill_file(self, field_id: int) -> Path:
        return self.directory / f"{field_id}.rows"

    def add(self, batch: ColumnBatch) -> None:
        """Rows with all columns of the schema."""
        for field_id, column in batch.columns.items():
            values = column.values
            if isinstance(values, np.ndarray) and values.ndim == 2:
                with self._spill_file(field_id).open("ab") as file:
                    file.write(np.ascontiguousarray(values).data)
                self._spilled[field_id] = values[:0]
                flags = np.ones(len(values), np.bool_) if column.validity is None else column.validity
                self._validity.setdefault(field_id, []).append(Column(DataType.BOOL, flags))
            else:
                self._kept.setdefault(field_id, []).append(column)
                self.kept_bytes += column.bytes_used
        self.row_count += batch.row_count
        self.data_bytes += batch.bytes_used

    def finish(self, schema: CollectionSchema, insert_ts: int) -> SegmentMeta:
        """Writes the segment, whose rows all have one timestamp."""
        for field in schema.fields:
            field_id = field.field_id
            if field_id in self._spilled:
                self._write_spilled(field_id, field.data_type)
                continue
            column = concat_columns(self._kept.pop(field_id))
            if field.data_type is DataType.JSON and column.paths is None:
                column = json_column(column.values, column.validity)
            self._writer.add_column(field_id, column)
            if field.is_primary:
                keys = KeyIndex.build(column.values)
        timestamps = np.full(self.row_count, insert_ts, np.int64)
        self._writer.add_rows(RowsFile(timestamps, keys.sorted_keys, keys.order))
        return self._writer.finish()

    def _write_spilled(self, field_id: int, data_type: DataType) -> None:
        path, form = self._spill_file(field_id), self._spilled[field_id]
        validity = concat_columns(self._validity.pop(field_id)).values
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            values = np.frombuffer(mapped, form.dtype).reshape(self.row_count, form.shape[1])
            try:
                self._writer.add_column(field_id, Column(data_type, values, None if validity.all() else validity))
            finally:
                del values  # else the mapping cannot be closed
        path.unlink()


class SegmentBuilders:
    """Divides rows of many partitions into segments below the limits."""

    def __init__(
        self,
        schema: CollectionSchema,
        make: Callable[[int], SegmentBuilder],
        insert_ts: int,
        most_rows: int,
        most_bytes: int,
    ) -> None:
        """`make` begins the segment of a partition."""
        self._schema = schema
        self._make = make
        self._insert_ts = insert_ts
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._open: dict[int, SegmentBuilder] = {}
        self.written: list[SegmentMeta] = []

    def add(self, partition_id: int, batch: ColumnBatch) -> None:
        builder = self._open.get(partition_id)
        if builder is None:
            builder = self._open[partition_id] = self._make(partition_id)
        builder.add(batch)
        if builder.row_count >= self._most_rows or builder.data_bytes >= self._most_bytes:
            self._finish(partition_id)
        if sum(one.kept_bytes for one in self._open.values()) > _ENOUGH_BYTES:
            self._finish(max(self._open, key=lambda i: self._open[i].kept_bytes))

    def _finish(self, partition_id: int) -> None:
        self.written.append(self._open.pop(partition_id).finish(self._schema, self._insert_ts))

    def finish(self) -> tuple[SegmentMeta, ...]:
        """All segments, with their files written and synced."""
        for partition_id in list(self._open):
            self._finish(partition_id)
        return tuple(self.written)

    def discard(self) -> None:
        """Removes the files of the segments that are not finished."""
        for builder in self._open.values():
            remove_tree(builder.directory)
