"""Protobuf -> requests of the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError

from milvine.errors import ParameterInvalid
from milvine.grpc_api.buckets import search_aggregation
from milvine.grpc_api.chains import function_chain
from milvine.grpc_api.decode_columns import column
from milvine.grpc_api.key_values import bool_of, int_of, listed, pairs, whole
from milvine.grpc_api.proto import common_pb2, schema_pb2
from milvine.grpc_api.unserved import refuse_unserved_fields
from milvine.model import json_text, known_keys
from milvine.model.columns import Column
from milvine.model.known_keys import refuse_unserved
from milvine.model.requests import (
    DeleteRequest,
    FunctionScore,
    Highlighter,
    HybridSearchRequest,
    InsertRequest,
    LoadRequest,
    QueryIterator,
    QueryRequest,
    RankFunction,
    SearchRequest,
)
from milvine.model.schema_rules import check_timezone
from milvine.model.timestamps import MAX_TIMESTAMP
from milvine.model.types import ConsistencyLevel, DataType
from milvine.model.vectors import KINDS
from milvine.service.reading.ann_params import ignores_growing

_QUERIED = {int(data_type): kind for data_type, kind in KINDS.items()}
_REMEMBERED_CHARACTERS = 4096
_BOUNDED_TIMESTAMP = 2
"""SDKs use guarantee timestamps up to this one for consistency levels, not times."""


def load(request: Any) -> LoadRequest:
    return LoadRequest(
        request.collection_name,
        request.replica_number,
        tuple(request.resource_groups),
        request.refresh,
        tuple(request.load_fields),
        request.skip_load_dynamic_field,
    )


def insert(request: Any) -> InsertRequest:
    columns: dict[str, Column] = {}
    for field in request.fields_data:
        name = "$meta" if field.is_dynamic else field.field_name
        if name in columns:
            raise ParameterInvalid(f"duplicated field {name} found")
        columns[name] = column(field)
    return InsertRequest(
        request.collection_name,
        request.partition_name,
        request.num_rows,
        columns,
        schema_ts=request.schema_timestamp,
    )


_OPERATIONS = {number: name for name, number in schema_pb2.FieldPartialUpdateOp.OpType.items()}


def upsert(request: Any) -> InsertRequest:
    operations = tuple((each.field_name, _OPERATIONS.get(each.op, str(each.op))) for each in request.field_ops)
    return replace(insert(request), partial_update=request.partial_update, field_ops=operations)


def _template(value: Any) -> object:
    kind = value.WhichOneof("val")
    if kind is None:
        return None
    if kind != "array_val":
        return getattr(value, kind)
    inner = value.array_val.WhichOneof("data")
    if inner is None:
        return []
    data = getattr(value.array_val, inner).data
    if inner == "array_data":
        return [_template(schema_pb2.TemplateValue(array_val=item)) for item in data]
    if inner == "json_data":
        try:
            return [json_text.loads(item) for item in data]
        except json_text.NotJson as error:
            raise ParameterInvalid(f"a template value is not JSON: {error}") from error
    return list(data)


def templates(request: Any) -> dict[str, object]:
    return {name: _template(value) for name, value in request.expr_template_values.items()}


def delete(request: Any) -> DeleteRequest:
    return DeleteRequest(request.collection_name, request.partition_name, request.expr, templates(request))


def _read_ts(request: Any) -> int:
    """The timestamp to read at, or 0: every level except Customized reads all acknowledged writes.

    SDKs use 1 and 2 for Eventually and Bounded.
    """
    given = int(request.guarantee_timestamp)
    return given if names_its_time(request) and given > _BOUNDED_TIMESTAMP else 0


def names_its_time(request: Any) -> bool:
    """Whether the guarantee timestamp of a read is the time to read at."""
    return not request.use_default_consistency and request.consistency_level == ConsistencyLevel.CUSTOMIZED


def _queries(request: Any) -> tuple[int, Any]:
    """The placeholder's type and its vectors or texts; empty rows if the type is not one of ours."""
    try:
        group = common_pb2.PlaceholderGroup.FromString(request.placeholder_group)
    except DecodeError as error:
        raise ParameterInvalid(f"failed to unmarshal the placeholder group: {error}") from error
    if not group.placeholders or not group.placeholders[0].values:
        return DataType.FLOAT_VECTOR, np.zeros((0, 0), np.float32)
    holder = group.placeholders[0]
    return holder.type, placed_queries(holder.type, list(holder.values))


def placed_queries(query_type: int, values: list[bytes]) -> Any:
    """The vectors or texts of a placeholder; empty rows if its type is not one of ours."""
    if query_type == DataType.VARCHAR:
        return _query_texts(values)
    kind = _QUERIED.get(query_type)
    if kind is None:
        return np.zeros((len(values), 0), np.uint8)
    return kind.queries_from_wire(values)


def _query_texts(values: Sequence[bytes]) -> pa.StringArray:
    try:
        return pa.array([value.decode() for value in values], pa.string())
    except UnicodeDecodeError as error:
        raise ParameterInvalid(f"string data must be utf8 format: {error.object!r}") from error


def _ids(ids: Any) -> Any | None:
    """int64 or StringArray; None if there are none, which is a search without vectors."""
    if ids.int_id.data:
        return np.array(ids.int_id.data, np.int64)
    return pa.array(ids.str_id.data, pa.string()) if ids.str_id.data else None


def search(request: Any) -> SearchRequest:
    return _search(request, request.collection_name, tuple(request.output_fields), tuple(request.partition_names))


def _search(
    request: Any,
    name: str,
    output_fields: tuple[str, ...],
    partition_names: tuple[str, ...],
    *,
    read_ts: int | None = None,
    default_limit: int | None = None,
) -> SearchRequest:
    """`read_ts` None: the request says it. `default_limit` None: the request must have a limit; otherwise it replaces
    one that is no number, as in Milvus."""
    ids = _ids(request.ids) if request.HasField("ids") else None
    given = tuple([text for pair in request.search_params for text in (pair.key, pair.value)])
    is_short = sum(map(len, given)) <= _REMEMBERED_CHARACTERS
    found = (_search_params if is_short else _search_params.__wrapped__)(given)
    limit = default_limit if found.limit is None else found.limit
    if limit is None:
        text = found.limit_text
        raise ParameterInvalid("topk not found in search_params" if text is None else f"topk [{text}] is invalid")
    query_type, queries = _queries(request)
    has_templates = bool(request.expr_template_values)
    score = _function_score(request.function_score) if request.HasField("function_score") else None
    highlighter = None
    if request.HasField("highlighter"):
        highlighter = Highlighter(request.highlighter.type, pairs(request.highlighter.params))
    aggregation = search_aggregation(request.search_aggregation) if request.HasField("search_aggregation") else None
    chains = tuple(map(function_chain, request.function_chains))
    has_more = has_templates or chains or score is not None or highlighter is not None or aggregation is not None
    is_repeatable = is_short and ids is None and not has_more and not found.is_iterator
    if read_ts is None:
        read_ts = _iterator_ts(request) if found.is_iterator else _read_ts(request)
    return SearchRequest(
        name=name,
        queries=queries,
        limit=limit,
        offset=found.offset,
        anns_field=found.anns_field,
        metric_type=found.metric_type,
        params=found.params,
        round_decimal=found.round_decimal,
        filter=request.dsl,
        templates=templates(request) if has_templates else {},
        output_fields=output_fields,
        partition_names=partition_names,
        read_ts=read_ts,
        query_type=query_type,
        shape=(found, limit, request.dsl, output_fields, partition_names) if is_repeatable else None,
        ids=ids,
        function_score=score,
        function_chains=chains,
        highlighter=highlighter,
        aggregation=aggregation,
    )


def hybrid_search(request: Any) -> HybridSearchRequest:
    """The searches read at the timestamp and in the partitions of the whole."""
    rank_params = pairs(request.rank_params)
    partition_names, read_ts = tuple(request.partition_names), _read_ts(request)
    window = int_of(rank_params, "limit", 0) + int_of(rank_params, "offset", 0)
    searches = []
    for one in request.requests:
        refuse_unserved_fields(one)
        found = _search(one, request.collection_name, (), partition_names, read_ts=read_ts, default_limit=window)
        searches.append(replace(found, offset=0))  # as in Milvus, which ignores it
    return HybridSearchRequest(
        name=request.collection_name,
        searches=tuple(searches),
        rank_params=rank_params,
        function_score=_function_score(request.function_score) if request.HasField("function_score") else None,
        output_fields=tuple(request.output_fields),
        partition_names=partition_names,
        read_ts=read_ts,
    )


def _function_score(score: Any) -> FunctionScore:
    functions = [RankFunction(f.name, tuple(f.input_field_names), pairs(f.params)) for f in score.functions]
    return FunctionScore(tuple(functions), pairs(score.params))


@dataclass(frozen=True, slots=True, eq=False)
class _SearchParams:
    """`limit` None: `limit_text` is no number, or None since there is none."""

    limit: int | None
    limit_text: str | None
    offset: int
    anns_field: str
    metric_type: str
    params: Mapping[str, Any]
    round_decimal: int
    is_iterator: bool


@lru_cache(maxsize=512)
def _search_params(keys_and_values: tuple[str, ...]) -> _SearchParams:
    """The contents of `search_params`, given as key, value, key, value and so on. Cached, since most searches
    differ only in their vectors."""
    given = dict(zip(keys_and_values[::2], keys_and_values[1::2], strict=True))
    text = given.pop("params", "") or "{}"
    try:
        inner = json_text.loads(text)
    except json_text.NotJson as error:
        raise ParameterInvalid(f"failed to parse search params {text}: {error}") from error
    named = {"anns_field", "topk", "limit", "offset", "metric_type", "round_decimal"}
    params = {**{k: v for k, v in given.items() if k not in named}, **inner}
    metric_type = given.get("metric_type", "") or params.pop("metric_type", "")
    limit_text = given.get("topk", given.get("limit"))
    return _SearchParams(
        limit=whole(limit_text),
        limit_text=limit_text,
        offset=int_of(given, "offset", 0),
        anns_field=given.get("anns_field", ""),
        metric_type=metric_type,
        params=params,
        round_decimal=int_of(given, "round_decimal", -1),
        is_iterator=given.get("iterator", "") in ("True", "true"),
    )


def query(request: Any) -> QueryRequest:
    params = pairs(request.query_params)
    check_timezone(params)
    refuse_unserved(known_keys.QUERY, params)
    bool_of(params, "reduce_stop_for_best")  # pages are always in key order, which fits both values
    limit = int_of(params, "limit", -1) if params.get("limit") else None
    return QueryRequest(
        name=request.collection_name,
        filter=request.expr,
        limit=limit,
        offset=int_of(params, "offset", 0) if limit is not None else 0,
        templates=templates(request),
        output_fields=tuple(request.output_fields),
        partition_names=tuple(request.partition_names),
        iterator=_iterator(request, params) if bool_of(params, "iterator") else None,
        read_ts=_read_ts(request),
        ignores_growing=ignores_growing(params),
        order_by=listed(params, "order_by_fields"),
        group_by=listed(params, "group_by_fields"),
        time_params={name: params[name] for name in ("timezone", "time_fields") if name in params},
    )


def _iterator(request: Any, params: Mapping[str, str]) -> QueryIterator:
    return QueryIterator(_iterator_ts(request), int_of(params, "collection_id", 0))


def _iterator_ts(request: Any) -> int:
    """The timestamp from the first page; 0 for the first page itself."""
    given: int = request.guarantee_timestamp
    return min(given, MAX_TIMESTAMP) if given > _BOUNDED_TIMESTAMP else 0


def flush_targets(request: Any) -> list[tuple[str, tuple[str, ...]]]:
    """Databases, each with the named collections; none means all."""
    return [(target.db_name, tuple(target.collection_names)) for target in request.flush_targets]
