"""Rows AU: authentication."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from conftest import Server
from grpc_calls import assert_ok
from pymilvus.grpc_gen import milvus_pb2

_METADATA = tuple[tuple[str, str], ...]


def _as(user: str, password: str) -> _METADATA:
    return (("authorization", base64.b64encode(f"{user}:{password}".encode()).decode()),)


ROOT = _as("root", "Milvus")
PASSWORD = "Passw0rd!"
_LOAD = milvus_pb2.LoadCollectionRequest(collection_name="c")
_STATE = milvus_pb2.GetLoadStateRequest(collection_name="c")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The stub of a server with authentication."""
    environment = {"MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "true"}
    with Server(tmp_path_factory.mktemp("guarded"), env=environment).running() as server:
        yield server.stub


def _role(name: str) -> Any:
    return milvus_pb2.CreateRoleRequest(entity=milvus_pb2.RoleEntity(name=name))


def _user_in_role(stub: Any, name: str) -> None:
    """A user of the role's name."""
    password = base64.b64encode(PASSWORD.encode()).decode()
    user = milvus_pb2.CreateCredentialRequest(username=name, password=password)
    assert_ok(stub.CreateCredential(user, metadata=ROOT))
    member = milvus_pb2.OperateUserRoleRequest(username=name, role_name=name)
    assert_ok(stub.OperateUserRole(member, metadata=ROOT))


def test_au_01_a_user_without_the_privilege_may_not_load(guarded: Any) -> None:
    assert_ok(guarded.CreateRole(_role("nothing"), metadata=ROOT))
    _user_in_role(guarded, "nothing")
    with pytest.raises(grpc.RpcError) as refused:
        guarded.LoadCollection(_LOAD, metadata=_as("nothing", PASSWORD))
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert refused.value.details() == "PrivilegeLoad: permission deny to nothing in the `default` database"


def test_au_02_the_privilege_to_load_implies_the_one_to_see_the_state(guarded: Any) -> None:
    assert_ok(guarded.CreateRole(_role("loader"), metadata=ROOT))
    _user_in_role(guarded, "loader")
    granted = milvus_pb2.OperatePrivilegeV2Request(
        role=milvus_pb2.RoleEntity(name="loader"),
        grantor=milvus_pb2.GrantorEntity(privilege=milvus_pb2.PrivilegeEntity(name="Load")),
        db_name="*",
        collection_name="*",
    )
    assert_ok(guarded.OperatePrivilegeV2(granted, metadata=ROOT))
    assert_ok(guarded.GetLoadState(_STATE, metadata=_as("loader", PASSWORD)))


def test_au_03_a_wrong_password_is_unauthenticated_whatever_is_called(guarded: Any) -> None:
    def refuse(call: Any, request: Any, metadata: _METADATA, text: str) -> None:
        with pytest.raises(grpc.RpcError) as refused:
            call(request, metadata=metadata)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert refused.value.details() == text

    wrong = "auth check failure, please check username and password are correct"
    for call, request in (
        (guarded.LoadCollection, _LOAD),
        (guarded.GetLoadState, _STATE),
        (guarded.Connect, milvus_pb2.ConnectRequest()),
        (guarded.ListDatabases, milvus_pb2.ListDatabasesRequest()),
    ):
        refuse(call, request, _as("root", "wrong"), wrong)
        refuse(call, request, _as("nobody", "Milvus"), wrong)
    refuse(guarded.LoadCollection, _LOAD, (), "missing authorization in header")
    refuse(guarded.LoadCollection, _LOAD, (("authorization", "%%%"),), "invalid token format")
    assert_ok(guarded.GetLoadState(_STATE, metadata=ROOT))
