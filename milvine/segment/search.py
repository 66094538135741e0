"""Top k over a set of segments: mask, scan or index, winners, their output fields.

The planner: an index is cheap but loses its recall when few rows are allowed; a scan of few rows is cheap and exact.
Each index tells which of the two costs less at the recall that is asked for, works harder the fewer rows are allowed,
and names the queries that it could not answer well; those are scanned.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from milvine.expr.evaluate import evaluate
from milvine.index.base import Effort, Found, VectorIndex
from milvine.index.scan import exact_distances, first_of, padded, scan, scan_band
from milvine.model.columns import Column, ColumnBatch, concat_batches
from milvine.model.records import record
from milvine.segment.output_size import MAX_OUTPUT_BYTES, check_output_size, too_large
from milvine.segment.plans import Hits, SearchPlan, SegmentSearchStats
from milvine.segment.rows import RowSet, alive
from milvine.segment.topk import has_repeats, select_winners

Array = np.ndarray[Any, Any]
SCAN = "scan"
_HIT_BYTES = 12
_BLOCK_CELLS = 1 << 20
_BAND_MARGIN = 16
"""More than the rows of equal distance that an index may order otherwise."""
_BAND_SHARE = 0.05
"""Beyond this part of the rows, asking an index for ever more costs more than looking at all of them."""
_THREADS = os.cpu_count() or 1
_QUERIES_PER_THREAD = 8
"""Of fewer, handing them to another thread costs more than it saves."""
_pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="search")


def allowed(rows: RowSet, predicate: Any | None, read_ts: int, expired_ts: int = 0) -> Array | None:
    """bool (n,) of the rows alive at `read_ts` that pass the filter, or None when all do."""
    living = alive(rows, read_ts, expired_ts)
    if predicate is None:
        return living
    passing: Array = evaluate(predicate, rows)
    return passing if living is None else passing & living


def visible(row_sets: Sequence[RowSet], partition_ids: frozenset[int] | None) -> list[RowSet]:
    return [r for r in row_sets if r.row_count and (partition_ids is None or r.partition_id in partition_ids)]


@record
class _Answer:
    """Distances (nq, k) and row offsets (nq, k) inside one segment, padded with inf and -1, and how they came."""

    distances: Array
    rows: Array
    stats: SegmentSearchStats


def search_one(rows: RowSet, plan: SearchPlan) -> _Answer:
    started = time.perf_counter()
    mask = allowed(rows, plan.predicate, plan.read_ts, plan.expired_ts)
    validity = rows.column(plan.field_id).validity
    if validity is not None:
        mask = validity if mask is None else mask & validity
    kept = rows.row_count if mask is None else int(np.count_nonzero(mask))
    index = rows.index(plan.field_id)
    way, effort, scanned = SCAN, 0, len(plan.queries)
    if kept == 0:
        distances, offsets = padded(len(plan.queries), plan.k)
    elif index is None or plan.k >= kept or index.scan_pays(plan.effort, kept):
        distances, offsets = _scan(rows, plan, plan.queries, mask)
    else:
        found = _ask(rows, index, plan, mask)
        way, effort, scanned = index.name, found.effort, len(plan.queries) - int(np.count_nonzero(found.trusted))
        distances, offsets = found.distances, found.rows
        if scanned:
            left = ~found.trusted
            distances[left], offsets[left] = _scan(rows, plan, plan.queries[left], mask)
    ms = 1000 * (time.perf_counter() - started)
    stats = SegmentSearchStats(rows.segment_id, rows.is_growing, rows.row_count, kept, way, effort, scanned, ms)
    return _Answer(distances, offsets, stats)


def _scan(rows: RowSet, plan: SearchPlan, queries: Array, mask: Array | None) -> tuple[Array, Array]:
    """Exact, from an index that holds the vectors or else from the column, which is mapped beside an index."""
    vectors, norms2 = rows.vectors(plan.field_id)
    if plan.band is not None:
        return scan_band(vectors, queries, plan.k, plan.metric, mask, plan.band)
    index = rows.index(plan.field_id)
    if index is not None and index.is_exact:
        return index.scan(queries, plan.k, mask)
    return scan(vectors, norms2, queries, plan.k, plan.metric, mask)


def _ask(rows: RowSet, index: VectorIndex, plan: SearchPlan, mask: Array | None) -> Found:
    """What the index finds for all queries; several threads share many of them, each query is answered by one."""
    ask = _in_band if plan.band is not None else _nearest
    parts = min(_THREADS, len(plan.queries) // _QUERIES_PER_THREAD)
    if parts < 2:
        return ask(rows, index, plan, mask)
    plans = [plan.again(queries, plan.read_ts) for queries in np.array_split(plan.queries, parts)]
    found = list(_pool.map(lambda part: ask(rows, index, part, mask), plans))
    return Found(
        np.concatenate([f.distances for f in found]),
        np.concatenate([f.rows for f in found]),
        np.concatenate([f.trusted for f in found]),
        max(f.effort for f in found),
    )


def _nearest(rows: RowSet, index: VectorIndex, plan: SearchPlan, mask: Array | None) -> Found:
    if index.is_exact:
        return index.search(plan.queries, plan.k, plan.effort, mask)
    found = index.search(plan.queries, min(plan.effort.candidates, rows.row_count), plan.effort, mask)
    vectors, _ = rows.vectors(plan.field_id)
    return Found(*exact_distances(vectors, plan.queries, found.rows, plan.k, plan.metric), found.trusted, found.effort)


def _in_band(rows: RowSet, index: VectorIndex, plan: SearchPlan, mask: Array | None) -> Found:
    """Ask for more and more of the nearest rows until k of them lie inside the band, or the next would lie beyond it.

    Distances are measured from the column, so that rows at the band's edges are in or out for every plan alike.
    """
    assert plan.band is not None
    vectors, _ = rows.vectors(plan.field_id)
    nq, wanted = len(plan.queries), plan.k + _BAND_MARGIN
    distances, offsets = padded(nq, plan.k)
    done = np.zeros(nq, np.bool_)
    effort = plan.effort
    while True:
        left = np.flatnonzero(~done)
        candidates = min(max(wanted, plan.effort.candidates), rows.row_count)
        effort = Effort(max(plan.effort.ef, candidates), effort.nprobe, candidates)
        found = index.search(plan.queries[left], candidates, effort, mask)
        near, near_rows = exact_distances(vectors, plan.queries[left], found.rows, candidates, plan.metric)
        inside = plan.band.holds(near)
        is_full = found.rows[:, -1] >= 0
        enough = (inside.sum(axis=1) >= plan.k) | (is_full & (near[:, -1] >= plan.band.high))
        ready = enough & found.trusted
        some = left[ready]
        distances[some], offsets[some] = first_of(near[ready], near_rows[ready], inside[ready], plan.k)
        done[some] = True
        wanted *= 4
        if done.all() or wanted > _BAND_SHARE * rows.row_count:
            return Found(distances, offsets, done, found.effort)


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
    """The k nearest rows of all segments for each query, one per key; None if there is nothing to look at.

    Many queries are taken in blocks, which bounds the memory. Raises UnexpectedError when the answer grows too large.
    """
    chosen = visible(row_sets, plan.partition_ids)
    if not chosen:
        return None
    row_count = sum(r.row_count for r in chosen)
    if plan.k > row_count:
        plan = replace(plan, k=row_count)
    nq = len(plan.queries)
    step = max(1, _BLOCK_CELLS // (max(plan.k, min(plan.effort.candidates, row_count)) * len(chosen)))
    if nq <= step:
        return _search_block(chosen, plan)  # so few cells are no large answer
    blocks: list[Hits] = []
    size = 0
    for start in range(0, nq, step):
        blocks.append(_search_block(chosen, replace(plan, queries=plan.queries[start : start + step])))
        size += len(blocks[-1].distances) * _HIT_BYTES + blocks[-1].rows.bytes_used
        # Twice too much at this rate is refused at once, not after minutes.
        if size > MAX_OUTPUT_BYTES or size * nq / min(start + step, nq) > 2 * MAX_OUTPUT_BYTES:
            raise too_large("search")
    return Hits(
        np.concatenate([b.counts for b in blocks]),
        np.concatenate([b.distances for b in blocks]),
        concat_batches([b.rows for b in blocks]),
        tuple(stats for b in blocks for stats in b.segment_stats),
    )


def _search_block(chosen: Sequence[RowSet], plan: SearchPlan) -> Hits:
    nq = len(plan.queries)
    found = [search_one(rows, plan) for rows in chosen]
    fields = tuple(dict.fromkeys((plan.primary_field_id, *plan.output_field_ids)))
    if len(chosen) == 1 and nq == 1:
        hits = _answer_of_one(chosen[0], found[0], plan.primary_field_id, fields)
        if hits is not None:
            return hits
    distances = np.concatenate([f.distances for f in found], axis=1)
    offsets = np.concatenate([f.rows for f in found], axis=1)
    numbers = np.repeat(np.arange(len(chosen)), [f.distances.shape[1] for f in found])
    query, place = np.nonzero(offsets >= 0)
    distances, offsets, numbers = distances[query, place], offsets[query, place], numbers[place]
    keys = gather(chosen, numbers, offsets, [plan.primary_field_id]).columns[plan.primary_field_id]
    winners, counts = select_winners(query, distances, keys.values, nq, plan.k)
    numbers, offsets = numbers[winners], offsets[winners]
    check_output_size("search", chosen, numbers, offsets, fields)
    rows = gather(chosen, numbers, offsets, fields)
    return Hits(counts, distances[winners], rows, tuple(f.stats for f in found))


def _answer_of_one(rows: RowSet, answer: _Answer, primary_field_id: int, fields: Sequence[int]) -> Hits | None:
    """One query's answer from one segment, which needs no merging; None if it holds a key twice.

    This is what most searches of a compacted collection are, so it is spared the general way's twenty array calls.
    """
    offsets = answer.rows[0]
    count = len(offsets) if len(offsets) and offsets[-1] >= 0 else int(np.count_nonzero(offsets >= 0))
    check_output_size("search", [rows], offsets[:count], offsets[:count], fields)
    batch = _take(rows, offsets[:count], fields)
    if has_repeats(batch.columns[primary_field_id].values):
        return None
    return Hits(np.array([count]), answer.distances[0, :count], batch, (answer.stats,))
