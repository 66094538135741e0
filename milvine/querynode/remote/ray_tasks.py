"""One task of the data node on a machine of Ray: the program that places it, and what runs on the machine.

The head starts the program for each task and ends it when the result is no longer wanted; Ray then ends the task.
If Ray has no room, or is gone, it ends with an error, and the head does the task itself. Files come from the object
store and go there; through Ray pass an order and an answer of a few kilobytes.
"""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from milvine import __version__, file_locks
from milvine.child import run_task
from milvine.process import end_with_parent
from milvine.storage.directories import make_directory
from milvine.storage.files import remove_tree, verify_sealed, walk_files
from milvine.storage.objects import Objects
from milvine.storage.segment_files import SegmentPaths

RESOURCE = "milvine_tasks"
"""The custom resource of Ray whose amount says how many tasks a machine does at a time."""
_PLACED_SECONDS = 20.0
"""A task that Ray has not placed by then is done by the head."""
_LOCK = "task.lock"
_MOST_TOLD = 200
"""Characters of what Ray says of a failure."""


class TaskFailed(Exception):
    """On the machine; the head does the task itself and meets the reason again, if there is one."""


def do_here(content: bytes) -> tuple[Any, list[str], str]:
    """On the machine: the answer of the task, the paths of the files that were written, and the machine's name."""
    sent: Mapping[str, Any] = pickle.loads(content)
    if sent["version"] != __version__:
        raise TaskFailed(f"this machine has version {__version__}, and the head {sent['version']}")
    where = Path(os.environ.get("MILVINE_LOCALSTORAGE_PATH", sent["directory"])) / "tasks"
    objects, names = Objects(sent["place"]), sent["names"]
    with _own_directory(where) as root:
        for name, source in names.items():
            path = root / name
            make_directory(path.parent)
            objects.download(source, path, lambda: None)
            verify_sealed(path)
        answer = run_task(sent["task"], sent["order"].elsewhere(SegmentPaths(root)), lambda: True)
        files = {path.relative_to(root).as_posix(): path for path in walk_files(root / "segments")}
        made = sorted(files.keys() - names.keys())
        for name in made:
            objects.upload(sent["prefix"] + name, files[name])
    return answer, made, os.uname().nodename


@contextmanager
def _own_directory(where: Path) -> Iterator[Path]:
    """An empty one. Those of processes that were killed are removed first."""
    where.mkdir(parents=True, exist_ok=True)
    for left in list(where.iterdir()):
        _remove_unused(left)
    root = where / uuid.uuid4().hex
    (root / "segments").mkdir(parents=True)
    with (root / _LOCK).open("w") as file:
        file_locks.take(file.fileno())
        try:
            yield root
        finally:
            remove_tree(root)


def _remove_unused(directory: Path) -> None:
    try:
        with (directory / _LOCK).open("r+") as file:
            if file_locks.take(file.fileno()):
                remove_tree(directory)
    except FileNotFoundError:  # another process has just made it, or removes it
        pass


def main() -> int:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever Ray prints is no answer
    parent, sent = pickle.load(sys.stdin.buffer)
    end_with_parent(parent)
    # Calls of Ray wait for its head for longer than the task may.
    late = threading.Timer(_PLACED_SECONDS, _give_up, ["Ray has not placed it in time"])
    late.daemon = True
    late.start()
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # as the driver of the nodes
    import ray
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    ray.init(address=sent["address"], namespace=f"milvine-{os.getpid()}", log_to_driver=False, configure_logging=False)
    room = placement_group([{RESOURCE: 1}])
    if not room.wait(_PLACED_SECONDS):
        _give_up("no machine of Ray has room")
    late.cancel()
    task = ray.remote(do_here).options(
        num_cpus=0,
        resources={RESOURCE: 1},
        max_retries=0,
        scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group=room),
    )
    content = pickle.dumps({**sent, "version": __version__})
    try:
        answer = ray.get(task.remote(content))
    except ray.exceptions.RayError as error:
        last = str(error).strip().rpartition("\n")[2]
        _give_up(f"{type(error).__name__}: {last[:_MOST_TOLD]}")
    answers.write(pickle.dumps(answer))
    answers.close()
    os._exit(0)  # Ray ends what this program has; its own farewell takes a second


def _give_up(why: str) -> None:
    sys.stderr.write(f"{why}\n")
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    # Ray sends functions of a main module by value, others by name.
    sys.exit(importlib.import_module("milvine.querynode.remote.ray_tasks").main())
