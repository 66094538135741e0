"""Loads in progress: reported, cancelled, changed, interrupted, failed and resumed.

One server's loading threads are held after each file, so tests can act in the middle of a load.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import Server, ServerFactory
from grpc_calls import assert_ok, assert_refused, collection_id, count, load_state, query_request, search_request
from load_calls import (
    LOADED,
    LOADING,
    NOT_EXIST,
    NOT_LOAD,
    PATIENCE_SECONDS,
    Gate,
    gate,
    load,
    loaded,
    memory,
    progress,
    release,
    until,
)
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2
from sample_collections import c1_rows, make_c1

ORIGIN = [0.0, 0.0, 0.0, 0.0]
ROWS = 1200
STEPS = 8
"""Two segments of four files: keys, id, vec and a."""
THREADS = max(2, os.cpu_count() or 1)


class Held:
    """A server whose loading is held, and its calls in the background."""

    def __init__(self, server: Server, held: Gate) -> None:
        self.server = server
        self.gate = held
        self.stub = server.stub
        self.client: MilvusClient = server.client()

    def make(self, name: str) -> str:
        """Two sealed segments, not loaded; merging waits for a third."""
        make_c1(self.client, name)
        for first in (0, ROWS):
            self.client.insert(name, c1_rows(ROWS, first=first))
            self.client.flush(name)
        self.gate.close_again()
        return name

    def memory(self, name: str) -> dict[str, Any] | None:
        return next((c for c in memory(self.server)["collections"] if c["collectionName"] == name), None)

    def percent(self, name: str) -> int:
        number: int = assert_ok(progress(self.stub, name)).progress
        return number

    def held_back(self, name: str) -> None:
        """Loads until one thread has a file in memory and is held; the others are held a little later."""
        assert_ok(load(self.stub, name))
        until(lambda: self.percent(name) > 0, "no file was opened")


@pytest.fixture(scope="module")
def held_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    directory = tmp_path_factory.mktemp("held")
    with gate(directory) as made:
        environment = {"MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "1000", "MILVINE_PROXY_WORKERTHREADS": "8"}
        server = Server(directory, env={**made.environment, **environment})
        server.start()
        try:
            yield Held(server, made)
        finally:
            server.close()


@pytest.fixture
def held(held_server: Held) -> Iterator[Held]:
    """After each test, also a failed one, loading goes on and all collections are dropped."""
    yield held_server
    held_server.gate.close_again()
    held_server.gate.let_through()
    for name in held_server.client.list_collections():
        held_server.client.drop_collection(name)


def in_background(call: Any, *arguments: Any) -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call(*arguments)))
    thread.start()
    return thread, answers


def ended(background: tuple[threading.Thread, list[Any]]) -> Any:
    thread, answers = background
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    return answers[0]


@pytest.mark.one_process("it lets the threads of one process read files one by one")
def test_progress_moves_while_files_are_opened(held: Held) -> None:
    """LS-03, LS-04, and a refresh of a loading collection."""
    name = held.make("moves")
    held.held_back(name)
    assert load_state(held.stub, name) == LOADING
    seen = [held.percent(name)]
    for _ in range(STEPS - THREADS):
        held.gate.let_through(1)
        until(lambda: held.percent(name) > seen[-1], "progress stands still")
        seen.append(held.percent(name))
    assert load_state(held.stub, name) == LOADING
    assert (seen[0] < 60, seen[-1] < 100) == (True, True), seen
    held.gate.let_through(THREADS)
    until(lambda: held.percent(name) == 100, "it is not loaded")
    assert load_state(held.stub, name) == LOADED
    assert count(held.stub, name) == 2 * ROWS


def test_every_call_reports_a_loading_collection(held: Held) -> None:
    name = held.make("says")
    held.held_back(name)
    answer = assert_ok(progress(held.stub, name))
    assert 0 < answer.progress < 100
    assert answer.refresh_progress == 100
    text = f"collection not fully loaded: collection not loaded[collection={collection_id(held.stub, name)}]"
    assert_refused(load(held.stub, name, refresh=True), 101, text)
    request = milvus_pb2.ShowCollectionsRequest(type=milvus_pb2.ShowType.InMemory)
    shown = assert_ok(held.stub.ShowCollections(request))
    place = list(shown.collection_names).index(name)
    assert 0 < shown.inMemory_percentages[place] < 100
    assert not shown.query_service_available[place]
    found = held.memory(name)
    assert found is not None
    assert found["loadState"] == "LoadStateLoading"
    assert answer.progress <= found["loadProgress"] <= held.percent(name)
    assert found["reservedBytes"] > 0
    # A read waits for it.
    waiting = in_background(held.stub.Query, query_request(name, "", ["count(*)"]))
    assert_ok(load(held.stub, name))  # the same again changes nothing
    held.gate.let_through()
    assert ended(waiting).fields_data[0].scalars.long_data.data[0] == 2 * ROWS


def test_waiting_reads_leave_threads_for_other_calls(held: Held) -> None:
    """Three quarters of the threads may wait."""
    name = held.make("waited_for")
    held.held_back(name)
    reads = [in_background(held.stub.Query, query_request(name, "", ["count(*)"])) for _ in range(10)]
    until(lambda: sum(not thread.is_alive() for thread, _ in reads) == 4, "too few are refused")
    assert held.percent(name) < 100
    refused = [answers[0] for thread, answers in reads if not thread.is_alive()]
    for answer in refused:
        assert_refused(answer, 103, "collection not fully loaded", retriable=True)
    held.gate.let_through()
    served = [answer for answer in map(ended, reads) if answer not in refused]
    assert [assert_ok(answer).fields_data[0].scalars.long_data.data[0] for answer in served] == 6 * [2 * ROWS]


def test_a_release_ends_a_load_in_the_middle(held: Held) -> None:
    name = held.make("released")
    held.held_back(name)
    waiting = in_background(held.stub.Search, search_request(name, [ORIGIN], 1))
    releasing = in_background(release, held.stub, name)
    until(lambda: load_state(held.stub, name) == NOT_LOAD, "it is not released")
    held.gate.let_through(THREADS)  # the held ones; no further file is opened
    assert_ok(ended(releasing))
    assert_refused(ended(waiting), 101, "failed to search: collection not loaded")
    assert held.memory(name) is None
    assert_refused(progress(held.stub, name), 101, "collection not loaded")
    held.gate.let_through()
    loaded(held.stub, name)
    assert count(held.stub, name) == 2 * ROWS


def test_a_drop_ends_a_load_in_the_middle(held: Held) -> None:
    name = held.make("dropped")
    held.held_back(name)
    dropping = in_background(held.client.drop_collection, name)
    until(lambda: load_state(held.stub, name) == NOT_EXIST, "it is not dropped")
    held.gate.let_through(THREADS)
    ended(dropping)
    assert held.memory(name) is None
    assert not list(held.server.data_dir.glob("segments/*/*")) or name not in held.client.list_collections()


def test_a_load_of_other_fields_ends_a_load_in_the_middle(held: Held) -> None:
    name = held.make("changed")
    held.held_back(name)
    changing = in_background(lambda: load(held.stub, name, load_fields=["id", "vec"]))
    held.gate.let_through()
    assert_ok(ended(changing))
    until(lambda: load_state(held.stub, name) == LOADED, "it is not loaded")
    assert_refused(held.stub.Query(query_request(name, "a > 0", ["id"])), 1100, "is not loaded")
    found = held.memory(name)
    assert found is not None
    parts = {p["name"] for p in found["partitions"][0]["segments"][0]["parts"]}
    assert parts == {"rows", "id", "vec"}


def test_a_flush_an_added_field_another_load_and_a_release_do_not_wait_for_a_load(held: Held) -> None:
    name, other = held.make("long"), held.make("short")
    held.held_back(name)
    held.client.insert(name, c1_rows(10, first=2 * ROWS))
    held.client.flush(name)
    held.client.add_collection_field(name, "b", data_type=DataType.INT64, nullable=True)
    assert_ok(load(held.stub, name, load_fields=["id", "vec"]))
    held.client.insert(other, c1_rows(10, first=2 * ROWS))
    held.client.flush(other)
    assert load_state(held.stub, name) == LOADING
    assert_ok(release(held.stub, name))
    assert load_state(held.stub, name) == NOT_LOAD
    held.gate.let_through()
    loaded(held.stub, name)
    assert count(held.stub, name) == 2 * ROWS + 10
    answer = assert_ok(held.stub.Query(query_request(name, "b is null", ["count(*)"])))
    assert answer.fields_data[0].scalars.long_data.data[0] == 2 * ROWS + 10


def test_reads_continue_while_a_field_is_added_in_place(held: Held) -> None:
    """LF-14h: fields in both lists are served all the time; reads wait for added fields."""
    name = held.make("in_place")
    held.gate.let_through()
    loaded(held.stub, name, load_fields=["id", "vec"])
    held.gate.close_again()
    assert_ok(load(held.stub, name, load_fields=["id", "vec", "a"]))
    assert load_state(held.stub, name) == LOADING
    assert 0 < held.percent(name) < 100, "the shared parts are in memory already"
    for _ in range(20):
        answer = assert_ok(held.stub.Search(search_request(name, [ORIGIN], 3)))
        assert list(answer.results.ids.int_id.data) == [0, 1, 2]
        assert count(held.stub, name) == 2 * ROWS
    waiting = in_background(held.stub.Query, query_request(name, "a == 50", ["a"]))
    held.gate.let_through(1)  # one segment has the field, the other does not
    for _ in range(20):
        assert count(held.stub, name) == 2 * ROWS
    assert waiting[0].is_alive()
    held.gate.let_through()
    assert list(assert_ok(ended(waiting)).fields_data[0].scalars.long_data.data) == [50]
    assert load_state(held.stub, name) == LOADED


def test_a_field_removed_from_the_load_is_refused_and_never_read_as_null(held: Held) -> None:
    name = held.make("taken")
    held.gate.let_through()
    loaded(held.stub, name)
    stop, wrong = threading.Event(), list[Any]()

    def read_all_the_time() -> None:
        while not stop.is_set():
            answer = held.stub.Query(query_request(name, "id in [1, 1300]", ["a"]))
            if answer.status.code:
                if "field a is not loaded" not in answer.status.reason:
                    wrong.append(answer.status)
            elif list(answer.fields_data[0].scalars.long_data.data) != [10, 13000]:
                wrong.append(answer.fields_data)

    thread = threading.Thread(target=read_all_the_time)
    thread.start()
    for fields in (["id", "vec"], ["id", "vec", "a"]) * 10:
        loaded(held.stub, name, load_fields=fields)
    stop.set()
    thread.join()
    assert wrong == []


def test_loads_and_releases_of_many_threads_end_in_the_state_last_requested(held: Held) -> None:
    name = held.make("contended")
    held.gate.let_through(60_000)
    answers = list[Any]()

    def load_and_release(number: int) -> None:
        fields = [[], ["id", "vec"]][number % 2]
        for _ in range(15):
            answers.append(load(held.stub, name, load_fields=fields))
            answers.append(release(held.stub, name))

    threads = [threading.Thread(target=load_and_release, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {a.code for a in answers} == {0}
    assert load_state(held.stub, name) == NOT_LOAD
    assert held.memory(name) is None
    loaded(held.stub, name)
    assert count(held.stub, name) == 2 * ROWS


def test_an_interrupted_load_is_resumed_after_a_crash(tmp_path: Path, new_server: ServerFactory) -> None:
    """LS-25, for a load in the middle."""
    with gate(tmp_path) as made:
        server = new_server(env=made.environment)
        one = Held(server, made)
        one.make("c")
        one.held_back("c")
        one.client.close()
        server.kill()
    server = new_server(data_dir=server.data_dir)
    assert load_state(server.stub, "c") in (LOADING, LOADED)
    assert count(server.stub, "c") == 2 * ROWS
    until(lambda: load_state(server.stub, "c") == LOADED, "it is not loaded")


@pytest.mark.one_process("a head that starts before its nodes unloads nothing")
def test_a_collection_that_does_not_fit_after_a_restart_is_not_loaded_and_says_why(new_server: ServerFactory) -> None:
    server = new_server()
    client: MilvusClient = server.client()
    for name in ("first", "second"):
        make_c1(client, name)
        client.insert(name, c1_rows(ROWS))
        client.flush(name)
        loaded(server.stub, name)
    measured = memory(server)["measuredBytes"]
    client.close()
    server.kill()
    server = new_server(data_dir=server.data_dir, env={"MILVINE_MEMORY_LIMIT": str(int(measured * 0.7))})
    stub = server.stub
    until(lambda: load_state(stub, "first") == LOADED, "what fits is not loaded")
    assert load_state(stub, "second") == NOT_LOAD
    text = (
        "segment request resource failed[resourceType=Memory]: "
        f"collection not loaded[collection={collection_id(stub, 'second')}]"
    )
    assert assert_refused(progress(stub, "second"), 101, text).status.reason == text
    assert requests.get(f"{server.uri}/healthz", timeout=10).text == "OK"


def test_a_failed_load_ends_in_not_load_with_a_reason_and_holds_no_memory(new_server: ServerFactory) -> None:
    server = new_server()
    client: MilvusClient = server.client()
    make_c1(client, "c")
    client.insert("c", c1_rows(ROWS))
    client.flush("c")
    column = max(server.data_dir.glob("segments/*/*/*.col"))
    content = bytearray(column.read_bytes())
    content[len(content) // 2] ^= 1
    column.write_bytes(content)
    assert_ok(load(server.stub, "c"))
    until(lambda: load_state(server.stub, "c") == NOT_LOAD, "it is loaded from a damaged file")
    reason = assert_refused(progress(server.stub, "c"), 101, str(column)).status.reason
    assert "does not match its checksum" in reason
    until(lambda: [memory(server)[key] for key in ("measuredBytes", "reservedBytes")] == [0, 0], "it is not given back")
    answer = memory(server)
    assert [(c["loadState"], c["reason"] in reason) for c in answer["collections"]] == [("LoadStateNotLoad", True)]
    assert_ok(release(server.stub, "c"))
    assert "checksum" not in progress(server.stub, "c").status.reason, "a release forgets the failure"
    content[len(content) // 2] ^= 1
    column.write_bytes(content)
    loaded(server.stub, "c")
    assert count(server.stub, "c") == ROWS
    client.close()


def test_a_collection_is_loaded_as_soon_as_its_partitions_are(new_server: ServerFactory, tmp_path: Path) -> None:
    """PT-01, between the opening of the last segment and the loader's next look."""
    with gate(tmp_path, "load.compared") as held:
        server = new_server(env=held.environment)
        make_c1(server.client(), "parts")
        server.client().create_partition("parts", "p1")
        request = milvus_pb2.LoadPartitionsRequest(collection_name="parts", partition_names=["p1"])
        assert_ok(server.stub.LoadPartitions(request))
        until(lambda: load_state(server.stub, "parts", partition_names=["p1"]) == LOADED, "p1 is not loaded")
        assert load_state(server.stub, "parts") == LOADED
        held.let_through()
        assert count(server.stub, "parts") == 0
