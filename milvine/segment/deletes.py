"""Which rows are dead at a timestamp.

A row is alive at read_ts if insert_ts <= read_ts and no delete of its key has insert_ts < ts <= read_ts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.model.segments import ALL_PARTITIONS, DeleteBatch
from milvine.segment.keys import KeyIndex

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class DeleteMarks:
    """Dead rows of one segment, replaced whole: rows int64 (m,) with the ts of each row's first delete, and the
    latest state as a bitmap bool (n,). `newest_ts` is the last delete's; at or after it the bitmap answers."""

    rows: Array
    ts: Array
    dead: Array
    newest_ts: int

    @classmethod
    def none(cls) -> DeleteMarks:
        return _NO_DELETES

    @property
    def bytes_used(self) -> int:
        return int(self.rows.nbytes + self.ts.nbytes + self.dead.nbytes)

    def dead_at(self, read_ts: int) -> Array | None:
        """bool (n,) of the dead, or None when nobody is."""
        if len(self.rows) == 0:
            return None
        if read_ts >= self.newest_ts:
            return self.dead
        rows = self.rows[self.ts <= read_ts]
        if len(rows) == 0:
            return None
        dead = np.zeros_like(self.dead)
        dead[rows] = True
        return dead

    def with_deletes(self, batch: DeleteBatch, keys: KeyIndex, insert_ts: Array, partition_id: int) -> DeleteMarks:
        """These marks and those of `batch`; applying a batch twice, or late, changes nothing."""
        rows, places = keys.find(batch.keys)
        if len(rows) == 0:
            return self
        ts = batch.ts[places]
        partitions = batch.partition_ids[places]
        hit = (insert_ts[rows] < ts) & ((partitions == partition_id) | (partitions == ALL_PARTITIONS))
        if not hit.any():
            return self
        rows, ts = np.concatenate((self.rows, rows[hit])), np.concatenate((self.ts, ts[hit]))
        order = np.lexsort((ts, rows))
        rows, ts = rows[order], ts[order]
        first = np.ones(len(rows), np.bool_)
        first[1:] = rows[1:] != rows[:-1]
        rows, ts = rows[first], ts[first]
        dead = np.zeros(len(insert_ts), np.bool_)
        dead[rows] = True
        return DeleteMarks(rows, ts, dead, int(ts.max()))


_NO_DELETES = DeleteMarks(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_), 0)


def join_marks(pieces: list[tuple[int, DeleteMarks]]) -> DeleteMarks:
    """Marks of consecutive pieces, given as (row count, marks), as marks of the whole."""
    if all(len(marks.rows) == 0 for _, marks in pieces):
        return _NO_DELETES
    starts = np.cumsum([0, *(count for count, _ in pieces)])
    rows = np.concatenate([m.rows + start for (_, m), start in zip(pieces, starts, strict=False)])
    ts = np.concatenate([m.ts for _, m in pieces])
    dead = np.zeros(int(starts[-1]), np.bool_)
    dead[rows] = True
    return DeleteMarks(rows, ts, dead, int(ts.max()))


def concat_deletes(batches: list[DeleteBatch]) -> DeleteBatch:
    """Delete batches in order, as one."""
    keys: Any
    if isinstance(batches[0].keys, np.ndarray):
        keys = np.concatenate([b.keys for b in batches])
    else:
        keys = pa.concat_arrays([b.keys for b in batches])
    return DeleteBatch(
        keys, np.concatenate([b.ts for b in batches]), np.concatenate([b.partition_ids for b in batches])
    )
