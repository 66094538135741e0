"""Rows RE: load and release over REST."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from conftest import Server
from grpc_calls import collection_id
from rest_client import LOADED, NOT_LOAD, PREFIX, VECTOR_INDEX, Rest
from row_calls import c1, loaded_c1, two_partitions

LOADED_BODY = b'{"code":0,"data":{"loadProgress":100,"loadState":"LoadStateLoaded","message":""},"message":""}'
NOT_LOAD_BODY = b'{"code":0,"data":{"loadProgress":0,"loadState":"LoadStateNotLoad","message":""},"message":""}'


@pytest.fixture(scope="module")
def rest(server: Server) -> Rest:
    return Rest(server.uri)


def _named(name: str, **more: object) -> dict[str, object]:
    return {"collectionName": name, **more}


def _state(rest: Rest, name: str) -> tuple[int, bytes]:
    response = rest.send("collections/get_load_state", b'{"collectionName":"%s"}' % name.encode())
    return response.status_code, response.content


def test_re_01_loading_answers_with_empty_data(rest: Rest, stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    response = rest.send("collections/load", b'{"collectionName":"%s"}' % collection_name.encode())
    assert (response.status_code, response.content) == (200, b'{"code":0,"data":{}}')
    rest.wait_loaded(collection_name)


def test_re_02_state_of_a_loaded_collection(rest: Rest, stub: Any, collection_name: str) -> None:
    assert _state(rest, loaded_c1(stub, collection_name)) == (200, LOADED_BODY)


def test_re_03_state_of_an_unloaded_collection(rest: Rest, stub: Any, collection_name: str) -> None:
    assert _state(rest, c1(stub, collection_name)) == (200, NOT_LOAD_BODY)


def test_re_04_state_of_a_missing_collection_is_100_without_its_database(rest: Rest, collection_name: str) -> None:
    text = f'{{"code":100,"message":"collection not found[collection={collection_name}]"}}'
    assert _state(rest, collection_name) == (200, text.encode())


def test_re_05_loading_and_releasing_a_missing_collection_is_100(rest: Rest, collection_name: str) -> None:
    text = f"collection not found[database=default][collection={collection_name}]"
    for action in ("load", "release"):
        answer = rest.post(f"collections/{action}", _named(collection_name))
        assert answer == {"code": 100, "message": text}


def test_re_06_loading_no_collection_is_1802(rest: Rest) -> None:
    text = (
        "missing required parameters, error: Key: 'CollectionNameReq.CollectionName' "
        "Error:Field validation for 'CollectionName' failed on the 'required' tag"
    )
    assert rest.post("collections/load", {}) == {"code": 1802, "message": text}


def test_re_07_loading_with_an_empty_or_a_broken_body_is_1801(rest: Rest) -> None:
    empty = rest.send("collections/load", b"").json()
    text = "can only accept json format request, the request body should be nil, however {} is valid"
    assert empty == {"code": 1801, "message": text}
    broken = rest.send("collections/load", b'{"collectionName": ').json()
    assert broken["code"] == 1801
    assert broken["message"].startswith("can only accept json format request, error: ")


def test_re_08_loading_without_an_index_is_700(rest: Rest, stub: Any, collection_name: str) -> None:
    c1(stub, collection_name, indexed=False)
    text = f"index not found[collection={collection_name}]"
    assert rest.post("collections/load", _named(collection_name)) == {"code": 700, "message": text}


def test_re_09_refreshing_an_unloaded_collection_is_101(rest: Rest, stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    answer = rest.post("collections/refresh_load", _named(collection_name))
    assert answer["code"] == 101
    assert f"collection not loaded[collection={collection_id(stub, collection_name)}]" in answer["message"]
    assert rest.state(collection_name) == NOT_LOAD


def test_re_10_partitions_are_loaded_and_released_twice(rest: Rest, stub: Any, collection_name: str) -> None:
    two_partitions(stub, collection_name)
    body = _named(collection_name, partitionNames=["p1"])
    for action in ("load", "load", "release", "release"):
        assert rest.post(f"partitions/{action}", body) == {"code": 0, "data": {}}
        if action == "load":
            rest.wait_loaded(collection_name)
        else:
            assert rest.state(collection_name) == NOT_LOAD


def test_re_11_loading_partitions_without_names_is_1802(rest: Rest, stub: Any, collection_name: str) -> None:
    two_partitions(stub, collection_name)
    answer = rest.post("partitions/load", _named(collection_name))
    assert answer["code"] == 1802
    assert "missing required parameters, error: Key: " in answer["message"]
    assert "PartitionNames" in answer["message"]


def test_re_12_a_description_shows_the_load_state(rest: Rest, stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    assert rest.ok("collections/describe", _named(collection_name))["load"] == LOADED


def test_re_13_a_quickly_created_collection_loads_by_itself(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name)
    rest.wait_loaded(collection_name)
    assert rest.state(collection_name) == LOADED


def test_re_14_a_schema_without_index_params_stays_unloaded(rest: Rest, collection_name: str) -> None:
    rest.custom_create(collection_name, [])
    assert rest.state(collection_name) == NOT_LOAD
    rest.ok("indexes/create", _named(collection_name, indexParams=[VECTOR_INDEX]))
    assert rest.state(collection_name) == NOT_LOAD


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    """A server with authentication."""
    environment = {"MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "true"}
    with Server(tmp_path_factory.mktemp("guarded"), env=environment).running() as server:
        yield Rest(server.uri)


def test_re_15_nothing_is_loaded_without_a_valid_token(guarded: Rest) -> None:
    body = b'{"collectionName":"c"}'
    for given in ({}, {"Authorization": "Bearer root:wrong"}, {"Authorization": "Bearer nobody"}):
        response = guarded.send("collections/load", body, **given)
        answer = (response.status_code, response.json())
        assert answer == (401, {"code": 1800, "message": "user hasn't authenticated"}), given
    for token in ("Bearer root:Milvus", "root:Milvus", "Basic cm9vdDpNaWx2dXM="):
        response = guarded.send("collections/load", body, Authorization=token)
        assert (response.status_code, response.json()["code"]) == (200, 100), token


def test_re_16_the_bodys_database_wins_over_the_headers(rest: Rest, stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    missing = {"code": 800, "message": "database not found[database=nodb]"}
    here = _named(collection_name)
    assert rest.post("collections/load", here, DB_Name="nodb") == missing
    assert rest.post("collections/load", {**here, "dbName": "nodb"}, DB_Name="default") == missing
    assert rest.state(collection_name) == NOT_LOAD
    assert rest.post("collections/load", {**here, "dbName": "default"}, DB_Name="nodb") == {"code": 0, "data": {}}
    rest.wait_loaded(collection_name)


def test_re_17_searching_an_unloaded_collection_is_101_in_an_http_200(
    rest: Rest, stub: Any, collection_name: str
) -> None:
    c1(stub, collection_name)
    body = b'{"collectionName":"%s","data":[[0,0,0,0]],"annsField":"vec"}' % collection_name.encode()
    response = rest.send("entities/search", body)
    number = collection_id(stub, collection_name)
    text = f"failed to search: collection not loaded[collection={number}]"
    assert (response.status_code, response.json()) == (200, {"code": 101, "message": text})


def test_re_18_a_get_is_a_404_of_the_router(rest: Rest) -> None:
    response = requests.get(rest.uri + PREFIX + "collections/load", timeout=30)
    assert response.status_code == 404
    assert response.text == "404 page not found"
    assert response.headers["Content-Type"].startswith("text/plain")
