"""Which resource group has which node, and so which nodes may hold the segments of a collection."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from milvine.catalog.store import Catalog
from milvine.model.collections import LoadConfig
from milvine.model.resource_groups import DEFAULT_RESOURCE_GROUP, place_nodes
from milvine.querynode.remote.members import Members
from milvine.querynode.remote.placement import Share


class NodeGroups:
    """Nodes stay in their groups as long as the configurations allow it, also when they come back."""

    def __init__(self, catalog: Catalog, members: Members) -> None:
        self._catalog = catalog
        self._members = members
        self._lock = threading.Lock()
        self._by_key: dict[str, str] = {}
        self._found: tuple[Any, frozenset[str], Mapping[int, str]] = (None, frozenset(), {})
        """The groups and nodes that were placed last, and the group of each node."""

    def by_node(self) -> Mapping[int, str]:
        groups, nodes = self._catalog.snapshot.resource_groups, self._members.all()
        keys = frozenset(f"{node.node_id} {node.report.key}" for node in nodes)
        placed_groups, placed_keys, found = self._found
        if placed_groups is groups and placed_keys == keys:
            return found
        with self._lock:
            self._by_key |= place_nodes(groups, {node.report.key: node.report.labels for node in nodes}, self._by_key)
            found = {node.node_id: self._by_key[node.report.key] for node in nodes}
            self._found = groups, keys, found
        return found

    def _load_of(self, collection_id: int) -> LoadConfig | None:
        collection = self._catalog.snapshot.collections.get(collection_id)
        return None if collection is None else collection.load

    def shares(self, collection_id: int, load: LoadConfig | None = None) -> list[Share]:
        """The nodes of each group with replicas of the collection, by its load configuration or a future one. Replicas
        of groups without nodes are on any nodes."""
        load = load or self._load_of(collection_id)
        names = (DEFAULT_RESOURCE_GROUP,) if load is None else load.group_by_replica
        by_node, rooms = self.by_node(), self._members.rooms()
        found, homeless = [], 0
        for name, count in Counter(names).items():
            own = [room for room in rooms if by_node.get(room.node_id) == name]
            if own:
                found.append(Share(own, min(count, len(own))))
            else:
                homeless += count
        left = len(rooms) - sum(share.copies for share in found)
        if homeless and left:
            found.append(Share(rooms, min(homeless, left)))
        return found

    def copies(self, collection_id: int, load: LoadConfig | None = None) -> int:
        """How many nodes are to hold each segment; 1 if there are no nodes."""
        return sum(share.copies for share in self.shares(collection_id, load)) or 1
