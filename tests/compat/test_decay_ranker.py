"""Decay rankers in hybrid and plain searches, against a slow reference."""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from grpc_calls import pairs, search_request
from hybrid_reference import LARGER_IS_NEARER, Part, turned
from pymilvus import DataType, Function, FunctionScore, FunctionType, MilvusClient, MilvusException

ROWS, SEALED, DIM = 300, 200, 4
METRICS = {"u": "L2", "v": "COSINE"}
COMBINATIONS: dict[str, Callable[[list[float]], float]] = {
    "max": max,
    "sum": sum,
    "avg": lambda found: sum(found) / len(found),
}


class World:
    """`age` is a float, `year` a nullable integer."""

    def __init__(self, client: MilvusClient) -> None:
        self.client, self.name = client, f"decay_{uuid.uuid4().hex[:8]}"
        schema = client.create_schema(enable_dynamic_field=True)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("age", DataType.DOUBLE)
        schema.add_field("year", DataType.INT32, nullable=True)
        schema.add_field("text", DataType.VARCHAR, max_length=9)
        indexes = client.prepare_index_params()
        for name, metric in METRICS.items():
            schema.add_field(name, DataType.FLOAT_VECTOR, dim=DIM)
            indexes.add_index(name, index_type="FLAT", metric_type=metric)
        client.create_collection(self.name, schema=schema, index_params=indexes)
        rng = np.random.default_rng(6)
        vectors = rng.normal(size=(2, ROWS, DIM)).astype(np.float32).tolist()
        self.values: dict[str, list[Any]] = {
            "age": (rng.random(ROWS) * 40).tolist(),
            "year": [None if i % 9 == 0 else int(i % 50) for i in range(ROWS)],
        }
        rows = [
            {"id": i, "text": "t", "u": vectors[0][i], "v": vectors[1][i], **{k: v[i] for k, v in self.values.items()}}
            for i in range(ROWS)
        ]
        client.insert(self.name, rows[:SEALED])
        client.flush(self.name)
        client.insert(self.name, rows[SEALED:])

    def part(self, field: str, limit: int, seed: int) -> Part:
        query = np.random.default_rng(seed).normal(size=(2, DIM)).tolist()
        return Part(field, METRICS[field], query, limit)


def _factor(value: Any, params: dict[str, Any]) -> float:
    if value is None:
        return 0.0
    scale, decay = params["scale"], params.get("decay", 0.5)
    far = max(0.0, abs(value - params["origin"]) - params.get("offset", 0))
    if params["function"] == "gauss":
        return math.exp(far**2 * math.log(decay) / scale**2)
    if params["function"] == "exp":
        return math.exp(far * math.log(decay) / scale)
    linear: float = max(decay, 1 - far * (1 - decay) / scale)
    return linear


def _expected(world: World, parts: list[Part], field: str, params: dict[str, Any]) -> list[list[tuple[int, float]]]:
    answers = []
    for query in range(2):
        scores: dict[int, list[float]] = {}
        for part in parts:
            for key, score in part.hits(world.client, world.name, None)[query]:
                similarity = score if part.metric in LARGER_IS_NEARER else turned(score)
                if params.get("norm_score"):
                    similarity = (1 + score) / 2 if part.metric == "COSINE" else turned(score)
                scores.setdefault(key, []).append(float(similarity))
        combine = COMBINATIONS[params.get("score_mode", "max")]
        hits = [(key, combine(found) * _factor(world.values[field][key], params)) for key, found in scores.items()]
        answers.append(sorted(hits, key=lambda hit: (-hit[1], hit[0])))
    return answers


def _function(field: str, params: dict[str, Any]) -> Function:
    return Function(
        name="decay",
        function_type=FunctionType.RERANK,
        input_field_names=[field],
        params={"reranker": "decay", **params},
    )


def _random_params(chance: random.Random) -> dict[str, Any]:
    params: dict[str, Any] = {"function": chance.choice(["gauss", "exp", "linear"]), "origin": 20, "scale": 7}
    for name, choices in (("offset", [0, 3]), ("decay", [0.2, 0.9]), ("score_mode", ["max", "sum", "avg"])):
        if chance.random() < 0.5:
            params[name] = chance.choice(choices)
    if chance.random() < 0.3:
        params["norm_score"] = True
    return params


def _check(found: Any, wanted: list[list[tuple[int, float]]], limit: int) -> None:
    for hits, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose([h["distance"] for h in hits], [s for _, s in expected[:limit]], atol=1e-5)
        scores = dict(expected)
        for hit in hits:
            assert hit["distance"] == pytest.approx(scores[hit["id"]], abs=1e-5)


@pytest.mark.parametrize("seed", range(30))
def test_a_hybrid_search_with_a_decay_agrees_with_the_slow_reference(world: World, seed: int) -> None:
    chance = random.Random(seed)
    params, field = _random_params(chance), chance.choice(["age", "year"])
    parts = [world.part(name, chance.choice([5, 40]), seed + n) for n, name in enumerate(chance.choices("uv", k=2))]
    requests = [part.request() for part in parts]
    found = world.client.hybrid_search(world.name, requests, _function(field, params), limit=12, output_fields=[field])
    _check(found, _expected(world, parts, field, params), 12)
    for hits in found:
        for hit in hits:
            assert hit["entity"][field] == world.values[field][hit["id"]]


@pytest.mark.parametrize("seed", range(20))
def test_a_plain_search_with_a_decay_orders_its_hits_by_it(world: World, seed: int) -> None:
    chance = random.Random(seed)
    params, field = _random_params(chance), chance.choice(["age", "year"])
    part = world.part(chance.choice("uv"), 25, seed)
    ranker: Any = _function(field, params)
    if chance.random() < 0.5:
        ranker = FunctionScore(functions=[ranker], params={})
    found = world.client.search(
        world.name,
        part.data,
        anns_field=part.anns_field,
        limit=part.limit,
        ranker=ranker,
        output_fields=["text"],
    )
    _check(found, _expected(world, [part], field, params), 25)
    assert all(hit["entity"]["text"] == "t" for hits in found for hit in hits)


def test_a_decay_and_groups_go_together(world: World) -> None:
    part = world.part("v", 100, 1)
    params = {"function": "linear", "origin": 0, "scale": 100}
    found = world.client.hybrid_search(
        world.name, [part.request()], _function("year", params), limit=10, group_by_field="year", output_fields=["year"]
    )[0]
    years = [hit["entity"]["year"] for hit in found]
    assert len(set(years)) == len(years) == 10
    scores = [hit["distance"] for hit in found]
    assert scores == sorted(scores, reverse=True)


GOOD = {"function": "gauss", "origin": "1", "scale": "2"}


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"function": None}, 1101, "decay function not specified"),
        ({"origin": None}, 1101, "decay origin not specified"),
        ({"scale": None}, 1101, "decay scale not specified"),
        ({"origin": "x"}, 1100, "decay param origin: x is not a number"),
        ({"scale": "0"}, 1100, "decay: scale must be > 0, got 0.000000"),
        ({"offset": "-1"}, 1100, "decay: offset must be >= 0, got -1.000000"),
        ({"decay": "1"}, 1100, "decay: decay must be 0 < decay < 1, got 1.000000"),
        (
            {"decay": "0.0001"},
            1100,
            "decay must be between 0.001000 and 0.999000 for numerical stability, got 0.000100",
        ),
        ({"function": "cubic"}, 1100, 'decay: invalid function "cubic", must be one of [gauss, exp, linear]'),
        ({"score_mode": "min"}, 1100, "unsupported score_mode: min, only supports [max, sum, avg]"),
    ],
)
def test_a_bad_decay_is_refused_in_milvus_words(
    world: World, stub: Any, change: dict[str, Any], code: int, text: str
) -> None:
    request = search_request(world.name, [[0.0] * DIM], anns_field="u")
    params = {key: value for key, value in {"reranker": "decay", **GOOD, **change}.items() if value is not None}
    request.function_score.functions.add(name="f", input_field_names=["age"], params=pairs(params))
    answer = stub.Search(request)
    assert answer.status.code == code
    assert text in answer.status.reason


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ([], "decay reranker requires exactly 1 input field, got 0"),
        (["age", "year"], "decay reranker requires exactly 1 input field, got 2"),
        (["text"], "decay input field text must be numeric, got VarChar"),
        (["u"], "unsupported field type: FloatVector"),
        (["nowhere"], "input field nowhere not found in collection schema"),
    ],
)
def test_a_bad_input_of_a_decay_is_refused(world: World, stub: Any, inputs: list[str], text: str) -> None:
    request = search_request(world.name, [[0.0] * DIM], anns_field="u")
    request.function_score.functions.add(
        name="f", input_field_names=inputs, params=pairs({"reranker": "decay", **GOOD})
    )
    answer = stub.Search(request)
    assert answer.status.code == (5 if "unsupported" in text else 1100)
    assert text in answer.status.reason


def test_iterators_take_no_ranker(world: World, stub: Any) -> None:
    params: dict[str, Any] = {"iterator": "True", "search_iter_v2": "True", "search_iter_batch_size": "5"}
    request = search_request(world.name, [[0.0] * DIM], anns_field="u", **params)
    request.function_score.functions.add(name="f", params=pairs({"reranker": "rrf"}))
    assert "function rerank is not supported with search iterator v2" in stub.Search(request).status.reason


def test_a_decay_needs_its_field_loaded(client: MilvusClient, world: World, collection_name: str) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("age", DataType.DOUBLE)
    schema.add_field("u", DataType.FLOAT_VECTOR, dim=DIM)
    indexes = client.prepare_index_params()
    indexes.add_index("u", index_type="FLAT", metric_type="L2")
    client.create_collection(collection_name, schema=schema)
    client.create_index(collection_name, indexes)
    client.load_collection(collection_name, load_fields=["id", "u"])
    with pytest.raises(MilvusException, match="field age is not loaded"):
        client.search(collection_name, [[0.0] * DIM], limit=3, ranker=_function("age", GOOD))
