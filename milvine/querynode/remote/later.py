"""Calls of nodes that nobody waits for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from milvine.errors import MilvineError
from milvine.querynode.node import SegmentNotHeld
from milvine.querynode.remote.rpc import Unreachable

_log = logging.getLogger(__name__)
_THREADS = 4


class Later:
    """A few threads."""

    def __init__(self) -> None:
        self._is_closed = False
        self._pool = ThreadPoolExecutor(_THREADS, "node-work")

    def run(self, work: Callable[..., None], *arguments: Any) -> None:
        """No effect once it is closed."""
        if not self._is_closed:
            self._pool.submit(work, *arguments)

    def close(self) -> None:
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)


def quietly(call: Callable[[], Any]) -> None:
    """A failure of the node is logged only: what it holds is compared with the head's table later."""
    try:
        call()
    except (Unreachable, SegmentNotHeld, MilvineError) as error:
        _log.info("a node did not do what it was told: %s", error)
