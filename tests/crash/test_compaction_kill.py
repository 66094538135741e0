"""kill -9 while segments are merged and compacted: every row is there once, and no file is left over."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash_load import check_searches, create, row_of
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2

pytestmark = pytest.mark.long
ROUNDS = int(os.environ.get("MILVINE_CRASH_ROUNDS", "2"))
SEED = int(os.environ.get("MILVINE_CRASH_SEED", str(random.SystemRandom().randrange(10**6))))
ENVIRONMENT = {"MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "1", "MILVINE_COMMON_RETENTIONDURATION": "0"}
NAME = "compacted"


def files_of(data_dir: Path) -> set[int]:
    return {int(p.name) for p in (data_dir / "segments").glob("*/*") if p.is_dir()}


@pytest.mark.timeout(60 + 10 * ROUNDS)
def test_no_row_is_lost_or_doubled_by_a_kill_during_merges_and_compactions(new_server: Callable[..., Any]) -> None:
    print(f"MILVINE_CRASH_SEED={SEED} MILVINE_CRASH_ROUNDS={ROUNDS}")  # noqa: T201
    rng = random.Random(SEED)
    server = new_server(env=ENVIRONMENT)
    client = MilvusClient(uri=server.uri)
    create(client, NAME, "FLAT")
    alive: set[int] = set()
    key = 0
    for round_number in range(ROUNDS):
        for _ in range(rng.randint(2, 6)):
            keys = range(key, key + rng.randint(1, 200))
            key = keys.stop
            client.insert(NAME, [row_of(k, "x") for k in keys])
            alive |= set(keys)
            if rng.random() < 0.7:
                gone = rng.sample(sorted(alive), -(-len(alive) // 3))
                client.delete(NAME, ids=gone)
                alive -= set(gone)
            client.flush(NAME)
        client.compact(NAME)
        time.sleep(rng.uniform(0, 1.2))
        late = rng.sample(sorted(alive), min(5, len(alive)))
        client.delete(NAME, ids=late)
        alive -= set(late)
        client.close()
        server.kill()
        server.start()
        # Before the next merge: the start removed files that the catalog does not name.
        request = milvus_pb2.GetPersistentSegmentInfoRequest(collectionName=NAME)
        named = {info.segmentID for info in server.stub.GetPersistentSegmentInfo(request).infos}
        left = files_of(server.data_dir) - named
        client = MilvusClient(uri=server.uri)
        running = {p.target for p in client.list_compaction_tasks(NAME).plans}
        assert left <= running, "leftovers of the killed server"
        deadline = time.monotonic() + 20
        while client.get_load_state(NAME)["state"].name != "Loaded":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        rows = client.query(NAME, filter="id >= 0", output_fields=["name"])
        assert {r["id"]: r["name"] for r in rows} == {k: f"x/{k}" for k in alive}, f"round {round_number}"
        assert client.query(NAME, filter="", output_fields=["count(*)"])[0]["count(*)"] == len(alive)
        check_searches(client, NAME, {k: row_of(k, "x") for k in alive}, round_number)
    client.close()
