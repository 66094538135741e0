"""Merges results of several holders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from milvine.model.columns import concat_batches
from milvine.segment.plans import Hits, SearchPlan
from milvine.segment.topk import select_winners


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
