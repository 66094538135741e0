"""The log in an object store, writer by writer: what is acknowledged is read, and nobody writes behind a fence."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from object_servers import BUCKET, KEYS, ObjectServer
from relay import Relay

from milvine.errors import DataIntegrityError, IoFailed, MilvineError, ServiceInternal, UnexpectedError
from milvine.storage import log_objects, object_log
from milvine.storage import logs as logs_module
from milvine.storage import objects as objects_module
from milvine.storage.log_objects import FIRST_NUMBER, HEADER_BYTES, WINDOW, LogStore, Position, object_name
from milvine.storage.logs import LocalLogs, Logs, ObjectLogs
from milvine.storage.objects import Objects, Place
from milvine.storage.segment_files import SegmentPaths
from milvine.storage.wal_format import Log

COLLECTION = 77
Record = tuple[int, int, bytes]
SOME: list[Record] = [(1, 10, b"one"), (2, 11, b""), (1, 12, b"REC\0" * 20), (1, 13, bytes(range(200)))]
TAKE_OVERS = int(os.environ.get("MILVINE_TAKE_OVERS", "20"))


@pytest.fixture
def prefix(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return f"log-{request.node.name.replace('[', '-').replace(']', '')}"


def logs_at(endpoint: str, prefix: str, epoch: int = 1) -> ObjectLogs:
    """What a server has, which begins to write with its epoch."""
    return ObjectLogs(Objects(Place(f"s3://{BUCKET}/{prefix}", endpoint, "us-east-1")), epoch)


@pytest.fixture
def new_logs(objects: ObjectServer, prefix: str) -> Callable[[int], ObjectLogs]:
    return lambda epoch: logs_at(objects.endpoint, prefix, epoch)


@pytest.fixture(params=["local", "object"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], Logs]:
    """Both kinds of logs, as the server of an epoch opens them."""
    if request.param == "local":
        return lambda _epoch: LocalLogs(SegmentPaths(tmp_path))
    made: Callable[[int], ObjectLogs] = request.getfixturevalue("new_logs")
    return made


def go_on(logs: Logs, checkpoint: int) -> tuple[list[Record], Log]:
    (reader,) = logs.readers({COLLECTION: checkpoint})
    records = [(one.record_type, one.ts, bytes(one.body)) for one in reader.records()]
    return records, reader.go_on()


def write(log: Log, records: Sequence[Record]) -> None:
    for record_type, ts, body in records:
        log.sync(log.append(record_type, ts, [body]))


def numbers(objects: ObjectServer, prefix: str) -> dict[int, int]:
    found = objects.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/log/{COLLECTION}/").get("Contents", ())
    return {int(one["Key"].rpartition("/")[2]): one["Size"] for one in found}


def put(objects: ObjectServer, prefix: str, number: int, content: bytes) -> None:
    objects.s3.put_object(Bucket=BUCKET, Key=f"{prefix}/{object_name(COLLECTION, number)}", Body=content)


def get(objects: ObjectServer, prefix: str, number: int) -> bytes:
    found = objects.s3.get_object(Bucket=BUCKET, Key=f"{prefix}/{object_name(COLLECTION, number)}")
    return bytes(found["Body"].read())


def remove(objects: ObjectServer, prefix: str, number: int) -> None:
    objects.s3.delete_object(Bucket=BUCKET, Key=f"{prefix}/{object_name(COLLECTION, number)}")


def test_synced_records_come_back_in_order_over_restarts_and_checkpoints(start: Callable[[int], Logs]) -> None:
    log = start(1).create(COLLECTION)
    checkpoint = log.file_number
    write(log, SOME)
    for epoch in (2, 3):
        log.close()
        records, log = go_on(start(epoch), checkpoint)
        assert records == SOME * (epoch - 1)
        write(log, SOME)
    size = log.bytes_since_checkpoint
    checkpoint = log.rotate()
    assert log.bytes_since_checkpoint < size
    write(log, SOME[:2])
    log.close()
    assert go_on(start(4), checkpoint)[0] == SOME[:2]


def test_many_threads_share_writes_and_lose_nothing(start: Callable[[int], Logs]) -> None:
    log = start(1).create(COLLECTION)
    order = threading.Lock()
    clock = [0]

    def writer(number: int) -> None:
        for turn in range(25):
            with order:
                clock[0] += 1
                ticket = log.append(1, clock[0], [b"%d-%d" % (number, turn), bytes(turn)])
            if number % 2:
                log.write(ticket)
            log.sync(ticket)

    threads = [threading.Thread(target=writer, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    records, _ = go_on(start(2), log.file_number)
    assert [ts for _, ts, _ in records] == list(range(1, 401))
    assert {body for _, _, body in records} == {b"%d-%d" % (n, t) + bytes(t) for n in range(16) for t in range(25)}


def test_a_log_without_its_first_file_is_an_error(start: Callable[[int], Logs]) -> None:
    log = start(1).create(COLLECTION)
    write(log, SOME)
    log.close()
    with pytest.raises(DataIntegrityError, match="missing"):
        go_on(start(2), log.file_number + 7)


def test_a_closed_log_takes_no_writes(start: Callable[[int], Logs]) -> None:
    log = start(1).create(COLLECTION)
    log.close()
    with pytest.raises(ServiceInternal, match="closed"):
        log.append(1, 1, [b"x"])


def test_an_older_server_acknowledges_nothing_after_a_take_over(
    new_logs: Callable[[int], ObjectLogs], objects: ObjectServer, prefix: str
) -> None:
    old = new_logs(1).create(COLLECTION)
    write(old, SOME)
    records, new = go_on(new_logs(2), FIRST_NUMBER)
    assert records == SOME
    with pytest.raises(ServiceInternal, match="another server has taken over"):
        write(old, [(1, 20, b"zombie")])
    with pytest.raises(ServiceInternal, match="another server has taken over"):
        old.append(1, 21, [b"zombie"])
    write(new, SOME[:1])
    # What an older server had in flight arrives behind the fence.
    fence = FIRST_NUMBER + 1 + len(SOME)
    for number in range(fence + 1, fence + WINDOW):
        put(objects, prefix, number, get(objects, prefix, fence - 1))
    records, new = go_on(new_logs(3), FIRST_NUMBER)
    assert records == [*SOME, *SOME[:1]]
    write(new, SOME)
    assert go_on(new_logs(4), FIRST_NUMBER)[0] == [*SOME, *SOME[:1], *SOME]


def test_a_server_of_an_older_epoch_does_not_take_over(new_logs: Callable[[int], ObjectLogs]) -> None:
    write(new_logs(1).create(COLLECTION), SOME)
    _, new = go_on(new_logs(3), FIRST_NUMBER)
    with pytest.raises(UnexpectedError, match=r"another server has taken over.*3.*2"):
        go_on(new_logs(2), FIRST_NUMBER)
    write(new, SOME)
    assert go_on(new_logs(3), FIRST_NUMBER)[0] == SOME * 2


def put_fence(objects: ObjectServer, prefix: str, epoch: int, where: Position) -> None:
    content = LogStore(logs_at(objects.endpoint, prefix)._store.objects, epoch).packed(COLLECTION, where)
    put(objects, prefix, where.number, content)


def test_a_server_passes_fences_of_one_that_it_replaced_while_that_took_over(
    new_logs: Callable[[int], ObjectLogs], objects: ObjectServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before put fences at growing distances, and some arrived after the next server had begun to write."""
    write(new_logs(1).create(COLLECTION), SOME)
    _, log = go_on(new_logs(3), FIRST_NUMBER)
    write(log, SOME[:1])
    end = max(numbers(objects, prefix)) + 1
    following = end + 20 + 1 + WINDOW
    for distance in (0, 2, 4, 20):
        put_fence(objects, prefix, 2, Position(end + distance, following, end))
    put_fence(objects, prefix, 2, Position(following + 1, following + 30, end))
    bodies = [b"%d" % i for i in range(40)]
    tickets = []
    for body in bodies[:20]:  # several objects in flight
        tickets.append(log.append(1, 50, [body]))
        log.write(tickets[-1])
    for ticket in tickets:
        log.sync(ticket)
    monkeypatch.setattr(log_objects, "SURE_SECONDS", 0.0)
    put_fence(objects, prefix, 2, Position(max(numbers(objects, prefix)) + 100, 2 * FIRST_NUMBER, end))
    write(log, [(1, 51, body) for body in bodies[20:]])
    records, later = go_on(new_logs(4), FIRST_NUMBER)
    assert [body for _, _, body in records] == [body for _, _, body in [*SOME, *SOME[:1]]] + bodies
    checkpoint = later.rotate()
    write(later, SOME)
    assert go_on(new_logs(5), checkpoint)[0] == SOME


@pytest.mark.parametrize("epoch", [3, 4, 0])
def test_a_server_does_not_pass_fences_of_another_that_may_serve(
    new_logs: Callable[[int], ObjectLogs], objects: ObjectServer, prefix: str, epoch: int
) -> None:
    log = new_logs(3).create(COLLECTION)
    write(log, SOME)
    end = max(numbers(objects, prefix)) + 1
    put_fence(objects, prefix, epoch, Position(end, end + 1 + WINDOW, end))
    with pytest.raises(ServiceInternal, match="another server has taken over"):
        write(log, SOME)


def test_a_take_over_lists_no_more_than_it_needs(
    new_logs: Callable[[int], ObjectLogs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One listing for all logs, or one for each from its checkpoint on where many objects wait for their removal."""
    monkeypatch.setattr(objects_module, "_LISTED", 4)
    logs = new_logs(1)
    checkpoints = {}
    for collection in (71, 72, 73):
        log = logs.create(collection)
        for turn in range(20):
            write(log, [(1, turn, b"old")])
        checkpoints[collection] = log.rotate()
        write(log, [(1, 50, b"%d" % collection)])
    listings: list[int] = []
    real = Objects.sizes

    def sizes(self: Objects, *arguments: Any, **options: Any) -> dict[str, int]:
        found = real(self, *arguments, **options)
        listings.append(len(found))
        return found

    monkeypatch.setattr(Objects, "sizes", sizes)
    for epoch, for_each, expected in ((2, 100, [69]), (3, 1, [4, 3, 3, 3])):
        monkeypatch.setattr(logs_module, "_LISTED_FOR_EACH", for_each)
        listings.clear()
        readers = new_logs(epoch).readers(checkpoints)
        assert [[bytes(one.body) for one in reader.records()] for reader in readers] == [[b"71"], [b"72"], [b"73"]]
        assert sorted(listings, reverse=True) == expected


class Unreliable:
    """Passes calls to a store's objects; `create` fails as the test says, before or after it had its effect."""

    def __init__(self, objects: Objects, fails: Callable[[], str]) -> None:
        self._objects = objects
        self._fails = fails

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    def create(self, name: str, content: bytes) -> bool:
        how = self._fails()
        if how == "before":
            raise IoFailed("refused")
        made = self._objects.create(name, content)
        if how == "after":
            raise IoFailed("the answer was lost")
        return made


def test_a_writer_knows_its_own_object_after_a_lost_answer(
    objects: ObjectServer, prefix: str, new_logs: Callable[[int], ObjectLogs]
) -> None:
    chance = random.Random(5)
    logs = new_logs(1)
    logs._store.objects = Unreliable(logs._store.objects, lambda: chance.choice(["", "", "before", "after"]))  # type: ignore[assignment]
    log = _persistent(lambda: logs.create(COLLECTION))
    tickets = [log.append(1, ts, [b"%d" % ts]) for ts in range(100)]
    for ticket in tickets[::3]:
        log.write(ticket)
        log.sync(ticket)
    log.sync(tickets[-1])
    log.close()
    assert [ts for _, ts, _ in go_on(new_logs(2), log.file_number)[0]] == list(range(100))


def _persistent(call: Callable[[], Any]) -> Any:
    while True:
        try:
            return call()
        except IoFailed:
            continue


def test_objects_that_arrive_in_another_order_are_acknowledged_in_theirs(
    new_logs: Callable[[int], ObjectLogs], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = new_logs(1)
    log = logs.create(COLLECTION)
    held, arrived = threading.Event(), threading.Semaphore(0)
    real = logs._store.create

    def create(name: str, content: bytes) -> bool:
        if name.endswith(f"{FIRST_NUMBER + 1}"):
            held.wait(30)
        made = real(name, content)
        arrived.release()
        return made

    monkeypatch.setattr(logs._store, "create", create)
    tickets = []
    for ts in range(WINDOW + 2):
        tickets.append(log.append(1, ts, [b"x"]))
        log.write(tickets[-1])
    for _ in range(WINDOW - 1):
        assert arrived.acquire(timeout=30)
    assert not arrived.acquire(timeout=0.2), "more objects than the window allows"
    synced = threading.Event()

    def wait_for_second() -> None:
        with contextlib.suppress(ServiceInternal):
            log.sync(tickets[1])
            synced.set()

    waiting = threading.Thread(target=wait_for_second)
    waiting.start()
    assert not synced.wait(0.2), "a record was acknowledged before the one ahead of it"
    # A server that takes over now reads none of them.
    records, _ = go_on(new_logs(2), FIRST_NUMBER)
    assert records == []
    held.set()
    waiting.join(30)
    assert not synced.is_set()
    with pytest.raises(ServiceInternal, match="taken over"):
        log.sync(tickets[0])


@pytest.mark.parametrize("damage", ["flipped header", "flipped body", "cut", "missing", "missing last"])
def test_damage_and_loss_name_the_object(
    new_logs: Callable[[int], ObjectLogs], objects: ObjectServer, prefix: str, damage: str
) -> None:
    log = new_logs(1).create(COLLECTION)
    write(log, SOME * 2)
    number = FIRST_NUMBER + 3
    content = bytearray(get(objects, prefix, number))
    match damage:
        case "flipped header":
            content[30] ^= 1
        case "flipped body":
            content[HEADER_BYTES + 60] ^= 1
        case "cut":
            del content[-8:]
        case "missing last":
            number = FIRST_NUMBER + 7  # the last but one: the one behind it knows
    if damage.startswith("missing"):
        remove(objects, prefix, number)
    else:
        put(objects, prefix, number, bytes(content))
    for epoch in (2, 3):
        with pytest.raises(DataIntegrityError, match=f"{number}"):
            go_on(new_logs(epoch), FIRST_NUMBER)


def test_a_checkpoint_lets_older_objects_go_and_a_late_writer_still_learns_of_the_take_over(
    new_logs: Callable[[int], ObjectLogs],
    objects: ObjectServer,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_objects, "SURE_SECONDS", 0.1)
    old = new_logs(1).create(COLLECTION)
    write(old, SOME)
    logs = new_logs(2)
    _, new = go_on(logs, FIRST_NUMBER)
    write(new, SOME)
    checkpoint = new.rotate()
    write(new, SOME[:1])
    checks: list[int] = []

    def sweep(wait_seconds: float = 0.0) -> int:
        return logs.sweep(lambda: {COLLECTION: checkpoint}, lambda: checks.append(1), wait_seconds)

    assert sweep() == 0 and not checks, "objects were removed before the wait"
    time.sleep(0.3)
    assert sweep(60.0) == 0
    assert sweep() > len(SOME) * 2 and checks
    assert min(numbers(objects, prefix)) == checkpoint
    # The fence that stood at the next number of the old server is gone, so its create succeeds.
    with pytest.raises(ServiceInternal, match="taken over"):
        write(old, [(1, 99, b"zombie")])
    write(new, SOME[1:])
    assert go_on(new_logs(3), checkpoint)[0] == SOME
    logs.sweep(dict, lambda: None, 0.0)
    time.sleep(0.3)
    logs.sweep(dict, lambda: None, 0.0)
    assert not numbers(objects, prefix), "the log of a dropped collection stays"


def test_a_writer_that_is_idle_for_long_goes_on_if_it_is_alone(
    new_logs: Callable[[int], ObjectLogs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_objects, "SURE_SECONDS", 0.01)
    log = new_logs(1).create(COLLECTION)
    for record in SOME:
        time.sleep(0.05)
        write(log, [record])
    assert go_on(new_logs(2), FIRST_NUMBER)[0] == SOME


@pytest.fixture
def relay(objects: ObjectServer) -> Iterator[Relay]:
    made = Relay(int(objects.endpoint.rpartition(":")[2]))
    yield made
    made.close()


def test_writes_wait_for_a_store_that_stops_and_are_refused_after_a_while(
    objects: ObjectServer, prefix: str, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_log, "STALL_SECONDS", 1.0)
    log = logs_at(relay.endpoint, prefix).create(COLLECTION)
    write(log, SOME)
    late: list[int] = []
    log.when_late(late.append)
    relay.is_deaf = True
    ticket = log.append(1, 20, [b"waits"])
    started = time.monotonic()
    with pytest.raises(IoFailed, match="may still be made"):
        log.sync(ticket)
    assert 0.9 < time.monotonic() - started < 5
    with pytest.raises(IoFailed, match="nothing was written"):
        log.append(1, 21, [b"refused"])
    with pytest.raises(IoFailed):
        log.sync(ticket)
    relay.is_deaf = False
    deadline = time.monotonic() + 60
    while not late:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert late[-1] == ticket
    write(log, [(1, 22, b"after")])
    expected = [*SOME, (1, 20, b"waits"), (1, 22, b"after")]
    assert go_on(logs_at(objects.endpoint, prefix, 2), FIRST_NUMBER)[0] == expected


class Head:
    """A server that writes until it is told otherwise by its log."""

    def __init__(self, log: Log, name: int, acknowledged: list[bytes], writers: int = 4) -> None:
        self._log = log
        self._name = name
        self._acknowledged = acknowledged
        self._order = threading.Lock()
        self._count = 0
        self.refused: list[str] = []
        self.threads = [threading.Thread(target=self._write) for _ in range(writers)]
        for thread in self.threads:
            thread.start()

    def _write(self) -> None:
        try:
            while True:
                with self._order:
                    self._count += 1
                    body = b"%d-%d" % (self._name, self._count)
                    ticket = self._log.append(1, self._name, [body])
                self._log.sync(ticket)
                self._acknowledged.append(body)
                time.sleep(0.005)
        except MilvineError as error:
            self.refused.append(error.message)


def take_overs(start_logs: Callable[[int], ObjectLogs], count: int) -> tuple[int, int]:
    """Each server takes over from one that still writes, and makes a checkpoint. Returns the numbers of acknowledged
    and of fenced writes."""
    acknowledged: list[bytes] = []
    read: list[bytes] = []
    log: Log = start_logs(1).create(COLLECTION)
    heads: list[Head] = []
    for epoch in range(1, count + 2):
        checkpoint = log.rotate()
        heads.append(Head(log, epoch, acknowledged))
        time.sleep(0.2)
        before = len(acknowledged)
        records, log = go_on(start_logs(epoch + 1), checkpoint)
        read += [body for _, _, body in records]
        assert not set(acknowledged[:before]) - set(read), "an acknowledged write is lost"
        assert all(ts == epoch for _, ts, _ in records), "a server has written behind the fence of a later one"
    for head in heads:
        for thread in head.threads:
            thread.join(60)
            assert not thread.is_alive()
    assert len(read) == len(set(read)), "a record is there twice"
    assert not set(acknowledged) - set(read), "an acknowledged write is lost"
    refused = [text for head in heads for text in head.refused]
    assert all("taken over" in text for text in refused), refused
    return len(acknowledged), len(refused)


def test_take_overs_from_servers_that_still_write_lose_nothing(new_logs: Callable[[int], ObjectLogs]) -> None:
    count = 4
    acknowledged, fenced = take_overs(new_logs, count)
    assert acknowledged and fenced == 4 * (count + 1)


@pytest.mark.cluster
def test_many_take_overs(objects: ObjectServer, prefix: str, relay: Relay) -> None:
    """Half of them over a slow line, which keeps more objects in flight."""
    relay.pause_seconds = 0.01

    def start_logs(epoch: int) -> ObjectLogs:
        return logs_at((objects if epoch % 2 else relay).endpoint, prefix, epoch)

    acknowledged, fenced = take_overs(start_logs, TAKE_OVERS)
    assert acknowledged
    assert fenced == 4 * (TAKE_OVERS + 1)
