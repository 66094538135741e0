"""Writers that record every answer, so that a test knows after a crash what must be there.

Beside `vec`, rows have nullable vectors of bits and sparse ones, and a text with BM25 terms and an index of its words.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusClient
from sample_collections import add_index
from text_rows import WORDS, add_text, add_text_index, check_words, draw_filter, draw_text
from vector_fields import FIELDS, received

DIM = 8
LASTING = "lasting"
TOGGLED = "toggled"
KEYS_PER_WRITER = 100_000
KEYS_PER_ROUND = 1_000_000
Row = dict[str, Any]
KINDS = tuple(f for f in FIELDS if f.data_type in (DataType.BINARY_VECTOR, DataType.SPARSE_FLOAT_VECTOR))
WRITTEN = ["id", "vec", "name", "tag", "number", "text", *(kind.name for kind in KINDS)]


def vector_of(key: int) -> list[float]:
    """The vector of a key, so that a torn or swapped row is found."""
    return [float(x) for x in np.random.default_rng(key).standard_normal(DIM).astype(np.float32)]


def row_of(key: int, batch: str) -> Row:
    numbers = np.random.default_rng((1, key))
    kinds = {kind.name: None if (key + place) % 4 == 0 else kind.draw(numbers) for place, kind in enumerate(KINDS)}
    row = {"id": key, "vec": vector_of(key), "name": f"{batch}/{key}", "tag": batch, "number": key * 3}
    return {**row, "text": draw_text(numbers), **kinds}


def create(client: MilvusClient, name: str, index_type: str) -> None:
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("name", DataType.VARCHAR, max_length=64)
    for kind in KINDS:
        kind.add_to(schema, nullable=True)
    add_text(schema)
    client.create_collection(name, schema=schema)
    add_index(client, name, "vec", index_type)
    for kind in KINDS:
        kind.add_index(client, name)
    add_text_index(client, name)
    client.load_collection(name)


@dataclass
class Batch:
    """One insert and possibly one delete of some of its keys."""

    name: str
    keys: list[int]
    acknowledged: bool = False
    delete_keys: list[int] = field(default_factory=list)
    delete_acknowledged: bool = False


class Load:
    """Threads that write (three), flush, read, and load and release; all stop when the server is gone."""

    def __init__(self, uri: str, seed: int, round_number: int) -> None:
        self._uri = uri
        self._seed = seed
        self._round = round_number
        self._ending = threading.Event()
        self.batches: list[Batch] = []
        self.errors: list[str] = []
        self.toggled_loaded: bool | None = None
        """What the toggled collection must be; None while an unanswered call leaves it open."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Runs the threads; the body must kill the server."""
        actors: list[Callable[[MilvusClient], None]] = [self._flush, self._search, self._toggle]
        for number in range(3):
            actors.append(lambda client, n=number: self._write(client, n))  # type: ignore[misc]
        threads = [threading.Thread(target=self._act, args=(actor,)) for actor in actors]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ending.set()
            for thread in threads:
                thread.join(30)
            assert not any(thread.is_alive() for thread in threads), "a client hangs on a dead server"

    def ending(self) -> None:
        """Called before the kill: later errors are expected."""
        self._ending.set()

    def _act(self, actor: Callable[[MilvusClient], None]) -> None:
        client = None
        try:
            client = MilvusClient(uri=self._uri)
            while not self._ending.is_set():
                actor(client)
        except Exception as error:  # noqa: BLE001 - kept, and the test fails with it
            if not self._ending.is_set():
                self.errors.append(repr(error))
        finally:
            if client is not None:
                client.close()

    def _write(self, client: MilvusClient, number: int) -> None:
        rng = np.random.default_rng((self._seed, number))
        key = self._round * KEYS_PER_ROUND + number * KEYS_PER_WRITER
        while not self._ending.is_set():
            count = int(rng.integers(1, 120))
            batch = Batch(f"b{self._round}-{number}-{key}", list(range(key, key + count)))
            key += count
            self.batches.append(batch)
            client.insert(LASTING, [row_of(k, batch.name) for k in batch.keys], retry_times=0)
            batch.acknowledged = True
            if rng.random() < 0.4:
                batch.delete_keys = [k for k in batch.keys if rng.random() < 0.5] or batch.keys
                client.delete(LASTING, ids=batch.delete_keys, retry_times=0)
                batch.delete_acknowledged = True

    def _flush(self, client: MilvusClient) -> None:
        client.flush(LASTING, retry_times=0)
        time.sleep(0.03)

    def _search(self, client: MilvusClient) -> None:
        hits = client.search(LASTING, [vector_of(self._round)], anns_field="vec", limit=5, retry_times=0)
        assert len(hits) == 1
        time.sleep(0.005)

    def _toggle(self, client: MilvusClient) -> None:
        self.toggled_loaded = None
        client.release_collection(TOGGLED, retry_times=0)
        self.toggled_loaded = False
        time.sleep(0.02)
        self.toggled_loaded = None
        client.load_collection(TOGGLED, retry_times=0)
        self.toggled_loaded = True
        time.sleep(0.02)


def settle(batch: Batch, found: dict[int, Row]) -> tuple[dict[int, Row], list[str]]:
    """The rows of the batch that must stay from here on, and what is wrong with the rows found."""
    wrong: list[str] = []
    there = [k for k in batch.keys if k in found]
    if not batch.acknowledged and there and len(there) != len(batch.keys):
        wrong.append(f"{batch.name} was never acknowledged and is half there: {len(there)} of {len(batch.keys)}")
    deleted = set(batch.delete_keys)
    if batch.delete_acknowledged and (back := deleted.intersection(there)):
        wrong.append(f"{batch.name}: acknowledged deletes came back: {sorted(back)[:5]}")
    if deleted and not batch.delete_acknowledged and 0 < len(deleted.intersection(there)) < len(deleted):
        wrong.append(f"{batch.name}: an unacknowledged delete is half there")
    if batch.acknowledged and (lost := set(batch.keys) - deleted - set(there)):
        wrong.append(f"{batch.name}: {len(lost)} of {len(batch.keys)} acknowledged rows are lost: {sorted(lost)[:5]}")
    for key in there:
        expected, row = row_of(key, batch.name), received(found[key], KINDS)
        if {name: row[name] for name in expected} != expected:
            wrong.append(f"{batch.name}: row {key} is {row}, not {expected}")
    return {k: row_of(k, batch.name) for k in there}, wrong


def check_searches(client: MilvusClient, name: str, rows: dict[int, Row], seed: int) -> None:
    """Compares searches by vectors of bits and sparse ones, and by words, with a slow reference; `rows` are all rows
    there are."""
    for kind in KINDS:
        query = kind.draw(np.random.default_rng(seed))
        kind.check_search(client, name, query, rows, 20)
    rng = random.Random(seed)
    check_words(client, name, rows, rng.choice(WORDS))
    text, passes = draw_filter(rng)
    found = client.query(name, filter=text, output_fields=["id"])
    assert sorted(row["id"] for row in found) == sorted(key for key, row in rows.items() if passes(row)), text
