"""Load, release and state over REST: the commands of the page "Load & Release", and the RE rows of behaviours.md."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from rest_client import LOADED, NOT_LOAD, VECTOR_INDEX, Rest

_CURL = """
curl --silent --show-error --request POST \
--url "${CLUSTER_ENDPOINT}/v2/vectordb/collections/%s" \
--header "Authorization: Bearer ${TOKEN}" \
--header "Content-Type: application/json" \
-d '{
    "collectionName": "my_collection"
}'
"""
LOADED_BODY = b'{"code":0,"data":{"loadProgress":100,"loadState":"LoadStateLoaded","message":""},"message":""}'
NOT_LOAD_BODY = b'{"code":0,"data":{"loadProgress":0,"loadState":"LoadStateNotLoad","message":""},"message":""}'


@pytest.fixture
def rest(server: Any) -> Rest:
    return Rest(server.uri)


@pytest.fixture
def my_collection(rest: Rest) -> Iterator[str]:
    """The page's collection, indexed and not loaded."""
    name = "my_collection"
    rest.ok("collections/drop", {"collectionName": name})
    rest.quick_create(name, 5, primaryFieldName="my_id", vectorFieldName="my_vector")
    rest.ok("collections/release", {"collectionName": name})
    yield name
    rest.ok("collections/drop", {"collectionName": name})


def _body(name: str) -> bytes:
    return b'{"collectionName": "' + name.encode() + b'"}'


def _indexed(rest: Rest, name: str) -> None:
    """Indexed and not loaded."""
    rest.custom_create(name, [])
    rest.ok("indexes/create", {"collectionName": name, "indexParams": [VECTOR_INDEX]})


def test_the_pages_curl_commands_print_the_documented_output(rest: Rest, my_collection: str) -> None:
    def curl(action: str) -> bytes:
        environment = {**os.environ, "CLUSTER_ENDPOINT": rest.uri, "TOKEN": "root:Milvus"}
        command = ["bash", "-c", _CURL % action]
        return subprocess.run(command, env=environment, check=True, capture_output=True, timeout=30).stdout

    assert curl("load") == b'{"code":0,"data":{}}'
    rest.wait_loaded(my_collection)
    assert curl("get_load_state") == LOADED_BODY
    assert curl("release") == b'{"code":0,"data":{}}'
    assert curl("get_load_state") == NOT_LOAD_BODY


def test_loading_an_unloaded_collection_answers_with_empty_data(rest: Rest, collection_name: str) -> None:
    _indexed(rest, collection_name)
    answer = rest.send("collections/load", _body(collection_name))
    assert answer.status_code == 200
    assert answer.content == b'{"code":0,"data":{}}'


def test_the_state_of_a_loaded_and_of_a_released_collection_has_all_of_the_documented_keys(
    rest: Rest, collection_name: str
) -> None:
    _indexed(rest, collection_name)
    assert rest.send("collections/get_load_state", _body(collection_name)).content == NOT_LOAD_BODY
    rest.ok("collections/load", {"collectionName": collection_name})
    rest.wait_loaded(collection_name)
    assert rest.send("collections/get_load_state", _body(collection_name)).content == LOADED_BODY
    rest.ok("collections/release", {"collectionName": collection_name})
    assert rest.send("collections/get_load_state", _body(collection_name)).content == NOT_LOAD_BODY


def test_loading_and_releasing_twice_succeed(rest: Rest, collection_name: str) -> None:
    _indexed(rest, collection_name)
    for action in ("load", "load", "release", "release"):
        assert rest.ok(f"collections/{action}", {"collectionName": collection_name}) == {}


def test_the_state_of_a_missing_collection_is_100_without_a_database(rest: Rest) -> None:
    answer = rest.send("collections/get_load_state", _body("nowhere"))
    assert answer.status_code == 200
    assert answer.content == b'{"code":100,"message":"collection not found[collection=nowhere]"}'


@pytest.mark.parametrize("action", ["load", "release", "refresh_load"])
def test_loading_or_releasing_a_missing_collection_is_100_with_its_database(rest: Rest, action: str) -> None:
    assert rest.post(f"collections/{action}", {"collectionName": "nowhere"}) == {
        "code": 100,
        "message": "collection not found[database=default][collection=nowhere]",
    }


@pytest.mark.parametrize("action", ["load", "release", "get_load_state"])
def test_a_malformed_name_is_1100(rest: Rest, action: str) -> None:
    assert rest.post(f"collections/{action}", {"collectionName": "12-s"}) == {
        "code": 1100,
        "message": "Invalid collection name: 12-s. the first character of a collection name must be "
        "an underscore or letter: invalid parameter",
    }


@pytest.mark.parametrize("action", ["load", "refresh_load"])
def test_loading_without_an_index_is_700(rest: Rest, collection_name: str, action: str) -> None:
    rest.custom_create(collection_name, [])
    assert rest.post(f"collections/{action}", {"collectionName": collection_name}) == {
        "code": 700,
        "message": f"index not found[collection={collection_name}]",
    }


def test_refreshing_an_unloaded_collection_is_101_and_a_loaded_one_succeeds(rest: Rest, collection_name: str) -> None:
    _indexed(rest, collection_name)
    refused = rest.post("collections/refresh_load", {"collectionName": collection_name})
    assert refused["code"] == 101
    assert "collection not loaded" in refused["message"]
    assert rest.state(collection_name) == NOT_LOAD
    rest.ok("collections/load", {"collectionName": collection_name})
    rest.wait_loaded(collection_name)
    assert rest.ok("collections/refresh_load", {"collectionName": collection_name}) == {}
    assert rest.state(collection_name) == LOADED


def test_describe_shows_the_load_state(rest: Rest, collection_name: str) -> None:
    _indexed(rest, collection_name)
    assert rest.ok("collections/describe", {"collectionName": collection_name})["load"] == NOT_LOAD
    rest.ok("collections/load", {"collectionName": collection_name})
    rest.wait_loaded(collection_name)
    assert rest.ok("collections/describe", {"collectionName": collection_name})["load"] == LOADED


def test_a_quickly_created_collection_loads_by_itself(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name)
    rest.wait_loaded(collection_name)


def test_a_schema_with_index_params_loads_by_itself(rest: Rest, collection_name: str) -> None:
    rest.custom_create(collection_name, [], indexParams=[VECTOR_INDEX])
    rest.wait_loaded(collection_name)


def test_a_schema_without_index_params_stays_unloaded(rest: Rest, collection_name: str) -> None:
    rest.custom_create(collection_name, [])
    assert rest.state(collection_name) == NOT_LOAD


def test_two_vectors_with_one_index_are_1100_and_the_collection_remains_unloaded(
    rest: Rest, collection_name: str
) -> None:
    second = {"fieldName": "vec2", "dataType": "FloatVector", "elementTypeParams": {"dim": "3"}}
    fields: list[dict[str, Any]] = [
        {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
        {"fieldName": "vec", "dataType": "FloatVector", "elementTypeParams": {"dim": "2"}},
        second,
    ]
    body = {"collectionName": collection_name, "schema": {"fields": fields}, "indexParams": [VECTOR_INDEX]}
    answer = rest.post("collections/create", body)
    assert answer["code"] == 1100
    assert "there is no vector index on field: [vec2]" in answer["message"]
    assert rest.state(collection_name) == NOT_LOAD
    assert rest.ok("collections/describe", {"collectionName": collection_name})["load"] == NOT_LOAD


def test_the_bodys_database_wins_over_the_headers_and_a_missing_one_is_800(rest: Rest, collection_name: str) -> None:
    _indexed(rest, collection_name)
    missing = {"code": 800, "message": "database not found[database=nowhere]"}
    here = {"collectionName": collection_name}
    assert rest.post("collections/load", here, DB_Name="nowhere") == missing
    assert rest.post("collections/load", {**here, "dbName": "nowhere"}) == missing
    assert rest.post("collections/load", {**here, "dbName": "nowhere"}, DB_Name="default") == missing
    assert rest.post("collections/load", {**here, "dbName": "default"}, DB_Name="nowhere")["code"] == 0
    assert rest.post("collections/load", {**here, "dbName": ""}, DB_Name="default")["code"] == 0


def test_the_state_in_a_missing_database_is_that_of_a_missing_collection(rest: Rest) -> None:
    answer = rest.post("collections/get_load_state", {"collectionName": "c", "dbName": "nowhere"})
    assert answer == {"code": 100, "message": "collection not found[collection=c]"}


@pytest.mark.parametrize(
    ("path", "more", "doing"),
    [
        ("entities/search", {"data": [[0.1, 0.2]]}, "search"),
        ("entities/query", {"filter": "id > 0"}, "query"),
        ("entities/query", {"outputFields": ["count(*)"]}, "query"),
        ("entities/get", {"id": 1}, "query"),
    ],
)
def test_reading_an_unloaded_collection_is_101_with_its_id(
    rest: Rest, collection_name: str, path: str, more: dict[str, Any], doing: str
) -> None:
    _indexed(rest, collection_name)
    found = rest.ok("collections/describe", {"collectionName": collection_name})["collectionID"]
    response = rest.send(path, b"{}")
    assert response.status_code == 200
    assert rest.post(path, {"collectionName": collection_name, **more}) == {
        "code": 101,
        "message": f"failed to {doing}: collection not loaded[collection={found}]",
    }


def test_a_read_right_after_the_load_waits_and_sees_all_rows(rest: Rest, collection_name: str) -> None:
    _indexed(rest, collection_name)
    data = [{"id": i, "vec": [i, 0.5]} for i in range(100)]
    rest.ok("entities/insert", {"collectionName": collection_name, "data": data})
    rest.ok("collections/load", {"collectionName": collection_name})
    assert rest.count(collection_name) == 100


def test_an_unknown_partition_of_a_loaded_collection_reads_as_loading_with_the_reason(
    rest: Rest, collection_name: str
) -> None:
    rest.quick_create(collection_name)
    rest.wait_loaded(collection_name)
    answer = rest.post("collections/get_load_state", {"collectionName": collection_name, "partitionNames": ["nope"]})
    message = "partition not found[partition=nope]."
    data = {"loadProgress": -1, "loadState": "LoadStateLoading", "message": message}
    assert answer == {"code": 0, "data": data, "message": message}


def test_a_loaded_collection_is_loaded_again_after_a_restart(new_server: Any) -> None:
    server = new_server()
    rest = Rest(server.uri)
    rest.quick_create("kept")
    rest.ok("entities/insert", {"collectionName": "kept", "data": [{"id": 1, "vector": [0.1, 0.2]}]})
    rest.quick_create("released")
    rest.ok("collections/release", {"collectionName": "released"})
    server.stop()
    server.start()
    rest = Rest(server.uri)
    rest.wait_loaded("kept")
    assert rest.state("released") == NOT_LOAD
    assert rest.count("kept") == 1
