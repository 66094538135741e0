"""Brings a stored catalog to the version of this program: all steps in one transaction, the old file kept beside it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from milvine.crash_points import crash_point
from milvine.errors import DataIntegrityError, DiskLimitExceeded, ServiceInternal, is_full_disk
from milvine.storage.directories import sync_directory

FIRST_VERSION = 3
"""The oldest catalog that can be upgraded."""


@dataclass(frozen=True)
class Step:
    """`run` makes a catalog of the version before into one of `version`.

    It speaks SQL about the tables as they are at that moment, never of `catalog/tables.py`, which has today's. Those
    after version 10 are for SQLite and PostgreSQL, where no catalog is older.
    """

    version: int
    run: Callable[[sa.Connection], None]


def latest_version(steps: Sequence[Step]) -> int:
    return FIRST_VERSION + len(steps)


def stored_version(connection: sa.Connection) -> int | None:
    """None for a database without a catalog, new or left by a start that ended before the first commit."""
    if not sa.inspect(connection).has_table("catalog_version"):
        return None
    found: int | None = connection.execute(sa.text("SELECT version FROM catalog_version")).scalar()
    return found


def is_behind(found: int | None, source: object, steps: Sequence[Step]) -> bool:
    """Whether a catalog of version `found` needs an upgrade. Raises DataIntegrityError, naming `source`, for a version
    that no step leads from."""
    latest = latest_version(steps)
    if found is None or found < FIRST_VERSION:
        raise DataIntegrityError(f"{source} has version {found}, this program reads {FIRST_VERSION} to {latest}")
    if found > latest:
        raise DataIntegrityError(
            f"{source} has version {found}, this program reads versions up to {latest}: a newer Milvine wrote it, "
            "and only that one or a later one can open it"
        )
    return found < latest


def upgrade(connection: sa.Connection, steps: Sequence[Step]) -> None:
    """Run the steps that the catalog lacks, in the caller's transaction."""
    found = stored_version(connection)
    assert found is not None
    for step in steps[found - FIRST_VERSION :]:
        step.run(connection)
        crash_point("migration.step_done")
    connection.execute(sa.text("UPDATE catalog_version SET version = :version"), {"version": latest_version(steps)})


def keep_copy(path: Path, version: int) -> Path:
    """Copy a catalog to `catalog-VERSION.sqlite` beside it, durably and in the place of an older copy.

    Raises DiskLimitExceeded, or ServiceInternal for another failure, with no half copy left.
    """
    copy = path.with_name(f"{path.stem}-{version}{path.suffix}")
    unfinished = copy.with_suffix(".unfinished")
    try:
        unfinished.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(unfinished)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # one file, without a log of its own
        descriptor = os.open(unfinished, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        unfinished.replace(copy)
        sync_directory(path.parent)
    except (OSError, sqlite3.Error) as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        is_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or is_full_disk(error)
        kind = DiskLimitExceeded if is_full else ServiceInternal
        raise kind(f"the catalog {path} cannot be copied before its upgrade: {error}") from error
    crash_point("migration.copied")
    return copy
