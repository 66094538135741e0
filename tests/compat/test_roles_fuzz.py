"""Random users, roles and grants through the public doors, against a reference policy.

Users call with their passwords, or with API keys that are limited to some roles. The reference takes what a call needs
from Milvus's own declarations, and the rules from `test_access_rules`.
MILVINE_ROLE_REQUESTS sets the number of requests, MILVINE_ROLE_SEED repeats a run.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import Server
from grpc_calls import assert_ok
from key_calls import ask, make_key
from pymilvus.grpc_gen import milvus_pb2
from role_calls import (
    METHODS,
    PASSWORD,
    ROOT,
    WITH_AUTHORIZATION,
    bind,
    by_token,
    create_role,
    create_user,
    denial,
    grant,
    grant_v1,
    need_of,
)

from milvine.model.access_rules import PUBLIC, AccessRules, Grant
from milvine.model.privileges import BUILT_IN_GROUPS, LEVELS, NAMES, object_type

sys.path.append(str(Path(__file__).parents[1] / "model"))
from test_access_rules import reference

REQUESTS = int(os.environ.get("MILVINE_ROLE_REQUESTS", "800"))
USERS, ROLES, COLLECTIONS, DATABASES = ["ann", "bob", "carl"], ["r1", "r2", "r3"], ["c1", "c2"], ["default", "other"]
READS = [
    "BatchDescribeCollection",
    "DescribeAlias",
    "DescribeDatabase",
    "DescribeIndex",
    "DescribeResourceGroup",
    "Flush",
    "GetCollectionStatistics",
    "GetFlushState",
    "GetLoadState",
    "GetLoadingProgress",
    "GetPartitionStatistics",
    "HasPartition",
    "ListAliases",
    "ListCredUsers",
    "ListFileResources",
    "ListPrivilegeGroups",
    "ListResourceGroups",
    "ManualCompaction",
    "SelectGrant",
    "SelectRole",
    "SelectUser",
    "ShowPartitions",
    "Insert",
    "Delete",
    "Upsert",
    "Query",
    "LoadCollection",
    "ReleaseCollection",
]
ROUTES = {
    "collections/get_stats": "GetCollectionStatistics",
    "collections/flush": "Flush",
    "collections/load": "LoadCollection",
    "collections/get_load_state": "GetLoadState",
    "entities/query": "Query",
    "partitions/list": "ShowPartitions",
    "users/list": "ListCredUsers",
    "users/describe": "SelectUser",
    "roles/list": "SelectRole",
    "file_resources/list": "ListFileResources",
    "resource_groups/list": "ListResourceGroups",
}
"""Routes and the RPCs they stand for."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("fuzz"), env=WITH_AUTHORIZATION).running() as server:
        stub = server.stub
        assert_ok(stub.CreateDatabase(milvus_pb2.CreateDatabaseRequest(db_name="other"), **ROOT))
        for database in DATABASES:
            for name in COLLECTIONS:
                body: Any = {"dbName": database, "collectionName": name, "dimension": 2}
                headers = {"Authorization": "Bearer root:Milvus"}
                url = f"{server.uri}/v2/vectordb/collections/create"
                assert requests.post(url, json=body, headers=headers, timeout=30).json()["code"] == 0
        for user in USERS:
            create_user(stub, user)
        for role in ROLES:
            assert_ok(create_role(stub, role))
        yield server


class World:
    """The server's rules and the reference's, changed together."""

    def __init__(self, server: Server, chance: random.Random) -> None:
        self.server = server
        self.chance = chance
        self.held: dict[str, set[str]] = {user: set() for user in USERS}
        self.grants: dict[Grant, str] = {
            Grant(PUBLIC, "Global", "*", "*", "DescribeCollection"): "root",
            Grant(PUBLIC, "Global", "*", "*", "ListAliases"): "root",
            Grant(PUBLIC, "Collection", "*", "*", "IndexDetail"): "root",
        }

        self.keys: dict[str, tuple[str, set[str]]] = {}
        """The key of each user who has one, and the roles it is limited to."""

    def rules(self, user: str, limits: set[str] | None) -> AccessRules:
        """`limits`: the roles of the key by which the user calls."""
        held = self.held[user] if limits is None else self.held[user] & limits
        return AccessRules(roles_of={user: frozenset(held)}, grants=self.grants)

    def change_key(self) -> None:
        user = self.chance.choice(USERS)
        if self.keys.pop(user, None):
            assert ask(self.server.uri, "drop", {"userName": user, "keyName": "k"})["code"] == 0
        held = sorted(self.held[user])
        if held:
            limits = self.chance.sample(held, self.chance.randint(1, len(held)))
            self.keys[user] = make_key(self.server.uri, user, roles=limits), set(limits)

    def change(self) -> None:
        chance, stub = self.chance, self.server.stub
        role, removes = chance.choice(ROLES), chance.random() < 0.4
        if chance.random() < 0.2:
            self.change_key()
            return
        if chance.random() < 0.3:
            user = chance.choice(USERS)
            assert_ok(bind(stub, user, role, remove=removes))
            (self.held[user].discard if removes else self.held[user].add)(role)
            return
        privilege = chance.choice(sorted(NAMES))
        name, database = chance.choice([*COLLECTIONS, "*"]), chance.choice([*DATABASES, "*"])
        kind = object_type(privilege)
        level = LEVELS.get(BUILT_IN_GROUPS.get(privilege, ("",))[0])
        if level == "Cluster":
            name = database = "*"
        elif level == "Database" or kind == "Global":
            name = "*"
        if privilege not in BUILT_IN_GROUPS and privilege != "Expr" and chance.random() < 0.5:
            assert_ok(grant_v1(stub, role, kind, privilege, name, database, revoke=removes))
        elif level == "Collection" and database == "*" and name != "*":
            return
        else:
            assert_ok(grant(stub, role, privilege, name, database, revoke=removes))
        related = {"Load": ["GetLoadState", "GetLoadingProgress"], "Flush": ["GetFlushState"]}.get(privilege, [])
        for one in [privilege, *related]:
            key = Grant(role, kind, name, database, one)
            if removes:
                self.grants.pop(key, None)
            else:
                self.grants[key] = "root"

    def expects_denial(
        self, user: str, method: str, database: str, names: list[str], role: str, limits: set[str] | None
    ) -> bool:
        need = need_of(method)
        assert need is not None
        if need.object_type == "User" and names == [user] and limits is None:
            return False
        rules = self.rules(user, limits)
        if method == "SelectGrant" and (role == PUBLIC or role in rules.roles_of[user]):
            return False
        places = ["*", "default"] if LEVELS.get(need.privilege) == "Cluster" else [database]
        return not all(any(reference(rules, user, need.privilege, place, name) for place in places) for name in names)

    def request(self) -> None:
        chance = self.chance
        user, database = chance.choice(USERS), chance.choice(DATABASES)
        token, limits = f"{user}:{PASSWORD}", None
        if user in self.keys and chance.random() < 0.5:
            token, limits = self.keys[user]
        if chance.random() < 0.25:
            self._rest_request(user, database, token, limits)
            return
        method, role = chance.choice(READS), chance.choice([*ROLES, "admin", PUBLIC])
        need = need_of(method)
        assert need is not None
        request = getattr(milvus_pb2, METHODS[method].input_type.name)()
        names = ["*"]
        if need.name_field:
            names = chance.sample(COLLECTIONS, chance.choice([1, 2])) if need.is_list else [chance.choice(COLLECTIONS)]
            if need.object_type == "User":
                names = [chance.choice(USERS)]
                request.user.name = names[0]
            elif need.is_list:
                getattr(request, need.name_field).extend(names)
            else:
                setattr(request, need.name_field, names[0])
        if method == "SelectGrant":
            request.entity.role.name = role
        elif method == "BatchDescribeCollection":
            request.collection_name.append("c1")
        said = denial(getattr(self.server.stub, method), request, **by_token(token, database))
        wanted = self.expects_denial(user, method, database, names, role, limits)
        assert bool(said) is wanted, (method, user, database, names, role, limits, said, self.held, self.grants)

    def _rest_request(self, user: str, database: str, token: str, limits: set[str] | None) -> None:
        path = self.chance.choice(sorted(ROUTES))
        method, name, other = ROUTES[path], self.chance.choice(COLLECTIONS), self.chance.choice(USERS)
        body: dict[str, Any] = {"dbName": database, "collectionName": name, "userName": other, "filter": "id >= 0"}
        url, headers = f"{self.server.uri}/v2/vectordb/{path}", {"Authorization": f"Bearer {token}"}
        answer = requests.post(url, json=body, headers=headers, timeout=30)
        need = need_of(method)
        assert need is not None
        names = {"User": [other], "Collection": [name]}.get(need.object_type, ["*"])
        wanted = self.expects_denial(user, method, database, names, "", limits)
        assert (answer.status_code == 403) is wanted, (path, user, body, limits, answer.text, self.held, self.grants)


def test_no_request_is_decided_otherwise_than_by_the_reference(guarded: Server) -> None:
    seed = int(os.environ.get("MILVINE_ROLE_SEED", random.randrange(1 << 30)))
    print(f"MILVINE_ROLE_SEED={seed}")  # noqa: T201
    world = World(guarded, random.Random(seed))
    for _ in range(REQUESTS):
        if world.chance.random() < 0.1:
            world.change()
        world.request()
