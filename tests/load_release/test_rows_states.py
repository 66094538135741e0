"""Rows LS: state and progress through a collection's life."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Server
from grpc_calls import assert_ok, assert_refused, count, load_state, query_request
from pymilvus.grpc_gen import milvus_pb2
from row_calls import (
    LOADED,
    NOT_EXIST,
    NOT_LOAD,
    c1,
    column,
    dropped_afterwards,
    flush,
    found,
    insert,
    load,
    loaded,
    loaded_c1,
    not_loaded,
    progress,
    release,
    search,
    state,
    wait_loaded,
)
from sample_collections import make_c1


def test_ls_01_a_collection_without_an_index_is_not_loaded(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name, indexed=False)
    assert load_state(stub, collection_name) == NOT_LOAD


def test_ls_02_an_indexed_collection_is_not_loaded_until_asked(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    assert load_state(stub, collection_name) == NOT_LOAD


def test_ls_03_load_ends_at_a_hundred_percent_and_loaded(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    assert_ok(load(stub, collection_name))
    wait_loaded(stub, collection_name)
    assert load_state(stub, collection_name) == LOADED
    assert found(stub, collection_name) == [0, 1, 2, 3, 4]


def test_ls_04_a_loaded_collection_is_at_a_hundred_percent_with_nothing_to_refresh(
    stub: Any, collection_name: str
) -> None:
    shown = assert_ok(progress(stub, loaded_c1(stub, collection_name)))
    assert (shown.progress, shown.refresh_progress) == (100, 100)


def test_ls_05_release_leaves_not_load(stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    assert_ok(release(stub, collection_name))
    assert load_state(stub, collection_name) == NOT_LOAD


def test_ls_06_progress_of_an_unloaded_collection_is_refused_with_its_id(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    refused = assert_refused(progress(stub, collection_name), 101, "collection not loaded", legacy=1)
    assert refused.status.reason == not_loaded(stub, collection_name)


def test_ls_07_state_of_a_missing_collection_is_not_exist(stub: Any, collection_name: str) -> None:
    assert load_state(stub, collection_name) == NOT_EXIST


def test_ls_08_state_of_a_malformed_name_is_refused(stub: Any) -> None:
    text = (
        "Invalid collection name: 12-s. the first character of a collection name must be an underscore or letter"
        ": invalid parameter"
    )
    refused = assert_refused(state(stub, "12-s"), 1100, text, legacy=5)
    assert refused.status.reason == text


def test_ls_09_state_in_a_missing_database_is_not_exist(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    assert load_state(stub, collection_name, db_name="nodb") == NOT_EXIST


def _assert_not_found(response: Any, name: str) -> None:
    text = f"collection not found[database=default][collection={name}]"
    refused = assert_refused(response, 100, text, legacy=4)
    assert getattr(refused, "status", refused).reason == text


def test_ls_10_loading_a_missing_collection_is_not_found(stub: Any, collection_name: str) -> None:
    _assert_not_found(load(stub, collection_name), collection_name)


def test_ls_11_releasing_a_missing_collection_is_not_found(stub: Any, collection_name: str) -> None:
    _assert_not_found(release(stub, collection_name), collection_name)


def test_ls_12_progress_of_a_missing_collection_is_not_found(stub: Any, collection_name: str) -> None:
    _assert_not_found(progress(stub, collection_name), collection_name)


def test_ls_13_loading_an_empty_name_is_refused(stub: Any) -> None:
    assert_refused(load(stub, ""), 1100, "collection name should not be empty: invalid parameter", legacy=5)


def test_ls_14_loading_a_name_of_256_characters_is_refused(stub: Any) -> None:
    name = "n" * 256
    text = f"Invalid collection name: {name}. the length of a collection name must be less than 255 characters"
    assert_refused(load(stub, name), 1100, text, legacy=5)


def test_ls_15_loading_in_a_missing_database_is_not_found(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    text = "database not found[database=nodb]"
    assert_refused(load(stub, collection_name, db_name="nodb"), 800, text)
    request = milvus_pb2.LoadCollectionRequest(collection_name=collection_name)
    assert_refused(stub.LoadCollection(request, metadata=[("dbname", "nodb")]), 800, text)
    assert load_state(stub, collection_name) == NOT_LOAD


def test_ls_16_loading_again_changes_nothing(stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    assert_ok(load(stub, collection_name))
    assert load_state(stub, collection_name) == LOADED
    assert assert_ok(progress(stub, collection_name)).progress == 100
    assert found(stub, collection_name) == [0, 1, 2, 3, 4]


def test_ls_17_releasing_twice_is_a_success(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    for _ in range(2):
        assert_ok(release(stub, collection_name))
        assert load_state(stub, collection_name) == NOT_LOAD


def test_ls_18_an_empty_collection_loads_to_a_hundred_percent(stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name, rows=0)
    assert assert_ok(progress(stub, collection_name)).progress == 100
    assert count(stub, collection_name) == 0


def test_ls_19_a_query_right_after_an_unawaited_load_sees_all_rows(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name, rows=1000)
    flush(stub, collection_name)
    insert(stub, collection_name, range(1000, 1500))
    for _ in range(3):
        assert_ok(load(stub, collection_name))
        assert sorted(column(stub.Query(query_request(collection_name, "id >= 0", ["id"])))) == list(range(1500))
        assert_ok(release(stub, collection_name))


def test_ls_20_a_dropped_collection_is_not_exist(stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    assert_ok(stub.DropCollection(milvus_pb2.DropCollectionRequest(collection_name=collection_name)))
    assert load_state(stub, collection_name) == NOT_EXIST


def test_ls_21_a_collection_made_again_under_its_old_name_is_not_loaded(stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    assert_ok(stub.DropCollection(milvus_pb2.DropCollectionRequest(collection_name=collection_name)))
    c1(stub, collection_name)
    assert load_state(stub, collection_name) == NOT_LOAD
    assert_refused(search(stub, collection_name), 101, "collection not loaded")


def test_ls_22_an_alias_stands_for_its_collection(stub: Any, collection_name: str) -> None:
    alias = f"{collection_name}_al"
    loaded_c1(stub, collection_name)
    assert_ok(stub.CreateAlias(milvus_pb2.CreateAliasRequest(collection_name=collection_name, alias=alias)))
    try:
        assert load_state(stub, alias) == LOADED
        assert_ok(release(stub, alias))
        assert load_state(stub, collection_name) == NOT_LOAD
        loaded(stub, alias)
        assert load_state(stub, collection_name) == LOADED
    finally:
        stub.DropAlias(milvus_pb2.DropAliasRequest(alias=alias))


def test_ls_23_a_renamed_collection_stays_loaded_under_its_other_name(stub: Any, collection_name: str) -> None:
    other = f"{collection_name}_9"
    loaded_c1(stub, collection_name)
    with dropped_afterwards(stub, other):
        assert_ok(stub.RenameCollection(milvus_pb2.RenameCollectionRequest(oldName=collection_name, newName=other)))
        assert load_state(stub, other) == LOADED
        assert load_state(stub, collection_name) == NOT_EXIST
        assert found(stub, other) == [0, 1, 2, 3, 4]


@pytest.fixture
def two_databases(server: Server) -> Iterator[tuple[str, str]]:
    names = (f"db_{uuid.uuid4().hex[:8]}", f"db_{uuid.uuid4().hex[:8]}")
    for name in names:
        assert_ok(server.stub.CreateDatabase(milvus_pb2.CreateDatabaseRequest(db_name=name)))
    yield names
    for name in names:
        server.stub.DropCollection(milvus_pb2.DropCollectionRequest(db_name=name, collection_name="c"))
        assert_ok(server.stub.DropDatabase(milvus_pb2.DropDatabaseRequest(db_name=name)))


def test_ls_24_the_same_name_in_two_databases_has_two_states(server: Server, two_databases: tuple[str, str]) -> None:
    for name in two_databases:
        client = server.client(db_name=name)
        make_c1(client, "c")
        client.close()
    first, second = two_databases
    assert_ok(load(server.stub, "c", db_name=first))
    wait_loaded(server.stub, "c", db_name=first)
    assert load_state(server.stub, "c", db_name=first) == LOADED
    assert load_state(server.stub, "c", db_name=second) == NOT_LOAD


@pytest.fixture(scope="module")
def restarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The stub of a server that was stopped while `kept` was loaded and `released` was not."""
    server = Server(tmp_path_factory.mktemp("restarted")).start()
    try:
        for name in ("kept", "released"):
            c1(server.stub, name, rows=3)
            flush(server.stub, name)
            insert(server.stub, name, [3, 4])
        loaded(server.stub, "kept")
        server.stop()
        yield server.start().stub
    finally:
        server.close()


def test_ls_25_a_loaded_collection_is_loaded_again_after_a_restart(restarted: Any) -> None:
    wait_loaded(restarted, "kept")
    assert load_state(restarted, "kept") == LOADED
    assert found(restarted, "kept") == [0, 1, 2, 3, 4]


def test_ls_26_an_unloaded_collection_stays_so_over_a_restart(restarted: Any) -> None:
    assert load_state(restarted, "released") == NOT_LOAD
    assert_refused(search(restarted, "released"), 101, "collection not loaded")


def test_ls_27_a_truncated_collection_stays_loaded_without_rows(stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    assert_ok(stub.TruncateCollection(milvus_pb2.TruncateCollectionRequest(collection_name=collection_name)))
    assert load_state(stub, collection_name) == LOADED
    assert count(stub, collection_name) == 0
    insert(stub, collection_name, [7])
    assert found(stub, collection_name) == [7]
