"""Rows SH: ShowCollections and ShowPartitions of what is in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from grpc_calls import assert_ok, assert_refused
from pymilvus.grpc_gen import milvus_pb2
from row_calls import IN_MEMORY, c1, dropped_afterwards, loaded_c1, partition_id, partitions_loaded, two_partitions


def _show(stub: Any, *names: str) -> Any:
    return stub.ShowCollections(milvus_pb2.ShowCollectionsRequest(type=IN_MEMORY, collection_names=names))


@pytest.fixture
def c2(stub: Any, collection_name: str) -> Iterator[str]:
    """An unloaded collection in addition to the test's own."""
    name = f"{collection_name}_2"
    with dropped_afterwards(stub, name):
        yield c1(stub, name)


def test_sh_01_only_loaded_collections_are_in_memory(stub: Any, collection_name: str, c2: str) -> None:
    loaded_c1(stub, collection_name)
    everything = _show(stub)
    assert collection_name in assert_ok(everything).collection_names
    assert c2 not in everything.collection_names
    shown = assert_ok(_show(stub, collection_name))
    assert list(shown.collection_names) == [collection_name]
    assert list(shown.inMemory_percentages) == [100]
    assert list(shown.query_service_available) == [True]


def test_sh_02_an_unloaded_collection_that_is_named_is_refused_by_name(stub: Any, c2: str) -> None:
    text = f"collection not loaded[collection={c2}]"
    assert assert_refused(_show(stub, c2), 101, text, legacy=1).status.reason == text


def test_sh_03_a_missing_collection_that_is_named_is_not_found(stub: Any, collection_name: str) -> None:
    text = f"collection not found[database=default][collection={collection_name}]"
    assert_refused(_show(stub, collection_name), 100, text, legacy=4)


def test_sh_04_only_loaded_partitions_are_in_memory(stub: Any, collection_name: str) -> None:
    partitions_loaded(stub, two_partitions(stub, collection_name), "p1")

    def show(*names: str) -> Any:
        return stub.ShowPartitions(
            milvus_pb2.ShowPartitionsRequest(collection_name=collection_name, type=IN_MEMORY, partition_names=names)
        )

    shown = assert_ok(show())
    assert list(shown.partition_names) == ["p1"]
    assert list(shown.inMemory_percentages) == [100]
    text = f"partition not loaded[partition={partition_id(stub, collection_name, 'p2')}]"
    assert_refused(show("p2"), 201, text, legacy=1)
