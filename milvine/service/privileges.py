"""Grants of privileges to roles, in both of Milvus's generations, and groups of privileges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from milvine.catalog import roles as changes
from milvine.errors import AccessChangeRefused, Failure, ParameterInvalid, PrivilegeGroupNameInvalid
from milvine.model.access_rules import AccessRules, Grant
from milvine.model.privileges import (
    ANY,
    BUILT_IN_GROUPS,
    CLUSTER_LEVEL,
    COLLECTION,
    COLLECTION_LEVEL,
    DATABASE_LEVEL,
    FIRST_GROUPS,
    GLOBAL,
    LEVELS,
    NAMES,
    OBJECT_TYPES,
    PRIVILEGES,
    RELATED,
    object_type,
)
from milvine.model.records import record
from milvine.model.schema_rules import check_database_name
from milvine.service.context import Engine, RequestContext
from milvine.service.gate import capability
from milvine.service.roles import check_name, check_role_name

_MAX_GROUP_NAME_BYTES = 255


@record
class GrantDescription:
    grant: Grant
    grantor: str


def _check_word(name: str, kind: str) -> None:
    if name != ANY:
        check_name(name, kind)


def _grantor(engine: Engine, context: RequestContext) -> str:
    """The user who grants. As in Milvus, a token has to name one even if no authorization is required."""
    user = context.user or context.claimed_user()
    if not user:
        raise ParameterInvalid("fail to get authorization from the md, authorization:[token]")
    return user


def _refused(detail: str) -> AccessChangeRefused:
    return AccessChangeRefused(Failure.OPERATE_PRIVILEGE, detail)


def _check_parties(engine: Engine, role: str, grantor: str) -> None:
    snapshot = engine.catalog.snapshot
    if role not in snapshot.access.roles:
        raise changes.role_not_found(Failure.OPERATE_PRIVILEGE).prefixed("failed to operate privilege common check")
    if grantor not in snapshot.users:
        raise _refused(f'failed to operate privilege common check: the grantor user "{grantor}" does not exist')


def _real_name(engine: Engine, database: str, name: str) -> str:
    """The collection's name for an alias, as grants store it."""
    snapshot = engine.catalog.snapshot
    alias = snapshot.aliases.get((database, name))
    return name if alias is None else snapshot.collections[alias.collection_id].name


def _related(grant: Grant) -> list[Grant]:
    return [grant, *(grant._replace(privilege=name) for name in RELATED.get(grant.privilege, ()))]


def _operate(engine: Engine, grant: Grant, grantor: str, *, revoke: bool) -> None:
    if revoke:
        changes.revoke(engine.catalog, _related(grant))
    else:
        changes.grant(engine.catalog, _related(grant), grantor)


@capability("ManageOwnership")
def grant_on_object(engine: Engine, context: RequestContext, asked: Grant, *, revoke: bool = False) -> None:
    """Grants or revokes a privilege on a type of object (the first generation)."""
    _check_word(asked.privilege, "Privilege")
    check_name(asked.object_type, "ObjectType")
    _check_word(asked.object_name, "object name")
    check_role_name(asked.role)
    grantor = _grantor(engine, context)
    database = asked.database or context.database
    name = _real_name(engine, database, asked.object_name) if asked.object_type == COLLECTION else asked.object_name
    if asked.object_type not in OBJECT_TYPES:
        raise _refused("failed to operate privilege common check: the object entity in the request is nil or invalid")
    _check_parties(engine, asked.role, grantor)
    _check_first_generation(engine.catalog.snapshot.access, asked.privilege, asked.object_type)
    if asked.object_type == GLOBAL and asked.privilege not in FIRST_GROUPS:
        name = ANY
    _operate(engine, asked._replace(object_name=name, database=database), grantor, revoke=revoke)


def _check_first_generation(rules: AccessRules, privilege: str, kind: str) -> None:
    if privilege == ANY:
        return
    if privilege in rules.groups:
        raise _refused(f"can not operate the custom privilege group [{privilege}]")
    if privilege in BUILT_IN_GROUPS:
        raise _refused(f"can not operate the built-in privilege group [{privilege}]")
    if privilege not in NAMES or object_type(privilege) != kind:
        raise _refused(f"not found the privilege name[{privilege}] in object[{kind}]")


@capability("ManageOwnership")
def grant_privilege(
    engine: Engine,
    context: RequestContext,
    role: str,
    privilege: str,
    database: str,
    collection: str,
    *,
    revoke: bool = False,
) -> None:
    """Grants or revokes a privilege or a group on a collection, a database or everything (the second generation)."""
    check_role_name(role)
    _check_word(privilege, "Privilege")
    if database and database != ANY:
        check_database_name(database)
    _check_word(collection, "collection name")
    grantor = _grantor(engine, context)
    name = _real_name(engine, database or context.database, collection)
    _check_parties(engine, role, grantor)
    rules = engine.catalog.snapshot.access
    if privilege != ANY and privilege not in rules.groups and privilege not in NAMES:
        raise _refused(f"not found the privilege name[{privilege}]")
    _check_level(rules, privilege, database or context.database, name)
    grant = Grant(role, object_type(privilege), name, database or context.database, privilege)
    _operate(engine, grant, grantor, revoke=revoke)


def _check_level(rules: AccessRules, group: str, database: str, collection: str) -> None:
    """Refuses a group on objects of another level than its privileges have."""
    privileges = rules.groups.get(group) or BUILT_IN_GROUPS.get(group)
    if not privileges:
        return
    match LEVELS.get(privileges[0], ""):
        case level if level == CLUSTER_LEVEL:
            if (database, collection) != (ANY, ANY):
                raise _refused(f"dbName and collectionName should be * for the cluster level privilege: {group}")
        case level if level == DATABASE_LEVEL:
            if collection not in ("", ANY):
                raise _refused(f"collectionName should be * for the database level privilege: {group}")
        case level if level == COLLECTION_LEVEL:
            if database == ANY and collection not in ("", ANY):
                raise _refused(f"please specify database name for the collection level privilege: {group}")
        case _:
            raise _refused("not found the privilege level")


@capability("SelectOwnership", for_members_of="role")
def list_grants(
    engine: Engine,
    context: RequestContext,
    role: str,
    database: str = "",
    object_type: str | None = None,
    object_name: str = "",
) -> list[GrantDescription]:
    """The grants of a role in a database and in all databases, `*`: in any; on one object, if its type is given. In
    the order of Milvus's store: by type, database, name and privilege."""
    if object_type is not None:
        check_name(object_type, "ObjectType")
        _check_word(object_name, "object name")
    check_role_name(role)
    rules = engine.catalog.snapshot.access
    if role not in rules.roles:
        raise changes.role_not_found(Failure.SELECT_GRANT)
    if object_type is not None and object_type not in OBJECT_TYPES:
        raise AccessChangeRefused(
            Failure.SELECT_GRANT,
            f"not found the object type[name: {object_type}], supported the object types: [{' '.join(OBJECT_TYPES)}]",
        )
    database = database or context.database
    name = _real_name(engine, database, object_name) if object_type == COLLECTION else object_name
    found = [
        GrantDescription(grant, grantor)
        for grant, grantor in rules.grants_of(role)
        if (database == ANY or grant.database in (database, ANY))
        and (object_type is None or (grant.object_type, grant.object_name) == (object_type, name))
    ]
    return sorted(found, key=_place_in_store)


def _place_in_store(described: GrantDescription) -> tuple[str, str, str]:
    grant = described.grant
    stored = f"Privilege{grant.privilege}" if grant.privilege in PRIVILEGES else grant.privilege
    return grant.object_type, f"{grant.database}.{grant.object_name}", stored


def check_privilege_group_name(name: str) -> None:
    if not name:
        raise PrivilegeGroupNameInvalid("privilege group name should not be empty")
    if len(name.encode("utf-8", "surrogateescape")) > _MAX_GROUP_NAME_BYTES:
        text = "the length of a privilege group name %s must be less than %s characters"
        raise PrivilegeGroupNameInvalid(text, f"{name}->{_MAX_GROUP_NAME_BYTES}")
    if not (name[0] == "_" or (name[0].isascii() and name[0].isalpha())):
        text = "the first character of a privilege group name %s must be an underscore or letter"
        raise PrivilegeGroupNameInvalid(text, name)
    if not all(c == "_" or (c.isascii() and c.isalnum()) for c in name):
        raise ParameterInvalid(f"privilege group name {name} can only contain numbers, letters and underscores")


@capability("CreatePrivilegeGroup")
def create_privilege_group(engine: Engine, context: RequestContext, name: str) -> None:
    check_privilege_group_name(name)

    def made(rules: AccessRules) -> Iterable[str]:
        place = "failed to check if privilege group creatable"
        if name in rules.groups:
            raise AccessChangeRefused(
                Failure.CREATE_GROUP, f"{place}: privilege group name [{name}] is defined by users"
            )
        if name in NAMES:
            text = f"privilege group name [{name}] is defined by built in privileges or privilege groups in system"
            raise AccessChangeRefused(Failure.CREATE_GROUP, f"{place}: {text}")
        return ()

    changes.change_group(engine.catalog, name, made)


@capability("DropPrivilegeGroup")
def drop_privilege_group(engine: Engine, context: RequestContext, name: str) -> None:
    """No error if there is no such group. Refused while a role has it."""
    check_privilege_group_name(name)

    def dropped(rules: AccessRules) -> None:
        user = next((grant.role for grant in rules.grants if grant.privilege == name and name in rules.groups), None)
        if user is not None:
            raise AccessChangeRefused(
                Failure.DROP_GROUP,
                f"failed to check if privilege group dropable: privilege group [{name}] is used by role [{user}], "
                "Use REVOKE API to revoke it first",
            )

    changes.change_group(engine.catalog, name, dropped)


@capability("ListPrivilegeGroups")
def list_privilege_groups(engine: Engine, context: RequestContext) -> dict[str, tuple[str, ...]]:
    """Privileges by group: the users' groups and those that are built in."""
    groups = engine.catalog.snapshot.access.groups
    return {**{name: tuple(sorted(groups[name])) for name in sorted(groups)}, **BUILT_IN_GROUPS}


@capability("OperatePrivilegeGroup")
def change_privilege_group(
    engine: Engine, context: RequestContext, name: str, privileges: Sequence[str], *, remove: bool
) -> None:
    """Adds privileges to a group, or those of another group of users, or removes them."""
    check_privilege_group_name(name)
    for privilege in privileges:
        _check_word(privilege, "Privilege")

    def changed(rules: AccessRules) -> Iterable[str]:
        def refused(text: str) -> AccessChangeRefused:
            return AccessChangeRefused(Failure.OPERATE_GROUP, f"failed to check if privilege group alterable: {text}")

        if name not in rules.groups:
            raise refused(f"there is no privilege group name [{name}] defined in system to operate")
        if not privileges:
            raise refused("privileges is empty when alter the privilege group")
        for privilege in privileges:
            if privilege not in NAMES and privilege not in rules.groups:
                text = f"there is no privilege name or privilege group name [{privilege}] defined in system to operate"
                raise refused(text)
        before = rules.groups[name]
        if remove:
            return [p for p in before if p not in privileges]
        if len({LEVELS.get(p, "") for p in (*privileges, *before)}) > 1:
            raise refused("privileges are not the same privilege level")
        return (*before, *privileges)

    changes.change_group(engine.catalog, name, changed)
