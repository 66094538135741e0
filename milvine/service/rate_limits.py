"""Rates of the server, its databases, collections and partitions; a request above one of them is refused.

The settings give the rates, and properties of a collection replace its own. As in Milvus, a bucket is filled at the
rate up to one second's worth, and any request is accepted while it is not overdrawn, however large the request is.
Later requests wait until the bucket is refilled. A refused request takes nothing from any bucket.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from milvine.catalog.contents import Snapshot
from milvine.catalog.store import Catalog
from milvine.errors import RateExceeded, RateIsZero
from milvine.model.collections import Collection
from milvine.model.properties import limit_of
from milvine.rate_settings import Level, Rates


class Rate(NamedTuple):
    """`key`: the property of a collection, `unit`: what one unit of its value counts. `name`: Milvus's name of the kind
    of request."""

    key: str
    unit: int
    name: str


INSERTED = Rate("collection.insertRate.max.mb", 1 << 20, "DMLInsert")
DELETED = Rate("collection.deleteRate.max.mb", 1 << 20, "DMLDelete")
SEARCHED = Rate("collection.searchRate.max.vps", 1, "DQLSearch")
QUERIED = Rate("collection.queryRate.max.qps", 1, "DQLQuery")
_FLUSHED = Rate("", 1, "DDLFlush")

_Key = tuple[str, Level, int]
"""The kind of request, and what the bucket is of: a database, a collection or a partition by its id, or 0."""


@dataclass(slots=True)
class _Bucket:
    """`filled_at` is on time.monotonic()'s scale."""

    tokens: float
    filled_at: float


class RateLimits:
    """The buckets of everything that has a rate."""

    def __init__(self, catalog: Catalog, rates: Rates, *, enabled: bool = True) -> None:
        self._catalog = catalog
        self._rates = rates
        self._enabled = enabled
        self._lock = threading.Lock()
        self._buckets: dict[_Key, _Bucket] = {}

    def check(
        self, collection: Collection, rate: Rate, amount: Callable[[], int], partitions: Iterable[str] = ()
    ) -> None:
        """Raises RateExceeded or RateIsZero if a rate is exceeded, else counts `amount`: bytes of rows or keys, or a
        number of vectors or queries. `partitions`: the names in the
        request; unknown ones are left to later checks."""
        if rate.key in collection.properties or rate.name in self._rates:  # few servers
            limits = [*self._of_call(rate.name, collection.database)]
            limits += self._of_collection(collection, rate, partitions)
            self._take(limits, amount)

    def check_call(self, kind: str, database: str) -> None:
        """Counts one call for the server and for the database. Raises as `check`."""
        if kind in self._rates:
            self._take(self._of_call(kind, database), lambda: 1)

    def check_flush(self, collections: Iterable[Collection]) -> None:
        """Counts one flush for each collection. Raises as `check`, with none counted."""
        if _FLUSHED.name in self._rates:
            self._take([limit for c in collections for limit in self._of_collection(c, _FLUSHED, ())], lambda: 1)

    def _of_call(self, kind: str, database: str) -> list[tuple[_Key, float]]:
        limits, found = self._rates.get(kind, {}), []
        if Level.CLUSTER in limits:
            found.append(((kind, Level.CLUSTER, 0), limits[Level.CLUSTER]))
        if Level.DATABASE in limits and (of := self._catalog.snapshot.databases.get(database)) is not None:
            found.append(((kind, Level.DATABASE, of.database_id), limits[Level.DATABASE]))
        return found

    def _of_collection(self, collection: Collection, rate: Rate, partitions: Iterable[str]) -> list[tuple[_Key, float]]:
        limits, found = self._rates.get(rate.name, {}), []
        own = limit_of(collection.properties, rate.key) if self._enabled and rate.key else None
        limit = limits.get(Level.COLLECTION) if own is None else own * rate.unit
        if limit is not None:
            found.append(((rate.name, Level.COLLECTION, collection.collection_id), limit))
        if Level.PARTITION in limits:
            known = [p for name in partitions if (p := collection.partition_by_name.get(name)) is not None]
            found += [((rate.name, Level.PARTITION, p.partition_id), limits[Level.PARTITION]) for p in known]
        return found

    def _take(self, limits: list[tuple[_Key, float]], amount: Callable[[], int]) -> None:
        if not limits:
            return
        now = time.monotonic()
        with self._lock:
            buckets = []
            for key, per_second in limits:
                if per_second == 0:
                    raise RateIsZero(key[0])
                bucket = self._bucket(key, per_second, now)
                bucket.tokens = min(per_second, bucket.tokens + per_second * (now - bucket.filled_at))
                bucket.filled_at = now
                if bucket.tokens < 0:
                    raise RateExceeded(per_second)
                buckets.append(bucket)
            taken = amount()
            for bucket in buckets:
                bucket.tokens -= taken

    def _bucket(self, key: _Key, tokens: float, now: float) -> _Bucket:
        """The bucket, or a new one with `tokens`. The caller holds the lock."""
        found = self._buckets.get(key)
        if found is None:
            snapshot = self._catalog.snapshot
            self._buckets = {k: b for k, b in self._buckets.items() if _exists(snapshot, k)}
            found = self._buckets[key] = _Bucket(tokens, now)
        return found


def _exists(snapshot: Snapshot, key: _Key) -> bool:
    """Whether the bucket is of something that is not dropped. Buckets of partitions go with the next new bucket."""
    _, level, of = key
    if level is Level.COLLECTION:
        return of in snapshot.collections
    return level is not Level.PARTITION
