"""Databases, aliases, renaming and resource groups over REST."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from rest_client import NOT_LOAD, Rest

DEFAULT_GROUP = "__default_resource_group"


@pytest.fixture
def rest(server: Any) -> Rest:
    return Rest(server.uri)


@pytest.fixture
def database(rest: Rest) -> Iterator[str]:
    """A new database, dropped afterwards with its collections."""
    name = f"db_{uuid.uuid4().hex[:12]}"
    rest.ok("databases/create", {"dbName": name})
    yield name
    if name in rest.ok("databases/list", {}):
        for collection in rest.ok("collections/list", {"dbName": name}):
            rest.ok("collections/drop", {"dbName": name, "collectionName": collection})
        rest.ok("databases/drop", {"dbName": name})


def _group(rest: Rest, name: str) -> dict[str, Any]:
    answer = rest.post("resource_groups/describe", {"name": name})
    assert answer["code"] == 0, answer
    described: dict[str, Any] = answer["resource_group"]
    return described


def test_a_database_is_made_described_altered_and_dropped(rest: Rest) -> None:
    name = f"db_{uuid.uuid4().hex[:12]}"
    properties = {"database.replica.number": 1, "mmap.enabled": True}
    assert rest.ok("databases/create", {"dbName": name, "properties": properties}) == {}
    described = rest.ok("databases/describe", {"dbName": name})
    assert (described["dbName"], described["dbID"] > 0) == (name, True)
    found = {p["key"]: p["value"] for p in described["properties"]}
    assert found == {"database.replica.number": "1", "mmap.enabled": "true"}
    for route, value in (("alter", "false"), ("alter_properties", "true")):
        assert rest.ok(f"databases/{route}", {"dbName": name, "properties": {"mmap.enabled": value}}) == {}
        assert {"key": "mmap.enabled", "value": value} in rest.ok("databases/describe", {"dbName": name})["properties"]
    keys = {"dbName": name, "propertyKeys": ["mmap.enabled"]}
    assert rest.ok("databases/drop_properties", keys) == {}
    (left,) = rest.ok("databases/describe", {"dbName": name})["properties"]
    assert left == {"key": "database.replica.number", "value": "1"}
    assert rest.ok("databases/drop", {"dbName": name}) == {}
    assert rest.post("databases/describe", {"dbName": name}) == {
        "code": 800,
        "message": f"database not found[database={name}]",
    }


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("create", "DatabaseReqWithProperties"),
        ("drop", "DatabaseReqRequiredName"),
        ("describe", "DatabaseReqRequiredName"),
        ("alter", "DatabaseReqWithProperties"),
        ("drop_properties", "DropDatabasePropertiesReq"),
    ],
)
def test_the_routes_of_databases_need_a_name(rest: Rest, route: str, kind: str) -> None:
    answer = rest.post(f"databases/{route}", {})
    assert answer["code"] == 1802
    tag = f"Key: '{kind}.DbName' Error:Field validation for 'DbName' failed on the 'required' tag"
    assert tag in answer["message"]


def test_the_database_of_the_body_overrides_the_header(rest: Rest, database: str, collection_name: str) -> None:
    """RE-16"""
    rest.quick_create(collection_name)
    rest.ok("collections/release", {"collectionName": collection_name})
    named = {"collectionName": collection_name}
    rest.quick_create(collection_name, dbName=database)
    rest.ok("collections/release", {**named, "dbName": database})
    rest.ok("collections/load", {**named, "dbName": database}, DB_Name="default")
    assert rest.state(collection_name) == NOT_LOAD
    assert rest.ok("collections/get_load_state", named, DB_Name=database)["loadState"] != NOT_LOAD
    answer = rest.post("collections/load", {**named, "dbName": "missing"}, DB_Name=database)
    assert answer == {"code": 800, "message": "database not found[database=missing]"}
    answer = rest.post("collections/load", named, DB_Name="missing")
    assert answer == {"code": 800, "message": "database not found[database=missing]"}
    assert rest.ok("collections/list", {}, DB_Name=database) == [collection_name]


def test_a_database_may_deny_writes(rest: Rest, database: str) -> None:
    rest.quick_create("frozen", dbName=database)
    denied = {"dbName": database, "properties": {"database.force.deny.writing": True}}
    rest.ok("databases/alter", denied)
    data = {"dbName": database, "collectionName": "frozen", "data": [{"id": 1, "vector": [1, 0]}]}
    reason = "access has been disabled by the administrator: force deny writing in database properties"
    assert rest.post("entities/insert", data) == {
        "code": 1807,
        "message": f"request is rejected by limiter, error: quota exceeded[reason={reason}]",
    }


def test_an_alias_is_made_described_listed_altered_and_dropped(rest: Rest, database: str) -> None:
    here = {"dbName": database}
    for name in ("one", "other"):
        rest.quick_create(name, dbName=database)
    assert rest.ok("aliases/create", {**here, "collectionName": "one", "aliasName": "al"}) == {}
    described = rest.ok("aliases/describe", {**here, "aliasName": "al"})
    assert described == {"dbName": database, "collectionName": "one", "aliasName": "al"}
    assert rest.ok("aliases/list", {**here, "collectionName": "one"}) == ["al"]
    assert rest.ok("aliases/list", here) == ["al"]
    details = rest.ok("collections/describe", {**here, "collectionName": "al"})
    assert (details["collectionName"], details["aliases"]) == ("al", ["al"])
    rest.ok("entities/insert", {**here, "collectionName": "al", "data": [{"id": 7, "vector": [1, 0]}]})
    query = {**here, "collectionName": "al", "filter": "id == 7", "outputFields": ["id"]}
    assert rest.ok("entities/query", query) == [{"id": 7}]
    assert rest.ok("aliases/alter", {**here, "collectionName": "other", "aliasName": "al"}) == {}
    assert rest.ok("entities/query", query) == []
    assert rest.post("collections/drop", {**here, "collectionName": "al"}) == {
        "code": 1100,
        "message": "cannot drop the collection via alias = al: invalid parameter",
    }
    assert rest.ok("aliases/drop", {**here, "aliasName": "al"}) == {}
    assert rest.post("aliases/describe", {**here, "aliasName": "al"}) == {
        "code": 1600,
        "message": f"alias not found[database={database}][alias=al]",
    }


@pytest.mark.parametrize(
    ("route", "body", "key"),
    [
        ("aliases/create", {"collectionName": "c"}, "AliasCollectionReq.AliasName"),
        ("aliases/alter", {"aliasName": "al"}, "AliasCollectionReq.CollectionName"),
        ("aliases/drop", {}, "AliasReq.AliasName"),
        ("aliases/describe", {}, "AliasReq.AliasName"),
        ("collections/rename", {"collectionName": "c"}, "RenameCollectionReq.NewCollectionName"),
        ("resource_groups/create", {}, "ResourceGroupReq.Name"),
        ("resource_groups/create", {"name": "rg", "config": {"limits": {"node_num": 1}}}, "Config.Requests"),
        (
            "resource_groups/create",
            {"name": "rg", "config": {"limits": {"node_num": 1}, "requests": {"number": 1}}},
            "ResourceGroupReq.Config.Requests.NodeNum",
        ),
        ("resource_groups/alter", {}, "UpdateResourceGroupReq.ResourceGroups"),
        ("resource_groups/transfer_replica", {"sourceRgName": "a"}, "TransferReplicaReq.TargetRgName"),
    ],
)
def test_missing_body_keys_are_named(rest: Rest, route: str, body: dict[str, Any], key: str) -> None:
    answer = rest.post(route, body)
    assert (answer["code"], f"{key}' Error:Field validation" in answer["message"]) == (1802, True), answer


def test_a_collection_is_renamed_and_stays_loaded(rest: Rest, database: str) -> None:
    here = {"dbName": database}
    rest.quick_create("before", dbName=database)
    renamed = {**here, "collectionName": "before", "newCollectionName": "after"}
    assert rest.ok("collections/rename", renamed) == {}
    assert rest.ok("collections/list", here) == ["after"]
    assert rest.ok("collections/get_load_state", {**here, "collectionName": "after"})["loadState"] != NOT_LOAD
    missing = rest.post("collections/rename", {**renamed, "newCollectionName": "again"})
    assert missing["code"] == 100
    assert f"collection not found[database={database}][collection=before]" in missing["message"]
    moved = {**here, "collectionName": "after", "newCollectionName": "after", "newDbName": "missing"}
    answer = rest.post("collections/rename", moved)
    assert (answer["code"], "database not found[database=missing]" in answer["message"]) == (800, True)


@pytest.mark.one_process("it counts one node and one replica")
def test_a_resource_group_is_made_described_altered_and_dropped(rest: Rest) -> None:
    limits = {"requests": {"node_num": 0}, "limits": {"node_num": 2}}
    config = {**limits, "transfer_from": [{"resource_group": DEFAULT_GROUP}], "transfer_to": []}
    assert rest.ok("resource_groups/create", {"name": "rest_rg", "config": config}) == {}
    try:
        assert {DEFAULT_GROUP, "rest_rg"} <= set(rest.ok("resource_groups/list", {}))
        described = _group(rest, "rest_rg")
        assert (described["name"], described["capacity"], described["num_available_node"]) == ("rest_rg", 0, 0)
        assert described["config"] == config
        assert _group(rest, DEFAULT_GROUP)["num_available_node"] == 1
        again = rest.post("resource_groups/create", {"name": "rest_rg"})
        assert (again["code"], "already exist" in again["message"]) == (301, True)
        bad = {"resource_groups": {"rest_rg": {"requests": {"node_num": 3}, "limits": {"node_num": 2}}}}
        refused = rest.post("resource_groups/alter", bad)
        assert (refused["code"], "limits node num should not less than" in refused["message"]) == (303, True)
        assert rest.post("resource_groups/drop", {"name": "rest_rg"})["code"] == 1100
    finally:
        zero = {"requests": {"node_num": 0}, "limits": {"node_num": 0}}
        assert rest.ok("resource_groups/alter", {"resource_groups": {"rest_rg": zero}}) == {}
        assert rest.ok("resource_groups/drop", {"name": "rest_rg"}) == {}
    assert rest.post("resource_groups/describe", {"name": "rest_rg"}) == {
        "code": 300,
        "message": "resource group not found[rg=rest_rg]",
    }


@pytest.mark.one_process("it counts one node and one replica")
def test_a_replica_is_transferred(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name)
    rest.ok("resource_groups/create", {"name": "rest_target"})
    there = {"sourceRgName": DEFAULT_GROUP, "targetRgName": "rest_target", "replicaNum": 1}
    back = {"sourceRgName": "rest_target", "targetRgName": DEFAULT_GROUP, "replicaNum": 1}
    try:
        assert rest.ok("resource_groups/transfer_replica", {**there, "collectionName": collection_name}) == {}
        assert _group(rest, "rest_target")["num_loaded_replica"] == {collection_name: 1}
        assert rest.ok("resource_groups/transfer_replica", {**back, "collectionName": collection_name}) == {}
    finally:
        rest.ok("collections/release", {"collectionName": collection_name})
        rest.ok("resource_groups/drop", {"name": "rest_target"})
    answer = rest.post("resource_groups/transfer_replica", {**there, "collectionName": "no_such_collection"})
    assert answer["code"] == 100
