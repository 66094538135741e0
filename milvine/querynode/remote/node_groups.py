"""Which resource group has which node, and so which nodes may hold the segments of a collection."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from milvine.catalog.store import Catalog
from milvine.model.collections import LoadConfig
from milvine.model.resource_groups import DEFAULT_RESOURCE_GROUP, place_nodes
from milvine.querynode.remote.members import Members
from milvine.querynode.remote.placement import Rooms, Share


class NodeGroups:
    """Nodes stay in their groups as long as the configurations allow it, also when they come back."""

    def __init__(self, catalog: Catalog, members: Members, are_coming: Callable[[], bool]) -> None:
        """`are_coming`: whether the nodes of a fresh head are still to report. Until then each place depends on all
        that are there, and not on which came first."""
        self._catalog = catalog
        self._are_coming = are_coming
        self._members = members
        self._lock = threading.Lock()
        self._by_key: dict[str, str] = {}
        self._found = _Placed(None, Rooms(()), {})

    def by_node(self) -> Mapping[int, str]:
        return self._placed().by_node

    def _placed(self) -> _Placed:
        groups, rooms = self._catalog.snapshot.resource_groups, self._members.rooms
        found = self._found
        if found.groups is groups and found.rooms is rooms:
            return found
        with self._lock:
            before = {} if self._are_coming() else self._by_key
            self._by_key |= place_nodes(groups, {room.key: room.labels for room in rooms}, before)
            self._found = found = _Placed(groups, rooms, {room.node_id: self._by_key[room.key] for room in rooms})
        return found

    def _load_of(self, collection_id: int) -> LoadConfig | None:
        collection = self._catalog.snapshot.collections.get(collection_id)
        return None if collection is None else collection.load

    def shares(self, collection_id: int, load: LoadConfig | None = None) -> Sequence[Share]:
        """The nodes of each group with replicas of the collection, by its load configuration or a future one. Replicas
        of groups without nodes are on any nodes. The same object while nothing has changed."""
        load = load or self._load_of(collection_id)
        return self._placed().shares((DEFAULT_RESOURCE_GROUP,) if load is None else load.group_by_replica)

    def copies(self, collection_id: int, load: LoadConfig | None = None) -> int:
        """How many nodes are to hold each segment; 1 if there are no nodes."""
        return sum(share.copies for share in self.shares(collection_id, load)) or 1


class _Placed:
    """The groups and nodes that were placed last, and the group of each node."""

    def __init__(self, groups: Any, rooms: Rooms, by_node: Mapping[int, str]) -> None:
        self.groups = groups
        self.rooms = rooms
        self.by_node = by_node
        self._shares: dict[tuple[str, ...], Sequence[Share]] = {}

    def shares(self, names: tuple[str, ...]) -> Sequence[Share]:
        """`names`: the group of each replica."""
        found = self._shares.get(names)
        return self._shares.setdefault(names, self._shared(names)) if found is None else found

    def _shared(self, names: tuple[str, ...]) -> Sequence[Share]:
        found, homeless = [], 0
        for name, count in Counter(names).items():
            own = Rooms(room for room in self.rooms if self.by_node[room.node_id] == name)
            if own:
                found.append(Share(own, min(count, len(own))))
            else:
                homeless += count
        left = len(self.rooms) - sum(share.copies for share in found)
        if homeless and left:
            found.append(Share(self.rooms, min(homeless, left)))
        return tuple(found)
