"""Every index type: built, described, searched, refused, beside another index, after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import ServerFactory
from pymilvus import DataType, MilvusClient, MilvusException
from sample_collections import add_index, clustered, nearest, recall, scores, wait_indexed

ROWS, DIM, NQ = 4000, 32, 20
TYPES: dict[str, dict[str, Any]] = {
    "FLAT": {},
    "IVF_FLAT": {"nlist": 64},
    "IVF_SQ8": {"nlist": 64},
    "IVF_PQ": {"nlist": 32, "m": 16, "nbits": 8},
    "HNSW": {"M": 16, "efConstruction": 100},
    "HNSW_SQ": {"M": 16, "efConstruction": 100, "sq_type": "SQ6", "refine": True, "refine_type": "FP32"},
    "HNSW_PQ": {"M": 16, "efConstruction": 100, "m": 16, "nbits": 8, "refine": True},
    "HNSW_PRQ": {"M": 16, "efConstruction": 100, "m": 8, "nrq": 2, "nbits": 4, "refine": True},
    "IVF_RABITQ": {"nlist": 64, "rbq_bits": 2, "refine": True, "refine_type": "SQ8"},
    "SCANN": {"nlist": 64, "with_raw_data": True},
    "DISKANN": {"max_degree": -1, "search_list_size": 100},
    "AISAQ": {},
    "FAISS": {"faiss_index_name": "IVF64,PQ16x4,RFlat"},
    "AUTOINDEX": {},
}
SEARCH: dict[str, dict[str, Any]] = {
    "IVF_FLAT": {"nprobe": 32},
    "IVF_SQ8": {"nprobe": 32},
    "IVF_PQ": {"nprobe": 32},
    "HNSW_PQ": {"ef": 100, "refine_k": 4},
    "IVF_RABITQ": {"nprobe": 32, "rbq_bits_query": 6, "refine_k": 2},
    "HNSW_PRQ": {"ef": 100, "refine_k": 4},
    "SCANN": {"nprobe": 32, "reorder_k": 100},
    "DISKANN": {"search_list": 100, "beamwidth": 8},
    "FAISS": {"nprobe": "32", "k_factor": 4},
}
LEAST_RECALL = {"FLAT": 1.0, "IVF_PQ": 0.5, "HNSW_PQ": 0.8}
METRICS = ("L2", "IP", "COSINE")


@pytest.fixture(scope="module")
def base() -> Any:
    return clustered(ROWS + NQ, DIM, 1)[:ROWS]


@pytest.fixture(scope="module")
def queries() -> Any:
    return clustered(ROWS + NQ, DIM, 1)[ROWS:]


@pytest.fixture(scope="module")
def filled(_shared_client: MilvusClient, base: Any) -> Iterator[str]:
    """One flushed collection with three equal vector fields; tests build their indexes on it."""
    client, name = _shared_client, "index_types"
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("group", DataType.INT64)
    for metric in METRICS:
        schema.add_field(metric, DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection(name, schema=schema)
    client.insert(name, [{"id": i, "group": i % 10, **dict.fromkeys(METRICS, v)} for i, v in enumerate(base.tolist())])
    client.flush(name)
    yield name
    client.drop_collection(name)


def _often_and_nightly() -> list[Any]:
    """Each type with one metric, which differs from type to type, and with the others in the long run:
    `tests/index/test_dense.py` tries all of them without a server."""
    cases: list[Any] = []
    for place, index_type in enumerate(TYPES):
        often = METRICS[place % len(METRICS)]
        others = tuple(metric for metric in METRICS if metric != often)
        cases.append(pytest.param(index_type, (often,), id=f"{index_type}-{often}"))
        cases.append(pytest.param(index_type, others, id=f"{index_type}-others", marks=pytest.mark.nightly))
    return cases


@pytest.mark.parametrize(("index_type", "metrics"), _often_and_nightly())
def test_an_index_finds_the_nearest_and_gives_their_true_scores(
    client: MilvusClient, filled: str, base: Any, queries: Any, index_type: str, metrics: tuple[str, ...]
) -> None:
    for metric in METRICS:  # a load needs an index on each field
        of_type = (index_type, TYPES[index_type]) if metric in metrics else ("FLAT", {})
        add_index(client, filled, metric, of_type[0], metric, **of_type[1])
    for metric in metrics:
        wait_indexed(client, filled, metric, ROWS)
        described = client.describe_index(filled, metric)
        assert (described["index_type"], described["metric_type"]) == (index_type, metric)
        assert {k: described[k] for k in TYPES[index_type]} == {k: str(v) for k, v in TYPES[index_type].items()}
    client.load_collection(filled)
    try:
        for metric in metrics:
            truth = scores(queries, base, metric)
            found = client.search(
                filled, queries, anns_field=metric, limit=10, search_params={"params": SEARCH.get(index_type, {})}
            )
            assert recall([[h["id"] for h in hits] for hits in found], nearest(truth, metric, 10)) >= LEAST_RECALL.get(
                index_type, 0.9
            ), metric
            for query, hits in enumerate(found):
                assert np.allclose([h["distance"] for h in hits], truth[query, [h["id"] for h in hits]], atol=1e-3)
            kept = client.search(filled, queries, anns_field=metric, limit=10, filter="group < 7")
            assert all(len(hits) == 10 and all(h["id"] % 10 < 7 for h in hits) for hits in kept)
    finally:
        client.release_collection(filled)
        for metric in METRICS:
            client.drop_index(filled, metric)


@pytest.mark.parametrize(
    ("index_type", "params", "text"),
    [
        ("IVF_FLAT", {"nlist": 0}, "Out of range in json: param 'nlist' (0) should be in range [1, 65536]"),
        ("IVF_FLAT", {"nlist": 65537}, "Out of range in json: param 'nlist' (65537) should be in range [1, 65536]"),
        ("SCANN", {"nlist": True}, "invalid integer value, key: 'nlist', value: 'True': invalid parameter"),
        ("SCANN", {"with_raw_data": 3}, "should be a boolean: invalid parameter"),
        ("IVF_PQ", {"m": 7}, "(dim) should be a multiple of the number of subquantizers (m)."),
        ("HNSW_PQ", {"m": 16.0}, "wrong data type in json, key: 'm', value: '16.0': invalid parameter"),
        ("HNSW_PQ", {"nbits": 25}, "Out of range in json: param 'nbits' (25) should be in range [1, 24]"),
        ("HNSW_SQ", {"sq_type": "FP32"}, "invalid scalar quantizer type: invalid parameter"),
        ("HNSW_SQ", {"refine": "test"}, "should be a boolean: invalid parameter"),
        (
            "HNSW_SQ",
            {"refine_type": ["FP16"]},
            "invalid refine type : ['FP16'], optional types are [sq4u, sq6, sq8, fp16, bf16, fp32, flat]",
        ),
        ("IVF_PQ", {}, "param 'm' not exist in json: invalid parameter"),
        ("IVF_RABITQ", {"rbq_bits": 10}, "Out of range in json: param 'rbq_bits' (10) should be in range [1, 9]"),
        ("IVF_RABITQ", {"refine": 1}, "Type conflict in json: param 'refine' (\"1\") should be a boolean"),
        (
            "IVF_RABITQ",
            {"refine_type": "PQ"},
            "invalid refine type : PQ, optional types are [sq6, sq8, fp16, bf16, fp32, flat]: invalid parameter",
        ),
        ("HNSW_PRQ", {"m": 7}, "The dimension of a vector (dim) should be a multiple of the number of subquantizers"),
        ("HNSW_PRQ", {"nrq": 17}, "Out of range in json: param 'nrq' (17) should be in range [1, 16]"),
        ("FAISS", {}, "param 'faiss_index_name' not exist in json: invalid parameter"),
        ("FAISS", {"faiss_index_name": "PQ0"}, "invalid faiss_index_name: PQ0: invalid parameter"),
        ("GPU_CAGRA", {}, "invalid parameter[expected=valid index][actual=invalid index type: GPU_CAGRA]"),
        ("GPU_IVF_FLAT", {}, "[actual=invalid index type: GPU_IVF_FLAT]"),
        ("GPU_IVF_PQ", {}, "[actual=invalid index type: GPU_IVF_PQ]"),
        ("GPU_BRUTE_FORCE", {}, "[actual=invalid index type: GPU_BRUTE_FORCE]"),
        ("BIN_FLAT", {}, "data type FloatVector can't build with this index BIN_FLAT: invalid parameter"),
        ("HNSW", {"note": "x" * 110_000}, "index params size exceeds limit"),
    ],
)
def test_an_index_that_cannot_be_built_is_refused_with_milvus_text(
    client: MilvusClient, filled: str, index_type: str, params: dict[str, Any], text: str
) -> None:
    with pytest.raises(MilvusException) as caught:
        add_index(client, filled, "L2", index_type, "L2", **params)
    assert caught.value.code == 1100
    assert text in caught.value.message
    assert "L2" not in client.list_indexes(filled)


@pytest.mark.parametrize(
    ("index_type", "cases"),
    [
        (
            "HNSW_SQ",
            [
                ({"ef": 1}, "ef(1) should be larger than k(10)"),
                ({"ef": -1}, "Out of range in json: param 'ef' (-1) should be in range [1, 2147483647]"),
                ({"ef": 32.0}, "Type conflict in json: param 'ef' (32.0) should be integer"),
                ({"ef": True}, "Type conflict in json: param 'ef' (true) should be integer"),
                ({"ef": None}, "Type conflict in json: param 'ef' (null) should be integer"),
                ({"ef": [32]}, "param 'ef' ([32]) should be integer"),
                ({"refine_k": 0}, "Out of range in json"),
                ({"refine_k": ""}, "invalid float value"),
                ({"refine_k": True}, "Type conflict in json: param 'refine_k' (true) should be a number"),
                ({"refine_k": None}, "Type conflict in json"),
            ],
        ),
        (
            "SCANN",
            [
                ({"reorder_k": 9}, "reorder_k(9) should be larger than k(10)"),
                ({"nprobe": 65537}, "Out of range in json: param 'nprobe' (65537) should be in range [1, 65536]"),
                ({"nprobe": None}, "Type conflict in json: param 'nprobe' (null) should be integer"),
            ],
        ),
        (
            "IVF_RABITQ",
            [
                ({"rbq_bits_query": 9}, "Out of range in json: param 'rbq_bits_query' (9) should be in range [0, 8]"),
                ({"rbq_bits_query": 6.0}, "param 'rbq_bits_query' (6.0) should be integer"),
                (
                    {"refine_k": 0.5},
                    "Out of range in json: param 'refine_k' (0.5) should be in range "
                    "[1.000000, 340282346638528859811704183484516925440.000000]",
                ),
            ],
        ),
        (
            "DISKANN",
            [
                ({"search_list_size": 1}, "search_list_size(1) should be larger than k(10)"),
                ({"search_list_size": -1}, "param 'search_list_size' (-1) should be in range [1, 2147483647]"),
                ({"search_list": 100.0}, "param 'search_list' (100.0) should be integer"),
                ({"beamwidth": 129}, "param 'beamwidth' (129) should be in range [1, 128]"),
            ],
        ),
        (
            "FAISS",
            [
                ({"nprobe": "invalid"}, "expects a number"),
                ({"efSearch": 64}, "not supported"),
            ],
        ),
    ],
)
def test_search_parameters_that_do_not_fit_are_refused_and_others_ignored(
    client: MilvusClient, filled: str, queries: Any, index_type: str, cases: list[tuple[dict[str, Any], str]]
) -> None:
    add_index(client, filled, "L2", index_type, "L2", **TYPES[index_type])
    for metric in METRICS[1:]:
        add_index(client, filled, metric, "FLAT", metric)
    client.load_collection(filled)
    try:
        for params, text in cases:
            with pytest.raises(MilvusException) as caught:
                client.search(filled, queries, anns_field="L2", limit=10, search_params={"params": params})
            assert caught.value.code == 65535
            assert text in caught.value.message
        fine: dict[str, Any] = {"ef": "32", "refine_k": 2.5, "nprobe": "999", "nothing": 1, "level": 2}
        found = client.search(filled, queries, anns_field="L2", limit=10, search_params={"params": fine})
        assert {len(hits) for hits in found} == {10}
        few = {"ef": 1, "search_list": 1, "reorder_k": 1, "radius": 1e9}
        ranged = client.search(filled, queries, anns_field="L2", limit=10, search_params={"params": few})
        assert {len(hits) for hits in ranged} == {10}
    finally:
        client.release_collection(filled)
        for metric in METRICS:
            client.drop_index(filled, metric)


def test_two_fields_have_their_own_indexes_and_release_frees_their_memory(new_server: ServerFactory, base: Any) -> None:
    server = new_server()
    client = server.client()
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("a", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("b", DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection("two", schema=schema)
    client.insert("two", [{"id": i, "a": v, "b": (-np.array(v)).tolist()} for i, v in enumerate(base.tolist())])
    client.flush("two")
    add_index(client, "two", "a", "SCANN", "COSINE", nlist=5000)  # more lists than rows
    add_index(client, "two", "b", "IVF_FLAT", "L2", nlist=16)
    for field in ("a", "b"):
        wait_indexed(client, "two", field, ROWS)
    client.load_collection("two")
    server.stop()
    server.start()
    client = server.client()
    query = base[17]
    assert client.search("two", [query], anns_field="a", limit=1)[0][0]["id"] == 17
    hit = client.search("two", [-query], anns_field="b", limit=1, output_fields=["b"])[0][0]
    assert hit["id"] == 17
    assert np.array_equal(np.array(hit["entity"]["b"], np.float32), -query), "not bit by bit"
