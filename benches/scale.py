"""How costs grow with rows, collections, partitions and clients. Prints tables, and draws the costs over the rows.

    python benches/scale.py [--rows 10000 100000] [--collections 1 100] [--clients 1 8 64] [--partitions 64 1023]

Each number has a server of its own. All sizes: `--rows 10000 100000 1000000 --collections 1 100 10000`, which
takes ten minutes on two quiet cores. CPU is that of the server.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from plot import line_plot
from pymilvus.grpc_gen import common_pb2, milvus_pb2
from server import Array, Server, caller, checked, create, insert_request, parallel, search_request, vectors

Call = Callable[[str, bytes], bytes]
_BATCH = 5000
_SEARCHES = 200
_SMALL_ROWS = 100
"""In each of many partitions or collections."""


@dataclass
class Cost:
    seconds: float
    cpu: float


@contextmanager
def cost(server: Server) -> Iterator[Cost]:
    found = Cost(time.perf_counter(), cpu_seconds(server))
    yield found
    found.seconds, found.cpu = time.perf_counter() - found.seconds, cpu_seconds(server) - found.cpu


def cpu_seconds(server: Server) -> float:
    root = psutil.Process(server.process.pid)
    times = [p.cpu_times() for p in (root, *root.children(recursive=True))]
    return float(sum(t.user + t.system + t.children_user + t.children_system for t in times))


def ask(call: Call, method: str, request: bytes, reply: type = common_pb2.Status) -> object:
    return checked(reply.FromString(call(method, request)))  # type: ignore[attr-defined]


def insert(call: Call, name: str, rows: Array, partition: str = "", first_key: int = 0) -> None:
    for first in range(0, len(rows), _BATCH):
        encoded = insert_request(name, first_key + first, rows[first : first + _BATCH])
        if partition:
            request = milvus_pb2.InsertRequest.FromString(encoded)
            request.partition_name = partition
            encoded = request.SerializeToString()
        ask(call, "Insert", encoded, milvus_pb2.MutationResult)


def flush(call: Call, name: str) -> None:
    request = milvus_pb2.FlushRequest(collection_names=[name]).SerializeToString()
    ask(call, "Flush", request, milvus_pb2.FlushResponse)


def index(call: Call, name: str) -> None:
    """Returns when all rows are indexed."""
    request = milvus_pb2.CreateIndexRequest(collection_name=name, field_name="vector")
    for key, value in (("index_type", "AUTOINDEX"), ("metric_type", "L2")):
        request.extra_params.add(key=key, value=value)
    ask(call, "CreateIndex", request.SerializeToString())
    wait_indexed(call, name)


def wait_indexed(call: Call, name: str) -> None:
    described = milvus_pb2.DescribeIndexRequest(collection_name=name).SerializeToString()
    while True:  # until all rows are counted as indexed
        reply = milvus_pb2.DescribeIndexResponse.FromString(call("DescribeIndex", described))
        if reply.index_descriptions[0].state == common_pb2.IndexState.Finished:
            return
        time.sleep(0.05)


def load(call: Call, name: str) -> None:
    request = milvus_pb2.LoadCollectionRequest(collection_name=name).SerializeToString()
    ask(call, "LoadCollection", request)
    progress = milvus_pb2.GetLoadingProgressRequest(collection_name=name).SerializeToString()
    while milvus_pb2.GetLoadingProgressResponse.FromString(call("GetLoadingProgress", progress)).progress < 100:
        time.sleep(0.005)


def searches(server: Server, call: Call, requests: Sequence[bytes]) -> tuple[float, float]:
    """p50 in ms, and CPU ms of one search."""
    for request in requests[:20]:
        call("Search", request)
    times = []
    with cost(server) as spent:
        for request in requests[:_SEARCHES]:
            began = time.perf_counter()
            ask(call, "Search", request, milvus_pb2.SearchResults)
            times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times), 1000 * spent.cpu / len(times)


@contextmanager
def running(directory: str) -> Iterator[Server]:
    server = Server(directory)
    try:
        yield server
    finally:
        server.stop()


def over_rows(sizes: Sequence[int], clients: Sequence[int], file: Path | None) -> dict[str, list[tuple[float, float]]]:
    print(
        "| rows | insert s (CPU) | flush s (CPU) | index s (CPU) | load s | search p50 ms (CPU) | "
        + " | ".join(f"{n} clients /s" for n in clients)
        + " | restart s (CPU) | memory MB |\n|"
        + "---|" * (8 + len(clients)),
        flush=True,
    )
    lines: dict[str, list[tuple[float, float]]] = {}
    for size in sizes:
        rows, queries = vectors(file, size)
        requests = [search_request("bench", q) for q in queries]
        with tempfile.TemporaryDirectory() as directory:
            with running(directory) as server:
                call = caller(server.address)
                create(call, "bench", rows.shape[1])
                with cost(server) as inserted:
                    insert(call, "bench", rows)
                with cost(server) as flushed:
                    flush(call, "bench")
                with cost(server) as built:
                    index(call, "bench")
                with cost(server) as loaded:
                    load(call, "bench")
                p50, cpu = searches(server, call, requests)
                speeds = [parallel(server, requests, n) for n in clients]
                memory = server.rss_mb()
            with running(directory) as server:
                call = caller(server.address)
                load(call, "bench")
                restarted = Cost(server.ready_seconds, cpu_seconds(server))
        cells = [f"{c.seconds:.2f} ({c.cpu:.2f})" for c in (inserted, flushed, built)]
        cells += [f"{loaded.seconds:.2f}", f"{p50:.2f} ({cpu:.2f})", *(f"{s:,.0f}" for s in speeds)]
        cells += [f"{restarted.seconds:.2f} ({restarted.cpu:.2f})", f"{memory:.0f}"]
        print(f"| {size:,} | " + " | ".join(cells) + " |", flush=True)
        seconds = {"insert s": inserted.seconds, "flush s": flushed.seconds, "index s": built.seconds}
        seconds |= {"load s": loaded.seconds, "search p50 ms": p50, "restart s": restarted.seconds}
        for name, value in seconds.items():
            lines.setdefault(name, []).append((size, max(value, 1e-4)))
    return lines


def over_partitions(numbers: Sequence[int]) -> None:
    """The same rows in many partitions and in one, both scanned."""
    print(
        f"\n| partitions of {_SMALL_ROWS} rows | flush s (CPU) | growing p50 ms (CPU) | sealed p50 ms (CPU) | in one |"
    )
    print("|---|---|---|---|---|")
    for number in numbers:
        rows, queries = vectors(None, number * _SMALL_ROWS)
        with tempfile.TemporaryDirectory() as directory, running(directory) as server:
            call = caller(server.address)
            for name in ("many", "one"):
                create(call, name, rows.shape[1])
                request = milvus_pb2.CreateIndexRequest(collection_name=name, field_name="vector")
                for key, value in (("index_type", "FLAT"), ("metric_type", "L2")):
                    request.extra_params.add(key=key, value=value)
                ask(call, "CreateIndex", request.SerializeToString())
            for part in range(number):
                created = milvus_pb2.CreatePartitionRequest(collection_name="many", partition_name=f"p{part}")
                ask(call, "CreatePartition", created.SerializeToString())
                first = part * _SMALL_ROWS
                insert(call, "many", rows[first : first + _SMALL_ROWS], f"p{part}", first)
            insert(call, "one", rows)
            load(call, "many")
            load(call, "one")
            growing = searches(server, call, [search_request("many", q) for q in queries])
            with cost(server) as flushed:
                flush(call, "many")
            flush(call, "one")
            for name in ("many", "one"):
                wait_indexed(call, name)
            found = [searches(server, call, [search_request(name, q) for q in queries]) for name in ("many", "one")]
        shown = [f"{p50:.2f} ({cpu:.2f})" for p50, cpu in (growing, *found)]
        print(f"| {number} | {flushed.seconds:.2f} ({flushed.cpu:.2f}) | " + " | ".join(shown) + " |", flush=True)


def over_collections(numbers: Sequence[int], filled: int) -> None:
    """Each number with rows in all collections, and with rows in `filled` of them if it is larger."""
    print("\n| collections | with rows | made in s (CPU) | search p50 ms (CPU) | restart s (CPU) | memory MB |")
    print("|---|---|---|---|---|---|")
    for number, full in [*((n, n) for n in numbers), *((n, filled) for n in numbers if n > filled)]:
        rows, queries = vectors(None, _SMALL_ROWS)
        with tempfile.TemporaryDirectory() as directory:
            with running(directory) as server:
                call = caller(server.address)
                with cost(server) as made:
                    for place in range(number):
                        name = f"c{place}"
                        create(call, name, rows.shape[1])
                        if place < full:
                            insert(call, name, rows)
                            index(call, name)
                            load(call, name)
                p50, cpu = searches(server, call, [search_request(f"c{i % full}", q) for i, q in enumerate(queries)])
                memory = server.rss_mb()
            with running(directory) as server:
                restarted = Cost(server.ready_seconds, cpu_seconds(server))
        print(
            f"| {number:,} | {full:,} | {made.seconds:.1f} ({made.cpu:.1f}) | {p50:.2f} ({cpu:.2f}) | "
            f"{restarted.seconds:.2f} ({restarted.cpu:.2f}) | {memory:.0f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--partitions", type=int, nargs="*", default=[64, 1023])
    parser.add_argument("--collections", type=int, nargs="*", default=[1, 100])
    parser.add_argument("--filled", type=int, default=500, help="of more collections, so many have rows and are loaded")
    parser.add_argument("--plot", type=Path, help="an SVG of the costs over the rows")
    options = parser.parse_args()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n", flush=True)
    if options.rows:
        lines = over_rows(options.rows, options.clients, options.vectors)
        if options.plot:
            options.plot.write_text(line_plot(lines, "rows", "seconds, or ms of a search", log_x=True))
    if options.partitions:
        over_partitions(options.partitions)
    if options.collections:
        over_collections(options.collections, options.filled)
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
