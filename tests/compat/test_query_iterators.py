"""Query iterators: every row once, in key order, as it was when the iterator began."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from grpc_calls import assert_ok, assert_refused, query_request
from pymilvus import DataType, MilvusClient
from sample_collections import c1_rows, make_c1, make_quick

EVERYTHING = "id >= 0"


def _pages(iterator: Any) -> list[list[dict[str, Any]]]:
    pages: list[list[dict[str, Any]]] = []
    while page := iterator.next():
        pages.append(list(page))
    iterator.close()
    return pages


@pytest.mark.parametrize("flushes", [0, 2], ids=["growing", "several segments"])
def test_pages_cover_all_rows_in_key_order(client: MilvusClient, collection_name: str, flushes: int) -> None:
    make_c1(client, collection_name, load=True)
    for part in range(3):
        client.insert(collection_name, [row for row in c1_rows(100) if row["id"] % 3 == part])
        if part < flushes:
            client.flush(collection_name)
    pages = _pages(client.query_iterator(collection_name, batch_size=30, output_fields=["a"]))
    assert [len(page) for page in pages] == [30, 30, 30, 10]
    rows = [row for page in pages for row in page]
    assert [(row["id"], row["a"]) for row in rows] == [(i, 10 * i) for i in range(100)]
    filtered = _pages(client.query_iterator(collection_name, batch_size=7, filter="a >= 500", limit=20))
    assert [row["id"] for page in filtered for row in page] == list(range(50, 70))
    skipping = client.query_iterator(collection_name, batch_size=40, filter=EVERYTHING, offset=90)
    assert [row["id"] for page in _pages(skipping) for row in page] == list(range(90, 100))


def test_iterators_page_over_text_keys(client: MilvusClient, collection_name: str) -> None:
    make_quick(client, collection_name, 2, data_type=DataType.VARCHAR, max_length=16)
    keys = sorted(f"k{i}" for i in range(25))
    client.insert(collection_name, [{"id": key, "vector": [1, i]} for i, key in enumerate(keys)])
    pages = _pages(client.query_iterator(collection_name, batch_size=10))
    assert [row["id"] for page in pages for row in page] == keys


@pytest.mark.parametrize("flush", [False, True], ids=["growing", "sealed"])
def test_changes_after_the_first_page_are_not_seen(client: MilvusClient, collection_name: str, flush: bool) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(20))
    if flush:
        client.flush(collection_name)
    iterator = client.query_iterator(collection_name, batch_size=5, output_fields=["a"])
    rows = list(iterator.next())
    client.delete(collection_name, ids=[6])
    client.delete(collection_name, filter="a == 100")
    client.upsert(collection_name, [{**c1_rows(9)[8], "a": -1}])
    client.insert(collection_name, c1_rows(5, first=20))
    if flush:
        client.flush(collection_name)
    rows += [row for page in _pages(iterator) for row in page]
    assert [(row["id"], row["a"]) for row in rows] == [(i, 10 * i) for i in range(20)]
    now = [
        row
        for page in _pages(client.query_iterator(collection_name, batch_size=99, output_fields=["a"]))
        for row in page
    ]
    assert [row["id"] for row in now] == [i for i in range(25) if i not in (6, 10)]
    assert now[7] == {"id": 8, "a": -1}


def test_an_iterator_over_nothing_sees_nothing_later(client: MilvusClient, collection_name: str) -> None:
    make_c1(client, collection_name, load=True)
    iterator = client.query_iterator(collection_name, batch_size=5)
    client.insert(collection_name, c1_rows(3))
    assert _pages(iterator) == []


def test_an_iterator_continues_from_its_file_at_its_own_timestamp(
    client: MilvusClient, collection_name: str, tmp_path: Path
) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(10))
    cursor = str(tmp_path / "cursor")
    first = client.query_iterator(collection_name, batch_size=4, iterator_cp_file=cursor)
    assert [row["id"] for row in first.next()] == [0, 1, 2, 3]
    client.delete(collection_name, ids=[5])
    again = client.query_iterator(collection_name, batch_size=4, iterator_cp_file=cursor)
    assert [row["id"] for page in _pages(again) for row in page] == [4, 5, 6, 7, 8, 9]


def test_an_iterator_continues_after_a_restart(new_server: Callable[..., Any]) -> None:
    """The client keeps the timestamp; rows deleted after it are read until they are compacted."""
    server = new_server()
    client = server.client()
    make_c1(client, "c", load=True)
    client.insert("c", c1_rows(6))
    stub = server.stub
    read_ts = assert_ok(stub.Query(query_request("c", EVERYTHING, limit=2, iterator="True"))).session_ts
    client.delete("c", ids=[3])
    client.flush("c")
    client.close()
    server.kill()
    server.start()
    client = server.client()
    client.load_collection("c")
    request = query_request("c", EVERYTHING, limit=9, iterator="True", reduce_stop_for_best="True")
    assert list(assert_ok(server.stub.Query(request)).fields_data[0].scalars.long_data.data) == [0, 1, 2, 4, 5]
    request.guarantee_timestamp = read_ts
    answer = assert_ok(server.stub.Query(request))
    assert list(answer.fields_data[0].scalars.long_data.data) == [0, 1, 2, 3, 4, 5]
    assert answer.session_ts == read_ts
    client.close()


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"iterator": "maybe"}, "value for iterator is invalid: invalid parameter[expected=true or false]"),
        ({"reduce_stop_for_best": "maybe"}, "value for reduce_stop_for_best is invalid"),
        ({"iterator": "True", "collection_id": 1}, "Input collection id is not consistent to collectionID"),
        ({"iterator": "True", "limit": 16385}, "(offset+limit) should be in range [1, 16384], but got 16385"),
    ],
)
def test_a_bad_page_is_refused(
    client: MilvusClient, stub: Any, collection_name: str, params: dict[str, Any], text: str
) -> None:
    make_c1(client, collection_name, load=True)
    assert_refused(stub.Query(query_request(collection_name, EVERYTHING, **{"limit": 5, **params})), 1100, text)
