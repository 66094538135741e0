"""What the log of a collection does not say: changes of its record, and of its rows by others than writers.

With the log and a backup it tells what a collection was at any moment. Entries are made in the transaction of the
change. The entry 0 has the timestamp from which on the history and the logs are complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from milvine.catalog import encoding, tables
from milvine.catalog.contents import Snapshot
from milvine.model.collections import Collection
from milvine.model.records import record
from milvine.model.segments import SegmentMeta
from milvine.model.timestamps import from_physical_ms, physical_ms

_BEGINNING = 0


@record
class HistoryEntry:
    """`collection`: its record from `ts` on, None once it is dropped. `gained`: the ids of segments whose rows the log
    does not have. `emptied_at`: the first log file that may have rows that are alive."""

    entry_id: int
    ts: int
    collection_id: int
    collection: Mapping[str, Any] | None
    gained: tuple[int, ...] = ()
    emptied_at: int | None = None


@record
class StoredHistory:
    """`complete_from`: a timestamp, None if no history is kept."""

    complete_from: int | None
    entries: tuple[HistoryEntry, ...]


class History:
    """Writes the history that a catalog keeps for `keep_ms`."""

    def __init__(self, next_ts: Callable[[], int], keep_ms: int) -> None:
        self._next_ts = next_ts
        self._keep_ms = keep_ms

    @property
    def is_kept(self) -> bool:
        return self._keep_ms > 0

    def begin(self, connection: sa.Connection) -> None:
        """Begins a history where none is stored, or forgets the stored one if none is kept."""
        if self.is_kept:
            self._insert(connection, HistoryEntry(_BEGINNING, self._next_ts(), 0, None))
        else:
            connection.execute(sa.delete(tables.history))

    def note(self, connection: sa.Connection, before: Snapshot, after: Snapshot) -> None:
        if not self.is_kept:
            return
        entries = [*self._entries(before, after)]
        for entry in entries:
            self._insert(connection, entry)
        if entries:
            self._forget(connection, entries[-1].ts)

    def _insert(self, connection: sa.Connection, entry: HistoryEntry) -> None:
        connection.execute(
            sa.insert(tables.history).values(
                entry_id=entry.entry_id,
                ts=entry.ts,
                collection_id=entry.collection_id,
                collection=entry.collection,
                gained=list(entry.gained),
                emptied_at=entry.emptied_at,
            )
        )

    def _forget(self, connection: sa.Connection, now_ts: int) -> None:
        until = from_physical_ms(physical_ms(now_ts) - self._keep_ms)
        columns = tables.history.c
        connection.execute(sa.delete(tables.history).where(columns.ts < until, columns.entry_id != _BEGINNING))
        first = sa.update(tables.history).where(columns.entry_id == _BEGINNING, columns.ts < until)
        connection.execute(first.values(ts=until))

    def _entries(self, before: Snapshot, after: Snapshot) -> Iterator[HistoryEntry]:
        for collection_id, collection in after.collections.items():
            was = before.collections.get(collection_id)
            old, new = before.segments.get(collection_id, ()), after.segments.get(collection_id, ())
            if collection is was and old is new:
                continue
            gained = _gained(was, collection, old, new)
            emptied_at = None
            if was is not None and not new and (old or was.checkpoint_file != collection.checkpoint_file):
                emptied_at = collection.checkpoint_file
            record = _record(collection)
            if not gained and emptied_at is None and was is not None and record == _record(was):
                continue
            entry_id = self._next_ts()
            # Readers see the rows of an import from the timestamp that they have.
            ts = entry_id if was is None or not gained else max(one.max_ts for one in gained)
            ids = tuple(one.segment_id for one in gained)
            yield HistoryEntry(entry_id, ts, collection_id, record, ids, emptied_at)
        for collection_id in before.collections:
            if collection_id not in after.collections:
                entry_id = self._next_ts()
                yield HistoryEntry(entry_id, entry_id, collection_id, None)


def _gained(
    was: Collection | None, collection: Collection, old: tuple[SegmentMeta, ...], new: tuple[SegmentMeta, ...]
) -> list[SegmentMeta]:
    """Segments of an import or a restored snapshot. A flush moves the checkpoint, a compaction removes segments."""
    had = {one.segment_id for one in old}
    has = {one.segment_id for one in new}
    if was is not None and (was.checkpoint_file != collection.checkpoint_file or not had <= has):
        return []
    return [one for one in new if one.segment_id not in had]


def _record(collection: Collection) -> dict[str, Any]:
    return encoding.encode_collection(collection) | {
        "load": encoding.encode_load(collection.load),
        "folded_ts": 0,  # of the files, which a history does not have
    }


def recorded_collection(entry: HistoryEntry) -> Collection | None:
    """The collection of an entry, with a log that begins anew."""
    if entry.collection is None:
        return None
    members = dict(entry.collection)
    load = encoding.decode_load(members.pop("load"))
    return replace(encoding.decode_collection(members), load=load)


def has_history(connection: sa.Connection) -> bool:
    return connection.execute(sa.select(tables.history.c.entry_id).limit(1)).first() is not None


def read_history(connection: sa.Connection) -> StoredHistory:
    complete_from = None
    entries = []
    for row in connection.execute(sa.select(tables.history).order_by(tables.history.c.entry_id)):
        if row.entry_id == _BEGINNING:
            complete_from = row.ts
        else:
            entries.append(HistoryEntry(**{**row._mapping, "gained": tuple(row.gained)}))
    return StoredHistory(complete_from, tuple(entries))
