"""Changes to resource groups. The transaction also runs the checks and places the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import sqlalchemy as sa

from milvine.catalog import encoding, tables
from milvine.catalog.contents import Snapshot
from milvine.catalog.store import Catalog
from milvine.errors import (
    ParameterInvalid,
    ResourceGroupAlreadyExist,
    ResourceGroupIllegalConfig,
    ResourceGroupNodeNotEnough,
    ResourceGroupNotFound,
    ResourceGroupReachLimit,
)
from milvine.model.resource_groups import (
    DEFAULT_RESOURCE_GROUP,
    MAX_RESOURCE_GROUPS,
    ResourceGroup,
    ResourceGroupConfig,
    place_node,
)


def create_resource_group(catalog: Catalog, name: str, config: ResourceGroupConfig) -> None:
    """No change if the group exists with this configuration; another configuration is refused."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        groups = snapshot.resource_groups
        if name in groups:
            if groups[name].config != config:
                raise ResourceGroupAlreadyExist(name)
            return snapshot
        if len(groups) >= MAX_RESOURCE_GROUPS:
            raise ResourceGroupReachLimit(name, MAX_RESOURCE_GROUPS)
        _check_config(groups, name, config)
        return _stored(connection, snapshot, {**groups, name: ResourceGroup(name, config)})

    catalog.change(work)


def update_resource_groups(catalog: Catalog, configs: Mapping[str, ResourceGroupConfig]) -> None:
    """Stores all of the configurations, or none."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        groups = dict(snapshot.resource_groups)
        for name, config in sorted(configs.items()):
            if name not in groups:
                raise ResourceGroupNotFound(name)
            _check_config(groups, name, config)
            groups[name] = replace(groups[name], config=config)
        return _stored(connection, snapshot, groups)

    catalog.change(work)


def drop_resource_group(catalog: Catalog, name: str) -> None:
    """No error if the group does not exist."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        if name not in snapshot.resource_groups:
            return snapshot
        _check_droppable(snapshot, name)
        return _stored(connection, snapshot, {k: g for k, g in snapshot.resource_groups.items() if k != name})

    catalog.change(work)


def transfer_node(catalog: Catalog, source: str, target: str, count: int, available: int) -> None:
    """Requests `count` fewer nodes in one group, which has so many `available`, and more in another."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        groups = dict(snapshot.resource_groups)
        for name in (source, target):
            if name not in groups:
                raise ResourceGroupNotFound(name)
        giving, taking = groups[source], groups[target]
        if available < count:
            raise ResourceGroupNodeNotEnough(source, available, count)
        # The default group keeps its limits, since it takes any node that no other group wants.
        limits = giving.limits if source == DEFAULT_RESOURCE_GROUP else max(0, giving.limits - count)
        less = replace(giving.config, requests=max(0, giving.requests - count), limits=limits)
        requests = taking.requests + count
        more = replace(taking.config, requests=requests, limits=max(requests, taking.limits))
        changed = {source: replace(giving, config=less), target: replace(taking, config=more)}
        return _stored(connection, snapshot, {**groups, **changed})

    catalog.change(work)


def _stored(connection: sa.Connection, snapshot: Snapshot, groups: Mapping[str, ResourceGroup]) -> Snapshot:
    """The snapshot with these groups and the node in its place; only rows that differ are written."""
    before, after = snapshot.resource_groups, place_node(groups)
    gone = [name for name, group in before.items() if after.get(name) != group]
    rows = [encoding.encode_resource_group(group) for name, group in after.items() if before.get(name) != group]
    connection.execute(sa.delete(tables.resource_groups).where(tables.resource_groups.c.name.in_(gone)))
    if rows:
        connection.execute(sa.insert(tables.resource_groups), rows)
    return replace(snapshot, resource_groups=after)


def _check_config(groups: Mapping[str, ResourceGroup], name: str, config: ResourceGroupConfig) -> None:
    def refused(detail: str) -> ResourceGroupIllegalConfig:
        return ResourceGroupIllegalConfig(detail, name, config)

    if config.requests is None or config.limits is None:
        raise refused("requests or limits is required")
    if config.requests < 0 or config.limits < 0:
        raise refused("node num in `requests` or `limits` should not less than 0")
    if config.limits < config.requests:
        raise refused("limits node num should not less than requests node num")
    for where, others in (("TransferFrom", config.transfer_from), ("TransferTo", config.transfer_to)):
        for other in others:
            if other == name:
                raise refused(f"resource group in `{where}` {name} should not be itself")
            if other not in groups:
                raise refused(f"resource group in `{where}` {other} not exist")


def _check_droppable(snapshot: Snapshot, name: str) -> None:
    if name == DEFAULT_RESOURCE_GROUP:
        raise ParameterInvalid(
            "default resource group is not deletable", expected="not default resource group", actual=name
        )
    loaded = [c for c in snapshot.collections.values() if c.load is not None and name in c.load.resource_groups]
    if loaded:
        raise ParameterInvalid(
            f"some replicas still loaded in resource group[{name}], release it first",
            expected="empty resource group",
            actual=f"resource group {name} has collection {loaded[0].collection_id} loaded",
        )
    if snapshot.resource_groups[name].limits:
        raise ParameterInvalid(
            "resource group's limits node num is not 0", expected="not empty resource group", actual=name
        )
    for other in snapshot.resource_groups.values():
        uses = (("TransferFrom", other.config.transfer_from), ("TransferTo", other.config.transfer_to))
        for where, names in uses:
            if name in names:
                raise ParameterInvalid(
                    f"resource group {name} is used by {other.name}'s `{where}`, remove that configuration first",
                    expected=f"not `{where}` of resource group",
                    actual=name,
                )
