"""Growing to sealed: files written and synced, one catalog transaction, the view replaced, old log files removed."""

from __future__ import annotations

import contextlib
from collections.abc import Set
from dataclasses import replace
from pathlib import Path

from milvine.catalog.segments import commit_flush
from milvine.catalog.store import Catalog
from milvine.crash_points import crash_point
from milvine.datanode.writer import CollectionWriter, Frozen
from milvine.model.columns import joinable
from milvine.model.segments import DeltaMeta, SegmentMeta
from milvine.model.timestamps import HybridClock
from milvine.segment.deletes import joined_deletes, split_deletes
from milvine.segment.growing import Chunk, join_chunks
from milvine.segment.view import ReadView, Views
from milvine.storage.directories import make_directory, sync_directory
from milvine.storage.files import removed_on_failure, sync_all
from milvine.storage.logs import Logs
from milvine.storage.segment_files import RowsFile, save_delta
from milvine.storage.segment_writer import SegmentWriter
from milvine.storage.store import SegmentStore


class Flusher:
    """Flushes one collection at a time; the caller serialises flushes of one collection."""

    def __init__(self, catalog: Catalog, views: Views, store: SegmentStore, logs: Logs, clock: HybridClock) -> None:
        self._catalog = catalog
        self._views = views
        self._store = store
        self._paths = store.paths
        self._logs = logs
        self._clock = clock

    def flush(self, writer: CollectionWriter, frozen: Frozen) -> tuple[SegmentMeta, ...]:
        """Seals frozen rows; returns the new segments.

        A failure before the commit changes nothing: the rows stay growing and in the log.
        """
        collection_id = writer.collection_id
        view, collection = self._views.current(collection_id), self._catalog.snapshot.collections.get(collection_id)
        if view is None or collection is None:
            return ()
        # A field that the catalog does not name yet may never be committed, and its number given to another one.
        field_ids = collection.schema.field_ids
        sealed: list[SegmentMeta] = []
        with contextlib.ExitStack() as handing_over:
            # Only before the commit, since a commit that fails may still be there after a crash.
            with removed_on_failure() as made:
                make_directory(self._paths.collection(collection_id))
                unsynced: list[Path] = []
                for segment in view.growing:
                    for chunks in joinable(segment.chunks) if segment.segment_id in frozen.segment_ids else ():
                        sealed.append(self._save_segment(collection_id, join_chunks(chunks), field_ids, made, unsynced))
                sync_all(unsynced)
                deltas = self._save_deltas(view, frozen, made)
                sync_directory(self._paths.collection(collection_id))
                crash_point("flush.files_written")
                handing_over.enter_context(self._store.storing(made))
                handing_over.enter_context(self._views.prepared(collection_id, tuple(sealed)))
            if not commit_flush(self._catalog, collection_id, tuple(sealed), deltas, frozen.checkpoint_file):
                return ()
            crash_point("flush.committed")
            self._views.replace(collection_id, lambda v: self._hand_over(v, frozen, sealed, deltas))
        writer.flushed(frozen)
        self._views.changed(collection_id)
        crash_point("flush.published")
        with contextlib.suppress(OSError):  # the next start removes the rest
            self._logs.remove_before(collection_id, frozen.checkpoint_file)
        return tuple(sealed)

    def _hand_over(
        self, view: ReadView, frozen: Frozen, sealed: list[SegmentMeta], deltas: tuple[DeltaMeta, ...]
    ) -> ReadView:
        """The view with the catalog's current records of the flush: an index may have been committed, or a delta
        dropped because no segment needs it."""
        known = self._catalog.snapshot.deltas.get(view.collection_id, ())
        new_ids = {d.delta_id for d in deltas}
        flushed = tuple(d for d in known if d.delta_id in new_ids)
        return replace(
            view,
            growing=tuple(s for s in view.growing if s.segment_id not in frozen.segment_ids),
            sealed=(*view.sealed, *self._stored(view.collection_id, sealed)),
            deltas=(*view.deltas, *flushed),
            deletes=split_deletes(view.deletes, frozen.deletes)[1],
        )

    def _stored(self, collection_id: int, sealed: list[SegmentMeta]) -> tuple[SegmentMeta, ...]:
        """The catalog's current records of the segments, since an index may have been committed."""
        new_ids = {m.segment_id for m in sealed}
        return tuple(m for m in self._catalog.snapshot.segments.get(collection_id, ()) if m.segment_id in new_ids)

    def _save_segment(
        self, collection_id: int, rows: Chunk, field_ids: Set[int], made: list[Path], unsynced: list[Path]
    ) -> SegmentMeta:
        segment_id = self._clock.next()
        made.append(self._paths.segment(collection_id, segment_id))
        writer = SegmentWriter(self._paths, collection_id, rows.partition_id, segment_id, unsynced)
        writer.add_rows(RowsFile(rows.insert_ts, rows.keys.sorted_keys, rows.keys.order))
        crash_point("flush.rows_written")
        for field_id, column in rows.batch.columns.items():
            if field_id in field_ids:
                writer.add_column(field_id, column)
        return writer.finish()

    def _save_deltas(self, view: ReadView, frozen: Frozen, made: list[Path]) -> tuple[DeltaMeta, ...]:
        """Nearly always one, or none."""
        saved: list[DeltaMeta] = []
        for deletes in joined_deletes(split_deletes(view.deletes, frozen.deletes)[0]):
            delta_id = self._clock.next()
            path = self._paths.delta(view.collection_id, delta_id)
            made.append(path)
            size = save_delta(path, deletes)
            saved.append(DeltaMeta(delta_id, view.collection_id, len(deletes), int(deletes.ts.max()), size))
        return tuple(saved)
