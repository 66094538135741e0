"""Power loss after every operation on files: recovery finds every acknowledged write and no half write."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from directory_check import damages
from recorded_disk import All, Disk, Files, Operation, RecordedDisk, Some, Survivors, Torn, digest, save

from milvine import server
from milvine.config import load_settings
from milvine.datanode import build_process
from milvine.datanode.build_order import BuildOrder
from milvine.datanode.build_progress import BuildProgress
from milvine.datanode.index_build import Build
from milvine.datanode.node import DataNode
from milvine.model import sparse_vectors
from milvine.model.columns import Column
from milvine.model.functions import FunctionSchema, FunctionType
from milvine.model.requests import (
    CreateCollectionRequest,
    DeleteRequest,
    InsertRequest,
    LoadRequest,
    QueryRequest,
    SearchRequest,
)
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import ConsistencyLevel, DataType, LoadState
from milvine.service import collections, indexes, loading, reading, segments, writes
from milvine.service.context import Engine, RequestContext
from milvine.storage import wal

pytestmark = pytest.mark.long
SCENARIOS = int(os.environ.get("MILVINE_POWER_LOSS_SCENARIOS", "10"))
SEED = int(os.environ.get("MILVINE_CRASH_SEED", str(random.SystemRandom().randrange(10**6))))
LOADED_SECONDS = 20.0
GRAPH_ROWS = 1100
WORDS = {"enable_analyzer": "true", "enable_match": "true"}
SCHEMA = CollectionSchema(
    (
        FieldSchema(0, "id", DataType.INT64, is_primary=True),
        FieldSchema(0, "vec", DataType.FLOAT_VECTOR, dim=2),
        FieldSchema(0, "tag", DataType.INT64),
        FieldSchema(0, "bits", DataType.BINARY_VECTOR, dim=64, nullable=True),
        FieldSchema(0, "sparse", DataType.SPARSE_FLOAT_VECTOR),
        FieldSchema(0, "text", DataType.VARCHAR, max_length=64, properties=WORDS),
        FieldSchema(0, "terms", DataType.SPARSE_FLOAT_VECTOR),
    ),
    functions=(FunctionSchema(0, "bm25", FunctionType.BM25, ("text",), ("terms",)),),
)
WRITTEN = tuple(f.name for f in SCHEMA.fields if f.name != "terms")
INDEXES = {
    "bits": {"index_type": "BIN_FLAT", "metric_type": "HAMMING"},
    "sparse": {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP"},
    "terms": {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "BM25"},
}
CONTEXT = RequestContext(deadline=float("inf"))


@dataclass(frozen=True)
class Table:
    """The expected state of a collection: the tag of each key, and whether it is to be loaded."""

    rows: dict[int, int] = field(default_factory=dict)
    loaded: bool = False


Tables = dict[str, Table]


@contextmanager
def engine_on(directory: Path) -> Iterator[Engine]:
    """As a started engine, except that index builds run only when called."""
    with mock.patch.object(DataNode, "start", lambda self: None):
        engine = server.build_engine(load_settings({"data_dir": str(directory)}, {}, None))
    try:
        yield engine
    finally:
        assert engine.close(time.monotonic() + LOADED_SECONDS)


def build_here(task: str, order: BuildOrder, _is_wanted: Callable[[], bool], _pass_fds: Sequence[int] = ()) -> None:
    """Does the child process's work in this process, where its files are recorded."""
    assert task == "build"
    build_process.build(order)


def found_in(engine: Engine) -> Tables:
    """All rows found, each with its written values."""
    found: Tables = {}
    for collection in collections.list_collections(engine, CONTEXT):
        name = collection.name
        loaded = collection.load is not None
        if len(collection.user_indexes) == 1 + len(INDEXES):
            loading.load_collection(engine, CONTEXT, LoadRequest(name))
            deadline = time.monotonic() + LOADED_SECONDS
            while loading.get_load_state(engine, CONTEXT, name).state is not LoadState.LOADED:
                assert time.monotonic() < deadline, engine.loader.answers.failure(collection.collection_id)
                time.sleep(0.0005)
            request = QueryRequest(name, "id >= 0", output_fields=WRITTEN)
            found_columns = {f.field.name: f.column for f in reading.query(engine, CONTEXT, request).fields}
            columns = {field: column.values for field, column in found_columns.items()}
            for field, expected in columns_of(columns["id"], columns["tag"]).items():
                assert is_same(found_columns[field], expected), f"{field}: a value of another row"
            rows = dict(zip(columns["id"].tolist(), columns["tag"].tolist(), strict=True))
            check_words(engine, name, rows)
            (count,) = reading.query(engine, CONTEXT, replace(request, output_fields=("count(*)",))).fields
            assert count.column.values == len(rows), f"{name}: {count.column.values} rows, {len(rows)} keys"
        else:
            rows = {}
        found[name] = Table(rows, loaded)
    return found


def check_words(engine: Engine, name: str, rows: dict[int, int]) -> None:
    """Compares a filter and a BM25 search for the tag of one write; `rows` are the tags by key."""
    tag = max(rows.values(), default=0)
    expected = sorted(key for key, value in rows.items() if value == tag)
    request = QueryRequest(name, f"text_match(text, 'tag{tag}')", output_fields=("id",))
    (found,) = reading.query(engine, CONTEXT, request).fields
    assert found.column.values.tolist() == expected, f"{name}: words of other rows"
    texts = pa.array([f"tag{tag}"])
    asked = SearchRequest(name, texts, 16_384, anns_field="terms", query_type=DataType.VARCHAR)
    ranking = reading.search(engine, CONTEXT, asked).ranking
    assert ranking is not None
    assert sorted(ranking.keys.values.tolist()) == expected, f"{name}: terms of other rows"


def columns_of(ids: np.ndarray[Any, Any], tags: np.ndarray[Any, Any]) -> dict[str, Column]:
    """The rows of these keys: vectors and texts have their key in them, each third vector of bits is NULL."""
    validity = ids % 3 != 0
    bits = np.where(validity[:, None], ids[:, None].view(np.uint8), np.uint8(0))
    pairs = np.rec.fromarrays([ids, tags], dtype=[("index", "<u4"), ("value", "<f4")])
    texts = [f"key{key} tag{tag}" for key, tag in zip(ids.tolist(), tags.tolist(), strict=True)]
    return {
        "id": Column(DataType.INT64, ids),
        "vec": Column(DataType.FLOAT_VECTOR, np.stack([ids, ids], axis=1).astype(np.float32)),
        "tag": Column(DataType.INT64, tags),
        "bits": Column(DataType.BINARY_VECTOR, bits, validity),
        "sparse": Column(DataType.SPARSE_FLOAT_VECTOR, sparse_vectors.decode([pair.tobytes() for pair in pairs])),
        "text": Column(DataType.VARCHAR, pa.array(texts, pa.string())),
    }


def is_same(found: Column, expected: Column) -> bool:
    rows = np.ones(len(expected), np.bool_)
    mine, theirs = (rows if column.validity is None else column.validity for column in (found, expected))
    if not np.array_equal(mine, theirs):
        return False
    if isinstance(expected.values, sparse_vectors.SparseVectors):
        return sparse_vectors.encode(found.values) == sparse_vectors.encode(expected.values)
    if isinstance(expected.values, pa.Array):
        return bool(found.values.equals(expected.values))
    return np.array_equal(found.values, expected.values)


class Script:
    """Steps on an engine, and around each what must be there, by the number of operations recorded."""

    def __init__(self, disk: RecordedDisk) -> None:
        self._disk = disk
        self.tables: Tables = {}
        self.moments: list[tuple[int, int, Tables, Tables, str]] = []
        self.tag = 0

    def step(self, what: str, following: Tables, work: Callable[[], object]) -> None:
        start = len(self._disk.operations)
        work()
        self.moments.append((start, len(self._disk.operations), self.tables, following, what))
        self.tables = following

    def with_table(self, name: str, **changes: Any) -> Tables:
        return {**self.tables, name: replace(self.tables[name], **changes)}

    def allowed(self, operation_count: int) -> tuple[list[Tables], str]:
        """The allowed states after this many operations: one, or two during a step."""
        for start, end, before, after, what in self.moments:
            if operation_count <= start:
                return [before], f"before {what}"
            if operation_count < end:
                return [before, after], f"during {what}"
        return [self.tables], "at the end"

    def create(self, engine: Engine, name: str, index_type: str) -> None:
        request = CreateCollectionRequest(name, SCHEMA, consistency_level=ConsistencyLevel.STRONG)
        self.step(
            f"create {name}",
            {**self.tables, name: Table()},
            lambda: collections.create_collection(engine, CONTEXT, request),
        )
        options = {"index_type": index_type, "metric_type": "L2"}
        if index_type == "HNSW":
            options["params"] = '{"M": 4, "efConstruction": 8}'

        def make_indexes() -> None:
            for field_name, definition in {**INDEXES, "vec": options}.items():
                indexes.create_index(engine, CONTEXT, name, field_name, field_name, definition)

        self.step("indexes", dict(self.tables), make_indexes)

    def load(self, engine: Engine, name: str, loaded: bool = True) -> None:
        work: Callable[[], object] = lambda: loading.load_collection(engine, CONTEXT, LoadRequest(name))  # noqa: E731
        if not loaded:
            work = lambda: loading.release_collection(engine, CONTEXT, name)  # noqa: E731
        self.step(f"load {name} {loaded}", self.with_table(name, loaded=loaded), work)

    def insert(self, engine: Engine, name: str, keys: list[int]) -> None:
        """New keys only; the tag tells this insert from others of the key."""
        self._write(engine, name, keys, writes.insert)

    def upsert(self, engine: Engine, name: str, keys: list[int]) -> None:
        self._write(engine, name, keys, writes.upsert)

    def _write(self, engine: Engine, name: str, keys: list[int], write: Callable[..., object]) -> None:
        self.tag += 1
        ids = np.array(keys, np.int64)
        columns = columns_of(ids, np.full(len(ids), self.tag))
        rows = {**self.tables[name].rows, **dict.fromkeys(keys, self.tag)}
        request = InsertRequest(name, "", len(keys), columns)
        self.step(
            f"{write.__name__} into {name}",
            self.with_table(name, rows=rows),
            lambda: write(engine, CONTEXT, request),
        )

    def delete(self, engine: Engine, name: str, keys: list[int]) -> None:
        rows = {k: tag for k, tag in self.tables[name].rows.items() if k not in keys}
        request = DeleteRequest(name, "", f"id in {keys}")
        self.step(
            f"delete from {name}",
            self.with_table(name, rows=rows),
            lambda: writes.delete(engine, CONTEXT, request),
        )

    def flush(self, engine: Engine, name: str) -> None:
        self.step(f"flush {name}", dict(self.tables), lambda: segments.flush(engine, CONTEXT, (name,)))

    def build(self, engine: Engine) -> None:
        builder = engine.datanode.indexes

        def work() -> None:
            while (missing := builder._next_missing()) is not None:
                builder._build(Build(*missing, started=0.0, progress=BuildProgress()))

        self.step("build", dict(self.tables), work)

    def drop(self, engine: Engine, name: str) -> None:
        left = {n: table for n, table in self.tables.items() if n != name}
        self.step(f"drop {name}", left, lambda: collections.drop_collection(engine, CONTEXT, name))


@pytest.fixture(autouse=True)
def _builds_in_this_process() -> Iterator[None]:
    with mock.patch("milvine.datanode.workers.run_task", build_here):
        yield


@contextmanager
def log_written_ahead() -> Iterator[None]:
    """Writes zeros ahead of every record, even in a small log."""
    with mock.patch.multiple(wal, _AHEAD_AFTER_BYTES=0, _AHEAD_BYTES=4096):
        yield


@pytest.fixture(params=[contextlib.nullcontext, log_written_ahead], ids=["appended", "written ahead"])
def _kind_of_log(request: pytest.FixtureRequest) -> Iterator[None]:
    with request.param():
        yield


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where crashed directories are written: in memory if possible, since they are temporary."""
    memory = Path("/dev/shm")
    return memory / f"milvine-{os.getpid()}-{tmp_path.name}" if os.access(memory, os.W_OK) else tmp_path / "scratch"


class Recoveries:
    """What a start finds on the files that a power loss leaves. Equal files are recovered once."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._found: dict[bytes, Tables] = {}

    @property
    def count(self) -> int:
        """How many different sets of files were recovered."""
        return len(self._found)

    def found(self, disk: Disk, survivors: Survivors) -> Tables:
        files = disk.files(survivors)
        key = digest(files)
        if key not in self._found:
            self._found[key] = self._recover(files, has_catalog=bool(disk.image))
        return self._found[key]

    def _recover(self, files: Files, *, has_catalog: bool) -> Tables:
        try:
            save(files, self._scratch)
            if has_catalog:
                assert damages(self._scratch) == []
            with engine_on(self._scratch) as engine:
                return found_in(engine)
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)


def survive_every_crash(script: Script, operations: list[Operation], scratch: Path, kinds: list[Survivors]) -> int:
    """Returns how many different power losses were tried."""
    recoveries = Recoveries(scratch)
    disk = Disk()
    for count in range(len(operations) + 1):
        if count:
            disk.apply(operations[count - 1])
        allowed, when = script.allowed(count)
        for survivors in kinds:
            found = recoveries.found(disk, survivors)
            assert found in allowed, f"{type(survivors).__name__} after operation {count}, {when}"
    return recoveries.count


def survive_a_crash_of_the_recovery(script: Script, operations: list[Operation], count: int, scratch: Path) -> None:
    """kill -9, a start, then a power loss at any of its operations: the rows shown by the start stay."""
    killed = scratch.with_name(f"{scratch.name}-killed")
    before = operations[:count]
    disk = Disk(before)
    try:
        save(disk.files(All()), killed)
        second = RecordedDisk(killed, before)
        with second.recording(), engine_on(killed) as engine:
            shown = found_in(engine)
    finally:
        shutil.rmtree(killed, ignore_errors=True)
    allowed, when = script.allowed(count)
    assert shown in allowed, when
    recoveries = Recoveries(scratch)
    for further, operation in enumerate([None, *second.operations]):
        if operation is not None:
            disk.apply(operation)
        found = recoveries.found(disk, Survivors())
        rows = {name: table.rows for name, table in found.items()}
        expected = [shown] if further == len(second.operations) else allowed
        assert rows in [{n: t.rows for n, t in tables.items()} for tables in expected], (
            f"operation {further} of the start after a kill at operation {count}, {when}"
        )


def fixed_script(engine: Engine, script: Script) -> None:
    """Each kind of step at least once, deletes on both sides of flushes."""
    script.create(engine, "a", "HNSW")
    script.insert(engine, "a", [*range(GRAPH_ROWS)])
    script.load(engine, "a")
    script.delete(engine, "a", [1, 2, 3])
    script.create(engine, "b", "FLAT")
    script.flush(engine, "a")
    script.insert(engine, "b", [1, 2, 3])
    script.build(engine)
    script.delete(engine, "a", [4, 5])
    script.insert(engine, "a", [1, 4])
    script.upsert(engine, "a", [2, 4, 7])
    script.flush(engine, "a")
    script.upsert(engine, "a", [3, 7, 8])
    script.delete(engine, "a", [1, 6])
    script.drop(engine, "b")
    script.load(engine, "a", loaded=False)


def record(directory: Path, play: Callable[[Engine, Script], None]) -> tuple[Script, list[Operation]]:
    directory.mkdir()
    disk = RecordedDisk(directory)
    script = Script(disk)
    with disk.recording(), engine_on(directory) as engine:
        play(engine, script)
        assert found_in(engine).keys() == script.tables.keys()
    return script, disk.operations[: script.moments[-1][1]]


@pytest.mark.usefixtures("_kind_of_log")
def test_a_power_loss_at_any_operation_loses_no_acknowledged_write_and_leaves_none_half_done(
    tmp_path: Path, scratch: Path
) -> None:
    print(f"MILVINE_CRASH_SEED={SEED}")  # noqa: T201
    script, operations = record(tmp_path / "data", fixed_script)
    kinds = [Survivors(), All(), Torn(), Some(random.Random(SEED))]
    tried = survive_every_crash(script, operations, scratch, kinds)
    assert tried > 100, "too few operations were recorded"


@pytest.mark.usefixtures("_kind_of_log")
def test_rows_shown_by_a_start_after_a_kill_survive_a_power_loss(tmp_path: Path, scratch: Path) -> None:
    script, operations = record(tmp_path / "data", fixed_script)
    inserts = [end for _, end, _, _, what in script.moments if what.startswith(("insert", "upsert", "delete"))]
    for end in inserts:
        survive_a_crash_of_the_recovery(script, operations, end - 1, scratch)


def random_script(engine: Engine, script: Script, rng: random.Random) -> None:
    names = iter("abcdefgh")
    script.create(engine, next(names), "HNSW")
    for _ in range(25):
        kind = rng.choices(
            ["insert", "upsert", "delete", "flush", "build", "load", "release", "create", "drop"],
            [25, 15, 20, 15, 8, 6, 3, 3, 2],
        )[0]
        name = rng.choice(sorted(script.tables))
        rows = script.tables[name].rows
        if kind == "insert":
            fresh = [k for k in range(20_000) if k not in rows]
            script.insert(engine, name, sorted(rng.sample(fresh, rng.choice([1, 7, GRAPH_ROWS]))))
        elif kind == "upsert":
            script.upsert(engine, name, sorted(rng.sample(range(20_000), rng.choice([1, 5, 600]))))
        elif kind == "delete":
            keys = sorted(rng.sample(range(20_000), rng.choice([1, 5, 600])))
            script.delete(engine, name, keys)
        elif kind == "flush":
            script.flush(engine, name)
        elif kind == "build":
            script.build(engine)
        elif kind in ("load", "release"):
            script.load(engine, name, kind == "load")
        elif kind == "create" and len(script.tables) < 3:
            script.create(engine, next(names), rng.choice(["FLAT", "HNSW"]))
        elif kind == "drop" and len(script.tables) > 1:
            script.drop(engine, name)


@pytest.mark.nightly
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", range(SCENARIOS))
def test_random_scenarios_survive_a_power_loss(tmp_path: Path, scratch: Path, number: int) -> None:
    seed = SEED + number
    print(f"MILVINE_CRASH_SEED={seed}")  # noqa: T201
    rng = random.Random(seed)
    with log_written_ahead() if rng.random() < 0.5 else contextlib.nullcontext():
        script, operations = record(tmp_path / "data", lambda engine, script: random_script(engine, script, rng))
    survive_every_crash(script, operations, scratch, [Survivors(), All(), Torn(), Some(rng), Some(rng), Some(rng)])
    for count in rng.sample(range(len(operations)), 10):
        survive_a_crash_of_the_recovery(script, operations, count, scratch)
