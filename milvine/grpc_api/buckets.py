"""Searches that put hits into buckets: protobuf -> request, and buckets -> protobuf."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from milvine.grpc_api.proto import milvus_pb2, schema_pb2
from milvine.model.requests import Bucket, OutputField, ReadResult
from milvine.model.search_aggregation import Direction, Metric, SearchAggregation, TopHits
from milvine.model.types import DataType
from milvine.model.vectors import kind_of

_HIT_VALUES = {
    DataType.BOOL: "bool_val",
    DataType.INT8: "int_val",
    DataType.INT16: "int_val",
    DataType.INT32: "int_val",
    DataType.INT64: "int_val",
    DataType.FLOAT: "float_val",
    DataType.DOUBLE: "double_val",
    DataType.JSON: "bytes_val",
}
_BUCKET_VALUES = {bool: "bool_val", int: "int_val", float: "double_val", str: "string_val"}


def search_aggregation(spec: Any) -> SearchAggregation:
    return SearchAggregation(
        fields=tuple(spec.fields),
        size=spec.size,
        search_size=spec.search_size,
        metrics={alias: Metric(metric.op, metric.field_name) for alias, metric in spec.metrics.items()},
        order=tuple(Direction(one.key, one.direction) for one in spec.order),
        top_hits=_top_hits(spec.top_hits) if spec.HasField("top_hits") else None,
        sub=search_aggregation(spec.sub_aggregation) if spec.HasField("sub_aggregation") else None,
    )


def _top_hits(spec: Any) -> TopHits:
    return TopHits(spec.size, tuple(Direction(one.field_name, one.direction, one.null_first) for one in spec.sort))


def search_results(name: str, result: ReadResult) -> Any:
    ranking, buckets = result.ranking, result.buckets
    assert ranking is not None and buckets is not None
    response = milvus_pb2.SearchResults(collection_name=name, session_ts=result.ts)
    response.status.SetInParent()
    data = response.results
    data.num_queries = len(buckets.counts)
    data.topks.extend([0] * len(buckets.counts))
    data.agg_topks.extend(buckets.counts.tolist())
    data.all_search_count = int(ranking.counts.sum())
    hits = _hits(result)

    def message(bucket: Bucket) -> Any:
        made = schema_pb2.AggBucket(
            count=bucket.size, hits=[hits[place] for place in bucket.hits], sub_groups=bucket.sub
        )
        for field, value in bucket.keys:
            key = made.key.add(field_id=field.field_id, field_name=field.name)
            if value is not None:
                setattr(key, _BUCKET_VALUES[type(value)], value)
        for alias, value in bucket.metrics.items():
            setattr(made.metrics[alias], _BUCKET_VALUES[type(value)], value)
        return made

    data.agg_buckets.extend(buckets.built(message))
    return response


def _hits(result: ReadResult) -> list[Any]:
    assert result.ranking is not None
    keys = result.ranking.keys.values
    key_name = "int_pk" if isinstance(keys, np.ndarray) else "str_pk"
    hits = [
        schema_pb2.AggHit(score=score, **{key_name: key})
        for score, key in zip(
            result.ranking.scores.tolist(), keys.tolist() if key_name == "int_pk" else keys.to_pylist(), strict=True
        )
    ]
    for output in sorted(result.fields, key=lambda output: output.field.field_id):
        name = _HIT_VALUES.get(output.field.data_type, "string_val")
        for hit, value in zip(hits, _values(output), strict=True):
            field = hit.fields.add(field_id=output.field.field_id, field_name=output.field.name)
            if value is not None:
                setattr(field, name, value)
    return hits


def _values(output: OutputField) -> list[Any]:
    """The values of hits, None for NULLs; vectors and arrays as JSON."""
    column = output.column
    if column.data_type.is_vector:
        values = list(map(_json, kind_of(column.data_type).to_json(column.values)))
    elif column.data_type is DataType.ARRAY:
        values = list(map(_json, column.values.to_pylist()))
    else:
        values = column.values.tolist() if isinstance(column.values, np.ndarray) else column.values.to_pylist()
    if column.validity is None:
        return values
    return [value if is_valid else None for value, is_valid in zip(values, column.validity.tolist(), strict=True)]


def _json(value: Any) -> str:
    """float32 with the fewest digits that identify it."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS).decode()
