"""Search, and how one would run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from milvine.model.requests import Ranking, ReadResult, SearchRequest
from milvine.segment.plans import SegmentSearchStats
from milvine.service.context import Engine, RequestContext, find_collection
from milvine.service.deny_rules import READING
from milvine.service.gate import capability
from milvine.service.rate_limits import SEARCHED
from milvine.service.reading.grouping import group_by_group
from milvine.service.reading.limits import beyond
from milvine.service.reading.outputs import Outputs, no_rows, read_result
from milvine.service.reading.prepared import prepare_search
from milvine.service.reading.rank import Ranked, rounded
from milvine.service.reading.reranking import reranked
from milvine.service.reading.running import no_hits, run
from milvine.service.reading.search_ids import with_vectors
from milvine.service.reading.snapshot import check_travel


@capability("Search", on="request.name", denied_as=READING)
def search(engine: Engine, context: RequestContext, request: SearchRequest, at_ts: int = 0) -> ReadResult:
    """The `limit` nearest rows of each query after the first `offset`. `at_ts`: the timestamp, if already chosen."""
    if request.ids is not None:
        return _search_by_ids(engine, context, request)
    prepared = prepare_search(engine, context, request, at_ts)
    collection, outputs, plan = prepared.collection, prepared.outputs, prepared.plan
    engine.rates.check(collection, SEARCHED, lambda: len(request.queries), request.partition_names)
    primary, grouping = collection.schema.primary_field, prepared.grouping
    hits = run(engine, prepared)
    check_travel(engine, collection.collection_id, request.read_ts)
    if hits is None:
        hits = no_hits(prepared)
    else:
        context.searches.append((len(hits.counts), hits.segment_stats))
    rows, distances, counts = hits.rows, hits.distances, hits.counts
    if grouping is not None:
        query = np.repeat(np.arange(len(counts)), counts)
        kept, counts = group_by_group(query, grouping.values(rows), len(counts), request.offset, request.limit)
        rows, distances = rows.take(kept), distances[kept]
    elif request.offset:
        kept, counts = beyond(counts, request.offset)
        rows, distances = rows.take(kept), distances[kept]
    scores = -distances if plan.metric.larger_is_nearer else distances
    if prepared.ranker is not None:
        fused = reranked(
            prepared.ranker,
            [Ranked(counts, scores)],
            rows,
            primary_field_id=primary.field_id,
            offset=0,
            limit=request.limit,
            grouping=grouping,
        )
        rows, counts, scores = rows.take(fused.places), fused.counts, fused.scores
    iterator = prepared.iterator
    last_bound = 0.0 if iterator is None else iterator.bound_after(scores, plan.metric)
    if request.round_decimal >= 0:
        round_scores = np.round if prepared.ranker is None else rounded
        scores = round_scores(scores, request.round_decimal)
    ranking = Ranking(
        limit=request.limit,
        counts=counts,
        scores=scores,
        keys=rows.columns[primary.field_id],
        iterator_token="" if iterator is None else iterator.token,
        last_bound=last_bound,
        groups=() if grouping is None else grouping.outputs(rows),
        lists_groups=grouping is not None and grouping.is_listed,
        highlights=() if prepared.highlighting is None else prepared.highlighting.results(rows, counts),
    )
    return read_result(primary, outputs, rows, plan.read_ts, ranking)


@capability("Search", on="request.name", denied_as=READING)
def explain(engine: Engine, context: RequestContext, request: SearchRequest) -> tuple[SegmentSearchStats, ...]:
    """Runs a search and returns how each segment was searched."""
    at_ts = 0
    if request.ids is not None:
        request, has_vector, at_ts = with_vectors(engine, context, request)
        if not has_vector.any():
            return ()
    hits = run(engine, prepare_search(engine, context, request, at_ts))
    return () if hits is None else hits.segment_stats


def _search_by_ids(engine: Engine, context: RequestContext, request: SearchRequest) -> ReadResult:
    """Searches for the vectors of the rows with these keys. A NULL vector has no hits."""
    asked, has_vector, read_ts = with_vectors(engine, context, request)
    counts = np.zeros(len(has_vector), np.int64)
    if not has_vector.any():
        primary = find_collection(engine, context, request.name).schema.primary_field
        rows = no_rows((primary,))
        keys = rows.columns[primary.field_id]
        ranking = Ranking(limit=0, counts=counts, scores=np.zeros(0, np.float32), keys=keys)
        return read_result(primary, Outputs(), rows, read_ts, ranking)
    result = search(engine, context, asked, read_ts)
    assert result.ranking is not None
    counts[has_vector] = result.ranking.counts
    return replace(result, ranking=replace(result.ranking, counts=counts))
