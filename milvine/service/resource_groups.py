"""Resource groups: configurations are stored, and they decide which group has which nodes."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from milvine.catalog import collections as collection_changes
from milvine.catalog import resource_groups as changes
from milvine.errors import (
    CollectionNotFound,
    CollectionNotLoaded,
    ParameterInvalid,
    ResourceGroupNotFound,
)
from milvine.model.collections import Collection, LoadConfig
from milvine.model.resource_groups import NODE_ID, ResourceGroup, ResourceGroupConfig
from milvine.model.schema_rules import check_resource_group_name
from milvine.querynode.node import NodeInfo
from milvine.service.context import Engine, RequestContext, check_database
from milvine.service.gate import capability


@dataclass(frozen=True, slots=True)
class ResourceGroupDescription:
    """Numbers by collection name: replicas in the group, their nodes in other groups, and other groups' nodes here."""

    group: ResourceGroup
    loaded_replicas: Mapping[str, int]
    outgoing_nodes: Mapping[str, int]
    incoming_nodes: Mapping[str, int]
    nodes: tuple[NodeInfo, ...]


@capability("CreateResourceGroup")
def create_resource_group(
    engine: Engine, context: RequestContext, name: str, config: ResourceGroupConfig | None
) -> None:
    check_resource_group_name(name)
    changes.create_resource_group(engine.catalog, name, config or ResourceGroupConfig())


@capability("UpdateResourceGroups")
def update_resource_groups(engine: Engine, context: RequestContext, configs: Mapping[str, ResourceGroupConfig]) -> None:
    _check_names(*configs)
    if configs:
        changes.update_resource_groups(engine.catalog, configs)


@capability("DropResourceGroup")
def drop_resource_group(engine: Engine, context: RequestContext, name: str) -> None:
    changes.drop_resource_group(engine.catalog, name)


@capability("ListResourceGroups")
def list_resource_groups(engine: Engine, context: RequestContext) -> list[str]:
    return sorted(engine.catalog.snapshot.resource_groups)


@capability("DescribeResourceGroup")
def describe_resource_group(engine: Engine, context: RequestContext, name: str) -> ResourceGroupDescription:
    snapshot = engine.catalog.snapshot
    group = snapshot.resource_groups.get(name)
    if group is None:
        raise ResourceGroupNotFound(name)
    nodes = nodes_of_group(engine, name)
    own = {node.node_id for node in nodes}
    loaded: dict[str, int] = {}
    outgoing: dict[str, int] = {}
    incoming: dict[str, int] = {}
    for collection in snapshot.collections.values():
        if collection.load is None:
            continue
        used = {i for ids in nodes_of_replicas(engine, collection, collection.load) for i in ids}
        if collection.load.resource_group == name:
            loaded[collection.name] = collection.load.replica_number
            outgoing[collection.name] = len(used - own)
        else:
            incoming[collection.name] = len(used & own)
    return ResourceGroupDescription(group, loaded, _counted(outgoing), _counted(incoming), nodes)


def _counted(numbers: Mapping[str, int]) -> dict[str, int]:
    return {name: number for name, number in numbers.items() if number}


def all_nodes(engine: Engine) -> tuple[NodeInfo, ...]:
    """The query nodes or, without any, this process."""
    settings, groups = engine.settings, engine.catalog.snapshot.resource_groups
    own = NodeInfo(
        node_id=NODE_ID,
        address=f"{settings.host or '127.0.0.1'}:{settings.port}",
        hostname=socket.gethostname(),
        limit_bytes=settings.memory_limit_bytes,
        held_bytes=engine.loader.budget.held_bytes(),
        mapped_bytes=0,
        segment_count=0,
        resource_group=next(group.name for group in groups.values() if group.has_node),
    )
    return engine.cluster.node.nodes() or (own,)


def nodes_of_group(engine: Engine, name: str) -> tuple[NodeInfo, ...]:
    return tuple(node for node in all_nodes(engine) if node.resource_group == name)


def nodes_of_replicas(engine: Engine, collection: Collection, load: LoadConfig) -> list[tuple[int, ...]]:
    """The nodes of each replica: its segments are on the first, second or further holder of each segment. A replica
    without segments has the nodes that would take them."""
    node, collection_id = engine.cluster.node, collection.collection_id
    holders = [node.holders(collection_id, segment_id) for segment_id in node.held(collection_id)]
    able = nodes_of_group(engine, load.resource_group) or all_nodes(engine)
    every = tuple(one.node_id for one in able)
    count = max(1, load.replica_number)
    return [
        tuple(sorted({ids[number] for ids in holders if len(ids) > number})) or every[number::count] or every
        for number in range(count)
    ]


def _check_names(*names: str) -> None:
    for name in names:
        check_resource_group_name(name)


def _check_they_differ(source: str, target: str) -> None:
    if source == target:
        raise ParameterInvalid(
            f"source resource group and target resource group should not be the same, resource group: {source}"
        )


@capability("TransferNode")
def transfer_node(engine: Engine, context: RequestContext, source: str, target: str, count: int) -> None:
    _check_names(source, target)
    _check_they_differ(source, target)
    if count <= 0:
        raise ParameterInvalid(expected="NumNode > 0", actual=f"invalid NumNode {count}")
    changes.transfer_node(engine.catalog, source, target, count, len(nodes_of_group(engine, source)))


@capability("TransferReplica")
def transfer_replica(engine: Engine, context: RequestContext, source: str, target: str, name: str, count: int) -> None:
    """Moves the replicas of a loaded collection to another group; reads continue."""
    _check_names(source, target)
    check_database(engine, context)
    snapshot = engine.catalog.snapshot
    collection = snapshot.find(context.database, name)
    if collection is None:
        raise CollectionNotFound(name, context.database)
    for group in (source, target):
        if group not in snapshot.resource_groups:
            raise ResourceGroupNotFound(group)
    _check_they_differ(source, target)
    if count <= 0:
        raise ParameterInvalid(expected="NumReplica > 0", actual=f"invalid NumReplica {count}")
    if collection.load is None:
        raise CollectionNotLoaded(collection.name)
    replicas = collection.load.replica_number
    if count > replicas:
        raise ParameterInvalid(
            "the number of replicas to transfer is greater than the number of replicas in the collection",
            expected=count,
            actual=replicas,
        )
    if collection.load.resource_group != source:
        raise ParameterInvalid(
            expected="NumReplica not greater than the number of replica in source resource group",
            actual=f"only found [0] replicas of collection [{collection.name}] in source resource group [{source}], "
            f"but {count} require",
        )
    if count < replicas:
        raise ParameterInvalid(f"the {replicas} replicas of a collection can only be transferred together")
    collection_changes.set_resource_group(engine.catalog, collection.collection_id, target)
