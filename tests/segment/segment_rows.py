"""A small schema, its rows, and segments of them, growing and sealed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from milvine.index.registry import TYPES
from milvine.model.columns import Column, ColumnBatch, json_column
from milvine.model.schema import CollectionSchema, FieldSchema, IndexSpec, with_field_ids
from milvine.model.segments import ALL_PARTITIONS, DeleteBatch, SegmentIndexMeta, SegmentMeta
from milvine.model.types import DataType, MetricType
from milvine.segment.growing import Chunk, join_chunks, make_chunk
from milvine.segment.sealed import LoadSpec, SealedSegment, open_segment
from milvine.storage.directories import make_directory
from milvine.storage.files import seal_written
from milvine.storage.segment_files import (
    FORMAT_VERSION,
    INDEX_KIND,
    ROWS_FILE,
    RowsFile,
    SegmentPaths,
    save_column,
    save_rows,
)

Array = np.ndarray[Any, Any]
DIM = 16
PK, VEC, GROUP, META = 100, 101, 102, 103
INDEX_ID = 900


def schema_of(key_type: DataType = DataType.INT64) -> CollectionSchema:
    return CollectionSchema(
        with_field_ids(
            [
                FieldSchema(0, "id", key_type, is_primary=True, max_length=64),
                FieldSchema(0, "vec", DataType.FLOAT_VECTOR, dim=DIM),
                FieldSchema(0, "group", DataType.INT64),
                FieldSchema(0, "$meta", DataType.JSON, is_dynamic=True),
            ]
        ),
        enable_dynamic_field=True,
    )


SCHEMA = schema_of()


def keys_of(numbers: Sequence[int] | Array, key_type: DataType = DataType.INT64) -> Any:
    if key_type is DataType.INT64:
        return np.array(numbers, np.int64)
    return pa.array([f"k{n}" for n in numbers], pa.string())


def batch_of(
    numbers: Sequence[int] | Array, vectors: Array | None = None, key_type: DataType = DataType.INT64
) -> ColumnBatch:
    """Rows with these keys; `group` is the key modulo 100, `$meta` names the key."""
    n = len(numbers)
    if vectors is None:
        vectors = np.array([np.full(DIM, x) for x in numbers], np.float32).reshape(n, DIM)
    texts = [orjson.dumps({"n": int(x)}) for x in numbers]
    return ColumnBatch(
        n,
        {
            PK: Column(key_type, keys_of(numbers, key_type)),
            VEC: Column(DataType.FLOAT_VECTOR, vectors),
            GROUP: Column(DataType.INT64, np.array(numbers, np.int64) % 100),
            META: json_column(pa.array(texts, pa.binary())),
        },
    )


def deletes_of(
    numbers: Sequence[int],
    ts: Sequence[int] | int,
    partition_id: int = ALL_PARTITIONS,
    key_type: DataType = DataType.INT64,
) -> DeleteBatch:
    stamps = np.full(len(numbers), ts, np.int64) if isinstance(ts, int) else np.array(ts, np.int64)
    return DeleteBatch(keys_of(numbers, key_type), stamps, np.full(len(numbers), partition_id, np.int64))


def seal(
    root: Path, rows: Chunk, metric: MetricType | None = None, resident: bool = True, segment_id: int = 7
) -> SealedSegment:
    """Write a chunk as a sealed segment, with an HNSW graph if a metric is given, and open it."""
    paths = SegmentPaths(root)
    make_directory(paths.segment(1, segment_id))
    rows_bytes = save_rows(
        paths.segment(1, segment_id) / ROWS_FILE, RowsFile(rows.insert_ts, rows.keys.sorted_keys, rows.keys.order)
    )
    sizes = {i: save_column(paths.column(1, segment_id, i), c) for i, c in rows.batch.columns.items()}
    meta = SegmentMeta(
        segment_id,
        1,
        rows.partition_id,
        rows.row_count,
        int(rows.insert_ts.min()),
        rows.max_insert_ts,
        rows_bytes,
        sizes,
    )
    indexes: dict[int, IndexSpec] = {}
    if metric is not None:
        path = paths.index(1, segment_id, f"{INDEX_ID}.index")
        params = {"M": 16, "efConstruction": 200}
        hnsw = TYPES["HNSW"]
        hnsw.save(hnsw.build(rows.batch.columns[VEC].values, params, metric, DataType.FLOAT_VECTOR, 2), path)
        size = seal_written(path, INDEX_KIND, FORMAT_VERSION)
        meta = replace(meta, indexes={INDEX_ID: SegmentIndexMeta(INDEX_ID, path.name, size)})
        indexes = {VEC: IndexSpec(INDEX_ID, VEC, "vec", "HNSW", metric, build_type="HNSW")}
    spec = LoadSpec(rows.schema, frozenset(rows.batch.columns), indexes, mapped=not resident)
    return open_segment(paths, meta, spec)


def chunk_of(
    numbers: Sequence[int] | Array,
    ts: int = 10,
    vectors: Array | None = None,
    partition_id: int = 1,
    key_type: DataType = DataType.INT64,
) -> Chunk:
    return make_chunk(schema_of(key_type), 5, partition_id, batch_of(numbers, vectors, key_type), ts)


def joined(*chunks: Chunk) -> Chunk:
    return join_chunks(chunks)
