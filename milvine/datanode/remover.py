"""Removal of a partition or of all rows: one commit, the view replaced once, files removed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

from milvine.background import Work
from milvine.catalog import partitions
from milvine.catalog.partitions import Removed
from milvine.catalog.store import Catalog
from milvine.crash_points import crash_point
from milvine.datanode.catalog_files import remove_files, remove_segments
from milvine.datanode.compactor import Compactor
from milvine.datanode.held_writer import HeldWriter
from milvine.datanode.index_build import IndexBuilder
from milvine.datanode.output_filler import OutputFiller
from milvine.errors import MilvineError
from milvine.model.timestamps import HybridClock
from milvine.segment.deletes import split_deletes
from milvine.segment.view import ReadView, Views
from milvine.storage.logs import ChosenLogs
from milvine.storage.segment_files import SegmentPaths


class Remover:
    """The caller holds the flush lock of the collection."""

    def __init__(
        self,
        catalog: Catalog,
        views: Views,
        paths: SegmentPaths,
        logs: ChosenLogs,
        clock: HybridClock,
        *,
        compactor: Compactor,
        indexes: IndexBuilder,
        fills: OutputFiller,
        flushes: Work[int],
    ) -> None:
        """`flushes`: the failed ones, by collection."""
        self._catalog = catalog
        self._views = views
        self._paths = paths
        self._logs = logs
        self._clock = clock
        self._compactor = compactor
        self._indexes = indexes
        self._fills = fills
        self._flushes = flushes

    def drop_partition(self, held: HeldWriter, name: str) -> None:
        """See `DataNode.drop_partition`."""
        collection_id = held.writer.collection_id
        found = partitions.drop_partition(self._catalog, collection_id, name)
        if found is None:
            return
        crash_point("drop_partition.committed")
        partition, removed = found
        held.writer.forget(partition.partition_id)

        def change(view: ReadView) -> ReadView:
            return replace(view, growing=tuple(s for s in view.growing if s.partition_id != partition.partition_id))

        self._remove(held, removed, change)

    def truncate(self, held: HeldWriter) -> None:
        """See `DataNode.truncate`."""
        collection_id = held.writer.collection_id
        frozen = held.freeze()
        checkpoint = None if frozen is None else frozen.checkpoint_file
        folded_ts = self._clock.next()
        removed = partitions.truncate_collection(self._catalog, collection_id, checkpoint, folded_ts)
        crash_point("truncate.committed")

        def change(view: ReadView) -> ReadView:
            if frozen is None:
                return view
            growing = tuple(s for s in view.growing if s.segment_id not in frozen.segment_ids)
            return replace(view, growing=growing, deletes=split_deletes(view.deletes, frozen.deletes)[1])

        self._remove(held, removed, change)
        with contextlib.suppress(MilvineError), held.writer.stopped():
            # Else iterators, which read at the view's ts, would be refused until the next write.
            self._views.replace(collection_id, lambda view: replace(view, ts=max(view.ts, folded_ts)))
        self._flushes.succeeded([collection_id])  # nothing is left to flush
        if frozen is not None:
            held.frozen = None
            held.writer.flushed(frozen)
            with contextlib.suppress(OSError):  # the next start removes the rest
                self._logs.remove_before(collection_id, frozen.checkpoint_file)

    def _remove(self, held: HeldWriter, removed: Removed, change: Callable[[ReadView], ReadView]) -> None:
        """Takes segments that have left the catalog, and growing rows by `change`, out of the view; removes files."""
        collection_id = held.writer.collection_id
        segment_ids = {m.segment_id for m in removed.segments}
        delta_ids = {d.delta_id for d in removed.deltas}
        # After this, all work that replaces one of them by a successor has failed or is done.
        self._compactor.end_with(segment_ids)
        self._indexes.end_with(segment_ids)
        self._fills.end_with(segment_ids)

        def without(view: ReadView) -> ReadView:
            sealed = tuple(m for m in view.sealed if m.segment_id not in segment_ids)
            deltas = tuple(d for d in view.deltas if d.delta_id not in delta_ids)
            return change(replace(view, sealed=sealed, deltas=deltas))

        self._views.replace(collection_id, without)
        self._views.changed(collection_id)
        crash_point("remove.published")
        # Readers still have them mapped. The next start removes files that cannot be removed now.
        with contextlib.suppress(OSError):
            snapshot = self._catalog.snapshot
            remove_segments(self._paths, snapshot, collection_id, segment_ids)
            remove_files(self._paths, snapshot, collection_id, [self._paths.delta(collection_id, i) for i in delta_ids])
