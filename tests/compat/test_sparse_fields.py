"""Sparse vectors through pymilvus and REST: growing, sealed, indexed, merged, and after a restart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import requests
from conftest import Server
from pymilvus import DataType, MilvusClient, MilvusException
from sample_collections import add_index, refused_index, wait_indexed

K = 10
Sparse = dict[int, float]


def _vectors(count: int, seed: int, terms: int = 12) -> list[Sparse]:
    """Vectors of up to `terms` of 2,000 indices, of which small ones are frequent."""
    random = np.random.default_rng(seed)
    made: list[Sparse] = []
    for _ in range(count):
        indices = np.unique((2000 * random.random(terms) ** 3).astype(int))
        made.append({int(i): float(np.float32(random.random() + 0.01)) for i in indices})
    return made


def _product(a: Sparse, b: Sparse) -> float:
    return sum(value * b[index] for index, value in a.items() if index in b)


def _make(client: MilvusClient, name: str, index_type: str = "SPARSE_INVERTED_INDEX", **options: Any) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR, nullable=options.pop("nullable", False))
    schema.add_field("dense", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection(name, schema=schema)
    add_index(client, name, "sparse", index_type, "IP", **options)
    add_index(client, name, "dense", "FLAT", "L2")
    client.load_collection(name)


def _insert(client: MilvusClient, name: str, keys: Sequence[int], vectors: Sequence[Sparse]) -> None:
    rows = [{"id": key, "sparse": v, "dense": [1.0] * 4} for key, v in zip(keys, vectors, strict=True)]
    client.insert(name, rows)


def _check(client: MilvusClient, name: str, known: dict[int, Sparse], filter: str = "", **params: Any) -> None:
    """Every answer is the exact one, with the vectors as they were written."""
    queries = _vectors(6, 99, 20)
    found = client.search(
        name,
        queries,
        anns_field="sparse",
        limit=K,
        filter=filter,
        output_fields=["sparse"],
        search_params={"params": params},
    )
    for query, answer in zip(queries, found, strict=True):
        products = {key: _product(query, vector) for key, vector in known.items()}
        wanted = sorted((p for p in products.values() if p > 0), reverse=True)[:K]
        assert np.allclose([hit["distance"] for hit in answer], wanted, rtol=1e-5)
        assert np.allclose([products[hit["id"]] for hit in answer], wanted, rtol=1e-5)
        assert all(hit["entity"]["sparse"] == known[hit["id"]] for hit in answer)


@pytest.mark.parametrize("index_type", ["SPARSE_INVERTED_INDEX", "SPARSE_WAND", "AUTOINDEX"])
def test_growing_sealed_and_indexed_rows_are_found_exactly(client: MilvusClient, index_type: str) -> None:
    name = f"sparse_{index_type}"
    vectors = _vectors(3000, 1)
    _make(client, name, index_type)
    _insert(client, name, range(1500), vectors[:1500])
    _check(client, name, dict(enumerate(vectors[:1500])))
    client.flush(name)
    _insert(client, name, range(1500, 3000), vectors[1500:])
    client.flush(name)
    wait_indexed(client, name, "sparse", 3000)
    known = dict(enumerate(vectors))
    _check(client, name, known)
    _check(client, name, {key: known[key] for key in range(40)}, "id < 40")
    client.delete(name, ids=list(range(0, 3000, 2)))
    left = {key: vector for key, vector in known.items() if key % 2}
    _check(client, name, left)
    replaced = _vectors(50, 5)
    client.upsert(name, [{"id": 2 * i, "sparse": v, "dense": [2.0] * 4} for i, v in enumerate(replaced)])
    left |= {2 * i: v for i, v in enumerate(replaced)}
    _check(client, name, left)
    client.compact(name)
    client.release_collection(name)
    client.load_collection(name)
    _check(client, name, left)
    client.drop_collection(name)


def test_a_drop_ratio_loses_little_and_keeps_scores_exact(client: MilvusClient) -> None:
    vectors = _vectors(2000, 2)
    _make(client, "sparse_drop")
    _insert(client, "sparse_drop", range(2000), vectors)
    client.flush("sparse_drop")
    wait_indexed(client, "sparse_drop", "sparse", 2000)
    (query,) = _vectors(1, 98, 20)
    (found,) = client.search(
        "sparse_drop", [query], anns_field="sparse", limit=K, search_params={"params": {"drop_ratio_search": 0.3}}
    )
    best = sorted((_product(query, v) for v in vectors), reverse=True)[:K]
    assert np.allclose([hit["distance"] for hit in found], [_product(query, vectors[hit["id"]]) for hit in found])
    assert sum(hit["distance"] >= best[-1] - 1e-5 for hit in found) >= K // 2
    client.drop_collection("sparse_drop")


def test_null_and_empty_vectors_are_never_found(client: MilvusClient) -> None:
    _make(client, "sparse_null", nullable=True)
    rows: list[Sparse | None] = [{1: 0.5}, None, {}, {1: 0.25, 4_000_000_000: 1.0}]
    client.insert("sparse_null", [{"id": i, "sparse": v, "dense": [0.0] * 4} for i, v in enumerate(rows)])
    for _ in range(2):
        (found,) = client.search("sparse_null", [{1: 2.0}], anns_field="sparse", limit=10)
        assert [(hit["id"], hit["distance"]) for hit in found] == [(0, 1.0), (3, 0.5)]
        answered = client.query("sparse_null", filter="id >= 0", output_fields=["sparse"])
        assert [row["sparse"] for row in answered] == rows
        client.flush("sparse_null")
    client.drop_collection("sparse_null")


def test_range_search_and_iterators_cover_all_hits(client: MilvusClient) -> None:
    vectors = _vectors(600, 3)
    _make(client, "sparse_range")
    _insert(client, "sparse_range", range(600), vectors)
    (query,) = _vectors(1, 97, 20)
    products = np.array([_product(query, v) for v in vectors])
    iterator = client.search_iterator("sparse_range", [query], batch_size=50, anns_field="sparse", search_params={})
    seen: list[int] = []
    while page := iterator.next():
        seen += [hit["id"] for hit in page]
    iterator.close()
    assert len(seen) == len(set(seen))
    assert set(seen) == set(np.flatnonzero(products > 0).tolist())
    client.drop_collection("sparse_range")


@pytest.mark.parametrize("nullable", [False, True])
def test_a_range_search_gives_the_hits_inside_nearest_first(client: MilvusClient, nullable: bool) -> None:
    vectors = _vectors(2000, 4)
    _make(client, "sparse_band", nullable=nullable)
    _insert(client, "sparse_band", range(2000), vectors)
    (query,) = _vectors(1, 97, 20)
    products = np.array([_product(query, v) for v in vectors])
    for is_indexed in (False, True):
        if is_indexed:
            client.flush("sparse_band")
            wait_indexed(client, "sparse_band", "sparse", 2000)
        for near, far, drop in [(1.0, 0.2, 0.0), (0.3, 0.1, 0.0), (0.3, 0.1, 0.01)]:
            inside = np.flatnonzero((products > far) & (products <= near))
            params = {"params": {"radius": far, "range_filter": near, "drop_ratio_search": drop}}
            for filter, keys in [("", inside), ("id < 50", inside[inside < 50]), ("id >= 900", inside[inside >= 900])]:
                (found,) = client.search(
                    "sparse_band", [query], anns_field="sparse", limit=2000, filter=filter, search_params=params
                )
                assert {hit["id"] for hit in found} == set(keys.tolist())
                (found,) = client.search(
                    "sparse_band", [query], anns_field="sparse", limit=5, filter=filter, search_params=params
                )
                best = np.sort(products[keys])[::-1][:5]
                assert np.allclose([hit["distance"] for hit in found], best, rtol=1e-5)
    client.drop_collection("sparse_band")


def test_searches_by_keys_and_partial_upserts_keep_the_vectors(client: MilvusClient) -> None:
    _make(client, "sparse_ids")
    _insert(client, "sparse_ids", range(3), [{1: 1.0}, {1: 0.5, 2: 1.0}, {2: 2.0}])
    client.upsert("sparse_ids", [{"id": 1, "dense": [9.0] * 4}], partial_update=True)
    (found,) = client.search("sparse_ids", ids=[1], anns_field="sparse", limit=3)
    assert [(hit["id"], hit["distance"]) for hit in found] == [(2, 2.0), (1, 1.25), (0, 0.5)]
    client.drop_collection("sparse_ids")


def test_rest_takes_both_forms(server: Server, client: MilvusClient) -> None:
    _make(client, "sparse_rest")

    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = requests.post(f"{server.uri}/v2/vectordb/entities/{path}", json=body, timeout=30)
        decoded: dict[str, Any] = answer.json()
        return decoded

    given: list[Any] = [{"1": 0.5, "100": 0.25}, {"indices": [7, 3], "values": [1.5, 2.5]}]
    data = [{"id": i, "sparse": v, "dense": [1, 2, 3, 4]} for i, v in enumerate(given)]
    assert post("insert", {"collectionName": "sparse_rest", "data": data})["code"] == 0
    asked = {"data": [{"3": 2}], "annsField": "sparse", "limit": 3, "outputFields": ["sparse"]}
    found = post("search", {"collectionName": "sparse_rest", **asked})
    assert found["code"] == 0, found
    assert [(hit["id"], hit["distance"]) for hit in found["data"]] == [(1, 5)]
    assert found["data"][0]["sparse"] == {"3": 2.5, "7": 1.5}
    for wrong in ({"1": -1}, [1, 2], {"a": 1}, {"indices": [1], "values": [1, 2]}):
        row = {"id": 9, "sparse": wrong, "dense": [1, 2, 3, 4]}
        assert post("insert", {"collectionName": "sparse_rest", "data": [row]})["code"] == 1804
    client.drop_collection("sparse_rest")


def test_quick_creation_over_rest_takes_no_dimension(server: Server, client: MilvusClient) -> None:
    body: dict[str, Any] = {"collectionName": "sparse_quick", "vectorFieldType": "SparseFloatVector"}
    url = f"{server.uri}/v2/vectordb/collections/create"
    refused = requests.post(url, json={**body, "dimension": 4}, timeout=30).json()
    assert "dimension should not be specified for SparseFloatVector quick create" in refused["message"]
    assert requests.post(url, json=body, timeout=30).json()["code"] == 0
    client.insert("sparse_quick", [{"id": 1, "vector": {5: 1.0}}])
    (found,) = client.search("sparse_quick", [{5: 2.0}], limit=1)
    assert found[0]["distance"] == 2.0
    client.drop_collection("sparse_quick")


@pytest.mark.parametrize(
    ("index_type", "metric", "params", "text"),
    [
        ("SPARSE_INVERTED_INDEX", "L2", {}, "only IP&BM25 is the supported metric type for sparse index"),
        ("HNSW", "IP", {}, "data type SparseFloatVector can't build with this index HNSW"),
        (
            "SPARSE_INVERTED_INDEX",
            "IP",
            {"inverted_index_algo": "INVALID_ALGO"},
            "sparse inverted index algo INVALID_ALGO not found or not supported, supported: [",
        ),
        (
            "SPARSE_INVERTED_INDEX",
            "IP",
            {"inverted_index_codec": "no"},
            "inverted_index_codec no not found or not supported, supported: [block_streamvbyte block_maskedvbyte]",
        ),
        ("SPARSE_INVERTED_INDEX", "IP", {"sindi_window_size": 512}, "sindi_window_size"),
        ("SPARSE_WAND", "IP", {"drop_ratio_build": 1.0}, "should be in range [0.000000, 1.000000)"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(
    client: MilvusClient, index_type: str, metric: str, params: dict[str, Any], text: str
) -> None:
    refused = refused_index(client, "sparse", DataType.SPARSE_FLOAT_VECTOR, index_type, metric, **params)
    assert refused.code == 1100
    assert text in refused.message


def test_search_parameters_out_of_range_are_refused(client: MilvusClient) -> None:
    _make(client, "sparse_params")
    for params, text in (
        ({"drop_ratio_search": 1.0}, "should be in range [0.000000, 1.000000)"),
        ({"dim_max_score_ratio": 1.4}, "should be in range [0.500000, 1.300000]"),
    ):
        with pytest.raises(MilvusException) as refused:
            client.search("sparse_params", [{1: 1.0}], anns_field="sparse", limit=1, search_params={"params": params})
        assert text in refused.value.message
    with pytest.raises(MilvusException, match="metric type not match"):
        client.search("sparse_params", [{1: 1.0}], anns_field="sparse", limit=1, search_params={"metric_type": "L2"})
    with pytest.raises(MilvusException, match="vector type must be the same"):
        client.search("sparse_params", [[0.5] * 4], anns_field="sparse", limit=1)
    client.drop_collection("sparse_params")


def test_a_dimension_is_refused(client: MilvusClient) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR, dim=8)
    with pytest.raises(MilvusException, match="dim should not be specified for sparse vector field sparse"):
        client.create_collection("sparse_dim", schema=schema)
