"""Machines of a Ray cluster: each has a network namespace, processes and a /tmp of its own.

Ray listens on all addresses, so this runs only inside a cage (`in_cage`): a network namespace without other networks,
and a process namespace whose end ends every process.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from certificates import Certificates
from conftest import Server, free_port
from node_processes import ClusterOfNodes

CAGED = "MILVINE_TEST_CAGED"
HEAD = "10.77.0.1"
_PORT = 6379
_STORE_BYTES = 80_000_000
_START_SECONDS = 400.0
_AGAIN = 'mkdir -p "$0"; while true; do "$@"; sleep 1; done'
"""Starts Ray again when it has ended, as a supervisor does; on a busy machine it gives up after 30 s."""
_MACHINE = f"mount -t tmpfs tmpfs /dev/shm; {_AGAIN}"


def caged(*command: str) -> list[str]:
    """The command that runs another one inside."""
    unshare = ["unshare", "-n", "-m", "-p", "-f", "--mount-proc", "--kill-child"]
    prepare = (
        'mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /run && mkdir /run/netns && ip link set lo up && exec "$@"'
    )
    return [*unshare, "sh", "-c", prepare, "cage", *command]


def in_cage(file: Path, seconds: float, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the tests of a file inside, for so long at most."""
    pytest = [sys.executable, "-m", "pytest", "-m", "cluster", "-n", "0", "--timeout", str(int(seconds)), str(file)]
    return subprocess.run(
        caged(*pytest, *arguments),
        env={**os.environ, CAGED: "1"},
        timeout=seconds,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _address(number: int) -> str:
    return f"10.77.0.{10 + number}"


class Machine:
    """One with a raylet. Its end takes everything on it along, as a lost machine would."""

    def __init__(self, number: int, resources: str, directory: Path, environment: Mapping[str, str]) -> None:
        self.name = f"m{number}"
        self.address = _address(number)
        self._resources = resources
        self._directory = directory / self.name
        self._environment = {**environment, "MILVINE_LOCALSTORAGE_PATH": str(self._directory / "nodes")}
        self.process: subprocess.Popen[bytes] | None = None
        self._directory.mkdir()
        _run("ip", "netns", "add", self.name)
        _run("ip", "link", "add", self._port, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _run("ip", "link", "set", self._port, "master", "br0", "up")
        for command in ("link set lo up", f"addr add {self.address}/24 dev eth0", "link set eth0 up"):
            _run("ip", "-n", self.name, *command.split())

    @property
    def _port(self) -> str:
        return f"p-{self.name}"

    def start(self) -> None:
        here = Path(sys.executable).parent
        ray = [str(here / "ray"), "start", f"--address={HEAD}:{_PORT}", f"--node-ip-address={self.address}", "--block"]
        ray += ["--num-cpus=0", f"--resources={self._resources}", f"--object-store-memory={_STORE_BYTES}"]
        ray += ["--include-log-monitor=false"]
        machine = ["ip", "netns", "exec", self.name, "unshare", "-m", "-p", "-f", "--mount-proc", "--kill-child"]
        with (self._directory / "ray.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *machine,
                    "sh",
                    "-c",
                    _MACHINE,
                    self._temporary,
                    *ray,
                ],
                env={**self._environment, "RAY_TMPDIR": self._temporary},
                stdout=log,
                stderr=log,
            )

    @property
    def _temporary(self) -> str:
        return f"/tmp/ray-{self.name}"

    @property
    def log(self) -> str:
        files = [self._directory / "ray.log", *self._directory.glob("nodes/*/*/node.log")]
        return "\n".join(file.read_text(errors="replace")[-2000:] for file in files if file.exists())

    def kill(self) -> None:
        """With all its processes."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    def kill_raylet(self) -> None:
        """Only Ray's own process, which is started again."""
        os.kill(self._find("raylet/raylet", f"--node_ip_address={self.address}"), 9)

    def node(self) -> int:
        """The process of its query node."""
        return self._find("milvine", f"--host={self.address}")

    def task_files(self, pattern: str) -> list[Path]:
        """Of tasks that run on it."""
        return list((self._directory / "nodes" / "tasks").glob(f"*/segments/*/*/{pattern}"))

    def _find(self, *texts: str) -> int:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                arguments = (process / "cmdline").read_bytes().decode(errors="replace")
                if all(text in arguments for text in texts):
                    return int(process.name)
        raise LookupError(f"{texts} does not run on {self.name}")

    def cut(self) -> None:
        _run("ip", "link", "set", self._port, "down")

    def join(self) -> None:
        _run("ip", "link", "set", self._port, "up")


class RayHead:
    """Ray's head, and a raylet beside our head, which offers nothing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.address = f"{HEAD}:{_PORT}"
        self.process: subprocess.Popen[bytes] | None = None
        _run("ip", "link", "add", "br0", "type", "bridge")
        _run("ip", "addr", "add", f"{HEAD}/24", "dev", "br0")
        _run("ip", "link", "set", "br0", "up")

    def start(self) -> None:
        command = [str(Path(sys.executable).parent / "ray"), "start", "--head", f"--node-ip-address={HEAD}", "--block"]
        command += [f"--port={_PORT}", "--num-cpus=0", f"--object-store-memory={_STORE_BYTES}"]
        # Without what nothing here needs: Ray gives up if all its programs are not up within 30 s.
        command += ["--include-dashboard=false", "--disable-usage-stats", "--no-monitor", "--include-log-monitor=false"]
        with (self._directory / "ray.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["sh", "-c", _AGAIN, self.temporary, *command],
                env={**self.environment, "RAY_TMPDIR": self.temporary},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_SECONDS
        while "Ray runtime started" not in self.log:
            assert time.monotonic() < deadline and self.process.poll() is None, self.log
            time.sleep(0.2)

    @property
    def temporary(self) -> str:
        return "/tmp/ray-head"

    @property
    def log(self) -> str:
        return (self._directory / "ray.log").read_text(errors="replace")

    def kill(self) -> None:
        """Ray's head and the raylet beside our head."""
        if self.process is not None:
            processes = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            self.process.wait(30)
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process = None


class RayCluster(ClusterOfNodes):
    """A head, Ray, and a machine for each of `offers`, its resources."""

    def __init__(self, directory: Path, ray: RayHead, offers: Sequence[str], environment: Mapping[str, str]) -> None:
        """`environment`: where the object store is, and more settings of the head and the nodes."""
        self.ray = ray
        certificates = Certificates(directory)
        certificates.authority("ca")
        addresses = [HEAD, *(_address(number) for number in range(1, 1 + len(offers)))]
        certificates.signed("internal", "ca", names=",".join(f"IP:{address}" for address in addresses))
        pem, key = certificates.pair("internal")
        common = {
            **ray.environment,
            **environment,
            "MILVINE_INTERNALTLS_CAPEMPATH": certificates.path("ca.pem"),
            "MILVINE_INTERNALTLS_SERVERPEMPATH": pem,
            "MILVINE_INTERNALTLS_SERVERKEYPATH": key,
        }
        head = {**common, "MILVINE_CLUSTER_HOST": HEAD, "MILVINE_CLUSTER_PORT": str(free_port())}
        self.head = Server(directory / "head", f"--cluster={ray.address}", env=head, metrics_port=free_port())
        self.machines = [Machine(number, offer, directory, common) for number, offer in enumerate(offers, 1)]
        self.nodes = []

    def start(self) -> RayCluster:
        self.ray.start()
        self.head.start(_START_SECONDS)
        for count, machine in enumerate(self.machines, 1):  # on a busy machine three at a time give up
            machine.start()
            self.wait(count)
        return self

    def live(self) -> set[str]:
        """The machines whose nodes report."""
        return {one["address"].split(":")[0] for one in self.listed() if not one["isSilent"]}

    def wait(self, count: int, seconds: float = _START_SECONDS) -> float:
        try:
            return waited_for(lambda: len(self.live()) == count, seconds, f"{count} nodes")
        except AssertionError:
            print(self.head.log[-6000:], *(machine.log for machine in self.machines), sep="\n----\n")  # noqa: T201
            raise

    def close(self) -> None:
        self.head.close()
        for machine in self.machines:
            machine.kill()
        self.ray.kill()


def waited_for(holds: Any, seconds: float, what: str) -> float:
    """How long it took until something held."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + seconds, f"{what} never happened"
        time.sleep(0.1)
    return time.monotonic() - began
