"""Catalogs of backups as they are read and changed for a restore to a moment between them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import sqlalchemy as sa

from milvine.catalog import tables
from milvine.catalog.collections import insert_collection
from milvine.catalog.contents import Snapshot, read_contents
from milvine.catalog.databases import insert_database
from milvine.catalog.file_resources import insert_file_resource
from milvine.catalog.history import HistoryEntry, StoredHistory, read_history
from milvine.catalog.limits import Limits
from milvine.catalog.segments import insert_delta, insert_segments
from milvine.catalog.snapshots import without_free_snapshots
from milvine.catalog.sqlite_file import open_catalog
from milvine.errors import ParameterInvalid
from milvine.model.collections import Collection
from milvine.model.segments import DeltaMeta, SegmentMeta

_NO_LIMITS = Limits(1 << 40, 1 << 40, 1 << 40, 1 << 40, 1 << 40)


@dataclass
class CollectionState:
    """A collection at the moment. `log_from`: the first log file that has rows of it beside those of the segments."""

    collection: Collection
    segments: list[SegmentMeta]
    deltas: tuple[DeltaMeta, ...]
    log_from: int = 1
    gained: list[HistoryEntry] = field(default_factory=list)
    is_changed: bool = False


def contents_and_history(path: Path) -> tuple[Snapshot, StoredHistory]:
    """Of a catalog of ours, which is upgraded if an earlier Milvine wrote it."""
    catalog = open_catalog(path)
    found: list[tuple[Snapshot, StoredHistory]] = []

    def read(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        found.append((snapshot, read_history(connection)))
        return snapshot

    try:
        catalog.change(read)
    finally:
        catalog.close()
    return found[0]


def store_states(path: Path, before: Snapshot, afterwards: Snapshot, states: dict[int, CollectionState]) -> None:
    """Makes the catalog of the earlier backup that of the moment."""
    replaced = [i for i in before.collections if i not in states or states[i].is_changed]
    databases = {state.collection.database for state in states.values()}

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        own = [meta.segment_id for i in replaced for meta in before.segments.get(i, ())]
        built = tables.segment_indexes
        connection.execute(sa.delete(built).where(built.c.segment_id.in_(own)))
        for table in (tables.segments, tables.deltas, tables.indexes, tables.partitions, tables.collections):
            connection.execute(sa.delete(table).where(table.c.collection_id.in_(replaced)))
        gone = [i for i in before.collections if i not in states]
        connection.execute(sa.delete(tables.aliases).where(tables.aliases.c.collection_id.in_(gone)))
        left = {i: one for i, one in snapshot.collections.items() if i not in replaced}
        snapshot = replace(snapshot, collections=left)
        for collection_id in gone:
            snapshot = without_free_snapshots(connection, snapshot, collection_id)
        for name in databases - before.databases.keys():
            found = afterwards.databases.get(name)
            if found is None:
                raise ParameterInvalid(f"database {name}, which was created and dropped since, cannot come back")
            insert_database(connection, found)
        for resource in afterwards.file_resources.values():
            if resource.name not in before.file_resources:
                insert_file_resource(connection, resource)
        for table in (tables.import_jobs, tables.restore_jobs, tables.history, tables.backup_runs):
            connection.execute(sa.delete(table))
        snapshot = read_contents(connection)
        for state in states.values():
            if state.is_changed:
                snapshot = insert_collection(catalog, connection, snapshot, state.collection)
                insert_segments(connection, state.segments)
                for delta in state.deltas:
                    insert_delta(connection, delta)
        return read_contents(connection)

    catalog = open_catalog(path)
    catalog.limits = _NO_LIMITS
    try:
        catalog.change(work)
    finally:
        catalog.close()


def forget_history(path: Path) -> None:
    """The catalog of a stopped server. Its next history is complete from its start on, and no backup is its own."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in ("history", "backup_runs"):
            found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            if found is not None:  # not in old catalogs
                connection.execute(f"DELETE FROM {table}")


def begin_logs_anew(path: Path) -> None:
    """The catalog of a stopped server whose rows are all sealed."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE collections SET checkpoint_file = 1")
