"""Vector fields of every kind for tests that also have other fields, and a slow reference for searches.

A vector is a list of whole numbers, `bytes` (bits), or a `dict` (sparse). The numbers are small, so every score is
exact in float32 and can be compared with ==.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pymilvus import DataType
from sample_collections import add_index

Random = np.random.Generator
DIM, BITS, TERMS = 4, 32, 12
Vector = Any


@dataclass(frozen=True)
class VectorField:
    """A kind of vector with an exact index. `data_type` is its name as well: no collection has two of a kind."""

    data_type: DataType
    metric: str
    index_type: str
    params: Mapping[str, object] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        return str(self.data_type.name).lower()

    @property
    def dim(self) -> int | None:
        return {DataType.SPARSE_FLOAT_VECTOR: None, DataType.BINARY_VECTOR: BITS}.get(self.data_type, DIM)

    def add_to(self, schema: Any, *, nullable: bool) -> None:
        dim = {} if self.dim is None else {"dim": self.dim}
        schema.add_field(self.name, self.data_type, nullable=nullable, **dim)

    def add_index(self, client: Any, collection: str) -> None:
        add_index(client, collection, self.name, self.index_type, self.metric, **self.params)

    def draw(self, numbers: Random) -> Vector:
        if self.data_type is DataType.SPARSE_FLOAT_VECTOR:
            terms = numbers.choice(TERMS, numbers.integers(1, 5), replace=False)
            return {int(term) * 1000: float(numbers.integers(1, 20)) for term in terms}
        if self.data_type is DataType.BINARY_VECTOR:
            return numbers.bytes(BITS // 8)
        return numbers.integers(-50, 51, DIM).tolist()

    def sent(self, vector: Vector | None) -> Any:
        """The vector as pymilvus takes it."""
        if vector is None or isinstance(vector, (bytes, dict)):
            return vector
        if self.data_type is DataType.BFLOAT16_VECTOR:
            return (np.array(vector, np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        return np.array(vector, {DataType.FLOAT16_VECTOR: np.float16, DataType.INT8_VECTOR: np.int8}[self.data_type])

    def received(self, answer: Any) -> Vector | None:
        """The vector of an answer; pymilvus returns bytes in a list from a query and alone from a search."""
        if answer is None or isinstance(answer, dict):
            return answer
        data = bytes(answer[0] if isinstance(answer, list) else answer)
        if self.data_type is DataType.BINARY_VECTOR:
            return data
        if self.data_type is DataType.BFLOAT16_VECTOR:
            return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32).tolist()
        return np.frombuffer(data, np.float16 if self.data_type is DataType.FLOAT16_VECTOR else np.int8).tolist()

    def score(self, query: Vector, vector: Vector | None) -> float:
        """Milvus's score; infinite if no search finds the vector."""
        if vector is None:
            return math.inf
        if self.data_type is DataType.SPARSE_FLOAT_VECTOR:
            product = sum(value * vector[term] for term, value in query.items() if term in vector)
            return float(product) or math.inf
        if self.data_type is DataType.BINARY_VECTOR:
            one, other = int.from_bytes(query), int.from_bytes(vector)
            if self.metric == "JACCARD":
                return float(np.float32((one ^ other).bit_count()) / np.float32((one | other).bit_count()))
            return float((one ^ other).bit_count())
        return float(sum((a - b) ** 2 for a, b in zip(query, vector, strict=True)))

    def scores(self, query: Vector, rows: Mapping[Any, Mapping[str, Any]]) -> dict[Any, float]:
        """The scores of the rows that a search finds, best first, by key."""
        found = {key: self.score(query, row[self.name]) for key, row in rows.items()}
        best_first = sorted(found, key=lambda key: -found[key] if self.metric == "IP" else found[key])
        return {key: found[key] for key in best_first if found[key] < math.inf}

    def check_search(
        self,
        client: Any,
        collection: str,
        query: Vector,
        rows: Mapping[Any, Mapping[str, Any]],
        limit: int,
        others: tuple[str, ...] = (),
        **options: Any,
    ) -> Any:
        """Compares a search with the slow reference; `rows` are all that it may find. Returns the hits, which have the
        fields `others` beside the vector."""
        (hits,) = client.search(
            collection,
            [self.sent(query)],
            anns_field=self.name,
            limit=limit,
            output_fields=[self.name, *others],
            search_params=EXACT,
            **options,
        )
        scores = self.scores(query, rows)
        assert [hit["distance"] for hit in hits] == list(scores.values())[:limit], f"{collection} {self.name} {options}"
        assert len({hit["id"] for hit in hits}) == len(hits)
        for hit in hits:
            assert scores[hit["id"]] == hit["distance"]
            assert self.received(hit["entity"][self.name]) == rows[hit["id"]][self.name]
        return hits


FIELDS = (
    VectorField(DataType.FLOAT16_VECTOR, "L2", "FLAT"),
    VectorField(DataType.BFLOAT16_VECTOR, "L2", "FLAT"),
    VectorField(DataType.INT8_VECTOR, "L2", "HNSW", {"M": 32, "efConstruction": 200}),
    VectorField(DataType.BINARY_VECTOR, "HAMMING", "BIN_FLAT"),
    VectorField(DataType.SPARSE_FLOAT_VECTOR, "IP", "SPARSE_INVERTED_INDEX"),
)
EXACT = {"params": {"ef": 2000}}
"""Search parameters with which a graph of a few thousand rows finds all of them."""


def received(row: Mapping[str, Any], fields: Any = FIELDS) -> dict[str, Any]:
    """A row of a query's answer, with the vectors of these fields as they were drawn."""
    decoded = {f.name: f.received(row[f.name]) for f in fields if f.name in row}
    return {**row, **decoded}
