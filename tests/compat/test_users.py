"""Users, passwords and authentication."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from conftest import Server
from grpc_calls import assert_ok, assert_refused
from pymilvus import MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2

_WITH_AUTHORIZATION = {"MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "true"}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def create(stub: Any, name: str, password: str = "secret1", **call: Any) -> Any:
    request = milvus_pb2.CreateCredentialRequest(username=name, password=encoded(password))
    return stub.CreateCredential(request, **call)


def update(stub: Any, name: str, old: str, new: str, **call: Any) -> Any:
    request = milvus_pb2.UpdateCredentialRequest(username=name, oldPassword=encoded(old), newPassword=encoded(new))
    return stub.UpdateCredential(request, **call)


def drop(stub: Any, name: str, **call: Any) -> Any:
    return stub.DeleteCredential(milvus_pb2.DeleteCredentialRequest(username=name), **call)


def names(stub: Any, **call: Any) -> list[str]:
    return list(assert_ok(stub.ListCredUsers(milvus_pb2.ListCredUsersRequest(), **call)).usernames)


def enter(stub: Any, token: str) -> None:
    """A call that every user may make. Raises grpc.RpcError if the token is wrong."""
    assert_ok(stub.ListDatabases(milvus_pb2.ListDatabasesRequest(), **as_user(token)))


def as_user(token: str) -> dict[str, Any]:
    return {"metadata": [("authorization", encoded(token))]}


ROOT = as_user("root:Milvus")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("guarded"), env=_WITH_AUTHORIZATION).running() as server:
        yield server


def test_a_user_is_made_listed_and_dropped(stub: Any) -> None:
    assert_ok(create(stub, "ann"))
    assert names(stub) == ["ann", "root"]
    assert_refused(create(stub, "ann"), 1100, "user already exists: ann: invalid parameter", legacy=29)
    assert_ok(drop(stub, "ann"))
    assert_ok(drop(stub, "ann"))
    assert names(stub) == ["root"]


def test_root_cannot_be_dropped(stub: Any) -> None:
    assert_refused(drop(stub, "root"), 1401, "root user cannot be deleted: privilege not permitted")
    assert names(stub) == ["root"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "username must be not empty"),
        ("  ", "username must be not empty"),
        ("n" * 33, f"invalid username {'n' * 33} with length 33, the length of username must be less than 32"),
        ("1ann", "invalid user name 1ann, the first character must be a letter, but got 1"),
        ("_ann", "invalid user name _ann, the first character must be a letter, but got _"),
        ("an$n", "invalid user name an$n, username must contain only numbers, letters, underscores, dots, and hyphens"),
        ("anñ", "invalid user name anñ, username must contain only numbers, letters, underscores, dots, and hyphens"),
    ],
)
def test_a_bad_user_name_is_refused(stub: Any, name: str, text: str) -> None:
    assert_refused(create(stub, name), 1100, text, legacy=5)
    assert names(stub) == ["root"]


@pytest.mark.parametrize("name", ["n" * 32, "a", "Ann_b-c.9"])
def test_a_valid_user_name_is_accepted(stub: Any, name: str) -> None:
    assert_ok(create(stub, name))
    assert_ok(drop(stub, name))


@pytest.mark.parametrize("password", ["", "short", "p" * 73, "ñ" * 37])
def test_a_password_of_another_length_than_6_to_72_bytes_is_refused(stub: Any, password: str) -> None:
    size = len(password.encode())
    text = f"invalid password length: invalid parameter[{size} out of range 6 <= value <= 72]"
    assert_refused(create(stub, "ann", password), 1100, text)
    assert names(stub) == ["root"]


def test_a_password_that_is_not_base64_is_refused(stub: Any) -> None:
    request = milvus_pb2.CreateCredentialRequest(username="ann", password="p@ss word")
    assert_refused(stub.CreateCredential(request), 1100, "decode password fail")


def test_changing_a_password_needs_the_old_one(stub: Any) -> None:
    assert_ok(create(stub, "bob", "secret1"))
    wrong = "old password not correct for bob: not authenticated"
    assert_refused(update(stub, "bob", "secret2", "secret3"), 1400, wrong)
    assert_ok(update(stub, "bob", "secret1", "secret3"))
    assert_refused(update(stub, "bob", "secret1", "secret4"), 1400, wrong)
    assert_refused(update(stub, "bob", "secret3", "x"), 1100, "invalid password length")
    assert_ok(drop(stub, "bob"))


def test_updates_of_nothing_or_of_an_unknown_user_are_refused(stub: Any) -> None:
    nothing = milvus_pb2.UpdateCredentialRequest(username="root")
    assert_refused(stub.UpdateCredential(nothing), 1100, "must update either password or description")
    assert_refused(update(stub, "nobody", "secret1", "secret2"), 1400, "old password not correct for nobody")
    described = milvus_pb2.UpdateCredentialRequest(username="nobody", description="none")
    assert_refused(stub.UpdateCredential(described), 65535, "user not found", legacy=30)


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ([], "missing authorization in header"),
        ([("authorization", "no base64!")], "invalid token format"),
        ([("authorization", encoded("rootMilvus"))], "auth check failure, please check api key is correct"),
        ([("authorization", encoded("root:wrong"))], "auth check failure, please check username and password"),
        ([("authorization", encoded("nobody:Milvus"))], "auth check failure, please check username and password"),
        ([("authorization", encoded("root:"))], "auth check failure, please check username and password"),
    ],
)
def test_a_call_without_the_right_token_is_unauthenticated(guarded: Server, metadata: Any, text: str) -> None:
    for call, request in (
        (guarded.stub.ShowCollections, milvus_pb2.ShowCollectionsRequest()),
        (guarded.stub.Connect, milvus_pb2.ConnectRequest()),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(request, metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert text in caught.value.details()


@pytest.mark.parametrize("authorization", [encoded("root:Milvus"), "root:Milvus"])
def test_a_call_with_the_right_token_is_answered(guarded: Server, authorization: str) -> None:
    metadata = [("authorization", authorization)]
    assert_ok(guarded.stub.ShowCollections(milvus_pb2.ShowCollectionsRequest(), metadata=metadata))


@pytest.mark.parametrize("token", ["Root:Milvus", "root:milvus", ":Milvus", ":", f"root:{'x' * 30_000}"])
def test_a_token_that_is_nearly_right_is_refused(guarded: Server, token: str) -> None:
    enter(guarded.stub, "root:Milvus")  # a password that is known never waits
    with pytest.raises(grpc.RpcError) as caught:
        enter(guarded.stub, token)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "auth check failure, please check username and password" in caught.value.details()


def test_a_user_logs_in_with_the_current_password_only(guarded: Server) -> None:
    stub = guarded.stub
    assert_ok(create(stub, "carl", "secret:1", **ROOT))
    enter(stub, "carl:secret:1")
    assert_ok(update(stub, "carl", "secret:1", "secret:2", **as_user("carl:secret:1")))
    with pytest.raises(grpc.RpcError):
        enter(stub, "carl:secret:1")
    enter(stub, "carl:secret:2")
    assert_ok(drop(stub, "carl", **ROOT))
    with pytest.raises(grpc.RpcError):
        enter(stub, "carl:secret:2")


def test_the_sdk_sees_an_authentication_error(guarded: Server) -> None:
    with pytest.raises(MilvusException, match="illegal connection params"):
        MilvusClient(guarded.uri, token="root:wrong")
    client = MilvusClient(guarded.uri, user="root", password="Milvus")
    assert client.list_users() == ["root"]
    client.close()


@pytest.mark.local_catalog("it looks for a name in the file of the catalog")
def test_users_and_passwords_survive_a_restart_and_no_password_is_on_disk(guarded: Server) -> None:
    assert_ok(create(guarded.stub, "emma", "unmistakable", **ROOT))
    assert_ok(update(guarded.stub, "root", "Milvus", "another-root", **ROOT))
    guarded.stop()
    stored = b"".join(p.read_bytes() for p in guarded.data_dir.rglob("catalog*"))
    assert b"emma" in stored
    assert b"unmistakable" not in stored
    guarded.start()
    enter(guarded.stub, "emma:unmistakable")
    with pytest.raises(grpc.RpcError):
        names(guarded.stub, **ROOT)
    root = as_user("root:another-root")
    assert_ok(update(guarded.stub, "root", "another-root", "Milvus", **root))
    assert_ok(drop(guarded.stub, "emma", **ROOT))
