"""JSON bodies -> requests of the service, and descriptions -> JSON."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.errors import (
    ParameterInvalid,
    RestBadJson,
    RestCheckPrimaryKey,
    RestIdsAndData,
    RestIdsInvalid,
    RestMissingParameters,
)
from milvine.model import json_text
from milvine.model.collections import Collection
from milvine.model.columns import Column
from milvine.model.functions import FunctionSchema
from milvine.model.json_text import go_type, json_kind, plain_text
from milvine.model.properties import allows_inserted_ids
from milvine.model.requests import (
    DeleteRequest,
    FunctionScore,
    HybridSearchRequest,
    IndexDescription,
    InsertRequest,
    QueryRequest,
    RankFunction,
    SearchRequest,
)
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import DataType, IndexState, LoadState
from milvine.model.vectors import kind_of
from milvine.rest_api import buckets, rows
from milvine.rest_api.body import Body
from milvine.rest_api.chains import function_chains
from milvine.rest_api.schemas import LEVEL_RULE, LEVELS, function_type
from milvine.segment.plans import SegmentSearchStats
from milvine.service import array_operations

DEFAULT_LIMIT = 100
_COUNT = "count(*)"
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_DEFAULT_KINDS = {
    DataType.BOOL: "BoolData",
    DataType.INT8: "IntData",
    DataType.INT16: "IntData",
    DataType.INT32: "IntData",
    DataType.INT64: "LongData",
    DataType.FLOAT: "FloatData",
    DataType.DOUBLE: "DoubleData",
    DataType.VARCHAR: "StringData",
    DataType.TIMESTAMPTZ: "StringData",
}
"""The names of the kinds of a default value in Go's encoder."""


def _check_level(body: Body) -> None:
    """Every level reads all acknowledged writes, so only the name matters."""
    name = body.text("consistencyLevel")
    if name and name not in LEVELS:
        raise ParameterInvalid(f"{LEVEL_RULE}, err:parameter:'{name}' is incorrect, please check it")


def insert(body: Body, collection: Collection) -> InsertRequest:
    brings_keys = allows_inserted_ids(collection.properties)
    return _rows(body, collection.schema, rows.to_columns_with_keys if brings_keys else rows.to_columns)


def upsert(body: Body, schema: CollectionSchema) -> InsertRequest:
    operations = tuple((each.text("fieldName"), _operation(each.text("op"))) for each in body.inners("fieldOps"))
    is_partial = body.boolean("partialUpdate")
    to_columns = rows.to_partial_columns if is_partial else rows.to_upsert_columns
    return replace(_rows(body, schema, to_columns), partial_update=is_partial, field_ops=operations)


def _operation(text: str) -> str:
    name = text.strip().upper()
    if name not in array_operations.NAMES:
        raise ParameterInvalid(f"unsupported partial update op: {text}")
    return name


def _rows(
    body: Body,
    schema: CollectionSchema,
    to_columns: Callable[[CollectionSchema, rows.Rows], dict[str, Column]],
) -> InsertRequest:
    data = body.value("data")
    given = data if isinstance(data, list) else [data]
    for row in given:
        if not isinstance(row, dict):
            raise body.bad_type("data", row, "map[string]interface {}")
    sent = functools.cache(lambda: body.sent_rows("data"))
    columns = to_columns(schema, rows.Rows(given, sent)) if given else {}
    return InsertRequest(body.text("collectionName"), body.text("partitionName"), len(given), columns)


def delete(body: Body) -> DeleteRequest:
    return DeleteRequest(
        body.text("collectionName"),
        body.text("partitionName"),
        body.text("filter"),
        body.mapping("exprParams"),
    )


def _listed(body: Body, name: str) -> tuple[str, ...]:
    """The texts of a list; a comma in one divides it."""
    return tuple(part.strip() for text in body.texts(name) for part in text.split(",") if part.strip())


def query(body: Body) -> QueryRequest:
    """count(*) without groups removes the limit."""
    _check_level(body)
    names = body.texts("outputFields", ("*",))
    if [n.strip().lower() for n in names] == [_COUNT]:
        names = (_COUNT,)
    limit = body.integer("limit", DEFAULT_LIMIT)
    groups = _listed(body, "groupByFields")
    paged = limit > 0 and (names != (_COUNT,) or bool(groups))
    return QueryRequest(
        name=body.text("collectionName"),
        filter=body.text("filter"),
        limit=limit if paged else None,
        offset=max(0, body.integer("offset")) if paged else 0,
        templates=body.mapping("exprParams"),
        output_fields=names,
        partition_names=body.texts("partitionNames"),
        order_by=_listed(body, "orderByFields"),
        group_by=groups,
    )


def _key(primary: FieldSchema, value: object) -> int | str:
    if primary.data_type is DataType.VARCHAR:
        return plain_text(value)
    text = plain_text(value)
    if not _INTEGER.fullmatch(text) or not _INT64_MIN <= int(text) <= _INT64_MAX:
        raise RestCheckPrimaryKey(f'unable to cast "{rows.shown(value)}" of type {json_kind(value)} to int64')
    return int(text)


def get(body: Body, schema: CollectionSchema) -> QueryRequest:
    """The rows of one id or a list of ids, for any name of the key's field."""
    _check_level(body)
    given = body.value("id")
    ids = [_key(schema.primary_field, v) for v in (given if isinstance(given, list) else [given])]
    return QueryRequest(
        body.text("collectionName"),
        f"{schema.primary_field.name} in {{ids}}",
        templates={"ids": ids},
        output_fields=body.texts("outputFields", ("*",)),
        partition_names=body.texts("partitionNames"),
    )


def _ids(given: list[Any], primary: FieldSchema) -> Any:
    """The keys of a search: int64 or StringArray. Numbers are converted to texts and texts to numbers."""
    if primary.data_type is DataType.VARCHAR:
        return pa.array([_text_id(place, value) for place, value in enumerate(given)], pa.string())
    return np.array([_int_id(place, value) for place, value in enumerate(given)], np.int64)


def _text_id(place: int, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _bad_id(f"invalid id type at index {place}: expected string, got {go_type(value)}")
    if value == "":
        raise _bad_id(f"empty string id at index {place}")
    return plain_text(value)


def _int_id(place: int, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _bad_id(f"invalid id type at index {place}: expected int64, got {go_type(value)}")
    if isinstance(value, float) and not value.is_integer():
        raise _bad_id(f"invalid int64 id at index {place}: {value} has fractional part")
    text = value if isinstance(value, str) else str(int(value))
    is_integer = _INTEGER.fullmatch(text) is not None
    if not is_integer or not _INT64_MIN <= int(text) <= _INT64_MAX:
        problem = "value out of range" if is_integer else "invalid syntax"
        shown = rows.shown(text)
        raise RestIdsInvalid(
            f'invalid int64 id at index {place}: {shown}: strconv.ParseInt: parsing "{shown}": {problem}'
        )
    return int(text)


def _bad_id(detail: str) -> RestIdsInvalid:
    return RestIdsInvalid(ParameterInvalid(detail).message)


def _search_field(schema: CollectionSchema, name: str) -> FieldSchema:
    if not name:
        if len(schema.vector_fields) > 1:
            first, second = schema.vector_fields[:2]
            error = ParameterInvalid(
                f"search without annsField, but already found multiple vector fields: [{first.name}, {second.name},,,]"
            )
            raise RestBadJson(f"error: {error.message}")
        return schema.vector_fields[0]
    field = schema.by_name.get(name)
    if field is None or not field.data_type.is_vector:
        raise RestBadJson(f"error: cannot find a vector field: field not found[field={name}]")
    return field


def _queries(data: list[Any], field: FieldSchema) -> tuple[int, Any]:
    """The type of the queries and their vectors; texts for a field that a function makes."""
    if field.made_by is not None:
        return int(DataType.VARCHAR), pa.array(map(plain_text, data), pa.string())
    try:
        return int(field.data_type), kind_of(field.data_type).queries_from_json(field, data)
    except ValueError as error:
        detail = ParameterInvalid(str(error), expected=field.data_type.milvus_name, actual=rows.shown(data))
        raise RestBadJson(f"error: {detail.message}") from error


def _search_params(outer: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """`searchParams` merged with its own `params`, and the metric; both may have a parameter if they agree."""
    inner = outer.get("params") or {}
    if not isinstance(inner, dict):
        raise ParameterInvalid("searchParams.params must be a dict")
    for name, value in outer.items():
        if name in inner and inner[name] != value:
            raise ParameterInvalid(
                f"ambiguous parameter: {name}, in search_param: {value}, in search_param.params: {inner[name]}"
            )
    params = {**{k: v for k, v in outer.items() if k != "params"}, **inner}
    if "ignoreGrowing" in params:
        params["ignore_growing"] = params.pop("ignoreGrowing")
    metric_type = params.pop("metricType", "") or params.pop("metric_type", "")
    return params, plain_text(metric_type)


def _grouping(body: Body) -> dict[str, str]:
    """The parameters of groups; a size that is not positive is not read, as in Milvus."""
    field, size = body.text("groupingField"), body.integer("groupSize")
    body.boolean("strictGroupSize")
    if not field:
        return {}
    return {"group_by_field": field, **({"group_size": str(size)} if size > 0 else {})}


def _order(body: Body, params: Mapping[str, Any]) -> dict[str, str]:
    fields = body.texts("orderByFields")
    if fields and "order_by_fields" in params:
        raise ParameterInvalid("ambiguous order by: use either orderByFields or searchParams.order_by_fields, not both")
    return {"order_by_fields": ",".join(fields)} if fields else {}


def search(body: Body, schema: CollectionSchema) -> SearchRequest:
    _check_level(body)
    data, ids = body.array("data"), body.array("ids")
    if ids and data:
        raise RestIdsAndData
    if not ids and not data:
        raise RestMissingParameters(
            "either 'ids' (for primary key search) or 'data' (for vector search) must be provided"
        )
    aggregation = buckets.search_aggregation(body)
    params, metric_type = _search_params(body.mapping("searchParams"))
    params |= _grouping(body) | _order(body, params)
    anns_field, query_type, queries, keys = body.text("annsField"), 0, np.zeros((0, 0), np.float32), None
    if ids:
        keys = _ids(ids, schema.primary_field)
    else:
        field = _search_field(schema, anns_field)
        anns_field, (query_type, queries) = field.name, _queries(data, field)
    return SearchRequest(
        name=body.text("collectionName"),
        queries=queries,
        limit=body.integer("limit", DEFAULT_LIMIT),
        offset=body.integer("offset"),
        anns_field=anns_field,
        metric_type=metric_type,
        params=params,
        filter=body.text("filter"),
        templates=body.mapping("exprParams"),
        output_fields=body.texts("outputFields"),
        partition_names=body.texts("partitionNames"),
        query_type=query_type,
        ids=keys,
        function_score=_function_score(body),
        function_chains=function_chains(body),
        aggregation=aggregation,
    )


def hybrid_search(body: Body, schema: CollectionSchema) -> HybridSearchRequest:
    _check_level(body)
    for part in (body, *body.inners("search")):
        buckets.refuse_of_hybrid(part)
    name, partition_names = body.text("collectionName"), body.texts("partitionNames")
    rerank = body.inner("rerank")
    return HybridSearchRequest(
        name=name,
        searches=tuple(_sub_search(sub, schema, name, partition_names) for sub in body.inners("search")),
        rank_params={
            "strategy": rerank.text("strategy"),
            "params": json_text.dumps(rerank.mapping("params")).decode(),
            "limit": str(body.integer("limit", DEFAULT_LIMIT)),
            "offset": str(body.integer("offset")),
            **_grouping(body),
        },
        function_score=_function_score(body),
        output_fields=body.texts("outputFields"),
        partition_names=partition_names,
    )


def _sub_search(sub: Body, schema: CollectionSchema, name: str, partition_names: tuple[str, ...]) -> SearchRequest:
    """One search of a hybrid search; its offset is not read, as in Milvus."""
    sub.refuse_unserved()
    params, metric_type = _search_params(sub.mapping("params"))
    field = _search_field(schema, sub.text("annsField"))
    sub.integer("offset")
    query_type, queries = _queries(sub.array("data"), field)
    return SearchRequest(
        name=name,
        queries=queries,
        limit=sub.integer("limit"),
        anns_field=field.name,
        metric_type=metric_type,
        params=params,
        filter=sub.text("filter"),
        templates=sub.mapping("exprParams"),
        partition_names=partition_names,
        query_type=query_type,
    )


def _function_score(body: Body) -> FunctionScore | None:
    score = body.inner("functionScore")
    functions = tuple(_rank_function(function) for function in score.inners("functions"))
    return FunctionScore(functions, _texts_of(score.mapping("params"))) if functions else None


def _rank_function(function: Body) -> RankFunction:
    function_type(function)  # Milvus checks no more of it
    return RankFunction(function.text("name"), function.texts("inputFieldNames"), _texts_of(function.mapping("params")))


def _texts_of(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters of a function as text, lists and objects as JSON."""
    return {name: plain_text(value) for name, value in params.items()}


def _pairs(values: Mapping[str, object]) -> list[dict[str, str]]:
    return [{"key": k, "value": str(v)} for k, v in values.items()]


def field_basics(field: FieldSchema) -> dict[str, Any]:
    """What both versions of REST tell of a field."""
    details: dict[str, Any] = {
        "autoId": field.auto_id,
        "clusteringKey": False,
        "description": field.description,
        "name": field.name,
        "nullable": field.nullable,
        "partitionKey": field.is_partition_key,
        "primaryKey": field.is_primary,
        "type": field.data_type.milvus_name,
    }
    if field.made_by is not None:
        details["isFunctionOutput"] = True
    if field.default_value is not None:
        details["defaultValue"] = {"Data": {_DEFAULT_KINDS[field.data_type]: field.default_value}}
    return details


def _field_details(field: FieldSchema) -> dict[str, Any]:
    details = {**field_basics(field), "id": field.field_id}
    if field.element_type is not None:
        details["elementType"] = field.element_type.milvus_name
    params = {"dim": field.dim, "max_length": field.max_length, "max_capacity": field.max_capacity}
    given: dict[str, object] = {k: v for k, v in params.items() if v is not None}
    given.update(field.properties)
    if given:
        details["params"] = _pairs(given)
    return details


def _function_details(function: FunctionSchema) -> dict[str, Any]:
    return {
        "description": function.description,
        "id": function.function_id,
        "inputFieldNames": list(function.inputs),
        "name": function.name,
        "outputFieldNames": list(function.outputs),
        "params": _pairs(function.params),
        "type": int(function.function_type),
    }


def index_basics(index: IndexDescription) -> dict[str, str]:
    return {"fieldName": index.field_name, "indexName": index.name, "metricType": index.params.get("metric_type", "")}


def collection_details(
    collection: Collection,
    load_state: LoadState | None,
    indexes: list[IndexDescription],
    aliases: list[str],
    asked_name: str,
) -> dict[str, Any]:
    """`asked_name` is the name or alias in the request, which Milvus also returns."""
    schema = collection.schema
    return {
        "aliases": aliases,
        "autoId": schema.primary_field.auto_id,
        "collectionID": collection.collection_id,
        "collectionName": asked_name,
        "consistencyLevel": collection.consistency_level.milvus_name,
        "description": schema.description,
        "enableDynamicField": schema.enable_dynamic_field,
        "externalSource": "",
        "externalSpec": "",
        "fields": [_field_details(f) for f in schema.user_fields],
        "functions": [_function_details(f) for f in schema.functions],
        "indexes": [index_basics(index) for index in indexes],
        "load": "" if load_state is None else load_state.milvus_name,
        "partitionsNum": len(collection.partitions),
        "properties": _pairs(collection.described_properties),
        "shardsNum": collection.num_shards,
        "structFields": [],
    }


def index_details(description: IndexDescription) -> dict[str, Any]:
    params = description.params
    return {
        "failReason": description.failure,
        "fieldName": description.field_name,
        "indexName": description.name,
        "indexParams": _pairs(params),
        "indexState": IndexState(description.state).milvus_name,
        "indexType": params.get("index_type", ""),
        "indexedRows": description.indexed_rows,
        "indexoffsetcache.enabled": params.get("indexoffsetcache.enabled", ""),
        "maxIndexVersion": 0,
        "metricType": params.get("metric_type", ""),
        "minIndexVersion": 0,
        "mmap.enabled": params.get("mmap.enabled", ""),
        "pendingRows": description.pending_rows,
        "totalRows": description.total_rows,
        "warmup": params.get("warmup", ""),
    }


def search_stats(stats: SegmentSearchStats) -> dict[str, Any]:
    return {
        "segmentId": stats.segment_id,
        "segments": stats.segments,
        "state": "growing" if stats.is_growing else "sealed",
        "rows": stats.row_count,
        "rowsKept": stats.kept,
        "share": round(stats.kept / stats.row_count, 6),
        "plan": stats.way,
        "effort": stats.effort,
        "scannedQueries": stats.scanned_queries,
        "milliseconds": round(stats.ms, 3),
    }
