"""Rows SD: the flow of the page "Load & Release". Python runs its SDK; requests of the others are imitated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Server
from grpc_calls import LOAD_STATE, create_request, field
from pymilvus import DataType, MilvusClient
from pymilvus.client.types import LoadState
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2
from row_calls import create_index, loaded_c1, release

NAME = "my_collection"
SEED_FIELDS = {"load_fields": ["my_id", "my_vector"], "skip_load_dynamic_field": True}
POLL_SECONDS = 10.0


@pytest.fixture
def my_collection(server: Server) -> Iterator[None]:
    """The page's collection, indexed and not loaded."""
    stub = server.stub
    stub.DropCollection(milvus_pb2.DropCollectionRequest(collection_name=NAME))
    fields = [field("my_id", schema_pb2.Int64, primary=True), field("my_vector", schema_pb2.FloatVector, dim=5)]
    assert stub.CreateCollection(create_request(NAME, fields, dynamic=True)).code == 0
    assert create_index(stub, NAME, "my_vector", "AUTOINDEX", metric_type="COSINE").code == 0
    client = server.client()
    client.insert(NAME, [{"my_id": i, "my_vector": [float(i + 1)] * 5, "color": "red"} for i in range(3)])
    client.close()
    yield
    stub.DropCollection(milvus_pb2.DropCollectionRequest(collection_name=NAME))


def test_sd_01_python_prints_the_documented_output(
    server: Server, my_collection: None, capsys: pytest.CaptureFixture[str]
) -> None:
    client = MilvusClient(uri=server.uri, token="root:Milvus")
    client.load_collection(collection_name=NAME)
    print(client.get_load_state(collection_name=NAME))  # noqa: T201
    client.load_collection(collection_name=NAME, load_fields=["my_id", "my_vector"], skip_load_dynamic_field=True)
    print(client.get_load_state(collection_name=NAME))  # noqa: T201
    client.release_collection(collection_name=NAME)
    print(client.get_load_state(collection_name=NAME))  # noqa: T201
    client.close()
    loaded, released = "{'state': <LoadState: Loaded>}", "{'state': <LoadState: NotLoad>}"
    assert capsys.readouterr().out.splitlines() == [loaded, loaded, released]


class _Sdk:
    """The requests that an SDK sends for the page, and how it reads the responses."""

    def __init__(self, server: Server, kind: str, *, replicas: int = 0) -> None:
        self._stub = server.stub
        self._metadata = (("authorization", "cm9vdDpNaWx2dXM="), ("dbname", "default"))
        self._replicas = replicas
        info = common_pb2.ClientInfo(sdk_type=kind, sdk_version="3.0.0", host="localhost")
        connected = self._stub.Connect(milvus_pb2.ConnectRequest(client_info=info), metadata=self._metadata)
        self.check(connected.status)
        assert connected.identifier
        assert connected.server_info.build_tags

    def check(self, status: Any) -> None:
        """Java, Go and Python treat either code as an error; Node prints the legacy one by name."""
        assert (status.code, status.error_code) == (0, 0), status.reason
        assert common_pb2.ErrorCode.Name(status.error_code) == "Success"

    def load(self, **others: Any) -> None:
        """Loads and polls; Go waits for exactly 100, and also for 100 of the refresh."""
        request = milvus_pb2.LoadCollectionRequest(collection_name=NAME, replica_number=self._replicas, **others)
        self.check(self._stub.LoadCollection(request, metadata=self._metadata))
        deadline = time.monotonic() + POLL_SECONDS
        while True:
            polled = self._stub.GetLoadingProgress(
                milvus_pb2.GetLoadingProgressRequest(collection_name=NAME), metadata=self._metadata
            )
            self.check(polled.status)
            if (polled.progress, polled.refresh_progress) == (100, 100):
                return
            assert time.monotonic() < deadline, polled
            time.sleep(0.01)

    def state(self) -> Any:
        response = self._stub.GetLoadState(
            milvus_pb2.GetLoadStateRequest(collection_name=NAME), metadata=self._metadata
        )
        self.check(response.status)
        return response.state

    def release(self) -> None:
        request = milvus_pb2.ReleaseCollectionRequest(collection_name=NAME)
        self.check(self._stub.ReleaseCollection(request, metadata=self._metadata))

    def page(self) -> list[Any]:
        """States after the load, after the load of two fields, and after the release."""
        self.load()
        states = [self.state()]
        self.load(**SEED_FIELDS)
        states.append(self.state())
        self.release()
        return [*states, self.state()]


def test_sd_02_java_reads_true_true_and_false(server: Server, my_collection: None) -> None:
    loaded = LOAD_STATE.Value("LoadStateLoaded")
    assert [s == loaded for s in _Sdk(server, "Java", replicas=1).page()] == [True, True, False]


def test_sd_03_node_reads_the_names_of_the_states(server: Server, my_collection: None) -> None:
    names = [LOAD_STATE.Name(s) for s in _Sdk(server, "Nodejs", replicas=1).page()]
    assert names == ["LoadStateLoaded", "LoadStateLoaded", "LoadStateNotLoad"]


def test_sd_04_go_reads_the_numbers_of_the_states(server: Server, my_collection: None) -> None:
    assert _Sdk(server, "GoSDK").page() == [3, 3, 1]


def test_sd_05_a_quickly_created_collection_is_loaded_when_pymilvus_returns(
    client: MilvusClient, collection_name: str
) -> None:
    client.create_collection(collection_name, dimension=5)
    assert client.get_load_state(collection_name) == {"state": LoadState.Loaded}


def test_sd_06_a_collection_of_a_schema_alone_is_not_loaded(client: MilvusClient, collection_name: str) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection(collection_name, schema=schema)
    assert client.get_load_state(collection_name) == {"state": LoadState.NotLoad}


@pytest.mark.timeout(20)
def test_sd_07_refresh_load_returns(client: MilvusClient, stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    client.refresh_load(collection_name)
    assert client.get_load_state(collection_name) == {"state": LoadState.Loaded}
    assert release(stub, collection_name).code == 0
