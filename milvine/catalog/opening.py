"""Finds the database of a data directory's catalog: the SQLite file in it, or PostgreSQL.

A catalog in PostgreSQL belongs to one directory: `catalog.json` in the directory and a row in the database hold the
same random text. The first start with `catalog.uri` moves the file's rows over in one transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from milvine.catalog.contents import Snapshot, read_contents
from milvine.catalog.database import copy_tables
from milvine.catalog.migrations import STEPS
from milvine.catalog.migrations.upgrade import is_behind, stored_version
from milvine.catalog.postgresql import BeforeTurn, PostgresDatabase
from milvine.catalog.sqlite_file import CATALOG_FILE, open_catalog, read_catalog, reading
from milvine.catalog.store import Catalog
from milvine.catalog.tables import metadata
from milvine.crash_points import crash_point
from milvine.errors import DataIntegrityError, UnexpectedError
from milvine.storage.directories import sync_directory
from milvine.storage.markers import Marker, read_marker, write_marker

MARKER = "catalog.json"
MOVED_FILE = "catalog-moved.sqlite"
"""What the file is called after its rows were moved to PostgreSQL."""


def _any_turn(_owner: str, _is_filled: bool) -> None:
    pass


def open_catalog_of(
    root: Path,
    uri: str,
    lease_seconds: float = 0.0,
    *,
    is_standby: bool = False,
    is_empty: bool = False,
    before_turn: BeforeTurn = _any_turn,
) -> Catalog:
    """The catalog of a directory, made or upgraded if need be; `uri` "": in the directory. `lease_seconds`,
    `is_standby`, `before_turn`: see PostgresDatabase. `is_empty`: everything else is in an object store, so that a
    directory without a catalog may have any.

    Raises UnexpectedError if the directory and the database do not belong together, and DataIntegrityError for a
    damaged catalog.
    """
    marker = read_marker(root / MARKER)
    if not uri:
        _refuse_alone(root, marker)
        if marker is not None:  # the start that wrote it ended before the move
            (root / MARKER).unlink()
            sync_directory(root)
        return open_catalog(root / CATALOG_FILE)
    if marker is None or not (marker.is_claimed or marker.uri == uri):
        marker = Marker(uri, uuid.uuid4().hex, is_claimed=False)
        write_marker(root / MARKER, marker)
        crash_point("catalog.marked")
    adopts = is_empty and not marker.is_claimed and not (root / CATALOG_FILE).exists()
    database = PostgresDatabase(
        uri,
        marker.owner,
        lease_seconds,
        is_standby=is_standby,
        adopts=adopts,
        on_epoch=_any_epoch if is_empty else partial(_check_epoch, root, marker),
        before_turn=before_turn,
    )
    try:
        catalog = Catalog(database, fill=_filling(root, database, marker))
        write_marker(root / MARKER, Marker(uri, database.owner, True, () if is_empty else (database.epoch,)))
        crash_point("catalog.claimed")
        if (root / CATALOG_FILE).exists():
            (root / CATALOG_FILE).replace(root / MOVED_FILE)
            sync_directory(root)
        return catalog
    except sa.exc.DBAPIError as error:
        database.close()
        raise database.failed(error) from error
    except BaseException:
        database.close()
        raise


def _any_epoch(_found: int, _following: int) -> None:
    pass


def _check_epoch(root: Path, marker: Marker, found: int, following: int) -> None:
    """Raises UnexpectedError if the catalog has served another directory, or is an earlier state, since it served this
    one: log and catalog would not belong together."""
    if marker.is_claimed and not found:
        return  # an empty database, which is refused afterwards
    if marker.epochs and found not in marker.epochs:
        what = "a copy of this directory has served with it" if found > max(marker.epochs) else "it is an earlier state"
        raise UnexpectedError(
            f"the catalog at {marker.uri} is not as {root} left it: {what}. To use them all the same, and to lose what "
            f"they do not both have, remove the epochs from {root / MARKER}"
        )
    write_marker(root / MARKER, replace(marker, epochs=(found, following)))


def _filling(root: Path, database: PostgresDatabase, marker: Marker) -> Callable[[sa.Connection, int], None] | None:
    """What makes the catalog if the database is empty: the rows of the directory's file, or nothing if that is new as
    well. A database that had the catalog before must not be empty."""
    path = root / CATALOG_FILE

    def refuse(_target: sa.Connection, _version: int) -> None:
        raise UnexpectedError(f"the catalog of {root} is in {marker.uri}, and {database.source} is empty")

    def copy(target: sa.Connection, _version: int) -> None:
        open_catalog(path).close()  # an upgrade, if it is an earlier one
        with reading(path) as source:
            try:
                metadata.create_all(target)
                copy_tables(source, target)
            except sa.exc.DBAPIError as error:  # of PostgreSQL, since the file was checked
                raise database.failed(error) from error
        crash_point("catalog.copied")

    if not marker.is_claimed:
        return copy if path.exists() else None
    if path.exists() and (root / MOVED_FILE).exists():  # with one of them, a crash came before the renaming
        raise UnexpectedError(f"{database.source} is that of {root}, where {CATALOG_FILE} is left over: remove it")
    return refuse


def _refuse_alone(root: Path, marker: Marker | None) -> None:
    if marker is not None and marker.is_claimed:
        raise UnexpectedError(f"the catalog of {root} is in {marker.uri}: set catalog.uri to it")


def read_catalog_of(root: Path) -> Snapshot:
    """Reads the whole catalog of a stopped server without changes, from where the directory says that it is. Raises as
    `open_catalog_of`."""
    marker = read_marker(root / MARKER)
    if marker is None or not marker.is_claimed:
        if marker is not None and not (root / CATALOG_FILE).exists():
            raise UnexpectedError(f"no server has served with {root} yet: its catalog is to be {marker.uri}")
        return read_catalog(root / CATALOG_FILE)
    database = PostgresDatabase(marker.uri, marker.owner)
    try:
        with database.reading() as connection:
            if is_behind(stored_version(connection), database.source, STEPS):
                raise UnexpectedError(f"{database.source} has an earlier version, which the next start upgrades")
            return read_contents(connection)
    except sa.exc.DBAPIError as error:
        raise DataIntegrityError(f"{database.source} cannot be read: {error.orig}") from error
    finally:
        database.close()
