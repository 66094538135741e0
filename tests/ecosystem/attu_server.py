"""Calls every route of a running Attu server that its pages use, with a Milvine behind it, and checks each answer.

usage: attu_server.py ATTU_URL MILVINE_ADDRESS, such as http://localhost:3000 localhost:19530

Attu's server is in no registry. Version 2.5.12 from a clone of zilliztech/attu: `git archive v2.5.12 server | tar x`,
take electron out of `server/package.json`, `npm install`, `npx tsc`, `SERVER_PORT=3000 node dist/src/app.js`. Two
things are left out that this Attu cannot do with any server: copies of collections with a dynamic field, whose hidden
field it refuses, and the privileges of one role, which it asks for by a wrong name.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Any

NAME, COPY, RENAMED, ALIAS = "attu_rows", "attu_copy", "attu_renamed", "attu_alias"
DATABASE, USER, ROLE, GROUP = "attu_database", "attu_user", "attu_role", "attu_group"
ROWS = [
    {"id": i, "price": i * 1.5, "text": f"word{i} red fox", "tags": ["a"], "document": {"a": i}, "vector": [i, 1, 0, 0]}
    for i in range(50)
]
FIELDS = [
    {"name": "id", "data_type": "Int64", "is_primary_key": True},
    {"name": "price", "data_type": "Double", "nullable": True},
    {"name": "text", "data_type": "VarChar", "max_length": 500, "enable_analyzer": True},
    {"name": "tags", "data_type": "Array", "element_type": "VarChar", "max_capacity": 8, "max_length": 20},
    {"name": "document", "data_type": "JSON"},
    {"name": "vector", "data_type": "FloatVector", "dim": 4},
    {"name": "sparse", "data_type": "SparseFloatVector"},
]
BM25 = {"name": "bm25", "type": 1, "input_field_names": ["text"], "output_field_names": ["sparse"], "params": {}}
HNSW = {"index_type": "HNSW", "metric_type": "COSINE", "params": '{"M": 8, "efConstruction": 64}'}
NEAR = {"anns_field": "vector", "data": [1, 1, 0, 0], "params": {}}
LIKE = {"anns_field": "sparse", "data": "fox", "params": {}}
RRF = {"strategy": "rrf", "params": {"k": 60}}
Call = tuple[str, str, Any]


def index(field: str, params: dict[str, str], kind: str = "create") -> Call:
    body = {"type": kind, "collection_name": NAME, "field_name": field, "index_name": field, "extra_params": params}
    return "POST", "collections/index", body


def partition(kind: str) -> Call:
    return "POST", "partitions", {"collection_name": NAME, "partition_name": "p", "type": kind}


PART = {"collection_name": NAME, "partition_names": ["p"]}
CALLS: list[Call] = [
    ("GET", "milvus/version", None),
    ("GET", "milvus/metrics", None),
    ("GET", "databases", None),
    ("POST", "collections", {"collection_name": NAME, "autoID": False, "fields": FIELDS, "functions": [BM25]}),
    ("GET", "collections/names", None),
    ("GET", "collections?type=0", None),
    ("GET", f"collections/{NAME}/unformatted", None),
    index("vector", HNSW),
    index("sparse", {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "BM25"}),
    index("price", {"index_type": "INVERTED"}),
    ("GET", f"collections/index?collection_name={NAME}", None),
    ("PUT", f"collections/{NAME}/load", {}),
    ("POST", f"collections/{NAME}/insert", {"partition_name": "_default", "fields_data": ROWS}),
    ("POST", f"collections/{NAME}/upsert", {"partition_name": "_default", "fields_data": ROWS[:3]}),
    ("PUT", "milvus/flush", {"collection_names": [NAME]}),
    ("GET", f"collections/{NAME}", None),
    ("GET", f"collections/{NAME}/count", None),
    ("GET", f"collections/{NAME}/statistics", None),
    ("GET", "collections/statistics", None),
    ("GET", "collections?type=1", None),
    ("POST", "collections/details", {"collections": [NAME]}),
    ("POST", f"collections/{NAME}/query", {"expr": "price > 3", "output_fields": ["*"], "limit": 5, "offset": 0}),
    ("POST", f"collections/{NAME}/query", {"expr": "", "output_fields": ["count(*)"]}),
    ("POST", f"collections/{NAME}/search", {"data": [NEAR], "limit": 5, "output_fields": ["*"], "filter": "price > 1"}),
    ("POST", f"collections/{NAME}/search", {"data": [NEAR, LIKE], "limit": 5, "rerank": RRF}),
    ("PUT", f"collections/{NAME}/entities", {"expr": "id in [1, 2]", "partition_name": "_default"}),
    ("POST", f"collections/{NAME}/importSample", {"collection_name": NAME, "size": "20"}),
    partition("create"),
    ("GET", f"partitions?collection_name={NAME}", None),
    ("PUT", "partitions/load", PART),
    ("PUT", "partitions/release", PART),
    partition("delete"),
    ("GET", f"collections/{NAME}/psegments", None),
    ("GET", f"collections/{NAME}/qsegments", None),
    ("PUT", f"collections/{NAME}/compact", {}),
    ("POST", f"collections/{NAME}/alias", {"alias": ALIAS}),
    ("DELETE", f"collections/{NAME}/alias/{ALIAS}", None),
    ("PUT", f"collections/{NAME}/properties", {"properties": {"collection.ttl.seconds": "3600"}}),
    ("PUT", f"collections/{NAME}/empty", {}),
    ("PUT", f"collections/{NAME}/release", {}),
    ("PUT", f"collections/{NAME}/mmap", [{"field_name": "price", "mmap.enabled": True}]),
    index("price", {}, "delete"),
    ("POST", f"collections/{NAME}/duplicate", {"new_collection_name": COPY}),
    ("POST", f"collections/{COPY}", {"new_collection_name": RENAMED}),
    ("DELETE", f"collections/{RENAMED}", None),
    ("DELETE", f"collections/{NAME}", None),
    ("POST", "databases", {"db_name": DATABASE}),
    ("GET", f"databases/{DATABASE}", None),
    ("PUT", f"databases/{DATABASE}/properties", {"properties": {"database.replica.number": "1"}}),
    ("POST", "milvus/usedb", {"database": DATABASE}),
    ("POST", "milvus/usedb", {"database": "default"}),
    ("DELETE", f"databases/{DATABASE}", None),
    ("POST", "users", {"username": USER, "password": "Passw0rd!"}),
    ("PUT", "users", {"username": USER, "oldPassword": "Passw0rd!", "newPassword": "Passw0rd2!"}),
    ("GET", "users", None),
    ("POST", "users/roles", {"roleName": ROLE}),
    ("PUT", f"users/{USER}/role/update", {"username": USER, "roles": [ROLE]}),
    ("GET", "users/rbac", None),
    ("GET", "users/privilegeGroups", None),
    (
        "PUT",
        f"users/roles/{ROLE}/updatePrivileges",
        {"privileges": {"default": {"collections": {"*": {"Search": True, "Query": True}}}}},
    ),
    ("GET", "users/roles", None),
    ("POST", "users/privilege-groups", {"group_name": GROUP, "privileges": ["Search", "Query"]}),
    ("GET", "users/privilege-groups", None),
    ("GET", f"users/privilege-groups/{GROUP}", None),
    ("PUT", f"users/privilege-groups/{GROUP}", {"privileges": ["Search", "Insert"]}),
    ("DELETE", f"users/privilege-groups/{GROUP}", None),
    ("PUT", f"users/{USER}/role/unassign", {"roleName": ROLE}),
    ("DELETE", f"users/{USER}", None),
    ("DELETE", f"users/roles/{ROLE}", {"force": True}),
    ("POST", "milvus/disconnect", {}),
]


def refusal(attu: str, call: Call) -> str:
    """What is wrong with an answer of Attu, or the status of Milvine in it; empty if nothing is."""
    method, path, body = call
    headers = {"Content-Type": "application/json", "milvus-client-id": "tour", "x-attu-database": "default"}
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{attu}/api/v1/{path}", content, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            text = response.read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"
    found = json.loads(text).get("data") if text.startswith("{") else None
    for status in (found, found.get("status")) if isinstance(found, dict) else ():
        if isinstance(status, dict) and status.get("error_code", "Success") != "Success":
            return str(status["reason"])
    return ""


def main() -> None:
    attu, address = sys.argv[1:]
    login = {"username": "root", "password": "Milvus", "database": "default", "checkHealth": True, "clientId": "tour"}
    connect: Call = ("POST", "milvus/connect", {"address": address, **login})
    refused = 0
    for call in (connect, *CALLS):
        reason = refusal(attu, call)
        refused += bool(reason)
        print("FAILED" if reason else "ok    ", call[0], call[1], reason[:300], flush=True)  # noqa: T201
    print(f"{len(CALLS) + 1 - refused} of {len(CALLS) + 1} calls")  # noqa: T201
    sys.exit(bool(refused))


if __name__ == "__main__":
    main()
