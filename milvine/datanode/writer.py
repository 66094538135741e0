"""The order of one collection's writes.

Under the lock a write takes its timestamp and its place in the log. Outside of it one of the waiting writers syncs
the log for all. Then writes are published in timestamp order, then acknowledged: nothing that is not on disk is
ever visible, and nothing is visible before what came before it.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.errors import MilvineError, PartitionNotFound
from milvine.model.collections import Collection
from milvine.model.columns import ColumnBatch
from milvine.model.partition_keys import routed
from milvine.model.schema import CollectionSchema
from milvine.model.segments import DeleteBatch, make_deletes
from milvine.model.timestamps import HybridClock
from milvine.segment.growing import Chunk, GrowingSegment, at_ts, make_chunk
from milvine.segment.view import ReadView, Views
from milvine.storage.files import Buffer
from milvine.storage.wal import Wal
from milvine.storage.wal_records import RecordType, encode_deletes, encode_insert


@dataclass(frozen=True, slots=True)
class Frozen:
    """Growing segments that take no more rows, and the first log file with nothing of them in it."""

    segment_ids: frozenset[int]
    delete_batches: int
    checkpoint_file: int


class KeysWritten(Exception):
    """Rows that were read to be written anew have been written meanwhile."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Keys (int64 arrays or StringArrays) of the writes that came while somebody watched."""

    written: list[Any] = field(default_factory=list)

    def saw(self, keys: Any) -> bool:
        """Whether any of `keys` was written."""
        if isinstance(keys, np.ndarray):
            return any(np.isin(keys, np.asarray(w)).any() for w in self.written)
        return any(pc.any(pc.is_in(keys, pa.array(w, keys.type))).as_py() for w in self.written)


class CollectionWriter:
    """All writes of one collection go through here."""

    def __init__(self, collection: Collection, views: Views, clock: HybridClock, wal: Wal) -> None:
        self.collection_id = collection.collection_id
        self._schema = collection.schema
        self._views = views
        self._clock = clock
        self._wal = wal
        self._lock = threading.Lock()
        self._publish_lock = threading.Lock()
        self._unpublished: deque[tuple[int, int, Callable[[int], None]]] = deque()
        self._last_ticket = 0
        self._watches: list[Watch] = []
        view = views.current(collection.collection_id)
        assert view is not None
        self._active = {s.partition_id: s.segment_id for s in view.growing}
        self._routes = tuple(p.partition_id for p in collection.partitions)
        self._dropped: set[int] = set()
        self._frozen_deletes = 0
        self.growing_bytes = sum(s.bytes_used for s in view.growing)

    @property
    def wal_bytes(self) -> int:
        return self._wal.bytes_since_checkpoint

    def insert(self, partition_id: int, batch: ColumnBatch) -> int:
        """Returns the rows' timestamp once they are durable and visible. ALL_PARTITIONS: where their key says."""
        chunks = self._chunks(partition_id, batch)
        body = encode_insert(partition_id, batch)
        keys = self._keys(batch)
        return self._commit(
            RecordType.INSERT, partition_id, keys, lambda _: body, lambda ts: self._publish_rows(chunks, ts)
        )

    def _keys(self, batch: ColumnBatch) -> Any:
        return batch.columns[self._schema.primary_field.field_id].values

    def _chunks(self, partition_id: int, batch: ColumnBatch) -> list[Chunk]:
        return [
            make_chunk(self._schema, 0, part_id, part, 0)
            for part_id, part in routed(self._schema, self._routes, partition_id, batch)
        ]

    def upsert(
        self, partition_id: int, batch: ColumnBatch, replaced_keys: Any | None = None, watch: Watch | None = None
    ) -> int:
        """Delete `replaced_keys` (None: the rows' own) in the partition and insert the rows, at one timestamp.

        ALL_PARTITIONS: the keys go wherever they are, the rows where their partition key says.
        Raises KeysWritten, with nothing written, when `watch` saw another write of these keys.
        """
        chunks = self._chunks(partition_id, batch)
        body = encode_insert(partition_id, batch, replaced_keys)
        keys = self._keys(batch) if replaced_keys is None else replaced_keys

        def publish(ts: int) -> None:
            self._publish_upsert(make_deletes(keys, ts, partition_id), chunks, ts)

        return self._commit(RecordType.UPSERT, partition_id, keys, lambda _: body, publish, watch)

    def delete(self, keys: Any, partition_id: int) -> int:
        """Delete keys (int64 or StringArray) blindly; returns the timestamp once durable and visible."""
        batches: list[DeleteBatch] = []

        def encode(ts: int) -> Sequence[Buffer]:
            batches.append(make_deletes(keys, ts, partition_id))
            return [memoryview(encode_deletes(batches[0]))]

        return self._commit(
            RecordType.DELETE, partition_id, keys, encode, lambda ts: self._publish_deletes(batches[0], ts)
        )

    def set_schema(self, schema: CollectionSchema) -> None:
        """Let all growing rows, those not yet visible included, know fields that were added."""
        with self._publish_lock:
            self._schema = schema
            self._views.replace(
                self.collection_id,
                lambda view: replace(view, schema=schema, growing=tuple(s.with_schema(schema) for s in view.growing)),
            )

    def watch(self) -> Watch:
        """See the keys of all writes from here on; what came before is visible when this returns."""
        watch = Watch()
        with self._lock:
            self._watches.append(watch)
        self.settle()
        return watch

    def unwatch(self, watch: Watch) -> None:
        with self._lock:
            self._watches.remove(watch)

    def _commit(
        self,
        record_type: RecordType,
        partition_id: int,
        keys: Any,
        encode: Callable[[int], Sequence[Buffer]],
        publish: Callable[[int], None],
        watch: Watch | None = None,
    ) -> int:
        with self._lock:
            if partition_id in self._dropped:
                raise PartitionNotFound(partition_id)
            if watch is not None and watch.saw(keys):
                raise KeysWritten
            for other in self._watches:
                other.written.append(keys)
            ts = self._clock.next()
            ticket = self._wal.append(record_type, ts, encode(ts))
            self._last_ticket = ticket
            self._unpublished.append((ticket, ts, publish))
        self._wal.sync(ticket)
        self._publish_until(ticket)
        return ts

    def _publish_until(self, ticket: int) -> None:
        """Publish, in order, all writes up to `ticket`, which is synced."""
        with self._publish_lock:
            while self._unpublished and self._unpublished[0][0] <= ticket:
                _, ts, publish = self._unpublished.popleft()
                publish(ts)

    def _publish_rows(self, chunks: list[Chunk], ts: int) -> None:
        placed = [self._place(chunk, ts) for chunk in chunks]
        self._views.replace(self.collection_id, lambda view: _with_chunks(view, placed, ts))

    def _place(self, chunk: Chunk, ts: int) -> Chunk:
        """The chunk in its partition's growing segment, at the timestamp that its write got."""
        partition_id = chunk.partition_id
        segment_id = self._active.get(partition_id)
        if segment_id is None:
            segment_id = self._active[partition_id] = self._clock.next()
        placed = at_ts(replace(chunk, segment_id=segment_id, schema=self._schema), ts)
        self.growing_bytes += placed.bytes_used
        return placed

    def _publish_deletes(self, batch: DeleteBatch, ts: int) -> None:
        self._views.publish_deletes(self.collection_id, batch)
        self._views.replace(self.collection_id, lambda view: _with_deletes(view, batch, ts))

    def _publish_upsert(self, batch: DeleteBatch, chunks: list[Chunk], ts: int) -> None:
        """Until the last step readers read before `ts`, where the old rows live and the new ones are not yet."""
        placed = [self._place(chunk, ts) for chunk in chunks]
        self._views.publish_deletes(self.collection_id, batch)
        self._views.replace(self.collection_id, lambda view: _with_chunks(_with_deletes(view, batch, ts), placed, ts))

    def settle(self) -> None:
        """Return once every write that has a timestamp is visible; a log that failed has nothing more to show."""
        with self._lock:
            ticket = self._last_ticket
        with contextlib.suppress(MilvineError):
            self._wal.sync(ticket)
            self._publish_until(ticket)

    def freeze(self) -> Frozen | None:
        """Close all growing segments to new rows and start a new log file; None if nothing was written.

        Writers wait for at most one sync. The frozen segments stay in the view.
        """
        with self._lock:
            self._wal.sync(self._last_ticket)
            self._publish_until(self._last_ticket)
            view = self._views.current(self.collection_id)
            if view is None:
                return None
            deletes = len(view.deletes) - self._frozen_deletes
            if not self._active and not deletes:
                return None
            frozen = Frozen(frozenset(self._active.values()), deletes, self._wal.rotate())
            self._active = {}
            self._frozen_deletes += deletes
            return frozen

    def flushed(self, frozen: Frozen) -> None:
        """The frozen segments are sealed now and have left the view."""
        with self._lock:
            self._frozen_deletes -= frozen.delete_batches
            view = self._views.current(self.collection_id)
            self.growing_bytes = 0 if view is None else sum(s.bytes_used for s in view.growing)

    def forget(self, partition_id: int) -> None:
        """Take no more writes to a partition that has left the catalog; all that were taken are visible then."""
        with self._lock:
            self._dropped.add(partition_id)
            with contextlib.suppress(MilvineError):  # a log that failed has nothing more to show
                self._wal.sync(self._last_ticket)
                self._publish_until(self._last_ticket)
            self._active.pop(partition_id, None)

    def count_growing(self) -> None:
        """Measure the growing rows again: some left the view."""
        with self._lock:
            view = self._views.current(self.collection_id)
            self.growing_bytes = 0 if view is None else sum(s.bytes_used for s in view.growing)

    def close(self) -> None:
        self._wal.close()


def _with_chunks(view: ReadView, chunks: list[Chunk], ts: int) -> ReadView:
    growing = {s.segment_id: s for s in view.growing}
    for chunk in chunks:
        segment = growing.get(chunk.segment_id) or GrowingSegment(chunk.segment_id, chunk.partition_id)
        growing[chunk.segment_id] = segment.with_chunk(chunk)
    return replace(view, ts=ts, growing=tuple(growing.values()))


def _with_deletes(view: ReadView, batch: DeleteBatch, ts: int) -> ReadView:
    return replace(view, ts=ts, growing=tuple(s.with_deletes(batch) for s in view.growing))
