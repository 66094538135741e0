"""API keys: what opens with them, who makes them, and what ends them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import requests
from conftest import Server, ServerFactory
from grpc_calls import assert_ok, assert_refused
from key_calls import ROOT_TOKEN, ask, make_key
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2
from role_calls import (
    PASSWORD,
    ROOT,
    WITH_AUTHORIZATION,
    bind,
    by_token,
    create_role,
    create_user,
    drop_role,
    drop_user,
    encoded,
    grant,
)
from sample_collections import c1_rows, make_c1

WRONG_KEY = "auth check failure, please check api key is correct"


def is_let_in(server: Server, token: str) -> bool:
    """The same over gRPC and REST."""
    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.post(f"{server.uri}/v2/vectordb/databases/list", json={}, headers=headers, timeout=30)
    try:
        assert_ok(server.stub.ListDatabases(milvus_pb2.ListDatabasesRequest(), **by_token(token)))
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert (answer.status_code, answer.json()["code"]) == (401, 1800)
        return False
    assert answer.json()["code"] == 0
    return True


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the loaded collection `books`, and the roles `reader` and `writer` on it."""
    environment = {**WITH_AUTHORIZATION, "MILVINE_AUDIT_ENABLED": "true", "MILVINE_COMMON_SECURITY_SUPERUSERS": "ann"}
    with Server(tmp_path_factory.mktemp("guarded"), env=environment).running() as server:
        stub = server.stub
        root = server.client(token=ROOT_TOKEN)
        make_c1(root, "books", load=True)
        root.insert("books", c1_rows(30))
        root.close()
        for role, group in (("reader", "CollectionReadOnly"), ("writer", "CollectionReadWrite")):
            assert_ok(create_role(stub, role))
            assert_ok(grant(stub, role, group, "books", "default"))
        yield server


@pytest.fixture
def ann(guarded: Server) -> Iterator[str]:
    """A user with both roles."""
    create_user(guarded.stub, "ann")
    for role in ("reader", "writer"):
        assert_ok(bind(guarded.stub, "ann", role))
    yield "ann"
    drop_user(guarded.stub, "ann")


def test_a_key_opens_both_protocols_as_its_user(guarded: Server, ann: str) -> None:
    key = make_key(guarded.uri, ann)
    assert is_let_in(guarded, key)
    client = guarded.client(token=key)
    assert client.query("books", filter="id == 1", output_fields=["id"]) == [{"id": 1}]
    assert client.insert("books", c1_rows(1))["insert_count"] == 1
    with pytest.raises(Exception, match="PrivilegeDropCollection: permission deny to ann"):
        client.drop_collection("books")
    client.close()


def test_a_key_limited_to_a_role_may_do_what_the_role_grants(guarded: Server, ann: str) -> None:
    client = guarded.client(token=make_key(guarded.uri, ann, roles=["reader"]))
    assert client.query("books", filter="id == 1", output_fields=["id"]) == [{"id": 1}]
    with pytest.raises(Exception, match="PrivilegeInsert: permission deny to ann"):
        client.insert("books", c1_rows(1))
    client.close()


def test_a_limited_key_of_root_or_of_an_admin_is_limited(guarded: Server, ann: str) -> None:
    assert_ok(bind(guarded.stub, ann, "admin"))
    for user in ("root", ann):
        limited, whole = make_key(guarded.uri, user, "limited", roles=["reader"]), make_key(guarded.uri, user, "whole")
        listed = milvus_pb2.ListCredUsersRequest()
        assert_ok(guarded.stub.ListCredUsers(listed, **by_token(whole)))
        with pytest.raises(grpc.RpcError, match="SelectOwnership: permission deny"):
            guarded.stub.ListCredUsers(listed, **by_token(limited))
        assert ask(guarded.uri, "drop", {"userName": user, "keyName": "limited"})["code"] == 0
        assert not is_let_in(guarded, limited)
        assert ask(guarded.uri, "drop", {"userName": user, "keyName": "whole"})["code"] == 0


def test_listings_by_a_limited_key_show_what_its_roles_show(guarded: Server, ann: str) -> None:
    key = make_key(guarded.uri, ann, roles=["public"])
    client = guarded.client(token=key)
    assert client.list_collections() == []
    with pytest.raises(Exception, match="can't find collection"):
        client.describe_collection("books")
    client.close()
    found = requests.post(f"{guarded.uri}/milvine/v1/memory", json={}, headers={"Authorization": key}, timeout=30)
    assert found.json()["data"]["collections"] == []


def test_the_key_is_shown_once_and_never_stored(guarded: Server, ann: str) -> None:
    key = make_key(guarded.uri, ann, "ci.run-1", roles=["reader", "reader", "writer"], expiresInSeconds=3600)
    described = ask(guarded.uri, "describe", {"userName": ann, "keyName": "ci.run-1"})["data"]
    assert {**described, "keyId": "", "created": "", "expires": ""} == {
        "userName": "ann",
        "keyName": "ci.run-1",
        "keyId": "",
        "roles": ["reader", "writer"],
        "created": "",
        "expires": "",
        "isExpired": False,
    }
    assert described["keyId"] in key
    assert ask(guarded.uri, "list", {"userName": ann})["data"] == [described]
    assert described in ask(guarded.uri, "list", {"userName": "*"})["data"]
    secret = key[21:]
    everything = b"".join(path.read_bytes() for path in guarded.data_dir.rglob("*") if path.is_file())
    assert b"ci.run-1" in everything
    assert secret.encode() not in everything


def test_a_key_loses_a_role_that_its_user_loses(guarded: Server, ann: str) -> None:
    client = guarded.client(token=make_key(guarded.uri, ann, roles=["reader"]))
    assert client.query("books", filter="id == 1")
    assert_ok(bind(guarded.stub, ann, "reader", remove=True))
    with pytest.raises(Exception, match="PrivilegeQuery: permission deny to ann"):
        client.query("books", filter="id == 1")
    client.close()


def test_a_key_stays_limited_once_its_role_is_gone(guarded: Server, ann: str) -> None:
    assert_ok(create_role(guarded.stub, "passing"))
    assert_ok(bind(guarded.stub, ann, "passing"))
    key = make_key(guarded.uri, ann, roles=["passing"])
    assert_ok(drop_role(guarded.stub, "passing"))
    assert ask(guarded.uri, "describe", {"userName": ann, "keyName": "k"})["data"]["roles"] == []
    assert_ok(create_role(guarded.stub, "passing"))
    assert_ok(grant(guarded.stub, "passing", "CollectionReadOnly", "books", "default"))
    assert_ok(bind(guarded.stub, ann, "passing"))
    client = guarded.client(token=key)
    with pytest.raises(Exception, match="PrivilegeQuery: permission deny to ann"):
        client.query("books", filter="id == 1")
    client.close()
    assert_ok(drop_role(guarded.stub, "passing", force=True))


def test_a_dropped_key_ends_open_clients_and_iterators_at_once(guarded: Server, ann: str) -> None:
    client = guarded.client(token=make_key(guarded.uri, ann))
    pages = client.query_iterator("books", batch_size=10, output_fields=["id"])
    assert len(pages.next()) == 10
    assert ask(guarded.uri, "drop", {"userName": ann, "keyName": "k"})["code"] == 0
    for call in (pages.next, client.list_collections):
        with pytest.raises(Exception, match=WRONG_KEY):
            call()
    client.close()


def test_an_expired_key_ends_open_clients_within_a_second(guarded: Server, ann: str) -> None:
    key = make_key(guarded.uri, ann, expiresInSeconds=2)
    made = time.time()
    client = guarded.client(token=key)
    assert client.has_collection("books")
    time.sleep(max(0.0, made + 3 - time.time()))
    with pytest.raises(Exception, match=WRONG_KEY):
        client.list_collections()
    client.close()
    assert not is_let_in(guarded, key)
    assert ask(guarded.uri, "describe", {"userName": ann, "keyName": "k"})["data"]["isExpired"]
    make_key(guarded.uri, ann)  # The name is free again.
    assert not ask(guarded.uri, "describe", {"userName": ann, "keyName": "k"})["data"]["isExpired"]


def test_a_user_made_again_has_no_keys(guarded: Server) -> None:
    create_user(guarded.stub, "bob")
    key = make_key(guarded.uri, "bob")
    drop_user(guarded.stub, "bob")
    assert not is_let_in(guarded, key)
    create_user(guarded.stub, "bob")
    assert not is_let_in(guarded, key)
    assert ask(guarded.uri, "list", {"userName": "bob"})["data"] == []
    drop_user(guarded.stub, "bob")


def test_a_new_password_leaves_the_keys(guarded: Server, ann: str) -> None:
    key = make_key(guarded.uri, ann)
    request = milvus_pb2.UpdateCredentialRequest(
        username=ann, oldPassword=encoded(PASSWORD), newPassword=encoded("another-1")
    )
    assert_ok(guarded.stub.UpdateCredential(request, **ROOT))
    assert is_let_in(guarded, key)


def test_users_manage_their_own_keys_and_no_others(guarded: Server, ann: str) -> None:
    token = f"ann:{PASSWORD}"
    key = ask(guarded.uri, "create", {"keyName": "mine"}, token)["data"]["apiKey"]
    assert is_let_in(guarded, key)
    assert [k["keyName"] for k in ask(guarded.uri, "list", {}, token)["data"]] == ["mine"]
    make_key(guarded.uri, "root", "roots")
    for path in ("create", "describe", "drop", "list"):
        for user in ("root", "ghost", "*"):
            refused = ask(guarded.uri, path, {"userName": user, "keyName": "roots"}, token)
            assert refused["code"] == 65535, refused
            assert "Ownership: permission deny to ann" in refused["message"]
    assert ask(guarded.uri, "drop", {"keyName": "mine"}, token)["code"] == 0
    assert not is_let_in(guarded, key)
    assert ask(guarded.uri, "drop", {"keyName": "roots"})["code"] == 0


def test_the_privilege_to_manage_roles_makes_keys_of_users_but_not_of_root(guarded: Server, ann: str) -> None:
    assert_ok(create_role(guarded.stub, "keeper"))
    assert_ok(grant(guarded.stub, "keeper", "ClusterAdmin"))
    assert_ok(bind(guarded.stub, ann, "keeper"))
    create_user(guarded.stub, "bob")
    token = f"ann:{PASSWORD}"
    assert is_let_in(guarded, make_key(guarded.uri, "bob", token=token))
    refused = ask(guarded.uri, "create", {"userName": "root", "keyName": "k"}, token)
    assert (refused["code"], "only root makes API keys of root" in refused["message"]) == (1401, True)
    drop_user(guarded.stub, "bob")
    assert_ok(drop_role(guarded.stub, "keeper", force=True))


def test_a_key_does_not_stand_for_the_password(guarded: Server, ann: str) -> None:
    """Ann is a superuser: with the password she needs no old one to set a new one."""
    key = make_key(guarded.uri, ann)
    change = milvus_pb2.UpdateCredentialRequest(username=ann, newPassword=encoded("taken-over"))
    with pytest.raises(grpc.RpcError, match="UpdateUser: permission deny to ann"):
        guarded.stub.UpdateCredential(change, **by_token(key))
    for path in ("create", "list", "describe", "drop"):
        refused = ask(guarded.uri, path, {"keyName": "k"}, key)
        assert "permission deny to ann" in refused["message"]
    assert_ok(bind(guarded.stub, ann, "admin"))
    assert_refused(guarded.stub.UpdateCredential(change, **by_token(key)), 1400, "old password not correct for ann")
    roots = make_key(guarded.uri, "root", "roots")
    assert ask(guarded.uri, "create", {"keyName": "second"}, roots)["code"] == 1401
    assert ask(guarded.uri, "drop", {"keyName": "roots"})["code"] == 0
    assert is_let_in(guarded, f"ann:{PASSWORD}")


BAD_KEYS: dict[str, tuple[dict[str, Any], int, str]] = {
    "no name": ({"userName": "ann"}, 1802, "'KeyName' failed on the 'required' tag"),
    "an empty name": ({"keyName": ""}, 1802, "'KeyName'"),
    "a name that is no text": ({"keyName": 7}, 1801, "cannot unmarshal number"),
    "a long name": ({"keyName": "n" * 65}, 1100, "invalid key name"),
    "a name of a megabyte": ({"keyName": "n" * 1_000_000}, 1100, "invalid key name"),
    "a name with a colon": ({"keyName": "a:b"}, 1100, "invalid key name"),
    "a name with a line break": ({"keyName": "a\n"}, 1100, "invalid key name"),
    "a name beginning with a digit": ({"keyName": "1a"}, 1100, "invalid key name"),
    "a name of other letters": ({"keyName": "schlüssel"}, 1100, "invalid key name"),
    "a lone surrogate": ({"keyName": "\ud800"}, 1100, "invalid key name"),
    "an unknown user": ({"userName": "ghost"}, 65535, "user not found"),
    "a bad user name": ({"userName": "1"}, 1100, "invalid user name"),
    "the name of another key": ({"keyName": "taken"}, 1100, "API key already exists: taken of ann"),
    "no role": ({"roles": []}, 1100, "at least one role"),
    "an unknown role": ({"roles": ["ghosts"]}, 1100, "the user ann does not have the role ghosts"),
    "a role of others": ({"roles": ["reader", "admin"]}, 1100, "the user ann does not have the role admin"),
    "a bad role name": ({"roles": ["*"]}, 1100, "role name"),
    "roles that are no list": ({"roles": "reader"}, 1801, "cannot unmarshal string"),
    "a role that is no text": ({"roles": [1]}, 1801, "cannot unmarshal number"),
    "no seconds": ({"expiresInSeconds": 0}, 1100, "[0 out of range 1 <= value <= 315360000]"),
    "negative seconds": ({"expiresInSeconds": -1}, 1100, "out of range"),
    "too many seconds": ({"expiresInSeconds": 315_360_001}, 1100, "out of range"),
    "seconds beyond 32 bits": ({"expiresInSeconds": 2**31}, 1801, "cannot unmarshal number"),
    "seconds that are no integer": ({"expiresInSeconds": 1.5}, 1801, "cannot unmarshal number"),
    "seconds that are text": ({"expiresInSeconds": "60"}, 1801, "cannot unmarshal string"),
}


def test_bad_input_makes_no_key(guarded: Server, ann: str) -> None:
    make_key(guarded.uri, ann, "taken")
    for case, (body, code, text) in BAD_KEYS.items():
        content = {"userName": ann, **({} if case == "no name" else {"keyName": "new"}), **body}
        answer = ask(guarded.uri, "create", content)
        assert (answer["code"], text in answer["message"]) == (code, True), (case, answer)
        assert len(answer["message"]) < 10_000
    assert [k["keyName"] for k in ask(guarded.uri, "list", {"userName": ann})["data"]] == ["taken"]
    for path in ("describe", "drop"):
        unknown = ask(guarded.uri, path, {"userName": ann, "keyName": "new"})
        assert (unknown["code"], unknown["message"]) == (1100, "API key not found: new of ann: invalid parameter")


def test_a_user_has_at_most_twenty_keys_and_expired_ones_do_not_count(guarded: Server, ann: str) -> None:
    for number in range(19):
        make_key(guarded.uri, ann, f"k{number}")
    make_key(guarded.uri, ann, "short", expiresInSeconds=1)
    refused = ask(guarded.uri, "create", {"userName": ann, "keyName": "more"})
    if refused["code"]:  # On a slow machine the last one has expired.
        assert (refused["code"], "the number of keys of the user has reached the limit" in refused["message"]) == (
            9,
            True,
        )
        time.sleep(1.1)
        make_key(guarded.uri, ann, "more")
    assert "short" not in [k["keyName"] for k in ask(guarded.uri, "list", {"userName": ann})["data"]]
    assert ask(guarded.uri, "create", {"userName": ann, "keyName": "again"})["code"] == 9


def test_what_is_nearly_a_key_is_refused(guarded: Server, ann: str) -> None:
    key, other = make_key(guarded.uri, ann, "one"), make_key(guarded.uri, ann, "two")
    identifier, secret = key[:20], key[21:]
    nearly = {
        "the secret of another key": f"{identifier}_{other[21:]}",
        "no secret": identifier,
        "only the secret": secret,
        "a character less": key[:-1],
        "a character more": f"{key}A",
        "a last character in another case": key[:-1] + key[-1].swapcase() if key[-1].isalpha() else f"{key[:-1]}x",
        "another case": key.upper(),
        "a space before": f" {key}",
        "a space after": f"{key} ",
        "twice": key * 2,
        "with a password": f"{key}:{key}",
        "as a password": f"ann:{key}",
        "as a user": f"{key}:",
        "an unknown one of the right form": f"mvk_{'0' * 16}_{'A' * 43}",
        "zero bytes": "\0" * len(key),
        "its digest": ask(guarded.uri, "describe", {"userName": ann, "keyName": "one"})["data"]["keyId"],
    }
    for case, token in nearly.items():
        with pytest.raises(grpc.RpcError) as refused:
            guarded.stub.ListDatabases(milvus_pb2.ListDatabasesRequest(), **by_token(token))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED, case
        if token.isprintable() and token == token.strip():
            headers = {"Authorization": f"Bearer {token}"}
            answer = requests.post(f"{guarded.uri}/v2/vectordb/databases/list", json={}, headers=headers, timeout=30)
            assert answer.status_code == 401, case
    for raw in (b"\xff" * len(key), key.encode()[:-1] + b"\xff"):
        metadata = [("authorization", base64.b64encode(raw).decode())]
        with pytest.raises(grpc.RpcError, match="check api key"):
            guarded.stub.ListDatabases(milvus_pb2.ListDatabasesRequest(), metadata=metadata)
    with pytest.raises(grpc.RpcError, match="invalid token format"):
        guarded.stub.ListDatabases(milvus_pb2.ListDatabasesRequest(), metadata=[("authorization", key)])
    assert is_let_in(guarded, key)


def test_the_audit_log_names_the_key_and_never_shows_it(guarded: Server, ann: str) -> None:
    key = make_key(guarded.uri, ann, "audited")
    assert is_let_in(guarded, key)
    deadline = time.monotonic() + 20
    while True:
        text = (guarded.data_dir / "audit.log").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        made = [e for e in lines if e["call"] == "api_keys/create" and e["on"].get("key") == "audited"]
        used = [e for e in lines if e.get("key") == "audited"]
        if (made and used) or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert (made[-1]["user"], made[-1]["on"]) == ("root", {"user": "ann", "key": "audited"})
    assert used[-1]["user"] == "ann"
    assert key not in text
    assert encoded(key) not in text


def test_keys_outlive_a_restart_and_are_in_no_backup(new_server: ServerFactory) -> None:
    server = new_server(env=WITH_AUTHORIZATION)
    create_user(server.stub, "ann")
    key = make_key(server.uri, "ann", roles=["public"])
    before = ask(server.uri, "list", {"userName": "*"})["data"]
    backup = assert_ok(server.stub.BackupRBAC(milvus_pb2.BackupRBACMetaRequest(), **ROOT)).RBAC_meta
    assert [user.user for user in backup.users] == ["ann"]
    assert key[21:] not in str(backup)
    server.stop()
    server.start()
    assert is_let_in(server, key)
    assert ask(server.uri, "list", {"userName": "*"})["data"] == before
    drop_user(server.stub, "ann")
    assert_ok(server.stub.RestoreRBAC(milvus_pb2.RestoreRBACMetaRequest(RBAC_meta=backup), **ROOT))
    assert not is_let_in(server, key)


def test_without_authorization_keys_can_be_kept_and_open_nothing_more(server: Server) -> None:
    assert ask(server.uri, "create", {"keyName": "k"})["message"].startswith("username must be not empty")
    key = make_key(server.uri, "root", "kept")
    assert [k["keyName"] for k in ask(server.uri, "list", {})["data"]] == ["kept"]
    client = MilvusClient(server.uri, token=key)
    assert client.list_databases()
    client.close()
    assert ask(server.uri, "drop", {"userName": "root", "keyName": "kept"})["code"] == 0
