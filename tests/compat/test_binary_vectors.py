"""Vectors of bits through pymilvus and REST: every index type and metric, growing, sealed and after a restart."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import requests
from conftest import Server
from pymilvus import DataType, MilvusClient, MilvusException
from sample_collections import add_index, refused_index, wait_indexed

Array = np.ndarray[Any, Any]
Index = tuple[str, str, dict[str, Any]]
DIM, K = 64, 10
INDEXES: list[Index] = [
    ("BIN_FLAT", "HAMMING", {}),
    ("BIN_FLAT", "JACCARD", {}),
    ("BIN_FLAT", "SUBSTRUCTURE", {}),
    ("BIN_FLAT", "SUPERSTRUCTURE", {}),
    ("BIN_IVF_FLAT", "HAMMING", {"nlist": 32}),
    ("BIN_IVF_FLAT", "JACCARD", {"nlist": 32}),
    ("HNSW", "HAMMING", {"M": 16, "efConstruction": 100}),
    ("HNSW", "JACCARD", {"M": 16, "efConstruction": 100}),
    ("FAISS", "HAMMING", {"faiss_index_name": "BFlat"}),
    ("FAISS", "HAMMING", {"faiss_index_name": "BIVF32"}),
    ("FAISS", "HAMMING", {"faiss_index_name": "BHNSW16"}),
    ("AUTOINDEX", "HAMMING", {}),
]
EFFORT = {"nprobe": 32, "ef": 200}
FACTORY_EFFORT: dict[str, dict[str, int]] = {"BFlat": {}, "BIVF32": {"nprobe": 32}, "BHNSW16": {"efSearch": 200}}


def _bits(count: int, seed: int) -> Array:
    """Rows around a hundred centres, about a third of their bits set."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).random((100, DIM)) < 0.3
    flipped = random.random((count, DIM)) < 0.08
    return np.packbits(centres[random.integers(100, size=count)] ^ flipped, axis=1)


def _distances(rows: Array, query: Array, metric: str) -> Array:
    a, b = np.unpackbits(rows, axis=1).astype(bool), np.unpackbits(query[None], axis=1)[0].astype(bool)
    if metric == "HAMMING":
        differing: Array = (a ^ b).sum(axis=1)
        return differing
    if metric == "JACCARD":
        apart: Array = 1 - (a & b).sum(axis=1) / np.maximum((a | b).sum(axis=1), 1)
        return apart
    holds = (a & b == b) if metric == "SUBSTRUCTURE" else (a & b == a)
    return np.where(holds.all(axis=1), 0.0, np.inf)


def _effort(index: Index) -> dict[str, int]:
    return FACTORY_EFFORT.get(index[2].get("faiss_index_name", ""), EFFORT)


def _received(value: Any) -> bytes:
    """pymilvus returns the vector alone from a search and in a list from a query."""
    (data,) = value if isinstance(value, list) else (value,)
    return bytes(data)


def _make(client: MilvusClient, name: str, index: Index, nullable: bool = False) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("bits", DataType.BINARY_VECTOR, dim=DIM, nullable=nullable)
    schema.add_field("dense", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection(name, schema=schema)
    index_type, metric, params = index
    add_index(client, name, "bits", index_type, metric, **params)
    add_index(client, name, "dense", "FLAT", "L2")
    client.load_collection(name)


def _insert(client: MilvusClient, name: str, keys: Sequence[int], rows: Array) -> None:
    data = [{"id": key, "bits": row.tobytes(), "dense": [1.0] * 4} for key, row in zip(keys, rows, strict=True)]
    client.insert(name, data)


def _check(client: MilvusClient, name: str, rows: Array, index: Index, least_recall: float, filter: str = "") -> None:
    """Scores are exact, in order, and the right rows are found. `rows` by key; with a filter, keys below 500."""
    known, metric = rows[:500] if filter else rows, index[1]
    queries = _bits(8, 99)
    if metric == "SUBSTRUCTURE":
        queries &= _bits(8, 98) & _bits(8, 97)
    if metric == "SUPERSTRUCTURE":
        queries |= _bits(8, 98) | _bits(8, 97) | _bits(8, 96)
    found = client.search(
        name,
        [q.tobytes() for q in queries],
        anns_field="bits",
        limit=K,
        filter=filter,
        output_fields=["bits"],
        search_params={"params": _effort(index)},
    )
    hits = expected = 0
    for query, answer in zip(queries, found, strict=True):
        distances = _distances(known, query, metric)
        wanted = np.sort(distances[np.isfinite(distances)])[:K]
        scores = [hit["distance"] for hit in answer]
        assert scores == sorted(scores)
        assert np.allclose(scores, distances[[hit["id"] for hit in answer]], atol=1e-6)
        assert [_received(hit["entity"]["bits"]) for hit in answer] == [known[hit["id"]].tobytes() for hit in answer]
        hits += sum(score <= wanted[-1] + 1e-6 for score in scores)
        expected += len(wanted)
    assert hits >= least_recall * expected


@pytest.mark.parametrize("index", INDEXES, ids=lambda index: "-".join(map(str, [*index[:2], *index[2].values()])))
def test_growing_and_indexed_rows_are_found(client: MilvusClient, index: Index) -> None:
    name = f"bits_{index[0]}_{index[1]}_{index[2].get('faiss_index_name', '')}"
    rows = _bits(3000, 1)
    _make(client, name, index)
    _insert(client, name, range(1500), rows[:1500])
    _check(client, name, rows[:1500], index, 1.0)
    client.flush(name)
    _insert(client, name, range(1500, 3000), rows[1500:])
    client.flush(name)
    wait_indexed(client, name, "bits", 3000)
    _check(client, name, rows, index, 0.95)
    _check(client, name, rows, index, 0.95, "id < 500")
    client.delete(name, ids=list(range(500)))
    query = rows[100].tobytes()
    (left,) = client.search(name, [query], anns_field="bits", limit=K, search_params={"params": _effort(index)})
    assert all(hit["id"] >= 500 for hit in left)
    client.drop_collection(name)


def test_null_vectors_are_never_found_and_come_back_as_null(client: MilvusClient) -> None:
    _make(client, "bits_null", INDEXES[0], nullable=True)
    rows = _bits(40, 2)
    client.insert(
        "bits_null",
        [{"id": i, "bits": None if i % 2 else rows[i].tobytes(), "dense": [0.0] * 4} for i in range(40)],
    )
    for _ in range(2):
        (found,) = client.search("bits_null", [rows[0].tobytes()], anns_field="bits", limit=40)
        assert {hit["id"] for hit in found} == set(range(0, 40, 2))
        answered = client.query("bits_null", filter="id in [2, 3]", output_fields=["bits"])
        assert _received(answered[0]["bits"]) == rows[2].tobytes()
        assert answered[1]["bits"] is None
        client.flush("bits_null")
    client.upsert("bits_null", [{"id": 2, "dense": [1.0] * 4}], partial_update=True)
    (kept,) = client.query("bits_null", filter="id == 2", output_fields=["bits", "dense"])
    assert _received(kept["bits"]) == rows[2].tobytes()
    assert kept["dense"] == [1.0] * 4
    client.drop_collection("bits_null")


def test_range_search_and_iterators_cover_all_rows(client: MilvusClient) -> None:
    _make(client, "bits_range", INDEXES[0])
    rows = _bits(400, 3)
    _insert(client, "bits_range", range(400), rows)
    distances = _distances(rows, rows[0], "HAMMING")
    params = {"params": {"radius": 20, "range_filter": 10}}
    (found,) = client.search("bits_range", [rows[0].tobytes()], anns_field="bits", limit=400, search_params=params)
    assert {hit["id"] for hit in found} == set(np.flatnonzero((distances >= 10) & (distances < 20)).tolist())
    iterator = client.search_iterator(
        "bits_range", [rows[0].tobytes()], batch_size=70, anns_field="bits", search_params={}
    )
    seen: list[int] = []
    while page := iterator.next():
        seen += [hit["id"] for hit in page]
    iterator.close()
    assert len(seen) == len(set(seen)) == 400
    client.drop_collection("bits_range")


def test_rest_takes_base64_and_numbers(server: Server, client: MilvusClient) -> None:
    _make(client, "bits_rest", INDEXES[0])
    rows = _bits(3, 4)

    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = requests.post(f"{server.uri}/v2/vectordb/entities/{path}", json=body, timeout=30)
        decoded: dict[str, Any] = answer.json()
        return decoded

    given = [base64.b64encode(rows[0].tobytes()).decode(), rows[1].tolist(), base64.b64encode(rows[2]).decode()]
    data = [{"id": i, "bits": bits, "dense": [1, 2, 3, 4]} for i, bits in enumerate(given)]
    assert post("insert", {"collectionName": "bits_rest", "data": data})["code"] == 0
    body = {
        "collectionName": "bits_rest",
        "data": [given[1]],
        "annsField": "bits",
        "limit": 3,
        "outputFields": ["bits"],
    }
    found = post("search", body)
    assert found["code"] == 0, found
    assert found["data"][0]["id"] == 1
    assert base64.b64decode(found["data"][0]["bits"]) == rows[1].tobytes()
    short = post("insert", {"collectionName": "bits_rest", "data": [{"id": 5, "bits": "AAA=", "dense": [1, 2, 3, 4]}]})
    assert "[]byte size 2 doesn't equal to vector dimension 64 of BinaryVector" in short["message"]
    wrong = post("insert", {"collectionName": "bits_rest", "data": [{"id": 5, "bits": [1, 256], "dense": [1] * 4}]})
    assert wrong["code"] == 1804
    client.drop_collection("bits_rest")


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (12, "invalid dimension: 12 of field bits. binary vector dimension should be multiple of 8. "),
        (262152, "binary vector dimension should be in range 2 ~ 262144"),
        (1, "invalid dimension: 1. should be in range 2 ~ 32768"),
    ],
)
def test_a_dimension_that_does_not_fit_is_refused(client: MilvusClient, dim: int, text: str) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("bits", DataType.BINARY_VECTOR, dim=dim)
    with pytest.raises(MilvusException) as refused:
        client.create_collection("bits_refused", schema=schema)
    assert refused.value.code == 1100
    assert text in refused.value.message


@pytest.mark.parametrize(
    ("index_type", "metric", "text"),
    [
        ("BIN_FLAT", "L2", "binary vector index does not support metric type: L2"),
        ("FAISS", "JACCARD", "metric type JACCARD not found or not supported, supported: [HAMMING]"),
        ("FAISS", "HAMMING", "param 'faiss_index_name' not exist in json"),
        ("BIN_IVF_FLAT", "SUBSTRUCTURE", "metric type SUBSTRUCTURE not found or not supported"),
        ("IVF_FLAT", "HAMMING", "data type BinaryVector can't build with this index IVF_FLAT"),
        ("SPARSE_WAND", "IP", "data type BinaryVector can't build with this index SPARSE_WAND"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(client: MilvusClient, index_type: str, metric: str, text: str) -> None:
    refused = refused_index(client, "bits", DataType.BINARY_VECTOR, index_type, metric, dim=DIM)
    assert text in refused.message


@pytest.mark.parametrize("factory", ["Flat", "IVF32,Flat", "BHash16", "BIVF0", "BIVF32,Flat"])
def test_a_faiss_text_for_other_vectors_is_refused(client: MilvusClient, factory: str) -> None:
    with pytest.raises(MilvusException, match="invalid faiss_index_name") as refused:
        _make(client, "bits_factory", ("FAISS", "HAMMING", {"faiss_index_name": factory}))
    assert refused.value.code == 1100
    client.drop_collection("bits_factory")


def test_queries_of_another_type_or_size_are_refused(client: MilvusClient) -> None:
    _make(client, "bits_queries", INDEXES[0])
    _insert(client, "bits_queries", range(3), _bits(3, 5))
    with pytest.raises(MilvusException, match="vector type must be the same"):
        client.search("bits_queries", [[0.5] * DIM], anns_field="bits", limit=1)
    with pytest.raises(MilvusException, match="vector dimension mismatch"):
        client.search("bits_queries", [b"1234"], anns_field="bits", limit=1)
    client.drop_collection("bits_queries")
