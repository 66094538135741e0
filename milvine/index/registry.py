"""The index types of vector fields. A new type is a new module of `types/` and a line here."""

from __future__ import annotations

from importlib import import_module

from milvine.index.index_type import IndexType
from milvine.model.types import DataType, MetricType

_MODULES = (
    "flat",
    "ivf_flat",
    "ivf_sq8",
    "ivf_pq",
    "ivf_rabitq",
    "scann",
    "hnsw",
    "hnsw_sq",
    "hnsw_pq",
    "hnsw_prq",
    "diskann",
    "aisaq",
    "faiss_factory",
    "bin_flat",
    "bin_ivf_flat",
    "minhash_lsh",
    "sparse_inverted_index",
    "sparse_wand",
)

TYPES: dict[str, IndexType] = {
    found.name: found for found in (import_module(f"milvine.index.types.{name}").TYPE for name in _MODULES)
}
"""By name."""


def auto_type(data_type: DataType, metric: MetricType) -> IndexType:
    """The type that AUTOINDEX stands for. It may refuse the metric, if none takes it."""
    types = [t for t in TYPES.values() if data_type in t.auto]
    return next((t for t in types if metric in t.metrics), types[0])
