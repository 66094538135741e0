"""Predicate + columns -> the rows for which it is true.

Inside, logic is Kleene's with three values; at the top an unknown row is dropped. All work over rows is
numpy's and pyarrow's. What is unknown: NULL in a comparison, and in JSON also a missing path, JSON null, and
a value of another kind than the literal (Milvus 3: `"2" != 2` is unknown, not true). Numbers are one kind,
whether integer or floating. `in` over literals of several kinds is the `or` of its `==`.

`exists` is true for all but JSON null and a missing path. Milvus also calls empty objects and arrays not
existing; path columns do not tell those from full ones, so here they exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.expr import arrays
from milvine.expr.arithmetic import compute
from milvine.expr.indexed import ValueIndex, answer
from milvine.expr.like import match_pattern
from milvine.expr.predicate import (
    OPERATORS,
    Always,
    And,
    ArrayEquals,
    Compare,
    CompareComputed,
    CompareFields,
    Contains,
    Exists,
    In,
    IsNull,
    Like,
    LiteralSet,
    Not,
    Or,
    Predicate,
    Target,
    integer_equivalent,
    literal_set,
)
from milvine.expr.tree import Comparator, ContainsMode, Scalar
from milvine.model.columns import NUMPY_DTYPES, Column
from milvine.model.json_paths import JsonKind, JsonPath, PathColumn, PathElements
from milvine.model.types import DataType

Mask = np.ndarray[Any, np.dtype[np.bool_]]

_PYARROW_COMPARATORS = {
    Comparator.EQ: pc.equal,
    Comparator.NE: pc.not_equal,
    Comparator.LT: pc.less,
    Comparator.LE: pc.less_equal,
    Comparator.GT: pc.greater,
    Comparator.GE: pc.greater_equal,
}


class ColumnSource(Protocol):
    """The rows to look at; what is asked for once may be asked for again."""

    @property
    def row_count(self) -> int: ...

    def column(self, field_id: int) -> Column: ...

    def json_path(self, field_id: int, path: JsonPath) -> PathColumn: ...

    def json_elements(self, field_id: int, path: JsonPath) -> PathElements: ...

    def value_index(self, field_id: int, path: JsonPath, has_elements: bool) -> ValueIndex | None:
        """What may answer in place of the column: an index of the values there, or of the elements of arrays."""
        ...


def evaluate(predicate: Predicate, source: ColumnSource) -> Mask:
    """bool (row_count,), True where the predicate is true: neither false nor unknown."""
    return _Evaluation(source).truth(predicate).true


@dataclass(frozen=True, slots=True)
class _Truth:
    """Disjoint masks; `unknown` None: no row is."""

    true: Mask
    unknown: Mask | None = None

    @property
    def possible(self) -> Mask:
        """True or unknown."""
        return self.true if self.unknown is None else self.true | self.unknown

    def negated(self) -> _Truth:
        return _Truth(~self.possible, self.unknown)

    def conjoined(self, other: _Truth) -> _Truth:
        true = self.true & other.true
        if self.unknown is None and other.unknown is None:
            return _Truth(true)
        return _Truth(true, self.possible & other.possible & ~true)

    def disjoined(self, other: _Truth) -> _Truth:
        true = self.true | other.true
        if self.unknown is None and other.unknown is None:
            return _Truth(true)
        return _Truth(true, (self.possible | other.possible) & ~true)


def _where_known(matches: Mask, known: Mask | None) -> _Truth:
    return _Truth(matches) if known is None else _Truth(matches & known, ~known)


class _Evaluation:
    def __init__(self, source: ColumnSource) -> None:
        self._source = source

    def truth(self, predicate: Predicate) -> _Truth:
        match predicate:
            case Always(value):
                return _Truth(np.full(self._source.row_count, value))
            case And(operands):
                return reduce(_Truth.conjoined, map(self.truth, operands))
            case Or(operands):
                return reduce(_Truth.disjoined, map(self.truth, operands))
            case Not(operand):
                return self.truth(operand).negated()
            case IsNull(target):
                return self._is_null(target)
            case Compare() | In() | Like() | Contains() if found := answer(predicate, self._source):
                return _where_known(*found)
            case Exists(target):
                return self._exists(target)
            case CompareComputed():
                return self._compare_computed(predicate)
            case CompareFields():
                return self._compare_fields(predicate)
            case Contains():
                return self._contains(predicate)
            case ArrayEquals(target, values):
                column = self._source.column(target.field_id)
                assert target.element_type is not None
                return _where_known(arrays.equals(column, target.element_type, values), column.validity)
            case Compare(target) | In(target) | Like(target) if target.path and target.value_type is DataType.JSON:
                known, matches = self._at_path(predicate)
                return _where_known(matches, self._and_valid(known, target))
            case Compare(target, comparator, value):
                column = self._column(target)
                return _where_known(_compare(column, comparator, value), column.validity)
            case In(target, values):
                column = self._column(target)
                return _where_known(_is_in(column, values), column.validity)
            case Like(target, pattern):
                column = self._column(target)
                return _where_known(_to_mask(match_pattern(column.values, pattern)), column.validity)

    def _column(self, target: Target) -> Column:
        """The values that a target outside of JSON paths has, one a row."""
        if target.is_length and target.data_type is DataType.JSON:
            elements = self._source.json_elements(target.field_id, target.path)
            known = self._and_valid(elements.is_array, target)
            return Column(DataType.INT64, np.diff(elements.starts), known)
        column = self._source.column(target.field_id)
        if target.is_length:
            return arrays.lengths(column)
        if target.element_type is not None and target.path:
            return arrays.element_at(column, target.element_type, int(target.path[0]))
        return column

    def _contains(self, predicate: Contains) -> _Truth:
        target, mode, values = predicate.target, predicate.mode, predicate.values
        if target.element_type is not None:
            column = self._source.column(target.field_id)
            return _where_known(arrays.contains(column, target.element_type, mode, values), column.validity)
        elements = self._source.json_elements(target.field_id, target.path)
        matches = _path_contains(elements, mode, values)
        return _where_known(matches, self._and_valid(elements.is_array, target))

    def _is_null(self, target: Target) -> _Truth:
        validity = self._source.column(target.field_id).validity
        return _Truth(np.zeros(self._source.row_count, np.bool_) if validity is None else ~validity)

    def _exists(self, target: Target) -> _Truth:
        """Unknown where the whole field is NULL, so that its negation is no match either."""
        kinds = self._source.json_path(target.field_id, target.path).kinds
        return _where_known(kinds > JsonKind.NULL, self._and_valid(None, target))

    def _and_valid(self, known: Mask | None, target: Target) -> Mask | None:
        """`known` without the rows where the JSON field itself is NULL."""
        validity = self._source.column(target.field_id).validity if target.is_nullable else None
        if validity is None or known is None:
            return validity if known is None else known
        return known & validity

    def _compare_computed(self, predicate: CompareComputed) -> _Truth:
        target, compare = predicate.target, OPERATORS[predicate.comparator]
        if target.value_type is not DataType.JSON:
            column = self._column(target)
            if column.data_type is DataType.FLOAT and target.data_type is DataType.FLOAT:
                operand, value = np.array((predicate.operand, predicate.value)).astype(np.float32)
            else:
                operand, value = predicate.operand, predicate.value
            return _where_known(compare(compute(column.values, predicate.operation, operand), value), column.validity)
        numbers = self._source.json_path(target.field_id, target.path)
        matches, known = _none(numbers), _none(numbers)
        for kind, values in ((JsonKind.INT, numbers.integers), (JsonKind.DOUBLE, numbers.doubles)):
            if values is not None:
                is_kind = numbers.kinds == kind
                known |= is_kind
                found = compute(values, predicate.operation, predicate.operand)
                matches |= is_kind & compare(found, predicate.value)
        return _where_known(matches, self._and_valid(known, target))

    def _compare_fields(self, predicate: CompareFields) -> _Truth:
        left = self._source.column(predicate.left.field_id)
        right = self._source.column(predicate.right.field_id)
        if left.data_type is DataType.VARCHAR:
            matches = _to_mask(_PYARROW_COMPARATORS[predicate.comparator](left.values, right.values))
        else:
            matches = OPERATORS[predicate.comparator](left.values, right.values)
        validities = [c.validity for c in (left, right) if c.validity is not None]
        return _where_known(matches, reduce(np.logical_and, validities) if validities else None)

    def _at_path(self, predicate: Compare | In | Like) -> tuple[Mask, Mask]:
        """(rows whose value is comparable, rows that match) in a JSON path; only rows of both count."""
        column = self._source.json_path(predicate.target.field_id, predicate.target.path)
        match predicate:
            case Compare(_, comparator, value):
                return _kind_known(column, literal_set([value])), _compare_path(column, comparator, value)
            case In(_, values):
                matches = _path_is_in(column, values)
                return _kind_known(column, values) | matches, matches
            case Like(_, pattern):
                texts = column.strings
                matches = _none(column) if texts is None else _to_mask(match_pattern(texts, pattern))
                return column.kinds == JsonKind.STRING, matches


def _to_mask(matches: Any) -> Mask:
    if matches.null_count:
        matches = matches.fill_null(False)
    mask: Mask = matches.to_numpy(zero_copy_only=False)
    return mask


def _none(column: PathColumn) -> Mask:
    return np.zeros(len(column), np.bool_)


def _compare(column: Column, comparator: Comparator, value: Scalar) -> Mask:
    if column.data_type is DataType.VARCHAR:
        return _to_mask(_PYARROW_COMPARATORS[comparator](column.values, pa.scalar(value, pa.string())))
    if column.data_type is DataType.FLOAT:
        with np.errstate(over="ignore"):  # beyond float32 is infinite, as in C++
            value = NUMPY_DTYPES[DataType.FLOAT].type(value)
    matches: Mask = OPERATORS[comparator](column.values, value)
    return matches


def _is_in(column: Column, values: LiteralSet) -> Mask:
    if column.data_type is DataType.VARCHAR:
        return _is_in_texts(column.values, values)
    keys: np.ndarray[Any, Any] | None
    if column.data_type is DataType.BOOL:
        keys = values.booleans
    elif column.data_type.is_integer:
        keys = values.integers
    else:
        with np.errstate(over="ignore"):
            keys = None if values.doubles is None else values.doubles.astype(column.values.dtype)
    return np.zeros(len(column), np.bool_) if keys is None else np.isin(column.values, keys)


def _is_in_texts(texts: Any, values: LiteralSet) -> Mask:
    if texts is None or values.strings is None:
        return np.zeros(0 if texts is None else len(texts), np.bool_)
    return _to_mask(pc.is_in(texts, value_set=values.strings))


def _kind_known(column: PathColumn, values: LiteralSet) -> Mask:
    """Rows comparable with every literal: with literals of two kinds, none is."""
    kinds: list[tuple[JsonKind, ...]] = []
    if values.booleans is not None:
        kinds.append((JsonKind.BOOL,))
    if values.integers is not None or values.doubles is not None:
        kinds.append((JsonKind.INT, JsonKind.DOUBLE))
    if values.strings is not None:
        kinds.append((JsonKind.STRING,))
    if not kinds:
        return column.kinds > JsonKind.NULL
    if len(kinds) > 1:
        return _none(column)
    return np.isin(column.kinds, kinds[0])


def _compare_path(column: PathColumn, comparator: Comparator, value: Scalar) -> Mask:
    compare = OPERATORS[comparator]
    matches = _none(column)
    if isinstance(value, str):
        if column.strings is None:
            return matches
        return _to_mask(_PYARROW_COMPARATORS[comparator](column.strings, pa.scalar(value, pa.string())))
    if column.integers is not None:
        whole = integer_equivalent(comparator, value) if isinstance(value, float) else (comparator, int(value))
        is_kind = column.kinds == (JsonKind.BOOL if isinstance(value, bool) else JsonKind.INT)
        matches |= is_kind & OPERATORS[whole[0]](column.integers, whole[1])
    if column.doubles is not None and not isinstance(value, bool):
        matches |= (column.kinds == JsonKind.DOUBLE) & compare(column.doubles, float(value))
    return matches


def _path_is_in(column: PathColumn, values: LiteralSet) -> Mask:
    matches = _none(column)
    if column.strings is not None and values.strings is not None:
        matches |= _is_in_texts(column.strings, values)
    if column.integers is not None:
        for kind, keys in (
            (JsonKind.BOOL, None if values.booleans is None else values.booleans.astype(np.int64)),
            (JsonKind.INT, values.integers),
            (JsonKind.INT, None if values.doubles is None else _whole(values.doubles)),
        ):
            if keys is not None:
                matches |= (column.kinds == kind) & np.isin(column.integers, keys)
    if column.doubles is not None:
        for numbers in (values.integers, values.doubles):
            if numbers is not None:
                matches |= (column.kinds == JsonKind.DOUBLE) & np.isin(column.doubles, numbers.astype(np.float64))
    return matches


def _path_contains(elements: PathElements, mode: ContainsMode, values: LiteralSet) -> Mask:
    flat, starts = elements.elements, elements.starts
    if mode is not ContainsMode.ALL:
        return arrays.rows_with(starts, np.flatnonzero(_path_is_in(flat, values)), None, 0)
    matches = np.ones(len(starts) - 1, np.bool_)
    for value in values.scalars():
        hits = np.flatnonzero(_compare_path(flat, Comparator.EQ, value))
        matches &= arrays.rows_with(starts, hits, None, 0)
        if not matches.any():
            break
    return matches


def _whole(doubles: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The int64 values among `doubles`."""
    is_whole: Mask = (doubles == np.floor(doubles)) & (doubles >= -(2.0**63)) & (doubles < 2.0**63)
    return np.asarray(doubles[is_whole].astype(np.int64))
