"""Searches by vectors of every kind, and by words, over many small partitions, against a slow reference."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import requests
from conftest import Server
from pymilvus import DataType, MilvusClient
from text_rows import WORDS, add_text, add_text_index, check_words, draw_filter, draw_text
from vector_fields import FIELDS, VectorField

PARTITIONS, ROWS = 24, 6
Row = dict[str, Any]
Filter = tuple[str, Callable[[Row], bool]]
BY_JACCARD = VectorField(DataType.BINARY_VECTOR, "JACCARD", "BIN_FLAT")
FLOAT16, BFLOAT16, INT8, BINARY, SPARSE = FIELDS


class Table:
    """What the collection holds, by key; row i is in partition i % PARTITIONS, and later ones may replace it."""

    def __init__(self, client: MilvusClient, name: str, kinds: Sequence[VectorField]) -> None:
        self.client, self.name, self.kinds = client, name, kinds
        self.rng = random.Random(8)
        self.numbers = np.random.default_rng(8)
        self.rows: dict[int, Row] = {}
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("a", DataType.INT64)
        for kind in kinds:
            kind.add_to(schema, nullable=kind.data_type is not DataType.INT8_VECTOR)
        add_text(schema)
        client.create_collection(name, schema=schema)
        for number in range(PARTITIONS):
            client.create_partition(name, f"p{number}")
        for kind in kinds:
            kind.add_index(client, name)
        add_text_index(client, name)
        client.load_collection(name)

    def _row(self, key: int) -> Row:
        vectors = {kind.name: self._draw(key, kind) for kind in self.kinds}
        return {"id": key, "a": key % 7, "text": draw_text(self.numbers), **vectors}

    def _draw(self, key: int, kind: VectorField) -> Any:
        """Every fifth vector is lacking, where it may be."""
        is_lacking = key % 5 == 0 and kind.data_type is not DataType.INT8_VECTOR
        return None if is_lacking else kind.draw(self.numbers)

    def write(self, first: int) -> None:
        for number in range(PARTITIONS):
            keys = [first + number + PARTITIONS * i for i in range(ROWS)]
            rows = [self._row(key) for key in keys]
            self.rows.update(zip(keys, rows, strict=True))
            sent = [{**row, **{kind.name: kind.sent(row[kind.name]) for kind in self.kinds}} for row in rows]
            self.client.upsert(self.name, sent, partition_name=f"p{number}")

    def delete(self, keys: Sequence[int]) -> None:
        self.client.delete(self.name, ids=list(keys))
        for key in keys:
            self.rows.pop(key, None)

    def check(self) -> None:
        filters: list[Filter] = [
            ("", lambda _: True),
            ("a % 3 == 0", lambda row: row["a"] % 3 == 0),
            draw_filter(self.rng),
        ]
        for partitions in (range(PARTITIONS), range(3, 21), range(2)):
            text, passes = self.rng.choice(filters)
            found = {k: r for k, r in self.rows.items() if k % PARTITIONS in partitions and passes(r)}
            options: Row = {"filter": text, "consistency_level": "Strong"}
            if len(partitions) < PARTITIONS:
                options["partition_names"] = [f"p{number}" for number in partitions]
            for kind in self.kinds:
                limit = self.rng.choice([1, 10, 1000])
                kind.check_search(self.client, self.name, kind.draw(self.numbers), found, limit, ("a",), **options)
            check_words(self.client, self.name, found, self.rng.choice(WORDS[:4]), **options)


def scans(server: Server, table: Table, field: str, query: Any) -> int:
    """How many scans the search of a field of `PARTITIONS` segments takes."""
    body: Row = {"collectionName": table.name, "data": [query], "annsField": field, "limit": 3}
    answer = requests.post(f"{server.uri}/milvine/v1/explain", json=body, timeout=30).json()
    assert sum(one["segments"] for one in answer["data"]) == PARTITIONS, answer
    return len(answer["data"])


@pytest.mark.parametrize("kinds", [(BINARY, SPARSE, INT8), (BY_JACCARD, FLOAT16, BFLOAT16)], ids=["bits", "halves"])
def test_hits_are_exact_through_writes_flushes_and_reloads(
    kinds: Sequence[VectorField], client: MilvusClient, collection_name: str
) -> None:
    table = Table(client, collection_name, kinds)
    table.write(0)
    table.check()
    table.delete(range(0, 144, 9))
    table.check()
    client.flush(collection_name)
    table.check()
    table.write(72)  # half of these keys are stored already
    table.check()
    client.flush(collection_name)
    table.delete(range(100, 190, 3))
    table.check()
    client.release_collection(collection_name)
    client.load_collection(collection_name)
    table.check()


def test_they_are_scanned_as_one(server: Server, client: MilvusClient, collection_name: str) -> None:
    table = Table(client, collection_name, (BINARY, SPARSE, INT8))
    table.write(0)
    client.flush(collection_name)
    assert scans(server, table, SPARSE.name, {"1000": 1.0}) < PARTITIONS / 2
    assert scans(server, table, BINARY.name, [1, 2, 3, 4]) < PARTITIONS / 2
    assert scans(server, table, INT8.name, [1, 2, 3, 4]) < PARTITIONS / 2
    assert scans(server, table, "terms", WORDS[0]) < PARTITIONS / 2
