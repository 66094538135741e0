"""Disk quotas of collections, databases and the server. Above a quota, inserts are refused but deletes are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from milvine.catalog.contents import Snapshot
from milvine.errors import DiskQuotaExceeded
from milvine.model.collections import Collection
from milvine.model.properties import COLLECTION_DISK_QUOTA, DATABASE_DISK_QUOTA, limit_of
from milvine.service.context import Engine


def check_disk_quota(engine: Engine, collection: Collection) -> None:
    """Raises DiskQuotaExceeded if the flushed rows of the collection, its database or the server reach their quota."""
    snapshot, settings = engine.catalog.snapshot, engine.settings
    if not settings.limits_enabled:
        return
    database = snapshot.databases.get(collection.database)
    general = {} if database is None else database.properties
    own = _quota_bytes(collection.properties, COLLECTION_DISK_QUOTA, settings.collection_disk_quota_mb)
    of_database = _quota_bytes(general, DATABASE_DISK_QUOTA, settings.database_disk_quota_mb)
    of_all = _quota_bytes({}, "", settings.disk_quota_mb)
    collections = snapshot.collections.values()
    if (
        (own is not None and _flushed_bytes(snapshot, [collection]) >= own)
        or (
            of_database is not None
            and _flushed_bytes(snapshot, (c for c in collections if c.database == collection.database)) >= of_database
        )
        or (of_all is not None and _flushed_bytes(snapshot, collections) >= of_all)
    ):
        raise DiskQuotaExceeded


def _quota_bytes(properties: Mapping[str, str], key: str, otherwise_mb: float) -> float | None:
    """None if there is no quota."""
    megabytes = limit_of(properties, key)
    if megabytes is None:
        megabytes = otherwise_mb
    return megabytes * 2**20 if megabytes >= 0 else None


def _flushed_bytes(snapshot: Snapshot, collections: Iterable[Collection]) -> int:
    return sum(meta.data_bytes for c in collections for meta in snapshot.segments.get(c.collection_id, ()))
