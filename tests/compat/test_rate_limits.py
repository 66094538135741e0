"""Rates and quotas of collections: requests above them are refused, until a rate's bucket is refilled."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from conftest import Server
from pymilvus import MilvusClient, MilvusException
from sample_collections import c1_rows, make_c1

ORIGIN = [0.0, 0.0, 0.0, 0.0]
SLOW = "0.001"
"""A thousandth of a vector, a query or a MB a second: the first request overdraws the bucket for a long time."""
WAIT_SECONDS = 20.0

Call = Callable[[MilvusClient, str], Any]


def _insert(client: MilvusClient, name: str) -> Any:
    return client.insert(name, c1_rows(100), retry_on_rate_limit=False)


def _upsert(client: MilvusClient, name: str) -> Any:
    return client.upsert(name, c1_rows(100), retry_on_rate_limit=False)


def _delete(client: MilvusClient, name: str) -> Any:
    return client.delete(name, ids=list(range(1000)), retry_on_rate_limit=False)


def _search(client: MilvusClient, name: str) -> Any:
    return client.search(name, [ORIGIN], limit=1, anns_field="vec", retry_on_rate_limit=False)


def _query(client: MilvusClient, name: str) -> Any:
    return client.query(name, filter="id == 1", output_fields=["id"], retry_on_rate_limit=False)


CALLS = [
    ("collection.insertRate.max.mb", _insert, "1048.576", "DMLInsert"),
    ("collection.insertRate.max.mb", _upsert, "1048.576", "DMLInsert"),
    ("collection.deleteRate.max.mb", _delete, "1048.576", "DMLDelete"),
    ("collection.searchRate.max.vps", _search, "0.001", "DQLSearch"),
    ("collection.queryRate.max.qps", _query, "0.001", "DQLQuery"),
]


@pytest.fixture
def loaded(client: MilvusClient, collection_name: str) -> str:
    make_c1(client, collection_name, load=True)
    return collection_name


@pytest.mark.parametrize(("key", "call", "rate", "kind"), CALLS, ids=[c[1].__name__ for c in CALLS])
def test_requests_above_a_rate_are_refused_until_the_rate_is_raised(
    client: MilvusClient, loaded: str, key: str, call: Call, rate: str, kind: str
) -> None:
    client.alter_collection_properties(loaded, {key: SLOW})
    call(client, loaded)
    with pytest.raises(MilvusException) as refused:
        call(client, loaded)
    assert (refused.value.code, refused.value.message) == (
        8,
        f"request is rejected by grpc RateLimiter middleware, please retry later: rate limit exceeded[rate={rate}]",
    )
    for other_key, other_call, _, _ in CALLS:
        if other_key != key:
            other_call(client, loaded)
    client.alter_collection_properties(loaded, {key: "1000000"})
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            call(client, loaded)
            break
        except MilvusException as error:
            assert error.code == 8 and time.monotonic() < deadline, error
    client.alter_collection_properties(loaded, {key: "0"})
    with pytest.raises(MilvusException) as none:
        call(client, loaded)
    assert (none.value.code, none.value.message) == (9, f"quota exceeded[reason=rate type: {kind}]")
    client.drop_collection_properties(loaded, [key])
    call(client, loaded)
    call(client, loaded)


@pytest.mark.parametrize("value", ["-1", "", "fast", "nan", "inf"])
def test_a_negative_or_non_numeric_rate_limits_nothing(client: MilvusClient, loaded: str, value: str) -> None:
    client.alter_collection_properties(loaded, {"collection.searchRate.max.vps": value})
    for _ in range(3):
        _search(client, loaded)


def test_rate_refusals_have_their_own_form_over_rest(server: Server, client: MilvusClient, loaded: str) -> None:
    client.alter_collection_properties(loaded, {"collection.queryRate.max.qps": SLOW})
    body = {"collectionName": loaded, "filter": "id == 1"}
    first, second = (requests.post(f"{server.uri}/v2/vectordb/entities/query", json=body).json() for _ in range(2))
    assert first["code"] == 0
    assert second == {
        "code": 1807,
        "message": "request is rejected by limiter, error: request is rejected by grpc RateLimiter middleware, "
        "please retry later: rate limit exceeded[rate=0.001]",
    }


def test_rest_answers_a_reached_disk_quota_in_its_own_words(server: Server, client: MilvusClient, loaded: str) -> None:
    client.insert(loaded, c1_rows(10))
    client.flush(loaded)
    client.alter_collection_properties(loaded, {"collection.diskProtection.diskQuota.mb": "0"})
    body: dict[str, Any] = {"collectionName": loaded, "data": c1_rows(1)}
    assert requests.post(f"{server.uri}/v2/vectordb/entities/insert", json=body).json() == {
        "code": 1807,
        "message": "request is rejected by limiter, error: "
        "quota exceeded[reason=disk quota exceeded, please allocate more resources]",
    }
