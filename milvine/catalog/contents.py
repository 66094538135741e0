"""The whole catalog at one moment, and how it is read from the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from milvine.catalog import encoding, tables
from milvine.errors import CollectionNotFound
from milvine.model.access_rules import AccessRules, Grant
from milvine.model.collections import Alias, Collection, Database, Partition
from milvine.model.file_resources import FileResource
from milvine.model.import_jobs import ImportJob
from milvine.model.resource_groups import ResourceGroup
from milvine.model.schema import IndexSpec
from milvine.model.segments import DeltaMeta, SegmentIndexMeta, SegmentMeta
from milvine.model.snapshots import CollectionSnapshot, RestoreJob, RestoreState
from milvine.model.types import ConsistencyLevel, MetricType
from milvine.model.users import ApiKey, User


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


def read_contents(connection: sa.Connection) -> Snapshot:
    def rows(table: sa.Table, order: str) -> list[Any]:
        # Databases order text in their own ways.
        return sorted(connection.execute(sa.select(table)).all(), key=attrgetter(order))

    found_partitions: dict[int, list[Partition]] = {}
    for row in rows(tables.partitions, "partition_id"):
        partition = Partition(row.partition_id, row.name, row.created_ts)
        found_partitions.setdefault(row.collection_id, []).append(partition)
    found_indexes: dict[int, list[IndexSpec]] = {}
    for row in rows(tables.indexes, "index_id"):
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
    for row in rows(tables.segment_indexes, "segment_id"):
        meta = SegmentIndexMeta(row.index_id, row.file_name, row.file_bytes, row.is_scan)
        built.setdefault(row.segment_id, {})[row.index_id] = meta
    found_segments: dict[int, list[SegmentMeta]] = {}
    for row in rows(tables.segments, "segment_id"):
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
    for row in rows(tables.deltas, "delta_id"):
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
        for row in rows(tables.collections, "collection_id")
    }
    return Snapshot(
        {r.name: Database(r.database_id, r.name, r.created_ts, r.properties) for r in rows(tables.databases, "name")},
        found,
        {(c.database, c.name): c.collection_id for c in found.values()},
        {i: tuple(s) for i, s in found_segments.items()},
        {i: tuple(d) for i, d in found_deltas.items()},
        {(r.database, r.name): Alias(*r) for r in rows(tables.aliases, "name")},
        {r.name: encoding.decode_resource_group(r) for r in rows(tables.resource_groups, "name")},
        {r.name: User(r.name, r.password_hash, r.created_ts, r.description) for r in rows(tables.users, "name")},
        AccessRules(
            {row.name: row.description for row in rows(tables.roles, "name")},
            _read_user_roles(rows(tables.user_roles, "user")),
            {Grant(*row[:-1]): row.grantor for row in rows(tables.grants, "role")},
            {row.name: tuple(row.privileges) for row in rows(tables.privilege_groups, "name")},
        ),
        {row.key_id: encoding.decode_api_key(row) for row in rows(tables.api_keys, "key_id")},
        {row.name: FileResource(*row) for row in rows(tables.file_resources, "name")},
        _read_snapshots(rows(tables.snapshots, "snapshot_id"), rows(tables.snapshot_pins, "pin_id")),
        {
            row.job_id: RestoreJob(**{**row._mapping, "state": RestoreState(row.state)})
            for row in rows(tables.restore_jobs, "job_id")
        },
        {row.job_id: encoding.decode_import_job(row) for row in rows(tables.import_jobs, "job_id")},
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
