"""/v2/vectordb/partitions/, and collections/truncate."""

from __future__ import annotations

from typing import Any

from milvine.model.requests import LoadRequest
from milvine.rest_api.call import Call, Route
from milvine.service import loading, partitions


def _partition(call: Call) -> str:
    return call.body.text("partitionName")


def create_partition(call: Call) -> dict[str, Any]:
    partitions.create_partition(call.engine, call.context, call.name, _partition(call))
    return {"data": {}}


def drop_partition(call: Call) -> dict[str, Any]:
    partitions.drop_partition(call.engine, call.context, call.name, _partition(call))
    return {"data": {}}


def has_partition(call: Call) -> dict[str, Any]:
    return {"data": {"has": partitions.has_partition(call.engine, call.context, call.name, _partition(call))}}


def list_partitions(call: Call) -> dict[str, Any]:
    return {"data": [p.name for p in partitions.list_partitions(call.engine, call.context, call.name)]}


def get_stats(call: Call) -> dict[str, Any]:
    count = partitions.row_count(call.engine, call.context, call.name, _partition(call))
    return {"data": {"rowCount": count}}


def load_partitions(call: Call) -> dict[str, Any]:
    request = LoadRequest(call.name)
    loading.load_partitions(call.engine, call.context, request, call.body.texts("partitionNames"))
    return {"data": {}}


def release_partitions(call: Call) -> dict[str, Any]:
    loading.release_partitions(call.engine, call.context, call.name, call.body.texts("partitionNames"))
    return {"data": {}}


def truncate_collection(call: Call) -> dict[str, Any]:
    partitions.truncate_collection(call.engine, call.context, call.name)
    return {"data": {}}


_ONE = ("collectionName", "partitionName")
_SOME = ("collectionName", "partitionNames")
ROUTES: dict[str, Route] = {
    "collections/truncate": Route(truncate_collection),
    "partitions/create": Route(create_partition, "PartitionReq", _ONE),
    "partitions/drop": Route(drop_partition, "PartitionReq", _ONE),
    "partitions/get_stats": Route(get_stats, "PartitionReq", _ONE),
    "partitions/has": Route(has_partition, "PartitionReq", _ONE),
    "partitions/list": Route(list_partitions),
    "partitions/load": Route(load_partitions, "PartitionsReq", _SOME),
    "partitions/release": Route(release_partitions, "PartitionsReq", _SOME),
}
