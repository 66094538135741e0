"""Rows PR: properties of collections and fields, loaded and not."""

from __future__ import annotations

from typing import Any

from grpc_calls import assert_ok, assert_refused, field, load_state, pairs, scalars
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from row_calls import LOADED, NOT_LOAD, c1, column, describe, flush, found, insert, loaded, loaded_c1, query

_ALREADY = "collection already loaded[collection={}]"


def _alter(stub: Any, name: str, **properties: str) -> Any:
    """`__` in a name stands for a dot."""
    given = pairs({k.replace("__", "."): v for k, v in properties.items()})
    return stub.AlterCollection(milvus_pb2.AlterCollectionRequest(collection_name=name, properties=given))


def _property(stub: Any, name: str, key: str) -> str | None:
    return {pair.key: pair.value for pair in describe(stub, name).properties}.get(key)


def _refuse_loaded(response: Any, name: str, text: str) -> None:
    refused = assert_refused(response, 104, text, legacy=1)
    assert refused.reason == f"{text}: {_ALREADY.format(name)}"


def test_pr_01_mmap_of_a_loaded_collection_cannot_be_altered(stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    response = _alter(stub, collection_name, mmap__enabled="true")
    _refuse_loaded(response, collection_name, "can not alter mmap properties if collection loaded")
    assert _property(stub, collection_name, "mmap.enabled") is None


def test_pr_02_mmap_of_a_loaded_collection_cannot_be_taken_back(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    assert_ok(_alter(stub, collection_name, mmap__enabled="true"))
    loaded(stub, collection_name)
    request = milvus_pb2.AlterCollectionRequest(collection_name=collection_name, delete_keys=["mmap.enabled"])
    text = "can not delete mmap properties if collection loaded"
    _refuse_loaded(stub.AlterCollection(request), collection_name, text)
    assert _property(stub, collection_name, "mmap.enabled") == "true"


def test_pr_03_warmup_of_a_loaded_collection_cannot_be_altered(stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    response = _alter(stub, collection_name, warmup__vectorIndex="sync")
    _refuse_loaded(response, collection_name, "can not alter warmup properties if collection loaded")


def test_pr_04_an_invalid_warmup_is_refused_with_its_own_text(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    response = _alter(stub, collection_name, warmup__vectorIndex="bogus")
    assert_refused(response, 1100, "invalid warmup value for key warmup.vectorIndex: ", legacy=5)
    assert "bogus" in response.reason
    assert _property(stub, collection_name, "warmup.vectorIndex") is None


def test_pr_05_mmap_of_a_field_of_a_loaded_collection_cannot_be_altered(stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    request = milvus_pb2.AlterCollectionFieldRequest(
        collection_name=collection_name, field_name="a", properties=pairs({"mmap.enabled": "true"})
    )
    text = "can not alter collection field properties if collection loaded"
    _refuse_loaded(stub.AlterCollectionField(request), collection_name, text)


def test_pr_06_mmap_of_an_unloaded_collection_is_altered_shown_and_loaded(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    flush(stub, collection_name)
    assert_ok(_alter(stub, collection_name, mmap__enabled="true"))
    assert load_state(stub, collection_name) == NOT_LOAD
    loaded(stub, collection_name)
    assert _property(stub, collection_name, "mmap.enabled") == "true"
    assert found(stub, collection_name) == [0, 1, 2, 3, 4]
    assert column(query(stub, collection_name, "a > 20", "a"), "a") == [30, 40]


def test_pr_07_the_time_to_live_of_a_loaded_collection_may_be_altered(stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    assert_ok(_alter(stub, collection_name, collection__ttl__seconds="3600"))
    assert _property(stub, collection_name, "collection.ttl.seconds") == "3600"
    assert load_state(stub, collection_name) == LOADED
    assert found(stub, collection_name) == [0, 1, 2, 3, 4]


def test_pr_08_a_nullable_field_added_to_a_loaded_collection_is_usable_at_once(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name, rows=3)
    flush(stub, collection_name)
    loaded(stub, collection_name)
    added = field("b", schema_pb2.Int64, nullable=True).SerializeToString()
    request = milvus_pb2.AddCollectionFieldRequest(collection_name=collection_name, schema=added)
    assert_ok(stub.AddCollectionField(request))
    numbers = scalars("b", schema_pb2.Int64, [300, 400])
    numbers.valid_data.extend([True, True])
    insert(stub, collection_name, [3, 4], numbers)
    assert load_state(stub, collection_name) == LOADED
    assert column(query(stub, collection_name, "b > 300", "b"), "b") == [400]
    assert column(query(stub, collection_name, "b is null", "id")) == [0, 1, 2]
