"""Roles, privileges and groups of privileges over REST."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from conftest import Server
from key_calls import make_key
from rest_client import Rest

from milvine.rest_api.app import VERSIONS
from milvine.rest_api.call import Route, Version
from milvine.rest_api.unserved import ABSENT, REMOVED

ROOT = {"Authorization": "Bearer root:Milvus"}
ANN = {"Authorization": "Bearer ann:secret1"}
STRANGER = {"Authorization": "Bearer stranger:secret1"}
FOR_EVERY_USER = {
    "aliases/list": "public has the privilege",
    "collections": "shows what one may see",
    "collections/describe": "public has the privilege; what one may not see is not found",
    "collections/get_compaction_state": "by the id of a compaction",
    "collections/has": "False for what one may not see",
    "collections/list": "shows what one may see",
    "common/run_analyzer": "of no collection, or of one that one may see",
    "databases/list": "shows what one may see",
    "indexes/describe": "public has the privilege; what one may not see is not found",
    "indexes/list": "public has the privilege; what one may not see is not found",
    "jobs/external_collection/describe": "there are no jobs",
    "jobs/external_collection/list": "there are no jobs",
    "jobs/import/abort": "what one may not import into has its own denial; there is no such job",
    "jobs/import/commit": "what one may not import into has its own denial; there is no such job",
    "jobs/import/describe": "what one may not import into has its own denial; there is no such job",
    "jobs/import/get_progress": "what one may not import into has its own denial; there is no such job",
    "jobs/import/list": "shows what one may see",
    "jobs/snapshot/describe": "a job of what one may not see is not found",
    "memory": "shows what one may see",
    "quotacenter/describe": "shows what one may see",
    "segments/describe": "shows what one may see",
    "slow_requests": "shows one's own",
    "v1/collections": "shows what one may see",
    "v1/collections/describe": "public has the privilege; what one may not see is not found",
    "work": "of collections that one may see",
}
ROUTES: dict[str, tuple[Version, Route]] = {
    version.label + path: (version, route)
    for version in VERSIONS
    for path, route in version.routes.items()
    if path not in {*ABSENT, *REMOVED}
}
BODIES: dict[str, dict[str, Any]] = {
    "api_keys/create": {"userName": "ann", "keyName": "k"},
    "api_keys/describe": {"userName": "ann", "keyName": "k"},
    "api_keys/drop": {"userName": "ann", "keyName": "k"},
    "api_keys/list": {"userName": "ann"},
    "collections/create": {"collectionName": "new", "dimension": 2},
    "common/run_analyzer": {"text": ["x"]},
    "export/end": {"collectionId": "1", "exportId": "1"},
    "export/read": {"collectionId": "1", "exportId": "1"},
    "collections/add_function_field": {
        "collectionName": "c",
        "function": {"name": "f", "type": "BM25", "inputFieldNames": ["t"], "outputFieldNames": ["s"]},
        "outputField": {"fieldName": "s", "dataType": "SparseFloatVector"},
        "indexParams": {"fieldName": "s", "indexName": "i", "metricType": "BM25", "indexType": "AUTOINDEX"},
    },
    "collections/alter_function": {
        "collectionName": "c",
        "functionName": "f",
        "function": {"name": "f", "type": "TextEmbedding", "inputFieldNames": ["t"], "outputFieldNames": ["v"]},
    },
    "collections/fields/add": {"collectionName": "c", "schema": {"fieldName": "f", "dataType": "Int64"}},
    "collections/fields/drop": {"collectionName": "c", "fieldName": "f"},
    "entities/delete": {"collectionName": "c", "filter": "id == 1"},
    "entities/get": {"collectionName": "c", "id": [1]},
    "entities/search": {"collectionName": "c", "data": [[0.0, 1.0]]},
    "explain": {"collectionName": "c", "data": [[0.0, 1.0]]},
    "indexes/create": {"collectionName": "c", "indexParams": [{"fieldName": "vector", "metricType": "L2"}]},
    "jobs/import/create": {"collectionName": "c", "files": [["rows.parquet"]]},
    "resource_groups/alter": {"resource_groups": {"g": {"requests": {"node_num": 1}, "limits": {"node_num": 1}}}},
    "v1/collections/create": {"collectionName": "new", "dimension": 2},
    "v1/delete": {"collectionName": "c", "id": 1},
    "v1/search": {"collectionName": "c", "vector": [0.0, 1.0]},
}
VALUES = {
    "jobId": 1,
    "pinId": "1",
    "collectionName": "c",
    "dbName": "default",
    "data": [{"id": 1, "vector": [0.0, 1.0]}],
    "partitionNames": ["p"],
    "replicaNum": 1,
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    """A server with the collection `c`, the user `ann` in the role `team`, and `stranger`."""
    environment = {"MILVINE_SECURITY_AUTHORIZATION_ENABLED": "true"}
    with Server(tmp_path_factory.mktemp("guarded-rest"), env=environment).running() as server:
        rest = Rest(server.uri)
        rest.ok("collections/create", {"collectionName": "c", "dimension": 2}, **ROOT)
        for user in ("ann", "stranger"):
            rest.ok("users/create", {"userName": user, "password": "secret1"}, **ROOT)
        rest.ok("roles/create", {"roleName": "team", "description": "a team"}, **ROOT)
        rest.ok("users/grant_role", {"userName": "ann", "roleName": "team"}, **ROOT)
        yield rest


def _send(rest: Rest, path: str, body: Any, headers: dict[str, str] | None = None) -> requests.Response:
    """To one of Milvus's routes, or of ours."""
    version, route = ROUTES[path]
    address = rest.uri + version.prefix + path.removeprefix(version.label)
    where = {"params": body} if route.method == "GET" else {"json": body}
    return rest.session.request(route.method, address, headers=headers or STRANGER, timeout=30, **where)


@pytest.fixture(scope="module")
def limited(guarded: Rest) -> dict[str, str]:
    """By a key of root that is limited to the role `public`."""
    return {"Authorization": f"Bearer {make_key(guarded.uri, 'root', roles=['public'])}"}


@pytest.mark.parametrize("user", ["stranger", "root"])
@pytest.mark.parametrize("path", sorted(ROUTES))
def test_a_caller_without_a_role_is_refused_with_403(
    guarded: Rest, limited: dict[str, str], path: str, user: str
) -> None:
    """Root calls by a limited key."""
    body = BODIES.get(path) or {name: VALUES.get(name, "x") for name in ROUTES[path][1].required}
    answer = _send(guarded, path, body, STRANGER if user == "stranger" else limited)
    if path in FOR_EVERY_USER:
        assert answer.status_code == 200
        return
    found = answer.json()
    assert (answer.status_code, found["code"]) == (403, 65535), found
    text = "rpc error: code = PermissionDenied desc = Privilege"
    assert found["message"].startswith(text)
    assert f"permission deny to {user}" in found["message"]


@pytest.mark.parametrize("path", sorted(ROUTES))
def test_no_route_is_open_without_a_token(guarded: Rest, path: str) -> None:
    answer = _send(guarded, path, BODIES.get(path, {}), {"Authorization": "bearer root:Milvus"})
    assert (answer.status_code, answer.json()["code"]) == (401, 1800)


def test_explain_and_estimate_open_what_their_privileges_open(guarded: Rest) -> None:
    vectors = {"data": [[0.0, 1.0]]}
    guarded.ok("databases/create", {"dbName": "other"}, **ROOT)
    for name, database in (("d", "default"), ("c", "other")):
        guarded.ok("collections/create", {"collectionName": name, "dimension": 2, "dbName": database}, **ROOT)
    guarded.ok("aliases/create", {"collectionName": "d", "aliasName": "spare"}, **ROOT)
    for privilege in ("Search", "GetLoadState"):
        granted = {"roleName": "team", "privilege": privilege, "collectionName": "c", "dbName": "default"}
        guarded.ok("roles/grant_privilege_v2", granted, **ROOT)
    try:
        for path in ("explain", "estimate"):
            assert _send(guarded, path, {"collectionName": "c", **vectors}, ANN).json()["code"] == 0
            refused: list[tuple[dict[str, str], dict[str, str]]] = [
                ({"collectionName": "d"}, {}),
                ({"collectionName": "spare"}, {}),
                ({"collectionName": "c", "dbName": "other"}, {}),
                ({"collectionName": "c"}, {"DB-Name": "other"}),
                ({"collectionName": "c", "dbName": "other"}, {"DB-Name": "default"}),
                ({"COLLECTIONNAME": "d"}, {}),
                ({"collectionName": "d", "COLLECTIONNAME": "c"}, {}),
            ]
            for body, headers in refused:
                answer = _send(guarded, path, {**body, **vectors}, {**ANN, **headers})
                assert answer.status_code == 403, (path, body, headers, answer.text)
        guarded.ok("aliases/alter", {"collectionName": "c", "aliasName": "spare"}, **ROOT)
        assert _send(guarded, "explain", {"collectionName": "spare", **vectors}, ANN).json()["code"] == 0
        seen = _send(guarded, "memory", {}, ANN).json()["data"]["collections"]
        assert {(found["dbName"], found["collectionName"]) for found in seen} == {("default", "c")}
    finally:
        for privilege in ("Search", "GetLoadState", "GetLoadingProgress"):
            granted = {"roleName": "team", "privilege": privilege, "collectionName": "c", "dbName": "default"}
            guarded.ok("roles/revoke_privilege_v2", granted, **ROOT)
        guarded.ok("aliases/drop", {"aliasName": "spare"}, **ROOT)
        for name, database in (("d", "default"), ("c", "other")):
            guarded.ok("collections/drop", {"collectionName": name, "dbName": database}, **ROOT)
        guarded.ok("databases/drop", {"dbName": "other"}, **ROOT)


def test_listings_of_a_user_without_a_role_are_empty(guarded: Rest) -> None:
    assert guarded.ok("collections/list", {}, **STRANGER) == []
    assert guarded.ok("databases/list", {}, **STRANGER) == []
    assert guarded.ok("collections/has", {"collectionName": "c"}, **STRANGER) == {"has": False}
    assert guarded.post("collections/describe", {"collectionName": "c"}, **STRANGER)["code"] == 100
    assert guarded.ok("segments/describe", {"segmentIDs": [1]}, **STRANGER) == {"segmentInfos": []}
    sizes = json.loads(guarded.ok("quotacenter/describe", {}, **STRANGER))
    assert sizes["DataNodeMetrics"]["1"]["Effect"]["CollectionIDs"] == []
    memory = _send(guarded, "memory", {}).json()["data"]
    assert memory["collections"] == []


def _grants(rest: Rest) -> list[tuple[str, ...]]:
    described = rest.ok("roles/describe", {"roleName": "team"}, **ROOT)
    return sorted((g["objectType"], g["objectName"], g["privilege"], g["dbName"], g["grantor"]) for g in described)


def test_roles_and_grants_of_both_generations(guarded: Rest) -> None:
    assert guarded.ok("roles/list", {}, **ROOT) == ["admin", "public", "team"]
    insert = {"collectionName": "c", "data": [{"id": 1, "vector": [0.0, 1.0]}]}
    assert _send(guarded, "entities/insert", insert, ANN).status_code == 403
    first = {"roleName": "team", "objectType": "Collection", "objectName": "c", "privilege": "Insert"}
    second = {"roleName": "team", "dbName": "default", "collectionName": "c", "privilege": "CollectionReadOnly"}
    assert guarded.ok("roles/grant_privilege", first, **ROOT) == {}
    assert guarded.ok("roles/grant_privilege_v2", second, **ROOT) == {}
    assert _grants(guarded) == [
        ("Collection", "c", "Insert", "default", "root"),
        ("Global", "c", "CollectionReadOnly", "default", "root"),
    ]
    assert guarded.ok("entities/insert", insert, **ANN)["insertCount"] == 1
    assert len(guarded.ok("entities/query", {"collectionName": "c", "filter": "id >= 0"}, **ANN)) == 1
    assert guarded.ok("collections/describe", {"collectionName": "c"}, **ANN)["load"] == "LoadStateLoaded"
    assert _send(guarded, "collections/drop", {"collectionName": "c"}, ANN).status_code == 403
    assert guarded.ok("roles/revoke_privilege", first, **ROOT) == {}
    assert guarded.ok("roles/revoke_privilege_v2", second, **ROOT) == {}
    assert _grants(guarded) == []
    assert _send(guarded, "entities/insert", insert, ANN).status_code == 403


def test_describing_a_collection_leaves_out_what_one_may_not_ask(guarded: Rest) -> None:
    grant = {"roleName": "team", "dbName": "default", "collectionName": "c", "privilege": "Insert"}
    guarded.ok("roles/grant_privilege_v2", grant, **ROOT)
    described = guarded.post("collections/describe", {"collectionName": "c"}, **ANN)
    assert (described["code"], described["data"]["load"]) == (0, "")
    assert "PrivilegeGetLoadState: permission deny to ann" in described["message"]
    guarded.ok("roles/revoke_privilege_v2", grant, **ROOT)


def test_users_and_roles_are_described_and_altered(guarded: Rest) -> None:
    myself = guarded.post("users/describe", {"userName": "ann"}, **ANN)
    assert myself == {"code": 0, "data": ["team"], "description": ""}
    assert guarded.post("users/describe", {"userName": "ghost"}, **ROOT)["data"] == []
    guarded.ok("roles/alter", {"roleName": "team", "description": "the team"}, **ROOT)
    described = guarded.post("roles/describe", {"roleName": "team"}, **ROOT)
    assert described == {"code": 0, "data": [], "description": "the team"}
    guarded.ok("users/revoke_role", {"userName": "ann", "roleName": "team"}, **ROOT)
    assert guarded.ok("users/describe", {"userName": "ann"}, **ROOT) == []
    guarded.ok("users/grant_role", {"userName": "ann", "roleName": "team"}, **ROOT)
    assert guarded.post("roles/drop", {"roleName": "admin"}, **ROOT)["code"] == 1401
    assert guarded.post("roles/create", {"roleName": "team"}, **ROOT)["code"] == 1100
    assert guarded.post("roles/create", {}, **ROOT)["code"] == 1802


def test_groups_of_privileges(guarded: Rest) -> None:
    group = {"privilegeGroupName": "readers"}
    assert guarded.ok("privilege_groups/create", group, **ROOT) == {}
    two = {**group, "privileges": ["Search", "Query"]}
    assert guarded.ok("privilege_groups/add_privileges_to_group", two, **ROOT) == {}
    one = {**group, "privileges": ["Search"]}
    assert guarded.ok("privilege_groups/remove_privileges_from_group", one, **ROOT) == {}
    groups = guarded.ok("privilege_groups/list", {}, **ROOT)["privilegeGroups"]
    assert {"privilegeGroupName": "readers", "privileges": "Query"} in groups
    assert len(groups) == 10
    assert guarded.ok("privilege_groups/drop", group, **ROOT) == {}
    assert guarded.post("privilege_groups/create", {"privilegeGroupName": "a-b"}, **ROOT)["code"] == 1100


def test_without_authorization_roles_are_kept_and_nothing_can_be_granted(server: Server) -> None:
    rest = Rest(server.uri)
    rest.ok("roles/create", {"roleName": "rest_idle"})
    assert "rest_idle" in rest.ok("roles/list", {})
    everything = {"roleName": "rest_idle", "privilege": "All", "collectionName": "*"}
    refused = rest.post("roles/grant_privilege_v2", everything)
    assert (refused["code"], "fail to get authorization" in refused["message"]) == (1100, True)
    rest.ok("roles/drop", {"roleName": "rest_idle"})
