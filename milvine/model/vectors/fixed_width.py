"""What all kinds share whose vectors are rows of one numpy array: dense numbers and bits."""

from __future__ import annotations

import base64
import binascii
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.errors import ParameterInvalid
from milvine.model.json_text import json_kind, plain_text
from milvine.model.schema import FieldSchema
from milvine.model.vectors.base import Array, JsonMismatch, VectorKind, no_vectors, size_mismatch

MAX_SENT_DIM = 2**32
"""A longer vector cannot be sent, and even an empty array of such vectors cannot be made."""


class FixedWidthKind(VectorKind):
    """Values are numpy (n, columns), C order."""

    dtype: np.dtype[Any]

    def columns(self, dim: int) -> int:
        """Elements of the array per vector."""
        return dim

    def dim_of(self, columns: int) -> int:
        return columns

    def row_bytes(self, dim: int) -> int:
        return self.columns(dim) * self.dtype.itemsize

    def fillers(self, row_count: int, dim: int) -> Array:
        return np.zeros((row_count, self.columns(dim)), self.dtype)

    def join(self, pieces: Sequence[Array]) -> Array:
        return np.concatenate(pieces)

    def to_arrow(self, values: Array, mask: pa.Array | None) -> pa.Array:
        flat = np.ascontiguousarray(values).reshape(-1)
        # A view, made twice as fast as by `pa.array`.
        content = pa.py_buffer(flat)
        plain = pa.Array.from_buffers(pa.from_numpy_dtype(flat.dtype), len(flat), [None, content], null_count=0)
        return pa.FixedSizeListArray.from_arrays(plain, values.shape[1], mask=mask)

    def from_arrow(self, array: pa.Array) -> Array:
        width = array.type.list_size
        data = array.values.buffers()[1]
        size = len(array.values)
        flat = np.zeros(size, self.dtype) if data is None else np.frombuffer(data, self.dtype)
        offset = array.values.offset
        return flat[offset : offset + size].reshape(-1, width)[array.offset : array.offset + len(array)]

    def from_wire(self, vectors: Any, has_validity: bool) -> Array:
        dim = min(int(vectors.dim), MAX_SENT_DIM)
        flat = np.frombuffer(getattr(vectors, self.wire_name), np.uint8)
        width = self.row_bytes(max(dim, 0))
        self._check_length(len(flat), dim, width, has_validity)
        return flat.view(self.dtype).reshape(len(flat) // max(width, 1), self.columns(max(dim, 0)))

    def _check_length(self, length: int, dim: int, width: int, has_validity: bool) -> None:
        if (dim <= 0 and (length or not has_validity)) or (length and length % width):
            raise self._uneven(length, dim, width)

    @abstractmethod
    def _uneven(self, length: int, dim: int, width: int) -> ParameterInvalid:
        """The error for a sent length that is no multiple of a vector's."""

    def to_wire(self, values: Array) -> Any:
        return values.tobytes()

    def queries_from_wire(self, placed: list[bytes]) -> Array:
        size = len(placed[0])
        if size % self.dtype.itemsize or any(len(value) != size for value in placed[1:]):
            raise ParameterInvalid("the vectors of one search have different or broken lengths")
        return np.frombuffer(b"".join(placed), self.dtype).reshape(len(placed), -1)

    def check_sent(self, field: FieldSchema, values: Array, validity: Array | None) -> None:
        if not values.size and validity is None and not field.nullable:
            raise no_vectors(field, self)
        sent = self.dim_of(values.shape[1])
        if sent != field.dim and (len(values) or validity is None):
            raise ParameterInvalid(
                f"the dim ({sent}) of field data({field.name}) is not equal to schema dim ({field.dim})",
                expected=field.dim,
                actual=sent,
            )

    def _check_query_size(self, field: FieldSchema, queries: Array) -> None:
        if self.dim_of(queries.shape[1]) != field.dim:
            size = self.dtype.itemsize
            raise size_mismatch(self.row_bytes(field.dim or 0), size * queries.shape[1])

    # JSON

    json_element: str = "[]byte"
    """Go's type of a vector in a row. Kinds that are no bytes there replace what follows from it."""

    @abstractmethod
    def _decoded(self, given: list[Any]) -> Array | None:
        """The vectors; None if their lengths differ. Raises ValueError with Go's text."""

    def to_json(self, values: Array) -> list[Any]:
        return [base64.b64encode(row).decode() for row in np.ascontiguousarray(values)]

    def _as_bytes(self, value: Any) -> bytes:
        """A vector, from base64 or from its numbers. Raises ValueError with Go's text."""
        if type(value) is not str:
            return self._numbers_as_bytes(value)
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(f"illegal base64 data: {error}") from error

    def _numbers_as_bytes(self, value: Any) -> bytes:
        """A vector that is no text. Raises ValueError with Go's text."""
        raise NotImplementedError

    def _from_bytes(self, given: list[Any]) -> Array | None:
        """The vectors; None if their lengths differ."""
        rows = list(map(self._as_bytes, given))
        lengths = set(map(len, rows))
        if len(lengths) > 1 or any(length % self.dtype.itemsize for length in lengths):
            return None
        return np.frombuffer(b"".join(rows), self.dtype).reshape(len(rows), -1)

    def _json_size(self, value: Any) -> int:
        """The length of a vector in a row, in elements of `json_element`."""
        return len(self._as_bytes(value))

    def _json_width(self, dim: int) -> int:
        """The length that it should have."""
        return self.row_bytes(dim)

    def _wrong_query_size(self, given: list[Any], dim: int) -> str:
        """The error for queries some of which are not of `dim`."""
        length = self._json_width(dim)
        other = next(n for n in map(self._json_size, given) if n != length)
        return f"dimension: {dim}, bytesLen: {length}, but length of []byte: {other}"

    def from_json(self, field: FieldSchema, given: list[Any]) -> Array:
        dim = field.dim or 0
        try:
            made = self._decoded(given)
        except ValueError as error:
            raise JsonMismatch(str(error), given[0] if len(given) == 1 else given) from error
        if made is None or self.dim_of(made.shape[1]) != dim:
            size = next(n for n in map(self._json_size, given) if n != self._json_width(dim))
            raise JsonMismatch(
                f"{self.json_element} size {size} doesn't equal to vector dimension {dim} "
                f"of {field.data_type.milvus_name}"
            )
        return made

    def queries_from_json(self, field: FieldSchema, given: list[Any]) -> Array:
        made = self._decoded(given)
        if made is None or self.dim_of(made.shape[1]) != field.dim:
            raise ValueError(self._wrong_query_size(given, field.dim or 0))
        return made


def wrong_whole_number(value: object, go_type: str) -> ValueError:
    """The error for a value that is no whole number of the type or out of its range, in Go's words."""
    shown = f"number {plain_text(value)}" if type(value) in (int, float) else json_kind(value)
    return ValueError(f"json: cannot unmarshal {shown} into Go value of type {go_type}")
