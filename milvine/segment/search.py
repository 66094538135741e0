"""Top k over a set of segments: mask, scan or index, winners, their output fields.

The planner: an index is cheap but loses recall when few rows are allowed; a scan of few rows is cheap and exact. Each
index estimates which of the two costs less at the requested recall, and uses more effort if fewer rows are allowed. It
also reports the queries that it could not answer well; those are scanned.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from milvine.expr.evaluate import evaluate
from milvine.index.base import Effort, Found, Lists, VectorIndex
from milvine.index.by_distance import padded
from milvine.model.columns import Column, ColumnBatch, concat_batches
from milvine.model.records import record
from milvine.segment.band_search import MEASURED_SHARE, search_lists
from milvine.segment.collect import TopKeys, is_plain
from milvine.segment.joined_rows import as_joined, members_of
from milvine.segment.output_size import MAX_OUTPUT_BYTES, check_output_size, too_large
from milvine.segment.plans import Hits, SearchPlan, SegmentSearchStats
from milvine.segment.query_threads import QUERIES_PER_THREAD, in_threads
from milvine.segment.rescoring import reordered
from milvine.segment.rows import RowSet, alive
from milvine.segment.topk import has_repeats, key_ranks, select_winners

Array = np.ndarray[Any, Any]
SCAN = "scan"
_HIT_BYTES = 12
_BLOCK_CELLS = 1 << 20
_MORE_SCANNED = 16
_SCANNED_CELLS = 1 << 22
_RANKED_ROWS = 1 << 14
"""So many rows of some groups may all be put in order."""
_MORE_ASKED = 4
_ALL_LISTS = 1 << 16


def allowed(rows: RowSet, predicate: Any | None, read_ts: int, expired_ts: int = 0) -> Array | None:
    """bool (n,): rows alive at `read_ts` that pass the filter. None if all rows do."""
    living = alive(rows, read_ts, expired_ts)
    if predicate is None:
        return living
    passing: Array = evaluate(predicate, rows)
    return passing if living is None else passing & living


def visible(row_sets: Sequence[RowSet], partition_ids: frozenset[int] | None) -> list[RowSet]:
    return [r for r in row_sets if r.row_count and (partition_ids is None or r.partition_id in partition_ids)]


@record
class _Answer:
    """Distances (nq, k) and row offsets (nq, k) in one segment, padded with inf and -1, and how they were found."""

    distances: Array
    rows: Array
    stats: SegmentSearchStats


def search_one(rows: RowSet, plan: SearchPlan) -> _Answer:
    """The k nearest rows of each query, one per key, by distance and key, or in the order of the plan's rescoring."""
    started = time.perf_counter()
    mask = allowed(rows, plan.predicate, plan.read_ts, plan.expired_ts)
    validity = rows.column(plan.field_id).validity
    if validity is not None:
        mask = validity if mask is None else mask & validity
    if plan.groups is not None:
        inside = plan.groups.mask(rows)
        mask = inside if mask is None else mask & inside
    kept = rows.row_count if mask is None else int(np.count_nonzero(mask))
    index = rows.index(plan.field_id)
    way, effort, scanned = SCAN, 0, len(plan.queries)
    if kept == 0:
        distances, offsets = padded(len(plan.queries), plan.k)
    elif index is not None and plan.band is not None and index.scan_band is not None and not plan.effort.drop_ratio:
        distances, offsets = _scanned(rows, plan, mask, kept)
        way, scanned = index.name, 0
    elif index is None or index.scan_pays(plan.effort, kept):
        is_best = plan.groups is not None and plan.groups.best and kept <= _RANKED_ROWS and not rows.keys.has_repeats
        scanned_by = _best_of_groups if is_best else _scanned
        distances, offsets = scanned_by(rows, plan, mask, kept)
    elif plan.band is not None and index.lists is not None:
        distances, offsets, effort, scanned = _by_lists(rows, index, index.lists, plan, mask, kept)
        way = index.name
    elif (by_key := _by_key(rows, index, plan, mask)) is not None:
        distances, offsets = by_key
        way, effort, scanned = index.name, plan.effort.candidates, 0
    else:
        distances, offsets, effort, scanned = _ask_for(rows, index, plan, mask, kept)
        way = index.name
    if plan.rescoring is not None:
        distances, offsets = reordered(plan.rescoring, rows, plan.primary_field_id, distances, offsets)
    ms = 1000 * (time.perf_counter() - started)
    joined = as_joined(rows)
    segments = 1 if joined is None else joined.size
    stats = SegmentSearchStats(
        rows.segment_id, rows.is_growing, rows.row_count, kept, way, effort, scanned, ms, segments
    )
    return _Answer(distances, offsets, stats)


def _best_of_groups(rows: RowSet, plan: SearchPlan, mask: Array | None, kept: int) -> tuple[Array, Array]:
    """As `_scanned`, of the rows of each group that are needed, at most k of them. Of one query; no key is repeated."""
    assert plan.groups is not None
    distances, offsets = _scan(rows, plan, plan.queries, kept, mask)
    count = int(np.count_nonzero(offsets[0] >= 0))
    near, found = distances[0, :count], offsets[0, :count]
    needed = plan.groups.are_needed(rows, found, near)
    near, found = near[needed], found[needed]
    if (near[1:] == near[:-1]).any():
        keys = rows.column(plan.primary_field_id).take(found).values
        order, _ = select_winners(np.zeros(len(near), np.int64), near, keys, 1, None)
        near, found = near[order], found[order]
    return near[None, : plan.k], found[None, : plan.k]


def _scanned(rows: RowSet, plan: SearchPlan, mask: Array | None, kept: int) -> tuple[Array, Array]:
    """Distances and rows (nq, k) of an exact search."""
    distances, offsets = _scan(rows, plan, plan.queries, min(plan.k + 1, kept), mask)
    if len(plan.queries) == 1 and is_plain(rows, plan.primary_field_id, distances[0], offsets[0], plan.k):
        return distances[:, : plan.k], offsets[:, : plan.k]
    top = TopKeys(rows, plan.primary_field_id, len(plan.queries), plan.k)
    top.add(top.left, distances, offsets, (offsets[:, -1] < 0) | (plan.k + 1 >= kept))
    _scan_for(top, rows, plan, mask, kept, (_MORE_SCANNED * (plan.k + 1), kept))
    return top.distances, top.rows


def _scan_for(
    top: TopKeys, rows: RowSet, plan: SearchPlan, mask: Array | None, kept: int, sizes: tuple[int, ...]
) -> None:
    """Completes `top` by scanning for more rows, `sizes` of them in turn."""
    for size in sizes:
        left = top.left
        wanted = min(size, kept)
        step = max(1, _SCANNED_CELLS // wanted)
        for start in range(0, len(left), step):
            lines = left[start : start + step]
            distances, offsets = _scan(rows, plan, plan.queries[lines], wanted, mask)
            top.add(lines, distances, offsets, (offsets[:, -1] < 0) | (wanted == kept))


def _scan(rows: RowSet, plan: SearchPlan, queries: Any, k: int, mask: Array | None) -> tuple[Array, Array]:
    """Exact search, of an index that holds the vectors or else of the column, which is mapped beside an index."""
    vectors, prepared = rows.vectors(plan.field_id)
    index = rows.index(plan.field_id)
    if plan.band is not None:
        if index is not None and index.scan_band is not None:
            return index.scan_band(queries, k, mask, plan.band)
        return plan.exact.scan_band(vectors, queries, k, plan.metric, mask, plan.band)
    if index is not None and index.is_exact:
        return index.scan(queries, k, mask)
    return plan.exact.scan(vectors, prepared, queries, k, plan.metric, mask)


def _by_key(rows: RowSet, index: VectorIndex, plan: SearchPlan, mask: Array | None) -> tuple[Array, Array] | None:
    """Distances and rows (nq, k) of an index that orders ties by key. None if it does not, or for copies of a key among
    the nearest rows. One row more than is needed would show a copy of the last one, since copies are neighbours."""
    scan, k = index.scan_by_key, plan.k
    if scan is None or plan.band is not None or plan.effort.drop_ratio:
        return None
    keys, may_repeat = rows.column(plan.primary_field_id), rows.keys.has_repeats

    def codes(places: Array) -> Array:
        values = keys.take(places).values
        return values if isinstance(values, np.ndarray) else key_ranks(values)

    found = in_threads(plan.queries, lambda queries: scan(queries, k + may_repeat, mask, codes))
    distances = np.concatenate([near for near, _ in found]) if len(found) > 1 else found[0][0]
    offsets = np.concatenate([near for _, near in found]) if len(found) > 1 else found[0][1]
    if may_repeat and any(has_repeats(keys.take(line[line >= 0]).values) for line in offsets):
        return None
    return distances[:, :k], offsets[:, :k]


def _by_lists(
    rows: RowSet, index: VectorIndex, lists: Lists, plan: SearchPlan, mask: Array | None, kept: int
) -> tuple[Array, Array, int, int]:
    """Distances and rows (nq, k) inside the band, how many lists were visited, and how many queries were scanned."""
    top = TopKeys(rows, plan.primary_field_id, len(plan.queries), plan.k)
    visited = search_lists(top, rows, index, lists, plan, mask)
    scanned = len(top.left)
    _scan_for(top, rows, plan, mask, kept, (plan.k + 1, _MORE_SCANNED * (plan.k + 1), kept))
    return top.distances, top.rows, visited, scanned


def _ask_for(
    rows: RowSet, index: VectorIndex, plan: SearchPlan, mask: Array | None, kept: int
) -> tuple[Array, Array, int, int]:
    """Distances and rows (nq, k), the effort that was used, and how many queries were scanned in the end.

    An exact index is first asked for one row more than is needed, which usually shows that the rows are in order.
    """
    nq, k, effort = len(plan.queries), plan.k, plan.effort
    if plan.band is not None:
        effort = replace(effort, nprobe=_ALL_LISTS)  # of an index whose lists are unknown
    is_glance = index.is_exact and not effort.drop_ratio and plan.band is None and k < effort.candidates
    found = _ask(rows, index, plan, plan.queries, k + 1 if is_glance else effort.candidates, effort, mask)
    if nq == 1 and plan.band is None and found.trusted[0]:
        distances, offsets = found.distances, found.rows
        if is_plain(rows, plan.primary_field_id, distances[0], offsets[0], k):
            return distances[:, :k], offsets[:, :k], found.effort, 0
    top = TopKeys(rows, plan.primary_field_id, nq, k)
    doubted = ~found.trusted
    if is_glance:
        answered = np.flatnonzero(found.trusted)
        top.add(answered, found.distances[answered], found.rows[answered], found.is_whole[answered])
        lines = np.flatnonzero(~top.is_full & ~doubted)
        found = _ask(rows, index, plan, plan.queries[lines], effort.candidates, effort, mask) if len(lines) else found
    else:
        lines = np.arange(nq)
    used = found.effort
    # Ties at the end of an index's first result are left as they are if it has enough keys: a search for all the other
    # ties would often end in a scan. A range holds all rows of a distance, so that iterators can continue after it.
    suffices = max(effort.candidates, k) if plan.band is None else None
    while len(lines):
        used = max(used, found.effort)
        if plan.band is not None and not index.is_exact:
            # An index that is not exact mixes the rows at the beginning of the band with others, as it does with the
            # nearest rows of all: the same share of what it finds must be measured.
            before = int(np.count_nonzero(found.distances < plan.band.low, axis=1).max())
            factor = math.ceil((before + k) * plan.effort.candidates / k / effort.candidates)
            if factor > 1:
                effort = effort.times(factor)
                if _scan_is_cheaper(rows, index, effort, kept):
                    break
                found = _ask(rows, index, plan, plan.queries[lines], effort.candidates, effort, mask)
                continue
        doubted[lines] = ~found.trusted
        _add_found(top, lines, found, plan, kept, suffices)
        effort = effort.times(_MORE_ASKED)
        lines = np.flatnonzero(~top.is_full & ~doubted)
        if _scan_is_cheaper(rows, index, effort, kept) or not len(lines):
            break
        top.forget(lines)
        found = _ask(rows, index, plan, plan.queries[lines], effort.candidates, effort, mask)
        suffices = None
    scanned = len(top.left)
    if scanned:
        # Lists that were not visited may hold nearer rows than those found, up to the far end of a range.
        top.forget(top.left)
        _scan_for(top, rows, plan, mask, kept, (k + 1, _MORE_SCANNED * (k + 1), kept))
    return top.distances, top.rows, used, scanned


def _scan_is_cheaper(rows: RowSet, index: VectorIndex, effort: Effort, kept: int) -> bool:
    return effort.candidates > MEASURED_SHARE * rows.row_count or index.scan_pays(effort, kept)


def _add_found(top: TopKeys, lines: Array, found: Found, plan: SearchPlan, kept: int, suffices: int | None) -> None:
    distances, rows = found.distances, found.rows
    is_whole = (np.count_nonzero(rows >= 0, axis=1) >= kept) | found.is_whole
    if plan.band is not None:
        is_whole |= (rows[:, -1] >= 0) & (distances[:, -1] >= plan.band.high)
        inside = plan.band.holds(distances)
        distances, rows = np.where(inside, distances, np.inf), np.where(inside, rows, -1)
    some = found.trusted
    top.add(lines[some], distances[some], rows[some], is_whole[some], suffices)


def _ask(
    rows: RowSet, index: VectorIndex, plan: SearchPlan, queries: Any, k: int, effort: Effort, mask: Array | None
) -> Found:
    """Up to k rows that the index finds for each query.

    Distances of a range are computed from the column, so that every plan treats rows at its ends alike.
    """
    k = min(k, rows.row_count)
    if len(queries) < 2 * QUERIES_PER_THREAD:
        return _ask_here(rows, index, plan, queries, k, effort, mask)
    found = in_threads(queries, lambda piece: _ask_here(rows, index, plan, piece, k, effort, mask))
    if len(found) == 1:
        return found[0]
    return Found(
        np.concatenate([f.distances for f in found]),
        np.concatenate([f.rows for f in found]),
        np.concatenate([f.trusted for f in found]),
        max(f.effort for f in found),
        all(f.finds_all for f in found),
    )


def _ask_here(
    rows: RowSet, index: VectorIndex, plan: SearchPlan, queries: Any, k: int, effort: Effort, mask: Array | None
) -> Found:
    found = index.search(queries, k, effort, mask)
    if index.is_exact and not effort.drop_ratio and plan.band is None:
        return found
    vectors, _ = rows.vectors(plan.field_id)
    exact = plan.exact.exact_distances(vectors, queries, found.rows, k, plan.metric)
    return Found(*exact, found.trusted, found.effort, found.finds_all)


def gather(row_sets: Sequence[RowSet], set_numbers: Array, row_offsets: Array, field_ids: Sequence[int]) -> ColumnBatch:
    """Fields of rows in several segments, in the given order."""
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
    """The k nearest rows of all segments for each query, one per key; None if there are no row sets. Some of the row
    sets may be joined ones.

    Many queries are searched in blocks, which bounds the memory. Raises ParameterInvalid if the answer is too large.
    """
    chosen = visible(row_sets, plan.partition_ids)
    if not chosen:
        return None
    row_count = chosen[0].row_count if len(chosen) == 1 else sum(r.row_count for r in chosen)
    if plan.k > row_count:
        plan = replace(plan, k=row_count)
    nq = len(plan.queries)
    step = max(1, _BLOCK_CELLS // (max(plan.k, min(plan.effort.candidates, row_count)) * len(chosen)))
    if nq <= step:
        return _search_block(chosen, plan)  # so few cells cannot make a large answer
    blocks: list[Hits] = []
    size = hit_count = 0
    for start in range(0, nq, step):
        blocks.append(_search_block(chosen, replace(plan, queries=plan.queries[start : start + step])))
        size += len(blocks[-1].distances) * _HIT_BYTES + blocks[-1].rows.bytes_used
        hit_count += len(blocks[-1].distances)
        # At twice the limit at this rate, fail now and not after minutes. The size of the fields may vary.
        expected = hit_count * _HIT_BYTES * nq / min(start + step, nq)
        if size > MAX_OUTPUT_BYTES or expected > 2 * MAX_OUTPUT_BYTES:
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
    if len(chosen) == 1:
        return _answer_of_one(chosen[0], found[0], fields)
    distances = np.concatenate([f.distances for f in found], axis=1)
    offsets = np.concatenate([f.rows for f in found], axis=1)
    numbers = np.repeat(np.arange(len(chosen)), [f.distances.shape[1] for f in found])
    query, place = np.nonzero(offsets >= 0)
    distances, offsets, numbers = distances[query, place], offsets[query, place], numbers[place]
    keys = gather(chosen, numbers, offsets, [plan.primary_field_id]).columns[plan.primary_field_id]
    winners, counts = select_winners(query, distances, keys.values, nq, plan.k)
    chosen, numbers, offsets = members_of(chosen, numbers[winners], offsets[winners])
    check_output_size("search", chosen, numbers, offsets, fields)
    rows = gather(chosen, numbers, offsets, fields)
    return Hits(counts, distances[winners], rows, tuple(f.stats for f in found))


def _answer_of_one(rows: RowSet, answer: _Answer, fields: Sequence[int]) -> Hits:
    """The answer of one segment, which needs no merge.

    Most searches of a compacted collection are like this, so one query skips the work that several need.
    """
    if len(answer.rows) == 1:
        offsets = answer.rows[0]
        count = len(offsets) if len(offsets) and offsets[-1] >= 0 else int(np.count_nonzero(offsets >= 0))
        offsets, distances, counts = offsets[:count], answer.distances[0, :count], np.array([count])
    else:
        is_there = answer.rows >= 0
        offsets, distances = answer.rows[is_there], answer.distances[is_there]
        counts = np.count_nonzero(is_there, axis=1)
    joined = as_joined(rows)
    if joined is not None and not joined.has_joined(fields):
        members, numbers, offsets = members_of([rows], np.zeros(len(offsets), np.int64), offsets)
        check_output_size("search", members, numbers, offsets, fields)
        return Hits(counts, distances, gather(members, numbers, offsets, fields), (answer.stats,))
    check_output_size("search", [rows], offsets, offsets, fields)
    return Hits(counts, distances, _take(rows, offsets, fields), (answer.stats,))
