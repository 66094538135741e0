"""Searches with all names resolved, ready to run; those that repeat are kept."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

import numpy as np

from milvine.errors import CollectionNotLoaded, FieldIndexNotLoaded, MilvineError, ParameterInvalid
from milvine.index.registry import TYPES
from milvine.model.collections import Collection
from milvine.model.known_keys import SEARCH, refuse_unserved
from milvine.model.properties import TIMEZONE_PROPERTY
from milvine.model.records import record
from milvine.model.requests import GROUP_PARAMS, SearchRequest
from milvine.model.schema import FieldSchema
from milvine.model.schema_rules import check_timezone
from milvine.querynode.cluster import Target
from milvine.segment.plans import SearchPlan
from milvine.service.context import Engine, RequestContext, find_by_any_name
from milvine.service.isolation import check_isolation
from milvine.service.partitions import holding
from milvine.service.reading import ann_params, iterators, limits, names, outputs
from milvine.service.reading.boosts import boost_of, check_fits
from milvine.service.reading.buckets import BucketPlan, bucket_plan
from milvine.service.reading.chain_operators import SearchChain
from milvine.service.reading.chains import Chains, chains_of
from milvine.service.reading.grouping import Grouping, check_grouped_field, grouping_of
from milvine.service.reading.highlighting import Highlighting, highlighting_of
from milvine.service.reading.query_vectors import checked_queries
from milvine.service.reading.rank import Ranker
from milvine.service.reading.rankers import Models, models_for, of_function_score
from milvine.service.reading.semantic_highlighting import SemanticHighlighting
from milvine.service.reading.snapshot import read_ts
from milvine.service.reading.sorting import SearchOrder, search_order
from milvine.sized_cache import SizedCache


@record
class PreparedSearch:
    """A search with all names resolved, ready to run."""

    collection: Collection
    field: FieldSchema
    outputs: outputs.Outputs
    target: Target
    plan: SearchPlan
    iterator: iterators.IteratorV2 | None
    grouping: Grouping | None
    ranker: Ranker | None = None
    chain: SearchChain | None = None
    highlighting: Highlighting | SemanticHighlighting | None = None
    order: SearchOrder | None = None
    buckets: BucketPlan | None = None

    @property
    def fetched(self) -> tuple[FieldSchema, ...]:
        """The key's field and those that the plan fetches."""
        by_id = self.collection.schema.by_id
        return (self.collection.schema.primary_field, *(by_id[i] for i in dict.fromkeys(self.plan.output_field_ids)))


class PreparedSearchCache:
    """Searches that may be repeated with other vectors, by database, name and shape."""

    def __init__(self, limit_bytes: int) -> None:
        self._searches: SizedCache[Hashable, PreparedSearch] = SizedCache("prepared_searches", limit_bytes)

    def find(self, key: Hashable, collection: Collection) -> PreparedSearch | None:
        """None if the collection, its indexes or its load configuration have changed since."""
        found = self._searches.get(key)
        return found if found is not None and found.collection is collection else None

    def keep(self, key: Hashable, search: PreparedSearch, filter_text: str) -> None:
        """The predicate holds the literals of the filter once or twice, and the cache key holds its text."""
        size = _PREPARED_BYTES + _PREPARED_BYTES_PER_CHARACTER * len(filter_text)
        self._searches.put(key, replace(search, plan=search.plan.again(_NO_QUERIES, 0)), size)


_NO_QUERIES = np.zeros((0, 0), np.float32)
_PREPARED_BYTES = 4096
_PREPARED_BYTES_PER_CHARACTER = 8
_prepared_searches = PreparedSearchCache(32 << 20)


def prepare_search(engine: Engine, context: RequestContext, request: SearchRequest, at_ts: int) -> PreparedSearch:
    """Most searches repeat an earlier one with another vector, so its names and parameters are reused.

    `at_ts`: the timestamp, if already chosen, or 0.
    """
    collection = find_by_any_name(engine, context, request.name)
    if request.shape is None or engine.held is not None:
        return _new_search(engine, context, request, collection, at_ts)
    key = (context.database, request.name, request.shape)
    known = _prepared_searches.find(key, collection)
    if known is None:
        prepared = _new_search(engine, context, request, collection, at_ts)
        _prepared_searches.keep(key, prepared, request.filter)
        return prepared
    limits.check_nq(len(request.queries))
    queries = checked_queries(engine, context, collection, known.field, request)
    return PreparedSearch(
        collection=collection,
        field=known.field,
        outputs=known.outputs,
        target=Target(collection.collection_id, known.target.partition_ids, context.deadline),
        plan=known.plan.again(queries, at_ts or read_ts(engine, collection, request.read_ts)),
        iterator=None,
        grouping=known.grouping,
        order=known.order,
    )


def _new_search(
    engine: Engine, context: RequestContext, request: SearchRequest, collection: Collection, at_ts: int
) -> PreparedSearch:
    if iterators.is_iterator(request.params) and not 1 <= request.limit <= limits.MAX_TOPK:
        request = replace(request, limit=limits.MAX_TOPK)
    limits.check_window(request.limit, request.offset, len(request.queries), limits.most_rows(collection))
    limits.check_round_decimal(request.round_decimal)
    check_timezone(request.params)
    refuse_unserved(SEARCH, request.params)
    buckets = _buckets(request, collection)
    grouping = grouping_of(request.params, collection.schema)
    if grouping is not None and iterators.is_iterator(request.params):
        raise ParameterInvalid("Not allowed to do groupBy when doing iteration", expected="", actual="")
    ann_params.check_range(request.params, grouping is not None)
    order = _order(request, grouping, collection)
    iterator = iterators.iterator_v2(request.params, request.offset, len(request.queries), limits.MAX_TOPK)
    iterators.check_collection_id(request.params, collection.collection_id)
    ignores_growing = ann_params.ignores_growing(request.params)
    field = names.anns_field(collection, request.anns_field)
    if grouping is not None:
        check_grouped_field(field)
    if buckets is not None:
        grouping = buckets.grouping
    partition_ids = names.partition_ids(collection, request.partition_names)
    wanted = outputs.requested(engine, collection, request.output_fields)
    timezone = str(request.params.get(TIMEZONE_PROPERTY) or "")
    predicate = names.predicate(engine, collection, request.filter, request.templates, timezone)
    boost = boost_of(engine, collection, request.function_score, request.templates)
    check_fits(boost, has_groups=grouping is not None, is_iterator=iterator is not None)
    check_isolation(collection, predicate)
    partition_ids = holding(collection, predicate) if partition_ids is None else partition_ids
    highlighting = None
    if request.highlighter is not None:
        models = models_for(engine, context, len(request.queries))
        highlighting = highlighting_of(request.highlighter, collection.schema, field, request, models)
    if collection.load is None:
        raise CollectionNotLoaded(collection.collection_id).prefixed("failed to search")
    loaded = names.loaded_ids(engine, collection)
    if loaded is not None and field.field_id not in loaded:
        raise ParameterInvalid(f'failed to create query plan: ann field "{field.name}" not loaded: invalid parameter')
    index = collection.index_by_field.get(field.field_id)
    if index is None:
        raise FieldIndexNotLoaded(field.name).prefixed("failed to search")
    assert index.metric_type is not None
    if request.metric_type and request.metric_type.upper() != index.metric_type:
        raise ParameterInvalid(
            "metric type not match", expected=index.metric_type, actual=request.metric_type
        ).prefixed("failed to search")
    queries = checked_queries(engine, context, collection, field, request)
    k = request.limit + request.offset if iterator is None else iterator.batch_size
    k = k if buckets is None else buckets.group_count
    try:
        ann_params.check_hints(request.params)
        index_type = TYPES[index.build_type]
        effort = index_type.effort(index.build_params, request.params, k, field.data_type)
        exact = index_type.exact(index.build_params, request.params, field)
        band = ann_params.band(request.params, index.metric_type)
    except MilvineError as error:
        raise error.prefixed("failed to search") from error
    ranker = None
    models = models_for(engine, context, len(queries))
    chains = Chains()
    if request.function_chains:
        chains = _chains(request, collection, models, iterator is not None)
    elif request.function_score is not None and request.function_score.functions:
        ranker = of_function_score(request.function_score, [index.metric_type], collection.schema, models)
        if ranker is not None and iterator is not None:
            raise ParameterInvalid("function rerank is not supported with search iterator v2")
    readers = (grouping, ranker, chains, order, buckets, highlighting)
    inputs = tuple(field_id for reader in readers if reader is not None for field_id in reader.field_ids)
    names.check_loaded(engine, collection, inputs)
    if iterator is not None:
        band = iterator.beyond(band, index.metric_type)
    plan = SearchPlan(
        field_id=field.field_id,
        queries=queries,
        k=k,
        metric=index.metric_type,
        exact=exact,
        effort=effort,
        read_ts=at_ts or read_ts(engine, collection, request.read_ts),
        predicate=predicate,
        partition_ids=partition_ids,
        output_field_ids=(*(f.field_id for f in wanted.fields), *inputs),
        primary_field_id=collection.schema.primary_field.field_id,
        band=band,
        wants_whole_band="radius" in request.params and iterators.is_iterator(request.params),
        ignores_growing=ignores_growing,
        rescoring=boost or chains.of_segments,
    )
    return PreparedSearch(
        collection=collection,
        field=field,
        outputs=wanted,
        target=Target(collection.collection_id, partition_ids, context.deadline),
        plan=plan,
        iterator=iterator,
        grouping=grouping,
        ranker=ranker,
        chain=chains.of_search,
        highlighting=highlighting,
        order=order,
        buckets=buckets,
    )


def _buckets(request: SearchRequest, collection: Collection) -> BucketPlan | None:
    """What else chooses or orders hits is refused, also where Milvus ignores it."""
    if request.aggregation is None:
        return None
    for name in (*GROUP_PARAMS, "order_by_fields"):
        if str(request.params.get(name) or "").strip():
            raise ParameterInvalid(f"{name} and search_aggregation cannot be used simultaneously")
    if request.function_score is not None and request.function_score.functions:
        raise ParameterInvalid("function_score and search_aggregation cannot be used simultaneously")
    if request.function_chains:
        raise ParameterInvalid("function_chains and search_aggregation cannot be used simultaneously")
    if request.highlighter is not None:
        raise ParameterInvalid("highlighter and search_aggregation cannot be used simultaneously")
    plan = bucket_plan(request.aggregation, collection.schema, len(request.queries))
    if iterators.is_iterator(request.params):
        raise ParameterInvalid("search iterator is not supported with search_aggregation")
    if request.offset:
        raise ParameterInvalid("offset is not supported with search_aggregation")
    return plan


def _order(request: SearchRequest, grouping: Grouping | None, collection: Collection) -> SearchOrder | None:
    order = search_order(str(request.params.get("order_by_fields") or ""), collection.schema)
    if order is None:
        return None
    if grouping is not None and len(grouping.fields) > 1:
        raise ParameterInvalid("order_by_fields is not supported with multi-field group_by_fields")
    if iterators.is_iterator(request.params):
        raise ParameterInvalid("order_by is not supported when using search iterator", expected="", actual="")
    is_scored = request.function_score is not None and bool(request.function_score.functions)
    if is_scored or request.function_chains:
        raise ParameterInvalid(
            "order_by and function rerank cannot be used together: they specify conflicting sort criteria"
        )
    return order


def _chains(request: SearchRequest, collection: Collection, models: Models, is_iterator: bool) -> Chains:
    if request.function_score is not None:
        raise ParameterInvalid("function_score and function_chains cannot be used together")
    chains = chains_of(request.function_chains, collection.schema, models)
    if is_iterator:
        raise ParameterInvalid("function rerank is not supported with search iterator v2")
    return chains
