"""Model rankers in plain and hybrid searches, with a small local model server."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from grpc_calls import assert_refused, pairs, search_request
from model_server import ModelServer, model_server, score_of
from pymilvus import AnnSearchRequest, DataType, Function, FunctionType, MilvusClient

ROWS, DIM = 60, 4
QUERIES = ["abc", "xyz"]


class World:
    """`text` is NULL in some rows."""

    def __init__(self, client: MilvusClient, service: ModelServer) -> None:
        self.client, self.service, self.name = client, service, f"model_{uuid.uuid4().hex[:8]}"
        schema = client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("text", DataType.VARCHAR, max_length=99, nullable=True)
        schema.add_field("year", DataType.INT32)
        indexes = client.prepare_index_params()
        for name in "uv":
            schema.add_field(name, DataType.FLOAT_VECTOR, dim=DIM)
            indexes.add_index(name, index_type="FLAT", metric_type="L2")
        client.create_collection(self.name, schema=schema, index_params=indexes)
        rng = np.random.default_rng(3)
        self.vectors = rng.normal(size=(2, ROWS, DIM)).astype(np.float32).tolist()
        letters = rng.choice(list("abcxyz"), (ROWS, 4)).tolist()
        self.texts = [None if i % 10 == 0 else "".join(letters[i]) for i in range(ROWS)]
        rows = [
            {"id": i, "text": self.texts[i], "year": i % 3, "u": self.vectors[0][i], "v": self.vectors[1][i]}
            for i in range(ROWS)
        ]
        client.insert(self.name, rows[:40])
        client.flush(self.name)
        client.insert(self.name, rows[40:])

    def ranked(self, query: str, keys: Any) -> list[tuple[int, float]]:
        scores = [(key, score_of(query, self.texts[key] or "")) for key in set(keys)]
        return sorted(scores, key=lambda hit: (-np.float32(hit[1]), hit[0]))


@pytest.fixture(scope="module")
def world(_shared_client: MilvusClient) -> Iterator[World]:
    with model_server() as service:
        made = World(_shared_client, service)
        yield made
        _shared_client.drop_collection(made.name)


def _function(world: World, **params: Any) -> Function:
    given = {"reranker": "model", "provider": "tei", "endpoint": world.service.url, "queries": QUERIES, **params}
    return Function(name="m", input_field_names=["text"], function_type=FunctionType.RERANK, params=given)


@pytest.mark.parametrize("provider", ["tei", "vllm"])
def test_a_search_is_in_the_order_of_the_models_scores(world: World, provider: str) -> None:
    data, field = world.vectors[0][:2], "u"
    plain = world.client.search(world.name, data, anns_field=field, limit=12)
    ranker = _function(world, provider=provider, max_client_batch_size=5)
    found = world.client.search(world.name, data, anns_field=field, limit=12, ranker=ranker, output_fields=["year"])
    for query, before, hits in zip(QUERIES, plain, found, strict=True):
        expected = world.ranked(query, [hit["id"] for hit in before])
        assert [(hit["id"], hit["distance"]) for hit in hits] == [(k, pytest.approx(s, abs=1e-6)) for k, s in expected]
        assert all(hit["entity"]["year"] == hit["id"] % 3 for hit in hits)


def test_a_hybrid_search_scores_each_row_once(world: World) -> None:
    parts = [AnnSearchRequest(world.vectors[n][:2], name, {}, 15) for n, name in enumerate("uv")]
    lists = [world.client.search(world.name, p.data, anns_field=p.anns_field, limit=15) for p in parts]
    world.service.requests.clear()
    found = world.client.hybrid_search(world.name, parts, _function(world), limit=10)
    for number, (query, hits) in enumerate(zip(QUERIES, found, strict=True)):
        keys = {hit["id"] for one in lists for hit in one[number]}
        expected = world.ranked(query, keys)[:10]
        assert [(hit["id"], hit["distance"]) for hit in hits] == [(k, pytest.approx(s, abs=1e-6)) for k, s in expected]
        assert len(world.service.requests[number][2]["texts"]) == len(keys)


def test_a_failing_service_fails_the_search(world: World, stub: Any) -> None:
    request = search_request(world.name, [[0.0] * DIM], anns_field="u")
    params = {"reranker": "model", "provider": "tei", "endpoint": world.service.url, "queries": '["a"]'}
    request.function_score.functions.add(name="m", input_field_names=["text"], params=pairs(params))
    world.service.failures = [(400, b"no such model")]
    assert_refused(stub.Search(request).status, 2400, "call service failed, errs:[400 Bad Request, no such model]")


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"queries": None}, 1100, "rerank_builder: rerank function missing required param: queries"),
        ({"queries": "x"}, 1100, "rerank_builder: parse rerank params [queries] failed"),
        ({"queries": "{}"}, 1100, "cannot unmarshal object into Go value of type []string"),
        ({"queries": "[1]"}, 1100, "cannot unmarshal number into Go value of type string"),
        ({"queries": "[]"}, 1101, "rerank queries must not be empty"),
        ({"queries": json.dumps(["a", "b", "c"])}, 1100, "rerank_model: queries count (3) != nq count (1)"),
        ({"provider": None}, 1100, "rerank_builder: lost rerank params:provider"),
        ({"provider": "best"}, 1100, "rerank_builder: unknown rerank model provider:best: invalid parameter"),
        ({"endpoint": "x"}, 1100, "endpoint: [x] is not a valid http/https link"),
        ({"input": "year"}, 1100, "model input field year must be VarChar, got Int32"),
        ({"input": "nowhere"}, 1100, "input field nowhere not found in collection schema"),
        ({"input": None}, 1100, "model reranker requires exactly 1 input field, got 0"),
    ],
)
def test_a_bad_model_ranker_is_refused_in_milvus_words(
    world: World, stub: Any, change: dict[str, Any], code: int, text: str
) -> None:
    given = {"reranker": "model", "provider": "tei", "endpoint": world.service.url, "queries": '["a"]', "input": "text"}
    given = {key: value for key, value in {**given, **change}.items() if value is not None}
    inputs = [given.pop("input")] if "input" in given else []
    request = search_request(world.name, [[0.0] * DIM], anns_field="u")
    request.function_score.functions.add(name="m", input_field_names=inputs, params=pairs(given))
    answer = stub.Search(request)
    assert answer.status.code == code
    assert text in answer.status.reason
