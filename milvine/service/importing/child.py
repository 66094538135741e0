"""Reads the files of an import job and writes their rows as segments; runs in a child process.

Nothing here changes the server's state: if the child ends early, its files are garbage.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.analysis import dictionaries
from milvine.analysis.outputs import with_outputs
from milvine.crash_points import crash_point
from milvine.datanode.segment_builder import SegmentBuilder, SegmentBuilders
from milvine.errors import DiskLimitExceeded, ImportFailed, InputError, IoFailed, MilvineError
from milvine.model.columns import Column, ColumnBatch, absent_column
from milvine.model.functions import FunctionType
from milvine.model.import_jobs import MAX_FILE_BYTES, FileStats
from milvine.model.partition_keys import routed
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType
from milvine.service.checked_columns import checked_column
from milvine.service.importing import options
from milvine.service.importing.batches import RawBatch, Reader, Rules, located
from milvine.service.importing.csv_files import CsvReader, separator_of
from milvine.service.importing.json_files import JsonReader
from milvine.service.importing.orders import PROGRESS, ReadAnswer, ReadOrder
from milvine.service.moments import moment_column, zone_of
from milvine.storage.files import remove_tree
from milvine.storage.resource_files import ResourceFiles

_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def read(order: ReadOrder) -> ReadAnswer:
    limit = order.settings.import_memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    pa.set_memory_pool(pa.system_memory_pool())
    pa.set_cpu_count(1)
    dictionaries.install(ResourceFiles(order.paths.root, order.file_resources.get))
    return read_files(order)


def read_files(order: ReadOrder) -> ReadAnswer:
    """Leaves no files if it fails."""
    reading = _Reading(order)
    try:
        answer = reading.run()
    except MilvineError as error:
        answer = ReadAnswer(failure=error.message, is_input_error=error.is_input_error)
    except MemoryError:
        limit = order.settings.import_memory_bytes
        answer = ReadAnswer(
            failure=f"{reading.where()}needs more memory than import.memory allows, {limit} bytes: {ImportFailed.text}"
        )
    except OSError as error:
        answer = ReadAnswer(failure=_system_failure(error).message, is_input_error=False)
    if answer.failure:
        reading.discard()
    return answer


def _system_failure(error: OSError) -> MilvineError:
    text = error.strerror or str(error)
    if error.errno in _DISK_IS_FULL:
        return DiskLimitExceeded(f"cannot write {error.filename or 'a file'}: {text}")
    return IoFailed(f"cannot read or write {error.filename or 'a file'}: {text}")


class _Reading:
    def __init__(self, order: ReadOrder) -> None:
        self._order = order
        self._schema = order.collection.schema
        self._rules = Rules(self._schema, order.collection.properties)
        self._zone = zone_of(order.collection.properties)
        self._segment_ids = count(order.first_segment_id)
        self._next_key = order.first_key
        half_rows, half_bytes = order.settings.segment_max_rows // 2, order.settings.segment_max_bytes // 2
        # Above half of the limits, since smaller segments would be merged at once.
        self._builders = SegmentBuilders(
            self._schema, self._begin, order.insert_ts, half_rows + 1, half_bytes + half_bytes // 50
        )
        self._embeds = any(f.function_type is FunctionType.TEXT_EMBEDDING for f in self._schema.functions)
        self._current: tuple[str, ...] = ()

    def _begin(self, partition_id: int) -> SegmentBuilder:
        order = self._order
        return SegmentBuilder(order.paths, order.collection.collection_id, partition_id, next(self._segment_ids))

    def where(self) -> str:
        return f"the import of {', '.join(self._current)} " if self._current else "the import "

    def run(self) -> ReadAnswer:
        stats = []
        rows = 0
        for number, paths in enumerate(self._order.files):
            self._current = paths
            first = rows
            try:
                with self._opened(paths) as reader:
                    self._tell(number, 0, rows)
                    for batch in reader.batches():
                        self._add(batch, rows - first)
                        rows += batch.row_count
                        self._tell(number, 1000 * batch.read_bytes // max(1, reader.size), rows)
                    stats.append(FileStats(reader.size, rows - first))
            except InputError as error:
                text = error.message.removesuffix(f": {ImportFailed.text}")
                raise ImportFailed(f"{text}, file: {', '.join(paths)}") from error
        segments = self._builders.finish()
        crash_point("import.child_done")
        return ReadAnswer(segments, tuple(stats))

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._builders.discard()
            for meta in self._builders.written:
                remove_tree(self._order.paths.segment(meta.collection_id, meta.segment_id))

    def _tell(self, number: int, thousandths: int, rows: int) -> None:
        with contextlib.suppress(BlockingIOError):  # the parent is slow, and later numbers matter more
            os.write(self._order.progress_fd, PROGRESS.pack(number, min(1000, thousandths), rows))

    @contextlib.contextmanager
    def _opened(self, paths: tuple[str, ...]) -> Iterator[Reader]:
        kind = options.file_kind(paths)
        with contextlib.ExitStack() as opened:
            files: dict[str, tuple[Any, int]] = {}
            for path in paths:
                file, size = self._order.places.open(path)
                opened.enter_context(contextlib.closing(file))
                if size > MAX_FILE_BYTES:
                    raise ImportFailed(
                        "The import file size has reached the maximum limit allowed for importing, "
                        f"fileSize={size}, maxSize={MAX_FILE_BYTES}"
                    )
                files[path] = file, size
            yield self._reader(kind, files)

    def _reader(self, kind: str, files: dict[str, tuple[Any, int]]) -> Reader:
        rules, given = self._rules, self._order.options
        if kind == options.NUMPY:
            from milvine.service.importing.numpy_files import NumpyReader

            return NumpyReader(files, rules)
        ((file, size),) = files.values()
        if kind == options.PARQUET:
            from milvine.service.importing.parquet_files import ParquetReader

            return ParquetReader(file, size, rules)
        if kind == options.CSV:
            return CsvReader(file, size, rules, separator_of(given), given.get("nullkey", ""))
        return JsonReader(file, size, rules, is_lines=kind == options.JSON_LINES)

    def _read(self, field: FieldSchema, column: Column) -> Column:
        is_moment = field.data_type is DataType.TIMESTAMPTZ
        return moment_column(column, self._zone) if is_moment else column

    def _add(self, raw: RawBatch, first_row: int) -> None:
        columns: dict[int, Column] = {}
        for field in self._schema.fields:
            convert = raw.columns.get(field.name)
            if convert is not None:
                columns[field.field_id] = located(
                    lambda start, stop, field=field, convert=convert: checked_column(  # type: ignore[misc]
                        self._schema, field, self._read(field, convert(start, stop)), stop - start
                    ),
                    raw.row_count,
                    first_row,
                )
            elif field.made_by is None:
                columns[field.field_id] = self._made(field, raw.row_count)
        batch = ColumnBatch(raw.row_count, columns)
        if self._embeds:
            # These modules take longer to import than a small file to read.
            from milvine.service.importing.embedding import embedded

            batch = embedded(self._order, batch)
        batch = with_outputs(self._schema, batch)
        for partition_id, part in routed(self._schema, self._order.partition_ids, self._order.partition_id, batch):
            self._builders.add(partition_id, part)

    def _made(self, field: FieldSchema, row_count: int) -> Column:
        if not field.is_primary:
            return absent_column(field, row_count)
        keys: Any = np.arange(self._next_key, self._next_key + row_count, dtype=np.int64)
        self._next_key += row_count
        return Column(field.data_type, keys if field.data_type is DataType.INT64 else pc.cast(keys, pa.string()))
