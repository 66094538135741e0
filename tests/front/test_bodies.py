"""The memory of requests in progress, and which requests wait."""

from __future__ import annotations

import http.client
import select
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from big_inserts import MIB
from conftest import Server, ServerFactory
from pymilvus.grpc_gen import milvus_pb2

_INSERT = "/milvus.proto.milvus.MilvusService/Insert"
_REST_INSERT = "/v2/vectordb/entities/insert"
_LIMIT = {"MILVINE_REQUESTS_LIMIT": "300MB"}


@contextmanager
def _half_sent(server: Server, size_bytes: int, **headers: str) -> Iterator[http.client.HTTPConnection]:
    """A gRPC call that announces a message of this size and sends a few bytes of it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", _INSERT)
    connection.putheader("Content-Type", "application/grpc")
    connection.putheader("Content-Length", str(size_bytes))
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(struct.pack(">BI", 0, size_bytes - 5) + b"\0" * 1000)
    try:
        yield connection
    finally:
        connection.close()


def _answer(connection: http.client.HTTPConnection) -> milvus_pb2.MutationResult:
    body = connection.getresponse().read()
    return milvus_pb2.MutationResult.FromString(body[5:])


def _is_open(connection: http.client.HTTPConnection) -> bool:
    """Whether the server still waits for the rest of the request."""
    connection.sock.settimeout(0.3)
    try:
        connection.getresponse()
    except TimeoutError:
        return True
    return False


@contextmanager
def _held(server: Server, size_bytes: int) -> Iterator[None]:
    """Half of a request, admitted at once or after others have ended."""
    deadline = time.monotonic() + 30
    while True:
        with _half_sent(server, size_bytes) as connection:
            if _is_open(connection):
                yield
                return
        assert time.monotonic() < deadline, "there was never room"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that lets bodies hold 300 MB together."""
    with Server(tmp_path_factory.mktemp("small"), env=_LIMIT).running() as server:
        yield server


def test_bodies_beyond_the_limit_are_refused_until_others_end(small: Server) -> None:
    with _held(small, 200 * MIB):
        with _half_sent(small, 200 * MIB) as second:
            refused = _answer(second)
        assert refused.status.code == 8
        assert refused.status.retriable
        assert "exceed 314572800 bytes" in refused.status.reason
        assert small.stub.GetVersion(milvus_pb2.GetVersionRequest(), timeout=20).status.code == 0
    with _held(small, 200 * MIB):
        pass


def test_rest_refuses_bodies_beyond_the_limit_with_429(small: Server) -> None:
    with _held(small, 200 * MIB):
        connection = http.client.HTTPConnection("127.0.0.1", small.port, timeout=20)
        connection.putrequest("POST", _REST_INSERT)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(200 * MIB))
        connection.endheaders()
        connection.send(b"{")
        response = connection.getresponse()
        assert response.status == 429
        assert b'"code":8' in response.read()
        connection.close()


def test_a_body_without_a_token_is_refused_before_it_is_sent(new_server: ServerFactory) -> None:
    server = new_server(env={"MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "true"})
    with _half_sent(server, 200 * MIB) as connection:
        assert connection.getresponse().headers["grpc-status"] == "16"
    with _half_sent(server, 200 * MIB, Authorization="root:Milvus") as connection:
        assert _is_open(connection)


def test_more_requests_than_the_server_admits_are_refused_and_others_served(small: Server) -> None:
    connections = []
    try:
        for _ in range(160):
            connection = http.client.HTTPConnection("127.0.0.1", small.port, timeout=20)
            connection.putrequest("POST", _REST_INSERT)
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", "100")
            connection.endheaders()
            connection.send(b"{")
            connections.append(connection)
        refused = select.select([connection.sock for connection in connections], [], [], 60)[0]
        assert refused, "none of them was answered"
        first = next(connection for connection in connections if connection.sock is refused[0])
        assert b'"code":8' in first.getresponse().read()
    finally:
        for connection in connections:
            connection.close()
    deadline = time.monotonic() + 20
    while small.stub.GetVersion(milvus_pb2.GetVersionRequest(), timeout=20).status.code == 8:
        assert time.monotonic() < deadline
