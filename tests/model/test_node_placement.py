"""Which group has which nodes, by the configurations of the groups."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from milvine.catalog import resource_groups
from milvine.catalog.contents import Snapshot
from milvine.catalog.sqlite_file import SqliteDatabase
from milvine.catalog.store import Catalog
from milvine.errors import ResourceGroupReachLimit
from milvine.model.resource_groups import (
    DEFAULT_RESOURCE_GROUP,
    MAX_RESOURCE_GROUPS,
    ResourceGroup,
    ResourceGroupConfig,
    place_node,
    place_nodes,
)

_NO_LABELS: dict[str, str] = {}


def _placed(holder: str, **configs: ResourceGroupConfig) -> str:
    given = {DEFAULT_RESOURCE_GROUP: ResourceGroupConfig(0, 1_000_000), **configs}
    groups = {name: ResourceGroup(name, config, name == holder) for name, config in given.items()}
    found = [name for name, group in place_node(groups).items() if group.has_node]
    assert len(found) == 1
    return found[0]


def test_a_group_that_requests_the_node_gets_it_from_one_that_does_not() -> None:
    assert _placed(DEFAULT_RESOURCE_GROUP, a=ResourceGroupConfig(0, 1)) == DEFAULT_RESOURCE_GROUP
    assert _placed(DEFAULT_RESOURCE_GROUP, a=ResourceGroupConfig(1, 1)) == "a"
    assert _placed("b", a=ResourceGroupConfig(2, 2), b=ResourceGroupConfig(1, 1)) == "b"


def test_of_two_that_request_it_the_one_that_takes_from_the_holder_gets_it() -> None:
    taker = ResourceGroupConfig(1, 1, transfer_from=(DEFAULT_RESOURCE_GROUP,))
    assert _placed(DEFAULT_RESOURCE_GROUP, a=ResourceGroupConfig(2, 2), b=taker) == "b"
    assert _placed(DEFAULT_RESOURCE_GROUP, a=ResourceGroupConfig(1, 1), b=ResourceGroupConfig(2, 2)) == "b"


def test_a_group_without_room_gives_the_node_to_the_group_it_names_or_to_the_default_one() -> None:
    assert _placed("a", a=ResourceGroupConfig(0, 0), b=ResourceGroupConfig(0, 5)) == DEFAULT_RESOURCE_GROUP
    assert _placed("a", a=ResourceGroupConfig(0, 0, transfer_to=("b",)), b=ResourceGroupConfig(0, 5)) == "b"
    full = {DEFAULT_RESOURCE_GROUP: ResourceGroupConfig(0, 0)}
    assert _placed("a", **full, a=ResourceGroupConfig(0, 0)) == DEFAULT_RESOURCE_GROUP


def test_a_group_of_labelled_nodes_neither_gets_nor_keeps_one_without_labels() -> None:
    labelled = ResourceGroupConfig(1, 1, node_labels=(("zone", "a"),))
    assert _placed(DEFAULT_RESOURCE_GROUP, a=labelled) == DEFAULT_RESOURCE_GROUP
    assert _placed("a", a=labelled) == DEFAULT_RESOURCE_GROUP


def _counts(before: dict[str, str], nodes: str, **configs: ResourceGroupConfig) -> dict[str, int]:
    """Nodes (letters) by group."""
    given = {DEFAULT_RESOURCE_GROUP: ResourceGroupConfig(0, 1_000_000), **configs}
    groups = {name: ResourceGroup(name, config) for name, config in given.items()}
    found = place_nodes(groups, dict.fromkeys(nodes, _NO_LABELS), before)
    assert set(found) == set(nodes)
    return {name: list(found.values()).count(name) for name in given}


def test_of_many_nodes_each_group_gets_what_it_requests_and_the_default_one_the_rest() -> None:
    asking = {"a": ResourceGroupConfig(2, 2), "b": ResourceGroupConfig(1, 3)}
    assert _counts({}, "uvwxyz", **asking) == {DEFAULT_RESOURCE_GROUP: 3, "a": 2, "b": 1}
    assert _counts({}, "xyz", **asking) == {DEFAULT_RESOURCE_GROUP: 0, "a": 2, "b": 1}
    assert sum(_counts({}, "x", **asking).values()) == 1


def test_a_new_node_takes_the_place_of_no_other() -> None:
    groups = {
        DEFAULT_RESOURCE_GROUP: ResourceGroup(DEFAULT_RESOURCE_GROUP, ResourceGroupConfig(0, 1_000_000)),
        "a": ResourceGroup("a", ResourceGroupConfig(1, 1)),
        "b": ResourceGroup("b", ResourceGroupConfig(1, 1)),
    }
    assert place_nodes(groups, dict.fromkeys("xy", _NO_LABELS), {"y": "a"}) == {"x": "b", "y": "a"}
    before = {"y": "a", "z": "b"}
    assert place_nodes(groups, dict.fromkeys("xyz", _NO_LABELS), before) == {"x": DEFAULT_RESOURCE_GROUP, **before}


def test_nodes_stay_where_they_are_unless_others_request_them() -> None:
    before = {"x": "a", "y": "a", "z": DEFAULT_RESOURCE_GROUP}
    groups = {
        DEFAULT_RESOURCE_GROUP: ResourceGroup(DEFAULT_RESOURCE_GROUP, ResourceGroupConfig(0, 1_000_000)),
        "a": ResourceGroup("a", ResourceGroupConfig(1, 2)),
    }
    assert place_nodes(groups, dict.fromkeys("xyz", _NO_LABELS), before) == before
    groups["b"] = ResourceGroup("b", ResourceGroupConfig(2, 2, transfer_from=("a",)))
    assert place_nodes(groups, dict.fromkeys("xyz", _NO_LABELS), before) == {"x": "a", "y": "b", "z": "b"}
    del groups["a"], groups["b"]
    assert set(place_nodes(groups, dict.fromkeys("xyz", _NO_LABELS), before).values()) == {DEFAULT_RESOURCE_GROUP}


def test_nodes_beyond_a_limit_go_to_the_named_group() -> None:
    before = dict.fromkeys("wxyz", "a")
    giving = ResourceGroupConfig(0, 1, transfer_to=("b",))
    assert _counts(before, "wxyz", a=giving, b=ResourceGroupConfig(0, 2)) == {DEFAULT_RESOURCE_GROUP: 1, "a": 1, "b": 2}


def test_there_are_1024_groups_at_most() -> None:
    catalog = Catalog(SqliteDatabase())
    full = [ResourceGroup(f"g{i}", ResourceGroupConfig()) for i in range(MAX_RESOURCE_GROUPS - 2)]

    def fill(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        groups = {**snapshot.resource_groups, **{g.name: g for g in full}}
        return Snapshot(databases=snapshot.databases, resource_groups=groups)

    catalog.change(fill)
    resource_groups.create_resource_group(catalog, "last", ResourceGroupConfig())
    with pytest.raises(ResourceGroupReachLimit) as caught:
        resource_groups.create_resource_group(catalog, "more", ResourceGroupConfig())
    assert caught.value.message == "resource group num reach limit[rg=more][limit=1024]"
    catalog.close()


def test_a_group_has_the_nodes_that_have_all_its_labels() -> None:
    given = {
        DEFAULT_RESOURCE_GROUP: ResourceGroupConfig(0, 1_000_000),
        "a": ResourceGroupConfig(2, 2, node_labels=(("zone", "a"), ("disk", "fast"))),
        "b": ResourceGroupConfig(1, 1, node_labels=(("zone", "b"),)),
    }
    groups = {name: ResourceGroup(name, config) for name, config in given.items()}
    labels = {"w": {"zone": "a"}, "x": {"zone": "a", "disk": "fast"}, "y": {"zone": "b", "disk": "fast"}, "z": {}}
    found = place_nodes(groups, labels, {})
    assert found == {"w": DEFAULT_RESOURCE_GROUP, "x": "a", "y": "b", "z": DEFAULT_RESOURCE_GROUP}
    everywhere = dict.fromkeys(labels, "b")
    assert place_nodes(groups, labels, everywhere) == found, "a group keeps no node that lacks its labels"
    groups["b"] = ResourceGroup("b", ResourceGroupConfig(0, 0))
    assert place_nodes(groups, labels, found) == {**found, "y": DEFAULT_RESOURCE_GROUP}
