"""Bodies of log records: rows and deletes come back as they went in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_columns import columns, rows_of

from milvine.errors import DataIntegrityError
from milvine.model.columns import Column, ColumnBatch
from milvine.model.segments import DeleteBatch
from milvine.model.types import DataType
from milvine.storage.arrow_batches import encode_stream
from milvine.storage.wal_records import decode_deletes, decode_insert, encode_deletes, encode_insert

TYPES = {100 + i: data_type for i, data_type in enumerate(DataType)}


@st.composite
def batches(draw: st.DrawFn) -> ColumnBatch:
    row_count = draw(st.integers(1, 6))
    return ColumnBatch(row_count, {i: draw(columns(t, row_count)) for i, t in TYPES.items()})


def body_of(partition_id: int, batch: ColumnBatch) -> memoryview:
    return memoryview(b"".join(bytes(part) for part in encode_insert(partition_id, batch)))


@given(st.integers(-(2**63), 2**63 - 1), batches())
@settings(max_examples=60, deadline=None)
def test_inserted_rows_of_every_type_come_back_with_their_partition(partition_id: int, batch: ColumnBatch) -> None:
    found_partition, found, _ = decode_insert(body_of(partition_id, batch), TYPES)
    assert (found_partition, found.row_count) == (partition_id, batch.row_count)
    assert found.columns.keys() == batch.columns.keys()
    for field_id, column in batch.columns.items():
        assert found.columns[field_id].data_type is column.data_type
        assert rows_of(found.columns[field_id]) == rows_of(column), column.data_type


def test_columns_of_removed_fields_are_left_out() -> None:
    batch = ColumnBatch(
        2,
        {
            100: Column(DataType.INT64, np.array([1, 2])),
            101: Column(DataType.VARCHAR, pa.array(["a", "b"], pa.string())),
        },
    )
    _, found, _ = decode_insert(body_of(5, batch), {100: DataType.INT64})
    assert found.row_count == 2
    assert list(found.columns) == [100]
    _, found, _ = decode_insert(body_of(5, batch), {})
    assert found.row_count == 2


def test_a_slice_is_written_without_the_rest_of_its_array() -> None:
    vectors = np.arange(40, dtype=np.float32).reshape(10, 4)
    batch = ColumnBatch(
        10,
        {
            100: Column(DataType.INT64, np.arange(10)),
            101: Column(DataType.VARCHAR, pa.array([str(i) for i in range(10)], pa.string())),
            102: Column(DataType.FLOAT_VECTOR, vectors, np.arange(10) % 2 == 0),
            103: Column(DataType.BOOL, np.arange(10) % 3 == 0),
        },
    ).slice(3, 7)
    types = {i: c.data_type for i, c in batch.columns.items()}
    _, found, _ = decode_insert(body_of(1, batch), types)
    for field_id, column in batch.columns.items():
        assert rows_of(found.columns[field_id]) == rows_of(column)


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**62), st.integers(-1, 9)), max_size=9))
@settings(max_examples=40, deadline=None)
def test_deletes_come_back_with_integer_and_with_text_keys(deletes: list[tuple[int, int, int]]) -> None:
    numbers = np.array([k for k, _, _ in deletes], np.int64)
    ts = np.array([t for _, t, _ in deletes], np.int64)
    partitions = np.array([p for _, _, p in deletes], np.int64)
    keys: Any
    for keys in (numbers, pa.array([f"k{k}" for k in numbers], pa.string())):
        found = decode_deletes(b"".join(encode_deletes(DeleteBatch(keys, ts, partitions))))
        assert found.keys.tolist() == keys.tolist()
        assert isinstance(found.keys, np.ndarray) == isinstance(keys, np.ndarray)
        assert found.ts.tolist() == ts.tolist()
        assert found.partition_ids.tolist() == partitions.tolist()


def test_deletes_with_other_columns_are_refused() -> None:
    with pytest.raises(DataIntegrityError, match="other"):
        decode_deletes(b"".join(encode_stream({"key": pa.array([1]), "other": pa.array([1])})))
