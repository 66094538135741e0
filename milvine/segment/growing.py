"""Rows in memory, covered by the log: a tuple of immutable chunks that the writer replaces.

Small chunks are merged like the digits of a counter in base 4: the last four become one if they are about equally
large, or as many of them as stay below the size of a large chunk. So every row is copied O(log rows) times, for inserts
of any size. Large chunks are not merged: a copy into fresh memory costs more than a search saves with one chunk less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any

import numpy as np

from milvine.analysis.outputs import with_lacking_outputs
from milvine.index.base import VectorIndex
from milvine.index.exact import exact_of
from milvine.index.term_index import TermIndex
from milvine.model.columns import Column, ColumnBatch, concat_batches, json_column, lacking_column
from milvine.model.json_paths import JsonPath, PathColumn, PathElements
from milvine.model.records import record
from milvine.model.schema import CollectionSchema
from milvine.model.segments import DeleteBatch
from milvine.model.types import DataType
from milvine.segment.deletes import DeleteMarks, join_marks
from milvine.segment.group_codes import KnownGroups
from milvine.segment.keys import KeyIndex
from milvine.segment.rows import ExtractedPaths
from milvine.segment.terms import AnalyzedTexts

Array = np.ndarray[Any, Any]
MAX_MERGED_ROWS = 1 << 17
MAX_MERGED_BYTES = 4 << 20
_JOINED = 4


@record
class Chunk:
    """Some rows of a growing segment; a RowSet. `prepared`: what scans keep of each vector, by field id."""

    segment_id: int
    partition_id: int
    schema: CollectionSchema
    batch: ColumnBatch
    insert_ts: Array
    max_insert_ts: int
    keys: KeyIndex
    prepared: dict[int, Array]
    marks: DeleteMarks = field(default_factory=DeleteMarks.none)
    extracted: ExtractedPaths = field(default_factory=ExtractedPaths)
    analyzed: AnalyzedTexts = field(default_factory=AnalyzedTexts)
    groups: KnownGroups = field(default_factory=KnownGroups)
    identity: object = field(default_factory=object)
    bytes_used: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        size = self.batch.bytes_used + self.insert_ts.nbytes + self.keys.bytes_used + self.marks.bytes_used
        object.__setattr__(self, "bytes_used", size + sum(n.nbytes for n in self.prepared.values()))

    @property
    def is_growing(self) -> bool:
        return True

    @property
    def row_count(self) -> int:
        return self.batch.row_count

    def with_schema(self, schema: CollectionSchema) -> Chunk:
        """The rows without the columns of dropped fields, whose bytes the log keeps, and with the outputs of added
        functions."""
        batch = _batch_of(schema, self.batch)
        return replace(self, schema=schema, batch=batch, prepared=_prepared(schema, batch, self.prepared))

    def column(self, field_id: int) -> Column:
        column = self.batch.columns.get(field_id)
        return lacking_column(self.schema.by_id[field_id], self.row_count) if column is None else column

    def json_path(self, field_id: int, path: JsonPath) -> PathColumn:
        return self.extracted.find(field_id, self.column(field_id), path)

    def json_elements(self, field_id: int, path: JsonPath, depth: int = 1) -> PathElements:
        return self.extracted.find_elements(field_id, self.column(field_id), path, depth)

    def value_index(self, field_id: int, path: JsonPath, has_elements: bool) -> None:
        return None

    def text_index(self, field_id: int, path: JsonPath) -> None:
        return None

    def term_index(self, field_id: int) -> TermIndex:
        return self.analyzed.find(self.schema.by_id[field_id], self.column(field_id))

    def index(self, field_id: int) -> VectorIndex | None:
        return None

    def vectors(self, field_id: int) -> tuple[Any, Array | None]:
        return self.column(field_id).values, self.prepared.get(field_id)

    def is_resident(self, field_id: int) -> bool:
        return field_id in self.batch.columns


def _batch_of(schema: CollectionSchema, batch: ColumnBatch) -> ColumnBatch:
    if not batch.columns.keys() <= schema.field_ids:
        kept = {i: c for i, c in batch.columns.items() if i in schema.field_ids}
        batch = ColumnBatch(batch.row_count, kept)
    return with_lacking_outputs(schema, batch)


def make_chunk(schema: CollectionSchema, segment_id: int, partition_id: int, batch: ColumnBatch, ts: int) -> Chunk:
    """One insert as a chunk. All work over its rows happens here, outside locks that other threads wait for."""
    batch = _batch_of(schema, batch)
    return Chunk(
        segment_id,
        partition_id,
        schema,
        batch,
        np.full(batch.row_count, ts, np.int64),
        ts,
        KeyIndex.build(batch.columns[schema.primary_field.field_id].values),
        _prepared(schema, batch, {}),
    )


def join_inserts(
    schema: CollectionSchema, segment_id: int, partition_id: int, inserts: Sequence[tuple[ColumnBatch, int]]
) -> Chunk:
    """Joins inserts of the same fields, read from the log with their timestamps, in one chunk. Shreds JSON."""
    batch = concat_batches([rows for rows, _ in inserts])
    shredded = {
        i: json_column(c.values, c.validity) if c.data_type is DataType.JSON else c for i, c in batch.columns.items()
    }
    chunk = make_chunk(schema, segment_id, partition_id, ColumnBatch(batch.row_count, shredded), inserts[-1][1])
    insert_ts = np.repeat(np.array([ts for _, ts in inserts], np.int64), [rows.row_count for rows, _ in inserts])
    return replace(chunk, insert_ts=insert_ts)


def join_chunks(chunks: tuple[Chunk, ...]) -> Chunk:
    """Joins consecutive chunks of one segment."""
    first = chunks[0]
    if len(chunks) == 1:
        return first
    # A chunk older than an added field lacks its column; the schema of the other chunks says what it reads as.
    field_ids = dict.fromkeys(i for c in chunks for i in c.batch.columns)
    batch = concat_batches([ColumnBatch(c.row_count, {i: c.column(i) for i in field_ids}) for c in chunks])
    vectors = dict.fromkeys(i for c in chunks for i in c.prepared)
    return Chunk(
        first.segment_id,
        first.partition_id,
        first.schema,
        batch,
        np.concatenate([c.insert_ts for c in chunks]),
        max(c.max_insert_ts for c in chunks),
        KeyIndex.build(batch.columns[first.schema.primary_field.field_id].values),
        {i: np.concatenate([_prepared_of(c, i) for c in chunks]) for i in vectors},
        join_marks([(c.row_count, c.marks) for c in chunks]),
    )


def _prepared(schema: CollectionSchema, batch: ColumnBatch, known: Mapping[int, Array]) -> dict[int, Array]:
    """`known`: those of some fields, perhaps of dropped ones."""
    found = {i: prepared for i, prepared in known.items() if i in batch.columns}
    for field_id, column in batch.columns.items():
        if column.data_type.is_vector and field_id not in known:
            prepared = exact_of(schema.by_id[field_id]).prepare(column.values)
            if prepared is not None:
                found[field_id] = prepared
    return found


def _prepared_of(chunk: Chunk, field_id: int) -> Array:
    known = chunk.prepared.get(field_id)
    if known is None:
        known = exact_of(chunk.schema.by_id[field_id]).prepare(chunk.column(field_id).values)
        assert known is not None
    return known


def _are_alike(chunks: tuple[Chunk, ...]) -> bool:
    return chunks[0].row_count < _JOINED * chunks[-1].row_count


def _fit_one(chunks: tuple[Chunk, ...]) -> bool:
    rows, size = sum(c.row_count for c in chunks), sum(c.bytes_used for c in chunks)
    return rows <= MAX_MERGED_ROWS and size <= MAX_MERGED_BYTES


@record
class GrowingSegment:
    """One growing segment as a reader sees it. Deletes and inserts make a new object."""

    segment_id: int
    partition_id: int
    chunks: tuple[Chunk, ...] = ()
    bytes_used: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bytes_used", sum(c.bytes_used for c in self.chunks))

    @property
    def row_count(self) -> int:
        return sum(c.row_count for c in self.chunks)

    def with_chunk(self, chunk: Chunk) -> GrowingSegment:
        chunks = (*self.chunks, chunk)
        while len(chunks) >= _JOINED and _are_alike(chunks[-_JOINED:]):
            count = next((n for n in range(_JOINED, 1, -1) if _are_alike(chunks[-n:]) and _fit_one(chunks[-n:])), 0)
            if not count:
                break
            chunks = (*chunks[:-count], join_chunks(chunks[-count:]))
        return replace(self, chunks=chunks)

    def with_schema(self, schema: CollectionSchema) -> GrowingSegment:
        return replace(self, chunks=tuple(c.with_schema(schema) for c in self.chunks))

    def with_deletes(self, batch: DeleteBatch) -> GrowingSegment:
        """Returns this same object if the batch kills none of its rows."""
        changed: dict[int, Chunk] = {}
        for place, chunk in enumerate(self.chunks):
            marks = chunk.marks.with_deletes(batch, chunk.keys, chunk.insert_ts, chunk.partition_id)
            if marks is not chunk.marks:
                changed[place] = replace(chunk, marks=marks)
        if not changed:
            return self
        return replace(self, chunks=tuple(changed.get(i, c) for i, c in enumerate(self.chunks)))
