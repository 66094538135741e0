"""The REST protocol: methods, malformed bodies, headers, health and metrics."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import requests
from conftest import Server, ServerFactory
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc
from rest_client import PREFIX, Rest

from milvine.rest_api.app import ROUTES
from milvine.rest_api.unserved import ABSENT, REMOVED

_NEEDING_A_COLLECTION = sorted(p for p, r in ROUTES.items() if "collectionName" in r.required)
_KINDS = {p: r.kind for p, r in ROUTES.items()}


@pytest.fixture
def rest(server: Any) -> Rest:
    return Rest(server.uri)


def _lacking(kind: str, name: str) -> str:
    return f"Key: '{kind}.{name}' Error:Field validation for '{name}' failed on the 'required' tag"


@pytest.mark.parametrize("path", sorted(ROUTES))
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_another_method_than_post_is_the_routers_404(rest: Rest, path: str, method: str) -> None:
    answer = requests.request(method, rest.uri + PREFIX + path, timeout=30)
    assert answer.status_code == 404
    assert answer.text == "404 page not found"
    assert answer.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize(
    "path", ["/", "/v2", "/v2/vectordb/collections", "/v2/vectordb/collections/nope", "/v1/vector/nope"]
)
def test_an_unknown_path_is_the_routers_404(rest: Rest, path: str) -> None:
    answer = requests.post(rest.uri + path, json={}, timeout=30)
    assert (answer.status_code, answer.text) == (404, "404 page not found")


# The routes of Milvus 3.0: internal/distributed/proxy/httpserver/handler_v2.go.
MILVUS_ROUTES = {
    "aliases": "alter create describe drop list",
    "collections": "add_function add_function_field alter_function alter_properties compact create describe drop "
    "drop_function drop_function_field drop_properties fields/add fields/alter_properties fields/drop flush "
    "get_compaction_state get_load_state get_stats has list load refresh_load release rename struct_fields/add "
    "truncate",
    "common": "run_analyzer",
    "databases": "alter alter_properties create describe drop drop_properties list",
    "entities": "advanced_search delete get hybrid_search insert query search upsert",
    "file_resources": "add list remove",
    "indexes": "alter_properties create describe drop drop_properties list",
    "jobs/external_collection": "describe list refresh",
    "jobs/import": "abort commit create describe get_progress list",
    "jobs/snapshot": "describe export list restore_external",
    "partitions": "create drop get_stats has list load release",
    "privilege_groups": "add_privileges_to_group create drop list remove_privileges_from_group",
    "quotacenter": "describe",
    "resource_groups": "alter create describe drop list transfer_replica",
    "roles": "alter create describe drop grant_privilege grant_privilege_v2 list revoke_privilege revoke_privilege_v2",
    "segments": "describe",
    "users": "create describe drop grant_role list revoke_role update_password",
}


def test_every_route_of_milvus_is_served_or_refused_in_words() -> None:
    wanted = [f"{group}/{action}" for group, actions in MILVUS_ROUTES.items() for action in actions.split()]
    assert sorted([*ROUTES, *ABSENT, *REMOVED]) == sorted(wanted), "a route is missing, or in two tables"


@pytest.mark.parametrize("path", sorted(ABSENT))
def test_a_route_that_is_not_served_says_so(rest: Rest, path: str) -> None:
    text = f"{ABSENT[path]} is not supported by this version of Milvine: service unimplemented"
    assert rest.post(path, {"collectionName": "c"}) == {"code": 10, "message": text}


@pytest.mark.parametrize("path", sorted(ROUTES))
def test_no_body_is_1801_on_every_route(rest: Rest, path: str) -> None:
    answer = rest.send(path, b"")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.json() == {
        "code": 1801,
        "message": "can only accept json format request, the request body should be nil, however {} is valid",
    }


@pytest.mark.parametrize("path", sorted(ROUTES))
@pytest.mark.parametrize("content", [b'{"collectionName":}', b'{"collectionName": "a"', b"\xff", b"[]", b"1", b'"a"'])
def test_a_body_that_is_not_a_json_object_is_1801_on_every_route(rest: Rest, path: str, content: bytes) -> None:
    answer = rest.send(path, content).json()
    assert answer["code"] == 1801
    assert answer["message"].startswith("can only accept json format request, error: ")


@pytest.mark.parametrize("path", _NEEDING_A_COLLECTION)
@pytest.mark.parametrize("body", [{}, {"collectionName": ""}, {"collectionName": None}, None])
def test_a_missing_collection_name_is_1802_on_every_route_that_needs_it(rest: Rest, path: str, body: Any) -> None:
    answer = rest.post(path, body)
    assert answer["code"] == 1802
    assert answer["message"].startswith("missing required parameters, error: Key: ")
    assert _lacking(_KINDS[path], "CollectionName") in answer["message"]


@pytest.mark.parametrize(
    ("path", "name", "shown"),
    [
        ("entities/delete", "filter", "Filter"),
        ("entities/get", "id", "ID"),
        ("entities/insert", "data", "Data"),
        ("indexes/create", "indexParams", "IndexParams"),
        ("indexes/describe", "indexName", "IndexName"),
        ("indexes/drop", "indexName", "IndexName"),
    ],
)
def test_every_other_required_parameter_is_1802_too(rest: Rest, path: str, name: str, shown: str) -> None:
    for body in ({"collectionName": "c"}, {"collectionName": "c", name: None}):
        message = f"missing required parameters, error: {_lacking(_KINDS[path], shown)}"
        assert rest.post(path, body) == {"code": 1802, "message": message}


def test_all_missing_parameters_are_named_at_once(rest: Rest) -> None:
    lines = rest.post("entities/delete", {})["message"].split("\n")
    assert [line.partition("Error:")[2].split("'")[1] for line in lines] == ["CollectionName", "Filter"]


_OF_OTHER_KINDS: dict[str, object] = {"indexParams": [{}], "schema": {}}


@pytest.mark.parametrize("path", _NEEDING_A_COLLECTION)
def test_a_collection_name_of_another_type_is_1801_on_every_route(rest: Rest, path: str) -> None:
    given = {n: _OF_OTHER_KINDS.get(n, "x") for n in ROUTES[path].required}
    for value, kind in ((7, "number"), (["a"], "array"), ({}, "object"), (True, "bool")):
        answer = rest.post(path, {**given, "collectionName": value})
        assert answer["code"] == 1801
        assert f"cannot unmarshal {kind} into Go struct field" in answer["message"]


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("entities/search", "limit", "ten"),
        ("entities/search", "limit", 1.5),
        ("entities/search", "limit", 2**31),
        ("entities/search", "limit", True),
        ("entities/search", "data", "text"),
        ("entities/search", "filter", 1),
        ("entities/search", "outputFields", "id"),
        ("entities/search", "partitionNames", [1]),
        ("entities/search", "searchParams", []),
        ("entities/query", "offset", "1"),
        ("entities/query", "exprParams", []),
        ("collections/create", "dimension", "5"),
        ("collections/create", "autoID", "yes"),
        ("collections/create", "schema", []),
        ("collections/get_load_state", "partitionNames", "p"),
        ("indexes/create", "indexParams", {}),
        ("indexes/create", "indexParams", [1]),
    ],
)
def test_a_parameter_of_another_type_is_1801(
    rest: Rest, collection_name: str, path: str, name: str, value: Any
) -> None:
    if path.startswith("entities"):
        rest.quick_create(collection_name)
    given = {"collectionName": collection_name, "data": [[0.1, 0.2]]} | {name: value}
    if path == "collections/create" and name != "dimension":
        given["dimension"] = 2
    answer = rest.post(path, given)
    assert answer["code"] == 1801, answer
    assert "json: cannot unmarshal" in answer["message"]


def test_unknown_keys_are_ignored(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name, noSuchKey={"a": 1})
    rest.ok("collections/load", {"collectionName": collection_name, "loadFields": ["id"], "replicaNumber": 3})


@pytest.mark.parametrize("token", [None, "Bearer root:Milvus", "Bearer anything", "Basic cm9vdDpNaWx2dXM=", "x:y"])
def test_any_token_or_none_is_accepted(rest: Rest, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": token}
    assert rest.post("databases/list", {}, **headers) == {"code": 0, "data": ["default"]}


def test_keys_come_sorted_and_the_type_is_utf8_json(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name)
    answer = rest.send("collections/describe", b'{"collectionName": "%s"}' % collection_name.encode())
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    decoded = answer.json()
    assert list(decoded) == sorted(decoded)
    assert list(decoded["data"]) == sorted(decoded["data"])
    assert list(decoded["data"]["fields"][0]) == sorted(decoded["data"]["fields"][0])


@pytest.mark.parametrize("text", ["soon", "1.5", "10s"])
def test_a_request_timeout_that_is_not_a_number_is_1100(rest: Rest, text: str) -> None:
    answer = rest.post("databases/list", {}, Request_Timeout=text)
    assert answer["code"] == 1100
    assert answer["message"].startswith("Request-Timeout parse failed, err: ")


def test_a_request_timeout_in_seconds_is_accepted_and_one_that_is_over_is_408(rest: Rest) -> None:
    assert rest.post("databases/list", {}, Request_Timeout="10")["code"] == 0
    answer = rest.send("databases/list", b"{}", Request_Timeout="0")
    assert answer.status_code == 408
    assert answer.content == b'{"code":10001,"message":"request timeout"}'


def test_health_and_metrics_are_served_on_this_port(rest: Rest) -> None:
    health = requests.get(rest.uri + "/healthz", timeout=30)
    assert (health.status_code, health.text) == (200, "OK")
    rest.ok("databases/list", {})
    metrics = requests.get(rest.uri + "/metrics", timeout=30)
    assert metrics.headers["Content-Type"].startswith("text/plain")
    assert 'milvine_requests_total{code="0",function="databases/list",protocol="rest"}' in metrics.text


def test_a_chunked_body_is_read_whole(rest: Rest, collection_name: str) -> None:
    pieces = [b'{"collection', b'Name": "', collection_name.encode(), b'"}']
    answer = requests.post(rest.uri + PREFIX + "collections/has", data=iter(pieces), timeout=30)
    assert answer.json() == {"code": 0, "data": {"has": False}}


def test_a_body_without_a_content_type_is_taken_over_http_1_and_http_2(rest: Rest) -> None:
    url = rest.uri + PREFIX + "databases/list"
    for flag in ("--http1.1", "--http2-prior-knowledge"):
        command = ["curl", "--silent", "--show-error", flag, "-H", "Content-Type:", "-d", "{}", url]
        answer = subprocess.run(command, env=dict(os.environ), capture_output=True, check=True, timeout=30).stdout
        assert answer == b'{"code":0,"data":["default"]}'


_OTHER_TYPES = [
    "text/plain",
    "text/plain;charset=UTF-8",
    "application/x-www-form-urlencoded",
    "multipart/form-data; x=y",
]


@pytest.mark.parametrize("media_type", _OTHER_TYPES)
@pytest.mark.parametrize("headers", [{}, {"Origin": "http://elsewhere.example"}], ids=["no origin", "foreign origin"])
def test_a_body_of_a_type_that_any_web_page_may_send_is_refused(
    rest: Rest, collection_name: str, media_type: str, headers: dict[str, str]
) -> None:
    rest.quick_create(collection_name)
    content = b'{"collectionName": "%s"}' % collection_name.encode()
    answer = rest.send("collections/drop", content, Content_Type=media_type, **headers)
    assert (answer.status_code, answer.json()["code"]) == (415, 1801)
    assert rest.ok("collections/has", {"collectionName": collection_name}) == {"has": True}


def test_the_header_that_the_node_sdk_sends_names_the_type(rest: Rest) -> None:
    answer = rest.send("databases/list", b"{}", Content_Type="text/plain;charset=UTF-8", ContentType="application/json")
    assert answer.json() == {"code": 0, "data": ["default"]}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Host": "rebound.example:19530"},
        {"Host": "rebound.example:19530", "Origin": "http://rebound.example:19530"},
        {"Host": "[broken"},
    ],
    ids=str,
)
def test_a_foreign_origin_or_host_is_refused_on_loopback(rest: Rest, headers: dict[str, str]) -> None:
    answer = rest.send("databases/list", b"{}", **headers)
    assert (answer.status_code, answer.json()["code"]) == (403, 1401)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "LOCALHOST", "[::1]"])
def test_a_page_of_this_server_is_served(rest: Rest, name: str) -> None:
    host = f"{name}:{rest.uri.rpartition(':')[2]}"
    assert rest.post("databases/list", {}, Host=host, Origin=f"http://{host.lower()}")["code"] == 0
    assert rest.post("databases/list", {}, Host=host)["code"] == 0


@pytest.fixture(scope="module")
def open_rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    """REST of a server whose settings name origins and a host."""
    factory = ServerFactory(tmp_path_factory.mktemp("open"))
    environment = {
        "MILVINE_REST_ALLOWEDORIGINS": "https://ui.example, http://localhost:3000",
        "MILVINE_REST_ALLOWEDHOSTS": "db.example",
    }
    yield Rest(factory(env=environment).uri)
    factory.close()


def test_origins_and_hosts_of_the_settings_are_served(open_rest: Rest) -> None:
    rest = open_rest
    assert rest.post("databases/list", {}, Origin="https://ui.example")["code"] == 0
    assert rest.post("databases/list", {}, Host="db.example:80")["code"] == 0
    assert rest.post("databases/list", {}, Origin="https://other.example")["code"] == 1401


def _preflight(rest: Rest, origin: str) -> requests.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return requests.options(rest.uri + PREFIX + "databases/list", headers=headers, timeout=30)


def test_a_browser_lets_a_page_of_an_allowed_origin_read_answers(open_rest: Rest) -> None:
    for origin in ("https://ui.example", "http://localhost:3000"):
        asked = _preflight(open_rest, origin)
        assert (asked.status_code, asked.content) == (204, b"")
        assert "POST" in asked.headers["Access-Control-Allow-Methods"]
        allowed = {name.strip().lower() for name in asked.headers["Access-Control-Allow-Headers"].split(",")}
        assert {"authorization", "content-type", "db-name", "request-timeout"} <= allowed
        for path, content in (("databases/list", b"{}"), ("databases/list", b"no json"), ("no/route", b"{}")):
            answer = open_rest.send(path, content, Origin=origin)
            for headers in (asked.headers, answer.headers):
                assert (headers["Access-Control-Allow-Origin"], headers["Vary"]) == (origin, "Origin")


def test_a_browser_lets_no_other_page_read_answers(open_rest: Rest, rest: Rest) -> None:
    for asked_of, origin in ((open_rest, "https://other.example"), (rest, "https://ui.example")):
        asked = _preflight(asked_of, origin)
        assert (asked.status_code, asked.text) == (404, "404 page not found")
        answer = asked_of.send("databases/list", b"{}", Origin=origin)
        assert answer.status_code == 403
        for headers in (asked.headers, answer.headers):
            assert not any(name.lower().startswith("access-control-") for name in headers)


def test_grpc_ignores_origin_and_host(server: Server) -> None:
    metadata = [("origin", "http://elsewhere.example")]
    options = [("grpc.default_authority", "milvus.example")]
    with grpc.insecure_channel(server.address, options=options) as channel:
        stub = milvus_pb2_grpc.MilvusServiceStub(channel)
        assert stub.GetVersion(milvus_pb2.GetVersionRequest(), metadata=metadata, timeout=30).status.code == 0
