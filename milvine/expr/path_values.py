"""Filters over the values at a JSON path, computed from its typed columns.

Integers and floating numbers are one kind. Only within lists, as in Milvus, an integer literal does not equal a
floating element; a floating literal equals an integer element.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.expr import arrays
from milvine.expr.predicate import OPERATORS, LiteralSet, integer_equivalent
from milvine.expr.tree import Comparator, ContainsMode, Element, Scalar
from milvine.model.json_paths import JsonKind, PathColumn, PathElements

Mask = np.ndarray[Any, np.dtype[np.bool_]]

TEXT_COMPARATORS = {
    Comparator.EQ: pc.equal,
    Comparator.NE: pc.not_equal,
    Comparator.LT: pc.less,
    Comparator.LE: pc.less_equal,
    Comparator.GT: pc.greater,
    Comparator.GE: pc.greater_equal,
}


def to_mask(matches: Any) -> Mask:
    if matches.null_count:
        matches = matches.fill_null(False)
    mask: Mask = matches.to_numpy(zero_copy_only=False)
    return mask


def no_row(column: PathColumn) -> Mask:
    return np.zeros(len(column), np.bool_)


def is_in_texts(texts: Any, values: LiteralSet) -> Mask:
    if texts is None or values.strings is None:
        return np.zeros(0 if texts is None else len(texts), np.bool_)
    return to_mask(pc.is_in(texts, value_set=values.strings))


def known_to(column: PathColumn, values: LiteralSet) -> Mask:
    """Rows comparable with every literal; none if the literals are of two kinds."""
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
        return no_row(column)
    return np.isin(column.kinds, kinds[0])


def compare(column: PathColumn, comparator: Comparator, value: Scalar) -> Mask:
    compare = OPERATORS[comparator]
    matches = no_row(column)
    if isinstance(value, str):
        if column.strings is None:
            return matches
        return to_mask(TEXT_COMPARATORS[comparator](column.strings, pa.scalar(value, pa.string())))
    if column.integers is not None:
        whole = integer_equivalent(comparator, value) if isinstance(value, float) else (comparator, int(value))
        is_kind = column.kinds == (JsonKind.BOOL if isinstance(value, bool) else JsonKind.INT)
        matches |= is_kind & OPERATORS[whole[0]](column.integers, whole[1])
    if column.doubles is not None and not isinstance(value, bool):
        matches |= (column.kinds == JsonKind.DOUBLE) & compare(column.doubles, float(value))
    return matches


def is_in(column: PathColumn, values: LiteralSet) -> Mask:
    matches = no_row(column)
    if column.strings is not None and values.strings is not None:
        matches |= is_in_texts(column.strings, values)
    if column.integers is not None:
        for kind, keys in (
            (JsonKind.BOOL, None if values.booleans is None else values.booleans.astype(np.int64)),
            (JsonKind.INT, values.integers),
            (JsonKind.INT, None if values.doubles is None else whole(values.doubles)),
        ):
            if keys is not None:
                matches |= (column.kinds == kind) & np.isin(column.integers, keys)
    if column.doubles is not None:
        for numbers in (values.integers, values.doubles):
            if numbers is not None:
                matches |= (column.kinds == JsonKind.DOUBLE) & np.isin(column.doubles, numbers.astype(np.float64))
    return matches


def contains(elements: PathElements, mode: ContainsMode, values: LiteralSet) -> Mask:
    flat, starts = elements.elements, elements.starts
    if mode is not ContainsMode.ALL:
        return arrays.rows_with(starts, np.flatnonzero(is_in(flat, values)), None, 0)
    matches = np.ones(len(starts) - 1, np.bool_)
    for value in values.scalars():
        hits = np.flatnonzero(compare(flat, Comparator.EQ, value))
        matches &= arrays.rows_with(starts, hits, None, 0)
        if not matches.any():
            break
    return matches


def depth_of(values: Sequence[Element]) -> int:
    """How deeply lists are nested."""
    return 1 + max((depth_of(v) for v in values if isinstance(v, list | tuple)), default=0)


def equal_lists(elements: PathElements, wanted: Sequence[Element]) -> Mask:
    """bool (n,): rows whose array equals the list. `elements` are as deep as the list is nested."""
    rows = np.flatnonzero(elements.is_array & (np.diff(elements.starts) == len(wanted)))
    for place, literal in enumerate(wanted):
        if not len(rows):
            break
        rows = rows[_equals(elements, elements.starts[rows] + place, literal)]
    matches = np.zeros(len(elements.is_array), np.bool_)
    matches[rows] = True
    return matches


def contains_lists(elements: PathElements, mode: ContainsMode, lists: Sequence[Sequence[Element]]) -> Mask:
    """bool (n,): rows whose array has any of the lists as an element, or with ALL all of them."""
    assert elements.inner is not None
    found = []
    for wanted in lists:
        hits = np.flatnonzero(equal_lists(elements.inner, wanted))
        found.append(arrays.rows_with(elements.starts, hits, None, 0))
    combine = np.logical_and if mode is ContainsMode.ALL else np.logical_or
    return np.asarray(combine.reduce(found))


def _equals(elements: PathElements, places: Any, literal: Element) -> Mask:
    """Which of the elements at the positions equal the literal."""
    flat = elements.elements
    kinds = flat.kinds[places]
    if isinstance(literal, list | tuple):
        assert elements.inner is not None
        equal: Mask = equal_lists(elements.inner, literal)[places]
        return equal
    if isinstance(literal, str):
        if flat.strings is None:
            return np.zeros(len(places), np.bool_)
        return to_mask(pc.equal(flat.strings.take(pa.array(places)), pa.scalar(literal, pa.string())))
    matches = np.zeros(len(places), np.bool_)
    if flat.integers is not None:
        kind = JsonKind.BOOL if isinstance(literal, bool) else JsonKind.INT
        value = integer_equivalent(Comparator.EQ, literal)[1] if isinstance(literal, float) else literal
        matches |= (kinds == kind) & (flat.integers[places] == value)
    if flat.doubles is not None and isinstance(literal, float):
        matches |= (kinds == JsonKind.DOUBLE) & (flat.doubles[places] == literal)
    return matches


def whole(doubles: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The int64 values among numbers."""
    if doubles.dtype == np.int64:
        return doubles
    is_whole: Mask = (doubles == np.floor(doubles)) & (doubles >= -(2.0**63)) & (doubles < 2.0**63)
    return np.asarray(doubles[is_whole].astype(np.int64))
