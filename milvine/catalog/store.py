"""Tables, transactions and the snapshot. Readers take `Catalog.snapshot` and never touch SQL."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from milvine.catalog import encoding
from milvine.catalog.limits import Limits
from milvine.catalog.migrations import STEPS
from milvine.catalog.migrations.upgrade import Step, is_behind, keep_copy, latest_version, stored_version, upgrade
from milvine.crash_points import crash_point
from milvine.errors import CollectionNotFound, DataIntegrityError, DiskLimitExceeded, MilvineError, ServiceInternal
from milvine.model.access_rules import BUILT_IN_ROLES, AccessRules, Grant
from milvine.model.collections import DEFAULT_DATABASE, Alias, Collection, Database, LoadConfig, Partition
from milvine.model.file_resources import FileResource
from milvine.model.import_jobs import ImportJob
from milvine.model.resource_groups import (
    ResourceGroup,
    initial_groups,
)
from milvine.model.schema import IndexSpec
from milvine.model.segments import DeltaMeta, SegmentIndexMeta, SegmentMeta
from milvine.model.snapshots import CollectionSnapshot, RestoreJob, RestoreState
from milvine.model.types import ConsistencyLevel, MetricType
from milvine.model.users import ApiKey, User

CATALOG_FILE = "catalog.sqlite"
_SQLITE_FULL = 13
_NO_ROOM = ("SQLITE_FULL", "SQLITE_CANTOPEN", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_SHMOPEN", "SQLITE_IOERR_WRITE")
_NOT_OURS = (KeyError, ValueError, TypeError)
"""Errors from decoding rows of a damaged database."""

tables = sa.MetaData()
versions = sa.Table("catalog_version", tables, sa.Column("version", sa.Integer, nullable=False))
databases = sa.Table(
    "databases",
    tables,
    sa.Column("database_id", sa.BigInteger, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("created_ts", sa.BigInteger, nullable=False),
    sa.Column("properties", sa.JSON, nullable=False),
)
collections = sa.Table(
    "collections",
    tables,
    sa.Column("collection_id", sa.BigInteger, primary_key=True),
    sa.Column("database", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("schema", sa.JSON, nullable=False),
    sa.Column("created_ts", sa.BigInteger, nullable=False),
    sa.Column("consistency_level", sa.Integer, nullable=False),
    sa.Column("num_shards", sa.Integer, nullable=False),
    sa.Column("properties", sa.JSON, nullable=False),
    sa.Column("load_config", sa.JSON(none_as_null=True)),
    sa.Column("checkpoint_file", sa.BigInteger, nullable=False),
    sa.Column("folded_ts", sa.BigInteger, nullable=False, default=0),
    sa.UniqueConstraint("database", "name"),
)
aliases = sa.Table(
    "aliases",
    tables,
    sa.Column("database", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("collection_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("created_ts", sa.BigInteger, nullable=False),
)
resource_groups = sa.Table(
    "resource_groups",
    tables,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("has_node", sa.Boolean, nullable=False),
)
partitions = sa.Table(
    "partitions",
    tables,
    sa.Column("partition_id", sa.BigInteger, primary_key=True),
    sa.Column("collection_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("created_ts", sa.BigInteger, nullable=False),
)
indexes = sa.Table(
    "indexes",
    tables,
    sa.Column("index_id", sa.BigInteger, primary_key=True),
    sa.Column("collection_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("field_id", sa.BigInteger, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("index_type", sa.String, nullable=False),
    sa.Column("metric_type", sa.String),
    sa.Column("params", sa.JSON, nullable=False),
    sa.Column("build_type", sa.String, nullable=False),
    sa.Column("build_params", sa.JSON, nullable=False),
)
segments = sa.Table(
    "segments",
    tables,
    sa.Column("segment_id", sa.BigInteger, primary_key=True),
    sa.Column("collection_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("partition_id", sa.BigInteger, nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("min_ts", sa.BigInteger, nullable=False),
    sa.Column("max_ts", sa.BigInteger, nullable=False),
    sa.Column("rows_bytes", sa.BigInteger, nullable=False),
    sa.Column("field_bytes", sa.JSON, nullable=False),
    sa.Column("folded_ts", sa.BigInteger, nullable=False),
    sa.Column("compacted_from", sa.JSON, nullable=False),
)
segment_indexes = sa.Table(
    "segment_indexes",
    tables,
    sa.Column("segment_id", sa.BigInteger, primary_key=True),
    sa.Column("index_id", sa.BigInteger, primary_key=True),
    sa.Column("file_name", sa.String, nullable=False),
    sa.Column("file_bytes", sa.BigInteger, nullable=False),
    sa.Column("is_scan", sa.Boolean, nullable=False),
)
deltas = sa.Table(
    "deltas",
    tables,
    sa.Column("delta_id", sa.BigInteger, primary_key=True),
    sa.Column("collection_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("max_ts", sa.BigInteger, nullable=False),
    sa.Column("file_bytes", sa.BigInteger, nullable=False),
)

users = sa.Table(
    "users",
    tables,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("password_hash", sa.String, nullable=False),
    sa.Column("created_ts", sa.BigInteger, nullable=False),
    sa.Column("description", sa.String, nullable=False),
)

api_keys = sa.Table(
    "api_keys",
    tables,
    sa.Column("key_id", sa.String, primary_key=True),
    sa.Column("user", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("roles", sa.JSON(none_as_null=True)),
    sa.Column("created_ts", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("user", "name"),
)

file_resources = sa.Table(
    "file_resources",
    tables,
    sa.Column("resource_id", sa.BigInteger, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("file_bytes", sa.BigInteger, nullable=False),
)

import_jobs = sa.Table(
    "import_jobs",
    tables,
    sa.Column("job_id", sa.BigInteger, primary_key=True),
    sa.Column("collection_id", sa.BigInteger, nullable=False),
    sa.Column("collection_name", sa.String, nullable=False),
    sa.Column("database", sa.String, nullable=False),
    sa.Column("partition_id", sa.BigInteger, nullable=False),
    sa.Column("files", sa.JSON, nullable=False),
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("ended_ms", sa.BigInteger, nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("stats", sa.JSON, nullable=False),
    sa.Column("segments", sa.JSON, nullable=False),
)

roles = sa.Table(
    "roles",
    tables,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("description", sa.String, nullable=False),
)
user_roles = sa.Table(
    "user_roles",
    tables,
    sa.Column("user", sa.String, primary_key=True),
    sa.Column("role", sa.String, primary_key=True),
)
grants = sa.Table(
    "grants",
    tables,
    sa.Column("role", sa.String, primary_key=True),
    sa.Column("object_type", sa.String, primary_key=True),
    sa.Column("object_name", sa.String, primary_key=True),
    sa.Column("database", sa.String, primary_key=True),
    sa.Column("privilege", sa.String, primary_key=True),
    sa.Column("grantor", sa.String, nullable=False),
)
privilege_groups = sa.Table(
    "privilege_groups",
    tables,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("privileges", sa.JSON, nullable=False),
)

snapshots = sa.Table(
    "snapshots",
    tables,
    sa.Column("snapshot_id", sa.BigInteger, primary_key=True),
    sa.Column("collection_id", sa.BigInteger, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("description", sa.String, nullable=False),
    sa.Column("created_ts", sa.BigInteger, nullable=False),
    sa.Column("collection", sa.JSON, nullable=False),
    sa.Column("segments", sa.JSON, nullable=False),
    sa.Column("deltas", sa.JSON, nullable=False),
    sa.Column("protected_until_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("collection_id", "name"),
)
snapshot_pins = sa.Table(
    "snapshot_pins",
    tables,
    sa.Column("pin_id", sa.BigInteger, primary_key=True),
    sa.Column("snapshot_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
)
restore_jobs = sa.Table(
    "restore_jobs",
    tables,
    sa.Column("job_id", sa.BigInteger, primary_key=True),
    sa.Column("snapshot_id", sa.BigInteger, nullable=False),
    sa.Column("snapshot_name", sa.String, nullable=False),
    sa.Column("collection_id", sa.BigInteger, nullable=False),
    sa.Column("database", sa.String, nullable=False),
    sa.Column("collection_name", sa.String, nullable=False),
    sa.Column("state", sa.Integer, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("started_ms", sa.BigInteger, nullable=False),
    sa.Column("ended_ms", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True)
class Snapshot:
    """The whole catalog at one moment. `names` maps (database, collection name) to the collection's id; `aliases` has
    keys of the same form. API keys, snapshots of collections and restore jobs are found by their ids."""

    databases: Mapping[str, Database] = field(default_factory=dict)
    collections: Mapping[int, Collection] = field(default_factory=dict)
    names: Mapping[tuple[str, str], int] = field(default_factory=dict)
    segments: Mapping[int, tuple[SegmentMeta, ...]] = field(default_factory=dict)
    deltas: Mapping[int, tuple[DeltaMeta, ...]] = field(default_factory=dict)
    aliases: Mapping[tuple[str, str], Alias] = field(default_factory=dict)
    resource_groups: Mapping[str, ResourceGroup] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    access: AccessRules = field(default_factory=AccessRules)
    api_keys: Mapping[str, ApiKey] = field(default_factory=dict)
    file_resources: Mapping[str, FileResource] = field(default_factory=dict)
    snapshots: Mapping[int, CollectionSnapshot] = field(default_factory=dict)
    restore_jobs: Mapping[int, RestoreJob] = field(default_factory=dict)
    import_jobs: Mapping[int, ImportJob] = field(default_factory=dict)

    def find(self, database: str, name: str) -> Collection | None:
        """The collection with a name or an alias; a name is never both."""
        collection_id = self.names.get((database, name))
        if collection_id is None:
            alias = self.aliases.get((database, name))
            return None if alias is None else self.collections[alias.collection_id]
        return self.collections[collection_id]

    def existing(self, collection_id: int) -> Collection:
        """Raises CollectionNotFound if it is gone."""
        collection = self.collections.get(collection_id)
        if collection is None:
            raise CollectionNotFound(str(collection_id))
        return collection

    def with_collection(self, collection: Collection) -> Snapshot:
        """Adds the collection under its name, or replaces its earlier state."""
        found = {**self.collections, collection.collection_id: collection}
        names = {**self.names, (collection.database, collection.name): collection.collection_id}
        return replace(self, collections=found, names=names)

    def aliases_of(self, collection_id: int) -> list[str]:
        return sorted(a.name for a in self.aliases.values() if a.collection_id == collection_id)

    def snapshots_of(self, collection_id: int) -> list[CollectionSnapshot]:
        """Oldest first."""
        return [one for one in self.snapshots.values() if one.collection_id == collection_id]


def store_load(connection: sa.Connection, collection_id: int, load: LoadConfig | None) -> None:
    connection.execute(
        sa.update(collections)
        .where(collections.c.collection_id == collection_id)
        .values(load_config=encoding.encode_load(load))
    )


class Catalog:
    """The one writer of the SQL database. A `change` commits and replaces the snapshot, or has no effect."""

    def __init__(
        self,
        url: str,
        steps: Sequence[Step] = STEPS,
        before_upgrade: Callable[[int], object] = lambda _version: None,
        *,
        without_shared_memory: bool = False,
    ) -> None:
        """`before_upgrade` is called with the stored version when `steps` are about to change it.
        `without_shared_memory`: SQLite needs no file for it, and no other process can read the catalog."""
        self.limits = Limits()
        self._lock = threading.Lock()
        self._engine = sa.create_engine(
            url,
            poolclass=sa.pool.StaticPool,
            connect_args={"check_same_thread": False},
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
        )
        if without_shared_memory:
            sa.event.listen(self._engine, "connect", _lock_exclusively)
        sa.event.listen(self._engine, "connect", _set_durable)
        sa.event.listen(self._engine, "begin", _begin)
        with self._engine.begin() as connection:
            found = stored_version(connection)
            if found is None:
                found = latest_version(steps)
                _create(connection, found)
        needs_upgrade = is_behind(found, f"the catalog at {url}", steps)
        if needs_upgrade:
            before_upgrade(found)
        with self._engine.begin() as connection:
            if needs_upgrade:
                upgrade(connection, steps)
            self.snapshot = _read_snapshot(connection)
        if needs_upgrade:
            crash_point("migration.committed")

    def change(self, work: Callable[[sa.Connection, Snapshot], Snapshot], image: Path | None = None) -> Snapshot:
        """Runs `work` in one transaction. Its result becomes the snapshot once the commit is durable. `image`: a file
        into which the whole catalog is then copied, before any other change.

        An exception in `work` rolls back and leaves the snapshot as it was. Raises DiskLimitExceeded on a full disk.
        """
        with self._lock:
            try:
                with self._engine.begin() as connection:
                    following = work(connection, self.snapshot)
            except sa.exc.DBAPIError as error:
                raise _failed(error) from error
            self.snapshot = following
            if image is not None:
                self._copy_to(image)
            return following

    def _copy_to(self, image: Path) -> None:
        try:
            with self._engine.connect() as connection, closing(sqlite3.connect(image)) as target:
                driver = connection.connection.driver_connection
                assert driver is not None
                driver.backup(target)
                target.execute("PRAGMA journal_mode=DELETE")  # one file, without a log of its own
        except (OSError, sqlite3.Error) as error:
            raise DiskLimitExceeded(f"cannot write {image}: {error}") from error

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
        self._engine.dispose()


def open_catalog(path: Path, steps: Sequence[Step] = STEPS) -> Catalog:
    """The catalog in an SQLite file, upgraded to the version of this program; a copy of the old file stays beside it.

    Raises DataIntegrityError naming the file if it is damaged or has a version that cannot be read.
    """
    open_it = partial(Catalog, f"sqlite:///{path}", steps, partial(keep_copy, path))
    try:
        try:
            return open_it()
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "sqlite_errorname", "") not in _NO_ROOM:
                raise
            # A full disk must not keep a server from starting.
            return open_it(without_shared_memory=True)
    except sa.exc.DatabaseError as error:
        raise DataIntegrityError(f"the catalog {path} cannot be read: {error.orig}") from error


def _create(connection: sa.Connection, version: int) -> None:
    tables.create_all(connection)
    connection.execute(sa.insert(versions).values(version=version))
    connection.execute(sa.insert(databases).values(database_id=1, name=DEFAULT_DATABASE, created_ts=0, properties={}))
    connection.execute(sa.insert(roles), [{"name": name, "description": ""} for name in BUILT_IN_ROLES])
    for group in initial_groups().values():
        connection.execute(sa.insert(resource_groups).values(encoding.encode_resource_group(group)))


def _lock_exclusively(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")


def _set_durable(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # sqlite3 begins no transaction before a change of tables
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def read_catalog(path: Path, steps: Sequence[Step] = STEPS) -> Snapshot:
    """Reads the whole catalog after SQLite's own check, without changes; an earlier version is upgraded in memory.
    Raises DataIntegrityError naming the file."""
    if not path.is_file():
        raise DataIntegrityError(f"{path} is missing")
    engine = sa.create_engine(f"sqlite:///file:{path}?mode=ro&uri=true", json_deserializer=orjson.loads)
    try:
        with engine.connect() as connection:
            said = connection.execute(sa.text("PRAGMA integrity_check")).scalars().all()
            if said != ["ok"]:
                raise DataIntegrityError(f"{path} is damaged: {'; '.join(said[:3])}")
            if not is_behind(stored_version(connection), path, steps):
                return _read_snapshot(connection)
            with closing(sqlite3.connect(":memory:")) as copy:
                driver = connection.connection.driver_connection
                assert driver is not None
                driver.backup(copy)
                return _read_upgraded(copy, steps)
    except (sa.exc.SQLAlchemyError, *_NOT_OURS) as error:
        raise DataIntegrityError(f"{path} is damaged: {getattr(error, 'orig', None) or repr(error)}") from error
    finally:
        engine.dispose()


def _read_upgraded(copy: sqlite3.Connection, steps: Sequence[Step]) -> Snapshot:
    engine = sa.create_engine(
        "sqlite://", creator=lambda: copy, poolclass=sa.pool.StaticPool, json_deserializer=orjson.loads
    )
    with engine.begin() as connection:
        upgrade(connection, steps)
        return _read_snapshot(connection)


def _failed(error: sa.exc.DBAPIError) -> MilvineError:
    is_full = getattr(error.orig, "sqlite_errorcode", None) == _SQLITE_FULL
    return (DiskLimitExceeded if is_full else ServiceInternal)(f"the catalog cannot be written: {error.orig}")


def _read_snapshot(connection: sa.Connection) -> Snapshot:
    def rows(table: sa.Table, order: str) -> list[Any]:
        return list(connection.execute(sa.select(table).order_by(table.c[order])))

    found_partitions: dict[int, list[Partition]] = {}
    for row in rows(partitions, "partition_id"):
        partition = Partition(row.partition_id, row.name, row.created_ts)
        found_partitions.setdefault(row.collection_id, []).append(partition)
    found_indexes: dict[int, list[IndexSpec]] = {}
    for row in rows(indexes, "index_id"):
        metric = None if row.metric_type is None else MetricType(row.metric_type)
        spec = IndexSpec(
            row.index_id,
            row.field_id,
            row.name,
            row.index_type,
            metric,
            row.params,
            row.build_type,
            row.build_params,
        )
        found_indexes.setdefault(row.collection_id, []).append(spec)
    built: dict[int, dict[int, SegmentIndexMeta]] = {}
    for row in rows(segment_indexes, "segment_id"):
        meta = SegmentIndexMeta(row.index_id, row.file_name, row.file_bytes, row.is_scan)
        built.setdefault(row.segment_id, {})[row.index_id] = meta
    found_segments: dict[int, list[SegmentMeta]] = {}
    for row in rows(segments, "segment_id"):
        found_segments.setdefault(row.collection_id, []).append(
            SegmentMeta(
                row.segment_id,
                row.collection_id,
                row.partition_id,
                row.row_count,
                row.min_ts,
                row.max_ts,
                row.rows_bytes,
                {int(k): v for k, v in row.field_bytes.items()},
                built.get(row.segment_id, {}),
                row.folded_ts,
                tuple(row.compacted_from),
            )
        )
    found_deltas: dict[int, list[DeltaMeta]] = {}
    for row in rows(deltas, "delta_id"):
        found_deltas.setdefault(row.collection_id, []).append(DeltaMeta(*row))
    found = {
        row.collection_id: Collection(
            row.collection_id,
            row.database,
            row.name,
            encoding.decode_schema(row.schema),
            row.created_ts,
            ConsistencyLevel(row.consistency_level),
            row.num_shards,
            row.properties,
            tuple(found_partitions.get(row.collection_id, ())),
            tuple(found_indexes.get(row.collection_id, ())),
            encoding.decode_load(row.load_config),
            row.checkpoint_file,
            row.folded_ts,
        )
        for row in rows(collections, "collection_id")
    }
    return Snapshot(
        {r.name: Database(r.database_id, r.name, r.created_ts, r.properties) for r in rows(databases, "name")},
        found,
        {(c.database, c.name): c.collection_id for c in found.values()},
        {i: tuple(s) for i, s in found_segments.items()},
        {i: tuple(d) for i, d in found_deltas.items()},
        {(r.database, r.name): Alias(*r) for r in rows(aliases, "name")},
        {r.name: encoding.decode_resource_group(r) for r in rows(resource_groups, "name")},
        {r.name: User(r.name, r.password_hash, r.created_ts, r.description) for r in rows(users, "name")},
        AccessRules(
            {row.name: row.description for row in rows(roles, "name")},
            _read_user_roles(rows(user_roles, "user")),
            {Grant(*row[:-1]): row.grantor for row in rows(grants, "role")},
            {row.name: tuple(row.privileges) for row in rows(privilege_groups, "name")},
        ),
        {row.key_id: encoding.decode_api_key(row) for row in rows(api_keys, "key_id")},
        {row.name: FileResource(*row) for row in rows(file_resources, "name")},
        _read_snapshots(rows(snapshots, "snapshot_id"), rows(snapshot_pins, "pin_id")),
        {
            row.job_id: RestoreJob(**{**row._mapping, "state": RestoreState(row.state)})
            for row in rows(restore_jobs, "job_id")
        },
        {row.job_id: encoding.decode_import_job(row) for row in rows(import_jobs, "job_id")},
    )


def _read_snapshots(rows: Sequence[Any], pins: Sequence[Any]) -> dict[int, CollectionSnapshot]:
    pins_of: dict[int, dict[int, int]] = {}
    for pin in pins:
        pins_of.setdefault(pin.snapshot_id, {})[pin.pin_id] = pin.expires_ms
    return {
        row.snapshot_id: CollectionSnapshot(
            row.snapshot_id,
            row.name,
            row.description,
            row.created_ts,
            encoding.decode_collection(row.collection),
            tuple(map(encoding.decode_segment, row.segments)),
            tuple(map(encoding.decode_delta, row.deltas)),
            row.protected_until_ms,
            pins_of.get(row.snapshot_id, {}),
        )
        for row in rows
    }


def _read_user_roles(rows: Sequence[Any]) -> dict[str, frozenset[str]]:
    held: dict[str, set[str]] = {}
    for row in rows:
        held.setdefault(row.user, set()).add(row.role)
    return {user: frozenset(names) for user, names in held.items()}
