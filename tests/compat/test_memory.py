"""A load takes the memory that it counts, and a release frees it."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import free_port
from grpc_calls import insert_request, scalars
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import schema_pb2

RELEASE_SECONDS = 2.0
BATCH_ROWS = 10_000


def resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()
    return int(fields[0]) * 1024


def settled_bytes(pid: int) -> int:
    """Resident bytes once they stop falling: memory freed by recovery and imports is returned with a delay."""
    lowest, since = resident_bytes(pid), time.monotonic()
    while time.monotonic() - since < 1.5:
        time.sleep(0.1)
        now = resident_bytes(pid)
        if now < 0.99 * lowest:
            lowest, since = now, time.monotonic()
    return resident_bytes(pid)


def insert(stub: Any, name: str, rng: np.random.Generator, keys: range, dim: int) -> None:
    vectors = schema_pb2.FieldData(type=schema_pb2.FloatVector, field_name="vec")
    vectors.vectors.dim = dim
    vectors.vectors.float_vector.data.extend(rng.standard_normal(len(keys) * dim, np.float32))
    request = insert_request(name, len(keys), scalars("id", schema_pb2.Int64, keys), vectors)
    assert stub.Insert(request).status.code == 0


def create(server: Any, name: str, rows: int, dim: int) -> None:
    """One indexed segment on disk, nothing loaded."""
    client = server.client()
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=dim)
    client.create_collection(name, schema=schema)
    rng = np.random.default_rng(0)
    for start in range(0, rows, BATCH_ROWS):
        insert(server.stub, name, rng, range(start, min(rows, start + BATCH_ROWS)), dim)
    client.flush(name)
    indexes = client.prepare_index_params()
    indexes.add_index("vec", index_type="HNSW", metric_type="L2", params={"M": 8, "efConstruction": 10})
    client.create_index(name, indexes)
    deadline = time.monotonic() + 600
    while len(client.list_persistent_segments(name)) > 1 or client.describe_index(name, "vec")["indexed_rows"] < rows:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    client.close()


def prepare(server: Any, rows: int, dim: int) -> None:
    """Makes a fresh process run the measured calls once, on few rows: code and threads are not loaded data."""
    create(server, "warm", 2000, 8)
    create(server, "c", rows, dim)
    server.kill()
    server.start()
    client = server.client()
    client.load_collection("warm")
    client.search("warm", np.zeros((1, 8), np.float32).tolist(), limit=10)
    client.release_collection("warm")
    client.close()


def loaded_bytes_metric(server: Any) -> float:
    text = urllib.request.urlopen(server.metrics_uri + "/metrics", timeout=10).read().decode()
    return float(text.split("\nmilvine_loaded_bytes ")[1].split()[0])


def check(server: Any, rows: int, dim: int) -> None:
    prepare(server, rows, dim)
    client: MilvusClient = server.client()
    client.describe_collection("c")
    before = settled_bytes(server.pid)
    assert loaded_bytes_metric(server) == 0
    client.load_collection("c")
    counted = sum(s.mem_size for s in client.list_loaded_segments("c"))
    assert counted == loaded_bytes_metric(server)
    assert counted > 4 * rows * dim, "the vectors are counted"
    loaded = settled_bytes(server.pid)
    added = loaded - before
    print(f"counted {counted} bytes, the process took {added}")  # noqa: T201
    assert 0.9 * counted <= added <= 1.2 * counted + (32 << 20)
    hits = client.search("c", np.zeros((1, dim), np.float32).tolist(), limit=10)
    assert len(hits[0]) == 10
    client.release_collection("c")
    deadline = time.monotonic() + RELEASE_SECONDS
    while (given_back := loaded - resident_bytes(server.pid)) < 0.9 * added:
        assert time.monotonic() < deadline, f"{given_back} of {added} bytes in {RELEASE_SECONDS} s"
        time.sleep(0.05)
    assert loaded_bytes_metric(server) == 0
    client.close()


@pytest.mark.one_process("it compares the memory of one replica in one process")
def test_a_load_takes_the_memory_it_counts_and_a_release_frees_it(new_server: Callable[..., Any]) -> None:
    check(new_server(metrics_port=free_port()), 30_000, 256)


@pytest.mark.one_process("it compares the memory of one replica in one process")
@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_load_of_a_hundred_thousand_long_vectors_takes_memory_and_a_release_frees_it(
    new_server: Callable[..., Any],
) -> None:
    environment = {"MILVINE_SEGMENT_SEAL_BYTES": "1GB", "MILVINE_WAL_LIMIT": "2GB", "MILVINE_WRITE_BUFFER_LIMIT": "2GB"}
    check(new_server(metrics_port=free_port(), env=environment), 100_000, 768)
