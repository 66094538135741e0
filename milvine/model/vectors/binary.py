"""Vectors of bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from milvine.errors import ParameterInvalid
from milvine.model.json_text import json_kind
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType, MetricType
from milvine.model.vectors.base import MAX_DIM, MIN_DIM, Array, engine_type_mismatch
from milvine.model.vectors.fixed_width import FixedWidthKind, wrong_whole_number

_BITS = 8


class BinaryKind(FixedWidthKind):
    """Values are uint8 (n, dim / 8). No distance depends on the order of bits."""

    data_type = DataType.BINARY_VECTOR
    family = "binary"
    dtype = np.dtype(np.uint8)
    wire_name = "binary_vector"
    engine_name = "VECTOR_BINARY"
    can_group_hits = False
    metrics = frozenset(
        {
            MetricType.HAMMING,
            MetricType.JACCARD,
            MetricType.SUBSTRUCTURE,
            MetricType.SUPERSTRUCTURE,
            MetricType.MHJACCARD,
        }
    )
    default_metric = MetricType.HAMMING
    metric_noun = "binary"

    def columns(self, dim: int) -> int:
        return dim // _BITS

    def dim_of(self, columns: int) -> int:
        return columns * _BITS

    def check_dim(self, field: FieldSchema) -> None:
        if field.dim is not None and field.dim >= MIN_DIM:
            if field.dim % _BITS:
                raise ParameterInvalid(
                    f"invalid dimension: {field.dim} of field {field.name}. "
                    "binary vector dimension should be multiple of 8. "
                )
            if field.dim > _BITS * MAX_DIM:
                raise ParameterInvalid(
                    f"invalid dimension: {field.dim} of field {field.name}. "
                    f"binary vector dimension should be in range {MIN_DIM} ~ {_BITS * MAX_DIM}"
                )
            return
        super().check_dim(field)

    def from_wire(self, vectors: Any, has_validity: bool) -> Array:
        dim = int(vectors.dim)
        if dim % _BITS:
            raise ParameterInvalid(f"dim({dim}) should divide 8")
        return super().from_wire(vectors, has_validity)

    def _uneven(self, length: int, dim: int, width: int) -> ParameterInvalid:
        if dim <= 0:
            return ParameterInvalid(f"dim({dim}) should be greater than 0")
        return ParameterInvalid(f"the num({_BITS * length}) of all bits should divide the dim({dim})")

    def checked(self, values: Array) -> Array:
        return values

    def checked_queries(self, field: FieldSchema, query_type: int, queries: Array) -> Array:
        if query_type != self.data_type:
            raise engine_type_mismatch(field, self, query_type)
        self._check_query_size(field, queries)
        return queries

    def _decoded(self, given: list[Any]) -> Array | None:
        return self._from_bytes(given)

    def _numbers_as_bytes(self, value: Any) -> bytes:
        """From a list of numbers from 0 to 255."""
        if type(value) is not list:
            raise ValueError(f"json: cannot unmarshal {json_kind(value)} into Go value of type []uint8")
        wrong = next((v for v in value if type(v) is not int or not 0 <= v <= 255), None)
        if wrong is not None:
            raise wrong_whole_number(wrong, "uint8")
        return bytes(value)
