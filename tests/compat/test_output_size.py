"""An answer has at most 100 MB of values; a larger one is refused before it is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException

DIM = 32768
ROWS = 900
TOO_LARGE = "results exceed the maxOutputSize Limit 104857600"


@pytest.fixture(params=["growing", "sealed"])
def large(client: MilvusClient, collection_name: str, request: Any) -> str:
    """118 MB of vectors in rows of 128 KB."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params("vec", index_type="FLAT", metric_type="L2")
    client.create_collection(collection_name, schema=schema, index_params=index, consistency_level="Strong")
    for start in range(0, ROWS, 300):
        rows = [{"id": i, "vec": np.full(DIM, i, np.float32)} for i in range(start, start + 300)]
        client.insert(collection_name, rows)
    if request.param == "sealed":
        client.flush(collection_name)
    return collection_name


def test_an_answer_of_over_100_megabytes_is_refused_and_a_smaller_one_is_given(
    client: MilvusClient, large: str
) -> None:
    def refusal(call: Any, *arguments: Any, **more: Any) -> tuple[int, str]:
        with pytest.raises(MilvusException) as refused:
            call(*arguments, **more)
        return refused.value.code, refused.value.message

    for call in (
        lambda: client.query(large, "id >= 0", output_fields=["vec"]),
        lambda: client.query(large, "id >= 0", output_fields=["vec"], limit=850),
        lambda: client.get(large, list(range(ROWS)), output_fields=["vec"]),
    ):
        code, text = refusal(call)
        assert (code, f"query {TOO_LARGE}" in text) == (1100, True), text
    query = [np.zeros(DIM, np.float32)]
    code, text = refusal(client.search, large, query, limit=850, output_fields=["vec"])
    assert (code, f"search {TOO_LARGE}" in text) == (1100, True), text
    assert len(client.query(large, "id >= 0", output_fields=["id"])) == ROWS
    found = client.query(large, "id >= 0", output_fields=["vec"], limit=400)
    assert [row["vec"][0] for row in found] == list(range(400))
    assert len(client.search(large, query, limit=850)[0]) == 850
