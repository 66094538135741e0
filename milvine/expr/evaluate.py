"""Predicate + columns -> the rows for which it is true.

The logic is Kleene's, with three values; at the end unknown rows are dropped. All work over rows is done by numpy and
pyarrow. Unknown are: NULL in a comparison, and in JSON also a missing path, JSON null, and a value of another kind than
the literal (Milvus 3: `"2" != 2` is unknown, not true). Integers and floating numbers are one kind. `in` over literals
of several kinds is the `or` of its `==`.

`exists` is known for every row: false where the whole document is NULL, and for a missing path, JSON null, and an
object or an array that holds only those.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa

from milvine.expr import arrays, path_values
from milvine.expr.arithmetic import compute
from milvine.expr.indexed import ValueIndex, answer, reads_numbers
from milvine.expr.indexed_terms import TermIndex, answer_terms
from milvine.expr.indexed_texts import TextIndex, answer_texts
from milvine.expr.like import match_pattern, starts_with
from milvine.expr.predicate import (
    OPERATORS,
    Always,
    And,
    ArrayEquals,
    BloomMatch,
    Compare,
    CompareComputed,
    CompareFields,
    CompareMoment,
    Contains,
    ContainsLists,
    Exists,
    In,
    IsNull,
    Like,
    LiteralSet,
    Not,
    Or,
    PhraseMatch,
    Predicate,
    RandomSample,
    Regex,
    SimilarTermMatch,
    StartsWith,
    Target,
    TermMatch,
    literal_set,
)
from milvine.expr.regex import match_regex
from milvine.expr.tree import Comparator, Scalar
from milvine.model.columns import NUMPY_DTYPES, Column
from milvine.model.json_numbers import with_numbers
from milvine.model.json_paths import JsonKind, JsonPath, PathColumn, PathElements
from milvine.model.moments import shifted
from milvine.model.records import record
from milvine.model.types import DataType

Mask = np.ndarray[Any, np.dtype[np.bool_]]


class ColumnSource(Protocol):
    """The rows to filter. A column may be requested again."""

    @property
    def row_count(self) -> int: ...

    def column(self, field_id: int) -> Column: ...

    def json_path(self, field_id: int, path: JsonPath) -> PathColumn: ...

    def json_elements(self, field_id: int, path: JsonPath, depth: int = 1) -> PathElements:
        """`depth`: how many levels of arrays in arrays are read."""
        ...

    def value_index(self, field_id: int, path: JsonPath, has_elements: bool) -> ValueIndex | None:
        """An index that may answer in place of the column: of its values, or of array elements."""
        ...

    def text_index(self, field_id: int, path: JsonPath) -> TextIndex | None:
        """An index of the pieces of texts."""
        ...

    def term_index(self, field_id: int) -> TermIndex:
        """The terms of a field that enables match."""
        ...


def evaluate(predicate: Predicate, source: ColumnSource) -> Mask:
    """bool (row_count,), True where the predicate is true: neither false nor unknown."""
    return _Evaluation(source).truth(predicate).true


@record
class _Truth:
    """Disjoint masks; `unknown` None: no row is unknown."""

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
            case Like() | Regex() if found := answer_texts(predicate, self._source):
                return _where_known(*found)
            case TermMatch() | SimilarTermMatch() | PhraseMatch():
                return _where_known(*answer_terms(predicate, self._source))
            case Exists(target):
                return self._exists(target)
            case RandomSample(operand, share):
                return _Truth(_sample(self.truth(operand).true, share))
            case CompareComputed():
                return self._compare_computed(predicate)
            case CompareMoment(target, months, micros, comparator, value):
                column = self._column(target)
                moved = shifted(column.values, months, micros)
                return _where_known(OPERATORS[comparator](moved, value), column.validity)
            case CompareFields():
                return self._compare_fields(predicate)
            case Contains():
                return self._contains(predicate)
            case ContainsLists() | ArrayEquals():
                return self._lists(predicate)
            case StartsWith():
                return self._starts_with(predicate)
            case BloomMatch():
                return self._bloom_match(predicate)
            case Compare(target) | In(target) | Like(target) | Regex(target) if _is_at_path(target):
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
                return _where_known(path_values.to_mask(match_pattern(column.values, pattern)), column.validity)
            case Regex(target, pattern):
                column = self._column(target)
                return _where_known(path_values.to_mask(match_regex(column.values, pattern)), column.validity)

    def _column(self, target: Target) -> Column:
        """The values, one per row, of a target that is not a JSON path."""
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
        matches = path_values.contains(elements, mode, values)
        return _where_known(matches, self._and_valid(elements.is_array, target))

    def _lists(self, predicate: ContainsLists | ArrayEquals) -> _Truth:
        target = predicate.target
        if target.element_type is not None:
            assert isinstance(predicate, ArrayEquals)
            column = self._source.column(target.field_id)
            matches = arrays.equals(column, target.element_type, cast(Sequence[Scalar], predicate.values))
            return _where_known(matches, column.validity)
        values = predicate.values if isinstance(predicate, ArrayEquals) else predicate.lists
        elements = self._source.json_elements(target.field_id, target.path, path_values.depth_of(values))
        if isinstance(predicate, ArrayEquals):
            matches = path_values.equal_lists(elements, values)
        else:
            matches = path_values.contains_lists(elements, predicate.mode, predicate.lists)
        return _where_known(matches, self._and_valid(elements.is_array, target))

    def _starts_with(self, predicate: StartsWith) -> _Truth:
        columns = [
            self._source.column(side.field_id)
            if isinstance(side, Target)
            else Column(DataType.VARCHAR, pa.repeat(pa.scalar(side, pa.string()), self._source.row_count))
            for side in (predicate.text, predicate.prefix)
        ]
        validities = [c.validity for c in columns if c.validity is not None]
        matches = starts_with(columns[0].values, columns[1].values)
        return _where_known(matches, reduce(np.logical_and, validities) if validities else None)

    def _bloom_match(self, predicate: BloomMatch) -> _Truth:
        target, bloom = predicate.target, predicate.bloom
        if target.data_type is not DataType.JSON:
            column = self._source.column(target.field_id)
            is_text = column.data_type is DataType.VARCHAR
            matches = bloom.has_texts(column.values) if is_text else bloom.has_integers(column.values)
            return _where_known(matches, column.validity)
        values = self._source.json_path(target.field_id, target.path)
        matches = path_values.no_row(values)
        integers, texts = (np.flatnonzero(values.kinds == kind) for kind in (JsonKind.INT, JsonKind.STRING))
        if values.integers is not None:
            matches[integers] = bloom.has_integers(values.integers[integers])
        if values.strings is not None:
            matches[texts] = bloom.has_texts(values.strings.take(pa.array(texts)))
        known = np.isin(values.kinds, (JsonKind.INT, JsonKind.STRING))
        return _where_known(matches, self._and_valid(known, target))

    def _is_null(self, target: Target) -> _Truth:
        validity = self._source.column(target.field_id).validity
        return _Truth(np.zeros(self._source.row_count, np.bool_) if validity is None else ~validity)

    def _exists(self, target: Target) -> _Truth:
        kinds = self._source.json_path(target.field_id, target.path).kinds
        exists = (kinds > JsonKind.NULL) & (kinds != JsonKind.EMPTY)
        valid = self._and_valid(None, target)
        return _Truth(exists if valid is None else exists & valid)

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
        matches, known = path_values.no_row(numbers), path_values.no_row(numbers)
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
            matches = path_values.to_mask(path_values.TEXT_COMPARATORS[predicate.comparator](left.values, right.values))
        else:
            matches = OPERATORS[predicate.comparator](left.values, right.values)
        validities = [c.validity for c in (left, right) if c.validity is not None]
        return _where_known(matches, reduce(np.logical_and, validities) if validities else None)

    def _at_path(self, predicate: Compare | In | Like | Regex) -> tuple[Mask, Mask]:
        """(rows with a comparable value, rows that match) at a JSON path; a row must be in both."""
        column = self._source.json_path(predicate.target.field_id, predicate.target.path)
        if reads_numbers(predicate):
            column = with_numbers(column)
        match predicate:
            case Compare(_, comparator, value):
                return path_values.known_to(column, literal_set([value])), path_values.compare(
                    column, comparator, value
                )
            case In(_, values):
                matches = path_values.is_in(column, values)
                return path_values.known_to(column, values) | matches, matches
            case Like(_, pattern) | Regex(_, pattern):
                match_texts = match_pattern if isinstance(predicate, Like) else match_regex
                texts = column.strings
                matches = path_values.no_row(column)
                if texts is not None:
                    matches = path_values.to_mask(match_texts(texts, pattern))
                return column.kinds == JsonKind.STRING, matches


def _is_at_path(target: Target) -> bool:
    """Whether values of several kinds are compared."""
    return target.data_type is DataType.JSON and not target.is_length


def _sample(passing: Mask, share: float) -> Mask:
    rows = np.flatnonzero(passing)
    sampled = np.zeros(len(passing), np.bool_)
    if len(rows):
        size = max(int(np.float32(len(rows)) * np.float32(share)), 1)
        sampled[np.random.default_rng().choice(rows, size, replace=False)] = True
    return sampled


def _compare(column: Column, comparator: Comparator, value: Scalar) -> Mask:
    if column.data_type is DataType.VARCHAR:
        return path_values.to_mask(
            path_values.TEXT_COMPARATORS[comparator](column.values, pa.scalar(value, pa.string()))
        )
    if column.data_type is DataType.FLOAT:
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, as in C++
            value = NUMPY_DTYPES[DataType.FLOAT].type(value)
    matches: Mask = OPERATORS[comparator](column.values, value)
    return matches


def _is_in(column: Column, values: LiteralSet) -> Mask:
    if column.data_type is DataType.VARCHAR:
        return path_values.is_in_texts(column.values, values)
    keys: np.ndarray[Any, Any] | None
    if column.data_type is DataType.BOOL:
        keys = values.booleans
    elif column.values.dtype.kind == "i":
        keys = values.integers
    else:
        with np.errstate(over="ignore"):
            keys = None if values.doubles is None else values.doubles.astype(column.values.dtype)
    return np.zeros(len(column), np.bool_) if keys is None else np.isin(column.values, keys)
