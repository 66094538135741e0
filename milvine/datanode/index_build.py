"""Builds what is missing: for every sealed segment, every index of its collection, one at a time, in the background.

Level-triggered: a wake-up only makes it look sooner. A build that fails is recorded and not tried again until
restart or until the index is made anew.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from dataclasses import dataclass, replace

import orjson

from milvine import config, metrics
from milvine.catalog.segments import commit_index_build
from milvine.catalog.store import Catalog
from milvine.crash_points import crash_point
from milvine.errors import ServiceInternal
from milvine.index import params
from milvine.model.schema import IndexSpec
from milvine.model.segments import SegmentIndexMeta, SegmentMeta
from milvine.segment.view import Views
from milvine.storage.files import sync_directory
from milvine.storage.segment_files import SegmentPaths

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """Rows of sealed segments under one index. `failure` is the reason of the last failed build, or empty."""

    total_rows: int
    indexed_rows: int
    failure: str


class IndexBuilder:
    """One thread that looks for work, one child process that does it."""

    def __init__(self, catalog: Catalog, views: Views, paths: SegmentPaths) -> None:
        self._catalog = catalog
        self._views = views
        self._paths = paths
        self._wake = threading.Event()
        self._failures: dict[tuple[int, int], str] = {}
        self._thread = threading.Thread(target=self._run, name="index-builder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def look(self) -> None:
        """Something may be missing now."""
        self._wake.set()

    def progress(self, collection_id: int, index_id: int) -> IndexProgress:
        metas = self._catalog.snapshot.segments.get(collection_id, ())
        failures = (self._failures.get((m.segment_id, index_id), "") for m in metas)
        return IndexProgress(
            sum(m.row_count for m in metas),
            sum(m.row_count for m in metas if index_id in m.indexes),
            next(filter(None, failures), ""),
        )

    def dropped(self, collection_id: int, index_id: int) -> None:
        """Forget what was built for an index that has left the catalog; its files go when nobody has them open."""
        self._views.replace(collection_id, lambda view: replace(view, sealed=_without_index(view.sealed, index_id)))
        for meta in self._catalog.snapshot.segments.get(collection_id, ()):
            self._paths.index(collection_id, meta.segment_id, _file_name(index_id)).unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            missing = self._next_missing()
            if missing is None:
                self._wake.wait()
                self._wake.clear()
                continue
            meta, index = missing
            try:
                self._build(meta, index)
            except Exception as error:  # noqa: BLE001 - one bad build must not end the loop; its failure is kept
                # The segment or its collection may have been dropped under the build.
                metas = self._catalog.snapshot.segments.get(meta.collection_id, ())
                if any(m.segment_id == meta.segment_id for m in metas):
                    _log.error("index %s of segment %s: %s", index.index_id, meta.segment_id, error)
                    metrics.background_failures.labels("index_build").inc()
                    self._failures[meta.segment_id, index.index_id] = str(error)

    def _next_missing(self) -> tuple[SegmentMeta, IndexSpec] | None:
        snapshot = self._catalog.snapshot
        for collection in snapshot.collections.values():
            for meta in snapshot.segments.get(collection.collection_id, ()):
                for index in collection.indexes:
                    key = (meta.segment_id, index.index_id)
                    if index.index_id not in meta.indexes and key not in self._failures:
                        return meta, index
        return None

    def _build(self, meta: SegmentMeta, index: IndexSpec) -> None:
        if index.build_type == params.FLAT or meta.row_count < params.MIN_INDEXED_ROWS:
            built = SegmentIndexMeta(index.index_id, "", 0, is_scan=True)
        else:
            built = self._build_graph(meta, index)
        crash_point("build.files_written")
        following = commit_index_build(self._catalog, meta.collection_id, meta.segment_id, built)
        if following is None:
            if not built.is_scan:
                self._paths.index(meta.collection_id, meta.segment_id, built.file_name).unlink(missing_ok=True)
            return
        crash_point("build.committed")
        self._views.replace(
            meta.collection_id,
            lambda view: replace(
                view,
                sealed=tuple(following if m.segment_id == meta.segment_id else m for m in view.sealed),
            ),
        )
        self._views.changed(meta.collection_id)

    def _build_graph(self, meta: SegmentMeta, index: IndexSpec) -> SegmentIndexMeta:
        where = (meta.collection_id, meta.segment_id)
        output = self._paths.index(*where, _file_name(index.index_id))
        output.unlink(missing_ok=True)
        order = {
            "column": str(self._paths.column(*where, index.field_id)),
            "output": str(output),
            "build_type": index.build_type,
            "build_params": index.build_params,
            "metric_type": index.metric_type,
            "threads": os.cpu_count() or 1,
            "parent": os.getpid(),
        }
        command, environment = config.child_command("milvine.datanode.build_process", orjson.dumps(order).decode())
        # Waiting threads that spin would make a build on busy cores several times slower.
        environment = {**environment, "OMP_WAIT_POLICY": "passive"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            output.unlink(missing_ok=True)
            raise ServiceInternal(f"the build ended with {done.returncode}: {done.stderr[-500:].strip()}")
        sync_directory(output.parent)
        return SegmentIndexMeta(index.index_id, output.name, output.stat().st_size)


def _file_name(index_id: int) -> str:
    return f"{index_id}.index"


def _without_index(metas: tuple[SegmentMeta, ...], index_id: int) -> tuple[SegmentMeta, ...]:
    return tuple(replace(m, indexes={i: built for i, built in m.indexes.items() if i != index_id}) for m in metas)
