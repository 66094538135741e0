"""Fixtures of pytest, registered by the package: a server for the whole run, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def milvine_server() -> Iterator[Any]:
    """A milvine.Server on a temporary directory, shared by all tests of this process."""
    import milvine

    with milvine.Server() as server:
        yield server


@pytest.fixture
def milvine_client(milvine_server: Any) -> Iterator[Any]:
    """A MilvusClient of the shared server; collections that the test leaves are dropped."""
    client = milvine_server.client()
    before = set(client.list_collections())
    yield client
    for name in set(client.list_collections()) - before:
        client.drop_collection(name)
    client.close()
