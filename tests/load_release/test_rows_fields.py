"""Rows LF: load_fields and skip_load_dynamic_field, strict and as a hint."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Server
from grpc_calls import assert_ok, assert_refused, create_request, field, load_state, search_request
from pymilvus.grpc_gen import schema_pb2
from row_calls import (
    KEY,
    LOADED,
    NOT_LOAD,
    ORIGIN,
    c1,
    colors,
    column,
    dropped_afterwards,
    dynamic_c1,
    found,
    insert,
    load,
    loaded,
    not_applicable,
    partial_c1,
    partition_key_collection,
    query,
    release,
    search,
    two_vectors,
    vector,
    wait_loaded,
)


@pytest.fixture(scope="module")
def hint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes load_fields as a hint."""
    with Server(tmp_path_factory.mktemp("hint"), env={"MILVINE_LOAD_FIELDS_MODE": "hint"}).running() as server:
        yield server


@pytest.fixture
def hinted(hint: Server, collection_name: str) -> Iterator[Any]:
    """The stub of that server; its collection is dropped afterwards too."""
    with dropped_afterwards(hint.stub, collection_name):
        yield hint.stub


@pytest.fixture(scope="module")
def _hint_client(hint: Server) -> Iterator[Any]:
    client = hint.client()
    yield client
    client.close()


def _refuse_fields(stub: Any, name: str, fields: list[str], text: str) -> None:
    assert_refused(load(stub, name, load_fields=fields), 1100, f"{text}: invalid parameter", legacy=5)
    assert load_state(stub, name) == NOT_LOAD


def test_lf_01_an_unknown_field_cannot_be_loaded(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    text = "failed to get field schema by name: fieldName(nope) not found"
    _refuse_fields(stub, collection_name, ["id", "nope"], text)


def test_lf_02_the_key_must_be_listed(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    text = "load field list [vec a] does not contain primary key field id"
    _refuse_fields(stub, collection_name, ["vec", "a"], text)


def test_lf_03_a_vector_must_be_listed(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    _refuse_fields(stub, collection_name, ["id", "a"], "load field list [id a] does not contain vector field")


def test_lf_04_the_partition_key_must_be_listed(stub: Any, collection_name: str) -> None:
    partition_key_collection(stub, collection_name)
    text = "load field list [id vec] does not contain partition key field pk1"
    _refuse_fields(stub, collection_name, ["id", "vec"], text)
    loaded(stub, collection_name, load_fields=["id", "vec", "pk1"])


def test_lf_05_the_clustering_key_must_be_listed(stub: Any, collection_name: str) -> None:
    key = field("ck", schema_pb2.Int64)
    key.is_clustering_key = True
    created = stub.CreateCollection(create_request(collection_name, [KEY, vector(), key]))
    if created.code != 0:
        assert "clustering" in created.reason
        not_applicable("LF-05")
    text = "load field list [id vec] does not contain clustering key field ck"
    _refuse_fields(stub, collection_name, ["id", "vec"], text)


def test_lf_06_a_bad_list_is_reported_before_a_missing_index(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name, indexed=False)
    _refuse_fields(stub, collection_name, ["id", "a"], "load field list [id a] does not contain vector field")


def test_lf_07_a_key_of_the_dynamic_field_is_not_a_field(stub: Any, collection_name: str) -> None:
    dynamic_c1(stub, collection_name)
    text = "failed to get field schema by name: fieldName(color) not found"
    _refuse_fields(stub, collection_name, ["id", "vec", "color"], text)


def test_lf_08_fields_may_be_listed_in_any_order(stub: Any, collection_name: str) -> None:
    loaded(stub, c1(stub, collection_name), load_fields=["vec", "id"])
    assert found(stub, collection_name) == [0, 1, 2, 3, 4]


def test_lf_09_the_pages_partial_load_is_loaded_and_answers(stub: Any, collection_name: str) -> None:
    partial_c1(stub, collection_name)
    assert load_state(stub, collection_name) == LOADED
    assert found(stub, collection_name) == [0, 1, 2, 3, 4]
    assert column(query(stub, collection_name, "id > 2", "id")) == [3, 4]


def test_lf_10s_an_unlisted_field_cannot_be_returned(stub: Any, collection_name: str) -> None:
    partial_c1(stub, collection_name)
    assert_refused(query(stub, collection_name, "id > 0", "a"), 65535, "field a is not loaded")
    assert_refused(search(stub, collection_name, output_fields=["a"]), 65535, "field a is not loaded")


def test_lf_10h_an_unlisted_field_is_returned(hinted: Any, collection_name: str) -> None:
    partial_c1(hinted, collection_name)
    assert column(query(hinted, collection_name, "id >= 0", "a"), "a") == [0, 10, 20, 30, 40]
    hits = assert_ok(search(hinted, collection_name, output_fields=["a"])).results
    assert list(hits.fields_data[0].scalars.long_data.data) == [0, 10, 20, 30, 40]


def test_lf_11s_an_unlisted_field_cannot_be_filtered_on(stub: Any, collection_name: str) -> None:
    partial_c1(stub, collection_name)
    for response in (
        query(stub, collection_name, "a > 0", "id"),
        search(stub, collection_name, filter_text="a > 0"),
    ):
        refused = assert_refused(response, 1100, "cannot parse expression: a > 0", legacy=5)
        assert "is not loaded" in refused.status.reason


def test_lf_11h_an_unlisted_field_filters(hinted: Any, collection_name: str) -> None:
    partial_c1(hinted, collection_name)
    assert column(query(hinted, collection_name, "a > 10", "id")) == [2, 3, 4]
    assert found(hinted, collection_name, filter_text="a > 10") == [2, 3, 4]


def test_lf_12s_a_star_stands_for_the_loaded_fields(client: Any, stub: Any, collection_name: str) -> None:
    partial_c1(stub, collection_name)
    rows = client.query(collection_name, filter="id in [1, 3]", output_fields=["*"])
    assert [dict(row) for row in rows] == [{"id": i, "vec": [float(i), 0.0, 0.0, 0.0]} for i in (1, 3)]


def test_lf_12h_a_star_stands_for_all_fields(_hint_client: Any, hinted: Any, collection_name: str) -> None:
    partial_c1(hinted, collection_name)
    rows = _hint_client.query(collection_name, filter="id in [1, 3]", output_fields=["*"])
    expected = [{"id": i, "vec": [float(i), 0.0, 0.0, 0.0], "a": 10 * i, "color": f"c{i}"} for i in (1, 3)]
    assert [dict(row) for row in rows] == expected


def test_lf_13s_a_key_of_the_skipped_dynamic_field_cannot_be_returned(stub: Any, collection_name: str) -> None:
    partial_c1(stub, collection_name)
    text = "field color cannot be returned since dynamic field not loaded"
    assert_refused(query(stub, collection_name, "id > 0", "color"), 65535, text)
    assert_refused(search(stub, collection_name, output_fields=["color"]), 65535, text)


def test_lf_13h_a_key_of_the_skipped_dynamic_field_returns_and_filters(
    _hint_client: Any, hinted: Any, collection_name: str
) -> None:
    partial_c1(hinted, collection_name)
    rows = _hint_client.query(collection_name, filter='color in ["c1", "c3"]', output_fields=["color"])
    assert [dict(row) for row in rows] == [{"id": 1, "color": "c1"}, {"id": 3, "color": "c3"}]


def test_lf_14s_another_field_list_needs_a_release_first() -> None:
    not_applicable("LF-14s")


def _widen_under_searches(server: Server, name: str) -> None:
    """Loads one more field repeatedly while another thread searches."""
    partial_c1(server.stub, name)
    done, answers = threading.Event(), list[tuple[int, list[int]]]()

    def search_all_the_time() -> None:
        while not done.is_set():
            response = server.stub.Search(search_request(name, [ORIGIN], 5))
            answers.append((response.status.code, list(response.results.ids.int_id.data)))

    thread = threading.Thread(target=search_all_the_time)
    thread.start()
    try:
        for fields in (["id", "vec", "a"], ["id", "vec"]) * 2:
            loaded(server.stub, name, load_fields=fields)
        loaded(server.stub, name, load_fields=["id", "vec", "a"])
    finally:
        done.set()
        thread.join()
    assert answers
    assert [answer for answer in answers if answer != (0, [0, 1, 2, 3, 4])] == []
    assert column(query(server.stub, name, "a > 10", "a"), "a") == [20, 30, 40]


def test_lf_14h_more_fields_are_loaded_in_place_during_searches(
    server: Server, hint: Server, collection_name: str
) -> None:
    _widen_under_searches(server, collection_name)
    with dropped_afterwards(hint.stub, collection_name):
        _widen_under_searches(hint, collection_name)


def test_lf_15_more_fields_are_loaded_after_a_release(stub: Any, hint: Server, collection_name: str) -> None:
    with dropped_afterwards(hint.stub, collection_name):
        for mode in (stub, hint.stub):
            partial_c1(mode, collection_name)
            assert_ok(release(mode, collection_name))
            loaded(mode, collection_name, load_fields=["id", "vec", "a"])
            assert column(query(mode, collection_name, "id >= 0", "a"), "a") == [0, 10, 20, 30, 40]


def test_lf_16_rows_written_during_a_partial_load_are_complete_after_a_full_one(
    stub: Any, collection_name: str
) -> None:
    partial_c1(stub, collection_name)
    insert(stub, collection_name, [9], colors([9]))
    assert found(stub, collection_name) == [0, 1, 2, 3, 4, 9]
    assert_ok(release(stub, collection_name))
    loaded(stub, collection_name)
    assert column(query(stub, collection_name, 'color == "c9"', "a"), "a") == [90]


def test_lf_17_the_dynamic_field_is_loaded_unless_it_is_skipped(
    client: Any, _hint_client: Any, stub: Any, hinted: Any, collection_name: str
) -> None:
    for mode, sdk in ((stub, client), (hinted, _hint_client)):
        loaded(mode, dynamic_c1(mode, collection_name), load_fields=["id", "vec"])
        rows = sdk.query(collection_name, filter="id in [1, 3]", output_fields=["color"])
        assert [dict(row) for row in rows] == [{"id": 1, "color": "c1"}, {"id": 3, "color": "c3"}]


def test_lf_18_a_vector_left_out_of_the_load_cannot_be_searched(stub: Any, hinted: Any, collection_name: str) -> None:
    for mode in (stub, hinted):
        assert_ok(load(mode, two_vectors(mode, collection_name), load_fields=["id", "v0"]))
        wait_loaded(mode, collection_name)
        assert found(mode, collection_name, anns_field="v0") == [0, 1, 2]
    strict = 'failed to create query plan: ann field "v1" not loaded'
    assert_refused(search(stub, collection_name, anns_field="v1"), 1100, strict, legacy=5)
    hint = "field index of the field: v1 is not loaded, please reload the collection"
    assert_refused(search(hinted, collection_name, anns_field="v1"), 2000, hint, legacy=1, retriable=True)
