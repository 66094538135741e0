"""Loaded collections that give their memory back while nobody reads them, and come back for the next read."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
from conftest import Server
from grpc_calls import assert_ok, assert_refused, load_state, query_request, search_request
from load_calls import LOADED, NOT_LOAD, estimate, gate, load, loaded, memory, progress, release, until
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2
from sample_collections import add_index, wait_indexed

COLLECTIONS = [f"c{i}" for i in range(6)]
ROWS, DIM = 3000, 64
LIMIT = 4_100_000
"""Of the six, four fit: each takes about 850 kB."""
VECTORS = np.random.default_rng(5).normal(size=(ROWS, DIM)).astype(np.float32)
LRU = {"MILVINE_MEMORY_POLICY": "lru", "MILVINE_MEMORY_LIMIT": str(LIMIT)}
IDLE = {"MILVINE_COLLECTION_IDLE_RELEASE_SECONDS": "300ms"}
READERS = 8


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with six loaded collections."""
    server = Server(tmp_path_factory.mktemp("stored")).start()
    client: MilvusClient = server.client()
    try:
        for name in COLLECTIONS:
            schema = client.create_schema()
            schema.add_field("id", DataType.INT64, is_primary=True)
            schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
            schema.add_field("a", DataType.INT64)
            client.create_collection(name, schema=schema)
            add_index(client, name, "vec", "FLAT")
            client.insert(name, [{"id": i, "vec": v, "a": i} for i, v in enumerate(VECTORS)])
            client.flush(name)
        for name in COLLECTIONS:
            wait_indexed(client, name, "vec", ROWS)
            loaded(server.stub, name)
        client.close()
        server.stop()
    finally:
        server.close()
    return server.data_dir


def _server(stored: Path, directory: Path, settings: dict[str, str]) -> Iterator[Server]:
    shutil.copytree(stored, directory / "data")
    with Server(directory, env=settings).running() as server:
        yield server


@pytest.fixture(scope="module")
def small(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its memory is less than its loaded collections need."""
    yield from _server(stored, tmp_path_factory.mktemp("small"), LRU)


@pytest.fixture(scope="module")
def idle(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _server(stored, tmp_path_factory.mktemp("idle"), IDLE)


def _nearest(server: Server, name: str, key: int) -> list[int]:
    answer = server.stub.Search(search_request(name, VECTORS[key : key + 1].tolist(), 1))
    return list(assert_ok(answer).results.ids.int_id.data)


def _value(server: Server, name: str, key: int) -> list[int]:
    answer = assert_ok(server.stub.Query(query_request(name, f"id == {key}", ["a"])))
    return [
        value for column in answer.fields_data if column.field_name == "a" for value in column.scalars.long_data.data
    ]


def _resting(server: Server) -> set[str]:
    return {c["collectionName"] for c in memory(server)["collections"] if c["isResting"]}


def _metric(server: Server, name: str) -> float:
    lines = requests.get(f"{server.uri}/metrics", timeout=10).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def _until_resting(server: Server, names: set[str]) -> None:
    until(lambda: names <= _resting(server), f"{names} do not rest")


def test_an_idle_collection_gives_its_memory_back_and_stays_loaded(idle: Server) -> None:
    _until_resting(idle, set(COLLECTIONS))
    found = memory(idle)
    assert (found["measuredBytes"], found["reservedBytes"]) == (0, 0)
    for collection in found["collections"]:
        assert (collection["loadState"], collection["loadProgress"]) == ("LoadStateLoaded", 100)
        assert (collection["measuredBytes"], collection["estimatedBytes"] > 4 * ROWS * DIM) == (0, True)
    assert load_state(idle.stub, "c0") == LOADED
    assert assert_ok(progress(idle.stub, "c0")).progress == 100
    assert estimate(idle, "c0")["neededBytes"] > 4 * ROWS * DIM
    assert _metric(idle, "milvine_resting_collections ") == len(COLLECTIONS)
    assert requests.get(f"{idle.uri}/healthz", timeout=10).status_code == 200


def test_the_next_read_brings_it_back(idle: Server) -> None:
    _until_resting(idle, {"c1"})
    woken = _metric(idle, "milvine_woken_collections_total")
    assert _nearest(idle, "c1", 7) == [7]
    assert _value(idle, "c1", 8) == [8]
    assert _metric(idle, "milvine_woken_collections_total") > woken
    _until_resting(idle, {"c1"})
    assert assert_ok(idle.stub.Query(query_request("c1", "", ["count(*)"]))).fields_data[0].scalars.long_data.data == [
        ROWS
    ]


def test_reads_at_the_same_time_bring_it_back_once(idle: Server) -> None:
    _until_resting(idle, set(COLLECTIONS))
    woken = _metric(idle, "milvine_woken_collections_total")
    with ThreadPoolExecutor(READERS) as readers:
        answers = list(readers.map(lambda key: _nearest(idle, "c2", key), range(READERS)))
    assert answers == [[key] for key in range(READERS)]
    assert _metric(idle, "milvine_woken_collections_total") == woken + 1


def test_more_reads_than_may_wait_for_a_load_bring_it_back(stored: Path, tmp_path: Path) -> None:
    """Three of the four threads may wait for collections that load."""
    with gate(tmp_path) as opening:
        opening.let_through()
        threads = {"MILVINE_PROXY_WORKERTHREADS": "4"}
        for server in _server(stored, tmp_path, IDLE | opening.environment | threads):
            _until_resting(server, set(COLLECTIONS))
            opening.close_again()
            with ThreadPoolExecutor(READERS) as readers:
                answers = [readers.submit(_nearest, server, "c2", key) for key in range(READERS)]
                time.sleep(0.5)
                opening.let_through()
                assert [answer.result() for answer in answers] == [[key] for key in range(READERS)]


def test_writes_to_a_resting_collection_are_seen_when_it_is_back(idle: Server) -> None:
    _until_resting(idle, {"c3"})
    client = idle.client()
    client.insert("c3", [{"id": ROWS, "vec": VECTORS[0], "a": -1}])
    client.delete("c3", ids=[1])
    client.flush("c3")
    client.upsert("c3", [{"id": 2, "vec": VECTORS[2], "a": -2}])
    _until_resting(idle, {"c3"})
    assert [_value(idle, "c3", key) for key in (0, 1, 2, ROWS)] == [[0], [], [-2], [-1]]
    client.close()


def test_a_load_brings_a_resting_collection_back(idle: Server) -> None:
    _until_resting(idle, {"c4"})
    woken = _metric(idle, "milvine_woken_collections_total")
    loaded(idle.stub, "c4")
    until(lambda: memory(idle)["measuredBytes"] > 0, "nothing came back")
    assert _metric(idle, "milvine_woken_collections_total") == woken + 1
    _until_resting(idle, {"c4"})
    loaded(idle.stub, "c4", load_fields=["id", "vec"])
    refused = idle.stub.Query(query_request("c4", "id == 1", ["a"]))
    assert_refused(refused, 65535, "field a is not loaded")
    loaded(idle.stub, "c4")


def test_a_released_collection_does_not_come_back(idle: Server) -> None:
    _until_resting(idle, {"c5"})
    assert_ok(release(idle.stub, "c5"))
    assert load_state(idle.stub, "c5") == NOT_LOAD
    assert "c5" not in _resting(idle)
    assert_refused(idle.stub.Query(query_request("c5", "id == 1", ["a"])), 101, "collection not loaded")
    loaded(idle.stub, "c5")
    assert _value(idle, "c5", 1) == [1]


def test_a_damaged_file_ends_the_load_when_it_is_to_come_back(idle: Server) -> None:
    _until_resting(idle, set(COLLECTIONS))
    client = idle.client()
    client.create_collection("damaged", dimension=DIM)
    client.insert("damaged", [{"id": i, "vector": v} for i, v in enumerate(VECTORS[:10])])
    before = set((idle.data_dir / "segments").rglob("*"))
    client.flush("damaged")
    files = [f for f in set((idle.data_dir / "segments").rglob("*")) - before if f.is_file()]
    _until_resting(idle, {"damaged"})
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    answer = idle.stub.Query(query_request("damaged", "id == 1", ["id"]))
    assert_refused(answer, 101, "collection not loaded")
    assert load_state(idle.stub, "damaged") == NOT_LOAD
    (found,) = [c for c in memory(idle)["collections"] if c["collectionName"] == "damaged"]
    assert "checksum" in found["reason"]
    client.drop_collection("damaged")
    client.close()


def test_after_a_restart_what_does_not_fit_rests(small: Server) -> None:
    assert all(load_state(small.stub, name) == LOADED for name in COLLECTIONS)
    until(lambda: requests.get(f"{small.uri}/healthz", timeout=10).status_code == 200, "it is not healthy")
    assert len(_resting(small)) == 2
    for key, name in enumerate(COLLECTIONS):
        assert _nearest(small, name, key) == [key]
        assert len(_resting(small)) == 2


def test_a_load_that_does_not_fit_lets_the_longest_unread_rest(small: Server) -> None:
    assert_ok(release(small.stub, "c0"))
    for name in ("c4", "c2", "c1", "c3"):
        assert _value(small, name, 1) == [1]
    assert _resting(small) == {"c5"}
    loaded(small.stub, "c0")
    assert _resting(small) == {"c4", "c5"}
    assert _value(small, "c4", 2) == [2]
    assert _resting(small) == {"c2", "c5"}


def test_a_load_that_could_not_fit_alone_is_refused_and_nothing_rests(small: Server) -> None:
    client = small.client()
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=1024)
    client.create_collection("large", schema=schema)
    add_index(client, "large", "vec", "FLAT")
    for start in (0, 600):
        client.insert("large", [{"id": start + i, "vec": np.ones(1024, np.float32)} for i in range(600)])
    client.flush("large")
    before = _resting(small), memory(small)["measuredBytes"]
    assert_refused(load(small.stub, "large"), 3, "memory limit exceeded")
    assert (_resting(small), memory(small)["measuredBytes"]) == before
    client.drop_collection("large")
    client.close()


@pytest.mark.nightly
def test_a_read_of_what_no_longer_fits_says_so(stored: Path, tmp_path: Path) -> None:
    for server in _server(stored, tmp_path, LRU | {"MILVINE_MEMORY_LIMIT": "500000"}):
        assert _resting(server) == set(COLLECTIONS)
        answer = server.stub.Query(query_request("c0", "id == 1", ["a"]))
        assert_refused(answer, 3, "memory limit exceeded")
        assert load_state(server.stub, "c0") == LOADED


@pytest.mark.one_process("the limit is twice as large for two replicas")
@pytest.mark.long
def test_every_answer_is_right_while_collections_take_turns(small: Server) -> None:
    """More collections than fit are read and written at the same time; no read fails, and the limit holds."""
    seed = random.randrange(10**9)
    print(f"seed {seed}")  # noqa: T201
    stop, problems, counts, highest = threading.Event(), list[str](), dict[str, int](), [0]
    rested = _metric(small, "milvine_rested_collections_total")

    def repeat(what: str, step: Callable[[random.Random], str | None]) -> None:
        rng = random.Random(f"{seed} {what}")
        while not stop.is_set() and not problems:
            try:
                problem = step(rng)
            except AssertionError as error:
                problem = str(error)
            counts[what] = counts.get(what, 0) + 1
            if problem:
                problems.append(f"{what}: {problem}")

    def search(rng: random.Random) -> str | None:
        name, key = rng.choice(COLLECTIONS), rng.randrange(100, ROWS)
        found = _nearest(small, name, key)
        return None if found == [key] else f"{name} {key}: {found}"

    def write(rng: random.Random) -> str | None:
        name, key, value = rng.choice(COLLECTIONS), rng.randrange(100), rng.randrange(10**9)
        client.upsert(name, [{"id": key, "vec": VECTORS[key], "a": value}])
        if rng.random() < 0.2:
            assert_ok(small.stub.Flush(milvus_pb2.FlushRequest(collection_names=[name])).status)
        found = _value(small, name, key)
        return None if found == [value] else f"{name} {key}: {found}, not {value}"

    def watch(_: random.Random) -> str | None:
        found = memory(small)
        highest[0] = max(highest[0], found["measuredBytes"] + found["reservedBytes"])
        wrong = [c["collectionName"] for c in found["collections"] if c["loadState"] != "LoadStateLoaded"]
        return f"{wrong} are not loaded" if wrong else None

    client = small.client()
    steps = {"search 1": search, "search 2": search, "write": write, "watch": watch}
    threads = [threading.Thread(target=repeat, args=one) for one in steps.items()]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    while time.monotonic() < started + 3 or min(counts.get(what, 0) for what in steps) <= 10:
        if problems or time.monotonic() > started + 60:
            break
        time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    client.close()
    assert not problems, problems
    assert all(counts[what] > 10 for what in steps), counts
    assert highest[0] <= LIMIT
    assert _metric(small, "milvine_rested_collections_total") > rested + 10
