"""Groups of rows with equal values: the values, and the rows of chosen groups.

Values are Arrow arrays; a row without a value belongs to the group of NULL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.model.columns import Column
from milvine.model.json_paths import JsonPath, PathColumn, extract
from milvine.model.records import record
from milvine.model.types import DataType
from milvine.segment import json_values
from milvine.segment.group_codes import GroupCodes, mixed, mixed_codes
from milvine.segment.rows import RowSet
from milvine.storage.arrow_batches import to_arrow

Array = np.ndarray[Any, Any]


@record
class GroupField:
    """Rows are grouped by a field or, with `path`, by the value there in a JSON field; () is the whole document.

    `cast` is the type of the values at a path: values of other JSON types count as NULL. None: any value, as JSON text.
    """

    field_id: int
    path: JsonPath | None = None
    cast: DataType | None = None


def values_of(column: Column, field: GroupField) -> Any:
    """The values of a column of the field."""
    if field.path is None:
        return to_arrow(column)
    if field.cast is None and not field.path:
        return json_values.texts_of(column)
    return _at_path(extract(column.values, field.path), column, field)


def _at_path(found: PathColumn, column: Column, field: GroupField) -> Any:
    if field.cast is None:
        return json_values.texts_at(found, column, field.path or ())
    return json_values.typed(found, field.cast)


def column_of(data_type: DataType, array: Any) -> Column:
    """A column of the values of a scalar field, with fillers in place of NULLs."""
    validity = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
    if data_type is DataType.VARCHAR:
        return Column(data_type, array.fill_null(""), validity)
    filler = False if data_type is DataType.BOOL else 0
    return Column(data_type, array.fill_null(filler).to_numpy(zero_copy_only=False), validity)


def _values_in(rows: RowSet, field: GroupField) -> Any:
    column = rows.column(field.field_id)
    if not field.path:
        return values_of(column, field)
    return _at_path(rows.json_path(field.field_id, field.path), column, field)


def codes_of(values: Sequence[Any]) -> Array:
    """int64 (n,), equal where all the values are equal. values: an array of n for each field."""
    if len(values) == 1 and pa.types.is_integer(values[0].type) and not values[0].null_count:
        numbers: Array = values[0].to_numpy()
        return numbers.astype(np.int64, copy=False)
    return mixed_codes(values)


@record
class GroupFilter:
    """The rows of some groups, or of all others. keys: an array of their values for each field. `best`: only so many of
    the nearest rows of each group are needed; 0: all."""

    fields: tuple[GroupField, ...]
    keys: tuple[Any, ...]
    excludes: bool
    best: int = 0

    def mask(self, rows: RowSet) -> Array:
        """bool (n,)"""
        groups = self._groups(rows)
        chosen = self._is_among(groups.values)
        if self.excludes:
            others: Array = (~chosen).take(groups.codes)
            return others
        inside: Array = np.zeros(rows.row_count, np.bool_)
        inside[rows.groups.rows(self.fields, groups).of(np.flatnonzero(chosen))] = True
        return inside

    def are_needed(self, rows: RowSet, offsets: Array, distances: Array) -> Array:
        """bool (m,): which of these rows, nearest first, are among the `best` of their group or as near as the last
        of them."""
        if not len(offsets):
            return np.zeros(0, np.bool_)
        codes = self._groups(rows).codes.take(offsets)
        order = codes.argsort(kind="stable")
        ordered, near = codes[order], distances[order]
        ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(order))
        starts = np.append(0, ends[:-1])
        sizes = ends - starts
        last = near[np.minimum(starts + self.best, ends) - 1]
        needed = np.empty(len(order), np.bool_)
        needed[order] = near <= last.repeat(sizes)
        return needed

    def _groups(self, rows: RowSet) -> GroupCodes:
        return rows.groups.find(self.fields, lambda: [_values_in(rows, field) for field in self.fields])

    def _is_among(self, values: Sequence[Any]) -> Array:
        """bool (n,): which values are those of one of the keys. values: an array for each field."""
        if len(values) == 1:
            # A NULL among the keys finds NULLs.
            alone: Array = pc.is_in(values[0], value_set=self.keys[0]).to_numpy(zero_copy_only=False)
            return alone
        parts: list[tuple[Array, int]] = []
        for array, keys in zip(values, self.keys, strict=True):
            distinct = pc.unique(keys)
            places = pa.concat_arrays([pc.index_in(part, value_set=distinct) for part in (array, keys)])
            parts.append((places.fill_null(len(distinct)).to_numpy().astype(np.int64), len(distinct) + 1))
        codes = mixed(parts)
        inside: Array = np.isin(codes[: len(values[0])], codes[len(values[0]) :])
        return inside


@record
class Arrangement:
    """Where hits are in their groups. groups: int64 (m,), the position of the hit's group among those of its query, in
    the order of their first hits; members: int64 (m,), the position of the hit in its group. counts: int64 (nq,),
    groups of each query."""

    groups: Array
    members: Array
    counts: Array


def by_query_and_code(query: Array, codes: Array) -> tuple[Array, Array]:
    """Positions of the hits in the order of query and code, equal ones as they were; and bool (m,), where in that order
    another query or code begins."""
    order = np.lexsort((codes, query))
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (codes[order][1:] != codes[order][:-1]) | (query[order][1:] != query[order][:-1])
    return order, is_first


def arranged(query: Array, codes: Array, nq: int) -> Arrangement:
    """query, codes: int64 (m,), of hits ordered by query; nearest first."""
    if nq == 1:
        return _arranged_one(codes)
    count = len(query)
    order, is_first = by_query_and_code(query, codes)
    starts = np.flatnonzero(is_first)
    number = np.cumsum(is_first) - 1
    first_hits = order[starts]
    by_first = np.argsort(first_hits)
    counts = np.bincount(query[first_hits], minlength=nq)
    rank = np.empty(len(starts), np.int64)
    rank[by_first] = np.arange(len(starts)) - np.repeat(np.cumsum(counts) - counts, counts)
    groups, members = np.empty(count, np.int64), np.empty(count, np.int64)
    groups[order] = rank[number]
    members[order] = np.arange(count) - starts[number]
    return Arrangement(groups, members, counts)


def _arranged_one(codes: Array) -> Arrangement:
    """As `arranged`, of one query, at a third of the cost."""
    count = len(codes)
    order = codes.argsort(kind="stable")
    ordered = codes[order]
    is_first = np.ones(count, np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    (starts,) = is_first.nonzero()
    number = is_first.cumsum() - 1
    rank = np.empty(len(starts), np.int64)
    rank[order[starts].argsort()] = np.arange(len(starts))  # in the order of first hits
    groups, members = np.empty(count, np.int64), np.empty(count, np.int64)
    groups[order] = rank[number]
    members[order] = np.arange(count) - starts[number]
    return Arrangement(groups, members, np.array([len(starts)]))


def each_alone(counts: Array) -> Arrangement:
    """Each hit in a group of its own. counts: int64 (nq,), hits of each query."""
    total = int(counts.sum())
    first = np.repeat(np.cumsum(counts) - counts, counts)
    return Arrangement(np.arange(total) - first, np.zeros(total, np.int64), counts)
