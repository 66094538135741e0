"""Latencies of searches while other work goes on, and what 64 connections of mixed traffic do to a server.

    python benches/steady.py [--rows 100000] [--minutes 5] [--mixed-minutes 10] [--clients 64]

p50 and p99 of one client that searches steadily: alone; while 500 rows flow in each second; while another collection is
filled, flushed, indexed and merged over and over. Then the mixed traffic: answers by call and code (0, or 8, which
refuses), and the server's memory. Work beside the searching client runs in processes of its own, on the same cores. On
a busy machine only the ratios mean something.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from typing import Any

import grpc
import numpy as np
from pymilvus.grpc_gen import milvus_pb2
from scale import ask, cpu_seconds, flush, index, insert, load, running
from server import Array, Server, caller, create, insert_request, search_request, vectors

NAME, OTHER = "steady", "other"
ROWS_PER_SECOND, ROWS_AT_A_TIME = 500, 50
PAUSE_SECONDS = 0.005
"""Between searches: the client asks a loaded server, and does not load it."""
FILL_ROWS = 20_000
MIXED_ROWS = 20
FIRST_KEY, KEYS = 10**7, 50_000
"""Of the mixed writes, which delete about as many rows as they add."""
PROCESSES = 4
RETRIED = 8
"""The code of refusals, which clients try again."""
Counts = Counter[tuple[str, str]]


def search_steadily(address: str, queries: Array, seconds: float) -> list[float]:
    """Milliseconds of each search."""
    call = caller(address)
    requests = [search_request(NAME, query) for query in queries]
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        ask(call, "Search", requests[len(times) % len(requests)], milvus_pb2.SearchResults)
        times.append(1000 * (time.perf_counter() - began))
        time.sleep(PAUSE_SECONDS)
    return times


def write_steadily(address: str, first: int, stopped: Event) -> None:
    call = caller(address)
    rows, _ = vectors(None, 10_000)
    rng = np.random.default_rng(2)
    due = time.perf_counter()
    for number in range(10**9):
        if stopped.is_set():
            return
        place = number * ROWS_AT_A_TIME % len(rows)
        some = rows[place : place + ROWS_AT_A_TIME]
        # Copies of a vector under other keys would be equally near, and searches ask again for such rows.
        some = some + 0.1 * rng.standard_normal(some.shape, np.float32)
        request = insert_request(NAME, first + number * ROWS_AT_A_TIME, some)
        ask(call, "Insert", request, milvus_pb2.MutationResult)
        due += ROWS_AT_A_TIME / ROWS_PER_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))


def build_steadily(address: str, _first: int, stopped: Event) -> None:
    """Each round adds two segments, which are indexed and merged; the collection begins anew before it is large."""
    call = caller(address)
    rows, _ = vectors(None, FILL_ROWS)
    request = milvus_pb2.DropCollectionRequest(collection_name=OTHER).SerializeToString()
    while not stopped.is_set():
        create(call, OTHER, rows.shape[1])
        index(call, OTHER)
        for _ in range(4):
            for half in (rows[: FILL_ROWS // 2], rows[FILL_ROWS // 2 :]):
                insert(call, OTHER, half)
                flush(call, OTHER)
            if stopped.is_set():
                break
        ask(call, "DropCollection", request)


@contextmanager
def beside(work: Callable[[str, int, Event], None], address: str, first: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    stopped = context.Event()
    process = context.Process(target=work, args=(address, first, stopped))
    process.start()
    try:
        time.sleep(3)  # its imports
        yield
    finally:
        stopped.set()
        process.join(120)
        process.kill()


def show_steady(server: Server, rows: int, minutes: float, queries: Array) -> None:
    print("| beside the searches | searches | p50 ms | p99 ms | p99 / p50 | server CPU | memory MB |\n|" + "---|" * 7)

    def measure(name: str, seconds: float) -> None:
        cpu = cpu_seconds(server)
        times = search_steadily(server.address, queries, seconds)
        share = (cpu_seconds(server) - cpu) / seconds
        cuts = statistics.quantiles(times, n=100)
        print(
            f"| {name} | {len(times):,} | {cuts[49]:.2f} | {cuts[98]:.2f} | {cuts[98] / cuts[49]:.1f} | "
            f"{share:.2f} | {server.rss_mb():.0f} |",
            flush=True,
        )

    measure("nothing", min(30.0, 60 * minutes))
    with beside(write_steadily, server.address, rows):
        measure(f"{ROWS_PER_SECOND} rows a second", 60 * minutes)
    with beside(build_steadily, server.address, 0):
        measure("builds and merges", 60 * minutes)


def upsert_request(first: int, data: Array) -> bytes:
    request = milvus_pb2.UpsertRequest.FromString(insert_request(NAME, first, data))
    return bytes(request.SerializeToString())


def mixed_calls(queries: Array, written: Array, rng: random.Random) -> Iterator[tuple[str, bytes, Any]]:
    """Calls in a random order: mostly reads, then writes, and now and then the rest. `written`: a vector for each key,
    so that few rows are equally near."""
    kinds = ["Search", "filtered", "Query", "Insert", "Upsert", "Delete", "Flush", "DescribeCollection"]
    while True:
        kind = rng.choices(kinds, [40, 15, 20, 10, 6, 6, 0.2, 3])[0]
        place, query = rng.randrange(KEYS), queries[rng.randrange(len(queries))]
        first, rows = FIRST_KEY + place, written[place : place + MIXED_ROWS]
        match kind:
            case "Search":
                yield kind, search_request(NAME, query), milvus_pb2.SearchResults
            case "filtered":
                yield (
                    "Search",
                    search_request(NAME, query, f"id % 10 < {rng.randrange(1, 10)}"),
                    milvus_pb2.SearchResults,
                )
            case "Query":
                asked = milvus_pb2.QueryRequest(
                    collection_name=NAME, expr=f"id in [{first}, {first + 1}]", output_fields=["id"]
                )
                yield kind, asked.SerializeToString(), milvus_pb2.QueryResults
            case "Insert":
                yield kind, insert_request(NAME, first, rows), milvus_pb2.MutationResult
            case "Upsert":
                yield kind, upsert_request(first, rows), milvus_pb2.MutationResult
            case "Delete":
                delete = milvus_pb2.DeleteRequest(
                    collection_name=NAME, expr=f"id in {list(range(first, first + MIXED_ROWS))}"
                )
                yield kind, delete.SerializeToString(), milvus_pb2.MutationResult
            case "Flush":
                flushed = milvus_pb2.FlushRequest(collection_names=[NAME])
                yield kind, flushed.SerializeToString(), milvus_pb2.FlushResponse
            case _:
                described = milvus_pb2.DescribeCollectionRequest(collection_name=NAME)
                yield kind, described.SerializeToString(), milvus_pb2.DescribeCollectionResponse


def mix(address: str, connections: int, seed: int, seconds: float, found: Any) -> None:
    """Puts the answers by call and code, and the times of searches in ms, into `found`."""
    _, queries = vectors(None, 1000)
    written = np.random.default_rng(1).standard_normal((KEYS + MIXED_ROWS, queries.shape[1]), np.float32)
    counts: Counts = Counter()
    times: list[float] = []
    end = time.perf_counter() + seconds

    def work(number: int) -> None:
        call, rng = caller(address), random.Random(seed + number)
        for method, request, reply in mixed_calls(queries, written, rng):
            began = time.perf_counter()
            if began > end:
                return
            try:
                answer = reply.FromString(call(method, request))
                status = getattr(answer, "status", answer)
                code = str(status.code)
                if status.code not in (0, RETRIED):
                    code += f" {status.reason[:80]}"
            except grpc.RpcError as error:
                code = f"gRPC {error.code().name}: {error.details()[:80]}"
            counts[method, code] += 1
            if method == "Search":
                times.append(1000 * (time.perf_counter() - began))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.put((counts, times))


def show_mixed(server: Server, minutes: float, clients: int) -> None:
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    each = -(-clients // PROCESSES)
    arguments = [(server.address, each, 1000 * number, 60 * minutes, found) for number in range(PROCESSES)]
    processes = [context.Process(target=mix, args=one) for one in arguments]
    for process in processes:
        process.start()
    memory: list[float] = []
    results: list[tuple[Counts, list[float]]] = []
    while len(results) < PROCESSES:
        is_over = not any(process.is_alive() for process in processes)  # then no further result comes
        try:
            results.append(found.get(timeout=10))
        except queue.Empty:
            if is_over:
                raise SystemExit("a client process has ended") from None
        memory.append(server.rss_mb())
    counts: Counts = Counter()
    for one, _ in results:
        counts += one
    times = [value for _, some in results for value in some]
    cuts = statistics.quantiles(times, n=100)
    total = sum(counts.values())
    print(f"\n{clients} connections, {minutes:g} minutes: {total:,} calls, {total / 60 / minutes:,.0f} a second")
    print(f"searches: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms")
    quarter = max(1, len(memory) // 4)
    shown = [statistics.mean(memory[i * quarter : (i + 1) * quarter] or [0.0]) for i in range(4)]
    print("memory in MB, by quarter: " + ", ".join(f"{value:.0f}" for value in shown))
    print("\n| call | code | answers |\n|---|---|---|")
    for (method, code), number in sorted(counts.items()):
        print(f"| {method} | {code} | {number:,} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--mixed-minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=64)
    options = parser.parse_args()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n", flush=True)
    rows, queries = vectors(None, options.rows)
    with tempfile.TemporaryDirectory() as directory, running(directory) as server:
        call = caller(server.address)
        create(call, NAME, rows.shape[1])
        insert(call, NAME, rows)
        flush(call, NAME)
        index(call, NAME)
        load(call, NAME)
        search_steadily(server.address, queries, 1)
        if options.minutes:
            show_steady(server, len(rows), options.minutes, np.asarray(queries))
        if options.mixed_minutes:
            show_mixed(server, options.mixed_minutes, options.clients)
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
