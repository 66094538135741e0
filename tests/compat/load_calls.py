"""Load, release, progress and memory reports, and a server whose loading a test holds and lets go."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from conftest import Server
from grpc_calls import LOAD_STATE, assert_ok, load_state
from pymilvus.grpc_gen import milvus_pb2

NOT_EXIST, NOT_LOAD, LOADING, LOADED = (
    LOAD_STATE.Value(name) for name in ("LoadStateNotExist", "LoadStateNotLoad", "LoadStateLoading", "LoadStateLoaded")
)
PATIENCE_SECONDS = 15.0


def load(stub: Any, name: str, **others: Any) -> Any:
    return stub.LoadCollection(milvus_pb2.LoadCollectionRequest(collection_name=name, **others))


def release(stub: Any, name: str) -> Any:
    return stub.ReleaseCollection(milvus_pb2.ReleaseCollectionRequest(collection_name=name))


def progress(stub: Any, name: str) -> Any:
    return stub.GetLoadingProgress(milvus_pb2.GetLoadingProgressRequest(collection_name=name))


def until(is_so: Callable[[], object], what: str) -> None:
    """Polls until the condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def loaded(stub: Any, name: str, **others: Any) -> None:
    """Load and poll as the SDKs do."""
    assert_ok(load(stub, name, **others))
    until(lambda: assert_ok(progress(stub, name)).progress == 100, f"{name} is not loaded")
    assert load_state(stub, name) == LOADED


def ours(server: Server, route: str, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = requests.post(f"{server.uri}/milvine/v1/{route}", json=body, timeout=10).json()
    return answer


def memory(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = ours(server, "memory")["data"]
    return found


def estimate(server: Server, name: str, **body: Any) -> dict[str, Any]:
    answer = ours(server, "estimate", collectionName=name, **body)
    assert answer["code"] == 0, answer
    found: dict[str, Any] = answer["data"]
    return found


class Gate:
    """Holds every thread of a server that comes to a crash point, until it is let through."""

    def __init__(self, fifo: Path, point: str) -> None:
        os.mkfifo(fifo)
        self._end = os.open(fifo, os.O_RDWR)
        self.environment = {"MILVINE_HOLD_AT": point, "MILVINE_HOLD_FIFO": str(fifo)}

    def let_through(self, times: int = 10_000) -> None:
        """Allows this many steps of loading."""
        os.write(self._end, b"x" * times)

    def close_again(self) -> None:
        """Takes back the steps that were not used."""
        os.set_blocking(self._end, False)
        try:
            while os.read(self._end, 65536):
                pass
        except BlockingIOError:
            os.set_blocking(self._end, True)

    def close(self) -> None:
        os.close(self._end)


@contextmanager
def gate(directory: Path, point: str = "load.bytes_opened") -> Iterator[Gate]:
    """Usually where bytes have become resident."""
    made = Gate(directory / "gate", point)
    try:
        yield made
    finally:
        made.close()
