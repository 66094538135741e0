"""A load balancer in front of heads, as users have one: a TCP relay to the head whose `/healthz` is 200, which closes
the connections of every other."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException

from conftest import HOST, free_port

_CHECK_SECONDS = 0.5
_ANSWER_SECONDS = 3.0
_FAILURES = 2
"""After so many in a row a head is given up."""
_WAIT_SECONDS = 180.0
_CHUNK_BYTES = 64 << 10


class LoadBalancer:
    """`serving` is the port of the head that served at the last check, 0 for none."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.port = free_port()
        self.serving = 0
        self._connections: dict[int, set[socket.socket]] = defaultdict(set)
        self._lock = threading.Lock()
        self._healthy: set[int] = set()
        self._is_closed = False
        self._listening = socket.create_server((HOST, self.port))
        threading.Thread(target=self._accept, daemon=True).start()
        for port in ports:
            threading.Thread(target=self._check, args=(port,), daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://{HOST}:{self.port}"

    def wait_for(self, port: int) -> None:
        """Returns once connections lead to the head on this port."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while self.serving != port:
            assert time.monotonic() < deadline, (port, self.serving)
            time.sleep(_CHECK_SECONDS / 10)

    def close(self) -> None:
        self._is_closed = True
        self._listening.close()

    def _check(self, port: int) -> None:
        failures = _FAILURES
        while not self._is_closed:
            failures = 0 if _is_healthy(port) else failures + 1
            is_healthy = failures < _FAILURES
            with self._lock:
                (self._healthy.add if is_healthy else self._healthy.discard)(port)
                self.serving = max(self._healthy, default=0)
                cut = () if is_healthy else tuple(self._connections.pop(port, ()))
            for one in cut:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            time.sleep(_CHECK_SECONDS)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                try:
                    port = self.serving
                    if not port:
                        raise ConnectionRefusedError
                    server = socket.create_connection((HOST, port), _ANSWER_SECONDS)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                with self._lock:
                    self._connections[port] |= {client, server}
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=_pass, args=pair, daemon=True).start()


def _is_healthy(port: int) -> bool:
    try:
        connection = HTTPConnection(HOST, port, timeout=_ANSWER_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False


def _pass(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK_BYTES):
            target.sendall(chunk)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
