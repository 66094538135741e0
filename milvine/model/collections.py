"""The catalog's records of databases and collections. They are frozen: a change makes a new object."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from milvine.model.records import record
from milvine.model.resource_groups import DEFAULT_RESOURCE_GROUP
from milvine.model.schema import CollectionSchema, IndexSpec
from milvine.model.timestamps import from_physical_ms
from milvine.model.types import ConsistencyLevel

DEFAULT_DATABASE = "default"
DEFAULT_PARTITION = "_default"
MAX_PARTITIONS = 1024
TTL_PROPERTY = "collection.ttl.seconds"
MAX_FIELD_ID_PROPERTY = "max_field_id"
MAX_COLLECTIONS_PROPERTY = "database.max.collections"


@record
class Database:
    database_id: int
    name: str
    created_ts: int
    properties: Mapping[str, str] = field(default_factory=dict)


@record
class Alias:
    """Another name of a collection, in the collection's database."""

    database: str
    name: str
    collection_id: int
    created_ts: int


@record
class Partition:
    partition_id: int
    name: str
    created_ts: int


@record
class LoadConfig:
    """The data to load. `field_ids` includes `$meta` if it is to be loaded; partitions are listed by id.

    `resource_groups` has a name for each replica, or one for all. They do not affect the loaded data, so comparisons
    ignore them.
    """

    partition_ids: frozenset[int]
    field_ids: frozenset[int]
    replica_number: int = 1
    resource_groups: tuple[str, ...] = field(default=(DEFAULT_RESOURCE_GROUP,), compare=False)

    @property
    def group_by_replica(self) -> tuple[str, ...]:
        names = self.resource_groups
        return names * self.replica_number if len(names) == 1 else names


@dataclass(frozen=True)
class Collection:
    """`load` None means NotLoad. `checkpoint_file`: the first log file whose rows are not in sealed segments.

    `folded_ts`: compaction has removed rows that lived before it, so reads at an older timestamp would miss them.
    """

    collection_id: int
    database: str
    name: str
    schema: CollectionSchema
    created_ts: int
    consistency_level: ConsistencyLevel
    num_shards: int = 1
    properties: Mapping[str, str] = field(default_factory=dict)
    partitions: tuple[Partition, ...] = ()
    indexes: tuple[IndexSpec, ...] = ()
    load: LoadConfig | None = None
    checkpoint_file: int = 1
    folded_ts: int = 0

    @cached_property
    def partition_by_name(self) -> dict[str, Partition]:
        return {p.name: p for p in self.partitions}

    @cached_property
    def user_indexes(self) -> tuple[IndexSpec, ...]:
        """The indexes that callers created."""
        return tuple(i for i in self.indexes if not i.is_internal)

    @cached_property
    def index_by_field(self) -> dict[int, IndexSpec]:
        """The indexes of vector fields, which have one index each."""
        return {i.field_id: i for i in self.indexes if i.metric_type is not None}

    @cached_property
    def scalar_indexes(self) -> tuple[IndexSpec, ...]:
        return tuple(i for i in self.indexes if i.metric_type is None)

    @property
    def described_properties(self) -> dict[str, str]:
        """The properties, including those that follow from the schema."""
        return {**self.properties, MAX_FIELD_ID_PROPERTY: str(self.schema.max_field_id)}

    @property
    def updated_ts(self) -> int:
        """When the fields were last changed."""
        return self.schema.updated_ts or self.created_ts

    @property
    def ttl_seconds(self) -> int:
        """How long rows live; 0 or less means for ever."""
        return int(self.properties.get(TTL_PROPERTY, -1))

    def expired_ts(self, at_ms: int | None = None) -> int:
        """Rows inserted before it are expired: reads skip them and compaction removes them. 0: no row is expired.
        `at_ms`: Unix time in ms; now without it."""
        if self.ttl_seconds <= 0:
            return 0
        now_ms = time.time_ns() // 1_000_000 if at_ms is None else at_ms
        return max(0, from_physical_ms(now_ms - 1000 * self.ttl_seconds))
