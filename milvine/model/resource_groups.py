"""Resource groups: how many nodes each requests, and which of them has the one node of this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

DEFAULT_RESOURCE_GROUP = "__default_resource_group"
DEFAULT_CAPACITY = 1_000_000
MAX_RESOURCE_GROUPS = 1024
NODE_ID = 1


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class ResourceGroup:
    name: str
    config: ResourceGroupConfig
    has_node: bool = False

    @property
    def node_count(self) -> int:
        return int(self.has_node)

    @property
    def requests(self) -> int:
        return self.config.requests or 0

    @property
    def limits(self) -> int:
        return self.config.limits or 0

    @property
    def capacity(self) -> int:
        return DEFAULT_CAPACITY if self.name == DEFAULT_RESOURCE_GROUP else self.requests

    @property
    def accepts_node(self) -> bool:
        """The node has no labels, so only a group that requires none takes it."""
        return self.name == DEFAULT_RESOURCE_GROUP or not self.config.node_labels


def initial_groups() -> dict[str, ResourceGroup]:
    config = ResourceGroupConfig(0, DEFAULT_CAPACITY)
    return {DEFAULT_RESOURCE_GROUP: ResourceGroup(DEFAULT_RESOURCE_GROUP, config, has_node=True)}


def place_node(groups: Mapping[str, ResourceGroup]) -> dict[str, ResourceGroup]:
    """The groups, with the node placed by their configurations.

    As Milvus recovers groups: a group that requests a node takes one that its present group does not request. A group
    over its limits gives its node to a group with room, preferably of `transfer_to`, otherwise to the default group.
    """
    holder = next((g for g in groups.values() if g.has_node), groups[DEFAULT_RESOURCE_GROUP])
    others = [groups[name] for name in sorted(groups) if name != holder.name and groups[name].accepts_node]
    is_redundant = holder.limits < 1 or not holder.accepts_node
    target = holder
    if is_redundant or holder.requests < 1:
        lacking = [g for g in others if g.requests > 0]
        with_room = [g for g in others if g.limits > 0]
        if lacking:
            target = max(lacking, key=lambda g: (holder.name in g.config.transfer_from, g.requests))
        elif is_redundant and with_room:
            target = max(with_room, key=lambda g: (g.name in holder.config.transfer_to, g.limits))
        elif is_redundant:
            target = groups[DEFAULT_RESOURCE_GROUP]
    return {name: replace(g, has_node=name == target.name) for name, g in groups.items()}
