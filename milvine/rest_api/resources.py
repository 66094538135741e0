"""/v2/vectordb/collections/, indexes/ and segments/."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from milvine.errors import CollectionNotFound, IndexNotFound, MilvineError, PermissionDenied, RestPermissionDenied
from milvine.model.requests import CreateCollectionRequest, IndexDescription, LoadRequest
from milvine.model.types import LoadState
from milvine.rest_api import codec, schemas
from milvine.rest_api.call import Call, Route
from milvine.service import collections, indexes, loading, segments, writes


def _done() -> dict[str, Any]:
    return {"data": {}}


def create_collection(call: Call) -> dict[str, Any]:
    """With indexes, quick or listed, the collection is also loaded. If that fails, it stays without being loaded."""
    create(call, *schemas.create_collection(call.body))
    return _done()


def create(call: Call, request: CreateCollectionRequest, new_indexes: Sequence[schemas.NewIndex]) -> None:
    collections.create_collection(call.engine, call.context, request)
    for new in new_indexes:
        indexes.create_index(call.engine, call.context, request.name, new.field_name, new.index_name, new.params)
    if new_indexes:
        loading.load_collection(call.engine, call.context, LoadRequest(request.name))


def drop_collection(call: Call) -> dict[str, Any]:
    collections.drop_collection(call.engine, call.context, call.name)
    return _done()


def list_collections(call: Call) -> dict[str, Any]:
    return {"data": [c.name for c in collections.list_collections(call.engine, call.context)]}


def has_collection(call: Call) -> dict[str, Any]:
    return {"data": {"has": collections.has_collection(call.engine, call.context, call.name)}}


def describe_collection(call: Call) -> dict[str, Any]:
    collection = collections.describe_collection(call.engine, call.context, call.name)
    state, found, message = load_and_indexes(call)
    aliases = call.engine.catalog.snapshot.aliases_of(collection.collection_id)
    return {"data": codec.collection_details(collection, state, found, aliases, call.name), "message": message}


def load_and_indexes(call: Call) -> tuple[LoadState | None, list[IndexDescription], str]:
    """The state, the indexes, and a text about what the caller may not see of them."""
    message = ""
    state: LoadState | None = None
    try:
        state = loading.get_load_state(call.engine, call.context, call.name).state
    except PermissionDenied as error:
        message += f"{RestPermissionDenied(error).message};"
    found: list[IndexDescription] = []
    try:
        found = indexes.describe_indexes(call.engine, call.context, call.name)
    except IndexNotFound as error:
        message += f"{error.message};"
    except PermissionDenied as error:
        message += f"{RestPermissionDenied(error).message};"
    return state, found, message


def load_collection(call: Call) -> dict[str, Any]:
    loading.load_collection(call.engine, call.context, LoadRequest(call.name))
    return _done()


def refresh_load(call: Call) -> dict[str, Any]:
    loading.load_collection(call.engine, call.context, LoadRequest(call.name, refresh=True))
    return _done()


def release_collection(call: Call) -> dict[str, Any]:
    loading.release_collection(call.engine, call.context, call.name)
    return _done()


def get_load_state(call: Call) -> dict[str, Any]:
    """Partition names only affect the progress of a loaded collection, as in Milvus."""
    partition_names = call.body.texts("partitionNames")
    state = loading.get_load_state(call.engine, call.context, call.name).state
    if state is LoadState.NOT_EXIST:
        raise CollectionNotFound(call.name, None)
    progress, message = 0, ""
    if state is not LoadState.NOT_LOAD:
        try:
            progress = loading.get_loading_progress(call.engine, call.context, call.name, partition_names)
        except MilvineError as error:
            progress, message = -1, f"{error.message}."
        state = LoadState.LOADED if progress >= 100 else LoadState.LOADING
    data = {"loadProgress": progress, "loadState": state.milvus_name, "message": message}
    return {"data": data, "message": message}


def get_stats(call: Call) -> dict[str, Any]:
    return {"data": {"rowCount": writes.row_count(call.engine, call.context, call.name)}}


def flush(call: Call) -> dict[str, Any]:
    segments.flush(call.engine, call.context, (call.name,))
    return _done()


def compact(call: Call) -> dict[str, Any]:
    request_id, _ = segments.compact(
        call.engine, call.context, call.name, only_clustering_or_l0=call.body.boolean("isClustering")
    )
    return {"data": {"compactionID": request_id}}


def get_compaction_state(call: Call) -> dict[str, Any]:
    request_id = call.body.long("jobID")
    found = segments.compaction_status(segments.compaction_plans(call.engine, call.context, request_id))
    data = {
        "compactionID": request_id,
        "state": "Completed" if found.is_completed else "Executing",
        "executingPlanNumber": found.executing,
        "timeoutPlanNumber": 0,
        "completedPlanNumber": found.completed,
    }
    return {"data": data}


def describe_segments(call: Call) -> dict[str, Any]:
    body = call.body
    found = segments.segments_by_id(call.engine, call.context, body.long("collectionID"), body.longs("segmentIDs"))
    infos = [
        {
            "segmentID": s.segment_id,
            "collectionID": s.collection_id,
            "partitionID": s.partition_id,
            "numRows": s.row_count,
            "state": int(s.state),
        }
        for s in found
    ]
    return {"data": {"segmentInfos": infos}}


def create_index(call: Call) -> dict[str, Any]:
    for new in [schemas.index(p) for p in call.body.inners("indexParams")]:
        indexes.create_index(call.engine, call.context, call.name, new.field_name, new.index_name, new.params)
    return _done()


def describe_index(call: Call) -> dict[str, Any]:
    index_name = call.body.text("indexName")
    found = indexes.describe_indexes(call.engine, call.context, call.name, index_name)
    return {"data": [codec.index_details(d) for d in found]}


def list_indexes(call: Call) -> dict[str, Any]:
    try:
        found = indexes.describe_indexes(call.engine, call.context, call.name)
    except IndexNotFound:
        found = []
    return {"data": [d.name for d in found]}


def drop_index(call: Call) -> dict[str, Any]:
    indexes.drop_index(call.engine, call.context, call.name, call.body.text("indexName"))
    return _done()


ROUTES: dict[str, Route] = {
    "collections/compact": Route(compact, "CompactReq"),
    "collections/create": Route(create_collection, "CollectionReq"),
    "collections/describe": Route(describe_collection),
    "collections/drop": Route(drop_collection),
    "collections/flush": Route(flush, "FlushReq"),
    "collections/get_compaction_state": Route(get_compaction_state, "GetCompactionStateReq", ()),
    "collections/get_load_state": Route(get_load_state),
    "collections/get_stats": Route(get_stats),
    "collections/has": Route(has_collection),
    "collections/list": Route(list_collections, "DatabaseReq", ()),
    "collections/load": Route(load_collection),
    "collections/refresh_load": Route(refresh_load),
    "collections/release": Route(release_collection),
    "indexes/create": Route(create_index, "IndexParamReq", ("collectionName", "indexParams")),
    "indexes/describe": Route(describe_index, "IndexReq", ("collectionName", "indexName")),
    "indexes/drop": Route(drop_index, "IndexReq", ("collectionName", "indexName")),
    "indexes/list": Route(list_indexes),
    "segments/describe": Route(describe_segments, "GetSegmentsInfoReq", ()),
}
