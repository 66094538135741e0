"""Runs plans, with the paths of Milvus's errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from milvine.errors import MilvineError, PartitionNotLoaded
from milvine.model.resource_groups import NODE_ID
from milvine.querynode.cluster import Target
from milvine.segment.plans import Hits, QueryPlan, SearchPlan
from milvine.service.context import Engine, channel_name
from milvine.service.reading.grouping import grouped
from milvine.service.reading.outputs import no_rows
from milvine.service.reading.prepared import PreparedSearch
from milvine.service.reading.snapshot import check_travel

_Result = TypeVar("_Result")


def run(engine: Engine, prepared: PreparedSearch) -> Hits | None:
    """The hits of a search, nearest first; None if there are no segments."""
    if prepared.iterator is not None:
        return _run_step(engine, prepared)
    if prepared.grouping is None:
        return _run_search(engine, prepared.target, prepared.plan)
    return _run_grouped(engine, prepared)


def no_hits(prepared: PreparedSearch) -> Hits:
    counts = np.zeros(len(prepared.plan.queries), np.int64)
    return Hits(counts, np.zeros(0, np.float32), no_rows(prepared.fetched), ())


def described(prepared: PreparedSearch, hits: Hits) -> dict[str, Any]:
    """What a search looked for, and how many hits it found."""
    found: dict[str, Any] = {"field": prepared.field.name, "metric": prepared.plan.metric, "wanted": prepared.plan.k}
    if prepared.grouping is not None:
        found |= {
            "groupedBy": [schema.name for schema in prepared.grouping.schemas],
            "groupSize": prepared.grouping.size,
        }
    if prepared.plan.rescoring is not None:
        found |= prepared.plan.rescoring.details
    return found | {"candidates": len(hits.distances)}


def _run_search(engine: Engine, target: Target, plan: SearchPlan) -> Hits | None:
    try:
        return engine.reads.search(target, plan)
    except MilvineError as error:
        raise _chained(error, target.collection_id, "search").prefixed("failed to search") from error


def run_query(
    engine: Engine, read: Callable[[Target, QueryPlan], _Result], target: Target, plan: QueryPlan, asked_ts: int
) -> _Result:
    """The result of `read`. `asked_ts`: the timestamp that the caller chose, or 0."""
    try:
        result = read(target, plan)
        check_travel(engine, target.collection_id, asked_ts)
    except MilvineError as error:
        raise _chained(error, target.collection_id, "Query").prefixed("failed to query") from error
    return result


def _chained(error: MilvineError, collection_id: int, verb: str) -> MilvineError:
    """In Milvus the query node refuses a partition that is not loaded, so the error begins with its path."""
    if not isinstance(error, PartitionNotLoaded):
        return error
    channel = channel_name(collection_id)
    inner = error.prefixed(f"fail to {verb} on QueryNode {NODE_ID}")
    return inner.prefixed(f"failed to search/query delegator {NODE_ID} for channel {channel}")


def _run_step(engine: Engine, prepared: PreparedSearch) -> Hits | None:
    """A batch of an iterator, which never ends among rows of one distance.

    The next step starts beyond the distance of the last row, so it would not return the others. They are left to the
    next batch; only if they fill this one, all of them follow.
    """
    size = prepared.plan.k
    plan, found = replace(prepared.plan, k=size + 1), -1
    while True:
        hits = _run_search(engine, prepared.target, plan)
        if hits is None or len(hits.distances) <= size:
            return hits
        last = hits.distances[size - 1]
        count = int(np.searchsorted(hits.distances, last, side="right"))
        if count > size:
            count = int(np.searchsorted(hits.distances, last)) or count
        if count < len(hits.distances) or found == count:
            return replace(
                hits, counts=np.array([count]), distances=hits.distances[:count], rows=hits.rows.slice(0, count)
            )
        plan, found = replace(plan, k=4 * plan.k), count


def _run_grouped(engine: Engine, prepared: PreparedSearch) -> Hits | None:
    """The rows of the nearest `k` groups, nearest first."""
    assert prepared.grouping is not None
    search = partial(_run_search, engine, prepared.target)
    return grouped(search, prepared.plan, prepared.grouping, prepared.plan.k)
