"""Boost rankers in plain and hybrid searches, against a slow reference."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from grpc_calls import assert_refused, pairs, search_request
from hybrid_reference import RRF, Part
from pymilvus import DataType, Function, FunctionScore, FunctionType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2

ROWS, SEALED, DIM = 200, 120, 4
METRICS = {"u": "L2", "v": "COSINE"}
FILTERS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "": lambda row: True,
    "year > 20": lambda row: row["year"] is not None and row["year"] > 20,
    "text == 't1'": lambda row: row["text"] == "t1",
    "id > 100000": lambda row: False,
}


class World:
    """Sealed and growing rows; `year` has NULLs."""

    def __init__(self, client: MilvusClient) -> None:
        self.client, self.name = client, f"boost_{uuid.uuid4().hex[:8]}"
        schema = client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("year", DataType.INT32, nullable=True)
        schema.add_field("seed", DataType.INT64)
        schema.add_field("text", DataType.VARCHAR, max_length=9)
        indexes = client.prepare_index_params()
        for name, metric in METRICS.items():
            schema.add_field(name, DataType.FLOAT_VECTOR, dim=DIM)
            indexes.add_index(name, index_type="FLAT", metric_type=metric)
        client.create_collection(self.name, schema=schema, index_params=indexes)
        vectors = np.random.default_rng(6).normal(size=(2, ROWS, DIM)).astype(np.float32).tolist()
        self.rows: list[dict[str, Any]] = [
            {
                "id": i,
                "year": None if i % 9 == 0 else i % 50,
                "seed": i % 7,
                "text": f"t{i % 3}",
                "u": vectors[0][i],
                "v": vectors[1][i],
            }
            for i in range(ROWS)
        ]
        client.insert(self.name, self.rows[:SEALED])
        client.flush(self.name)
        client.insert(self.name, self.rows[SEALED:])

    def part(self, field: str, limit: int, seed: int) -> Part:
        query = np.random.default_rng(seed).normal(size=(2, DIM)).tolist()
        return Part(field, METRICS[field], query, limit)

    def search(self, part: Part, score: FunctionScore, limit: int, **more: Any) -> list[list[tuple[int, float]]]:
        found = self.client.search(
            self.name, part.data, anns_field=part.anns_field, limit=limit, ranker=score, search_params={}, **more
        )
        return [[(hit["id"], hit["distance"]) for hit in hits] for hits in found]


def _function(**params: Any) -> Function:
    return Function(
        name="b", input_field_names=[], function_type=FunctionType.RERANK, params={"reranker": "boost", **params}
    )


def _hybrid(world: World, parts: list[Part], functions: list[dict[str, str]], params: dict[str, str]) -> Any:
    searches = [search_request(world.name, part.data, part.limit, anns_field=part.anns_field) for part in parts]
    window = pairs({"limit": "9"})
    request = milvus_pb2.HybridSearchRequest(collection_name=world.name, requests=searches, rank_params=window)
    for function in functions:
        request.function_score.functions.add(name="f", params=pairs(function))
    request.function_score.params.extend(pairs(params))
    return request


def _merged(values: list[float], mode: str) -> float:
    return sum(values) if mode == "sum" else float(np.prod(values))


def _boosted(world: World, part: Part, functions: list[tuple[str, float]], modes: dict[str, str]) -> list[Any]:
    """All rows of each query, nearest first. The scores of L2 are negative while they are boosted, as in Milvus."""
    whole = Part(part.anns_field, part.metric, part.data, ROWS)
    sign = -1 if part.metric == "L2" else 1
    answers = []
    for hits in whole.hits(world.client, world.name, None):
        scores = []
        for key, distance in hits:
            own = [weight for text, weight in functions if FILTERS[text](world.rows[key])]
            score = sign * float(distance)
            if own:
                score = _merged([score, _merged(own, modes.get("function_mode", ""))], modes.get("boost_mode", ""))
            scores.append((key, sign * score))
        answers.append(sorted(scores, key=lambda hit: (-sign * hit[1], hit[0])))
    return answers


@pytest.mark.parametrize("seed", range(16))
def test_boosts_change_the_scores_of_the_rows_that_pass_their_filters(world: World, seed: int) -> None:
    chance = random.Random(seed)
    functions = [(chance.choice(list(FILTERS)), chance.choice([0.25, 0.5, 2, 3])) for _ in range(chance.choice([1, 3]))]
    modes = {name: chance.choice(["sum", "multiply"]) for name in ("boost_mode", "function_mode")}
    part = world.part(chance.choice("uv"), ROWS, seed)
    score = FunctionScore(
        functions=[_function(weight=weight, **({"filter": text} if text else {})) for text, weight in functions],
        params=modes,
    )
    found = world.search(part, score, ROWS)
    for hits, expected in zip(found, _boosted(world, part, functions, modes), strict=True):
        assert len(hits) == ROWS
        np.testing.assert_allclose([s for _, s in hits], [s for _, s in expected], atol=1e-5)
        scores = dict(expected)
        for key, distance in hits:
            assert distance == pytest.approx(scores[key], abs=1e-5)


def test_a_boost_orders_the_nearest_rows_of_each_segment(world: World) -> None:
    part = world.part("v", 10, 3)
    plain = {key for hits in Part("v", "COSINE", part.data, 10).hits(world.client, world.name, None) for key, _ in hits}
    far = FunctionScore(functions=[_function(weight=100, filter="text == 't1'")], params={"boost_mode": "sum"})
    found = world.search(part, far, 10)
    assert all(distance > 99 for hits in found for key, distance in hits if key % 3 == 1)
    for hits in found:
        assert [s for _, s in hits] == sorted((s for _, s in hits), reverse=True)
    assert {key for hits in found for key, _ in hits} != plain


def test_boosts_of_a_hybrid_search_come_before_its_ranker(world: World, stub: Any) -> None:
    modes = {"boost_mode": "sum"}
    boost = _function(weight=3, filter="year > 20")
    parts = [world.part("u", 15, 1), world.part("v", 15, 2)]
    ranker = {"reranker": "rrf", "k": "5"}
    answer = stub.HybridSearch(_hybrid(world, parts, [boost.params, ranker], modes))
    ids, scores = list(answer.results.ids.int_id.data), list(answer.results.scores)
    boosted = [world.search(part, FunctionScore(functions=[boost], params=modes), 15) for part in parts]
    for query in range(2):
        lists = [[(key, np.float32(s)) for key, s in answers[query]] for answers in boosted]
        expected = RRF(5).fuse(lists, ["L2", "COSINE"])[:9]
        start = sum(answer.results.topks[:query])
        assert ids[start : start + 9] == [key for key, _ in expected]
        assert scores[start : start + 9] == pytest.approx([score for _, score in expected], abs=1e-6)


def test_random_scores_depend_on_the_seed_and_the_field(world: World) -> None:
    part = world.part("v", 50, 4)

    def factors(**random_score: Any) -> dict[int, float]:
        boost = _function(weight=2, random_score=random_score)
        hits = world.search(part, FunctionScore(functions=[boost], params={"boost_mode": "sum"}), ROWS)[0]
        return {key: score - plain[key] for key, score in hits}

    whole = Part("v", "COSINE", part.data, ROWS).hits(world.client, world.name, None)[0]
    plain = {key: float(score) for key, score in whole}
    by_field, again, other = factors(seed=7, field="seed"), factors(seed=7, field="seed"), factors(seed=8, field="seed")
    assert by_field == again
    assert by_field != other
    assert all(-1e-5 <= factor < 2 for factor in by_field.values())
    groups: dict[int, set[float]] = {}
    for key, factor in by_field.items():
        groups.setdefault(world.rows[key]["seed"], set()).add(round(factor, 4))
    assert len(groups) == 7
    assert all(max(values) - min(values) < 1e-3 for values in groups.values())
    by_place = factors(seed=7)
    assert len({round(factor, 3) for factor in by_place.values()}) > 50


@pytest.mark.parametrize(
    ("params", "score_params", "text"),
    [
        ({}, {}, "failed to create query plan: must set weight params for weight scorer: query plan failed"),
        ({"weight": "x"}, {}, 'parse function scorer weight params failed: strconv.ParseFloat: parsing "x"'),
        ({"weight": "1e39"}, {}, "value out of range"),
        ({"weight": "1", "filter": "nowhere @@ 1"}, {}, "failed to create query plan: parse expr failed: cannot parse"),
        ({"weight": "1", "random_score": "{"}, {}, "failed to create query plan: "),
        ({"weight": "1", "random_score": "[]"}, {}, "cannot unmarshal array into Go value of type map[string]"),
        ({"weight": "1", "random_score": '{"seed": "1"}'}, {}, "random seed must be number"),
        ({"weight": "1", "random_score": '{"field": 1}'}, {}, "random seed field name must be string"),
        ({"weight": "1", "random_score": '{"field": "nowhere"}'}, {}, "random seed field not found"),
        (
            {"weight": "1", "random_score": '{"field": "text"}'},
            {},
            "only support int64 field as random seed, but got VarChar",
        ),
        ({"weight": "1"}, {"boost_mode": "max"}, "unknown boost mode: max"),
        ({"weight": "1"}, {"function_mode": "max"}, "unknown function mode: max"),
    ],
)
def test_a_bad_boost_is_refused_in_milvus_words(
    world: World, stub: Any, params: dict[str, str], score_params: dict[str, str], text: str
) -> None:
    request = search_request(world.name, [[0.0] * DIM], anns_field="u")
    request.function_score.functions.add(name="f", params=pairs({"reranker": "boost", **params}))
    request.function_score.params.extend(pairs(score_params))
    answer = stub.Search(request)
    assert answer.status.code == 1100
    assert text in answer.status.reason
    assert answer.status.reason.endswith("invalid parameter")


@pytest.mark.parametrize(
    "params",
    [{"group_by_field": "text"}, {"iterator": "True", "search_iter_v2": "True", "search_iter_batch_size": "5"}],
)
def test_groups_and_iterators_take_no_boost(world: World, stub: Any, params: dict[str, Any]) -> None:
    request = search_request(world.name, [[0.0] * DIM], anns_field="u", **params)
    request.function_score.functions.add(name="f", params=pairs({"reranker": "boost", "weight": "1"}))
    assert "don't support use segment scorer with group_by or search_iterator" in stub.Search(request).status.reason


def test_a_hybrid_search_needs_another_ranker_beside_its_boosts(world: World, stub: Any) -> None:
    request = _hybrid(world, [world.part("u", 5, 1)], [{"reranker": "boost", "weight": "1"}], {})
    assert_refused(stub.HybridSearch(request).status, 2400, "rerankMeta is nil, cannot build rerank chain")
