"""Readers and writers that check every answer while a collection changes.

Rows come in batches. A read that began after a batch was acknowledged and ended before its delete was sent must see all
of it; one that began after the delete was acknowledged, or ended before the insert was sent, must see nothing of it. An
upsert gives all rows of a batch a new version at once.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from conftest import Server
from grpc_calls import (
    bit_vectors,
    create_request,
    insert_request,
    pairs,
    query_request,
    scalars,
    search_request,
    sparse_vectors,
    status_of,
    vectors,
)
from grpc_calls import field as schema_field
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

DIM, BITS, BATCH_ROWS = 8, 64, 20
NEVER = math.inf
NAME = "traffic"
Array = np.ndarray[Any, Any]


@dataclass
class Batch:
    """Times are of time.monotonic(). `versions`: when each was sent and acknowledged."""

    number: int
    partition: str
    versions: list[list[float]] = field(default_factory=list)
    delete_sent: float = NEVER
    delete_acknowledged: float = NEVER

    @property
    def keys(self) -> list[int]:
        return [self.number * BATCH_ROWS + i for i in range(BATCH_ROWS)]

    @property
    def vectors(self) -> Array:
        return np.random.default_rng(self.number).normal(scale=10, size=(BATCH_ROWS, DIM)).astype(np.float32)

    @property
    def bits(self) -> list[bytes | None]:
        """Some are NULL."""
        numbers = np.random.default_rng((1, self.number))
        return [None if i % 4 == 3 else numbers.bytes(BITS // 8) for i in range(BATCH_ROWS)]

    @property
    def sparse(self) -> list[dict[int, float]]:
        """Each has an index of its own, and one that it shares with others."""
        return [{key: 4.0, 10**9 + key % 7: 1.0} for key in self.keys]

    def queries(self, field_name: str) -> tuple[list[int], list[Any]]:
        """Keys, and vectors of which each is nearest to the row of its key."""
        rows: list[Any] = {"vec": self.vectors.tolist(), "bits": self.bits, "sparse": self.sparse}[field_name]
        valid = [place for place, row in enumerate(rows) if row is not None]
        return [self.keys[place] for place in valid], [rows[place] for place in valid]

    def is_certain(self, began: float, ended: float) -> bool:
        return self.versions[0][1] < began and ended < self.delete_sent

    def is_possible(self, began: float, ended: float) -> bool:
        return self.versions[0][0] <= ended and began <= self.delete_acknowledged

    def possible_versions(self, began: float, ended: float) -> set[int]:
        followed = [*(acknowledged for _, acknowledged in self.versions[1:]), NEVER]
        pairs = enumerate(zip(self.versions, followed, strict=True))
        return {n for n, ((sent, _), next_acknowledged) in pairs if sent <= ended and began <= next_acknowledged}


class Wrong(AssertionError):
    """An answer that fits no order of the calls."""


class Traffic:
    """`is_documented`: whether a refusal of a read is allowed, by its status and the fields it used that may not be
    loaded; `graph_misses`: how many of a thousand existing rows the index of `vec` may miss."""

    def __init__(
        self,
        server: Server,
        partitions: Sequence[str],
        is_documented: Callable[[Any, Collection[str]], bool],
        *,
        live_batches: int,
        upserts: bool = False,
        graph_misses: int = 0,
    ) -> None:
        self.server = server
        self.stub = server.stub
        self.counts: Counter[str] = Counter()
        self._partitions = partitions
        self._is_documented = is_documented
        self._live_batches = live_batches
        self._upserts = upserts
        self._graph_misses = graph_misses
        self._batches: dict[int, Batch] = {}
        self._stop = threading.Event()
        self._wrong: list[BaseException] = []
        self._lock = threading.Lock()
        self.third_rss = self.last_rss = 0

    def run(
        self,
        seconds: float,
        disturbances: Sequence[Callable[[random.Random], None]],
        seed: int,
        is_enough: Callable[[], bool],
    ) -> None:
        """Runs 8 readers, 2 writers and a thread for the disturbances; raises the first wrong answer. On a slow machine
        it continues for up to a minute until `is_enough`."""
        works = [partial(self._write, i, random.Random(seed + i)) for i in range(2)]
        works += [partial(self._read, random.Random(seed + 100 + i)) for i in range(8)]
        works.append(partial(self._disturb, disturbances, random.Random(seed + 200)))
        threads = [threading.Thread(target=self._until_stopped, args=(work,)) for work in works]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        while not self._stop.wait(0.1) and (
            (spent := time.monotonic() - began) < seconds or (spent < seconds + 60 and not is_enough())
        ):
            if not self.third_rss and spent > seconds / 3:
                self.third_rss = self.resident_bytes()
        self.last_rss = self.resident_bytes()
        self._stop.set()
        for thread in threads:
            thread.join()
        if self._wrong:
            raise self._wrong[0]
        misses, searched = self.counts["rows the index missed"], self.counts["rows searched for"]
        assert 1000 * misses <= self._graph_misses * searched, f"{misses} of {searched} rows were not found"

    def resident_bytes(self) -> int:
        text = Path(f"/proc/{self.server.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) << 10

    def summary(self) -> str:
        counts = ", ".join(f"{number:,} {what}" for what, number in sorted(self.counts.items()))
        return f"{counts}; RSS {self.third_rss >> 20} MB after a third, {self.last_rss >> 20} MB at the end"

    def _until_stopped(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (AssertionError, grpc.RpcError, LookupError, ValueError) as error:
            self._wrong.append(error)
            self._stop.set()

    def count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self.counts[what] += number

    def _disturb(self, disturbances: Sequence[Callable[[random.Random], None]], rng: random.Random) -> None:
        while not self._stop.is_set():
            rng.choice(disturbances)(rng)

    # Writing

    def _write(self, writer: int, rng: random.Random) -> None:
        mine: list[Batch] = []
        while not self._stop.is_set():
            batch = Batch(2 * len(mine) + writer, self._partitions[writer % len(self._partitions)])
            mine.append(batch)
            self._send_rows(batch, self.stub.Insert, "inserts")
            if self._upserts and len(mine) > 3:
                self._send_rows(rng.choice(mine[-self._live_batches // 2 :]), self.stub.Upsert, "upserts")
            if len(mine) > self._live_batches:
                self._delete(mine[-self._live_batches - 1])
            time.sleep(0.01)

    def _send_rows(self, batch: Batch, call: Callable[[Any], Any], what: str) -> None:
        version = len(batch.versions)
        request = insert_request(
            NAME,
            BATCH_ROWS,
            scalars("id", schema_pb2.Int64, batch.keys),
            vectors("vec", batch.vectors.tolist()),
            bit_vectors("bits", batch.bits),
            sparse_vectors("sparse", batch.sparse),
            scalars("batch", schema_pb2.Int64, [batch.number] * BATCH_ROWS),
            scalars("a", schema_pb2.Int64, [version] * BATCH_ROWS),
        )
        if what == "upserts":
            upsert = milvus_pb2.UpsertRequest(collection_name=NAME, num_rows=BATCH_ROWS)
            upsert.fields_data.extend(request.fields_data)
            request = upsert
        request.partition_name = batch.partition
        batch.versions.append([time.monotonic(), NEVER])
        self._batches[batch.number] = batch
        self._require_ok(call(request))
        batch.versions[version][1] = time.monotonic()
        self.count(what)

    def _delete(self, batch: Batch) -> None:
        text = f"id in {batch.keys}"
        batch.delete_sent = time.monotonic()
        request = milvus_pb2.DeleteRequest(collection_name=NAME, expr=text, partition_name=batch.partition)
        self._require_ok(self.stub.Delete(request))
        batch.delete_acknowledged = time.monotonic()
        self.count("deletes")

    def _require_ok(self, answer: Any) -> None:
        status = status_of(answer)
        if status.code:
            raise Wrong(f"a write was refused: {status.code} {status.reason}")

    # Reading

    def _read(self, rng: random.Random) -> None:
        while not self._stop.is_set():
            known = list(self._batches)
            if known:
                recent = known[-3 * self._live_batches :]
                batch = self._batches[rng.choice(recent)]
                rng.choice([self._search, self._search, self._query, self._count])(batch, rng)

    def _search(self, batch: Batch, rng: random.Random) -> None:
        fields = ["a"] if rng.random() < 0.3 else []
        searched = rng.choice(["vec", "vec", "bits", "sparse"])
        wanted_keys, queries = batch.queries(searched)
        request = search_request(
            NAME, queries, 1, anns_field=searched, output_fields=fields, params={"ef": 128} if searched == "vec" else {}
        )
        request.partition_names.append(batch.partition)
        began, answer = time.monotonic(), self.stub.Search(request)
        self.count(f"searches by {searched}")
        if self._is_refused(answer, "searches", {*fields, searched} - {"vec"}):
            return
        results, ended = answer.results, time.monotonic()
        keys, counts = list(results.ids.int_id.data), list(results.topks)
        hits = iter(keys)
        found = {wanted for wanted, n in zip(wanted_keys, counts, strict=True) if n and next(hits) == wanted}
        self._check_keys(keys, batch.partition, began, ended)
        if batch.is_certain(began, ended):
            missing = len(queries) - len(found)
            if missing and not (self._graph_misses and searched == "vec"):
                raise Wrong(f"batch {batch.number}: {missing} rows are missing from a search by {searched}")
            if searched == "vec":
                self.count("rows searched for", len(queries))
                self.count("rows the index missed", missing)
        if fields and found == set(keys):
            versions = set(results.fields_data[0].scalars.long_data.data)
            self._check_versions(batch, versions, began, ended)

    def _query(self, batch: Batch, rng: random.Random) -> None:
        by_key = rng.random() < 0.5
        text = f"id in {batch.keys}" if by_key else f"batch == {batch.number}"
        fields = ["id", "a"] if rng.random() < 0.5 else ["id"]
        request = query_request(NAME, text, fields)
        request.partition_names.append(batch.partition)
        began, answer = time.monotonic(), self.stub.Query(request)
        if self._is_refused(answer, "queries", {"a"}.intersection(fields)):
            return
        ended = time.monotonic()
        columns = {f.field_name: list(f.scalars.long_data.data) for f in answer.fields_data}
        keys = columns.get("id", [])
        self._check_keys(keys, batch.partition, began, ended)
        if keys not in ([], batch.keys):
            raise Wrong(f"batch {batch.number}: a part of a batch, {keys}")
        if not keys and batch.is_certain(began, ended):
            raise Wrong(f"batch {batch.number} is missing from a query")
        if keys and "a" in columns:
            self._check_versions(batch, set(columns["a"]), began, ended)

    def _count(self, batch: Batch, rng: random.Random) -> None:
        request = query_request(NAME, "", ["count(*)"])
        request.partition_names.append(batch.partition)
        began, answer = time.monotonic(), self.stub.Query(request)
        if self._is_refused(answer, "counts", ()):
            return
        ended = time.monotonic()
        counted = answer.fields_data[0].scalars.long_data.data[0]
        mine = [b for b in list(self._batches.values()) if b.partition == batch.partition]
        low = BATCH_ROWS * sum(b.is_certain(began, ended) for b in mine)
        high = BATCH_ROWS * sum(b.is_possible(began, ended) for b in mine)
        if not low <= counted <= high:
            raise Wrong(f"{counted} rows, it should be {low} to {high}")

    def _is_refused(self, answer: Any, what: str, fields: Collection[str]) -> bool:
        status = status_of(answer)
        self.count(what)
        if not status.code:
            return False
        if not self._is_documented(status, fields):
            raise Wrong(f"{what}: {status.code} {status.reason}")
        self.count(f"refused with {status.code}")
        return True

    def _check_keys(self, keys: list[int], partition: str, began: float, ended: float) -> None:
        for number in {key // BATCH_ROWS for key in keys}:
            batch = self._batches.get(number)
            if batch is None or batch.partition != partition or not batch.is_possible(began, ended):
                raise Wrong(f"rows of batch {number} were seen: {batch}, a read from {began} to {ended}")

    def _check_versions(self, batch: Batch, versions: set[int], began: float, ended: float) -> None:
        possible = batch.possible_versions(began, ended)
        if len(versions) > 1 or not versions <= possible:
            raise Wrong(f"batch {batch.number} has versions {versions}, possible are {possible}")


def create(stub: Any, index: dict[str, object]) -> None:
    fields = [
        schema_field("id", schema_pb2.Int64, primary=True),
        schema_field("vec", schema_pb2.FloatVector, dim=DIM),
        schema_field("bits", schema_pb2.BinaryVector, dim=BITS, nullable=True),
        schema_field("sparse", schema_pb2.SparseFloatVector),
        schema_field("batch", schema_pb2.Int64),
        schema_field("a", schema_pb2.Int64),
    ]
    assert stub.CreateCollection(create_request(NAME, fields)).code == 0
    indexes: dict[str, Mapping[str, object]] = {
        "vec": index,
        "bits": {"index_type": "BIN_FLAT", "metric_type": "HAMMING"},
        "sparse": {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP"},
    }
    for name, definition in indexes.items():
        request = milvus_pb2.CreateIndexRequest(collection_name=NAME, field_name=name, index_name=name)
        request.extra_params.extend(pairs(definition))
        assert stub.CreateIndex(request).code == 0
