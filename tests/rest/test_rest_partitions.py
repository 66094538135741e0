"""partitions/* and collections/truncate over REST, and partition keys in what REST creates and describes."""

from __future__ import annotations

from typing import Any

import pytest
from rest_client import LOADED, NOT_LOAD, VECTOR_INDEX, Rest, schema

ACTIONS = ["create", "drop", "has", "get_stats"]


@pytest.fixture
def rest(server: Any) -> Rest:
    return Rest(server.uri)


@pytest.fixture
def made(rest: Rest, collection_name: str) -> str:
    """Loaded; rows 0 and 1 in `_default`, 2..4 in p1."""
    rest.custom_create(collection_name, [], indexParams=[VECTOR_INDEX])
    rest.ok("partitions/create", _one(collection_name))
    for ids, partition in (((0, 1), ""), ((2, 3, 4), "p1")):
        rows = [{"id": i, "vec": [i, 0]} for i in ids]
        rest.ok("entities/insert", {"collectionName": collection_name, "data": rows, "partitionName": partition})
    return collection_name


def _one(name: str, partition: str = "p1") -> dict[str, Any]:
    return {"collectionName": name, "partitionName": partition}


def _some(name: str, *partitions: str) -> dict[str, Any]:
    return {"collectionName": name, "partitionNames": [*partitions]}


def _ids(rest: Rest, name: str, *partitions: str) -> list[int]:
    body = {"filter": "id >= 0", "outputFields": ["id"], **_some(name, *partitions)}
    return [row["id"] for row in rest.ok("entities/query", body)]


def test_partitions_are_made_listed_counted_and_dropped(rest: Rest, made: str) -> None:
    assert rest.post("partitions/create", _one(made, "p2")) == {"code": 0, "data": {}}
    assert rest.post("partitions/list", {"collectionName": made}) == {"code": 0, "data": ["_default", "p1", "p2"]}
    assert rest.post("partitions/has", _one(made)) == {"code": 0, "data": {"has": True}}
    assert rest.post("partitions/get_stats", _one(made)) == {"code": 0, "data": {"rowCount": 3}}
    assert rest.ok("collections/describe", {"collectionName": made})["partitionsNum"] == 3
    assert rest.post("partitions/drop", _one(made, "p2"))["code"] == 1100
    rest.ok("partitions/release", _some(made, "p2"))
    assert rest.post("partitions/drop", _one(made, "p2")) == {"code": 0, "data": {}}
    assert rest.ok("partitions/has", _one(made, "p2")) == {"has": False}


def test_loading_and_releasing_twice_is_a_success(rest: Rest, made: str) -> None:
    """RE-10."""
    for action in ("release", "release", "load", "load"):
        assert rest.post(f"partitions/{action}", _some(made, "p1")) == {"code": 0, "data": {}}
    assert _ids(rest, made, "p1") == [2, 3, 4]
    rest.ok("partitions/release", _some(made, "_default"))
    assert _ids(rest, made) == [2, 3, 4]
    answer = rest.post("entities/query", {"filter": "id >= 0", **_some(made, "_default")})
    assert answer["code"] == 201
    assert "failed to query: failed to search/query delegator" in answer["message"]
    assert rest.state(made) == LOADED
    state = rest.ok("collections/get_load_state", _some(made, "p1"))
    assert state == {"loadProgress": 100, "loadState": LOADED, "message": ""}
    rest.ok("partitions/release", _some(made, "p1"))
    assert rest.state(made) == NOT_LOAD


@pytest.mark.parametrize("action", ["load", "release"])
def test_names_of_partitions_to_load_are_required(rest: Rest, made: str, action: str) -> None:
    """RE-11."""
    assert rest.post(f"partitions/{action}", {"collectionName": made}) == {
        "code": 1802,
        "message": "missing required parameters, error: Key: 'PartitionsReq.PartitionNames' "
        "Error:Field validation for 'PartitionNames' failed on the 'required' tag",
    }
    assert rest.post(f"partitions/{action}", _some(made, "nope")) == {
        "code": 200,
        "message": "partition not found[partition=nope]",
    }
    assert rest.post(f"partitions/{action}", _some(made))["code"] == 1100
    assert rest.post(f"partitions/{action}", {"collectionName": made, "partitionNames": "p1"})["code"] == 1801


@pytest.mark.parametrize("action", ACTIONS)
def test_a_partition_name_is_required(rest: Rest, made: str, action: str) -> None:
    answer = rest.post(f"partitions/{action}", {"collectionName": made})
    assert answer["code"] == 1802
    assert "'PartitionReq.PartitionName'" in answer["message"]


@pytest.mark.parametrize("action", [*ACTIONS, "list", "load", "release"])
def test_a_missing_collection_is_reported(rest: Rest, action: str) -> None:
    answer = rest.post(f"partitions/{action}", {**_one("missing"), "partitionNames": ["p1"]})
    assert answer == {"code": 100, "message": "collection not found[database=default][collection=missing]"}


def test_searches_and_deletes_name_their_partitions(rest: Rest, made: str) -> None:
    body = {"data": [[0, 0]], "annsField": "vec", **_some(made, "p1")}
    assert [hit["id"] for hit in rest.ok("entities/search", body)] == [2, 3, 4]
    rest.ok("entities/delete", {"filter": "id in [1, 2]", **_one(made)})
    assert _ids(rest, made) == [0, 1, 3, 4]


def test_truncating_leaves_the_collection_loaded_and_empty(rest: Rest, made: str) -> None:
    assert rest.post("collections/truncate", {"collectionName": made}) == {"code": 0, "data": {}}
    assert rest.state(made) == LOADED
    assert rest.count(made) == 0
    assert rest.post("collections/truncate", {"collectionName": "missing"})["code"] == 100
    assert rest.post("collections/truncate", {})["code"] == 1802


def test_a_partition_key_is_made_and_described(rest: Rest, collection_name: str) -> None:
    fields = [{"fieldName": "k", "dataType": "Int64", "isPartitionKey": True}]
    rest.ok(
        "collections/create",
        {
            "collectionName": collection_name,
            "schema": schema(fields),
            "indexParams": [VECTOR_INDEX],
            "params": {"partitionsNum": 5},
        },
    )
    described = rest.ok("collections/describe", {"collectionName": collection_name})
    assert described["partitionsNum"] == 5
    assert [f["name"] for f in described["fields"] if f["partitionKey"]] == ["k"]
    names = [f"_default_{n}" for n in range(5)]
    assert rest.ok("partitions/list", {"collectionName": collection_name}) == names
    rows = [{"id": i, "vec": [i, 0], "k": i % 3} for i in range(9)]
    rest.ok("entities/insert", {"collectionName": collection_name, "data": rows})
    found = rest.ok("entities/query", {"collectionName": collection_name, "filter": "k == 1", "outputFields": ["id"]})
    assert [row["id"] for row in found] == [1, 4, 7]
    answer = rest.post("entities/insert", {"data": rows, **_one(collection_name, "_default_1")})
    assert answer["code"] == 1100
    assert "not support manually specifying the partition names" in answer["message"]
    answer = rest.post("partitions/load", _some(collection_name, "_default_1"))
    assert answer["message"] == "disable load partitions if partition key mode is used: invalid parameter"
