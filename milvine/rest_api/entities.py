"""/v2/vectordb/entities/: writes and reads of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from milvine.errors import RestInvalidInsertData, RestMissingParameters
from milvine.model.requests import ReadResult
from milvine.rest_api import buckets, codec, rows
from milvine.rest_api.call import Call, Route
from milvine.service import reading, snapshots, writes
from milvine.service.trace import Step


def insert(call: Call) -> dict[str, Any]:
    request = codec.insert(call.body, call.collection(writes.insert))
    if not request.row_count:
        raise RestInvalidInsertData(RestMissingParameters.text)
    result = writes.insert(call.engine, call.context, request)
    ids = rows.keys(result.keys, call.int64_as_text)
    return {"data": {"insertCount": result.row_count, "insertIds": ids}, "cost": 0}


def upsert(call: Call) -> dict[str, Any]:
    request = codec.upsert(call.body, call.schema(writes.upsert))
    if not request.row_count:
        raise RestInvalidInsertData(RestMissingParameters.text)
    result = writes.upsert(call.engine, call.context, request)
    ids = rows.keys(result.keys, call.int64_as_text)
    return {"data": {"upsertCount": result.row_count, "upsertIds": ids}, "cost": 0}


def delete(call: Call) -> dict[str, Any]:
    call.schema(writes.delete)
    result = writes.delete(call.engine, call.context, codec.delete(call.body))
    return {"data": {"deleteCount": result.row_count}}


def _at_snapshot(call: Call) -> Call:
    """The call as it reads the snapshot that its body names, or as it is."""
    name = call.body.text("snapshotName")
    return replace(call, engine=snapshots.at_snapshot(call.engine, call.context, call.name, name)) if name else call


def query(call: Call) -> dict[str, Any]:
    """With `snapshotName`, of a snapshot, loaded or not."""
    call = _at_snapshot(call)
    call.schema(reading.query)
    result = reading.query(call.engine, call.context, codec.query(call.body))
    return {"data": rows.of_query(result, call.int64_as_text), "cost": 0}


def get(call: Call) -> dict[str, Any]:
    """With `snapshotName`, of a snapshot, loaded or not."""
    call = _at_snapshot(call)
    request = codec.get(call.body, call.schema(reading.query))
    result = reading.query(call.engine, call.context, request)
    return {"data": rows.of_query(result, call.int64_as_text), "cost": 0}


def search(call: Call) -> dict[str, Any]:
    """With `snapshotName`, in a snapshot, loaded or not."""
    call = _at_snapshot(call)
    request = codec.search(call.body, call.schema(reading.search))
    result = reading.search(call.engine, call.context, request)
    return _hits(call, result) if result.buckets is None else buckets.answer(result, call.int64_as_text)


def hybrid_search(call: Call) -> dict[str, Any]:
    """With `snapshotName`, in a snapshot, loaded or not."""
    call = _at_snapshot(call)
    request = codec.hybrid_search(call.body, call.schema(reading.hybrid_search))
    return _hits(call, reading.hybrid_search(call.engine, call.context, request))


def _hits(call: Call, result: ReadResult) -> dict[str, Any]:
    """Without hits `topks` is left out, as in Milvus."""
    found = rows.of_search(result, call.int64_as_text)
    if not found or result.ranking is None:
        return {"data": [], "cost": 0}
    return {"data": found, "cost": 0, "topks": result.ranking.counts.tolist()}


def explain(call: Call) -> dict[str, Any]:
    """Takes the body of a search; answers how each segment was searched, and all steps, without rows."""
    call = _at_snapshot(call)
    steps = reading.explain(call.engine, call.context, codec.search(call.body, call.schema(reading.explain)))
    found = _searched(steps)
    return {"data": found[0] if found else [], "plan": _plan(steps)}


def explain_hybrid(call: Call) -> dict[str, Any]:
    """Takes the body of a hybrid search; answers a list as `explain` for each of its searches."""
    call = _at_snapshot(call)
    request = codec.hybrid_search(call.body, call.schema(reading.explain_hybrid))
    steps = reading.explain_hybrid(call.engine, call.context, request)
    return {"data": _searched(steps), "plan": _plan(steps)}


def _searched(steps: Sequence[Step]) -> list[list[dict[str, Any]]]:
    """How each segment was searched, by each search."""
    return [[codec.search_stats(stats) for stats in step.segments] for step in steps if step.name == "search"]


def _plan(steps: Sequence[Step]) -> list[dict[str, Any]]:
    return [{"step": step.name, **step.details, "milliseconds": round(step.ms, 3)} for step in steps]


ROUTES: dict[str, Route] = {
    "entities/advanced_search": Route(hybrid_search, "HybridSearchReq"),
    "entities/delete": Route(delete, "CollectionFilterReq", ("collectionName", "filter")),
    "entities/get": Route(get, "CollectionIDReq", ("collectionName", "id")),
    "entities/hybrid_search": Route(hybrid_search, "HybridSearchReq"),
    "entities/insert": Route(insert, "CollectionDataReq", ("collectionName", "data")),
    "entities/query": Route(query, "QueryReqV2"),
    "entities/search": Route(search, "SearchReqV2"),
    "entities/upsert": Route(upsert, "CollectionDataReq", ("collectionName", "data")),
}
OUR_ROUTES: dict[str, Route] = {
    "explain": Route(explain, "SearchReqV2"),
    "explain_hybrid": Route(explain_hybrid, "HybridSearchReq"),
}
"""Not routes of Milvus, so they have their own prefix."""
