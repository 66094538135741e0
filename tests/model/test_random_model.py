"""A random walk over one server, compared with a plain dictionary after each step."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2
from text_rows import WORDS, add_text, add_text_index, check_words, draw_filter, draw_text
from vector_fields import FIELDS as VECTOR_FIELDS
from vector_fields import VectorField, received

from milvine.model.timestamps import physical_ms

pytestmark = pytest.mark.long
STEPS = int(os.environ.get("MILVINE_MODEL_STEPS", "600"))
SEED = int(os.environ.get("MILVINE_MODEL_SEED", str(random.SystemRandom().randrange(10**6))))
DIM = 4
KEY_SPACE = 150
MOMENTS = 12
LOADED_SECONDS = 90.0
"""Enough beside thirty other programs; a step that hangs still ends."""
FIELDS = ["id", "vec", "group", "name", "tag"]
Row = dict[str, Any]
Rows = dict[Any, Row]
RETENTION_SECONDS = 30
Customized = dict[str, Any]


class Walk:
    """The server's collections and the dictionary; each method is one step or one comparison."""

    def __init__(self, server: Any, rng: random.Random) -> None:
        self.server = server
        self.rng = rng
        self.numbers = np.random.default_rng(rng.randrange(2**32))
        self.client = MilvusClient(uri=server.uri)
        self.tables: dict[str, Rows] = {}
        self.loaded: dict[str, bool] = {}
        self.text_keys: dict[str, bool] = {}
        self.vector_fields: dict[str, dict[VectorField, bool]] = {}
        """Of each table, the fields beside `vec`, and whether they are nullable."""
        self.with_texts: set[str] = set()
        self.moments: dict[str, list[tuple[int, Rows]]] = {}
        """Of each table, timestamps and what was there then."""
        self.history: list[str] = []
        self.created = 0

    def key(self, name: str) -> Any:
        number = self.rng.randrange(KEY_SPACE)
        return f"k{number}" if self.text_keys[name] else number

    def vectors(self, n: int) -> Any:
        """Small integers, so that every float32 sum is exact and distances can be compared with ==."""
        return self.numbers.integers(-50, 51, (n, DIM)).astype(np.float32)

    def table(self) -> str:
        return self.rng.choice(sorted(self.tables))

    # steps

    def create(self) -> None:
        if len(self.tables) >= 3:
            return
        self.created += 1
        name = f"walk{self.created}"
        text = self.rng.random() < 0.5
        schema = self.client.create_schema(enable_dynamic_field=True)
        schema.add_field("id", DataType.VARCHAR if text else DataType.INT64, is_primary=True, max_length=32)
        schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
        schema.add_field("group", DataType.INT64, nullable=True)
        schema.add_field("name", DataType.VARCHAR, max_length=64)
        chosen = self.rng.sample(VECTOR_FIELDS, self.rng.randint(0, 3))
        self.vector_fields[name] = {field: self.rng.random() < 0.5 for field in chosen}
        for field, nullable in self.vector_fields[name].items():
            field.add_to(schema, nullable=nullable)
        if self.rng.random() < 0.5:
            self.with_texts.add(name)
            add_text(schema)
        indexes = self.client.prepare_index_params()
        indexes.add_index("vec", index_type="FLAT", metric_type="L2")
        self.client.create_collection(name, schema=schema)
        self.client.create_index(name, indexes, sync=False)  # the SDK would wait half a second
        for field in chosen:
            field.add_index(self.client, name)
        if name in self.with_texts:
            add_text_index(self.client, name)
        self.tables[name], self.loaded[name], self.text_keys[name] = {}, False, text
        self.moments[name] = []
        self._load(name)

    def drop(self) -> None:
        if len(self.tables) > 1:
            name = self.table()
            self.client.drop_collection(name)
            for known in (self.tables, self.loaded, self.text_keys, self.moments, self.vector_fields):
                del known[name]
            self.with_texts.discard(name)

    def insert(self) -> None:
        """Only new keys, since Milvus does not check for equal ones."""
        name = self.table()
        table = self.tables[name]
        wanted = {self.key(name) for _ in range(self.rng.choice([1, 3, 10, 50]))}
        keys = [key for key in sorted(wanted) if key not in table]
        if not keys:
            return
        rows = self.rows_of(name, keys)
        self.client.insert(name, self.sent(name, rows))
        table.update(rows)

    def upsert(self) -> None:
        """Existing and new keys."""
        name = self.table()
        rows = self.rows_of(name, sorted({self.key(name) for _ in range(self.rng.choice([1, 3, 30]))}))
        self.client.upsert(name, self.sent(name, rows))
        self.tables[name].update(rows)

    def upsert_some_fields(self) -> None:
        """Existing keys; the other fields keep their values."""
        name = self.table()
        table = self.tables[name]
        keys = sorted(set(table) & {self.key(name) for _ in range(self.rng.choice([1, 3, 30]))})
        if not keys or not self.loaded[name]:
            return
        names = [*FIELDS[1:4], *self.more_fields(name)]
        chosen = self.rng.sample(names, self.rng.randint(1, len(names)))
        changes = {
            key: {"id": key, **{field: row[field] for field in chosen}} for key, row in self.rows_of(name, keys).items()
        }
        self.client.upsert(name, self.sent(name, changes), partial_update=True)
        table.update({key: {**table[key], **change} for key, change in changes.items()})

    def sent(self, name: str, rows: Rows) -> list[Row]:
        kinds = self.vector_fields[name]
        return [{**row, **{f.name: f.sent(row[f.name]) for f in kinds if f.name in row}} for row in rows.values()]

    def rows_of(self, name: str, keys: list[Any]) -> Rows:
        rows: Rows = {}
        for key, vector in zip(keys, self.vectors(len(keys)), strict=True):
            row = {"id": key, "vec": vector.tolist(), "group": self.rng.choice([None, *range(6)]), "name": f"n{key}"}
            for field, nullable in self.vector_fields[name].items():
                row[field.name] = None if nullable and self.rng.random() < 0.3 else field.draw(self.numbers)
            if name in self.with_texts:
                row["text"] = draw_text(self.numbers)
            if self.rng.random() < 0.6:
                row["tag"] = self.rng.choice(["red", "green", 7, {"deep": [1, key]}])
            rows[key] = row
        return rows

    def more_fields(self, name: str) -> list[str]:
        """The fields of this table that others may lack, without BM25 terms, which no query returns."""
        return [*(field.name for field in self.vector_fields[name]), *(["text"] if name in self.with_texts else [])]

    def delete_keys(self) -> None:
        name = self.table()
        keys = sorted({self.key(name) for _ in range(self.rng.choice([1, 10, 60]))})
        self.client.delete(name, ids=keys)
        for key in keys:
            self.tables[name].pop(key, None)

    def delete_filter(self) -> None:
        name = self.table()
        text, passes = self.filter(name)
        if not self.loaded[name]:
            with pytest.raises(MilvusException) as caught:
                self.client.delete(name, filter=text)
            assert caught.value.code == 101
            return
        self.client.delete(name, filter=text)
        self.tables[name] = {key: row for key, row in self.tables[name].items() if not passes(row)}

    def flush(self) -> None:
        self.client.flush(self.table())

    def load(self) -> None:
        self._load(self.table())

    def _load(self, name: str) -> None:
        """Loads without the SDK's wait of half a second between polls."""
        status = self.server.stub.LoadCollection(milvus_pb2.LoadCollectionRequest(collection_name=name))
        assert status.code == 0, status
        self._wait_for_state(name, "Loaded")
        self.loaded[name] = True

    def _wait_for_state(self, name: str, wanted: str) -> None:
        deadline = time.monotonic() + LOADED_SECONDS
        while (state := self.client.get_load_state(name)["state"].name) != wanted:
            assert state == "Loading" and time.monotonic() < deadline, f"{name} is {state}, not {wanted}"
            time.sleep(0.002)

    def remember(self) -> None:
        """Remembers a timestamp after all acknowledged writes, for later reads of the table."""
        name = self.table()
        ts = self.server.stub.AllocTimestamp(milvus_pb2.AllocTimestampRequest()).timestamp
        self.moments[name] = [*self.moments[name][-MOMENTS:], (ts, dict(self.tables[name]))]

    def release(self) -> None:
        name = self.table()
        self.client.release_collection(name)
        self.loaded[name] = False
        with pytest.raises(MilvusException) as caught:
            self.client.query(name, filter="group >= 0")
        assert caught.value.code == 101

    def restart(self) -> None:
        self._again(self.server.stop)

    def kill(self) -> None:
        self._again(self.server.kill)

    def _again(self, end: Callable[[], None]) -> None:
        self.client.close()
        end()
        self.server.start()
        self.client = MilvusClient(uri=self.server.uri)
        assert sorted(self.client.list_collections()) == sorted(self.tables)
        for name, loaded in self.loaded.items():
            self._wait_for_state(name, "Loaded" if loaded else "NotLoad")

    # comparisons

    def filter(self, name: str) -> tuple[str, Callable[[Row], bool]]:
        if name in self.with_texts and self.rng.random() < 0.3:
            return draw_filter(self.rng)
        number = self.rng.randrange(6)
        choices: list[tuple[str, Callable[[Row], bool]]] = [
            (f"group == {number}", lambda row: row["group"] == number),
            (f"group < {number}", lambda row: row["group"] is not None and row["group"] < number),
            ("group is null", lambda row: row["group"] is None),
            (f'name like "n%{number}"', lambda row: row["name"].endswith(str(number))),
            ('tag == "red"', lambda row: row.get("tag") == "red"),
            ("tag == 7", lambda row: row.get("tag") == 7),
            (f"group in [1, {number}] and tag != 'red'", lambda row: row["group"] in (1, number) and _is_not_red(row)),
        ]
        return self.rng.choice(choices)

    def check(self) -> None:
        name = self.table()
        if not self.loaded[name]:
            return
        self._compare(name, self.tables[name], {})
        if self.moments[name] and self.rng.random() < 0.2:
            ts, table = self.rng.choice(self.moments[name])
            try:
                self._compare(name, table, {"consistency_level": "Customized", "guarantee_timestamp": ts})
            except MilvusException as error:
                # A compaction may have removed rows of that time.
                assert "only support to travel back to 30s so far" in error.message, error
                assert time.time() - physical_ms(ts) / 1000 > RETENTION_SECONDS

    def _compare(self, name: str, table: Rows, at: Customized) -> None:
        """Compares a query, and one of count, get and search, at present or at a timestamp. The walk compares the rest
        after other steps."""
        text, passes = self.filter(name)
        rows = self.query(name, text, **at)
        expected = {key: row for key, row in table.items() if passes(row)}
        assert list(rows) == sorted(expected), f"{name}: {text} {at}"
        for key, row in rows.items():
            assert row == _without_null(expected[key])
        what = self.rng.choices(["count", "get", "search"], [1, 1, 2])[0]
        if what == "count":
            assert self.client.query(name, filter="", output_fields=["count(*)"], **at)[0]["count(*)"] == len(table)
        elif what == "get":
            asked = [self.key(name) for _ in range(8)]
            found = self.client.get(name, ids=asked, output_fields=["name"], **at)
            assert sorted(row["id"] for row in found) == sorted({key for key in asked if key in table})
        else:
            searched, options = (expected, {"filter": text, **at}) if self.rng.random() < 0.5 else (table, at)
            if name in self.with_texts and self.rng.random() < 0.3:
                check_words(self.client, name, searched, self.rng.choice(WORDS), **options)
                return
            kind = self.rng.choice([None, *self.vector_fields[name]])
            if kind is None:
                self._check_search(name, searched, options)
            else:
                self._check_search_by(kind, name, searched, options)

    def query(self, name: str, text: str, **at: Any) -> Rows:
        """Rows as they were written, without NULLs."""
        rows = self.client.query(name, filter=text, output_fields=[*FIELDS, *self.more_fields(name)], **at)
        return {row["id"]: _without_null(received(row)) for row in rows}

    def _check_search(self, name: str, table: Rows, options: Row) -> None:
        query = self.vectors(1)[0]
        k = self.rng.choice([1, 5, 20, 1000])
        asked = {"anns_field": "vec", "limit": k, "output_fields": ["vec", "name"]}
        hits = self.client.search(name, [query.tolist()], **asked, **options)[0]
        distances = {key: float(((np.array(row["vec"]) - query) ** 2).sum()) for key, row in table.items()}
        assert [hit["distance"] for hit in hits] == sorted(distances.values())[:k]
        assert len({hit["id"] for hit in hits}) == len(hits)
        for hit in hits:
            assert distances[hit["id"]] == hit["distance"]
            assert hit["entity"]["vec"] == table[hit["id"]]["vec"]
            assert hit["entity"]["name"] == table[hit["id"]]["name"]

    def _check_search_by(self, field: VectorField, name: str, table: Rows, options: Row) -> None:
        query = field.draw(self.numbers)
        k = self.rng.choice([1, 5, 20, 1000])
        for hit in field.check_search(self.client, name, query, table, k, ("name",), **options):
            assert hit["entity"]["name"] == table[hit["id"]]["name"]

    def check_all(self) -> None:
        for name, table in self.tables.items():
            self._load(name)
            found = self.query(name, "name like 'n%'")
            assert found == {key: _without_null(row) for key, row in table.items()}


def _is_not_red(row: Row) -> bool:
    """`tag != 'red'`: unknown without the key or with a value of another kind, so the row is not kept."""
    return isinstance(row.get("tag"), str) and row["tag"] != "red"


def _without_null(row: Row) -> Row:
    return {k: v for k, v in row.items() if v is not None}


WEIGHTS: dict[str, float] = {
    "create": 3,
    "drop": 1,
    "insert": 30,
    "delete_keys": 12,
    "delete_filter": 8,
    "remember": 6,
    "flush": 3,
    "load": 8,
    "release": 4,
    "restart": 0.1,
    "kill": 0.3,
}
UPSERT_WEIGHTS = {"upsert": 10, "upsert_some_fields": 5}


def weights_for(walk: Walk) -> dict[str, float]:
    """The steps that this server has."""
    try:
        walk.server.stub.Upsert(milvus_pb2.UpsertRequest(collection_name="nobody"))
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        return WEIGHTS
    return {**WEIGHTS, **UPSERT_WEIGHTS}


@pytest.mark.timeout(300 + STEPS // 4)
def test_the_server_agrees_with_a_dictionary_after_each_of_many_random_steps(
    new_server: Callable[..., Any],
) -> None:
    print(f"MILVINE_MODEL_SEED={SEED} MILVINE_MODEL_STEPS={STEPS}")  # noqa: T201
    rng = random.Random(SEED)
    walk = Walk(new_server(), rng)
    walk.create()
    weights = weights_for(walk)
    for number in range(STEPS):
        step = rng.choices(list(weights), list(weights.values()))[0]
        walk.history.append(step)
        try:
            getattr(walk, step)()
            walk.check()
        except BaseException:
            print(f"step {number} after {walk.history[-12:]}, load {os.getloadavg()[0]:.0f}")  # noqa: T201
            raise
    walk.check_all()
    walk.restart()
    walk.check_all()
    walk.client.close()
