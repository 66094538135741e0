"""A collection with its segment files in an object store, and what can be asked of it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import numpy as np
from conftest import Server
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2

from milvine.storage.files import walk_files
from milvine.storage.objects import Objects

NAME = "stored"
DIM = 16
ROWS = 1500
WAIT_SECONDS = 90.0
_VECTORS = np.random.default_rng(17).normal(size=(ROWS, DIM)).astype(np.float32)


def fill(client: MilvusClient, name: str = NAME) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("tag", DataType.VARCHAR, max_length=20)
    index = client.prepare_index_params("vec", index_type="HNSW", metric_type="L2", params={"M": 8})
    client.create_collection(name, schema=schema, index_params=index)
    client.insert(name, rows(0, ROWS))
    client.flush(name)
    client.delete(name, ids=[*range(10)])
    client.flush(name)
    eventually(lambda: client.describe_index(name, "vec")["pending_index_rows"] == 0)
    loaded = client._get_connection().get_query_segment_info
    # The scan and the index differ in the last digits of distances.
    eventually(lambda: all(segment.index_name for segment in loaded(name)))


def rows(first: int, end: int) -> list[dict[str, Any]]:
    return [{"id": i, "vec": _VECTORS[i % ROWS].tolist(), "tag": f"t{i % 7}"} for i in range(first, end)]


def answers(client: MilvusClient, name: str = NAME) -> Any:
    """Hits with all fields, and the number of rows."""
    hits = client.search(
        name, _VECTORS[:3].tolist(), limit=5, output_fields=["vec", "tag"], search_params={"params": {"ef": 64}}
    )
    count = client.query(name, filter="", output_fields=["count(*)"])
    return [
        [(h["id"], h["distance"], h["entity"]["tag"], list(h["entity"]["vec"])) for h in one] for one in hits
    ], count


def eventually(holds: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)


def local_files(server: Server) -> dict[str, int]:
    found: dict[str, int] = {}
    for path in walk_files(server.data_dir / "segments"):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            found[path.relative_to(server.data_dir).as_posix()] = path.stat().st_size
    return found


def check_keeping(server: Server, objects: Objects) -> None:
    """It keeps its segments in the store: it answers alike from an empty cache, and a drop removes the objects."""
    client = server.client()
    fill(client)
    before = answers(client)
    assert objects.sizes() == local_files(server)
    client.close()
    server.stop()
    shutil.rmtree(server.data_dir / "segments")
    server.start()
    client = server.client()
    assert answers(client) == before
    client.drop_collection(NAME)
    eventually(lambda: objects.sizes() == {})
    client.close()


def metric(server: Server, name: str) -> float:
    text = urllib.request.urlopen(f"{server.metrics_uri}/metrics").read().decode()
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{name} ")))


def check(server: Server, env: dict[str, str] | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`milvine check` of the server's directory, or of what the arguments name."""
    command = [sys.executable, "-m", "milvine", "check", *(arguments or [str(server.data_dir)])]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def reasons(server: Server) -> str:
    return " ".join(server.stub.CheckHealth(milvus_pb2.CheckHealthRequest()).reasons)
