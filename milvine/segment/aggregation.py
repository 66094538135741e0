"""Counts, sums, minima and maxima of rows, by the values of fields; pyarrow does the work.

A table of partial results has a column for each grouping field, then one for each aggregate. Tables of several segments
are joined and reduced again.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.errors import ParameterInvalid
from milvine.model.columns import Column
from milvine.model.records import record
from milvine.segment.plans import QueryPlan
from milvine.segment.retrieve import passing_offsets
from milvine.segment.rows import RowSet
from milvine.segment.search import visible
from milvine.storage.arrow_batches import to_arrow

MAX_GROUPS = 100_000


class Operation(StrEnum):
    COUNT = "count"
    SUM = "sum"
    MIN = "min"
    MAX = "max"


@record
class Aggregate:
    """`field_id` None: of the rows themselves, which are only counted. A sum is int64 or float64; a count of a field is
    that of the rows with a value."""

    operation: Operation
    field_id: int | None


@record
class Aggregation:
    """What a query computes in place of rows."""

    group_ids: tuple[int, ...]
    aggregates: tuple[Aggregate, ...]

    @property
    def field_ids(self) -> tuple[int, ...]:
        return (*self.group_ids, *(a.field_id for a in self.aggregates if a.field_id is not None))


def aggregate_row_sets(row_sets: Sequence[RowSet], plan: QueryPlan, what: Aggregation) -> Any | None:
    """The partial results of the rows that pass; None if there are no row sets. Rows with equal keys count separately,
    as in `count_row_sets`."""
    tables = [
        reduced(_columns(rows, passing_offsets(rows, plan), what), what)
        for rows in visible(row_sets, plan.partition_ids)
    ]
    return merge_tables(tables, what) if tables else None


def merge_tables(tables: Sequence[Any], what: Aggregation) -> Any:
    return tables[0] if len(tables) == 1 else reduced(pa.concat_tables(tables), what)


def _columns(rows: RowSet, offsets: np.ndarray[Any, Any], what: Aggregation) -> Any:
    """A table of what each of the rows adds to the results. offsets: ascending."""
    chosen = None if len(offsets) == rows.row_count else offsets
    groups = [to_arrow(_taken(rows.column(field_id), chosen)) for field_id in what.group_ids]
    columns = [None if a.field_id is None else rows.column(a.field_id) for a in what.aggregates]
    added = [
        what_adds(column, chosen, len(offsets), a.operation) for column, a in zip(columns, what.aggregates, strict=True)
    ]
    return table_of(groups, added, what)


def _taken(column: Column, offsets: np.ndarray[Any, Any] | None) -> Column:
    return column if offsets is None else column.take(offsets)


def what_adds(column: Column | None, offsets: np.ndarray[Any, Any] | None, count: int, operation: Operation) -> Any:
    """An Arrow array of what each of `count` rows adds to a result: those at `offsets`, None: all in order. `column`
    None: the row itself."""
    validity = None if column is None else column.validity
    if column is None or (operation is Operation.COUNT and validity is None):
        return pa.array(np.ones(count, np.int64))
    if operation is Operation.COUNT and validity is not None:
        return pa.array((validity if offsets is None else validity[offsets]).astype(np.int64))
    values = to_arrow(_taken(column, offsets))
    if operation is Operation.SUM:
        return values.cast(pa.int64() if pa.types.is_integer(values.type) else pa.float64())
    return values


def table_of(groups: Sequence[Any], aggregated: Sequence[Any], what: Aggregation) -> Any:
    """A table of partial results, or of what single rows add to them, from its columns."""
    return pa.table([*groups, *aggregated], names=_names(what))


def _names(what: Aggregation) -> list[str]:
    return [f"g{i}" for i in range(len(what.group_ids))] + [f"a{i}" for i in range(len(what.aggregates))]


def reduced(table: Any, what: Aggregation) -> Any:
    """One row for each group. Raises ParameterInvalid if they are too many."""
    names = _names(what)
    keys, texts = names[: len(what.group_ids)], {}
    wanted = []
    for name, aggregate in zip(names[len(keys) :], what.aggregates, strict=True):
        if pa.types.is_string(table.schema.field(name).type):
            # Hash aggregation compares numbers: the places of the texts in their order.
            distinct = pc.unique(table[name].combine_chunks()).drop_null()
            texts[name] = distinct.take(pc.sort_indices(distinct))
            places = pc.index_in(table[name], value_set=texts[name])
            table = table.set_column(table.schema.get_field_index(name), name, places)
        is_count = aggregate.operation is Operation.COUNT
        wanted.append((name, "sum" if is_count else aggregate.operation.value))
    found = table.group_by(keys, use_threads=False).aggregate(wanted)
    if found.num_rows > MAX_GROUPS:
        raise ParameterInvalid(
            f"GROUP BY produced too many groups ({found.num_rows}). Add filters (at most {MAX_GROUPS})"
        )
    columns = [found[key] for key in keys]
    for name, operation in wanted:
        column = found[f"{name}_{operation}"]
        columns.append(texts[name].take(column.combine_chunks()) if name in texts else column)
    return pa.table(columns, names=names)
