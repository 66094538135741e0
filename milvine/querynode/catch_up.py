"""All deletes for a segment that was opened beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from milvine.errors import DataIntegrityError
from milvine.model.segments import DeleteBatch, DeltaMeta, SegmentMeta
from milvine.segment.view import Views


def catch_up(
    views: Views,
    meta: SegmentMeta,
    apply: Callable[[SegmentMeta, Sequence[DeltaMeta], Sequence[DeleteBatch]], None],
    *,
    is_successor: bool = False,
) -> bool:
    """Hands `apply` flushed and unflushed deletes of one view that names the segment, since a later view may lack
    deltas that only this segment needed. False if the current view does not name it, unless it is a successor."""
    while True:
        view = views.current(meta.collection_id)
        if view is None or not (is_successor or view.names(meta.segment_id)):
            return False
        try:
            apply(meta, view.deltas, tuple(view.deletes))
        except DataIntegrityError:
            # Files are removed after the view has changed.
            now = views.current(meta.collection_id)
            if now is None or now.deltas is view.deltas:
                raise
        else:
            return True
