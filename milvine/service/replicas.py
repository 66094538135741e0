"""The replicas of a loaded collection: checks of the requested number, their resource group, their nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from milvine.errors import (
    CollectionNotFound,
    ParameterInvalid,
    ResourceGroupNodeNotEnough,
    ResourceGroupNotFound,
    ResourceInsufficient,
)
from milvine.model.collections import Collection, LoadConfig
from milvine.model.records import record
from milvine.model.requests import LoadRequest
from milvine.model.resource_groups import DEFAULT_RESOURCE_GROUP
from milvine.service.context import Engine, RequestContext, check_database
from milvine.service.gate import for_every_user, sees
from milvine.service.resource_groups import all_nodes, nodes_of_group, nodes_of_replicas

COLLECTION_REPLICA_NUMBER = "collection.replica.number"
COLLECTION_RESOURCE_GROUPS = "collection.resource_groups"
DATABASE_REPLICA_NUMBER = "database.replica.number"
DATABASE_RESOURCE_GROUPS = "database.resource_groups"


@record
class Replica:
    """`node_ids`: the nodes that hold its segments. `outbound`: how many of them are in other groups."""

    replica_id: int
    collection: Collection
    load: LoadConfig
    resource_group: str
    node_ids: tuple[int, ...]
    outbound: Mapping[str, int]


def listed_groups(text: str) -> tuple[str, ...]:
    """Names separated by commas, as in properties."""
    return tuple(name.strip() for name in text.split(",")) if text else ()


def _number(properties: Mapping[str, str], name: str) -> int:
    """0 if it is not set or not a number, which Milvus ignores."""
    try:
        return max(0, int(properties.get(name, "")))
    except ValueError:
        return 0


def _wanted(engine: Engine, collection: Collection, request: LoadRequest) -> tuple[int, tuple[str, ...]]:
    """The number of replicas and their groups: from the request, else the collection, else the database."""
    replicas, groups = request.replica_number, request.resource_groups
    if replicas <= 0 and not groups:
        own = collection.properties
        database = engine.catalog.snapshot.databases.get(collection.database)
        general = {} if database is None else database.properties
        replicas = _number(own, COLLECTION_REPLICA_NUMBER) or _number(general, DATABASE_REPLICA_NUMBER)
        groups = listed_groups(own.get(COLLECTION_RESOURCE_GROUPS, "")) or listed_groups(
            general.get(DATABASE_RESOURCE_GROUPS, "")
        )
    return max(1, replicas), groups or (DEFAULT_RESOURCE_GROUP,)


def _are_there(engine: Engine, wanted: Counter[str]) -> bool:
    """Whether each group has a node for each of so many replicas."""
    nodes = Counter(node.resource_group for node in all_nodes(engine))
    known = engine.catalog.snapshot.resource_groups
    return wanted.total() <= nodes.total() and all(
        nodes[name] >= needed for name, needed in wanted.items() if name in known
    )


def assign_replicas(
    engine: Engine, collection: Collection, request: LoadRequest, *, check_nodes: bool = True
) -> tuple[int, tuple[str, ...]]:
    """The number of replicas that a load requests, and their resource groups: one for each, or one for all.

    With `check_nodes` there must be a node for each replica. A load of loaded data skips this check, unless there are
    query nodes and it asks for another number. While nodes may still report to a head that has just started, such a
    load waits for them.
    """
    replicas, groups = _wanted(engine, collection, request)
    if len(groups) not in (1, replicas):
        raise ParameterInvalid(
            f"replica=[{replicas}] resource group=[{','.join(groups)}], "
            "resource group num can only be 0, 1 or same as replica number"
        )
    wanted = Counter(groups if len(groups) > 1 else groups * replicas)
    has_other_number = collection.load is not None and replicas != collection.load.replica_number
    if check_nodes or has_other_number:
        engine.cluster.wait_for_nodes(lambda: _are_there(engine, wanted))
    check_nodes = check_nodes or (has_other_number and bool(engine.cluster.node.nodes()))
    available = max(1, len(engine.cluster.node.nodes()))
    if check_nodes and replicas > available:
        raise ResourceInsufficient(
            f"when load {replicas} replica count", currentStreamingNode=available, expectedStreamingNode=replicas
        )
    known = engine.catalog.snapshot.resource_groups
    for name, needed in wanted.items():
        if name not in known:
            raise ResourceGroupNotFound(name)
        own = len(nodes_of_group(engine, name))
        if check_nodes and own < needed:
            raise ResourceGroupNodeNotEnough(name, own, needed)
    load = collection.load
    if load is not None and (replicas > available or wanted == Counter(load.group_by_replica)):
        return load.replica_number, load.resource_groups
    return (1, groups[:1]) if replicas > available else (replicas, groups)


@for_every_user()
def get_replicas(engine: Engine, context: RequestContext, name: str, collection_id: int = 0) -> list[Replica]:
    """The replicas if the collection is loaded, else none; by name or, if the name is empty, by id."""
    snapshot = engine.catalog.snapshot
    if name:
        check_database(engine, context)
        collection = snapshot.find(context.database, name)
        if collection is None or not sees(engine, context, collection):
            raise CollectionNotFound(name, context.database)
    else:
        collection = snapshot.collections.get(collection_id)
    if collection is None or collection.load is None or not sees(engine, context, collection):
        return []
    groups, load = {node.node_id: node.resource_group for node in all_nodes(engine)}, collection.load
    replicas = zip(load.group_by_replica, nodes_of_replicas(engine, collection, load), strict=True)
    return [
        Replica(
            collection.collection_id + number,
            collection,
            load,
            own,
            node_ids,
            Counter(groups[i] for i in node_ids if groups.get(i, own) != own),
        )
        for number, (own, node_ids) in enumerate(replicas)
    ]
