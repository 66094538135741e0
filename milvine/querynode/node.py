"""What a query node does: holds sealed segments and reads them. The seam for nodes on other machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from milvine.model.properties import PartKey
from milvine.model.schema import CollectionSchema
from milvine.model.segments import DeleteBatch, DeltaMeta, SegmentMeta
from milvine.segment.plans import Hits, QueryPlan, SearchPlan
from milvine.segment.retrieve import FoundRows
from milvine.segment.sealed import LoadSpec
from milvine.storage.files import OnBytes, ignore_bytes


class SegmentNotHeld(Exception):
    """A read named a segment, or a field of one, that this node does not hold now: the read takes a new view when
    something has changed."""


class QueryNode(Protocol):
    """`read_ts` of a plan is at most the ts of the last deletes that `apply_deletes` returned from."""

    def load_segment(
        self, meta: SegmentMeta, spec: LoadSpec, on_bytes: OnBytes = ignore_bytes, in_parallel: bool = True
    ) -> None:
        """Open a segment, or open it anew beside the one that serves. The caller opens one at a time of a segment.

        It does not serve yet: `catch_up`, then `serve` or `discard` follow. `on_bytes` may be called by several
        threads, or by the caller's alone, which waits for no other opening, if `in_parallel` is False.
        """
        ...

    def catch_up(self, meta: SegmentMeta, deltas: Sequence[DeltaMeta], deletes: Iterable[DeleteBatch]) -> None:
        """Apply flushed and unflushed deletes to an opened segment, unless it takes over those of the one that
        serves."""
        ...

    def serve(self, collection_id: int, segment_id: int, schema: CollectionSchema) -> Mapping[PartKey, int]:
        """Let an opened segment serve, in place of an older opening of it; returns bytes in memory by part."""
        ...

    def discard(self, collection_id: int, segment_id: int) -> None:
        """Close an opened segment that is not to serve; nothing happens if there is none."""
        ...

    def set_schema(self, collection_id: int, schema: CollectionSchema) -> None:
        """Let the segments that serve know of all fields of a schema."""
        ...

    def release_segment(self, collection_id: int, segment_id: int, deadline: float) -> None:
        """Close a segment when its last reader is done, or at `deadline` (time.monotonic)."""
        ...

    def held(self, collection_id: int) -> Mapping[int, tuple[SegmentMeta, LoadSpec]]:
        """The segments that serve, by id, with what they were opened from."""
        ...

    def apply_deletes(self, collection_id: int, batch: DeleteBatch) -> Mapping[int, int]:
        """Mark rows of the segments that are open; returns by how many bytes the marks of those that serve grew."""
        ...

    def search(self, collection_id: int, segment_ids: Sequence[int], plan: SearchPlan) -> Hits | None: ...

    def query(self, collection_id: int, segment_ids: Sequence[int], plan: QueryPlan) -> FoundRows | None: ...

    def count(self, collection_id: int, segment_ids: Sequence[int], plan: QueryPlan) -> int: ...
