"""The one replica of a loaded collection: checks of the requested number, and its resource group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from milvine.errors import (
    CollectionNotFound,
    ParameterInvalid,
    ResourceGroupNodeNotEnough,
    ResourceGroupNotFound,
    ResourceInsufficient,
)
from milvine.model.collections import Collection, LoadConfig
from milvine.model.requests import LoadRequest
from milvine.model.resource_groups import DEFAULT_RESOURCE_GROUP
from milvine.service.context import Engine, RequestContext, check_database
from milvine.service.gate import for_every_user, sees

COLLECTION_REPLICA_NUMBER = "collection.replica.number"
COLLECTION_RESOURCE_GROUPS = "collection.resource_groups"
DATABASE_REPLICA_NUMBER = "database.replica.number"
DATABASE_RESOURCE_GROUPS = "database.resource_groups"


@dataclass(frozen=True, slots=True)
class Replica:
    """`outbound_group`: the resource group of the node, if it is no longer that of the replica."""

    collection: Collection
    load: LoadConfig
    outbound_group: str = ""


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


def assign_replica(engine: Engine, collection: Collection, request: LoadRequest, *, check_nodes: bool = True) -> str:
    """The resource group of the replica that a load requests.

    With `check_nodes` there must be a node for each replica; a load of loaded data skips this check.
    """
    replicas, groups = _wanted(engine, collection, request)
    if len(groups) not in (1, replicas):
        raise ParameterInvalid(
            f"replica=[{replicas}] resource group=[{','.join(groups)}], "
            "resource group num can only be 0, 1 or same as replica number"
        )
    if check_nodes and replicas > 1:
        raise ResourceInsufficient(
            f"when load {replicas} replica count", currentStreamingNode=1, expectedStreamingNode=replicas
        )
    known = engine.catalog.snapshot.resource_groups
    for name in groups:
        if name not in known:
            raise ResourceGroupNotFound(name)
        if check_nodes and not known[name].has_node:
            raise ResourceGroupNodeNotEnough(name, 0, replicas)
    if collection.load is not None and collection.load.resource_group in groups:
        return collection.load.resource_group
    return min(groups)


@for_every_user()
def get_replicas(engine: Engine, context: RequestContext, name: str, collection_id: int = 0) -> list[Replica]:
    """One replica if the collection is loaded, else none; by name or, if the name is empty, by id."""
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
    holder = next(g.name for g in snapshot.resource_groups.values() if g.has_node)
    return [Replica(collection, collection.load, "" if holder == collection.load.resource_group else holder)]
