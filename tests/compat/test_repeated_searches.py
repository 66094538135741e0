"""Searches that differ only in their vectors, while their meaning changes in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from conftest import ServerFactory
from pymilvus import DataType, MilvusClient, MilvusException
from role_calls import WITH_AUTHORIZATION
from sample_collections import add_index, make_c1

POINTS = [[float(i), 0.0, 0.0, 1.0] for i in range(6)]


def _insert(client: MilvusClient, name: str, first: int, last: int) -> None:
    client.insert(name, [{"id": i, "vec": POINTS[i], "a": 10 * i} for i in range(first, last)])


def _nearest(client: MilvusClient, name: str, number: int, **options: Any) -> Any:
    options = {"limit": 1, "output_fields": ["a"], **options}
    hits = client.search(name, [POINTS[number]], anns_field="vec", **options)[0]
    return (hits[0]["id"], hits[0]["entity"]["a"]) if hits else None


@pytest.fixture
def name(client: MilvusClient, collection_name: str) -> Iterator[str]:
    make_c1(client, collection_name, index=False)
    add_index(client, collection_name, "vec", "FLAT", "L2")
    client.load_collection(collection_name)
    _insert(client, collection_name, 0, 3)
    assert _nearest(client, collection_name, 1) == (1, 10)
    yield collection_name


def test_every_repetition_has_its_own_vectors_and_sees_new_rows(client: MilvusClient, name: str) -> None:
    assert [_nearest(client, name, i) for i in range(3)] == [(0, 0), (1, 10), (2, 20)]
    assert _nearest(client, name, 5) == (2, 20)
    _insert(client, name, 3, 6)
    assert _nearest(client, name, 5) == (5, 50)
    client.delete(name, ids=[5])
    assert _nearest(client, name, 5) == (4, 40)
    many = client.search(name, POINTS, limit=1, output_fields=["a"], anns_field="vec")
    assert [hits[0]["id"] for hits in many] == [0, 1, 2, 3, 4, 4]


def test_other_filters_limits_and_fields_give_other_answers(client: MilvusClient, name: str) -> None:
    assert _nearest(client, name, 1, filter="a > 10") == (2, 20)
    assert _nearest(client, name, 1, filter="a < 10") == (0, 0)
    assert _nearest(client, name, 1, filter="a > {low}", filter_params={"low": 10}) == (2, 20)
    assert _nearest(client, name, 1, filter="a > {low}", filter_params={"low": 100}) is None
    assert len(client.search(name, [POINTS[0]], limit=2, anns_field="vec")[0]) == 2
    assert client.search(name, [POINTS[0]], limit=1, anns_field="vec")[0][0]["entity"] == {}


@pytest.mark.parametrize("vector", [[1.0, 2.0], [0.0] * 5])
def test_repeated_searches_are_checked_like_the_first(client: MilvusClient, name: str, vector: list[float]) -> None:
    with pytest.raises(MilvusException, match="vector dimension mismatch"):
        client.search(name, [vector], limit=1, output_fields=["a"], anns_field="vec")
    assert _nearest(client, name, 2) == (2, 20)


def test_repeated_searches_notice_a_release_and_other_loaded_fields(client: MilvusClient, name: str) -> None:
    client.release_collection(name)
    with pytest.raises(MilvusException) as caught:
        _nearest(client, name, 1)
    assert caught.value.code == 101
    client.load_collection(name, load_fields=["id", "vec"])
    with pytest.raises(MilvusException, match="field a is not loaded"):
        _nearest(client, name, 1)
    client.load_collection(name)
    assert _nearest(client, name, 1) == (1, 10)


def test_repeated_searches_notice_another_metric(client: MilvusClient, name: str) -> None:
    client.release_collection(name)
    client.drop_index(name, "vec")
    add_index(client, name, "vec", "FLAT", "IP")
    client.load_collection(name)
    assert _nearest(client, name, 1) == (2, 20)


def test_repeated_searches_notice_a_new_collection_of_the_same_name(client: MilvusClient, name: str) -> None:
    client.drop_collection(name)
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("a", DataType.INT64)
    client.create_collection(name, schema=schema)
    add_index(client, name, "vec", "FLAT", "L2")
    client.load_collection(name)
    client.insert(name, [{"id": 7, "vec": [1.0, 1.0], "a": 70}])
    with pytest.raises(MilvusException, match="vector dimension mismatch"):
        _nearest(client, name, 1)
    assert client.search(name, [[1.0, 1.0]], limit=1, output_fields=["a"], anns_field="vec")[0][0]["id"] == 7


def test_repeated_searches_notice_an_altered_alias(client: MilvusClient, name: str) -> None:
    other, alias = f"{name}_other", f"{name}_alias"
    make_c1(client, other, index=False)
    add_index(client, other, "vec", "FLAT", "L2")
    client.load_collection(other)
    client.insert(other, [{"id": 9, "vec": POINTS[1], "a": 90}])
    client.create_alias(name, alias)
    assert _nearest(client, alias, 1) == (1, 10)
    client.alter_alias(other, alias)
    assert _nearest(client, alias, 1) == (9, 90)
    client.drop_alias(alias)
    client.drop_collection(other)


def test_repeated_searches_notice_a_rename_and_a_drop(client: MilvusClient, name: str) -> None:
    renamed = f"{name}_renamed"
    client.rename_collection(name, renamed)
    with pytest.raises(MilvusException) as caught:
        _nearest(client, name, 1)
    assert caught.value.code == 100
    assert [_nearest(client, renamed, 1) for _ in range(3)] == [(1, 10)] * 3
    client.rename_collection(renamed, name)
    assert _nearest(client, name, 1) == (1, 10)


def test_repeated_searches_notice_rows_that_expire(client: MilvusClient, name: str) -> None:
    client.alter_collection_properties(name, {"collection.ttl.seconds": 1})
    deadline = time.monotonic() + 20
    while _nearest(client, name, 1) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _nearest(client, name, 1) is None
    client.drop_collection_properties(name, ["collection.ttl.seconds"])
    assert _nearest(client, name, 1) == (1, 10)


def test_repeated_searches_notice_an_added_field(client: MilvusClient, name: str) -> None:
    asked: dict[str, Any] = {"limit": 1, "output_fields": ["*"], "anns_field": "vec"}
    before = client.search(name, [POINTS[1]], **asked)[0][0]["entity"]
    client.add_collection_field(name, "later", DataType.INT64, nullable=True, default_value=7)
    after = client.search(name, [POINTS[1]], **asked)[0][0]["entity"]
    assert after == {**before, "later": 7}


def test_repeated_searches_are_answered_in_the_database_of_the_call(
    client: MilvusClient, server: Any, name: str
) -> None:
    database = f"{name}_db"
    client.create_database(database)
    other = server.client(db_name=database)
    with pytest.raises(MilvusException) as caught:
        _nearest(other, name, 1)
    assert caught.value.code == 100
    make_c1(other, name, index=False)
    add_index(other, name, "vec", "FLAT", "L2")
    other.load_collection(name)
    other.insert(name, [{"id": 5, "vec": POINTS[1], "a": 55}])
    for _ in range(3):
        assert (_nearest(client, name, 1), _nearest(other, name, 1)) == ((1, 10), (5, 55))
    other.alter_database_properties(database, {"database.force.deny.reading": "true"})
    with pytest.raises(MilvusException, match="access has been disabled by the administrator"):
        _nearest(other, name, 1)
    other.drop_database_properties(database, ["database.force.deny.reading"])
    assert _nearest(other, name, 1) == (5, 55)
    other.drop_collection(name)
    client.drop_database(database)
    with pytest.raises(MilvusException) as caught:
        _nearest(other, name, 1)
    assert caught.value.code == 800
    other.close()


def test_repeated_searches_are_refused_once_the_caller_may_not_search(new_server: ServerFactory) -> None:
    server = new_server(env=WITH_AUTHORIZATION)
    root = server.client(token="root:Milvus")
    make_c1(root, "c1", index=False)
    add_index(root, "c1", "vec", "FLAT", "L2")
    root.load_collection("c1")
    _insert(root, "c1", 0, 3)
    root.create_user("ann", "secret1")
    root.create_role("reader")
    root.grant_role("ann", "reader")
    root.grant_privilege_v2("reader", "Search", "c1", db_name="default")
    ann = server.client(token="ann:secret1")
    assert [_nearest(ann, "c1", i) for i in range(3)] == [_nearest(root, "c1", i) for i in range(3)]
    root.revoke_privilege_v2("reader", "Search", "c1", db_name="default")
    with pytest.raises((MilvusException, grpc.RpcError), match="permission deny"):
        _nearest(ann, "c1", 1)
    assert _nearest(root, "c1", 1) == (1, 10)
    root.grant_privilege_v2("reader", "Search", "c1", db_name="default")
    assert _nearest(ann, "c1", 1) == (1, 10)
    root.revoke_role("ann", "reader")
    with pytest.raises((MilvusException, grpc.RpcError), match="permission deny"):
        _nearest(ann, "c1", 1)
    root.grant_role("ann", "reader")
    root.update_password("ann", "secret1", "secret2")
    with pytest.raises((MilvusException, grpc.RpcError), match="auth check failure"):
        _nearest(ann, "c1", 1)
