"""Log files whose rows are sealed. They are removed, or kept for a while for restores to a moment between backups."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Set
from pathlib import Path

from milvine.storage.directories import make_directory, sync_directory
from milvine.storage.files import link_or_copy, remove_tree
from milvine.storage.segment_files import SegmentPaths
from milvine.storage.wal import wal_file_numbers, wal_path

_LOOK_SECONDS = 60.0


class KeptLogs:
    """A directory for each collection, of dropped ones too. A file goes `keep_seconds` after its last record; 0:
    nothing is kept."""

    def __init__(self, paths: SegmentPaths, keep_seconds: float) -> None:
        self._paths = paths
        self._keep_seconds = keep_seconds
        self._lock = threading.Lock()
        self._looked = 0.0

    def take_before(self, collection_id: int, file_number: int) -> None:
        """Moves the files before one out of the log, if they are to be kept."""
        if self._keep_seconds:
            numbers = wal_file_numbers(self._paths.wal(collection_id))
            self._take(collection_id, [number for number in numbers if number < file_number])

    def take(self, collection_id: int) -> None:
        """Moves all files of the log of a dropped collection, if they are to be kept."""
        self.take_before(collection_id, sys.maxsize)

    def take_others(self, collection_ids: Set[int]) -> None:
        """Takes the logs of all other collections, whose drop a crash interrupted."""
        for directory in [*(self._paths.root / "wal").iterdir()]:
            if directory.name.isdigit() and int(directory.name) not in collection_ids:
                self.take(int(directory.name))

    def _take(self, collection_id: int, numbers: list[int]) -> None:
        if not numbers:
            return
        directory, kept = self._paths.wal(collection_id), self._paths.kept_log(collection_id)
        with self._lock:
            make_directory(kept)
            for number in numbers:
                wal_path(directory, number).rename(wal_path(kept, number))
        sync_directory(kept)
        sync_directory(directory)

    def expire(self) -> None:
        """Removes what has been kept long enough, everything if nothing is to be kept. Looks once a minute; files that
        cannot be removed stay until then."""
        if time.monotonic() < self._looked + _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        root = self._paths.kept_logs
        if not self._keep_seconds:
            remove_tree(root)
            return
        until = time.time() - self._keep_seconds
        with self._lock, contextlib.suppress(OSError):
            for path in self.files():
                if path.stat().st_mtime < until:
                    path.unlink()
            for directory in [*root.iterdir()] if root.is_dir() else ():
                with contextlib.suppress(OSError):  # it has files
                    directory.rmdir()

    def link_into(self, image: Path) -> None:
        """Gives each file a further name, below a directory."""
        for path in self.files():
            link = image / path.relative_to(self._paths.root)
            make_directory(link.parent)
            with contextlib.suppress(FileNotFoundError):  # it was kept long enough
                link_or_copy(path, link)

    def files(self) -> list[Path]:
        return sorted(self._paths.kept_logs.glob("*/*.wal"))
