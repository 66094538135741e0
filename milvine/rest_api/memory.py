"""/milvine/v1/: loads of chosen fields, and the memory of loads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from milvine.model.requests import LoadRequest
from milvine.querynode.node import NodeInfo
from milvine.rest_api.call import Call, Route
from milvine.service import loading, memory


def _part(part: memory.PartBytes) -> dict[str, Any]:
    sizes = {"estimatedBytes": part.estimated_bytes, "measuredBytes": part.held_bytes}
    return {"kind": part.kind, "name": part.name, **sizes}


def _sums(parts: Iterable[memory.PartBytes]) -> dict[str, int]:
    parts = list(parts)
    return {
        "estimatedBytes": sum(p.estimated_bytes for p in parts),
        "measuredBytes": sum(p.held_bytes for p in parts),
    }


def _request(call: Call) -> LoadRequest:
    fields, skips_dynamic = call.body.texts("loadFields"), call.body.boolean("skipLoadDynamicField")
    return LoadRequest(call.name, load_fields=fields, skip_load_dynamic_field=skips_dynamic)


def load(call: Call) -> dict[str, Any]:
    """As `collections/load` or `partitions/load`, with `loadFields` and `skipLoadDynamicField`."""
    partition_names = call.body.texts("partitionNames")
    if partition_names:
        loading.load_partitions(call.engine, call.context, _request(call), partition_names)
    else:
        loading.load_collection(call.engine, call.context, _request(call))
    return {"data": {}}


def estimate(call: Call) -> dict[str, Any]:
    """The cost of `load` with the same body."""
    found = memory.estimate(call.engine, call.context, _request(call), call.body.texts("partitionNames"))
    data = {
        "collectionName": call.name,
        "rows": found.sealed_rows,
        "growingRows": found.growing_rows,
        "parts": [_part(p) for p in found.parts],
        "estimatedBytes": found.estimated_bytes,
        "measuredBytes": found.held_bytes,
        "neededBytes": found.needed_bytes,
        "freeBytes": found.free_bytes,
        "limitBytes": found.limit_bytes,
        "fits": found.fits,
    }
    return {"data": data}


def usage(call: Call) -> dict[str, Any]:
    found = memory.usage(call.engine, call.context)
    return {"data": {**totals(found), "collections": [_collection(c) for c in found.collections]}}


def _node(node: NodeInfo) -> dict[str, Any]:
    return {
        "nodeId": node.node_id,
        "address": node.address,
        "hostname": node.hostname,
        "limitBytes": node.limit_bytes,
        "measuredBytes": node.held_bytes,
        "mappedBytes": node.mapped_bytes,
        "segments": node.segment_count,
        "resourceGroup": node.resource_group,
        "isSilent": node.is_silent,
    }


def totals(found: memory.MemoryUsage) -> dict[str, Any]:
    """`nodes` only where there are query nodes."""
    sums = {
        "limitBytes": found.limit_bytes,
        "measuredBytes": found.held_bytes,
        "reservedBytes": found.reserved_bytes,
        "freeBytes": found.free_bytes,
    }
    return {**sums, "nodes": [_node(node) for node in found.nodes]} if found.nodes else sums


def collection_sums(found: memory.CollectionBytes) -> dict[str, Any]:
    return {
        "collectionName": found.collection.name,
        "dbName": found.collection.database,
        "loadState": found.status.state.milvus_name,
        "loadProgress": found.status.percent,
        "isResting": found.is_resting,
        "reason": found.failure,
        "reservedBytes": found.reserved_bytes,
        **_sums(p for s in found.segments for p in s.parts),
    }


def _collection(found: memory.CollectionBytes) -> dict[str, Any]:
    partitions: dict[str, list[memory.SegmentBytes]] = {}
    for segment in found.segments:
        partitions.setdefault(segment.partition_name, []).append(segment)
    return {
        **collection_sums(found),
        "partitions": [
            {
                "partitionName": name,
                **_sums(p for s in segments for p in s.parts),
                "segments": [_segment(s) for s in segments],
            }
            for name, segments in partitions.items()
        ],
    }


def _segment(found: memory.SegmentBytes) -> dict[str, Any]:
    return {
        "segmentId": found.meta.segment_id,
        "rows": found.meta.row_count,
        **_sums(found.parts),
        "parts": [_part(p) for p in found.parts],
    }


OUR_ROUTES: dict[str, Route] = {
    "estimate": Route(estimate, "LoadReq"),
    "load": Route(load, "LoadReq"),
    "memory": Route(usage, "MemoryReq", ()),
}
