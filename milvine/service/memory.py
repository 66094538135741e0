"""The memory of loads: estimates before a load, measurements after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from milvine.model.collections import Collection, LoadConfig
from milvine.model.properties import PartKey
from milvine.model.records import record
from milvine.model.requests import LoadRequest, LoadStatus
from milvine.model.segments import SegmentMeta
from milvine.model.types import LoadState
from milvine.querynode.node import NodeInfo
from milvine.service.context import Engine, RequestContext, find_collection, find_partition
from milvine.service.gate import capability, for_every_user, sees
from milvine.service.loading import fields_to_load

ROWS = "rows"


@record
class PartBytes:
    """`kind`: rows (keys and timestamps), field or index; `name` is the field's or the index's.

    `estimated_bytes`: its memory once it is loaded; `held_bytes`: its measured memory now.
    """

    kind: str
    name: str
    estimated_bytes: int
    held_bytes: int


@record
class LoadEstimate:
    """`needed_bytes`: the memory that a load would add. Rows that are not sealed yet add nothing, since they are in
    memory whether loaded or not."""

    sealed_rows: int
    growing_rows: int
    parts: tuple[PartBytes, ...]
    needed_bytes: int
    free_bytes: int
    limit_bytes: int

    @property
    def estimated_bytes(self) -> int:
        return sum(p.estimated_bytes for p in self.parts)

    @property
    def held_bytes(self) -> int:
        return sum(p.held_bytes for p in self.parts)

    @property
    def fits(self) -> bool:
        return self.needed_bytes <= self.free_bytes


@record
class SegmentBytes:
    meta: SegmentMeta
    partition_name: str
    parts: tuple[PartBytes, ...]


@record
class CollectionBytes:
    """A collection that is loaded or being loaded, or whose load failed. `failure`: why, or empty. `is_resting`: it is
    loaded, and has given its memory back until the next read."""

    collection: Collection
    status: LoadStatus
    is_resting: bool
    failure: str
    reserved_bytes: int
    segments: tuple[SegmentBytes, ...]


@record
class MemoryUsage:
    limit_bytes: int
    held_bytes: int
    reserved_bytes: int
    free_bytes: int
    collections: tuple[CollectionBytes, ...]
    nodes: tuple[NodeInfo, ...] = ()
    """Empty if all segments are in this process."""


def _parts(
    collection: Collection, estimated: Mapping[PartKey, int], held: Mapping[PartKey, int]
) -> tuple[PartBytes, ...]:
    """By name: keys and timestamps first, then fields and indexes as they were created."""
    names = {("field", f.field_id): f.name for f in collection.schema.fields}
    names |= {("index", i.index_id): i.name for i in collection.indexes}
    order = [(ROWS, 0), *names]
    keys = sorted(estimated.keys() | held.keys(), key=lambda k: order.index(k) if k in order else len(order))
    return tuple(
        PartBytes(
            key[0], names.get(key, ROWS if key[0] == ROWS else str(key[1])), estimated.get(key, 0), held.get(key, 0)
        )
        for key in keys
    )


def _summed(all_sizes: Iterable[Mapping[PartKey, int]]) -> dict[PartKey, int]:
    total: dict[PartKey, int] = {}
    for sizes in all_sizes:
        for key, size in sizes.items():
            total[key] = total.get(key, 0) + size
    return total


@capability("GetLoadState", on="request.name")
def estimate(
    engine: Engine, context: RequestContext, request: LoadRequest, partition_names: tuple[str, ...] = ()
) -> LoadEstimate:
    """The cost of a load by field and index, without loading. The fields are checked as in a load.

    A vector field without a built index is counted as it would be loaded now: raw.
    """
    collection = find_collection(engine, context, request.name)
    field_ids = fields_to_load(collection, request)
    named = [find_partition(collection, name) for name in partition_names] or collection.partitions
    config = LoadConfig(frozenset(p.partition_id for p in named), field_ids)
    found = engine.loader.wanted.estimate(collection, config)
    ids = {meta.segment_id for meta, _ in found}
    usage = engine.loader.budget.usage(collection.collection_id)
    growing = engine.datanode.growing(collection.collection_id)
    return LoadEstimate(
        sum(meta.row_count for meta, _ in found),
        sum(s.row_count for s in growing if s.partition_id in config.partition_ids),
        _parts(collection, _summed(sizes for _, sizes in found), _summed(p for i, p in usage.items() if i in ids)),
        engine.loader.wanted.needed_bytes(collection, config),
        engine.loader.budget.free_bytes() + engine.loader.budget.reserved_bytes(collection.collection_id),
        engine.loader.budget.limit_bytes,
    )


@for_every_user()
def usage(engine: Engine, context: RequestContext) -> MemoryUsage:
    """All memory held by loads, and that of each collection that the caller may see."""
    seen = [c for c in engine.catalog.snapshot.collections.values() if sees(engine, context, c)]
    found = [collection_bytes(engine, c) for c in seen]
    return _usage(engine, tuple(c for c in found if c.status.state is not LoadState.NOT_LOAD or c.failure))


@for_every_user()
def totals(engine: Engine, context: RequestContext) -> MemoryUsage:
    """As `usage`, without collections."""
    return _usage(engine, ())


def _usage(engine: Engine, found: tuple[CollectionBytes, ...]) -> MemoryUsage:
    budget = engine.loader.budget
    return MemoryUsage(
        budget.limit_bytes,
        budget.held_bytes(),
        budget.reserved_bytes(),
        budget.free_bytes(),
        found,
        engine.cluster.node.nodes(),
    )


def collection_bytes(engine: Engine, collection: Collection) -> CollectionBytes:
    """The state and memory of one collection, loaded or not."""
    loader, collection_id = engine.loader, collection.collection_id
    progress = loader.answers.progress(collection)
    state = LoadState.LOADED if progress.is_loaded else LoadState.LOADING
    if collection.load is None:
        state = LoadState.NOT_LOAD
    failure = loader.answers.failure(collection_id) if collection.load is None else None
    held = loader.budget.usage(collection_id)
    partition_names = {p.partition_id: p.name for p in collection.partitions}
    segments = tuple(
        SegmentBytes(
            meta, partition_names.get(meta.partition_id, ""), _parts(collection, sizes, held.get(meta.segment_id, {}))
        )
        for meta, sizes in (() if collection.load is None else loader.wanted.estimate(collection, collection.load))
    )
    return CollectionBytes(
        collection,
        LoadStatus(state, progress.percent),
        loader.answers.is_resting(collection_id),
        "" if failure is None else failure.message,
        loader.budget.reserved_bytes(collection_id),
        segments,
    )
