"""Rows PT: load and release of partitions. p1 has rows 0, 1, 2 and p2 rows 10, 11; nothing is in `_default`."""

from __future__ import annotations

from typing import Any

import pytest
from grpc_calls import assert_ok, assert_refused, load_state
from pymilvus.grpc_gen import milvus_pb2
from row_calls import (
    LOADED,
    NOT_LOAD,
    P1,
    P2,
    column,
    create_partition,
    found,
    insert,
    load_partitions,
    loaded,
    not_loaded,
    partition_id,
    partition_key_collection,
    partitions_loaded,
    progress,
    query,
    release_partitions,
    search,
    state,
    two_partitions,
    wait_loaded,
)


def _p1_loaded(stub: Any, name: str) -> str:
    return partitions_loaded(stub, two_partitions(stub, name), "p1")


def _all_loaded(stub: Any, name: str) -> str:
    return loaded(stub, two_partitions(stub, name))


def _refuse_unloaded(stub: Any, name: str, response: Any, partition: str, prefix: str) -> None:
    text = f"partition not loaded[partition={partition_id(stub, name, partition)}]"
    refused = assert_refused(response, 201, text, legacy=1)
    assert refused.status.reason.startswith(prefix)
    assert refused.status.reason.endswith(text)


def _drop_partition(stub: Any, name: str, partition: str) -> Any:
    return stub.DropPartition(milvus_pb2.DropPartitionRequest(collection_name=name, partition_name=partition))


def _partition_names(stub: Any, name: str) -> list[str]:
    shown = stub.ShowPartitions(milvus_pb2.ShowPartitionsRequest(collection_name=name))
    return sorted(assert_ok(shown).partition_names)


def test_pt_01_one_loaded_partition_makes_the_collection_loaded(stub: Any, collection_name: str) -> None:
    two_partitions(stub, collection_name)
    assert_ok(load_partitions(stub, collection_name, "p1"))
    wait_loaded(stub, collection_name, "p1")
    assert load_state(stub, collection_name) == LOADED
    assert load_state(stub, collection_name, partition_names=["p1"]) == LOADED
    assert load_state(stub, collection_name, partition_names=["p2"]) == NOT_LOAD
    assert load_state(stub, collection_name, partition_names=["p1", "p2"]) == NOT_LOAD


def test_pt_02_a_search_that_names_no_partition_sees_the_loaded_ones(stub: Any, collection_name: str) -> None:
    assert found(stub, _p1_loaded(stub, collection_name)) == P1
    assert column(query(stub, collection_name, "id >= 0", "id")) == P1


def test_pt_03_searching_an_unloaded_partition_is_refused(stub: Any, collection_name: str) -> None:
    _p1_loaded(stub, collection_name)
    _refuse_unloaded(stub, collection_name, search(stub, collection_name, "p2"), "p2", "failed to search: ")


def test_pt_04_querying_an_unloaded_partition_among_others_is_refused(stub: Any, collection_name: str) -> None:
    _p1_loaded(stub, collection_name)
    response = query(stub, collection_name, "id >= 0", "id", partitions=["p1", "p2"])
    _refuse_unloaded(stub, collection_name, response, "p2", "failed to query: ")


def test_pt_05_a_partition_may_be_released_from_a_loaded_collection(stub: Any, collection_name: str) -> None:
    _all_loaded(stub, collection_name)
    assert_ok(release_partitions(stub, collection_name, "p1"))
    assert found(stub, collection_name) == P2
    assert found(stub, collection_name, "p2") == P2
    _refuse_unloaded(stub, collection_name, search(stub, collection_name, "p1"), "p1", "failed to search: ")


def test_pt_06_releasing_the_last_partition_releases_the_collection(stub: Any, collection_name: str) -> None:
    _p1_loaded(stub, collection_name)
    assert_ok(release_partitions(stub, collection_name, "p1"))
    assert load_state(stub, collection_name) == NOT_LOAD


def test_pt_07_searching_a_partition_of_an_unloaded_collection_names_the_collection(
    stub: Any, collection_name: str
) -> None:
    _p1_loaded(stub, collection_name)
    assert_ok(release_partitions(stub, collection_name, "p1"))
    refused = assert_refused(search(stub, collection_name, "p1"), 101, "collection not loaded", legacy=1)
    assert refused.status.reason == not_loaded(stub, collection_name, "failed to search: ")


def test_pt_08_an_unknown_partition_cannot_be_loaded(stub: Any, collection_name: str) -> None:
    two_partitions(stub, collection_name)
    text = "partition not found[partition=nope]"
    assert_refused(load_partitions(stub, collection_name, "p1", "nope"), 200, text, legacy=15)
    assert load_state(stub, collection_name) == NOT_LOAD


def test_pt_09_a_load_of_no_partitions_is_refused(stub: Any, collection_name: str) -> None:
    two_partitions(stub, collection_name)
    text = "failed to load partition, due to no partition specified: invalid parameter"
    assert_refused(load_partitions(stub, collection_name), 1100, text, legacy=5)
    assert load_state(stub, collection_name) == NOT_LOAD


def test_pt_10_a_release_of_no_partitions_is_refused(stub: Any, collection_name: str) -> None:
    _all_loaded(stub, collection_name)
    text = "invalid parameter[expected=any partition][actual=empty partition list]"
    assert_refused(release_partitions(stub, collection_name), 1100, text, legacy=5)
    assert load_state(stub, collection_name) == LOADED


def test_pt_11_an_unloaded_partition_may_be_released(stub: Any, collection_name: str) -> None:
    two_partitions(stub, collection_name)
    assert_ok(release_partitions(stub, collection_name, "p1"))
    assert load_state(stub, collection_name) == NOT_LOAD


def test_pt_12_partitions_of_a_partition_key_collection_are_not_loaded_one_by_one(
    stub: Any, collection_name: str
) -> None:
    partition_key_collection(stub, collection_name)
    text = "partitions if partition key mode is used: invalid parameter"
    assert_refused(load_partitions(stub, collection_name, "_default_0"), 1100, f"disable load {text}", legacy=5)
    assert_refused(release_partitions(stub, collection_name, "_default_0"), 1100, f"disable release {text}", legacy=5)


def test_pt_13_state_of_an_unknown_partition_is_not_found(stub: Any, collection_name: str) -> None:
    _p1_loaded(stub, collection_name)
    assert_refused(state(stub, collection_name, "nope"), 200, "partition not found[partition=nope]", legacy=15)


def test_pt_14_progress_of_an_unloaded_partition_is_refused(stub: Any, collection_name: str) -> None:
    _p1_loaded(stub, collection_name)
    _refuse_unloaded(stub, collection_name, progress(stub, collection_name, "p2"), "p2", "partition not loaded")


def test_pt_15_loading_the_collection_loads_the_other_partitions(stub: Any, collection_name: str) -> None:
    loaded(stub, _p1_loaded(stub, collection_name))
    assert found(stub, collection_name) == P1 + P2
    assert load_state(stub, collection_name, partition_names=["p2"]) == LOADED


def test_pt_16_loading_a_partition_of_a_loaded_collection_changes_nothing(stub: Any, collection_name: str) -> None:
    _all_loaded(stub, collection_name)
    assert_ok(load_partitions(stub, collection_name, "p1"))
    assert load_state(stub, collection_name, partition_names=["p1", "p2"]) == LOADED
    assert found(stub, collection_name) == P1 + P2


def test_pt_17_a_partition_of_a_loaded_collection_is_loaded_from_its_creation(stub: Any, collection_name: str) -> None:
    _all_loaded(stub, collection_name)
    create_partition(stub, collection_name, "p3")
    insert(stub, collection_name, [20, 21], partition="p3")
    assert found(stub, collection_name, "p3") == [20, 21]
    assert load_state(stub, collection_name, partition_names=["p3"]) == LOADED


def test_pt_18_a_loaded_partition_cannot_be_dropped(stub: Any, collection_name: str) -> None:
    _p1_loaded(stub, collection_name)
    text = "partition cannot be dropped, partition is loaded, please release it first: invalid parameter"
    assert_refused(_drop_partition(stub, collection_name, "p1"), 1100, text, legacy=5)
    assert found(stub, collection_name) == P1


def test_pt_19_an_unloaded_partition_of_a_loaded_collection_may_be_dropped(stub: Any, collection_name: str) -> None:
    _p1_loaded(stub, collection_name)
    assert_ok(_drop_partition(stub, collection_name, "p2"))
    assert _partition_names(stub, collection_name) == ["_default", "p1"]
    assert found(stub, collection_name) == P1


def test_pt_20_searching_an_unknown_partition_is_refused_whatever_is_loaded(stub: Any, collection_name: str) -> None:
    two_partitions(stub, collection_name)
    assert_refused(search(stub, collection_name, "nope"), 1100, "partition name nope not found", legacy=5)
    loaded(stub, collection_name)
    assert_refused(search(stub, collection_name, "nope"), 1100, "partition name nope not found", legacy=5)


@pytest.mark.one_process("it counts one node and one replica")
def test_pt_21_another_replica_number_cannot_be_given_for_one_more_partition(stub: Any, collection_name: str) -> None:
    _p1_loaded(stub, collection_name)
    text = "can't change the replica number for loaded partitions: invalid parameter[expected=1][actual=2]"
    assert_refused(load_partitions(stub, collection_name, "p2", replica_number=2), 1100, text, legacy=5)
    assert load_state(stub, collection_name, partition_names=["p2"]) == NOT_LOAD
    assert found(stub, collection_name) == P1
