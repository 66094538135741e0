"""The rows that are dead at a timestamp, and the deletes that only the log holds.

A row is alive at read_ts if insert_ts <= read_ts and no delete of its key has insert_ts < ts <= read_ts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.model.columns import joinable
from milvine.model.records import record
from milvine.model.segments import ALL_PARTITIONS, DeleteBatch
from milvine.segment.keys import KeyIndex

Array = np.ndarray[Any, Any]
_JOINED = 16
_MAX_JOINED_DELETES = 1 << 17


class _MarkLog:
    """Marks in ts order, one per row, and a bitmap of the rows that they kill. Several DeleteMarks share it.

    Readers take no lock. A mark is written first, then counted by `length`, then set in `dead`. Full arrays are
    replaced, never cut. So a reader that copies `dead` before it reads `length` finds all dead rows in the log.
    """

    __slots__ = ("dead", "length", "rows", "ts")

    def __init__(self, rows: Array, ts: Array, row_count: int) -> None:
        self.rows = rows.astype(np.int32)
        self.ts = ts
        self.length = len(rows)
        self.dead = np.zeros(row_count, np.bool_)
        self.dead[rows] = True

    @property
    def bytes_used(self) -> int:
        return int(self.rows.nbytes + self.ts.nbytes + self.dead.nbytes)

    def append(self, rows: Array, ts: Array) -> None:
        start, stop = self.length, self.length + len(rows)
        if stop > len(self.rows):
            room = stop + stop // 2 + _JOINED
            self.rows, self.ts = _with_room(self.rows, start, room), _with_room(self.ts, start, room)
        self.rows[start:stop] = rows
        self.ts[start:stop] = ts
        self.length = stop
        self.dead[rows] = True


def _with_room(values: Array, length: int, room: int) -> Array:
    larger = np.empty(room, values.dtype)
    larger[:length] = values[:length]
    return larger


@record
class DeleteMarks:
    """Dead rows of one segment, each with the ts of its first delete: the first `count` marks of a log.

    Immutable. Further marks make a new object, which shares the log if this object is the newest that uses it. One
    writer at a time adds marks.
    """

    count: int
    newest_ts: int
    bytes_used: int
    _log: _MarkLog

    @classmethod
    def none(cls) -> DeleteMarks:
        return _NO_DELETES

    @classmethod
    def of(cls, rows: Array, ts: Array, row_count: int) -> DeleteMarks:
        """Marks in any order; the earliest mark of a row counts. rows and ts: int64 (m,)."""
        if len(rows) == 0:
            return cls.none()
        by_row = np.lexsort((ts, rows))
        rows, ts = rows[by_row], ts[by_row]
        first = np.ones(len(rows), np.bool_)
        first[1:] = rows[1:] != rows[:-1]
        rows, ts = rows[first], ts[first]
        by_ts = np.argsort(ts, kind="stable")
        return cls._newest(_MarkLog(rows[by_ts], ts[by_ts], row_count))

    @classmethod
    def _newest(cls, log: _MarkLog) -> DeleteMarks:
        return cls(log.length, int(log.ts[log.length - 1]), log.bytes_used, log)

    @property
    def rows(self) -> Array:
        """Row offsets, int32 (count,), in the order of their deletes."""
        return self._log.rows[: self.count]

    @property
    def ts(self) -> Array:
        """int64 (count,), ascending."""
        return self._log.ts[: self.count]

    def living_at(self, read_ts: int) -> Array | None:
        """bool (n,), a new array: the rows that no mark kills at or before `read_ts`. None if no row is dead."""
        seen = self.count if read_ts >= self.newest_ts else int(np.searchsorted(self.ts, read_ts, side="right"))
        if seen == 0:
            return None
        log = self._log
        living = ~log.dead
        length = log.length  # after the copy, before the rows: see _MarkLog
        if seen < length:
            living[log.rows[seen:length]] = True
        return living

    def with_deletes(self, batch: DeleteBatch, keys: KeyIndex, insert_ts: Array, partition_id: int) -> DeleteMarks:
        """These marks and those of `batch`. A batch that is applied again, or late, gives the same result."""
        return self.with_marks(*find_deleted(batch, keys, insert_ts, partition_id), len(insert_ts))

    def with_marks(self, rows: Array, ts: Array, row_count: int) -> DeleteMarks:
        """These marks and others, in any order."""
        if len(rows) == 0:
            return self
        log = self._log
        is_late = ts[0] < self.newest_ts or (len(ts) > 1 and (ts[1:] < ts[:-1]).any())
        if is_late or self.count == 0 or self.count < log.length:
            return DeleteMarks.of(np.concatenate((self.rows, rows)), np.concatenate((self.ts, ts)), row_count)
        fresh = ~log.dead[rows]
        rows, ts = rows[fresh], ts[fresh]
        if len(rows) > 1:
            first = np.sort(np.unique(rows, return_index=True)[1])
            rows, ts = rows[first], ts[first]
        if len(rows) == 0:
            return self
        log.append(rows, ts)
        return DeleteMarks._newest(log)


_NONE = np.zeros(0, np.int64)
_NO_DELETES = DeleteMarks(0, 0, 0, _MarkLog(_NONE, _NONE, 0))


def find_deleted(batch: DeleteBatch, keys: KeyIndex, insert_ts: Array, partition_id: int) -> tuple[Array, Array]:
    """Rows of a segment that the batch kills, and the ts of each, both int64 (m,); a row may occur several times."""
    if not keys.may_hold(*batch.key_range):
        return _NONE, _NONE
    is_single = len(batch) == 1
    if is_single and batch.partition_ids[0] not in (partition_id, ALL_PARTITIONS):
        return _NONE, _NONE
    rows, places = keys.find(batch.keys)
    if len(rows) == 0:
        return _NONE, _NONE
    ts = batch.ts[places]
    hit = insert_ts[rows] < ts
    if not is_single:
        partitions = batch.partition_ids[places]
        hit &= (partitions == partition_id) | (partitions == ALL_PARTITIONS)
    return rows[hit], ts[hit]


def join_marks(pieces: list[tuple[int, DeleteMarks]]) -> DeleteMarks:
    """Marks of consecutive pieces, given as (row count, marks), as marks of the whole."""
    if all(marks.count == 0 for _, marks in pieces):
        return _NO_DELETES
    starts = np.cumsum([0, *(count for count, _ in pieces)])
    rows = np.concatenate([m.rows + start for (_, m), start in zip(pieces, starts, strict=False)])
    return DeleteMarks.of(rows, np.concatenate([m.ts for _, m in pieces]), int(starts[-1]))


def concat_deletes(batches: Sequence[DeleteBatch]) -> DeleteBatch:
    """Joins delete batches that fit together, in order."""
    if len(batches) == 1:
        return batches[0]
    keys: Any
    if isinstance(batches[0].keys, np.ndarray):
        keys = np.concatenate([b.keys for b in batches])
    else:
        keys = pa.concat_arrays([b.keys for b in batches])
    return DeleteBatch(
        keys, np.concatenate([b.ts for b in batches]), np.concatenate([b.partition_ids for b in batches])
    )


def joined_deletes(batches: Iterable[DeleteBatch]) -> list[DeleteBatch]:
    """The same deletes in order, in few batches."""
    return [concat_deletes(group) for group in joinable(batches)]


def append_deletes(batches: tuple[DeleteBatch, ...], batch: DeleteBatch) -> tuple[DeleteBatch, ...]:
    """Batches in ts order, with the next one added. Small batches are joined like the digits of a counter in base 16,
    so that few remain and each delete is copied O(log deletes) times."""
    batches = (*batches, batch)
    while len(batches) >= _JOINED and len(batches[-_JOINED]) < _JOINED * len(batches[-1]):
        last = batches[-_JOINED:]
        if sum(map(len, last)) > _MAX_JOINED_DELETES or len(list(joinable(last))) > 1:
            break
        batches = (*batches[:-_JOINED], concat_deletes(last))
    return batches


def split_deletes(
    batches: tuple[DeleteBatch, ...], count: int
) -> tuple[tuple[DeleteBatch, ...], tuple[DeleteBatch, ...]]:
    """The first `count` deletes of batches, and the others."""
    whole = 0
    while count and count >= len(batches[whole]):
        count -= len(batches[whole])
        whole += 1
    if not count:
        return batches[:whole], batches[whole:]
    cut = batches[whole]
    return (*batches[:whole], cut.slice(0, count)), (cut.slice(count, len(cut)), *batches[whole + 1 :])
