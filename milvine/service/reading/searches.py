"""Search, and how one would run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from milvine.errors import ParameterInvalid
from milvine.model.columns import ColumnBatch
from milvine.model.requests import Highlights, Ranking, ReadResult, SearchRequest
from milvine.segment.chains import rounded
from milvine.segment.groups import Array, arranged, codes_of, each_alone
from milvine.segment.plans import Hits
from milvine.service.context import Engine, RequestContext, find_collection
from milvine.service.deny_rules import READING
from milvine.service.gate import capability
from milvine.service.moments import moment_form
from milvine.service.rate_limits import SEARCHED
from milvine.service.reading.buckets import BucketPlan
from milvine.service.reading.grouping import group_by_group
from milvine.service.reading.limits import beyond
from milvine.service.reading.outputs import Outputs, no_rows, read_result
from milvine.service.reading.prepared import PreparedSearch, prepare_search
from milvine.service.reading.rank import Ranked
from milvine.service.reading.reranking import reranked
from milvine.service.reading.running import described, no_hits, run
from milvine.service.reading.search_ids import with_vectors
from milvine.service.reading.snapshot import check_travel
from milvine.service.trace import NO_TRACE, Step, Trace


@capability("Search", on="request.name", denied_as=READING)
def search(engine: Engine, context: RequestContext, request: SearchRequest, at_ts: int = 0) -> ReadResult:
    """The `limit` nearest rows of each query after the first `offset`. `at_ts`: the timestamp, if already chosen."""
    if request.ids is not None and request.aggregation is not None:
        raise ParameterInvalid("ids and search_aggregation cannot be used simultaneously")
    if request.ids is not None:
        return _search_by_ids(engine, context, request)
    prepared = prepare_search(engine, context, request, at_ts)
    collection, outputs, plan = prepared.collection, prepared.outputs, prepared.plan
    form = moment_form(collection, request.params)
    engine.rates.check(collection, SEARCHED, lambda: len(request.queries), request.partition_names)
    primary, grouping, trace = collection.schema.primary_field, prepared.grouping, context.trace
    trace.ended("prepare")
    hits = run(engine, prepared)
    check_travel(engine, collection.collection_id, request.read_ts)
    if hits is None:
        hits = no_hits(prepared)
    else:
        context.searches.append((len(hits.counts), hits.segment_stats))
    if trace is not NO_TRACE:
        trace.ended("search", hits.segment_stats, **described(prepared, hits))
    if prepared.buckets is not None:
        result = _aggregated(prepared, prepared.buckets, hits, request.round_decimal)
        trace.ended("aggregate", levels=len(prepared.buckets.levels))
        return form.shown(result)
    rows, distances, counts = hits.rows, hits.distances, hits.counts
    if grouping is not None or prepared.order is not None:
        kept, counts = _arranged(prepared, rows, counts, request)
        rows, distances = rows.take(kept), distances[kept]
        name = "group" if prepared.order is None else "order" if grouping is None else "group and order"
        trace.ended(name, hits=len(distances))
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
        trace.ended("rank", ranker=prepared.ranker.name, hits=len(scores))
    if prepared.chain is not None:
        chosen = prepared.chain.ranked(counts, scores, rows, primary.field_id)
        rows, counts, scores = rows.take(chosen.places), chosen.counts, chosen.scores
        trace.ended("chain", hits=len(scores))
    iterator = prepared.iterator
    last_bound = 0.0 if iterator is None else iterator.bound_after(scores, plan.metric)
    if request.round_decimal >= 0:
        round_scores = np.round if prepared.ranker is None else rounded
        scores = round_scores(scores, request.round_decimal)
    highlights: tuple[Highlights, ...] = ()
    if prepared.highlighting is not None:
        highlights = prepared.highlighting.results(rows, counts)
        trace.ended("highlight", fields=len(highlights))
    ranking = Ranking(
        limit=request.limit,
        counts=counts,
        scores=scores,
        keys=rows.columns[primary.field_id],
        iterator_token="" if iterator is None else iterator.token,
        last_bound=last_bound,
        groups=() if grouping is None else grouping.outputs(rows),
        lists_groups=grouping is not None and grouping.is_listed,
        highlights=highlights,
    )
    return form.shown(read_result(primary, outputs, rows, plan.read_ts, ranking))


def _aggregated(prepared: PreparedSearch, plan: BucketPlan, hits: Hits, round_decimal: int) -> ReadResult:
    primary = prepared.collection.schema.primary_field
    scores = -hits.distances if prepared.plan.metric.larger_is_nearer else hits.distances
    shown = scores if round_decimal < 0 else np.round(scores, round_decimal)
    ranking = Ranking(limit=0, counts=hits.counts, scores=shown, keys=hits.rows.columns[primary.field_id])
    result = read_result(primary, prepared.outputs, hits.rows, prepared.plan.read_ts, ranking)
    return replace(result, buckets=plan.buckets(hits.rows, scores, hits.counts))


def _arranged(
    prepared: PreparedSearch, rows: ColumnBatch, counts: Array, request: SearchRequest
) -> tuple[Array, Array]:
    """Positions of the hits of the answer, in groups or in the requested order, and their number for each query."""
    query = np.repeat(np.arange(len(counts)), counts)
    if prepared.grouping is None:
        places = each_alone(counts)
    else:
        places = arranged(query, codes_of(prepared.grouping.values(rows)), len(counts))
    if prepared.order is not None:
        places = prepared.order.arranged(query, places, rows)
    return group_by_group(query, places, request.offset, request.limit)


@capability("Search", on="request.name", denied_as=READING)
def explain(engine: Engine, context: RequestContext, request: SearchRequest) -> tuple[Step, ...]:
    """Runs a search and returns its steps."""
    trace = Trace()
    search(engine, replace(context, trace=trace), request)
    return tuple(trace.steps)


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
