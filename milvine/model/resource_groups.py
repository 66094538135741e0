"""Resource groups: how many nodes each requests, and which nodes each has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from milvine.model.records import record

DEFAULT_RESOURCE_GROUP = "__default_resource_group"
DEFAULT_CAPACITY = 1_000_000
MAX_RESOURCE_GROUPS = 1024
NODE_ID = 1


@record
class ResourceGroupConfig:
    """`requests` and `limits` are numbers of nodes, None if not given. `node_labels` are (key, value)."""

    requests: int | None = 0
    limits: int | None = 0
    transfer_from: tuple[str, ...] = ()
    transfer_to: tuple[str, ...] = ()
    node_labels: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """As Go prints the message."""
        numbers = (("requests", self.requests), ("limits", self.limits))
        parts = [f"{name}:{{{f'node_num:{n}' if n else ''}}}" for name, n in numbers if n is not None]
        parts += [f'transfer_from:{{resource_group:"{name}"}}' for name in self.transfer_from]
        parts += [f'transfer_to:{{resource_group:"{name}"}}' for name in self.transfer_to]
        return " ".join(parts)


@record
class ResourceGroup:
    name: str
    config: ResourceGroupConfig
    has_node: bool = False
    """Whether it has the node of a single process."""

    @property
    def requests(self) -> int:
        return self.config.requests or 0

    @property
    def limits(self) -> int:
        return self.config.limits or 0

    @property
    def capacity(self) -> int:
        return DEFAULT_CAPACITY if self.name == DEFAULT_RESOURCE_GROUP else self.requests

    def accepts(self, labels: Mapping[str, str]) -> bool:
        """Whether a node has all labels that the group requires. The default group requires none."""
        wanted = () if self.name == DEFAULT_RESOURCE_GROUP else self.config.node_labels
        return all(labels.get(key) == value for key, value in wanted)


def initial_groups() -> dict[str, ResourceGroup]:
    config = ResourceGroupConfig(0, DEFAULT_CAPACITY)
    return {DEFAULT_RESOURCE_GROUP: ResourceGroup(DEFAULT_RESOURCE_GROUP, config, has_node=True)}


def place_node(groups: Mapping[str, ResourceGroup]) -> dict[str, ResourceGroup]:
    """The groups, with the node of a single process placed by their configurations."""
    before = next((g.name for g in groups.values() if g.has_node), DEFAULT_RESOURCE_GROUP)
    holder = place_nodes(groups, {"node": {}}, {"node": before})["node"]
    return {name: replace(g, has_node=name == holder) for name, g in groups.items()}


def place_nodes(
    groups: Mapping[str, ResourceGroup], nodes: Mapping[str, Mapping[str, str]], before: Mapping[str, str]
) -> dict[str, str]:
    """The group of each node, as Milvus recovers groups. `nodes`: their labels. No group takes a node that lacks its
    labels.

    A new node goes to the group that lacks the most, or has the most room. A group that requests more nodes than it has
    takes what others do not request. A group over its limits gives nodes to groups with room, preferably of
    `transfer_to`, otherwise to the default group.
    """
    placing = _Placing(groups, nodes)
    for node in sorted(nodes, key=lambda node: (before.get(node) not in groups, node)):  # new ones last
        placing.add(node, before.get(node, ""))
    placing.meet_requests()
    placing.meet_limits()
    return placing.found


class _Placing:
    def __init__(self, groups: Mapping[str, ResourceGroup], nodes: Mapping[str, Mapping[str, str]]) -> None:
        self._default = groups[DEFAULT_RESOURCE_GROUP]
        self._groups = [groups[name] for name in sorted(groups)]
        self._accepting = {
            node: {group.name: group for group in self._groups if group.accepts(labels)}
            for node, labels in nodes.items()
        }
        self.found: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def _lacks(self, group: ResourceGroup) -> int:
        return max(0, group.requests - self._counts[group.name])

    def _room(self, group: ResourceGroup) -> int:
        return max(0, group.limits - self._counts[group.name])

    def _excess(self, group: ResourceGroup) -> int:
        return max(0, self._counts[group.name] - group.limits)

    def _spare(self, group: ResourceGroup) -> int:
        return max(0, self._counts[group.name] - group.requests)

    def add(self, node: str, name: str) -> None:
        """Leaves the node where it is, or finds a first place for it."""
        accepting = self._accepting[node]
        group = accepting.get(name)
        if group is None:
            lacking = [g for g in accepting.values() if self._lacks(g)]
            roomy = [g for g in accepting.values() if self._room(g)]
            group = max(lacking, key=self._lacks) if lacking else max(roomy, key=self._room, default=self._default)
        self.found[node] = group.name
        self._counts[group.name] += 1

    def _movable(self, source: ResourceGroup, target: ResourceGroup) -> str | None:
        """The node that would move; None if the target accepts none of the source's."""
        able = (n for n, name in self.found.items() if name == source.name and target.name in self._accepting[n])
        return max(able, default=None)

    def _give(self, source: ResourceGroup, target: ResourceGroup) -> None:
        node = self._movable(source, target)
        assert node is not None, "only pairs with a node to move are chosen"
        self.found[node] = target.name
        self._counts[source.name] -= 1
        self._counts[target.name] += 1

    def meet_requests(self) -> None:
        while pairs := [
            (giver, taker)
            for taker in self._groups
            if self._lacks(taker)
            for giver in self._groups
            if giver is not taker and self._spare(giver) and self._movable(giver, taker) is not None
        ]:
            self._give(*max(pairs, key=self._urgency))

    def _urgency(self, pair: tuple[ResourceGroup, ResourceGroup]) -> tuple[bool, bool, int, int]:
        giver, taker = pair
        is_named = giver.name in taker.config.transfer_from
        return self._excess(giver) > 0, is_named, self._lacks(taker), self._spare(giver)

    def meet_limits(self) -> None:
        for giver in self._groups:
            while self._excess(giver):
                takers = [
                    g for g in self._groups if g is not giver and self._room(g) and self._movable(giver, g) is not None
                ]
                if not takers and giver is self._default:
                    break
                named = giver.config.transfer_to
                self._give(giver, max(takers, key=lambda g: (g.name in named, self._room(g)), default=self._default))
