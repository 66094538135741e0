"""Databases: creating and refusing them, and that every call works in the database it names."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Server
from grpc_calls import (
    LOAD_STATE,
    STRONG,
    assert_ok,
    assert_refused,
    create_request,
    field,
    load_state,
    pairs,
    query_request,
    search_request,
    status_of,
)
from pymilvus import MilvusException
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from sample_collections import add_index, c1_rows, ids_of, make_c1

LOADED, NOT_LOAD, NOT_EXIST = (
    LOAD_STATE.Value(name) for name in ("LoadStateLoaded", "LoadStateNotLoad", "LoadStateNotExist")
)
MISSING = "no_such_database"
NOT_FOUND = f"database not found[database={MISSING}]"


def _create(stub: Any, name: str, **properties: object) -> Any:
    given = {k.replace("__", "."): v for k, v in properties.items()}
    return stub.CreateDatabase(milvus_pb2.CreateDatabaseRequest(db_name=name, properties=pairs(given)))


def _drop(stub: Any, name: str) -> Any:
    return stub.DropDatabase(milvus_pb2.DropDatabaseRequest(db_name=name))


def _describe(stub: Any, name: str) -> Any:
    return stub.DescribeDatabase(milvus_pb2.DescribeDatabaseRequest(db_name=name))


def _alter(stub: Any, name: str, properties: Any = (), delete_keys: Any = ()) -> Any:
    request = milvus_pb2.AlterDatabaseRequest(
        db_name=name, properties=pairs(dict(properties)), delete_keys=list(delete_keys)
    )
    return stub.AlterDatabase(request)


def _properties(stub: Any, name: str) -> dict[str, str]:
    return {p.key: p.value for p in assert_ok(_describe(stub, name)).properties}


def _names(stub: Any) -> list[str]:
    return list(assert_ok(stub.ListDatabases(milvus_pb2.ListDatabasesRequest())).db_names)


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """A new database, dropped afterwards with its collections."""
    name = f"db_{uuid.uuid4().hex[:12]}"
    assert_ok(_create(server.stub, name))
    yield name
    listed = server.stub.ShowCollections(milvus_pb2.ShowCollectionsRequest(db_name=name))
    for collection in listed.collection_names:
        request = milvus_pb2.DropCollectionRequest(db_name=name, collection_name=collection)
        assert_ok(server.stub.DropCollection(request))
    if name in _names(server.stub):
        assert_ok(_drop(server.stub, name))


def test_a_database_is_created_and_dropped(stub: Any, database: str) -> None:
    listed = assert_ok(stub.ListDatabases(milvus_pb2.ListDatabasesRequest()))
    place = list(listed.db_names).index(database)
    described = assert_ok(_describe(stub, database))
    assert (described.db_name, described.dbID) == (database, listed.db_ids[place])
    assert described.created_timestamp == listed.created_timestamp[place] > 0
    assert "default" in listed.db_names
    assert_ok(_drop(stub, database))
    assert database not in _names(stub)
    assert_refused(_describe(stub, database), 800, f"database not found[database={database}]")
    assert_ok(_drop(stub, database))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "database name couldn't be empty: invalid database name[database=]"),
        ("12-s", "the first character of a database name must be an underscore or letter: invalid database name"),
        ("a-b", "database name can only contain numbers, letters and underscores: invalid database name[database=a-b]"),
        ("a" * 256, "the length of a database name must be less than 255 characters: invalid database name"),
    ],
)
def test_invalid_database_names_are_refused(stub: Any, name: str, text: str) -> None:
    assert_refused(_create(stub, name), 802, text)
    assert_refused(_drop(stub, name), 802, text)


def test_a_database_name_is_used_once_and_the_default_database_cannot_be_dropped(stub: Any, database: str) -> None:
    assert_refused(_create(stub, database), 1100, f"database already exist: {database}: invalid parameter", legacy=5)
    assert_refused(_create(stub, "default"), 1100, "database already exist: default")
    assert_refused(_drop(stub, "default"), 1100, "can not drop default database")


def test_a_database_with_collections_is_not_dropped(server: Server, database: str) -> None:
    make_c1(server.client(db_name=database), "inside")
    text = f"database:{database} not empty, must drop all collections before drop database"
    assert_refused(_drop(server.stub, database), 1100, text)
    server.client(db_name=database).drop_collection("inside")
    assert_ok(_drop(server.stub, database))


def test_there_are_64_databases_besides_the_default_one(stub: Any) -> None:
    made: list[str] = []
    try:
        for i in range(70):
            answer = _create(stub, f"many_{i}")
            if answer.code:
                break
            made.append(f"many_{i}")
        assert_refused(answer, 801, "exceeded the limit number of database[limit=64]")
        assert len(_names(stub)) == 65
    finally:
        for name in made:
            assert_ok(_drop(stub, name))


def test_properties_are_set_merged_and_deleted(stub: Any) -> None:
    name = f"db_{uuid.uuid4().hex[:12]}"
    assert_ok(_create(stub, name, database__replica__number=1, mmap__enabled="true"))
    try:
        assert _properties(stub, name) == {"database.replica.number": "1", "mmap.enabled": "true"}
        assert_ok(_alter(stub, name, {"mmap.enabled": "false", "database.max.collections": "7"}))
        merged = {"database.replica.number": "1", "mmap.enabled": "false", "database.max.collections": "7"}
        assert _properties(stub, name) == merged
        assert_ok(_alter(stub, name, delete_keys=["mmap.enabled", "never.set"]))
        assert _properties(stub, name) == {"database.replica.number": "1", "database.max.collections": "7"}
    finally:
        assert_ok(_drop(stub, name))


@pytest.mark.parametrize(
    ("properties", "delete_keys", "code", "text"),
    [
        ({}, [], 1100, "alter database with empty properties and delete keys, expected to set either"),
        ({"a": "1"}, ["a"], 1100, "alter database cannot modify properties and delete keys at the same time"),
        ({"timezone": "Mars/Olympus"}, [], 1100, "unknown or invalid IANA Time Zone ID: Mars/Olympus"),
        ({"cipher.enabled": "true"}, [], 1100, "can not alter cipher related properties"),
        ({"database.resource_groups": "nope, more"}, [], 300, "resource group not found[rg=nope]"),
    ],
)
def test_an_invalid_alteration_changes_nothing(
    stub: Any, database: str, properties: dict[str, str], delete_keys: list[str], code: int, text: str
) -> None:
    assert_refused(_alter(stub, database, properties, delete_keys), code, text)
    assert _properties(stub, database) == {}


def test_altering_a_missing_database_is_800(stub: Any) -> None:
    assert_refused(_alter(stub, MISSING, {"a": "1"}), 800, f"failed to get database by name: {NOT_FOUND}")
    assert_refused(_alter(stub, "", {"a": "1"}), 1100, "alter database failed, database name does not exists")


def test_encryption_is_refused_with_a_message(stub: Any) -> None:
    assert_refused(_create(stub, "secret", cipher__enabled="true"), 65535, "cipher plugin is missing")
    assert_refused(_create(stub, "secret", cipher__enabled="maybe"), 1100, 'must be "true" or "false"')
    assert_refused(_create(stub, "secret", timezone="Nowhere"), 1100, "unknown or invalid IANA Time Zone ID: Nowhere")
    assert "secret" not in _names(stub)


@pytest.mark.one_process("it counts one node and one replica")
def test_load_defaults_of_the_collection_override_those_of_the_database(server: Server, database: str) -> None:
    stub, client = server.stub, server.client(db_name=database)
    make_c1(client, "c1")
    fields = [field("id", schema_pb2.Int64, primary=True), field("vec", schema_pb2.FloatVector, dim=4)]
    own = pairs({"collection.replica.number": 1, "collection.resource_groups": "no_such_group"})
    assert_ok(stub.CreateCollection(create_request("own", fields, db_name=database, properties=own)))
    add_index(client, "own", "vec")
    assert_ok(_alter(stub, database, {"database.replica.number": "2"}))

    def load(name: str, **others: Any) -> Any:
        return stub.LoadCollection(milvus_pb2.LoadCollectionRequest(db_name=database, collection_name=name, **others))

    assert_refused(load("own"), 300, "resource group not found[rg=no_such_group]")
    assert_refused(load("c1"), 12, "when load 2 replica count", retriable=True)
    assert_ok(load("own", resource_groups=["__default_resource_group"]))


def test_max_collections_is_a_limit_of_the_database(server: Server, database: str) -> None:
    assert_ok(_alter(server.stub, database, {"database.max.collections": "1"}))
    client = server.client(db_name=database)
    make_c1(client, "first", index=False)
    with pytest.raises(MilvusException) as caught:
        make_c1(client, "second", index=False)
    assert caught.value.code == 102
    assert caught.value.message == f"exceeded the limit number of collections[dbName={database}][limit=1]"
    assert_ok(_alter(server.stub, database, {"database.max.collections": "a lot"}))
    with pytest.raises(MilvusException, match="parse value of property fail"):
        make_c1(client, "second", index=False)


def test_load_defaults_of_the_database_apply_if_the_load_names_none(server: Server, database: str) -> None:
    stub, client = server.stub, server.client(db_name=database)
    make_c1(client, "c1")
    assert_ok(_alter(stub, database, {"database.replica.number": "3"}))
    load = milvus_pb2.LoadCollectionRequest(db_name=database, collection_name="c1")
    assert_refused(stub.LoadCollection(load), 12, "when load 3 replica count", retriable=True)
    load.replica_number = 1
    assert_ok(stub.LoadCollection(load))


@pytest.mark.parametrize(
    ("key", "reason", "denied", "allowed"),
    [
        ("writing", "writing", ["Insert", "Upsert", "Delete"], ["Query", "LoadCollection", "Flush"]),
        ("reading", "reading", ["Search", "Query"], ["Insert", "Flush"]),
        ("collectionDDL", "DDL", ["CreateCollection", "LoadCollection", "ReleaseCollection"], ["Query", "Flush"]),
        ("index", "DDL", ["CreateIndex", "DropIndex"], ["LoadCollection", "Flush"]),
        ("flush", "DDL", ["Flush"], ["LoadCollection", "ManualCompaction"]),
        ("compaction", "DDL", ["ManualCompaction"], ["Flush"]),
        ("ddl", "DDL", ["DropCollection", "CreateIndex", "Flush", "ManualCompaction"], ["Query", "DescribeIndex"]),
    ],
)
def test_properties_deny_kinds_of_calls_until_they_are_deleted(
    server: Server, database: str, key: str, reason: str, denied: list[str], allowed: list[str]
) -> None:
    stub, metadata, requests = server.stub, (("dbname", database),), dict(_requests())
    requests["DropCollection"] = milvus_pb2.DropCollectionRequest(collection_name="c1")
    make_c1(server.client(db_name=database), "c1", load=True)
    assert_ok(_alter(stub, database, {f"database.force.deny.{key}": "true"}))
    text = f"access has been disabled by the administrator: force deny {reason} in database properties"
    for method in denied:
        answer = getattr(stub, method)(requests[method], metadata=metadata)
        assert_refused(answer, 9, f"quota exceeded[reason={text}]", legacy=48)
    for method in allowed:
        assert status_of(getattr(stub, method)(requests[method], metadata=metadata)).code != 9
    assert_ok(_alter(stub, database, delete_keys=[f"database.force.deny.{key}"]))
    for method in denied:
        assert status_of(getattr(stub, method)(requests[method], metadata=metadata)).code != 9


def test_one_name_in_two_databases_is_two_collections(server: Server, database: str, collection_name: str) -> None:
    """LS-24"""
    here, there = server.client(), server.client(db_name=database)
    for client, first in ((here, 0), (there, 100)):
        make_c1(client, collection_name)
        client.insert(collection_name, c1_rows(3, first=first))
    there.load_collection(collection_name)
    assert load_state(server.stub, collection_name) == NOT_LOAD
    assert load_state(server.stub, collection_name, db_name=database) == LOADED
    assert ids_of(there, collection_name, "id >= 0") == [100, 101, 102]
    here.drop_collection(collection_name)
    assert ids_of(there, collection_name, "id >= 0") == [100, 101, 102]
    describe = milvus_pb2.DescribeCollectionRequest(db_name=database, collection_name=collection_name)
    assert assert_ok(server.stub.DescribeCollection(describe)).db_name == database


def test_the_load_state_in_a_missing_database_is_not_exist(stub: Any) -> None:
    """LS-09"""
    assert load_state(stub, "c1", db_name=MISSING) == NOT_EXIST


def _requests() -> list[tuple[str, Any]]:
    m = milvus_pb2
    fields = [field("id", schema_pb2.Int64, primary=True), field("vec", schema_pb2.FloatVector, dim=4)]
    named = {
        "DescribeCollection": m.DescribeCollectionRequest,
        "GetCollectionStatistics": m.GetCollectionStatisticsRequest,
        "GetLoadingProgress": m.GetLoadingProgressRequest,
        "GetReplicas": m.GetReplicasRequest,
        "HasCollection": m.HasCollectionRequest,
        "LoadCollection": m.LoadCollectionRequest,
        "ReleaseCollection": m.ReleaseCollectionRequest,
        "ManualCompaction": m.ManualCompactionRequest,
        "GetFlushState": m.GetFlushStateRequest,
        "Insert": m.InsertRequest,
        "Upsert": m.UpsertRequest,
        "Delete": m.DeleteRequest,
        "CreateIndex": m.CreateIndexRequest,
        "DescribeIndex": m.DescribeIndexRequest,
        "DropIndex": m.DropIndexRequest,
        "ListAliases": m.ListAliasesRequest,
    }
    groups = {"source_resource_group": "a", "target_resource_group": "b"}
    return [
        *((method, make(collection_name="c1")) for method, make in named.items()),
        ("Connect", m.ConnectRequest()),
        ("CreateCollection", create_request("c1", fields)),
        ("ShowCollections", m.ShowCollectionsRequest()),
        ("Flush", m.FlushRequest(collection_names=["c1"])),
        ("Search", search_request("c1", [[0.0] * 4])),
        ("Query", query_request("c1", "id >= 0")),
        ("GetPersistentSegmentInfo", m.GetPersistentSegmentInfoRequest(collectionName="c1")),
        ("GetQuerySegmentInfo", m.GetQuerySegmentInfoRequest(collectionName="c1")),
        ("CreateAlias", m.CreateAliasRequest(collection_name="c1", alias="al")),
        ("AlterAlias", m.AlterAliasRequest(collection_name="c1", alias="al")),
        ("DropAlias", m.DropAliasRequest(alias="al")),
        ("DescribeAlias", m.DescribeAliasRequest(alias="al")),
        ("RenameCollection", m.RenameCollectionRequest(oldName="c1", newName="c2")),
        ("TransferReplica", m.TransferReplicaRequest(collection_name="c1", num_replica=1, **groups)),
    ]


@pytest.mark.parametrize(("method", "request_"), _requests(), ids=[method for method, _ in _requests()])
def test_the_metadata_names_the_database_and_an_unknown_one_is_800(stub: Any, method: str, request_: Any) -> None:
    """LS-15"""
    answer = getattr(stub, method)(request_, metadata=(("dbname", MISSING),))
    assert_refused(answer, 800, NOT_FOUND)


def test_dropping_a_collection_in_a_missing_database_succeeds(stub: Any) -> None:
    assert_ok(stub.DropCollection(milvus_pb2.DropCollectionRequest(db_name=MISSING, collection_name="c1")))


@pytest.mark.parametrize("method", ["GetPersistentSegmentInfo", "GetQuerySegmentInfo"])
def test_the_database_of_the_request_overrides_the_metadata(stub: Any, database: str, method: str) -> None:
    kind = {"dbName": MISSING, "collectionName": "c1"}
    request = getattr(milvus_pb2, f"{method}Request")(**kind)
    assert_refused(getattr(stub, method)(request, metadata=(("dbname", database),)), 800, NOT_FOUND)
    describe = milvus_pb2.DescribeCollectionRequest(db_name=MISSING, collection_name="c1")
    assert_refused(stub.DescribeCollection(describe, metadata=(("dbname", database),)), 800, NOT_FOUND)


def test_metadata_selects_the_database_of_reads_and_writes(server: Server, database: str) -> None:
    stub, metadata = server.stub, (("dbname", database),)
    client = server.client(db_name=database)
    make_c1(client, "only_here", load=True)
    client.insert("only_here", c1_rows(2))
    answer = stub.Query(query_request("only_here", "id >= 0", ["id"]), metadata=metadata)
    assert list(assert_ok(answer).fields_data[0].scalars.long_data.data) == [0, 1]
    assert_refused(stub.Query(query_request("only_here", "id >= 0")), 100, "[database=default][collection=only_here]")
    request = query_request("only_here", "id >= 0")
    request.consistency_level, request.db_name = STRONG, database
    assert status_of(stub.Query(request)).code == 0


def test_a_client_of_a_missing_database_gets_an_error(server: Server) -> None:
    with pytest.raises(MilvusException) as caught:
        server.client(db_name=MISSING).list_collections()
    assert (caught.value.code, caught.value.message) == (800, NOT_FOUND)


def test_a_client_changes_its_database(server: Server, database: str) -> None:
    client = server.client()
    client.use_database(database)
    make_c1(client, "moved", index=False)
    assert client.list_collections() == ["moved"]
    client.use_database("default")
    assert "moved" not in client.list_collections()
    client.close()
