"""Rows DT: reads and writes by load state."""

from __future__ import annotations

from typing import Any

from grpc_calls import (
    STRONG,
    assert_ok,
    assert_refused,
    count,
    insert_request,
    load_state,
    pairs,
    scalars,
    search_request,
)
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from row_calls import (
    NOT_LOAD,
    ORIGIN,
    c1,
    c1_columns,
    column,
    delete,
    describe,
    flush,
    found,
    insert,
    loaded,
    loaded_c1,
    not_loaded,
    query,
    release,
    search,
)


def _refuse_read(stub: Any, name: str, response: Any, prefix: str) -> None:
    """101 and the exact chain."""
    refused = assert_refused(response, 101, "collection not loaded", legacy=1)
    assert refused.status.reason == not_loaded(stub, name, prefix)


def test_dt_01_searching_an_unloaded_collection_is_refused(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    _refuse_read(stub, collection_name, search(stub, collection_name), "failed to search: ")


def test_dt_02_a_hybrid_search_of_an_unloaded_collection_is_refused(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    request = milvus_pb2.HybridSearchRequest(
        collection_name=collection_name,
        requests=[search_request(collection_name, [ORIGIN], 5)],
        rank_params=pairs({"strategy": "rrf", "params": '{"k": 60}', "limit": 5}),
        consistency_level=STRONG,
    )
    _refuse_read(stub, collection_name, stub.HybridSearch(request), "failed to search: ")


def test_dt_03_querying_an_unloaded_collection_is_refused(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    _refuse_read(stub, collection_name, query(stub, collection_name, "a > 0", "id"), "failed to query: ")


def test_dt_04_counting_an_unloaded_collection_is_refused(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    _refuse_read(stub, collection_name, query(stub, collection_name, "", "count(*)"), "failed to query: ")


def test_dt_05_getting_rows_of_an_unloaded_collection_is_refused(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    _refuse_read(stub, collection_name, query(stub, collection_name, "id in [1, 2]", "*"), "failed to query: ")


def test_dt_06_rows_inserted_while_unloaded_are_seen_after_the_load(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name, rows=2)
    flush(stub, collection_name)
    insert(stub, collection_name, [2, 3])
    loaded(stub, collection_name)
    assert found(stub, collection_name) == [0, 1, 2, 3]


def _upsert(stub: Any, name: str, ids: list[int], *columns: Any, partial: bool = False) -> Any:
    inserted = insert_request(name, len(ids), *columns)
    return stub.Upsert(
        milvus_pb2.UpsertRequest(
            collection_name=name, num_rows=len(ids), fields_data=inserted.fields_data, partial_update=partial
        )
    )


def test_dt_07_whole_rows_may_be_upserted_while_unloaded(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    key, vec, _ = c1_columns([1, 7])
    assert_ok(_upsert(stub, collection_name, [1, 7], key, vec, scalars("a", schema_pb2.Int64, [-1, -7])))
    loaded(stub, collection_name)
    assert column(query(stub, collection_name, "id in [0, 1, 7]", "a"), "a") == [0, -1, -7]
    assert count(stub, collection_name) == 6


def test_dt_08_a_partial_upsert_needs_a_load(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    key, numbers = scalars("id", schema_pb2.Int64, [1]), scalars("a", schema_pb2.Int64, [-1])
    response = _upsert(stub, collection_name, [1], key, numbers, partial=True)
    refused = assert_refused(response, 101, "failed to query", legacy=1)
    assert not_loaded(stub, collection_name) in refused.status.reason


def test_dt_09_rows_may_be_deleted_by_key_while_unloaded(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    assert_ok(delete(stub, collection_name, "id in [1]"))
    loaded(stub, collection_name)
    assert found(stub, collection_name) == [0, 2, 3, 4]


def test_dt_10_a_deletion_by_filter_needs_a_load(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    _refuse_read(stub, collection_name, delete(stub, collection_name, "a > 0"), "")
    loaded(stub, collection_name)
    assert found(stub, collection_name) == [0, 1, 2, 3, 4]
    assert_ok(delete(stub, collection_name, "a > 20"))
    assert found(stub, collection_name) == [0, 1, 2]


def test_dt_11_flush_statistics_and_description_need_no_load(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    flush(stub, collection_name)
    request = milvus_pb2.GetCollectionStatisticsRequest(collection_name=collection_name)
    stats = assert_ok(stub.GetCollectionStatistics(request)).stats
    assert {pair.key: pair.value for pair in stats} == {"row_count": "5"}
    assert describe(stub, collection_name).collection_name == collection_name
    assert load_state(stub, collection_name) == NOT_LOAD


def test_dt_12_an_unknown_vector_is_reported_before_a_missing_load(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    assert_refused(search(stub, collection_name, anns_field="nope"), 1100, "fieldName(nope) not found", legacy=5)


def test_dt_13_a_bad_filter_is_reported_before_a_missing_load(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    for text in ("((", "nope == 1"):
        expected = f"failed to create query plan: cannot parse expression: {text}"
        assert_refused(search(stub, collection_name, filter_text=text), 1100, expected, legacy=5)
        assert_refused(query(stub, collection_name, text, "id"), 1100, expected, legacy=5)


def test_dt_14_a_strong_query_sees_a_row_inserted_before_it(stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    insert(stub, collection_name, [7])
    assert column(query(stub, collection_name, "id > 3", "id")) == [4, 7]


def test_dt_15_searching_after_a_release_is_refused(stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    assert found(stub, collection_name) == [0, 1, 2, 3, 4]
    assert_ok(release(stub, collection_name))
    _refuse_read(stub, collection_name, search(stub, collection_name), "failed to search: ")


def test_dt_16_a_strong_query_does_not_see_a_row_deleted_before_it(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    flush(stub, collection_name)
    loaded(stub, collection_name)
    insert(stub, collection_name, [5])
    assert_ok(delete(stub, collection_name, "id in [1, 5]"))
    assert column(query(stub, collection_name, "id >= 0", "id")) == [0, 2, 3, 4]
