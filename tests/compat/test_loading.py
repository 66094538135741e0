"""Load, release, state and progress: the rows of the load-and-release specification over raw gRPC."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Server
from grpc_calls import (
    LOAD_STATE,
    assert_ok,
    assert_refused,
    collection_id,
    count,
    load_state,
    query_request,
    search_request,
)
from pymilvus import DataType, MilvusClient
from pymilvus.client.types import LoadState
from pymilvus.grpc_gen import milvus_pb2
from sample_collections import add_index, c1_rows, ids_of, make_c1, make_two_vectors

ORIGIN = [0.0, 0.0, 0.0, 0.0]
NOT_EXIST, NOT_LOAD, LOADED = (
    LOAD_STATE.Value(name) for name in ("LoadStateNotExist", "LoadStateNotLoad", "LoadStateLoaded")
)


def _load(stub: Any, name: str, **others: Any) -> Any:
    return stub.LoadCollection(milvus_pb2.LoadCollectionRequest(collection_name=name, **others))


def _release(stub: Any, name: str, **others: Any) -> Any:
    return stub.ReleaseCollection(milvus_pb2.ReleaseCollectionRequest(collection_name=name, **others))


def _progress(stub: Any, name: str, **others: Any) -> Any:
    return stub.GetLoadingProgress(milvus_pb2.GetLoadingProgressRequest(collection_name=name, **others))


def _loaded(stub: Any, name: str, **others: Any) -> None:
    """Load and poll as the SDKs do."""
    assert_ok(_load(stub, name, **others))
    deadline = time.monotonic() + 10
    while (progress := assert_ok(_progress(stub, name)).progress) < 100:
        assert time.monotonic() < deadline
    assert progress == 100
    assert load_state(stub, name) == LOADED


def _search(stub: Any, name: str, **options: Any) -> Any:
    return stub.Search(search_request(name, [ORIGIN], 5, **options))


def _query(stub: Any, name: str, text: str = "id >= 0", *fields: str) -> Any:
    return stub.Query(query_request(name, text, fields))


@pytest.fixture
def c1(client: MilvusClient, collection_name: str) -> str:
    """Indexed, with five rows, not loaded."""
    make_c1(client, collection_name)
    client.insert(collection_name, c1_rows(5))
    return collection_name


@pytest.fixture
def loaded_c1(stub: Any, c1: str) -> str:
    _loaded(stub, c1)
    return c1


# State and progress


def test_a_collection_without_an_index_is_not_loaded(client: MilvusClient, stub: Any, collection_name: str) -> None:
    """LS-01"""
    make_c1(client, collection_name, index=False)
    assert load_state(stub, collection_name) == NOT_LOAD


def test_an_indexed_collection_is_not_loaded_until_asked(stub: Any, c1: str) -> None:
    """LS-02"""
    assert load_state(stub, c1) == NOT_LOAD


def test_load_ends_at_a_hundred_percent_and_loaded(stub: Any, c1: str) -> None:
    """LS-03"""
    _loaded(stub, c1)
    assert count(stub, c1) == 5


def test_progress_of_a_loaded_collection_is_a_hundred_with_nothing_to_refresh(stub: Any, loaded_c1: str) -> None:
    """LS-04"""
    progress = assert_ok(_progress(stub, loaded_c1))
    assert (progress.progress, progress.refresh_progress) == (100, 100)


def test_release_leaves_not_load(stub: Any, loaded_c1: str) -> None:
    """LS-05"""
    assert_ok(_release(stub, loaded_c1))
    assert load_state(stub, loaded_c1) == NOT_LOAD


def test_progress_of_an_unloaded_collection_is_not_loaded(stub: Any, c1: str) -> None:
    """LS-06"""
    text = f"collection not loaded[collection={collection_id(stub, c1)}]"
    assert_refused(_progress(stub, c1), 101, text)


def test_state_of_a_missing_collection_is_not_exist_without_an_error(stub: Any, collection_name: str) -> None:
    """LS-07"""
    assert load_state(stub, collection_name) == NOT_EXIST


def test_state_of_a_malformed_name_is_refused(stub: Any) -> None:
    """LS-08"""
    answered = stub.GetLoadState(milvus_pb2.GetLoadStateRequest(collection_name="12-s"))
    text = "Invalid collection name: 12-s. the first character of a collection name must be an underscore or letter"
    assert_refused(answered, 1100, text, legacy=5)


def test_state_in_a_missing_database_is_not_exist(stub: Any, c1: str) -> None:
    """LS-09"""
    assert load_state(stub, c1, db_name="nodb") == NOT_EXIST


@pytest.mark.parametrize("call", [_load, _release, _progress], ids=["LS-10 load", "LS-11 release", "LS-12 progress"])
def test_a_missing_collection_is_not_found(stub: Any, collection_name: str, call: Callable[..., Any]) -> None:
    text = f"collection not found[database=default][collection={collection_name}]"
    refused = assert_refused(call(stub, collection_name), 100, text, legacy=4)
    status = getattr(refused, "status", refused)
    assert status.reason == text


@pytest.mark.parametrize("call", [_load, _release, _progress])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "collection name should not be empty"),
        ("n" * 256, "the length of a collection name must be less than 255 characters"),
        ("a b", "collection name can only contain numbers, letters and underscores"),
    ],
    ids=["LS-13", "LS-14", "bad character"],
)
def test_a_malformed_name_is_refused(stub: Any, call: Callable[..., Any], name: str, text: str) -> None:
    assert_refused(call(stub, name), 1100, text, legacy=5)


@pytest.mark.parametrize("call", [_load, _release, _progress])
def test_a_missing_database_is_not_found(stub: Any, c1: str, call: Callable[..., Any]) -> None:
    """LS-15"""
    assert_refused(call(stub, c1, db_name="nodb"), 800, "database not found[database=nodb]")


def test_the_database_may_come_in_the_metadata(stub: Any, c1: str) -> None:
    """LS-15: pymilvus sends the database only there."""
    request = milvus_pb2.LoadCollectionRequest(collection_name=c1)
    assert_refused(
        stub.LoadCollection(request, metadata=[("dbname", "nodb")]), 800, "database not found[database=nodb]"
    )
    assert_ok(stub.LoadCollection(request, metadata=[("dbname", "default")]))


def test_loading_again_changes_nothing(stub: Any, loaded_c1: str) -> None:
    """LS-16"""
    assert_ok(_load(stub, loaded_c1))
    assert load_state(stub, loaded_c1) == LOADED
    assert assert_ok(_progress(stub, loaded_c1)).progress == 100
    assert count(stub, loaded_c1) == 5


def test_releasing_twice_is_a_success(stub: Any, c1: str) -> None:
    """LS-17"""
    for _ in range(2):
        assert_ok(_release(stub, c1))
        assert load_state(stub, c1) == NOT_LOAD
    _loaded(stub, c1)
    for _ in range(2):
        assert_ok(_release(stub, c1))
        assert load_state(stub, c1) == NOT_LOAD


def test_an_empty_collection_loads_at_once(client: MilvusClient, stub: Any, collection_name: str) -> None:
    """LS-18"""
    make_c1(client, collection_name)
    _loaded(stub, collection_name)
    assert count(stub, collection_name) == 0


@pytest.mark.parametrize("flush", [False, True], ids=["growing", "sealed"])
def test_a_query_right_after_an_unawaited_load_sees_every_row(
    client: MilvusClient, stub: Any, collection_name: str, flush: bool
) -> None:
    """LS-19"""
    make_c1(client, collection_name)
    client.insert(collection_name, c1_rows(2000))
    if flush:
        client.flush(collection_name)
    for _ in range(5):
        assert_ok(_load(stub, collection_name))
        assert count(stub, collection_name) == 2000
        assert_ok(_release(stub, collection_name))


def test_a_loaded_collection_may_be_dropped(client: MilvusClient, stub: Any, loaded_c1: str) -> None:
    """LS-20"""
    client.drop_collection(loaded_c1)
    assert load_state(stub, loaded_c1) == NOT_EXIST


def test_a_new_collection_under_an_old_name_is_not_loaded(client: MilvusClient, stub: Any, loaded_c1: str) -> None:
    """LS-21"""
    client.drop_collection(loaded_c1)
    make_c1(client, loaded_c1)
    assert load_state(stub, loaded_c1) == NOT_LOAD
    assert_refused(_search(stub, loaded_c1), 101, "collection not loaded")


def test_state_and_progress_of_partitions(stub: Any, loaded_c1: str) -> None:
    """PT-13, and what a named partition of a loaded collection answers."""
    assert load_state(stub, loaded_c1, partition_names=["_default"]) == LOADED
    assert assert_ok(_progress(stub, loaded_c1, partition_names=["_default"])).progress == 100
    request = milvus_pb2.GetLoadStateRequest(collection_name=loaded_c1, partition_names=["nope"])
    assert_refused(stub.GetLoadState(request), 200, "partition not found[partition=nope]", legacy=15)


# Indexes


def test_load_without_any_index_is_index_not_found(client: MilvusClient, stub: Any, collection_name: str) -> None:
    """IX-01"""
    make_c1(client, collection_name, index=False)
    text = f"index not found[collection={collection_name}]"
    assert_refused(_load(stub, collection_name), 700, text, legacy=25)
    assert load_state(stub, collection_name) == NOT_LOAD


def test_load_names_the_vector_that_lacks_an_index(client: MilvusClient, stub: Any, collection_name: str) -> None:
    """IX-03"""
    make_two_vectors(client, collection_name)
    text = "there is no vector index on field: [v1], please create index firstly: invalid parameter"
    assert_refused(_load(stub, collection_name), 1100, text, legacy=5)
    assert load_state(stub, collection_name) == NOT_LOAD


def test_only_listed_vectors_need_an_index(client: MilvusClient, stub: Any, collection_name: str) -> None:
    """IX-05"""
    make_two_vectors(client, collection_name)
    _loaded(stub, collection_name, load_fields=["id", "v0"])


# Fields


@pytest.mark.parametrize(
    ("load_fields", "text"),
    [
        pytest.param(["id", "nope"], "failed to get field schema by name: fieldName(nope) not found", id="LF-01"),
        pytest.param(["vec", "a"], "load field list [vec a] does not contain primary key field id", id="LF-02"),
        pytest.param(["id", "a"], "load field list [id a] does not contain vector field", id="LF-03"),
        pytest.param(["id", "vec", "color"], "fieldName(color) not found", id="LF-07"),
    ],
)
def test_a_bad_field_list_is_refused(
    client: MilvusClient, stub: Any, collection_name: str, load_fields: list[str], text: str
) -> None:
    make_c1(client, collection_name, dynamic=True)
    client.insert(collection_name, c1_rows(2, color="red"))
    assert_refused(_load(stub, collection_name, load_fields=load_fields), 1100, text, legacy=5)
    assert load_state(stub, collection_name) == NOT_LOAD


def test_a_bad_field_list_is_reported_before_a_missing_index(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    """LF-06"""
    make_c1(client, collection_name, index=False)
    assert_refused(_load(stub, collection_name, load_fields=["id", "a"]), 1100, "does not contain vector field")


def test_load_fields_may_come_in_any_order(stub: Any, c1: str) -> None:
    """LF-08"""
    _loaded(stub, c1, load_fields=["vec", "id"])
    assert count(stub, c1) == 5


@pytest.fixture
def partial(client: MilvusClient, stub: Any, collection_name: str) -> str:
    """LF-09: a dynamic C1 with rows, loaded with [id, vec] and without its dynamic field."""
    make_c1(client, collection_name, dynamic=True)
    client.insert(collection_name, c1_rows(3, color="red"))
    client.flush(collection_name)
    client.insert(collection_name, c1_rows(2, first=3, color="blue"))
    _loaded(stub, collection_name, load_fields=["id", "vec"], skip_load_dynamic_field=True)
    return collection_name


def test_the_pages_partial_load_serves_search_and_query(client: MilvusClient, stub: Any, partial: str) -> None:
    """LF-09"""
    assert list(assert_ok(_search(stub, partial)).results.ids.int_id.data) == [0, 1, 2, 3, 4]
    assert ids_of(client, partial, "id > 1") == [2, 3, 4]


@pytest.mark.parametrize("read", ["query", "search"])
def test_an_unlisted_field_cannot_be_returned(stub: Any, partial: str, read: str) -> None:
    """LF-10s"""
    answered = _query(stub, partial, "id > 0", "a") if read == "query" else _search(stub, partial, output_fields=["a"])
    assert_refused(answered, 65535, "field a is not loaded")


@pytest.mark.parametrize("read", ["query", "search"])
@pytest.mark.parametrize("text", ["a > 0", 'color == "red"', '$meta["color"] == "red"'])
def test_an_unlisted_field_cannot_be_filtered_on(stub: Any, partial: str, read: str, text: str) -> None:
    """LF-11s"""
    answered = _query(stub, partial, text, "id") if read == "query" else _search(stub, partial, filter_text=text)
    refused = assert_refused(answered, 1100, "cannot parse expression")
    assert "not loaded" in refused.status.reason


@pytest.mark.parametrize("read", ["query", "search"])
def test_a_star_stands_for_loaded_fields_only(client: MilvusClient, partial: str, read: str) -> None:
    """LF-12s"""
    if read == "query":
        row = client.query(partial, filter="id == 1", output_fields=["*"])[0]
    else:
        row = client.search(partial, [[1.0, 0, 0, 0]], limit=1, output_fields=["*"])[0][0]["entity"]
    assert dict(row) == {"id": 1, "vec": [1.0, 0.0, 0.0, 0.0]}


@pytest.mark.parametrize("read", ["query", "search"])
def test_a_dynamic_key_cannot_be_returned_when_skipped(stub: Any, partial: str, read: str) -> None:
    """LF-13s"""
    if read == "query":
        answered = _query(stub, partial, "id > 0", "color")
    else:
        answered = _search(stub, partial, output_fields=["color"])
    assert_refused(answered, 65535, "field color cannot be returned since dynamic field not loaded")


def test_more_fields_may_be_loaded_in_place_during_searches(
    client: MilvusClient, stub: Any, server: Server, partial: str
) -> None:
    """LF-14h"""
    stop, failures, searches = threading.Event(), list[str](), [0]

    def search_all_the_time() -> None:
        while not stop.is_set():
            response = server.stub.Search(search_request(partial, [ORIGIN], 5))
            if response.status.code or list(response.results.ids.int_id.data) != [0, 1, 2, 3, 4]:
                failures.append(f"{response.status.code} {response.status.reason} {response.results.ids}")
            searches[0] += 1

    thread = threading.Thread(target=search_all_the_time)
    thread.start()
    try:
        for fields in (["id", "vec", "a"], ["id", "vec"], ["id", "vec", "a"]) * 3:
            _loaded(stub, partial, load_fields=fields)
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert searches[0] > 0
    rows = client.query(partial, filter="a >= 20", output_fields=["a", "color"])
    assert [(r["id"], r["a"], r["color"]) for r in rows] == [(2, 20, "red"), (3, 30, "blue"), (4, 40, "blue")]


def test_more_fields_may_be_loaded_after_a_release(client: MilvusClient, stub: Any, partial: str) -> None:
    """LF-15"""
    assert_ok(_release(stub, partial))
    _loaded(stub, partial, load_fields=["id", "vec", "a"])
    rows = client.query(partial, filter="a > 20", output_fields=["a"])
    assert [r["a"] for r in rows] == [30, 40]


def test_rows_written_during_a_partial_load_are_complete_after_a_full_one(
    client: MilvusClient, stub: Any, partial: str
) -> None:
    """LF-16"""
    client.insert(partial, c1_rows(1, first=9, color="green"))
    assert ids_of(client, partial, "id >= 4") == [4, 9]
    client.flush(partial)
    assert ids_of(client, partial, "id >= 4") == [4, 9]
    assert_ok(_release(stub, partial))
    _loaded(stub, partial)
    row = client.get(partial, ids=[9], output_fields=["*"])[0]
    assert dict(row) == {"id": 9, "vec": [9.0, 0.0, 0.0, 0.0], "a": 90, "color": "green"}


def test_the_dynamic_field_is_loaded_with_a_field_list_unless_skipped(
    client: MilvusClient, stub: Any, partial: str
) -> None:
    """LF-17"""
    _loaded(stub, partial, load_fields=["id", "vec"])
    rows = client.query(partial, filter='color == "blue"', output_fields=["color"])
    assert [(r["id"], r["color"]) for r in rows] == [(3, "blue"), (4, "blue")]


def test_a_vector_left_out_of_the_load_cannot_be_searched(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    """LF-18 strict"""
    make_two_vectors(client, collection_name)
    _loaded(stub, collection_name, load_fields=["id", "v0"])
    assert_ok(_search(stub, collection_name, anns_field="v0"))
    assert_refused(_search(stub, collection_name, anns_field="v1"), 1100, 'ann field "v1" not loaded')


def test_state_does_not_depend_on_the_field_list(stub: Any, partial: str) -> None:
    assert load_state(stub, partial) == LOADED
    assert assert_ok(_progress(stub, partial)).progress == 100


# Data by state


def _not_loaded(stub: Any, name: str, prefix: str) -> str:
    return f"{prefix}collection not loaded[collection={collection_id(stub, name)}]"


@pytest.mark.parametrize(
    ("prefix", "call"),
    [
        pytest.param("failed to search: ", _search, id="DT-01 search"),
        pytest.param("failed to query: ", _query, id="DT-03 query"),
        pytest.param("failed to query: ", lambda s, n: _query(s, n, "", "count(*)"), id="DT-04 count"),
        pytest.param("failed to query: ", lambda s, n: _query(s, n, "id in [1, 2]", "a"), id="DT-05 get"),
    ],
)
def test_a_read_of_an_unloaded_collection_is_refused(stub: Any, c1: str, prefix: str, call: Callable[..., Any]) -> None:
    refused = assert_refused(call(stub, c1), 101, "collection not loaded")
    assert refused.status.reason == _not_loaded(stub, c1, prefix)


def test_get_of_an_unloaded_collection_is_refused_through_the_sdk(client: MilvusClient, c1: str) -> None:
    """DT-05"""
    with pytest.raises(Exception, match="failed to query: collection not loaded"):
        client.get(c1, ids=[1])


def test_rows_inserted_while_unloaded_are_seen_after_load(client: MilvusClient, stub: Any, c1: str) -> None:
    """DT-06"""
    client.insert(c1, c1_rows(3, first=100))
    _loaded(stub, c1)
    assert ids_of(client, c1, "id >= 0") == [0, 1, 2, 3, 4, 100, 101, 102]


def test_flush_statistics_and_description_need_no_load(client: MilvusClient, stub: Any, c1: str) -> None:
    """DT-11"""
    client.flush(c1)
    assert client.get_collection_stats(c1) == {"row_count": 5}
    assert client.describe_collection(c1)["collection_name"] == c1
    assert client.list_indexes(c1) == ["vec"]
    assert load_state(stub, c1) == NOT_LOAD


@pytest.mark.parametrize(
    ("call", "text"),
    [
        pytest.param(lambda s, n: _search(s, n, anns_field="nope"), "fieldName(nope) not found", id="DT-12"),
        pytest.param(lambda s, n: _search(s, n, filter_text="(("), "cannot parse expression: ((", id="DT-13 search"),
        pytest.param(lambda s, n: _query(s, n, "nope == 1"), "cannot parse expression: nope == 1", id="DT-13 query"),
        pytest.param(lambda s, n: _query(s, n, "id > 0", "nope"), "field nope not exist", id="output field"),
        pytest.param(lambda s, n: s.Search(search_request(n, [ORIGIN], 0)), "topk [0] is invalid", id="topk"),
    ],
)
def test_bad_requests_are_reported_before_a_missing_load(
    stub: Any, c1: str, call: Callable[..., Any], text: str
) -> None:
    assert_refused(call(stub, c1), 1100, text, legacy=5)


def test_a_missing_load_is_reported_before_a_wrong_dimension(stub: Any, c1: str) -> None:
    assert_refused(stub.Search(search_request(c1, [[1.0, 2.0]], 1)), 101, "failed to search: collection not loaded")


def test_search_after_a_release_is_refused(stub: Any, loaded_c1: str) -> None:
    """DT-15"""
    assert_ok(_search(stub, loaded_c1))
    assert_ok(_release(stub, loaded_c1))
    refused = assert_refused(_search(stub, loaded_c1), 101, "collection not loaded")
    assert refused.status.reason == _not_loaded(stub, loaded_c1, "failed to search: ")


def test_an_index_made_after_the_rows_serves_after_load(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_c1(client, collection_name, index=False)
    client.insert(collection_name, c1_rows(10))
    client.flush(collection_name)
    add_index(client, collection_name, "vec", "HNSW", "L2")
    _loaded(stub, collection_name)
    assert list(assert_ok(_search(stub, collection_name)).results.ids.int_id.data) == [0, 1, 2, 3, 4]


# Refresh


def test_refresh_of_a_loaded_collection_ends_at_once(stub: Any, loaded_c1: str) -> None:
    """RF-01"""
    assert_ok(_load(stub, loaded_c1, refresh=True))
    progress = assert_ok(_progress(stub, loaded_c1))
    assert (progress.progress, progress.refresh_progress) == (100, 100)
    assert count(stub, loaded_c1) == 5


def test_refresh_of_an_unloaded_collection_is_refused_and_loads_nothing(stub: Any, c1: str) -> None:
    """RF-02"""
    assert_refused(_load(stub, c1, refresh=True), 101, _not_loaded(stub, c1, ""))
    assert load_state(stub, c1) == NOT_LOAD


def test_refresh_without_an_index_is_index_not_found(client: MilvusClient, stub: Any, collection_name: str) -> None:
    """RF-03"""
    make_c1(client, collection_name, index=False)
    assert_refused(_load(stub, collection_name, refresh=True), 700, "index not found", legacy=25)


# Replicas and resource groups


def test_three_replicas_on_one_node_are_too_many(stub: Any, c1: str) -> None:
    """RP-01"""
    text = "call query coordinator LoadCollection: when load 3 replica count: service resource insufficient"
    assert_refused(_load(stub, c1, replica_number=3), 12, text, retriable=True)
    assert load_state(stub, c1) == NOT_LOAD


def test_an_unknown_resource_group_is_not_found(stub: Any, c1: str) -> None:
    """RP-02"""
    assert_refused(_load(stub, c1, resource_groups=["nope"]), 300, "resource group not found[rg=nope]")
    assert load_state(stub, c1) == NOT_LOAD


def test_as_many_groups_as_replicas_are_needed(stub: Any, c1: str) -> None:
    """RP-03"""
    text = "resource group num can only be 0, 1 or same as replica number"
    assert_refused(_load(stub, c1, replica_number=3, resource_groups=["a", "b"]), 1100, text, legacy=5)
    assert load_state(stub, c1) == NOT_LOAD


@pytest.mark.parametrize("replicas", [0, -1, 1])
def test_no_replica_number_means_one(stub: Any, c1: str, replicas: int) -> None:
    """RP-04"""
    _loaded(stub, c1, replica_number=replicas)


def test_the_default_resource_group_may_be_named(stub: Any, c1: str) -> None:
    _loaded(stub, c1, replica_number=1, resource_groups=["__default_resource_group"])


# Flows of the SDK


def _seed_page(uri: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The page's Python as printed, with the missing comma added."""
    client = MilvusClient(uri=uri, token="root:Milvus")

    # 7. Load the collection
    client.load_collection(collection_name="my_collection")

    res = client.get_load_state(collection_name="my_collection")

    print(res)  # noqa: T201

    client.load_collection(
        collection_name="my_collection",
        load_fields=["my_id", "my_vector"],  # Load only the specified fields
        skip_load_dynamic_field=True,  # Skip loading the dynamic field
    )

    res = client.get_load_state(collection_name="my_collection")

    print(res)  # noqa: T201

    # 8. Release the collection
    client.release_collection(collection_name="my_collection")

    res = client.get_load_state(collection_name="my_collection")

    print(res)  # noqa: T201
    client.close()
    return capsys.readouterr().out


def test_the_pages_python_prints_the_documented_output(
    client: MilvusClient, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """SD-01"""
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("my_id", DataType.INT64, is_primary=True)
    schema.add_field("my_vector", DataType.FLOAT_VECTOR, dim=5)
    client.create_collection("my_collection", schema=schema)
    try:
        add_index(client, "my_collection", "my_vector", "AUTOINDEX", "COSINE")
        client.insert("my_collection", [{"my_id": i, "my_vector": [float(i)] * 5, "color": "red"} for i in range(3)])
        printed = _seed_page(server.uri, capsys)
    finally:
        client.drop_collection("my_collection")
    loaded, released = "{'state': <LoadState: Loaded>}", "{'state': <LoadState: NotLoad>}"
    assert printed.splitlines() == [loaded, loaded, released]


def test_quick_create_is_loaded_when_it_returns(client: MilvusClient, collection_name: str) -> None:
    """SD-05"""
    client.create_collection(collection_name, dimension=5)
    assert client.get_load_state(collection_name) == {"state": LoadState.Loaded}


def test_create_from_a_schema_alone_is_not_loaded(client: MilvusClient, collection_name: str) -> None:
    """SD-06"""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection(collection_name, schema=schema)
    assert client.get_load_state(collection_name) == {"state": LoadState.NotLoad}


@pytest.mark.timeout(20)
def test_refresh_load_of_the_sdk_returns(client: MilvusClient, loaded_c1: str) -> None:
    """SD-07"""
    client.refresh_load(loaded_c1)
    assert client.get_load_state(loaded_c1) == {"state": LoadState.Loaded}
