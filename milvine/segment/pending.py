"""Outputs of added functions in a sealed segment that has no column of them yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from milvine.analysis.outputs import input_fields, output_column
from milvine.model.columns import Column, ConstantColumn, absent_column
from milvine.model.schema import CollectionSchema, FieldSchema


class PendingColumn(ConstantColumn):
    """No row of it is a hit, as if all were NULL; those that are taken, for an answer, are made from their inputs."""

    __slots__ = ("_field", "_inputs", "_schema")

    def __init__(
        self, schema: CollectionSchema, field: FieldSchema, row_count: int, column: Callable[[int], Column]
    ) -> None:
        """`column`: that of a field of the segment."""
        super().__init__(absent_column(field, 1), row_count)
        self._schema = schema
        self._field = field
        self._inputs: Mapping[int, Column] = {f.field_id: column(f.field_id) for f in input_fields(schema, field)}

    def take(self, row_offsets: np.ndarray[Any, Any]) -> Column:
        taken = {i: column.take(row_offsets) for i, column in self._inputs.items()}
        return output_column(self._schema, self._field, taken)
