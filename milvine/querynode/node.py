"""The interface of a query node, which holds sealed segments and reads them; the seam for remote nodes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from milvine.errors import IoFailed
from milvine.index.term_queries import TermStatistics
from milvine.model.collections import LoadConfig
from milvine.model.properties import PartKey
from milvine.model.records import record
from milvine.model.schema import CollectionSchema
from milvine.model.segments import DeleteBatch, DeltaMeta, SegmentMeta
from milvine.querynode.opening_progress import OpeningProgress
from milvine.segment.aggregation import Aggregation
from milvine.segment.plans import Hits, QueryPlan, SearchPlan
from milvine.segment.retrieve import FoundRows
from milvine.segment.sealed import LoadSpec


class SegmentNotHeld(Exception):
    """A read named a segment, or a field of one, that this node does not hold now. After a change the read takes a new
    view."""


class NodeBehind(Exception):
    """A node does not have the deletes that a read must see yet."""


class HoldersLost(IoFailed):
    """All nodes that were to serve a segment went while it was opened. Others, or the head, may open it."""


@record
class NodeInfo:
    """A node that holds segments. `is_silent`: it does not answer at the moment."""

    node_id: int
    address: str
    hostname: str
    limit_bytes: int
    held_bytes: int
    mapped_bytes: int
    segment_count: int
    resource_group: str
    is_silent: bool = False


class QueryNode(Protocol):
    """`read_ts` of a plan is at most the ts of the last deletes that `apply_deletes` returned from."""

    def nodes(self) -> tuple[NodeInfo, ...]:
        """The query nodes beside this process."""
        ...

    def wait_for_nodes(self, are_enough: Callable[[], bool]) -> None:
        """Returns once there are enough, or if no further ones are expected soon."""
        ...

    def holders(self, collection_id: int, segment_id: int) -> tuple[int, ...]:
        """The ids of the nodes that serve a segment, the preferred one first."""
        ...

    def copies(self, collection_id: int, load: LoadConfig | None = None) -> int:
        """How many nodes are to serve each segment of a collection, by its load configuration or a future one."""
        ...

    def pin(self, collection_id: int, segment_ids: Iterable[int], node_ids: Sequence[int]) -> None:
        """Prefers these nodes for the segments until they are released."""
        ...

    def close(self) -> None:
        """Ends what runs in the background."""
        ...

    def load_segment(
        self, meta: SegmentMeta, spec: LoadSpec, progress: OpeningProgress, in_parallel: bool = True
    ) -> None:
        """Opens a segment, or opens it anew beside the one that serves. The caller opens a segment once at a time.

        It is not served yet: `catch_up`, then `serve` or `discard` follow. Several threads read, or, if
        `in_parallel` is False, the caller's alone, which waits for no other opening. Raises OpeningCancelled.
        """
        ...

    def catch_up(self, meta: SegmentMeta, deltas: Sequence[DeltaMeta], deletes: Iterable[DeleteBatch]) -> None:
        """Applies flushed and unflushed deletes to an opened segment, unless it shares those of the one that serves."""
        ...

    def serve(self, collection_id: int, segment_id: int, schema: CollectionSchema) -> None:
        """Serves an opened segment in place of its older opening."""
        ...

    def memory_bytes(self, collection_id: int, segment_id: int) -> Mapping[PartKey, int]:
        """Bytes in memory of a serving segment by part, delete marks included; empty if there is none."""
        ...

    def discard(self, collection_id: int, segment_id: int) -> None:
        """Closes an opened segment that is not to be served; no effect if there is none."""
        ...

    def set_schema(self, collection_id: int, schema: CollectionSchema) -> None:
        """Adds the fields of a schema to the serving segments."""
        ...

    def release_segment(self, collection_id: int, segment_id: int, patience_seconds: float) -> None:
        """Closes a segment after its last reader, or after `patience_seconds`."""
        ...

    def held(self, collection_id: int) -> Mapping[int, tuple[SegmentMeta, LoadSpec]]:
        """The serving segments by id, with their records and specs."""
        ...

    def held_segment(self, collection_id: int, segment_id: int) -> tuple[SegmentMeta, LoadSpec] | None:
        """That of one serving segment, of which `held` may have a thousand."""
        ...

    def apply_deletes(self, collection_id: int, batch: DeleteBatch) -> Collection[int]:
        """Marks rows of the open segments; returns the ids of the serving ones whose memory has changed."""
        ...

    # Reads: `seconds` is how long the caller waits for the answer. Raise SegmentNotHeld, and other errors of the read.

    def term_statistics(
        self, collection_id: int, segment_ids: Sequence[int], field_id: int, terms: Any, *, seconds: float
    ) -> TermStatistics:
        """Of these terms (uint32, ascending) in those of the segments that serve now."""
        ...

    def search(
        self, collection_id: int, segment_ids: Sequence[int], plan: SearchPlan, *, seconds: float
    ) -> Hits | None: ...

    def query(
        self, collection_id: int, segment_ids: Sequence[int], plan: QueryPlan, *, seconds: float
    ) -> FoundRows | None: ...

    def count(self, collection_id: int, segment_ids: Sequence[int], plan: QueryPlan, *, seconds: float) -> int: ...

    def aggregate(
        self, collection_id: int, segment_ids: Sequence[int], plan: QueryPlan, what: Aggregation, *, seconds: float
    ) -> Any | None: ...
