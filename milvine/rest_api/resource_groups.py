"""/v2/vectordb/resource_groups/."""

from __future__ import annotations

from typing import Any

from milvine.model.resource_groups import ResourceGroupConfig
from milvine.rest_api.body import Body
from milvine.rest_api.call import Call, Route
from milvine.service import resource_groups
from milvine.service.resource_groups import ResourceGroupDescription


def _config(body: Body) -> ResourceGroupConfig:
    body.require(("requests", "limits"))
    requests, limits = body.inner("requests"), body.inner("limits")
    for numbers in (requests, limits):
        numbers.require(("node_num",))
    labels = body.inner("node_filter").inner("node_labels")
    return ResourceGroupConfig(
        requests.integer("node_num"),
        limits.integer("node_num"),
        tuple(transfer.text("resource_group") for transfer in body.inners("transfer_from")),
        tuple(transfer.text("resource_group") for transfer in body.inners("transfer_to")),
        tuple((key, labels.text(key)) for key in sorted(labels.values)),
    )


def _name(call: Call) -> str:
    return call.body.text("name")


def create_resource_group(call: Call) -> dict[str, Any]:
    config = _config(call.body.inner("config")) if call.body.mapping("config") else None
    resource_groups.create_resource_group(call.engine, call.context, _name(call), config)
    return {"data": {}}


def drop_resource_group(call: Call) -> dict[str, Any]:
    resource_groups.drop_resource_group(call.engine, call.context, _name(call))
    return {"data": {}}


def alter_resource_groups(call: Call) -> dict[str, Any]:
    groups = call.body.inner("resource_groups")
    configs = {name: _config(groups.inner(name)) for name in groups.values}
    resource_groups.update_resource_groups(call.engine, call.context, configs)
    return {"data": {}}


def list_resource_groups(call: Call) -> dict[str, Any]:
    return {"data": resource_groups.list_resource_groups(call.engine, call.context)}


def describe_resource_group(call: Call) -> dict[str, Any]:
    return {"resource_group": _details(resource_groups.describe_resource_group(call.engine, call.context, _name(call)))}


def _details(described: ResourceGroupDescription) -> dict[str, Any]:
    group = described.group
    return {
        "name": group.name,
        "capacity": group.capacity,
        "num_available_node": len(described.nodes),
        "num_loaded_replica": described.loaded_replicas,
        "num_outgoing_node": described.outgoing_nodes,
        "num_incoming_node": described.incoming_nodes,
        "config": {
            "requests": {"node_num": group.requests},
            "limits": {"node_num": group.limits},
            "transfer_from": [{"resource_group": name} for name in group.config.transfer_from],
            "transfer_to": [{"resource_group": name} for name in group.config.transfer_to],
        },
        "nodes": [{"node_id": node.node_id} for node in described.nodes],
    }


def transfer_replica(call: Call) -> dict[str, Any]:
    body = call.body
    source, target = body.text("sourceRgName"), body.text("targetRgName")
    resource_groups.transfer_replica(call.engine, call.context, source, target, call.name, body.long("replicaNum"))
    return {"data": {}}


ROUTES: dict[str, Route] = {
    "resource_groups/alter": Route(alter_resource_groups, "UpdateResourceGroupReq", ("resource_groups",)),
    "resource_groups/create": Route(create_resource_group, "ResourceGroupReq", ("name",)),
    "resource_groups/describe": Route(describe_resource_group, "ResourceGroupReq", ("name",)),
    "resource_groups/drop": Route(drop_resource_group, "ResourceGroupReq", ("name",)),
    "resource_groups/list": Route(list_resource_groups, "EmptyReq", ()),
    "resource_groups/transfer_replica": Route(
        transfer_replica, "TransferReplicaReq", ("sourceRgName", "targetRgName", "collectionName", "replicaNum")
    ),
}
