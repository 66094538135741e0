"""The route of Milvine that explains how a search was run."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import requests
from conftest import Server
from rest_client import Rest

SEALED, GROWING, DIM = 6000, 30, 8


def explain(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = requests.post(f"{server.uri}/milvine/v1/explain", json=body, timeout=30).json()
    return answer


@pytest.fixture
def filled(server: Server, collection_name: str) -> str:
    rest = Rest(server.uri)
    rest.quick_create(collection_name, DIM)
    vectors = np.random.default_rng(1).normal(size=(SEALED + GROWING, DIM)).tolist()
    rows = [{"id": i, "vector": v, "part": i % 100} for i, v in enumerate(vectors)]
    rest.ok("entities/insert", {"collectionName": collection_name, "data": rows[:SEALED]})
    rest.ok("collections/flush", {"collectionName": collection_name})
    deadline = time.monotonic() + 30
    while rest.ok("indexes/describe", {"collectionName": collection_name, "indexName": "vector"})[0]["pendingRows"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    rest.ok("entities/insert", {"collectionName": collection_name, "data": rows[SEALED:]})
    return collection_name


def test_explain_shows_rows_share_and_plan_of_each_segment(server: Server, filled: str) -> None:
    body = {"collectionName": filled, "data": [[0.1] * DIM], "limit": 5, "searchParams": {"params": {"ef": 50}}}

    def looks(**more: Any) -> dict[str, Any]:
        answer = explain(server, body | more)
        assert answer["code"] == 0, answer
        return {look["state"]: look for look in answer["data"]}

    found = looks()
    assert set(found) == {"sealed", "growing"}
    assert all(look["milliseconds"] > 0 and look["segmentId"] > 0 for look in found.values())
    growing, sealed = found["growing"], found["sealed"]
    assert (growing["rows"], growing["rowsKept"], growing["plan"]) == (GROWING, GROWING, "scan")
    # A loaded segment gets a new index a moment after the build.
    deadline = time.monotonic() + 10
    while sealed["plan"] == "scan" and time.monotonic() < deadline:
        sealed = looks()["sealed"]
    assert (sealed["rows"], sealed["share"], sealed["plan"], sealed["effort"]) == (SEALED, 1.0, "HNSW", 50)
    few = looks(filter="part < 3")["sealed"]
    assert (few["rowsKept"], few["share"], few["plan"]) == (180, 0.03, "scan")
    most = looks(filter="part < 90")["sealed"]
    assert (most["share"], most["plan"]) == (0.9, "HNSW")
    assert most["effort"] > 50, "fewer allowed rows need more effort"
    assert set(looks(searchParams={"ignore_growing": True})) == {"sealed"}


def test_explaining_refuses_what_a_search_refuses(server: Server, filled: str) -> None:
    assert explain(server, {"collectionName": "nope", "data": [[0.1] * DIM]})["code"] == 100
    answer = explain(server, {"collectionName": filled, "data": [[0.1] * DIM], "filter": "part >"})
    assert answer["code"] == 1100
    assert "cannot parse expression" in answer["message"]


def test_explain_is_denied_with_reading(server: Server) -> None:
    rest = Rest(server.uri)
    database, body = "explained", {"dbName": "explained", "collectionName": "c", "data": [[0.1, 0.2]]}
    rest.ok("databases/create", {"dbName": database})
    rest.quick_create("c", dbName=database)
    assert explain(server, body)["code"] == 0
    rest.ok("databases/alter", {"dbName": database, "properties": {"database.force.deny.reading": "true"}})
    assert explain(server, body)["code"] == rest.post("entities/search", body)["code"] == 1807
    rest.ok("databases/alter", {"dbName": database, "properties": {"database.force.deny.reading": "false"}})
    rest.ok("collections/drop", {"dbName": database, "collectionName": "c"})
    rest.ok("databases/drop", {"dbName": database})


def _plan(server: Server, route: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = requests.post(f"{server.uri}/milvine/v1/{route}", json=body, timeout=30).json()
    assert answer["code"] == 0, answer
    assert all(step.pop("milliseconds") >= 0 for step in answer["plan"])
    assert answer["plan"].pop(0) == {"step": "prepare"}
    plan: list[dict[str, Any]] = answer["plan"]
    return plan


def test_the_plan_shows_each_step_of_a_composed_search(server: Server, collection_name: str) -> None:
    rest = Rest(server.uri)
    rest.quick_create(collection_name)
    rows = [{"id": i, "vector": [float(i), 1.0], "part": i % 4} for i in range(20)]
    rest.ok("entities/insert", {"collectionName": collection_name, "data": rows})
    body = {"collectionName": collection_name, "data": [[1.0, 0.0]], "limit": 3}
    search = {"step": "search", "field": "vector", "metric": "COSINE", "wanted": 3, "candidates": 3}
    assert _plan(server, "explain", body) == [search]
    assert _plan(server, "explain", body | {"orderByFields": ["id"]}) == [search, {"step": "order", "hits": 3}]
    grouped = search | {"groupedBy": ["$meta"], "groupSize": 2, "candidates": 6}
    own = body | {"groupingField": "part", "groupSize": 2}
    assert _plan(server, "explain", own) == [grouped, {"step": "group", "hits": 6}]
    both = own | {"orderByFields": ["id"]}
    assert _plan(server, "explain", both) == [grouped, {"step": "group and order", "hits": 6}]
    buckets = body | {"searchAggregation": {"fields": ["id"], "size": 2}}
    assert _plan(server, "explain", buckets)[1:] == [{"step": "aggregate", "levels": 1}]
    part = {"data": [[1.0, 0.0]], "annsField": "vector", "limit": 3}
    hybrid = {
        "collectionName": collection_name,
        "search": [part, part | {"filter": "id > 50"}],
        "rerank": {"strategy": "rrf", "params": {"k": 60}},
        "limit": 2,
        "outputFields": ["id"],
    }
    assert _plan(server, "explain_hybrid", hybrid) == [
        search,
        search | {"candidates": 0},
        {"step": "rank", "ranker": "rrf", "candidates": 3, "hits": 2},
        {"step": "fetch", "fields": ["id"], "hits": 2},
    ]


def test_the_plan_shows_what_changes_scores_in_segments(server: Server, collection_name: str) -> None:
    rest = Rest(server.uri)
    rest.quick_create(collection_name)
    rows = [{"id": i, "vector": [float(i), 1.0]} for i in range(5)]
    rest.ok("entities/insert", {"collectionName": collection_name, "data": rows})
    params = {"reranker": "boost", "filter": "id > 2", "weight": "0.5"}
    boost = {"name": "b", "type": "Rerank", "inputFieldNames": [], "params": params}
    body = {"collectionName": collection_name, "data": [[1.0, 0.0]], "limit": 3}
    (search,) = _plan(server, "explain", body | {"functionScore": {"functions": [boost], "params": {}}})
    assert search["boosts"] == [{"weight": 0.5, "filtered": True, "random": False}]
    assert (search["boostMode"], search["functionMode"]) == ("multiply", "multiply")
