"""Hybrid searches of approximate indexes find what exact searches and an exact fusion find."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hybrid_reference import RRF, Hits, Weighted
from pymilvus import AnnSearchRequest, DataType, MilvusClient
from sample_collections import scores, wait_indexed

ROWS, SEALED, DIM, QUERIES, CANDIDATES, WANTED = 3000, 2500, 24, 40, 30, 10
FIELDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "graph": ("HNSW", "COSINE", {"M": 16, "efConstruction": 60}),
    "lists": ("IVF_FLAT", "L2", {"nlist": 32}),
    "codes": ("HNSW_SQ", "IP", {"M": 16, "efConstruction": 60, "sq_type": "SQ8"}),
}
FILTERS = {"": 1, "id % 4 == 0": 4, "id % 50 == 0": 50}
"""Filters and the divisor of the ids that pass."""


class World:
    """Clustered vectors: each row is in one cluster for one field and in another for the next."""

    def __init__(self, client: MilvusClient) -> None:
        self.client, self.name = client, f"recall_{uuid.uuid4().hex[:8]}"
        rng = np.random.default_rng(8)
        self.vectors, self.queries = {}, {}
        for field in FIELDS:
            centers = rng.normal(size=(60, DIM))
            made = centers[rng.integers(0, 60, ROWS + QUERIES)] + 0.7 * rng.normal(size=(ROWS + QUERIES, DIM))
            self.queries[field], self.vectors[field] = np.split(made.astype(np.float32), [QUERIES])
        schema = client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        indexes = client.prepare_index_params()
        for field, (index_type, metric, params) in FIELDS.items():
            schema.add_field(field, DataType.FLOAT_VECTOR, dim=DIM)
            indexes.add_index(field, index_name=field, index_type=index_type, metric_type=metric, params=params)
        client.create_collection(self.name, schema=schema, index_params=indexes)
        for first, last in ((0, SEALED), (SEALED, ROWS)):
            rows = [{"id": i, **{field: self.vectors[field][i] for field in FIELDS}} for i in range(first, last)]
            client.insert(self.name, rows)
            if not first:
                client.flush(self.name)
        for field in FIELDS:
            wait_indexed(client, self.name, field, SEALED)

    def exact(self, field: str, query: int, divisor: int) -> Hits:
        metric = FIELDS[field][1]
        found = scores(self.queries[field][query : query + 1], self.vectors[field][::divisor], metric)[0]
        order = np.argsort(found if metric == "L2" else -found, kind="stable")[:CANDIDATES]
        return [(int(place) * divisor, np.float32(found[place])) for place in order]


@pytest.fixture(scope="module")
def world(_shared_client: MilvusClient) -> Iterator[World]:
    made = World(_shared_client)
    yield made
    _shared_client.drop_collection(made.name)


@pytest.mark.parametrize("text", FILTERS)
@pytest.mark.parametrize("ranker", [RRF(), Weighted([0.5, 0.3, 0.2], norm_score=True)], ids=["rrf", "weighted"])
def test_recall_is_that_of_good_single_searches(world: World, ranker: RRF | Weighted, text: str) -> None:
    requests = [
        AnnSearchRequest(world.queries[field], field, {"params": {}}, CANDIDATES, expr=text or None) for field in FIELDS
    ]
    found = world.client.hybrid_search(world.name, requests, ranker.request(), limit=WANTED)
    metrics = [metric for _, metric, _ in FIELDS.values()]
    shares = []
    for query, hits in enumerate(found):
        exact = ranker.fuse([world.exact(field, query, FILTERS[text]) for field in FIELDS], metrics)
        # Rows as good as the last one count too: many have the same place in another list.
        good = {key for key, score in exact if score >= exact[WANTED - 1][1]}
        shares.append(sum(hit["id"] in good for hit in hits) / WANTED)
    assert np.mean(shares) >= 0.95, f"recall is {np.mean(shares):.3f}"
