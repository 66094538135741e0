"""One port on both loopbacks, two protocols, large requests, many clients."""

from __future__ import annotations

import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
import requests
from big_inserts import MIB, insert_message, make_plain, send
from conftest import Server, ServerFactory, free_port
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

VERSION = milvus_pb2.GetVersionRequest()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_grpc_and_http_answer_on_one_port_on_both_loopbacks(server: Server, host: str) -> None:
    with grpc.insecure_channel(f"{host}:{server.port}") as channel:
        answer = milvus_pb2_grpc.MilvusServiceStub(channel).GetVersion(VERSION, timeout=5)
    assert answer.version.startswith("v2.6.")
    listed = requests.post(f"http://{host}:{server.port}/v2/vectordb/collections/list", json={}, timeout=5)
    assert listed.status_code == 200
    assert listed.json()["code"] == 0


@pytest.mark.one_process("the port for nodes is open, too")
def test_nothing_but_the_one_port_is_open_and_only_on_loopbacks(new_server: ServerFactory) -> None:
    server = new_server()
    listening = {
        (c.laddr.ip, c.laddr.port)
        for c in psutil.Process(server.pid).net_connections()
        if c.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", server.port), ("::1", server.port)}


def test_one_http_connection_serves_many_requests(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    for _ in range(5):
        connection.request("POST", "/v2/vectordb/collections/list", b"{}", {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.status == 200
        response.read()
    connection.close()


def test_an_insert_of_nearly_256_mebibytes_is_accepted(new_server: ServerFactory) -> None:
    server = new_server()
    make_plain(server, "big", 256)
    vectors = np.random.default_rng(4).random((260_000, 256), dtype=np.float32)
    message = insert_message("big", 0, vectors)
    assert len(message) > 254 * MIB
    answer = send(server, message)
    assert answer.status.code == 0, answer.status.reason
    assert answer.insert_cnt == 260_000
    client = server.client()
    assert client.query("big", output_fields=["count(*)"])[0]["count(*)"] == 260_000
    for row in client.get("big", ids=[0, 123_456, 259_999], output_fields=["vec"]):
        assert np.array(row["vec"], np.float32).tobytes() == vectors[row["id"]].tobytes()
    assert client.search("big", [vectors[77_777].tolist()], limit=1)[0][0]["id"] == 77_777
    server.stop()


def test_a_request_over_256_mebibytes_is_refused_and_the_next_one_served(server: Server) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        send(server, b"\0" * (256 * MIB + 1))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in caught.value.details()
    assert server.stub.GetVersion(VERSION).status.code == 0


def test_a_broken_message_is_refused_and_the_next_one_served(server: Server) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        send(server, b"\xff\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert server.stub.GetVersion(VERSION).status.code == 0


def test_32_clients_write_and_read_in_parallel(server: Server, collection_name: str) -> None:
    make_plain(server, collection_name, 8)
    options = [("grpc.use_local_subchannel_pool", 1)]
    wrong: list[str] = []

    def work(number: int) -> None:
        vectors = np.full((25, 8), float(number), np.float32)
        vectors[:, 1] = np.arange(25)
        with grpc.insecure_channel(server.address, options=options) as channel:
            stub = milvus_pb2_grpc.MilvusServiceStub(channel)
            for part in range(5):
                first = 1000 * number + 5 * part
                request = milvus_pb2.InsertRequest.FromString(
                    insert_message(collection_name, first, vectors[5 * part : 5 * part + 5])
                )
                answer = stub.Insert(request, timeout=30)
                found = stub.Query(
                    milvus_pb2.QueryRequest(
                        collection_name=collection_name,
                        expr=f"id >= {1000 * number} and id < {1000 * number + 1000}",
                        output_fields=["id"],
                    ),
                    timeout=30,
                )
                seen = list(found.fields_data[0].scalars.long_data.data)
                if answer.status.code or seen != list(range(1000 * number, first + 5)):
                    wrong.append(f"client {number}: {answer.status.reason} {seen}")

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(work, range(32)))
    assert wrong == []
    client = server.client()
    assert client.query(collection_name, output_fields=["count(*)"])[0]["count(*)"] == 800
    client.close()


def test_a_call_past_its_deadline_ends_in_time_and_the_server_continues(server: Server, collection_name: str) -> None:
    make_plain(server, collection_name, 128)
    vectors = np.random.default_rng(8).random((20_000, 128), dtype=np.float32)
    assert send(server, insert_message(collection_name, 0, vectors)).status.code == 0
    client = server.client()
    started = time.monotonic()
    with pytest.raises(Exception, match=r"(?i)deadline"):
        client.search(collection_name, vectors[:16_384], limit=500, timeout=0.3)
    assert time.monotonic() - started < 3
    assert client.search(collection_name, [vectors[5].tolist()], limit=1, timeout=30)[0][0]["id"] == 5
    client.close()


def test_the_server_itself_answers_deadline_exceeded(server: Server) -> None:
    """A client without its own deadline: grpc-timeout in a hand-made request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    headers = {"Content-Type": "application/grpc", "TE": "trailers", "grpc-timeout": "1n"}
    path = "/milvus.proto.milvus.MilvusService/GetVersion"
    connection.request("POST", path, b"\0\0\0\0\0", headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    assert response.headers["grpc-status"] == "4"


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate], ids=["gzip", "deflate"])
def test_compressed_requests_are_read(server: Server, collection_name: str, compression: Any) -> None:
    make_plain(server, collection_name, 16)
    vectors = np.repeat(np.arange(500, dtype=np.float32)[:, None], 16, axis=1)
    message = insert_message(collection_name, 0, vectors)
    with grpc.insecure_channel(server.address, compression=compression) as channel:
        stub = milvus_pb2_grpc.MilvusServiceStub(channel)
        answer = stub.Insert(milvus_pb2.InsertRequest.FromString(message), timeout=10)
        assert answer.status.code == 0, answer.status.reason
        request = milvus_pb2.QueryRequest(collection_name=collection_name, expr="id == 499", output_fields=["vec"])
        rows = stub.Query(request, timeout=10)
    vector = next(f for f in rows.fields_data if f.field_name == "vec").vectors.float_vector.data
    assert list(vector) == [499.0] * 16


def test_keepalive_pings_do_not_end_the_connection(server: Server) -> None:
    options = [
        ("grpc.keepalive_time_ms", 200),
        ("grpc.keepalive_timeout_ms", 2000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    seen: list[grpc.ChannelConnectivity] = []
    with grpc.insecure_channel(server.address, options=options) as channel:
        stub = milvus_pb2_grpc.MilvusServiceStub(channel)
        assert stub.GetVersion(VERSION, timeout=5).status.code == 0
        channel.subscribe(seen.append)
        for _ in range(3):
            time.sleep(1)
            assert stub.GetVersion(VERSION, timeout=5).status.code == 0
        states = set(seen)
    assert states <= {grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.IDLE}
    assert grpc.ChannelConnectivity.READY in states


def test_a_client_that_disconnects_during_a_request_does_no_harm(server: Server) -> None:
    def leave(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.putrequest("POST", "/milvus.proto.milvus.MilvusService/Insert")
        connection.putheader("Content-Type", "application/grpc")
        connection.putheader("Content-Length", "1000000")
        connection.endheaders()
        connection.send(b"\0" * 1000)
        connection.close()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(leave, range(64)))
    assert server.stub.GetVersion(VERSION, timeout=5).status.code == 0


def test_slow_clients_do_not_keep_others_waiting(server: Server) -> None:
    """More half-sent requests than workers; their senders stay connected."""
    waiting: list[http.client.HTTPConnection] = []
    try:
        for _ in range(64):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
            connection.putrequest("POST", "/v2/vectordb/collections/list")
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", "100")
            connection.endheaders()
            connection.send(b"{")
            waiting.append(connection)
        assert server.stub.GetVersion(VERSION, timeout=3).status.code == 0
    finally:
        for connection in waiting:
            connection.close()


def test_health_and_metrics_have_a_port_of_their_own(new_server: ServerFactory) -> None:
    server = new_server(metrics_port=free_port())
    health = requests.get(f"{server.metrics_uri}/healthz", timeout=5)
    assert (health.status_code, health.text) == (200, "OK")
    server.stub.GetVersion(VERSION)
    metrics = requests.get(f"{server.metrics_uri}/metrics", timeout=5)
    assert metrics.status_code == 200
    assert metrics.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    counted = [line for line in metrics.text.splitlines() if line.startswith("milvine_requests_total{")]
    assert any('function="GetVersion"' in line and line.endswith(" 1.0") for line in counted)
    assert requests.get(f"{server.metrics_uri}/nope", timeout=5).status_code == 404
    server.stop()


def test_the_metrics_port_listens_on_the_same_host(new_server: ServerFactory) -> None:
    server = new_server("--host", "::1", metrics_port=free_port())
    health = requests.get(f"http://[::1]:{server.metrics_port}/healthz", timeout=20)
    assert health.status_code == 200
    server.stop()


def test_many_connections_do_not_accumulate_threads(new_server: ServerFactory) -> None:
    server = new_server()
    process = psutil.Process(server.pid)

    def visit(_: int) -> None:
        with grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            assert milvus_pb2_grpc.MilvusServiceStub(channel).GetVersion(VERSION, timeout=10).status.code == 0

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(visit, range(32)))
        threads, files = process.num_threads(), process.num_fds()
        list(pool.map(visit, range(200)))
    time.sleep(0.5)
    assert process.num_threads() <= threads + 8
    assert process.num_fds() <= files + 20
