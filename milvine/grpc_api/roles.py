"""The RPCs of roles, privileges, and groups of privileges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milvine.errors import ParameterInvalid
from milvine.grpc_api import encode
from milvine.grpc_api.proto import milvus_pb2
from milvine.model.access_rules import AccessRules, Grant
from milvine.service import privileges, rbac_backup, roles
from milvine.service.context import Engine, RequestContext
from milvine.service.rbac_backup import Backup

_ADD_USER, _REMOVE_USER = 0, 1
_GRANT, _REVOKE = 0, 1
_ADD_PRIVILEGES, _REMOVE_PRIVILEGES = 0, 1


def create_role(engine: Engine, context: RequestContext, request: Any) -> Any:
    roles.create_role(engine, context, request.entity.name, request.entity.description)
    return encode.status()


def alter_role(engine: Engine, context: RequestContext, request: Any) -> Any:
    roles.alter_role(engine, context, request.role_name, request.description)
    return encode.status()


def drop_role(engine: Engine, context: RequestContext, request: Any) -> Any:
    roles.drop_role(engine, context, request.role_name, force=request.force_drop)
    return encode.status()


def operate_user_role(engine: Engine, context: RequestContext, request: Any) -> Any:
    if request.type == _ADD_USER:
        roles.add_user_to_role(engine, context, request.username, request.role_name)
    elif request.type == _REMOVE_USER:
        roles.remove_user_from_role(engine, context, request.username, request.role_name)
    else:
        raise ParameterInvalid("invalid operate user role type")
    return encode.status()


def select_role(engine: Engine, context: RequestContext, request: Any) -> Any:
    found = roles.list_roles(engine, context, request.role.name if request.HasField("role") else None)
    response = milvus_pb2.SelectRoleResponse(status=encode.status())
    for described in found:
        result = response.results.add()
        result.role.name, result.role.description = described.name, described.description
        if request.include_user_info:
            result.users.extend(milvus_pb2.UserEntity(name=name) for name in described.users)
    return response


def select_user(engine: Engine, context: RequestContext, request: Any) -> Any:
    if request.HasField("user"):
        found = roles.list_users_with_roles(engine, context, request.user.name)
    else:
        found = roles.list_users_with_roles(engine, context)
    response = milvus_pb2.SelectUserResponse(status=encode.status())
    for described in found:
        result = response.results.add()
        result.user.name, result.description = described.name, described.description
        if request.include_role_info:
            result.roles.extend(milvus_pb2.RoleEntity(name=name) for name in described.roles)
    return response


def operate_privilege(engine: Engine, context: RequestContext, request: Any) -> Any:
    entity = request.entity
    if not request.HasField("entity"):
        raise ParameterInvalid("the entity in the request is nil")
    if not entity.HasField("grantor"):
        raise ParameterInvalid("the grantor entity in the grant entity is nil")
    if not entity.grantor.HasField("privilege"):
        raise ParameterInvalid("the privilege entity in the grantor entity is nil")
    if not entity.HasField("object"):
        raise ParameterInvalid("the resource entity in the grant entity is nil")
    if not entity.HasField("role"):
        raise ParameterInvalid("the object entity in the grant entity is nil")
    _check_operation(request.type)
    if request.version == "v2":
        privilege = entity.grantor.privilege.name
        database, collection = entity.db_name, entity.object_name
        revoke = request.type == _REVOKE
        privileges.grant_privilege(engine, context, entity.role.name, privilege, database, collection, revoke=revoke)
    else:
        privileges.grant_on_object(engine, context, _decode_grant(entity), revoke=request.type == _REVOKE)
    return encode.status()


def _check_operation(operation: int) -> None:
    if operation not in (_GRANT, _REVOKE):
        raise ParameterInvalid("the type in the request not grant or revoke")


def _decode_grant(entity: Any) -> Grant:
    return Grant(
        entity.role.name, entity.object.name, entity.object_name, entity.db_name, entity.grantor.privilege.name
    )


def operate_privilege_v2(engine: Engine, context: RequestContext, request: Any) -> Any:
    if not request.HasField("role"):
        raise ParameterInvalid("the role in the request is nil")
    _check_operation(request.type)
    privileges.grant_privilege(
        engine,
        context,
        request.role.name,
        request.grantor.privilege.name,
        request.db_name,
        request.collection_name,
        revoke=request.type == _REVOKE,
    )
    return encode.status()


def _encode_grant(grant: Grant, grantor: str) -> Any:
    entity = milvus_pb2.GrantEntity(object_name=grant.object_name, db_name=grant.database)
    entity.role.name, entity.object.name = grant.role, grant.object_type
    entity.grantor.user.name, entity.grantor.privilege.name = grantor, grant.privilege
    return entity


def select_grant(engine: Engine, context: RequestContext, request: Any) -> Any:
    if not request.HasField("entity"):
        raise ParameterInvalid("the grant entity in the request is nil")
    entity = request.entity
    if not entity.HasField("role"):
        raise ParameterInvalid("the role entity in the grant entity is nil")
    kind = entity.object.name if entity.HasField("object") else None
    found = privileges.list_grants(engine, context, entity.role.name, entity.db_name, kind, entity.object_name)
    entities = [_encode_grant(described.grant, described.grantor) for described in found]
    return milvus_pb2.SelectGrantResponse(status=encode.status(), entities=entities)


def create_privilege_group(engine: Engine, context: RequestContext, request: Any) -> Any:
    privileges.create_privilege_group(engine, context, request.group_name)
    return encode.status()


def drop_privilege_group(engine: Engine, context: RequestContext, request: Any) -> Any:
    privileges.drop_privilege_group(engine, context, request.group_name)
    return encode.status()


def _encode_group(name: str, members: tuple[str, ...]) -> Any:
    entities = [milvus_pb2.PrivilegeEntity(name=member) for member in members]
    return milvus_pb2.PrivilegeGroupInfo(group_name=name, privileges=entities)


def list_privilege_groups(engine: Engine, context: RequestContext, request: Any) -> Any:
    found = privileges.list_privilege_groups(engine, context)
    groups = [_encode_group(name, members) for name, members in found.items()]
    return milvus_pb2.ListPrivilegeGroupsResponse(status=encode.status(), privilege_groups=groups)


def operate_privilege_group(engine: Engine, context: RequestContext, request: Any) -> Any:
    if request.type not in (_ADD_PRIVILEGES, _REMOVE_PRIVILEGES):
        raise ParameterInvalid("invalid operate privilege group type")
    names = tuple(privilege.name for privilege in request.privileges)
    remove = request.type == _REMOVE_PRIVILEGES
    privileges.change_privilege_group(engine, context, request.group_name, names, remove=remove)
    return encode.status()


def backup_rbac(engine: Engine, context: RequestContext, request: Any) -> Any:
    backup = rbac_backup.back_up(engine, context)
    rules = backup.rules
    response = milvus_pb2.BackupRBACMetaResponse(status=encode.status())
    meta = response.RBAC_meta
    for name, stored in backup.password_hashes.items():
        user = meta.users.add(user=name, password=stored)
        held = sorted(rules.held_by(name))
        user.roles.extend(milvus_pb2.RoleEntity(name=role, description=rules.roles.get(role, "")) for role in held)
    meta.roles.extend(milvus_pb2.RoleEntity(name=n, description=text) for n, text in rules.roles.items())
    meta.grants.extend(_encode_grant(grant, grantor) for grant, grantor in rules.grants.items())
    meta.privilege_groups.extend(_encode_group(name, members) for name, members in rules.groups.items())
    return response


def restore_rbac(engine: Engine, context: RequestContext, request: Any) -> Any:
    meta = request.RBAC_meta
    grants = {_decode_grant(entity): entity.grantor.user.name for entity in meta.grants}
    held = {user.user: frozenset(role.name for role in user.roles) for user in meta.users}
    rules = AccessRules(
        {role.name: role.description for role in meta.roles},
        {user: names for user, names in held.items() if names},
        {(g if g.database else g._replace(database="default")): by for g, by in grants.items()},
        {group.group_name: tuple(p.name for p in group.privileges) for group in meta.privilege_groups},
    )
    rbac_backup.restore(engine, context, Backup({user.user: user.password for user in meta.users}, rules))
    return encode.status()


RPCS: dict[str, Callable[[Engine, RequestContext, Any], Any]] = {
    "AlterRole": alter_role,
    "BackupRBAC": backup_rbac,
    "CreatePrivilegeGroup": create_privilege_group,
    "CreateRole": create_role,
    "DropPrivilegeGroup": drop_privilege_group,
    "DropRole": drop_role,
    "ListPrivilegeGroups": list_privilege_groups,
    "OperatePrivilege": operate_privilege,
    "OperatePrivilegeGroup": operate_privilege_group,
    "OperatePrivilegeV2": operate_privilege_v2,
    "OperateUserRole": operate_user_role,
    "RestoreRBAC": restore_rbac,
    "SelectGrant": select_grant,
    "SelectRole": select_role,
    "SelectUser": select_user,
}
