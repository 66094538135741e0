"""Reads every sealed file of the catalog, slowly and repeatedly, and reports those with wrong checksums. It changes
nothing: an open damaged file is served until it is opened again, or its collection is dropped or restored.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from milvine import metrics
from milvine.background import Supervisor, Work
from milvine.catalog.store import Catalog
from milvine.config import Settings
from milvine.datanode.catalog_files import named_files
from milvine.datanode.check import check_size
from milvine.errors import (
    DataIntegrityError,
    DiskLimitExceeded,
    IoFailed,
    WriteFailed,
)
from milvine.storage.files import read_and_verify
from milvine.storage.store import SegmentStore

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 60.0


class _Stopped(Exception):
    """The server stops while a file is read."""


class Scrubber:
    """One thread. The list of verified files is lost when the process ends."""

    def __init__(self, settings: Settings, catalog: Catalog, store: SegmentStore, supervisor: Supervisor) -> None:
        self._bytes_per_second = settings.scrub_bytes_per_second
        self._interval_seconds = settings.scrub_interval_seconds
        self._catalog = catalog
        self._store = store
        self._verified_at: dict[Path, float] = {}
        self._files: Work[Path] = supervisor.work("scrub", lambda path: path in self._named())
        """The damaged files."""
        self._worker = supervisor.worker("scrub", self._step)
        metrics.damaged_files.set_function(lambda: len(self._files.keys()))

    def start(self) -> None:
        if self._bytes_per_second:
            self._worker.start()

    def _named(self) -> dict[Path, int]:
        return named_files(self._store.paths, self._catalog.snapshot)

    def _step(self) -> float:
        """Verifies the files that are due, longest unverified first."""
        named = self._named()
        self._verified_at = {path: at for path, at in self._verified_at.items() if path in named}
        self._files.retain(named.keys())
        due = time.monotonic() - self._interval_seconds
        for path in sorted(named, key=lambda path: self._verified_at.get(path, 0.0)):
            if self._verified_at.get(path, due) <= due and self._store.is_local(path):
                try:
                    is_known = self._verify(path, named[path])
                except _Stopped:
                    break
                if is_known:
                    self._verified_at[path] = time.monotonic()
        return min(_LOOK_SECONDS, self._interval_seconds)

    def _verify(self, path: Path, size: int) -> bool:
        """False if it is damaged, and the store that may have it whole cannot be reached."""
        try:
            check_size(path, size)
            read_and_verify(path, self._pause)
        except (DataIntegrityError, OSError) as error:
            return self._repair(path, error)
        self._files.succeeded([path])
        return True

    def _repair(self, path: Path, found: Exception) -> bool:
        try:
            if self._store.repaired(path):
                self._files.succeeded([path])
                return True
        except (IoFailed, DiskLimitExceeded, WriteFailed) as error:
            _log.warning("%s is damaged, and is not fetched again: %s", path, error.message)
            return False
        except DataIntegrityError as error:
            found = error
        if path in self._named() and self._files.failure(path) is None:
            self._files.failed([path], "a sealed file is damaged", found, is_final=True)
        return True

    def _pause(self, byte_count: int) -> None:
        if self._worker.pause(byte_count / self._bytes_per_second):
            raise _Stopped
