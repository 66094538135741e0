"""Hybrid search through pymilvus: fusion, windows, output fields, and what is refused."""

from __future__ import annotations

import itertools
import math
import random
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from grpc_calls import assert_refused, pairs, search_request
from hybrid_reference import RRF, Part, Weighted, hybrid
from pymilvus import (
    AnnSearchRequest,
    DataType,
    Function,
    FunctionType,
    MilvusClient,
    MilvusException,
    RRFRanker,
    WeightedRanker,
)
from pymilvus.grpc_gen import milvus_pb2

ROWS, SEALED, DIM = 400, 300, 8
METRICS = {"l2": "L2", "cosine": "COSINE", "ip": "IP", "hamming": "HAMMING", "sparse": "IP"}
PARTITIONS = ("_default", "left", "right")
CASES = 15


def _vectors(rng: np.random.Generator, kind: str, count: int) -> list[Any]:
    if kind == "hamming":
        return [rng.integers(0, 256, DIM, np.uint8).tobytes() for _ in range(count)]
    if kind == "sparse":
        return [{int(i): float(rng.random()) for i in rng.choice(30, 4, replace=False)} for _ in range(count)]
    vectors: list[Any] = rng.normal(size=(count, DIM)).astype(np.float32).round(1).tolist()
    return vectors


class World:
    """Sealed and growing rows in three partitions, deleted ones among them, exact indexes, repeated vectors (ties)."""

    def __init__(self, client: MilvusClient, key_type: DataType) -> None:
        self.client, self.name = client, f"hybrid_{uuid.uuid4().hex[:8]}"
        self.key_type = key_type
        rng = np.random.default_rng(3)
        schema = client.create_schema(enable_dynamic_field=True)
        schema.add_field("id", key_type, is_primary=True, max_length=20)
        schema.add_field("a", DataType.INT64)
        for kind in METRICS:
            if kind == "sparse":
                schema.add_field(kind, DataType.SPARSE_FLOAT_VECTOR)
            elif kind == "hamming":
                schema.add_field(kind, DataType.BINARY_VECTOR, dim=8 * DIM)
            else:
                schema.add_field(kind, DataType.FLOAT_VECTOR, dim=DIM, nullable=kind == "ip")
        client.create_collection(self.name, schema=schema)
        for partition in PARTITIONS[1:]:
            client.create_partition(self.name, partition)
        indexes = client.prepare_index_params()
        for kind, metric in METRICS.items():
            types = {"sparse": "SPARSE_INVERTED_INDEX", "hamming": "BIN_FLAT"}
            indexes.add_index(kind, index_type=types.get(kind, "FLAT"), metric_type=metric)
        client.create_index(self.name, indexes)
        client.load_collection(self.name)
        data = {kind: _vectors(rng, kind, ROWS // 2) * 2 for kind in METRICS}
        data["ip"] = [None if i % 7 == 0 else vector for i, vector in enumerate(data["ip"])]
        rows = [{"id": self.key(i), "a": i % 10, "extra": i, **{k: data[k][i] for k in METRICS}} for i in range(ROWS)]
        for first, last in ((0, SEALED), (SEALED, ROWS)):
            for number, partition in enumerate(PARTITIONS):
                client.insert(self.name, rows[first + number : last : len(PARTITIONS)], partition_name=partition)
            if last == SEALED:
                client.flush(self.name)
        client.delete(self.name, ids=[self.key(i) for i in range(0, ROWS, 13)])

    def key(self, number: int) -> Any:
        return number if self.key_type is DataType.INT64 else f"k{number:04}"

    def search(self, parts: list[Part], ranker: Any, **options: Any) -> list[list[dict[str, Any]]]:
        requests = [part.request() for part in parts]
        return [list(hits) for hits in self.client.hybrid_search(self.name, requests, ranker, **options)]


@pytest.fixture(scope="module", params=[DataType.INT64, DataType.VARCHAR], ids=["int", "text"])
def world(request: Any, _shared_client: MilvusClient) -> Iterator[World]:
    made = World(_shared_client, request.param)
    yield made
    _shared_client.drop_collection(made.name)


def _parts(seed: int, kinds: list[str], nq: int = 1, limit: int = 10) -> list[Part]:
    rng = np.random.default_rng(seed)
    return [Part(kind, METRICS[kind], _vectors(rng, kind, nq), limit) for kind in kinds]


def _assert_same(found: list[list[dict[str, Any]]], wanted: list[list[tuple[Any, np.float32]]]) -> None:
    assert [[hit["id"] for hit in hits] for hits in found] == [[key for key, _ in hits] for hits in wanted]
    for hits, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose([h["distance"] for h in hits], [score for _, score in expected], rtol=1e-6)


def _random_parts(chance: random.Random, seed: int) -> list[Part]:
    kinds = chance.choices(sorted(METRICS), k=chance.choice([1, 2, 2, 3, 5]))
    parts = _parts(seed, kinds, nq=chance.choice([1, 1, 3]))
    for part in parts:
        part.limit = chance.choice([1, 5, 20, 100])
        part.filter = chance.choice(["", "", "a < 5", "a in [1, 3] or extra > 350", "a > 100"])
        if part.anns_field == "l2" and chance.random() < 0.3:
            part.params = {"radius": 12.0, "range_filter": 2.0}
    return parts


@pytest.mark.parametrize("seed", range(CASES))
def test_a_hybrid_search_agrees_with_the_slow_reference(world: World, seed: int) -> None:
    chance = random.Random(seed)
    parts = _random_parts(chance, seed)
    weights = [round(chance.random(), 2) for _ in parts]
    ranker: Any = chance.choice(
        [RRF(), RRF(chance.choice([0.5, 1, 100])), Weighted(weights), Weighted(weights, norm_score=True)]
    )
    limit, offset = chance.choice([1, 7, 60]), chance.choice([0, 0, 3])
    partitions = chance.choice([None, None, ["left"], ["_default", "right"]])
    wanted = hybrid(world.client, world.name, parts, ranker, limit, offset, partitions)
    found = world.search(parts, ranker.request(), limit=limit, offset=offset, partition_names=partitions)
    _assert_same(found, wanted)


def test_output_fields_are_those_of_the_rows(world: World) -> None:
    parts = _parts(1, ["l2", "sparse"], nq=2, limit=20)
    found = world.search(parts, RRFRanker(), limit=15, output_fields=["a", "extra", "hamming"])
    for hits in found:
        assert len(hits) == 15
        rows = world.client.get(world.name, [h["id"] for h in hits], output_fields=["a", "extra", "hamming"])
        by_key = {row["id"]: row for row in rows}
        for hit in hits:
            row = by_key[hit["id"]]
            assert (hit["entity"]["a"], hit["entity"]["extra"]) == (row["a"], row["extra"])
            assert [hit["entity"]["hamming"]] == row["hamming"]


def test_scores_are_rounded_after_the_order_is_known(world: World) -> None:
    parts = _parts(2, ["cosine", "ip"], limit=30)
    exact = world.search(parts, WeightedRanker(0.3, 0.9), limit=20)[0]
    rounded = world.search(parts, WeightedRanker(0.3, 0.9), limit=20, round_decimal=1)[0]
    assert [h["id"] for h in rounded] == [h["id"] for h in exact]
    for hit, same in zip(rounded, exact, strict=True):
        assert hit["distance"] == pytest.approx(np.floor(same["distance"] * 10 + 0.5) / 10)


@pytest.mark.parametrize(
    ("params", "like"),
    [
        ({"reranker": "rrf", "k": 5}, RRFRanker(5)),
        ({"reranker": "RRF"}, RRFRanker()),
        ({"reranker": "weighted", "weights": [0.2, 0.7]}, WeightedRanker(0.2, 0.7, norm_score=False)),
        (
            {"reranker": "weighted", "weights": [0.2, 0.7], "norm_score": True},
            WeightedRanker(0.2, 0.7, norm_score=True),
        ),
    ],
)
def test_a_function_ranks_as_the_ranker_of_its_name(world: World, params: dict[str, Any], like: Any) -> None:
    parts = _parts(3, ["l2", "cosine"])
    function = Function(name="f", function_type=FunctionType.RERANK, input_field_names=[], params=params)
    assert world.search(parts, function, limit=10) == world.search(parts, like, limit=10)


def test_all_searches_read_at_one_timestamp(client: MilvusClient, collection_name: str) -> None:
    """Each row has two equal fields, and every write changes both, so both searches find the same keys."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    indexes = client.prepare_index_params()
    for name in ("u", "v"):
        schema.add_field(name, DataType.FLOAT_VECTOR, dim=2)
        indexes.add_index(name, index_type="FLAT", metric_type="L2")
    client.create_collection(collection_name, schema=schema, index_params=indexes)
    ended = threading.Event()

    def write() -> None:
        for step in itertools.takewhile(lambda _: not ended.is_set(), itertools.count()):
            vector = [float(step), 0.0]
            client.upsert(collection_name, [{"id": step % 3, "u": vector, "v": vector}])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        requests = [AnnSearchRequest([[0.0, 0.0]], name, {}, 10) for name in ("u", "v")]
        for _ in range(100):
            ranker = WeightedRanker(1.0, 1.0, norm_score=False)
            for hit in client.hybrid_search(collection_name, requests, ranker, limit=10)[0]:
                step = math.isqrt(int(hit["distance"]) // 2)
                assert (hit["distance"], hit["id"]) == (2 * step * step, step % 3)
    finally:
        ended.set()
        writer.join()


def _hybrid_request(world: World, *parts: Any, **rank_params: Any) -> Any:
    given = {"strategy": "rrf", "limit": 5, **rank_params}
    return milvus_pb2.HybridSearchRequest(
        collection_name=world.name,
        requests=parts,
        rank_params=pairs({key: value for key, value in given.items() if value is not None}),
    )


def _part(world: World, **options: Any) -> Any:
    given = {"anns_field": "l2", "metric_type": "L2", **options}
    return search_request(world.name, [[0.0] * DIM], **given)


@pytest.mark.parametrize(
    ("rank_params", "code", "text"),
    [
        ({"limit": None}, 1100, "limit not found in rank_params: invalid parameter"),
        ({"limit": "many"}, 1100, "limit [many] is invalid: invalid parameter"),
        ({"limit": 0}, 1100, "invalid max query result window, limit [0] is invalid, should be greater than 0"),
        ({"offset": -1}, 1100, "invalid max query result window, offset [-1] is invalid, should be gte than 0"),
        (
            {"limit": 16384, "offset": 1},
            1100,
            "invalid max query result window, (offset+limit) should be in range [1, 16384], but got 16385",
        ),
        ({"round_decimal": 7}, 1100, "round_decimal [7] is invalid, should be -1 or an integer in range [0, 6]"),
        ({"strategy": "best"}, 1100, "rerank_builder: unsupported rank type best: invalid parameter"),
        ({"params": "{"}, 1100, "rerank_builder: parse rerank params failed: "),
        ({"params": '{"k": "60"}'}, 1100, "rerank_builder: the type of rank param k should be float"),
        ({"params": '{"k": 0}'}, 1100, "The rank params k should be in range (0, 16384): invalid parameter"),
        ({"params": '{"k": 16384}'}, 1100, "The rank params k should be in range (0, 16384): invalid parameter"),
        ({"strategy": "weighted"}, 1100, "rerank_builder: weighted reranker requires weights parameter"),
        (
            {"strategy": "weighted", "params": '{"weights": [0.5, 0.5]}'},
            1100,
            "the length of weights param mismatch with ann search requests: invalid parameter[expected=1][actual=2]",
        ),
        (
            {"strategy": "weighted", "params": '{"weights": [1.5]}'},
            1100,
            "rank param weight should be in range [0, 1]: invalid parameter",
        ),
        (
            {"strategy": "weighted", "params": '{"weights": "x"}'},
            1100,
            "failed to parse weights: json: cannot unmarshal string into Go value of type []float64",
        ),
        (
            {"strategy": "weighted", "params": '{"weights": [1], "norm_score": 3}'},
            1100,
            "rerank_builder: the type of rank param norm_score should be bool",
        ),
    ],
)
def test_a_bad_ranker_is_refused_in_milvus_words(
    world: World, stub: Any, rank_params: dict[str, Any], code: int, text: str
) -> None:
    answer = stub.HybridSearch(_hybrid_request(world, _part(world), **rank_params))
    assert_refused(answer.status, code, text)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"limit": 0}, "topk [0] is invalid, it should be in range [1, 16384], but got 0"),
        ({"limit": 16385}, "topk [16385] is invalid, it should be in range [1, 16384], but got 16385"),
        ({"metric_type": "IP"}, "metric type not match: invalid parameter[expected=L2][actual=IP]"),
        ({"filter_text": "a >"}, "failed to create query plan: cannot parse expression: a >"),
        ({"params": {"range_filter": 1}}, "range_filter requires radius to be set"),
        ({"anns_field": "nowhere"}, "fieldName(nowhere) not found"),
        (
            {"iterator": "True", "search_iter_v2": "True", "search_iter_batch_size": "5"},
            "search iterator v2 is not supported for hybrid search",
        ),
    ],
)
def test_a_bad_search_in_a_hybrid_search_is_refused_as_alone(
    world: World, stub: Any, options: dict[str, Any], text: str
) -> None:
    answer = stub.HybridSearch(_hybrid_request(world, _part(world), _part(world, **options)))
    assert answer.status.code == 1100
    assert text in answer.status.reason


@pytest.mark.parametrize("sent", [{}, {"topk": "None"}])
def test_a_search_without_a_limit_takes_the_window_of_the_whole(world: World, stub: Any, sent: dict[str, str]) -> None:
    """pymilvus sends the text None for a limit of None."""
    part = _part(world)
    kept = [pair for pair in part.search_params if pair.key not in ("topk", "limit")]
    del part.search_params[:]
    part.search_params.extend([*kept, *pairs(sent)])
    answer = stub.HybridSearch(_hybrid_request(world, part, limit=4, offset=2))
    assert list(answer.results.topks) == [4]


def test_searches_need_the_same_number_of_vectors(world: World) -> None:
    parts = [*_parts(1, ["l2"], nq=2), *_parts(1, ["cosine"], nq=1)]
    with pytest.raises(MilvusException, match=r"sub search request nq should be the same.*expected=2.*actual=1"):
        world.search(parts, RRFRanker(), limit=3)


def test_at_most_1024_searches_are_taken(world: World, stub: Any) -> None:
    one = _part(world)
    assert stub.HybridSearch(_hybrid_request(world, *[one] * 1024)).status.code == 0
    answer = stub.HybridSearch(_hybrid_request(world, *[one] * 1025))
    assert_refused(answer.status, 1100, "maximum of ann search requests is 1024: invalid parameter")
    assert "nq [0] is invalid" in stub.HybridSearch(_hybrid_request(world)).status.reason


@pytest.mark.parametrize(
    ("functions", "code", "text"),
    [
        ([], 1100, "rerank_builder: no rerank functions specified"),
        ([{}], 1101, "rerank_builder: reranker name not specified"),
        ([{"reranker": "best"}], 1100, "rerank_builder: unsupported reranker best"),
        ([{"reranker": "rrf"}] * 2, 1100, "rerank_builder: currently only supports one rerank function"),
        ([{"reranker": "rrf", "k": "x"}], 1100, "x is not a number"),
        ([{"reranker": "weighted", "weights": "[1]", "norm_score": "?"}], 1100, "failed to parse norm_score"),
    ],
)
def test_a_bad_rank_function_is_refused_in_milvus_words(
    world: World, stub: Any, functions: list[dict[str, str]], code: int, text: str
) -> None:
    request = _hybrid_request(world, _part(world))
    request.function_score.SetInParent()
    for params in functions:
        request.function_score.functions.add(name="f", params=pairs(params))
    answer = stub.HybridSearch(request)
    assert answer.status.code == code
    assert text in answer.status.reason


def test_a_released_collection_is_not_loaded(client: MilvusClient, collection_name: str) -> None:
    client.create_collection(collection_name, dimension=DIM, metric_type="L2")
    client.release_collection(collection_name)
    part = AnnSearchRequest([[0.0] * DIM], "vector", {}, 3)
    with pytest.raises(MilvusException, match="collection not loaded") as caught:
        client.hybrid_search(collection_name, [part], RRFRanker(), limit=3)
    assert caught.value.code == 101


def test_a_collection_without_rows_has_no_hits(client: MilvusClient, collection_name: str) -> None:
    client.create_collection(collection_name, dimension=DIM, metric_type="L2")
    part = AnnSearchRequest([[0.0] * DIM] * 2, "vector", {}, 3)
    found = client.hybrid_search(collection_name, [part, part], RRFRanker(), limit=3, output_fields=["*"])
    assert [list(hits) for hits in found] == [[], []]
