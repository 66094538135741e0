"""Servers whose logs are in an object store: crashes, outages, copies that take over, and moves from place to place."""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Server, ServerFactory
from object_servers import ObjectServer
from pymilvus import MilvusClient, MilvusException
from relay import Relay
from stored_rows import ROWS, answers, eventually, fill, rows
from test_store_failures import refusal

NAME = "logged"
OBJECT = {"MILVINE_LOG_STORE": "object"}
LOCAL = {"MILVINE_LOG_STORE": "local"}


def count(client: MilvusClient) -> int:
    found = client.query(NAME, filter="", output_fields=["count(*)"])
    return int(found[0]["count(*)"])


@pytest.fixture
def client_of() -> Iterator[Callable[[Server], MilvusClient]]:
    with contextlib.ExitStack() as opened:
        yield lambda server: opened.enter_context(contextlib.closing(server.client(timeout=120)))


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.node.name).replace("[", "-").replace("]", "")


ClientOf = Callable[[Server], MilvusClient]


def test_writes_survive_a_kill_without_any_local_file_of_a_log(
    new_server: ServerFactory, objects: ObjectServer, prefix: str, client_of: ClientOf
) -> None:
    server = new_server(env={**objects.environment(prefix), **OBJECT})
    client = client_of(server)
    fill(client, NAME)
    client.insert(NAME, rows(ROWS, ROWS + 50))
    client.delete(NAME, ids=[ROWS])
    client.upsert(NAME, rows(ROWS + 1, ROWS + 3))
    before = answers(client, NAME)
    server.kill()
    assert not [*(server.data_dir / "wal").rglob("*.wal")]
    shutil.rmtree(server.data_dir / "segments")
    server.start()
    client = client_of(server)
    client.load_collection(NAME)
    assert answers(client, NAME) == before
    client.flush(NAME)
    assert answers(client, NAME) == before
    client.insert(NAME, rows(2 * ROWS, 2 * ROWS + 5))
    client.drop_collection(NAME)
    server.stop()


@pytest.mark.parametrize("point", ["log.object_stored", pytest.param("log.object_made", marks=pytest.mark.cluster)])
def test_a_crash_beside_the_put_of_an_object_loses_nothing_acknowledged(
    new_server: ServerFactory, objects: ObjectServer, prefix: str, client_of: ClientOf, point: str
) -> None:
    env = {**objects.environment(prefix), **OBJECT}
    server = new_server(env=env)
    client = client_of(server)
    fill(client, NAME)
    client.insert(NAME, rows(ROWS, ROWS + 5))
    server.kill()
    dying = new_server(env={**env, "MILVINE_CRASH_AT": point}, data_dir=server.data_dir)
    with pytest.raises(MilvusException):
        client_of(dying).insert(NAME, rows(2 * ROWS, 2 * ROWS + 7), timeout=30, retry_times=0)
    assert dying.process.wait(30) == -signal.SIGKILL
    server.start()
    client = client_of(server)
    client.load_collection(NAME)
    # The object is there or not, and never half of it.
    assert count(client) == ROWS - 10 + 5 + (7 if point == "log.object_stored" else 0)
    client.insert(NAME, rows(3 * ROWS, 3 * ROWS + 2))
    server.kill()
    server.start()
    client_of(server).load_collection(NAME)
    assert count(client_of(server)) == ROWS - 10 + 7 + (7 if point == "log.object_stored" else 0)


def test_a_server_that_dies_again_and_again_while_it_takes_over_loses_nothing(
    new_server: ServerFactory, objects: ObjectServer, prefix: str, client_of: ClientOf
) -> None:
    env = {**objects.environment(prefix), **OBJECT}
    server = new_server(env=env)
    client = client_of(server)
    fill(client, NAME)
    client.insert(NAME, rows(ROWS, ROWS + 5))
    server.kill()
    dying = new_server(env={**env, "MILVINE_CRASH_AT": "log.fenced"}, data_dir=server.data_dir, start=False)
    for _ in range(3):
        dying.spawn()
        assert dying.process.wait(60) == -signal.SIGKILL
    server.start()
    client = client_of(server)
    client.load_collection(NAME)
    client.insert(NAME, rows(2 * ROWS, 2 * ROWS + 7))
    assert count(client) == ROWS - 10 + 12


@pytest.mark.cluster
def test_logs_move_at_a_start_and_nothing_is_lost(
    new_server: ServerFactory, objects: ObjectServer, prefix: str, client_of: ClientOf
) -> None:
    env = objects.environment(prefix)
    server = new_server(env={**env, **LOCAL})
    client = client_of(server)
    fill(client, NAME)
    client.create_collection("idle", 4)
    expected = ROWS - 10
    assert count(client) == expected
    for turn, place in enumerate((OBJECT, OBJECT, LOCAL, OBJECT), 1):
        client.insert(NAME, rows(turn * ROWS, turn * ROWS + 20))
        client.delete(NAME, ids=[turn * ROWS])
        expected += 19
        server.kill()
        server = new_server(env={**env, **place}, data_dir=server.data_dir)
        client = client_of(server)
        client.load_collection(NAME)
        assert count(client) == expected, f"after move {turn}"
        local = {path.parent.name for path in (server.data_dir / "wal").rglob("*.wal")}
        assert bool(local) == (place is LOCAL), f"after move {turn}"
        assert client.query("idle", filter="", output_fields=["count(*)"])[0]["count(*)"] == 0
    server.stop()


@pytest.mark.cluster
def test_a_server_that_was_replaced_acknowledges_nothing(
    new_server: ServerFactory, objects: ObjectServer, prefix: str, client_of: ClientOf, tmp_path: Path
) -> None:
    """A second server starts on a copy of the directory while the first one still takes writes."""
    env = {**objects.environment(prefix), **OBJECT}
    old = new_server(env=env)
    old_client = client_of(old)
    fill(old_client, NAME)
    acknowledged: list[int] = []
    refused: list[str] = []

    def write() -> None:
        key = 10 * ROWS
        while not refused:
            try:
                old_client.insert(NAME, rows(key, key + 1))
                acknowledged.append(key)
                key += 1
            except MilvusException as error:
                refused.append(str(error))

    writing = threading.Thread(target=write)
    writing.start()
    eventually(lambda: len(acknowledged) > 5)
    copy = tmp_path / "copy"
    shutil.copytree(old.data_dir, copy)
    client = client_of(new_server(env=env, data_dir=copy))
    writing.join(60)
    assert "another server has taken over the log" in refused[0]
    client.load_collection(NAME)
    found = client.query(NAME, filter=f"id >= {10 * ROWS}", output_fields=["id"], consistency_level="Strong")
    assert {one["id"] for one in found} == set(acknowledged)
    assert count(old_client) >= ROWS - 10, "the replaced server still reads"
    client.insert(NAME, rows(20 * ROWS, 20 * ROWS + 1))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"MILVINE_STORE_URI": "file://", **OBJECT}, "set store.uri"),
        ({"MILVINE_WAL_KEEPHOURS": "1", **OBJECT}, "wal.keepHours"),
        ({"MILVINE_LOG_STORE": "elsewhere"}, "local or object"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    new_server: ServerFactory, objects: ObjectServer, settings: dict[str, str], sentence: str
) -> None:
    assert sentence in refusal(new_server(env={**objects.environment("refused"), **settings}, start=False))


@pytest.fixture
def relay(objects: ObjectServer) -> Iterator[Relay]:
    made = Relay(int(objects.endpoint.rpartition(":")[2]))
    yield made
    made.close()


@pytest.mark.cluster
def test_a_store_that_stops_for_a_while_refuses_writes_and_not_reads(
    new_server: ServerFactory, objects: ObjectServer, relay: Relay, prefix: str, client_of: ClientOf
) -> None:
    env = {**objects.environment(prefix), **OBJECT, "MILVINE_STORE_ENDPOINT": relay.endpoint}
    server = new_server(env=env)
    client = client_of(server)
    fill(client, NAME)
    client.load_collection(NAME)
    client.insert(NAME, rows(ROWS, ROWS + 10))
    before = answers(client, NAME)
    relay.is_deaf = True
    started = time.monotonic()
    late: list[str] = []

    def write_late() -> None:
        try:
            client.insert(NAME, rows(2 * ROWS, 2 * ROWS + 1), timeout=60)
        except MilvusException as error:
            late.append(f"{error.code} {error.message}")

    writing = threading.Thread(target=write_late)
    writing.start()
    while time.monotonic() < started + 15:
        assert answers(client, NAME) == before, "reads go on"
        time.sleep(0.2)
    writing.join(30)
    assert late and late[0].startswith("1001") and "may still be made" in late[0]
    with pytest.raises(MilvusException, match="nothing was written") as refused:
        client.insert(NAME, rows(3 * ROWS, 3 * ROWS + 1), timeout=60)
    assert refused.value.code == 1001
    while time.monotonic() < started + 30:
        assert answers(client, NAME) == before
        time.sleep(0.5)
    relay.is_deaf = False
    # The write whose outcome was unknown is made now, and becomes visible by itself.
    eventually(lambda: count(client) == ROWS - 10 + 11)
    client.insert(NAME, rows(4 * ROWS, 4 * ROWS + 1))
    assert count(client) == ROWS - 10 + 12
    server.kill()
    server.start()
    client = client_of(server)
    client.load_collection(NAME)
    assert count(client) == ROWS - 10 + 12
    relay.is_deaf = True
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0, "a stop does not wait for a store that does not answer"
    relay.is_deaf = False
