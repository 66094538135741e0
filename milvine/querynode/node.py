"""What a query node does: holds sealed segments and reads them. The seam for nodes on other machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from milvine.model.properties import PartKey
from milvine.model.segments import DeleteBatch, DeltaMeta, SegmentMeta
from milvine.segment.plans import Hits, QueryPlan, SearchPlan
from milvine.segment.retrieve import FoundRows
from milvine.segment.sealed import LoadSpec
from milvine.storage.files import OnBytes, ignore_bytes


class SegmentNotHeld(Exception):
    """A read named a segment, or a field of one, that this node does not hold (any more, or yet): take a new view and
    try again."""


class QueryNode(Protocol):
    """`read_ts` of a plan is at most the ts of the last deletes that `apply_deletes` returned from."""

    def load_segment(
        self, meta: SegmentMeta, spec: LoadSpec, on_bytes: OnBytes = ignore_bytes
    ) -> Mapping[PartKey, int]:
        """Open a segment, or open it anew beside the old one and swap; returns bytes in memory by part.

        Deletes are caught up with `catch_up` before it serves. `on_bytes` may be called by several threads.
        """
        ...

    def catch_up(self, meta: SegmentMeta, deltas: Sequence[DeltaMeta], deletes: Iterable[DeleteBatch]) -> None:
        """Apply flushed and unflushed deletes to an opened segment and let it serve."""
        ...

    def release_segment(self, collection_id: int, segment_id: int, deadline: float) -> None:
        """Close a segment when its last reader is done, or at `deadline` (time.monotonic)."""
        ...

    def held(self, collection_id: int) -> Mapping[int, tuple[SegmentMeta, LoadSpec]]:
        """The segments that serve, by id, with what they were opened from."""
        ...

    def apply_deletes(self, collection_id: int, batch: DeleteBatch) -> None: ...

    def search(self, collection_id: int, segment_ids: Sequence[int], plan: SearchPlan) -> Hits | None: ...

    def query(self, collection_id: int, segment_ids: Sequence[int], plan: QueryPlan) -> FoundRows | None: ...

    def count(self, collection_id: int, segment_ids: Sequence[int], plan: QueryPlan) -> int: ...
