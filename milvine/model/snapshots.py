"""Snapshots of collections, and the jobs that restore them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from milvine.model.collections import Collection
from milvine.model.records import record
from milvine.model.segments import DeltaMeta, SegmentMeta

MAX_PIN_SECONDS = 30 * 24 * 3600
MAX_PROTECTION_SECONDS = 7 * 24 * 3600
BACKUP_PREFIX = "#"
"""No name that a caller gives begins with it."""
KEPT_JOB_MS = 3 * 3600 * 1000
"""Ended jobs are remembered this long."""


@dataclass(frozen=True)
class CollectionSnapshot:
    """A collection as its last flush left it. The files of its segments and deltas stay while it exists.

    `collection` is its record at that time: the schema, partitions, indexes and properties are those of then, the name
    may have changed since. `pins`: when each one expires (Unix time in ms, 0 for never), by id. Segments are not
    compacted before `protected_until_ms`.
    """

    snapshot_id: int
    name: str
    description: str
    created_ts: int
    collection: Collection
    segments: tuple[SegmentMeta, ...]
    deltas: tuple[DeltaMeta, ...]
    protected_until_ms: int = 0
    pins: Mapping[int, int] = field(default_factory=dict)

    @property
    def collection_id(self) -> int:
        return self.collection.collection_id

    @property
    def is_of_backup(self) -> bool:
        """Whether a backup holds the files; callers do not see it, and it goes with its pin."""
        return self.name.startswith(BACKUP_PREFIX)

    def live_pins(self, now_ms: int) -> frozenset[int]:
        return frozenset(pin for pin, expires_ms in self.pins.items() if not expires_ms or expires_ms >= now_ms)


class RestoreState(IntEnum):
    """Milvus's RestoreSnapshotState."""

    PENDING = 1
    EXECUTING = 2
    COMPLETED = 3
    FAILED = 4


@record
class RestoreJob:
    """A restore of a snapshot into a collection that comes into being when the job is done. Times in ms (Unix time);
    `ended_ms` is 0 until then. Of an exported snapshot, `snapshot_id` is 0 and `snapshot_name` the URI of its
    metadata."""

    job_id: int
    snapshot_id: int
    snapshot_name: str
    collection_id: int
    database: str
    collection_name: str
    state: RestoreState
    reason: str
    started_ms: int
    ended_ms: int = 0

    @property
    def is_external(self) -> bool:
        return self.snapshot_id == 0

    @property
    def is_open(self) -> bool:
        return self.state in (RestoreState.PENDING, RestoreState.EXECUTING)
