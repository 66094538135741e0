"""Makes the outputs of added functions for segments that were sealed before, one at a time, in the background.

Level-triggered: each step looks for a segment that lacks a column of the schema. The column becomes a file beside the
others; one catalog transaction names it. Until then the rows are no hits of searches in the field.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Set

from milvine.background import Supervisor, Work
from milvine.catalog.contents import Snapshot
from milvine.catalog.segments import commit_fields
from milvine.catalog.store import Catalog
from milvine.child import NotWanted
from milvine.crash_points import crash_point
from milvine.datanode.stored_outputs import FillOrder, fill
from milvine.datanode.workers import Workers
from milvine.model.analyzer_params import file_resources_of
from milvine.model.collections import Collection
from milvine.model.file_resources import FileResource
from milvine.model.schema import CollectionSchema
from milvine.model.segments import SegmentMeta
from milvine.segment.view import Views

_LOOK_SECONDS = 0.5
_SMALL_ROWS = 2_000
"""Analyzing the texts of so few rows takes less time than starting a process."""


def resources_of(snapshot: Snapshot, schema: CollectionSchema) -> dict[str, FileResource]:
    """The file resources that the schema's analyzers name, by name."""
    names = file_resources_of(schema)
    return {name: one for name, one in snapshot.file_resources.items() if name in names}


class OutputFiller:
    """One thread that finds segments, and one child process that analyzes the texts of large ones."""

    def __init__(self, catalog: Catalog, views: Views, workers: Workers, supervisor: Supervisor) -> None:
        self._catalog = catalog
        self._views = views
        self._workers = workers
        self._store = workers.store
        self._fills: Work[int] = supervisor.work("fill")
        """By segment."""
        self._worker = supervisor.worker("fill", self._step)
        self._seen: Snapshot | None = None
        self._filling: SegmentMeta | None = None
        self._ended = threading.Condition()
        self._is_merging: Callable[[int], bool] = lambda _segment_id: False
        self._filled: Callable[[], None] = lambda: None

    def start(self, is_merging: Callable[[int], bool], filled: Callable[[], None]) -> None:
        """No segment (by id) is filled while it is merging. `filled` is called after each fill."""
        self._is_merging = is_merging
        self._filled = filled
        self._worker.start()

    def look(self) -> None:
        """Called when a segment may lack a column."""
        self._worker.wake()

    def end(self, collection_id: int) -> None:
        """Returns when no segment is filled of a collection that has left the catalog."""
        with self._ended:
            while self._filling is not None and self._filling.collection_id == collection_id:
                self._ended.wait(1)

    def end_with(self, segment_ids: Set[int]) -> None:
        """Returns when no segment is filled that has left the catalog."""
        with self._ended:
            while self._filling is not None and self._filling.segment_id in segment_ids:
                self._ended.wait(1)

    def _step(self) -> float:
        """Fills one segment."""
        snapshot = self._catalog.snapshot
        if snapshot is self._seen:
            return _LOOK_SECONDS
        found = self._next_lacking(snapshot)
        if found is None:
            return _LOOK_SECONDS
        collection, meta = found
        started = time.monotonic()
        self._filling = meta
        try:
            self._fill(collection, meta)
        except NotWanted:
            self._fills.succeeded([meta.segment_id])
        except Exception as error:  # noqa: BLE001 - it is recorded, and the other segments go on
            what = f"making outputs of functions for segment {meta.segment_id} of collection {collection.name}"
            self._fills.failed([meta.segment_id], what, error, time.monotonic() - started)
        else:
            self._fills.succeeded([meta.segment_id])
        finally:
            with self._ended:
                self._filling = None
                self._ended.notify_all()
        return 0.0

    def _next_lacking(self, snapshot: Snapshot) -> tuple[Collection, SegmentMeta] | None:
        """The next segment to fill. Damaged collections are skipped."""
        waiting = self._fills.waiting()
        lacking: set[int] = set()
        for collection in snapshot.collections.values():
            made = {f.field_id for f in collection.schema.made_fields}
            if not made or self._views.peek(collection.collection_id) is None:
                continue
            for meta in snapshot.segments.get(collection.collection_id, ()):
                if made <= meta.field_bytes.keys():
                    continue
                lacking.add(meta.segment_id)
                if meta.segment_id not in waiting and not self._is_merging(meta.segment_id):
                    return collection, meta
        self._fills.retain(lacking)
        if not lacking:
            self._seen = snapshot
        return None

    def _fill(self, collection: Collection, meta: SegmentMeta) -> None:
        def is_wanted() -> bool:
            metas = self._catalog.snapshot.segments.get(meta.collection_id, ())
            is_there = any(m.segment_id == meta.segment_id for m in metas)
            return is_there and not self._is_merging(meta.segment_id) and not self._worker.is_stopping

        fields = tuple(f for f in collection.schema.made_fields if f.field_id not in meta.field_bytes)
        resources = resources_of(self._catalog.snapshot, collection.schema)
        order = FillOrder(self._store.paths, collection.schema, meta, fields, resources)
        if meta.row_count <= _SMALL_ROWS:
            with self._store.kept(order.inputs()):
                sizes = fill(order)
        else:
            sizes = self._workers.run("fill", order, is_wanted)
        crash_point("fill.files_written")
        with self._store.storing(order.outputs()):
            is_committed = commit_fields(self._catalog, meta.collection_id, meta.segment_id, sizes)
        if not is_committed:
            for path in order.outputs():
                path.unlink(missing_ok=True)
            raise NotWanted
        crash_point("fill.committed")
        self._views.replace(
            meta.collection_id,
            lambda view: view.with_current(
                meta.segment_id, self._catalog.snapshot.segments.get(meta.collection_id, ())
            ),
        )
        self._views.changed(meta.collection_id)
        self._filled()
