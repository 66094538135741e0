"""Builds the missing indexes of all sealed segments, one at a time, in the background.

Level-triggered: a wake-up only makes the next step earlier. A failed build is retried with growing pauses while others
continue; after two failures the index shows the failure until a build succeeds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Set
from dataclasses import replace

from milvine.analysis.dictionaries import resources_of
from milvine.background import Supervisor, Work
from milvine.catalog.segments import commit_index_build, commit_scans
from milvine.catalog.store import Catalog
from milvine.child import NotWanted
from milvine.crash_points import crash_point
from milvine.datanode.build_order import BuildOrder
from milvine.datanode.build_progress import BuildProgress
from milvine.datanode.build_scalar_process import build_scalar
from milvine.datanode.catalog_files import remove_files
from milvine.datanode.workers import Workers
from milvine.index.index_type import MIN_INDEXED_ROWS
from milvine.index.registry import TYPES
from milvine.model import json_text
from milvine.model.collections import Collection
from milvine.model.properties import ANALYZER_PARAMS
from milvine.model.records import record
from milvine.model.schema import IndexSpec
from milvine.model.segments import SegmentIndexMeta, SegmentMeta
from milvine.model.types import DataType
from milvine.segment.view import Views
from milvine.storage.directories import sync_directory

_LOOK_SECONDS = 0.5
_SMALL_ROWS = 20_000
"""Sorting this many values takes less time than starting a process."""


@record
class IndexProgress:
    """Rows of sealed segments under one index. `failure`: why a build fails repeatedly, or empty."""

    total_rows: int
    indexed_rows: int
    failure: str


@record
class Build:
    """A running build, which started at `started` (time.monotonic)."""

    meta: SegmentMeta
    index: IndexSpec
    started: float
    progress: BuildProgress

    @property
    def indexed_rows(self) -> int:
        """Less than all rows of the segment until the build is committed."""
        return min(self.progress.rows(), self.meta.row_count - 1)


class IndexBuilder:
    """One thread that finds missing indexes, and one child process that builds them."""

    def __init__(self, catalog: Catalog, views: Views, workers: Workers, supervisor: Supervisor) -> None:
        self._catalog = catalog
        self._views = views
        self._workers = workers
        self._store = workers.store
        self._paths = self._store.paths
        self._builds: Work[tuple[int, int]] = supervisor.work("index_build")
        """By segment and index."""
        self._worker = supervisor.worker("index_build", self._step)
        self._has_deferred = False
        self._complete: dict[int, tuple[Collection, tuple[SegmentMeta, ...]]] = {}
        """Collections, by id, that lacked no index when they had these segments."""
        self._building: Build | None = None
        self._ended = threading.Condition()
        self._will_merge: Callable[[SegmentMeta], bool] = lambda _meta: False
        self._is_merging: Callable[[int], bool] = lambda _segment_id: False

    def start(self, will_merge: Callable[[SegmentMeta], bool], is_merging: Callable[[int], bool]) -> None:
        """No index is started for a segment that will merge soon, nor finished for one (by id) that is merging."""
        self._will_merge = will_merge
        self._is_merging = is_merging
        self._worker.start()

    def look(self) -> None:
        """Called when an index may be missing."""
        self._worker.wake()

    def progress(self, collection_id: int, index_id: int) -> IndexProgress:
        metas = self._catalog.snapshot.segments.get(collection_id, ())
        missing = [m for m in metas if index_id not in m.indexes]
        total, indexed = sum(m.row_count for m in metas), sum(m.row_count for m in metas if index_id in m.indexes)
        with self._ended:
            building = self._building
            if building is not None and building.index.index_id == index_id and building.meta in missing:
                indexed += building.indexed_rows
        # A build is committed before its failures are forgotten, so an index that exists has not failed.
        failures = [self._builds.lasting((m.segment_id, index_id)) for m in missing]
        if missing and (damage := self._views.damage(collection_id)) is not None:
            failures.insert(0, damage.message)
        return IndexProgress(total, indexed, next(filter(None, failures), ""))

    def dropped(self, collection_id: int, index_id: int) -> None:
        """Removes builds of an index that has left the catalog; files go when they are no longer open."""
        self._views.replace(collection_id, lambda view: replace(view, sealed=_without_index(view.sealed, index_id)))
        self._views.changed(collection_id)
        snapshot = self._catalog.snapshot
        metas = snapshot.segments.get(collection_id, ())
        files = [self._paths.index(collection_id, m.segment_id, _file_name(index_id)) for m in metas]
        remove_files(self._paths, snapshot, collection_id, files)

    def _step(self) -> float | None:
        """Builds one index."""
        missing = self._next_missing()
        if missing is None:
            return _LOOK_SECONDS if self._has_deferred else None
        meta, index = missing
        self._run(Build(meta, index, time.monotonic(), BuildProgress()))
        return 0.0

    def _run(self, build: Build) -> None:
        meta, index = build.meta, build.index
        self._building = build
        try:
            self._build(build)
        except NotWanted:
            self._builds.succeeded([(meta.segment_id, index.index_id)])
        except Exception as error:  # noqa: BLE001 - it is recorded, and the other builds go on
            self._failed(meta, index, error, time.monotonic() - build.started)
        else:
            self._builds.succeeded([(meta.segment_id, index.index_id)])
        finally:
            with self._ended:
                self._building = None
                self._ended.notify_all()
            build.progress.close()

    def _failed(self, meta: SegmentMeta, index: IndexSpec, error: Exception, seconds: float = 0.0) -> None:
        """Records a failure, unless the segment or its collection was dropped during the build."""
        snapshot = self._catalog.snapshot
        collection = snapshot.collections.get(meta.collection_id)
        metas = snapshot.segments.get(meta.collection_id, ())
        if collection is not None and any(m.segment_id == meta.segment_id for m in metas):
            what = f"build of index {index.name} for segment {meta.segment_id} of collection {collection.name}"
            self._builds.failed([(meta.segment_id, index.index_id)], what, error, seconds)

    def end(self, collection_id: int) -> None:
        """Returns when no build runs for a collection that has left the catalog."""
        with self._ended:
            while self._building is not None and self._building.meta.collection_id == collection_id:
                self._ended.wait(1)

    def end_with(self, segment_ids: Set[int]) -> None:
        """Returns when no build runs for segments that have left the catalog."""
        with self._ended:
            while self._building is not None and self._building.meta.segment_id in segment_ids:
                self._ended.wait(1)

    def is_building(self, segment_id: int) -> bool:
        building = self._building
        return building is not None and building.meta.segment_id == segment_id

    def running(self) -> Build | None:
        return self._building

    def _next_missing(self) -> tuple[SegmentMeta, IndexSpec] | None:
        """The next build. Damaged collections are skipped."""
        snapshot = self._catalog.snapshot
        self._has_deferred = False
        waiting = self._builds.waiting()
        missing = set()
        complete = {}
        for collection_id, metas in snapshot.segments.items():
            collection = snapshot.collections.get(collection_id)
            if collection is None or self._views.peek(collection_id) is None:
                continue
            known = self._complete.get(collection_id)
            if known is not None and known[0] is collection and known[1] is metas:
                complete[collection_id] = known
                continue
            lacking = _lacking(collection, metas)
            if not lacking:
                complete[collection_id] = collection, metas
            made = {f.field_id for f in collection.schema.made_fields}
            for meta, index in lacking:
                key = (meta.segment_id, index.index_id)
                missing.add(key)
                is_filled = index.field_id in meta.field_bytes or index.field_id not in made
                if is_filled and key not in waiting and not self._is_deferred(meta, index):
                    return meta, index
                self._has_deferred = True
        self._complete = complete
        self._builds.retain(missing)
        return None

    def _is_deferred(self, meta: SegmentMeta, index: IndexSpec) -> bool:
        try:
            return not _needs_no_build(meta, index) and self._will_merge(meta)
        except Exception as error:  # noqa: BLE001 - it is recorded, and the other builds go on
            self._failed(meta, index, error)
            return True

    def _build(self, build: Build) -> None:
        meta, index = build.meta, build.index

        def is_wanted() -> bool:
            metas = self._catalog.snapshot.segments.get(meta.collection_id, ())
            is_there = any(m.segment_id == meta.segment_id for m in metas)
            return is_there and not self._is_merging(meta.segment_id) and not self._worker.is_stopping

        collection = self._catalog.snapshot.collections.get(meta.collection_id)
        if collection is None:
            return
        if _needs_no_build(meta, index):
            self._leave_to_scans(collection, index)
            return
        data_type = collection.schema.by_id[index.field_id].data_type
        built = build_index(self._workers, meta, index, data_type, is_wanted, progress=build.progress)
        made = [] if built.is_scan else [self._paths.index(meta.collection_id, meta.segment_id, built.file_name)]
        with self._store.storing(made):
            crash_point("build.files_written")
            if commit_index_build(self._catalog, meta.collection_id, meta.segment_id, built) is None:
                for path in made:
                    path.unlink(missing_ok=True)
                return
        crash_point("build.committed")
        self._views.replace(
            meta.collection_id,
            lambda view: view.with_current(
                meta.segment_id, self._catalog.snapshot.segments.get(meta.collection_id, ())
            ),
        )
        self._views.changed(meta.collection_id)

    def _leave_to_scans(self, collection: Collection, index: IndexSpec) -> None:
        """Notes all segments that need no file of an index, perhaps those of a thousand partitions, in one commit."""
        collection_id = collection.collection_id
        made = {f.field_id for f in collection.schema.made_fields}
        scanned = {
            m.segment_id
            for m in self._catalog.snapshot.segments.get(collection_id, ())
            if index.index_id not in m.indexes
            and (index.field_id in m.field_bytes or index.field_id not in made)
            and _needs_no_build(m, index)
        }
        commit_scans(self._catalog, collection_id, index.index_id, scanned)
        crash_point("build.committed")
        self._views.replace(
            collection_id,
            lambda view: view.with_all_current(self._catalog.snapshot.segments.get(collection_id, ())),
        )
        self._views.changed(collection_id)


def _lacking(collection: Collection, metas: tuple[SegmentMeta, ...]) -> list[tuple[SegmentMeta, IndexSpec]]:
    return [(meta, index) for meta in metas for index in collection.indexes if index.index_id not in meta.indexes]


def _needs_no_build(meta: SegmentMeta, index: IndexSpec) -> bool:
    if index.field_id not in meta.field_bytes:
        return True
    if index.metric_type is None:
        return meta.row_count < MIN_INDEXED_ROWS
    return not TYPES[index.build_type].needs_build(meta.row_count)


def build_index(
    workers: Workers,
    meta: SegmentMeta,
    index: IndexSpec,
    data_type: DataType,
    is_wanted: Callable[[], bool],
    *,
    progress: BuildProgress | None = None,
) -> SegmentIndexMeta:
    """Builds an index file beside its segment, synced but not stored. Raises NotWanted, ServiceInternal,
    IoFailed."""
    if _needs_no_build(meta, index):
        return SegmentIndexMeta(index.index_id, "", 0, is_scan=True)
    is_scalar = index.metric_type is None
    resources = resources_of(json_text.loads(index.build_params.get(ANALYZER_PARAMS) or "{}")) if is_scalar else ()
    pipe = None if is_scalar or progress is None else progress.pipe
    store = workers.store
    order = BuildOrder(store.paths, meta, index, data_type, {one.name: one for one in resources}, pipe)
    output = order.output
    output.unlink(missing_ok=True)
    try:
        if is_scalar and meta.row_count <= _SMALL_ROWS:
            with store.kept(order.inputs()):
                build_scalar(order)
        else:
            workers.run("build_scalar" if is_scalar else "build", order, is_wanted, () if pipe is None else (pipe,))
    except BaseException:
        output.unlink(missing_ok=True)
        raise
    if not output.exists():
        return SegmentIndexMeta(index.index_id, "", 0, is_scan=True)
    sync_directory(output.parent)
    return SegmentIndexMeta(index.index_id, output.name, output.stat().st_size)


def _file_name(index_id: int) -> str:
    return f"{index_id}.index"


def _without_index(metas: tuple[SegmentMeta, ...], index_id: int) -> tuple[SegmentMeta, ...]:
    return tuple(replace(m, indexes={i: built for i, built in m.indexes.items() if i != index_id}) for m in metas)
