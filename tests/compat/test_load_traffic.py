"""Searches and inserts during loads and releases of collections, partitions and fields: every answer is right, or a
documented refusal."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Collection
from typing import Any

import grpc
import pytest
from conftest import ServerFactory
from load_calls import load, release
from pymilvus.grpc_gen import milvus_pb2
from traffic import NAME, Traffic, Wrong, create

pytestmark = pytest.mark.long
SECONDS = float(os.environ.get("MILVINE_TRAFFIC_SECONDS", "8"))
SEED = int(os.environ.get("MILVINE_TRAFFIC_SEED", "0")) or random.randrange(1, 10**9)
_FIELD_LISTS = [[], ["id", "vec", "batch"], ["id", "vec", "batch", "bits", "a"], ["id", "vec", "sparse", "batch"]]
_NOT_LOADED = {101: "collection not loaded", 103: "collection not fully loaded", 201: "partition not loaded"}


def _is_documented(status: Any, fields: Collection[str]) -> bool:
    if status.code in _NOT_LOADED:
        return _NOT_LOADED[status.code] in status.reason
    texts = [text.format(name) for name in fields for text in ("field {} is not loaded", 'ann field "{}" not loaded')]
    return any(text in status.reason for text in texts)


class _Disturbances:
    """What one thread does to the collection repeatedly."""

    def __init__(self, traffic: Traffic, partitions: list[str]) -> None:
        self._traffic = traffic
        self._stub = traffic.stub
        self._partitions = partitions

    def _done(self, status: Any, what: str) -> None:
        if status.code:
            raise Wrong(f"{what}: {status.code} {status.reason}")
        self._traffic.count(what)

    def load(self, rng: random.Random) -> None:
        self._done(load(self._stub, NAME, load_fields=rng.choice(_FIELD_LISTS)), "loads")
        time.sleep(rng.choice([0, 0.01, 0.2]))

    def release(self, rng: random.Random) -> None:
        self._done(release(self._stub, NAME), "releases")
        time.sleep(rng.choice([0, 0.02]))
        self.load(rng)

    def load_partitions(self, rng: random.Random) -> None:
        names = rng.sample(self._partitions, rng.randint(1, len(self._partitions)))
        request = milvus_pb2.LoadPartitionsRequest(collection_name=NAME, partition_names=names)
        self._done(self._stub.LoadPartitions(request), "partition loads")
        time.sleep(rng.choice([0, 0.05]))

    def release_partitions(self, rng: random.Random) -> None:
        names = rng.sample(self._partitions, 1)
        request = milvus_pb2.ReleasePartitionsRequest(collection_name=NAME, partition_names=names)
        self._done(self._stub.ReleasePartitions(request), "partition releases")
        time.sleep(rng.choice([0, 0.05]))
        self.load_partitions(rng)

    def flush(self, rng: random.Random) -> None:
        self._done(self._stub.Flush(milvus_pb2.FlushRequest(collection_names=[NAME])).status, "flushes")
        time.sleep(0.1)


def _has_partitions(stub: Any) -> bool:
    """Whether this server supports partitions."""
    try:
        status = stub.CreatePartition(milvus_pb2.CreatePartitionRequest(collection_name=NAME, partition_name="p1"))
        if status.code:
            return False
        stub.LoadPartitions(milvus_pb2.LoadPartitionsRequest(collection_name=NAME, partition_names=["p1"]))
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        return False
    return True


@pytest.mark.timeout(SECONDS + 120)
def test_every_answer_is_right_while_another_loads_and_releases(new_server: ServerFactory) -> None:
    """A failure prints the seed; MILVINE_TRAFFIC_SEED repeats it."""
    print(f"MILVINE_TRAFFIC_SEED={SEED}")  # noqa: T201
    server = new_server(
        env={"MILVINE_COMMON_RETENTIONDURATION": "1", "MILVINE_PROXY_WORKERTHREADS": "32", "MILVINE_LOG_LEVEL": "error"}
    )
    create(server.stub, {"index_type": "FLAT", "metric_type": "L2"})
    partitions = ["_default", "p1"] if _has_partitions(server.stub) else ["_default"]
    traffic = Traffic(server, partitions, _is_documented, live_batches=60)
    disturbances = _Disturbances(traffic, partitions)
    chosen = [disturbances.load, disturbances.load, disturbances.release, disturbances.flush]
    if len(partitions) > 1:
        chosen += [disturbances.load_partitions, disturbances.release_partitions]
    wanted = ("searches", "queries", "counts", "rows searched for", "inserts", "deletes", "loads", "releases")
    traffic.run(SECONDS, chosen, SEED, lambda: all(traffic.counts[what] for what in wanted))
    summary = traffic.summary()
    print(summary)  # noqa: T201
    for what in wanted:
        assert traffic.counts[what] > 0, summary
    assert traffic.last_rss < 1.15 * traffic.third_rss + (48 << 20), summary
