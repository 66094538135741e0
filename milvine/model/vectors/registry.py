"""Every kind of vector, by its data type. A new kind is one more entry."""

from __future__ import annotations

from milvine.model.types import DataType
from milvine.model.vectors.base import VectorKind
from milvine.model.vectors.binary import BinaryKind
from milvine.model.vectors.dense import FloatKind, HalfKind, Int8Kind
from milvine.model.vectors.sparse import SparseKind

KINDS: dict[DataType, VectorKind] = {
    kind.data_type: kind
    for kind in (
        BinaryKind(),
        FloatKind(),
        HalfKind(DataType.FLOAT16_VECTOR),
        HalfKind(DataType.BFLOAT16_VECTOR),
        SparseKind(),
        Int8Kind(),
    )
}


def kind_of(data_type: DataType) -> VectorKind:
    """The kind of a vector field's type."""
    return KINDS[data_type]
