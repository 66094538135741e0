"""Query nodes that Ray starts and places. The only home of ray, which is imported by a process of its own.

Reads never pass through Ray. A driver of Ray ends its whole process a minute after Ray's head has gone, so the driver
is a child of our head, and is started again and again. On each machine an actor keeps one `milvine node` running. That
process belongs to nobody: it goes on while Ray's head, the actor or our head is away, and the next actor on the
machine finds it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from milvine import config, file_locks
from milvine.background import Supervisor
from milvine.errors import UnexpectedError
from milvine.model.resource_groups import ResourceGroup
from milvine.process import end_with_parent
from milvine.querynode.remote.ray_tasks import RESOURCE as TASK_RESOURCE

RESOURCE = "milvine"
"""The custom resource of Ray whose amount says how many query nodes a machine runs; `milvine-NAME`: nodes with the
label group=NAME."""
LABEL = "group"
PATIENCE_SECONDS = 600
"""A node that no head has answered for so long ends."""
_NAMESPACE = "milvine"
_ENDING_SECONDS = 15.0
"""Within this time the actors of a driver that has ended are gone."""
_TELL_SECONDS, _LOOK_SECONDS, _START_SECONDS, _STOP_SECONDS = 2.0, 0.5, 2.0, 10.0
SILENT_SECONDS = 15.0
"""Ray's absence is a failure, and one more, each time that the driver has not answered for so long."""
_DRIVER = "driver"
_MOST_READ = 1 << 16


def wanted_nodes(groups: Mapping[str, ResourceGroup]) -> dict[str, int]:
    """How many nodes resource groups request, by the value of their label `group`; empty: those without."""
    found: Counter[str] = Counter()
    for group in groups.values():
        found[dict(group.config.node_labels).get(LABEL, "")] += group.requests
    return dict(found)


class RayNodes:
    """The head's side: a child process with the driver, which is told again and again how many nodes are wanted, and
    answers with a line once Ray knows it. Without an answer it is told nothing more: Ray is away."""

    def __init__(
        self,
        address: str,
        head: str,
        directory: str,
        groups: Callable[[], Mapping[str, ResourceGroup]],
        background: Supervisor,
    ) -> None:
        """`address`: of Ray. `head`: where nodes register. `directory`: for the copies of nodes."""
        self._order = {"address": address, "head": head, "directory": directory, "parent": os.getpid()}
        self._groups = groups
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._is_told = False
        """Whether an answer is still to come."""
        self._heard_at = 0.0
        self._task_slots = 0
        self._is_closed = False
        self._work = background.work("ray")
        self._worker = background.worker("ray", self._look)

    def start(self) -> None:
        self._worker.start()

    def take_tasks(self) -> bool:
        """Whether machines take tasks of builds and merges, and Ray has answered lately."""
        return self._task_slots > 0 and time.monotonic() - self._heard_at < SILENT_SECONDS

    def close(self) -> None:
        """Ends the nodes, too."""
        with self._lock:
            self._is_closed = True
            child, self._child = self._child, None
        if child is None:
            return
        with contextlib.suppress(OSError):
            _tell(child, {"stop": True})
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _look(self) -> float:
        with self._lock:
            if not self._is_closed:
                self._keep_child()
        return _TELL_SECONDS

    def _keep_child(self) -> None:
        if self._child is None:
            if _DRIVER in self._work.waiting():
                return
            self._child = self._started()
        child = self._child
        if answers := _answers(child):
            self._is_told, self._heard_at, self._task_slots = False, time.monotonic(), answers[-1]
            self._work.succeeded([_DRIVER])
        elif (code := child.poll()) is not None:
            self._child, self._task_slots = None, 0
            self._failed(f"the driver has ended with {code}; it is started again")
            return
        elif time.monotonic() - self._heard_at > SILENT_SECONDS:
            self._heard_at = time.monotonic()
            self._failed("no answer")
        if not self._is_told:
            self._is_told = True
            with contextlib.suppress(OSError):  # it has ended, which the next look finds
                _tell(child, {"wanted": wanted_nodes(self._groups())})

    def _started(self) -> subprocess.Popen[bytes]:
        command, environment = config.child_command(__name__)
        # Whoever runs Ray without tokens says so; else everyone who reaches its ports runs programs here.
        environment = {**environment, "RAY_AUTH_MODE": environment.get("RAY_AUTH_MODE", "token")}
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, bufsize=0)
        assert child.stdout is not None
        os.set_blocking(child.stdout.fileno(), False)
        self._is_told, self._heard_at = False, time.monotonic()
        with contextlib.suppress(OSError):
            _tell(child, self._order)
        return child

    def _failed(self, why: str) -> None:
        self._work.failed([_DRIVER], f"Ray at {self._order['address']}", UnexpectedError(why))


def _answers(child: subprocess.Popen[bytes]) -> list[int]:
    """How many tasks at a time all machines take, by each answer since the last call."""
    assert child.stdout is not None
    return [int(line) for line in (child.stdout.read(_MOST_READ) or b"").split()]


def _tell(child: subprocess.Popen[bytes], what: Mapping[str, Any]) -> None:
    assert child.stdin is not None
    child.stdin.write(orjson.dumps(what) + b"\n")


class _Driver:
    """In the child process: one actor for each node that machines offer or resource groups request."""

    def __init__(self, ray: Any, order: Mapping[str, str]) -> None:
        self._ray = ray
        self._order = order
        self._actors: dict[str, list[Any]] = {}

    def keep(self, wanted: Mapping[str, int]) -> int:
        """Returns how many tasks at a time machines take."""
        resources = self._ray.cluster_resources()
        offered = {
            name.removeprefix(RESOURCE).removeprefix("-"): int(amount)
            for name, amount in resources.items()
            if name == RESOURCE or name.startswith(f"{RESOURCE}-")
        }
        for group in {**offered, **wanted}:
            actors = self._actors.setdefault(group, [])
            # Those that no machine has room for wait, and make an autoscaler start one.
            for number in range(len(actors), max(offered.get(group, 0), wanted.get(group, 0))):
                actors.append(self._started(group, number))
        return int(resources.get(TASK_RESOURCE, 0))

    def _started(self, group: str, number: int) -> Any:
        resource = f"{RESOURCE}-{group}" if group else RESOURCE
        kind = self._ray.remote(NodeKeeper).options(
            name=f"{resource}-{number}",
            num_cpus=0,
            resources={resource: 1},
            max_restarts=-1,
            scheduling_strategy="SPREAD",
        )
        address = "" if self._order["head"].startswith(("127.", "localhost")) else "machine"
        return kind.remote(self._order["head"], self._order["directory"], group, address)

    def stop(self) -> None:
        ending = [actor.stop.remote() for actors in self._actors.values() for actor in actors]
        self._ray.wait(ending, num_returns=len(ending), timeout=_STOP_SECONDS / 2)


class NodeKeeper:
    """An actor: keeps one node running on its machine, and the same one after a restart of the actor."""

    def __init__(self, head: str, directory: str, group: str, address: str) -> None:
        """`directory`: for the copies of nodes, each in a part of it; the machine's MILVINE_LOCALSTORAGE_PATH
        comes first. `address`: empty if the head is on loopback."""
        root = Path(os.environ.get("MILVINE_LOCALSTORAGE_PATH", directory)) / (group or "any")
        self._arguments = [f"--head={head}", f"--patience={PATIENCE_SECONDS}"]
        self._arguments += [f"--label={LABEL}={group}"] if group else []
        if address:
            import ray

            self._arguments.append(f"--host={ray.util.get_node_ip_address()}")
        self._root = root
        self._directory = root / "0"
        self._stopping = threading.Event()
        self._pid = 0
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The node ends."""
        self._stopping.set()
        self._thread.join()
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def state(self) -> dict[str, Any]:
        return {"pid": self._pid, "directory": str(self._directory)}

    def _keep(self) -> None:
        self._directory = self._own_directory()
        while not self._stopping.is_set():
            self._pid, arguments = node_in(self._directory)
            if not self._pid:
                self._spawn()
            elif not set(self._arguments) <= arguments:  # of another head
                os.kill(self._pid, signal.SIGTERM)
            self._stopping.wait(_LOOK_SECONDS if self._pid else _START_SECONDS)

    def _own_directory(self) -> Path:
        """The first that no other actor of this machine keeps a node in, be it one that is ending."""
        number, patience = 0, time.monotonic() + _ENDING_SECONDS
        while True:
            directory = self._root / str(number)
            directory.mkdir(parents=True, exist_ok=True)
            file = (directory / "keeper.lock").open("w")
            with contextlib.suppress(OSError):
                if file_locks.take(file.fileno()):
                    self._lock = file
                    return directory
            file.close()
            if time.monotonic() > patience:
                number, patience = number + 1, time.monotonic() + _ENDING_SECONDS
            self._stopping.wait(_LOOK_SECONDS)

    def _spawn(self) -> None:
        command = ["setsid", "--fork", sys.executable, "-m", "milvine", "node", f"--data-dir={self._directory}"]
        with (self._directory / "node.log").open("ab") as log:
            subprocess.run(
                [*command, *self._arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True, cwd="/"
            )


def node_in(directory: Path) -> tuple[int, set[str]]:
    """The process of the node in a directory, or 0, and its arguments."""
    wanted = {"milvine", "node", f"--data-dir={directory}"}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = set((process / "cmdline").read_bytes().decode(errors="replace").split("\0"))
            if wanted <= arguments:
                return int(process.name), arguments
    return 0, set()


def main() -> int:
    """Follows the lines of its input until they end, and answers each. Nodes stay if they end without a stop: our head
    may come back."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever Ray prints is no answer
    order = orjson.loads(sys.stdin.buffer.readline())
    end_with_parent(order["parent"])  # a call of Ray that waits does not see the end of the lines
    try:
        import ray
    except ImportError:
        sys.stderr.write("cluster.ray.address needs Ray: pip install 'milvine[cluster]'\n")
        return 2
    try:
        ray.init(
            address=order["address"],
            namespace=f"{_NAMESPACE}-{os.getpid()}-{time.time_ns()}",
            log_to_driver=False,
            configure_logging=False,
        )
    except Exception as error:  # noqa: BLE001 - the head tells it
        sys.stderr.write(f"Ray at {order['address']} does not take the driver: {error}\n")
        return 1
    driver = _Driver(ray, order)
    for line in sys.stdin.buffer:
        told = orjson.loads(line)
        if "stop" in told:
            driver.stop()
            break
        answers.write(b"%d\n" % driver.keep(told["wanted"]))
    ray.shutdown()
    return 0


if __name__ == "__main__":
    # Ray sends classes of a main module by value, others by name.
    sys.exit(importlib.import_module("milvine.querynode.remote.ray_cluster").main())
