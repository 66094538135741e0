"""Reads of a loaded partition while others are created, loaded and dropped; a load that does not fit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from conftest import ServerFactory
from grpc_calls import assert_ok, assert_refused
from partition_calls import Partitions, make_partitions
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2_grpc

ROUNDS = 12
ROWS = 600


@pytest.fixture
def made(client: MilvusClient, stub: Any, collection_name: str) -> Partitions:
    """`_default` has rows from 0 on, p1 from 10,000 on, half of them sealed; only `_default` is loaded."""
    made = make_partitions(client, stub, collection_name, "p1")
    for start in (0, ROWS):
        assert_ok(made.insert(range(start, start + ROWS)))
        assert_ok(made.insert(range(10_000 + start, 10_000 + start + ROWS), "p1"))
        if not start:
            assert_ok(made.flush())
    assert_ok(made.load("_default"))
    return made


def _repeat(
    act: Callable[[Partitions], None], address: str, name: str, done: threading.Event, wrong: list[str]
) -> None:
    with grpc.insecure_channel(address) as channel:
        made = Partitions(milvus_pb2_grpc.MilvusServiceStub(channel), name)
        try:
            while not done.is_set():
                act(made)
        except Exception as error:  # noqa: BLE001 - kept, and the test fails with it
            wrong.append(repr(error))


@pytest.fixture
def running(server: Any, made: Partitions) -> Iterator[list[str]]:
    """What readers of `_default` find wrong."""

    def read(mine: Partitions) -> None:
        assert mine.count("_default") == 2 * ROWS
        assert len(mine.hits("_default")) == 1000

    def read_whatever_is_loaded(mine: Partitions) -> None:
        found = mine.query(text="", fields=["count(*)"])
        assert found.status.code == 0, found.status
        count = found.fields_data[0].scalars.long_data.data[0]
        assert count in (2 * ROWS, 4 * ROWS), count

    done, wrong = threading.Event(), list[str]()
    threads = [
        threading.Thread(target=_repeat, args=(act, server.address, made.name, done, wrong))
        for act in (read, read, read_whatever_is_loaded)
    ]
    for thread in threads:
        thread.start()
    yield wrong
    done.set()
    for thread in threads:
        thread.join(30)
    assert wrong == []


def test_reads_of_one_partition_are_unaffected_by_changes_of_others(made: Partitions, running: list[str]) -> None:
    for number in range(ROUNDS):
        assert_ok(made.load("p1"))
        if number % 2:
            assert made.count("p1") == 2 * ROWS
        if number % 3 == 0:
            assert_ok(made.flush())
        assert_ok(made.release("p1"))
        assert_ok(made.create("p2"))
        assert_ok(made.release("p2"))
        assert_ok(made.insert(range(20_000, 20_300), "p2"))
        assert_ok(made.drop("p2"))
        assert running == []


def test_partitions_that_do_not_fit_are_refused_and_the_loaded_ones_stay(new_server: ServerFactory) -> None:
    server = new_server(env={"MILVINE_MEMORY_LIMIT": "200000"})
    made = make_partitions(server.client(), server.stub, "c", "p1")
    assert_ok(made.insert(range(1000)))
    assert_ok(made.insert(range(1000, 9000), "p1"))
    assert_ok(made.flush())
    assert_ok(made.load("_default"))
    assert made.count() == 1000
    assert_refused(made.load("p1"), 3, "memory limit exceeded")
    assert made.count() == 1000
    assert_refused(made.search("p1"), 201, "partition not loaded")
    assert_refused(made.load_all(), 3, "memory limit exceeded")
    assert len(made.hits()) == 1000
