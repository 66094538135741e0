"""Hits in the order of a ranker: one window of them, group by group if there are groups."""

from __future__ import annotations

from collections.abc import Sequence

from milvine.model.columns import ColumnBatch
from milvine.segment.groups import codes_of
from milvine.service.reading.grouping import Grouping
from milvine.service.reading.limits import beyond
from milvine.service.reading.rank import Fused, GroupRanker, Ranked, Ranker


def reranked(
    ranker: Ranker,
    lists: Sequence[Ranked],
    candidates: ColumnBatch,
    *,
    primary_field_id: int,
    offset: int,
    limit: int,
    grouping: Grouping | None,
) -> Fused:
    """The `limit` best hits, or hits of the best groups, after the first `offset`. `candidates`: the rows of all lists
    in turn, with the key, the ranker's input and the fields of the groups."""
    keys = candidates.columns[primary_field_id].values
    values = None if ranker.rescoring is None else candidates.columns[ranker.rescoring.field_id]
    if grouping is None:
        fused = ranker.fuse(lists, keys, values, offset + limit)
        kept, counts = beyond(fused.counts, offset)
        return Fused(counts, fused.scores[kept], fused.places[kept])
    fused = ranker.fuse(lists, keys, values, None)
    rows = candidates.take(fused.places)
    own_keys = rows.columns[primary_field_id].values
    group_ranker = GroupRanker(grouping.scorer, grouping.size, ranker.larger_is_nearer)
    return group_ranker.group_by_group(fused, codes_of(grouping.values(rows)), own_keys, offset, limit)
