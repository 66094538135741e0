"""Grouping search: the best rows of the nearest groups.

A search finds the nearest rows. As long as their groups are too few, it is repeated without these groups; then groups
that lack rows are filled by searches among their own rows. So all groups are found whatever the index, and few rows are
held at a time even if most near rows are of one group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.errors import FieldNotFound, ParameterInvalid, UnexpectedError
from milvine.model.columns import ColumnBatch, concat_batches
from milvine.model.records import record
from milvine.model.requests import OutputField
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import DataType
from milvine.model.vectors import kind_of
from milvine.segment.groups import Arrangement, GroupField, GroupFilter, arranged, codes_of, column_of, values_of
from milvine.segment.plans import Hits, SearchPlan, SegmentSearchStats
from milvine.segment.topk import select_winners
from milvine.service.field_paths import field_path
from milvine.service.reading.ann_params import TRUE
from milvine.service.reading.rank import GroupScorer

Array = np.ndarray[Any, Any]
MAX_GROUP_SIZE = 10
_MORE = 4
_MOST_AT_A_TIME = 16384
_CAST_TYPES = (DataType.BOOL, DataType.INT8, DataType.INT16, DataType.INT32, DataType.INT64, DataType.VARCHAR)
_CASTS = {t.milvus_name: t for t in _CAST_TYPES}
_GROUPED = frozenset({*_CAST_TYPES, DataType.TIMESTAMPTZ})


@record
class Grouping:
    """`size`: the most rows of a group. `is_listed`: the fields were given as a list, and so are their values in the
    answer. `is_strict_cast`: a value at a JSON path that is not of the wanted type is an error. `scorer` orders groups
    by the scores of a ranker."""

    fields: tuple[GroupField, ...]
    schemas: tuple[FieldSchema, ...]
    size: int
    is_listed: bool
    is_strict_cast: bool
    scorer: GroupScorer

    @property
    def field_ids(self) -> tuple[int, ...]:
        return tuple(field.field_id for field in self.fields)

    def values(self, rows: ColumnBatch) -> tuple[Any, ...]:
        """The Arrow array of each field."""
        found = tuple(values_of(rows.columns[field.field_id], field) for field in self.fields)
        at_paths = [array for field, array in zip(self.fields, found, strict=True) if field.path is not None]
        if self.is_strict_cast and any(array.null_count for array in at_paths):
            raise UnexpectedError("failed to cast json value, wrong json data inner type").prefixed("failed to search")
        return found

    def outputs(self, rows: ColumnBatch) -> tuple[OutputField, ...]:
        return tuple(
            OutputField(schema, column_of(schema.data_type, array))
            for schema, array in zip(self.schemas, self.values(rows), strict=True)
        )


def grouping_of(params: Mapping[str, Any], schema: CollectionSchema) -> Grouping | None:
    """None if no groups are requested. A single field takes precedence over a list."""
    single = str(params.get("group_by_field") or "").strip()
    listed = [name.strip() for name in str(params.get("group_by_fields") or "").split(",")]
    names = [single] if single else [name for name in listed if name]
    size = _size(params.get("group_size"))
    if not names:
        return None
    cast = _cast(params)
    fields, schemas = [], []
    for name in names:
        field, path_text = _field(schema, name)
        if path_text and len(names) > 1:
            raise ParameterInvalid(f"group_by with json path is not supported for multi-field group_by, field:{name}")
        path_text = str(params.get("json_path") or path_text)
        path = None
        if field.data_type is DataType.JSON:
            path = field_path(schema, field, path_text) if path_text else ()
        else:
            check_type(field)
        data_type = field.data_type if path is None else cast or DataType.VARCHAR
        fields.append(GroupField(field.field_id, path, None if path is None else cast))
        schemas.append(FieldSchema(field.field_id, field.name, data_type, nullable=True, is_dynamic=field.is_dynamic))
    is_strict = str(params.get("strict_cast", "")) in TRUE
    return Grouping(
        fields=tuple(fields),
        schemas=tuple(schemas),
        size=size,
        is_listed=not single,
        is_strict_cast=is_strict,
        scorer=_scorer(str(params.get("rank_group_scorer") or "max")),
    )


def _scorer(name: str) -> GroupScorer:
    try:
        return GroupScorer(name)
    except ValueError:
        raise ParameterInvalid(f'invalid group scorer "{name}", must be max/sum/avg') from None


def check_type(field: FieldSchema) -> None:
    """Raises UnexpectedError if rows cannot be grouped by the field."""
    if field.data_type not in _GROUPED:
        is_vector = field.data_type.is_vector
        shown = kind_of(field.data_type).engine_name if is_vector else field.data_type.name
        raise UnexpectedError(f"failed to search: unsupported data type {shown} for group by operator")


def check_grouped_field(field: FieldSchema) -> None:
    """`field`: of the searched vectors."""
    kind = kind_of(field.data_type)
    if not kind.can_group_hits:
        raise ParameterInvalid(f"not support search_group_by operation based on {kind.noun} vector column")


def _size(given: Any) -> int:
    try:
        size = 1 if given is None else int(str(given))
    except ValueError:
        raise ParameterInvalid(f"failed to parse input group size:{given}") from None
    if size <= 0:
        raise ParameterInvalid(f"input group size:{size} is negative, failed to do search_groupby")
    if size > MAX_GROUP_SIZE:
        raise ParameterInvalid(f"input group size:{size} exceeds configured max group size:{MAX_GROUP_SIZE}")
    return size


def _cast(params: Mapping[str, Any]) -> DataType | None:
    """The type of the values at a JSON path; Milvus ignores unknown names."""
    name = str(params.get("json_type") or "")
    if name in ("Float", "Double", "JSON", "Array"):
        raise UnexpectedError(f"failed to search: unsupported json_type {name.upper()} for JSON group by")
    return _CASTS.get(name)


def _field(schema: CollectionSchema, name: str) -> tuple[FieldSchema, str]:
    """The field, and the text of a path in it, or an empty one."""
    base = name.split("[")[0] if "[" in name and "]" in name else name
    field, dynamic = schema.by_name.get(base), schema.dynamic_field
    if field is not None:
        return field, name if base != name and field.data_type is DataType.JSON else ""
    if dynamic is None:
        raise FieldNotFound(name, "groupBy field not found in schema")
    return dynamic, name


class _Found:
    """Rows that were found for one query, nearest first, one per key."""

    def __init__(self, grouping: Grouping, primary_id: int, rows: ColumnBatch, distances: Array) -> None:
        self._grouping = grouping
        self._primary_id = primary_id
        self._set(rows, distances)

    def _set(self, rows: ColumnBatch, distances: Array) -> None:
        self.rows, self.distances = rows, distances
        query = np.zeros(len(distances), np.int64)
        self.values = self._grouping.values(rows)
        self.places = arranged(query, codes_of(self.values), 1)
        self.group_count = int(self.places.counts[0])

    def take(self, positions: Array) -> tuple[ColumnBatch, Array]:
        return self.rows.take(positions), self.distances[positions]

    def add(self, rows: ColumnBatch, distances: Array) -> None:
        joined = concat_batches([self.rows, rows])
        all_distances = np.concatenate((self.distances, distances))
        keys = joined.columns[self._primary_id].values
        order, _ = select_winners(np.zeros(len(all_distances), np.int64), all_distances, keys, 1, None)
        self._set(joined.take(order), all_distances[order])

    def filter(self, groups: Array, excludes: bool, best: int) -> GroupFilter:
        """The rows of these groups (positions), or of all others; `best` as there."""
        is_named = np.zeros(self.group_count, np.bool_)
        is_named[groups] = True
        firsts = np.flatnonzero((self.places.members == 0) & is_named[self.places.groups])
        keys = tuple(array.take(pa.array(firsts)) for array in self.values)
        return GroupFilter(self._grouping.fields, keys, excludes, best)

    def lacking(self, wanted: int) -> Array:
        """The groups among the first `wanted` with fewer rows than they may have."""
        sizes = np.bincount(self.places.groups, minlength=self.group_count)
        return np.flatnonzero(sizes[:wanted] < self._grouping.size)

    def chosen(self, wanted: int) -> Array:
        """Positions of the rows of the answer."""
        places = self.places
        return np.flatnonzero((places.groups < wanted) & (places.members < self._grouping.size))


Search = Callable[[SearchPlan], Hits | None]


def grouped(search: Search, plan: SearchPlan, grouping: Grouping, wanted: int) -> Hits | None:
    """The best rows, at most `grouping.size` of each, of the `wanted` nearest groups of each query, nearest first.

    `search` runs a plan. `plan.output_field_ids` has the fields of the groups.
    """
    k = min(2 * wanted * grouping.size + 8, max(_MOST_AT_A_TIME, wanted))
    first = search(plan.changed(k=k, effort=plan.effort.reaching(k + 1)))
    if first is None:
        return None
    ends = np.cumsum(first.counts)
    stats = list(first.segment_stats)
    pieces: list[tuple[ColumnBatch, Array]] = []
    for number, (end, count) in enumerate(zip(ends.tolist(), first.counts.tolist(), strict=True)):
        span = slice(end - count, end)
        rows = first.rows if len(ends) == 1 else first.rows.slice(span.start, span.stop)
        found = _Found(grouping, plan.primary_field_id, rows, first.distances[span])
        if count == k:
            one = plan.changed(queries=plan.queries[number : number + 1])
            _complete(search, one, found, grouping.size, wanted, stats)
        pieces.append(found.take(found.chosen(wanted)))
    return Hits(
        np.array([len(distances) for _, distances in pieces], np.int64),
        np.concatenate([distances for _, distances in pieces]),
        concat_batches([rows for rows, _ in pieces]),
        tuple(stats),
    )


def _complete(
    search: Search, plan: SearchPlan, found: _Found, size: int, wanted: int, stats: list[SegmentSearchStats]
) -> None:
    """Finds the groups and the rows that the nearest rows lack."""

    def more(groups: Array, excludes: bool, k: int, best: int = 0) -> bool:
        """Whether these were all such rows."""
        hits = search(plan.changed(k=k, groups=found.filter(groups, excludes, best)))
        if hits is None:
            return True
        stats.extend(hits.segment_stats)
        found.add(hits.rows, hits.distances)
        # A key that two segments hold counts once, so that one of them may lack a row that it was not asked for.
        return len(hits.distances) < k and (best == 0 or len(hits.segment_stats) == 1)

    k = max(wanted, 1)
    while found.group_count < wanted:
        k = min(_MORE * k, _MOST_AT_A_TIME)
        if more(np.arange(found.group_count), True, k):
            break
    left = found.lacking(wanted) if size > 1 else np.zeros(0, np.int64)
    k = _MORE * len(left) * size
    best = size
    while len(left) and not more(left, False, k, best):
        best = 0
        # An approximate index may find a nearer row of a group, and then the positions of groups change.
        still = found.lacking(wanted)
        k = _MORE * (len(still) * size if len(still) < len(left) else k)
        left = still


def group_by_group(query: Array, places: Arrangement, offset: int, limit: int) -> tuple[Array, Array]:
    """Positions of the hits of the groups after the first `offset` of each query, group by group, and the number of
    hits of each query. query: int64 (m,), of hits nearest first."""
    kept = np.flatnonzero((places.groups >= offset) & (places.groups < offset + limit))
    order = kept[np.lexsort((places.members[kept], places.groups[kept], query[kept]))]
    return order, np.bincount(query[order], minlength=len(places.counts))
