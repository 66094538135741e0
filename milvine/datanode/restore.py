"""Restores a snapshot into a collection of its own, which comes into being whole, in one commit.

Sealed files never change, so the collection gets further names of them: hard links, or copies that the object store
makes by itself. Only deletes are written anew, since they name partitions, which have ids of their own. Rows keep
their timestamps, so every delete still finds its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from milvine.crash_points import crash_point
from milvine.datanode.exported_snapshots import Exported
from milvine.model.collections import Collection
from milvine.model.records import record
from milvine.model.segments import ALL_PARTITIONS, DeleteBatch, DeltaMeta, SegmentIndexMeta, SegmentMeta
from milvine.model.snapshots import CollectionSnapshot, RestoreJob
from milvine.model.timestamps import HybridClock
from milvine.storage.directories import make_directory, sync_directory
from milvine.storage.segment_files import ROWS_FILE, save_delta
from milvine.storage.store import SegmentStore, read_delta


@dataclass
class Restored:
    """What a restore makes. `clones`: targets by their sources; `made`: files that are written anew."""

    collection: Collection
    segments: tuple[SegmentMeta, ...]
    clones: dict[Path, Path]
    deltas: tuple[DeltaMeta, ...] = ()
    made: list[Path] = field(default_factory=list)


class Source(Protocol):
    """A snapshot to restore."""

    @property
    def kept(self) -> CollectionSnapshot: ...

    def deletes(self, delta: DeltaMeta) -> DeleteBatch:
        """Raises DataIntegrityError and IoFailed."""
        ...

    def bringing(self, restored: Restored, on_step: Callable[[], None]) -> AbstractContextManager[None]:
        """Makes the files of `clones`. The block commits them. Raises as `deletes`, and OSError."""
        ...


@record
class Inside:
    """A snapshot of this server, whose files get further names."""

    kept: CollectionSnapshot
    store: SegmentStore

    def deletes(self, delta: DeltaMeta) -> DeleteBatch:
        return read_delta(self.store, delta.collection_id, delta.delta_id)

    def bringing(self, restored: Restored, on_step: Callable[[], None]) -> AbstractContextManager[None]:
        return self.store.cloning(restored.clones, on_step)


@record
class Outside:
    """An exported snapshot, whose files are fetched."""

    exported: Exported
    store: SegmentStore

    @property
    def kept(self) -> CollectionSnapshot:
        return self.exported.kept

    def deletes(self, delta: DeltaMeta) -> DeleteBatch:
        return self.exported.deletes(self.store.paths, delta)

    @contextmanager
    def bringing(self, restored: Restored, on_step: Callable[[], None]) -> Iterator[None]:
        for source, target in restored.clones.items():
            self.exported.fetch(source, target)
            crash_point("restore.file_fetched")
            restored.made.append(target)
            on_step()
        for directory in {target.parent for target in restored.clones.values()}:
            sync_directory(directory)
        yield


def plan(kept: CollectionSnapshot, job: RestoreJob, store: SegmentStore, clock: HybridClock) -> Restored:
    """The collection and its segments, whose files are not there yet."""
    source = kept.collection
    # In the order of the old ids, by which keys are routed to partitions.
    partition_ids = {p.partition_id: clock.next() for p in source.partitions}
    index_ids = {i.index_id: clock.next() for i in source.indexes}
    now = clock.next()
    collection = replace(
        source,
        collection_id=job.collection_id,
        database=job.database,
        name=job.collection_name,
        schema=replace(source.schema, updated_ts=0),
        created_ts=now,
        partitions=tuple(
            replace(p, partition_id=partition_ids[p.partition_id], created_ts=now) for p in source.partitions
        ),
        indexes=tuple(replace(i, index_id=index_ids[i.index_id]) for i in source.indexes),
        load=None,
        checkpoint_file=1,
    )
    clones: dict[Path, Path] = {}
    segments = []
    for meta in kept.segments:
        built = {index_ids[i]: _cloned(index_ids[i], one) for i, one in meta.indexes.items()}
        following = replace(
            meta,
            segment_id=clock.next(),
            collection_id=job.collection_id,
            partition_id=partition_ids[meta.partition_id],
            indexes=built,
            compacted_from=(),
        )
        segments.append(following)
        clones |= _clones(store, meta, following, index_ids)
    return Restored(collection, tuple(segments), clones)


def _cloned(index_id: int, built: SegmentIndexMeta) -> SegmentIndexMeta:
    return replace(built, index_id=index_id, file_name=f"{index_id}.index" if built.file_name else "")


def _clones(
    store: SegmentStore, meta: SegmentMeta, following: SegmentMeta, index_ids: dict[int, int]
) -> dict[Path, Path]:
    paths = store.paths
    old, new = (meta.collection_id, meta.segment_id), (following.collection_id, following.segment_id)
    clones = {paths.segment(*old) / ROWS_FILE: paths.segment(*new) / ROWS_FILE}
    clones |= {paths.column(*old, i): paths.column(*new, i) for i in meta.field_bytes}
    for index_id, built in meta.indexes.items():
        if built.file_name:
            target = following.indexes[index_ids[index_id]].file_name
            clones[paths.index(*old, built.file_name)] = paths.index(*new, target)
    return clones


def write_files(
    source: Source, restored: Restored, store: SegmentStore, clock: HybridClock, on_step: Callable[[], None]
) -> None:
    """Makes the directories, and the deltas with the ids of the new partitions. Raises DataIntegrityError,
    DiskLimitExceeded and IoFailed; the caller then removes what is there."""
    kept = source.kept
    collection = restored.collection
    directory = store.paths.collection(collection.collection_id)
    make_directory(directory)
    for meta in restored.segments:
        make_directory(store.paths.segment(collection.collection_id, meta.segment_id))
    pairs = zip(kept.collection.partitions, collection.partitions, strict=True)
    ids = {old.partition_id: new.partition_id for old, new in pairs}
    saved = []
    for delta in kept.deltas:
        deletes = _in_partitions(source.deletes(delta), ids)
        if deletes is not None:
            delta_id = clock.next()
            path = store.paths.delta(collection.collection_id, delta_id)
            size = save_delta(path, deletes)
            restored.made.append(path)
            saved.append(DeltaMeta(delta_id, collection.collection_id, len(deletes), int(deletes.ts.max()), size))
        on_step()
    restored.deltas = tuple(saved)
    sync_directory(directory)


def _in_partitions(deletes: DeleteBatch, ids: dict[int, int]) -> DeleteBatch | None:
    """The deletes with other ids of partitions; those in partitions that are gone are left out. None without any."""
    known = np.array([*ids, ALL_PARTITIONS], np.int64)
    following = np.array([*ids.values(), ALL_PARTITIONS], np.int64)
    order = np.argsort(known)
    places = np.searchsorted(known[order], deletes.partition_ids).clip(max=len(known) - 1)
    found = known[order][places] == deletes.partition_ids
    if not found.any():
        return None
    rows = np.flatnonzero(found)
    keys = deletes.keys[rows] if isinstance(deletes.keys, np.ndarray) else deletes.keys.take(rows)
    return DeleteBatch(keys, deletes.ts[rows], following[order][places[rows]])
