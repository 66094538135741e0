"""`milvine migrate` between databases of one server: what is copied, compared, refused, and taken up again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Server
from pymilvus import DataType, Function, FunctionType, MilvusClient, MilvusException

from milvine.migration.failures import sentence

ROWS = 60
SECONDS = 60


@contextmanager
def database(server: Server, name: str) -> Iterator[MilvusClient]:
    """A client of a new database, which is dropped in the end with all it has."""
    client = server.client()
    client.create_database(name)
    client.use_database(name)
    yield client
    for collection in client.list_collections():
        for alias in client.list_aliases(collection)["aliases"]:
            client.drop_alias(alias)
        client.drop_collection(collection)
    client.drop_database(name)


@pytest.fixture(scope="module")
def source(server: Server) -> Iterator[MilvusClient]:
    """A client of the database that is moved from."""
    with database(server, "old") as client:
        _create_things(client)
        _create_texts(client)
        yield client


def _create_things(client: MilvusClient) -> None:
    """A collection of every type, with partitions, an alias and ids of the server."""
    schema = client.create_schema(auto_id=True, enable_dynamic_field=True, description="every type")
    schema.add_field("id", DataType.INT64, is_primary=True)
    for name, kind in _SCALARS.items():
        schema.add_field(name, kind)
    schema.add_field("maybe", DataType.INT64, nullable=True)
    schema.add_field("color", DataType.VARCHAR, max_length=20, default_value="red")
    schema.add_field("at", DataType.TIMESTAMPTZ, default_value="2025-01-01T00:00:00+08:00", nullable=True)
    schema.add_field("floats", DataType.ARRAY, element_type=DataType.FLOAT, max_capacity=4)
    schema.add_field("words", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=4, max_length=9)
    index = client.prepare_index_params()
    for name, (kind, index_type, metric) in _VECTORS.items():
        schema.add_field(name, kind, **({} if kind is DataType.SPARSE_FLOAT_VECTOR else {"dim": 8}))
        index.add_index(name, index_type=index_type, metric_type=metric)
    index.add_index("i32", index_type="STL_SORT")
    client.create_collection("things", schema=schema, index_params=index, properties=_PROPERTIES)
    client.create_partition("things", "old_ones")
    client.insert("things", [_thing(i) for i in range(ROWS)])
    client.insert("things", [_thing(i) for i in range(10)], partition_name="old_ones")
    client.create_alias("things", "objects")
    client.release_collection("things")


_PROPERTIES = {"collection.ttl.seconds": "0", "timezone": "Asia/Shanghai"}
_SCALARS = {
    "b": DataType.BOOL,
    "i8": DataType.INT8,
    "i16": DataType.INT16,
    "i32": DataType.INT32,
    "f": DataType.FLOAT,
    "d": DataType.DOUBLE,
    "j": DataType.JSON,
}
_VECTORS = {
    "v": (DataType.FLOAT_VECTOR, "IVF_FLAT", "IP"),
    "half": (DataType.FLOAT16_VECTOR, "FLAT", "L2"),
    "brain": (DataType.BFLOAT16_VECTOR, "HNSW", "COSINE"),
    "small": (DataType.INT8_VECTOR, "HNSW", "COSINE"),
    "bits": (DataType.BINARY_VECTOR, "BIN_FLAT", "JACCARD"),
    "sparse": (DataType.SPARSE_FLOAT_VECTOR, "SPARSE_INVERTED_INDEX", "IP"),
}


def _thing(i: int) -> dict[str, Any]:
    numbers = np.arange(i, i + 8) / 7
    return {
        "b": i % 2 == 0,
        "i8": i,
        "i16": i,
        "i32": i,
        "f": i / 3,
        "d": i / 7,
        "j": ({"x": [i, "é", None]}, [i, "1"], i, i / 2, True, '"é"', '"1"', '"{}"')[i % 8],
        "maybe": None if i % 3 else i,
        **({"color": "blue", "at": f"2025-07-01 00:00:{i:02}"} if i % 2 else {}),
        "floats": [i / 3, 1.0],
        "words": ["u", str(i)],
        "v": numbers.astype(np.float32),
        "half": numbers.astype(np.float16),
        "brain": numbers.astype(np.float32).view(np.uint16)[1::2].tobytes(),  # the upper halves
        "small": np.full(8, i, np.int8),
        "bits": bytes([i]),
        "sparse": {1: 0.5, 10 + i: 2.0},
        "extra": {"n": i},
    }


def _create_texts(client: MilvusClient) -> None:
    """Keys with quotes, partitions by key, and BM25."""
    schema = client.create_schema()
    schema.add_field("key", DataType.VARCHAR, max_length=40, is_primary=True)
    schema.add_field("tenant", DataType.VARCHAR, max_length=9, is_partition_key=True)
    schema.add_field("text", DataType.VARCHAR, max_length=99, enable_analyzer=True)
    schema.add_field("terms", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["terms"]))
    index = client.prepare_index_params("terms", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    client.create_collection("texts", schema=schema, index_params=index, num_partitions=4)
    client.insert("texts", [_text(i) for i in range(ROWS)])


def _text(i: int) -> dict[str, Any]:
    return {"key": f'it\'s "{i:03}" \\', "tenant": f"t{i % 5}", "text": "red fox" if i % 2 else "blue whale"}


@pytest.fixture
def target(server: Server, request: pytest.FixtureRequest) -> Iterator[MilvusClient]:
    """A client of an empty database, named after the test."""
    with database(server, request.node.name[5:60]) as client:
        yield client


@pytest.fixture
def command(server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> list[str]:
    """Moves the collections of `source` to `target`."""
    return [
        *(sys.executable, "-m", "milvine", "migrate", server.uri, server.uri, "--source-database=old"),
        f"--database={request.node.name[5:60]}",
        f"--state={tmp_path / 'state.json'}",
    ]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=SECONDS, stdin=subprocess.DEVNULL
    )


def moved(command: list[str]) -> Any:
    """What a migration says to programs."""
    done = run([*command, "--yes", "--json"])
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return json.loads(done.stdout)


def refused(command: list[str]) -> str:
    done = run(command)
    assert done.returncode == 1
    return done.stderr


def test_all_types_arrive_and_are_compared(
    source: MilvusClient, target: MilvusClient, command: list[str], tmp_path: Path
) -> None:
    things, texts = sorted(moved([*command, "--batch-rows=25"]), key=lambda one: len(one["collection"]), reverse=True)
    assert (things["rows"], things["comparedRows"], things["differences"]) == (ROWS + 10, ROWS + 10, [])
    assert (texts["rows"], texts["differences"]) == (ROWS, [])
    source.load_collection("things")
    everything = {"output_fields": ["*"], "limit": 1000, "consistency_level": "Strong"}
    for name, key in (("things", "id"), ("texts", "key")):
        ours, theirs = (
            sorted(map(repr, client.query(name, filter=f"{key} not in []", **everything)))
            for client in (source, target)
        )
        assert ours == theirs
    assert len(target.query("things", partition_names=["old_ones"], **everything)) == 10
    assert target.describe_collection("objects")["collection_name"] == "things"
    assert target.describe_index("things", "bits")["metric_type"] == "JACCARD"
    assert target.describe_index("things", "i32")["index_type"] == "STL_SORT"
    assert target.describe_collection("texts")["num_partitions"] == 4
    (found,) = target.search("texts", ["fox"], anns_field="terms", limit=3)
    assert len(found) == 3
    assert not (tmp_path / "state.json").exists()


def test_long_names_nulls_and_empty_collections_arrive(
    source: MilvusClient, target: MilvusClient, command: list[str]
) -> None:
    name, field, partition, alias, text = ("c" * 255, "f" * 255, "p" * 255, "a" * 255, "t" * 255)
    schema = source.create_schema(enable_dynamic_field=True)
    schema.add_field("key", DataType.VARCHAR, max_length=65535, is_primary=True)
    schema.add_field(field, DataType.FLOAT_VECTOR, dim=2, nullable=True)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR, nullable=True)
    schema.add_field("half", DataType.FLOAT16_VECTOR, dim=2, nullable=True)
    schema.add_field(text, DataType.VARCHAR, max_length=65535, nullable=True, default_value="none")
    schema.add_field("tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=3, max_length=9, nullable=True)
    schema.add_field("doc", DataType.JSON, nullable=True)
    index = source.prepare_index_params(field, index_type="HNSW", metric_type="IP", M=5, efConstruction=40)
    index.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    index.add_index("half", index_type="FLAT", metric_type="L2")
    for one in (name, "empty"):
        source.create_collection(one, schema=schema, index_params=index)
    source.create_partition(name, partition)
    source.create_alias(name, alias)
    half = np.ones(2, np.float16)
    filled = {
        field: [1, 0],
        "sparse": {2**32 - 2: 0.5},
        "half": half,
        text: "x" * 60_000,
        "tags": ["a"],
        "doc": {"n": None},
    }
    rows: list[dict[str, Any]] = [{"key": key, **filled} for key in ("a", "\n", "\u2028", "'", '"', "\\", "k" * 60_000)]
    rows += [{"key": f"null of {left}", **filled, left: None} for left in filled]
    rows += [{"key": "odd", **filled, "tags": [], "doc": [], "it's.a\"key": 2**62, "deep": {"": [{}]}}]
    source.insert(name, rows)
    source.insert(name, [{"key": "there", **filled}], partition_name=partition)
    done = {one["collection"]: one for one in moved([*command, f"--collections={name},empty", "--batch-rows=3"])}
    assert [(done[one]["rows"], done[one]["differences"]) for one in (name, "empty")] == [(len(rows) + 1, []), (0, [])]
    everything = {"filter": "key not in []", "output_fields": ["*"], "limit": 100, "consistency_level": "Strong"}
    ours, theirs = (sorted(map(repr, client.query(name, **everything))) for client in (source, target))
    assert ours == theirs
    assert [row["key"] for row in target.query(name, partition_names=[partition], **everything)] == ["there"]
    assert target.describe_collection(alias)["collection_name"] == name
    assert target.query("empty", filter="", output_fields=["count(*)"])[0]["count(*)"] == 0
    source.drop_alias(alias)
    for one in (name, "empty"):
        source.drop_collection(one)


def test_a_collection_that_was_not_loaded_is_released_again(
    source: MilvusClient, target: MilvusClient, command: list[str]
) -> None:
    source.release_collection("texts")
    moved([*command, "--collections=texts"])
    assert source.get_load_state("texts")["state"].name == "NotLoad"
    assert target.get_load_state("texts")["state"].name == "Loaded"


def test_the_mapping_is_shown_and_nothing_is_made(
    source: MilvusClient, target: MilvusClient, command: list[str]
) -> None:
    done = run([*command, "--dry-run"])
    assert done.returncode == 0
    for part in (
        "things, 70 rows",
        "BFloat16Vector(dim=8)",
        "made by bm25",
        "partitions: old_ones",
        "aliases: objects",
    ):
        assert part in done.stdout
    assert "copy by --yes" in refused(command)
    assert target.list_collections() == []


def test_a_collection_that_is_there_is_not_touched(
    source: MilvusClient, target: MilvusClient, command: list[str]
) -> None:
    target.create_collection("texts", dimension=2)
    assert "the target has a collection texts already" in refused([*command, "--yes"])
    assert target.list_collections() == ["texts"]


def _interrupted(source: MilvusClient, command: list[str], tmp_path: Path) -> int:
    """Kills a migration of 3,000 rows half-way; returns how many its state counts."""
    if not source.has_collection("many"):
        source.create_collection("many", dimension=2)
        source.insert("many", [{"id": i, "vector": [i, 1], "n": i} for i in range(3000)])
    state = tmp_path / "state.json"
    process = subprocess.Popen([*command, "--yes", "--collections=many", "--batch-rows=20"], stderr=subprocess.PIPE)
    rows, end = 0, time.monotonic() + SECONDS
    while rows < 200 and time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        rows = json.loads(state.read_text())["many"]["rows"] if state.exists() else 0
        time.sleep(0.01)
    process.kill()
    process.communicate()
    rows = int(json.loads(state.read_text())["many"]["rows"])
    assert 200 <= rows < 3000
    return rows


def test_a_killed_migration_goes_on_where_it_was(
    source: MilvusClient, target: MilvusClient, command: list[str], tmp_path: Path
) -> None:
    _interrupted(source, command, tmp_path)
    (found,) = moved([*command, "--collections=many"])
    assert (found["rows"], found["differences"]) == (3000, [])
    ids = [row["id"] for row in target.query("many", filter="id >= 0", output_fields=["id"], limit=5000)]
    assert sorted(ids) == list(range(3000))


def test_a_migration_whose_collection_was_dropped_begins_again(
    source: MilvusClient, target: MilvusClient, command: list[str], tmp_path: Path
) -> None:
    _interrupted(source, command, tmp_path)
    target.drop_collection("many")
    (found,) = moved([*command, "--collections=many"])
    assert (found["rows"], found["differences"]) == (3000, [])
    assert target.query("many", filter="", output_fields=["count(*)"])[0]["count(*)"] == 3000


def test_rows_that_differ_are_named(
    source: MilvusClient, target: MilvusClient, command: list[str], tmp_path: Path
) -> None:
    _interrupted(source, command, tmp_path)
    target.upsert("many", [{"id": i, "vector": [-1, -1], "n": i} for i in range(100)])
    target.delete("many", ids=list(range(100, 200)))
    done = run([*command, "--yes", "--json", "--collections=many"])
    assert done.returncode == 1
    (found,) = json.loads(done.stdout)
    count, *samples = found["differences"]
    assert count == "3,000 rows were read, and the target has 2,900"
    # About one row of 15 is sampled.
    kinds = {sample.split(maxsplit=3)[3] for sample in samples}
    assert kinds == {"differs in vector", "is not in the target"}


def test_sources_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    migrate = [sys.executable, "-m", "milvine", "migrate"]
    target = str(tmp_path / "target")
    assert "does not look like any source" in refused([*migrate, str(tmp_path), target])
    (tmp_path / "chroma.sqlite3").touch()
    assert "pip install chromadb" in refused([*migrate, str(tmp_path), target])
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"SQLite format 3\0" + b"\xff" * 200)
    assert "cannot be read as a file of Milvus Lite 2" in refused([*migrate, str(broken), target])
    assert "--batch-rows must be 1 or more" in refused([*migrate, str(broken), target, "--batch-rows=0"])
    assert not Path(target).exists()


def test_the_reason_of_a_refused_connection_is_told() -> None:
    class Refused(Exception):
        def details(self) -> str:
            return "check username and password"

    error = MilvusException(message="Fail connecting")
    assert sentence(error) == "Fail connecting"
    error.__cause__ = Refused()
    assert sentence(error) == "Fail connecting: check username and password"
