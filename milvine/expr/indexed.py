"""Filters answered by an index of values, with the same result as from the columns.

An index may decline if it lacks a kind of values, or if scanning the column is faster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from milvine.expr.arrays import comparable
from milvine.expr.like import prefix_of
from milvine.expr.path_values import whole
from milvine.expr.predicate import Compare, Contains, In, Like, LiteralSet, Regex, Target, integer_equivalent
from milvine.expr.tree import Comparator, ContainsMode, Scalar
from milvine.model.columns import Column
from milvine.model.json_paths import JsonKind, JsonPath
from milvine.model.types import DataType

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Answer = tuple[Mask, Mask | None]
"""Rows that match, and rows that are comparable (None: all); a row must be in both."""

_NUMBERS = (JsonKind.INT, JsonKind.DOUBLE)


class Postings(Protocol):
    """Finds rows by values of one kind; rows without such a value never match, nor does NaN."""

    def between(self, low: Any, high: Any, with_low: bool, with_high: bool) -> Mask | None:
        """Rows with a value in the interval, and perhaps rows without a value; a bound of None is open.

        Returns None if scanning the column would be faster.
        """
        ...

    def starting_with(self, prefix: str) -> Mask | None: ...

    def among(self, wanted: Any) -> Mask: ...

    def with_all(self, wanted: Any) -> Mask:
        """Rows whose array has all of the values, which are distinct and at least one."""
        ...


class ValueIndex(Protocol):
    """The values of a field or of a JSON path, separated by kind; a field that is not JSON has one kind."""

    @property
    def reads_numbers(self) -> bool:
        """Whether numbers in texts count as numbers."""
        ...

    def covers(self, kinds: Sequence[JsonKind]) -> bool:
        """Whether all values of these kinds are indexed."""
        ...

    def postings(self, kind: JsonKind) -> Postings | None:
        """None if no row has such a value."""
        ...

    def known(self, kinds: Sequence[JsonKind]) -> Mask:
        """JSON rows with a value of these kinds or, if elements are indexed, with an array."""
        ...


class IndexSource(Protocol):
    @property
    def row_count(self) -> int: ...

    def column(self, field_id: int) -> Column: ...

    def value_index(self, field_id: int, path: JsonPath, has_elements: bool) -> ValueIndex | None: ...


def answer(predicate: Compare | In | Like | Contains, source: IndexSource) -> Answer | None:
    """None if there is no such index, or it declines."""
    target = predicate.target
    if target.is_length or (target.path and target.data_type is DataType.ARRAY):
        return None
    if target.data_type is DataType.JSON and not target.path and not isinstance(predicate, Contains):
        return None  # an older index of whole documents may lack their own values
    index = source.value_index(target.field_id, target.path, isinstance(predicate, Contains))
    if index is None or index.reads_numbers != reads_numbers(predicate):
        return None
    if target.data_type is DataType.JSON:
        return _at_path(predicate, index, source.row_count)
    matches = _in_field(predicate, index, target, source.row_count)
    return None if matches is None else (matches, source.column(target.field_id).validity)


def reads_numbers(predicate: Compare | In | Like | Regex | Contains) -> bool:
    """Whether numbers in texts count as numbers."""
    match predicate:
        case Compare(Target(reads_numbers=True), _, value):
            return isinstance(value, int | float) and not isinstance(value, bool)
        case In(Target(reads_numbers=True), values):
            return values.has_only_numbers
        case _:
            return False


def _in_field(
    predicate: Compare | In | Like | Contains, index: ValueIndex, target: Target, row_count: int
) -> Mask | None:
    kind = _kind_of(target.element_type or target.data_type)
    postings = index.postings(kind)
    if postings is None:
        return None
    match predicate:
        case Compare(_, comparator, value):
            return _compare(postings, comparator, value)
        case In(_, values):
            wanted = _of_kind(values, kind)
            return np.zeros(row_count, np.bool_) if wanted is None else postings.among(wanted)
        case Like(_, pattern):
            prefix = prefix_of(pattern)
            return None if prefix is None else postings.starting_with(prefix)
        case Contains(_, mode, values):
            assert target.element_type is not None
            wanted, count = comparable(target.element_type, values)
            if mode is not ContainsMode.ALL:
                return postings.among(wanted)
            if len(wanted) < count or count == 0:
                return np.full(row_count, count == 0)
            return postings.with_all(wanted)


def _kind_of(data_type: DataType) -> JsonKind:
    if data_type is DataType.VARCHAR:
        return JsonKind.STRING
    if data_type is DataType.BOOL:
        return JsonKind.BOOL
    return JsonKind.DOUBLE if data_type.is_floating else JsonKind.INT


def _of_kind(values: LiteralSet, kind: JsonKind) -> Any | None:
    match kind:
        case JsonKind.BOOL:
            return values.booleans
        case JsonKind.INT:
            return values.integers
        case JsonKind.DOUBLE:
            return values.doubles
        case _:
            return values.strings


def _compare(postings: Postings, comparator: Comparator, value: Scalar) -> Mask | None:
    if isinstance(value, float) and math.isnan(value):
        return None
    match comparator:
        case Comparator.EQ:
            return postings.between(value, value, True, True)
        case Comparator.NE:
            equal = postings.between(value, value, True, True)
            return None if equal is None else ~equal
        case Comparator.LT | Comparator.LE:
            return postings.between(None, value, True, comparator is Comparator.LE)
        case _:
            return postings.between(value, None, comparator is Comparator.GE, True)


def _at_path(predicate: Compare | In | Like | Contains, index: ValueIndex, row_count: int) -> Answer | None:
    match predicate:
        case Compare(_, comparator, value):
            kinds = _kinds_like(value)
            if not index.covers(kinds):
                return None
            found = [_compare_kind(index, kind, comparator, value, row_count) for kind in kinds]
        case In(_, values) | Contains(_, _, values):
            kinds = _kinds_among(values)
            if not kinds or not index.covers(kinds):
                return None
            if isinstance(predicate, In) and len({_group(k) for k in kinds}) > 1:
                return None
            if isinstance(predicate, Contains) and predicate.mode is ContainsMode.ALL:
                return _has_all(index, values, row_count), index.known(kinds)
            found = [_among_kind(index, kind, values, row_count) for kind in kinds]
        case Like(_, pattern):
            kinds, prefix = (JsonKind.STRING,), prefix_of(pattern)
            if prefix is None or not index.covers(kinds):
                return None
            texts = index.postings(JsonKind.STRING)
            found = [_no_row(row_count) if texts is None else texts.starting_with(prefix)]
    masks = [mask for mask in found if mask is not None]
    if len(masks) < len(found):
        return None
    return np.logical_or.reduce(masks), index.known(kinds)


def _no_row(row_count: int) -> Mask:
    return np.zeros(row_count, np.bool_)


def _group(kind: JsonKind) -> JsonKind:
    """Integers and floating numbers are one kind."""
    return JsonKind.INT if kind is JsonKind.DOUBLE else kind


def _kinds_like(value: Scalar) -> tuple[JsonKind, ...]:
    if isinstance(value, str):
        return (JsonKind.STRING,)
    return (JsonKind.BOOL,) if isinstance(value, bool) else _NUMBERS


def _kinds_among(values: LiteralSet) -> tuple[JsonKind, ...]:
    kinds: list[JsonKind] = []
    if values.booleans is not None:
        kinds.append(JsonKind.BOOL)
    if values.integers is not None or values.doubles is not None:
        kinds += _NUMBERS
    if values.strings is not None:
        kinds.append(JsonKind.STRING)
    return tuple(kinds)


def _compare_kind(
    index: ValueIndex, kind: JsonKind, comparator: Comparator, value: Scalar, row_count: int
) -> Mask | None:
    """Only rows of one kind that match; rows of other kinds are left out."""
    postings = index.postings(kind)
    if postings is None:
        return _no_row(row_count)
    if kind is JsonKind.INT and isinstance(value, float):
        comparator, value = integer_equivalent(comparator, value)
    elif kind is JsonKind.DOUBLE:
        value = float(value)
    matches = _compare(postings, comparator, value)
    return None if matches is None else matches & index.known((kind,))


def _among_kind(index: ValueIndex, kind: JsonKind, values: LiteralSet, row_count: int) -> Mask:
    postings = index.postings(kind)
    if postings is None:
        return _no_row(row_count)
    if kind not in _NUMBERS:
        return postings.among(_of_kind(values, kind))
    both = [numbers for numbers in (values.integers, values.doubles) if numbers is not None]
    if kind is JsonKind.INT:
        return postings.among(np.concatenate([whole(numbers) for numbers in both]))
    return postings.among(np.concatenate([numbers.astype(np.float64) for numbers in both]))


def _has_all(index: ValueIndex, values: LiteralSet, row_count: int) -> Mask:
    """Rows whose array has every value; an integer and a double may be the same element."""
    matches = np.ones(row_count, np.bool_)
    for value in values.scalars():
        single = np.array([value]) if not isinstance(value, str) else pa.array([value], pa.string())
        one = LiteralSet(**{_SET_OF[type(value)]: single})
        found = [_among_kind(index, kind, one, row_count) for kind in _kinds_like(value)]
        matches &= np.logical_or.reduce(found)
        if not matches.any():
            break
    return matches


_SET_OF: dict[type, str] = {bool: "booleans", int: "integers", float: "doubles", str: "strings"}
