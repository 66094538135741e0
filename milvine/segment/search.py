"""Top k over a set of segments: mask, scan or graph, winners, their output fields.

The planner: a graph search is cheap but loses its recall when few rows are allowed; a scan of few rows is cheap and
exact. Up to SCAN_SHARE of the rows (or SCAN_ROWS) the allowed rows are scanned; above it the graph works harder the
fewer rows are allowed, which holds recall where the unfiltered search has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from milvine.expr.evaluate import evaluate
from milvine.index.scan import padded, scan, unit
from milvine.model.columns import Column, ColumnBatch, concat_batches
from milvine.model.types import MetricType
from milvine.segment.plans import Hits, SearchPlan
from milvine.segment.rows import RowSet, alive
from milvine.segment.topk import select_winners

Array = np.ndarray[Any, Any]
SCAN_SHARE = 0.15
SCAN_ROWS = 2000
EFFORT_EXPONENT = 0.8


def allowed(rows: RowSet, predicate: Any | None, read_ts: int, expired_ts: int = 0) -> Array | None:
    """bool (n,) of the rows alive at `read_ts` that pass the filter, or None when all do."""
    living = alive(rows, read_ts, expired_ts)
    if predicate is None:
        return living
    passing: Array = evaluate(predicate, rows)
    return passing if living is None else passing & living


def visible(row_sets: Sequence[RowSet], partition_ids: frozenset[int] | None) -> list[RowSet]:
    return [r for r in row_sets if r.row_count and (partition_ids is None or r.partition_id in partition_ids)]


def search_one(rows: RowSet, plan: SearchPlan) -> tuple[Array, Array]:
    """Distances (nq, k) and row offsets (nq, k) inside one segment, padded with inf and -1."""
    mask = allowed(rows, plan.predicate, plan.read_ts, plan.expired_ts)
    validity = rows.column(plan.field_id).validity
    if validity is not None:
        mask = validity if mask is None else mask & validity
    kept = rows.row_count if mask is None else int(np.count_nonzero(mask))
    if kept == 0:
        return padded(len(plan.queries), plan.k)
    graph = rows.graph(plan.field_id)
    share = kept / rows.row_count
    if graph is None or kept <= SCAN_ROWS or share <= SCAN_SHARE or plan.k >= kept:
        if graph is not None and plan.metric is MetricType.COSINE:
            # The graph keeps unit vectors: the cosine is an inner product there.
            return scan(graph.vectors, None, unit(plan.queries), plan.k, MetricType.IP, mask)
        vectors, norms2 = rows.vectors(plan.field_id)
        return scan(vectors, norms2, plan.queries, plan.k, plan.metric, mask)
    ef = int(plan.ef / share**EFFORT_EXPONENT)
    return graph.search(plan.queries, plan.k, ef, mask)


def gather(row_sets: Sequence[RowSet], set_numbers: Array, row_offsets: Array, field_ids: Sequence[int]) -> ColumnBatch:
    """Fields of rows that lie in several segments, in the order given."""
    if len(row_sets) == 1 or len(row_offsets) == 0:
        return _take(row_sets[0], row_offsets, field_ids)
    grouped = np.argsort(set_numbers, kind="stable")
    numbers, starts = np.unique(set_numbers[grouped], return_index=True)
    batches = [
        _take(row_sets[number], row_offsets[places], field_ids)
        for number, places in zip(numbers, np.split(grouped, starts[1:]), strict=True)
    ]
    back = np.empty(len(grouped), np.int64)
    back[grouped] = np.arange(len(grouped))
    return concat_batches(batches).take(back)


def _take(rows: RowSet, row_offsets: Array, field_ids: Sequence[int]) -> ColumnBatch:
    columns: dict[int, Column] = {i: rows.column(i).take(row_offsets) for i in field_ids}
    return ColumnBatch(len(row_offsets), columns)


def search_row_sets(row_sets: Sequence[RowSet], plan: SearchPlan) -> Hits | None:
    """The k nearest rows of all segments for each query, one per key; None if there is nothing to look at."""
    chosen = visible(row_sets, plan.partition_ids)
    if not chosen:
        return None
    nq = len(plan.queries)
    found = [search_one(rows, plan) for rows in chosen]
    distances = np.concatenate([f[0] for f in found], axis=1)
    offsets = np.concatenate([f[1] for f in found], axis=1)
    numbers = np.repeat(np.arange(len(chosen)), [f[0].shape[1] for f in found])
    query, place = np.nonzero(offsets >= 0)
    distances, offsets, numbers = distances[query, place], offsets[query, place], numbers[place]
    keys = gather(chosen, numbers, offsets, [plan.primary_field_id]).columns[plan.primary_field_id]
    winners, counts = select_winners(query, distances, keys.values, nq, plan.k)
    fields = tuple(dict.fromkeys((plan.primary_field_id, *plan.output_field_ids)))
    return Hits(counts, distances[winners], gather(chosen, numbers[winners], offsets[winners], fields))
