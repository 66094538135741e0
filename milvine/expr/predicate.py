"""The meaning of a filter for one schema: names are field ids, literals fit their fields, templates are filled in.

A predicate is true, false or unknown for a row. For NULL rows all predicates except IsNull and Exists are unknown.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.expr.bloom import BloomFilter
from milvine.expr.tree import Comparator, ContainsMode, Element, Operation, Scalar
from milvine.model.json_paths import JsonPath
from milvine.model.records import record
from milvine.model.types import DataType

OPERATORS: dict[Comparator, Callable[[Any, Any], Any]] = {
    Comparator.EQ: operator.eq,
    Comparator.NE: operator.ne,
    Comparator.LT: operator.lt,
    Comparator.LE: operator.le,
    Comparator.GT: operator.gt,
    Comparator.GE: operator.ge,
}


@record
class Target:
    """The input of a predicate: a field or, with `path`, the value there in a JSON field or an ARRAY (one index).

    `is_length`: the number of elements of the array there. `reads_numbers`: comparisons with numbers read the numbers
    in texts, since the path has an index with the cast function STRING_TO_DOUBLE.
    """

    field_id: int
    data_type: DataType
    is_nullable: bool = False
    is_primary: bool = False
    path: JsonPath = ()
    element_type: DataType | None = None
    is_length: bool = False
    reads_numbers: bool = False

    @property
    def value_type(self) -> DataType:
        """The type that literals are compared with."""
        if self.is_length:
            return DataType.INT64
        return self.element_type if self.element_type is not None and self.path else self.data_type

    @property
    def type_name(self) -> str:
        """The type as Milvus's messages have it."""
        if self.element_type is not None and not self.is_length:
            return f"{self.data_type.milvus_name}[{self.element_type.milvus_name}]"
        return self.value_type.milvus_name


@record
class Always:
    value: bool


@record
class Compare:
    """`target comparator value`; an integer target has an integer value, a floating target a float."""

    target: Target
    comparator: Comparator
    value: Scalar


@record
class CompareComputed:
    """`target operation operand comparator value`; both numbers are of the kind of the computation."""

    target: Target
    operation: Operation
    operand: int | float
    comparator: Comparator
    value: int | float


@record
class CompareMoment:
    """A moment, moved by calendar months and microseconds, `comparator value`, which is in microseconds."""

    target: Target
    months: int
    micros: int
    comparator: Comparator
    value: int


@record
class CompareFields:
    left: Target
    comparator: Comparator
    right: Target


@record
class LiteralSet:
    """Distinct values of `in`, separated by kind; None if there is none of the kind.

    The numpy arrays are sorted; `strings` is a pyarrow.StringArray.
    """

    booleans: np.ndarray[Any, np.dtype[np.bool_]] | None = None
    integers: np.ndarray[Any, np.dtype[np.int64]] | None = None
    doubles: np.ndarray[Any, np.dtype[np.float64]] | None = None
    strings: Any | None = None

    @property
    def has_only_numbers(self) -> bool:
        return self.booleans is None and self.strings is None

    def scalars(self) -> Iterator[Scalar]:
        """The values one by one, as Python objects."""
        for values in (self.booleans, self.integers, self.doubles):
            yield from () if values is None else values.tolist()
        yield from () if self.strings is None else self.strings.to_pylist()


def _sorted_once(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """numpy.unique, but three times as fast for many keys."""
    values.sort()
    is_first = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=is_first[1:])
    return values[is_first]


def literal_set(values: Sequence[Scalar]) -> LiteralSet:
    kinds = set(map(type, values))

    def of_kind(kind: type) -> Sequence[Scalar]:
        return values if kinds == {kind} else [v for v in values if type(v) is kind]

    return LiteralSet(
        _sorted_once(np.array(of_kind(bool), np.bool_)) if bool in kinds else None,
        _sorted_once(np.array(of_kind(int), np.int64)) if int in kinds else None,
        _sorted_once(np.array(of_kind(float), np.float64)) if float in kinds else None,
        pa.array(of_kind(str), pa.string()).unique() if str in kinds else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class In:
    target: Target
    values: LiteralSet


@record
class Like:
    """`pattern` is a LIKE pattern whose escapes are complete."""

    target: Target
    pattern: str


@record
class Regex:
    """The text has a match of RE2's `pattern`, which is valid."""

    target: Target
    pattern: str


@dataclass(frozen=True, slots=True, eq=False)
class TermMatch:
    """The text has at least so many of the terms (StringArray), of which each counts as often as it is there."""

    target: Target
    terms: Any
    at_least: int


@dataclass(frozen=True, slots=True, eq=False)
class SimilarTermMatch:
    """The text has a term within so many edits of any of the terms (StringArray)."""

    target: Target
    terms: Any
    distance: int


@dataclass(frozen=True, slots=True, eq=False)
class PhraseMatch:
    """The text has all of the terms (StringArray), as far from one another as `offsets` (int32), their positions in the
    phrase, say. `slop`: by how much the shifts of the terms may differ."""

    target: Target
    terms: Any
    offsets: np.ndarray[Any, np.dtype[np.int32]]
    slop: int


@record
class StartsWith:
    """A field, or a constant, starts with another."""

    text: Target | str
    prefix: Target | str


@dataclass(frozen=True, slots=True, eq=False)
class BloomMatch:
    """The value may be in a Bloom filter; false positives are possible."""

    target: Target
    bloom: BloomFilter


@dataclass(frozen=True, slots=True, eq=False)
class RandomSample:
    """`share` of the rows that pass, at least one row, drawn anew at each evaluation."""

    operand: Predicate
    share: float


@record
class IsNull:
    """A whole field is NULL; for a JSON path, `is null` is Not(Exists)."""

    target: Target


@record
class Exists:
    target: Target


@dataclass(frozen=True, slots=True, eq=False)
class Contains:
    """An array, whole or at a JSON path, has the value, any or all of the values as elements."""

    target: Target
    mode: ContainsMode
    values: LiteralSet


@dataclass(frozen=True, slots=True, eq=False)
class ContainsLists:
    """An array at a JSON path has any of the lists, or with ALL all of them, as elements."""

    target: Target
    mode: ContainsMode
    lists: tuple[Sequence[Element], ...]


@dataclass(frozen=True, slots=True, eq=False)
class ArrayEquals:
    """A whole ARRAY, or the array at a JSON path, equals the list element by element."""

    target: Target
    values: Sequence[Element]


@record
class Not:
    operand: Predicate


@record
class And:
    operands: tuple[Predicate, ...]


@record
class Or:
    operands: tuple[Predicate, ...]


Predicate = (
    Always
    | Compare
    | CompareComputed
    | CompareMoment
    | CompareFields
    | In
    | Like
    | Regex
    | TermMatch
    | SimilarTermMatch
    | PhraseMatch
    | StartsWith
    | BloomMatch
    | RandomSample
    | IsNull
    | Exists
    | Contains
    | ContainsLists
    | ArrayEquals
    | Not
    | And
    | Or
)


BEYOND_INT64 = 2**64
"""An integer that no row holds, and that numpy compares correctly with int64 arrays."""


def integer_equivalent(comparator: Comparator, value: float) -> tuple[Comparator, int]:
    """A comparison with an integer that has the same result for each int64 as the one with `value`."""
    if math.isnan(value):
        is_below = comparator in (Comparator.LT, Comparator.LE)
        return comparator, -BEYOND_INT64 if is_below else BEYOND_INT64
    if abs(value) > BEYOND_INT64:
        return comparator, BEYOND_INT64 if value > 0 else -BEYOND_INT64
    if value.is_integer():
        return comparator, int(value)
    if comparator in (Comparator.EQ, Comparator.NE):
        return comparator, BEYOND_INT64
    return comparator, (math.ceil if comparator in (Comparator.LT, Comparator.GE) else math.floor)(value)


def is_storable(value: Scalar) -> bool:
    """Whether a row can hold the value; integers must fit int64."""
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def compare_scalars(left: Any, comparator: Comparator, right: Any) -> Any:
    """For two values, or numpy arrays, that can be compared."""
    return OPERATORS[comparator](left, right)


def conjunction(operands: list[Predicate]) -> Predicate:
    """The conjunction, with constants folded: false wins, even over unknown."""
    if Always(False) in operands:
        return Always(False)
    kept = tuple(p for p in operands if p != Always(True))
    return And(kept) if len(kept) > 1 else kept[0] if kept else Always(True)


def disjunction(operands: list[Predicate]) -> Predicate:
    """The disjunction, with constants folded: true wins, even over unknown."""
    if Always(True) in operands:
        return Always(True)
    kept = tuple(p for p in operands if p != Always(False))
    return Or(kept) if len(kept) > 1 else kept[0] if kept else Always(False)


def negation(operand: Predicate) -> Predicate:
    match operand:
        case Always(value):
            return Always(not value)
        case Not(inner):
            return inner
        case _:
            return Not(operand)


def is_always_true(predicate: Predicate | None) -> bool:
    """Whether every row passes it. None: there is no filter."""
    return predicate is None or predicate == Always(True)


def is_approximate(predicate: Predicate) -> bool:
    """Whether rows may pass that do not match."""
    match predicate:
        case BloomMatch():
            return True
        case And(operands) | Or(operands):
            return any(map(is_approximate, operands))
        case Not(operand) | RandomSample(operand):
            return is_approximate(operand)
        case _:
            return False


def referenced_field_ids(predicate: Predicate) -> frozenset[int]:
    return frozenset(target.field_id for target in _targets(predicate))


def _targets(predicate: Predicate) -> Iterator[Target]:
    match predicate:
        case Always():
            return
        case And(operands) | Or(operands):
            for operand in operands:
                yield from _targets(operand)
        case Not(operand):
            yield from _targets(operand)
        case RandomSample(operand):
            yield from _targets(operand)
        case CompareFields(left, _, right) | StartsWith(left, right):
            yield from (side for side in (left, right) if isinstance(side, Target))
        case _:
            yield predicate.target


def equal_values(predicate: Compare | In) -> LiteralSet:
    """The storable values of `target == x` or `target in [...]`."""
    match predicate:
        case In(_, values):
            return values
        case Compare(_, _, value):
            return literal_set([value]) if is_storable(value) else LiteralSet()


def primary_keys(predicate: Predicate) -> np.ndarray[Any, np.dtype[np.int64]] | Any | None:
    """The keys of `pk == x` or `pk in [...]`, each once: int64 (n,) or pyarrow.StringArray; else None."""
    match predicate:
        case Compare(Target(is_primary=True) as target, Comparator.EQ) | In(Target(is_primary=True) as target):
            values = equal_values(predicate)
        case _:
            return None
    if target.data_type is DataType.VARCHAR:
        return pa.array([], pa.string()) if values.strings is None else values.strings
    return np.empty(0, np.int64) if values.integers is None else values.integers
