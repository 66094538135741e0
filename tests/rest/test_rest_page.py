"""The page's files and headers, and the routes of Milvine that it calls."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from conftest import Server
from rest_client import LOADED, NOT_LOAD, Rest

WITH_AUTHORIZATION = {
    "MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "true",
    "MILVINE_PROXY_SLOWQUERYSPANINSECONDS": "0.000001",
}
ROOT, ANN = "root:Milvus", "ann:secret-1"


def ours(server: Server, path: str, body: dict[str, Any], token: str = "") -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = requests.post(f"{server.uri}/milvine/v1/{path}", json=body, headers=headers, timeout=30).json()
    assert answer["code"] == 0, answer
    return answer["data"]


@pytest.mark.parametrize("path", ["/", "/web/app.js", "/web/style.css", "/web/icon.svg"])
def test_a_file_of_the_page_may_load_nothing_from_elsewhere_nor_be_framed(server: Server, path: str) -> None:
    answer = requests.get(server.uri + path, timeout=30)
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    again = requests.get(server.uri + path, headers={"If-None-Match": answer.headers["ETag"]}, timeout=30)
    assert (again.status_code, again.content) == (304, b"")


def test_files_are_sent_compressed_to_who_accepts_it(server: Server) -> None:
    small = requests.get(f"{server.uri}/web/style.css", headers={"Accept-Encoding": "gzip"}, timeout=30)
    plain = requests.get(f"{server.uri}/web/style.css", headers={"Accept-Encoding": "identity"}, timeout=30)
    assert small.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert small.content == plain.content
    assert int(small.headers["Content-Length"]) < len(plain.content) / 2


@pytest.mark.parametrize("path", ["/webui", "/webui/"])
def test_milvus_address_of_its_page_leads_to_ours(server: Server, path: str) -> None:
    answer = requests.get(server.uri + path, allow_redirects=False, timeout=30)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")


def test_no_file_outside_the_page_is_served(server: Server) -> None:
    for path in ("/web/../config.py", "/web/%2e%2e/config.py", "/web/", "/web/nope.js"):
        assert requests.get(server.uri + path, timeout=30).status_code == 404


def test_a_collection_is_loaded_with_chosen_fields(server: Server, collection_name: str) -> None:
    rest = Rest(server.uri)
    fields = [{"fieldName": "price", "dataType": "Int64"}]
    rest.custom_create(collection_name, fields, indexParams=[{"fieldName": "vec", "metricType": "L2"}])
    rest.ok("collections/release", {"collectionName": collection_name})

    def shown() -> Any:
        (one,) = ours(server, "collections", {"collectionName": collection_name})["collections"]
        return one

    assert (shown()["loadState"], shown()["rows"], shown()["fields"]) == (NOT_LOAD, 0, 3)
    assert ours(server, "load", {"collectionName": collection_name, "loadFields": ["id", "vec"]}) == {}
    rest.wait_loaded(collection_name)
    assert shown()["loadState"] == LOADED
    refused = rest.post("entities/query", {"collectionName": collection_name, "filter": "price > 1"})
    assert "price" in refused["message"] and refused["code"] != 0
    assert collection_name in [one["collectionName"] for one in ours(server, "collections", {})["collections"]]


def test_a_load_of_unknown_fields_changes_nothing(server: Server, collection_name: str) -> None:
    rest = Rest(server.uri)
    rest.quick_create(collection_name)
    rest.ok("collections/release", {"collectionName": collection_name})
    body = {"collectionName": collection_name, "loadFields": ["nope"]}
    answer = requests.post(f"{server.uri}/milvine/v1/load", json=body, timeout=30).json()
    assert answer["code"] == 1100 and "nope" in answer["message"]
    assert rest.state(collection_name) == NOT_LOAD


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that finds every request slow, with the collection `books` and the user ann, who may do nothing."""
    environment = {**WITH_AUTHORIZATION, "MILVINE_IMPORT_PATH": str(tmp_path_factory.mktemp("files"))}
    with Server(tmp_path_factory.mktemp("guarded"), env=environment).running() as server:
        root = server.client(token=ROOT)
        root.create_collection("books", dimension=2)
        root.insert("books", [{"id": i, "vector": [i, 1]} for i in range(200)])
        root.create_user("ann", "secret-1")
        root.close()
        yield server


@pytest.mark.parametrize("path", ["collections", "work", "slow_requests", "load"])
def test_the_routes_ask_for_a_user(guarded: Server, path: str) -> None:
    assert requests.post(f"{guarded.uri}/milvine/v1/{path}", json={}, timeout=30).status_code == 401


def test_callers_see_their_collections_and_their_requests(guarded: Server) -> None:
    assert [one["rows"] for one in ours(guarded, "collections", {}, ROOT)["collections"]] == [200]
    assert ours(guarded, "collections", {}, ANN)["collections"] == []
    assert {one.get("user") for one in ours(guarded, "slow_requests", {}, ANN)["requests"]} <= {"ann"}
    users = {one.get("user") for one in ours(guarded, "slow_requests", {}, ROOT)["requests"]}
    assert {"root", "ann"} <= users
    assert ours(guarded, "work", {}, ANN)["warnings"] == []
    body = {"collectionName": "books"}
    headers = {"Authorization": f"Bearer {ANN}"}
    refused = requests.post(f"{guarded.uri}/milvine/v1/load", json=body, headers=headers, timeout=30)
    assert refused.status_code == 403


def test_slow_requests_are_the_last_hundred_newest_first(guarded: Server) -> None:
    for _ in range(110):
        ours(guarded, "work", {}, ROOT)
    found = ours(guarded, "slow_requests", {}, ROOT)
    assert len(found["requests"]) == found["kept"] == 100
    times = [one["time"] for one in found["requests"]]
    assert times == sorted(times, reverse=True)


def test_an_index_build_is_shown_until_it_is_done(guarded: Server) -> None:
    root = guarded.client(token=ROOT)
    schema = root.create_schema()
    schema.add_field("id", 5, is_primary=True)
    schema.add_field("vector", 101, dim=32)
    root.create_collection("slow", schema=schema)
    rows = [{"id": i, "vector": [float(i * j % 97) for j in range(32)]} for i in range(5000)]
    root.insert("slow", rows)
    root.flush("slow")
    index = root.prepare_index_params("vector", index_type="HNSW", metric_type="L2")
    root.create_index("slow", index, sync=False)
    root.close()
    deadline = time.monotonic() + 60  # builds give way to everything else on a busy machine
    seen: list[dict[str, Any]] = []
    while (builds := ours(guarded, "work", {}, ROOT)["builds"]) or not seen:
        seen += builds
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running = [one for one in seen if one["isRunning"]]
    assert {(one["collectionName"], one["indexName"], one["totalRows"]) for one in running} == {
        ("slow", "vector", 5000)
    }


def test_import_jobs_are_shown_newest_first_to_who_may_import(guarded: Server) -> None:
    as_root = {"Authorization": f"Bearer {ROOT}"}
    for name in ("first.json", "second.json"):
        body = {"collectionName": "books", "files": [[name]]}
        Rest(guarded.uri).ok("jobs/import/create", body, **as_root)
    deadline = time.monotonic() + 60
    found: list[dict[str, Any]] = []
    while not found or not all(one["reason"] for one in found):
        assert time.monotonic() < deadline
        time.sleep(0.1)
        found = ours(guarded, "work", {}, ROOT)["imports"]
    assert [(one["collectionName"], one["state"], one["files"], one["rows"]) for one in found] == [
        ("books", "Failed", 1, 0)
    ] * 2
    assert "second.json" in found[0]["reason"] and "first.json" in found[1]["reason"]
    assert ours(guarded, "work", {}, ANN)["imports"] == []
