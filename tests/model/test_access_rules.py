"""What roles allow, against a slow reference written from Milvus's rules."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from milvine.model.access_rules import ADMIN, PUBLIC, Access, AccessRules, Grant
from milvine.model.privileges import BUILT_IN_GROUPS, FIRST_GROUPS, LEVELS, NAMES, PRIVILEGES, object_type

DATABASES, COLLECTIONS, USERS = ["default", "a", "b"], ["c1", "c2", "c3"], ["ann", "bob", "carl"]
ROLES = ["r1", "r2", "r3"]


def access_of(rules: AccessRules, user: str) -> Access:
    return rules.access_by(rules.held_by(user))


def reference(rules: AccessRules, user: str, privilege: str, database: str, name: str) -> bool:
    """Milvus's decision: policies of single privileges, compared one by one."""
    roles = {*rules.roles_of.get(user, ()), PUBLIC}
    if ADMIN in roles:
        return True
    return any(
        (place == "*" or place == database) and (on == "*" or on == name or object_type(privilege) == "Global")
        for role, granted, place, on in policies(rules)
        if role in roles and granted == privilege
    )


def policies(rules: AccessRules) -> Iterator[tuple[str, str, str, str]]:
    """(role, privilege, database, object) of each single privilege that the grants contain."""
    for grant in rules.grants:
        for privilege in single_privileges(rules, grant):
            everywhere = object_type(privilege) == "Global" or grant.privilege in ("All", "Admin")
            yield grant.role, privilege, grant.database, "*" if everywhere else grant.object_name


def single_privileges(rules: AccessRules, grant: Grant) -> list[str]:
    if grant.privilege == "All":
        return sorted(PRIVILEGES)
    if grant.privilege == "*":
        return [p for p in PRIVILEGES if object_type(p) == grant.object_type]
    for groups in (rules.groups, BUILT_IN_GROUPS, FIRST_GROUPS):
        if grant.privilege in groups:
            return list(groups[grant.privilege])
    return [grant.privilege]


def random_rules(chance: random.Random) -> AccessRules:
    levels = sorted(set(LEVELS.values()))
    groups = {}
    for name in ("g1", "g2"):
        level = chance.choice(levels)
        members = sorted(p for p in LEVELS if LEVELS[p] == level)
        groups[name] = tuple(chance.sample(members, chance.randrange(4)))
    names = sorted(NAMES)
    grants = {}
    for _ in range(chance.randrange(12)):
        privilege = chance.choice([*names, "*", "All", "Admin", "ReadOnly", "Insert", "Search", "g1", "g2"])
        kind = chance.choice(["Global", "Collection", "User"]) if privilege == "*" else object_type(privilege)
        name = chance.choice([*(USERS if kind == "User" else COLLECTIONS), "*"])
        grants[Grant(chance.choice([*ROLES, PUBLIC]), kind, name, chance.choice([*DATABASES, "*"]), privilege)] = "root"
    held = {u: frozenset(chance.sample([*ROLES, PUBLIC], chance.randrange(3))) for u in USERS}
    if chance.random() < 0.1:
        held["carl"] = frozenset([ADMIN])
    return AccessRules(dict.fromkeys([*ROLES, ADMIN, PUBLIC], ""), held, grants, groups)


@pytest.mark.parametrize("seed", range(20))
def test_decisions_are_those_of_the_reference(seed: int) -> None:
    chance = random.Random(seed)
    privileges = sorted(PRIVILEGES)
    outcomes = set()
    for _ in range(50):
        rules = random_rules(chance)
        for _ in range(40):
            user, privilege = chance.choice(USERS), chance.choice(privileges)
            database = chance.choice([*DATABASES, "*"])
            name = chance.choice(USERS if object_type(privilege) == "User" else COLLECTIONS)
            wanted = reference(rules, user, privilege, database, name)
            assert access_of(rules, user).allows(privilege, database, name) is wanted, (rules, user, privilege)
            outcomes.add(wanted)
    assert outcomes == {True, False}


def test_what_is_seen_is_what_roles_other_than_public_grant_on() -> None:
    rules = AccessRules(
        roles_of={"ann": frozenset({"r1"}), "bob": frozenset({"r2"}), "carl": frozenset({ADMIN})},
        grants={
            Grant(PUBLIC, "Collection", "*", "*", "IndexDetail"): "root",
            Grant("r1", "Collection", "c1", "a", "Insert"): "root",
            Grant("r1", "Global", "c2", "a", "CollectionReadOnly"): "root",
            Grant("r1", "Global", "*", "b", "CreateCollection"): "root",
            Grant("r2", "Global", "*", "a", "All"): "root",
        },
    )
    seen = {u: [(d, c) for d in DATABASES for c in COLLECTIONS if access_of(rules, u).sees(d, c)] for u in USERS}
    assert seen["ann"] == [("a", "c1"), ("a", "c2")]
    assert seen["bob"] == [("a", "c1"), ("a", "c2"), ("a", "c3")]
    assert len(seen["carl"]) == 9
    databases = {u: [d for d in DATABASES if access_of(rules, u).sees_database(d)] for u in USERS}
    assert databases == {"ann": ["a", "b"], "bob": ["a"], "carl": DATABASES}


def test_privileges_are_milvus_s() -> None:
    from pymilvus.grpc_gen import common_pb2

    names = set()
    for name, _ in common_pb2.ObjectPrivilege.items():
        prefix = "PrivilegeGroup" if name.startswith("PrivilegeGroup") else "Privilege"
        names.add(name.removeprefix(prefix))
    assert names == NAMES - {"Expr"}
