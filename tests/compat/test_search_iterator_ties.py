"""Search iterators return every row once, even if many rows are equally far away."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient, MilvusException
from sample_collections import make_quick, wait_indexed

COPIES = 10
DIM = 4


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    """COPIES rows at each place, spread over the keys."""
    places = count // COPIES
    angles = np.linspace(0.1, 1.4, places)
    return [
        {"id": first + i, "vector": [float(np.cos(a)), float(np.sin(a)), 0.0, 0.0]}
        for i, a in enumerate(np.tile(angles, COPIES))
    ]


def pages(client: MilvusClient, name: str, batch_size: int, **options: Any) -> list[list[tuple[float, int]]]:
    iterator = client.search_iterator(name, [[1.0, 0.0, 0.0, 0.0]], batch_size=batch_size, **options)
    found = []
    while page := iterator.next():
        found.append([(hit["distance"], hit["id"]) for hit in page])
    iterator.close()
    return found


@pytest.mark.parametrize("metric", ["L2", "IP", "COSINE"])
@pytest.mark.parametrize("batch_size", [1, 7, 10, 25])
def test_rows_of_equal_distance_at_a_batchs_end_are_not_lost(
    client: MilvusClient, collection_name: str, metric: str, batch_size: int
) -> None:
    """In a sealed segment and among growing rows."""
    make_quick(client, collection_name, DIM, metric=metric, index_type="FLAT")
    client.insert(collection_name, rows(100))
    client.flush(collection_name)
    client.insert(collection_name, rows(100, 1000))
    found = pages(client, collection_name, batch_size)
    ids = [i for page in found for _, i in page]
    assert sorted(ids) == [*range(100), *range(1000, 1100)]
    assert all(len(page) <= max(batch_size, 2 * COPIES) for page in found)
    distances = [distance for page in found for distance, _ in page]
    assert distances == sorted(distances, reverse=metric != "L2")
    ends = [(page[-1][0], following[0][0]) for page, following in itertools.pairwise(found)]
    assert all(last != first for last, first in ends)
    limited = pages(client, collection_name, batch_size, limit=33)
    assert [hit for page in limited for hit in page] == [hit for page in found for hit in page][:33]


def test_an_iterator_takes_a_lower_effort_than_its_batch(client: MilvusClient, collection_name: str) -> None:
    """Unlike a search, whose `ef` must reach its limit."""
    make_quick(client, collection_name, DIM, metric="L2", index_type="HNSW")
    client.insert(collection_name, rows(100))
    found = pages(client, collection_name, 25, search_params={"params": {"ef": 1}})
    assert sorted(i for page in found for _, i in page) == [*range(100)]
    with pytest.raises(MilvusException, match=r"ef\(1\) should be larger than k\(25\)"):
        client.search(collection_name, [[1.0, 0.0, 0.0, 0.0]], limit=25, search_params={"params": {"ef": 1}})


def test_more_equal_rows_than_a_batch_come_in_one_batch(client: MilvusClient, collection_name: str) -> None:
    make_quick(client, collection_name, DIM, metric="L2", index_type="HNSW")
    client.insert(collection_name, [{"id": i, "vector": [1.0, 1.0, 0.0, float(i >= 3000)]} for i in range(3100)])
    client.flush(collection_name)
    wait_indexed(client, collection_name, "vector", 3100)
    found = pages(client, collection_name, 10, search_params={"ef": 64})
    assert [len(page) for page in found] == [3000, 100]
    assert {i for _, i in found[0]} == {*range(3000)}
