"""Deletes by id and by filter, before and after a flush, loaded or not."""

from __future__ import annotations

from typing import Any

import pytest
from grpc_calls import assert_ok, assert_refused, collection_id
from pymilvus import MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2
from sample_collections import c1_rows, ids_of, make_c1

EVERYTHING = "id >= 0"


def _delete(stub: Any, name: str, text: str) -> Any:
    return stub.Delete(milvus_pb2.DeleteRequest(collection_name=name, expr=text))


def _seen(client: MilvusClient, name: str) -> list[int]:
    """Visible ids, required to be the same through query, count and search."""
    ids = ids_of(client, name, EVERYTHING)
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == len(ids)
    assert [h["id"] for h in client.search(name, [[0.0, 0.0, 0.0, 0.0]], limit=100)[0]] == ids
    return ids


@pytest.mark.parametrize("flush_before", [False, True], ids=["growing", "sealed"])
@pytest.mark.parametrize("flush_after", [False, True], ids=["log", "delta file"])
@pytest.mark.parametrize("how", ["ids", "key filter", "filter"])
def test_deleted_rows_stay_deleted_after_flush_release_and_load(
    client: MilvusClient, collection_name: str, how: str, flush_before: bool, flush_after: bool
) -> None:
    """DT-16"""
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(10))
    if flush_before:
        client.flush(collection_name)
    if how == "ids":
        client.delete(collection_name, ids=[2, 3, 77])
    else:
        client.delete(collection_name, filter="id in [2, 3]" if how == "key filter" else "a >= 20 and a <= 30")
    left = [0, 1, 4, 5, 6, 7, 8, 9]
    assert _seen(client, collection_name) == left
    if flush_after:
        client.flush(collection_name)
    assert _seen(client, collection_name) == left
    client.release_collection(collection_name)
    client.load_collection(collection_name)
    assert _seen(client, collection_name) == left


@pytest.mark.parametrize("flush", [False, True], ids=["growing", "sealed"])
def test_rows_deleted_while_unloaded_are_gone_after_load(
    client: MilvusClient, stub: Any, collection_name: str, flush: bool
) -> None:
    """DT-09"""
    make_c1(client, collection_name)
    client.insert(collection_name, c1_rows(5))
    if flush:
        client.flush(collection_name)
    assert assert_ok(_delete(stub, collection_name, "id in [1]")).delete_cnt == 1
    assert_ok(_delete(stub, collection_name, "id == 3"))
    client.load_collection(collection_name)
    assert _seen(client, collection_name) == [0, 2, 4]


def test_delete_by_another_filter_needs_a_loaded_collection(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    """DT-10"""
    make_c1(client, collection_name)
    client.insert(collection_name, c1_rows(5))
    text = f"collection not loaded[collection={collection_id(stub, collection_name)}]"
    refused = assert_refused(_delete(stub, collection_name, "a > 0"), 101, text)
    assert refused.status.reason == text, "the message has no prefix"
    client.load_collection(collection_name)
    assert _seen(client, collection_name) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("flush", [False, True], ids=["growing", "sealed"])
def test_a_key_inserted_again_after_its_delete_is_seen(client: MilvusClient, collection_name: str, flush: bool) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(3))
    if flush:
        client.flush(collection_name)
    client.delete(collection_name, ids=[1])
    client.insert(collection_name, [{"id": 1, "vec": [1.0, 0.0, 0.0, 0.0], "a": 999}])
    assert _seen(client, collection_name) == [0, 1, 2]
    client.flush(collection_name)
    client.release_collection(collection_name)
    client.load_collection(collection_name)
    assert _seen(client, collection_name) == [0, 1, 2]
    assert client.get(collection_name, ids=[1], output_fields=["a"])[0]["a"] == 999


def test_delete_answers_the_number_of_keys(client: MilvusClient, collection_name: str) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(10))
    assert client.delete(collection_name, ids=[0, 1])["delete_count"] == 2
    assert client.delete(collection_name, filter="a >= 50")["delete_count"] == 5
    assert client.delete(collection_name, filter="a >= 50")["delete_count"] == 0
    assert _seen(client, collection_name) == [2, 3, 4]


def test_deleting_everything_leaves_an_empty_collection_that_works(client: MilvusClient, collection_name: str) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(20))
    client.flush(collection_name)
    client.delete(collection_name, filter="id >= 0")
    assert _seen(client, collection_name) == []
    client.flush(collection_name)
    client.insert(collection_name, c1_rows(2, first=100))
    assert _seen(client, collection_name) == [100, 101]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "delete plan can't be empty or always true"),
        ("((", "failed to create delete plan: cannot parse expression: (("),
        ("nope == 1", "failed to create delete plan: cannot parse expression: nope == 1"),
    ],
)
def test_bad_delete_filter_is_refused_and_deletes_nothing(
    client: MilvusClient, stub: Any, collection_name: str, text: str, reason: str
) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(3))
    assert_refused(_delete(stub, collection_name, text), 1100, reason, legacy=5)
    assert _seen(client, collection_name) == [0, 1, 2]


@pytest.mark.parametrize(
    "text", ["true", "1 == 1", "id >= 0 or true", "not false", "true or a == {x}", "2 > 1 and true"]
)
def test_a_delete_whose_filter_is_always_true_is_refused_and_deletes_nothing(
    client: MilvusClient, stub: Any, collection_name: str, text: str
) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(3))
    with pytest.raises(MilvusException) as refused:
        client.delete(collection_name, filter=text, filter_params={"x": 1})
    assert refused.value.code == 1100
    assert refused.value.message.startswith(f"delete plan can't be empty or always true : {text}: invalid parameter")
    assert _seen(client, collection_name) == [0, 1, 2]
    assert client.delete(collection_name, filter="id is not null")["delete_count"] == 3


def test_delete_in_a_missing_collection_is_refused(stub: Any, collection_name: str) -> None:
    text = f"collection not found[database=default][collection={collection_name}]"
    assert_refused(_delete(stub, collection_name, "id in [1]"), 100, text, legacy=4)


@pytest.mark.parametrize("flush", [False, True], ids=["growing", "sealed"])
def test_a_deletes_filter_takes_template_values(client: MilvusClient, collection_name: str, flush: bool) -> None:
    """A delete by key needs no load, whether the keys are literals or template values."""
    make_c1(client, collection_name)
    client.insert(collection_name, c1_rows(10))
    if flush:
        client.flush(collection_name)
    client.delete(collection_name, filter="id in {ids}", filter_params={"ids": [1, 2, 77]})
    client.delete(collection_name, filter="id == {one}", filter_params={"one": 3})
    client.load_collection(collection_name)
    assert ids_of(client, collection_name, EVERYTHING) == [0, 4, 5, 6, 7, 8, 9]
    client.delete(collection_name, filter="a > {low} and a in {some}", filter_params={"low": 40, "some": [40, 50, 90]})
    assert ids_of(client, collection_name, EVERYTHING) == [0, 4, 6, 7, 8]
