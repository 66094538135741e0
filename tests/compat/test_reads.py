"""Search, query, get and count against plain numpy: growing, sealed and both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from grpc_calls import assert_ok, query_request, search_request
from pymilvus import DataType, MilvusClient, MilvusException
from sample_collections import (
    Array,
    add_index,
    c1_rows,
    clustered,
    make_c1,
    make_quick,
    nearest,
    recall,
    scores,
    wait_indexed,
)

COUNT, DIM = 600, 12
BASE = clustered(COUNT, DIM, seed=1)
QUERIES = clustered(9, DIM, seed=2)
STATES = ["growing", "sealed", "mixed"]


def _make(client: MilvusClient, name: str, index_type: str, metric: str, dim: int = DIM, **params: Any) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=dim)
    schema.add_field("group", DataType.INT64)
    client.create_collection(name, schema=schema)
    add_index(client, name, "vec", index_type, metric, **params)
    client.load_collection(name)


def _fill(client: MilvusClient, name: str, base: Array, state: str) -> None:
    rows = [{"id": i, "vec": v, "group": i % 10} for i, v in enumerate(base)]
    half = len(rows) // 2
    client.insert(name, rows[:half])
    if state == "mixed":
        client.flush(name)
    client.insert(name, rows[half:])
    if state == "sealed":
        client.flush(name)


@pytest.mark.parametrize("metric", ["L2", "IP", "COSINE"])
@pytest.mark.parametrize("state", STATES)
def test_flat_search_is_exact(client: MilvusClient, collection_name: str, state: str, metric: str) -> None:
    _make(client, collection_name, "FLAT", metric)
    _fill(client, collection_name, BASE, state)
    truth = scores(QUERIES, BASE, metric)
    order = nearest(truth, metric, 20)
    answers = client.search(collection_name, QUERIES.tolist(), limit=20, output_fields=["group"])
    for query, hits in enumerate(answers):
        assert [h["id"] for h in hits] == order[query].tolist()
        np.testing.assert_allclose([h["distance"] for h in hits], truth[query][order[query]], rtol=2e-5, atol=2e-5)
        assert [h["entity"]["group"] for h in hits] == [i % 10 for i in order[query].tolist()]


@pytest.mark.parametrize("metric", ["L2", "IP", "COSINE"])
@pytest.mark.parametrize("state", STATES)
def test_filtered_flat_search_is_exact_among_the_rows_that_pass(
    client: MilvusClient, collection_name: str, state: str, metric: str
) -> None:
    _make(client, collection_name, "FLAT", metric)
    _fill(client, collection_name, BASE, state)
    client.delete(collection_name, ids=list(range(0, COUNT, 7)))
    kept = np.array([i for i in range(COUNT) if i % 10 in (3, 4) and i % 7])
    order = kept[nearest(scores(QUERIES, BASE[kept], metric), metric, 15)]
    answers = client.search(collection_name, QUERIES.tolist(), limit=15, filter="group in [3, 4]")
    assert [[h["id"] for h in hits] for hits in answers] == order.tolist()


@pytest.mark.parametrize("metric", ["L2", "IP", "COSINE"])
def test_graph_search_finds_nine_of_ten_neighbours(client: MilvusClient, collection_name: str, metric: str) -> None:
    points = clustered(4040, 24, seed=5)
    base, queries = points[:4000], points[4000:]
    _make(client, collection_name, "HNSW", metric, 24, M=16, efConstruction=100)
    rows = [{"id": i, "vec": v, "group": i % 10} for i, v in enumerate(base)]
    client.insert(collection_name, rows[:3500])
    client.flush(collection_name)
    wait_indexed(client, collection_name, "vec", 3500)
    client.insert(collection_name, rows[3500:])
    truth = nearest(scores(queries, base, metric), metric, 10)
    answers = client.search(collection_name, queries.tolist(), limit=10, search_params={"params": {"ef": 64}})
    assert recall([[h["id"] for h in hits] for hits in answers], truth) >= 0.9
    for hits in answers:
        distances = [h["distance"] for h in hits]
        assert distances == sorted(distances, reverse=metric != "L2")
    kept = np.array([i for i in range(4000) if i % 10 == 3])
    truth = kept[nearest(scores(queries, base[kept], metric), metric, 10)]
    answers = client.search(collection_name, queries.tolist(), limit=10, filter="group == 3")
    assert all(h["id"] % 10 == 3 for hits in answers for h in hits)
    assert recall([[h["id"] for h in hits] for hits in answers], truth) >= 0.9
    nearest_ids = [int(t[0]) for t in truth]
    client.delete(collection_name, ids=nearest_ids)
    answers = client.search(collection_name, queries.tolist(), limit=10, filter="group == 3")
    assert not {h["id"] for hits in answers for h in hits} & set(nearest_ids)


@pytest.fixture
def line(client: MilvusClient, collection_name: str) -> str:
    """Row i has vector (i, 0, 0, 0) and a = 10 i; rows 0..29 sealed, 30..49 growing."""
    make_c1(client, collection_name, dynamic=True, load=True)
    client.insert(collection_name, c1_rows(30, color="red"))
    client.flush(collection_name)
    client.insert(collection_name, c1_rows(20, first=30, color="blue"))
    return collection_name


ORIGIN = [0.0, 0.0, 0.0, 0.0]


def _ids(client: MilvusClient, name: str, **options: Any) -> list[int]:
    return [hit["id"] for hit in client.search(name, [ORIGIN], **options)[0]]


@pytest.mark.parametrize(
    ("limit", "offset", "ids"),
    [(5, 0, range(5)), (5, 3, range(3, 8)), (10, 45, range(45, 50)), (5, 50, []), (100, 0, range(50))],
)
def test_limit_and_offset_page_a_search(client: MilvusClient, line: str, limit: int, offset: int, ids: Any) -> None:
    assert _ids(client, line, limit=limit, search_params={"offset": offset}) == list(ids)


@pytest.mark.parametrize(
    ("limit", "offset", "ids"),
    [(5, 0, range(5)), (5, 28, range(28, 33)), (10, 45, range(45, 50)), (5, 50, []), (100, 0, range(50))],
)
def test_limit_and_offset_page_a_query_in_key_order(
    client: MilvusClient, line: str, limit: int, offset: int, ids: Any
) -> None:
    rows = client.query(line, filter="a >= 0", limit=limit, offset=offset, output_fields=["id"])
    assert [r["id"] for r in rows] == list(ids)


def test_offset_pages_every_query_of_a_search(client: MilvusClient, line: str) -> None:
    answers = client.search(line, [ORIGIN, [49.0, 0, 0, 0]], limit=3, search_params={"offset": 2}, filter="id < 49")
    assert [[h["id"] for h in hits] for hits in answers] == [[2, 3, 4], [46, 45, 44]]


def test_a_filter_that_no_row_passes_gives_no_hits(client: MilvusClient, line: str) -> None:
    assert _ids(client, line, limit=5, filter="a < 0") == []
    assert list(client.query(line, filter="a < 0", output_fields=["a"])) == []


def test_search_of_an_empty_collection_gives_no_hits(client: MilvusClient, collection_name: str) -> None:
    make_c1(client, collection_name, load=True)
    answers = client.search(collection_name, [ORIGIN, ORIGIN], limit=5, output_fields=["*"])
    assert [list(hits) for hits in answers] == [[], []]
    assert list(client.query(collection_name, filter="id > 0", output_fields=["*"])) == []


@pytest.mark.parametrize("digits", [0, 1, 3, 6])
def test_round_decimal_rounds_scores(client: MilvusClient, collection_name: str, digits: int) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, [{"id": 1, "vec": [1.2345678, 0.0, 0.0, 0.0], "a": 1}])
    params = {"round_decimal": digits}
    hit = client.search(collection_name, [ORIGIN], limit=1, search_params=params, round_decimal=digits)[0][0]
    assert hit["distance"] == pytest.approx(round(1.2345678**2, digits), abs=1e-6)


def test_output_fields_name_columns_dynamic_keys_or_all(client: MilvusClient, line: str) -> None:
    def entity(*names: str) -> dict[str, Any]:
        hit = client.search(line, [ORIGIN], limit=1, output_fields=list(names))[0][0]
        return dict(hit["entity"])

    vec = [0.0, 0.0, 0.0, 0.0]
    assert entity() == {}
    assert entity("a") == {"a": 0}
    assert entity("color") == {"color": "red"}
    assert entity("a", "color", "vec") == {"a": 0, "color": "red", "vec": vec}
    assert entity("*") == {"id": 0, "a": 0, "color": "red", "vec": vec}
    assert entity("no_such_key") == {}


@pytest.mark.parametrize("name", ["%", "a-b", "two words", 'color["x"]', '$meta["a"]["b"]', "$meta[1]", "9lives"])
def test_a_dynamic_key_must_be_one_that_a_filter_could_name(stub: Any, line: str, name: str) -> None:
    for response in (
        stub.Search(search_request(line, [ORIGIN], 1, output_fields=[name])),
        stub.Query(query_request(line, "id > 0", [name])),
    ):
        assert response.status.code == 1100
        assert f"parse output field name failed: {name}" in response.status.reason


def test_unknown_output_field_is_refused_without_a_dynamic_field(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    make_c1(client, collection_name, load=True)
    for response in (
        stub.Search(search_request(collection_name, [ORIGIN], 1, output_fields=["nope"])),
        stub.Query(query_request(collection_name, "id > 0", ["nope"])),
    ):
        assert response.status.code == 1100
        assert "field nope not exist" in response.status.reason


def test_get_returns_the_rows_that_exist(client: MilvusClient, line: str) -> None:
    rows = client.get(line, ids=[40, 7, 1000, -1], output_fields=["a"])
    assert sorted((r["id"], r["a"]) for r in rows) == [(7, 70), (40, 400)]
    assert list(client.get(line, ids=[1000])) == []


@pytest.mark.parametrize(
    ("filter_text", "number"),
    [("", 50), ("id < 35", 35), ('color == "blue"', 20), ("a < 0", 0), ("id in [1, 2, 99]", 2)],
)
def test_count_counts_rows_that_pass(client: MilvusClient, line: str, filter_text: str, number: int) -> None:
    assert client.query(line, filter=filter_text, output_fields=["count(*)"])[0]["count(*)"] == number


def test_an_inserted_row_is_seen_by_the_next_strong_read(client: MilvusClient, collection_name: str) -> None:
    """DT-14"""
    make_c1(client, collection_name, load=True)
    for i in range(20):
        client.insert(collection_name, c1_rows(1, first=i))
        found = client.query(collection_name, filter=f"id == {i}", consistency_level="Strong")
        assert [r["id"] for r in found] == [i]
        assert (
            client.search(collection_name, [[float(i), 0, 0, 0]], limit=1, consistency_level="Strong")[0][0]["id"] == i
        )


@pytest.mark.parametrize("level", ["Strong", "Session", "Bounded", "Eventually"])
def test_every_consistency_level_reads_own_writes(client: MilvusClient, collection_name: str, level: str) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(3))
    assert len(client.query(collection_name, filter="id >= 0", consistency_level=level)) == 3


def test_statistics_count_rows_before_and_after_a_flush(client: MilvusClient, collection_name: str) -> None:
    make_c1(client, collection_name)
    client.insert(collection_name, c1_rows(7))
    assert client.get_collection_stats(collection_name) == {"row_count": 7}
    client.flush(collection_name)
    assert client.get_collection_stats(collection_name) == {"row_count": 7}


def test_many_flushes_make_many_segments_that_answer_as_one(client: MilvusClient, collection_name: str) -> None:
    make_c1(client, collection_name, load=True)
    for batch in range(8):
        client.insert(collection_name, c1_rows(5, first=5 * batch))
        client.flush(collection_name)
    assert _ids(client, collection_name, limit=40) == list(range(40))
    rows = client.query(collection_name, filter="id >= 0", output_fields=["a"])
    assert [r["a"] for r in rows] == [10 * i for i in range(40)]


def test_anns_field_may_be_omitted_with_one_vector_field(stub: Any, line: str) -> None:
    response = assert_ok(stub.Search(search_request(line, [ORIGIN], 2, anns_field="")))
    assert list(response.results.ids.int_id.data) == [0, 1]


def test_two_vector_fields_are_searched_each_by_its_own_name(client: MilvusClient, collection_name: str) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("v0", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("v1", DataType.FLOAT_VECTOR, dim=3)
    client.create_collection(collection_name, schema=schema)
    add_index(client, collection_name, "v0", "FLAT", "L2")
    add_index(client, collection_name, "v1", "HNSW", "IP")
    client.load_collection(collection_name)
    client.insert(collection_name, [{"id": i, "v0": [float(i), 0.0], "v1": [float(i), 0.0, 0.0]} for i in range(5)])
    first = client.search(collection_name, [[0.0, 0.0]], anns_field="v0", limit=2)[0]
    second = client.search(collection_name, [[1.0, 0.0, 0.0]], anns_field="v1", limit=2)[0]
    assert [(h["id"], h["distance"]) for h in first] == [(0, 0.0), (1, 1.0)]
    assert [(h["id"], h["distance"]) for h in second] == [(4, 4.0), (3, 3.0)]


def test_queries_counts_and_iterators_leave_out_growing_rows_if_asked(
    client: MilvusClient, collection_name: str
) -> None:
    make_quick(client, collection_name, 4, metric="L2", index_type="FLAT")
    client.insert(collection_name, [{"id": i, "vector": [float(i), 0, 0, 0]} for i in range(10)])
    client.flush(collection_name)
    client.insert(collection_name, [{"id": i, "vector": [float(i), 0, 0, 0]} for i in range(10, 20)])
    client.upsert(collection_name, [{"id": 1, "vector": [50.0, 0, 0, 0]}])
    sealed = [0, *range(2, 10)]

    def keys(**options: Any) -> list[int]:
        return [r["id"] for r in client.query(collection_name, filter="id >= 0", output_fields=["id"], **options)]

    assert keys() == keys(ignore_growing=False) == [*range(20)]
    assert keys(ignore_growing=True) == sealed
    assert keys(ignore_growing=True, limit=3, offset=2) == sealed[2:5]
    count = client.query(collection_name, filter="", output_fields=["count(*)"], ignore_growing=True)
    assert count[0]["count(*)"] == 9
    iterator = client.query_iterator(
        collection_name, batch_size=4, filter="id >= 0", output_fields=["id"], ignore_growing=True
    )
    found: list[int] = []
    while batch := iterator.next():
        found += [r["id"] for r in batch]
    iterator.close()
    assert found == sealed
    hits = client.search(collection_name, [[1.0, 0.0, 0.0, 0.0]], limit=20, ignore_growing=True)[0]
    assert sorted(h["id"] for h in hits) == sealed
    for value in (2.3, "perhaps"):
        with pytest.raises(MilvusException, match="parse ignore growing field failed") as caught:
            keys(ignore_growing=value)
        assert caught.value.code == 1100
