"""A schema, rows, the rows as a ColumnSource, and the rows that a filter keeps."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from milvine.analysis.fields import analyzed_blocks
from milvine.errors import ParameterInvalid
from milvine.expr import compile_filter, evaluate
from milvine.expr.indexed import ValueIndex
from milvine.index.scalar import index_field, index_json
from milvine.index.term_index import TermIndex, index_terms
from milvine.model.columns import ARROW_TYPES, NUMPY_DTYPES, Column, json_column
from milvine.model.json_paths import JsonPath, PathColumn, PathElements, extract, extract_elements
from milvine.model.schema import CollectionSchema, FieldSchema, with_field_ids
from milvine.model.types import DataType
from milvine.querynode.remote.messages import codec


def _array(name: str, element_type: DataType, **others: Any) -> FieldSchema:
    return FieldSchema(0, name, DataType.ARRAY, element_type=element_type, max_capacity=9, **others)


SCHEMA = CollectionSchema(
    with_field_ids(
        [
            FieldSchema(0, "id", DataType.INT64, is_primary=True),
            FieldSchema(0, "flag", DataType.BOOL, nullable=True),
            FieldSchema(0, "small", DataType.INT8, nullable=True),
            FieldSchema(0, "big", DataType.INT64, nullable=True),
            FieldSchema(0, "ratio", DataType.FLOAT, nullable=True),
            FieldSchema(0, "price", DataType.DOUBLE),
            FieldSchema(0, "name", DataType.VARCHAR, nullable=True, max_length=64),
            FieldSchema(0, "title", DataType.VARCHAR, max_length=64),
            FieldSchema(0, "doc", DataType.JSON, nullable=True),
            FieldSchema(
                0,
                "body",
                DataType.VARCHAR,
                nullable=True,
                max_length=999,
                properties={"enable_analyzer": "true", "enable_match": "true"},
            ),
            FieldSchema(0, "vec", DataType.FLOAT_VECTOR, dim=2),
            _array("tags", DataType.VARCHAR, nullable=True, max_length=64),
            _array("nums", DataType.INT32, nullable=True),
            _array("reals", DataType.FLOAT),
            _array("flags", DataType.BOOL),
            FieldSchema(0, "$meta", DataType.JSON, is_dynamic=True),
        ]
    ),
    enable_dynamic_field=True,
)
STRICT_SCHEMA = CollectionSchema(SCHEMA.fields[:-1])
IDS = {f.name: f.field_id for f in SCHEMA.fields}
COMPARATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""What a comparison says when its sides change places."""
_FILLERS: dict[DataType, Any] = {DataType.BOOL: False, DataType.VARCHAR: "", DataType.JSON: None}


@dataclass(frozen=True)
class Rows:
    """A ColumnSource over columns held in memory, and over indexes of them, if there are any."""

    row_count: int
    columns: Mapping[int, Column]
    indexes: Mapping[tuple[int, JsonPath, bool], ValueIndex] = field(default_factory=dict)

    def column(self, field_id: int) -> Column:
        return self.columns[field_id]

    def json_path(self, field_id: int, path: JsonPath) -> PathColumn:
        column = self.columns[field_id]
        assert column.paths is not None
        return column.paths.known(self.row_count, path) or extract(column.values, path)

    def json_elements(self, field_id: int, path: JsonPath, depth: int = 1) -> PathElements:
        return extract_elements(self.columns[field_id].values, path, depth)

    def value_index(self, field_id: int, path: JsonPath, has_elements: bool) -> ValueIndex | None:
        return self.indexes.get((field_id, path, has_elements))

    def text_index(self, field_id: int, path: JsonPath) -> None:
        return None

    def term_index(self, field_id: int) -> TermIndex:
        return index_terms(analyzed_blocks(None, self.columns[field_id].values))


def rows_of(rows: Sequence[Mapping[str, Any]]) -> Rows:
    """Rows given as dicts; a missing value is NULL, or 0 if the field is not nullable."""
    return Rows(len(rows), {f.field_id: _column(f, [row.get(f.name) for row in rows]) for f in SCHEMA.fields})


def kept(text: str, rows: Sequence[Mapping[str, Any]], **templates: object) -> list[int]:
    """Offsets of the rows that the filter keeps; in a query node, which gets it as a message."""
    mask = evaluate(codec.decode(codec.encode(compile_filter(text, SCHEMA, None, templates))), rows_of(rows))
    assert mask.dtype == np.bool_
    assert mask.shape == (len(rows),)
    return [int(i) for i in np.flatnonzero(mask)]


def kept_by_indexes(text: str, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """As `kept`, but all fields and some paths have scalar indexes."""
    source = rows_of(rows)
    indexes: dict[tuple[int, JsonPath, bool], ValueIndex] = {}
    for f in SCHEMA.fields:
        column = source.columns[f.field_id]
        if f.data_type is DataType.JSON:
            for path in ((), ("a",), ("a", "b"), ("a", 1)):
                for cast in ("JSON", "ARRAY_VARCHAR", "ARRAY_DOUBLE"):
                    found = index_json(column, path, cast)
                    indexes |= {(f.field_id, p, index.has_elements): index for p, index in found.items()}
        elif not f.data_type.is_vector:
            indexes[f.field_id, (), f.data_type is DataType.ARRAY] = index_field(column)
    indexed = Rows(source.row_count, source.columns, indexes)
    return [int(i) for i in np.flatnonzero(evaluate(compile_filter(text, SCHEMA), indexed))]


def refusal(text: str, schema: CollectionSchema = SCHEMA, /, **templates: object) -> str:
    """The refusal of a filter, without Milvus's prefix and suffix."""
    with pytest.raises(ParameterInvalid) as caught:
        compile_filter(text, schema, None, templates)
    assert caught.value.code == 1100
    message = caught.value.message
    for sentinel in (": query plan failed: invalid parameter", ": invalid parameter: invalid parameter"):
        if message.endswith(sentinel):
            return message.removeprefix(f"cannot parse expression: {text}: ").removesuffix(sentinel)
    raise AssertionError(f"no text of Milvus: {message}")


def _column(field: FieldSchema, values: list[Any]) -> Column:
    filler = _FILLERS.get(field.data_type, 0)
    validity = np.array([v is not None for v in values], np.bool_) if field.nullable else None
    filled = [filler if v is None else v for v in values]
    if field.data_type is DataType.JSON:
        texts = [orjson.dumps({} if v is None and field.is_dynamic else v) for v in filled]
        return json_column(pa.array(texts, pa.binary()), validity)
    if field.data_type is DataType.VARCHAR:
        return Column(field.data_type, pa.array(filled, pa.string()), validity)
    if field.element_type is not None:
        lists = [v or [] for v in values]
        return Column(field.data_type, pa.array(lists, pa.list_(ARROW_TYPES[field.element_type])), validity)
    if field.data_type.is_vector:
        return Column(field.data_type, np.zeros((len(values), 2), np.float32))
    return Column(field.data_type, np.array(filled, NUMPY_DTYPES[field.data_type]), validity)
