"""The RPCs of resource groups and replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milvine.grpc_api import encode
from milvine.grpc_api.proto import common_pb2, milvus_pb2, rg_pb2
from milvine.model.resource_groups import ResourceGroupConfig
from milvine.service import replicas, resource_groups
from milvine.service.context import Engine, RequestContext
from milvine.service.resource_groups import ResourceGroupDescription


def _decode_config(config: Any) -> ResourceGroupConfig:
    return ResourceGroupConfig(
        config.requests.node_num if config.HasField("requests") else None,
        config.limits.node_num if config.HasField("limits") else None,
        tuple(transfer.resource_group for transfer in config.transfer_from),
        tuple(transfer.resource_group for transfer in config.transfer_to),
        tuple((pair.key, pair.value) for pair in config.node_filter.node_labels),
    )


def _encode_config(config: ResourceGroupConfig) -> Any:
    message = rg_pb2.ResourceGroupConfig(
        requests=rg_pb2.ResourceGroupLimit(node_num=config.requests),
        limits=rg_pb2.ResourceGroupLimit(node_num=config.limits),
        transfer_from=[rg_pb2.ResourceGroupTransfer(resource_group=name) for name in config.transfer_from],
        transfer_to=[rg_pb2.ResourceGroupTransfer(resource_group=name) for name in config.transfer_to],
    )
    if config.node_labels:
        message.node_filter.node_labels.extend(encode.key_values(dict(config.node_labels)))
    return message


def _encode_group(engine: Engine, described: ResourceGroupDescription) -> Any:
    group = described.group
    nodes = [
        common_pb2.NodeInfo(node_id=one.node_id, address=one.address, hostname=one.hostname) for one in described.nodes
    ]
    return milvus_pb2.ResourceGroup(
        name=group.name,
        capacity=group.capacity,
        num_available_node=len(nodes),
        num_loaded_replica=described.loaded_replicas,
        num_outgoing_node=described.outgoing_nodes,
        num_incoming_node=described.incoming_nodes,
        config=_encode_config(group.config),
        nodes=nodes,
    )


def create_resource_group(engine: Engine, context: RequestContext, request: Any) -> Any:
    config = _decode_config(request.config) if request.HasField("config") else None
    resource_groups.create_resource_group(engine, context, request.resource_group, config)
    return encode.status()


def update_resource_groups(engine: Engine, context: RequestContext, request: Any) -> Any:
    configs = {name: _decode_config(config) for name, config in request.resource_groups.items()}
    resource_groups.update_resource_groups(engine, context, configs)
    return encode.status()


def drop_resource_group(engine: Engine, context: RequestContext, request: Any) -> Any:
    resource_groups.drop_resource_group(engine, context, request.resource_group)
    return encode.status()


def list_resource_groups(engine: Engine, context: RequestContext, request: Any) -> Any:
    found = resource_groups.list_resource_groups(engine, context)
    return milvus_pb2.ListResourceGroupsResponse(status=encode.status(), resource_groups=found)


def describe_resource_group(engine: Engine, context: RequestContext, request: Any) -> Any:
    described = resource_groups.describe_resource_group(engine, context, request.resource_group)
    return milvus_pb2.DescribeResourceGroupResponse(
        status=encode.status(), resource_group=_encode_group(engine, described)
    )


def transfer_node(engine: Engine, context: RequestContext, request: Any) -> Any:
    source, target = request.source_resource_group, request.target_resource_group
    resource_groups.transfer_node(engine, context, source, target, request.num_node)
    return encode.status()


def transfer_replica(engine: Engine, context: RequestContext, request: Any) -> Any:
    source, target = request.source_resource_group, request.target_resource_group
    resource_groups.transfer_replica(engine, context, source, target, request.collection_name, request.num_replica)
    return encode.status()


def get_replicas(engine: Engine, context: RequestContext, request: Any) -> Any:
    found = replicas.get_replicas(engine, context, request.collection_name, request.collectionID)
    return milvus_pb2.GetReplicasResponse(status=encode.status(), replicas=[encode.replica(r) for r in found])


RPCS: dict[str, Callable[[Engine, RequestContext, Any], Any]] = {
    "CreateResourceGroup": create_resource_group,
    "DescribeResourceGroup": describe_resource_group,
    "DropResourceGroup": drop_resource_group,
    "GetReplicas": get_replicas,
    "ListResourceGroups": list_resource_groups,
    "TransferNode": transfer_node,
    "TransferReplica": transfer_replica,
    "UpdateResourceGroups": update_resource_groups,
}
