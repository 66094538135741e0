"""Keeps object store and cache as the catalog wants them: evicts copies, uploads and removes objects.

Level-triggered: each sweep compares all objects with the catalog, so whatever a crash, an outage or a compaction leaves
is found by the same step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from milvine.background import Supervisor
from milvine.catalog.store import Catalog
from milvine.config import Settings
from milvine.datanode.catalog_files import is_named, named_files
from milvine.storage.logs import ChosenLogs
from milvine.storage.store import FIRST_EVICTION_SECONDS, CachedStore

_log = logging.getLogger(__name__)
_SWEEPS_PER_WAIT = 2
_LEAST_SECONDS = 0.5
_EVICTION_PAUSE_SECONDS = 0.2
"""An eviction looks at every file, and a load may fill the cache with each file that it fetches."""


class StoreKeeper:
    """One thread."""

    def __init__(
        self, settings: Settings, catalog: Catalog, store: CachedStore, logs: ChosenLogs, supervisor: Supervisor
    ) -> None:
        self._wait_seconds = settings.store_removal_seconds
        self._interval_seconds = max(_LEAST_SECONDS, self._wait_seconds / _SWEEPS_PER_WAIT)
        self._catalog = catalog
        self._store = store
        self._logs = logs
        self._worker = supervisor.worker("object_store", self._step)
        self._swept_at = float("-inf")
        self._is_counted = False
        self._evicts_at = float("inf")
        """0 after the first eviction: then each step evicts."""
        store.is_named = lambda path: is_named(store.paths, catalog.snapshot, path)
        store.on_full = self._is_full

    def start(self) -> None:
        self._evicts_at = min(self._evicts_at, time.monotonic() + FIRST_EVICTION_SECONDS)
        self._worker.start()

    def _is_full(self) -> None:
        self._evicts_at = 0.0
        self._worker.wake()

    def _named(self) -> Mapping[Path, int]:
        return named_files(self._store.paths, self._catalog.snapshot)

    def _checkpoints(self) -> Mapping[int, int]:
        return {one.collection_id: one.checkpoint_file for one in self._catalog.snapshot.collections.values()}

    def _evict(self) -> None:
        if time.monotonic() >= self._evicts_at:
            self._evicts_at = 0.0
            self._store.evict(self._named())
        elif not self._is_counted:
            self._store.count_copies()
        self._is_counted = True

    def _step(self) -> float:
        self._evict()
        due = self._swept_at + self._interval_seconds
        if time.monotonic() >= due:
            if removed := self._store.sweep(self._named, self._wait_seconds):
                _log.info("removed %d objects that no collection needs", removed)
            if removed := self._logs.sweep(self._checkpoints, self._store.check_claim, self._wait_seconds):
                _log.info("removed %d objects of logs", removed)
            self._swept_at = time.monotonic()
            self._evict()
            due = self._swept_at + self._interval_seconds
        self._worker.pause(_EVICTION_PAUSE_SECONDS)
        return max(0.0, min(due, self._evicts_at or due) - time.monotonic())
