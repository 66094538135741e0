"""Searches over many small partitions, growing and sealed, against all distances computed here."""

from __future__ import annotations

from typing import Any

import numpy as np
import requests
from conftest import Server
from pymilvus import DataType, MilvusClient
from sample_collections import DIM

PARTITIONS, ROWS, K = 40, 5, 10
Array = np.ndarray[Any, Any]


class Rows:
    """What the collection holds: row i is in partition i % PARTITIONS."""

    def __init__(self, client: MilvusClient, name: str) -> None:
        self.client, self.name = client, name
        self.rng = np.random.default_rng(5)
        self.vectors: dict[int, Array] = {}
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
        schema.add_field("a", DataType.INT64)
        schema.add_field("text", DataType.VARCHAR, max_length=64)
        index = client.prepare_index_params()
        index.add_index("vec", index_type="HNSW", metric_type="L2")
        client.create_collection(name, schema=schema)
        for number in range(PARTITIONS):
            client.create_partition(name, f"p{number}")
        client.create_index(name, index)
        client.load_collection(name)

    def insert(self, first: int) -> None:
        for number in range(PARTITIONS):
            ids = [first + number + PARTITIONS * i for i in range(ROWS)]
            vectors = self.rng.standard_normal((ROWS, DIM)).astype(np.float32)
            self.vectors.update(zip(ids, vectors, strict=True))
            rows = [{"id": i, "vec": v, "a": i % 7, "text": f"t{i}"} for i, v in zip(ids, vectors, strict=True)]
            self.client.insert(self.name, rows, partition_name=f"p{number}")

    def delete(self, ids: list[int]) -> None:
        self.client.delete(self.name, ids=ids)
        for one in ids:
            del self.vectors[one]

    def check(self, divisor: int = 1, partitions: range = range(PARTITIONS)) -> None:
        """A search for rows whose `a` is a multiple, in some partitions."""
        query = self.rng.standard_normal(DIM).astype(np.float32)
        found = self.client.search(
            self.name,
            [query],
            limit=K,
            filter=f"a % {divisor} == 0" if divisor > 1 else "",
            output_fields=["a", "text"],
            partition_names=[f"p{n}" for n in partitions] if len(partitions) < PARTITIONS else None,
            consistency_level="Strong",
        )[0]
        allowed = [i for i in self.vectors if i % 7 % divisor == 0 and i % PARTITIONS in partitions]
        nearest = sorted(allowed, key=lambda i: float(((self.vectors[i] - query) ** 2).sum()))[:K]
        assert [hit["id"] for hit in found] == nearest
        assert [hit["entity"] for hit in found] == [{"a": i % 7, "text": f"t{i}"} for i in nearest]

    def check_all(self) -> None:
        self.check()
        self.check(divisor=3)
        self.check(partitions=range(20, 38))
        self.check(divisor=2, partitions=range(3))


def test_hits_of_many_partitions_are_exact_through_writes_flushes_and_reloads(
    server: Server, client: MilvusClient, collection_name: str
) -> None:
    rows = Rows(client, collection_name)
    first = 0
    for _ in range(3):
        rows.insert(first)
        rows.check_all()
        rows.delete([first + i for i in range(0, 100, 9)])
        rows.check_all()
        client.flush(collection_name)
        rows.check_all()
        rows.delete([first + i for i in range(1, 100, 9)])
        rows.check_all()
        first += PARTITIONS * ROWS
    client.release_partitions(collection_name, ["p7"])
    gone = [i for i in rows.vectors if i % PARTITIONS == 7]
    kept = {i: v for i, v in rows.vectors.items() if i not in gone}
    rows.vectors, whole = kept, rows.vectors
    rows.check()
    client.load_partitions(collection_name, ["p7"])
    rows.vectors = whole
    rows.check_all()
    client.release_collection(collection_name)
    client.load_collection(collection_name)
    rows.check_all()


def test_many_small_segments_are_scanned_as_one(server: Server, client: MilvusClient, collection_name: str) -> None:
    rows = Rows(client, collection_name)
    rows.insert(0)
    client.flush(collection_name)
    body: dict[str, Any] = {"collectionName": collection_name, "data": [[0.0] * DIM], "annsField": "vec", "limit": 3}
    answer = requests.post(f"{server.uri}/milvine/v1/explain", json=body, timeout=30).json()
    assert sum(one["segments"] for one in answer["data"]) == PARTITIONS
    assert len(answer["data"]) < PARTITIONS / 2, "each query node scans its segments as one"
