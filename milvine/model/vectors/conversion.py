"""Vectors of every element type: their storage, and their conversion to float32, in which all distances are computed.

numpy has no bfloat16, so its 16 bits, the upper half of a float32, are kept as uint16.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from milvine.model.types import DataType

Array = np.ndarray[Any, Any]
_BLOCK_BYTES = 16 << 20


def as_float32(vectors: Array) -> Array:
    """The same numbers as float32, exactly; float32 itself is not copied."""
    if vectors.dtype == np.uint16:
        return (vectors.astype(np.uint32) << 16).view(np.float32)
    return vectors.astype(np.float32, copy=False)


def from_float32(vectors: Array, data_type: DataType) -> Array:
    """float32 vectors in the field's type: FLOAT16 rounded, BFLOAT16 cut off, as Milvus does."""
    if data_type is DataType.BFLOAT16_VECTOR:
        bits: Array = np.ascontiguousarray(vectors).view(np.uint32) >> 16
        return bits.astype(np.uint16)
    if data_type is DataType.FLOAT16_VECTOR:
        with np.errstate(over="ignore"):
            return vectors.astype(np.float16)
    return vectors


def is_finite(vectors: Array) -> bool:
    """Whether no element of FLOAT16 or BFLOAT16 vectors is NaN or infinite."""
    if vectors.dtype == np.uint16:
        return not bool(((vectors & 0x7F80) == 0x7F80).any())
    return bool(np.isfinite(vectors).all())


def blocks(row_count: int, dim: int) -> Iterator[slice]:
    """Consecutive rows, in blocks of a good size for conversion to float32."""
    step = max(1, _BLOCK_BYTES // (4 * dim))
    return (slice(start, min(start + step, row_count)) for start in range(0, row_count, step))
