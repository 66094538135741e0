"""The partition of a key is part of the file formats and never changes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milvine.model import partition_keys
from milvine.model.columns import Column, ColumnBatch, json_column
from milvine.model.partition_keys import buckets, routed
from milvine.model.schema import CollectionSchema, FieldSchema, with_field_ids
from milvine.model.segments import ALL_PARTITIONS
from milvine.model.types import DataType

MASK = 2**64 - 1


def _mix(number: int) -> int:
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & MASK
    return number ^ (number >> 31)


def bucket_of(key: int | str, count: int) -> int:
    """The format's definition, one key at a time."""
    if isinstance(key, int):
        return _mix(key & MASK) % count
    places = enumerate(key.encode(), 1)
    return _mix(sum((byte + 1) * pow(0x9E3779B97F4A7C15, place, 2**64) for place, byte in places) & MASK) % count


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.integers(1, 1024))
def test_integers_go_where_the_format_says(keys: list[int], count: int) -> None:
    assert buckets(np.array(keys, np.int64), count).tolist() == [bucket_of(k, count) for k in keys]


@settings(deadline=None)
@given(st.lists(st.text(max_size=40)), st.integers(1, 1024), st.integers(0, 3))
def test_texts_go_where_the_format_says(keys: list[str], count: int, start: int) -> None:
    """Also those of a slice."""
    found = buckets(pa.array(keys, pa.string())[start:], count)
    assert found.tolist() == [bucket_of(k, count) for k in keys[start:]]


@pytest.mark.parametrize("block_bytes", [1, 16, 100])
def test_texts_are_hashed_block_by_block(monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    monkeypatch.setattr(partition_keys, "_BLOCK_BYTES", block_bytes)
    keys = ["x" * (i % 40) + str(i) for i in range(200)] + ["", "short", ""]
    assert buckets(pa.array(keys)[3:], 1000).tolist() == [bucket_of(k, 1000) for k in keys[3:]]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [(np.array([0, 1, -1, 2**40], np.int64), [0, 5, 11, 8]), (pa.array(["", "a", "ab", "tenant-7"]), [0, 3, 10, 6])],
)
def test_known_keys_stay_in_their_buckets(keys: object, expected: list[int]) -> None:
    assert buckets(keys, 16).tolist() == expected


def test_many_keys_spread_evenly() -> None:
    for keys in (np.arange(32_000), pa.array([f"user-{i}" for i in range(32_000)])):
        counts = np.bincount(buckets(keys, 16), minlength=16)
        assert counts.min() > 1800
        assert counts.max() < 2200


def test_rows_are_routed_whole_and_in_order() -> None:
    fields = [
        FieldSchema(0, "id", DataType.INT64, is_primary=True),
        FieldSchema(0, "k", DataType.VARCHAR, is_partition_key=True),
        FieldSchema(0, "j", DataType.JSON),
    ]
    schema = CollectionSchema(with_field_ids(fields))
    keys = pa.array([f"t{i % 7}" for i in range(100)])
    json = json_column(pa.array([b'{"n": %d}' % i for i in range(100)], pa.binary()))
    batch = ColumnBatch(
        100, {100: Column(DataType.INT64, np.arange(100)), 101: Column(DataType.VARCHAR, keys), 102: json}
    )
    parts = routed(schema, tuple(range(50, 60)), ALL_PARTITIONS, batch)
    seen: list[int] = []
    for partition_id, part in parts:
        ids = part.columns[100].values.tolist()
        assert ids == sorted(ids)
        assert {50 + bucket_of(k, 10) for k in part.columns[101].values.to_pylist()} == {partition_id}
        assert part.columns[102].values.to_pylist() == [b'{"n": %d}' % i for i in ids]
        paths = part.columns[102].paths
        assert paths is not None
        assert ("n",) in paths.columns
        seen += ids
    assert sorted(seen) == [*range(100)]
    assert routed(schema, (50,), 7, batch) == [(7, batch)]
