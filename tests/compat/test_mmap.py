"""`mmap.enabled` and `warmup`: what is read before a collection is loaded, and what counts as memory.

A damaged byte shows whether a part was read: a part that is only mapped is loaded despite it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from conftest import Server, ServerFactory
from grpc_calls import LOAD_STATE, assert_ok, collection_id, load_state
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2
from sample_collections import add_index, clustered, ids_of, wait_indexed

ROWS = 1500
DIM = 16
NUMBER_FIELD = 102


def _make(client: MilvusClient, name: str) -> np.ndarray[Any, Any]:
    """An indexed segment of some rows, not loaded."""
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("a", DataType.INT64)
    client.create_collection(name, schema=schema)
    add_index(client, name, "vec", "HNSW", M=8, efConstruction=64)
    vectors = clustered(ROWS, DIM, 1)
    client.insert(name, [{"id": i, "vec": vectors[i], "a": i} for i in range(ROWS)])
    client.flush(name)
    wait_indexed(client, name, "vec", ROWS)
    return vectors


def _damage_numbers(server: Server, name: str) -> None:
    (column,) = _files(server, name, f"{NUMBER_FIELD}.col")
    content = bytearray(column.read_bytes())
    content[len(content) // 2] ^= 0xFF
    column.write_bytes(content)


def _files(server: Server, name: str, pattern: str) -> list[Path]:
    return list((server.data_dir / "segments" / str(collection_id(server.stub, name))).glob(f"*/{pattern}"))


def _load(stub: Any, name: str) -> None:
    assert_ok(stub.LoadCollection(milvus_pb2.LoadCollectionRequest(collection_name=name)))


def _wait_for(stub: Any, name: str, state: Any) -> None:
    deadline = time.monotonic() + 30
    while load_state(stub, name) != state:
        assert time.monotonic() < deadline, load_state(stub, name)
        time.sleep(0.01)


def _assert_failed(stub: Any, name: str) -> None:
    _wait_for(stub, name, LOAD_STATE.LoadStateNotLoad)
    progress = stub.GetLoadingProgress(milvus_pb2.GetLoadingProgressRequest(collection_name=name))
    assert "does not match its checksum" in progress.status.reason


PLACINGS = [
    ({}, {}, False),
    ({"mmap.enabled": "true"}, {}, True),
    ({"mmap.enabled": "false"}, {"mmap.enabled": "true"}, True),
    ({"mmap.enabled": "true"}, {"mmap.enabled": "false"}, False),
    ({"mmap.enabled": "bogus"}, {}, False),
    ({"warmup.scalarField": "disable"}, {}, True),
    ({"warmup.scalarField": "sync"}, {"warmup": "disable"}, True),
    ({"warmup.vectorField": "disable"}, {}, False),
    ({"mmap.enabled": "true", "warmup.scalarField": "sync"}, {}, False),
]


@pytest.fixture(scope="module")
def damaged(server: Server) -> str:
    """One collection for all placements."""
    name = "damaged_numbers"
    client = server.client()
    _make(client, name)
    _damage_numbers(server, name)
    return name


def _place(client: MilvusClient, name: str, of_collection: dict[str, str], of_field: dict[str, str]) -> None:
    client.release_collection(name)
    client.drop_collection_properties(name, ["mmap.enabled", *(f"warmup.{k}Field" for k in ("scalar", "vector"))])
    stub_request = milvus_pb2.AlterCollectionFieldRequest(
        collection_name=name, field_name="a", delete_keys=["mmap.enabled", "warmup"]
    )
    client._get_connection()._stub.AlterCollectionField(stub_request)
    if of_collection:
        client.alter_collection_properties(name, of_collection)
    if of_field:
        client.alter_collection_field(name, "a", of_field)


@pytest.mark.parametrize(("of_collection", "of_field", "is_unread"), PLACINGS)
def test_a_mapped_part_is_loaded_without_being_read(
    client: MilvusClient,
    stub: Any,
    damaged: str,
    of_collection: dict[str, str],
    of_field: dict[str, str],
    is_unread: bool,
) -> None:
    _place(client, damaged, of_collection, of_field)
    _load(stub, damaged)
    if is_unread:
        _wait_for(stub, damaged, LOAD_STATE.LoadStateLoaded)
        assert ids_of(client, damaged, "id in [0, 1]") == [0, 1]
    else:
        _assert_failed(stub, damaged)


@pytest.mark.parametrize("mmap", ["true", "false"])
def test_async_warmup_reads_after_the_collection_is_loaded(
    client: MilvusClient, stub: Any, damaged: str, mmap: str
) -> None:
    _place(client, damaged, {"mmap.enabled": mmap, "warmup.scalarField": "async"}, {})
    _load(stub, damaged)
    _assert_failed(stub, damaged)


def test_settings_decide_mapping_where_no_property_does(new_server: ServerFactory) -> None:
    server = new_server(env={"MILVINE_QUERYNODE_MMAP_SCALARFIELD": "true"})
    client = server.client()
    _make(client, "c1")
    _damage_numbers(server, "c1")
    client.load_collection("c1")
    assert load_state(server.stub, "c1") == LOAD_STATE.LoadStateLoaded


def _metric(server: Server, name: str) -> float:
    text = requests.get(f"{server.uri}/metrics", timeout=10).text
    return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[1])


def _held(server: Server) -> tuple[float, float]:
    return _metric(server, "milvine_loaded_bytes"), _metric(server, "milvine_mapped_bytes")


@pytest.mark.one_process("the head's own metrics have no bytes that nodes map")
def test_mapped_bytes_are_counted_apart_from_memory(client: MilvusClient, server: Server, collection_name: str) -> None:
    name = collection_name
    vectors = _make(client, name)
    index_bytes = sum(f.stat().st_size for f in _files(server, name, "*.index"))
    file_bytes = sum(f.stat().st_size for f in _files(server, name, "*"))

    def load() -> tuple[float, float, Any]:
        before = _held(server)
        client.load_collection(name)
        after = _held(server)
        hits = client.search(name, [vectors[3].tolist()], limit=5, output_fields=["a", "vec"])[0]
        found = [(hit["id"], hit["distance"], hit["entity"]["a"], hit["entity"]["vec"]) for hit in hits]
        client.release_collection(name)
        assert _held(server) == before
        return after[0] - before[0], after[1] - before[1], found

    memory, mapped, expected = load()
    assert memory > index_bytes
    client.alter_index_properties(name, "vec", {"mmap.enabled": True})
    memory_beside_index, mapped_with_index, found = load()
    assert found == expected
    assert memory_beside_index < memory - 0.9 * index_bytes
    assert mapped_with_index > mapped + 0.9 * index_bytes
    client.drop_index_properties(name, "vec", ["mmap.enabled"])
    client.alter_collection_properties(name, {"mmap.enabled": True})
    memory_left, all_mapped, found = load()
    assert found == expected
    assert memory_left < 0.05 * memory
    assert all_mapped > 0.98 * file_bytes
    client.alter_collection_properties(name, {"mmap.enabled": False})
    memory_with_vectors, none_mapped, found = load()
    assert found == expected
    assert memory_with_vectors > memory + 0.9 * mapped
    assert none_mapped == 0


def test_async_warmup_brings_parts_into_memory(client: MilvusClient, server: Server, collection_name: str) -> None:
    _make(client, collection_name)
    before = _held(server)
    client.load_collection(collection_name)
    usual = _held(server)
    client.release_collection(collection_name)
    client.alter_collection_properties(collection_name, {"warmup.scalarField": "async", "warmup.vectorIndex": "async"})
    client.load_collection(collection_name)
    deadline = time.monotonic() + 30
    while _held(server) != usual:
        assert time.monotonic() < deadline, (before, usual, _held(server))
        time.sleep(0.01)
    assert ids_of(client, collection_name, "a == 7") == [7]
