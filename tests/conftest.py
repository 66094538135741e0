"""Servers for the tests: real child processes on temporary data directories and free ports."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from postgres_servers import Postgres
from pymilvus import MilvusClient, MilvusException
from pymilvus.client import grpc_handler
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc
from pymilvus.settings import Config

# Otherwise each server would compile all its modules when it starts, which takes half a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# The servers decode each search both ways, and fail it if the two differ.
os.environ["MILVINE_CHECK_REPEATED"] = "1"


def _poll_often() -> None:
    """The SDK waits half a second before it first asks whether an index is built, and a fifth between looks at a load.
    Here both are done within milliseconds."""
    grpc_handler.time = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: time.sleep(seconds / 50)})
    Config.WaitTimeDurationWhenLoad /= 50


_poll_often()

# Failed assertions of helpers show as much detail as those of tests.
for _helper in Path(__file__).parent.glob("*/*.py"):
    if not _helper.stem.startswith("test_"):
        pytest.register_assert_rewrite(_helper.stem)

HOST = "127.0.0.1"
READY_SECONDS = 90.0
STOP_SECONDS = 20.0
_READY = "milvine ready "
_NODE_READY = "milvine node ready "
_NODES = int(os.environ.get("MILVINE_TEST_NODES", "0"))
"""Every server of the tests gets so many query nodes, which hold all its segments."""
_REPLICAS = int(os.environ.get("MILVINE_TEST_REPLICAS", "0"))
"""Loads that name no number of replicas make so many, except on servers that ask for a login."""
_MEMORY_LIMIT = "MILVINE_MEMORY_LIMIT"
_STORE = os.environ.get("MILVINE_TEST_STORE", "")
"""Every server of the tests has its segment files in an object store of this kind, `moto` or `versitygw`."""
_LOG = os.environ.get("MILVINE_TEST_LOG", "")
"""`object`: the logs of every server of the tests are in its object store, in versitygw unless MILVINE_TEST_STORE says
otherwise."""
if _LOG:
    _STORE = _STORE or "versitygw"
    os.environ["MILVINE_TEST_STORE"] = _STORE
_CATALOG = os.environ.get("MILVINE_TEST_CATALOG", "")
"""`postgresql`: the catalog of each server of the tests is in a database of its own."""
_catalogs: dict[Path, str] = {}
_POLL_SECONDS = 0.02
_NODES_SECONDS = 1.5
"""Within this time a node reports twice, and is counted."""
_used_ports: set[int] = set()
"""Ports are used once: gRPC shares a connection among all channels of a process to one address, so a client of an ended
server could delay the connection to a new server on its port."""
_GRPC_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long begin first; the order within a file stays, since its tests share servers. Tests of one
    process are skipped where servers have query nodes, those of files of logs where logs are in the store, and those of
    the catalog's file where it is in PostgreSQL."""
    long = {item.path for item in items if item.get_closest_marker("long") is not None}
    items.sort(key=lambda item: item.path not in long)
    for name, what, is_elsewhere in (
        ("one_process", "one process", _NODES),
        ("local_log", "files of logs", _LOG),
        ("local_catalog", "the catalog's file", _CATALOG),
    ):
        for item in items if is_elsewhere else ():
            if (mark := item.get_closest_marker(name)) is not None:
                item.add_marker(pytest.mark.skip(reason=f"of {what}: {mark.args[0]}"))


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


@functools.cache
def _postgres() -> Postgres:
    started = Postgres(free_port()).start()
    atexit.register(started.close)
    return started


def _catalog_of(data_dir: Path) -> str:
    """The same for all servers of a directory. A copy of a directory gets a copy of its database, and names it."""
    if data_dir not in _catalogs:
        marker = data_dir / "catalog.json"
        named = json.loads(marker.read_bytes()) if marker.exists() else {"uri": ""}
        source = named["uri"] if named["uri"] in _catalogs.values() else ""
        _catalogs[data_dir] = _postgres().new_database(template=source.rpartition("/")[2])
        if source:
            marker.write_text(json.dumps({**named, "uri": _catalogs[data_dir]}))
    return _catalogs[data_dir]


def dies_with_parent() -> list[str]:
    """A command prefix that ends the child even when pytest itself is killed; it execs, so the pid stays."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


class Node:
    """`milvine node` in a child process. Its directory outlives it."""

    def __init__(self, head_port: int, directory: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self._head_port = head_port
        self._arguments = arguments
        self._env = dict(env or {})
        self.directory = directory
        self.process: subprocess.Popen[str] | None = None
        self.address = ""

    def start(self, env: Mapping[str, str] | None = None) -> Node:
        """`env`: what its head has, in place of that of this process."""
        command = [*dies_with_parent(), sys.executable, "-m", "milvine", "node", f"--head={HOST}:{self._head_port}"]
        command += [f"--data-dir={self.directory}", *self._arguments]
        self.directory.mkdir(exist_ok=True)
        with (self.directory / "log.txt").open("a") as log:
            self.process = subprocess.Popen(
                command, env={**(env or os.environ), **self._env}, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(_NODE_READY), (line, self.log)
        self.address = line.split()[-1]
        return self

    @property
    def log(self) -> str:
        return (self.directory / "log.txt").read_text()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_SECONDS)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


class Server:
    """A milvine server in a child process; start() works again after stop() or kill(), on the same data."""

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        data_dir: Path | None = None,
        port: int = 0,
        metrics_port: int = 0,
        can_replicate: bool = True,
    ) -> None:
        """With `can_replicate` False a load makes one replica, whatever the run of the tests wants."""
        directory.mkdir(parents=True, exist_ok=True)
        self.data_dir = data_dir or directory / "data"
        self.log_file = directory / "server.log"
        self.metrics_port = metrics_port
        self.port = 0
        self.wanted_port = port
        self._arguments = arguments
        self._env = dict(env or {})
        self._nodes: list[Node] = []
        # Progress counts the bytes of one replica, so a held thread of another one would stop it. Tests with nodes of
        # their own say how many replicas they want.
        can_replicate = can_replicate and not self._env.keys() & {"MILVINE_HOLD_AT", "MILVINE_CLUSTER_PORT"}
        self._lacks_replicas = bool(_REPLICAS) and can_replicate
        if _NODES and "MILVINE_CLUSTER_PORT" not in self._env:
            self._env["MILVINE_CLUSTER_PORT"] = str(free_port())
            head_port = int(self._env["MILVINE_CLUSTER_PORT"])
            env = dict(self._env)
            if env.get(_MEMORY_LIMIT, "").isdigit():  # together they have the memory that the test means
                env[_MEMORY_LIMIT] = str(int(env[_MEMORY_LIMIT]) * max(1, _REPLICAS) // _NODES)
            self._nodes = [Node(head_port, directory / f"node-{i}", env=env) for i in range(_NODES)]
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._channel: grpc.Channel | None = None

    def _environment(self) -> dict[str, str]:
        stored = {}
        if _STORE and "MILVINE_STORE_URI" not in self._env:
            from stored_directories import environment_of

            stored = environment_of(self.data_dir, _STORE)
            if _LOG:
                stored["MILVINE_LOG_STORE"] = _LOG
        if _CATALOG and "MILVINE_CATALOG_URI" not in self._env:
            stored["MILVINE_CATALOG_URI"] = _catalog_of(self.data_dir)
        return {**os.environ, **stored, **self._env}

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server was never started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def environment(self) -> dict[str, str]:
        """The variables that its settings come from, beside those of the tests."""
        return self._env

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def uri(self) -> str:
        return f"http://{self.address}"

    @property
    def metrics_uri(self) -> str:
        assert self.metrics_port, "the server was started without a metrics port"
        return f"http://{HOST}:{self.metrics_port}"

    @property
    def log(self) -> str:
        """Everything this server has printed, in all its starts."""
        return self._log_from(0)

    def _log_from(self, start: int) -> str:
        """`start`: in bytes."""
        return self.log_file.read_bytes()[start:].decode(errors="replace") if self.log_file.exists() else ""

    def spawn(self) -> None:
        """Start the process without waiting for it."""
        assert self._process is None or self._process.poll() is not None, "the server is running"
        command = [
            *dies_with_parent(),
            sys.executable,
            "-m",
            "milvine",
            "serve",
            f"--data-dir={self.data_dir}",
            f"--port={self.wanted_port}",
            f"--metrics-port={self.metrics_port}",
            *self._arguments,
        ]
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
            )

    def start(self, timeout_seconds: float = READY_SECONDS) -> Server:
        """Start the process and wait for its ready line."""
        while True:
            self.spawn()
            self.wait_ready(timeout_seconds)
            if self.wanted_port or self.port not in _used_ports:
                break
            self.kill()
            os.truncate(self.log_file, self._log_start)  # so tests may count what each start logs
        _used_ports.add(self.port)
        return self

    def wait_ready(self, timeout_seconds: float = READY_SECONDS) -> Server:
        """Wait for the ready line of the process that was spawned last."""
        seen = self._log_start
        deadline = time.monotonic() + timeout_seconds
        while True:
            lines = self._log_from(seen).splitlines(keepends=True)
            ready = [line for line in lines if line.startswith(_READY) and line.endswith("\n")]
            if ready:
                self.port = int(ready[0].rpartition(":")[2])
                self._start_nodes()
                return self
            code = self.process.poll()
            assert code is None, f"the server ended with {code} before it was ready:\n{self._log_from(seen)}"
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"no ready line in {timeout_seconds} s:\n{self._log_from(seen)}")
            time.sleep(_POLL_SECONDS)

    def _start_nodes(self) -> None:
        for node in self._nodes:
            if node.process is None:
                node.start(self._environment())
        if self._nodes:
            time.sleep(_NODES_SECONDS)
        if self._lacks_replicas:
            with contextlib.suppress(MilvusException), contextlib.closing(self.client(timeout=5)) as client:
                client.alter_database_properties("default", {"database.replica.number": str(_REPLICAS)})
                self._lacks_replicas = False

    @property
    def stub(self) -> Any:
        """Milvus's generated stub, for what the SDK hides."""
        if self._channel is None:
            self._channel = grpc.insecure_channel(self.address, options=_GRPC_OPTIONS)
        return milvus_pb2_grpc.MilvusServiceStub(self._channel)

    def client(self, **options: Any) -> MilvusClient:
        return MilvusClient(uri=self.uri, **options)

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def stop(self, signal_number: int = signal.SIGTERM, timeout_seconds: float = STOP_SECONDS) -> None:
        """Asks the process to end and requires exit code 0."""
        self._close_channel()
        self.process.send_signal(signal_number)
        try:
            code = self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end in {timeout_seconds} s:\n{self.log[-4000:]}") from None
        assert code == 0, f"the server ended with {code}:\n{self.log[-4000:]}"

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Started, and in the end stopped unless a test has ended it."""
        try:
            yield self.start()
            if self.process.poll() is None:
                self.stop()
        finally:
            self.close()

    def kill(self) -> None:
        """Ends the process at once, as a crash would."""
        self._close_channel()
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def close(self) -> None:
        """Kills the process if it still runs."""
        self._close_channel()
        for node in self._nodes:
            node.kill()
        if self._process is not None and self._process.poll() is None:
            self.kill()


class ServerFactory:
    """Starts any number of servers for one test; all end with it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: list[Server] = []

    def __call__(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        data_dir: Path | None = None,
        port: int = 0,
        metrics_port: int = 0,
        start: bool = True,
    ) -> Server:
        """A started server; with `start=False` the test starts it."""
        directory = self._directory / f"server-{len(self._made)}"
        server = Server(directory, *arguments, env=env, data_dir=data_dir, port=port, metrics_port=metrics_port)
        self._made.append(server)
        return server.start() if start else server

    def close(self) -> None:
        for server in self._made:
            server.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server that tests share, with unique collection names."""
    with Server(tmp_path_factory.mktemp("shared-server")).running() as shared:
        yield shared


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[ServerFactory]:
    """A factory of servers of this test alone."""
    factory = ServerFactory(tmp_path)
    try:
        yield factory
    finally:
        factory.close()


@pytest.fixture(scope="session")
def _shared_client(server: Server) -> Iterator[MilvusClient]:
    client = server.client()
    yield client
    client.close()


@pytest.fixture
def client(_shared_client: MilvusClient) -> MilvusClient:
    """MilvusClient on the shared server."""
    return _shared_client


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, _shared_client: MilvusClient) -> Iterator[Any]:
    """The module's `World`, a collection of its `name` on the shared server with what must be in it."""
    made = request.module.World(_shared_client)
    yield made
    _shared_client.drop_collection(made.name)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An `ObjectServer` for the tests of one file."""
    from object_servers import ObjectServer

    started = ObjectServer(tmp_path_factory.mktemp("objects"))
    yield started
    started.stop()


@pytest.fixture
def stub(server: Server) -> Any:
    """Generated gRPC stub on the shared server."""
    return server.stub


@pytest.fixture
def collection_name(server: Server) -> Iterator[str]:
    """A name that no other test uses; a collection of this name is dropped afterwards."""
    name = f"c_{uuid.uuid4().hex[:12]}"
    yield name
    if server.process.poll() is None:
        server.stub.DropCollection(milvus_pb2.DropCollectionRequest(collection_name=name))
