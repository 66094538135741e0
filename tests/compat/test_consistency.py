"""Consistency levels: each sees every acknowledged write; Customized reads at its timestamp."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from grpc_calls import STRONG
from pymilvus import MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2
from sample_collections import c1_rows, ids_of, make_c1, make_text_keys

LEVELS = ["Strong", "Session", "Bounded", "Eventually"]
_MS = 1 << 18


def now(server: Any) -> int:
    """A timestamp after every acknowledged write and before every later one."""
    ts: int = server.stub.AllocTimestamp(milvus_pb2.AllocTimestampRequest()).timestamp
    return ts


def ids_at(client: MilvusClient, name: str, ts: int, filter_text: str = "id >= 0") -> list[Any]:
    """Ids of query, count and search at a timestamp, which must agree."""
    at: dict[str, Any] = {"consistency_level": "Customized", "guarantee_timestamp": ts}
    found = ids_of(client, name, filter_text, **at)
    counted = client.query(name, filter=filter_text, output_fields=["count(*)"], **at)[0]["count(*)"]
    hits = client.search(name, [[0.0] * 4], limit=16000, filter=filter_text, **at)[0]
    assert counted == len(found)
    assert sorted(hit["id"] for hit in hits) == found
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_sees_another_clients_acknowledged_write(
    server: Any, client: MilvusClient, collection_name: str, level: str
) -> None:
    make_c1(client, collection_name, load=True)
    other = server.client()
    for turn in range(5):
        other.insert(collection_name, c1_rows(10, 10 * turn))
        assert ids_of(client, collection_name, "id >= 0", consistency_level=level) == [*range(10 * turn + 10)]
        hits = client.search(collection_name, [[10.0 * turn + 9, 0, 0, 0]], limit=1, consistency_level=level)
        assert hits[0][0]["id"] == 10 * turn + 9
    other.delete(collection_name, ids=[49])
    assert ids_of(client, collection_name, "id >= 0", consistency_level=level) == [*range(49)]
    other.close()


@pytest.mark.parametrize("flushes", [(), (1,), (2,), (3,), (1, 3), (1, 2, 3)], ids=str)
def test_a_customized_timestamp_reads_the_rows_of_that_time(
    server: Any, client: MilvusClient, collection_name: str, flushes: tuple[int, ...]
) -> None:
    """Over growing and sealed rows, with deletes before and after a flush; `flushes`: after which steps."""
    make_c1(client, collection_name, load=True)
    steps: list[Any] = [
        lambda: client.insert(collection_name, c1_rows(100)),
        lambda: client.delete(collection_name, ids=[*range(0, 100, 2)]),
        lambda: client.insert(collection_name, c1_rows(20)[::2]),
        lambda: client.delete(collection_name, filter="a >= 500"),
    ]
    states = [[*range(100)], [*range(1, 100, 2)]]
    states += [[*range(20), *range(21, 100, 2)]]
    states += [[i for i in states[2] if i < 50]]
    taken = [(now(server), list[int]())]
    for number, (step, state) in enumerate(zip(steps, states, strict=True), 1):
        step()
        taken.append((now(server), state))
        if number in flushes:
            client.flush(collection_name)
    for turn in ("as written", "loaded again"):
        for step_number, (ts, state) in enumerate(taken):
            assert ids_at(client, collection_name, ts) == state, f"{turn}, after step {step_number}"
            assert ids_at(client, collection_name, ts, "id in [0, 1, 98]") == [i for i in (0, 1, 98) if i in state]
        client.release_collection(collection_name)
        client.load_collection(collection_name)


def test_old_timestamps_are_read_after_a_restart_and_with_text_keys(new_server: Any) -> None:
    server = new_server()
    client = server.client()
    make_text_keys(client, "texts", "id", 4, 16)
    rows = [{"id": f"k{i}", "vec": [float(i), 0, 0, 0]} for i in range(6)]
    client.insert("texts", rows[:4])
    first = now(server)
    client.flush("texts")
    client.delete("texts", ids=["k1", "k2"])
    client.insert("texts", rows[4:])
    second = now(server)
    client.delete("texts", ids=["k5"])
    for turn in range(2):
        assert ids_at(client, "texts", first, 'id like "k%"') == ["k0", "k1", "k2", "k3"]
        assert ids_at(client, "texts", second, 'id like "k%"') == ["k0", "k3", "k4", "k5"]
        if turn == 0:
            client.close()
            server.kill()
            server.start()
            client = server.client()
            client.load_collection("texts")
    client.close()


def test_reads_at_a_timestamp_always_answer_the_same(server: Any, client: MilvusClient, collection_name: str) -> None:
    """Reads wait for writes that have their timestamp but are not synced yet."""
    make_c1(client, collection_name, load=True)
    ending = threading.Event()

    def write(first: int) -> None:
        own = server.client()
        while not ending.is_set():
            own.insert(collection_name, c1_rows(3, first))
            first += 3
        own.close()

    writers = [threading.Thread(target=write, args=(10**6 * n,)) for n in range(2)]
    for writer in writers:
        writer.start()
    try:
        seen = []
        for _ in range(30):
            ts = now(server)
            at = {"consistency_level": "Customized", "guarantee_timestamp": ts}
            count = client.query(collection_name, filter="", output_fields=["count(*)"], **at)[0]["count(*)"]
            seen.append((at, count))
    finally:
        ending.set()
        for writer in writers:
            writer.join(30)
    for at, count in seen:
        again = client.query(collection_name, filter="", output_fields=["count(*)"], **at)[0]["count(*)"]
        assert again == count


def test_a_read_waits_for_a_timestamp_just_ahead_and_refuses_one_far_ahead(
    server: Any, client: MilvusClient, collection_name: str
) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(5))
    started = time.monotonic()
    assert ids_at(client, collection_name, now(server) + 200 * _MS) == [*range(5)]
    assert time.monotonic() - started >= 0.19
    with pytest.raises(MilvusException) as caught:
        client.query(
            collection_name,
            filter="id >= 0",
            consistency_level="Customized",
            guarantee_timestamp=now(server) + 3_600_000 * _MS,
        )
    assert caught.value.code == 505
    assert "channel tsafe stalled" in caught.value.message


@pytest.mark.parametrize("placeholder", [0, 1, 2])
def test_the_sdks_values_for_eventually_and_bounded_are_not_timestamps(
    server: Any, client: MilvusClient, collection_name: str, placeholder: int
) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(5))
    for level in (STRONG, 4):
        request = milvus_pb2.QueryRequest(
            collection_name=collection_name,
            expr="id >= 0",
            output_fields=["id"],
            consistency_level=level,
            guarantee_timestamp=placeholder,
        )
        assert list(server.stub.Query(request).fields_data[0].scalars.long_data.data) == [*range(5)]


def test_other_levels_take_the_timestamp_as_a_lower_bound(
    server: Any, client: MilvusClient, collection_name: str
) -> None:
    """As in Milvus: Session and the collection's own level send the last write's timestamp and may see more."""
    make_c1(client, collection_name, load=True)
    before = now(server)
    client.insert(collection_name, c1_rows(5))
    levels: list[dict[str, Any]] = [{"consistency_level": 1}, {"use_default_consistency": True}]
    for level in levels:
        request = milvus_pb2.QueryRequest(
            collection_name=collection_name, expr="id >= 0", guarantee_timestamp=before, output_fields=["id"], **level
        )
        assert len(server.stub.Query(request).fields_data[0].scalars.long_data.data) == 5
