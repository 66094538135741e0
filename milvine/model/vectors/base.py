"""The interface of a kind of vector.

`values` are the vectors of a column. They have a length and `nbytes`, and an index of rows (a slice, offsets or a mask)
gives the vectors of these rows. `queries` are the vectors of a search, in the form in which they are compared.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from milvine.errors import MilvineError, ParameterInvalid
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType, MetricType

Array = np.ndarray[Any, Any]
MIN_DIM, MAX_DIM = 2, 32768


class VectorKind(ABC):
    """All that a kind of vector needs outside of comparing vectors."""

    data_type: DataType
    family: ClassVar[str]
    """Kinds of one family are compared by the same code."""
    wire_name: str
    """The member of a VectorField message."""
    engine_name: str
    """The name in messages of Milvus's engine."""
    has_dim: ClassVar[bool] = True
    can_group_hits: ClassVar[bool] = True
    """Whether Milvus groups the hits of searches among such vectors."""
    metrics: ClassVar[frozenset[MetricType]]
    default_metric: ClassVar[MetricType]
    """AUTOINDEX's, if none is given."""
    metric_noun: ClassVar[str]
    """The name of the kind in the refusal of a metric."""

    @property
    def noun(self) -> str:
        """The name in messages of Milvus's proxy, such as `float16`."""
        return self.data_type.milvus_name.removesuffix("Vector").lower()

    @abstractmethod
    def row_bytes(self, dim: int) -> int:
        """The bytes of one vector in a column; the least of them if they differ."""

    def taken_bytes(self, values: Any, row_offsets: Array) -> int:
        """The bytes of the vectors of these rows."""
        return int(len(row_offsets) * values[:1].nbytes) if len(values) else 0

    def wire_dim(self, field: FieldSchema, values: Any) -> int:
        """The dimension of a VectorField message."""
        return field.dim or 0

    @abstractmethod
    def fillers(self, row_count: int, dim: int) -> Any:
        """The values in place of NULLs."""

    def spread(self, values: Any, validity: Array, dim: int) -> Any:
        """Vectors of valid rows, with fillers for the others."""
        spread = self.fillers(len(validity), dim)
        if len(values):
            spread[validity] = values
        return spread

    @abstractmethod
    def join(self, pieces: Sequence[Any]) -> Any:
        """The values of several columns, one after the other."""

    @abstractmethod
    def to_arrow(self, values: Any, mask: pa.Array | None) -> pa.Array:
        """The array in a file; NULL where `mask` is true."""

    @abstractmethod
    def from_arrow(self, array: pa.Array) -> Any:
        """The inverse of `to_arrow`: views where possible, fillers for NULLs."""

    @abstractmethod
    def from_wire(self, vectors: Any, has_validity: bool) -> Any:
        """The values of a VectorField message. With `has_validity` there may be none, and no dimension."""

    @abstractmethod
    def to_wire(self, values: Any) -> Any:
        """Float32 numbers, bytes, or a list of bytes: the content of the member `wire_name`."""

    @abstractmethod
    def queries_from_wire(self, placed: list[bytes]) -> Any:
        """The vectors of a placeholder. Raises ParameterInvalid."""

    @abstractmethod
    def from_json(self, field: FieldSchema, given: list[Any]) -> Any:
        """The values of rows in JSON. Raises JsonMismatch."""

    @abstractmethod
    def queries_from_json(self, field: FieldSchema, given: list[Any]) -> Any:
        """The queries in JSON. Raises ValueError with Go's text."""

    @abstractmethod
    def to_json(self, values: Any) -> list[Any]:
        """Rows that orjson writes."""

    def check_dim(self, field: FieldSchema) -> None:
        """Raises ParameterInvalid unless a new field has a dimension that fits."""
        if field.dim is None:
            raise ParameterInvalid(
                f"dimension is not defined in field type params of field {field.name}, "
                "check type param `dim` for vector field"
            )
        if field.dim < MIN_DIM:
            raise ParameterInvalid(f"invalid dimension: {field.dim}. should be in range {MIN_DIM} ~ {MAX_DIM}")
        if field.dim > MAX_DIM:
            raise ParameterInvalid(
                f"invalid dimension: {field.dim} of field {field.name}. "
                f"float vector dimension should be in range {MIN_DIM} ~ {MAX_DIM}"
            )

    def metric(self, name: str) -> MetricType:
        """A metric of the kind by its case-insensitive name. Raises ParameterInvalid."""
        try:
            found = MetricType(name.upper())
        except ValueError:
            found = None
        if found is None or found not in self.metrics:
            raise self.wrong_metric(name)
        return found

    def wrong_metric(self, name: str) -> ParameterInvalid:
        """The error for a metric that the kind does not have."""
        return ParameterInvalid(self._wrong_metric(name), expected="valid index params", actual="invalid index params")

    def _wrong_metric(self, name: str) -> str:
        return f"{self.metric_noun} vector index does not support metric type: {name}"

    def takes(self, sent: DataType) -> bool:
        """Whether vectors sent as this type can be stored in a field of the kind."""
        return sent is self.data_type

    @abstractmethod
    def check_sent(self, field: FieldSchema, values: Any, validity: Array | None) -> None:
        """Raises ParameterInvalid unless the shape of the sent values fits the field."""

    @abstractmethod
    def checked(self, values: Any) -> Any:
        """The values in the kind's own form. Raises ParameterInvalid with Milvus's texts."""

    @abstractmethod
    def checked_queries(self, field: FieldSchema, query_type: int, queries: Any) -> Any:
        """Queries in the form in which they are compared. Raises ParameterInvalid with Milvus's texts."""


class JsonMismatch(Exception):
    """A JSON value that is no vector of the field. `value` is None if only its size is wrong."""

    def __init__(self, reason: str, value: object = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.value = value


_PLACEHOLDERS = {
    21: ("VarChar", "VARCHAR"),
    100: ("BinaryVector", "VECTOR_BINARY"),
    101: ("FloatVector", "VECTOR_FLOAT"),
    102: ("Float16Vector", "VECTOR_FLOAT16"),
    103: ("BFloat16Vector", "VECTOR_BFLOAT16"),
    104: ("SparseFloatVector", "VECTOR_SPARSE_U32_F32"),
    105: ("Int8Vector", "VECTOR_INT8"),
}
"""The names of query types in Milvus's proxy and its engine, by the placeholder's number."""


def query_type_name(query_type: int) -> str:
    """The name of a placeholder's number in Milvus's proxy."""
    return _PLACEHOLDERS.get(query_type, (str(query_type), ""))[0]


def proxy_type_mismatch(field: FieldSchema, query_type: int) -> ParameterInvalid:
    wanted, sent = field.data_type.milvus_name, query_type_name(query_type)
    return ParameterInvalid(f"vector type must be the same: field type {wanted}, search type {sent}")


def engine_type_mismatch(field: FieldSchema, kind: VectorKind, query_type: int) -> MilvineError:
    _, sent = _PLACEHOLDERS.get(query_type, ("", str(query_type)))
    return ParameterInvalid(
        f"vector type must be the same, field {field.name} - type {kind.engine_name}, search ph type {sent}"
    ).prefixed("failed to search")


def size_mismatch(wanted_bytes: int, sent_bytes: int) -> MilvineError:
    return ParameterInvalid(
        f"vector dimension mismatch, expected vector size(byte) {wanted_bytes}, actual {sent_bytes}"
    ).prefixed("failed to search")


def no_vectors(field: FieldSchema, kind: VectorKind) -> ParameterInvalid:
    """The error for missing vectors of a field, or vectors of another type."""
    return ParameterInvalid(
        f"{kind.noun} vector field '{field.name}' is illegal, array type mismatch",
        expected=f"need {kind.noun} vector",
        actual="got nil",
    )
