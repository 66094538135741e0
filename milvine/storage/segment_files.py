"""The files of one sealed segment, in its own directory.

  rows.seg          insert timestamps, keys in order, and the row offset of each ("the key index")
  <field id>.col    one column; JSON with its shredded paths beside the text
  <index id>.index  one vector index, as faiss wrote it, or one scalar index
Deletes of a collection are beside its segments as <delta id>.delta. All are sealed files (see `files`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from milvine.errors import DataIntegrityError
from milvine.model.columns import Column
from milvine.model.json_paths import AnyPathColumn, JsonKind, PathColumn, ShreddedPaths, SparsePathColumn, dense
from milvine.model.records import record
from milvine.model.segments import DeleteBatch
from milvine.model.types import DataType
from milvine.storage.arrow_batches import decode_stream, decode_streams, encode_stream, from_arrow, to_arrow
from milvine.storage.files import MappedFile, OnBytes, ignore_bytes, open_sealed, save_sealed
from milvine.storage.wal_records import decode_deletes, encode_deletes

FORMAT_VERSION = 1
_SPARSE_COLUMN_VERSION = 2
"""The version of a column with paths that few rows have; other columns have version 1."""
COLUMN_KIND, ROWS_KIND, INDEX_KIND, DELTA_KIND = "column", "rows", "index", "delta"
SCALAR_KIND = "scalar"
ROWS_FILE = "rows.seg"
BACKUPS = "backups"
"""The directory of backups in progress."""
KEPT_LOGS = "kept_logs"
_PATH_PARTS = ("kinds", "integers", "doubles", "strings")
_NOT_OURS = (KeyError, ValueError, TypeError, AttributeError, pa.ArrowException)
"""Errors from reading arrays of wrong names and types: a file that is only mapped may hold anything."""


@record
class SegmentPaths:
    """Paths in the data directory."""

    root: Path

    def collection(self, collection_id: int) -> Path:
        return self.root.joinpath("segments", str(collection_id))

    def segment(self, collection_id: int, segment_id: int) -> Path:
        return self.root.joinpath("segments", str(collection_id), str(segment_id))

    def column(self, collection_id: int, segment_id: int, field_id: int) -> Path:
        return self.segment(collection_id, segment_id) / f"{field_id}.col"

    def index(self, collection_id: int, segment_id: int, file_name: str) -> Path:
        return self.segment(collection_id, segment_id) / file_name

    def delta(self, collection_id: int, delta_id: int) -> Path:
        return self.collection(collection_id) / f"{delta_id}.delta"

    def backup_image(self, backup_id: int) -> Path:
        """What a backup in progress copies beside the segment files."""
        return self.root / BACKUPS / str(backup_id)

    def wal(self, collection_id: int) -> Path:
        return self.root.joinpath("wal", str(collection_id))

    @property
    def kept_logs(self) -> Path:
        return self.root / KEPT_LOGS

    def kept_log(self, collection_id: int) -> Path:
        """Log files of a collection whose rows are sealed."""
        return self.kept_logs / str(collection_id)


def save_column(path: Path, column: Column, *, synced: bool = True) -> int:
    """Returns the file's size in bytes; see `save_sealed` for errors and durability."""
    arrays: dict[str, pa.Array] = {"value": to_arrow(column)}
    sparse: dict[str, pa.Array] = {}
    metadata = {"data_type": str(int(column.data_type))}
    if column.paths is not None:
        for number, path_column in enumerate(column.paths.columns.values()):
            if isinstance(path_column, SparsePathColumn):
                sparse[f"{number}.rows"] = _as_row(path_column.rows)
                sparse |= {name: _as_row(part) for name, part in _path_parts(number, path_column.values).items()}
            else:
                arrays |= _path_parts(number, path_column)
        metadata["paths"] = orjson.dumps([list(p) for p in column.paths.columns]).decode()
        metadata["paths_complete"] = "1" if column.paths.is_complete else "0"
        metadata["paths_tell_empty"] = "1"
    stream = encode_stream(arrays, metadata)
    if not sparse:
        return save_sealed(path, COLUMN_KIND, FORMAT_VERSION, stream, synced=synced)
    return save_sealed(path, COLUMN_KIND, _SPARSE_COLUMN_VERSION, [*stream, *encode_stream(sparse)], synced=synced)


def _path_parts(number: int, column: PathColumn) -> dict[str, pa.Array]:
    parts = {f"{number}.{part}": getattr(column, part) for part in _PATH_PARTS}
    return {n: pa.array(p) if isinstance(p, np.ndarray) else p for n, p in parts.items() if p is not None}


def open_column(
    path: Path, data_type: DataType, *, resident: bool, on_bytes: OnBytes = ignore_bytes
) -> tuple[Column, MappedFile]:
    mapped = open_sealed(path, COLUMN_KIND, _SPARSE_COLUMN_VERSION, resident=resident, on_bytes=on_bytes)
    (arrays, metadata), *more = decode_streams(mapped.payload, path)
    try:
        column = from_arrow(data_type, arrays["value"])
        if data_type is DataType.JSON:
            names = [tuple(p) for p in orjson.loads(metadata["paths"])]
            sparse = {name: row.flatten() for name, row in (more[0][0] if more else {}).items()}
            paths = {name: _any_path_column(arrays, sparse, number) for number, name in enumerate(names)}
            complete = metadata["paths_complete"] == "1"
            if "paths_tell_empty" not in metadata:
                paths = {name: c for name, c in paths.items() if not (dense(c).kinds == JsonKind.OTHER).any()}
                complete = complete and len(paths) == len(names)
            column = Column(data_type, column.values, column.validity, ShreddedPaths(paths, complete))
    except _NOT_OURS as error:
        raise DataIntegrityError(f"{path} does not hold a column of {data_type.milvus_name}: {error!r}") from error
    return column, mapped


def _any_path_column(arrays: dict[str, pa.Array], sparse: dict[str, pa.Array], number: int) -> AnyPathColumn:
    rows = sparse.get(f"{number}.rows")
    if rows is None:
        return _path_column(arrays, number)
    return SparsePathColumn(len(arrays["value"]), rows.to_numpy(), _path_column(sparse, number))


def _path_column(arrays: dict[str, pa.Array], number: int) -> PathColumn:
    def numbers(part: str) -> Any:
        array = arrays.get(f"{number}.{part}")
        return None if array is None else array.to_numpy()

    return PathColumn(numbers("kinds"), numbers("integers"), numbers("doubles"), arrays.get(f"{number}.strings"))


@record
class RowsFile:
    """insert_ts: int64 (n,). sorted_keys: int64 (n,) or StringArray, ascending. order: int32 (n,), row offsets."""

    insert_ts: np.ndarray[Any, np.dtype[np.int64]]
    sorted_keys: Any
    order: np.ndarray[Any, np.dtype[np.int32]]


def save_rows(path: Path, rows: RowsFile, *, synced: bool = True) -> int:
    keys = pa.array(rows.sorted_keys) if isinstance(rows.sorted_keys, np.ndarray) else rows.sorted_keys
    stream = encode_stream({"insert_ts": pa.array(rows.insert_ts), "sorted_key": keys, "order": pa.array(rows.order)})
    return save_sealed(path, ROWS_KIND, FORMAT_VERSION, stream, synced=synced)


def open_rows(path: Path, *, resident: bool, on_bytes: OnBytes = ignore_bytes) -> tuple[RowsFile, MappedFile]:
    mapped = open_sealed(path, ROWS_KIND, FORMAT_VERSION, resident=resident, on_bytes=on_bytes)
    arrays, _ = decode_stream(mapped.payload, path)
    try:
        keys = arrays["sorted_key"]
        rows = RowsFile(
            arrays["insert_ts"].to_numpy(),
            keys.to_numpy() if pa.types.is_int64(keys.type) else keys,
            arrays["order"].to_numpy(),
        )
    except _NOT_OURS as error:
        raise DataIntegrityError(f"{path} does not hold keys and timestamps: {error!r}") from error
    return rows, mapped


def save_delta(path: Path, batch: DeleteBatch) -> int:
    return save_sealed(path, DELTA_KIND, FORMAT_VERSION, encode_deletes(batch))


def open_delta(path: Path) -> DeleteBatch:
    return decode_deletes(open_sealed(path, DELTA_KIND, FORMAT_VERSION, resident=True).payload, path)


def open_index_file(path: Path, *, resident: bool, on_bytes: OnBytes = ignore_bytes) -> MappedFile:
    return open_sealed(path, INDEX_KIND, FORMAT_VERSION, resident=resident, on_bytes=on_bytes)


def save_scalar_index(path: Path, arrays: Mapping[str, Any], described: Any) -> int:
    """Arrays (numpy or pyarrow, of any lengths) by name, and their description as JSON. Returns the file's size."""
    lists = {name: _as_row(values) for name, values in arrays.items()}
    metadata = {"indexes": orjson.dumps(described).decode()}
    return save_sealed(path, SCALAR_KIND, FORMAT_VERSION, encode_stream(lists, metadata))


def open_scalar_index(
    path: Path, *, resident: bool, on_bytes: OnBytes = ignore_bytes
) -> tuple[dict[str, Any], Any, MappedFile]:
    """The saved arrays, viewing the file, and their description; strings are StringArrays."""
    mapped = open_sealed(path, SCALAR_KIND, FORMAT_VERSION, resident=resident, on_bytes=on_bytes)
    lists, metadata = decode_stream(mapped.payload, path)
    try:
        flat = {name: row.flatten() for name, row in lists.items()}
        arrays = {name: a if pa.types.is_string(a.type) else a.to_numpy() for name, a in flat.items()}
        return arrays, orjson.loads(metadata["indexes"]), mapped
    except _NOT_OURS as error:
        raise DataIntegrityError(f"{path} does not hold a scalar index: {error!r}") from error


def _as_row(values: Any) -> pa.LargeListArray:
    """A record batch holds arrays of one length, so each of our arrays is one row of it."""
    array = pa.array(values) if isinstance(values, np.ndarray) else values
    return pa.LargeListArray.from_arrays(pa.array([0, len(array)], pa.int64()), array)
