"""Query: rows by a filter, or their number."""

from __future__ import annotations

from functools import partial

import numpy as np

from milvine.errors import CollectionNotLoaded, ParameterInvalid
from milvine.expr import is_always_true, primary_keys
from milvine.model.collections import Collection
from milvine.model.columns import Column
from milvine.model.requests import COUNT_FIELD, OutputField, QueryRequest, ReadResult
from milvine.querynode.cluster import Target
from milvine.segment.plans import QueryPlan
from milvine.service.context import Engine, RequestContext, find_collection
from milvine.service.deny_rules import READING
from milvine.service.gate import capability
from milvine.service.moments import moment_form
from milvine.service.partitions import holding
from milvine.service.rate_limits import QUERIED
from milvine.service.reading import limits, names
from milvine.service.reading.aggregates import aggregated_of, is_count_of_rows
from milvine.service.reading.outputs import Outputs, no_rows, read_result, requested
from milvine.service.reading.running import run_query
from milvine.service.reading.snapshot import check_travel, read_ts
from milvine.service.reading.sorting import sort_keys

COUNT = COUNT_FIELD.name


@capability("Query", on="request.name", denied_as=READING)
def query(engine: Engine, context: RequestContext, request: QueryRequest) -> ReadResult:
    """Rows that pass the filter, in the requested order or in key order, or their aggregates."""
    collection = find_collection(engine, context, request.name)
    engine.rates.check(collection, QUERIED, lambda: 1, request.partition_names)
    counting = [n.strip() for n in request.output_fields] == [COUNT] and not request.group_by
    aggregated = aggregated_of(request.output_fields, request.group_by, request.order_by, collection.schema)
    _check_request(request, aggregated is not None, limits.most_rows(collection))
    partition_ids = names.partition_ids(collection, request.partition_names)
    form = moment_form(collection, request.time_params)
    outputs = Outputs() if aggregated is not None else requested(engine, collection, request.output_fields)
    predicate = names.predicate(engine, collection, request.filter, request.templates, form.zone)
    order = sort_keys(request.order_by, collection.schema)
    names.check_loaded(engine, collection, tuple(key.field_id for key in order))
    names.check_loaded(engine, collection, () if aggregated is None else aggregated.aggregation.field_ids)
    has_aggregates = aggregated is not None and bool(aggregated.aggregation.aggregates)
    if request.limit is None and not has_aggregates and is_always_true(predicate):
        raise ParameterInvalid("empty expression should be used with limit")
    partition_ids = holding(collection, predicate) if partition_ids is None else partition_ids
    if collection.load is None:
        raise CollectionNotLoaded(collection.collection_id).prefixed("failed to query")
    primary = collection.schema.primary_field
    fetched = tuple(f.field_id for f in outputs.fields) if aggregated is None else aggregated.aggregation.field_ids
    plan = QueryPlan(
        read_ts=_query_ts(engine, collection, request),
        predicate=predicate,
        keys=None if predicate is None else primary_keys(predicate),
        partition_ids=partition_ids,
        limit=None if request.limit is None else request.limit + request.offset,
        output_field_ids=fetched,
        primary_field_id=primary.field_id,
        ignores_growing=request.ignores_growing,
        order=order,
    )
    target = Target(collection.collection_id, partition_ids, context.deadline)
    asked_ts = request.read_ts if request.iterator is None else request.iterator.read_ts
    if counting:
        count = run_query(engine, engine.reads.count, target, plan, asked_ts)
        counted = OutputField(COUNT_FIELD, Column(COUNT_FIELD.data_type, np.array([count], np.int64)))
        return ReadResult(
            primary_field=primary, fields=(counted,), output_names=(COUNT,), dynamic_keys=(), ts=plan.read_ts
        )
    if aggregated is not None:
        aggregate = partial(engine.reads.aggregate, what=aggregated.aggregation)
        table = run_query(engine, aggregate, target, plan, asked_ts)
        answer = ReadResult(
            primary_field=primary,
            fields=aggregated.answer(table, order, request.offset, request.limit),
            output_names=aggregated.names,
            dynamic_keys=(),
            ts=plan.read_ts,
        )
        return form.shown(answer)
    found = run_query(engine, engine.reads.query, target, plan, asked_ts)
    if not any(f.is_primary for f in outputs.fields):
        outputs = Outputs((*outputs.fields, primary), (*outputs.names, primary.name), outputs.dynamic_keys)
    rows = no_rows(outputs.fields) if found is None else found.rows
    if request.offset:
        rows = rows.slice(min(request.offset, rows.row_count), rows.row_count)
    return form.shown(read_result(primary, outputs, rows, plan.read_ts))


def _query_ts(engine: Engine, collection: Collection, request: QueryRequest) -> int:
    """The timestamp to read at; never 0 for an iterator, even if the collection is empty."""
    iterator = request.iterator
    if iterator is None:
        return read_ts(engine, collection, request.read_ts)
    if iterator.collection_id not in (0, collection.collection_id):
        raise ParameterInvalid(
            "Input collection id is not consistent to collectionID in the context,alias or database may have changed"
        )
    check_travel(engine, collection.collection_id, iterator.read_ts)
    return iterator.read_ts or max(engine.reads.read_ts(collection.collection_id), collection.created_ts)


def _check_request(request: QueryRequest, has_aggregates: bool, most: int) -> None:
    if request.order_by and request.limit is None:
        raise ParameterInvalid("ORDER BY requires explicit limit")
    if request.order_by and request.iterator is not None:
        raise ParameterInvalid("ORDER BY with iterator is not supported")
    counts_all = has_aggregates and any(is_count_of_rows(name) for name in request.output_fields)
    if counts_all and request.limit is not None and not request.group_by:
        raise ParameterInvalid("count entities with pagination is not allowed")
    if request.limit is not None:
        limits.check_result_window(request.limit, request.offset, most)
