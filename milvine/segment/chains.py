"""Function chains: hits as a table of named columns, and the expressions that add columns to it.

The columns are Arrow arrays. Those that expressions make are float32; NULL where one of their inputs is NULL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.model.records import record
from milvine.segment.decay import Decay
from milvine.segment.rows import RowSet
from milvine.storage.arrow_batches import to_arrow

Array = np.ndarray[Any, Any]
ID, SCORE = "$id", "$score"


@record
class Frame:
    """Hits, query by query. query: int64 (n,), ascending; rows: int64 (n,), their places among the first hits."""

    query: Array
    rows: Array
    columns: Mapping[str, Any]

    def take(self, places: Array) -> Frame:
        """The hits at these places, which are in the order of their queries."""
        chosen = pa.array(places)
        columns = {name: array.take(chosen) for name, array in self.columns.items()}
        return Frame(self.query[places], self.rows[places], columns)

    @property
    def scores(self) -> Array:
        """float32 (n,); 0 for NULL."""
        return numbers_of(self.columns[SCORE]).astype(np.float32)


def frame_of(query: Array, keys: Any, scores: Array, columns: Mapping[str, Any]) -> Frame:
    return Frame(query, np.arange(len(query)), {ID: keys, SCORE: pa.array(scores), **columns})


def numbers_of(array: Any) -> Array:
    """float64 (n,); 0 for NULL."""
    filled = array.fill_null(0) if array.null_count else array
    values: Array = filled.to_numpy(zero_copy_only=False).astype(np.float64)
    return values


def _with_nulls_of(values: Array, *arrays: Any) -> Any:
    """float32 Arrow array, NULL where one of the arrays is."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    absent = [array.is_null().to_numpy(zero_copy_only=False) for array in arrays if array.null_count]
    return pa.array(narrow, mask=reduce(np.logical_or, absent) if absent else None)


class Expression(Protocol):
    def values(self, query: Array, inputs: Sequence[Any]) -> Any:
        """float32 Arrow array (n,). query: int64 (n,); inputs: Arrow arrays (n,)."""
        ...


def _product(columns: Sequence[Array], _: Sequence[float]) -> Array:
    product: Array = reduce(np.multiply, columns)
    return product


def _total(columns: Sequence[Array], _: Sequence[float]) -> Array:
    total: Array = reduce(np.add, columns)
    return total


def _weighted(columns: Sequence[Array], weights: Sequence[float]) -> Array:
    return _total([column * weight for column, weight in zip(columns, weights, strict=True)], ())


COMBINATIONS: dict[str, Callable[[Sequence[Array], Sequence[float]], Array]] = {
    "multiply": _product,
    "sum": _total,
    "max": lambda columns, _: reduce(np.maximum, columns),
    "min": lambda columns, _: reduce(np.minimum, columns),
    "avg": lambda columns, _: _total(columns, ()) / len(columns),
    "weighted": _weighted,
}


@record
class NumCombine:
    """One number from several, as `mode` of COMBINATIONS says."""

    mode: str
    weights: tuple[float, ...]

    def values(self, query: Array, inputs: Sequence[Any]) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            combined = COMBINATIONS[self.mode]([numbers_of(array) for array in inputs], self.weights)
        return _with_nulls_of(combined, *inputs)


@record
class DecayFactor:
    decay: Decay

    def values(self, query: Array, inputs: Sequence[Any]) -> Any:
        return _with_nulls_of(self.decay.factors(numbers_of(inputs[0])), inputs[0])


@record
class RoundDecimal:
    decimals: int

    def values(self, query: Array, inputs: Sequence[Any]) -> Any:
        return _with_nulls_of(rounded(numbers_of(inputs[0]), self.decimals), inputs[0])


def rounded(scores: Array, decimals: int) -> Array:
    """float32: as Milvus rounds scores of rankers, halves up, in float64."""
    factor = 10.0**decimals
    return (np.floor(scores.astype(np.float64) * factor + 0.5) / factor).astype(np.float32)


@record
class MapOperator:
    """Adds the values of an expression as a column, or replaces one."""

    expression: Expression
    inputs: tuple[str, ...]
    output: str

    def run(self, frame: Frame) -> Frame:
        found = self.expression.values(frame.query, [frame.columns[name] for name in self.inputs])
        return Frame(frame.query, frame.rows, {**frame.columns, self.output: found})


@record
class SegmentChain:
    """The operators of a chain that gives the nearest rows of a segment new scores. `fields`: ids of fields by their
    names in the chain."""

    operators: tuple[MapOperator, ...]
    fields: Mapping[str, int]
    primary_field_id: int

    @property
    def field_ids(self) -> frozenset[int]:
        return frozenset(self.fields.values())

    @property
    def details(self) -> Mapping[str, object]:
        return {"chain": [{"inputs": list(one.inputs), "output": one.output} for one in self.operators]}

    def rescored(self, rows: RowSet, query: Array, distances: Array, offsets: Array) -> Array:
        def column(field_id: int) -> Any:
            return to_arrow(rows.column(field_id).take(offsets))

        columns = {name: column(field_id) for name, field_id in self.fields.items()}
        frame = frame_of(query, column(self.primary_field_id), -distances, columns)
        for operator in self.operators:
            frame = operator.run(frame)
        return -frame.scores


def ranks(array: Any, is_descending: bool, nulls_first: bool) -> Array:
    """int64 (n,) that order as the values do; equal for equal values."""
    order, placement = "descending" if is_descending else "ascending", "at_start" if nulls_first else "at_end"
    found: Array = (
        pc.rank(array, sort_keys=order, null_placement=placement, tiebreaker="dense").to_numpy().astype(np.int64)
    )
    return found
