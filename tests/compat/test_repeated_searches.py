"""Searches that differ only in their vectors, while their meaning changes in between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pymilvus import DataType, MilvusClient, MilvusException
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
