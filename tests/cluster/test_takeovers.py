"""Heads with directories of their own, killed, ended or stopped again and again under inserts and schema changes.

A standby takes over from an empty disk, nothing acknowledged is lost, and a head that was replaced commits and answers
nothing.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from conftest import Server, free_port
from load_balancer import LoadBalancer
from object_servers import KEYS, VERSITYGW, ObjectServer
from postgres_servers import Postgres
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.client.prepare import Prepare
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(7200)]

ROUNDS = int(os.environ.get("MILVINE_TAKEOVER_ROUNDS", "3"))
HEADS = 3
LEASE_SECONDS = 5
TAKEOVER_SECONDS = 180.0
TRAFFIC_SECONDS = 2.0
NAME = "rows"
BATCH = 20
SLOW = {"timeout": 120}
WAITS, READY = "milvine standby ", "milvine ready "
_ENDS = {"killed": signal.SIGKILL, "ended": signal.SIGTERM}
_GRPC_OPTIONS = [("grpc.enable_retries", 0)]


@dataclass(eq=False)
class Head:
    """A head, and how often it has told that it waits and that it serves."""

    server: Server
    starts: int = 0

    def spawn(self) -> None:
        self.starts = self.server.log.count(READY)
        self.server.spawn()

    @property
    def serves(self) -> bool:
        return self.server.log.count(READY) > self.starts


class Group:
    """Some heads of one catalog, one object store and one load balancer."""

    def __init__(
        self,
        directory: Path,
        env: Mapping[str, str] | None = None,
        own: Mapping[int, Mapping[str, str]] | None = None,
    ) -> None:
        """`own`: more of the environment of some heads."""
        self.postgres = Postgres(free_port()).start()
        self.objects = ObjectServer(directory, VERSITYGW)
        self.catalog_uri = self.postgres.new_database()
        env = {
            **(env or {}),
            **KEYS,
            "MILVINE_CATALOG_URI": self.catalog_uri,
            "MILVINE_STORE_URI": self.objects.uri("heads"),
            "MILVINE_STORE_ENDPOINT": self.objects.endpoint,
            "MILVINE_STORE_REGION": "us-east-1",
            "MILVINE_LOG_STORE": "object",
            "MILVINE_COMMON_SESSION_TTL": f"{LEASE_SECONDS}s",
        }
        self.heads = []
        for i in range(HEADS):
            its = {**env, **(own or {}).get(i, {})}
            server = Server(directory / f"head-{i}", "--standby", env=its, port=free_port())
            server.port = server.wanted_port
            self.heads.append(Head(server))
        self.balancer = LoadBalancer([head.server.port for head in self.heads])

    def start(self) -> Group:
        for head in self.heads:
            head.spawn()
        self.serving()
        return self

    def serving(self, *, but: Head | None = None) -> Head:
        """The head that serves, once there is one."""
        deadline = time.monotonic() + TAKEOVER_SECONDS
        while time.monotonic() < deadline:
            for head in self.heads:
                if head is not but and head.server.process.poll() is None and head.serves:
                    return head
            time.sleep(0.05)
        raise AssertionError("\n\n".join(head.server.log[-2000:] for head in self.heads))

    @property
    def epoch(self) -> object:
        return self.postgres.run("SELECT epoch FROM catalog_epoch", self.catalog_uri.rpartition("/")[2])

    def close(self) -> None:
        self.balancer.close()
        for head in self.heads:
            with contextlib.suppress(AssertionError):
                head.server.process.send_signal(signal.SIGCONT)
            head.server.close()
        self.objects.stop()
        self.postgres.close()


@dataclass
class Traffic:
    """Clients that go on through every take-over. What is acknowledged is written down."""

    uri: str
    acknowledged: list[int] = field(default_factory=list)
    sent: set[int] = field(default_factory=set)
    collections: dict[str, bool] = field(default_factory=dict)
    """Whether a collection must be there; those of unknown outcome are left out."""
    stale: list[str] = field(default_factory=list)
    reads: int = 0
    failed: int = 0
    longest_seconds: float = 0.0
    is_over: bool = False
    _next_key: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def flows(self) -> None:
        """Waits until rows are acknowledged, read and collections changed, for a while."""
        before = len(self.acknowledged), self.reads, len(self.collections)
        deadline = time.monotonic() + TAKEOVER_SECONDS
        while any(
            a <= b for a, b in zip((len(self.acknowledged), self.reads, len(self.collections)), before, strict=True)
        ):
            assert time.monotonic() < deadline, before
            time.sleep(0.05)
        time.sleep(random.uniform(0, TRAFFIC_SECONDS))

    def keys(self, count: int) -> list[int]:
        with self._lock:
            first = self._next_key
            self._next_key += count
        return list(range(first, first + count))

    def run(self) -> list[threading.Thread]:
        works = (self._insert, self._insert, self._read, self._change)
        threads = [threading.Thread(target=self._repeat, args=(work,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        return threads

    def _repeat(self, work: object) -> None:
        client = None
        while not self.is_over:
            started = time.monotonic()
            try:
                client = client or MilvusClient(uri=self.uri, **SLOW)
                work(client)  # type: ignore[operator]
                self.longest_seconds = max(self.longest_seconds, time.monotonic() - started)
            except (MilvusException, grpc.RpcError):
                self.failed += 1
                time.sleep(0.2)

    def _insert(self, client: MilvusClient) -> None:
        keys = self.keys(BATCH)
        self.sent.update(keys)
        client.upsert(NAME, [{"id": key, "vec": [key, 1]} for key in keys])
        self.acknowledged += keys
        time.sleep(0.01)

    def _read(self, client: MilvusClient) -> None:
        before = self.acknowledged[:]
        wanted = before[-1:] + random.sample(before, min(20, len(before)))
        found = {row["id"] for row in client.get(NAME, wanted, output_fields=["id"], consistency_level="Strong")}
        self.reads += 1
        if lost := set(wanted) - found:
            self.stale.append(f"{sorted(lost)} were acknowledged and not found")
        time.sleep(0.01)

    def _change(self, client: MilvusClient) -> None:
        name = f"made_{self.keys(1)[0]}"
        client.create_collection(name, 2)
        self.collections[name] = True
        client.add_collection_field(name, "note", DataType.VARCHAR, max_length=9, nullable=True)
        if random.random() < 0.7:
            del self.collections[name]
            client.drop_collection(name)
            self.collections[name] = False
        time.sleep(0.2)


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    with closing(Group(tmp_path)) as made:
        yield made.start()


def make(uri: str) -> None:
    client = MilvusClient(uri=uri, **SLOW)
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params("vec", index_type="FLAT", metric_type="L2")
    client.create_collection(NAME, schema=schema, index_params=index)
    client.insert(NAME, [{"id": -1, "vec": [0, 0]}])


def late_calls(head: Head, keys: list[int]) -> list[grpc.Future]:
    """Calls that reach a head while it stands still: a write of these keys, a Strong read and a change."""
    channel = grpc.insecure_channel(head.server.address, options=_GRPC_OPTIONS)
    stub = milvus_pb2_grpc.MilvusServiceStub(channel)
    rows = [{"id": key, "vec": [key, 1]} for key in keys]
    fields = [
        {"name": "id", "type": DataType.INT64, "is_primary": True, "params": {}},
        {"name": "vec", "type": DataType.FLOAT_VECTOR, "params": {"dim": 2}},
    ]
    write = Prepare.row_upsert_param(NAME, rows, "", fields)
    read = milvus_pb2.QueryRequest(
        collection_name=NAME,
        expr="id == -1",
        output_fields=["id"],
        consistency_level=common_pb2.ConsistencyLevel.Strong,
        guarantee_timestamp=0,
    )
    drop = milvus_pb2.DropCollectionRequest(collection_name=NAME)
    return [
        stub.Upsert.future(write, timeout=30),
        stub.Query.future(read, timeout=30),
        stub.DropCollection.future(drop, timeout=30),
    ]


def outcome(call: grpc.Future) -> str:
    """ "" unless a call was answered as done."""
    try:
        answer = call.result()
    except grpc.RpcError:
        return ""
    status = getattr(answer, "status", answer)
    return "" if status.code else str(answer)[:200]


@pytest.mark.parametrize("harm", ["killed", "ended", "stopped"])
def test_heads_that_are_replaced_lose_and_commit_nothing(group: Group, harm: str) -> None:
    group.balancer.wait_for(group.serving().server.port)
    make(group.balancer.uri)
    traffic = Traffic(group.balancer.uri)
    threads = traffic.run()
    late: set[int] = set()
    answered: list[str] = []
    seconds: list[float] = []
    for number in range(ROUNDS):
        head = group.serving()
        traffic.flows()
        began = time.monotonic()
        if harm in _ENDS:
            head.server.process.send_signal(_ENDS[harm])
            assert head.server.process.wait(60) == (0 if harm == "ended" else -signal.SIGKILL), head.server.log[-2000:]
            successor = group.serving(but=head)
        else:
            head.server.process.send_signal(signal.SIGSTOP)
            keys = list(range(10**9 + number * BATCH, 10**9 + (number + 1) * BATCH))
            late.update(keys)
            calls = late_calls(head, keys)
            successor = group.serving(but=head)
            head.server.process.send_signal(signal.SIGCONT)
            answered += filter(None, map(outcome, calls))
            assert head.server.process.wait(60) == 1, head.server.log[-2000:]
        seconds.append(time.monotonic() - began)
        group.balancer.wait_for(successor.server.port)
        if number % 2:
            shutil.rmtree(head.server.data_dir)
        head.spawn()
    traffic.flows()
    traffic.is_over = True
    for thread in threads:
        thread.join(TAKEOVER_SECONDS)
    client = MilvusClient(uri=group.balancer.uri, **SLOW)
    rows = [row["id"] for row in client.query(NAME, "id >= 0", output_fields=["id"], consistency_level="Strong")]
    lost = set(traffic.acknowledged) - set(rows)
    sys.stdout.write(
        f"\n{harm}: {ROUNDS} take-overs, {len(traffic.acknowledged)} rows acknowledged, {len(lost)} lost, "
        f"{len(late & set(rows))} of {len(late)} late rows there, {len(answered)} late calls answered, "
        f"{traffic.reads} reads, {len(traffic.stale)} stale, {traffic.failed} calls failed, "
        f"longest call {traffic.longest_seconds:.1f} s, take-overs {min(seconds):.1f} to {max(seconds):.1f} s, "
        f"median {sorted(seconds)[len(seconds) // 2]:.1f} s\n"
    )
    assert not lost and len(rows) == len(set(rows))
    assert set(rows) <= traffic.sent
    assert traffic.stale == [] and answered == []
    there = set(client.list_collections())
    assert {name for name, is_there in traffic.collections.items() if is_there} <= there
    assert not {name for name, is_there in traffic.collections.items() if not is_there} & there
    assert traffic.reads and traffic.acknowledged and traffic.collections


def test_a_head_that_stood_still_in_its_take_over_stops_no_flush(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    held = {"MILVINE_HOLD_AT": "catalog.claimed", "MILVINE_HOLD_FIFO": str(fifo)}
    with closing(Group(tmp_path, own={HEADS - 1: held})) as group:
        first, next_one, slow = group.heads
        first.spawn()
        first.server.wait_ready()
        make(first.server.uri)
        epoch = group.epoch
        slow.spawn()
        first.server.process.kill()
        deadline = time.monotonic() + TAKEOVER_SECONDS
        while group.epoch == epoch:
            assert time.monotonic() < deadline, slow.server.log
            time.sleep(0.05)
        time.sleep(0.5)  # from the epoch to the place where it is held
        slow.server.process.send_signal(signal.SIGSTOP)
        next_one.spawn()
        next_one.server.wait_ready()
        fifo.write_bytes(b"1" * 9)
        slow.server.process.send_signal(signal.SIGCONT)
        assert slow.server.process.wait(60) == 1, slow.server.log
        client = MilvusClient(uri=next_one.server.uri, **SLOW)
        for key in range(50):
            client.insert(NAME, [{"id": key, "vec": [key, 1]}])
        client.flush(NAME)
        rows = client.query(NAME, "", output_fields=["count(*)"], consistency_level="Strong")
        assert rows[0]["count(*)"] == 51
