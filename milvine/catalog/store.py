"""The one writer of the catalog: transactions and the snapshot. Readers take `Catalog.snapshot` and never touch SQL."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from milvine.catalog import encoding, tables
from milvine.catalog.contents import Snapshot, read_contents
from milvine.catalog.database import CatalogDatabase
from milvine.catalog.history import History, has_history
from milvine.catalog.leases import Lease
from milvine.catalog.limits import Limits
from milvine.catalog.migrations import STEPS
from milvine.catalog.migrations.upgrade import Step, is_behind, latest_version, stored_version, upgrade
from milvine.crash_points import crash_point
from milvine.errors import ServiceInternal
from milvine.model.access_rules import BUILT_IN_ROLES
from milvine.model.collections import DEFAULT_DATABASE
from milvine.model.file_resources import FileResource
from milvine.model.resource_groups import initial_groups

_WAIT_SECONDS = 40.0
"""Longer than any change takes whose database answers."""


class Catalog:
    """A `change` commits and replaces the snapshot, or has no effect. `run` names this opening of the catalog."""

    def __init__(
        self,
        database: CatalogDatabase,
        steps: Sequence[Step] = STEPS,
        fill: Callable[[sa.Connection, int], None] | None = None,
    ) -> None:
        """`fill`: makes the catalog of a version in an empty database; None: one with nothing in it. Raises
        DataIntegrityError if the stored version cannot be read."""
        self.limits = Limits()
        self.run = secrets.token_hex(8)
        self._history: History | None = None
        self._lock = threading.Lock()
        self._database = database
        with database.opening() as connection:
            found = stored_version(connection)
            if found is None:
                found = latest_version(steps)
                (fill or _create_tables)(connection, found)
        needs_upgrade = is_behind(found, database.source, steps)
        if needs_upgrade:
            database.before_upgrade(found)
        with database.changing() as connection:
            if needs_upgrade:
                upgrade(connection, steps)
            self.snapshot = read_contents(connection)
            self._has_history = has_history(connection)
        if needs_upgrade:
            crash_point("migration.committed")

    def change(self, work: Callable[[sa.Connection, Snapshot], Snapshot], image: Path | None = None) -> Snapshot:
        """Runs `work` in one transaction. Its result becomes the snapshot once the commit is durable. `image`: a file
        into which the whole catalog is then copied, before any other change.

        An exception in `work` rolls back and leaves the snapshot as it was. Raises DiskLimitExceeded on a full disk.
        """
        with self._alone():
            try:
                with self._database.changing() as connection:
                    following = work(connection, self.snapshot)
                    if self._history is not None:
                        self._history.note(connection, self.snapshot, following)
            except sa.exc.DBAPIError as error:
                raise self._database.failed(error) from error
            self.snapshot = following
            if image is not None:
                self._database.write_image(image)
            return following

    def keep_history(self, history: History) -> None:
        """Notes all further changes of collections in it. No transaction is made if none is needed: on a full disk even
        an empty one can fail, and a server must start there."""

        def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
            history.begin(connection)
            return snapshot

        if history.is_kept != self._has_history:
            self.change(work)
        self._history = history

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Raises ServiceInternal if the change before waits for a database that does not answer."""
        if not self._lock.acquire(timeout=_WAIT_SECONDS):
            raise ServiceInternal(f"a change waits for {self._database.source}, which does not answer")
        try:
            yield
        finally:
            self._lock.release()

    @property
    def owner(self) -> str:
        """What the directories of this catalog have in common; "" if it is in the file of one."""
        return self._database.owner

    @property
    def epoch(self) -> int:
        """Larger than that of every server before, as a timestamp; 0 if the catalog is in a file."""
        return self._database.epoch

    @property
    def lease(self) -> Lease | None:
        """The right of this server to answer; None if the catalog is in a file, whose directory is locked."""
        return self._database.lease

    def file_resource(self, name: str) -> FileResource | None:
        return self.snapshot.file_resources.get(name)

    def max_id_or_ts(self) -> int:
        """The largest stored id or timestamp; the clock starts after it."""
        candidates = [0]
        candidates += [u.created_ts for u in self.snapshot.users.values()]
        candidates += [k.created_ts for k in self.snapshot.api_keys.values()]
        candidates += [r.resource_id for r in self.snapshot.file_resources.values()]
        candidates += [max(j.job_id, j.collection_id) for j in self.snapshot.restore_jobs.values()]
        for kept in self.snapshot.snapshots.values():
            candidates += [kept.snapshot_id, kept.created_ts, *kept.pins]
            candidates += [max(m.segment_id, m.max_ts) for m in kept.segments]
            candidates += [max(d.delta_id, d.max_ts) for d in kept.deltas]
        for job in self.snapshot.import_jobs.values():
            candidates += [job.job_id, *(max(m.segment_id, m.max_ts) for m in job.segments)]
        for collection in self.snapshot.collections.values():
            candidates += [collection.collection_id, collection.created_ts, collection.schema.updated_ts]
            candidates += [collection.folded_ts]
            candidates += [p.partition_id for p in collection.partitions]
            candidates += [i.index_id for i in collection.indexes]
        for metas in self.snapshot.segments.values():
            candidates += [max(m.segment_id, m.max_ts) for m in metas]
        for delta_metas in self.snapshot.deltas.values():
            candidates += [max(d.delta_id, d.max_ts) for d in delta_metas]
        candidates += [max(d.database_id, d.created_ts) for d in self.snapshot.databases.values()]
        candidates += [a.created_ts for a in self.snapshot.aliases.values()]
        return max(candidates)

    def close(self) -> None:
        self._database.close()


def _create_tables(connection: sa.Connection, version: int) -> None:
    tables.metadata.create_all(connection)
    connection.execute(sa.insert(tables.versions).values(version=version))
    connection.execute(
        sa.insert(tables.databases).values(database_id=1, name=DEFAULT_DATABASE, created_ts=0, properties={})
    )
    connection.execute(sa.insert(tables.roles), [{"name": name, "description": ""} for name in BUILT_IN_ROLES])
    for group in initial_groups().values():
        connection.execute(sa.insert(tables.resource_groups).values(encoding.encode_resource_group(group)))
