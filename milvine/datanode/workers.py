"""Where heavy work on segment files runs: in children of this process or, with an object store, on other machines.

Another machine gets the names of objects and writes objects of its own, under a prefix that only this task has. So
nothing that it does late, or twice, can touch what the catalog names.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from milvine import config, logs, metrics
from milvine.child import run_program, run_task
from milvine.errors import MilvineError
from milvine.storage.segment_files import SegmentPaths
from milvine.storage.store import CachedStore, SegmentStore

_log = logging.getLogger(__name__)
WORTH_MOVING_BYTES = 16 << 20
"""With less to read, a task ends here before another machine has begun it."""


class Order(Protocol):
    """What a task is to do."""

    @property
    def input_bytes(self) -> int: ...
    def inputs(self) -> list[Path]:
        """The files that it reads."""
        ...

    def elsewhere(self, paths: SegmentPaths) -> Order | None:
        """The same for a machine that has only the input files; None if it needs more."""
        ...


@dataclass(frozen=True)
class Elsewhere:
    """Machines that do tasks. `module`: a program that passes one to them; its order is a mapping of `told`, and task,
    order, names (of input objects by path), prefix; its answer that of the task, the paths that were written, and the
    machine. `are_there`: whether they may be asked."""

    module: str
    told: Mapping[str, Any]
    are_there: Callable[[], bool]


class Workers:
    """Threads share it."""

    def __init__(self, store: SegmentStore) -> None:
        self.store = store
        self.elsewhere: Elsewhere | None = None

    def run(self, task: str, order: Order, is_wanted: Callable[[], bool], pass_fds: Sequence[int] = ()) -> Any:
        """The answer of a task of `child_process`, whose files are then in their places, synced and not stored; see
        `run_task`. Raises IoFailed, too."""
        elsewhere, store = self.elsewhere, self.store
        if (
            elsewhere is not None
            and isinstance(store, CachedStore)
            and order.input_bytes >= WORTH_MOVING_BYTES
            and order.elsewhere(store.paths) is not None
            and elsewhere.are_there()
        ):
            try:
                return _run_elsewhere(store, elsewhere, task, order, is_wanted)
            except MilvineError as error:
                metrics.tasks_elsewhere.labels("failed").inc()
                _log.warning("the task %s is done here: %s", task, error.message)
        with store.kept(order.inputs()):
            return run_task(task, order, is_wanted, pass_fds)


def _run_elsewhere(
    store: CachedStore, elsewhere: Elsewhere, task: str, order: Order, is_wanted: Callable[[], bool]
) -> Any:
    began = time.monotonic()
    with store.lent(order.inputs()) as lent:
        sent = {**elsewhere.told, "task": task, "order": order, "names": lent.names, "prefix": lent.prefix}
        answer, made, machine = run_program(task, config.child_command(elsewhere.module), sent, is_wanted)
        store.take(lent, made)
    metrics.tasks_elsewhere.labels("done").inc()
    seconds = round(time.monotonic() - began, 3)
    logs.event(_log, logging.INFO, "a task was done elsewhere", task=task, machine=machine, seconds=seconds)
    return answer
