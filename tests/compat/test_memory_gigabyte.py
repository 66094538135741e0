"""A collection of a gigabyte takes the memory that its counters say, within a tenth, and a release frees it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from load_calls import loaded, memory
from pymilvus import DataType, MilvusClient
from sample_collections import add_index
from test_memory import BATCH_ROWS, insert, resident_bytes, settled_bytes

ROWS = int(os.environ.get("MILVINE_GIGABYTE_ROWS", "250000"))
DIM = 1024
NAMES = ("small", "large")


def _fill(server: Any, name: str, rows: int) -> None:
    client: MilvusClient = server.client()
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection(name, schema=schema)
    rng = np.random.default_rng(3)
    for first in range(0, rows, BATCH_ROWS):
        insert(server.stub, name, rng, range(first, min(first + BATCH_ROWS, rows)), DIM)
    client.flush(name)
    add_index(client, name, "vec", "FLAT", "L2")
    client.close()


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_counters_and_resident_memory_of_a_gigabyte_differ_by_less_than_a_tenth(
    new_server: Callable[..., Any],
) -> None:
    # Merging is off, since a merge would read the files too.
    environment = {"MILVINE_WRITE_BUFFER_LIMIT": "4GB", "MILVINE_SEGMENT_MAX_ROWS": "1"}
    server = new_server(env=environment)
    for name, rows in zip(NAMES, (2000, ROWS), strict=True):
        _fill(server, name, rows)
    server.kill()
    server.start()
    client: MilvusClient = server.client()
    loaded(server.stub, "small")  # code and threads are not loaded data
    client.search("small", [[0.0] * DIM], limit=1)
    client.release_collection("small")
    before = settled_bytes(server.pid)
    loaded(server.stub, "large")
    found = memory(server)
    counted = found["measuredBytes"]
    assert counted > 4 * ROWS * DIM
    added = settled_bytes(server.pid) - before
    print(f"counted {counted} bytes, the process took {added}")  # noqa: T201
    assert abs(added - counted) < 0.1 * counted
    client.release_collection("large")
    deadline = time.monotonic() + 5
    while resident_bytes(server.pid) - before > 0.1 * counted:
        assert time.monotonic() < deadline, "the memory is not freed"
        time.sleep(0.1)
    client.close()
