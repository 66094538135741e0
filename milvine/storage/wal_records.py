"""The bodies of log records: rows inserted into a partition, keys deleted, rows that replace those of their keys."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.errors import DataIntegrityError
from milvine.model.columns import Column, ColumnBatch
from milvine.model.segments import DeleteBatch
from milvine.model.types import DataType
from milvine.storage.arrow_batches import decode_stream, encode_stream, from_arrow, to_arrow
from milvine.storage.files import Buffer

_HEADER = struct.Struct("<q")
"""The partition's id before an insert's columns; 8 bytes, so that the columns stay aligned."""


class RecordType(IntEnum):
    INSERT = 1
    DELETE = 2
    UPSERT = 3


_REPLACED = "replaced"
"""The column of an upsert's stream with the keys it deletes; left out if they are the keys of its rows."""


def encode_insert(partition_id: int, batch: ColumnBatch, replaced_keys: Any | None = None) -> Sequence[Buffer]:
    """The body of an insert or, with `replaced_keys` (int64 or StringArray, one per row), of an upsert."""
    arrays = {str(i): to_arrow(column) for i, column in batch.columns.items()}
    if replaced_keys is not None:
        arrays[_REPLACED] = pa.array(replaced_keys) if isinstance(replaced_keys, np.ndarray) else replaced_keys
    return [_HEADER.pack(partition_id), *encode_stream(arrays)]


def decode_insert(body: memoryview, data_types: Mapping[int, DataType]) -> tuple[int, ColumnBatch, Any | None]:
    """Partition id, rows, and the keys that an upsert deletes if they differ from the keys of the rows.

    Columns of unknown field ids are left out; JSON comes without its shredded paths.
    """
    (partition_id,) = _HEADER.unpack_from(body)
    arrays, _ = decode_stream(body[_HEADER.size :], "a log record")
    replaced = arrays.pop(_REPLACED, None)
    if replaced is not None and pa.types.is_int64(replaced.type):
        replaced = replaced.to_numpy()
    columns: dict[int, Column] = {}
    row_count = 0
    for name, array in arrays.items():
        row_count = len(array)
        data_type = data_types.get(int(name))
        if data_type is not None:
            columns[int(name)] = from_arrow(data_type, array)
    return partition_id, ColumnBatch(row_count, columns), replaced


def encode_deletes(batch: DeleteBatch) -> Sequence[Buffer]:
    """Deletes as one stream: the body of a log record and the payload of a delta file."""
    keys = pa.array(batch.keys) if isinstance(batch.keys, np.ndarray) else batch.keys
    return encode_stream({"key": keys, "ts": pa.array(batch.ts), "partition_id": pa.array(batch.partition_ids)})


def decode_deletes(buffer: Any, source: object = "a log record") -> DeleteBatch:
    arrays, _ = decode_stream(buffer, source)
    if set(arrays) != {"key", "ts", "partition_id"}:
        raise DataIntegrityError(f"deletes have the columns {sorted(arrays)}")
    keys = arrays["key"]
    return DeleteBatch(
        keys.to_numpy() if pa.types.is_int64(keys.type) else keys,
        arrays["ts"].to_numpy(),
        arrays["partition_id"].to_numpy(),
    )
