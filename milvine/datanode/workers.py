"""Where heavy work on segment files runs: in children of this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from milvine.datanode.child import run_task
from milvine.storage.store import SegmentStore


class Order(Protocol):
    """What a task is to do."""

    def inputs(self) -> list[Path]:
        """The files that it reads."""
        ...


class Workers:
    """Threads share it."""

    def __init__(self, store: SegmentStore) -> None:
        self.store = store

    def run(self, task: str, order: Order, is_wanted: Callable[[], bool], pass_fds: Sequence[int] = ()) -> Any:
        """The answer of a task of `child_process`, whose files are then in their places, synced and not stored; see
        `run_task`. Raises IoFailed, too."""
        with self.store.kept(order.inputs()):
            return run_task(task, order, is_wanted, pass_fds)
