"""Aggregates that a query requests among its output fields: count, sum, avg, min, max, by groups or of all rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.errors import ParameterInvalid
from milvine.model.columns import ARROW_TYPES
from milvine.model.records import record
from milvine.model.requests import OutputField
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import DataType
from milvine.segment.aggregation import Aggregate, Aggregation, Operation
from milvine.segment.groups import column_of
from milvine.segment.ordering import SortKey, ordered

_PATTERN = re.compile(r"(sum|count|avg|min|max)\s*\(\s*([\w*]*)\s*\)", re.IGNORECASE | re.ASCII)


def is_aggregate(name: str) -> bool:
    return _PATTERN.fullmatch(name.strip()) is not None


def is_count_of_rows(name: str) -> bool:
    match = _PATTERN.fullmatch(name.strip())
    return match is not None and match[1].lower() == "count" and match[2] == "*"


@record
class Computed:
    """A column of the answer: of `places` in the table of results. An average has two places, a sum and a count."""

    schema: FieldSchema
    places: tuple[int, ...]
    is_count: bool = False

    def values(self, columns: Sequence[Any]) -> Any:
        """columns: of the table of results."""
        first = columns[self.places[0]]
        if len(self.places) == 2:
            count = columns[self.places[1]]
            return pc.divide(first.cast(pa.float64()), pc.if_else(pc.greater(count, 0), count, None).cast(pa.float64()))
        return first.fill_null(0) if self.is_count else first


def computed(name: str, data_type: DataType, parts: Sequence[Aggregate], first: int) -> Computed:
    """The column of `parts`, which have the places from `first` on."""
    is_count = parts[0].operation is Operation.COUNT
    return Computed(
        FieldSchema(0, name, data_type, nullable=not is_count), (*range(first, first + len(parts)),), is_count
    )


@record
class Aggregated:
    """`group_fields`: those of the groups, in the order of the table's first columns."""

    aggregation: Aggregation
    group_fields: tuple[FieldSchema, ...]
    outputs: tuple[Computed, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(output.schema.name for output in self.outputs)

    def answer(
        self, table: Any | None, order: Sequence[SortKey], offset: int, limit: int | None
    ) -> tuple[OutputField, ...]:
        """The groups in the requested order, then in that of their values, which makes pages slices of one list."""
        if table is None:
            return tuple(
                OutputField(o.schema, column_of(o.schema.data_type, _no_values(o, not self.group_fields)))
                for o in self.outputs
            )
        columns = [column.combine_chunks() for column in table.columns]
        known = {key.field_id for key in order}
        keys = [*order, *(SortKey(i, False, False) for i in self.aggregation.group_ids if i not in known)]
        places = {field.field_id: column_of(field.data_type, columns[i]) for i, field in enumerate(self.group_fields)}
        positions = ordered([places[key.field_id] for key in keys], keys) if keys else np.arange(table.num_rows)
        chosen = pa.array(positions[offset : None if limit is None else offset + limit])
        return tuple(
            OutputField(output.schema, column_of(output.schema.data_type, output.values(columns).take(chosen)))
            for output in self.outputs
        )


def _no_values(output: Computed, is_global: bool) -> Any:
    """The column of an answer without rows: one count of 0 and NULLs, or no group."""
    values = pa.nulls(1 if is_global else 0, pa.int64() if output.is_count else ARROW_TYPES[output.schema.data_type])
    return values.fill_null(0) if output.is_count else values


def aggregated_of(
    names: Sequence[str], group_names: Sequence[str], order_by: Sequence[str], schema: CollectionSchema
) -> Aggregated | None:
    """None if the query requests neither aggregates nor groups."""
    names = [name.strip() for name in names]
    if not group_names and not any(map(is_aggregate, names)):
        return None
    matches = [_PATTERN.fullmatch(name) for name in names]
    requested = [None if match is None else _aggregates(match[1].lower(), match[2], schema) for match in matches]
    groups = tuple(_group_field(name, schema) for name in group_names)
    _check_order(order_by, group_names)
    outputs: list[Computed] = []
    aggregates: list[Aggregate] = []
    for name, found in zip(names, requested, strict=True):
        if found is None:
            if name not in group_names:
                raise _not_allowed(name, group_names)
            field = schema.by_name[name]
            outputs.append(Computed(field, (group_names.index(name),)))
            continue
        outputs.append(computed(name, *found, len(groups) + len(aggregates)))
        aggregates.extend(found[1])
    aggregation = Aggregation(tuple(field.field_id for field in groups), tuple(aggregates))
    return Aggregated(aggregation, groups, tuple(outputs))


def _not_allowed(name: str, group_names: Sequence[str]) -> ParameterInvalid:
    refusal = f"output field '{name}' is not allowed: when using"
    if group_names:
        return ParameterInvalid(
            f"{refusal} GROUP BY, output_fields can only contain group_by fields ([{' '.join(group_names)}]) "
            "or aggregation expressions"
        )
    return ParameterInvalid(
        f"{refusal} aggregation functions (e.g., count(*)), output_fields can only contain aggregation expressions, "
        "not regular columns"
    )


def _aggregates(operation: str, name: str, schema: CollectionSchema) -> tuple[DataType, tuple[Aggregate, ...]]:
    if name == "*" and operation != "count":
        raise ParameterInvalid(f"{operation}(*) is not supported, only count(*) is allowed")
    field = schema.by_name.get(name)
    if field is None and name != "*":
        raise ParameterInvalid(f"target field {name} for aggregation:{operation} does not exist")
    return aggregates_of(operation, field)


def aggregates_of(operation: str, field: FieldSchema | None) -> tuple[DataType, tuple[Aggregate, ...]]:
    """The type of the result, and what it is made of. `field` None: of the rows, which are counted."""
    if field is None:
        return DataType.INT64, (Aggregate(Operation.COUNT, None),)
    if operation == "count":
        return DataType.INT64, (Aggregate(Operation.COUNT, field.field_id),)
    data_type = field.data_type
    is_number = data_type.is_integer or data_type.is_floating
    is_ordered = data_type in (DataType.VARCHAR, DataType.TIMESTAMPTZ)
    if not is_number and (not is_ordered or operation in ("sum", "avg")):
        raise ParameterInvalid(f"aggregation operator {operation} does not support data type {data_type.milvus_name}")
    if operation == "avg":
        parts = Aggregate(Operation.SUM, field.field_id), Aggregate(Operation.COUNT, field.field_id)
        return DataType.DOUBLE, parts
    if operation == "sum":
        data_type = DataType.INT64 if data_type.is_integer else DataType.DOUBLE
    return data_type, (Aggregate(Operation(operation), field.field_id),)


def _group_field(name: str, schema: CollectionSchema) -> FieldSchema:
    field = schema.by_name.get(name)
    if field is None:
        raise ParameterInvalid(f"field {name} not exist")
    if not field.data_type.is_integer and field.data_type not in (DataType.VARCHAR, DataType.TIMESTAMPTZ):
        raise ParameterInvalid(f"group by field {name} has unsupported data type {field.data_type.milvus_name}")
    return field


def _check_order(order_by: Sequence[str], group_names: Sequence[str]) -> None:
    known = {name.lower() for name in group_names}
    for spec in order_by:
        name = spec.split(":")[0].strip().lower()
        if is_aggregate(name):
            raise ParameterInvalid(f"ORDER BY on aggregate expression '{name}' is not yet supported")
        if name not in known:
            raise ParameterInvalid(
                f"ORDER BY field '{name}' is not valid: when using GROUP BY or aggregates, ORDER BY can only reference "
                f"GROUP BY columns. Valid targets are: [{' '.join(group_names)}]"
            )
