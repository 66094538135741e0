"""How long a standby takes from an empty disk: a million rows loaded, and a quarter of a gigabyte of log."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import requests
from pymilvus import DataType, MilvusClient
from test_takeovers import SLOW, TAKEOVER_SECONDS, Group, Head

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

ROWS = int(os.environ.get("MILVINE_TAKEOVER_ROWS", "1000000"))
DIMENSION, NAME = 128, "rows"
BATCH = 20_000
LOG_ROWS = ROWS // 2
"""256 MB of vectors for a million rows."""


def insert(client: MilvusClient, first: int, count: int) -> None:
    random = np.random.default_rng(first)
    for start in range(first, first + count, BATCH):
        size = min(BATCH, first + count - start)
        vectors = random.random((size, DIMENSION), np.float32)
        client.insert(NAME, [{"id": start + i, "vec": vectors[i]} for i in range(size)], **SLOW)


def cpu_seconds(head: Head) -> float:
    fields = Path(f"/proc/{head.server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_standby_loads_a_million_rows_from_an_empty_disk(tmp_path: Path) -> None:
    with closing(Group(tmp_path, {"MILVINE_SEGMENT_SEAL_BYTES": "1GB", "MILVINE_MEMORY_LIMIT": "8GB"})) as group:
        group.start()
        head = group.serving()
        client = head.server.client(**SLOW)
        schema = client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIMENSION)
        index = client.prepare_index_params("vec", index_type="IVF_FLAT", metric_type="L2", params={"nlist": 256})
        client.create_collection(NAME, schema=schema)
        insert(client, 0, ROWS)
        client.flush(NAME, timeout=1200)
        client.create_index(NAME, index, timeout=1200)
        client.load_collection(NAME, timeout=1200)
        insert(client, ROWS, LOG_ROWS)
        before = {one: cpu_seconds(one) for one in group.heads}
        began = time.monotonic()
        head.server.process.kill()
        successor = group.serving(but=head)
        served = time.monotonic()
        served_cpu = cpu_seconds(successor)
        while requests.get(f"{successor.server.uri}/healthz", timeout=TAKEOVER_SECONDS).status_code != 200:
            time.sleep(0.05)
        loaded = time.monotonic()
        used = cpu_seconds(successor) - before[successor]
        hits = successor.server.client(**SLOW).search(NAME, [[0.5] * DIMENSION], limit=10, consistency_level="Strong")
        found = successor.server.client(**SLOW).query(NAME, "", output_fields=["count(*)"], **SLOW)[0]["count(*)"]
        sys.stdout.write(
            f"\n{ROWS} rows and {LOG_ROWS} in the log: ready after {served - began:.1f} s, loaded after "
            f"{loaded - began:.1f} s, CPU {served_cpu - before[successor]:.1f} s and {used:.1f} s, "
            f"load {os.getloadavg()[0]:.0f}\n"
        )
        assert len(hits[0]) == 10 and found == ROWS + LOG_ROWS
