"""A catalog in an SQLite file of the data directory. The only file that speaks to SQLite's driver."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from milvine.catalog.contents import Snapshot, read_contents
from milvine.catalog.database import JSON_OPTIONS, CatalogDatabase
from milvine.catalog.migrations import STEPS
from milvine.catalog.migrations.upgrade import Step, is_behind, keep_copy, stored_version, upgrade
from milvine.catalog.store import Catalog
from milvine.errors import (
    DataIntegrityError,
    DiskLimitExceeded,
    MilvineError,
    ServiceInternal,
    WriteFailed,
    write_failure,
)

CATALOG_FILE = "catalog.sqlite"
_SQLITE_FULL = 13
_NO_ROOM = ("SQLITE_FULL", "SQLITE_CANTOPEN", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_SHMOPEN", "SQLITE_IOERR_WRITE")
_NOT_OURS = (KeyError, ValueError, TypeError)
"""Errors from decoding rows of a damaged database."""


class SqliteDatabase(CatalogDatabase):
    def __init__(self, path: Path | None = None, *, without_shared_memory: bool = False) -> None:
        """`path` None: in memory. `without_shared_memory`: SQLite needs no file for it, and no other process can read
        the catalog."""
        url = "sqlite://" if path is None else f"sqlite:///{path}"
        self.source = f"the catalog at {url}"
        self._path = path
        self.engine = sa.create_engine(
            url, poolclass=sa.pool.StaticPool, connect_args={"check_same_thread": False}, **JSON_OPTIONS
        )
        if without_shared_memory:
            sa.event.listen(self.engine, "connect", _lock_exclusively)
        sa.event.listen(self.engine, "connect", _set_durable)
        sa.event.listen(self.engine, "begin", _begin)

    def opening(self) -> AbstractContextManager[sa.Connection]:
        return self.engine.begin()

    def changing(self) -> AbstractContextManager[sa.Connection]:
        return self.engine.begin()

    def before_upgrade(self, version: int) -> None:
        if self._path is not None:
            keep_copy(self._path, version)

    def write_image(self, image: Path) -> None:
        try:
            with self.engine.connect() as connection, closing(sqlite3.connect(image)) as target:
                driver = connection.connection.driver_connection
                assert driver is not None
                driver.backup(target)
                target.execute("PRAGMA journal_mode=DELETE")  # one file, without a log of its own
        except OSError as error:
            raise write_failure(image, error) from error
        except sqlite3.Error as error:
            is_full = getattr(error, "sqlite_errorcode", None) == _SQLITE_FULL
            raise (DiskLimitExceeded if is_full else WriteFailed)(f"cannot write {image}: {error}") from error

    def failed(self, error: sa.exc.DBAPIError) -> MilvineError:
        is_full = getattr(error.orig, "sqlite_errorcode", None) == _SQLITE_FULL
        return (DiskLimitExceeded if is_full else ServiceInternal)(f"the catalog cannot be written: {error.orig}")

    def close(self) -> None:
        self.engine.dispose()


def _lock_exclusively(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")


def _set_durable(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # sqlite3 begins no transaction before a change of tables
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def open_catalog(path: Path, steps: Sequence[Step] = STEPS) -> Catalog:
    """The catalog in a file, upgraded to the version of this program; a copy of the old file stays beside it.

    Raises DataIntegrityError naming the file if it is damaged or has a version that cannot be read.
    """
    try:
        try:
            return Catalog(SqliteDatabase(path), steps)
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "sqlite_errorname", "") not in _NO_ROOM:
                raise
            # A full disk must not keep a server from starting.
            return Catalog(SqliteDatabase(path, without_shared_memory=True), steps)
    except sa.exc.DatabaseError as error:
        raise DataIntegrityError(f"the catalog {path} cannot be read: {error.orig}") from error


@contextmanager
def reading(path: Path) -> Iterator[sa.Connection]:
    """A connection to a file that is not written, after SQLite's own check. Raises DataIntegrityError naming the
    file, for the block as well."""
    if not path.is_file():
        raise DataIntegrityError(f"{path} is missing")
    engine = sa.create_engine(f"sqlite:///file:{path}?mode=ro&uri=true", **JSON_OPTIONS)
    try:
        with engine.connect() as connection:
            said = connection.execute(sa.text("PRAGMA integrity_check")).scalars().all()
            if said != ["ok"]:
                raise DataIntegrityError(f"{path} is damaged: {'; '.join(said[:3])}")
            yield connection
    except (sa.exc.SQLAlchemyError, *_NOT_OURS) as error:
        raise DataIntegrityError(f"{path} is damaged: {getattr(error, 'orig', None) or repr(error)}") from error
    finally:
        engine.dispose()


def read_catalog(path: Path, steps: Sequence[Step] = STEPS) -> Snapshot:
    """Reads the whole catalog without changes; an earlier version is upgraded in memory. Raises DataIntegrityError
    naming the file."""
    with reading(path) as connection:
        if not is_behind(stored_version(connection), path, steps):
            return read_contents(connection)
        with closing(sqlite3.connect(":memory:")) as copy:
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.backup(copy)
            return _read_upgraded(copy, steps)


def _read_upgraded(copy: sqlite3.Connection, steps: Sequence[Step]) -> Snapshot:
    engine = sa.create_engine(
        "sqlite://", creator=lambda: copy, poolclass=sa.pool.StaticPool, json_deserializer=orjson.loads
    )
    with engine.begin() as connection:
        upgrade(connection, steps)
        return read_contents(connection)
