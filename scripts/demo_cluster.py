"""`make demo-cluster`: the demo on what a cluster consists of, all of it on this machine.

Starts PostgreSQL for the catalog, an S3 server for the segments (versitygw, or else moto), a head and two query nodes.
Loads real vectors with two replicas, searches them, kills a node under searches, kills the head, and shows what clients
see of it. Ends with status 0 only if every step did what it should, and removes what it made either way.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from conftest import free_port
from demo import (
    BATCH,
    COLLECTION,
    QUESTIONS,
    SEARCH,
    STEP_SECONDS,
    TOP,
    Demo,
    as_dicts,
    expect,
    grid,
    main,
    memory_of,
    wait_until,
)
from demo_data import DemoData, embed, load
from node_processes import ClusterOfNodes
from object_servers import VERSITYGW, ObjectServer, find_versitygw
from postgres_servers import Postgres, binaries
from pymilvus import MilvusException

NODES = 2
SEGMENTS = 4
HARM_SECONDS = 4.0
"""Searches go on for so long after a node was killed."""


class Searches:
    """Searches by a client of their own until the block ends."""

    def __init__(self, client: Any) -> None:
        self.seconds: list[float] = []
        self.failures: list[str] = []
        self._client = client
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Searches:
        self._thread.start()
        wait_until(lambda: len(self.seconds) >= 5 or bool(self.failures), "the searches did not begin")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)
        self._client.close()

    def _run(self) -> None:
        question = [embed(QUESTIONS[0])]
        while not self._stopping.is_set():
            began = time.perf_counter()
            try:
                (found,) = self._client.search(COLLECTION, question, limit=TOP, search_params=SEARCH)
                if len(found) != TOP:
                    self.failures.append(f"{len(found)} hits")
            except MilvusException as error:
                self.failures.append(error.message)
            self.seconds.append(time.perf_counter() - began)

    def summary(self) -> str:
        return f"{len(self.seconds)} searches, {len(self.failures)} failed, the slowest took {max(self.seconds):.2f} s"


class ClusterDemo(Demo):
    cluster: ClusterOfNodes | None = None
    nodes_are = "processes `milvine node`, over gRPC"
    seconds = STEP_SECONDS
    """For each step that waits for processes."""

    def run(self) -> None:
        began = time.perf_counter()
        with self.step("Read the rows") as step:
            rows = load()
            step.notes.append(f"{len(rows):,} diseases and injuries of ICD-10-CM")
        expect(binaries() is not None, "PostgreSQL is missing: apt-get install postgresql")
        with tempfile.TemporaryDirectory(prefix="milvine-demo-") as name, ExitStack() as ending:
            directory = Path(name)
            environment = self.start_stores(directory, ending)
            with self.step(f"Start the head and {NODES} nodes") as step:
                self.cluster = self.make(directory, environment)
                ending.callback(self.cluster.close)
                self.cluster.start()
                self.client = self.cluster.head.client()
                ending.callback(self.client.close)
                step.notes.append(f"{self.cluster.head.uri}; {NODES} {self.nodes_are}")
            self.tour(rows)
        expect(not directory.exists(), f"{directory} is still there")
        self.summary(time.perf_counter() - began)

    def make(self, directory: Path, environment: dict[str, str]) -> ClusterOfNodes:
        return ClusterOfNodes(directory, NODES, environment)

    def object_server(self, directory: Path, kind: str) -> ObjectServer:
        return ObjectServer(directory, kind)

    def start_stores(self, directory: Path, ending: ExitStack) -> dict[str, str]:
        """PostgreSQL and the S3 server; returns the settings of the head and the nodes."""
        kind = VERSITYGW if find_versitygw() else "moto"
        with self.step("Start PostgreSQL and an S3 server") as step:
            postgres = Postgres(free_port())
            ending.callback(postgres.close)
            postgres.start()
            objects = self.object_server(directory, kind)
            ending.callback(objects.stop)
            environment = {**objects.environment("demo"), "MILVINE_CATALOG_URI": postgres.new_database()}
            step.notes.append(f"catalog {environment['MILVINE_CATALOG_URI']}")
            step.notes.append(f"segments {environment['MILVINE_STORE_URI']} on {kind}")
        return environment

    def tour(self, rows: DemoData) -> None:
        with self.step("Create a collection") as step:
            step.notes.append(self.create(**{"collection.autocompaction.enabled": "false"}))
        with self.step(f"Insert {len(rows):,} rows in {SEGMENTS} segments"):
            self.insert(rows)
        with self.step("Build an HNSW index") as step:
            step.notes.append(self.build_index(len(rows)))
        with self.step(f"Load with {NODES} replicas") as step:
            self.load(replica_number=NODES)
            self.wait_for_replicas()
            self.show_nodes()
        with self.step(f"Search by {len(QUESTIONS)} questions") as step:
            step.notes.append(self.search(rows))
        with self.step("Kill a node under searches") as step:
            step.notes.extend(self.killed_node())
        with self.step("Start it again") as step:
            step.notes.append(self.returned_node())
        with self.step("Kill the head and start it again") as step:
            step.notes.append(self.killed_head(rows))

    def insert(self, rows: DemoData) -> None:
        size = -(-len(rows) // SEGMENTS)
        with self.bar("rows", len(rows)) as advance:
            for first in range(0, len(rows), size):
                end = min(first + size, len(rows))
                for start in range(first, end, BATCH):
                    self.client.insert(COLLECTION, list(as_dicts(rows, range(start, min(start + BATCH, end)))))
                    advance(min(start + BATCH, end))
                self.client.flush(COLLECTION)

    @property
    def parts(self) -> ClusterOfNodes:
        assert self.cluster is not None
        return self.cluster

    @property
    def parts_to_harm(self) -> Sequence[Any]:
        """What a node runs on."""
        return self.parts.nodes

    def holders(self) -> list[int]:
        """How many nodes hold each segment."""
        live = {one["nodeId"] for one in self.parts.listed() if not one["isSilent"]}
        return [len(live.intersection(one.node_ids)) for one in self.client.list_loaded_segments(COLLECTION)]

    def wait_for_replicas(self) -> None:
        wait_until(lambda: self.holders() == [NODES] * SEGMENTS, "the replicas were not whole", self.seconds)

    def show_nodes(self) -> None:
        table = grid("node", "address", "segments", "memory")
        wait_until(lambda: all(one["segments"] == SEGMENTS for one in self.parts.listed()), "the nodes did not report")
        for one in self.parts.listed():
            memory = f"{one['measuredBytes'] / (1 << 20):.0f} MB"
            table.add_row(str(one["nodeId"]), one["address"], str(one["segments"]), memory)
        self.console.print(table)

    @contextmanager
    def searching(self) -> Iterator[Searches]:
        with Searches(self.parts.head.client()) as searches:
            yield searches
        expect(not searches.failures, f"{len(searches.failures)} searches failed: {searches.failures[:1]}")

    def killed_node(self) -> Iterator[str]:
        with self.searching() as searches:
            self.parts_to_harm[0].kill()
            time.sleep(HARM_SECONDS)
        yield searches.summary()
        wait_until(lambda: len(self.parts.listed()) == NODES - 1, "the head did not notice")
        yield "the head has noticed it; the other node holds every segment"

    def returned_node(self) -> str:
        began = time.perf_counter()
        with self.searching() as searches:
            self.parts_to_harm[0].start()
            self.wait_for_replicas()
            seconds = time.perf_counter() - began
        return f"whole again after {seconds:.1f} s; {searches.summary()}"

    def killed_head(self, rows: DemoData) -> str:
        self.parts.head.kill()
        began = time.perf_counter()
        self.parts.head.start()
        self.client.close()
        self.client = self.parts.head.client()
        wait_until(lambda: self.state() == "Loaded", "the collection was not loaded again")
        seconds = time.perf_counter() - began
        counted = int(self.client.query(COLLECTION, filter="", output_fields=["count(*)"])[0]["count(*)"])
        expect(counted == len(rows), f"{counted:,} of {len(rows):,} rows are left")
        return f"loaded again after {seconds:.1f} s, with all {counted:,} rows"

    def state(self) -> str:
        with suppress(MilvusException):
            return super().state()
        return "unknown"

    def memory(self) -> float:
        """Of the head and the nodes."""
        if self.cluster is None:
            return 0.0
        nodes = [one.process.pid for one in self.parts_to_harm if one.process is not None]
        return memory_of(*nodes, self.cluster.head.pid)

    @property
    def last_lines(self) -> list[str]:
        with suppress(OSError):
            return [] if self.cluster is None else self.cluster.head.log_file.read_text().splitlines()[-15:]
        return []


if __name__ == "__main__":
    sys.exit(main(ClusterDemo))
