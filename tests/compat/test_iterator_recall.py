"""Search iterators over approximate indexes return what the exact order returns, page after page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient
from sample_collections import wait_indexed

ROWS, DIM, READ = 8000, 16, 1000
COARSE: dict[str, dict[str, Any]] = {
    "IVF_PQ": {"nlist": 32, "m": 4},
    "IVF_RABITQ": {"nlist": 32},
    "SCANN": {"nlist": 32},
    "DISKANN": {},
}


@pytest.fixture(scope="module")
def vectors() -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(2)
    centers = rng.normal(size=(40, DIM))
    return (centers[rng.integers(0, 40, ROWS)] + rng.normal(size=(ROWS, DIM)) / 2).astype(np.float32)


def test_iterators_over_coarse_codes_lose_few_rows(
    client: MilvusClient, collection_name: str, vectors: np.ndarray[Any, Any]
) -> None:
    """Codes mix the rows at the beginning of a page with those of later pages."""
    name = collection_name
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    for index_type in COARSE:
        schema.add_field(index_type, DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection(name, schema=schema)
    client.insert(name, [{"id": i, **dict.fromkeys(COARSE, row.tolist())} for i, row in enumerate(vectors)])
    client.flush(name)
    indexes = client.prepare_index_params()
    for index_type, params in COARSE.items():
        indexes.add_index(index_type, index_name=index_type, index_type=index_type, metric_type="L2", params=params)
    client.create_index(name, indexes)
    for index_type in COARSE:
        wait_indexed(client, name, index_type, ROWS)
    client.load_collection(name)
    query = vectors[5]
    nearest = set(np.argsort(((vectors - query) ** 2).sum(axis=1), kind="stable")[:READ].tolist())
    for index_type in COARSE:
        iterator = client.search_iterator(name, [query.tolist()], batch_size=50, limit=READ, anns_field=index_type)
        found: list[int] = []
        while page := iterator.next():
            found += page.ids()
        iterator.close()
        assert len(found) == len(set(found)) == READ
        assert len(nearest.intersection(found)) >= 0.95 * READ, index_type
