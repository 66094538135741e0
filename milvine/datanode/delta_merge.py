"""Joins the delta files of a collection, since each small flush of deletes leaves a file.

Deltas of about the same size become one, so a delete is rewritten O(log deletes) times. Those within the retention are
skipped: a younger `max_ts` would keep compaction from folding the older deletes beside it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from milvine.catalog.segments import commit_delta_merge
from milvine.catalog.store import Catalog
from milvine.crash_points import crash_point
from milvine.datanode.catalog_files import remove_files
from milvine.model.columns import MAX_JOINED_BYTES
from milvine.model.segments import ALL_PARTITIONS, DeleteBatch, DeltaMeta, SegmentMeta
from milvine.model.timestamps import HybridClock
from milvine.segment.deletes import concat_deletes
from milvine.segment.view import ReadView, Views
from milvine.storage.directories import sync_directory
from milvine.storage.files import removed_on_failure
from milvine.storage.segment_files import save_delta
from milvine.storage.store import SegmentStore, read_delta

_log = logging.getLogger(__name__)
MAX_FILES = 16


def worth_merging(deltas: Iterable[DeltaMeta], fold_ts: int) -> tuple[DeltaMeta, ...]:
    """The deltas to join now, oldest first; () if they are few or too large to be joined."""
    chosen = sorted((d for d in deltas if d.max_ts <= fold_ts), key=lambda d: d.row_count)
    total, size = sum(d.row_count for d in chosen), sum(d.file_bytes for d in chosen)
    while chosen and (2 * chosen[-1].row_count > total or size > MAX_JOINED_BYTES):
        largest = chosen.pop()
        total, size = total - largest.row_count, size - largest.file_bytes
    return tuple(sorted(chosen, key=lambda d: d.max_ts)) if len(chosen) > MAX_FILES else ()


def still_needed(batch: DeleteBatch, segments: Iterable[SegmentMeta]) -> DeleteBatch | None:
    """The deletes that may kill a row of a segment; None if none may."""
    bounds: dict[int, int] = {}
    for meta in segments:
        bound = max(meta.min_ts, meta.folded_ts)
        for partition_id in (meta.partition_id, ALL_PARTITIONS):
            bounds[partition_id] = min(bound, bounds.get(partition_id, bound))
    needed = np.zeros(len(batch), np.bool_)
    for partition_id, bound in bounds.items():
        needed |= (batch.partition_ids == partition_id) & (batch.ts > bound)
    kept = np.flatnonzero(needed)
    if len(kept) == 0:
        return None
    kept = kept[np.argsort(batch.ts[kept], kind="stable")]
    keys = batch.keys[kept] if isinstance(batch.keys, np.ndarray) else batch.keys.take(pa.array(kept))
    return DeleteBatch(keys, batch.ts[kept], batch.partition_ids[kept])


def merge_deltas(
    catalog: Catalog, views: Views, store: SegmentStore, clock: HybridClock, view: ReadView, fold_ts: int
) -> None:
    """Joins the deltas worth joining. The caller ensures that no compaction runs at the same time; flushes may.

    Raises DataIntegrityError for a damaged file, DiskLimitExceeded and IoFailed, with nothing changed.
    """
    sources = worth_merging(view.deltas, fold_ts)
    if not sources:
        return
    collection_id = view.collection_id
    # Read after the view, so that it includes the segments flushed with each delta of the view.
    segments = catalog.snapshot.segments.get(collection_id, ())
    deletes = concat_deletes([read_delta(store, collection_id, d.delta_id) for d in sources])
    needed = still_needed(deletes, segments)
    paths = store.paths
    result: DeltaMeta | None = None
    gone = frozenset(d.delta_id for d in sources)
    with contextlib.ExitStack() as storing:
        with removed_on_failure() as made:
            if needed is not None:
                delta_id = clock.next()
                path = paths.delta(collection_id, delta_id)
                made.append(path)
                size = save_delta(path, needed)
                result = DeltaMeta(delta_id, collection_id, len(needed), int(needed.ts.max()), size)
                sync_directory(path.parent)
            storing.enter_context(store.storing(made))
        crash_point("deltas.files_written")
        if not commit_delta_merge(catalog, collection_id, gone, result):
            if result is not None:
                paths.delta(collection_id, result.delta_id).unlink(missing_ok=True)
            return
    crash_point("deltas.committed")
    joined = () if result is None else (result,)
    views.replace(
        collection_id,
        lambda v: replace(v, deltas=(*joined, *(d for d in v.deltas if d.delta_id not in gone))),
    )
    # A thread that opens a segment with the old view finds them missing and takes the new view.
    remove_files(paths, catalog.snapshot, collection_id, [paths.delta(collection_id, i) for i in gone])
    _log.info("joined %d delta files of collection %d", len(gone), collection_id)
