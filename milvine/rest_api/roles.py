"""/v2/vectordb/roles/ and privilege_groups/, and the roles of users."""

from __future__ import annotations

from typing import Any

from milvine.model.access_rules import Grant
from milvine.rest_api.call import Call, Route
from milvine.service import privileges, roles


def _done() -> dict[str, Any]:
    return {"data": {}}


def _role(call: Call) -> str:
    return call.body.text("roleName")


def grant_role(call: Call) -> dict[str, Any]:
    roles.add_user_to_role(call.engine, call.context, call.body.text("userName"), _role(call))
    return _done()


def revoke_role(call: Call) -> dict[str, Any]:
    roles.remove_user_from_role(call.engine, call.context, call.body.text("userName"), _role(call))
    return _done()


def describe_user(call: Call) -> dict[str, Any]:
    """The names of the user's roles; none for an unknown user."""
    found = roles.list_users_with_roles(call.engine, call.context, call.body.text("userName"))
    names = [name for described in found for name in described.roles]
    return {"data": names, "description": found[0].description if found else ""}


def create_role(call: Call) -> dict[str, Any]:
    roles.create_role(call.engine, call.context, _role(call), call.body.text("description"))
    return _done()


def alter_role(call: Call) -> dict[str, Any]:
    roles.alter_role(call.engine, call.context, _role(call), call.body.text("description"))
    return _done()


def drop_role(call: Call) -> dict[str, Any]:
    roles.drop_role(call.engine, call.context, _role(call))
    return _done()


def list_roles(call: Call) -> dict[str, Any]:
    return {"data": [described.name for described in roles.list_roles(call.engine, call.context)]}


def describe_role(call: Call) -> dict[str, Any]:
    described = roles.list_roles(call.engine, call.context, _role(call))
    found = privileges.list_grants(call.engine, call.context, _role(call), call.context.database)
    data = [
        {
            "objectType": d.grant.object_type,
            "objectName": d.grant.object_name,
            "privilege": d.grant.privilege,
            "dbName": d.grant.database,
            "grantor": d.grantor,
        }
        for d in found
    ]
    return {"data": data, "description": described[0].description if described else ""}


def _operate(call: Call, *, revoke: bool) -> dict[str, Any]:
    body = call.body
    asked = Grant(
        _role(call), body.text("objectType"), body.text("objectName"), call.context.database, body.text("privilege")
    )
    privileges.grant_on_object(call.engine, call.context, asked, revoke=revoke)
    return _done()


def grant_on_object(call: Call) -> dict[str, Any]:
    return _operate(call, revoke=False)


def revoke_on_object(call: Call) -> dict[str, Any]:
    return _operate(call, revoke=True)


def _operate_v2(call: Call, *, revoke: bool) -> dict[str, Any]:
    privilege, database = call.body.text("privilege"), call.body.text("dbName")
    privileges.grant_privilege(call.engine, call.context, _role(call), privilege, database, call.name, revoke=revoke)
    return _done()


def grant_privilege(call: Call) -> dict[str, Any]:
    return _operate_v2(call, revoke=False)


def revoke_privilege(call: Call) -> dict[str, Any]:
    return _operate_v2(call, revoke=True)


def _group(call: Call) -> str:
    return call.body.text("privilegeGroupName")


def create_group(call: Call) -> dict[str, Any]:
    privileges.create_privilege_group(call.engine, call.context, _group(call))
    return _done()


def drop_group(call: Call) -> dict[str, Any]:
    privileges.drop_privilege_group(call.engine, call.context, _group(call))
    return _done()


def list_groups(call: Call) -> dict[str, Any]:
    found = privileges.list_privilege_groups(call.engine, call.context)
    groups = [{"privilegeGroupName": name, "privileges": ",".join(members)} for name, members in found.items()]
    return {"data": {"privilegeGroups": groups}}


def _change_group(call: Call, *, remove: bool) -> dict[str, Any]:
    names = call.body.texts("privileges")
    privileges.change_privilege_group(call.engine, call.context, _group(call), names, remove=remove)
    return _done()


def add_privileges(call: Call) -> dict[str, Any]:
    return _change_group(call, remove=False)


def remove_privileges(call: Call) -> dict[str, Any]:
    return _change_group(call, remove=True)


_MEMBER = ("userName", "roleName")
_FIRST = ("roleName", "objectType", "objectName", "privilege")
_SECOND = ("roleName", "privilege")
ROUTES: dict[str, Route] = {
    "privilege_groups/add_privileges_to_group": Route(add_privileges, "PrivilegeGroupReq", ("privilegeGroupName",)),
    "privilege_groups/create": Route(create_group, "PrivilegeGroupReq", ("privilegeGroupName",)),
    "privilege_groups/drop": Route(drop_group, "PrivilegeGroupReq", ("privilegeGroupName",)),
    "privilege_groups/list": Route(list_groups, "DatabaseReq", ()),
    "privilege_groups/remove_privileges_from_group": Route(
        remove_privileges, "PrivilegeGroupReq", ("privilegeGroupName",)
    ),
    "roles/alter": Route(alter_role, "RoleReq", ("roleName",)),
    "roles/create": Route(create_role, "RoleReq", ("roleName",)),
    "roles/describe": Route(describe_role, "RoleReq", ("roleName",)),
    "roles/drop": Route(drop_role, "RoleReq", ("roleName",)),
    "roles/grant_privilege": Route(grant_on_object, "GrantReq", _FIRST),
    "roles/grant_privilege_v2": Route(grant_privilege, "GrantV2Req", _SECOND),
    "roles/list": Route(list_roles, "DatabaseReq", ()),
    "roles/revoke_privilege": Route(revoke_on_object, "GrantReq", _FIRST),
    "roles/revoke_privilege_v2": Route(revoke_privilege, "GrantV2Req", _SECOND),
    "users/describe": Route(describe_user, "UserReq", ("userName",)),
    "users/grant_role": Route(grant_role, "UserRoleReq", _MEMBER),
    "users/revoke_role": Route(revoke_role, "UserRoleReq", _MEMBER),
}
