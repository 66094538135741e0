"""Fetches, or counts, rows of a set of segments by filter or by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from milvine.model.columns import Column, ColumnBatch, concat_batches, concat_columns
from milvine.model.records import record
from milvine.segment.ordering import ordered
from milvine.segment.output_size import MAX_OUTPUT_BYTES, check_output_size, too_large
from milvine.segment.plans import QueryPlan
from milvine.segment.rows import RowSet, alive
from milvine.segment.search import allowed, gather, visible
from milvine.segment.topk import first_by_key

Array = np.ndarray[Any, Any]


@record
class FoundRows:
    """Rows in the order of the plan, one per key; insert_ts: int64 (n,), to find the newest of equal keys."""

    rows: ColumnBatch
    insert_ts: Array


def passing_offsets(rows: RowSet, plan: QueryPlan) -> Array:
    """Row offsets, int64, of the rows that pass."""
    if plan.keys is not None:
        offsets = np.unique(rows.keys.find(plan.keys)[0])
        living = alive(rows, plan.read_ts, plan.expired_ts)
        return offsets if living is None else offsets[living[offsets]]
    mask = allowed(rows, plan.predicate, plan.read_ts, plan.expired_ts)
    return np.arange(rows.row_count) if mask is None else np.flatnonzero(mask)


def query_row_sets(row_sets: Sequence[RowSet], plan: QueryPlan) -> FoundRows | None:
    """The rows that pass; None if there are no row sets."""
    chosen = visible(row_sets, plan.partition_ids)
    if not chosen:
        return None
    found = [passing_offsets(rows, plan) for rows in chosen]
    offsets = np.concatenate(found)
    numbers = np.repeat(np.arange(len(chosen)), [len(f) for f in found])
    insert_ts = np.concatenate([r.insert_ts[f] for r, f in zip(chosen, found, strict=True)])
    pk = plan.primary_field_id
    keys = concat_columns([r.column(pk).take(f) for r, f in zip(chosen, found, strict=True)])
    if plan.order:
        places = first_by_key(keys.values, insert_ts, None)
        order_ids = tuple(key.field_id for key in plan.order)
        columns = gather(chosen, numbers[places], offsets[places], order_ids).columns
        places = places[_first_in_order(columns, plan)]
    else:
        places = first_by_key(keys.values, insert_ts, plan.limit)
    fields = plan.fetched_ids
    numbers, offsets = numbers[places], offsets[places]
    check_output_size("query", chosen, numbers, offsets, fields)
    return FoundRows(gather(chosen, numbers, offsets, fields), insert_ts[places])


def _first_in_order(columns: Mapping[int, Column], plan: QueryPlan) -> Array:
    """Positions of the first `limit` rows, int64. columns: of rows in key order."""
    return ordered([columns[key.field_id] for key in plan.order], plan.order)[: plan.limit]


def merge_found(found: Sequence[FoundRows], plan: QueryPlan) -> FoundRows:
    """Merges results of several holders under the same order and limit."""
    if len(found) == 1:
        return found[0]
    rows = concat_batches([f.rows for f in found])
    insert_ts = np.concatenate([f.insert_ts for f in found])
    keys = rows.columns[plan.primary_field_id].values
    places = first_by_key(keys, insert_ts, None if plan.order else plan.limit)
    rows = rows.take(places)
    if plan.order:
        first = _first_in_order(rows.columns, plan)
        rows, places = rows.take(first), places[first]
    if rows.bytes_used > MAX_OUTPUT_BYTES:
        raise too_large("query")
    return FoundRows(rows, insert_ts[places])


def count_row_sets(row_sets: Sequence[RowSet], plan: QueryPlan) -> int:
    """How many rows pass; rows with equal keys count separately, as in Milvus."""
    return sum(len(passing_offsets(rows, plan)) for rows in visible(row_sets, plan.partition_ids))
