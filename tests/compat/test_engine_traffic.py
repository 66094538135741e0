"""Searches and writes while rows are flushed, indexed, merged and compacted: every answer is right."""

from __future__ import annotations

import os
import random
import time
from typing import Any

import pytest
import requests
from conftest import ServerFactory
from load_calls import loaded
from pymilvus.grpc_gen import milvus_pb2
from traffic import NAME, Traffic, Wrong, create

pytestmark = pytest.mark.long
SECONDS = float(os.environ.get("MILVINE_ENGINE_TRAFFIC_SECONDS", "7"))
SEED = int(os.environ.get("MILVINE_TRAFFIC_SEED", "0")) or random.randrange(1, 10**9)
LIVE_BATCHES = 25 if SECONDS < 60 else 100
GRAPH_MISSES = 5
"""Rows in a thousand: a graph finds nearly all, and a row that is lost would be missed by queries and counts, too."""


@pytest.mark.timeout(SECONDS + 120)
def test_every_answer_is_right_while_segments_come_and_go(new_server: ServerFactory) -> None:
    """A failure prints the seed; MILVINE_TRAFFIC_SEED repeats it."""
    print(f"MILVINE_TRAFFIC_SEED={SEED}")  # noqa: T201
    environment = {
        "MILVINE_COMMON_RETENTIONDURATION": "1",
        "MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "1",
        "MILVINE_PROXY_WORKERTHREADS": "32",
        "MILVINE_LOG_LEVEL": "error",
    }
    server = new_server(env=environment)
    stub = server.stub
    create(stub, {"index_type": "HNSW", "metric_type": "L2", "M": 16, "efConstruction": 60})
    loaded(stub, NAME)
    traffic = Traffic(
        server,
        ["_default"],
        lambda _status, _fields: False,
        live_batches=LIVE_BATCHES,
        upserts=True,
        graph_misses=GRAPH_MISSES,
    )

    def done(answer: Any, what: str) -> None:
        if answer.status.code:
            raise Wrong(f"{what}: {answer.status.code} {answer.status.reason}")
        traffic.count(what)

    def flush(rng: random.Random) -> None:
        done(stub.Flush(milvus_pb2.FlushRequest(collection_names=[NAME])), "flushes")
        time.sleep(rng.choice([0.1, 0.5]))

    def compact(rng: random.Random) -> None:
        described = stub.DescribeCollection(milvus_pb2.DescribeCollectionRequest(collection_name=NAME))
        done(
            stub.ManualCompaction(milvus_pb2.ManualCompactionRequest(collectionID=described.collectionID)),
            "compactions",
        )
        time.sleep(rng.choice([0.1, 0.5]))

    def metrics_of() -> str:
        return requests.get(f"{server.uri}/metrics", timeout=10).text

    def merged_rows() -> int:
        return int(float(metrics_of().split("\nmilvine_compacted_rows_total ")[1].split()[0]))

    wanted = ("searches by bits", "searches by sparse", "rows searched for", "inserts", "upserts", "deletes", "flushes")
    traffic.run(
        SECONDS,
        [flush, flush, compact],
        SEED,
        lambda: all(traffic.counts[what] for what in wanted) and merged_rows() > 0,
    )
    metrics = metrics_of()
    traffic.count("rows merged", merged_rows())
    assert "milvine_background_failures_total{" not in metrics
    described = stub.DescribeIndex(milvus_pb2.DescribeIndexRequest(collection_name=NAME))
    traffic.count("rows of segments with an index at the end", described.index_descriptions[0].indexed_rows)
    summary = traffic.summary()
    print(summary)  # noqa: T201
    for what in (*wanted, "rows merged"):
        assert traffic.counts[what] > 0, summary
    assert traffic.last_rss < 1.15 * traffic.third_rss + (48 << 20), summary
