"""Assigns rows to partitions by a field, the partition key.

The hash is part of the file formats: sealed rows and the log were routed by it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.model.columns import Column, ColumnBatch, json_column
from milvine.model.schema import CollectionSchema
from milvine.model.segments import ALL_PARTITIONS
from milvine.model.types import DataType

Array = np.ndarray[Any, Any]
_BASE = np.uint64(0x9E3779B97F4A7C15)
_BLOCK_BYTES = 1 << 20
_MIXERS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def _mixed(hashes: Array) -> Array:
    """splitmix64's last step: every bit of a hash (uint64) moves every other."""
    for shift, factor in _MIXERS:
        hashes = (hashes ^ (hashes >> np.uint64(shift))) * np.uint64(factor)
    mixed: Array = hashes ^ (hashes >> np.uint64(31))
    return mixed


def _text_hashes(values: pa.StringArray) -> Array:
    """Of each text the sum of (byte + 1) * BASE ** place, places from 1, modulo 2 ** 64."""
    offsets = np.frombuffer(values.buffers()[1], np.int32)[values.offset : values.offset + len(values) + 1]
    offsets = offsets.astype(np.int64)
    content = np.zeros(0, np.uint8) if values.buffers()[2] is None else np.frombuffer(values.buffers()[2], np.uint8)
    powers = np.cumprod(np.full(int(np.diff(offsets).max()), _BASE, np.uint64))
    # In blocks, since each byte temporarily takes about thirty.
    starts = np.unique(np.searchsorted(offsets[:-1], np.arange(offsets[0], offsets[-1] + 1, _BLOCK_BYTES)))
    edges = [0, *starts[starts > 0].tolist(), len(values)]
    return np.concatenate(
        [_block_hashes(content, offsets[low : high + 1], powers) for low, high in itertools.pairwise(edges)]
    )


def _block_hashes(content: Array, offsets: Array, powers: Array) -> Array:
    starts, lengths = offsets[:-1] - offsets[0], np.diff(offsets)
    block = content[offsets[0] : offsets[-1]].astype(np.uint64) + np.uint64(1)
    places = np.arange(len(block)) - np.repeat(starts, lengths)
    sums = np.concatenate(([np.uint64(0)], np.cumsum(block * powers[places])))
    hashes: Array = sums[starts + lengths] - sums[starts]
    return hashes


def buckets(keys: Any, count: int) -> Array:
    """The bucket 0..count-1, int64 (n,), of each key: int64 (n,) or a StringArray without nulls."""
    if len(keys) == 0:
        return np.zeros(0, np.int64)
    hashes = keys.astype(np.uint64) if isinstance(keys, np.ndarray) else _text_hashes(keys)
    found: Array = (_mixed(hashes) % np.uint64(count)).astype(np.int64)
    return found


def routed(
    schema: CollectionSchema, partition_ids: Sequence[int], partition_id: int, batch: ColumnBatch
) -> list[tuple[int, ColumnBatch]]:
    """Rows by partition: all in `partition_id` or, if it is ALL_PARTITIONS, each in that of its partition key."""
    key = schema.partition_key
    if partition_id != ALL_PARTITIONS or key is None:
        return [(partition_id, batch)]
    places = buckets(batch.columns[key.field_id].values, len(partition_ids))
    order = np.argsort(places, kind="stable")
    used, starts = np.unique(places[order], return_index=True)
    ends = [*starts[1:].tolist(), len(order)]
    return [
        (partition_ids[bucket], _taken(batch, order[start:end]))
        for bucket, start, end in zip(used.tolist(), starts.tolist(), ends, strict=True)
    ]


def _taken(batch: ColumnBatch, rows: Array) -> ColumnBatch:
    def shredded(column: Column) -> Column:
        return json_column(column.values, column.validity) if column.data_type is DataType.JSON else column

    return ColumnBatch(len(rows), {i: shredded(c.take(rows)) for i, c in batch.columns.items()})
