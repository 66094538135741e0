"""Arithmetic in filters on a server, on sealed and on growing rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Server
from grpc_calls import assert_refused, query_request
from pymilvus import DataType, MilvusClient
from sample_collections import add_index, ids_of

NAME = "arithmetic"


def _row(i: int) -> dict[str, Any]:
    number = None if i % 10 == 9 else i - 10
    return {"id": i, "vec": [float(i), 0.0], "n": number, "doc": {"k": i / 2}, "nums": [i], "size": 100 * i}


@pytest.fixture(scope="module")
def filled(server: Server) -> Iterator[MilvusClient]:
    client = server.client()
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("n", DataType.INT32, nullable=True)
    schema.add_field("doc", DataType.JSON)
    schema.add_field("nums", DataType.ARRAY, element_type=DataType.INT64, max_capacity=3)
    client.create_collection(NAME, schema=schema)
    add_index(client, NAME, "vec")
    client.load_collection(NAME)
    client.insert(NAME, [_row(i) for i in range(10)])
    client.flush(NAME)
    client.insert(NAME, [_row(i) for i in range(10, 20)])
    yield client
    client.drop_collection(NAME)
    client.close()


@pytest.mark.parametrize(
    ("text", "templates", "expected"),
    [
        ("id == 3**2", {}, [9]),
        ("2+3 < id <= 4*2", {}, [6, 7, 8]),
        ("id in [1 + 1, 20 - 2]", {}, [2, 18]),
        ("id % 8 == 7", {}, [7, 15]),
        ("n % 5 == -1", {}, [4]),
        ("n / 4 == -1", {}, [3, 4, 5, 6]),
        ("not (n + 5 < 3)", {}, [8, *range(10, 19)]),
        ("doc['k'] * 2 == 13", {}, [13]),
        ("nums[0] - 1 >= 18", {}, [19]),
        ("size % 300 == 0 and size > 900 + 100", {}, [12, 15, 18]),
        ("(id & 12) == 12", {}, [12, 13, 14, 15]),
        ("id + {v} == {w}", {"v": 5, "w": 9}, [4]),
        ("{v} * id > {w}", {"v": 2, "w": 35}, [18, 19]),
    ],
)
def test_sealed_and_growing_rows_are_computed_alike(
    filled: MilvusClient, text: str, templates: dict[str, int], expected: list[int]
) -> None:
    assert sorted(ids_of(filled, NAME, text, filter_params=templates)) == expected
    hits = filled.search(NAME, [[0.0, 0.0]], limit=20, filter=text, filter_params=templates)[0]
    assert [hit["id"] for hit in hits] == expected


def test_a_filter_that_cannot_be_computed_is_an_invalid_parameter(filled: MilvusClient, server: Server) -> None:
    for text, reason in [("id / 0 == 1", "division or modulus by zero"), ("2 - id == 1", "module field is not yet")]:
        assert_refused(server.stub.Query(query_request(NAME, text)), 1100, reason, legacy=5)
