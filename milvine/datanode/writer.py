"""The order of one collection's writes.

Under the lock a write takes its timestamp and its place in the log. Outside the lock one of the waiting writers syncs
the log for all of them; the data for readers is prepared while the disk works. Then writes are published in
timestamp order and acknowledged: a write is never visible before it is on disk, nor before the writes ahead of it.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.errors import MilvineError, PartitionNotFound
from milvine.model.collections import Collection
from milvine.model.columns import ColumnBatch
from milvine.model.partition_keys import routed
from milvine.model.records import record
from milvine.model.schema import CollectionSchema
from milvine.model.segments import DeleteBatch, make_deletes
from milvine.model.timestamps import HybridClock
from milvine.segment.growing import Chunk, GrowingSegment, make_chunk
from milvine.segment.view import ReadView, Views
from milvine.storage.files import Buffer
from milvine.storage.wal_format import Log
from milvine.storage.wal_records import RecordType, encode_deletes, encode_insert


@record
class Frozen:
    """Growing segments closed to new rows, the number of first deletes that belong to them, and the first log file
    without their rows."""

    segment_ids: frozenset[int]
    deletes: int
    checkpoint_file: int


class KeysWritten(Exception):
    """Another write changed rows after they were read for a partial upsert."""


@record
class Watch:
    """Keys (int64 arrays or StringArrays) of the writes since the watch started."""

    written: list[Any] = field(default_factory=list)

    def saw(self, keys: Any) -> bool:
        """Whether any of `keys` was written."""
        if isinstance(keys, np.ndarray):
            return any(np.isin(keys, np.asarray(w)).any() for w in self.written)
        return any(pc.any(pc.is_in(keys, pa.array(w, keys.type))).as_py() for w in self.written)


class _Rows:
    """The rows of one write. Their chunks are made once: by their writer while the disk works, or by the thread that
    publishes them if it is quicker. `parts`: segment id, partition id, rows."""

    def __init__(self, schema: CollectionSchema, parts: Sequence[tuple[int, int, ColumnBatch]], ts: int) -> None:
        self.schema = schema
        self.ts = ts
        self._parts = parts
        self._lock = threading.Lock()
        self._chunks: list[Chunk] | None = None
        self._grown: dict[int, tuple[GrowingSegment, GrowingSegment]] = {}

    def join(self, view: ReadView) -> None:
        """Joins the chunks with the current segments; `added` uses the result if the segments are still the same."""
        chunks = self.chunks()
        if view.schema is not self.schema:
            return  # a field has just been added or dropped
        found = {segment.segment_id: segment for segment in view.growing}
        for chunk in chunks:
            if (segment := found.get(chunk.segment_id)) is not None:
                self._grown[segment.segment_id] = segment, segment.with_chunk(chunk)

    def added(self, segment: GrowingSegment, chunk: Chunk) -> GrowingSegment:
        """The segment with one chunk added."""
        before, after = self._grown.get(segment.segment_id, (None, None))
        return segment.with_chunk(chunk) if after is None or before is not segment else after

    def chunks(self) -> list[Chunk]:
        with self._lock:
            if self._chunks is None:
                self._chunks = [make_chunk(self.schema, *part, self.ts) for part in self._parts]
            return self._chunks


class CollectionWriter:
    """All writes of one collection."""

    def __init__(self, collection: Collection, views: Views, clock: HybridClock, log: Log) -> None:
        self.collection_id = collection.collection_id
        self._views = views
        self._clock = clock
        self._log = log
        self._lock = threading.Lock()
        self._publish_lock = threading.Lock()
        self._unpublished: deque[tuple[int, DeleteBatch | None, _Rows]] = deque()
        self._last_ticket = 0
        self._watches: list[Watch] = []
        view = views.current(collection.collection_id)
        assert view is not None
        self._schema = view.schema
        self._active = {s.partition_id: s.segment_id for s in view.growing}
        self._routes = tuple(p.partition_id for p in collection.partitions)
        self._dropped: set[int] = set()
        self._frozen_deletes = 0
        log.when_late(self._publish_until)

    @property
    def growing_bytes(self) -> int:
        return self._views.growing_bytes(self.collection_id)

    @property
    def wal_bytes(self) -> int:
        return self._log.bytes_since_checkpoint

    def insert(self, partition_id: int, batch: ColumnBatch) -> int:
        """Returns the rows' timestamp once they are durable and visible. ALL_PARTITIONS: their key decides."""
        body = encode_insert(partition_id, batch)
        return self._commit(RecordType.INSERT, partition_id, self._keys(batch), body, batch)

    def _keys(self, batch: ColumnBatch) -> Any:
        return batch.columns[self._schema.primary_field.field_id].values

    def upsert(
        self, partition_id: int, batch: ColumnBatch, replaced_keys: Any | None = None, watch: Watch | None = None
    ) -> int:
        """Deletes `replaced_keys` (None: the rows' own) in the partition and inserts the rows, at one timestamp.

        ALL_PARTITIONS: the keys are deleted in all partitions, and the rows' partition keys decide.
        Raises KeysWritten, with nothing written, if `watch` saw another write of these keys.
        """
        body = encode_insert(partition_id, batch, replaced_keys)
        keys = self._keys(batch) if replaced_keys is None else replaced_keys
        return self._commit(RecordType.UPSERT, partition_id, keys, body, batch, watch)

    def delete(self, keys: Any, partition_id: int) -> int:
        """Deletes keys (int64 or StringArray) without a look-up of their rows.

        Returns the timestamp once the delete is durable and visible.
        """
        return self._commit(RecordType.DELETE, partition_id, keys)

    def set_schema(self, schema: CollectionSchema) -> None:
        """Changes the schema of all growing rows, visible or not, by added or dropped fields."""
        with self._publish_lock:
            self._schema = schema
            self._views.replace(
                self.collection_id,
                lambda view: replace(view, schema=schema, growing=tuple(s.with_schema(schema) for s in view.growing)),
            )

    def watch(self) -> Watch:
        """Collects the keys of all writes from now on; earlier writes are visible when this returns."""
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
        body: Sequence[Buffer] = (),
        batch: ColumnBatch | None = None,
        watch: Watch | None = None,
    ) -> int:
        """`keys`: those inserted, deleted, or both. The body of a delete is made here, since it has the timestamp."""
        parts = [] if batch is None else routed(self._schema, self._routes, partition_id, batch)
        with self._lock:
            if partition_id in self._dropped:
                raise PartitionNotFound(partition_id)
            if watch is not None and watch.saw(keys):
                raise KeysWritten
            for other in self._watches:
                other.written.append(keys)
            ts = self._clock.next()
            deletes = None if record_type is RecordType.INSERT else make_deletes(keys, ts, partition_id)
            if deletes is not None and batch is None:
                body = encode_deletes(deletes)
            rows = _Rows(self._schema, [(self._growing_segment(i), i, part) for i, part in parts], ts)
            ticket = self._log.append(record_type, ts, body)
            self._last_ticket = ticket
            is_next = not self._unpublished
            self._unpublished.append((ticket, deletes, rows))
        self._log.write(ticket)
        if is_next and deletes is None and (view := self._views.current(self.collection_id)) is not None:
            rows.join(view)
        else:
            rows.chunks()
        self._log.sync(ticket)
        self._publish_until(ticket)
        return ts

    def _growing_segment(self, partition_id: int) -> int:
        """The segment for new rows of the partition."""
        segment_id = self._active.get(partition_id)
        if segment_id is None:
            segment_id = self._active[partition_id] = self._clock.next()
        return segment_id

    def _publish_until(self, ticket: int) -> None:
        """Publishes, in order, all writes up to `ticket`, which is synced. A write that cannot be published for lack of
        memory stays first, so that no later write is visible without it."""
        with self._publish_lock:
            while self._unpublished and self._unpublished[0][0] <= ticket:
                _, deletes, rows = self._unpublished[0]
                self._publish(deletes, rows)
                self._unpublished.popleft()

    def _publish(self, deletes: DeleteBatch | None, rows: _Rows) -> None:
        """Until the last step readers use an earlier timestamp, at which old rows are alive and new ones are not."""
        chunks = rows.chunks()
        if self._dropped:  # of a write that came late
            chunks = [chunk for chunk in chunks if chunk.partition_id not in self._dropped]
        if rows.schema is not self._schema:
            chunks = [chunk.with_schema(self._schema) for chunk in chunks]
        if deletes is not None:
            self._views.publish_deletes(self.collection_id, deletes)
        self._views.replace(self.collection_id, lambda view: _written(view, deletes, rows, chunks))

    def settle(self) -> None:
        """Returns once every write that has a timestamp is visible. A failed log has no more writes to publish."""
        with self._lock:
            ticket = self._last_ticket
        with contextlib.suppress(MilvineError):
            self._log.sync(ticket)
            self._publish_until(ticket)

    def freeze(self) -> Frozen | None:
        """Closes all growing segments to new rows and starts a new log file; None if there are no rows or deletes.

        Writers wait for at most one sync. The frozen segments stay in the view.
        """
        with self.stopped():
            return self.freeze_stopped()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """No write takes a timestamp in the block, and every write that has one is visible."""
        with self._lock:
            self._log.sync(self._last_ticket)
            self._publish_until(self._last_ticket)
            yield

    def freeze_stopped(self) -> Frozen | None:
        """`freeze` for a caller that is in `stopped`."""
        view = self._views.current(self.collection_id)
        if view is None:
            return None
        deletes = sum(map(len, view.deletes)) - self._frozen_deletes
        if not self._active and not deletes:
            return None
        return self._frozen(deletes, self._log.rotate())

    def _frozen(self, deletes: int, checkpoint: int) -> Frozen:
        frozen = Frozen(frozenset(self._active.values()), deletes, checkpoint)
        self._active = {}
        self._frozen_deletes += deletes
        return frozen

    def move(self, log: Log) -> Frozen:
        """Goes on in an empty log, before any write. Freezes all that the present log holds."""
        self._log.close()
        self._log = log
        log.when_late(self._publish_until)
        view = self._views.current(self.collection_id)
        return self._frozen(0 if view is None else sum(map(len, view.deletes)), log.file_number)

    def publish_sealed(self, ts: int, change: Callable[[ReadView], ReadView]) -> None:
        """Publishes sealed rows of timestamp `ts`, at once. Every write before them is visible then, so that a reader
        at `ts` sees no write in part."""
        with self._lock:
            with contextlib.suppress(MilvineError):  # a failed log has no more writes to publish
                self._log.sync(self._last_ticket)
                self._publish_until(self._last_ticket)
            with self._publish_lock:
                self._views.replace(self.collection_id, lambda view: replace(change(view), ts=max(view.ts, ts)))

    def flushed(self, frozen: Frozen) -> None:
        """Called when the frozen segments are sealed and have left the view."""
        with self._lock:
            self._frozen_deletes -= frozen.deletes

    def forget(self, partition_id: int) -> None:
        """Refuses writes to a partition that has left the catalog; earlier writes are visible when this returns."""
        with self._lock:
            self._dropped.add(partition_id)
            with contextlib.suppress(MilvineError):  # a failed log has no more writes to publish
                self._log.sync(self._last_ticket)
                self._publish_until(self._last_ticket)
            self._active.pop(partition_id, None)

    def close(self) -> None:
        self._log.close()


def _written(view: ReadView, deletes: DeleteBatch | None, rows: _Rows, chunks: Sequence[Chunk]) -> ReadView:
    """The view after one write. The deletes do not kill the rows of the same write."""
    growing = {s.segment_id: s if deletes is None else s.with_deletes(deletes) for s in view.growing}
    for chunk in chunks:
        segment = growing.get(chunk.segment_id) or GrowingSegment(chunk.segment_id, chunk.partition_id)
        growing[chunk.segment_id] = rows.added(segment, chunk)
    return replace(view, ts=max(view.ts, rows.ts), growing=tuple(growing.values()))
