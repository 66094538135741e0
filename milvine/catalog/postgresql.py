"""A catalog in PostgreSQL. The only file that knows its driver's ways.

One server at a time may change it. A server takes an advisory lock, which PostgreSQL lets go when the connection of the
server ends, and raises the epoch. A server that was replaced may not know that: each change names its epoch in its
transaction, and has no effect if there is a newer one.

Each change also leaves its number in the row of the epoch. If the connection breaks during a commit, the row tells
afterwards whether there was one. The next change looks for that number: a database without it has lost changes.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from milvine.catalog import tables
from milvine.catalog.database import JSON_OPTIONS, CatalogDatabase, copy_tables
from milvine.catalog.leases import TRY_LOCK, Lease, Seen, Turn, take
from milvine.catalog.patient_connections import connect_patiently
from milvine.catalog.tables import metadata
from milvine.crash_points import crash_point
from milvine.errors import DiskLimitExceeded, MilvineError, ServiceInternal, UnexpectedError
from milvine.model.timestamps import from_physical_ms, running_seconds

_log = logging.getLogger(__name__)
_DISK_FULL = "53100"
_PAUSE_SECONDS = 0.5
_SILENT_SECONDS = 30.0
"""More than the wait for a lock."""
_TELL_SECONDS = 60.0
_AUTOCOMMIT = "AUTOCOMMIT"
_CONNECTION = {
    "connect_timeout": 5,
    "application_name": "milvine",
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
    "client_encoding": "utf8",
}
"""What the URI does not say otherwise."""
SESSION = {
    # PostgreSQL's own wait for a machine that has gone is two hours: as long it would keep the locks of its session.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": "10000",
    "lock_timeout": "20000",
}

BeforeTurn = Callable[[str, bool], None]
"""Called with the name of the catalog, "" if it has none yet, and whether it has collections."""
epochs = sa.Table(
    "catalog_epoch",
    sa.MetaData(),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("change", sa.BigInteger, nullable=False),
)


class PostgresDatabase(CatalogDatabase):
    def __init__(
        self,
        uri: str,
        owner: str,
        lease_seconds: float = 0.0,
        *,
        is_standby: bool = False,
        adopts: bool = False,
        on_epoch: Callable[[int, int], None] = lambda _found, _following: None,
        before_turn: BeforeTurn = lambda _owner, _is_filled: None,
    ) -> None:
        """`owner` names the data directory whose catalog this is; `adopts`: if the database has another name, that one.
        `lease_seconds`: see Lease. `is_standby`: waits for as long as another server lives. `on_epoch`: called with the
        epoch of the last start and that of this one, before it is taken; may raise. Raises UnexpectedError without
        the driver. `before_turn`: called before the wait; may raise."""
        self.source = f"the catalog at {uri}"
        self.epoch = 0
        self.lease: Lease | None = None
        self.owner = owner
        self._adopts = adopts
        self._on_epoch = on_epoch
        self._before_turn = before_turn
        self._lease_seconds = lease_seconds
        self._is_standby = is_standby
        self._change = 0
        self._committed = 0
        self._closing = threading.Event()
        try:
            self._url = sa.make_url(uri).set(drivername="postgresql+psycopg")
            self.engine = self._engine(_SILENT_SECONDS)
        except (sa.exc.ArgumentError, ValueError) as error:
            raise UnexpectedError(f"{self.source}: the URI cannot be read: {error}") from error
        except ModuleNotFoundError as error:
            raise UnexpectedError(f"{self.source} needs psycopg: pip install 'milvine[cluster]'") from error
        sa.event.listen(self.engine, "connect", _lock)

    def _engine(self, silent_seconds: float, **options: Any) -> sa.Engine:
        """For one connection at a time, which breaks after a silence."""
        defaults = {name: value for name, value in _CONNECTION.items() if name not in self._url.query}
        engine = sa.create_engine(
            self._url, pool_size=1, max_overflow=0, connect_args=defaults, **JSON_OPTIONS, **options
        )
        connect_patiently(engine, silent_seconds)
        sa.event.listen(engine, "connect", _prepare)
        return engine

    @contextmanager
    def opening(self) -> Iterator[sa.Connection]:
        """Also raises UnexpectedError if the catalog is that of another directory, if a server uses it, or if the
        database cannot hold a catalog."""
        turn_engine = self._engine(_SILENT_SECONDS, isolation_level=_AUTOCOMMIT)
        try:
            turn = Turn(turn_engine, self.source, self._check_before_turn, is_standby=self._is_standby)
            while not self._has_taken_over(turn):
                self.engine.dispose()  # and the lock, if it was free
            with self.changing() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            raise self.failed(error) from error
        finally:
            turn_engine.dispose()

    def _has_taken_over(self, turn: Turn) -> bool:
        try:
            return self._take_over(turn.wait())
        except sa.exc.DBAPIError as error:
            if not self._is_standby:
                raise
            _log.warning("%s was not taken over, and is tried again: %s", self.source, _text(error))
            time.sleep(_PAUSE_SECONDS)
            return False

    def _take_over(self, seen: Seen) -> bool:
        """Takes the lock, the epoch and the lease; False if another server was faster."""
        since = running_seconds()
        with self.engine.begin() as connection:
            self._check_schema(connection)
            if not connection.execute(sa.text(TRY_LOCK)).scalar():
                return False
            if not sa.inspect(connection).has_table(epochs.name):
                self._check_is_empty(connection)
                epochs.create(connection)
            row = connection.execute(sa.select(epochs)).one_or_none()
            if row is None:
                connection.execute(sa.insert(epochs).values(owner=self.owner, epoch=0, change=0))
                row = connection.execute(sa.select(epochs)).one()
            elif self._adopts:
                self.owner = row.owner
            else:
                self._check_owner(connection)
            # Query nodes compare it with the epochs of catalogs in files, which are timestamps.
            epoch = max(row.epoch + 1, from_physical_ms(time.time_ns() // 1_000_000))
            self._on_epoch(row.epoch, epoch)
            connection.execute(sa.update(epochs).values(epoch=epoch))
            if not take(connection, seen, epoch, self._lease_seconds):
                connection.rollback()
                return False
        self.epoch, self._change, self._committed = epoch, row.change, row.change
        engine = self._engine(self._lease_seconds or _SILENT_SECONDS, isolation_level=_AUTOCOMMIT)
        self.lease = Lease(engine, self.epoch, self._lease_seconds, since)
        return True

    def _check_before_turn(self, connection: sa.Connection) -> None:
        """A standby that may never serve is none."""
        self._check_owner(connection)
        inspector = sa.inspect(connection)
        row = connection.execute(sa.select(epochs)).one_or_none() if inspector.has_table(epochs.name) else None
        has_tables = inspector.has_table(tables.collections.name)
        first = sa.select(tables.collections.c.collection_id).limit(1)
        is_filled = has_tables and connection.execute(first).one_or_none() is not None
        self._before_turn("" if row is None else row.owner, is_filled)

    def _check_owner(self, connection: sa.Connection) -> None:
        if self._adopts or not sa.inspect(connection).has_table(epochs.name):
            return
        owner = connection.execute(sa.select(epochs.c.owner)).scalar()
        if owner is not None and owner != self.owner:
            raise UnexpectedError(f"{self.source} belongs to another data directory")

    def _check_schema(self, connection: sa.Connection) -> None:
        if connection.execute(sa.text("SELECT current_schema()")).scalar() is None:
            raise UnexpectedError(f"{self.source} has no schema of its search_path: create it, or correct the path")
        encoding = connection.execute(sa.text("SHOW server_encoding")).scalar()
        if encoding != "UTF8":
            raise UnexpectedError(f"{self.source} has the encoding {encoding}: it must be UTF8")

    def _check_is_empty(self, connection: sa.Connection) -> None:
        """Tables of the same names would be taken for those of the catalog."""
        inspector = sa.inspect(connection)
        if found := [name for name in metadata.tables if inspector.has_table(name)]:
            raise UnexpectedError(
                f"{self.source} has tables of something else ({', '.join(found)}): the catalog needs an empty "
                "database, or a schema of its own, alone in the search_path"
            )

    @contextmanager
    def changing(self) -> Iterator[sa.Connection]:
        connection = self._begun()
        try:
            yield connection
            self._commit(connection)
        finally:
            connection.close()

    def _begun(self) -> sa.Connection:
        """A connection whose transaction holds the row of the epoch. A connection that broke since the last change
        is replaced once."""
        self._change += 1
        for is_first in (True, False):
            connection = self.engine.connect()
            try:
                is_mine = sa.and_(epochs.c.epoch == self.epoch, epochs.c.change == self._committed)
                mine = sa.update(epochs).where(is_mine).values(change=self._change)
                if connection.execute(mine).rowcount != 1:
                    raise self._refused(connection)
                return connection
            except sa.exc.DBAPIError as error:
                connection.close()
                if not (is_first and error.connection_invalidated):
                    raise
            except BaseException:
                connection.close()
                raise
        raise AssertionError

    def _commit(self, connection: sa.Connection) -> None:
        try:
            crash_point("catalog.committing")
            connection.commit()
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated or not self._was_committed():
                raise
        self._committed = self._change

    def _was_committed(self) -> bool:
        """Waits for PostgreSQL, since neither answer may be guessed: files are removed if the change had no effect,
        and rows are served if it had one."""
        told_at = -math.inf
        while not self._closing.is_set():
            try:
                with self.engine.begin() as connection:
                    # The row is locked as long as the lost transaction has not ended.
                    row = connection.execute(sa.select(epochs).with_for_update()).one()
            except sa.exc.DBAPIError as error:
                if time.monotonic() - told_at > _TELL_SECONDS:
                    told_at = time.monotonic()
                    _log.warning("the outcome of a change is unknown until %s answers: %s", self.source, _text(error))
                self._closing.wait(_PAUSE_SECONDS)
                continue
            if row.epoch != self.epoch:
                raise self._replaced()
            return bool(row.change == self._change)
        raise ServiceInternal(f"{self.source} did not answer before this server ended")

    def _refused(self, connection: sa.Connection) -> ServiceInternal:
        """Why the row of the epoch is not as the last change left it."""
        row = connection.execute(sa.select(epochs)).one_or_none()
        if row is None or row.epoch <= self.epoch:
            return ServiceInternal(
                f"{self.source} has lost changes: an older state was restored, or a standby without them took over. "
                "This server can change nothing. Copy the data directory before another start, which removes the files "
                "that the catalog does not name"
            )
        return self._replaced()

    def _replaced(self) -> ServiceInternal:
        return ServiceInternal(f"another server has taken over {self.source}: this one can change nothing")

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one moment and changes nothing. Raises UnexpectedError if the catalog is that of
        another directory."""
        with self.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            has_row = sa.inspect(connection).has_table(epochs.name)
            if not has_row or connection.execute(sa.select(epochs.c.owner)).scalar() != self.owner:
                raise UnexpectedError(f"{self.source} is not that of this data directory")
            yield connection

    def before_upgrade(self, version: int) -> None:
        _log.warning("%s has version %s and is upgraded", self.source, version)

    def write_image(self, image: Path) -> None:
        target = sa.create_engine(f"sqlite:///{image}", **JSON_OPTIONS)
        try:
            with self.engine.connect() as source, target.begin() as connection:
                metadata.create_all(connection)
                copy_tables(source, connection)
        except sa.exc.DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise DiskLimitExceeded(f"cannot write {image}: {error.orig}") from error
            raise ServiceInternal(f"{self.source} cannot be read: {_text(error)}") from error
        finally:
            target.dispose()

    def failed(self, error: sa.exc.DBAPIError) -> MilvineError:
        is_full = getattr(error.orig, "sqlstate", None) == _DISK_FULL
        return (DiskLimitExceeded if is_full else ServiceInternal)(f"{self.source} cannot be written: {_text(error)}")

    def close(self) -> None:
        self._closing.set()
        if self.lease is not None:
            self.lease.give_back()
        self.engine.dispose()


def _prepare(connection: Any, _record: object) -> None:
    """Commits of this connection are durable, and it does not outlive this machine by much."""
    with closing(connection.cursor()) as cursor:
        if cursor.execute("SHOW synchronous_commit").fetchone()[0] == "off":
            cursor.execute("SET synchronous_commit TO on")
        for name, value in SESSION.items():
            cursor.execute(f"SET {name} TO {value}")
    connection.commit()


def _lock(connection: Any, _record: object) -> None:
    """A connection after the first one also takes the lock, if it can: a server that waits for it would replace this
    one for no reason."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(TRY_LOCK)
    connection.commit()


def _text(error: sa.exc.DBAPIError) -> str:
    """PostgreSQL's first line."""
    return str(error.orig).partition("\n")[0]
