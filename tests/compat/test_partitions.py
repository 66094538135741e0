"""Creating, dropping and counting partitions, and writes and reads that name them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from conftest import Server, ServerFactory
from directory_check import damages
from grpc_calls import LOAD_STATE, assert_ok, assert_refused, load_state
from load_calls import loaded
from partition_calls import Partitions, make_partitions
from pymilvus import MilvusClient
from sample_collections import c1_rows, ids_of, make_c1

LOADED = LOAD_STATE.Value("LoadStateLoaded")
BAD_NAMES = [
    ("", "Invalid partition name: . Partition name should not be empty."),
    (" ", "Invalid partition name: . Partition name should not be empty."),
    ("a" * 256, "The length of a partition name must be less than 255 characters."),
    ("$a", "The first character of a partition name must be an underscore or letter."),
    ("a b", "Partition name can only contain numbers, letters and underscores."),
]
ROUTES = ["create", "drop", "has"]


@pytest.fixture
def made(client: MilvusClient, stub: Any, collection_name: str) -> Partitions:
    """Rows 0..9 in `_default`, 10..19 and 25 in p1, 20..29 in p2."""
    made = make_partitions(client, stub, collection_name, "p1", "p2")
    assert_ok(made.insert(range(10)))
    assert_ok(made.insert([*range(10, 20), 25], "p1"))
    assert_ok(made.insert(range(20, 30), "p2"))
    return made


def stats_of(made: Partitions, partition: str) -> int:
    (pair,) = assert_ok(made.row_count(partition)).stats
    assert pair.key == "row_count"
    return int(pair.value)


def test_partitions_are_created_once_listed_in_order_and_dropped(made: Partitions) -> None:
    assert_ok(made.create("p1"))
    assert_ok(made.create("1-a"))
    shown = assert_ok(made.show())
    assert list(shown.partition_names) == ["_default", "p1", "p2", "1-a"]
    assert len(set(shown.partitionIDs)) == 4
    assert list(shown.created_timestamps) == sorted(shown.created_timestamps)
    assert [ts >> 18 for ts in shown.created_timestamps] == list(shown.created_utc_timestamps)
    assert assert_ok(made.has("p1")).value is True
    assert_ok(made.drop("p1"))
    assert assert_ok(made.has("p1")).value is False
    assert_ok(made.drop("p1"))
    assert_ok(made.drop("never"))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("name", "text"), BAD_NAMES)
def test_a_bad_partition_name_is_refused(made: Partitions, route: str, name: str, text: str) -> None:
    assert_refused(getattr(made, route)(name), 1100, text, legacy=5)


@pytest.mark.parametrize("route", [*ROUTES, "row_count"])
def test_a_missing_collection_is_reported(stub: Any, route: str) -> None:
    found = getattr(Partitions(stub, "missing"), route)("p")
    assert_refused(found, 100, "collection not found[database=default][collection=missing]", legacy=4)


def test_names_are_checked_in_milvus_order(stub: Any) -> None:
    """`has` checks both names before anything else; the other calls check the collection first."""
    missing = Partitions(stub, "missing")
    assert_refused(missing.has("$"), 1100, "Invalid partition name")
    assert_refused(missing.create("$"), 100, "collection not found")
    assert_refused(Partitions(stub, "1st").has("$"), 1100, "Invalid collection name")


def test_the_default_partition_stays(made: Partitions) -> None:
    assert_refused(made.drop("_default"), 1100, "default partition cannot be deleted: invalid parameter")
    assert_ok(made.load_all())
    assert_refused(made.drop("_default"), 1100, "partition is loaded, please release it first")
    assert_ok(made.create("_default"))


def test_a_collection_has_at_most_1024_partitions(client: MilvusClient, stub: Any, collection_name: str) -> None:
    made = make_partitions(client, stub, collection_name)
    for number in range(1023):
        assert_ok(made.create(f"p{number}"))
    text = f"partition number (1024) exceeds max configuration (1024), collection: {collection_name}: invalid parameter"
    assert_refused(made.create("more"), 1100, text)
    assert_ok(made.create("p7"))
    assert_ok(made.drop("p7"))
    assert_ok(made.create("more"))


def test_rows_of_a_partition_are_counted_growing_and_sealed(made: Partitions) -> None:
    assert [stats_of(made, p) for p in ("_default", "p1", "p2")] == [10, 11, 10]
    assert_ok(made.flush())
    assert_ok(made.insert([99], "p1"))
    assert [stats_of(made, p) for p in ("_default", "p1", "p2")] == [10, 12, 10]
    assert_refused(made.row_count("nope"), 200, "partition not found[partition=nope]", legacy=15)


@pytest.mark.parametrize("flushed", [False, True])
def test_reads_see_the_partitions_they_name(made: Partitions, flushed: bool) -> None:
    if flushed:
        assert_ok(made.flush())
    assert_ok(made.load_all())
    assert made.ids("p1") == [*range(10, 20), 25]
    assert made.hits("p2") == [*range(20, 30)]
    assert made.ids("p1", "_default") == [*range(20), 25]
    assert made.count("p2", "p1") == 21
    assert made.count() == 31
    assert made.ids("p1", text="id in [25, 3]") == [25]


def test_iterators_and_get_stay_in_their_partition(made: Partitions, client: MilvusClient) -> None:
    assert_ok(made.load_all())
    pages = client.query_iterator(made.name, batch_size=4, partition_names=["p1"], output_fields=["id"])
    found: list[int] = []
    while page := pages.next():
        found += [row["id"] for row in page]
    assert found == [*range(10, 20), 25]
    hits = client.search_iterator(made.name, [[0.0, 0.0, 0.0, 0.0]], batch_size=4, partition_names=["p2"], limit=100)
    found = []
    while page := hits.next():
        found += [hit["id"] for hit in page]
    assert sorted(found) == [*range(20, 30)]
    assert [row["id"] for row in client.get(made.name, [3, 15, 25], partition_names=["p2"])] == [25]


@pytest.mark.parametrize("flushed", [False, True])
def test_deletes_and_upserts_stay_in_the_partition_they_name(made: Partitions, flushed: bool) -> None:
    """A delete that names no partition reaches all of them."""
    if flushed:
        assert_ok(made.flush())
    assert_ok(made.load_all())
    assert_ok(made.delete("id in [3, 15, 25]", "p1"))
    assert made.ids("p1") == [i for i in range(10, 20) if i != 15]
    assert 3 in made.ids("_default")
    assert 25 in made.ids("p2")
    assert_ok(made.delete("a >= 180 and a < 220", "p2"))
    assert made.ids("p2") == [*range(22, 30)]
    assert made.ids("p1") == [*range(10, 15), *range(16, 20)]
    assert_ok(made.upsert([22, 500], "p1"))
    assert (22 in made.ids("p1"), 22 in made.ids("p2")) == (True, True)
    assert_ok(made.delete("id == 22"))
    assert made.count("p1") == 10
    assert made.count("p2") == 7


@pytest.mark.parametrize("call", [lambda m: m.insert([1], "nope"), lambda m: m.upsert([1], "nope")])
def test_writes_to_an_unknown_partition_are_refused(made: Partitions, call: Callable[[Partitions], Any]) -> None:
    assert_refused(call(made), 200, "partition not found[partition=nope]", legacy=15)


def test_deletes_check_the_filter_before_the_partition(made: Partitions) -> None:
    assert_refused(made.delete("nope ==", "nope"), 1100, "failed to create delete plan")
    assert_refused(made.delete("id in [1]", "nope"), 200, "partition not found[partition=nope]")
    assert_refused(made.delete("id in [1]", "a b"), 1100, "Invalid partition name: a b.")


@pytest.mark.parametrize("flushed", [False, True])
def test_dropping_a_partition_removes_its_rows(made: Partitions, flushed: bool) -> None:
    """Also when it is created again under its name."""
    if flushed:
        assert_ok(made.flush())
    assert_ok(made.delete("id == 11"))
    assert_ok(made.drop("p1"))
    assert_ok(made.load_all())
    assert made.ids() == [*range(10), *range(20, 30)]
    assert_refused(made.query("p1"), 1100, "partition name p1 not found")
    assert_ok(made.create("p1"))
    assert made.ids("p1") == []
    assert_ok(made.insert([11], "p1"))
    assert made.ids("p1") == [11]
    assert made.count() == 21


@pytest.mark.parametrize("flushed", [False, True])
def test_truncating_removes_all_rows_and_nothing_else(made: Partitions, flushed: bool) -> None:
    """LS-27."""
    if flushed:
        assert_ok(made.flush())
    loaded(made.stub, made.name)
    assert_ok(made.delete("id == 3"))
    assert_ok(made.truncate())
    assert load_state(made.stub, made.name) == LOADED
    assert (made.ids(), made.hits(), made.count()) == ([], [], 0)
    assert [stats_of(made, p) for p in ("_default", "p1", "p2")] == [0, 0, 0]
    assert_ok(made.truncate())
    assert_ok(made.insert([3, 4], "p2"))
    assert_ok(made.flush())
    assert (made.ids("p2"), made.hits()) == ([3, 4], [3, 4])


def test_truncating_a_missing_collection_is_refused(stub: Any) -> None:
    assert_refused(Partitions(stub, "missing").truncate(), 100, "collection not found", legacy=4)
    assert_refused(Partitions(stub, "1st").truncate(), 1100, "Invalid collection name")


def _files(server: Server) -> set[str]:
    segments = server.data_dir / "segments"
    return {str(p.relative_to(segments)) for p in segments.glob("*/*")}


def test_drops_releases_and_truncations_survive_a_restart(new_server: ServerFactory) -> None:
    """A replay of the log restores neither rows nor files of a dropped partition."""
    server = new_server()
    client = server.client()
    made = make_partitions(client, server.stub, "c", "p1", "p2", "p3")
    assert_ok(made.insert(range(100), "p1"))
    assert_ok(made.delete("id == 3", "p1"))
    assert_ok(made.flush())
    assert_ok(made.insert(range(100, 110), "p1"))
    assert_ok(made.upsert(range(105, 115), "p1"))
    assert_ok(made.insert(range(200, 210), "p2"))
    assert_ok(made.delete("id in [100, 201]", "p1"))
    assert_ok(made.load("p2", "p3"))
    assert_ok(made.drop("p1"))
    make_c1(client, "emptied", load=True)
    client.insert("emptied", c1_rows(10))
    client.flush("emptied")
    client.insert("emptied", c1_rows(10, first=10))
    assert_ok(Partitions(server.stub, "emptied").truncate())
    client.insert("emptied", c1_rows(5, first=50))
    client.close()
    assert _files(server) == set(), "files of removed rows"
    server.kill()
    assert damages(server.data_dir) == []
    server.start()
    made = Partitions(server.stub, "c")
    assert list(assert_ok(made.show()).partition_names) == ["_default", "p2", "p3"]
    assert made.ids() == [*range(200, 210)]
    assert_refused(made.query("_default"), 201, "partition not loaded")
    assert ids_of(server.client(), "emptied", "id >= 0") == [*range(50, 55)]


def _loaded_bytes(server: Server) -> float:
    text = requests.get(f"{server.uri}/metrics", timeout=5).text
    (line,) = [x for x in text.splitlines() if x.startswith("milvine_loaded_bytes ")]
    return float(line.split()[1])


def test_releasing_partitions_and_truncating_free_memory(new_server: ServerFactory) -> None:
    server = new_server()
    made = make_partitions(server.client(), server.stub, "c", "p1")
    assert_ok(made.insert(range(5000)))
    assert_ok(made.insert(range(5000, 6000), "p1"))
    assert_ok(made.flush())
    assert_ok(made.load_all())
    assert made.count() == 6000
    whole = _loaded_bytes(server)
    assert_ok(made.release("_default"))
    part = _loaded_bytes(server)
    assert 0 < part < whole / 3
    assert_ok(made.load("_default"))
    assert made.count() == 6000
    assert _loaded_bytes(server) == whole
    assert_ok(made.truncate())
    _wait(lambda: _loaded_bytes(server) == 0)


def _wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
