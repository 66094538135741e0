"""Reads every sealed file that the catalog names, slowly and again and again, and says which no longer hold what was
written. Nothing else comes of it: a damaged file serves as it is until it is opened, or until its collection is
dropped or restored.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from milvine import metrics
from milvine.catalog.store import Catalog
from milvine.config import Settings
from milvine.datanode.check import check_size
from milvine.datanode.recovery import named_files
from milvine.errors import DataIntegrityError
from milvine.storage.files import read_and_verify
from milvine.storage.segment_files import SegmentPaths

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 60.0


class Scrubber:
    """One thread. What it has verified is forgotten at the end of the process."""

    def __init__(self, settings: Settings, catalog: Catalog, paths: SegmentPaths) -> None:
        self._bytes_per_second = settings.scrub_bytes_per_second
        self._interval_seconds = settings.scrub_interval_seconds
        self._catalog = catalog
        self._paths = paths
        self._verified_at: dict[Path, float] = {}
        self._damaged: set[Path] = set()

    def start(self) -> None:
        if self._bytes_per_second:
            threading.Thread(target=self._run, name="scrubber", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(min(_LOOK_SECONDS, self._interval_seconds))
            try:
                self._pass()
            except Exception as error:  # noqa: BLE001 - the next pass may do better
                _log.error("verifying sealed files: %s", error)
                metrics.background_failures.labels("scrub").inc()

    def _named(self) -> dict[Path, int]:
        return named_files(self._paths, self._catalog.snapshot)

    def _pass(self) -> None:
        """Verify the files whose turn it is, longest unverified first."""
        named = self._named()
        self._verified_at = {path: at for path, at in self._verified_at.items() if path in named}
        self._count_damaged(self._damaged & named.keys())
        due = time.monotonic() - self._interval_seconds
        for path in sorted(named, key=lambda path: self._verified_at.get(path, 0.0)):
            if self._verified_at.get(path, due) <= due:
                self._verify(path, named[path])
                self._verified_at[path] = time.monotonic()

    def _verify(self, path: Path, size: int) -> None:
        try:
            check_size(path, size)
            read_and_verify(path, self._pause)
        except (DataIntegrityError, OSError) as error:
            if path in self._named() and path not in self._damaged:
                _log.error("a sealed file is damaged: %s", error)
                self._count_damaged(self._damaged | {path})
        else:
            self._count_damaged(self._damaged - {path})

    def _count_damaged(self, damaged: set[Path]) -> None:
        self._damaged = damaged
        metrics.damaged_files.set(len(damaged))

    def _pause(self, byte_count: int) -> None:
        time.sleep(byte_count / self._bytes_per_second)
