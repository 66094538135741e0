"""A server for tests and scripts: started and ended by its owner."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from milvine.directory_users import Use, server_pid
from milvine.embedded.clients import _pymilvus
from milvine.embedded.launch import use_server

_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.02


class Server:
    """A context manager. Without `data_dir` the data is in a temporary directory, removed at the end.

    `settings` maps keys such as "memory.limit" to values. The server also ends if its owner is killed.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        start_seconds: float = 60.0,
    ) -> None:
        """Starts it, and returns when it is ready. Raises StartError."""
        self._temporary = tempfile.TemporaryDirectory(prefix="milvine-") if data_dir is None else None
        self.data_dir = Path(data_dir or self._temporary.name).resolve()  # type: ignore[union-attr]
        self._use: Use | None = None
        try:
            self._use, address = use_server(self.data_dir, settings, start_seconds)
        except BaseException:
            self._leave()
            raise
        self.pid, self.uri = address.pid, address.uri

    def client(self, **options: Any) -> Any:
        """A MilvusClient, for the caller to close."""
        return _pymilvus().MilvusClient(self.uri, **options)

    def stop(self) -> None:
        """Ends the server, also for its other users. Does nothing the second time."""
        if self._use is None:
            return
        if server_pid(self.data_dir) == self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while server_pid(self.data_dir) == self.pid and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        self._leave()

    def _leave(self) -> None:
        if self._use is not None:
            self._use.end()
            self._use = None
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop()
