"""Search and query: names to ids, filters to predicates, and the checks that come before and after "is it loaded?"."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from milvine.errors import (
    CollectionNotLoaded,
    FieldIndexNotLoaded,
    MilvineError,
    ParameterInvalid,
    PartitionNotLoaded,
    UnexpectedError,
)
from milvine.expr import Predicate, compile_filter, is_always_true, primary_keys
from milvine.index.registry import TYPES
from milvine.index.scalar_type import number_paths
from milvine.model import json_text
from milvine.model.collections import Collection
from milvine.model.columns import Column, ColumnBatch, null_column
from milvine.model.known_keys import SEARCH, refuse_unserved
from milvine.model.properties import is_of_large_topk
from milvine.model.records import record
from milvine.model.requests import OutputField, QueryRequest, QueryResult, SearchRequest, SearchResult
from milvine.model.resource_groups import NODE_ID
from milvine.model.schema import FieldSchema
from milvine.model.schema_rules import check_timezone
from milvine.model.vectors import VectorKind, kind_of
from milvine.querynode.cluster import Target
from milvine.segment.plans import Hits, QueryPlan, SearchPlan, SegmentSearchStats
from milvine.service import ann_params, search_ids
from milvine.service.context import Engine, RequestContext, channel_name, find_by_any_name, find_collection
from milvine.service.deny_rules import READING
from milvine.service.gate import capability
from milvine.service.isolation import check_isolation
from milvine.service.partitions import holding, refuse_names_with_key
from milvine.service.rate_limits import QUERIED, SEARCHED
from milvine.sized_cache import SizedCache

MAX_TOPK = 16384
LARGE_TOPK = 1_000_000
MAX_NQ = 16384
COUNT = "count(*)"
_DYNAMIC_KEY = re.compile(r"""(?P<plain>[A-Za-z_]\w*)|\$meta\[(?P<quote>["'])(?P<key>[^"']+)(?P=quote)\]""", re.ASCII)
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Fields to fetch in order, the requested names, and the requested keys of `$meta` (() for all)."""

    fields: tuple[FieldSchema, ...]
    names: tuple[str, ...]
    dynamic_keys: tuple[str, ...]


def _loaded_ids(engine: Engine, collection: Collection) -> frozenset[int] | None:
    """Fields that may be read. None (all) while nothing is loaded, which is then the error, and where unlisted fields
    are also served."""
    if collection.load is None or engine.loader.serves_unlisted_fields:
        return None
    return collection.load.field_ids


def _outputs(engine: Engine, collection: Collection, names: tuple[str, ...]) -> _Outputs:
    schema = collection.schema
    loaded = _loaded_ids(engine, collection)
    dynamic = schema.dynamic_field
    fields: dict[str, FieldSchema] = {}
    dynamic_keys: list[str] = []
    whole_dynamic = False
    for raw in names:
        name = raw.strip()
        field = schema.by_name.get(name)
        if name == "*":
            fields |= {f.name: f for f in schema.user_fields if loaded is None or f.field_id in loaded}
            whole_dynamic = dynamic is not None and (loaded is None or dynamic.field_id in loaded)
        elif field is not None:
            if loaded is not None and field.field_id not in loaded:
                raise UnexpectedError(f"field {name} is not loaded")
            if field.is_dynamic:
                whole_dynamic = True
            else:
                fields[name] = field
        elif dynamic is not None:
            if loaded is not None and dynamic.field_id not in loaded:
                raise UnexpectedError(f"field {name} cannot be returned since dynamic field not loaded")
            dynamic_keys.append(_dynamic_key(name))
        else:
            raise ParameterInvalid(f"field {name} not exist")
    if dynamic is not None and (whole_dynamic or dynamic_keys):
        fields[dynamic.name] = dynamic
    named = [*fields] if "*" in (n.strip() for n in names) else [n.strip() for n in names]
    return _Outputs(tuple(fields.values()), tuple(dict.fromkeys(named)), () if whole_dynamic else tuple(dynamic_keys))


def _dynamic_key(name: str) -> str:
    """`key` or `$meta["key"]`, if an expression can name it."""
    match = _DYNAMIC_KEY.fullmatch(name)
    if match is None:
        raise ParameterInvalid(f"parse output field name failed: {name}")
    return match["plain"] or match["key"]


def _partition_ids(collection: Collection, names: tuple[str, ...]) -> frozenset[int] | None:
    refuse_names_with_key(collection, names)
    ids = set()
    for name in names:
        partition = collection.partition_by_name.get(name)
        if partition is None:
            raise ParameterInvalid(f"partition name {name} not found")
        ids.add(partition.partition_id)
    return frozenset(ids) or None


def _predicate(engine: Engine, collection: Collection, text: str, templates: Mapping[str, object]) -> Predicate | None:
    if not text.strip():
        return None
    paths = number_paths(collection.scalar_indexes)
    try:
        return compile_filter(text, collection.schema, _loaded_ids(engine, collection), templates, paths)
    except ParameterInvalid as error:
        raise error.prefixed("failed to create query plan") from error


def _anns_field(collection: Collection, name: str) -> FieldSchema:
    schema = collection.schema
    if not name:
        if len(schema.vector_fields) > 1:
            raise ParameterInvalid("multiple anns_fields exist, please specify a anns_field in search_params")
        return schema.vector_fields[0]
    field = schema.by_name.get(name)
    if field is None:
        raise ParameterInvalid(f"failed to get field schema by name: fieldName({name}) not found").prefixed(
            "failed to create query plan"
        )
    if not field.data_type.is_vector:
        raise ParameterInvalid(f"failed to create query plan: field ({name}) to search is not of vector data type")
    return field


def _go_duration(seconds: int) -> str:
    """As Go prints it: 1h0m5s."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"


def _check_travel(engine: Engine, collection_id: int, wanted: int) -> None:
    """Refuses a timestamp whose rows may be gone. Called before a read and again after it, since a compaction stores in
    the catalog what it removes before a view lacks it."""
    collection = engine.catalog.snapshot.collections.get(collection_id)
    if not wanted or collection is None:
        return
    if wanted < collection.folded_ts:
        seconds = engine.settings.retention_seconds
    elif wanted < min(collection.expired_ts(), engine.cluster.read_ts(collection_id)):
        seconds = collection.ttl_seconds
    else:
        return
    raise UnexpectedError(f"only support to travel back to {_go_duration(seconds)} so far")


def _read_ts(engine: Engine, collection: Collection, wanted: int) -> int:
    """`wanted`, once no write can get a timestamp at or before it; 0: a timestamp after all acknowledged writes."""
    _check_travel(engine, collection.collection_id, wanted)
    current = engine.cluster.read_ts(collection.collection_id)
    if wanted > current:
        engine.datanode.settle(collection.collection_id, wanted)
    return wanted or current


def _most_rows(collection: Collection) -> int:
    """How many rows may be requested, including those skipped by an offset."""
    return LARGE_TOPK if is_of_large_topk(collection.properties) else MAX_TOPK


def _check_window(limit: int, offset: int, nq: int, most: int) -> None:
    in_range = f"it should be in range [1, {most}], but got"
    if not 1 <= limit <= most:
        raise ParameterInvalid(f"topk [{limit}] is invalid, {in_range} {limit}")
    if not 0 <= offset <= most:
        raise ParameterInvalid(f"offset [{offset}] is invalid, {in_range} {offset}")
    if limit + offset > most:
        raise ParameterInvalid(f"offset+limit [{limit + offset}] is invalid, {in_range} {limit + offset}")
    _check_nq(nq)


def _check_nq(nq: int) -> None:
    if not 1 <= nq <= MAX_NQ:
        raise ParameterInvalid(
            f"nq [{nq}] is invalid, nq (number of search vector per search request) "
            f"should be in range [1, {MAX_NQ}], but got {nq}"
        )


@record
class _Search:
    """A search with all names resolved, ready to run."""

    collection: Collection
    field: FieldSchema
    kind: VectorKind
    outputs: _Outputs
    target: Target
    plan: SearchPlan
    iterator: ann_params.IteratorV2 | None


class PreparedSearchCache:
    """Searches that may be repeated with other vectors, by database, name and shape."""

    def __init__(self, limit_bytes: int) -> None:
        self._searches: SizedCache[Hashable, _Search] = SizedCache("prepared_searches", limit_bytes)

    def find(self, key: Hashable, collection: Collection) -> _Search | None:
        """None if the collection, its indexes or its load configuration have changed since."""
        found = self._searches.get(key)
        return found if found is not None and found.collection is collection else None

    def keep(self, key: Hashable, search: _Search, filter_text: str) -> None:
        """The predicate holds the literals of the filter once or twice, and the cache key holds its text."""
        size = _PREPARED_BYTES + _PREPARED_BYTES_PER_CHARACTER * len(filter_text)
        self._searches.put(key, replace(search, plan=search.plan.again(_NO_QUERIES, 0)), size)


_NO_QUERIES = np.zeros((0, 0), np.float32)
_PREPARED_BYTES = 4096
_PREPARED_BYTES_PER_CHARACTER = 8
_prepared_searches = PreparedSearchCache(32 << 20)


@capability("Search", on="request.name", denied_as=READING)
def search(engine: Engine, context: RequestContext, request: SearchRequest, at_ts: int = 0) -> SearchResult:
    """The `limit` nearest rows of each query after the first `offset`. `at_ts`: the timestamp, if already chosen."""
    if request.ids is not None:
        return _search_by_ids(engine, context, request)
    prepared = _prepare_search(engine, context, request, at_ts)
    collection, outputs, plan = prepared.collection, prepared.outputs, prepared.plan
    engine.rates.check(collection, SEARCHED, lambda: len(request.queries), request.partition_names)
    primary = collection.schema.primary_field
    hits = _run_search(engine, prepared) if prepared.iterator is None else _run_step(engine, prepared)
    _check_travel(engine, collection.collection_id, request.read_ts)
    if hits is None:
        rows, distances = _no_rows((primary, *outputs.fields)), np.zeros(0, np.float32)
        counts = np.zeros(len(request.queries), np.int64)
    else:
        rows, distances, counts = hits.rows, hits.distances, hits.counts
        if request.offset:
            rank = np.arange(len(distances)) - np.repeat(np.cumsum(counts) - counts, counts)
            kept = np.flatnonzero(rank >= request.offset)
            rows, distances = rows.take(kept), distances[kept]
            counts = np.maximum(counts - request.offset, 0)
    scores = -distances if plan.metric.larger_is_nearer else distances
    iterator = prepared.iterator
    last_bound = 0.0 if iterator is None else iterator.bound_after(scores, plan.metric)
    if request.round_decimal >= 0:
        scores = np.round(scores, request.round_decimal)
    return SearchResult(
        primary,
        request.limit,
        counts,
        scores,
        rows.columns[primary.field_id],
        _output_fields(outputs, rows),
        outputs.names,
        outputs.dynamic_keys,
        plan.read_ts,
        "" if iterator is None else iterator.token,
        last_bound,
    )


@capability("Search", on="request.name", denied_as=READING)
def explain(engine: Engine, context: RequestContext, request: SearchRequest) -> tuple[SegmentSearchStats, ...]:
    """Runs a search and returns how each segment was searched."""
    at_ts = 0
    if request.ids is not None:
        request, has_vector, at_ts = _with_vectors(engine, context, request)
        if not has_vector.any():
            return ()
    hits = _run_search(engine, _prepare_search(engine, context, request, at_ts))
    return () if hits is None else hits.segment_stats


def _search_by_ids(engine: Engine, context: RequestContext, request: SearchRequest) -> SearchResult:
    """Searches for the vectors of the rows with these keys. A NULL vector has no hits."""
    asked, has_vector, read_ts = _with_vectors(engine, context, request)
    counts = np.zeros(len(has_vector), np.int64)
    if not has_vector.any():
        primary = find_collection(engine, context, request.name).schema.primary_field
        keys = _no_rows((primary,)).columns[primary.field_id]
        return SearchResult(primary, 0, counts, np.zeros(0, np.float32), keys, (), (), (), read_ts)
    result = search(engine, context, asked, read_ts)
    counts[has_vector] = result.counts
    return replace(result, counts=counts)


def _with_vectors(
    engine: Engine, context: RequestContext, request: SearchRequest
) -> tuple[SearchRequest, np.ndarray[Any, Any], int]:
    """The search with the vectors of its ids, whether each id has one, and the timestamp of that read.

    As in Milvus, the filter does not apply to the ids, and errors in the ids come before all others.
    """
    ids = request.ids
    assert ids is not None
    collection = find_by_any_name(engine, context, request.name)
    field = search_ids.checked_field(collection.schema, request.anns_field, ids)
    _check_nq(len(ids))
    partition_ids = _partition_ids(collection, request.partition_names)
    _outputs(engine, collection, (field.name,))  # refuses a field that is not loaded
    if collection.load is None:
        raise CollectionNotLoaded(collection.collection_id).prefixed("failed to query")
    search_ids.check_size(field, len(ids))
    read_ts = _read_ts(engine, collection, request.read_ts)
    primary = collection.schema.primary_field
    plan = QueryPlan(read_ts, None, ids, partition_ids, None, (field.field_id,), primary.field_id)
    target = Target(collection.collection_id, partition_ids, context.deadline)
    found = _queried(engine, collection, engine.cluster.query, target, plan, request.read_ts)
    rows = _no_rows((primary, field)) if found is None else found.rows
    keys, vectors = rows.columns[primary.field_id].values, rows.columns[field.field_id]
    queries, has_vector = search_ids.vectors_of(ids, keys, vectors)
    asked = replace(request, queries=queries, query_type=field.data_type, anns_field=field.name, ids=None)
    return asked, has_vector, read_ts


def _run_search(engine: Engine, prepared: _Search) -> Hits | None:
    try:
        return engine.cluster.search(prepared.target, prepared.plan)
    except MilvineError as error:
        raise _chained(error, prepared.collection, "search").prefixed("failed to search") from error


def _chained(error: MilvineError, collection: Collection, verb: str) -> MilvineError:
    """In Milvus the query node refuses a partition that is not loaded, so the error begins with its path."""
    if not isinstance(error, PartitionNotLoaded):
        return error
    channel = channel_name(collection.collection_id)
    inner = error.prefixed(f"fail to {verb} on QueryNode {NODE_ID}")
    return inner.prefixed(f"failed to search/query delegator {NODE_ID} for channel {channel}")


def _run_step(engine: Engine, prepared: _Search) -> Hits | None:
    """A batch of an iterator, followed by all rows at exactly the distance of its last row.

    The next step starts beyond that distance, so it would never return them.
    """
    size = prepared.plan.k
    plan, found = replace(prepared.plan, k=size + 1), -1
    while True:
        hits = _run_search(engine, replace(prepared, plan=plan))
        if hits is None or len(hits.distances) <= size:
            return hits
        count = int(np.searchsorted(hits.distances, hits.distances[size - 1], side="right"))
        if count < len(hits.distances) or found == count:
            return replace(
                hits, counts=np.array([count]), distances=hits.distances[:count], rows=hits.rows.slice(0, count)
            )
        plan, found = replace(plan, k=4 * plan.k), count


def _prepare_search(engine: Engine, context: RequestContext, request: SearchRequest, at_ts: int) -> _Search:
    """Most searches repeat an earlier one with another vector, so its names and parameters are reused."""
    collection = find_by_any_name(engine, context, request.name)
    if request.shape is None:
        return _new_search(engine, context, request, collection, at_ts)
    key = (context.database, request.name, request.shape)
    known = _prepared_searches.find(key, collection)
    if known is None:
        prepared = _new_search(engine, context, request, collection, at_ts)
        _prepared_searches.keep(key, prepared, request.filter)
        return prepared
    _check_nq(len(request.queries))
    queries = known.kind.checked_queries(known.field, request.query_type, request.queries)
    plan = known.plan.again(queries, _read_ts(engine, collection, request.read_ts))
    target = Target(collection.collection_id, known.target.partition_ids, context.deadline)
    return _Search(collection, known.field, known.kind, known.outputs, target, plan, None)


def _new_search(
    engine: Engine, context: RequestContext, request: SearchRequest, collection: Collection, at_ts: int
) -> _Search:
    if ann_params.is_iterator(request.params) and not 1 <= request.limit <= MAX_TOPK:
        request = replace(request, limit=MAX_TOPK)
    _check_window(request.limit, request.offset, len(request.queries), _most_rows(collection))
    if request.round_decimal != -1 and not 0 <= request.round_decimal <= 6:
        raise ParameterInvalid(
            f"round_decimal [{request.round_decimal}] is invalid, should be -1 or an integer in range [0, 6]"
        )
    check_timezone(request.params)
    refuse_unserved(SEARCH, request.params)
    ann_params.check_range(request.params)
    iterator = ann_params.iterator_v2(request.params, request.offset, len(request.queries), MAX_TOPK)
    ann_params.check_collection_id(request.params, collection.collection_id)
    ignores_growing = ann_params.ignores_growing(request.params)
    field = _anns_field(collection, request.anns_field)
    partition_ids = _partition_ids(collection, request.partition_names)
    outputs = _outputs(engine, collection, request.output_fields)
    predicate = _predicate(engine, collection, request.filter, request.templates)
    check_isolation(collection, predicate)
    partition_ids = holding(collection, predicate) if partition_ids is None else partition_ids
    if collection.load is None:
        raise CollectionNotLoaded(collection.collection_id).prefixed("failed to search")
    loaded = _loaded_ids(engine, collection)
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
    kind = kind_of(field.data_type)
    queries = kind.checked_queries(field, request.query_type, request.queries)
    k = request.limit + request.offset if iterator is None else iterator.batch_size
    try:
        ann_params.check_hints(request.params)
        effort = TYPES[index.build_type].effort(index.build_params, request.params, k, field.data_type)
        band = ann_params.band(request.params, index.metric_type)
    except MilvineError as error:
        raise error.prefixed("failed to search") from error
    if iterator is not None:
        band = iterator.beyond(band, index.metric_type)
    primary = collection.schema.primary_field
    read_ts = at_ts or _read_ts(engine, collection, request.read_ts)
    plan = SearchPlan(
        field.field_id,
        queries,
        k,
        index.metric_type,
        effort,
        read_ts,
        predicate,
        partition_ids,
        tuple(f.field_id for f in outputs.fields),
        primary.field_id,
        band,
        ignores_growing,
        data_type=field.data_type,
    )
    target = Target(collection.collection_id, partition_ids, context.deadline)
    return _Search(collection, field, kind, outputs, target, plan, iterator)


def _output_fields(outputs: _Outputs, rows: ColumnBatch) -> tuple[OutputField, ...]:
    return tuple(
        OutputField(
            f, _with_keys(rows.columns[f.field_id], outputs.dynamic_keys) if f.is_dynamic else rows.columns[f.field_id]
        )
        for f in outputs.fields
    )


def _with_keys(column: Column, keys: tuple[str, ...]) -> Column:
    """`$meta` of the result rows, reduced to the requested keys (() for all)."""
    if not keys:
        return column
    documents = map(json_text.members, column.values.to_pylist())
    texts = [json_text.dumps({k: d[k] for k in keys if k in d}) for d in documents]
    return Column(column.data_type, pa.array(texts, column.values.type), column.validity)


def _no_rows(fields: tuple[FieldSchema, ...]) -> ColumnBatch:
    empty = {f.field_id: null_column(f, 0) for f in fields}
    return ColumnBatch(0, {i: Column(c.data_type, c.values) for i, c in empty.items()})


@capability("Query", on="request.name", denied_as=READING)
def query(engine: Engine, context: RequestContext, request: QueryRequest) -> QueryResult:
    """Rows that pass the filter, in key order, or their number for count(*)."""
    collection = find_collection(engine, context, request.name)
    engine.rates.check(collection, QUERIED, lambda: 1, request.partition_names)
    counting = [n.strip() for n in request.output_fields] == [COUNT]
    _check_query(request, counting, _most_rows(collection))
    partition_ids = _partition_ids(collection, request.partition_names)
    outputs = _Outputs((), (COUNT,), ()) if counting else _outputs(engine, collection, request.output_fields)
    predicate = _predicate(engine, collection, request.filter, request.templates)
    if request.limit is None and not counting and is_always_true(predicate):
        raise ParameterInvalid("empty expression should be used with limit")
    partition_ids = holding(collection, predicate) if partition_ids is None else partition_ids
    if collection.load is None:
        raise CollectionNotLoaded(collection.collection_id).prefixed("failed to query")
    primary = collection.schema.primary_field
    read_ts = _query_ts(engine, collection, request)
    plan = QueryPlan(
        read_ts,
        predicate,
        None if predicate is None else primary_keys(predicate),
        partition_ids,
        None if request.limit is None else request.limit + request.offset,
        tuple(f.field_id for f in outputs.fields),
        primary.field_id,
        request.ignores_growing,
    )
    target = Target(collection.collection_id, partition_ids, context.deadline)
    asked_ts = request.read_ts if request.iterator is None else request.iterator.read_ts
    if counting:
        count = _queried(engine, collection, engine.cluster.count, target, plan, asked_ts)
        return QueryResult(primary, ColumnBatch(0, {}), (), (COUNT,), (), read_ts, count)
    found = _queried(engine, collection, engine.cluster.query, target, plan, asked_ts)
    if not any(f.is_primary for f in outputs.fields):
        outputs = _Outputs((*outputs.fields, primary), (*outputs.names, primary.name), outputs.dynamic_keys)
    rows = _no_rows(outputs.fields) if found is None else found.rows
    if request.offset:
        rows = rows.slice(min(request.offset, rows.row_count), rows.row_count)
    return QueryResult(primary, rows, _output_fields(outputs, rows), outputs.names, outputs.dynamic_keys, read_ts)


def _queried(
    engine: Engine,
    collection: Collection,
    read: Callable[[Target, QueryPlan], _Result],
    target: Target,
    plan: QueryPlan,
    asked_ts: int,
) -> _Result:
    try:
        result = read(target, plan)
        _check_travel(engine, collection.collection_id, asked_ts)
    except MilvineError as error:
        raise _chained(error, collection, "Query").prefixed("failed to query") from error
    return result


def _query_ts(engine: Engine, collection: Collection, request: QueryRequest) -> int:
    """The timestamp to read at; never 0 for an iterator, even if the collection is empty."""
    iterator = request.iterator
    if iterator is None:
        return _read_ts(engine, collection, request.read_ts)
    if iterator.collection_id not in (0, collection.collection_id):
        raise ParameterInvalid(
            "Input collection id is not consistent to collectionID in the context,alias or database may have changed"
        )
    _check_travel(engine, collection.collection_id, iterator.read_ts)
    return iterator.read_ts or max(engine.cluster.read_ts(collection.collection_id), collection.created_ts)


def _check_query(request: QueryRequest, counting: bool, most: int) -> None:
    if not counting and COUNT in (name.strip() for name in request.output_fields):
        raise ParameterInvalid(f"{COUNT} cannot be combined with other output fields")
    if counting:
        if request.limit is not None:
            raise ParameterInvalid("count entities with pagination is not allowed")
        return
    if request.limit is None:
        return
    window = "invalid max query result window"
    if request.offset < 0:
        raise ParameterInvalid(f"{window}, offset [{request.offset}] is invalid, should be gte than 0")
    if request.limit <= 0:
        raise ParameterInvalid(f"{window}, limit [{request.limit}] is invalid, should be greater than 0")
    if request.limit + request.offset > most:
        raise ParameterInvalid(
            f"{window}, (offset+limit) should be in range [1, {most}], but got {request.limit + request.offset}"
        )
