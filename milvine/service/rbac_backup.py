"""All users, roles, grants and groups of privileges, as one unit to take out and to put back."""

from __future__ import annotations

from milvine.catalog import roles as changes
from milvine.catalog.contents import Snapshot
from milvine.errors import AccessChangeRefused, Failure
from milvine.model.access_rules import BUILT_IN_ROLES, AccessRules
from milvine.model.privileges import ANY, NAMES, OBJECT_TYPES, object_type
from milvine.model.records import record
from milvine.model.users import User
from milvine.service.context import ROOT, Engine, RequestContext
from milvine.service.gate import capability
from milvine.service.passwords import is_hash
from milvine.service.privileges import check_privilege_group_name
from milvine.service.roles import check_name, check_role_description, check_role_name
from milvine.service.users import check_user_name


@record
class Backup:
    """`password_hashes` by user; none has the password itself."""

    password_hashes: dict[str, str]
    rules: AccessRules


@capability("BackupRBAC")
def back_up(engine: Engine, context: RequestContext) -> Backup:
    """Everything except root and the roles that are built in."""
    snapshot = engine.catalog.snapshot
    rules = snapshot.access
    return Backup(
        {u.name: u.password_hash for u in snapshot.users.values() if u.name != ROOT},
        AccessRules(
            {name: text for name, text in rules.roles.items() if name not in BUILT_IN_ROLES},
            {user: held for user, held in rules.roles_of.items() if user != ROOT},
            {grant: by for grant, by in rules.grants.items() if grant.role not in BUILT_IN_ROLES},
            rules.groups,
        ),
    )


def _refused(detail: str) -> AccessChangeRefused:
    return AccessChangeRefused(Failure.OPERATE_PRIVILEGE, f"failed to check if rbac restorable: {detail}")


@capability("RestoreRBAC")
def restore(engine: Engine, context: RequestContext, backup: Backup) -> None:
    """Adds all of a backup, or nothing. Refused if any of it is there already."""
    rules = backup.rules
    for name, description in rules.roles.items():
        check_role_name(name)
        check_role_description(description)
    for name in rules.groups:
        check_privilege_group_name(name)
    for user, stored in backup.password_hashes.items():
        check_user_name(user)
        if not is_hash(stored):
            raise _refused(f"the password of the user [{user}] is not a hash that this server made")

    def check(snapshot: Snapshot) -> None:
        _check_restorable(snapshot, backup)

    now = engine.clock.next()
    users = [User(user, stored, now) for user, stored in backup.password_hashes.items()]
    changes.restore(engine.catalog, check, users, rules)


def _check_restorable(snapshot: Snapshot, backup: Backup) -> None:
    there, added = snapshot.access, backup.rules
    for name in added.roles:
        if name in there.roles:
            raise _refused(f"role [{name}] already exists")
    roles = there.roles.keys() | added.roles.keys()
    for name, privileges in added.groups.items():
        if name in there.groups or name in NAMES:
            raise _refused(f"privilege group [{name}] already exists")
        for privilege in privileges:
            if privilege not in NAMES:
                raise _refused(f"privilege [{privilege}] does not exist")
    groups = there.groups.keys() | added.groups.keys()
    for grant in added.grants:
        if grant.privilege != ANY and grant.privilege not in groups and grant.privilege not in NAMES:
            raise _refused(f"privilege [{grant.privilege}] does not exist")
        if grant.role not in roles:
            raise _refused(f"role [{grant.role}] does not exist")
        if grant.object_type not in OBJECT_TYPES or (
            grant.privilege != ANY and object_type(grant.privilege) != grant.object_type
        ):
            raise _refused(f"privilege [{grant.privilege}] does not exist in object [{grant.object_type}]")
        for name, kind in ((grant.object_name, "object name"), (grant.database, "database name")):
            if name != ANY:
                check_name(name, kind)
    for user in backup.password_hashes:
        if user in snapshot.users:
            raise _refused(f"user [{user}] already exists")
    for user, held in added.roles_of.items():
        for role in sorted(held - roles):
            raise _refused(f"role [{role}] does not exist")
        if user not in backup.password_hashes:
            raise _refused(f"user [{user}] does not exist")
