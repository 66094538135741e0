"""Rows IX: loads need indexes, and loads restrict changes of indexes."""

from __future__ import annotations

from typing import Any

from grpc_calls import assert_ok, assert_refused, collection_id, load_state, pairs
from pymilvus.grpc_gen import milvus_pb2
from row_calls import (
    LOADED,
    NOT_LOAD,
    c1,
    column,
    create_index,
    drop_index,
    flush,
    found,
    load,
    load_partitions,
    loaded,
    loaded_c1,
    query,
    two_vectors,
)


def test_ix_01_loading_without_any_index_is_index_not_found(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name, indexed=False)
    text = f"index not found[collection={collection_name}]"
    refused = assert_refused(load(stub, collection_name), 700, text, legacy=25)
    assert refused.reason == text
    assert load_state(stub, collection_name) == NOT_LOAD


def test_ix_02_loading_a_partition_without_any_index_is_index_not_found(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name, indexed=False)
    text = f"index not found[collection={collection_name}]"
    assert_refused(load_partitions(stub, collection_name, "_default"), 700, text, legacy=25)
    assert_refused(load_partitions(stub, collection_name, "nope"), 700, text, legacy=25)
    assert load_state(stub, collection_name) == NOT_LOAD


def test_ix_03_a_load_names_the_vector_that_lacks_an_index(stub: Any, collection_name: str) -> None:
    two_vectors(stub, collection_name)
    text = "there is no vector index on field: [v1], please create index firstly: invalid parameter"
    assert assert_refused(load(stub, collection_name), 1100, text, legacy=5).reason == text
    assert load_state(stub, collection_name) == NOT_LOAD


def test_ix_04_an_index_on_a_scalar_is_not_enough(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name, indexed=False)
    assert_ok(create_index(stub, collection_name, "a", "INVERTED"))
    text = "there is no vector index on field: [vec], please create index firstly: invalid parameter"
    assert assert_refused(load(stub, collection_name), 1100, text, legacy=5).reason == text
    assert load_state(stub, collection_name) == NOT_LOAD


def test_ix_05_only_listed_vectors_need_an_index(stub: Any, collection_name: str) -> None:
    loaded(stub, two_vectors(stub, collection_name), load_fields=["id", "v0"])
    assert found(stub, collection_name, anns_field="v0") == [0, 1, 2]


def test_ix_06_the_index_of_a_loaded_vector_cannot_be_dropped(stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    number = collection_id(stub, collection_name)
    text = f"vector index cannot be dropped on loaded collection: {number}: invalid parameter"
    assert_refused(drop_index(stub, collection_name, "vec"), 1100, text, legacy=5)
    assert found(stub, collection_name) == [0, 1, 2, 3, 4]


def test_ix_07_the_index_of_a_loaded_scalar_may_be_dropped(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    flush(stub, collection_name)
    assert_ok(create_index(stub, collection_name, "a", "INVERTED"))
    loaded(stub, collection_name)
    assert_ok(drop_index(stub, collection_name, "a"))
    assert load_state(stub, collection_name) == LOADED
    assert column(query(stub, collection_name, "a > 20", "id")) == [3, 4]


def test_ix_08_dropping_an_index_that_is_not_there_is_a_success(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    assert_ok(drop_index(stub, collection_name, "nope"))
    assert_ok(drop_index(stub, collection_name, "a"))


def test_ix_09_without_its_index_an_unloaded_collection_cannot_be_loaded(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    assert_ok(drop_index(stub, collection_name, "vec"))
    assert_refused(load(stub, collection_name), 700, f"index not found[collection={collection_name}]", legacy=25)


def test_ix_10_a_loaded_collection_takes_an_index_on_a_scalar(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    flush(stub, collection_name)
    loaded(stub, collection_name)
    assert_ok(create_index(stub, collection_name, "a", "INVERTED"))
    assert load_state(stub, collection_name) == LOADED
    assert column(query(stub, collection_name, "a > 20", "id")) == [3, 4]


def test_ix_11_an_index_of_a_loaded_collection_cannot_be_altered(stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    request = milvus_pb2.AlterIndexRequest(
        collection_name=collection_name, index_name="vec", extra_params=pairs({"mmap.enabled": "true"})
    )
    text = (
        "can't alter index on loaded collection, please release the collection first: "
        f"collection already loaded[collection={collection_name}]"
    )
    assert_refused(stub.AlterIndex(request), 104, text, legacy=1)
