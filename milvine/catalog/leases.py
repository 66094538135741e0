"""Who may serve a catalog in PostgreSQL: the lease of the head, and the turn of the next one.

A head may be replaced that has not died: it stands still, or it has lost PostgreSQL. So that it never answers beside
its successor, it renews a lease, a row that counts up, and answers only for some seconds after the start of the last
renewal. A successor waits until the row has not changed for longer than that. Both measure durations, by their own
clocks, so it does not matter what time these show.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from milvine.errors import ABNORMAL, ServiceNotReady, UnexpectedError
from milvine.model.records import record
from milvine.model.timestamps import running_seconds

_log = logging.getLogger(__name__)
_RENEWALS = 5
"""In the time of a lease."""
_PROBE_SECONDS = 1.0
_POLL_SECONDS = 0.25
_SLOWER_CLOCK = 1.05
"""How much faster the clock of a head may run than that of its successor."""
_PATIENCE_SECONDS = 10.0
"""How long a head that is no standby waits. PostgreSQL sees a dead connection after this time."""
_START_SECONDS = 30.0
"""How long a head waits for a PostgreSQL that cannot be reached."""
_STARTING = (
    "Connection refused",
    "starting up",
    "not yet accepting connections",
    "shutting down",
    "timeout expired",
    "server closed the connection",
)
_WRONG = ("does not exist", "authentication failed", "no password supplied", "no pg_hba.conf entry")
"""What PostgreSQL says to settings that are wrong. A head that starts with them will never have its turn."""

leases = sa.Table(
    "catalog_lease",
    sa.MetaData(),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("renewals", sa.BigInteger, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
)
"""One row. `seconds` is 0 for a head without a lease, and for one that has given it back."""
_LOCK_KEY = "hashtextextended('milvine ' || current_schema(), 0)"
TRY_LOCK = f"SELECT pg_try_advisory_lock({_LOCK_KEY})"
_HOLDERS = f"""
    SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid <> pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32 | objid::bigint) = {_LOCK_KEY}
"""


class Lease:
    """The right of a head to answer. Renewed by a thread until it is given back or `lost`."""

    def __init__(self, engine: sa.Engine, epoch: int, seconds: float, since: float) -> None:
        """`engine`: makes the connection of this lease alone. `seconds`: 0 for a head that answers until it knows of a
        successor. `since`: when the transaction began that took the epoch, by `running_seconds`."""
        self.lost = threading.Event()
        """Another head has taken over."""
        self.trouble = ""
        """Why the last renewal failed."""
        self._engine = engine
        self._epoch = epoch
        self._seconds = seconds or math.inf
        self._pause_seconds = seconds / _RENEWALS if seconds else _PROBE_SECONDS
        self._lock = threading.Lock()
        self._until = since + self._seconds
        self._closing = threading.Event()
        threading.Thread(target=self._run, name="lease", daemon=True).start()

    @property
    def is_valid(self) -> bool:
        return running_seconds() < self._until

    def check(self) -> None:
        """Raises ServiceNotReady unless whatever was read or written before this call counts."""
        if running_seconds() >= self._until:
            raise ServiceNotReady(ABNORMAL)

    def give_back(self) -> None:
        """Nothing may be answered afterwards. A successor need not wait."""
        with self._lock:
            self._closing.set()
            self._until = 0.0
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.update(leases).where(leases.c.epoch == self._epoch).values(seconds=0.0))
        except sa.exc.DBAPIError as error:
            _log.warning("the lease was not given back, so that the next head waits: %s", error.orig)
        self._engine.dispose()

    def _run(self) -> None:
        while not self._closing.wait(self._pause_seconds):
            since = running_seconds()
            try:
                is_mine = self._renew()
            except Exception as error:  # noqa: BLE001 - the thread goes on; without renewals the head stops answering
                trouble = str(getattr(error, "orig", error)).partition("\n")[0]
                if not self.trouble:
                    _log.warning("the lease was not renewed: %s", trouble)
                self.trouble = trouble
                continue
            self.trouble = ""
            with self._lock:
                if self._closing.is_set():
                    return
                self._until = since + self._seconds if is_mine else 0.0
            if not is_mine:
                self.lost.set()
                return

    def _renew(self) -> bool:
        """Whether this is still the head."""
        mine = sa.update(leases).where(leases.c.epoch == self._epoch).values(renewals=leases.c.renewals + 1)
        with self._engine.begin() as connection:
            return connection.execute(mine).rowcount == 1


@record
class Seen:
    """The row of the lease, or one with zeros if no head ever took the catalog."""

    epoch: int
    renewals: int
    seconds: float


def _look(connection: sa.Connection, *, locks: bool = False) -> Seen:
    if not sa.inspect(connection).has_table(leases.name):
        return Seen(0, 0, 0.0)
    chosen = sa.select(leases)
    row = connection.execute(chosen.with_for_update() if locks else chosen).one_or_none()
    return Seen(0, 0, 0.0) if row is None else Seen(row.epoch, row.renewals, row.seconds)


class Turn:
    """The wait for the end of the head before."""

    def __init__(
        self, engine: sa.Engine, source: str, check: Callable[[sa.Connection], None], *, is_standby: bool
    ) -> None:
        """`engine`: makes connections that take no lock. `source` names the catalog. `check` raises if it is not one
        that this head may serve."""
        self._engine = engine
        self._source = source
        self._check = check
        self._is_standby = is_standby
        self._was_checked = False
        self._began = running_seconds()

    def wait(self) -> Seen:
        """Returns once no other head answers, and none has the lock. Another one that waits may be faster.

        Raises UnexpectedError if another head lives, and DBAPIError if PostgreSQL refuses, or is not there for a while:
        it may be starting, too. A standby waits for ever, unless the catalog cannot be its own.
        """
        seen, since = None, 0.0
        trouble = ""
        while True:
            try:
                with self._engine.connect() as connection:
                    if not self._was_checked:
                        self._check(connection)
                        self._was_checked = True
                    found, holders = _look(connection), connection.execute(sa.text(_HOLDERS)).scalars().all()
                # The lease cannot be renewed unseen while PostgreSQL does not tell: it counts up.
                if found != seen:
                    seen, since = found, running_seconds()
                if running_seconds() - since > found.seconds * _SLOWER_CLOCK and (found.seconds or not holders):
                    self._end(holders)
                    return found
                if not self._is_standby and running_seconds() - self._began > _PATIENCE_SECONDS + 2 * found.seconds:
                    raise UnexpectedError(f"another server uses {self._source}")
                trouble = ""
            except sa.exc.DBAPIError as error:
                is_late = running_seconds() - self._began > _START_SECONDS
                if not self._is_standby and (is_late or not any(text in str(error.orig) for text in _STARTING)):
                    raise
                if not self._was_checked and any(text in str(error.orig) for text in _WRONG):
                    raise UnexpectedError(f"{self._source} refuses: {str(error.orig).partition(chr(10))[0]}") from error
                if str(error.orig) != trouble:
                    trouble = str(error.orig)
                    _log.warning("%s does not answer: %s", self._source, trouble.partition("\n")[0])
            time.sleep(_POLL_SECONDS)

    def _end(self, holders: Sequence[int]) -> None:
        """Ends the connections of a head whose lease has run out."""
        with self._engine.begin() as connection:
            for pid in holders:
                connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})


def take(connection: sa.Connection, seen: Seen, epoch: int, seconds: float) -> bool:
    """Writes the lease of the next head, as part of the transaction that takes the epoch. False if the one before is
    not as it was seen."""
    if _look(connection, locks=True) != seen:
        return False
    leases.create(connection, checkfirst=True)
    connection.execute(sa.delete(leases))
    connection.execute(sa.insert(leases).values(epoch=epoch, renewals=0, seconds=seconds))
    return True
