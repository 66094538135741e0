"""The catalog's records of sealed segments, their indexes and their delta files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.compute as pc

from milvine.model.records import record


@record
class SegmentIndexMeta:
    """An index file of one segment. `is_scan`: no index was built, and the raw vectors are scanned."""

    index_id: int
    file_name: str
    file_bytes: int
    is_scan: bool = False


@record
class SegmentMeta:
    """A sealed segment. `field_bytes`: file size by field id; `rows_bytes`: the file of keys and timestamps.

    A segment written by compaction names its sources. It has no rows that are killed by deltas whose newest delete is
    at or before `folded_ts`.
    """

    segment_id: int
    collection_id: int
    partition_id: int
    row_count: int
    min_ts: int
    max_ts: int
    rows_bytes: int
    field_bytes: Mapping[int, int]
    indexes: Mapping[int, SegmentIndexMeta] = field(default_factory=dict)
    folded_ts: int = 0
    compacted_from: tuple[int, ...] = ()

    @property
    def data_bytes(self) -> int:
        """Size of its files without indexes."""
        return self.rows_bytes + sum(self.field_bytes.values())

    def needs(self, delta: DeltaMeta) -> bool:
        """Whether a delete of `delta` may kill a row of the segment."""
        return self.min_ts < delta.max_ts and self.folded_ts < delta.max_ts


@record
class DeltaMeta:
    """A delta file: deletes of one collection that were flushed together."""

    delta_id: int
    collection_id: int
    row_count: int
    max_ts: int
    file_bytes: int


ALL_PARTITIONS = -1


@dataclass(frozen=True)
class DeleteBatch:
    """Deletes in ts order, at least one. keys: int64 (n,) or StringArray; ts and partition_ids: int64 (n,).

    A partition id of ALL_PARTITIONS deletes the key wherever it is.
    """

    keys: Any
    ts: np.ndarray[Any, np.dtype[np.int64]]
    partition_ids: np.ndarray[Any, np.dtype[np.int64]]

    def __len__(self) -> int:
        return len(self.ts)

    @cached_property
    def bytes_used(self) -> int:
        return delete_bytes(self.keys)

    @cached_property
    def key_range(self) -> tuple[Any, Any]:
        """The smallest and the largest key, int or str."""
        if len(self.keys) == 1:
            key = self.keys[0].item() if isinstance(self.keys, np.ndarray) else self.keys[0].as_py()
            return key, key
        if isinstance(self.keys, np.ndarray):
            return int(self.keys.min()), int(self.keys.max())
        ends = pc.min_max(self.keys)
        return ends["min"].as_py(), ends["max"].as_py()

    def slice(self, start: int, stop: int) -> DeleteBatch:
        return DeleteBatch(self.keys[start:stop], self.ts[start:stop], self.partition_ids[start:stop])


def delete_bytes(keys: Any) -> int:
    """Bytes in memory of deletes of keys (int64 or StringArray), including their ts and partition ids."""
    return int(keys.nbytes) + 16 * len(keys)


def make_deletes(keys: Any, ts: int, partition_id: int) -> DeleteBatch:
    """Keys (int64 or StringArray) deleted together, at one timestamp in one partition."""
    return DeleteBatch(keys, np.full(len(keys), ts, np.int64), np.full(len(keys), partition_id, np.int64))
