"""Chroma: a directory, or a server by its address.

Ids are texts. A document and its metadata become a field and the dynamic field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import chromadb

from milvine.migration.columns import batch_of, json_text
from milvine.migration.shape import (
    DYNAMIC_COLUMN,
    LONGEST_TEXT,
    Batch,
    Field,
    Index,
    MigrationError,
    Shape,
)
from milvine.migration.sources.options import SourceOptions
from milvine.model.types import DataType

_METRICS = {"l2": "L2", "cosine": "COSINE", "ip": "IP"}
_PARTS = ["embeddings", "documents", "metadatas", "uris"]


class ChromaSource:
    def __init__(self, place: str, options: SourceOptions) -> None:
        self._client = _client(place, options)

    def close(self) -> None:
        """Chroma's clients have no end."""

    def collections(self) -> list[str]:
        return sorted(one.name for one in self._client.list_collections())

    def shape(self, name: str) -> Shape:
        collection = self._client.get_collection(name, embedding_function=None)
        first = collection.get(limit=1, include=["embeddings"])["embeddings"]
        if len(first) == 0:
            raise MigrationError(
                f"{name} is empty, so that its dimension is unknown; name the other collections by --collections"
            )
        metric, index_params = _index_of(collection)
        return Shape(
            name,
            [
                Field("id", DataType.VARCHAR, {"max_length": LONGEST_TEXT}, is_primary=True, origin="id"),
                Field("vector", DataType.FLOAT_VECTOR, {"dim": len(first[0])}, origin="embedding"),
                Field("document", DataType.VARCHAR, {"max_length": LONGEST_TEXT}, nullable=True, origin="document"),
                Field("uri", DataType.VARCHAR, {"max_length": LONGEST_TEXT}, nullable=True, origin="URI"),
            ],
            [Index("vector", "HNSW", metric, index_params)],
            rows=collection.count(),
            has_dynamic_field=True,
            dynamic_origin="metadata",
            details=collection,
        )

    def batches(self, shape: Shape, place: Any, rows: int) -> Iterator[Batch]:
        """In the order in which Chroma got the rows."""
        offset = place or 0
        while True:
            found = shape.details.get(limit=rows, offset=offset, include=_PARTS)
            if not found["ids"]:
                return
            offset += len(found["ids"])
            columns = {
                "id": found["ids"],
                "vector": found["embeddings"],
                "document": found["documents"],
                "uri": found["uris"],
                DYNAMIC_COLUMN: [json_text(one or {}) for one in found["metadatas"]],
            }
            yield Batch(batch_of(shape, columns), offset)


def _client(place: str, options: SourceOptions) -> Any:
    try:
        if "://" not in place:
            return chromadb.PersistentClient(place)
        parts = urlsplit(place)
        headers = {"Authorization": f"Bearer {options.token}"} if options.token else {}
        is_safe = parts.scheme == "https"
        return chromadb.HttpClient(parts.hostname or "", parts.port or (443 if is_safe else 8000), is_safe, headers)
    except ValueError as error:
        raise MigrationError(f"{place}: {error}") from None


def _index_of(collection: Any) -> tuple[str, dict[str, Any]]:
    """The metric and the parameters of HNSW that the collection has."""
    configured: Mapping[str, Any] = (getattr(collection, "configuration", None) or {}).get("hnsw") or {}
    old: Mapping[str, Any] = collection.metadata or {}
    space = str(configured.get("space") or old.get("hnsw:space") or "l2")
    params = {"M": configured.get("max_neighbors", 16), "efConstruction": configured.get("ef_construction", 100)}
    return _METRICS.get(space, "L2"), params
