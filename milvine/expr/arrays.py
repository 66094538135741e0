"""Filters over ARRAY columns, computed from their offsets and flat elements."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.expr.predicate import LiteralSet
from milvine.expr.tree import ContainsMode, Scalar
from milvine.model.columns import ARROW_TYPES, NUMPY_DTYPES, Column
from milvine.model.types import DataType

Array = np.ndarray[Any, Any]
_FEW_LITERALS = 8
"""Up to so many, one comparison after the other costs less than a look-up of each element."""
_FEW_HITS = 8
"""With fewer hits than one for so many rows, finding the row of each hit costs less than looking at all rows."""
_MOST_ELEMENTS = 2**31 - 1
"""Of an array, whose offsets are int32."""


def _flat(column: Column) -> tuple[Array, Any]:
    """Array starts and the end of the last, (n + 1,); and the elements: numpy, or for strings a StringArray."""
    offsets = column.values.offsets.to_numpy()
    elements = column.values.values.slice(offsets[0], offsets[-1] - offsets[0])
    if not pa.types.is_string(elements.type):
        elements = elements.to_numpy(zero_copy_only=False)
    return offsets - offsets[0], elements


def lengths(column: Column) -> Column:
    """How many elements each row has."""
    counts = np.diff(column.values.offsets.to_numpy()).astype(np.int64)
    return Column(DataType.INT64, counts, column.validity)


def element_at(column: Column, element_type: DataType, index: int) -> Column:
    """The elements at one index; a row with a shorter array has none."""
    starts, elements = _flat(column)
    index = min(index, _MOST_ELEMENTS)
    there = np.diff(starts) > index
    places = starts[:-1][there] + index
    if element_type is DataType.VARCHAR:
        filler = pa.array([""], ARROW_TYPES[element_type])
        at = np.zeros(len(there), np.int64)
        at[there] = places + 1
        return Column(element_type, pa.concat_arrays([filler, elements]).take(pa.array(at)), there)
    values = np.zeros(len(there), NUMPY_DTYPES[element_type])
    values[there] = elements[places]
    return Column(element_type, values, there)


def equals(column: Column, element_type: DataType, wanted: Sequence[Scalar]) -> Array:
    """bool (n,): rows whose array is `wanted`, element by element."""
    starts, elements = _flat(column)
    matches: Array = np.diff(starts) == len(wanted)
    rows = np.flatnonzero(matches)
    if not wanted or not len(rows):
        return matches
    places = (starts[rows, None] + np.arange(len(wanted))).reshape(-1)
    if element_type is DataType.VARCHAR:
        found = elements.take(pa.array(places))
        same = pc.equal(found, pa.array(list(wanted) * len(rows), pa.string())).to_numpy(zero_copy_only=False)
    else:
        same = elements[places] == np.tile(_as_elements(element_type, wanted), len(rows))
    matches[rows] = same.reshape(len(rows), len(wanted)).all(axis=1)
    return matches


def _as_elements(element_type: DataType, values: Any) -> Array:
    """Literals in the type for comparison with elements: floats in that of the elements, integers as written."""
    if element_type is DataType.FLOAT:
        with np.errstate(over="ignore"):
            return np.asarray(values, np.float64).astype(np.float32)
    return np.asarray(values)


def contains(column: Column, element_type: DataType, mode: ContainsMode, values: LiteralSet) -> Array:
    """bool (n,): rows that have any, or with ALL all, of the literals."""
    starts, elements = _flat(column)
    wanted, count = comparable(element_type, values)
    matches = np.full(len(starts) - 1, mode is ContainsMode.ALL and count == 0)
    if len(wanted) == 0 or len(elements) == 0 or (mode is ContainsMode.ALL and len(wanted) < count):
        return matches
    if len(wanted) <= _FEW_LITERALS:
        each = [_equal_to(elements, wanted[place]) for place in range(len(wanted))]
        if mode is not ContainsMode.ALL:
            return _rows_with_any(starts, functools.reduce(np.logical_or, each))
        return functools.reduce(np.logical_and, [_rows_with_any(starts, hits) for hits in each])
    if element_type is DataType.VARCHAR:
        codes = pc.index_in(elements, value_set=wanted).fill_null(-1).to_numpy()
        is_hit = codes >= 0
    else:
        codes = np.minimum(np.searchsorted(wanted, elements), len(wanted) - 1)
        is_hit = wanted[codes] == elements
    if mode is not ContainsMode.ALL:
        return _rows_with_any(starts, is_hit)
    hits = np.flatnonzero(is_hit)
    return rows_with(starts, hits, codes[hits], count)


def _equal_to(elements: Any, literal: Any) -> Array:
    """bool (m,): elements (numpy or a StringArray) that equal a literal that they can equal."""
    if not isinstance(elements, np.ndarray):
        found: Array = pc.equal(elements, literal).to_numpy(zero_copy_only=False)
        return found
    if elements.dtype.kind == "i":
        limits = np.iinfo(elements.dtype)
        if not limits.min <= literal <= limits.max:
            return np.zeros(len(elements), np.bool_)
        literal = elements.dtype.type(literal)  # or else all elements would be widened
    same: Array = elements == literal
    return same


def _rows_with_any(starts: Array, hits: Array) -> Array:
    """bool (n,): rows with an element for which `hits`, bool (m,)."""
    count = np.count_nonzero(hits)
    if count * _FEW_HITS < len(starts):
        return rows_with(starts, np.flatnonzero(hits), None, 0)
    matches = np.zeros(len(starts) - 1, np.bool_)
    filled = np.flatnonzero(starts[1:] > starts[:-1])
    matches[filled] = np.logical_or.reduceat(hits, starts[filled])
    return matches


def rows_with(starts: Array, hits: Array, codes: Array | None, count: int) -> Array:
    """bool (n,): rows with an element among `hits` (positions), or with all of the `count` codes among them."""
    matches = np.zeros(len(starts) - 1, np.bool_)
    rows = np.searchsorted(starts, hits, side="right") - 1
    if codes is None:
        matches[rows] = True
    else:
        distinct = np.unique(rows * count + codes) // count
        matches[:] = np.bincount(distinct, minlength=len(matches)) == count
    return matches


def comparable(element_type: DataType, values: LiteralSet) -> tuple[Any, int]:
    """The literals that an element can equal, each once (numpy: ascending), and how many there are in all."""
    if element_type is DataType.VARCHAR:
        strings = pa.array([], pa.string()) if values.strings is None else values.strings
        return strings, len(strings)
    if element_type is DataType.BOOL:
        booleans = np.zeros(0, np.bool_) if values.booleans is None else values.booleans
        return booleans, len(booleans)
    integers = np.zeros(0, np.int64) if values.integers is None else values.integers
    doubles = np.zeros(0, np.float64) if values.doubles is None else values.doubles
    if element_type.is_floating:
        found = np.unique(_as_elements(element_type, np.concatenate((integers.astype(np.float64), doubles))))
        return found, len(found)
    is_whole = (doubles == np.floor(doubles)) & (np.abs(doubles) < 2.0**63)
    whole = np.unique(np.concatenate((integers, doubles[is_whole].astype(np.int64))))
    return whole, len(whole) + int(np.count_nonzero(~is_whole))
