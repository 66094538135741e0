"""Calls of users, roles and grants, and Milvus's own declaration of what each RPC needs."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_calls import assert_ok
from pymilvus.grpc_gen import common_pb2, milvus_pb2

WITH_AUTHORIZATION = {"MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "true"}
PASSWORD = "secret1"
METHODS = milvus_pb2.DESCRIPTOR.services_by_name["MilvusService"].methods_by_name


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def as_user(name: str, password: str = PASSWORD, database: str = "") -> dict[str, Any]:
    return by_token(f"{name}:{password}", database)


def by_token(token: str, database: str = "") -> dict[str, Any]:
    """`token`: a user's name and password, or an API key."""
    metadata = [("authorization", encoded(token))]
    return {"metadata": [*metadata, ("dbname", database)] if database else metadata}


ROOT = as_user("root", "Milvus")


def create_user(stub: Any, name: str) -> None:
    assert_ok(
        stub.CreateCredential(milvus_pb2.CreateCredentialRequest(username=name, password=encoded(PASSWORD)), **ROOT)
    )


def drop_user(stub: Any, name: str) -> None:
    assert_ok(stub.DeleteCredential(milvus_pb2.DeleteCredentialRequest(username=name), **ROOT))


def create_role(stub: Any, name: str, description: str = "", **call: Any) -> Any:
    entity = milvus_pb2.RoleEntity(name=name, description=description)
    return stub.CreateRole(milvus_pb2.CreateRoleRequest(entity=entity), **(call or ROOT))


def drop_role(stub: Any, name: str, *, force: bool = False, **call: Any) -> Any:
    return stub.DropRole(milvus_pb2.DropRoleRequest(role_name=name, force_drop=force), **(call or ROOT))


def bind(stub: Any, user: str, role: str, *, remove: bool = False, **call: Any) -> Any:
    request = milvus_pb2.OperateUserRoleRequest(username=user, role_name=role, type=int(remove))
    return stub.OperateUserRole(request, **(call or ROOT))


def _grantor(privilege: str) -> Any:
    return milvus_pb2.GrantorEntity(privilege=milvus_pb2.PrivilegeEntity(name=privilege))


def grant(
    stub: Any,
    role: str,
    privilege: str,
    collection: str = "*",
    database: str = "*",
    *,
    revoke: bool = False,
    **call: Any,
) -> Any:
    request = milvus_pb2.OperatePrivilegeV2Request(
        role=milvus_pb2.RoleEntity(name=role),
        grantor=_grantor(privilege),
        type=int(revoke),
        db_name=database,
        collection_name=collection,
    )
    return stub.OperatePrivilegeV2(request, **(call or ROOT))


def grant_v1(
    stub: Any,
    role: str,
    kind: str,
    privilege: str,
    name: str = "*",
    database: str = "",
    *,
    revoke: bool = False,
    **call: Any,
) -> Any:
    entity = milvus_pb2.GrantEntity(
        role=milvus_pb2.RoleEntity(name=role),
        object=milvus_pb2.ObjectEntity(name=kind),
        object_name=name,
        grantor=_grantor(privilege),
        db_name=database,
    )
    return stub.OperatePrivilege(milvus_pb2.OperatePrivilegeRequest(entity=entity, type=int(revoke)), **(call or ROOT))


def grants(stub: Any, role: str, database: str = "*", **call: Any) -> Any:
    entity = milvus_pb2.GrantEntity(role=milvus_pb2.RoleEntity(name=role), db_name=database)
    return stub.SelectGrant(milvus_pb2.SelectGrantRequest(entity=entity), **(call or ROOT))


def roles_of(stub: Any, user: str, **call: Any) -> list[str] | None:
    """None if there is no such user."""
    request = milvus_pb2.SelectUserRequest(user=milvus_pb2.UserEntity(name=user), include_role_info=True)
    results = assert_ok(stub.SelectUser(request, **(call or ROOT))).results
    return [role.name for role in results[0].roles] if results else None


@dataclass(frozen=True)
class Need:
    """What Milvus's proto says that a request needs. `name_field`: the field that names the object, "" if there is
    none. `is_list`: it names several."""

    object_type: str
    privilege: str
    name_field: str = ""
    is_list: bool = False


def need_of(method: str) -> Need | None:
    """None if every user may make the call."""
    message = METHODS[method].input_type
    options = message.GetOptions()
    if not options.HasExtension(common_pb2.privilege_ext_obj):
        return None
    declared = options.Extensions[common_pb2.privilege_ext_obj]
    number = max(declared.object_name_index, declared.object_name_indexs)
    return Need(
        common_pb2.ObjectType.Name(declared.object_type),
        common_pb2.ObjectPrivilege.Name(declared.object_privilege).removeprefix("Privilege"),
        message.fields_by_number[number].name if number > 0 else "",
        declared.object_name_indexs > 0,
    )


def denial(call: Any, request: Any, **options: Any) -> str:
    """The text of gRPC's PERMISSION_DENIED, "" if the call is answered, well or with Milvus's own error."""
    try:
        call(request, **options)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED, error
        return str(error.details())
    return ""
