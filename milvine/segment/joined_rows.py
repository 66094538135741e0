"""Small segments and chunks as one RowSet, so that one scan finds the nearest rows of all of them.

A search of a small segment costs more in steps than in distances. So the vectors of small segments are copied into one
block. Deletes, timestamps and missing segments are masks over it, and filters run once over the joined columns.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from milvine.index.term_index import TermIndex
from milvine.model.columns import Column, concat_columns, lacking_column
from milvine.model.json_paths import JsonPath, PathColumn, PathElements
from milvine.model.records import record
from milvine.model.schema import CollectionSchema
from milvine.segment.derived import Derived
from milvine.segment.group_codes import KnownGroups
from milvine.segment.rows import ExtractedPaths, RowSet
from milvine.segment.terms import AnalyzedTexts
from milvine.sized_cache import SizedCache

Array = np.ndarray[Any, Any]
_joined_columns: SizedCache[tuple[int, object], Column] = SizedCache("joined_columns", 256 << 20)


@record
class Block:
    """The vectors of one field of several row sets, one set after the other. `sources`: the `identity` of each;
    starts: int64 (sources + 1,), the row where each begins, and the number of rows."""

    field_id: int
    sources: tuple[object, ...]
    starts: Array
    vectors: Column
    prepared: Array | None
    insert_ts: Array

    @property
    def row_count(self) -> int:
        return len(self.insert_ts)

    @property
    def bytes_used(self) -> int:
        prepared = 0 if self.prepared is None else self.prepared.nbytes
        return self.vectors.bytes_used + prepared + self.insert_ts.nbytes + self.starts.nbytes + 8 * len(self.sources)


def block_bytes(row_sets: Sequence[RowSet], field_id: int) -> int:
    """About the memory of a block of these."""
    vectors = sum(int(rows.vectors(field_id)[0].nbytes) for rows in row_sets)
    return vectors + sum(16 * rows.row_count for rows in row_sets)


def make_block(row_sets: Sequence[RowSet], field_id: int) -> Block:
    known = [prepared for rows in row_sets if (prepared := rows.vectors(field_id)[1]) is not None]
    return Block(
        field_id,
        tuple(rows.identity for rows in row_sets),
        np.cumsum([0, *(rows.row_count for rows in row_sets)]),
        concat_columns([rows.column(field_id) for rows in row_sets]),
        np.concatenate(known) if len(known) == len(row_sets) else None,
        np.concatenate([rows.insert_ts for rows in row_sets]),
    )


class _Living:
    """The rows of a block that a reader sees, as `DeleteMarks.living_at` of one segment."""

    __slots__ = ("_block", "_known", "_members")

    def __init__(self, block: Block, members: Sequence[RowSet | None]) -> None:
        self._block = block
        self._members = members
        self._known: tuple[list[Any], Array | None, int] | None = None

    def living_at(self, read_ts: int) -> Array | None:
        """bool (n,): rows of present members that no mark kills at or before `read_ts`. None if these are all rows."""
        marks = [None if rows is None else rows.marks for rows in self._members]
        known = self._known
        if known is not None and read_ts >= known[2] and all(map(operator.is_, known[0], marks)):
            return known[1]
        living, newest_ts = None, 0
        for place, own in enumerate(marks):
            if own is not None and not own.count:
                continue
            part = False if own is None else own.living_at(read_ts)
            newest_ts = newest_ts if own is None else max(newest_ts, own.newest_ts)
            if part is None:
                continue
            if living is None:
                living = np.ones(self._block.row_count, np.bool_)
            living[self._block.starts[place] : self._block.starts[place + 1]] = part
        if living is not None:
            living.flags.writeable = False
        if read_ts >= newest_ts:
            self._known = marks, living, newest_ts
        return living


class _Keys:
    """Sorting all keys would cost more than looking at those of the hits, which a repeated key makes a search do."""

    has_repeats = True


_KEYS = _Keys()


class JoinedRows:
    """A RowSet, for searches only, over a block. `members`: the row set of each source, or None for one that the
    reader does not see."""

    def __init__(self, block: Block, members: Sequence[RowSet | None]) -> None:
        self._block = block
        self._members = members
        present = [rows for rows in members if rows is not None]
        self.size = len(present)
        self._first = present[0]
        self.identity = object()
        self.row_count = block.row_count
        self.insert_ts = block.insert_ts
        self.max_insert_ts = max(rows.max_insert_ts for rows in present)
        self.marks = _Living(block, members)
        self.groups = KnownGroups()
        self.keys = _KEYS
        self._columns: Derived[Column] = Derived(_joined_columns)
        self._extracted = ExtractedPaths()
        self._analyzed = AnalyzedTexts()

    @property
    def segment_id(self) -> int:
        """That of its first segment, which stands for all of them."""
        return self._first.segment_id

    @property
    def partition_id(self) -> int:
        return self._first.partition_id

    @property
    def is_growing(self) -> bool:
        return self._first.is_growing

    @property
    def schema(self) -> CollectionSchema:
        return self._first.schema

    def column(self, field_id: int) -> Column:
        if field_id == self._block.field_id:
            return self._block.vectors
        return self._columns.find(field_id, lambda: self._joined(field_id))

    def has_joined(self, field_ids: Iterable[int]) -> bool:
        """Whether the columns of these fields are joined, or so small that they may be: then hits are taken out of
        them, and not out of each segment. Searches join the keys themselves."""
        key, types = self.schema.primary_field.field_id, self.schema.by_id
        return all(i in (key, self._block.field_id) or types[i].data_type.is_number for i in field_ids)

    def _joined(self, field_id: int) -> Column:
        def own(place: int, rows: RowSet | None) -> Column:
            if rows is not None:
                return rows.column(field_id)
            # Nobody sees these rows, so they may have any values. Those of an absent field have JSON paths, too.
            row_count = int(self._block.starts[place + 1] - self._block.starts[place])
            return lacking_column(self.schema.by_id[field_id], row_count)

        return concat_columns([own(place, rows) for place, rows in enumerate(self._members)])

    def json_path(self, field_id: int, path: JsonPath) -> PathColumn:
        return self._extracted.find(field_id, self.column(field_id), path)

    def json_elements(self, field_id: int, path: JsonPath, depth: int = 1) -> PathElements:
        return self._extracted.find_elements(field_id, self.column(field_id), path, depth)

    def value_index(self, field_id: int, path: JsonPath, has_elements: bool) -> None:
        return None

    def text_index(self, field_id: int, path: JsonPath) -> None:
        return None

    def term_index(self, field_id: int) -> TermIndex:
        return self._analyzed.find(self.schema.by_id[field_id], self.column(field_id))

    def index(self, field_id: int) -> None:
        return None

    def vectors(self, field_id: int) -> tuple[Any, Array | None]:
        return self._block.vectors.values, self._block.prepared

    def located(self, row_offsets: Array) -> tuple[list[RowSet], Array, Array]:
        """The members that hold these rows; which of them each row is in, and its offset there, both int64 (m,)."""
        places = np.searchsorted(self._block.starts, row_offsets, side="right") - 1
        distinct, numbers = np.unique(places, return_inverse=True)
        found = [rows for place in distinct.tolist() if (rows := self._members[place]) is not None]
        found = found or [self._first]
        return found, numbers, row_offsets - self._block.starts[places]


def as_joined(rows: object) -> JoinedRows | None:
    return rows if isinstance(rows, JoinedRows) else None


def members_of(row_sets: Sequence[RowSet], numbers: Array, row_offsets: Array) -> tuple[Sequence[RowSet], Array, Array]:
    """Rows of row sets, some of them joined, as rows of the segments that hold them; at least one segment, though
    there may be no rows. numbers: which set each is in."""
    if not any(map(as_joined, row_sets)):
        return row_sets, numbers, row_offsets
    found: list[RowSet] = []
    own_numbers, own_offsets = numbers.copy(), row_offsets.copy()
    for number, rows in enumerate(row_sets):
        places = np.flatnonzero(numbers == number)
        if not len(places) and found:
            continue
        joined = as_joined(rows)
        if joined is not None:
            members, inner, offsets = joined.located(row_offsets[places])
            own_numbers[places], own_offsets[places] = inner + len(found), offsets
            found.extend(members)
        else:
            own_numbers[places] = len(found)
            found.append(rows)
    return found, own_numbers, own_offsets
