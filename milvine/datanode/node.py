"""The data node: the writers of all collections, their flushes, merges and index builds."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from milvine import metrics
from milvine.background import Supervisor, Work
from milvine.catalog.history import History
from milvine.catalog.snapshots import let_go
from milvine.catalog.store import Catalog
from milvine.config import Settings
from milvine.crash_points import crash_point
from milvine.datanode import recovery
from milvine.datanode.catalog_files import remove_collection, remove_garbage
from milvine.datanode.compactor import Compactor
from milvine.datanode.flush import Flusher
from milvine.datanode.held_writer import HeldWriter
from milvine.datanode.import_commit import ImportCommitter
from milvine.datanode.index_build import IndexBuilder
from milvine.datanode.output_filler import OutputFiller
from milvine.datanode.remover import Remover
from milvine.datanode.scrub import Scrubber
from milvine.datanode.snapshot_exporter import SnapshotExporter
from milvine.datanode.snapshot_keeper import SnapshotKeeper
from milvine.datanode.store_keeper import StoreKeeper
from milvine.datanode.workers import Workers
from milvine.datanode.write_buffer import WriteBuffer
from milvine.datanode.writer import CollectionWriter, Frozen, KeysWritten, Watch
from milvine.errors import (
    ChannelTSafeStalled,
    CollectionNotFound,
    DataIntegrityError,
    ImportFailed,
    IoFailed,
    MilvineError,
    RequestTimeout,
    UnexpectedError,
)
from milvine.model.collections import Collection
from milvine.model.columns import ColumnBatch
from milvine.model.import_jobs import ImportJob
from milvine.model.schema import CollectionSchema
from milvine.model.segments import ALL_PARTITIONS, SegmentMeta, delete_bytes
from milvine.model.timestamps import HybridClock, physical_ms
from milvine.segment.growing import GrowingSegment
from milvine.segment.view import ReadView, Views
from milvine.storage.logs import ChosenLogs
from milvine.storage.snapshot_places import SnapshotPlaces
from milvine.storage.store import CachedStore, SegmentStore
from milvine.storage.wal_format import Log

_log = logging.getLogger(__name__)
MAX_WAIT_FOR_TS_MS = 1000
"""A client's clock may be ahead of ours by this much."""
_LOOK_SECONDS = 1.0
_LEFTOVERS = 0
"""The key of leftovers of all collections, where failures are kept by collection."""
Merged = tuple[ColumnBatch, Any | None]
"""Rows, and the keys of the rows that they replace (None: their own)."""


class DataNode:
    """Writes to the collections of the catalog. The writer of a dropped collection raises CollectionNotFound."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        views: Views,
        store: SegmentStore,
        logs: ChosenLogs,
        clock: HybridClock,
        supervisor: Supervisor,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._views = views
        self._paths = store.paths
        self._logs = logs
        self.kept_logs = logs.kept
        self._clock = clock
        self._held: dict[int, HeldWriter] = {}
        self._together = threading.Lock()
        self._flusher = Flusher(catalog, views, store, logs, clock)
        self._imports = ImportCommitter(catalog, views, store, clock)
        self.workers = Workers(store)
        self.indexes = IndexBuilder(catalog, views, self.workers, supervisor)
        self.fills = OutputFiller(catalog, views, self.workers, supervisor)
        self.compactor = Compactor(settings, catalog, views, self.workers, clock, self.indexes, supervisor)
        self._scrubber = Scrubber(settings, catalog, store, supervisor)
        places = tuple(filter(None, settings.snapshot_path.split(",")))
        self.snapshot_places = SnapshotPlaces(places, settings.store_endpoint, settings.store_region)
        self.snapshots = SnapshotKeeper(
            catalog, store, clock, supervisor, self._create, self.drop, self.snapshot_places
        )
        self.exporter = SnapshotExporter(catalog, store, supervisor)
        self._keeper = (
            StoreKeeper(settings, catalog, store, logs, supervisor) if isinstance(store, CachedStore) else None
        )
        self._recoveries: Work[int] = supervisor.work("recovery")
        self._flushes: Work[int] = supervisor.work("flush")
        self._buffer = WriteBuffer(settings, views, self._flushes)
        self._remover = Remover(
            catalog,
            views,
            store.paths,
            logs,
            clock,
            compactor=self.compactor,
            indexes=self.indexes,
            fills=self.fills,
            flushes=self._flushes,
        )
        self._worker = supervisor.worker("flush", self._flush_one)
        metrics.growing_bytes.set_function(lambda: views.all_growing_bytes)

    def recover(self) -> None:
        """Opens all collections of the catalog. A collection with a damaged log cannot be opened; calls for it raise
        the reason until it is repaired or dropped. Raises IoFailed if logs are in a store that does not answer, and
        UnexpectedError if another server has taken them over."""
        self._clock.observe(self._catalog.max_id_or_ts())
        keep_ms = round(3_600_000 * self._settings.wal_keep_hours)
        self._catalog.keep_history(History(self._clock.next, keep_ms))
        let_go(self._catalog)  # no backup goes on after the end of the process that it began with
        snapshot = self._catalog.snapshot
        try:
            self.kept_logs.expire()
            with contextlib.suppress(OSError):  # a full disk, on which a server must start
                self.kept_logs.take_others(snapshot.collections.keys())
            if removed := remove_garbage(self._paths, snapshot):
                _log.info("removed %d leftovers of a crash", removed)
        except OSError as error:
            self._recoveries.failed([_LEFTOVERS], "removing leftovers of a crash", error, is_final=True)
        collections = snapshot.collections.values()
        readers = self._logs.readers({one.collection_id: one.checkpoint_file for one in collections})
        for collection, reader in zip(collections, readers, strict=True):
            collection_id = collection.collection_id
            try:
                with contextlib.suppress(OSError):  # the next start removes the rest
                    self._logs.remove_before(collection_id, collection.checkpoint_file)
                view, log = recovery.recover(collection, snapshot, reader, self._clock)
            except (IoFailed, UnexpectedError):  # of all logs: the store does not answer, or another server has them
                raise
            except Exception as error:  # noqa: BLE001 - it is recorded, and the other collections open
                damage = error if isinstance(error, DataIntegrityError) else _as_damage(error)
                self._views.mark_damaged(collection_id, damage)
                what = f"collection {collection.name} ({collection_id}) cannot be opened"
                self._recoveries.failed([collection_id], what, error, is_final=True)
            else:
                self._open(collection, view, log)
                if self._logs.is_elsewhere(collection.checkpoint_file):
                    self._move_log(self._held[collection_id])

    def _move_log(self, held: HeldWriter) -> None:
        """Before any write: what is in the log is sealed, and the commit of that names the other log."""
        log = self._logs.create(held.writer.collection_id)
        self._flusher.flush(held.writer, held.writer.move(log))
        _log.info("moved the log of collection %d", held.writer.collection_id)

    def start(self) -> None:
        self.indexes.start(self.compactor.will_merge, self.compactor.is_busy_with)
        self.compactor.start()
        self.fills.start(self.compactor.is_busy_with, self.indexes.look)
        self._scrubber.start()
        self.snapshots.start()
        self.exporter.start()
        if self._keeper is not None:
            self._keeper.start()
        self._worker.start()

    def close(self) -> None:
        """Closes all logs; later writes fail. Background work must have ended."""
        for held in list(self._held.values()):
            held.writer.close()
        self._logs.close()

    def create(self, collection: Collection) -> Collection:
        """Starts the log of a collection that is about to be committed; returns the collection with its checkpoint."""
        return self._create(collection, recovery.empty_view(collection))

    def _create(self, collection: Collection, view: ReadView) -> Collection:
        log = self._logs.create(collection.collection_id)
        self._open(collection, view, log)
        return replace(collection, checkpoint_file=log.file_number)

    def _open(self, collection: Collection, view: Any, log: Log) -> None:
        self._views.add(view)
        writer = CollectionWriter(collection, self._views, self._clock, log)
        self._held[collection.collection_id] = HeldWriter(writer)

    def drop(self, collection_id: int) -> None:
        """Removes log and files of a collection that has left the catalog. Readers keep their mapped files."""
        held = self._held.pop(collection_id, None)
        if held is not None:
            self.compactor.end(collection_id)
            self.indexes.end(collection_id)
            self.fills.end(collection_id)
        with contextlib.nullcontext() if held is None else held.flush_lock:
            self._views.remove(collection_id)
            self._recoveries.succeeded([collection_id])
            self._flushes.succeeded([collection_id])
            if held is not None:
                held.writer.close()
            self._logs.remove(collection_id)
            remove_collection(self._paths, self._catalog.snapshot, collection_id)

    def drop_partition(self, collection_id: int, name: str) -> None:
        """Drops a partition with all its rows; succeeds if it does not exist. Recovery skips its rows in the log.
        Raises ParameterInvalid for a partition that is to be loaded and for the default one."""
        held = self._writer(collection_id)
        with held.flush_lock:
            self._remover.drop_partition(held, name)

    def truncate(self, collection_id: int) -> None:
        """Removes all rows written before the call, in one commit."""
        held = self._writer(collection_id)
        with held.flush_lock:
            self._remover.truncate(held)

    def _writer(self, collection_id: int) -> HeldWriter:
        held = self._held.get(collection_id)
        if held is None:
            self._views.current(collection_id)  # raises if it is damaged
            raise CollectionNotFound(str(collection_id))
        return held

    def insert(self, collection_id: int, partition_id: int, batch: ColumnBatch) -> int:
        """Returns the timestamp of the rows, durable and visible."""
        writer = self._writer(collection_id).writer
        self._buffer.check_room(collection_id, batch.bytes_used)
        ts = writer.insert(partition_id, batch)
        metrics.inserted_rows.inc(batch.row_count)
        self._seal_if_full(writer)
        return ts

    def upsert(self, collection_id: int, partition_id: int, batch: ColumnBatch, replaced_keys: Any | None) -> int:
        """Replaces the rows with `replaced_keys` (None: their own keys); both become visible at once."""
        return self._upsert(self._writer(collection_id).writer, partition_id, batch, replaced_keys)

    def _upsert(
        self,
        writer: CollectionWriter,
        partition_id: int,
        batch: ColumnBatch,
        replaced_keys: Any | None,
        watch: Watch | None = None,
    ) -> int:
        self._buffer.check_room(writer.collection_id, batch.bytes_used)
        ts = writer.upsert(partition_id, batch, replaced_keys, watch)
        metrics.inserted_rows.inc(batch.row_count)
        metrics.deleted_keys.inc(batch.row_count)
        self._seal_if_full(writer)
        return ts

    def merge(
        self, collection_id: int, partition_id: int, merged: Callable[[], Merged], deadline: float
    ) -> tuple[ColumnBatch, int]:
        """Writes the rows that `merged` makes from the stored ones. It runs again if its keys were written in between.

        Returns the rows and their timestamp. Raises RequestTimeout if that continues until `deadline`.
        """
        held = self._writer(collection_id)
        if not held.merge_lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise RequestTimeout
        try:
            while time.monotonic() < deadline:
                watch = held.writer.watch()
                try:
                    batch, replaced_keys = merged()
                    return batch, self._upsert(held.writer, partition_id, batch, replaced_keys, watch)
                except KeysWritten:
                    continue
                finally:
                    held.writer.unwatch(watch)
            raise RequestTimeout
        finally:
            held.merge_lock.release()

    def set_schema(self, collection_id: int, schema: CollectionSchema) -> None:
        """From now on growing rows read missing fields as NULL or the default, and have no dropped fields."""
        self._writer(collection_id).writer.set_schema(schema)

    def _seal_if_full(self, writer: CollectionWriter) -> None:
        if self._buffer.is_to_seal(writer):
            self._worker.wake()

    def delete(self, collection_id: int, keys: Any, partition_id: int) -> int:
        """Deletes keys (int64 or StringArray) without a look-up; returns the timestamp."""
        writer = self._writer(collection_id).writer
        self._buffer.check_room(collection_id, delete_bytes(keys))
        ts = writer.delete(keys, partition_id)
        metrics.deleted_keys.inc(len(keys))
        self._seal_if_full(writer)
        return ts

    def flush(self, collection_id: int) -> tuple[SegmentMeta, ...]:
        """Seals all rows written before the call; returns the new segments."""
        held = self._writer(collection_id)
        with held.flush_lock:
            frozen = held.freeze()
            return () if frozen is None else self._flush(held, frozen)

    def _flush(self, held: HeldWriter, frozen: Frozen) -> tuple[SegmentMeta, ...]:
        """The caller holds the flush lock."""
        collection_id = held.writer.collection_id
        try:
            sealed = self._flusher.flush(held.writer, frozen)
        except IoFailed as error:
            self._flush_failed(collection_id, error)  # the worker tries again, without a further call
            raise
        held.frozen = None
        self._flushes.succeeded([collection_id])
        self.indexes.look()
        self.compactor.look()
        return sealed

    def commit_import(self, job: ImportJob, segments: tuple[SegmentMeta, ...]) -> None:
        """Adds the rows of an import, all at once, and completes its job. Raises ImportFailed, with nothing changed, if
        the collection or a partition is gone; IoFailed."""
        try:
            held = self._writer(job.collection_id)
        except CollectionNotFound as error:
            raise ImportFailed(f"collection {job.collection_id} dropped") from error
        with held.flush_lock:
            self._imports.commit(held.writer, job, segments)
        self.indexes.look()
        self.compactor.look()

    @contextlib.contextmanager
    def flushed_together(self) -> Iterator[None]:
        """In the block all writes of all collections before one moment are sealed, and no later one is. Writes go on
        meanwhile, without being sealed. Raises the reason if a collection is damaged or cannot be flushed."""
        for collection_id in self._catalog.snapshot.collections:
            self._views.current(collection_id)  # raises if it is damaged
        with contextlib.ExitStack() as locks:
            locks.enter_context(self._together)
            every: dict[int, HeldWriter] = {}
            while new := {i: held for i, held in list(self._held.items()) if i not in every}:
                for held in new.values():
                    held.writer.settle()  # so that little is left to sync while all writers are stopped
                    locks.enter_context(held.flush_lock)
                every |= new
            here = [held for collection_id, held in every.items() if self._held.get(collection_id) is held]
            with contextlib.ExitStack() as stopped:
                for held in here:
                    stopped.enter_context(held.writer.stopped())
                frozen = [(held, held.freeze_stopped()) for held in here]
            crash_point("backup.frozen")
            for held, rows in frozen:
                if rows is not None:
                    self._flush(held, rows)
            yield

    def settle(self, collection_id: int, ts: int) -> None:
        """Returns once `ts` has passed and every write at or before it is visible.

        Raises ChannelTSafeStalled for a timestamp too far ahead to wait for.
        """
        writer = self._writer(collection_id).writer
        now = self._clock.next()
        ahead_ms = physical_ms(ts) - physical_ms(now)
        if ahead_ms > MAX_WAIT_FOR_TS_MS:
            raise ChannelTSafeStalled(collection_id, ahead_ms, MAX_WAIT_FOR_TS_MS)
        if ts > now:
            time.sleep((ahead_ms + 1) / 1000)
            self._clock.observe(ts)
        writer.settle()

    def row_count(self, collection_id: int, partition_id: int = ALL_PARTITIONS) -> int:
        """Rows sealed and growing, including deleted ones."""
        view = self._views.current(collection_id)
        if view is None:
            raise CollectionNotFound(str(collection_id))
        sealed = sum(m.row_count for m in view.sealed if partition_id in (ALL_PARTITIONS, m.partition_id))
        return sealed + sum(s.row_count for s in view.growing if partition_id in (ALL_PARTITIONS, s.partition_id))

    def growing(self, collection_id: int) -> tuple[GrowingSegment, ...]:
        """None if the collection is gone or damaged."""
        view = self._views.peek(collection_id)
        return () if view is None else view.growing

    def growing_ids(self) -> set[int]:
        """Segments of all collections whose rows are only in the log on disk."""
        return {s.segment_id for collection_id in list(self._held) for s in self.growing(collection_id)}

    def is_sealed_until(self, collection_id: int, ts: int) -> bool:
        """Whether all writes at or before `ts` are in sealed segments and their deltas."""
        view = self._views.current(collection_id)
        oldest = None if view is None else view.oldest_unsealed_ts
        return oldest is None or oldest > ts

    def _flush_one(self) -> float:
        """Flushes one collection, if one is to be sealed now."""
        self.kept_logs.expire()
        collection_id = self._buffer.next_full(self._held)
        if collection_id is None:
            return _LOOK_SECONDS
        started = time.monotonic()
        try:
            self.flush(collection_id)
        except Exception as error:  # noqa: BLE001 - it is recorded; the rows stay in memory and in the log
            if not isinstance(error, IoFailed):  # `flush` has recorded it
                self._flush_failed(collection_id, error, time.monotonic() - started)
        return 0.0

    def _flush_failed(self, collection_id: int, error: Exception, spent_seconds: float = 0.0) -> None:
        collection = self._catalog.snapshot.collections.get(collection_id)
        if collection is not None:
            self._flushes.failed([collection_id], f"flush of collection {collection.name}", error, spent_seconds)


def _as_damage(error: Exception) -> DataIntegrityError:
    if isinstance(error, OSError):
        return DataIntegrityError(f"{error.filename or 'its log'} cannot be read: {error.strerror}")
    return DataIntegrityError(str(error) if isinstance(error, MilvineError) else f"{type(error).__name__}: {error}")
