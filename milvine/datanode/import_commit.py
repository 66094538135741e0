"""Adds the segments of an import to their collection: timestamps of the commit, one transaction, one view."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

import numpy as np

from milvine.catalog.import_jobs import commit_import
from milvine.catalog.store import Catalog
from milvine.crash_points import crash_point
from milvine.datanode.writer import CollectionWriter
from milvine.errors import ImportFailed, IoFailed, write_failure
from milvine.model.import_jobs import ImportJob
from milvine.model.segments import SegmentMeta
from milvine.model.timestamps import HybridClock
from milvine.segment.view import ReadView, Views
from milvine.storage.directories import sync_directory
from milvine.storage.segment_files import ROWS_FILE, RowsFile, open_rows, save_rows
from milvine.storage.store import SegmentStore

_STAMPED = f"{ROWS_FILE}.new"


class ImportCommitter:
    """Commits one import of a collection at a time; the caller holds the collection's flush lock."""

    def __init__(self, catalog: Catalog, views: Views, store: SegmentStore, clock: HybridClock) -> None:
        self._catalog = catalog
        self._views = views
        self._store = store
        self._paths = store.paths
        self._clock = clock

    def commit(self, writer: CollectionWriter, job: ImportJob, segments: tuple[SegmentMeta, ...]) -> None:
        """A failure before the commit changes nothing but timestamps in the files, which a later commit replaces."""
        collection_id = writer.collection_id
        # A timestamp for each segment: rows of one key and one timestamp are never in two segments.
        first_ts = self._clock.reserve(max(1, len(segments)))
        try:
            stamped = tuple(self._stamped(meta, first_ts + place) for place, meta in enumerate(segments))
        except FileNotFoundError as error:
            if collection_id in self._catalog.snapshot.collections:
                raise IoFailed(f"{error.filename} is missing") from error
            raise ImportFailed(f"collection {collection_id} dropped") from error
        except OSError as error:
            raise write_failure(error.filename or "a file", error) from error
        crash_point("import.stamped")
        with contextlib.ExitStack() as handing_over:
            directories = [self._paths.segment(collection_id, meta.segment_id) for meta in stamped]
            handing_over.enter_context(self._store.storing(directories))
            handing_over.enter_context(self._views.prepared(collection_id, stamped))
            commit_import(self._catalog, job, stamped, time.time_ns() // 1_000_000)
            crash_point("import.committed")
            ids = {meta.segment_id for meta in stamped}

            def change(view: ReadView) -> ReadView:
                # The current records of the catalog, since an index may have been committed.
                known = self._catalog.snapshot.segments.get(collection_id, ())
                return replace(view, sealed=(*view.sealed, *(m for m in known if m.segment_id in ids)))

            writer.publish_sealed(max(first_ts, first_ts + len(segments) - 1), change)
        self._views.changed(collection_id)
        crash_point("import.published")

    def _stamped(self, meta: SegmentMeta, ts: int) -> SegmentMeta:
        """The segment with its rows at `ts`. Its rows file is replaced as a whole."""
        directory = self._paths.segment(meta.collection_id, meta.segment_id)
        unfinished = directory / _STAMPED
        unfinished.unlink(missing_ok=True)
        rows, _ = self._store.read([directory / ROWS_FILE], lambda: open_rows(directory / ROWS_FILE, resident=False))
        stamped = RowsFile(np.full(meta.row_count, ts, np.int64), rows.sorted_keys, rows.order)
        rows_bytes = save_rows(unfinished, stamped)
        unfinished.replace(directory / ROWS_FILE)
        sync_directory(directory)
        return replace(meta, min_ts=ts, max_ts=ts, rows_bytes=rows_bytes)
