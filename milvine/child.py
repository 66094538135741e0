"""Runs a task in a niced child process, and ends it when its result is no longer wanted."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from milvine import config
from milvine.errors import ServiceInternal

_ERROR_CLASS = re.compile(r"^milvine\.errors\.\w+: ")
_LOOK_SECONDS = 0.1


class NotWanted(Exception):
    """The task was ended because its subject is gone."""


def run_task(task: str, order: Any, is_wanted: Callable[[], bool], pass_fds: Sequence[int] = ()) -> Any:
    """The answer of a task of `child_process`, which has the open files `pass_fds` under the same numbers.

    Raises ServiceInternal if it fails and NotWanted if it was ended; both may leave files.
    """
    command, environment = config.child_command("milvine.datanode.child_process", task)
    return run_program(task, (command, environment), order, is_wanted, pass_fds)


def run_program(
    task: str,
    program: tuple[list[str], dict[str, str]],
    order: Any,
    is_wanted: Callable[[], bool],
    pass_fds: Sequence[int] = (),
) -> Any:
    """The answer of a program (command and environment) to an order; both are pickled, the order with the id of this
    process. Raises as `run_task` does."""
    if not is_wanted():
        raise NotWanted
    command, environment = program
    # With waiting threads that spin, a build on busy cores is several times slower.
    environment = {**environment, "OMP_WAIT_POLICY": "passive"}
    request: bytes | None = pickle.dumps((os.getpid(), order))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=pass_fds) as child:
        while True:
            try:
                answer, complaint = child.communicate(request, timeout=_LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                request = None
            try:
                if not is_wanted():
                    raise NotWanted
            except BaseException:
                child.kill()
                child.communicate()
                raise
    if child.returncode != 0:
        # The last line of Python's output is the error; the traceback precedes it.
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        last = _ERROR_CLASS.sub("", last)[-500:]
        raise ServiceInternal(f"the task {task} ended with {child.returncode}: {last}")
    return pickle.loads(answer)
