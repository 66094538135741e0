"""Searches that put their hits into buckets: by the values of fields, nested, with metrics and the best hits of each.

As in Milvus, a grouping search finds the hits. Its groups are by the fields of all levels together. Their number is the
product of the levels' `search_size`, and the hits of each are as many as the largest number of top hits. Buckets count
these hits only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.errors import ParameterInvalid
from milvine.model.columns import Column, ColumnBatch
from milvine.model.records import record
from milvine.model.requests import Buckets, OutputField
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.search_aggregation import Direction, Metric, SearchAggregation, TopHits, check_depth
from milvine.model.types import DataType
from milvine.segment.aggregation import Aggregate, Aggregation, reduced, table_of, what_adds
from milvine.segment.groups import GroupField, arranged, codes_of, column_of
from milvine.segment.ordering import SortKey, ordered_within
from milvine.service.reading.aggregates import Computed, aggregates_of, computed
from milvine.service.reading.grouping import Grouping, check_type
from milvine.service.reading.rank import GroupScorer
from milvine.service.reading.sorting import SORTABLE
from milvine.storage.arrow_batches import to_arrow

Array = np.ndarray[Any, Any]
MAX_ENTRIES = 10_000
SCORE, ALL, COUNT, KEY = "_score", "*", "_count", "_key"
_OPERATIONS = frozenset({"avg", "sum", "count", "min", "max"})
_DESCENDS = {"": True, "desc": True, "asc": False}
_SCORE_FIELD = FieldSchema(-1, SCORE, DataType.FLOAT)
"""Stands for the score of a hit among fields."""


@record
class _Metrics:
    """`columns`: by alias; their places are in the table of results, after its one key."""

    aggregation: Aggregation
    columns: Mapping[str, Computed]


@record
class _Level:
    """`order`: by `_count`, `_key` or a metric's alias, and whether it descends. `hit_order`: keys of fields, also of
    the score."""

    fields: tuple[FieldSchema, ...]
    size: int
    search_size: int
    metrics: _Metrics
    order: tuple[tuple[str, bool], ...]
    hit_count: int
    hit_order: tuple[SortKey, ...]


@record
class BucketPlan:
    """`grouping` finds the hits, in `group_count` groups."""

    levels: tuple[_Level, ...]
    grouping: Grouping
    group_count: int

    @property
    def field_ids(self) -> tuple[int, ...]:
        """The fields that are looked at."""
        found = (*self.grouping.field_ids, *(i for level in self.levels for i in _looked_at(level)))
        return tuple(dict.fromkeys(i for i in found if i != _SCORE_FIELD.field_id))

    def buckets(self, rows: ColumnBatch, scores: Array, counts: Array) -> Buckets:
        """The buckets of the hits of all queries. rows, scores: of the hits, query by query, nearest first; counts:
        int64 (nq,), hits of each query."""
        columns = {**rows.columns, _SCORE_FIELD.field_id: Column(DataType.FLOAT, scores)}
        query = np.repeat(np.arange(len(counts)), counts)
        return _buckets(self.levels, columns, np.arange(len(query)), query, len(counts))


def _looked_at(level: _Level) -> Iterator[int]:
    yield from (a.field_id for a in level.metrics.aggregation.aggregates if a.field_id is not None)
    yield from (key.field_id for key in level.hit_order)


def bucket_plan(asked: SearchAggregation, schema: CollectionSchema, nq: int) -> BucketPlan:
    """Raises ParameterInvalid with Milvus's texts."""
    specs: list[SearchAggregation] = []
    spec: SearchAggregation | None = asked
    while spec is not None:
        specs.append(spec)
        check_depth(len(specs))
        spec = spec.sub
    known: set[int] = set()
    levels = tuple(_level(spec, schema, known) for spec in specs)
    group_count = prod(level.search_size for level in levels)
    size = max(1, *(level.hit_count for level in levels))
    if nq * group_count * size > MAX_ENTRIES:
        raise ParameterInvalid("number of search_aggregation result entries is too large")
    fields = tuple(field for level in levels for field in level.fields)
    grouping = Grouping(
        fields=tuple(GroupField(field.field_id) for field in fields),
        schemas=fields,
        size=size,
        is_listed=True,
        is_strict_cast=False,
        scorer=GroupScorer.MAX,
    )
    return BucketPlan(levels, grouping, group_count)


def _level(spec: SearchAggregation, schema: CollectionSchema, known: set[int]) -> _Level:
    """`known`: the fields of the levels above; those of this level are added."""
    if not spec.fields:
        raise ParameterInvalid("group_by level has no fields")
    for name, size in (("size", spec.size), ("search_size", spec.search_size)):
        if size < 0:
            raise ParameterInvalid(f"search_aggregation {name} must be non-negative")
    size = spec.size or 1
    search_size = spec.search_size or size
    if search_size < size:
        raise ParameterInvalid("search_aggregation search_size must be greater than or equal to size")
    fields: list[FieldSchema] = []
    for name in spec.fields:
        field = _group_field(name, schema)
        if field in fields or field.field_id in known:
            place = "in one level" if field in fields else "across levels"
            raise ParameterInvalid(f"duplicated group_by field {_quoted(name)} {place}")
        fields.append(field)
    known |= {field.field_id for field in fields}
    metrics = _metrics(spec.metrics or {}, schema)
    order = tuple(_bucket_order(one, metrics) for one in spec.order)
    hit_count, hit_order = _top_hits(spec.top_hits, schema)
    return _Level(tuple(fields), size, search_size, metrics, order, hit_count, hit_order)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _found(name: str, schema: CollectionSchema) -> FieldSchema:
    """The field of a name or of a path in it; the dynamic field for any other name."""
    name = name.strip()
    if not name:
        raise ParameterInvalid("field is empty")
    base = name.split("[")[0] if "[" in name and "]" in name else name
    field = schema.by_name.get(name) or schema.by_name.get(base) or schema.dynamic_field
    if field is None:
        raise ParameterInvalid(f"field {_quoted(name)} not found in schema")
    return field


def _plain_field(name: str, schema: CollectionSchema, usage: str) -> FieldSchema:
    field = _found(name, schema)
    if field.data_type is DataType.JSON:
        raise ParameterInvalid(
            f"{usage} {_quoted(name)}: JSON / dynamic fields are not yet supported with search_aggregation"
        )
    if field.data_type is DataType.TIMESTAMPTZ:
        raise ParameterInvalid(
            f"{usage} {_quoted(name)}: TIMESTAMPTZ in search_aggregation is not supported by this version of Milvine"
        )
    return field


def _group_field(name: str, schema: CollectionSchema) -> FieldSchema:
    try:
        _found(name, schema)
    except ParameterInvalid as error:
        raise error.prefixed(f"invalid group_by field {_quoted(name)}") from error
    field = _plain_field(name, schema, "group_by field")
    if field.data_type.is_floating:
        raise ParameterInvalid(
            f"group_by field {_quoted(name)}: FLOAT / DOUBLE fields are not supported with search_aggregation "
            "(BucketKeyEntry has no float variant; equality on floats is fragile)"
        )
    check_type(field)
    return field


def _metrics(asked: Mapping[str, Metric], schema: CollectionSchema) -> _Metrics:
    aggregates: list[Aggregate] = []
    columns: dict[str, Computed] = {}
    for alias, metric in sorted(asked.items()):
        if not alias.strip():
            raise ParameterInvalid("metric alias cannot be empty")
        try:
            data_type, parts = _metric(metric, schema)
        except ParameterInvalid as error:
            raise error.prefixed(f"invalid metric {_quoted(alias)}") from error
        columns[alias] = computed(alias, data_type, parts, 1 + len(aggregates))
        aggregates.extend(parts)
    # The bucket's number is the one key of the table.
    return _Metrics(Aggregation((0,), tuple(aggregates)), columns)


def _metric(metric: Metric, schema: CollectionSchema) -> tuple[DataType, tuple[Aggregate, ...]]:
    operation, name = metric.operation.strip().lower(), metric.field_name.strip()
    if operation not in _OPERATIONS:
        raise ParameterInvalid(f"unsupported metric op {_quoted(metric.operation)}")
    if not name:
        raise ParameterInvalid("metric field_name is empty")
    if name == ALL:
        if operation != "count":
            raise ParameterInvalid("field_name '*' only supports count op")
        return aggregates_of(operation, None)
    field = _SCORE_FIELD if name == SCORE else _plain_field(name, schema, "metric field")
    return aggregates_of(operation, field)


def _descends(asked: Direction, where: str) -> bool:
    descends = _DESCENDS.get(asked.direction.strip().lower())
    if descends is None:
        raise ParameterInvalid(f"invalid {where} {_quoted(asked.key.strip())}: direction must be asc or desc")
    return descends


def _bucket_order(asked: Direction, metrics: _Metrics) -> tuple[str, bool]:
    key = asked.key.strip()
    if not key:
        raise ParameterInvalid("order key is empty")
    if key not in (COUNT, KEY) and key not in metrics.columns:
        raise ParameterInvalid(f"order key {_quoted(key)} is neither reserved key nor metric alias")
    return key, _descends(asked, "order direction for key")


def _top_hits(asked: TopHits | None, schema: CollectionSchema) -> tuple[int, tuple[SortKey, ...]]:
    """How many hits of each bucket are returned, and in which order."""
    if asked is None:
        return 0, ()
    if asked.size < 0:
        raise ParameterInvalid("top_hits size must be non-negative")
    return asked.size or 1, tuple(_hit_order(one, schema) for one in asked.sort)


def _hit_order(asked: Direction, schema: CollectionSchema) -> SortKey:
    name = asked.key.strip()
    if not name:
        raise ParameterInvalid("top_hits.sort field_name is empty")
    descends = _descends(asked, "top_hits.sort direction for")
    if name == SCORE:
        return SortKey(_SCORE_FIELD.field_id, descends, asked.nulls_first)
    if "[" in name and "]" in name:
        raise ParameterInvalid(f"top_hits.sort JSON path is not yet supported: {_quoted(name)}")
    try:
        _found(name, schema)
    except ParameterInvalid as error:
        raise error.prefixed(f"invalid top_hits.sort field {_quoted(name)}") from error
    field = _plain_field(name, schema, "top_hits.sort field")
    if field.data_type not in SORTABLE:
        raise ParameterInvalid(f"top_hits.sort field {_quoted(name)} has unsortable type {field.data_type.milvus_name}")
    return SortKey(field.field_id, descends, asked.nulls_first)


def _buckets(
    levels: Sequence[_Level], columns: Mapping[int, Column], hits: Array, parent: Array, parent_count: int
) -> Buckets:
    """The buckets of the first level and, in them, of the others.

    hits: int64 (m,), positions in the columns, parent by parent, those of a parent nearest first; parent: int64 (m,).
    """
    level, own_levels = levels[0], levels[1:]
    values = [to_arrow(columns[field.field_id].take(hits)) for field in level.fields]
    places = arranged(parent, codes_of(values), parent_count)
    number = (np.cumsum(places.counts) - places.counts)[parent] + places.groups
    count = int(places.counts.sum())
    sizes = np.bincount(number, minlength=count)
    owner = np.repeat(np.arange(parent_count), places.counts)
    firsts = pa.array(np.flatnonzero(places.members == 0))
    keys = [array.take(firsts) for array in values]
    metrics = _computed(level.metrics, columns, hits, number)
    chosen = _chosen(level, owner, sizes, keys, metrics)
    renumbered = np.full(count, -1, np.int64)
    renumbered[chosen] = np.arange(len(chosen))
    number = renumbered[number]
    order = np.argsort(number, kind="stable")[np.count_nonzero(number < 0) :]
    hits, number = hits[order], number[order]
    top, top_counts = _best(level, columns, hits, number, len(chosen))
    return Buckets(
        counts=np.bincount(owner[chosen], minlength=parent_count),
        keys=tuple(
            OutputField(field, column_of(field.data_type, array.take(pa.array(chosen))))
            for field, array in zip(level.fields, keys, strict=True)
        ),
        sizes=sizes[chosen],
        metrics={alias: column.take(chosen) for alias, column in metrics.items()},
        hits=top,
        hit_counts=top_counts,
        sub=_buckets(own_levels, columns, hits, number, len(chosen)) if own_levels else None,
    )


def _computed(metrics: _Metrics, columns: Mapping[int, Column], hits: Array, number: Array) -> dict[str, Column]:
    """The metrics of each bucket. number: int64 (m,), of the bucket of each hit."""
    if not metrics.columns:
        return {}
    aggregation = metrics.aggregation
    given = [
        what_adds(None if a.field_id is None else columns[a.field_id], hits, len(hits), a.operation)
        for a in aggregation.aggregates
    ]
    table = reduced(table_of([pa.array(number)], given, aggregation), aggregation).sort_by("g0")
    found = [column.combine_chunks() for column in table.columns]
    return {alias: column_of(one.schema.data_type, one.values(found)) for alias, one in metrics.columns.items()}


def _chosen(level: _Level, owner: Array, sizes: Array, keys: Sequence[Any], metrics: Mapping[str, Column]) -> Array:
    """Positions of the first buckets of each parent in the requested order. A NULL is smaller than all values."""
    columns: list[Column] = []
    order: list[SortKey] = []
    for key, descends in level.order:
        if key == COUNT:
            own = [Column(DataType.INT64, sizes)]
        elif key == KEY:
            own = [column_of(field.data_type, array) for field, array in zip(level.fields, keys, strict=True)]
        else:
            own = [metrics[key]]
        columns += own
        order += [SortKey(0, descends, not descends)] * len(own)
    positions = ordered_within(owner, columns, order)
    return positions[_rank(owner[positions]) < level.size]


def _rank(owner: Array) -> Array:
    """int64 (n,): the place of each among those of its owner. owner: ascending."""
    counts = np.bincount(owner)
    return np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]


def _best(level: _Level, columns: Mapping[int, Column], hits: Array, number: Array, count: int) -> tuple[Array, Array]:
    """The top hits of each bucket, and how many they are. Equal ones are ordered by distance and key."""
    if not level.hit_count:
        return hits[:0], np.zeros(count, np.int64)
    taken = [columns[key.field_id].take(hits) for key in level.hit_order]
    order = ordered_within(number, taken, level.hit_order)
    best = order[_rank(number[order]) < level.hit_count]
    return hits[best], np.bincount(number[best], minlength=count)
