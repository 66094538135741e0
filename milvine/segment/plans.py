"""A read, ready to run, with ids, timestamps and compiled filters; and its results."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from milvine.expr import Predicate, referenced_field_ids
from milvine.index.base import Effort
from milvine.index.by_distance import Band
from milvine.index.exact import Exact
from milvine.model.columns import ColumnBatch
from milvine.model.records import record
from milvine.model.types import MetricType
from milvine.segment.groups import GroupFilter
from milvine.segment.ordering import SortKey
from milvine.segment.rescoring import SegmentRescoring

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class SearchPlan:
    """Top k of `queries`, in the form that their kind compares.

    `partition_ids` None: all partitions that the reader may see.

    `exact` compares the vectors. `effort` is the requested effort. Only rows whose distance is in `band` count.
    `output_field_ids` are fetched for the hits.
    """

    field_id: int
    queries: Any
    k: int
    metric: MetricType
    exact: Exact
    effort: Effort
    read_ts: int
    predicate: Predicate | None
    partition_ids: frozenset[int] | None
    output_field_ids: tuple[int, ...]
    primary_field_id: int
    band: Band | None = None
    wants_whole_band: bool = False
    """More rows of the band will be asked for, so that lists with any of them count."""
    ignores_growing: bool = False
    expired_ts: int = 0
    """Rows inserted before it are not seen."""
    groups: GroupFilter | None = None
    """Only rows of these groups are searched."""
    rescoring: SegmentRescoring | None = None
    """Changes the scores of the k nearest rows of each segment."""

    @cached_property
    def field_ids(self) -> frozenset[int]:
        """All fields that are looked at."""
        more = () if self.rescoring is None else self.rescoring.field_ids
        return _looked_at(self.predicate, (self.field_id, self.primary_field_id, *self.output_field_ids, *more))

    def again(self, queries: Any, read_ts: int) -> SearchPlan:
        """The same search for other vectors at another time."""
        return self.changed(queries=queries, read_ts=read_ts)

    def changed(self, **changes: Any) -> SearchPlan:
        """As `replace`, five times as fast. The fields that are looked at stay the same."""
        plan = object.__new__(SearchPlan)
        plan.__dict__.update(self.__dict__, field_ids=self.field_ids, **changes)
        return plan


@dataclass(frozen=True)
class QueryPlan:
    """The first `limit` rows (None: all) that pass, in the order of `order`, and equal ones in key order.

    `keys` (int64 or StringArray) replaces a scan when the filter only compares keys.
    """

    read_ts: int
    predicate: Predicate | None
    keys: Any | None
    partition_ids: frozenset[int] | None
    limit: int | None
    output_field_ids: tuple[int, ...]
    primary_field_id: int
    ignores_growing: bool = False
    expired_ts: int = 0
    """Rows inserted before it are not seen."""
    order: tuple[SortKey, ...] = ()

    @cached_property
    def fetched_ids(self) -> tuple[int, ...]:
        """The fields of the rows that are found: the key, the output fields and those that order the rows."""
        order = (key.field_id for key in self.order)
        return tuple(dict.fromkeys((self.primary_field_id, *self.output_field_ids, *order)))

    @cached_property
    def field_ids(self) -> frozenset[int]:
        """All fields that are looked at."""
        return _looked_at(self.predicate, self.fetched_ids)


def _looked_at(predicate: Predicate | None, field_ids: tuple[int, ...]) -> frozenset[int]:
    return frozenset(field_ids) | (frozenset() if predicate is None else referenced_field_ids(predicate))


@record
class SegmentSearchStats:
    """How one segment, or one chunk of a growing one, was searched. `way`: "scan" or the index's type; `effort`: its
    ef or nprobe; `scanned_queries`: the number of queries that the index could not answer well, so all rows were
    scanned. `segments`: how many small ones were scanned as one; the id is that of the first."""

    segment_id: int
    is_growing: bool
    row_count: int
    kept: int
    way: str
    effort: int
    scanned_queries: int
    ms: float
    segments: int = 1


@record
class Hits:
    """Search results. counts: int64 (nq,), hits of each query. Distances and rows are ordered by query, nearest first.
    `rows` has the output fields and always the key."""

    counts: Array
    distances: Array
    rows: ColumnBatch
    segment_stats: tuple[SegmentSearchStats, ...] = ()
