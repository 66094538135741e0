"""Hybrid search: several searches at one timestamp, fused into one list by a ranker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.errors import FunctionFailed, ParameterInvalid
from milvine.model.collections import Collection
from milvine.model.columns import ColumnBatch, concat_batches
from milvine.model.known_keys import RANK, refuse_unserved
from milvine.model.properties import TIMEZONE_PROPERTY
from milvine.model.records import record
from milvine.model.requests import GROUP_PARAMS, HybridSearchRequest, Ranking, ReadResult
from milvine.model.schema_rules import check_timezone
from milvine.querynode.cluster import Target
from milvine.segment.chains import rounded
from milvine.segment.plans import Hits, QueryPlan
from milvine.service.context import Engine, RequestContext, find_by_any_name
from milvine.service.deny_rules import READING
from milvine.service.gate import capability
from milvine.service.moments import moment_form
from milvine.service.rate_limits import SEARCHED
from milvine.service.reading import ann_params, limits, names, rankers
from milvine.service.reading.boosts import boost_of, check_fits
from milvine.service.reading.grouping import Grouping, check_grouped_field, grouping_of
from milvine.service.reading.outputs import Outputs, no_rows, read_result, requested
from milvine.service.reading.prepared import PreparedSearch, prepare_search
from milvine.service.reading.rank import Fused, Ranked, Ranker
from milvine.service.reading.reranking import reranked
from milvine.service.reading.running import described, no_hits, run, run_query
from milvine.service.reading.snapshot import check_travel
from milvine.service.trace import Step, Trace

MAX_SEARCHES = 1024
_ELEMENT_SCOPE = "element_scope"


@record
class _Window:
    limit: int
    offset: int
    round_decimal: int


@record
class _Hybrid:
    """A hybrid search with all names resolved, ready to run."""

    collection: Collection
    searches: Sequence[PreparedSearch]
    ranker: Ranker
    window: _Window
    outputs: Outputs
    partition_ids: frozenset[int] | None
    read_ts: int
    grouping: Grouping | None

    def run(self, engine: Engine, trace: Trace) -> list[Hits | None]:
        """The hits of each search, nearest first."""
        found = []
        for search in self.searches:
            hits = run(engine, search)
            found.append(hits)
            if hits is None:
                trace.ended("search", **described(search, no_hits(search)))
            else:
                trace.ended("search", hits.segment_stats, **described(search, hits))
        return found


@capability("Search", on="request.name", denied_as=READING)
def hybrid_search(engine: Engine, context: RequestContext, request: HybridSearchRequest) -> ReadResult:
    """The `limit` best rows of each query after the first `offset`, by the ranker's scores; equal ones in key order.

    Output fields are fetched for the rows of the answer only.
    """
    hybrid = _prepare(engine, context, request)
    _count_rates(engine, hybrid, request)
    primary = hybrid.collection.schema.primary_field
    context.trace.ended("prepare")
    found = hybrid.run(engine, context.trace)
    check_travel(engine, hybrid.collection.collection_id, request.read_ts)
    context.searches.extend((len(hits.counts), hits.segment_stats) for hits in found if hits is not None)
    pairs = [
        (search, no_hits(search) if hits is None else hits) for search, hits in zip(hybrid.searches, found, strict=True)
    ]
    candidates = concat_batches([hits.rows for _, hits in pairs])
    keys = candidates.columns[primary.field_id]
    window, grouping = hybrid.window, hybrid.grouping
    fused = reranked(
        hybrid.ranker,
        [_ranked(search, hits) for search, hits in pairs],
        candidates,
        primary_field_id=primary.field_id,
        offset=window.offset,
        limit=window.limit,
        grouping=grouping,
    )
    context.trace.ended("rank", ranker=hybrid.ranker.name, candidates=len(keys), hits=len(fused.scores))
    fused, rows = _with_outputs(engine, context, hybrid, fused, keys.take(fused.places).values)
    context.trace.ended("fetch", fields=list(hybrid.outputs.names), hits=len(fused.scores))
    scores = fused.scores if window.round_decimal < 0 else rounded(fused.scores, window.round_decimal)
    ranking = Ranking(
        limit=window.limit,
        counts=fused.counts,
        scores=scores,
        keys=keys.take(fused.places),
        groups=() if grouping is None else grouping.outputs(candidates.take(fused.places)),
        lists_groups=grouping is not None and grouping.is_listed,
    )
    form = moment_form(hybrid.collection, request.rank_params)
    return form.shown(read_result(primary, hybrid.outputs, rows, hybrid.read_ts, ranking))


@capability("Search", on="request.name", denied_as=READING)
def explain_hybrid(engine: Engine, context: RequestContext, request: HybridSearchRequest) -> tuple[Step, ...]:
    """Runs a hybrid search and returns its steps."""
    trace = Trace()
    hybrid_search(engine, replace(context, trace=trace), request)
    return tuple(trace.steps)


def _count_rates(engine: Engine, hybrid: _Hybrid, request: HybridSearchRequest) -> None:
    def vectors() -> int:
        return sum(len(search.queries) for search in request.searches)

    engine.rates.check(hybrid.collection, SEARCHED, vectors, request.partition_names)


def _prepare(engine: Engine, context: RequestContext, request: HybridSearchRequest) -> _Hybrid:
    collection = find_by_any_name(engine, context, request.name)
    partition_ids = names.partition_ids(collection, request.partition_names)
    outputs = requested(engine, collection, request.output_fields)
    _check_searches(request)
    window = _window(request, limits.most_rows(collection))
    refuse_unserved(RANK, request.rank_params)
    check_timezone(request.rank_params)
    if any(search.aggregation is not None for search in request.searches):
        raise ParameterInvalid("search aggregation is not supported for hybrid search")
    if any(map(_is_ordered, (request.rank_params, *(search.params for search in request.searches)))):
        raise ParameterInvalid("order_by is not supported for hybrid search")
    grouping = grouping_of(request.rank_params, collection.schema)
    searches = _searches(engine, context, request, grouping)
    metrics = [search.plan.metric for search in searches]
    if request.function_score is None:
        ranker = rankers.of_rank_params(request.rank_params, metrics, collection.schema)
    else:
        models = rankers.models_for(engine, context, len(searches[0].plan.queries))
        found = rankers.of_function_score(request.function_score, metrics, collection.schema, models)
        if found is None:
            raise FunctionFailed("rerank operator: rerankMeta is nil, cannot build rerank chain")
        ranker = found
    names.check_loaded(engine, collection, ranker.field_ids)
    fetched = (*ranker.field_ids, *(() if grouping is None else grouping.field_ids))
    searches = [replace(search, plan=replace(search.plan, output_field_ids=fetched)) for search in searches]
    return _Hybrid(
        collection=collection,
        searches=searches,
        ranker=ranker,
        window=window,
        outputs=outputs,
        partition_ids=partition_ids,
        read_ts=searches[0].plan.read_ts,
        grouping=grouping,
    )


def _is_ordered(params: Mapping[str, Any]) -> bool:
    return bool(params.get("order_by_fields"))


def _searches(
    engine: Engine, context: RequestContext, request: HybridSearchRequest, grouping: Grouping | None
) -> list[PreparedSearch]:
    """All at the timestamp of the first one."""
    searches: list[PreparedSearch] = []
    sent = request.searches
    # The least number of candidates depends on the groups, and written moments on the time zone.
    shared = (TIMEZONE_PROPERTY, *(GROUP_PARAMS if grouping is not None else ()))
    more = {name: request.rank_params[name] for name in shared if name in request.rank_params}
    if more:
        sent = tuple(replace(search, params={**search.params, **more}, shape=None) for search in sent)
    for search in sent:
        prepared = prepare_search(engine, context, search, searches[0].plan.read_ts if searches else 0)
        if search.function_score is not None:
            raise ParameterInvalid("function_score belongs to the whole hybrid search")
        if search.function_chains:
            raise ParameterInvalid("function_chains is not supported for hybrid search yet")
        if search.highlighter is not None:
            fields = " ".join(map(str, () if prepared.highlighting is None else prepared.highlighting.field_ids))
            raise ParameterInvalid(f"not support hybrid search with highlight now. fieldID: {fields}")
        if prepared.iterator is not None:
            raise ParameterInvalid("search iterator v2 is not supported for hybrid search", expected="", actual="")
        if _ELEMENT_SCOPE in search.params:
            searched = "element-level search on struct array vector sub-fields"
            raise ParameterInvalid(f"{_ELEMENT_SCOPE} is only supported for {searched}")
        if grouping is not None:
            check_grouped_field(prepared.field)
            ann_params.check_range(search.params, has_groups=True)
        boost = boost_of(engine, prepared.collection, request.function_score, search.templates)
        check_fits(boost, has_groups=grouping is not None, is_iterator=False)
        searches.append(replace(prepared, grouping=grouping, plan=replace(prepared.plan, rescoring=boost)))
    return searches


def _check_searches(request: HybridSearchRequest) -> None:
    if len(request.searches) > MAX_SEARCHES:
        raise ParameterInvalid(f"maximum of ann search requests is {MAX_SEARCHES}")
    nq = 0
    for search in request.searches:
        own = len(search.queries)
        nq = nq or own
        if own != nq:
            raise ParameterInvalid("sub search request nq should be the same", expected=nq, actual=own)
    limits.check_nq(nq)


def _window(request: HybridSearchRequest, most: int) -> _Window:
    given = request.rank_params
    if "limit" not in given:
        raise ParameterInvalid("limit not found in rank_params")
    limit = _integer(given["limit"], f"limit [{given['limit']}] is invalid")
    offset = _integer(given["offset"], f"offset [{given['offset']}] is invalid") if "offset" in given else 0
    limits.check_result_window(limit, offset, most)
    text = given.get("round_decimal", "-1")
    decimals = _integer(text, f"round_decimal [{text}] is invalid, should be -1 or an integer in range [0, 6]")
    limits.check_round_decimal(decimals)
    return _Window(limit, offset, decimals)


def _integer(text: str, refusal: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ParameterInvalid(refusal) from None


def _ranked(search: PreparedSearch, hits: Hits) -> Ranked:
    scores = -hits.distances if search.plan.metric.larger_is_nearer else hits.distances
    return Ranked(hits.counts, scores)


def _with_outputs(
    engine: Engine, context: RequestContext, hybrid: _Hybrid, fused: Fused, keys: Any
) -> tuple[Fused, ColumnBatch]:
    """The hits, and their rows with the output fields. A hit whose row is gone, because its partition was dropped
    since, is left out."""
    primary = hybrid.collection.schema.primary_field
    fields = hybrid.outputs.fields
    if not len(keys) or not fields:
        return fused, no_rows((primary, *fields))
    asked = pa.array(keys)
    distinct = pc.unique(asked)
    plan = QueryPlan(
        read_ts=hybrid.read_ts,
        predicate=None,
        keys=distinct.to_numpy() if isinstance(keys, np.ndarray) else distinct,
        partition_ids=hybrid.partition_ids,
        limit=None,
        output_field_ids=tuple(field.field_id for field in fields),
        primary_field_id=primary.field_id,
        ignores_growing=all(search.plan.ignores_growing for search in hybrid.searches),
    )
    target = Target(hybrid.collection.collection_id, hybrid.partition_ids, context.deadline)
    found = run_query(engine, engine.reads.query, target, plan, 0)
    rows = no_rows((primary, *fields)) if found is None else found.rows
    positions = pc.index_in(asked, value_set=pa.array(rows.columns[primary.field_id].values))
    if positions.null_count:
        is_there = positions.is_valid().to_numpy(zero_copy_only=False)
        query = np.repeat(np.arange(len(fused.counts)), fused.counts)
        counts = np.bincount(query[is_there], minlength=len(fused.counts))
        fused = Fused(counts, fused.scores[is_there], fused.places[is_there])
        positions = positions.drop_null()
    return fused, rows.take(positions.to_numpy())
