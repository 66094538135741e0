"""Segments as callers see them: flush, compaction, stored and loaded segments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from milvine.datanode.compactor import Plan, PlanState
from milvine.errors import CollectionNotFound, MilvineError, ParameterInvalid, ParameterMissing
from milvine.model.collections import DEFAULT_DATABASE, Collection
from milvine.model.records import record
from milvine.model.schema import IndexSpec
from milvine.model.segments import SegmentMeta
from milvine.model.types import SegmentState
from milvine.service.context import Engine, RequestContext, check_database, find_collection
from milvine.service.deny_rules import COMPACTION, FLUSHING
from milvine.service.gate import capability, find_seen, for_every_user, sees

MIN_TARGET_MB = 1024
"""Milvus's dataCoord.segment.maxSize: a compaction to smaller segments is refused."""
_PERSISTENT = frozenset({SegmentState.SEALED, SegmentState.FLUSHED, SegmentState.FLUSHING})


@record
class FlushedCollection:
    """Everything written to the collection at or before `ts` is sealed; `segment_ids` are new."""

    collection: Collection
    segment_ids: tuple[int, ...]
    ts: int


@record
class SegmentInfo:
    """A stored segment. `compacted_from`: the segments that compaction merged into it."""

    segment_id: int
    collection_id: int
    partition_id: int
    row_count: int
    state: SegmentState
    compacted_from: tuple[int, ...] = ()


@record
class LoadedSegment:
    """A sealed segment in memory; `index` is its first index, if any. `node_ids`: the nodes that serve it."""

    meta: SegmentMeta
    memory_bytes: int
    index: IndexSpec | None
    node_ids: tuple[int, ...]


@record
class CompactionStatus:
    """How many plans of a request are still running, and how the others ended."""

    executing: int
    completed: int
    failed: int

    @property
    def is_completed(self) -> bool:
        return self.executing == 0


@capability("Flush", on="names", denied_as=FLUSHING)
def flush(engine: Engine, context: RequestContext, names: Sequence[str]) -> list[FlushedCollection]:
    """Returns when all rows written before to these collections are in sealed segments."""
    collections = [find_collection(engine, context, name) for name in names]
    engine.rates.check_flush(collections)
    return [_flush(engine, collection) for collection in collections]


def _flush(engine: Engine, collection: Collection) -> FlushedCollection:
    # Taken first, so that rows written during the flush come after it.
    ts = engine.clock.next()
    sealed = engine.datanode.flush(collection.collection_id)
    return FlushedCollection(collection, tuple(m.segment_id for m in sealed), ts)


@capability("FlushAll")
def flush_all(
    engine: Engine, context: RequestContext, database: str, targets: Sequence[tuple[str, tuple[str, ...]]] = ()
) -> tuple[int, list[FlushedCollection]]:
    """Flushes the collections of a database ("": of all), or those named by `targets`; returns a timestamp at or before
    which all of them are sealed. A collection that is dropped in the meantime is left out.

    If one fails, the others are still flushed before its error is raised with the names of all that failed.
    """
    ts = engine.clock.next()
    flushed: list[FlushedCollection] = []
    failures: dict[str, MilvineError] = {}
    for collection in _targets(engine, context, database, targets, find_collection):
        try:
            flushed.append(_flush(engine, collection))
        except CollectionNotFound:
            continue
        except MilvineError as error:
            failures[f"{collection.database}.{collection.name}"] = error
    if failures:
        count, names = len(failures) + len(flushed), ", ".join(failures)
        raise next(iter(failures.values())).prefixed(
            f"{len(failures)} of {count} collections were not flushed: {names}"
        )
    return ts, flushed


def _targets(
    engine: Engine,
    context: RequestContext,
    database: str,
    targets: Sequence[tuple[str, tuple[str, ...]]],
    find: Callable[[Engine, RequestContext, str], Collection],
) -> list[Collection]:
    wanted = [(name, names) for name, names in targets] or [(database, ())]
    found: dict[int, Collection] = {}
    for database_name, names in wanted:
        if database_name:
            check_database(engine, context.in_database(database_name))
        collections: Iterable[Collection]
        if names:
            place = context.in_database(database_name or DEFAULT_DATABASE)
            collections = [find(engine, place, n) for n in names]
        else:
            snapshot = engine.catalog.snapshot
            collections = [c for c in snapshot.collections.values() if database_name in ("", c.database)]
        found |= {c.collection_id: c for c in collections}
    return list(found.values())


@capability("GetFlushState", on="name")
def is_flushed(
    engine: Engine, context: RequestContext, name: str, segment_ids: Sequence[int] = (), ts: int = 0
) -> bool:
    """Whether none of the segments is growing and, with a name, all written to the collection until `ts` is sealed."""
    if name and not engine.datanode.is_sealed_until(find_collection(engine, context, name).collection_id, ts):
        return False
    return engine.datanode.growing_ids().isdisjoint(segment_ids)


@for_every_user()
def is_all_flushed(
    engine: Engine, context: RequestContext, database: str, ts: int, targets: Sequence[tuple[str, tuple[str, ...]]] = ()
) -> bool:
    """Whether all writes until `ts` to the collections of a `flush_all` are sealed."""
    if not ts:
        raise ParameterMissing("FlushAllTss or FlushAllTs is required")
    return all(
        engine.datanode.is_sealed_until(c.collection_id, ts)
        for c in _targets(engine, context, database, targets, find_seen)
    )


@capability("Compaction", on="name", by_id="collection_id", denied_as=COMPACTION)
def compact(
    engine: Engine,
    context: RequestContext,
    name: str,
    collection_id: int = 0,
    target_mb: int = 0,
    only_clustering_or_l0: bool = False,
) -> tuple[int, int]:
    """Starts a compaction; returns its id and the number of plans, or -1 and 0 if there is nothing to do.

    There are no clustering keys and no segments of deletes, so compactions of these have nothing to do.
    """
    if name or not collection_id:
        collection_id = find_collection(engine, context, name).collection_id
    if only_clustering_or_l0:
        return -1, 0
    least_mb = max(MIN_TARGET_MB, engine.settings.segment_max_bytes >> 20)
    if 0 < target_mb < least_mb:
        raise ParameterInvalid(
            f"targetSize {target_mb} MB should be greater than or equal to configMaxSize {least_mb} MB"
        )
    return engine.datanode.compactor.request(collection_id, target_mb << 20)


def compaction_status(plans: Sequence[Plan]) -> CompactionStatus:
    """A request that is unknown, or had nothing to do, counts as done, as in Milvus."""
    states = [p.state for p in plans]
    completed, failed = states.count(PlanState.COMPLETED), states.count(PlanState.FAILED)
    return CompactionStatus(len(states) - completed - failed, completed, failed)


@for_every_user()
def compaction_plans(engine: Engine, context: RequestContext, request_id: int, name: str = "") -> list[Plan]:
    """The plans of a request or, with a collection's name, all remembered plans of the collection."""
    if name and not request_id:
        return engine.datanode.compactor.plans_of_collection(find_seen(engine, context, name).collection_id)
    return engine.datanode.compactor.plans_of_request(request_id)


@for_every_user()
def stored_segments(
    engine: Engine, context: RequestContext, name: str, states: frozenset[int] = frozenset()
) -> list[SegmentInfo]:
    """Segments in one of `states` (if empty: those whose rows are in files)."""
    collection = find_seen(engine, context, name)
    return _stored(engine, collection.collection_id, states or _PERSISTENT)


def _stored(engine: Engine, collection_id: int, states: frozenset[int]) -> list[SegmentInfo]:
    found: list[SegmentInfo] = []
    if SegmentState.FLUSHED in states:
        metas = engine.catalog.snapshot.segments.get(collection_id, ())
        found += [
            SegmentInfo(
                m.segment_id, collection_id, m.partition_id, m.row_count, SegmentState.FLUSHED, m.compacted_from
            )
            for m in metas
        ]
    if SegmentState.GROWING in states:
        found += [
            SegmentInfo(s.segment_id, collection_id, s.partition_id, s.row_count, SegmentState.GROWING)
            for s in engine.datanode.growing(collection_id)
        ]
    return found


@for_every_user()
def segments_by_id(
    engine: Engine, context: RequestContext, collection_id: int, segment_ids: Sequence[int]
) -> list[SegmentInfo]:
    """The given segments that the caller may see, growing or flushed; `collection_id` 0: of any collection."""
    wanted = set(segment_ids)
    seen = [c for c in engine.catalog.snapshot.collections.values() if sees(engine, context, c)]
    ids = [c.collection_id for c in seen if collection_id in (0, c.collection_id)]
    states = frozenset({SegmentState.FLUSHED, SegmentState.GROWING})
    return [s for i in ids for s in _stored(engine, i, states) if s.segment_id in wanted]


@for_every_user()
def loaded_segments(engine: Engine, context: RequestContext, name: str) -> list[LoadedSegment]:
    """Sealed segments of a collection in memory, oldest first; none if it is not loaded.

    An index without a file, such as FLAT, changes nothing that is open, so only the catalog knows of it.
    """
    collection = find_seen(engine, context, name)
    stored = {meta.segment_id: meta for meta in engine.catalog.snapshot.segments.get(collection.collection_id, ())}
    found: list[LoadedSegment] = []
    for meta, parts in engine.loader.answers.loaded(collection.collection_id):
        known = stored.get(meta.segment_id, meta).indexes
        served = {i for i, built in known.items() if built.is_scan or i in meta.indexes}
        index = next((i for i in collection.indexes if i.metric_type and i.index_id in served), None)
        node_ids = engine.cluster.node.holders(collection.collection_id, meta.segment_id)
        found.append(LoadedSegment(meta, sum(parts.values()), index, node_ids))
    return found
