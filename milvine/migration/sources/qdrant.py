"""Qdrant: a directory of its client, or a server by its address.

Ids are numbers, or texts where there are UUIDs. The payload becomes the dynamic field. A vector that has no name is
called `vector`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException

from milvine.migration.columns import batch_of, json_text
from milvine.migration.shape import DYNAMIC_COLUMN, Batch, Field, Index, MigrationError, Shape
from milvine.migration.sources.options import SourceOptions
from milvine.model.types import DataType

_METRICS = {"Cosine": "COSINE", "Euclid": "L2", "Dot": "IP"}
_ONLY_VECTOR = "vector"
_LONGEST_UUID = 36
_FIRST_UUID = "00000000-0000-0000-0000-000000000000"
_REQUEST_SECONDS = 120


class QdrantSource:
    def __init__(self, place: str, options: SourceOptions) -> None:
        self._place = place
        try:
            if "://" in place:
                self._client = QdrantClient(url=place, api_key=options.token or None, timeout=_REQUEST_SECONDS)
            else:
                self._client = QdrantClient(path=place)
        except RuntimeError as error:  # another process uses the directory
            raise MigrationError(str(error)) from None

    def close(self) -> None:
        self._client.close()

    def collections(self) -> list[str]:
        return sorted(one.name for one in self._asked(self._client.get_collections).collections)

    def shape(self, name: str) -> Shape:
        info = self._asked(lambda: self._client.get_collection(name))
        notes: list[str] = []
        vectors, indexes = _vectors(info.config.params, notes)
        key = Field("id", DataType.INT64, is_primary=True, origin="id")
        if self._has_uuids(name):
            params = {"max_length": _LONGEST_UUID}
            key = Field("id", DataType.VARCHAR, params, is_primary=True, origin="id (number or UUID)")
        return Shape(
            name,
            [key, *vectors],
            indexes,
            rows=self._asked(lambda: self._client.count(name, exact=True)).count,
            has_dynamic_field=True,
            dynamic_origin="payload",
            notes=notes,
        )

    def _has_uuids(self, name: str) -> bool:
        """Numbers come before UUIDs, so the first point or the first from the smallest UUID on tells."""
        first, _ = self._scroll(name, None, 1, [])
        if first and isinstance(first[0].id, str):
            return True
        later, _ = self._scroll(name, _FIRST_UUID, 1, [])
        return bool(later) and isinstance(later[0].id, str)

    def batches(self, shape: Shape, place: Any, rows: int) -> Iterator[Batch]:
        """In the order of the ids."""
        names = [field.name for field in shape.fields[1:]]
        while True:
            points, following = self._scroll(shape.name, place, rows, names)
            if not points:
                return
            yield Batch(batch_of(shape, _columns(shape, points)), following)
            if following is None:
                return
            place = following

    def _scroll(self, name: str, offset: Any, limit: int, vectors: list[str]) -> tuple[Sequence[Any], Any]:
        with_vectors: Any = True if vectors == [_ONLY_VECTOR] else vectors
        found: tuple[Sequence[Any], Any] = self._asked(
            lambda: self._client.scroll(name, limit=limit, offset=offset, with_payload=True, with_vectors=with_vectors)
        )
        return found

    def _asked(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except ApiException as error:
            raise MigrationError(f"{self._place}: {error}") from None


def _vectors(params: Any, notes: list[str]) -> tuple[list[Field], list[Index]]:
    dense = params.vectors or {}
    by_name = dense if isinstance(dense, Mapping) else {_ONLY_VECTOR: dense}
    fields, indexes = [], []
    for name, one in by_name.items():
        if one.multivector_config is not None:
            notes.append(f"{name} is left out: a point has many vectors there")
            continue
        metric = _METRICS.get(one.distance.value)
        if metric is None:
            metric = "L2"
            notes.append(f"the distance of {name} is L2 instead of {one.distance.value}")
        nullable = len(by_name) > 1
        origin = "vector" if name == _ONLY_VECTOR else f"vector {name}"
        fields.append(Field(name, DataType.FLOAT_VECTOR, {"dim": one.size}, nullable=nullable, origin=origin))
        indexes.append(Index(name, "HNSW", metric, {"M": 16, "efConstruction": 100}))
    for name in params.sparse_vectors or {}:
        fields.append(Field(name, DataType.SPARSE_FLOAT_VECTOR, nullable=True, origin=f"sparse vector {name}"))
        indexes.append(Index(name, "SPARSE_INVERTED_INDEX", "IP"))
    return fields, indexes


def _columns(shape: Shape, points: Sequence[Any]) -> dict[str, list[Any]]:
    key = shape.primary
    columns: dict[str, list[Any]] = {
        key.name: [str(point.id) if key.data_type is DataType.VARCHAR else point.id for point in points],
        DYNAMIC_COLUMN: [json_text(point.payload or {}) for point in points],
    }
    for field in shape.fields[1:]:
        columns[field.name] = [_vector(point.vector, field.name) for point in points]
    return columns


def _vector(vectors: Any, name: str) -> Any:
    found = vectors.get(name) if isinstance(vectors, Mapping) else vectors
    if isinstance(found, models.SparseVector):
        return dict(zip(found.indices, found.values, strict=True))
    return found
