"""How the vectors of each family of kinds are compared exactly. A new family is one more entry.

An index type whose metric has parameters makes an `Exact` of its own for each search.

`scan`, `scan_band` and `exact_distances` have the shapes and the order that `index.scan` describes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milvine.index import scan, scan_binary, scan_sparse, scan_terms
from milvine.index.by_distance import Band
from milvine.index.scan import Array
from milvine.index.term_queries import row_lengths
from milvine.model.functions import FunctionType
from milvine.model.records import record
from milvine.model.schema import FieldSchema
from milvine.model.types import MetricType
from milvine.model.vectors import KINDS

Nearest = tuple[Array, Array]


@record
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
    origin: tuple[Any, ...] = ()
    """What makes the same object in another process: the name of a family, or that of a metric and its parameters."""


def no_preparation(_vectors: Any) -> None:
    return None


_FAMILIES = {
    "dense": Exact(scan.squared_norms, scan.scan, scan.scan_band, scan.exact_distances, 4, ("dense",)),
    "binary": Exact(
        no_preparation, scan_binary.scan, scan_binary.scan_band, scan_binary.exact_distances, origin=("binary",)
    ),
    "sparse": Exact(
        no_preparation, scan_sparse.scan, scan_sparse.scan_band, scan_sparse.exact_distances, origin=("sparse",)
    ),
    "terms": Exact(row_lengths, scan_terms.scan, scan_terms.scan_band, scan_terms.exact_distances, 4, ("terms",)),
}
_EXACT = {data_type: _FAMILIES[kind.family] for data_type, kind in KINDS.items()}
_OF_FUNCTIONS = {FunctionType.BM25: _FAMILIES["terms"]}
"""Of fields whose vectors a function makes, if they are not compared as others of their type."""


def exact_of(field: FieldSchema) -> Exact:
    """How the vectors of a field are compared."""
    found = None if field.made_by is None else _OF_FUNCTIONS.get(field.made_by)
    return _EXACT[field.data_type] if found is None else found


def exact_of_family(name: str) -> Exact:
    """The comparison with this `origin`. Raises KeyError."""
    return _FAMILIES[name]
