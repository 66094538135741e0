"""Changes to snapshots of collections, their pins, and restore jobs. Checks run inside the transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from collections.abc import Collection as Several
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from milvine.catalog import encoding, tables
from milvine.catalog.backup_runs import note_run
from milvine.catalog.contents import Snapshot
from milvine.catalog.store import Catalog
from milvine.errors import ParameterInvalid, SnapshotNotFound, SnapshotPinned
from milvine.model.snapshots import BACKUP_PREFIX, KEPT_JOB_MS, CollectionSnapshot

_HELD_MS = 24 * 3600 * 1000
"""How long files are held for a program that never says that it is done."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def find_snapshot(snapshot: Snapshot, collection_id: int, name: str) -> CollectionSnapshot | None:
    return next((one for one in snapshot.snapshots_of(collection_id) if one.name == name), None)


def is_held(snapshot: Snapshot, kept: CollectionSnapshot) -> bool:
    """Whether a pin or a running restore keeps it."""
    jobs = snapshot.restore_jobs.values()
    return bool(kept.live_pins(now_ms())) or any(j.is_open and j.snapshot_id == kept.snapshot_id for j in jobs)


def create_snapshot(catalog: Catalog, collection_id: int, empty: CollectionSnapshot) -> CollectionSnapshot:
    """Stores `empty` with what the catalog names of the collection at this moment. Raises ParameterInvalid if the
    collection has a snapshot of this name, and CollectionNotFound if it is gone."""
    made = empty

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        nonlocal made
        collection = snapshot.existing(collection_id)
        if find_snapshot(snapshot, collection_id, empty.name) is not None:
            raise ParameterInvalid(f"snapshot name {empty.name} already exists in collection {collection_id}")
        made = replace(
            empty,
            collection=replace(collection, load=None),
            segments=snapshot.segments.get(collection_id, ()),
            deltas=snapshot.deltas.get(collection_id, ()),
        )
        return _with(connection, snapshot, made)

    catalog.change(work)
    return made


def _with(connection: sa.Connection, snapshot: Snapshot, made: CollectionSnapshot) -> Snapshot:
    connection.execute(
        sa.insert(tables.snapshots).values(
            snapshot_id=made.snapshot_id,
            collection_id=made.collection_id,
            name=made.name,
            description=made.description,
            created_ts=made.created_ts,
            collection=encoding.encode_collection(made.collection),
            segments=[encoding.encode_segment(meta) for meta in made.segments],
            deltas=[encoding.encode_delta(delta) for delta in made.deltas],
            protected_until_ms=made.protected_until_ms,
        )
    )
    pins = [{"pin_id": i, "snapshot_id": made.snapshot_id, "expires_ms": ms} for i, ms in made.pins.items()]
    if pins:
        connection.execute(sa.insert(tables.snapshot_pins), pins)
    return replace(snapshot, snapshots={**snapshot.snapshots, made.snapshot_id: made})


def hold_everything(catalog: Catalog, next_id: Callable[[], int], name: str, image: Path) -> Snapshot:
    """Keeps all files that the catalog names, under names that begin with `name`, and writes an image of the catalog as
    it is then, which is also returned."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        held = [
            CollectionSnapshot(
                next_id(),
                name,
                "",
                next_id(),
                replace(one, load=None),
                snapshot.segments.get(i, ()),
                snapshot.deltas.get(i, ()),
            )
            for i, one in snapshot.collections.items()
        ]
        for kept in snapshot.snapshots.values():
            if not kept.is_of_backup:  # else each backup would hold twice as much as the one before
                named = f"{name}.{kept.snapshot_id}"
                held.append(replace(kept, snapshot_id=next_id(), name=named, protected_until_ms=0))
        for one in held:
            snapshot = _with(connection, snapshot, replace(one, pins={next_id(): now_ms() + _HELD_MS}))
        note_run(connection, catalog.run, next_id())
        return snapshot

    held_then = catalog.change(work, image)
    with closing(sqlite3.connect(image)) as copied, copied:
        # The copy holds nothing for itself, and its logs begin anew, since all rows are sealed.
        copied.execute("UPDATE collections SET checkpoint_file = 1")
        copied.execute(f"DELETE FROM snapshots WHERE name LIKE '{BACKUP_PREFIX}%'")
        copied.execute("DELETE FROM snapshot_pins WHERE snapshot_id NOT IN (SELECT snapshot_id FROM snapshots)")
    return held_then


def hold(
    catalog: Catalog, collection_id: int, of_snapshot: str, held_id: int, next_id: Callable[[], int]
) -> CollectionSnapshot:
    """Keeps the files of a snapshot or, with an empty name, of the collection as it is now. Raises CollectionNotFound
    and SnapshotNotFound."""
    held: CollectionSnapshot | None = None

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        nonlocal held
        found: CollectionSnapshot | None
        if of_snapshot:
            found = find_snapshot(snapshot, collection_id, of_snapshot)
        else:
            collection = replace(snapshot.existing(collection_id), load=None)
            segments, deltas = snapshot.segments.get(collection_id, ()), snapshot.deltas.get(collection_id, ())
            found = CollectionSnapshot(held_id, "", "", held_id, collection, segments, deltas)
        if found is None:
            raise SnapshotNotFound(of_snapshot, collection_id)
        name, pins = f"{BACKUP_PREFIX}{held_id}", {next_id(): now_ms() + _HELD_MS}
        held = replace(found, snapshot_id=held_id, name=name, protected_until_ms=0, pins=pins)
        return _with(connection, snapshot, held)

    catalog.change(work)
    assert held is not None
    return held


def let_go(catalog: Catalog, name: str = "") -> list[CollectionSnapshot]:
    """Drops what a backup holds, or without a name what all of them hold, and returns it."""
    every = catalog.snapshot.snapshots.values()
    held = [
        one for one in every if one.is_of_backup and one.name.partition(".")[0] == (name or one.name.partition(".")[0])
    ]
    if held:
        catalog.change(lambda connection, snapshot: _without(connection, snapshot, held))
    return held


def drop_snapshot(catalog: Catalog, collection_id: int, name: str) -> CollectionSnapshot | None:
    """None if there is none. Raises SnapshotPinned."""
    dropped: CollectionSnapshot | None = None

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        nonlocal dropped
        dropped = find_snapshot(snapshot, collection_id, name)
        if dropped is None:
            return snapshot
        if is_held(snapshot, dropped):
            raise SnapshotPinned(name)
        return _without(connection, snapshot, [dropped])

    catalog.change(work)
    return dropped


def without_free_snapshots(connection: sa.Connection, snapshot: Snapshot, collection_id: int) -> Snapshot:
    """Removes the snapshots of a collection that nothing holds."""
    free = [one for one in snapshot.snapshots_of(collection_id) if not is_held(snapshot, one)]
    return _without(connection, snapshot, free)


def _without(connection: sa.Connection, snapshot: Snapshot, dropped: Several[CollectionSnapshot]) -> Snapshot:
    ids = {one.snapshot_id for one in dropped}
    for table in (tables.snapshot_pins, tables.snapshots):
        connection.execute(sa.delete(table).where(table.c.snapshot_id.in_(ids)))
    return replace(snapshot, snapshots={i: one for i, one in snapshot.snapshots.items() if i not in ids})


def pin_snapshot(catalog: Catalog, collection_id: int, name: str, pin_id: int, expires_ms: int) -> None:
    """Raises SnapshotNotFound. `expires_ms` 0: the pin stays until it is taken away."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        kept = find_snapshot(snapshot, collection_id, name)
        if kept is None:
            raise SnapshotNotFound(name, collection_id)
        row = {"pin_id": pin_id, "snapshot_id": kept.snapshot_id, "expires_ms": expires_ms}
        connection.execute(sa.insert(tables.snapshot_pins).values(row))
        return _replaced(snapshot, replace(kept, pins={**kept.pins, pin_id: expires_ms}))

    catalog.change(work)


def unpin_snapshot(catalog: Catalog, pin_id: int) -> None:
    """No error for a pin that is gone."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        kept = next((one for one in snapshot.snapshots.values() if pin_id in one.pins), None)
        return snapshot if kept is None else _unpinned(connection, snapshot, kept, {pin_id})

    catalog.change(work)


def _unpinned(
    connection: sa.Connection, snapshot: Snapshot, kept: CollectionSnapshot, pin_ids: Several[int]
) -> Snapshot:
    connection.execute(sa.delete(tables.snapshot_pins).where(tables.snapshot_pins.c.pin_id.in_(pin_ids)))
    return _replaced(snapshot, replace(kept, pins={i: ms for i, ms in kept.pins.items() if i not in pin_ids}))


def _replaced(snapshot: Snapshot, kept: CollectionSnapshot) -> Snapshot:
    return replace(snapshot, snapshots={**snapshot.snapshots, kept.snapshot_id: kept})


def forget_expired(catalog: Catalog) -> list[CollectionSnapshot]:
    """Removes expired pins, the snapshots of dropped collections that nothing holds any more, and jobs that ended long
    ago. Returns the removed snapshots."""
    if not _has_expired(catalog.snapshot):
        return []
    removed: list[CollectionSnapshot] = []

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        now = now_ms()
        for kept in snapshot.snapshots.values():
            if expired := kept.pins.keys() - kept.live_pins(now):
                snapshot = _unpinned(connection, snapshot, kept, expired)
        removed[:] = _orphans(snapshot)
        snapshot = _without(connection, snapshot, removed)
        old = _old_jobs(snapshot)
        connection.execute(sa.delete(tables.restore_jobs).where(tables.restore_jobs.c.job_id.in_(old)))
        return replace(snapshot, restore_jobs={i: j for i, j in snapshot.restore_jobs.items() if i not in old})

    catalog.change(work)
    return removed


def _has_expired(snapshot: Snapshot) -> bool:
    now = now_ms()
    has_pins = any(one.pins.keys() - one.live_pins(now) for one in snapshot.snapshots.values())
    return has_pins or bool(_orphans(snapshot)) or bool(_old_jobs(snapshot))


def _orphans(snapshot: Snapshot) -> list[CollectionSnapshot]:
    kept = snapshot.snapshots.values()
    gone = [one for one in kept if one.is_of_backup or one.collection_id not in snapshot.collections]
    return [one for one in gone if not is_held(snapshot, one)]


def _old_jobs(snapshot: Snapshot) -> set[int]:
    before = now_ms() - KEPT_JOB_MS
    return {job.job_id for job in snapshot.restore_jobs.values() if job.ended_ms and job.ended_ms < before}
