"""The interface of growing chunks and sealed segments: rows that can be filtered, searched and fetched."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from milvine.index.base import VectorIndex
from milvine.index.scalar import ValueIndex
from milvine.index.term_index import TermIndex
from milvine.index.text_index import TextIndex
from milvine.model.columns import Column
from milvine.model.json_paths import JsonPath, PathColumn, PathElements, extract, extract_elements
from milvine.model.schema import CollectionSchema
from milvine.segment.deletes import DeleteMarks
from milvine.segment.derived import Derived
from milvine.segment.group_codes import KnownGroups
from milvine.segment.keys import KeyIndex
from milvine.sized_cache import SizedCache

Array = np.ndarray[Any, Any]


class RowSet(Protocol):
    """Rows 0..row_count-1 of one partition. Immutable, except that `marks` may be replaced."""

    @property
    def identity(self) -> object:
        """The same object for the same rows, whatever their deletes."""
        ...

    @property
    def schema(self) -> CollectionSchema: ...
    @property
    def segment_id(self) -> int: ...
    @property
    def partition_id(self) -> int: ...
    @property
    def is_growing(self) -> bool: ...
    @property
    def row_count(self) -> int: ...
    @property
    def bytes_used(self) -> int:
        """About the bytes of all values."""
        ...

    @property
    def insert_ts(self) -> Array: ...
    @property
    def max_insert_ts(self) -> int: ...
    @property
    def keys(self) -> KeyIndex: ...
    @property
    def marks(self) -> DeleteMarks: ...
    @property
    def groups(self) -> KnownGroups: ...
    def column(self, field_id: int) -> Column: ...
    def json_path(self, field_id: int, path: JsonPath) -> PathColumn: ...
    def json_elements(self, field_id: int, path: JsonPath, depth: int = 1) -> PathElements: ...
    def value_index(self, field_id: int, path: JsonPath, has_elements: bool) -> ValueIndex | None: ...
    def text_index(self, field_id: int, path: JsonPath) -> TextIndex | None: ...
    def term_index(self, field_id: int) -> TermIndex: ...
    def index(self, field_id: int) -> VectorIndex | None:
        """The index over a vector field, or None if the field must be scanned."""
        ...

    def vectors(self, field_id: int) -> tuple[Any, Array | None]:
        """The data of an exact scan: the vectors, and what scans keep of them, or None.

        If the field has an index, the vectors are mapped and not resident.
        """
        ...

    def is_resident(self, field_id: int) -> bool:
        """Whether the values of a field are in memory, and not only mapped."""
        ...


def alive(rows: RowSet, read_ts: int, expired_ts: int = 0) -> Array | None:
    """bool (n,): rows alive at `read_ts` and not inserted before `expired_ts`. None if this is true of all rows."""
    if expired_ts:
        living = alive(rows, read_ts)
        fresh: Array = rows.insert_ts >= expired_ts
        return fresh if living is None else fresh & living
    living = rows.marks.living_at(read_ts)
    if rows.max_insert_ts <= read_ts:
        return living
    inserted: Array = rows.insert_ts <= read_ts
    return inserted if living is None else inserted & living


parsed_json: SizedCache[tuple[int, object], PathColumn | PathElements] = SizedCache("parsed_json", 256 << 20)
"""Columns that filters parsed from JSON text, of all segments and chunks, by the number of the owner and by field, path
and, for array elements, their depth."""


class ExtractedPaths:
    """Path columns that were not shredded, and array elements at paths, parsed at their first use."""

    __slots__ = ("_parsed",)

    def __init__(self) -> None:
        self._parsed: Derived[PathColumn | PathElements] = Derived(parsed_json)

    def find(self, field_id: int, column: Column, path: JsonPath) -> PathColumn:
        assert column.paths is not None
        known = column.paths.known(len(column), path)
        if known is not None:
            return known
        return self._parsed.find((field_id, path), lambda: extract(column.values, path))

    def find_elements(self, field_id: int, column: Column, path: JsonPath, depth: int) -> PathElements:
        return self._parsed.find((field_id, path, depth), lambda: extract_elements(column.values, path, depth))
