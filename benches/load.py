"""Measures loading of one server of this checkout: seconds, bytes, what a restart and many small collections cost.

    python benches/load.py [--quick] [--rows R] [--tiny N]

For 1,000,000 x 128 (IVF_FLAT, nlist 1024: it builds quickly) and 100,000 x 768 (HNSW, M 16, efConstruction 100) random
float32 vectors beside an INT64 key, an INT64 `a` and a VARCHAR `name`: loading resident, with two fields only, and with
`mmap.enabled`; the bytes that were estimated, that the counter says and that the process took; release; the time to the
first answer after a restart. Files come from the page cache. `--quick` is a tenth of the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

BATCH_BYTES = 32 << 20
SETTLE_SECONDS = 2.5
"""The allocator gives pages back every half second."""
NAME = "bench"
_ENVIRONMENT = {"MILVINE_SEGMENT_SEAL_BYTES": "512MB", "MILVINE_WAL_LIMIT": "1GB", "MILVINE_WRITE_BUFFER_LIMIT": "2GB"}


@dataclass(frozen=True)
class Case:
    rows: int
    dim: int
    index_type: str
    params: Mapping[str, Any]


class Server:
    """A child process; start() works again after kill(), on the same data."""

    def __init__(self, data_dir: str) -> None:
        self._data_dir = data_dir
        self.start()

    def start(self) -> None:
        options = ["--data-dir", self._data_dir, "--port", "0", "--metrics-port", "0"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "milvine", "serve", *options],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **_ENVIRONMENT},
        )
        assert self.process.stdout is not None
        line = next(line for line in self.process.stdout if line.startswith("milvine ready"))
        self.uri = f"http://{line.split()[-1]}"
        self.client = MilvusClient(uri=self.uri)

    def kill(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait(30)

    def rss(self) -> int:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) << 10

    def ours(self, route: str, **body: Any) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.uri}/milvine/v1/{route}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            answer: dict[str, Any] = json.loads(response.read())
        if answer["code"]:
            raise SystemExit(f"the server refused: {answer['message']}")
        found: dict[str, Any] = answer["data"]
        return found


def megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"


def show(what: str, value: str) -> None:
    print(f"  {what:<46}{value:>44}", flush=True)


def fill(server: Server, case: Case) -> None:
    client = server.client
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=case.dim)
    schema.add_field("a", DataType.INT64)
    schema.add_field("name", DataType.VARCHAR, max_length=64)
    client.create_collection(NAME, schema=schema)
    stub = client._get_connection()._stub  # the SDK takes rows; columns of numpy save an hour
    rng = np.random.default_rng(7)
    step = max(1, BATCH_BYTES // (4 * case.dim))
    for first in range(0, case.rows, step):
        keys = range(first, min(first + step, case.rows))
        request = milvus_pb2.InsertRequest(collection_name=NAME, num_rows=len(keys))
        for field_name in ("id", "a"):
            column = request.fields_data.add(type=schema_pb2.Int64, field_name=field_name)
            column.scalars.long_data.data.extend(keys)
        names = request.fields_data.add(type=schema_pb2.VarChar, field_name="name")
        names.scalars.string_data.data.extend([f"the name of row {key}" for key in keys])
        vectors = request.fields_data.add(type=schema_pb2.FloatVector, field_name="vector")
        vectors.vectors.dim = case.dim
        vectors.vectors.float_vector.data.extend(rng.standard_normal(len(keys) * case.dim, np.float32))
        status = stub.Insert(request).status
        if status.code:
            raise SystemExit(f"the server refused: {status.reason}")
    client.flush(NAME)
    index = client.prepare_index_params()
    index.add_index("vector", index_name="vector", index_type=case.index_type, metric_type="L2", params=case.params)
    started = time.perf_counter()
    client.create_index(NAME, index, sync=False)
    # Merges come before builds; wait until neither has work left.
    calm_since = time.monotonic()
    while time.monotonic() - calm_since < 25:
        described = client.describe_index(NAME, "vector")
        if described["indexed_rows"] < case.rows or described["pending_index_rows"]:
            calm_since = time.monotonic()
        elif len(client.list_persistent_segments(NAME)) <= 1:
            break
        time.sleep(0.5)
    show(f"build {case.index_type} {dict(case.params)}", f"{time.perf_counter() - started:.1f} s")


def load(server: Server, what: str, **options: Any) -> None:
    """Load by raw polls and show seconds and bytes; then release and show what came back."""
    client = server.client
    before = server.rss()
    body = {"loadFields": options.get("load_fields", [])}
    estimated = server.ours("estimate", collectionName=NAME, **body)["neededBytes"]
    stub = client._get_connection()._stub
    started = time.perf_counter()
    status = stub.LoadCollection(milvus_pb2.LoadCollectionRequest(collection_name=NAME, **options))
    if status.code:
        raise SystemExit(f"the server refused: {status.reason}")
    asked = milvus_pb2.GetLoadingProgressRequest(collection_name=NAME)
    while stub.GetLoadingProgress(asked).progress < 100:
        time.sleep(0.001)
    seconds = time.perf_counter() - started
    counted = server.ours("memory")["measuredBytes"]
    time.sleep(SETTLE_SECONDS)
    taken = server.rss() - before
    show(f"load, {what}", f"{seconds:.3f} s, {megabytes(counted / seconds)}/s")
    sizes = (megabytes(estimated), megabytes(counted), megabytes(taken))
    show("  bytes by estimate / counter / RSS", " / ".join(sizes))
    started = time.perf_counter()
    client.search(NAME, [[0.0] * dim_of(client)], limit=10)
    show("  first search", f"{(time.perf_counter() - started) * 1e3:.1f} ms")
    started = time.perf_counter()
    client.release_collection(NAME)
    seconds = time.perf_counter() - started
    full = server.rss()
    time.sleep(SETTLE_SECONDS)
    back = before + taken - server.rss()
    show("  release", f"{seconds:.3f} s, {megabytes(max(back, before + taken - full))} came back")


def dim_of(client: MilvusClient) -> int:
    fields = client.describe_collection(NAME)["fields"]
    return int(next(f["params"]["dim"] for f in fields if f["name"] == "vector"))


def load_mapped(server: Server) -> None:
    stub = server.client._get_connection()._stub
    request = milvus_pb2.AlterCollectionRequest(collection_name=NAME)
    request.properties.add(key="mmap.enabled", value="true")
    try:
        status = stub.AlterCollection(request)
    except grpc.RpcError:
        status = None
    if status is None or status.code:
        show("load, mapped", "mapped: refused by the server")
        return
    load(server, "mapped")
    request.properties[0].value = "false"
    stub.AlterCollection(request)


def restart(server: Server, dim: int) -> None:
    server.client.load_collection(NAME)
    server.kill()
    started = time.perf_counter()
    server.start()
    ready = time.perf_counter() - started
    server.client.search(NAME, [[0.0] * dim], limit=10)
    show("restart: ready / first answer", f"{ready:.2f} / {time.perf_counter() - started:.2f} s")


def run(case: Case) -> None:
    print(f"{case.rows:,} x {case.dim}, {case.index_type}", flush=True)
    with tempfile.TemporaryDirectory() as data_dir:
        server = Server(data_dir)
        try:
            fill(server, case)
            server.kill()  # a fresh process, since memory that inserts left in the allocator is not loaded data
            server.start()
            load(server, "resident (the first also warms up)")
            load(server, "resident")
            load(server, "two fields only", load_fields=["id", "vector"])
            load_mapped(server)
            restart(server, case.dim)
        finally:
            server.kill()


def run_tiny(count: int) -> None:
    """Create, index and load small collections one after another, and load them again at a restart."""
    print(f"{count:,} tiny collections", flush=True)
    with tempfile.TemporaryDirectory() as data_dir:
        server = Server(data_dir)
        try:
            stub = server.client._get_connection()._stub
            encoded = milvus_pb2.CreateCollectionRequest(schema=tiny_schema())
            seconds = {"create": 0.0, "index": 0.0, "load": 0.0}
            for number in range(count):
                name = f"tiny_{number}"
                encoded.collection_name = name
                index = milvus_pb2.CreateIndexRequest(collection_name=name, field_name="vector")
                for key, value in (("index_type", "FLAT"), ("metric_type", "L2")):
                    index.extra_params.add(key=key, value=value)
                for what, call, request in (
                    ("create", stub.CreateCollection, encoded),
                    ("index", stub.CreateIndex, index),
                    ("load", stub.LoadCollection, milvus_pb2.LoadCollectionRequest(collection_name=name)),
                ):
                    started = time.perf_counter()
                    status = call(request)
                    if status.code:
                        raise SystemExit(f"the server refused: {status.reason}")
                    seconds[what] += time.perf_counter() - started
            started = time.perf_counter()
            wait_healthy(server)
            waited = time.perf_counter() - started
            shares = ", ".join(f"{what} {spent:.1f}" for what, spent in seconds.items())
            show(f"{shares}, and waited", f"{waited:.1f}: {sum(seconds.values()) + waited:.1f} s")
            server.kill()
            started = time.perf_counter()
            server.start()
            wait_healthy(server)
            show("restart until all are loaded", f"{time.perf_counter() - started:.1f} s")
        finally:
            server.kill()


def tiny_schema() -> bytes:
    schema = schema_pb2.CollectionSchema(name="tiny")
    schema.fields.add(name="id", data_type=schema_pb2.Int64, is_primary_key=True)
    vector = schema.fields.add(name="vector", data_type=schema_pb2.FloatVector)
    vector.type_params.add(key="dim", value="4")
    encoded: bytes = schema.SerializeToString()
    return encoded


def wait_healthy(server: Server) -> None:
    """Waits until everything that is to be loaded is loaded."""
    while True:
        try:
            with urllib.request.urlopen(f"{server.uri}/healthz", timeout=10):
                return
        except urllib.error.HTTPError:
            time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows and of the small collections")
    parser.add_argument("--rows", type=int, help="rows of the first case; the second has a tenth of them")
    parser.add_argument("--tiny", type=int, help="how many small collections")
    arguments = parser.parse_args()
    rows = arguments.rows or (100_000 if arguments.quick else 1_000_000)
    run(Case(rows, 128, "IVF_FLAT", {"nlist": 1024}))
    run(Case(rows // 10, 768, "HNSW", {"M": 16, "efConstruction": 100}))
    run_tiny(arguments.tiny or (100 if arguments.quick else 1000))


if __name__ == "__main__":
    main()
