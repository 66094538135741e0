"""Searches that put hits into buckets: JSON -> request, and buckets -> JSON."""

from __future__ import annotations

from typing import Any

from milvine.errors import ParameterInvalid
from milvine.model.json_text import plain_text
from milvine.model.requests import Bucket, ReadResult
from milvine.model.search_aggregation import Direction, Metric, SearchAggregation, TopHits, check_depth
from milvine.rest_api import rows
from milvine.rest_api.body import Body


def search_aggregation(body: Body) -> SearchAggregation | None:
    """None if the search has none. Raises ParameterInvalid also for what does not go with one."""
    if body.value("searchAggregation") is None:
        return None
    params = body.mapping("searchParams")
    inner = params.get("params")
    given = params.keys() | (inner.keys() if isinstance(inner, dict) else frozenset())
    if body.array("ids"):
        raise ParameterInvalid("ids and searchAggregation cannot be used simultaneously")
    if body.integer("offset"):
        raise ParameterInvalid("offset is not supported with searchAggregation")
    if "offset" in given:
        raise ParameterInvalid("searchParams.offset is not supported with searchAggregation")
    if body.text("groupingField") or body.integer("groupSize") or body.boolean("strictGroupSize"):
        raise ParameterInvalid(
            "groupingField/groupSize/strictGroupSize and searchAggregation cannot be used simultaneously"
        )
    if {"group_by_field", "group_by_fields"} & given:
        raise ParameterInvalid("searchParams.group_by_field(s) and searchAggregation cannot be used simultaneously")
    if body.texts("orderByFields"):
        raise ParameterInvalid("orderByFields and searchAggregation cannot be used simultaneously")
    return _aggregation(body.inner("searchAggregation"), 1)


def refuse_of_hybrid(body: Body) -> None:
    if body.value("searchAggregation") is not None:
        raise ParameterInvalid("searchAggregation is not supported for hybrid search")


def _aggregation(body: Body, depth: int) -> SearchAggregation:
    check_depth(depth)
    fields = tuple(name.strip() for name in body.texts("fields"))
    size, search_size = body.long("size"), body.long("searchSize")
    if not fields:
        raise ParameterInvalid("searchAggregation.fields must be non-empty")
    if not all(fields):
        raise ParameterInvalid("searchAggregation.fields must contain non-empty field names")
    if size <= 0:
        raise ParameterInvalid("searchAggregation.size must be positive")
    if search_size < 0:
        raise ParameterInvalid("searchAggregation.searchSize must be non-negative")
    if 0 < search_size < size:
        raise ParameterInvalid("searchAggregation.searchSize must be greater than or equal to size")
    metrics = body.inner("metrics")
    return SearchAggregation(
        fields=fields,
        size=size,
        search_size=search_size,
        metrics={alias.strip(): _metric(alias.strip(), metrics.inner(alias)) for alias in metrics.values},
        order=tuple(_direction(one, "key", "order key") for one in body.inners("order")),
        top_hits=None if body.value("topHits") is None else _top_hits(body.inner("topHits")),
        sub=None if body.value("subAggregation") is None else _aggregation(body.inner("subAggregation"), depth + 1),
    )


def _metric(alias: str, body: Body) -> Metric:
    if not alias:
        raise ParameterInvalid("searchAggregation.metrics alias must be non-empty")
    for name in ("op", "fieldName"):
        if not body.text(name).strip():
            raise ParameterInvalid(f"searchAggregation.metrics.{alias}.{name} must be non-empty")
    return Metric(body.text("op"), body.text("fieldName"))


def _direction(body: Body, name: str, noun: str) -> Direction:
    key, direction = body.text(name).strip(), body.text("direction").strip()
    if not key:
        raise ParameterInvalid(f"searchAggregation.{noun} must be non-empty")
    if not direction:
        raise ParameterInvalid(f"searchAggregation.{noun.split()[0]} direction must be non-empty")
    return Direction(key, direction)


def _top_hits(body: Body) -> TopHits:
    size = body.long("size")
    if size <= 0:
        raise ParameterInvalid("searchAggregation.topHits.size must be positive")
    sort = (_direction(one, "fieldName", "topHits.sort fieldName") for one in body.inners("sort"))
    return TopHits(size, tuple(sort))


def answer(result: ReadResult, int64_as_text: bool) -> dict[str, Any]:
    buckets = result.buckets
    assert buckets is not None
    hits = rows.of_search(result, int64_as_text)

    def shown(value: Any) -> Any:
        return plain_text(value) if int64_as_text and type(value) is int else value

    def made(bucket: Bucket) -> dict[str, Any]:
        return {
            "key": [
                {"fieldName": field.name, "fieldId": shown(field.field_id), "value": shown(value)}
                for field, value in bucket.keys
            ],
            "count": shown(bucket.size),
            "metrics": {alias: shown(value) for alias, value in bucket.metrics.items()},
            "hits": [hits[place] for place in bucket.hits],
            "subGroups": bucket.sub,
        }

    found = iter(buckets.built(made))
    counts = buckets.counts.tolist()
    data = [{"buckets": [next(found) for _ in range(count)]} for count in counts]
    return {"data": data, "cost": 0, "aggTopks": counts}
