"""Restores to a moment between two backups: the files of the earlier one, logs and history of the later one.

The log has all rows and deletes that callers wrote. The history has the rest: records of collections, dropped and
emptied ones, and segments of imports and of restored snapshots, whose files must be in the later backup. Users, roles,
aliases, resource groups and snapshots come back as they are in the earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from milvine.analysis import dictionaries
from milvine.catalog.contents import Snapshot
from milvine.catalog.history import HistoryEntry, recorded_collection
from milvine.catalog.point_in_time import CollectionState, begin_logs_anew, contents_and_history, store_states
from milvine.catalog.sqlite_file import CATALOG_FILE, open_catalog, read_catalog
from milvine.catalog.store import Catalog
from milvine.crash_points import crash_point
from milvine.datanode import recovery
from milvine.datanode.backup import Wanted
from milvine.datanode.catalog_files import named_files, named_resources
from milvine.datanode.flush import Flusher
from milvine.datanode.moments import Moment, shown
from milvine.datanode.stored_backups import Backup, BackupFile, fetch_catalog
from milvine.datanode.writer import CollectionWriter, Frozen
from milvine.errors import DataIntegrityError, ParameterInvalid
from milvine.model.collections import Collection
from milvine.model.segments import SegmentMeta
from milvine.model.timestamps import HybridClock
from milvine.segment.view import Views
from milvine.storage.backup_places import BackupPlace, write_synced
from milvine.storage.directories import sync_directory
from milvine.storage.files import remove_tree
from milvine.storage.logs import LocalLogs
from milvine.storage.resource_files import ResourceFiles
from milvine.storage.segment_files import SegmentPaths
from milvine.storage.store import SegmentStore
from milvine.storage.wal import first_ts

_STEP_BYTES = 64 << 20
"""Log files are replayed and sealed in steps of this size, so that no more is in memory."""


def around(backups: Sequence[Backup], until: int) -> tuple[Backup, Backup]:
    """The backup before a moment, and the next one of the same server, whose logs reach from that to it. `backups`:
    oldest first. Raises ParameterInvalid, saying which moments there are, and if several servers have this one."""
    spans = [*_spans(backups)]
    found = [(earlier, later) for first, earlier, later in spans if first <= until <= _moment(later).begun_ts]
    if len(found) > 1:
        both = ", ".join(f"{later.backup_id} ({later.source})" for _, later in reversed(found))
        raise ParameterInvalid(
            f"the place has {shown(until)} of several servers; name one by its backup after it: {both}"
        )
    if found:
        return found[0]
    ranges = ", ".join(f"{shown(first)} to {shown(_moment(later).begun_ts)}" for first, _, later in reversed(spans))
    has = f"it has the moments {ranges}" if ranges else "no two of its backups have logs between them (wal.keepHours)"
    raise ParameterInvalid(f"the place has no logs of {shown(until)}; {has}")


def _spans(backups: Sequence[Backup]) -> Iterator[tuple[int, Backup, Backup]]:
    """The first moment after a backup, the backup, and the next one of the same server; the latest spans first."""
    known = [one for one in backups if one.moment is not None]
    for number, later in reversed([*enumerate(known)]):
        earlier = next((one for one in reversed(known[:number]) if later.continues(one)), None)
        complete_from = _moment(later).complete_from
        if earlier is not None and complete_from is not None and complete_from <= _moment(earlier).begun_ts:
            yield _moment(earlier).ended_ts, earlier, later


def before(backups: Sequence[Backup], last: Backup) -> list[Backup]:
    """A backup and those before it of the same server."""
    return [one for one in backups if one.backup_id <= last.backup_id and last.continues(one)]


def _moment(backup: Backup) -> Moment:
    assert backup.moment is not None
    return backup.moment


class PointInTime:
    """A plan of what to bring. `scratch`: a directory for the catalogs. Raises ParameterInvalid for rows that cannot
    come back, DataIntegrityError for missing files."""

    def __init__(self, place: BackupPlace, earlier: Backup, later: Backup, until: int, scratch: Path) -> None:
        self._place = place
        self._until = until
        self._catalog_file = scratch / CATALOG_FILE
        later_file = scratch / f"later.{CATALOG_FILE}"
        fetch_catalog(place, earlier, self._catalog_file)
        fetch_catalog(place, later, later_file)
        afterwards, history = contents_and_history(later_file)
        before, known = contents_and_history(self._catalog_file)
        last_id = max((entry.entry_id for entry in known.entries), default=0)
        since = [entry for entry in history.entries if entry.entry_id > last_id and entry.ts <= until]
        states = _states(before, _moment(earlier), since)
        for state in states.values():
            _add_gained(state, afterwards, later)
        store_states(self._catalog_file, before, afterwards, states)
        self._logs = {i: _logs_of(i, state, later) for i, state in states.items()}
        by_path = {one.path: one for one in (*later.files, *earlier.files)}
        self.wanted = Wanted(tuple(_named(self._catalog_file, by_path)), self._finish)

    def _finish(self, root: Path) -> None:
        """Puts the catalog into a directory that has the files, and replays the logs."""
        target = root / CATALOG_FILE
        with self._catalog_file.open("rb") as read:
            write_synced(read, target)
        catalog, paths = open_catalog(target), SegmentPaths(root)
        try:
            dictionaries.install(ResourceFiles(root, catalog.file_resource))
            replay = _Replay(catalog, paths, self._until)
            for collection_id, logs in self._logs.items():
                for batch in _batches(logs):
                    if not replay.run(self._place, collection_id, batch):
                        break
            collection_ids = [*catalog.snapshot.collections]
        finally:
            catalog.close()
        crash_point("backup.logs_replayed")
        begin_logs_anew(target)
        for collection_id in collection_ids:
            remove_tree(paths.wal(collection_id))
            LocalLogs(paths).create(collection_id).close()
        sync_directory(root)


def _states(before: Snapshot, moment: Moment, entries: Sequence[HistoryEntry]) -> dict[int, CollectionState]:
    """The collections that there were after the entries, the earlier ones first."""
    states = {
        i: CollectionState(one, [*before.segments.get(i, ())], before.deltas.get(i, ()), moment.checkpoints[i])
        for i, one in before.collections.items()
    }
    for entry in entries:
        collection = recorded_collection(entry)
        if collection is None:
            states.pop(entry.collection_id, None)
            continue
        state = states.setdefault(entry.collection_id, CollectionState(collection, [], ()))
        state.collection = replace(collection, folded_ts=state.collection.folded_ts)
        state.is_changed = True
        if entry.emptied_at is not None:
            state.segments, state.deltas, state.gained, state.log_from = [], (), [], entry.emptied_at
        if entry.gained:
            state.gained.append(entry)
    for state in states.values():
        known = {one.partition_id for one in state.collection.partitions}
        state.segments = [_fitting(meta, state.collection) for meta in state.segments if meta.partition_id in known]
    return states


def _fitting(meta: SegmentMeta, collection: Collection) -> SegmentMeta:
    """Without the columns and the indexes that the collection does not have."""
    indexes = {one.index_id for one in collection.indexes}
    fields = collection.schema.field_ids
    return replace(
        meta,
        field_bytes={i: size for i, size in meta.field_bytes.items() if i in fields},
        indexes={i: built for i, built in meta.indexes.items() if i in indexes},
    )


def _add_gained(state: CollectionState, afterwards: Snapshot, later: Backup) -> None:
    """Raises ParameterInvalid if the files of an import are not there any more."""
    collection = state.collection
    there = {meta.segment_id: meta for meta in afterwards.segments.get(collection.collection_id, ())}
    for entry in state.gained:
        if not there.keys() >= set(entry.gained):
            raise ParameterInvalid(
                f"collection {collection.name} got rows from files at {shown(entry.ts)}, which the logs do not have "
                f"and which were merged before backup {later.backup_id}; restore to a moment before it, or that backup"
            )
        state.segments += [_fitting(there[segment_id], collection) for segment_id in entry.gained]


def _logs_of(collection_id: int, state: CollectionState, later: Backup) -> list[BackupFile]:
    """The log files of a collection that follow the earlier backup. Raises DataIntegrityError if one is not there."""
    there = {
        int(Path(one.path).stem): one
        for one in later.logs
        if one.path.split("/")[-2] == str(collection_id) and int(Path(one.path).stem) >= state.log_from
    }
    end = _moment(later).checkpoints.get(collection_id) or max(there, default=state.log_from) + 1
    for number in range(state.log_from, end):
        if number not in there:
            name = state.collection.name
            raise DataIntegrityError(f"backup {later.backup_id} lacks file {number} of the log of collection {name}")
    return [there[number] for number in range(state.log_from, end)]


def _named(path: Path, by_path: dict[str, BackupFile]) -> Iterator[BackupFile]:
    """The files that a catalog names. Raises DataIntegrityError if the backups do not have one."""
    root = Path("/")
    snapshot = read_catalog(path)
    paths = SegmentPaths(root)
    for named in sorted({*named_files(paths, snapshot), *named_resources(paths, snapshot)}):
        name = named.relative_to(root).as_posix()
        if name not in by_path:
            raise DataIntegrityError(f"the backups lack {name}")
        yield by_path[name]


def _batches(logs: Sequence[BackupFile]) -> Iterator[list[BackupFile]]:
    batch: list[BackupFile] = []
    for one in logs:
        if batch and sum(other.size for other in batch) + one.size > _STEP_BYTES:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


class _Replay:
    """Seals the rows of logs, up to a moment, in a directory that no server uses."""

    def __init__(self, catalog: Catalog, paths: SegmentPaths, until: int) -> None:
        self._catalog = catalog
        self._paths = paths
        self._until = until
        self._views, self._clock = Views(), HybridClock()
        self._clock.observe(max(until, catalog.max_id_or_ts()))
        self._logs = LocalLogs(paths)
        self._flusher = Flusher(catalog, self._views, SegmentStore(paths), self._logs, self._clock)

    def run(self, place: BackupPlace, collection_id: int, batch: Sequence[BackupFile]) -> bool:
        """False if the files, and those after them, have nothing of the moment. Raises DataIntegrityError."""
        directory = self._paths.wal(collection_id)
        remove_tree(directory)
        directory.mkdir(parents=True)
        numbers = []
        for one in batch:
            numbers.append(int(Path(one.path).stem))
            path = directory / Path(one.path).name
            place.fetch(one.stored_name, path)
            if not one.is_whole(path):
                raise DataIntegrityError(f"{one.stored_name} is damaged")
        begins = first_ts(directory / Path(batch[0].path).name)
        if begins is not None and begins > self._until:
            return False
        collection = replace(self._catalog.snapshot.collections[collection_id], checkpoint_file=numbers[0])
        (reader,) = self._logs.readers({collection_id: numbers[0]})
        view, log = recovery.recover(collection, self._catalog.snapshot, reader, self._clock, self._until)
        self._views.add(view)
        try:
            writer = CollectionWriter(collection, self._views, self._clock, log)
            ids = frozenset(segment.segment_id for segment in view.growing)
            deletes = sum(map(len, view.deletes))
            if ids or deletes:
                self._flusher.flush(writer, Frozen(ids, deletes, numbers[-1] + 1))
                crash_point("backup.log_replayed")
        finally:
            log.close()
            self._views.remove(collection_id)
        return True
