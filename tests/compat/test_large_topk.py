"""The collection property `query_mode: large_topk` lifts the limit of searches and queries to a million rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import Server
from pymilvus import DataType, MilvusClient, MilvusException

MODE = {"query_mode": "large_topk"}
ROWS = 20_000


def refusal(call: Any, *arguments: Any, **keywords: Any) -> tuple[int, str]:
    with pytest.raises(MilvusException) as caught:
        call(*arguments, **keywords)
    return caught.value.code, caught.value.message


def make(client: MilvusClient, name: str, properties: dict[str, str] | None) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    index = client.prepare_index_params("vec", index_type="HNSW", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index, properties=properties)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[MilvusClient]:
    made = server.client()
    make(made, "large", MODE)
    vectors = np.random.default_rng(3).standard_normal((ROWS, 4), dtype=np.float32)
    made.insert("large", [{"id": i, "vec": vector} for i, vector in enumerate(vectors)])
    yield made
    made.drop_collection("large")
    made.close()


@pytest.mark.parametrize("limit", [1, 16_384, 16_385, ROWS, 1_000_000])
def test_searches_and_queries_return_as_many_rows_as_asked_for(client: MilvusClient, limit: int) -> None:
    expected = min(limit, ROWS)
    (hits,) = client.search("large", [[0.0] * 4], limit=limit)
    distances = [hit["distance"] for hit in hits]
    assert len({hit["id"] for hit in hits}) == expected
    assert distances == sorted(distances)
    assert len(client.query("large", filter="id >= 0", limit=limit, output_fields=["id"])) == expected


def test_more_than_a_million_is_refused_with_its_own_range(client: MilvusClient) -> None:
    text = "it should be in range [1, 1000000], but got 1000001"
    assert refusal(client.search, "large", [[0.0] * 4], limit=1_000_001) == (
        1100,
        f"topk [1000001] is invalid, {text}: invalid parameter",
    )
    code, message = refusal(client.query, "large", filter="id >= 0", limit=1_000_001)
    assert (code, "(offset+limit) should be in range [1, 1000000], but got 1000001" in message) == (1100, True)


@pytest.mark.parametrize(
    ("properties", "text"),
    [
        ({"query_mode": "Large_TopK"}, 'invalid query_mode value "Large_TopK", valid values: [large_topk]'),
        ({"Query_Mode": "large_topk"}, 'invalid property key "Query_Mode", did you mean "query_mode"?'),
    ],
)
def test_other_values_are_refused_when_a_collection_is_created_or_altered(
    client: MilvusClient, properties: dict[str, str], text: str
) -> None:
    expected = (1100, f"{text}: invalid parameter")
    assert refusal(make, client, "never", properties) == expected
    assert refusal(client.alter_collection_properties, "large", properties) == expected
    assert not client.has_collection("never")


def test_query_mode_changes_only_without_a_vector_index(client: MilvusClient) -> None:
    make(client, "changing", None)
    text = (
        "can not alter query_mode if the collection already has a vector index. Please drop the index first: "
        "index duplicates[indexName=vec]"
    )
    assert refusal(client.alter_collection_properties, "changing", MODE) == (702, text)
    assert refusal(client.drop_collection_properties, "large", ["query_mode"]) == (702, text)
    client.release_collection("changing")
    client.drop_index("changing", "vec")
    client.alter_collection_properties("changing", MODE)
    assert client.describe_collection("changing")["properties"]["query_mode"] == "large_topk"
    client.drop_collection_properties("changing", ["query_mode"])
    assert "query_mode" not in client.describe_collection("changing")["properties"]
    client.drop_collection("changing")
