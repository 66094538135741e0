"""The buckets of the rates of collections."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from milvine.errors import RateExceeded
from milvine.model.collections import Collection
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import ConsistencyLevel, DataType
from milvine.service import rate_limits
from milvine.service.rate_limits import INSERTED, QUERIED, SEARCHED, RateLimits

SCHEMA = CollectionSchema((FieldSchema(100, "id", DataType.INT64, is_primary=True),))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rate_limits, "time", clock)
    return clock


def limits_of(*collections: Collection) -> tuple[RateLimits, dict[int, Collection]]:
    known = {c.collection_id: c for c in collections}
    catalog = SimpleNamespace(snapshot=SimpleNamespace(collections=known))
    return RateLimits(cast(Any, catalog), {}), known


def collection(collection_id: int = 1, **properties: str) -> Collection:
    named = {f"collection.{key.replace('_', '.')}": value for key, value in properties.items()}
    return Collection(
        collection_id, "default", f"c{collection_id}", SCHEMA, 1, ConsistencyLevel.STRONG, properties=named
    )


def is_accepted(limits: RateLimits, of: Collection, amount: int = 1) -> bool:
    try:
        limits.check(of, SEARCHED, lambda: amount)
    except RateExceeded:
        return False
    return True


def test_one_seconds_worth_is_accepted_at_once_and_then_the_refilled_amount(clock: Clock) -> None:
    of = collection(searchRate_max_vps="10")
    limits, _ = limits_of(of)
    assert [is_accepted(limits, of) for _ in range(12)] == [True] * 11 + [False]
    clock.now += 0.0625
    assert not is_accepted(limits, of)
    clock.now += 0.0625
    assert is_accepted(limits, of)
    clock.now += 100
    assert [is_accepted(limits, of) for _ in range(12)] == [True] * 11 + [False]


def test_a_large_request_is_accepted_whole_and_later_ones_are_refused(clock: Clock) -> None:
    of = collection(searchRate_max_vps="10")
    limits, _ = limits_of(of)
    assert is_accepted(limits, of, 1000)
    clock.now += 98.9
    assert not is_accepted(limits, of)
    clock.now += 0.2
    assert is_accepted(limits, of)


def test_a_megabyte_is_1024_kilobytes(clock: Clock) -> None:
    of = collection(insertRate_max_mb="1")
    limits, _ = limits_of(of)
    limits.check(of, INSERTED, lambda: 1 << 20)
    limits.check(of, INSERTED, lambda: 1)
    with pytest.raises(RateExceeded, match=r"rate limit exceeded\[rate=1.048576e\+06\]"):
        limits.check(of, INSERTED, lambda: 1)


def test_each_kind_and_collection_has_a_bucket_that_is_removed_with_the_collection(clock: Clock) -> None:
    one = collection(searchRate_max_vps="1", queryRate_max_qps="1")
    other = replace(one, collection_id=2)
    limits, known = limits_of(one, other)
    assert [is_accepted(limits, one) for _ in range(3)] == [True, True, False]
    limits.check(one, QUERIED, lambda: 1)
    del known[1]
    assert is_accepted(limits, other)
    assert {of for _, _, of in limits._buckets} == {2}


def test_a_request_above_one_rate_takes_nothing_from_the_others(clock: Clock) -> None:
    catalog = SimpleNamespace(snapshot=SimpleNamespace(collections={1: None}, databases={}))
    limits = RateLimits(cast(Any, catalog), {"DQLSearch": {"cluster": 2.0, "collection": 1.0}})
    one, other = collection(), replace(collection(), collection_id=2)
    assert [is_accepted(limits, one) for _ in range(3)] == [True, True, False]
    assert [is_accepted(limits, other) for _ in range(2)] == [True, False]
