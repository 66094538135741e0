"""Range search and search iterators, against plain numpy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.grpc_gen import common_pb2, milvus_pb2
from pymilvus.milvus_client import milvus_client as sdk
from sample_collections import add_index, clustered, scores, wait_indexed

SEALED, GROWING, DIM = 3000, 400, 16
ROWS = SEALED + GROWING
INDEXES = {"L2": ("HNSW", {"M": 16, "efConstruction": 200}), "IP": ("IVF_SQ8", {"nlist": 16}), "COSINE": ("FLAT", {})}
EFFORT = {"ef": 400, "nprobe": 16}
GONE = np.arange(ROWS) % 11 == 0


@pytest.fixture(scope="module")
def base() -> Any:
    return clustered(ROWS, DIM, 5, clusters=6)


@pytest.fixture(scope="module")
def filled(_shared_client: MilvusClient, base: Any) -> Iterator[str]:
    """Sealed and growing rows, deletes in both, one field for each metric with an index of another type."""
    client, name = _shared_client, "range_search"
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("group", DataType.INT64)
    for metric in INDEXES:
        schema.add_field(metric, DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection(name, schema=schema)
    for metric, (index_type, params) in INDEXES.items():
        add_index(client, name, metric, index_type, metric, **params)
    rows = [{"id": i, "group": i % 12, **dict.fromkeys(INDEXES, v)} for i, v in enumerate(base.tolist())]
    client.insert(name, rows[:SEALED])
    client.flush(name)
    for metric in INDEXES:
        wait_indexed(client, name, metric, SEALED)
    client.load_collection(name)
    client.insert(name, rows[SEALED:])
    client.delete(name, ids=np.flatnonzero(GONE).tolist())
    yield name
    client.drop_collection(name)


def ranked(base: Any, query: Any, metric: str, kept: Any) -> list[tuple[int, float]]:
    """(id, score) of all kept rows, nearest first."""
    all_scores = scores(query[None], base, metric)[0]
    order = np.argsort(all_scores if metric == "L2" else -all_scores, kind="stable")
    return [(int(i), float(all_scores[i])) for i in order if kept[i]]


@pytest.mark.parametrize("metric", INDEXES)
@pytest.mark.parametrize("first", [0, 40, 1500], ids=["near", "farther", "far"])
@pytest.mark.parametrize("text", ["", "group in [1, 4, 7, 10]"], ids=["all", "filtered"])
def test_a_range_search_returns_the_nearest_rows_between_its_ends(
    client: MilvusClient, filled: str, base: Any, metric: str, first: int, text: str
) -> None:
    kept = ~GONE & ((np.arange(ROWS) % 3 == 1) if text else True)
    query = base[1] + 0.01
    truth = ranked(base, query, metric, kept)
    first //= 3 if text else 1
    params = {**EFFORT, "radius": truth[first + 60][1]}
    if first:
        params["range_filter"] = truth[first][1]
    for limit in (20, 100):
        hits = client.search(
            filled, [query], anns_field=metric, limit=limit, filter=text, search_params={"params": params}
        )[0]
        found = [h["id"] for h in hits]
        expected = [i for i, _ in truth[first : first + 60]][:limit]
        # The ends were rounded to float32 on the way, and the indexes are approximate.
        assert len(set(found) & set(expected)) >= 0.9 * len(expected)
        assert abs(len(found) - len(expected)) <= max(2, 0.1 * len(expected))
        distances = [h["distance"] for h in hits]
        assert distances == sorted(distances, reverse=metric != "L2")
        radius, near = np.float32(params["radius"]), np.float32(params.get("range_filter", -np.inf))
        if metric == "L2":
            assert all(near <= np.float32(d) < radius for d in distances)
        else:
            near = near if first else np.float32(np.inf)
            assert all(radius < np.float32(d) <= near for d in distances)


def test_the_near_end_is_in_the_range_and_the_far_end_is_not(client: MilvusClient, collection_name: str) -> None:
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("l2", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("ip", DataType.FLOAT_VECTOR, dim=2)
    client.create_collection(collection_name, schema=schema)
    add_index(client, collection_name, "l2", "FLAT", "L2")
    add_index(client, collection_name, "ip", "FLAT", "IP")
    client.insert(collection_name, [{"id": i, "l2": [i, 0], "ip": [i, 0]} for i in range(6)])
    client.load_collection(collection_name)

    def ids(field: str, query: list[float], **params: float) -> list[int]:
        hits = client.search(collection_name, [query], anns_field=field, limit=9, search_params={"params": params})
        return [h["id"] for h in hits[0]]

    assert ids("l2", [0, 0], radius=16, range_filter=4) == [2, 3]
    assert ids("l2", [0, 0], radius=1) == [0]
    assert ids("ip", [1, 0], radius=1, range_filter=4) == [4, 3, 2]
    assert ids("ip", [1, 0], radius=4) == [5]
    assert ids("l2", [0, 0], radius=0.5, range_filter=0.25) == []


@pytest.mark.parametrize(
    ("metric", "params", "code", "text"),
    [
        (
            "L2",
            {"range_filter": 1.0},
            1100,
            "range_filter requires radius to be set; range_filter alone is not a valid range search parameter",
        ),
        (
            "L2",
            {"radius": 1, "range_filter": 2.5},
            65535,
            "metric type (L2), range_filter(2.5) must be less than radius(1)",
        ),
        (
            "IP",
            {"radius": 2, "range_filter": 1},
            65535,
            "metric type (IP), range_filter(1) must be greater than radius(2)",
        ),
        ("COSINE", {"radius": 1, "range_filter": 1}, 65535, "range_filter(1) must be greater than radius(1)"),
        ("L2", {"radius": "wide"}, 65535, "type must be number, but is string"),
    ],
)
def test_an_invalid_range_is_refused(
    client: MilvusClient, filled: str, base: Any, metric: str, params: dict[str, Any], code: int, text: str
) -> None:
    with pytest.raises(MilvusException) as caught:
        client.search(filled, base[:1], anns_field=metric, limit=3, search_params={"params": params})
    assert caught.value.code == code
    assert text in caught.value.message


def test_growing_rows_may_be_left_out(client: MilvusClient, filled: str, base: Any) -> None:
    query = base[SEALED + 5]
    assert client.search(filled, [query], anns_field="L2", limit=1)[0][0]["id"] == SEALED + 5
    params = {"ignore_growing": True}
    hits = client.search(filled, [query], anns_field="L2", limit=50, search_params=params)[0]
    assert max(h["id"] for h in hits) < SEALED
    with pytest.raises(MilvusException, match="parse ignore growing field failed"):
        client.search(filled, [query], anns_field="L2", limit=1, search_params={"ignore_growing": "perhaps"})


def test_a_range_that_one_list_does_not_fill_has_the_rows_of_the_other_lists(
    client: MilvusClient, collection_name: str
) -> None:
    vectors = np.random.default_rng(15).random((5000, 8), np.float32)
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=8)
    client.create_collection(collection_name, schema=schema)
    client.insert(collection_name, [{"id": i, "vector": v} for i, v in enumerate(vectors.tolist())])
    client.flush(collection_name)
    add_index(client, collection_name, "vector", "IVF_FLAT", "L2", nlist=64)
    wait_indexed(client, collection_name, "vector", len(vectors))
    client.load_collection(collection_name)
    distances = ((vectors - vectors[0]) ** 2).sum(axis=1)
    near = np.argsort(distances)[:401]
    params = {"params": {"nprobe": 1, "radius": float(distances[near[-2:]].mean())}}
    found = client.search(collection_name, [vectors[0].tolist()], limit=500, search_params=params)[0]
    assert {hit["id"] for hit in found} == set(near[:-1].tolist())


@pytest.mark.parametrize("metric", INDEXES)
@pytest.mark.parametrize("version", ["v2", "v1"])
def test_an_iterator_returns_every_row_once_and_in_order(
    client: MilvusClient, filled: str, base: Any, metric: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if version == "v1":
        refuse_v2(monkeypatch)
    kept = ~GONE & (np.arange(ROWS) % 4 == 2)
    query = base[7]
    iterator = client.search_iterator(
        filled,
        [query.tolist()],
        batch_size=100,
        anns_field=metric,
        filter="group in [2, 6, 10]",
        search_params={"metric_type": metric, "params": dict(EFFORT)},
    )
    found: list[tuple[int, float]] = []
    while batch := iterator.next():
        found += [(h["id"], h["distance"]) for h in batch]
    iterator.close()
    ids = [i for i, _ in found]
    assert len(ids) == len(set(ids)), "a row came twice"
    assert [d for _, d in found] == sorted((d for _, d in found), reverse=metric != "L2")
    expected = {i for i, _ in ranked(base, query, metric, kept)}
    assert set(ids) <= expected
    if version == "v2":
        assert len(ids) >= 0.98 * len(expected)
    else:  # it stops after ten empty rings
        assert len(ids) >= 200


def refuse_v2(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's behaviour with a server that has no second version."""
    incompatible = sdk.ServerVersionIncompatibleException

    def no_v2(*arguments: Any, **options: Any) -> Any:
        raise incompatible(message="test")

    monkeypatch.setattr(sdk, "SearchIteratorV2", no_v2)


def test_an_iterator_does_not_see_what_is_written_after_its_first_step(
    client: MilvusClient, collection_name: str
) -> None:
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    client.create_collection(collection_name, schema=schema)
    add_index(client, collection_name, "vec", "FLAT", "L2")
    client.load_collection(collection_name)
    client.insert(collection_name, [{"id": i, "vec": [i, 0]} for i in range(100)])
    iterator = client.search_iterator(collection_name, [[0.0, 0.0]], batch_size=10, anns_field="vec")
    found = [h["id"] for h in iterator.next()]
    client.insert(collection_name, [{"id": 1000 + i, "vec": [i + 0.5, 0]} for i in range(100)])
    client.delete(collection_name, ids=list(range(50, 100)))
    while batch := iterator.next():
        found += [h["id"] for h in batch]
    assert found == list(range(100))


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"search_iter_v2": "True"}, "both iterator and search_iter_v2 must be set in the SDK"),
        ({"iterator": "True", "search_iter_v2": "True"}, "batch size is required"),
        ({"iterator": "True", "search_iter_v2": "True", "search_iter_batch_size": "0"}, "batch size is invalid"),
        (
            {"iterator": "True", "search_iter_v2": "True", "search_iter_batch_size": "5", "search_iter_id": "mine"},
            "invalid token format",
        ),
        (
            {
                "iterator": "True",
                "search_iter_v2": "True",
                "search_iter_batch_size": "5",
                "search_iter_last_bound": "x",
            },
            "failed to parse input last bound",
        ),
        (
            {"iterator": "True", "search_iter_v2": "True", "search_iter_batch_size": "5", "offset": "3"},
            "Setting an offset is not permitted when using a search iterator v2",
        ),
    ],
)
def test_an_iterators_parameters_are_checked(
    stub: Any, filled: str, base: Any, params: dict[str, str], text: str
) -> None:
    request = search_request(filled, base[:1], "L2", topk="5", **params)
    answer = stub.Search(request)
    assert answer.status.code in (1100, 1101)
    assert text in answer.status.reason


def search_request(name: str, queries: Any, field: str, **params: str) -> Any:
    holder = common_pb2.PlaceholderValue(tag="$0", type=101, values=[q.tobytes() for q in queries])
    pairs = [common_pb2.KeyValuePair(key=k, value=v) for k, v in {"anns_field": field, **params}.items()]
    return milvus_pb2.SearchRequest(
        collection_name=name,
        placeholder_group=common_pb2.PlaceholderGroup(placeholders=[holder]).SerializeToString(),
        search_params=pairs,
    )


def test_as_many_queries_as_are_allowed_are_answered_and_too_large_an_answer_is_refused(
    stub: Any, filled: str, base: Any
) -> None:
    queries = np.tile(base[:512], (32, 1))
    answer = stub.Search(search_request(filled, queries, "L2", topk="3"))
    assert answer.status.code == 0
    assert list(answer.results.topks) == [3] * 16384
    first = list(answer.results.ids.int_id.data)
    assert first[: 512 * 3] == first[-512 * 3 :]
    answer = stub.Search(search_request(filled, queries, "COSINE", topk="3000"))
    assert answer.status.code == 1100
    assert "search results exceed the maxOutputSize Limit" in answer.status.reason
