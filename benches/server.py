"""Measures one server of this checkout: time to ready, rows/s, latencies, memory after each step.

    python benches/server.py [--vectors FILE.npy] [--rows 100000] [--ready 5]

Requests are encoded before the clock starts, over bare gRPC, so that the client costs little. Numbers of two runs on
a busy machine differ by up to 2x: compare within one run.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from pymilvus.grpc_gen import common_pb2, milvus_pb2

Array = np.ndarray[Any, Any]
SERVICE = "/milvus.proto.milvus.MilvusService/"
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
K = 10


class Server:
    """A child process on a directory of its own."""

    def __init__(self, data_dir: str) -> None:
        started = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "milvine",
            "serve",
            "--data-dir",
            data_dir,
            "--port",
            "0",
            "--metrics-port",
            "0",
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = next(line for line in self.process.stdout if line.startswith("milvine ready"))
        self.ready_seconds = time.perf_counter() - started
        self.address = line.split()[-1]

    def rss_mb(self) -> float:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", text)
        return int(found[1]) / 1024 if found else float("nan")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def caller(address: str) -> Callable[[str, bytes], bytes]:
    channel = grpc.insecure_channel(address, [*OPTIONS, ("grpc.use_local_subchannel_pool", 1)])
    methods: dict[str, Any] = {}

    def call(method: str, request: bytes) -> bytes:
        if method not in methods:
            methods[method] = channel.unary_unary(SERVICE + method)
        reply: bytes = methods[method](request)
        return reply

    return call


def checked(reply: Any) -> Any:
    status = getattr(reply, "status", reply)
    if status.code or status.error_code:
        raise SystemExit(f"the server refused: {status.reason}")
    return reply


def vectors(file: Path | None, rows: int) -> tuple[Array, Array]:
    """Rows and 1,000 queries: the file's, or a seeded mixture of 1,000 clusters in 128 dimensions."""
    if file is not None:
        data = np.load(file).astype(np.float32)
        return data[1000 : 1000 + rows], data[:1000]
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((1000, 128), dtype=np.float32)
    data = centres[rng.integers(0, 1000, rows + 1000)] + 0.6 * rng.standard_normal((rows + 1000, 128), dtype=np.float32)
    return data[1000:], data[:1000]


def insert_request(name: str, first: int, data: Array) -> bytes:
    request = milvus_pb2.InsertRequest(collection_name=name, num_rows=len(data))
    field = request.fields_data.add(type=5, field_name="id")
    field.scalars.long_data.data.extend(range(first, first + len(data)))
    field = request.fields_data.add(type=101, field_name="vector")
    field.vectors.dim = data.shape[1]
    field.vectors.float_vector.data.extend(data.reshape(-1))
    encoded: bytes = request.SerializeToString()
    return encoded


def search_request(name: str, query: Array, expression: str = "") -> bytes:
    group = common_pb2.PlaceholderGroup()
    group.placeholders.add(tag="$0", type=101).values.append(query.tobytes())
    request = milvus_pb2.SearchRequest(
        collection_name=name, placeholder_group=group.SerializeToString(), nq=1, dsl=expression
    )
    for key, value in (("anns_field", "vector"), ("topk", str(K)), ("params", '{"ef":64}')):
        request.search_params.add(key=key, value=value)
    encoded: bytes = request.SerializeToString()
    return encoded


def exact(data: Array, queries: Array) -> Array:
    distances = np.einsum("ij,ij->i", data, data)[None] - 2 * queries @ data.T
    return np.argpartition(distances, K, axis=1)[:, :K]


def recall(replies: list[bytes], truth: Array) -> float:
    found = [set(checked(milvus_pb2.SearchResults.FromString(r)).results.ids.int_id.data) for r in replies]
    return float(np.mean([len(f & set(t.tolist())) / K for f, t in zip(found, truth, strict=True)]))


def show(what: str, value: str, server: Server) -> None:
    print(f"{what:<44}{value:>22}{server.rss_mb():>10.0f} MB", flush=True)


def create(call: Callable[[str, bytes], bytes], name: str, dim: int) -> None:
    from pymilvus import CollectionSchema, DataType, FieldSchema
    from pymilvus.client.prepare import Prepare

    fields = [
        FieldSchema("id", DataType.INT64, is_primary=True),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=dim),
    ]
    request = Prepare.create_collection_request(name, CollectionSchema(fields))
    checked(common_pb2.Status.FromString(call("CreateCollection", request.SerializeToString())))


def timed_searches(call: Callable[[str, bytes], bytes], requests: list[bytes]) -> tuple[list[float], list[bytes]]:
    times, replies = [], []
    for request in requests:
        started = time.perf_counter()
        replies.append(call("Search", request))
        times.append((time.perf_counter() - started) * 1e3)
    return times, replies


def run(data: Array, queries: Array, server: Server) -> None:
    call = caller(server.address)
    show("empty server", "", server)
    for batch_rows, rows in ((100, min(20_000, len(data))), (5000, len(data))):
        name = f"bench_{batch_rows}"
        create(call, name, data.shape[1])
        requests = [insert_request(name, i, data[i : i + batch_rows]) for i in range(0, rows, batch_rows)]
        started = time.perf_counter()
        for request in requests:
            checked(milvus_pb2.MutationResult.FromString(call("Insert", request)))
        show(f"insert, {batch_rows} rows a call", f"{rows / (time.perf_counter() - started):,.0f} rows/s", server)
    del requests
    started = time.perf_counter()
    checked(
        milvus_pb2.FlushResponse.FromString(
            call("Flush", milvus_pb2.FlushRequest(collection_names=[name]).SerializeToString())
        )
    )
    show("flush", f"{time.perf_counter() - started:.2f} s", server)
    index = milvus_pb2.CreateIndexRequest(collection_name=name, field_name="vector")
    for key, value in (("index_type", "HNSW"), ("metric_type", "L2"), ("M", "16"), ("efConstruction", "200")):
        index.extra_params.add(key=key, value=value)
    started = time.perf_counter()
    checked(common_pb2.Status.FromString(call("CreateIndex", index.SerializeToString())))
    describe = milvus_pb2.DescribeIndexRequest(collection_name=name).SerializeToString()
    while True:
        reply = checked(milvus_pb2.DescribeIndexResponse.FromString(call("DescribeIndex", describe)))
        if reply.index_descriptions[0].state == common_pb2.IndexState.Finished:
            break
        time.sleep(0.1)
    show("build HNSW M=16 efConstruction=200", f"{time.perf_counter() - started:.1f} s", server)
    load(call, server, name)
    requests = [search_request(name, q) for q in queries]
    timed_searches(call, requests[:100])
    times, replies = timed_searches(call, requests)
    quantiles = statistics.quantiles(times, n=100)
    show("search ef=64, p50 / p99", f"{quantiles[49]:.2f} / {quantiles[98]:.2f} ms", server)
    show(f"search, recall@{K}", f"{recall(replies, exact(data, queries)):.3f}", server)
    for clients in (4, 16):
        show(f"search, {clients} clients", f"{parallel(server, requests, clients):,.0f} /s", server)
    for share in (0.01, 0.1, 0.5, 0.9):
        bound = int(len(data) * share)
        some = [search_request(name, q, f"id < {bound}") for q in queries[:200]]
        times, replies = timed_searches(call, some)
        found = recall(replies, exact(data[:bound], queries[:200]))
        show(f"search, filter keeps {share:.0%}", f"{statistics.median(times):.2f} ms, {found:.3f}", server)
    started = time.perf_counter()
    release = milvus_pb2.ReleaseCollectionRequest(collection_name=name).SerializeToString()
    checked(common_pb2.Status.FromString(call("ReleaseCollection", release)))
    seconds = time.perf_counter() - started
    time.sleep(1.5)  # the allocator gives pages back every half second
    show("release", f"{seconds:.3f} s", server)


def load(call: Callable[[str, bytes], bytes], server: Server, name: str) -> None:
    started = time.perf_counter()
    request = milvus_pb2.LoadCollectionRequest(collection_name=name).SerializeToString()
    checked(common_pb2.Status.FromString(call("LoadCollection", request)))
    progress = milvus_pb2.GetLoadingProgressRequest(collection_name=name).SerializeToString()
    while (
        checked(milvus_pb2.GetLoadingProgressResponse.FromString(call("GetLoadingProgress", progress))).progress < 100
    ):
        time.sleep(0.001)
    show("load", f"{time.perf_counter() - started:.3f} s", server)


def parallel(server: Server, requests: list[bytes], clients: int) -> float:
    each = 2000 // clients

    def work() -> None:
        call = caller(server.address)
        for i in range(each):
            call("Search", requests[i % len(requests)])

    threads = [threading.Thread(target=work) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return clients * each / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--ready", type=int, default=5, help="how often to measure the start")
    arguments = parser.parse_args()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    ready = []
    for _ in range(arguments.ready):
        with tempfile.TemporaryDirectory() as data_dir:
            server = Server(data_dir)
            ready.append(server.ready_seconds)
            server.stop()
    print(f"{'ready on an empty directory, of ' + str(len(ready)):<44}{statistics.median(ready):>20.2f} s")
    data, queries = vectors(arguments.vectors, arguments.rows)
    with tempfile.TemporaryDirectory() as data_dir:
        server = Server(data_dir)
        try:
            run(data, queries, server)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
