"""Reads at a timestamp whose rows compaction may have removed are refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Server
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2
from sample_collections import add_index, c1_rows, ids_of, make_c1

REFUSED = "only support to travel back to 0s so far"
EVERYTHING = "id >= 0"


@pytest.fixture(scope="module")
def eager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without retention: the next compaction removes deleted rows."""
    environment = {"MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "600", "MILVINE_COMMON_RETENTIONDURATION": "0"}
    with Server(tmp_path_factory.mktemp("eager"), env=environment).running() as server:
        yield server


def now(server: Server) -> int:
    ts: int = server.stub.AllocTimestamp(milvus_pb2.AllocTimestampRequest()).timestamp
    return ts


def at(ts: int) -> dict[str, Any]:
    return {"consistency_level": "Customized", "guarantee_timestamp": ts}


def compact(client: MilvusClient, name: str) -> None:
    time.sleep(0.01)  # the last delete is older than the retention of 0 s
    job = client.compact(name)
    deadline = time.monotonic() + 60
    while client.get_compaction_state(job) != "Completed":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_refused(call: Callable[[], object], text: str = REFUSED) -> None:
    with pytest.raises(MilvusException) as caught:
        call()
    assert (caught.value.code, text in caught.value.message) == (65535, True), caught.value


def assert_all_refused(client: MilvusClient, name: str, ts: int) -> None:
    assert_refused(lambda: client.query(name, filter=EVERYTHING, **at(ts)))
    assert_refused(lambda: client.query(name, filter="", output_fields=["count(*)"], **at(ts)))
    assert_refused(lambda: client.search(name, [[0.0] * 4], limit=3, **at(ts)))


def test_a_timestamp_before_a_folded_delete_is_refused_by_every_read_and_after_a_restart(eager: Server) -> None:
    client, name = eager.client(), "folded"
    make_c1(client, name, load=True)
    client.insert(name, c1_rows(100))
    before = now(eager)
    client.flush(name)
    compact(client, name)
    assert ids_of(client, name, EVERYTHING, **at(before)) == [*range(100)], "a compaction that removes nothing"
    client.delete(name, ids=[1, 2])
    after = now(eager)
    client.flush(name)
    assert ids_of(client, name, EVERYTHING, **at(before)) == [*range(100)]
    compact(client, name)
    for turn in range(2):
        assert_all_refused(client, name, before)
        expected = [i for i in range(100) if i not in (1, 2)]
        assert ids_of(client, name, EVERYTHING, **at(after)) == expected
        assert ids_of(client, name, EVERYTHING) == expected
        if turn == 0:
            client.close()
            eager.kill()
            eager.start()
            client = eager.client()
    client.close()


def test_the_deletes_of_a_segment_removed_whole_are_remembered_too(eager: Server) -> None:
    client, name = eager.client(), "emptied"
    make_c1(client, name, load=True)
    client.insert(name, c1_rows(10))
    before = now(eager)
    client.flush(name)
    client.delete(name, filter=EVERYTHING)
    after = now(eager)
    client.flush(name)
    compact(client, name)
    assert client.list_persistent_segments(name) == []
    assert_refused(lambda: client.query(name, filter=EVERYTHING, **at(before)))
    assert ids_of(client, name, EVERYTHING, **at(after)) == []
    client.close()


@pytest.mark.parametrize("kind", ["query", "search"])
def test_an_iterator_that_outlives_the_retention_ends_with_an_error_and_a_quiet_one_does_not(
    eager: Server, kind: str
) -> None:
    client, name = eager.client(), f"iterated_{kind}"
    make_c1(client, name, load=True)
    client.insert(name, c1_rows(30))
    client.delete(name, ids=[29])
    client.flush(name)

    def iterate() -> Any:
        if kind == "query":
            return client.query_iterator(name, batch_size=10, filter=EVERYTHING)
        return client.search_iterator(name, [[0.0] * 4], batch_size=10, consistency_level="Bounded")

    quiet = iterate()
    assert len(quiet.next()) == 10
    compact(client, name)
    assert [len(quiet.next()) for _ in range(2)] == [10, 9], "the removed rows died before the iterator began"
    outliving = iterate()
    assert len(outliving.next()) == 10
    client.delete(name, ids=[15])
    client.flush(name)
    compact(client, name)
    assert_refused(outliving.next)
    client.close()


def test_a_timestamp_before_every_row_that_a_time_to_live_keeps_is_refused(eager: Server) -> None:
    client, name = eager.client(), "short_lived"
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection(name, schema=schema, properties={"collection.ttl.seconds": "1"})
    add_index(client, name, "vec")
    client.load_collection(name)
    client.insert(name, [{"id": 1, "vec": [0.0] * 4}])
    before = now(eager)
    time.sleep(1.1)
    assert ids_of(client, name, EVERYTHING, **at(before)) == [], "no later write exists, so the read is allowed"
    client.insert(name, [{"id": 2, "vec": [0.0] * 4}])
    assert_refused(
        lambda: client.query(name, filter=EVERYTHING, **at(before)), "only support to travel back to 1s so far"
    )
    client.close()


def test_a_timestamp_before_a_truncation_is_refused_and_one_after_it_sees_later_rows(eager: Server) -> None:
    client, name = eager.client(), "truncated"
    make_c1(client, name, load=True)
    client.insert(name, c1_rows(10))
    before = now(eager)
    client.truncate_collection(name)
    client.insert(name, c1_rows(3))
    assert_all_refused(client, name, before)
    assert ids_of(client, name, EVERYTHING, **at(now(eager))) == [0, 1, 2]
    client.close()


def iterated(client: MilvusClient, name: str) -> tuple[list[int], list[int]]:
    """The keys that iterators of a query and of a search find. Each reads all pages at the timestamp of the first."""
    found: list[list[int]] = []
    for pages in (
        client.query_iterator(name, filter=EVERYTHING, batch_size=2),
        client.search_iterator(name, [[0.0] * 4], batch_size=2, limit=-1),
    ):
        keys: list[int] = []
        while page := pages.next():
            keys.extend(row["id"] for row in page)
        pages.close()
        found.append(sorted(keys))
    return found[0], found[1]


@pytest.mark.timeout(60)
def test_iterators_read_what_a_truncation_or_a_folded_delete_left_though_nothing_is_written_later(
    new_server: Callable[..., Server],
) -> None:
    server = new_server(env={"MILVINE_COMMON_RETENTIONDURATION": "0"})
    client = server.client()
    for name in ("emptied", "halved"):
        make_c1(client, name, load=True)
        client.insert(name, c1_rows(10))
    client.truncate_collection("emptied")
    assert iterated(client, "emptied") == ([], [])
    client.delete("halved", filter="id >= 5")
    client.flush("halved")
    compact(client, "halved")
    assert iterated(client, "halved") == ([0, 1, 2, 3, 4],) * 2
    client.create_snapshot("then", "halved")
    job_id = client.restore_snapshot("then", "halved", "restored")
    while client.get_restore_snapshot_state(job_id).state != "RestoreSnapshotCompleted":
        time.sleep(0.05)
    client.load_collection("restored")
    assert iterated(client, "restored") == ([0, 1, 2, 3, 4],) * 2
    client.close()
    server.stop()
    server.start()
    client = server.client()
    for name in ("emptied", "halved"):
        client.load_collection(name)
    assert iterated(client, "emptied") == ([], [])
    assert iterated(client, "halved") == ([0, 1, 2, 3, 4],) * 2
    client.close()
