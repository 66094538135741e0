"""Fields that rows were written without read as their default, or as NULL."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from milvine.model.columns import (
    ARROW_TYPES,
    NUMPY_DTYPES,
    Column,
    ColumnBatch,
    absent_column,
    concat_columns,
    lacking_column,
    with_default,
)
from milvine.model.schema import CollectionSchema, FieldSchema, with_field_ids
from milvine.model.types import DataType
from milvine.segment.growing import make_chunk

DEFAULTS: dict[DataType, Any] = {
    DataType.BOOL: True,
    DataType.INT8: -3,
    DataType.INT16: 4,
    DataType.INT32: 5,
    DataType.INT64: 2**53 + 1,
    DataType.FLOAT: 0.5,
    DataType.DOUBLE: 0.1,
    DataType.VARCHAR: "wörd",
}


def _values(column: Column) -> list[Any]:
    values: list[Any] = column.values.tolist() if isinstance(column.values, np.ndarray) else column.values.to_pylist()
    return values


@pytest.mark.parametrize("data_type", DEFAULTS)
def test_a_default_fills_what_is_missing_and_what_is_null(data_type: DataType) -> None:
    field = FieldSchema(101, "x", data_type, max_length=9, nullable=True, default_value=DEFAULTS[data_type])
    whole = absent_column(field, 3)
    assert _values(whole) == [DEFAULTS[data_type]] * 3
    assert whole.validity is None
    other = absent_column(FieldSchema(101, "x", data_type, max_length=9, default_value=type(DEFAULTS[data_type])()), 3)
    mixed = with_default(field, Column(data_type, other.values, np.array([True, False, True])))
    assert mixed.validity is None
    assert _values(mixed) == [_values(other)[0], DEFAULTS[data_type], _values(other)[0]]
    if data_type in NUMPY_DTYPES:
        assert mixed.values.dtype == whole.values.dtype == NUMPY_DTYPES[data_type]
    else:
        assert mixed.values.type == whole.values.type == ARROW_TYPES[data_type]


def _validity(column: Column) -> Any:
    return np.ones(len(column), np.bool_) if column.validity is None else column.validity


_ARRAY = FieldSchema(101, "x", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=3, nullable=True)
_VECTOR = FieldSchema(101, "x", DataType.FLOAT_VECTOR, dim=768, nullable=True)
_META = FieldSchema(101, "$meta", DataType.JSON, is_dynamic=True)
_OTHERS = [_ARRAY, _VECTOR, _META, FieldSchema(101, "x", DataType.JSON, nullable=True)]


def _fields() -> list[FieldSchema]:
    nulls = [FieldSchema(101, "x", t, max_length=9, nullable=True) for t in DEFAULTS]
    return [*nulls, *(FieldSchema(101, "x", t, max_length=9, default_value=v) for t, v in DEFAULTS.items()), *_OTHERS]


@pytest.mark.parametrize("field", _fields(), ids=lambda f: f"{f.data_type.name}-{f.default_value}")
def test_a_missing_column_reads_like_a_built_one(field: FieldSchema) -> None:
    lacking, built = lacking_column(field, 5), absent_column(field, 5)
    pairs = [
        (lacking, built),
        (lacking.slice(1, 9), built.slice(1, 9)),
        (lacking.take(np.array([4, 0])), built.take(np.array([4, 0]))),
        (lacking.slice(2, 2), built.slice(2, 2)),
        (concat_columns([lacking, built]), concat_columns([built, built])),
    ]
    for found, expected in pairs:
        assert (found.data_type, len(found)) == (expected.data_type, len(expected))
        assert _values(found) == _values(expected)
        assert type(found.values) is type(expected.values)
        assert np.array_equal(_validity(found), _validity(expected))
    assert lacking.paths == built.paths


@pytest.mark.parametrize("field", _fields(), ids=lambda f: f"{f.data_type.name}-{f.default_value}")
def test_reading_a_few_values_of_a_missing_column_does_not_build_it_whole(field: FieldSchema) -> None:
    allocated = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        column = lacking_column(field, 1_000_000)
        taken = column.take(np.arange(10))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000
    assert pa.total_allocated_bytes() - allocated < 100_000
    assert column.bytes_used < 10_000
    assert len(_values(taken)) == 10


def test_rows_older_than_a_field_read_its_default_or_null() -> None:
    fields = [
        FieldSchema(0, "id", DataType.INT64, is_primary=True),
        FieldSchema(0, "n", DataType.INT64, nullable=True, default_value=7),
        FieldSchema(0, "tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=3, nullable=True),
    ]
    schema = CollectionSchema(with_field_ids(fields))
    chunk = make_chunk(schema, 1, 1, ColumnBatch(2, {100: Column(DataType.INT64, np.array([1, 2]))}), 9)
    assert _values(chunk.column(101)) == [7, 7]
    tags = chunk.column(102)
    assert tags.validity is not None
    assert not tags.validity.any()
    assert _values(tags) == [[], []]
