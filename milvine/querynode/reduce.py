"""Merges results of several holders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from milvine.model.columns import concat_batches
from milvine.segment.plans import Hits, SearchPlan, SegmentSearchStats
from milvine.segment.topk import select_winners

_MOST_TOLD = 16


def merge_hits(found: Sequence[Hits], plan: SearchPlan) -> Hits:
    """The k best of each query, one per key."""
    if len(found) == 1:
        return found[0]
    nq = len(plan.queries)
    query = np.concatenate([np.repeat(np.arange(nq), hits.counts) for hits in found])
    distances = np.concatenate([hits.distances for hits in found])
    rows = concat_batches([hits.rows for hits in found])
    keys = rows.columns[plan.primary_field_id].values
    winners, counts = select_winners(query, distances, keys, nq, plan.k)
    segment_stats = tuple(stats for hits in found for stats in hits.segment_stats)
    return Hits(counts, distances[winners], rows.take(winners), segment_stats)


def condensed(hits: Hits) -> Hits:
    """The same hits with the statistics of the slowest segments and, for each way of searching, the sums of the others.
    A head that asks many nodes would else read more statistics than hits."""
    if len(hits.segment_stats) <= _MOST_TOLD:
        return hits
    slowest = sorted(hits.segment_stats, key=lambda one: one.ms, reverse=True)
    sums: dict[str, SegmentSearchStats] = {}
    for one in slowest[_MOST_TOLD:]:
        known = sums.get(one.way)
        sums[one.way] = one if known is None else _sum(known, one)
    return replace(hits, segment_stats=(*slowest[:_MOST_TOLD], *sums.values()))


def _sum(one: SegmentSearchStats, other: SegmentSearchStats) -> SegmentSearchStats:
    return replace(
        one,
        row_count=one.row_count + other.row_count,
        kept=one.kept + other.kept,
        effort=max(one.effort, other.effort),
        scanned_queries=max(one.scanned_queries, other.scanned_queries),
        ms=one.ms + other.ms,
        segments=one.segments + other.segments,
    )
