"""Builds the indexes of the segments of an import, which no collection names yet, and tells how far they are."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

from milvine.datanode.build_progress import BuildProgress
from milvine.datanode.index_build import Build, build_index
from milvine.datanode.workers import Workers
from milvine.errors import ServiceInternal
from milvine.model.collections import Collection
from milvine.model.records import record
from milvine.model.schema import IndexSpec
from milvine.model.segments import SegmentIndexMeta, SegmentMeta

_ATTEMPTS = 3


@record
class IndexOfImport:
    """Rows under one index. `running_seconds`: since the build of a segment started, None if none runs."""

    index: IndexSpec
    indexed_rows: int
    running_seconds: float | None


class ImportBuilds:
    """One build after the other; any thread may look."""

    def __init__(self, workers: Workers, collection: Collection, segments: tuple[SegmentMeta, ...]) -> None:
        self.collection = collection
        self.total_rows = sum(meta.row_count for meta in segments)
        self._workers = workers
        self._segments = segments
        self._lock = threading.Lock()
        self._done: Counter[int] = Counter()
        """Rows, by index."""
        self._building: Build | None = None

    def run(self, is_wanted: Callable[[], bool], pause: Callable[[int], None]) -> tuple[SegmentMeta, ...]:
        """The segments with the indexes of their collection. `pause` waits after a failure, by how many there were.
        Raises NotWanted, ServiceInternal if a build fails again and again, IoFailed."""
        found = []
        for meta in self._segments:
            built = {}
            for index in self.collection.indexes:
                built[index.index_id] = self._built(meta, index, is_wanted, pause)
                with self._lock:
                    self._done[index.index_id] += meta.row_count
            found.append(replace(meta, indexes=built))
        return tuple(found)

    def _built(
        self, meta: SegmentMeta, index: IndexSpec, is_wanted: Callable[[], bool], pause: Callable[[int], None]
    ) -> SegmentIndexMeta:
        data_type = self.collection.schema.by_id[index.field_id].data_type
        for attempt in count(1):
            try:
                with self._shown(meta, index) as progress:
                    return build_index(self._workers, meta, index, data_type, is_wanted, progress=progress)
            except ServiceInternal:  # the child died
                if attempt == _ATTEMPTS:
                    raise
                pause(attempt)
        raise AssertionError("unreachable")

    @contextmanager
    def _shown(self, meta: SegmentMeta, index: IndexSpec) -> Iterator[BuildProgress]:
        progress = BuildProgress()
        try:
            self._building = Build(meta, index, time.monotonic(), progress)
            yield progress
        finally:
            with self._lock:
                self._building = None
            progress.close()

    def indexes(self) -> list[IndexOfImport]:
        with self._lock:
            building = self._building
            found = []
            for index in self.collection.indexes:
                rows, seconds = self._done[index.index_id], None
                if building is not None and building.index is index:
                    rows, seconds = rows + building.indexed_rows, time.monotonic() - building.started
                found.append(IndexOfImport(index, rows, seconds))
        return found

    def percent(self) -> int:
        total = self.total_rows * len(self.collection.indexes)
        return 100 * sum(one.indexed_rows for one in self.indexes()) // max(1, total)
