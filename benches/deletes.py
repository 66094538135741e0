"""Measures what a single delete costs a server of this checkout, and what searches cost meanwhile.

    python benches/deletes.py [--rows 1000000] [--marks 100000] [--deletes 1000] [--rounds 3] [--text-keys]

Three loaded collections take turns: an empty one, one with all its rows in one sealed segment (IVF_FLAT), and one with
all its rows growing. CPU is that of the whole server process for each delete of one key, every one of which is there.
Then `--marks` more keys are deleted in the other two, and all is measured again. Searches are timed alone and while
another client deletes `--pace` single keys a second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2
from server import Server, caller, checked, search_request

DIM = 8
BATCH = 50_000
_TURNS = 5
NAMES = ("empty", "sealed", "growing")
_ENVIRONMENT = {
    "MILVINE_SEGMENT_SEAL_BYTES": "1GB",
    "MILVINE_WAL_LIMIT": "4GB",
    "MILVINE_WRITE_BUFFER_LIMIT": "4GB",
}


class Bench:
    """The collections of one server, and the keys of each that are not deleted yet."""

    def __init__(self, server: Server, options: argparse.Namespace) -> None:
        self.server = server
        self.options = options
        self.call = caller(server.address)
        self.client = MilvusClient(uri=f"http://{server.address}")
        order = np.random.default_rng(3).permutation(options.rows)
        self.keys: dict[str, Iterator[int]] = {name: iter(order.tolist()) for name in NAMES}

    def fill(self) -> None:
        rng = np.random.default_rng(5)
        key_type = DataType.VARCHAR if self.options.text_keys else DataType.INT64
        for name in NAMES:
            schema = self.client.create_schema(auto_id=False)
            schema.add_field("id", key_type, is_primary=True, max_length=32)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
            indexes = self.client.prepare_index_params()
            index_type, params = ("IVF_FLAT", {"nlist": 1024}) if name == "sealed" else ("FLAT", {})
            indexes.add_index("vector", index_type=index_type, metric_type="L2", params=params)
            self.client.create_collection(name, schema=schema, consistency_level="Bounded")
            self.client.create_index(name, indexes, sync=False)
            if name == "growing":
                self.client.load_collection(name)
            for first in range(0, self.options.rows, BATCH) if name != "empty" else ():
                keys = range(first, min(first + BATCH, self.options.rows))
                checked(milvus_pb2.MutationResult.FromString(self.call("Insert", self._insert(name, keys, rng))))
            if name != "growing":
                self.client.flush(name)
                while self.client.describe_index(name, "vector").get("state") != "Finished":
                    time.sleep(0.2)
                self.client.load_collection(name)

    def _insert(self, name: str, keys: range, rng: np.random.Generator) -> bytes:
        request = milvus_pb2.InsertRequest(collection_name=name, num_rows=len(keys))
        if self.options.text_keys:
            field = request.fields_data.add(type=21, field_name="id")
            field.scalars.string_data.data.extend(f"key-{k:09}" for k in keys)
        else:
            field = request.fields_data.add(type=5, field_name="id")
            field.scalars.long_data.data.extend(keys)
        field = request.fields_data.add(type=101, field_name="vector")
        field.vectors.dim = DIM
        field.vectors.float_vector.data.extend(rng.standard_normal(len(keys) * DIM, dtype=np.float32))
        encoded: bytes = request.SerializeToString()
        return encoded

    def _delete(self, name: str, count: int) -> bytes:
        numbers = [next(self.keys[name]) for _ in range(count)]
        keys = [f"key-{k:09}" for k in numbers] if self.options.text_keys else numbers
        encoded: bytes = milvus_pb2.DeleteRequest(
            collection_name=name, expr=f"id in {json.dumps(keys)}"
        ).SerializeToString()
        return encoded

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.server.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def delete_costs(self) -> dict[str, float]:
        """CPU ms of one delete in each collection, the median of the rounds."""
        costs: dict[str, list[float]] = {name: [] for name in NAMES}
        for _ in range(self.options.rounds):
            for name in NAMES:
                requests = [self._delete(name, 1) for _ in range(self.options.deletes)]
                before = self.cpu_seconds()
                for request in requests:
                    checked(milvus_pb2.MutationResult.FromString(self.call("Delete", request)))
                costs[name].append(1e3 * (self.cpu_seconds() - before) / self.options.deletes)
        return {name: statistics.median(each) for name, each in costs.items()}

    def add_marks(self) -> None:
        for name in NAMES[1:]:
            for _ in range(0, self.options.marks, 10_000):
                reply = self.call("Delete", self._delete(name, 10_000))
                checked(milvus_pb2.MutationResult.FromString(reply))

    def search_times(self, name: str, count: int = 100) -> list[float]:
        """The times of `count` searches, in ms."""
        queries = np.random.default_rng(9).standard_normal((count, DIM), dtype=np.float32)
        requests = [search_request(name, query) for query in queries]
        times: list[float] = []
        for request in requests:
            started = time.perf_counter()
            reply = self.call("Search", request)
            times.append(1e3 * (time.perf_counter() - started))
        checked(milvus_pb2.SearchResults.FromString(reply))
        return times

    def search_times_under_deletes(self, name: str, delete_from: str) -> list[float]:
        ended = threading.Event()
        call = caller(self.server.address)

        def delete() -> None:
            following = time.monotonic()
            while not ended.is_set():
                checked(milvus_pb2.MutationResult.FromString(call("Delete", self._delete(delete_from, 1))))
                following += 1 / self.options.pace
                time.sleep(max(0.0, following - time.monotonic()))

        deleter = threading.Thread(target=delete)
        deleter.start()
        try:
            return self.search_times(name)
        finally:
            ended.set()
            deleter.join()

    def show(self, what: str) -> None:
        costs = self.delete_costs()
        for name, cost in costs.items():
            print(f"{what}: CPU of a delete, {name:<10}{cost:>8.3f} ms  {cost / costs['empty']:>5.2f}x", flush=True)
        for name in NAMES[1:]:
            alone: list[float] = []
            beside_empty: list[float] = []
            beside: list[float] = []
            for _ in range(_TURNS):  # in turns, since the load of the machine changes
                alone += self.search_times(name)
                beside_empty += self.search_times_under_deletes(name, "empty")
                beside += self.search_times_under_deletes(name, name)
            p50 = [statistics.median(times) for times in (alone, beside_empty, beside)]
            print(
                f"{what}: search p50, {name:<10} {p50[0]:.2f} ms alone, {p50[1]:.2f} ms while keys of the empty "
                f"collection are deleted, {p50[2]:.2f} ms ({p50[2] / p50[0]:.2f}x) while its own are",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--marks", type=int, default=100_000)
    parser.add_argument("--deletes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pace", type=float, default=200)
    parser.add_argument("--text-keys", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.update(_ENVIRONMENT)
    with tempfile.TemporaryDirectory() as data_dir:
        server = Server(data_dir)
        try:
            bench = Bench(server, options)
            bench.fill()
            bench.search_times("sealed", 100)
            bench.show("no marks")
            bench.add_marks()
            bench.show(f"{options.marks} marks")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
