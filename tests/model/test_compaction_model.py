"""Merges and compactions under readers and a writer: at any moment each row is there once."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

SECONDS = float(os.environ.get("MILVINE_COMPACTION_SECONDS", "5"))
SEED = int(os.environ.get("MILVINE_MODEL_SEED", str(random.SystemRandom().randrange(10**6))))
DIM = 4
STABLE_ROWS = 1500
KEY_SPACE = 3000
ENVIRONMENT = {"MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "1", "MILVINE_COMMON_RETENTIONDURATION": "0"}


def vector_of(key: int) -> list[float]:
    """Whole numbers, so that distances are exact; no two keys share one."""
    return [float(key % 50), float(key // 50), 1.0, -1.0]


def row_of(key: int, version: int) -> dict[str, Any]:
    return {"id": key, "vec": vector_of(key), "name": f"n{key}", "version": version}


class Reader(threading.Thread):
    """Reads rows that do not change while their segments are replaced."""

    def __init__(self, uri: str, ending: threading.Event) -> None:
        super().__init__()
        self._uri, self._ending = uri, ending
        self.reads = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        client = MilvusClient(uri=self._uri)
        rng = np.random.default_rng(1)
        try:
            while not self._ending.is_set():
                self._read(client, int(rng.integers(STABLE_ROWS)))
                self.reads += 1
        except BaseException as failure:  # noqa: BLE001 - kept, and the test fails with it
            self.failure = failure
        client.close()

    def _read(self, client: MilvusClient, key: int) -> None:
        counted = client.query("c", filter=f"id < {STABLE_ROWS}", output_fields=["count(*)"])[0]["count(*)"]
        assert counted == STABLE_ROWS, f"{counted} of {STABLE_ROWS} rows"
        hit = client.search("c", [vector_of(key)], limit=1, filter=f"id < {STABLE_ROWS}", output_fields=["name"])[0][0]
        assert (hit["id"], hit["distance"], hit["entity"]["name"]) == (key, 0, f"n{key}")
        assert [r["id"] for r in client.get("c", ids=[key])] == [key]


@pytest.mark.timeout(90 + 2 * SECONDS)
def test_reads_see_every_row_exactly_once_while_segments_are_replaced(new_server: Callable[..., Any]) -> None:
    print(f"MILVINE_MODEL_SEED={SEED} MILVINE_COMPACTION_SECONDS={SECONDS}")  # noqa: T201
    rng = random.Random(SEED)
    server = new_server(env=ENVIRONMENT)
    client = server.client()
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("name", DataType.VARCHAR, max_length=64)
    indexes = client.prepare_index_params()
    indexes.add_index("vec", index_type="HNSW", metric_type="L2", params={"M": 8, "efConstruction": 32})
    client.create_collection("c", schema=schema, index_params=indexes)
    for start in range(0, STABLE_ROWS, 100):
        client.insert("c", [row_of(k, 0) for k in range(start, start + 100)])
        client.flush("c")
    table: dict[int, int] = {}
    ending = threading.Event()
    readers = [Reader(server.uri, ending) for _ in range(2)]
    for reader in readers:
        reader.start()
    started = time.monotonic()
    version = 0
    targets: set[int] = set()
    # This may take long on a busy machine, since compacting child processes have a low priority.
    while time.monotonic() < started + SECONDS or len(targets) < 3:
        assert time.monotonic() < started + SECONDS + 60, "too little was compacted to test anything"
        if any(r.failure for r in readers):
            break
        version += 1
        chosen = rng.sample(range(STABLE_ROWS, KEY_SPACE), rng.choice([1, 20, 100]))
        fresh = [k for k in chosen if k not in table]
        if fresh:
            client.insert("c", [row_of(k, version) for k in fresh])
            table |= dict.fromkeys(fresh, version)
        if rng.random() < 0.6:
            gone = rng.sample(range(STABLE_ROWS, KEY_SPACE), rng.choice([1, 30, 300]))
            client.delete("c", ids=gone)
            for key in gone:
                table.pop(key, None)
        if rng.random() < 0.5:
            client.flush("c")
        if rng.random() < 0.05:
            client.compact("c")
        counted = client.query("c", filter=f"id >= {STABLE_ROWS}", output_fields=["count(*)"])[0]["count(*)"]
        rows = client.query("c", filter=f"id >= {STABLE_ROWS}", output_fields=["version"])
        assert {r["id"]: r["version"] for r in rows} == table
        assert counted == len(table), "a row is there twice"
        targets |= {s.segment_id for s in client.list_persistent_segments("c") if s.compaction_from}
    ending.set()
    for reader in readers:
        reader.join(30)
        assert reader.failure is None, reader.failure
    assert all(r.reads > 20 for r in readers)
    client.close()
    server.kill()
    server.start()
    client = server.client()
    client.load_collection("c")
    rows = client.query("c", filter="id >= 0", output_fields=["version"])
    assert {r["id"]: r["version"] for r in rows} == table | dict.fromkeys(range(STABLE_ROWS), 0)
    client.close()
