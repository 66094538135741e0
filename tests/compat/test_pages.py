"""Pages by offset, keys inserted many times, and cosines at their ends."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient
from sample_collections import add_index, make_quick, wait_indexed

DIM = 4
ROWS = 2200
INDEXES: dict[str, dict[str, Any]] = {
    "FLAT": {},
    "HNSW": {"M": 8, "efConstruction": 64},
    "IVF_FLAT": {"nlist": 4},
    "HNSW_SQ": {"M": 8, "efConstruction": 64, "sq_type": "SQ8"},
}
QUERY = [1.0, 0.0, 0.0, 0.0]


def vector(i: int) -> list[float]:
    """One of four, so that a quarter of the rows have the same score under every metric."""
    return [[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5], [0.0, 1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0]][i % 4]


@pytest.fixture(scope="module", params=["L2", "IP", "COSINE"])
def tied(request: pytest.FixtureRequest, _shared_client: MilvusClient) -> Iterator[tuple[str, str]]:
    """Sealed and indexed, sealed, and growing rows with four scores; a field for each type of index."""
    client, name = _shared_client, f"pages_{request.param}"
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    for index_type in INDEXES:
        schema.add_field(index_type, DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection(name, schema=schema)
    for index_type, params in INDEXES.items():
        add_index(client, name, index_type, index_type, request.param, **params)
    client.load_collection(name)
    order = np.random.default_rng(1).permutation(ROWS).tolist()
    rows = [{"id": i, **dict.fromkeys(INDEXES, vector(i))} for i in order]
    client.insert(name, rows[:1600])
    client.flush(name)
    for index_type in INDEXES:
        wait_indexed(client, name, index_type, 1600)
    client.insert(name, rows[1600:1900])
    client.flush(name)
    client.insert(name, rows[1900:])
    yield name, request.param
    client.drop_collection(name)


@pytest.mark.parametrize("index_type", INDEXES)
@pytest.mark.parametrize("text", ["", "id % 3 == 0"], ids=["all", "filtered"])
def test_pages_by_offset_are_slices_of_one_list(
    client: MilvusClient, tied: tuple[str, str], index_type: str, text: str
) -> None:
    name, _ = tied

    def page(offset: int, limit: int, **what: Any) -> list[tuple[float, int]]:
        asked = what or {"data": [QUERY]}
        params = {"offset": offset, "params": {"ef": 128, "nprobe": 4} if index_type != "FLAT" else {}}
        hits = client.search(name, **asked, anns_field=index_type, filter=text, limit=limit, search_params=params)[0]
        return [(h["distance"], h["id"]) for h in hits]

    whole = page(0, 120)
    assert len({i for _, i in whole}) == 120
    ordered = whole if whole[0][0] < whole[-1][0] else [(-d, i) for d, i in whole]
    assert ordered == sorted(ordered), "equal scores come in key order"
    if index_type == "FLAT":
        assert [i for _, i in whole] == [i for i in range(ROWS) if i % 4 == 0 and (not text or i % 3 == 0)][:120]
    for size in (7, 40):
        pages = [page(offset, min(size, 120 - offset)) for offset in range(0, 120, size)]
        assert list(itertools.chain(*pages)) == whole
    by_ids = [page(offset, 20, ids=[0]) for offset in range(0, 60, 20)]
    assert list(itertools.chain(*by_ids)) == whole[:60]


@pytest.mark.parametrize("metric", ["L2", "COSINE"])
def test_limit_and_offset_count_keys_however_often_each_was_inserted(
    client: MilvusClient, collection_name: str, metric: str
) -> None:
    """In one insert and in several, sealed separately, growing."""
    make_quick(client, collection_name, 2, metric=metric, index_type="FLAT")
    # Angles grow with the key, and so do distances.
    rows = [{"id": i, "vector": [float(np.cos(i / 40)), float(np.sin(i / 40))]} for i in range(40)]
    client.insert(collection_name, rows * 3)
    client.flush(collection_name)
    client.insert(collection_name, rows)
    client.flush(collection_name)
    client.insert(collection_name, rows + rows)
    client.insert(collection_name, rows)

    def keys(limit: int, offset: int = 0, **params: Any) -> list[int]:
        hits = client.search(
            collection_name, [[1.0, 0.0]], limit=limit, search_params={"offset": offset, "params": params}
        )
        return [h["id"] for h in hits[0]]

    assert keys(5) == [*range(5)]
    assert keys(5, 5) == [*range(5, 10)]
    assert keys(100, 30) == [*range(30, 40)]
    radius = {"L2": 0.26, "COSINE": float(np.cos(0.51))}[metric]
    assert keys(100, radius=radius) == [*range(21)]
    assert keys(10, 15, radius=radius) == [*range(15, 21)]
    iterator = client.search_iterator(collection_name, [[1.0, 0.0]], batch_size=7, limit=33)
    found: list[int] = []
    while batch := iterator.next():
        found += [h["id"] for h in batch]
    iterator.close()
    assert found == [*range(33)]


NARROW = {
    "float": (DataType.FLOAT_VECTOR, np.float32),
    "half": (DataType.FLOAT16_VECTOR, np.float16),
    "int8": (DataType.INT8_VECTOR, np.int8),
}


def test_a_cosine_is_never_beyond_one_and_a_row_is_in_the_range_that_ends_at_its_own_vector(
    client: MilvusClient, collection_name: str
) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    for kind, (data_type, _) in NARROW.items():
        schema.add_field(kind, data_type, dim=48)
    client.create_collection(collection_name, schema=schema)
    for kind in NARROW:
        add_index(client, collection_name, kind, "HNSW", "COSINE", M=8, efConstruction=64)
    client.load_collection(collection_name)
    base = 20 * np.random.default_rng(3).standard_normal((1500, 48))
    stored = {kind: base.astype(dtype) for kind, (_, dtype) in NARROW.items()}
    sent = {kind: vectors.tolist() if kind == "float" else list(vectors) for kind, vectors in stored.items()}
    rows = [{"id": i, **{kind: vectors[i] for kind, vectors in sent.items()}} for i in range(1500)]
    client.insert(collection_name, rows)
    for state in ("growing", "indexed"):
        if state == "indexed":
            client.flush(collection_name)
            for kind in NARROW:
                wait_indexed(client, collection_name, kind, 1500)
        for kind in NARROW:
            queries = sent[kind][:60]
            for params in ({}, {"radius": -1.0, "range_filter": 1.0}):
                hits = client.search(
                    collection_name, queries, anns_field=kind, limit=3, search_params={"params": {"ef": 200, **params}}
                )
                assert [found[0]["id"] for found in hits] == [*range(60)], (state, kind, params)
                assert all(-1 <= h["distance"] <= 1 for found in hits for h in found), (state, kind, params)
