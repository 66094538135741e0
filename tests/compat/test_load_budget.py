"""What a load would cost, what it costs, and that all loads together stay within the limit."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Server
from grpc_calls import assert_ok, assert_refused, collection_id, load_state
from load_calls import LOADED, NOT_LOAD, estimate, load, loaded, memory, ours, progress, release, until
from pymilvus import DataType, MilvusClient
from sample_collections import add_index, wait_indexed

from milvine import config

COLLECTIONS = [f"c{i}" for i in range(6)]
ROWS, DIM = 3000, 64
LIMIT = 4_100_000
"""Of the six, four fit: each takes about 975 kB."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with little memory and six unloaded collections whose vectors have graph indexes."""
    server = Server(tmp_path_factory.mktemp("small"), env={"MILVINE_MEMORY_LIMIT": str(LIMIT)})
    server.start()
    client: MilvusClient = server.client()
    vectors = np.random.default_rng(5).normal(size=(ROWS, DIM)).tolist()
    try:
        for name in COLLECTIONS:
            schema = client.create_schema(enable_dynamic_field=True)
            schema.add_field("id", DataType.INT64, is_primary=True)
            schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
            schema.add_field("a", DataType.INT64, nullable=True)
            client.create_collection(name, schema=schema)
            add_index(client, name, "vec", "FLAT")
            rows = [{"id": i, "vec": v, "a": None if i % 2 else i, "color": "red"} for i, v in enumerate(vectors)]
            client.insert(name, rows)
            client.flush(name)
        for name in COLLECTIONS:
            wait_indexed(client, name, "vec", ROWS)
        client.close()
        yield server
        server.stop()
    finally:
        server.close()


@pytest.fixture(autouse=True)
def released(small: Server) -> Iterator[None]:
    yield
    for name in COLLECTIONS:
        assert_ok(release(small.stub, name))


@pytest.mark.one_process("the limit is twice as large for two replicas")
def test_an_estimate_is_what_the_load_then_measures(small: Server) -> None:
    before = estimate(small, "c0")
    assert (before["rows"], before["measuredBytes"], before["fits"]) == (ROWS, 0, True)
    assert before["neededBytes"] == before["estimatedBytes"] > 4 * ROWS * DIM
    assert before["freeBytes"] == before["limitBytes"] == LIMIT
    assert {p["name"] for p in before["parts"]} == {"rows", "id", "vec", "a", "$meta"}
    loaded(small.stub, "c0")
    after = estimate(small, "c0")
    assert (after["neededBytes"], after["estimatedBytes"]) == (0, before["estimatedBytes"])
    assert 0.97 * after["estimatedBytes"] < after["measuredBytes"] <= after["estimatedBytes"]
    for part in after["parts"]:
        assert 0.8 * part["estimatedBytes"] <= part["measuredBytes"] <= part["estimatedBytes"], part


def test_an_estimate_of_some_fields_is_less_and_changes_nothing(small: Server) -> None:
    lean = estimate(small, "c1", loadFields=["id", "vec"], skipLoadDynamicField=True)
    whole = estimate(small, "c1", partitionNames=["_default"])
    sizes = {p["name"]: p["estimatedBytes"] for p in whole["parts"]}
    assert lean["estimatedBytes"] == whole["estimatedBytes"] - sizes["a"] - sizes["$meta"]
    assert load_state(small.stub, "c1") == NOT_LOAD
    loaded(small.stub, "c1", load_fields=["id", "vec"], skip_load_dynamic_field=True)
    assert estimate(small, "c1")["neededBytes"] == sizes["a"] + sizes["$meta"]


def test_an_estimate_refuses_what_a_load_refuses(small: Server) -> None:
    assert ours(small, "estimate", collectionName="nope")["code"] == 100
    assert ours(small, "estimate")["code"] == 1802
    assert "does not contain vector field" in ours(small, "estimate", collectionName="c1", loadFields=["id"])["message"]
    assert ours(small, "estimate", collectionName="c1", partitionNames=["p"])["code"] == 200


def test_held_memory_is_reported_by_collection_partition_segment_field_and_index(
    small: Server,
) -> None:
    loaded(small.stub, "c0")
    loaded(small.stub, "c1", load_fields=["id", "vec"], skip_load_dynamic_field=True)
    found = memory(small)
    assert {c["collectionName"] for c in found["collections"]} == {"c0", "c1"}
    assert found["measuredBytes"] == sum(c["measuredBytes"] for c in found["collections"])
    assert found["freeBytes"] == found["limitBytes"] - found["measuredBytes"]
    for collection in found["collections"]:
        assert (collection["loadState"], collection["loadProgress"], collection["reservedBytes"]) == (
            "LoadStateLoaded",
            100,
            0,
        )
        (partition,) = collection["partitions"]
        (segment,) = partition["segments"]
        measured = sum(p["measuredBytes"] for p in segment["parts"])
        assert measured == segment["measuredBytes"] == partition["measuredBytes"] == collection["measuredBytes"]
        assert segment["rows"] == ROWS


@pytest.mark.one_process("the limit is twice as large for two replicas")
def test_a_refusal_says_what_is_needed_and_free_and_what_holds_the_rest(small: Server) -> None:
    """ME-01"""
    fitting = [name for name in COLLECTIONS if load(small.stub, name).code == 0]
    refused = [name for name in COLLECTIONS if name not in fitting]
    assert len(fitting) == 4
    for name in fitting:
        until(lambda name=name: load_state(small.stub, name) == LOADED, "it is not loaded")  # type: ignore[misc]
    needed, free = (estimate(small, refused[0])[key] for key in ("neededBytes", "freeBytes"))
    answer = assert_refused(load(small.stub, refused[0]), 3, "memory limit exceeded", legacy=52)
    assert f"loading {refused[0]} needs {needed} bytes, {free} of {LIMIT} are free; loaded now: " in answer.reason
    for held in memory(small)["collections"]:
        if held["collectionName"] in fitting:
            assert f"{held['collectionName']} {held['measuredBytes']} bytes" in answer.reason
    assert load_state(small.stub, refused[0]) == NOT_LOAD
    reason = "segment request resource failed[resourceType=Memory]: collection not loaded"
    text = f"{reason}[collection={collection_id(small.stub, refused[0])}]"
    assert assert_refused(progress(small.stub, refused[0]), 101, reason).status.reason == text
    assert_ok(release(small.stub, fitting[0]))
    loaded(small.stub, refused[0])


def test_a_refused_change_leaves_what_was_loaded(small: Server) -> None:
    for name in COLLECTIONS[:4]:
        loaded(small.stub, name)
    lean = estimate(small, "c4", loadFields=["id", "vec"], skipLoadDynamicField=True)
    assert not lean["fits"]
    loaded(small.stub, "c3", load_fields=["id", "vec"], skip_load_dynamic_field=True)
    free = memory(small)["freeBytes"]
    assert_refused(load(small.stub, "c4"), 3, "memory limit exceeded")
    assert (memory(small)["freeBytes"], load_state(small.stub, "c3")) == (free, LOADED)


@pytest.mark.one_process("the limit is twice as large for two replicas")
def test_loads_at_the_same_time_never_take_more_than_the_limit(small: Server) -> None:
    stop = threading.Event()
    highest, answers = [0], list[Any]()

    def watch() -> None:
        while not stop.is_set():
            found = memory(small)
            highest[0] = max(highest[0], found["measuredBytes"] + found["reservedBytes"])

    def load_and_release(name: str) -> None:
        for _ in range(8):
            answer = load(small.stub, name)
            answers.append(answer)
            if answer.code == 0:
                until(lambda: load_state(small.stub, name) == LOADED, "it is not loaded")
                assert_ok(release(small.stub, name))

    watcher = threading.Thread(target=watch)
    watcher.start()
    loading = [threading.Thread(target=load_and_release, args=(name,)) for name in COLLECTIONS]
    for thread in loading:
        thread.start()
    for thread in loading:
        thread.join()
    stop.set()
    watcher.join()
    assert {a.code for a in answers} <= {0, 3}
    assert len(answers) == 8 * len(COLLECTIONS)
    assert 0 < highest[0] <= LIMIT
    found = memory(small)
    assert (found["measuredBytes"], found["reservedBytes"]) == (0, 0)


def estimate_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "milvine", "estimate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_the_command_prints_what_a_load_would_cost(small: Server) -> None:
    found = estimate(small, "c2", loadFields=["id", "vec"], skipLoadDynamicField=True)
    printed = estimate_command("c2", "--fields", "id,vec", "--skip-dynamic", "--uri", small.uri)
    assert (printed.returncode, printed.stderr) == (0, "")
    lines = printed.stdout.splitlines()
    assert lines[1].split() == ["rows", f"{found['parts'][0]['estimatedBytes']:,}", "0"]
    assert [" ".join(line.split()[:2]) for line in lines[2:4]] == ["field id", "field vec"]
    assert f"needs {found['neededBytes']:,} bytes" in lines[-1]
    assert lines[-1].endswith("it fits")


def test_the_command_fails_with_one_sentence(small: Server) -> None:
    unknown = estimate_command("nope", "--uri", small.uri)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == "milvine: collection not found[database=default][collection=nope]\n"
    unreachable = estimate_command("c2", "--uri", "http://127.0.0.1:1")
    assert unreachable.returncode == 1
    assert "no answer from http://127.0.0.1:1/milvine/v1/estimate" in unreachable.stderr


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        ("0::/\n", {"sys/fs/cgroup/memory.max": "1000"}, [1000]),
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/memory.max": "max", "sys/fs/cgroup/a/memory.max": "700"}, [700]),
        ("3:cpu:/x\n2:memory:/x\n", {"sys/fs/cgroup/memory/x/memory.limit_in_bytes": "900"}, [900]),
        ("2:memory:/docker/1\n", {"sys/fs/cgroup/memory/memory.limit_in_bytes": "800"}, [800]),
        ("0::/\n", {"sys/fs/cgroup/memory.max": "max"}, []),
        (None, {}, []),
    ],
    ids=["v2", "v2 above", "v1", "v1 in a container", "unlimited", "no cgroups"],
)
def test_the_memory_limit_of_the_cgroup_is_respected(
    tmp_path: Path, membership: str | None, limits: dict[str, str], expected: list[int]
) -> None:
    files = {**limits, **({} if membership is None else {"proc/self/cgroup": membership})}
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert config.cgroup_memory_limits(tmp_path) == expected
