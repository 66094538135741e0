"""Aliases and renaming: a collection under all its names."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import Server, ServerFactory
from grpc_calls import LOAD_STATE, assert_ok, assert_refused, collection_id, create_request, field, load_state
from pymilvus import MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from sample_collections import add_index, c1_rows, ids_of, make_c1

LOADED, NOT_LOAD, NOT_EXIST = (
    LOAD_STATE.Value(name) for name in ("LoadStateLoaded", "LoadStateNotLoad", "LoadStateNotExist")
)


def _create(stub: Any, alias: str, name: str, **others: Any) -> Any:
    return stub.CreateAlias(milvus_pb2.CreateAliasRequest(alias=alias, collection_name=name, **others))


def _alter(stub: Any, alias: str, name: str) -> Any:
    return stub.AlterAlias(milvus_pb2.AlterAliasRequest(alias=alias, collection_name=name))


def _drop(stub: Any, alias: str) -> Any:
    return stub.DropAlias(milvus_pb2.DropAliasRequest(alias=alias))


def _describe(stub: Any, alias: str) -> Any:
    return stub.DescribeAlias(milvus_pb2.DescribeAliasRequest(alias=alias))


def _aliases(stub: Any, name: str = "") -> list[str]:
    return list(assert_ok(stub.ListAliases(milvus_pb2.ListAliasesRequest(collection_name=name))).aliases)


def _rename(stub: Any, name: str, new_name: str, **others: Any) -> Any:
    return stub.RenameCollection(milvus_pb2.RenameCollectionRequest(oldName=name, newName=new_name, **others))


def _drop_collection(stub: Any, name: str) -> Any:
    return stub.DropCollection(milvus_pb2.DropCollectionRequest(collection_name=name))


class Names:
    """Creates collections with unique names; all are dropped afterwards, their aliases first."""

    def __init__(self, stub: Any, client: MilvusClient) -> None:
        self.stub = stub
        self.client = client
        self._made: list[str] = []

    def new(self, kind: str = "c") -> str:
        name = f"{kind}_{uuid.uuid4().hex[:12]}"
        self._made.append(name)
        return name

    def collection(self, rows: int = 0, first: int = 0, *, load: bool = False) -> str:
        name = self.new()
        make_c1(self.client, name, load=load)
        if rows:
            self.client.insert(name, c1_rows(rows, first=first))
        return name

    def alias(self, name: str) -> str:
        alias = self.new("al")
        assert_ok(_create(self.stub, alias, name))
        return alias

    def clear(self) -> None:
        for name in self._made:
            _drop(self.stub, name)
        for name in self._made:
            assert_ok(_drop_collection(self.stub, name))


@pytest.fixture
def names(stub: Any, client: MilvusClient) -> Iterator[Names]:
    made = Names(stub, client)
    yield made
    made.clear()


def test_an_alias_is_created_altered_and_dropped(stub: Any, names: Names) -> None:
    one, other = names.collection(), names.collection()
    alias = names.alias(one)
    described = assert_ok(_describe(stub, alias))
    assert (described.db_name, described.alias, described.collection) == ("default", alias, one)
    second = names.alias(one)
    assert _aliases(stub, one) == sorted([alias, second])
    assert {alias, second} <= set(_aliases(stub))
    assert_ok(_alter(stub, alias, other))
    assert _describe(stub, alias).collection == other
    assert (_aliases(stub, one), _aliases(stub, other)) == ([second], [alias])
    assert_ok(_drop(stub, alias))
    assert_refused(_describe(stub, alias), 1600, f"alias not found[database=default][alias={alias}]")
    assert_ok(_drop(stub, alias))


def test_creating_an_alias_again_succeeds_and_for_another_collection_is_refused(stub: Any, names: Names) -> None:
    one, other = names.collection(), names.collection()
    alias = names.alias(one)
    assert_ok(_create(stub, alias, one))
    assert_ok(_alter(stub, alias, one))
    text = f"{alias} is alias to another collection: {one}: alias already exist[database=default][alias={alias}]"
    assert_refused(_create(stub, alias, other), 1602, text)
    assert _aliases(stub, other) == []


def test_an_alias_of_an_alias_belongs_to_the_collection(stub: Any, names: Names) -> None:
    one, other = names.collection(), names.collection()
    alias = names.alias(one)
    second = names.alias(alias)
    assert _describe(stub, second).collection == one
    assert_ok(_alter(stub, alias, other))
    assert _describe(stub, second).collection == one
    assert _aliases(stub, second) == [second]


def test_a_name_cannot_be_both_an_alias_and_a_collection(stub: Any, client: MilvusClient, names: Names) -> None:
    one, other = names.collection(), names.collection()
    alias = names.alias(one)
    conflict = "alias and collection name conflict[database=default][alias={}]"
    assert_refused(_create(stub, other, one), 1601, conflict.format(other))
    assert_refused(_alter(stub, other, one), 1601, conflict.format(other))
    with pytest.raises(MilvusException) as caught:
        make_c1(client, alias)
    assert caught.value.code == 1601
    assert caught.value.message == f"please choose a unique name: {conflict.format(alias)}"


def test_of_a_collection_and_an_alias_made_at_once_under_one_name_one_wins(stub: Any, names: Names) -> None:
    one = names.collection()
    fields = [field("id", schema_pb2.Int64, primary=True), field("vec", schema_pb2.FloatVector, dim=4)]
    for _ in range(10):
        name = names.new()
        start = threading.Barrier(2)

        def make(name: str = name, start: threading.Barrier = start) -> Any:
            start.wait(10)
            return stub.CreateCollection(create_request(name, fields))

        def call(name: str = name, start: threading.Barrier = start) -> Any:
            start.wait(10)
            return _create(stub, name, one)

        with ThreadPoolExecutor(2) as pool:
            codes = [future.result().code for future in (pool.submit(make), pool.submit(call))]
        assert sorted(codes) == [0, 1601]
        described = assert_ok(stub.DescribeCollection(milvus_pb2.DescribeCollectionRequest(collection_name=name)))
        assert described.schema.name == (name if codes[0] == 0 else one)


def test_aliases_of_missing_collections_are_refused(stub: Any, names: Names) -> None:
    one = names.collection()
    alias = names.alias(one)
    assert_refused(_create(stub, "al", "missing"), 100, "collection not found[database=default][collection=missing]")
    assert_refused(_alter(stub, alias, "missing"), 100, "collection not found[collection=missing]", legacy=4)
    assert_refused(_alter(stub, "no_alias", one), 1600, "alias not found[database=default][alias=no_alias]")
    missing = milvus_pb2.ListAliasesRequest(collection_name="missing")
    assert_refused(stub.ListAliases(missing), 100, "collection not found[collection=missing]")


@pytest.mark.parametrize(
    ("alias", "text"),
    [
        ("", "collection alias should not be empty: invalid parameter"),
        ("1a", "Invalid collection alias: 1a. the first character of a collection alias must be an underscore or"),
        ("a-b", "Invalid collection alias: a-b. collection alias can only contain numbers, letters and underscores"),
        ("a" * 256, "the length of a collection alias must be less than 255 characters: invalid parameter"),
    ],
)
def test_invalid_alias_names_are_refused(stub: Any, alias: str, text: str) -> None:
    for refused in (_create(stub, alias, "c1"), _alter(stub, alias, "c1"), _describe(stub, alias)):
        assert_refused(refused, 1100, text, legacy=5)
    assert_ok(_drop(stub, alias))


def test_an_alias_stands_wherever_a_collection_may(client: MilvusClient, stub: Any, names: Names) -> None:
    """LS-22"""
    name = names.collection(3)
    alias = names.alias(name)
    assert client.has_collection(alias)
    described = stub.DescribeCollection(milvus_pb2.DescribeCollectionRequest(collection_name=alias))
    assert (described.collection_name, described.schema.name, list(described.aliases)) == (alias, name, [alias])
    assert described.collectionID == collection_id(stub, name)
    client.load_collection(alias)
    assert load_state(stub, alias) == load_state(stub, name) == LOADED
    client.insert(alias, c1_rows(2, first=3))
    client.upsert(alias, c1_rows(1))
    client.delete(alias, ids=[4])
    assert ids_of(client, alias, "id >= 0") == ids_of(client, name, "id >= 0") == [0, 1, 2, 3]
    assert [hit["id"] for hit in client.search(alias, [[0.0] * 4], limit=2)[0]] == [0, 1]
    client.flush(alias)
    assert client.get_collection_stats(alias) == client.get_collection_stats(name)
    assert client.list_indexes(alias) == ["vec"]
    assert client.describe_index(alias, "vec")["field_name"] == "vec"
    assert len(client.describe_replica(alias)) == len(client.describe_replica(name)) > 0
    client.release_collection(alias)
    assert load_state(stub, name) == NOT_LOAD
    client.drop_index(alias, "vec")
    add_index(client, alias, "vec")
    assert client.list_indexes(name) == ["vec"]


def test_a_collection_with_aliases_cannot_be_dropped(stub: Any, names: Names) -> None:
    name = names.collection()
    alias = names.alias(name)
    text = f"cannot drop the collection via alias = {alias}: invalid parameter"
    assert_refused(_drop_collection(stub, alias), 1100, text)
    text = (
        f"unable to drop the collection [{name}] because it has associated aliases [{alias}], "
        "please remove all aliases before dropping the collection: invalid parameter"
    )
    assert_refused(_drop_collection(stub, name), 1100, text)
    assert load_state(stub, name) == NOT_LOAD
    assert_ok(_drop(stub, alias))
    assert_ok(_drop_collection(stub, name))


def test_reads_by_an_alias_follow_it(client: MilvusClient, stub: Any, names: Names) -> None:
    one, other = names.collection(2, load=True), names.collection(2, first=10, load=True)
    alias = names.alias(one)
    assert ids_of(client, alias, "id >= 0") == [0, 1]
    assert_ok(_alter(stub, alias, other))
    assert ids_of(client, alias, "id >= 0") == [10, 11]


def test_a_renamed_collection_keeps_its_data_and_its_state(client: MilvusClient, stub: Any, names: Names) -> None:
    """LS-23"""
    name, new_name = names.collection(3, load=True), names.new()
    alias, before = names.alias(name), collection_id(stub, name)
    assert_ok(_rename(stub, name, new_name))
    assert (load_state(stub, new_name), load_state(stub, name)) == (LOADED, NOT_EXIST)
    described = client.describe_collection(new_name)
    assert (described["collection_id"], described["aliases"]) == (before, [alias])
    assert ids_of(client, new_name, "id >= 0") == ids_of(client, alias, "id >= 0") == [0, 1, 2]
    assert _describe(stub, alias).collection == new_name
    make_c1(client, name)
    assert collection_id(stub, name) != before


@pytest.mark.parametrize(
    ("new_name", "text"),
    [
        ("", "collection name should not be empty"),
        ("1a", "Invalid collection name: 1a. the first character of a collection name must be an underscore or letter"),
        ("a" * 256, "the length of a collection name must be less than 255 characters"),
    ],
)
def test_invalid_new_names_are_refused(stub: Any, new_name: str, text: str) -> None:
    assert_refused(_rename(stub, "c1", new_name), 1100, text)


def test_renaming_from_and_to_names_that_are_taken_is_refused(stub: Any, names: Names) -> None:
    name, other = names.collection(), names.collection()
    alias = names.alias(other)
    text = f"duplicated new collection name default:{other} with other collection name or alias"
    assert_refused(_rename(stub, name, other), 1100, text)
    assert_refused(_rename(stub, name, alias), 1601, f"conflict[database=default][alias={alias}]")
    assert_refused(_rename(stub, alias, "fresh"), 1100, f"unsupported use an alias to rename collection, alias:{alias}")
    assert_refused(_rename(stub, name, name), 1100, "collection name or database name should be different")
    assert_refused(_rename(stub, "", "fresh"), 1100, "old collection name should not be empty")
    text = "collection not found[database=default][collection=missing]"
    assert_refused(_rename(stub, "missing", "fresh"), 100, text, legacy=4)
    assert_refused(_rename(stub, name, name, newDBName="missing"), 800, "database not found[database=missing]")


def test_a_collection_moves_to_another_database(server: Server, names: Names) -> None:
    stub, name = server.stub, names.collection(2, load=True)
    database = f"db_{uuid.uuid4().hex[:12]}"
    assert_ok(stub.CreateDatabase(milvus_pb2.CreateDatabaseRequest(db_name=database)))
    alias = names.alias(name)
    text = "fail to rename db name, must drop all aliases of this collection before rename"
    assert_refused(_rename(stub, name, name, newDBName=database), 1100, text)
    assert_ok(_drop(stub, alias))
    assert_ok(_rename(stub, name, name, newDBName=database))
    there = server.client(db_name=database)
    assert load_state(stub, name, db_name=database) == LOADED
    assert load_state(stub, name) == NOT_EXIST
    assert ids_of(there, name, "id >= 0") == [0, 1]
    assert_ok(_rename(stub, name, name, db_name=database, newDBName="default"))
    assert load_state(stub, name) == LOADED
    assert_ok(stub.DropDatabase(milvus_pb2.DropDatabaseRequest(db_name=database)))


def test_reads_continue_while_their_collection_is_renamed(client: MilvusClient, stub: Any, names: Names) -> None:
    name, new_name = names.collection(20, load=True), names.new()
    alias, done = names.alias(name), threading.Event()
    answers: list[int] = []
    failures: list[Exception] = []

    def read() -> None:
        try:
            while not done.is_set() or len(answers) < 5:
                answers.append(len(ids_of(client, alias, "id >= 0")))
        except Exception as error:  # noqa: BLE001 - the test's own thread tells it
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(10):
        assert_ok(_rename(stub, name, new_name))
        assert_ok(_rename(stub, new_name, name))
    done.set()
    reader.join(30)
    assert failures == []
    assert set(answers) == {20}


def test_one_call_describes_many_collections(stub: Any, names: Names) -> None:
    name = names.collection()
    alias = names.alias(name)
    request = milvus_pb2.BatchDescribeCollectionRequest(collection_name=[name, "missing", alias])
    found = assert_ok(stub.BatchDescribeCollection(request)).responses
    assert [r.collection_name for r in found] == [name, "missing", alias]
    assert found[0].collectionID == found[2].collectionID == collection_id(stub, name)
    assert_refused(found[1], 100, "can't find collection[database=default][collection=missing]")
    empty = milvus_pb2.BatchDescribeCollectionRequest()
    assert_refused(stub.BatchDescribeCollection(empty), 1101, "collection names cannot be empty: missing parameter")


def test_a_collection_is_described_by_its_id_from_any_database(stub: Any, names: Names) -> None:
    name = names.collection()
    number = collection_id(stub, name)
    by_id = milvus_pb2.DescribeCollectionRequest(collectionID=number)
    found = assert_ok(stub.DescribeCollection(by_id))
    assert (found.collection_name, found.db_name, found.schema.name) == (name, "default", name)


def test_a_dropped_collection_made_again_is_not_loaded(client: MilvusClient, stub: Any, names: Names) -> None:
    """LS-21"""
    name = names.collection(2, load=True)
    client.drop_collection(name)
    make_c1(client, name)
    assert load_state(stub, name) == NOT_LOAD


def test_names_survive_a_crash(new_server: ServerFactory) -> None:
    server = new_server()
    stub = server.stub
    properties = [{"key": "database.max.collections", "value": "5"}]
    assert_ok(stub.CreateDatabase(milvus_pb2.CreateDatabaseRequest(db_name="kept", properties=properties)))
    assert_ok(stub.CreateDatabase(milvus_pb2.CreateDatabaseRequest(db_name="gone")))
    client = server.client()
    for name in ("moves", "stays"):
        make_c1(client, name)
        client.insert(name, c1_rows(2))
    assert_ok(_rename(stub, "moves", "moved", newDBName="kept"))
    for alias in ("al", "dropped"):
        assert_ok(_create(stub, alias, "stays"))
    assert_ok(_drop(stub, "dropped"))
    assert_ok(stub.DropDatabase(milvus_pb2.DropDatabaseRequest(db_name="gone")))
    server.kill()

    server.start()
    stub = server.stub
    assert _aliases(stub) == ["al"]
    listed = assert_ok(stub.ListDatabases(milvus_pb2.ListDatabasesRequest()))
    assert list(listed.db_names) == ["default", "kept"]
    described = assert_ok(stub.DescribeDatabase(milvus_pb2.DescribeDatabaseRequest(db_name="kept")))
    assert [(p.key, p.value) for p in described.properties] == [("database.max.collections", "5")]
    client = server.client(db_name="kept")
    client.load_collection("moved")
    assert ids_of(client, "moved", "id >= 0") == [0, 1]
    client = server.client()
    client.load_collection("al")
    assert ids_of(client, "al", "id >= 0") == [0, 1]
