"""What a person wants to see at a glance: collections, work in the background, slow requests."""

from __future__ import annotations

import time
from typing import Any

from milvine.datanode.compactor import PlanState
from milvine.errors import DataIntegrityError
from milvine.model.collections import Collection
from milvine.model.records import record
from milvine.service.admin import check_health
from milvine.service.context import Engine, RequestContext, check_database
from milvine.service.gate import find_seen, for_every_user, sees, sees_everything
from milvine.service.memory import CollectionBytes, collection_bytes

WAITING, RUNNING = "waiting", "running"
_STATES = {PlanState.EXECUTING: RUNNING, PlanState.PIPELINING: WAITING}


@record
class CollectionOverview:
    """`rows`: as `writes.row_count`, None of a damaged collection."""

    memory: CollectionBytes
    rows: int | None


@record
class UnfinishedIndex:
    """An index that some sealed rows lack. `running_seconds`: since its current build started, None if none runs.
    `failure`: why its builds fail, or empty. `job_id`: of the import whose rows these are, which nobody sees yet."""

    collection: Collection
    index_name: str
    total_rows: int
    indexed_rows: int
    running_seconds: float | None
    failure: str
    job_id: int | None = None


@record
class UnfinishedMerge:
    collection: Collection
    state: str
    segment_count: int
    row_count: int


@record
class BackgroundWork:
    indexes: tuple[UnfinishedIndex, ...]
    merges: tuple[UnfinishedMerge, ...]
    warnings: tuple[str, ...]


@for_every_user()
def collections(engine: Engine, context: RequestContext, name: str = "") -> list[CollectionOverview]:
    """The collections of a database that the caller may see, by name; with `name` that one only."""
    if name:
        found = [find_seen(engine, context, name)]
    else:
        check_database(engine, context)
        all_collections = engine.catalog.snapshot.collections.values()
        found = [c for c in all_collections if c.database == context.database and sees(engine, context, c)]
    return [
        CollectionOverview(collection_bytes(engine, c), _rows(engine, c)) for c in sorted(found, key=lambda c: c.name)
    ]


def _rows(engine: Engine, collection: Collection) -> int | None:
    try:
        return engine.datanode.row_count(collection.collection_id)
    except DataIntegrityError:
        return None


@for_every_user()
def background_work(engine: Engine, context: RequestContext) -> BackgroundWork:
    """Of all collections that the caller may see. The warnings name collections, so only callers who may do everything
    see them."""
    seen = [c for c in engine.catalog.snapshot.collections.values() if sees(engine, context, c)]
    by_id = {c.collection_id: c for c in seen}
    plans = [p for p in engine.datanode.compactor.unfinished_plans() if p.collection_id in by_id]
    merges = tuple(
        UnfinishedMerge(
            by_id[p.collection_id],
            _STATES.get(p.state, RUNNING),
            len(p.sources),
            sum(m.row_count for m in p.sources),
        )
        for p in plans
    )
    warnings = check_health(engine, context)[1] if sees_everything(engine, context) else []
    indexes = _unfinished_indexes(engine, seen) + _indexes_of_import(engine, seen)
    return BackgroundWork(tuple(indexes), merges, tuple(warnings))


def _unfinished_indexes(engine: Engine, seen: list[Collection]) -> list[UnfinishedIndex]:
    running = engine.datanode.indexes.running()
    found: list[UnfinishedIndex] = []
    for collection in seen:
        for index in collection.indexes:
            progress = engine.datanode.indexes.progress(collection.collection_id, index.index_id)
            if progress.indexed_rows == progress.total_rows and not progress.failure:
                continue
            runs = running is not None and running.index.index_id == index.index_id
            seconds = time.monotonic() - running.started if running is not None and runs else None
            found.append(
                UnfinishedIndex(
                    collection, index.name, progress.total_rows, progress.indexed_rows, seconds, progress.failure
                )
            )
    return found


def _indexes_of_import(engine: Engine, seen: list[Collection]) -> list[UnfinishedIndex]:
    building = engine.imports.building()
    if building is None:
        return []
    job_id, builds = building
    return [
        UnfinishedIndex(
            collection, one.index.name, builds.total_rows, one.indexed_rows, one.running_seconds, "", job_id
        )
        for collection in seen
        if collection.collection_id == builds.collection.collection_id
        for one in builds.indexes()
        if one.indexed_rows < builds.total_rows
    ]


@for_every_user()
def slow_requests(engine: Engine, context: RequestContext) -> list[dict[str, Any]]:
    """The last slow requests, newest first, as the log tells them. A caller who may not do everything sees the own."""
    found = engine.request_log.slow()
    return found if sees_everything(engine, context) else [one for one in found if one.get("user") == context.user]
