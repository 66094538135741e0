"""A relay in front of an object store, which tests make slow, deaf or broken."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from conftest import HOST, free_port

_CHUNK_BYTES = 16 << 10


class Relay:
    """Passes bytes between clients and the server on `port`. Each setting is looked at with each chunk."""

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self.pause_seconds = 0.0
        """Before each chunk of an answer."""
        self.cut_after_bytes: int | None = None
        """So much of the answers of each connection arrives before it breaks."""
        self.is_deaf = False
        """Connections are accepted, and nothing is ever passed on."""
        self.is_broken = False
        """Connections are closed at once."""
        self._fails_after: int | None = None
        self._fault = ""
        self._passed_bytes = 0
        self._target = port
        self._listening = socket.create_server((HOST, self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"

    def fail_after(self, passed_bytes: int, fault: str) -> None:
        """Becomes `deaf` or `broken` once so many bytes have passed, in either direction."""
        self._fails_after, self._fault, self._passed_bytes = passed_bytes, fault, 0

    def mend(self) -> None:
        self._fails_after, self.is_deaf, self.is_broken = None, False, False

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self.is_broken:
                    client.close()
                    continue
                server = socket.create_connection((HOST, self._target))
                threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES):
                self._passed_bytes += len(chunk)
                if self._fails_after is not None and self._passed_bytes > self._fails_after:
                    self.is_deaf, self.is_broken = self._fault == "deaf", self._fault == "broken"
                if self.is_broken:
                    break
                while self.is_deaf:
                    time.sleep(0.05)
                if is_answer:
                    time.sleep(self.pause_seconds)
                    passed += len(chunk)
                    if self.cut_after_bytes is not None and passed > self.cut_after_bytes:
                        break
                target.sendall(chunk)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
