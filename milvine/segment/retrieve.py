"""Fetches, or counts, rows of a set of segments by filter or by key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from milvine.model.columns import ColumnBatch, concat_batches, concat_columns
from milvine.segment.output_size import MAX_OUTPUT_BYTES, check_output_size, too_large
from milvine.segment.plans import QueryPlan
from milvine.segment.rows import RowSet, alive
from milvine.segment.search import allowed, gather, visible
from milvine.segment.topk import first_by_key

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class FoundRows:
    """Rows in ascending key order, one per key; insert_ts: int64 (n,), to find the newest of equal keys."""

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
    places = first_by_key(keys.values, insert_ts, plan.limit)
    fields = tuple(dict.fromkeys((pk, *plan.output_field_ids)))
    numbers, offsets = numbers[places], offsets[places]
    check_output_size("query", chosen, numbers, offsets, fields)
    return FoundRows(gather(chosen, numbers, offsets, fields), insert_ts[places])


def merge_found(found: Sequence[FoundRows], plan: QueryPlan) -> FoundRows:
    """Merges results of several holders under the same order and limit."""
    if len(found) == 1:
        return found[0]
    rows = concat_batches([f.rows for f in found])
    insert_ts = np.concatenate([f.insert_ts for f in found])
    places = first_by_key(rows.columns[plan.primary_field_id].values, insert_ts, plan.limit)
    rows = rows.take(places)
    if rows.bytes_used > MAX_OUTPUT_BYTES:
        raise too_large("query")
    return FoundRows(rows, insert_ts[places])


def count_row_sets(row_sets: Sequence[RowSet], plan: QueryPlan) -> int:
    """How many rows pass; rows with equal keys count separately, as in Milvus."""
    return sum(len(passing_offsets(rows, plan)) for rows in visible(row_sets, plan.partition_ids))
