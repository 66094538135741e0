"""The child process that does heavy work on files, `python -m milvine.datanode.child_process TASK`.

The order is pickled on stdin, the answer on stdout; both ends are this program. The process is niced, so it does not
starve searches, and it cannot leak memory into the server or crash it. It ends with its parent, since its files would
then be garbage.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import sys
from typing import Any

from milvine.process import end_with_parent, imports_kept, keep_pandas_out

_NICE = 10


_TASKS = {
    "build": "milvine.datanode.build_process:build",
    "build_scalar": "milvine.datanode.build_scalar_process:build_scalar_in_child",
    "fill": "milvine.datanode.stored_outputs:fill_in_child",
    "merge": "milvine.datanode.merge_process:merge_in_child",
}
"""Modules and functions of tasks. Packages above this one name theirs in this form."""


def _run(task: str, order: Any) -> Any:
    """Imports only the modules of the task, since imports take most of the time of a small task."""
    module, _, function = _TASKS.get(task, task).partition(":")
    with imports_kept():
        run = getattr(importlib.import_module(module), function)
    return run(order)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))  # the server's are blocked
    os.nice(_NICE)
    keep_pandas_out()
    parent, order = pickle.load(sys.stdin.buffer)
    end_with_parent(parent)
    answer = _run(sys.argv[1], order)
    sys.stdout.buffer.write(pickle.dumps(answer))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
