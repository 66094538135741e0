"""Users and authentication over REST."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from conftest import Server, ServerFactory
from rest_client import Rest


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("guarded-rest")
    with Server(directory, env={"MILVINE_SECURITY_AUTHORIZATION_ENABLED": "true"}).running() as server:
        yield server


@pytest.mark.parametrize("authorization", ["Bearer root:Milvus", "root:Milvus", f"Basic {encoded('root:Milvus')}"])
def test_rest_accepts_a_valid_password(guarded: Server, authorization: str) -> None:
    assert Rest(guarded.uri).ok("collections/list", {}, Authorization=authorization) == []


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer ", "Bearer root:wrong", "root:", "Bearer key", "Basic !", f"Basic {encoded('root:wrong')}"],
)
def test_rest_answers_401_without_a_valid_password(guarded: Server, authorization: str) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    for path, content in (("collections/load", b'{"collectionName": "x"}'), ("collections/list", b"no json")):
        answer = Rest(guarded.uri).send(path, content, **headers)
        assert answer.status_code == 401
        assert answer.json() == {"code": 1800, "message": "user hasn't authenticated"}


def test_health_and_metrics_ask_for_no_password(guarded: Server) -> None:
    session = Rest(guarded.uri).session
    assert session.get(f"{guarded.uri}/healthz", timeout=5).text == "OK"
    assert session.get(f"{guarded.uri}/metrics", timeout=5).status_code == 200


def test_rest_manages_users(server: Server) -> None:
    rest = Rest(server.uri)
    dora = {"userName": "dora"}
    assert rest.ok("users/create", {**dora, "password": "secret1", "description": "a tester"}) == {}
    assert rest.ok("users/list", {}) == ["dora", "root"]
    assert rest.post("users/describe", dora) == {"code": 0, "data": [], "description": "a tester"}
    changed = {**dora, "password": "secret1", "newPassword": "secret2"}
    assert rest.ok("users/update_password", changed) == {}
    assert rest.post("users/update_password", changed)["code"] == 1400
    assert rest.ok("users/drop", dora) == {}
    assert rest.ok("users/list", {}) == ["root"]
    assert rest.post("users/drop", {"userName": "root"})["code"] == 1401
    lacking = rest.post("users/create", dora)
    assert (lacking["code"], "Key: 'PasswordReq.Password'" in lacking["message"]) == (1802, True)


def test_rest_throttles_failed_logins_but_accepts_a_verified_password(new_server: ServerFactory) -> None:
    rest = Rest(new_server(env={"MILVINE_SECURITY_AUTHORIZATION_ENABLED": "true"}).uri)
    assert rest.ok("collections/list", {}, Authorization="root:Milvus") == []
    for user in ("root", "ghost"):
        answers = [rest.post("collections/list", {}, Authorization=f"{user}:wrong{i}") for i in range(6)]
        assert [a["code"] for a in answers] == [1800] * 6
        assert "try again in" not in answers[4]["message"]
        assert "too many failed logins, try again in" in answers[5]["message"]
    assert rest.ok("collections/list", {}, Authorization="root:Milvus") == []
