"""Hybrid search over REST: the two routes, what they answer, and what they refuse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from conftest import Server
from rest_client import Rest

NAME, ROWS = "rest_hybrid", 40


@pytest.fixture(scope="module")
def rest(server: Server) -> Iterator[Rest]:
    """`u` counts up and `v` counts down, both with L2."""
    made = Rest(server.uri)
    fields = [
        {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
        {"fieldName": "u", "dataType": "FloatVector", "elementTypeParams": {"dim": 2}},
        {"fieldName": "v", "dataType": "FloatVector", "elementTypeParams": {"dim": 2}},
        {"fieldName": "a", "dataType": "Int64"},
    ]
    indexes = [{"fieldName": f, "indexName": f, "indexType": "FLAT", "metricType": "L2"} for f in ("u", "v")]
    made.ok("collections/create", {"collectionName": NAME, "schema": {"fields": fields}, "indexParams": indexes})
    made.wait_loaded(NAME)
    rows = [{"id": i, "u": [i, 0], "v": [ROWS - i, 0], "a": i % 4} for i in range(ROWS)]
    made.ok("entities/insert", {"collectionName": NAME, "data": rows})
    yield made
    made.ok("collections/drop", {"collectionName": NAME})


def _body(**more: Any) -> dict[str, Any]:
    parts = [{"data": [[0, 0]], "annsField": name, "limit": 10} for name in ("u", "v")]
    return {"collectionName": NAME, "search": parts, "rerank": {"strategy": "rrf", "params": {"k": 1}}, **more}


@pytest.mark.parametrize("route", ["hybrid_search", "advanced_search"])
def test_both_routes_fuse_the_hits_of_all_searches(rest: Rest, route: str) -> None:
    answer = rest.post(f"entities/{route}", _body(limit=4, outputFields=["a"]))
    assert answer["topks"] == [4]
    assert [(row["id"], row["a"]) for row in answer["data"]] == [(0, 0), (39, 3), (1, 1), (38, 2)]
    assert [row["distance"] for row in answer["data"]] == pytest.approx([1 / 2, 1 / 2, 1 / 3, 1 / 3])


def test_a_weighted_ranker_of_distances_puts_the_smallest_first(rest: Rest) -> None:
    ranker = {"strategy": "weighted", "params": {"weights": [1.0, 0.5]}}
    body = _body(rerank=ranker, limit=3, offset=1)
    for part in body["search"]:
        part["limit"] = ROWS
    data = rest.ok("entities/hybrid_search", body)
    sums = sorted((i * i + 0.5 * (ROWS - i) ** 2, i) for i in range(ROWS))
    assert [(row["distance"], row["id"]) for row in data] == sums[1:4]


def test_each_search_has_its_filter_and_parameters(rest: Rest) -> None:
    body = _body(limit=20)
    body["search"][0] |= {"filter": "a == {one}", "exprParams": {"one": 1}}
    body["search"][1] |= {"params": {"params": {"radius": 10}}, "metricType": "L2"}
    assert {row["id"] for row in rest.ok("entities/hybrid_search", body)} == {*range(1, ROWS, 4), 37, 38, 39}


def test_a_function_ranks_in_place_of_the_strategy(rest: Rest) -> None:
    function = {
        "name": "f",
        "type": "Rerank",
        "inputFieldNames": [],
        "outputFieldNames": [],
        "params": {"reranker": "weighted", "weights": [1, 0]},
    }
    body = _body(functionScore={"functions": [function]}, limit=3)
    body["search"][1]["limit"] = 1
    assert [row["id"] for row in rest.ok("entities/hybrid_search", body)] == [0, 39, 1]


def test_without_hits_the_data_is_empty(rest: Rest) -> None:
    body = _body()
    for part in body["search"]:
        part["filter"] = "a > 100"
    assert rest.post("entities/hybrid_search", body) == {"code": 0, "cost": 0, "data": []}


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"rerank": None}, 1100, "rerank_builder: unsupported rank type "),
        ({"rerank": {"strategy": "ws"}}, 1100, "rerank_builder: unsupported rank type ws"),
        ({"limit": -1}, 1100, "invalid max query result window, limit [-1] is invalid, should be greater than 0"),
        ({"search": None}, 1100, "nq [0] is invalid"),
        ({"consistencyLevel": "Sometimes"}, 1100, "consistencyLevel can only be"),
        ({"collectionName": None}, 1802, "missing required parameters"),
        ({"partitionNames": ["nowhere"]}, 1100, "partition name nowhere not found"),
        ({"outputFields": ["nowhere"]}, 1100, "field nowhere not exist"),
        ({"functionScore": {"functions": [{"name": "f"}]}}, 1100, "Unsupported function type: "),
    ],
)
def test_a_bad_body_is_refused_in_milvus_words(rest: Rest, change: dict[str, Any], code: int, text: str) -> None:
    answer = rest.post("entities/hybrid_search", _body(**change))
    assert answer["code"] == code
    assert text in answer["message"]


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"limit": None}, 1100, "topk [0] is invalid, it should be in range [1, 16384], but got 0"),
        ({"annsField": None}, 1801, "search without annsField, but already found multiple vector fields: [u, v,,,]"),
        ({"annsField": "a"}, 1801, "cannot find a vector field"),
        ({"data": [[1, 2, 3]]}, 1801, "dim"),
        ({"params": 3}, 1801, "cannot unmarshal number"),
    ],
)
def test_a_bad_search_in_the_body_is_refused(rest: Rest, change: dict[str, Any], code: int, text: str) -> None:
    body = _body()
    body["search"][1] |= change
    answer = rest.post("entities/hybrid_search", body)
    assert answer["code"] == code
    assert text in answer["message"]


def test_explain_hybrid_shows_the_segments_of_each_search(rest: Rest) -> None:
    body = _body()
    body["search"][0]["filter"] = "a == 1"
    answer = requests.post(f"{rest.uri}/milvine/v1/explain_hybrid", json=body, timeout=30).json()
    assert answer["code"] == 0
    assert [[look["rowsKept"] for look in looks] for looks in answer["data"]] == [[10], [40]]


def test_groups_are_found_by_search_and_hybrid_search(rest: Rest) -> None:
    body = {"collectionName": NAME, "data": [[0, 0]], "annsField": "u", "limit": 3, "groupingField": "a"}
    assert [row["id"] for row in rest.ok("entities/search", body)] == [0, 1, 2]
    assert [row["id"] for row in rest.ok("entities/search", body | {"groupSize": 2})] == [0, 4, 1, 5, 2, 6]
    assert [row["id"] for row in rest.ok("entities/search", body | {"groupSize": 2, "offset": 2})] == [2, 6, 3, 7]
    hybrid = _body(limit=2, groupingField="a", groupSize=2, outputFields=["a"])
    assert [row["a"] for row in rest.ok("entities/hybrid_search", hybrid)] == [0, 0, 3, 3]
    refused = rest.post("entities/search", body | {"groupSize": 11})
    assert refused["code"] == 1100


def test_a_plain_search_is_ranked_by_a_function(rest: Rest) -> None:
    function = {
        "name": "f",
        "type": "Rerank",
        "inputFieldNames": ["a"],
        "outputFieldNames": [],
        "params": {"reranker": "decay", "function": "linear", "origin": 3, "scale": 4, "decay": 0.01},
    }
    body = {"collectionName": NAME, "data": [[0, 0]], "annsField": "u", "limit": 4}
    found = rest.ok("entities/search", body | {"functionScore": {"functions": [function]}})
    scores = {row["id"]: row["distance"] for row in found}
    assert set(scores) == {0, 1, 2, 3}
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert scores[3] == pytest.approx(1 - 2 * math.atan(9) / math.pi, rel=1e-5)


def test_a_rank_function_needs_only_its_type_and_parameters(rest: Rest) -> None:
    function = {"type": "Rerank", "params": {"reranker": "boost", "filter": "a > 1", "weight": 100}}
    body = {"collectionName": NAME, "data": [[0, 0]], "annsField": "u", "limit": 4}
    found = rest.ok("entities/search", body | {"functionScore": {"functions": [function]}})
    assert found
    for wrong in ("Bogus", ""):
        answer = rest.post("entities/search", body | {"functionScore": {"functions": [function | {"type": wrong}]}})
        assert (answer["code"], f"Unsupported function type: {wrong}" in answer["message"]) == (1100, True), answer


_SCORED: dict[str, Any] = {
    "op": "map",
    "outputs": ["$score"],
    "expr": {"name": "num_combine", "args": [{"column": "$id"}, {"column": "a"}], "params": {"mode": "sum"}},
}


def _chained(*ops: Any, stage: str = "FunctionChainStageL2Rerank") -> dict[str, Any]:
    chains = [{"name": "c", "stage": stage, "ops": list(ops)}]
    return {"collectionName": NAME, "data": [[0, 0]], "annsField": "u", "limit": 4, "functionChains": chains}


def test_a_search_is_ranked_by_a_function_chain(rest: Rest) -> None:
    ops = [
        _SCORED,
        {"op": "sort", "inputs": ["$score"], "params": {"desc": True}},
        {"op": "limit", "params": {"limit": 2}},
    ]
    found = rest.ok("entities/search", _chained(*ops))
    assert [(row["id"], row["distance"]) for row in found] == [(3, 6), (2, 4)]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (_chained(_SCORED, stage="L2"), "functionChains[0]: unsupported function chain stage: L2"),
        (_chained(_SCORED, stage="FunctionChainStageIngestion"), "is not supported in search request"),
        (_chained({"op": " "}), "functionChains[0]: ops[0]: op name is empty"),
        (_chained({"op": "map", "expr": {}}), "ops[0]: expr: expr name is empty"),
        (
            _chained({"op": "map", "expr": {"name": "f", "args": [{"column": "a", "literal": 1}]}}),
            "expr: args[0]: exactly one of column or literal is required",
        ),
        (_chained({"op": "map", "expr": {"name": "f", "args": [{"column": " "}]}}), "args[0]: column name is empty"),
        (_chained({"op": "limit", "params": {"limit": None}}), 'params: param "limit": function param value is nil'),
        (_chained({"op": "limit", "params": {" ": 1}}), "params: param name is empty"),
    ],
)
def test_a_bad_function_chain_is_refused_in_milvus_words(rest: Rest, body: dict[str, Any], text: str) -> None:
    refused = rest.post("entities/search", body)
    assert refused["code"] == 1100
    assert text in refused["message"]


def test_a_hybrid_search_takes_no_function_chain(rest: Rest) -> None:
    refused = rest.post("entities/hybrid_search", _body(functionChains=[{"name": "c"}]))
    assert "functionChains is not supported for hybrid search yet" in refused["message"]


def test_queries_are_ordered_and_aggregated(rest: Rest) -> None:
    ordered = {"collectionName": NAME, "orderByFields": ["a:desc", "id"], "outputFields": ["a"], "limit": 3}
    assert [(row["a"], row["id"]) for row in rest.ok("entities/query", ordered)] == [(3, 3), (3, 7), (3, 11)]
    names = ["a", "count(*)", "avg(id)"]
    grouped = {"collectionName": NAME, "groupByFields": ["a"], "outputFields": names, "limit": 2, "offset": 1}
    assert rest.ok("entities/query", grouped) == [{"a": a, "count(*)": 10, "avg(id)": 18 + a} for a in (1, 2)]
    total = {"collectionName": NAME, "outputFields": ["max(id)"], "filter": "id < 30"}
    assert rest.ok("entities/query", total) == [{"max(id)": 29}]
