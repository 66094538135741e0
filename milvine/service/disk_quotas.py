"""How much a collection and a database may hold on disk: above it no rows come in, and deletes still do."""

from __future__ import annotations

import math
from collections.abc import Mapping

from milvine.catalog.store import Snapshot
from milvine.errors import DiskQuotaExceeded
from milvine.model.collections import Collection
from milvine.model.properties import COLLECTION_DISK_QUOTA, DATABASE_DISK_QUOTA
from milvine.service.context import Engine


def check_disk_quota(engine: Engine, collection: Collection) -> None:
    """Raises DiskQuotaExceeded if the flushed rows of the collection, or of its database, reach their quota."""
    snapshot = engine.catalog.snapshot
    quota = _quota_bytes(collection.properties, COLLECTION_DISK_QUOTA)
    if quota is not None and _flushed_bytes(snapshot, collection) >= quota:
        raise DiskQuotaExceeded
    database = snapshot.databases.get(collection.database)
    quota = None if database is None else _quota_bytes(database.properties, DATABASE_DISK_QUOTA)
    if quota is None:
        return
    collections = (c for c in snapshot.collections.values() if c.database == collection.database)
    if sum(_flushed_bytes(snapshot, c) for c in collections) >= quota:
        raise DiskQuotaExceeded


def _quota_bytes(properties: Mapping[str, str], key: str) -> float | None:
    """None if there is no quota; what is no number, or negative, is none, as in Milvus."""
    try:
        megabytes = float(properties.get(key, ""))
    except ValueError:
        return None
    return megabytes * 2**20 if megabytes >= 0 and math.isfinite(megabytes) else None


def _flushed_bytes(snapshot: Snapshot, collection: Collection) -> int:
    return sum(meta.data_bytes for meta in snapshot.segments.get(collection.collection_id, ()))
