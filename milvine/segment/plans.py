"""A read, ready to run: everything resolved to ids, timestamps and compiled filters; and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from milvine.expr import Predicate
from milvine.model.columns import ColumnBatch
from milvine.model.types import MetricType

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """Top k of `queries` (nq, dim) float32. `partition_ids` None: every partition that the reader may see.

    `ef` is the graph's effort as asked for; `output_field_ids` are fetched for the winners.
    """

    field_id: int
    queries: Array
    k: int
    metric: MetricType
    ef: int
    read_ts: int
    predicate: Predicate | None
    partition_ids: frozenset[int] | None
    output_field_ids: tuple[int, ...]
    primary_field_id: int
    expired_ts: int = 0
    """Rows inserted before it are not seen."""


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """Rows that pass, in key order, the first `limit` of them (None: all).

    `keys` (int64 or StringArray) replaces a scan when the filter is nothing but keys.
    """

    read_ts: int
    predicate: Predicate | None
    keys: Any | None
    partition_ids: frozenset[int] | None
    limit: int | None
    output_field_ids: tuple[int, ...]
    primary_field_id: int
    expired_ts: int = 0
    """Rows inserted before it are not seen."""


@dataclass(frozen=True, slots=True)
class Hits:
    """Search results. counts: int64 (nq,), hits of each query; distances and rows follow query by query,
    nearest first. `rows` has the output fields and always the key."""

    counts: Array
    distances: Array
    rows: ColumnBatch
