"""What a growing chunk and a sealed segment have in common: rows that can be filtered, searched and fetched."""

from __future__ import annotations

import threading
from typing import Any, Protocol

import numpy as np

from milvine.index.dense import HnswIndex
from milvine.model.columns import Column
from milvine.model.json_paths import JsonPath, PathColumn, extract
from milvine.segment.deletes import DeleteMarks
from milvine.segment.keys import KeyIndex

Array = np.ndarray[Any, Any]


class RowSet(Protocol):
    """Rows 0..row_count-1 of one partition; immutable but for `marks`, which is replaced whole."""

    @property
    def segment_id(self) -> int: ...
    @property
    def partition_id(self) -> int: ...
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
    def graph(self, field_id: int) -> HnswIndex | None:
        """The graph over a vector field, or None: scan."""
        ...

    def vectors(self, field_id: int) -> tuple[Array, Array | None]:
        """What an exact scan reads: vectors (n, dim) and their squared norms, None if not kept.

        With a COSINE graph they are its unit vectors.
        """
        ...


def alive(rows: RowSet, read_ts: int, expired_ts: int = 0) -> Array | None:
    """bool (n,) of the rows alive at `read_ts` and not inserted before `expired_ts`, or None when all are."""
    if expired_ts:
        living = alive(rows, read_ts)
        fresh: Array = rows.insert_ts >= expired_ts
        return fresh if living is None else fresh & living
    dead = rows.marks.dead_at(read_ts)
    if rows.max_insert_ts <= read_ts:
        return None if dead is None else ~dead
    inserted: Array = rows.insert_ts <= read_ts
    return inserted if dead is None else inserted & ~dead


class ExtractedPaths:
    """Path columns that were not shredded, parsed at their first use and kept; the oldest go beyond MAX_KEPT."""

    MAX_KEPT = 32

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[int, JsonPath], PathColumn] = {}

    def find(self, field_id: int, column: Column, path: JsonPath) -> PathColumn:
        assert column.paths is not None
        known = column.paths.known(len(column), path) or self._kept.get((field_id, path))
        if known is None:
            known = extract(column.values, path)
            with self._lock:
                self._kept[field_id, path] = known
                if len(self._kept) > self.MAX_KEPT:
                    del self._kept[next(iter(self._kept))]
        return known
