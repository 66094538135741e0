"""kill -9 while a field is added: it is there or not, and rows read as they did."""

from __future__ import annotations

import signal
from typing import Any

import grpc
import pytest
from compat.grpc_calls import field
from compat.sample_collections import c1_rows, ids_of, make_c1
from conftest import ServerFactory
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

DEAD_SECONDS = 20.0


def _add(stub: Any) -> Any:
    added = field("x", schema_pb2.Int64, nullable=True, default_value=schema_pb2.ValueField(long_data=7))
    request = milvus_pb2.AddCollectionFieldRequest(collection_name="c1", schema=added.SerializeToString())
    return stub.AddCollectionField(request)


def _names(client: MilvusClient) -> list[str]:
    return [f["name"] for f in client.describe_collection("c1")["fields"]]


def test_a_field_is_added_whole_or_not_at_all(new_server: ServerFactory) -> None:
    server = new_server(env={"MILVINE_CRASH_AT": "add_field.prepared"})
    client = server.client()
    make_c1(client, "c1", load=True)
    client.insert("c1", c1_rows(2))
    client.flush("c1")
    client.insert("c1", c1_rows(1, 2))
    with pytest.raises(grpc.RpcError):
        _add(server.stub)
    assert server.process.wait(DEAD_SECONDS) == -signal.SIGKILL
    server = new_server(env={"MILVINE_CRASH_AT": "add_field.committed"}, data_dir=server.data_dir)
    client = server.client()
    assert _names(client) == ["id", "vec", "a"]
    assert ids_of(client, "c1", "a >= 0") == [0, 1, 2]
    with pytest.raises(grpc.RpcError):
        _add(server.stub)
    assert server.process.wait(DEAD_SECONDS) == -signal.SIGKILL
    client = new_server(data_dir=server.data_dir).client()
    assert _names(client) == ["id", "vec", "a", "x"]
    client.insert("c1", c1_rows(1, 3, x=1))
    assert ids_of(client, "c1", "x == 7") == [0, 1, 2]
