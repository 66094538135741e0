"""FLAT: no index, all rows are scanned."""

from __future__ import annotations

from milvine.index import dense
from milvine.index.index_type import ScannedType


class Flat(ScannedType):
    name = "FLAT"
    data_types = dense.FLOATS
    metrics = dense.METRICS


TYPE = Flat()
