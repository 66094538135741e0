"""How the vectors of each family of kinds are compared exactly. A new family is one more entry.

An index type whose metric has parameters makes an `Exact` of its own for each search.

`scan`, `scan_band` and `exact_distances` have the shapes and the order that `index.scan` describes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from milvine.index import scan, scan_binary, scan_sparse
from milvine.index.by_distance import Band
from milvine.index.scan import Array
from milvine.model.types import DataType, MetricType
from milvine.model.vectors import KINDS

Nearest = tuple[Array, Array]


@dataclass(frozen=True, slots=True)
class Exact:
    """Exact search in a column. `prepared` is what `prepare` returned for the same vectors, or None."""

    prepare: Callable[[Any], Array | None]
    """What scans need beside the vectors, `prepared_bytes` for each; None if they need nothing."""
    scan: Callable[[Any, Array | None, Any, int, MetricType, Array | None], Nearest]
    """vectors, prepared, queries, k, metric, mask."""
    scan_band: Callable[[Any, Any, int, MetricType, Array | None, Band], Nearest]
    """vectors, queries, k, metric, mask, band."""
    exact_distances: Callable[[Any, Any, Array, int, MetricType], Nearest]
    """vectors, queries, rows, k, metric."""
    prepared_bytes: int = 0


def no_preparation(_vectors: Any) -> None:
    return None


_FAMILIES = {
    "dense": Exact(scan.squared_norms, scan.scan, scan.scan_band, scan.exact_distances, 4),
    "binary": Exact(no_preparation, scan_binary.scan, scan_binary.scan_band, scan_binary.exact_distances),
    "sparse": Exact(no_preparation, scan_sparse.scan, scan_sparse.scan_band, scan_sparse.exact_distances),
}
_EXACT = {data_type: _FAMILIES[kind.family] for data_type, kind in KINDS.items()}


def exact_of(data_type: DataType) -> Exact:
    """How vectors of a field of this type are compared."""
    return _EXACT[data_type]
