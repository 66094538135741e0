"""Searches by ids: the vectors of these rows are the queries, in the order of the ids."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import requests
from conftest import Server
from grpc_calls import assert_ok, assert_refused, search_request
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2
from sample_collections import DIM, add_index, c1_rows, make_c1, make_text_keys, make_two_vectors

SEALED, ROWS = 300, 360
RELEASED = "held_back"
KINDS = {
    "f32": (DataType.FLOAT_VECTOR, "COSINE"),
    "f32n": (DataType.FLOAT_VECTOR, "L2"),
    "f16": (DataType.FLOAT16_VECTOR, "IP"),
    "bf16": (DataType.BFLOAT16_VECTOR, "COSINE"),
    "i8": (DataType.INT8_VECTOR, "L2"),
}
MISSING = "some of the provided primary key IDs do not exist: missing IDs = [{}]: invalid parameter"
ORDER = [310, 7, 299, 0, 359, 42]
"""Sealed and growing rows, in no order of their keys."""


def _native(kind: str, vectors: Any) -> Any:
    """Rows as pymilvus takes them, for the field and for a search."""
    match KINDS[kind][0]:
        case DataType.FLOAT16_VECTOR:
            return [v.astype(np.float16) for v in vectors]
        case DataType.BFLOAT16_VECTOR:
            return [(v.view(np.uint32) >> 16).astype(np.uint16).tobytes() for v in vectors]
        case DataType.INT8_VECTOR:
            return [(v * 30).clip(-128, 127).astype(np.int8) for v in vectors]
    return [v.tolist() for v in vectors]


class World:
    """`sent`: the vectors of each field as they were sent, by key; every third one of f32n is NULL."""

    def __init__(self, client: MilvusClient) -> None:
        self.client, self.name = client, f"by_ids_{uuid.uuid4().hex[:8]}"
        rng = np.random.default_rng(5)
        self.sent = {k: _native(k, rng.normal(size=(ROWS, 8)).astype(np.float32)) for k in KINDS}
        self.sent["f32n"] = [None if i % 3 == 0 else v for i, v in enumerate(self.sent["f32n"])]
        schema = client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("a", DataType.INT64)
        for kind, (data_type, _) in KINDS.items():
            schema.add_field(kind, data_type, dim=8, nullable=kind == "f32n")
        client.create_collection(self.name, schema=schema)
        for kind, (_, metric) in KINDS.items():
            add_index(client, self.name, kind, "FLAT" if kind == "bf16" else "HNSW", metric)
        client.load_collection(self.name)
        self._insert(0, SEALED)
        client.flush(self.name)
        self._insert(SEALED, ROWS)

    def _insert(self, first: int, last: int) -> None:
        vectors = [{k: self.sent[k][i] for k in KINDS} for i in range(first, last)]
        self.client.insert(self.name, [{"id": i, "a": i % 5, **vectors[i - first]} for i in range(first, last)])

    def search(self, field: str, **options: Any) -> list[list[dict[str, Any]]]:
        return [list(hits) for hits in self.client.search(self.name, anns_field=field, **options)]

    def vectors(self, field: str, keys: Sequence[int]) -> list[Any]:
        return [self.sent[field][key] for key in keys]


def _ids_request(name: str, keys: Sequence[Any], **more: Any) -> Any:
    request = search_request(name, [], **more)
    data = request.ids.str_id.data if keys and isinstance(keys[0], str) else request.ids.int_id.data
    data.extend(keys)
    return request


def _refusal(client: MilvusClient, name: str, **options: Any) -> tuple[int, str]:
    with pytest.raises(MilvusException) as caught:
        client.search(name, **options)
    return caught.value.code, caught.value.message


@pytest.mark.parametrize("field", [k for k in KINDS if k != "f32n"])
def test_a_search_by_ids_equals_the_search_by_their_vectors_for_every_type(world: World, field: str) -> None:
    found = world.search(field, ids=ORDER, limit=7)
    assert found == world.search(field, data=world.vectors(field, ORDER), limit=7)
    if KINDS[field][1] != "IP":
        assert [hits[0]["id"] for hits in found] == ORDER


@pytest.mark.parametrize(
    "options",
    [
        {"filter": "a == 2 and id > 100", "output_fields": ["a", "i8"]},
        {"filter": "a in {some}", "filter_params": {"some": [0, 4]}},
        {"offset": 4, "round_decimal": 2},
        {"search_params": {"params": {"radius": 0.1, "range_filter": 0.7}}},
        {"ignore_growing": True},
        {"search_params": {"metric_type": "COSINE", "params": {"ef": 200}}, "output_fields": ["*"]},
    ],
)
def test_every_search_option_works_with_ids(world: World, options: dict[str, Any]) -> None:
    found = world.search("f32", ids=ORDER, limit=9, **options)
    assert found == world.search("f32", data=world.vectors("f32", ORDER), limit=9, **options)
    assert any(found), "the options leave no hits to compare"


def test_a_null_vector_gives_an_empty_group(world: World) -> None:
    keys = [330, 301, 3, 4, 0]
    found = world.search("f32n", ids=keys, limit=3, output_fields=["a"])
    assert [len(hits) for hits in found] == [0, 3, 0, 3, 0]
    assert [found[1], found[3]] == world.search(
        "f32n", data=world.vectors("f32n", [301, 4]), limit=3, output_fields=["a"]
    )
    assert world.search("f32n", ids=[3, 300], limit=3, output_fields=["a"]) == [[], []]


def test_a_single_id_need_not_be_in_a_list(world: World) -> None:
    assert world.search("i8", ids=5, limit=2) == world.search("i8", data=world.vectors("i8", [5]), limit=2)


def test_searches_by_ids_and_by_vectors_are_cached_apart(world: World) -> None:
    vectors, other = world.vectors("f32", [8]), world.vectors("f32", [9])
    for _ in range(2):
        assert world.search("f32", data=vectors, limit=1)[0][0]["id"] == 8
        assert world.search("f32", ids=[7], limit=1)[0][0]["id"] == 7
        assert world.search("f32", ids=[6], limit=1)[0][0]["id"] == 6
        assert world.search("f32", data=other, limit=1)[0][0]["id"] == 9


def test_an_iterator_by_ids_equals_one_by_their_vector(world: World, stub: Any) -> None:
    given = {"anns_field": "i8", "limit": 10, "iterator": True, "search_iter_v2": True, "search_iter_batch_size": 10}
    by_id = assert_ok(stub.Search(_ids_request(world.name, [12], **given))).results
    assert list(by_id.ids.int_id.data) == [hit["id"] for hit in world.search("i8", ids=[12], limit=10)[0]]
    assert by_id.search_iterator_v2_results.token
    assert_refused(stub.Search(_ids_request(world.name, [12, 13], **given)), 1100, "takes one vector, but nq is 2")


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ({"ids": [1, 2, 1]}, 1100, "duplicate IDs found in search request: invalid parameter"),
        ({"ids": [1, 900, 2, -5]}, 1100, MISSING.format("900 -5")),
        (
            {"ids": ["1", "2"]},
            1100,
            "primary key is int64, but IDs type mismatch: invalid parameter[expected=int64 IDs][actual=got other type]",
        ),
        (
            {"ids": [1], "anns_field": ""},
            1100,
            "multiple vector fields exist, please specify anns_field in search_params: "
            "invalid parameter[expected=valid anns_field in search_params][actual=missing]",
        ),
        ({"ids": [1], "anns_field": "nope"}, 1700, "vector field not found in schema: field not found[field=nope]"),
        ({"ids": [1], "anns_field": "a"}, 1100, "field (a) to search is not of vector data type: invalid parameter"),
        (
            {"ids": [*range(16385)], "limit": 16385},
            1100,
            "nq [16385] is invalid, nq (number of search vector per search request) should be in range [1, 16384], "
            "but got 16385: invalid parameter",
        ),
        ({"ids": [1], "partition_names": ["nope"]}, 1100, "partition name nope not found: invalid parameter"),
        ({"ids": [1, 900], "filter": "nope ==="}, 1100, MISSING.format("900")),
    ],
)
def test_invalid_ids_are_refused(world: World, options: dict[str, Any], code: int, text: str) -> None:
    assert _refusal(world.client, world.name, **{"anns_field": "f32", **options}) == (code, text)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"limit": 16385}, "topk [16385] is invalid"),
        ({"filter": "nope ==="}, "cannot parse expression"),
        ({"search_params": {"metric_type": "L2"}}, "metric type not match: invalid parameter[expected=COSINE]"),
        ({"output_fields": ["nope"]}, "field nope not exist"),
    ],
)
def test_other_errors_are_those_of_a_search_by_vectors(world: World, options: dict[str, Any], text: str) -> None:
    code, message = _refusal(world.client, world.name, ids=[1, 2], anns_field="f32", **options)
    assert (code, text in message) == (1100, True), message
    assert _refusal(world.client, world.name, data=world.vectors("f32", [1, 2]), anns_field="f32", **options) == (
        code,
        message,
    )


def test_an_empty_id_list_is_a_search_without_vectors(world: World, stub: Any) -> None:
    assert_refused(stub.Search(_ids_request(world.name, [], anns_field="f32")), 1100, "nq [0] is invalid")
    unset = search_request(world.name, [], anns_field="f32")
    unset.ids.SetInParent()
    assert_refused(stub.Search(unset), 1100, "nq [0] is invalid")


def test_empty_groups_count_as_queries_in_the_response(world: World, stub: Any) -> None:
    some = assert_ok(stub.Search(_ids_request(world.name, [3, 4], anns_field="f32n", limit=2))).results
    assert (some.num_queries, some.top_k, list(some.topks), len(some.scores)) == (2, 2, [0, 2], 2)
    none = assert_ok(stub.Search(_ids_request(world.name, [3, 6], anns_field="f32n", limit=2))).results
    assert (none.num_queries, none.top_k, list(none.topks), len(none.scores)) == (2, 0, [0, 0], 0)


def test_explain_answers_for_a_search_by_ids(world: World, server: Server) -> None:
    body: dict[str, Any] = {"collectionName": world.name, "annsField": "f32n", "ids": [1, 2], "limit": 3}
    answer = requests.post(f"{server.uri}/milvine/v1/explain", json=body, timeout=30).json()
    assert {look["state"] for look in answer["data"]} == {"growing", "sealed"}
    answer = requests.post(f"{server.uri}/milvine/v1/explain", json={**body, "ids": [3]}, timeout=30).json()
    assert answer == {"code": 0, "data": [], "plan": []}


def test_deleted_rows_are_missing_and_the_newest_row_of_a_key_is_used(
    client: MilvusClient, collection_name: str
) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(6))
    client.flush(collection_name)
    client.upsert(collection_name, [{"id": 1, "vec": [3.2, 0, 0, 0], "a": 0}])
    client.insert(collection_name, [{"id": 2, "vec": [5.1, 0, 0, 0], "a": 0}])
    client.delete(collection_name, ids=[4])
    found = client.search(collection_name, ids=[2, 1], limit=1, filter="id in [3, 5]")
    assert [hits[0]["id"] for hits in found] == [5, 3]
    code, text = _refusal(client, collection_name, ids=[4, 0, 1])
    assert (code, text) == (1100, MISSING.format(4))
    client.insert(collection_name, c1_rows(1, 4))
    assert client.search(collection_name, ids=[4], limit=1)[0][0]["id"] == 4


def test_the_vectors_are_read_at_the_timestamp_of_the_search(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(6))
    before = stub.AllocTimestamp(milvus_pb2.AllocTimestampRequest()).timestamp
    client.upsert(collection_name, [{"id": 1, "vec": [5.0, 0, 0, 0], "a": 0}])
    client.delete(collection_name, ids=[2])
    client.flush(collection_name)
    old = {"consistency_level": "Customized", "guarantee_timestamp": before}
    found = client.search(collection_name, ids=[2, 1], limit=1, **old)
    assert [(hits[0]["id"], hits[0]["distance"]) for hits in found] == [(2, 0), (1, 0)]
    assert sorted(client.search(collection_name, ids=[1], limit=2)[0].ids) == [1, 5]


def test_vectors_and_rows_are_read_at_one_timestamp_under_writes(
    server: Server, client: MilvusClient, collection_name: str
) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(3))
    stop = threading.Event()

    def write() -> None:
        other, number = server.client(), 0
        while not stop.is_set():
            number += 1
            other.upsert(collection_name, [{"id": 1, "vec": [float(number)] * DIM, "a": number}])
        other.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = set()
        for _ in range(150):
            (hit,) = client.search(collection_name, ids=[1], limit=1, filter="id == 1", output_fields=["a"])[0]
            assert hit["distance"] == 0
            seen.add(hit["entity"]["a"])
    finally:
        stop.set()
        writer.join()
    assert len(seen) > 1, "no rows were written during the searches"


def test_keys_may_be_texts(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_text_keys(client, collection_name, "key", 2, 20)
    keys = ["ä", "", "b c", "10", "9"]
    client.insert(collection_name, [{"key": k, "vec": [float(i), 0.0]} for i, k in enumerate(keys)])
    client.flush(collection_name)
    client.insert(collection_name, [{"key": "z", "vec": [9.0, 0.0]}])
    asked = ["z", "9", "ä", "", "10"]
    found = assert_ok(stub.Search(_ids_request(collection_name, asked, limit=1))).results
    assert (list(found.ids.str_id.data), list(found.scores)) == (asked, [0] * 5)
    assert _refusal(client, collection_name, ids=["10", "no", "such key"])[1] == MISSING.format("no such key")
    assert _refusal(client, collection_name, ids=["9", "9"])[1].startswith("duplicate IDs found")
    assert _refusal(client, collection_name, ids=[9]) == (
        1100,
        "primary key is varchar, but IDs type mismatch: invalid parameter[expected=string IDs][actual=got other type]",
    )


def test_rows_of_other_or_released_partitions_are_missing(client: MilvusClient, collection_name: str) -> None:
    make_c1(client, collection_name)
    client.create_partition(collection_name, RELEASED)
    client.load_collection(collection_name)
    client.insert(collection_name, c1_rows(3))
    client.insert(collection_name, c1_rows(3, 10), partition_name=RELEASED)
    found = client.search(collection_name, ids=[11, 1], limit=9)
    assert [len(hits) for hits in found] == [6, 6]
    found = client.search(collection_name, ids=[11], limit=9, partition_names=[RELEASED])
    assert sorted(found[0].ids) == [10, 11, 12]
    refused = _refusal(client, collection_name, ids=[1, 11], partition_names=[RELEASED])
    assert refused == (1100, MISSING.format(1))
    client.release_partitions(collection_name, [RELEASED])
    assert _refusal(client, collection_name, ids=[12, 1, 10]) == (1100, MISSING.format("12 10"))
    code, text = _refusal(client, collection_name, ids=[11], partition_names=[RELEASED])
    assert (code, "failed to query: " in text, "partition not loaded" in text) == (201, True, True), text


def test_an_unloaded_vector_cannot_be_searched_by_ids(client: MilvusClient, collection_name: str) -> None:
    make_two_vectors(client, collection_name, indexed=("v0", "v1"))
    client.insert(collection_name, [{"id": 1, "v0": [0.0] * DIM, "v1": [0.0] * DIM}])
    code, text = _refusal(client, collection_name, ids=[1], anns_field="v0")
    assert (code, text.startswith("failed to query: collection not loaded[collection=")) == (101, True), text
    client.load_collection(collection_name, load_fields=["id", "v0"])
    assert client.search(collection_name, ids=[1], anns_field="v0")[0].ids == [1]
    assert _refusal(client, collection_name, ids=[1], anns_field="v1") == (65535, "field v1 is not loaded")


def test_vectors_of_ids_are_bounded_by_the_size_of_a_query_answer(client: MilvusClient, collection_name: str) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=32768)
    client.create_collection(collection_name, schema=schema)
    add_index(client, collection_name, "vec")
    client.load_collection(collection_name)
    code, text = _refusal(client, collection_name, ids=[*range(801)])
    assert (code, "query results exceed the maxOutputSize Limit 104857600" in text) == (1100, True), text
    assert _refusal(client, collection_name, ids=[*range(800)])[1].startswith("some of the provided primary key")


def test_an_unknown_collection_is_not_found(stub: Any) -> None:
    assert_refused(stub.Search(_ids_request("no_such", [1])), 100, "collection not found")
