"""A sealed segment opened for reading. Its files are mapped, resident or not, and their bytes are counted.

An opened segment is immutable except for its delete marks and the schema, to which fields may be added. Another field
list or a new index makes a new SealedSegment that shares the common parts. The old one is closed after its last reader.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np

from milvine.analysis.outputs import input_fields
from milvine.errors import DataIntegrityError
from milvine.in_flight import InFlight
from milvine.index import scalar
from milvine.index.base import VectorIndex
from milvine.index.exact import exact_of
from milvine.index.partial import PartialIndex
from milvine.index.registry import TYPES
from milvine.index.scalar import ValueIndex
from milvine.index.term_index import TermIndex
from milvine.index.text_index import TextIndex
from milvine.model.columns import Column, lacking_column
from milvine.model.json_paths import JsonPath, PathColumn, PathElements
from milvine.model.properties import MAPPED, RESIDENT, PartKey, Placement, Populate
from milvine.model.records import record
from milvine.model.schema import CollectionSchema, IndexSpec
from milvine.model.segments import DeleteBatch, SegmentMeta
from milvine.segment.deletes import DeleteMarks, find_deleted
from milvine.segment.group_codes import KnownGroups
from milvine.segment.keys import KeyIndex
from milvine.segment.pending import PendingColumn
from milvine.segment.rows import ExtractedPaths
from milvine.segment.terms import AnalyzedTexts
from milvine.storage.files import MappedFile, OnBytes, ignore_bytes
from milvine.storage.segment_files import (
    ROWS_FILE,
    SegmentPaths,
    open_column,
    open_index_file,
    open_rows,
    open_scalar_index,
)

Array = np.ndarray[Any, Any]
_MOST_COMPLETE = 64


@record
class LoadSpec:
    """The parts of a segment to open: fields, the index of each vector field among them, and scalar indexes.

    `placements`: where each part goes. A part without a placement is resident, except vectors beside their index.
    `mapped`: the budget is full, so no part is made resident. `without_scalar_indexes`: the budget is full, so scalar
    indexes are left out. `unlisted_field_ids`: fields that are opened with their vector indexes, but served from
    mapped files. `warmed`: parts whose pages are read in later now have their pages.
    """

    schema: CollectionSchema
    field_ids: frozenset[int]
    indexes: Mapping[int, IndexSpec]
    scalar_indexes: tuple[IndexSpec, ...] = ()
    mapped: bool = False
    without_scalar_indexes: bool = False
    unlisted_field_ids: frozenset[int] = frozenset()
    placements: Mapping[PartKey, Placement] = field(default_factory=dict)
    warmed: bool = False


@record
class Part:
    """One opened file. `memory_bytes` is resident and counted; of a mapped part only the heap counts.

    `populated`: the pages were read in when the file was opened.
    """

    value: Any
    memory_bytes: int
    mapped_bytes: int
    in_memory: bool
    populated: bool


@record
class PartPlan:
    """`size`: the bytes that the part will hold if it is in memory."""

    size: int
    placement: Placement

    @property
    def memory_bytes(self) -> int:
        return self.size if self.placement.in_memory else 0


def part_plans(meta: SegmentMeta, spec: LoadSpec) -> dict[PartKey, PartPlan]:
    """The parts of a segment to open."""
    plans: dict[PartKey, PartPlan] = {}

    def add(
        key: PartKey, size: int, usual: Placement, *, placed_as: PartKey | None = None, is_listed: bool = True
    ) -> None:
        is_mapped = spec.mapped or not is_listed
        plans[key] = PartPlan(size, MAPPED if is_mapped else spec.placements.get(placed_as or key, usual))

    add(("rows", 0), meta.rows_bytes, RESIDENT)
    for field_id in (spec.field_ids | spec.unlisted_field_ids) & meta.field_bytes.keys():
        is_listed = field_id in spec.field_ids
        schema = spec.schema.by_id[field_id]
        size = meta.field_bytes[field_id] + (meta.row_count if schema.nullable else 0)
        if not schema.data_type.is_vector:
            add(("field", field_id), size, RESIDENT, is_listed=is_listed)
            continue
        index = spec.indexes.get(field_id)
        built = None if index is None else meta.indexes.get(index.index_id)
        size += exact_of(schema).prepared_bytes * meta.row_count
        if index is not None and built is not None and not built.is_scan:
            index_size = TYPES[index.build_type].memory_bytes(built.file_bytes, meta.row_count, schema.dim or 0)
            index_size += 4 * meta.row_count if schema.nullable else 0
            add(("index", built.index_id), index_size, RESIDENT, is_listed=is_listed)
            add(("field", field_id), size, MAPPED, is_listed=is_listed)
        else:
            add(("field", field_id), size, RESIDENT, placed_as=("scan", field_id), is_listed=is_listed)
    for scalar_index in () if spec.without_scalar_indexes else spec.scalar_indexes:
        built = meta.indexes.get(scalar_index.index_id)
        if built is not None and not built.is_scan:
            add(("index", scalar_index.index_id), built.file_bytes, RESIDENT)
    return plans


def part_sizes(meta: SegmentMeta, spec: LoadSpec) -> dict[PartKey, int]:
    """The bytes that each part will hold in memory once all parts are populated."""
    return {key: plan.memory_bytes for key, plan in part_plans(meta, spec).items()}


def is_to_warm(meta: SegmentMeta, spec: LoadSpec) -> bool:
    """Whether pages of a segment opened by `spec` are still to be read in."""
    return not spec.warmed and any(p.placement.populate is Populate.LATER for p in part_plans(meta, spec).values())


class SealedSegment:
    """A RowSet over mapped files. Open it with `open_segment`."""

    def __init__(self, meta: SegmentMeta, spec: LoadSpec, parts: dict[PartKey, Part]) -> None:
        self.meta = meta
        self.spec = spec
        self.parts = parts
        self.marks = DeleteMarks.none()
        self.identity = object()
        rows, self.keys = parts["rows", 0].value
        self.insert_ts: Array = rows
        self._extracted = ExtractedPaths()
        self._analyzed = AnalyzedTexts()
        self.groups = KnownGroups()
        self._value_indexes: dict[tuple[int, JsonPath, bool], ValueIndex] = {}
        self._text_indexes: dict[tuple[int, JsonPath], TextIndex] = {}
        self._term_indexes: dict[int, TermIndex] = {}
        for index in spec.scalar_indexes:
            part = parts.get(("index", index.index_id))
            for path, values in ({} if part is None else part.value).items():
                if isinstance(values, TextIndex):
                    self._text_indexes[index.field_id, path] = values
                    continue
                if isinstance(values, TermIndex):
                    self._term_indexes[index.field_id] = values
                    continue
                key = (index.field_id, path, values.has_elements)
                if key not in self._value_indexes or values.reads_numbers:  # else an index above it has the path, too
                    self._value_indexes[key] = values
        self.readers = InFlight()
        self._complete: tuple[LoadSpec, set[frozenset[int]]] = (spec, set())
        """Sets of fields of which nothing lacks under a spec; most reads look at one that an earlier read looked at."""

    @property
    def schema(self) -> CollectionSchema:
        return self.spec.schema

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
    def bytes_used(self) -> int:
        return self.meta.rows_bytes + sum(self.meta.field_bytes.values())

    @property
    def max_insert_ts(self) -> int:
        return self.meta.max_ts

    @property
    def memory_bytes(self) -> dict[PartKey, int]:
        """Measured bytes in memory of each part; delete marks are counted with the rows."""
        sizes = {key: part.memory_bytes for key, part in self.parts.items()}
        sizes["rows", 0] += self.marks.bytes_used
        return sizes

    @property
    def mapped_bytes(self) -> int:
        """Bytes of the files that are mapped and not counted as memory."""
        return sum(part.mapped_bytes for part in self.parts.values())

    def lacks(self, field_ids: frozenset[int]) -> bool:
        """Whether the segment has values of one of the fields that were not opened, or inputs of values that are made
        for an answer. A dropped field has none."""
        spec, complete = self._complete
        if spec is self.spec and field_ids in complete:
            return False
        if spec is not self.spec or len(complete) >= _MOST_COMPLETE:
            spec, complete = self._complete = self.spec, set()
        if self._lacks(spec.schema, field_ids):
            return True
        complete.add(field_ids)
        return False

    def _lacks(self, schema: CollectionSchema, field_ids: frozenset[int]) -> bool:
        known = schema.field_ids & self.meta.field_bytes.keys()
        wanted = set(field_ids)
        for made in schema.made_fields:
            if made.field_id in wanted and made.field_id not in known:
                wanted.update(f.field_id for f in input_fields(schema, made))
        return any(i in known and ("field", i) not in self.parts for i in wanted)

    def column(self, field_id: int) -> Column:
        part = self.parts.get(("field", field_id))
        if part is None:
            schema = self.spec.schema
            field = schema.by_id[field_id]
            if field.is_made_here and field_id in schema.field_ids:
                return PendingColumn(schema, field, self.row_count, self.column)
            return lacking_column(field, self.row_count)
        column: Column = part.value[0]
        return column

    def json_path(self, field_id: int, path: JsonPath) -> PathColumn:
        return self._extracted.find(field_id, self.column(field_id), path)

    def json_elements(self, field_id: int, path: JsonPath, depth: int = 1) -> PathElements:
        return self._extracted.find_elements(field_id, self.column(field_id), path, depth)

    def value_index(self, field_id: int, path: JsonPath, has_elements: bool) -> ValueIndex | None:
        return self._value_indexes.get((field_id, path, has_elements))

    def text_index(self, field_id: int, path: JsonPath) -> TextIndex | None:
        return self._text_indexes.get((field_id, path))

    def term_index(self, field_id: int) -> TermIndex:
        known = self._term_indexes.get(field_id)
        return self._analyzed.find(self.spec.schema.by_id[field_id], self.column(field_id)) if known is None else known

    def index(self, field_id: int) -> VectorIndex | None:
        spec = self.spec.indexes.get(field_id)
        part = None if spec is None else self.parts.get(("index", spec.index_id))
        return None if part is None else part.value

    def vectors(self, field_id: int) -> tuple[Any, Array | None]:
        part = self.parts.get(("field", field_id))
        if part is None:
            return self.column(field_id).values, None
        return part.value[0].values, part.value[1]

    def is_resident(self, field_id: int) -> bool:
        part = self.parts.get(("field", field_id))
        return part is not None and part.in_memory

    def find_deleted(self, batch: DeleteBatch) -> tuple[Array, Array]:
        """Rows that the batch kills and the ts of each; the input of `mark`."""
        return find_deleted(batch, self.keys, self.insert_ts, self.partition_id)

    def apply_deletes(self, batch: DeleteBatch) -> None:
        self.mark(*self.find_deleted(batch))

    def mark(self, rows: Array, ts: Array) -> None:
        """Mark rows as dead; the caller serialises calls for one segment."""
        self.marks = self.marks.with_marks(rows, ts, self.row_count)


MapParts = Callable[[Callable[[PartKey], Part], Collection[PartKey]], Iterable[Part]]


def open_segment(
    paths: SegmentPaths,
    meta: SegmentMeta,
    spec: LoadSpec,
    previous: SealedSegment | None = None,
    map_parts: MapParts = map,
    on_bytes: OnBytes = ignore_bytes,
) -> SealedSegment:
    """Maps the parts that `spec` names, and shares those that `previous` has in the same place.

    `map_parts` may open several parts at a time. Delete marks are not copied. Raises DataIntegrityError, naming the
    file.
    """
    shared: dict[PartKey, Part] = {}
    lacking: dict[PartKey, Placement] = {}
    for key, plan in part_plans(meta, spec).items():
        old = None if previous is None else previous.parts.get(key)
        waits = plan.placement.populate is Populate.LATER and not spec.warmed
        placement = MAPPED if waits else plan.placement
        if old is not None and (_is_at(old, placement) or (waits and _is_at(old, plan.placement))):
            shared[key] = old
        else:
            lacking[key] = placement
    opened = map_parts(lambda key: _open_part(paths, meta, spec, key, lacking[key], on_bytes), lacking)
    return SealedSegment(meta, spec, shared | dict(zip(lacking, opened, strict=True)))


def part_files(paths: SegmentPaths, meta: SegmentMeta, spec: LoadSpec, key: PartKey) -> list[Path]:
    """The files that opening a part reads: its own, and the column that says which rows an index lacks."""
    kind, number = key
    where = (meta.collection_id, meta.segment_id)
    if kind == "rows":
        return [paths.segment(*where) / ROWS_FILE]
    if kind == "field":
        return [paths.column(*where, number)]
    files = [paths.index(*where, meta.indexes[number].file_name)]
    index = next((i for i in spec.indexes.values() if i.index_id == number), None)
    if index is not None and spec.schema.by_id[index.field_id].nullable:
        files.append(paths.column(*where, index.field_id))
    return files


def _is_at(part: Part, placement: Placement) -> bool:
    return part.in_memory == placement.in_memory and (part.populated or placement.populate is Populate.NEVER)


def _open_part(
    paths: SegmentPaths, meta: SegmentMeta, spec: LoadSpec, key: PartKey, placement: Placement, on_bytes: OnBytes
) -> Part:
    kind, number = key
    path, *columns = part_files(paths, meta, spec, key)
    in_memory, populate = placement.in_memory, placement.populate is not Populate.NEVER

    def part(value: Any, memory_bytes: int, file_bytes: int) -> Part:
        return Part(value, memory_bytes, 0 if in_memory else file_bytes, in_memory, populate)

    if kind == "rows":
        rows, mapped = open_rows(path, resident=populate, on_bytes=on_bytes)
        keys = KeyIndex(rows.sorted_keys, rows.order)
        return part((rows.insert_ts, keys), mapped.payload_bytes if in_memory else 0, mapped.payload_bytes)
    if kind == "index" and any(i.index_id == number for i in spec.scalar_indexes):
        indexes, mapped = _open_scalar_index(path, populate, on_bytes)
        return part(indexes, mapped.payload_bytes if in_memory else 0, mapped.payload_bytes)
    if kind == "index":
        index = next(i for i in spec.indexes.values() if i.index_id == number)
        assert index.metric_type is not None
        index_type = TYPES[index.build_type]
        mapped = open_index_file(path, resident=populate and index_type.is_resident, on_bytes=on_bytes)
        opened: VectorIndex = index_type.open(mapped.payload, index.metric_type, path)
        field = spec.schema.by_id[index.field_id]
        for column_path in columns:
            column, _ = open_column(column_path, field.data_type, resident=False)
            opened = opened if column.validity is None else PartialIndex(opened, column.validity)
        return part(opened, opened.memory_bytes if in_memory else opened.heap_bytes, mapped.payload_bytes)
    field = spec.schema.by_id[number]
    data_type = field.data_type
    column, mapped = open_column(path, data_type, resident=populate, on_bytes=on_bytes)
    memory = mapped.payload_bytes if in_memory else 0
    prepared = None
    if data_type.is_vector and in_memory:
        prepared = exact_of(field).prepare(column.values)
        memory += 0 if prepared is None else prepared.nbytes
    if column.validity is not None:
        memory += column.validity.nbytes
    return part((column, prepared), memory, mapped.payload_bytes)


def _open_scalar_index(path: Path, resident: bool, on_bytes: OnBytes) -> tuple[Any, MappedFile]:
    arrays, described, mapped = open_scalar_index(path, resident=resident, on_bytes=on_bytes)
    try:
        return scalar.decode(arrays, described), mapped
    except (KeyError, TypeError, ValueError) as error:
        raise DataIntegrityError(f"{path} does not hold a scalar index: {error!r}") from error
