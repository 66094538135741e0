"""A sealed segment opened for reading: its files mapped, resident or not, and counted byte by byte.

An opened segment never changes but for its delete marks. Another field list or a new index makes another
SealedSegment that shares the parts both have; the old one goes when its last lease does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from milvine.index import dense
from milvine.index.base import VectorIndex
from milvine.index.partial import PartialIndex
from milvine.index.scan import squared_norms
from milvine.model.columns import Column, absent_column
from milvine.model.json_paths import JsonPath, PathColumn, PathElements
from milvine.model.schema import CollectionSchema, IndexSpec
from milvine.model.segments import DeleteBatch, SegmentMeta
from milvine.segment.deletes import DeleteMarks
from milvine.segment.keys import KeyIndex
from milvine.segment.rows import ExtractedPaths
from milvine.storage.segment_files import (
    ROWS_FILE,
    SegmentPaths,
    open_column,
    open_index_file,
    open_rows,
)

Array = np.ndarray[Any, Any]
PartKey = tuple[str, int]
"""("rows", 0), ("field", field id) or ("index", index id)."""


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """What of a segment is to be opened: fields, and the index of each vector field among them.

    `mapped`: nothing is made resident (the segment opened in place of growing rows that a full budget refused).
    """

    schema: CollectionSchema
    field_ids: frozenset[int]
    indexes: Mapping[int, IndexSpec]
    mapped: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One opened file. `memory_bytes` is resident and counted; a part that is only mapped has 0."""

    value: Any
    memory_bytes: int
    resident: bool


def part_sizes(meta: SegmentMeta, spec: LoadSpec) -> dict[PartKey, int]:
    """Bytes that each part will hold in memory; 0 for a raw vector column beside its index."""
    sizes: dict[PartKey, int] = {("rows", 0): meta.rows_bytes}
    for field_id in spec.field_ids:
        if field_id not in meta.field_bytes:
            continue
        index = spec.indexes.get(field_id)
        built = None if index is None else meta.indexes.get(index.index_id)
        if index is not None and built is not None and not built.is_scan:
            sizes["field", field_id] = 0  # before its index, which needs to know the rows that have a vector
            sizes["index", built.index_id] = dense.memory_bytes(index.build_type, built.file_bytes, meta.row_count)
            if spec.schema.by_id[field_id].nullable:
                sizes["index", built.index_id] += 4 * meta.row_count
        else:
            sizes["field", field_id] = meta.field_bytes[field_id]
            if spec.schema.by_id[field_id].data_type.is_vector:
                sizes["field", field_id] += 4 * meta.row_count
    return dict.fromkeys(sizes, 0) if spec.mapped else sizes


class SealedSegment:
    """A RowSet over mapped files. Open it with `open_segment`."""

    def __init__(self, meta: SegmentMeta, spec: LoadSpec, parts: dict[PartKey, Part]) -> None:
        self.meta = meta
        self.spec = spec
        self.parts = parts
        self.marks = DeleteMarks.none()
        rows, self.keys = parts["rows", 0].value
        self.insert_ts: Array = rows
        self._extracted = ExtractedPaths()
        self._leases = 0
        self._condition = threading.Condition()

    @property
    def segment_id(self) -> int:
        return self.meta.segment_id

    @property
    def partition_id(self) -> int:
        return self.meta.partition_id

    @property
    def is_growing(self) -> bool:
        return False

    @property
    def row_count(self) -> int:
        return self.meta.row_count

    @property
    def max_insert_ts(self) -> int:
        return self.meta.max_ts

    @property
    def memory_bytes(self) -> dict[PartKey, int]:
        """What each part holds in memory, measured; delete marks are counted with the rows."""
        sizes = {key: part.memory_bytes for key, part in self.parts.items()}
        sizes["rows", 0] += self.marks.bytes_used
        return sizes

    def column(self, field_id: int) -> Column:
        part = self.parts.get(("field", field_id))
        if part is None:
            return absent_column(self.spec.schema.by_id[field_id], self.row_count)
        column: Column = part.value[0]
        return column

    def json_path(self, field_id: int, path: JsonPath) -> PathColumn:
        return self._extracted.find(field_id, self.column(field_id), path)

    def json_elements(self, field_id: int, path: JsonPath) -> PathElements:
        return self._extracted.find_elements(field_id, self.column(field_id), path)

    def index(self, field_id: int) -> VectorIndex | None:
        spec = self.spec.indexes.get(field_id)
        part = None if spec is None else self.parts.get(("index", spec.index_id))
        return None if part is None else part.value

    def vectors(self, field_id: int) -> tuple[Array, Array | None]:
        part = self.parts.get(("field", field_id))
        if part is None:
            return self.column(field_id).values, None
        return part.value[0].values, part.value[1]

    def apply_deletes(self, batch: DeleteBatch) -> None:
        """Mark rows; the caller serialises calls for one segment."""
        self.marks = self.marks.with_deletes(batch, self.keys, self.insert_ts, self.partition_id)

    def lease(self) -> None:
        with self._condition:
            self._leases += 1

    def end_lease(self) -> None:
        with self._condition:
            self._leases -= 1
            if self._leases == 0:
                self._condition.notify_all()

    def wait_for_leases(self, deadline: float) -> bool:
        """Wait until nobody reads, at most until `deadline` (time.monotonic). The files are unmapped when the
        last reference goes, so a reader that outlasts the deadline stays safe."""
        with self._condition:
            while self._leases and (left := deadline - time.monotonic()) > 0:
                self._condition.wait(left)
            return self._leases == 0


def open_segment(
    paths: SegmentPaths, meta: SegmentMeta, spec: LoadSpec, previous: SealedSegment | None = None
) -> SealedSegment:
    """Map what `spec` names, sharing with `previous` what it has in the same residency.

    Marks are not taken over. Raises DataIntegrityError, naming the file.
    """
    parts: dict[PartKey, Part] = {}
    for key, size in part_sizes(meta, spec).items():
        resident = size > 0
        old = None if previous is None else previous.parts.get(key)
        if old is not None and old.resident == resident:
            parts[key] = old
        else:
            parts[key] = _open_part(paths, meta, spec, key, resident, parts)
    return SealedSegment(meta, spec, parts)


def _open_part(
    paths: SegmentPaths,
    meta: SegmentMeta,
    spec: LoadSpec,
    key: PartKey,
    resident: bool,
    others: Mapping[PartKey, Part],
) -> Part:
    kind, number = key
    where = (meta.collection_id, meta.segment_id)
    if kind == "rows":
        rows, mapped = open_rows(paths.segment(*where) / ROWS_FILE, resident=resident)
        keys = KeyIndex(rows.sorted_keys, rows.order)
        return Part((rows.insert_ts, keys), mapped.payload_bytes if resident else 0, resident)
    if kind == "index":
        index = next(i for i in spec.indexes.values() if i.index_id == number)
        assert index.metric_type is not None
        path = paths.index(*where, meta.indexes[number].file_name)
        mapped = open_index_file(path, resident=resident)
        opened = dense.open_index(mapped.payload, index.build_type, index.metric_type, path)
        validity = others["field", index.field_id].value[0].validity
        if validity is not None:
            opened = PartialIndex(opened, validity)
        return Part(opened, opened.memory_bytes if resident else opened.heap_bytes, resident)
    field = spec.schema.by_id[number]
    column, mapped = open_column(paths.column(*where, number), field.data_type, resident=resident)
    memory = mapped.payload_bytes if resident else 0
    norms2 = None
    if field.data_type.is_vector and resident:
        norms2 = squared_norms(column.values)
        memory += norms2.nbytes
    if column.validity is not None:
        memory += column.validity.nbytes
    return Part((column, norms2), memory, resident)
