"""What a growing chunk and a sealed segment have in common: rows that can be filtered, searched and fetched."""

from __future__ import annotations

import threading
from typing import Any, Protocol, TypeVar

import numpy as np

from milvine.index.base import VectorIndex
from milvine.index.scalar import ValueIndex
from milvine.model.columns import Column
from milvine.model.json_paths import JsonPath, PathColumn, PathElements, extract, extract_elements
from milvine.segment.deletes import DeleteMarks
from milvine.segment.keys import KeyIndex

Array = np.ndarray[Any, Any]
_Key = TypeVar("_Key")
_Kept = TypeVar("_Kept")


class RowSet(Protocol):
    """Rows 0..row_count-1 of one partition; immutable but for `marks`, which is replaced whole."""

    @property
    def segment_id(self) -> int: ...
    @property
    def partition_id(self) -> int: ...
    @property
    def is_growing(self) -> bool: ...
    @property
    def row_count(self) -> int: ...
    @property
    def insert_ts(self) -> Array: ...
    @property
    def max_insert_ts(self) -> int: ...
    @property
    def keys(self) -> KeyIndex: ...
    @property
    def marks(self) -> DeleteMarks: ...
    def column(self, field_id: int) -> Column: ...
    def json_path(self, field_id: int, path: JsonPath) -> PathColumn: ...
    def json_elements(self, field_id: int, path: JsonPath, depth: int = 1) -> PathElements: ...
    def value_index(self, field_id: int, path: JsonPath, has_elements: bool) -> ValueIndex | None: ...
    def index(self, field_id: int) -> VectorIndex | None:
        """The index over a vector field, or None: scan."""
        ...

    def vectors(self, field_id: int) -> tuple[Array, Array | None]:
        """What an exact scan reads: vectors (n, dim) and their squared norms, None if not kept.

        Beside an index they are mapped and not resident.
        """
        ...


def alive(rows: RowSet, read_ts: int, expired_ts: int = 0) -> Array | None:
    """bool (n,) of the rows alive at `read_ts` and not inserted before `expired_ts`, or None when all are."""
    if expired_ts:
        living = alive(rows, read_ts)
        fresh: Array = rows.insert_ts >= expired_ts
        return fresh if living is None else fresh & living
    living = rows.marks.living_at(read_ts)
    if rows.max_insert_ts <= read_ts:
        return living
    inserted: Array = rows.insert_ts <= read_ts
    return inserted if living is None else inserted & living


class ExtractedPaths:
    """Path columns that were not shredded and elements of arrays at paths, parsed at their first use and kept; of
    each kind the oldest go beyond MAX_KEPT."""

    MAX_KEPT = 32

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[int, JsonPath], PathColumn] = {}
        self._kept_elements: dict[tuple[int, JsonPath, int], PathElements] = {}

    def find(self, field_id: int, column: Column, path: JsonPath) -> PathColumn:
        assert column.paths is not None
        known = column.paths.known(len(column), path) or self._kept.get((field_id, path))
        if known is None:
            known = extract(column.values, path)
            self._keep(self._kept, (field_id, path), known)
        return known

    def find_elements(self, field_id: int, column: Column, path: JsonPath, depth: int) -> PathElements:
        key = (field_id, path, depth)
        known = self._kept_elements.get(key)
        if known is None:
            known = extract_elements(column.values, path, depth)
            self._keep(self._kept_elements, key, known)
        return known

    def _keep(self, kept: dict[_Key, _Kept], key: _Key, value: _Kept) -> None:
        with self._lock:
            kept[key] = value
            if len(kept) > self.MAX_KEPT:
                del kept[next(iter(kept))]
