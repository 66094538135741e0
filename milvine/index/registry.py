"""The index types of vector fields. A new type is a new module of `types/` and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

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


def auto_type(
    data_type: DataType, metric: MetricType, saves_memory: bool = False
) -> tuple[IndexType, Mapping[str, Any]]:
    """The type that AUTOINDEX stands for, and its build parameters. It may refuse the metric, if none takes it."""
    coded = next((t for t in TYPES.values() if data_type in t.auto_codes and metric in t.metrics), None)
    if saves_memory and coded is not None:
        return coded, coded.auto_codes[data_type]
    types = [t for t in TYPES.values() if data_type in t.auto]
    found = next((t for t in types if metric in (t.auto_metrics or t.metrics)), types[0])
    return found, found.auto[data_type]
