"""Load and release of sets of partitions, in every combination."""

from __future__ import annotations

import time
from typing import Any

import pytest
from grpc_calls import LOAD_STATE, assert_ok, assert_refused, collection_id
from partition_calls import IN_MEMORY, Partitions, make_partitions
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2
from sample_collections import make_c1, make_two_vectors

NOT_LOAD, LOADED = LOAD_STATE.Value("LoadStateNotLoad"), LOAD_STATE.Value("LoadStateLoaded")
NO_INDEX = "index not found"
NL, NF = "not loaded", "not found"
DELETED = [*range(50, 150)]

# Steps, then what a search of the collection (or of both), of p1 and of p2 finds.
DELETES = [
    ("del loadC releaseC load2", 50, NL, 50),
    ("loadC del release1", (NL,), NL, 50),
    ("loadC release1 del", 50, NL, 50),
    ("del loadC release1", 50, NL, 50),
    ("del load1 releaseC", NL, NL, NL),
    ("del load1 releaseC load2", 50, NL, 50),
    ("del load2 release2 drop2", NL, NL, NF),
    ("load1 del drop2", 50, 50, NF),
    ("load1 releaseC del loadC", (100,), 50, 50),
    ("load1 del releaseC load1", 50, 50, NL),
]
FLUSHES = [
    ("flush load2 release2 drop2", (NF,), NL, NF),
    ("loadC release2 flush", 100, 100, NL),
    ("flush loadC release2 drop2", 100, 100, NF),
    ("loadC releaseC load2 flush", (NL,), NL, 100),
    ("load2 flush releaseC", (NL,), NL, NL),
    ("load1 flush drop2", 100, 100, NF),
    ("loadC flush release2", 100, 100, NL),
    ("releaseC load2 releaseC load2 releaseC load2 releaseC load2 releaseC load2", 100, NL, 100),
    ("flush loadC release1", 100, NL, 100),
    ("flush loadC releaseC load2", 100, NL, 100),
    ("flush load2 releaseC", NL, NL, NL),
    ("flush load2 releaseC flush", NL, NL, NL),
    ("flush load2 release2 drop2 flush", NL, NL, NF),
    ("loadC release1 release2", "collection not loaded", NL, NL),
    ("loadC create3", 200, 100, 100),
    ("load1 create3", 100, 100, NL),
]
COMPACTIONS = [
    ("compact load2 releaseC load1 load2", 300, 200, 100),
    ("compact loadC releaseC load1", (NL,), 200, NL),
    ("load2 compact releaseC release2", NL, NL, NL),
    ("loadC release1 compact", 100, NL, 100),
    ("compact loadC release1", 100, NL, 100),
    ("loadC compact release2 drop2", 200, 200, NF),
]
COMPACTIONS_NIGHTLY = [pytest.param(*case, marks=pytest.mark.nightly) for case in COMPACTIONS[2:5]]
Expected = int | str | tuple[int | str]


@pytest.fixture
def two(client: MilvusClient, stub: Any, collection_name: str) -> Partitions:
    """100 sealed rows in `_default` (ids 0..99), 100 in p2 (100..199)."""
    made = make_partitions(client, stub, collection_name, "p2")
    assert_ok(made.insert(range(100)))
    assert_ok(made.insert(range(100, 200), "p2"))
    assert_ok(made.flush())
    return made


def _step(made: Partitions, step: str) -> Any:
    verb, which = step[:-1], step[-1]
    names = {"1": "_default", "2": "p2", "3": "p3"}
    match verb, which:
        case "load", "C":
            return made.load_all()
        case "release", "C":
            return made.release_all()
        case "load" | "release" | "drop" | "create", _:
            return getattr(made, verb)(names[which])
        case "de", _:
            return made.delete(f"id in {DELETED}")
        case "flus", _:
            return made.flush()
    request = milvus_pb2.ManualCompactionRequest(collection_name=made.name)
    compaction_id = assert_ok(made.stub.ManualCompaction(request)).compactionID
    deadline = time.monotonic() + 20
    state = milvus_pb2.GetCompactionStateRequest(compactionID=compaction_id)
    while (found := made.stub.GetCompactionState(state)).state != 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def _check(made: Partitions, names: tuple[str, ...], expected: int | str) -> None:
    found = made.search(*names)
    if isinstance(expected, int):
        assert len(assert_ok(found).results.ids.int_id.data) == expected == made.count(*names)
    else:
        assert expected in found.status.reason
        assert expected in made.query(*names).status.reason


def _run(made: Partitions, steps: str, whole: Expected, first: int | str, second: int | str) -> None:
    for step in steps.split():
        assert_ok(_step(made, step))
    _check(
        made, ("_default", "p2") if isinstance(whole, tuple) else (), whole[0] if isinstance(whole, tuple) else whole
    )
    _check(made, ("_default",), first)
    _check(made, ("p2",), second)


@pytest.mark.parametrize(("steps", "whole", "first", "second"), [*DELETES, *FLUSHES])
def test_reads_after_loads_and_releases(
    two: Partitions, steps: str, whole: Expected, first: int | str, second: int | str
) -> None:
    _run(two, steps, whole, first, second)


@pytest.mark.parametrize(
    ("steps", "whole", "first", "second"), [*COMPACTIONS[:2], COMPACTIONS[5], *COMPACTIONS_NIGHTLY]
)
def test_reads_after_loads_releases_and_compactions(
    two: Partitions, steps: str, whole: Expected, first: int | str, second: int | str
) -> None:
    assert_ok(two.insert(range(200, 300)))
    assert_ok(two.flush())
    _run(two, steps, whole, first, second)


def test_a_dropped_partition_is_reported_before_an_unloaded_one(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    made = make_partitions(client, stub, collection_name, "p1", "p2")
    for response in (made.load("p2"), made.release("p2"), made.drop("p2")):
        assert_ok(response)
    assert_refused(made.search("p1", "p2"), 1100, "partition name p2 not found")
    assert_refused(made.search("p1"), 101, "failed to search: collection not loaded")
    assert_refused(made.search("p2"), 1100, "partition name p2 not found")


def test_one_loaded_partition_makes_the_collection_loaded(two: Partitions) -> None:
    """PT-01, PT-02, PT-14, SH-04."""
    assert_ok(two.load("p2"))
    deadline = time.monotonic() + 10
    while assert_ok(two.progress("p2")).progress < 100:
        assert time.monotonic() < deadline
    assert two.hits() == [*range(100, 200)]
    assert [assert_ok(s).state for s in (two.state(), two.state("p2"), two.state("_default"))] == [
        LOADED,
        LOADED,
        NOT_LOAD,
    ]
    assert assert_ok(two.state("p2", "_default")).state == NOT_LOAD
    assert assert_ok(two.progress()).progress == 100
    default = two.partition_id("_default")
    assert_refused(two.progress("_default"), 201, f"partition not loaded[partition={default}]")
    assert_refused(two.progress("p2", "nope"), 200, "partition not found[partition=nope]")
    shown = assert_ok(two.show(type=IN_MEMORY))
    assert (list(shown.partition_names), list(shown.inMemory_percentages)) == (["p2"], [100])
    assert list(assert_ok(two.show("p2", type=IN_MEMORY)).partition_names) == ["p2"]
    assert_refused(two.show("_default", type=IN_MEMORY), 201, f"partition not loaded[partition={default}]")
    assert_refused(two.show("nope", type=IN_MEMORY), 200, "partition not found[partition=nope]")
    shown = assert_ok(two.show("nope"))
    assert (list(shown.partition_names), list(shown.inMemory_percentages)) == (["_default", "p2"], [])


def test_nothing_is_shown_in_memory_while_nothing_is_loaded(two: Partitions) -> None:
    assert list(assert_ok(two.show(type=IN_MEMORY)).partition_names) == []
    assert_refused(two.progress("p2"), 201, f"partition not loaded[partition={two.partition_id('p2')}]")
    assert_refused(two.progress(), 101, "collection not loaded")


def test_the_refusal_of_an_unloaded_partition_names_the_query_node(two: Partitions) -> None:
    """PT-03, PT-04."""
    assert_ok(two.load("_default"))
    assert two.hits() == [*range(100)]
    number = collection_id(two.stub, two.name)
    channel = f"failed to search/query delegator 1 for channel milvine-dml_0_{number}v0"
    loaded = f"QueryNode 1: partition not loaded[partition={two.partition_id('p2')}]"
    assert_refused(two.search("p2"), 201, f"failed to search: {channel}: fail to search on {loaded}")
    assert_refused(two.query("_default", "p2"), 201, f"failed to query: {channel}: fail to Query on {loaded}")
    assert_refused(two.delete("a > 0", "p2"), 201, f"partition not loaded[partition={two.partition_id('p2')}]")


def test_releasing_the_last_partition_releases_the_collection(two: Partitions) -> None:
    """PT-05, PT-06, PT-07, PT-11."""
    assert_ok(two.load_all())
    assert two.count() == 200
    assert_ok(two.release("_default"))
    assert two.hits() == [*range(100, 200)]
    assert_refused(two.search("_default"), 201, "partition not loaded")
    assert_ok(two.release("p2"))
    assert assert_ok(two.state()).state == NOT_LOAD
    assert_refused(two.search("_default"), 101, "failed to search: collection not loaded")
    assert_ok(two.release("p2", "_default"))


@pytest.mark.parametrize("collection_first", [True, False])
def test_a_collection_and_its_partitions_can_be_loaded_in_any_order(two: Partitions, collection_first: bool) -> None:
    """PT-15, PT-16."""
    if collection_first:
        assert_ok(two.load_all())
    assert_ok(two.load("p2"))
    assert_ok(two.load_all())
    assert_ok(two.load("p2"))
    assert two.count() == 200
    assert assert_ok(two.state("_default", "p2")).state == LOADED


@pytest.mark.parametrize("whole", [True, False])
def test_a_partition_created_in_a_loaded_collection_is_loaded(two: Partitions, whole: bool) -> None:
    """PT-17."""
    assert_ok(two.load_all() if whole else two.load("_default"))
    assert_ok(two.create("p3"))
    assert_ok(two.insert([500], "p3"))
    assert two.ids("p3") == [500]
    assert two.ids() == [*range(200 if whole else 100), 500]
    assert assert_ok(two.state("p3")).state == LOADED
    assert_ok(two.flush())
    assert two.ids("p3") == [500]


def test_only_an_unloaded_partition_can_be_dropped(two: Partitions) -> None:
    """PT-18, PT-19."""
    assert_ok(two.create("p3"))
    assert_ok(two.load("p2"))
    text = "partition cannot be dropped, partition is loaded, please release it first: invalid parameter"
    assert_refused(two.drop("p2"), 1100, text, legacy=5)
    assert_ok(two.drop("p3"))
    assert two.count() == 100


def test_names_of_what_to_load_and_release_are_checked(two: Partitions) -> None:
    """PT-08, PT-09, PT-10, PT-13, PT-20."""
    assert_refused(two.load("p2", "nope"), 200, "partition not found[partition=nope]", legacy=15)
    assert_refused(two.load(), 1100, "failed to load partition, due to no partition specified: invalid parameter")
    assert_refused(two.release("nope"), 200, "partition not found[partition=nope]")
    assert_refused(two.release(), 1100, "invalid parameter[expected=any partition][actual=empty partition list]")
    assert_refused(two.state("nope"), 200, "partition not found[partition=nope]")
    for found in (two.search("nope"), two.query("p2", "nope")):
        assert_refused(found, 1100, "partition name nope not found")
    assert assert_ok(two.state()).state == NOT_LOAD


def test_fields_and_indexes_are_checked_before_partition_names(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    """IX-02."""
    make_c1(client, collection_name, index=False)
    made = Partitions(stub, collection_name)
    assert_refused(made.load("_default"), 700, f"index not found[collection={collection_name}]", legacy=25)
    assert_refused(made.load("nope"), 700, NO_INDEX)
    assert_refused(made.load(), 700, NO_INDEX)
    assert_refused(made.load("nope", load_fields=["id", "a"]), 1100, "does not contain vector field")
    missing = Partitions(stub, "missing")
    for response in (missing.load("p"), missing.release("p")):
        assert_refused(response, 100, "collection not found[database=default][collection=missing]")


def test_only_the_vectors_that_are_loaded_need_an_index(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_two_vectors(client, collection_name, indexed=["v0"])
    made = Partitions(stub, collection_name)
    assert_refused(made.load("_default"), 1100, "there is no vector index on field: [v1], please create index firstly")
    assert_ok(made.load("_default", load_fields=["id", "v0"]))
    assert assert_ok(made.state("_default")).state in (LOADED, LOADED - 1)


def test_the_replica_number_of_loaded_partitions_stays(two: Partitions) -> None:
    """PT-21."""
    assert_ok(two.load("_default", replica_number=1))
    text = "can't change the replica number for loaded partitions: invalid parameter[expected=1][actual=2]"
    assert_refused(two.load("p2", replica_number=2), 1100, text)
    assert_ok(two.load("p2", replica_number=1))
    assert two.count() == 200


def test_an_unloadable_replica_number_is_refused_without_the_coordinators_prefix(two: Partitions) -> None:
    found = assert_refused(two.load("p2", replica_number=3), 12, "when load 3 replica count", retriable=True)
    assert "LoadCollection" not in found.reason


def test_refreshing_partitions_checks_the_state(two: Partitions) -> None:
    assert_refused(two.load("p2", refresh=True), 101, "collection not loaded")
    assert_ok(two.load("p2"))
    assert two.count() == 100
    assert_ok(two.load("p2", refresh=True))


def test_fields_given_with_partitions_are_those_of_all_loaded_partitions(two: Partitions) -> None:
    assert_ok(two.load("_default"))
    assert len(assert_ok(two.query(fields=["a"])).fields_data) == 2
    assert_ok(two.load("p2", load_fields=["id", "vec"]))
    assert two.count() == 200
    assert_refused(two.query("_default", fields=["a"]), 65535, "field a is not loaded")
    assert_ok(two.load("p2"))
    assert sorted(assert_ok(two.query(text="a == 1500", fields=["a"])).fields_data[0].scalars.long_data.data) == [1500]


def test_rows_written_while_a_partition_is_not_loaded_are_there_when_it_is(two: Partitions) -> None:
    assert_ok(two.load("_default"))
    assert_ok(two.insert([900], "p2"))
    assert_ok(two.delete("id in [100, 5]"))
    assert_ok(two.flush())
    assert_ok(two.insert([901], "p2"))
    assert two.ids() == [i for i in range(100) if i != 5]
    assert_ok(two.load("p2"))
    assert two.ids("p2") == [*range(101, 200), 900, 901]
    assert two.ids("p2", "_default") == [i for i in range(200) if i not in (5, 100)] + [900, 901]
