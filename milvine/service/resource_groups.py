"""Resource groups: configurations are stored, and they decide which group has which nodes."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from milvine.catalog import collections as collection_changes
from milvine.catalog import resource_groups as changes
from milvine.errors import (
    CollectionNotFound,
    CollectionNotLoaded,
    ParameterInvalid,
    ResourceGroupNotFound,
)
from milvine.model.collections import Collection, LoadConfig
from milvine.model.records import record
from milvine.model.resource_groups import NODE_ID, ResourceGroup, ResourceGroupConfig
from milvine.model.schema_rules import check_resource_group_name
from milvine.querynode.node import NodeInfo
from milvine.service.context import Engine, RequestContext, check_database
from milvine.service.gate import capability


@record
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
        here: set[int] = set()
        elsewhere: set[int] = set()
        groups = collection.load.group_by_replica
        for of_replica, ids in zip(groups, nodes_of_replicas(engine, collection, collection.load), strict=True):
            (here if of_replica == name else elsewhere).update(ids)
        loaded[collection.name] = groups.count(name)
        outgoing[collection.name] = len(here - own)
        incoming[collection.name] = len(elsewhere & own)
    return ResourceGroupDescription(group, _counted(loaded), _counted(outgoing), _counted(incoming), nodes)


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
    """The nodes of each replica: those of the first, second or further holder of each segment in its group, or in any
    group, if its own has too few. A replica without segments has the nodes that would take them."""
    node, collection_id, groups = engine.cluster.node, collection.collection_id, load.group_by_replica
    every = all_nodes(engine)
    group_of = {one.node_id: one.resource_group for one in every}
    found: list[set[int]] = [set() for _ in groups]
    for segment_id in node.held(collection_id):
        for number, node_id in _by_replica(node.holders(collection_id, segment_id), groups, group_of).items():
            found[number].add(node_id)
    for number, name in enumerate(groups):
        if not found[number]:
            able = [one.node_id for one in every if one.resource_group == name] or [one.node_id for one in every]
            found[number].update(able[groups[:number].count(name) :: groups.count(name)] or able)
    return [tuple(sorted(ids)) for ids in found]


def _by_replica(holders: Sequence[int], groups: Sequence[str], group_of: Mapping[int, str]) -> dict[int, int]:
    """The holder of each replica that has one. Holders in the replica's group come first."""
    found: dict[int, int] = {}
    for is_own in (True, False):
        for number, name in enumerate(groups):
            able = (i for i in holders if i not in found.values() and (not is_own or group_of.get(i) == name))
            if number not in found and (holder := next(able, None)) is not None:
                found[number] = holder
    return found


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
    groups = collection.load.group_by_replica
    if count > len(groups):
        raise ParameterInvalid(
            "the number of replicas to transfer is greater than the number of replicas in the collection",
            expected=count,
            actual=len(groups),
        )
    there = groups.count(source)
    if there < count:
        raise ParameterInvalid(
            expected="NumReplica not greater than the number of replica in source resource group",
            actual=f"only found [{there}] replicas of collection [{collection.name}] "
            f"in source resource group [{source}], but {count} require",
        )
    moved = [number for number, name in enumerate(groups) if name == source][:count]
    changed = tuple(target if number in moved else name for number, name in enumerate(groups))
    collection_changes.set_resource_groups(engine.catalog, collection.collection_id, changed)
