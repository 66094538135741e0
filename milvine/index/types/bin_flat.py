"""BIN_FLAT: no index over vectors of bits, all rows are scanned."""

from __future__ import annotations

from typing import ClassVar

from milvine.index.index_type import ScannedType
from milvine.model.types import DataType, MetricType
from milvine.model.vectors import kind_of


class BinFlat(ScannedType):
    name = "BIN_FLAT"
    data_types = frozenset({DataType.BINARY_VECTOR})
    metrics = kind_of(DataType.BINARY_VECTOR).metrics - {MetricType.MHJACCARD}
    auto: ClassVar = {DataType.BINARY_VECTOR: {}}
    """Comparing bits costs less than a graph or lists would save (docs/operations.md)."""
    auto_metrics = frozenset({MetricType.HAMMING, MetricType.JACCARD})


TYPE = BinFlat()
