"""The size of rows is known before they are fetched."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from milvine.model.columns import Column, lacking_column, taken_bytes
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType

COLUMNS = {
    "numbers": Column(DataType.INT32, np.arange(10, dtype=np.int32)),
    "vectors": Column(DataType.FLOAT_VECTOR, np.zeros((10, 7), np.float32)),
    "texts": Column(DataType.VARCHAR, pa.array(["ä" * i for i in range(12)])[2:]),
    "documents": Column(DataType.JSON, pa.array([b'{"a": %d}' % 10**i for i in range(10)], pa.binary())),
    "lists": Column(DataType.ARRAY, pa.array([[1] * i for i in range(12)], pa.list_(pa.int64()))[2:]),
    "lists of texts": Column(DataType.ARRAY, pa.array([["x" * i] * i for i in range(12)], pa.list_(pa.string()))[2:]),
}
TAKEN = np.array([9, 0, 3, 3])


@pytest.mark.parametrize("name", COLUMNS)
def test_the_bytes_of_rows_are_the_sum_of_their_values(name: str) -> None:
    column = COLUMNS[name]
    values = column.values if isinstance(column.values, np.ndarray) else column.values.to_pylist()
    expected = 0
    for row in TAKEN.tolist():
        match values[row]:
            case bytes() as document:
                expected += len(document)
            case str() as text:
                expected += len(text.encode())
            case list() as elements:
                expected += sum(8 if isinstance(e, int) else len(e) for e in elements)
            case number:
                expected += number.nbytes
    assert taken_bytes(column, TAKEN) == expected
    assert taken_bytes(column, TAKEN[:0]) == 0


def test_a_null_of_a_missing_field_takes_a_byte() -> None:
    vectors = lacking_column(FieldSchema(101, "v", DataType.FLOAT_VECTOR, dim=768, nullable=True), 10)
    assert taken_bytes(vectors, TAKEN) == 4
    texts = lacking_column(FieldSchema(101, "t", DataType.VARCHAR, max_length=9, default_value="abc"), 10)
    assert 4 * 3 <= taken_bytes(texts, TAKEN) <= 4 * 16
