"""Rates of single collections, set by their properties; a request above the rate is refused.

As in Milvus, a bucket is filled at the rate up to one second's worth, and any request is accepted while it is not
overdrawn, however large the request is. Later requests wait until the bucket is refilled.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from milvine.catalog.store import Catalog
from milvine.errors import RateExceeded, RateIsZero
from milvine.model.collections import Collection
from milvine.model.properties import limit_of


class Rate(NamedTuple):
    """`unit`: what one unit of the property's value counts. `name`: Milvus's name of the kind of request."""

    key: str
    unit: int
    name: str


INSERTED = Rate("collection.insertRate.max.mb", 1 << 20, "DMLInsert")
DELETED = Rate("collection.deleteRate.max.mb", 1 << 20, "DMLDelete")
SEARCHED = Rate("collection.searchRate.max.vps", 1, "DQLSearch")
QUERIED = Rate("collection.queryRate.max.qps", 1, "DQLQuery")


@dataclass(slots=True)
class _Bucket:
    """`filled_at` is on time.monotonic()'s scale."""

    tokens: float
    filled_at: float


class RateLimits:
    """The buckets of all collections that have a rate."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._buckets: dict[tuple[int, str], _Bucket] = {}

    def check(self, collection: Collection, rate: Rate, amount: Callable[[], int]) -> None:
        """Raises RateExceeded or RateIsZero if the collection is above its rate, else counts `amount`: bytes of rows
        or keys, or a number of vectors or queries."""
        if rate.key not in collection.properties:  # most collections
            return
        limit = limit_of(collection.properties, rate.key)
        if limit is None:
            return
        if limit == 0:
            raise RateIsZero(rate.name)
        per_second = limit * rate.unit
        now = time.monotonic()
        with self._lock:
            bucket = self._bucket(collection.collection_id, rate, per_second, now)
            bucket.tokens = min(per_second, bucket.tokens + per_second * (now - bucket.filled_at))
            bucket.filled_at = now
            if bucket.tokens < 0:
                raise RateExceeded(per_second)
            bucket.tokens -= amount()

    def _bucket(self, collection_id: int, rate: Rate, tokens: float, now: float) -> _Bucket:
        """The bucket, or a new one with `tokens`. The caller holds the lock."""
        key = collection_id, rate.key
        found = self._buckets.get(key)
        if found is None:
            known = self._catalog.snapshot.collections
            self._buckets = {k: b for k, b in self._buckets.items() if k[0] in known}
            found = self._buckets[key] = _Bucket(tokens, now)
        return found
