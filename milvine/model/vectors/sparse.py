"""Sparse vectors of float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from milvine.errors import ParameterInvalid
from milvine.model import sparse_vectors
from milvine.model.schema import FieldSchema
from milvine.model.sparse_vectors import SparseVectors
from milvine.model.types import DataType, MetricType
from milvine.model.vectors.base import Array, JsonMismatch, VectorKind, engine_type_mismatch, no_vectors

_ROW_BYTES = 8
"""Of an index and its value, and of an offset."""
_ITEM = pa.struct([pa.field("index", pa.uint32(), nullable=False), pa.field("value", pa.float32(), nullable=False)])


class SparseKind(VectorKind):
    """Values are SparseVectors. A NULL is a vector without values."""

    data_type = DataType.SPARSE_FLOAT_VECTOR
    family = "sparse"
    wire_name = "sparse_float_vector"
    engine_name = "VECTOR_SPARSE_U32_F32"
    has_dim = False
    metrics = frozenset({MetricType.IP})
    default_metric = MetricType.IP
    metric_noun = "sparse"

    @property
    def noun(self) -> str:
        return "sparse float"

    def row_bytes(self, dim: int) -> int:
        return _ROW_BYTES

    def taken_bytes(self, values: SparseVectors, row_offsets: Array) -> int:
        return _ROW_BYTES * int((values.offsets[row_offsets + 1] - values.offsets[row_offsets]).sum())

    def wire_dim(self, field: FieldSchema, values: SparseVectors) -> int:
        return values.dim

    def fillers(self, row_count: int, dim: int) -> SparseVectors:
        return sparse_vectors.empty_vectors(row_count)

    def spread(self, values: SparseVectors, validity: Array, dim: int) -> SparseVectors:
        return sparse_vectors.spread(values, validity)

    def join(self, pieces: Sequence[SparseVectors]) -> SparseVectors:
        return sparse_vectors.join(pieces)

    def to_arrow(self, values: SparseVectors, mask: pa.Array | None) -> pa.Array:
        items = pa.StructArray.from_arrays([pa.array(values.indices), pa.array(values.values)], fields=list(_ITEM))
        return pa.LargeListArray.from_arrays(pa.array(values.offsets), items, mask=mask)

    def from_arrow(self, array: pa.Array) -> SparseVectors:
        offsets = array.offsets.to_numpy()
        first, last = int(offsets[0]), int(offsets[-1])
        items = array.values
        indices = items.field("index").to_numpy()[first:last]
        from_zero = offsets - first if first else offsets
        return SparseVectors(from_zero, indices, items.field("value").to_numpy()[first:last])

    def from_wire(self, vectors: Any, has_validity: bool) -> SparseVectors:
        return sparse_vectors.decode(vectors.sparse_float_vector.contents)

    def to_wire(self, values: SparseVectors) -> list[bytes]:
        return sparse_vectors.encode(values)

    def queries_from_wire(self, placed: list[bytes]) -> SparseVectors:
        return sparse_vectors.decode(placed)

    def from_json(self, field: FieldSchema, given: list[Any]) -> SparseVectors:
        try:
            return sparse_vectors.decode_json(given)
        except ValueError as error:
            raise JsonMismatch(str(error), given[0] if len(given) == 1 else given) from error

    def queries_from_json(self, field: FieldSchema, given: list[Any]) -> SparseVectors:
        return sparse_vectors.decode_json(given)

    def to_json(self, values: SparseVectors) -> list[Any]:
        return list(sparse_vectors.encode_json(values))

    def check_dim(self, field: FieldSchema) -> None:
        if field.dim is not None:
            raise ParameterInvalid(
                f"dim should not be specified for sparse vector field {field.name}({field.field_id})"
            )

    def check_sent(self, field: FieldSchema, values: SparseVectors, validity: Array | None) -> None:
        if not len(values) and validity is None and not field.nullable:
            raise no_vectors(field, self)

    def checked(self, values: SparseVectors) -> SparseVectors:
        return values

    def checked_queries(self, field: FieldSchema, query_type: int, queries: Any) -> SparseVectors:
        if query_type != self.data_type:
            raise engine_type_mismatch(field, self, query_type)
        found: SparseVectors = queries
        return found

    def _wrong_metric(self, name: str) -> str:
        if name.upper() == "BM25":
            return "only BM25 Function output field support BM25 metric type"
        return "only IP&BM25 is the supported metric type for sparse index"
