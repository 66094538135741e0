"""Writes one sealed segment: its columns and its rows file, in any order, and then makes them durable.

Flushes, merges and whatever else makes segments write them here. A file of indexes is made later, beside them.
"""

from __future__ import annotations

from pathlib import Path

from milvine.model.columns import Column
from milvine.model.segments import SegmentMeta
from milvine.storage.directories import make_directory, sync_directory
from milvine.storage.segment_files import ROWS_FILE, RowsFile, SegmentPaths, save_column, save_rows


class SegmentWriter:
    """One segment whose directory is made at once. If anything raises, the caller removes `directory`."""

    def __init__(
        self,
        paths: SegmentPaths,
        collection_id: int,
        partition_id: int,
        segment_id: int,
        unsynced: list[Path] | None = None,
    ) -> None:
        """`unsynced` gets the files and the directory, which the caller syncs before that of the collection. Without
        it they are synced here."""
        self.directory: Path = paths.segment(collection_id, segment_id)
        self._paths = paths
        self._collection_id = collection_id
        self._partition_id = partition_id
        self._segment_id = segment_id
        self._field_bytes: dict[int, int] = {}
        self._rows: RowsFile | None = None
        self._rows_bytes = 0
        self._unsynced = unsynced
        if unsynced is None:
            make_directory(self.directory)
        else:
            self.directory.mkdir()

    def add_column(self, field_id: int, column: Column) -> None:
        path = self._paths.column(self._collection_id, self._segment_id, field_id)
        self._field_bytes[field_id] = save_column(path, column, synced=self._is_synced(path))

    def add_rows(self, rows: RowsFile) -> None:
        """At least one row."""
        path = self.directory / ROWS_FILE
        self._rows_bytes = save_rows(path, rows, synced=self._is_synced(path))
        self._rows = rows

    def _is_synced(self, path: Path) -> bool:
        if self._unsynced is not None:
            self._unsynced.append(path)
        return self._unsynced is None

    def finish(self, folded_ts: int = 0, compacted_from: tuple[int, ...] = ()) -> SegmentMeta:
        """The record of the segment, whose files are all durable or unsynced. `add_rows` was called."""
        assert self._rows is not None
        if self._is_synced(self.directory):
            sync_directory(self.directory)
        timestamps = self._rows.insert_ts
        return SegmentMeta(
            self._segment_id,
            self._collection_id,
            self._partition_id,
            len(timestamps),
            int(timestamps.min()),
            int(timestamps.max()),
            self._rows_bytes,
            self._field_bytes,
            folded_ts=folded_ts,
            compacted_from=compacted_from,
        )
