"""Clients of pymilvus that keep a directory's server running while they are open."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from milvine.directory_users import Use
from milvine.embedded.launch import use_server

_START_SECONDS = 60.0
_NO_PYMILVUS = "milvine.connect needs Milvus's client: pip install pymilvus"


def _pymilvus() -> Any:
    try:
        import pymilvus
    except ImportError as error:
        raise ImportError(_NO_PYMILVUS) from error
    return pymilvus


@cache
def _client_class() -> Any:
    class Client(_pymilvus().MilvusClient):  # type: ignore[misc]
        """A MilvusClient of the server of a directory."""

        def __init__(self, use: Use, uri: str, **options: Any) -> None:
            self._use = use
            super().__init__(uri, **options)

        def close(self) -> None:
            """Closes the client; the server ends soon after the last client of the directory."""
            super().close()
            self._use.end()

        def __enter__(self) -> Client:
            return self

        def __exit__(self, *failure: object) -> None:
            self.close()

    return Client


@cache
def _async_client_class() -> Any:
    class AsyncClient(_pymilvus().AsyncMilvusClient):  # type: ignore[misc]
        """An AsyncMilvusClient of the server of a directory."""

        def __init__(self, use: Use, uri: str, **options: Any) -> None:
            self._use = use
            super().__init__(uri, **options)

        async def close(self) -> None:
            """Closes the client; the server ends soon after the last client of the directory."""
            await super().close()
            self._use.end()

        async def __aenter__(self) -> AsyncClient:
            return self

        async def __aexit__(self, *failure: object) -> None:
            await self.close()

    return AsyncClient


def connect(
    data_dir: str | os.PathLike[str],
    *,
    settings: Mapping[str, object] | None = None,
    start_seconds: float = _START_SECONDS,
    **options: Any,
) -> Any:
    """A MilvusClient, also a context manager, of the one server of `data_dir`.

    The server is started if none runs. All processes that name the directory share it, and it ends when the last one
    has closed its clients or is gone. `settings` maps keys such as "memory.limit" to values and applies only if this
    call starts the server. `options` are those of MilvusClient, such as `token` and `db_name`. Raises StartError.
    """
    client_class = _client_class()
    use, address = use_server(Path(data_dir).resolve(), settings, start_seconds)
    return _made(client_class, use, address.uri, options)


def _made(client_class: Any, use: Use, uri: str, options: dict[str, Any]) -> Any:
    """The client; without one, the use of the server ends at once."""
    try:
        return client_class(use, uri, **options)
    except BaseException:
        use.end()
        raise


async def connect_async(
    data_dir: str | os.PathLike[str],
    *,
    settings: Mapping[str, object] | None = None,
    start_seconds: float = _START_SECONDS,
    **options: Any,
) -> Any:
    """As `connect`, with an AsyncMilvusClient, also an asynchronous context manager."""
    client_class = _async_client_class()
    use, address = await asyncio.to_thread(use_server, Path(data_dir).resolve(), settings, start_seconds)
    return _made(client_class, use, address.uri, options)
