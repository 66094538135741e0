"""The official clients run the page "Load & Release", and a tour of what the server has, against real servers."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import Server, ServerFactory, free_port
from load_balancer import LoadBalancer
from toolchains import BUILD, BUILD_SECONDS, CLIENTS, Client, timed, toolchains_are_required

pytestmark = [pytest.mark.clients, pytest.mark.timeout(BUILD_SECONDS)]

RUN_SECONDS = 120
TOUR_SECONDS = 300
TOKEN = "root:Milvus"
_WITH_AUTHORIZATION = {"MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "true"}
_FILTER = "filter: ...field my_varchar is not loaded"
_OUTPUT = "output: ...field my_varchar is not loaded"
_DYNAMIC = "dynamic: ...field color cannot be returned since dynamic field not loaded"
_REFUSALS = (_FILTER, _OUTPUT, _DYNAMIC, "search: 3")
_DONE = '{"code":0,"data":{}}'
_REST = (
    _DONE,
    _DONE,
    _DONE,
    '{"code":0,"data":{"loadProgress":100,"loadState":"LoadStateLoaded","message":""},"message":""}',
    _DONE,
    '{"code":0,"data":{"loadProgress":0,"loadState":"LoadStateNotLoad","message":""},"message":""}',
    _DONE,
)
_PYTHON = (
    "{'state': <LoadState: Loaded>}",
    "{'state': <LoadState: NotLoad>}",
    "{'state': <LoadState: Loaded>}",
    *_REFUSALS,
    "{'state': <LoadState: NotLoad>}",
)
_NODE_LOADED, _NODE_RELEASED = ("Success", "LoadStateLoaded"), ("Success", "LoadStateNotLoad")
PRINTED: dict[str, tuple[str, ...]] = {
    "pymilvus": _PYTHON,
    "milvus-sdk-java": ("true", "false", "true", *_REFUSALS, "false"),
    "milvus2-sdk-node": (*_NODE_LOADED, *_NODE_RELEASED, *_NODE_LOADED, *_REFUSALS, *_NODE_RELEASED),
    "milvus2-sdk-node HttpClient": _REST,
    "milvus/client/v2 (Go)": ("{3 0}", "{1 0}", "{3 0}", *_REFUSALS, "{1 0}"),
    "curl (REST)": _REST,
}
"""What each client prints; `...` stands for what it puts before the server's own words."""


# fmt: off
ALWAYS: frozenset[str] = frozenset(
    (
        "create_collection", "insert", "upsert", "delete_by_ids", "flush", "load", "search", "range_search", "query",
        "count", "release", "insert_100_mb", "deadline_of_2_s", "restart", "create_user", "update_password",
        "grant_role", "drop_role", "drop_user",
        "create_sparse_vectors", "insert_sparse_vectors", "search_sparse_vectors", "query_sparse_vectors",
        "create_binary_vectors", "insert_binary_vectors", "search_binary_vectors", "query_binary_vectors",
        "full_text", "text_match", "hybrid_full_text", "run_analyzer",
    )
)
# fmt: on
"""Steps that every client takes, so that no tour can pass by telling nothing."""


def _same(printed: str, expected: str) -> bool:
    start, dots, end = expected.partition("...")
    return printed.startswith(start) and end in printed if dots else printed == expected


@dataclass
class Table:
    """The results of the clients, one row each."""

    rows: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def row(self, client: Client) -> list[str]:
        return self.rows.setdefault(client.label, [client.name, client.version, "-", "-"])

    def lines(self) -> list[str]:
        header = ["| client | version | page | tour |", "|---|---|---|---|"]
        return [*header, *(f"| {' | '.join(row)} |" for row in self.rows.values()), "", *self.notes]


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """Kept as a file when all clients have run."""
    made = Table()
    yield made
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "table.md").write_text("\n".join(made.lines()) + "\n")


Build = Callable[[Client], None]


@pytest.fixture(scope="module")
def build() -> Iterator[Build]:
    """Waits until a client is built; all are downloaded and built in parallel."""
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        builds: dict[object, Future[float]] = {}
        for client in CLIENTS:
            if not client.missing_tools() and client.build not in builds:
                builds[client.build] = pool.submit(timed, client.build)

        def wait(client: Client) -> None:
            if missing := client.missing_tools():
                reason = f"{client.label} needs {' and '.join(missing)} on the PATH"
                if toolchains_are_required():
                    pytest.fail(reason)
                pytest.skip(reason)
            builds[client.build].result()

        yield wait


@pytest.fixture(scope="module")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that requires a password."""
    with Server(tmp_path_factory.mktemp("guarded-server"), env=_WITH_AUTHORIZATION).running() as server:
        yield server


def run(command: tuple[str, ...], server: Server, token: str, cwd: Path) -> tuple[int, list[str], str]:
    """Runs a client's program: exit code, standard output, standard error."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**environment, "MILVINE_URI": server.uri, "MILVINE_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


@dataclass
class Tour:
    """The output of a tour: steps that succeeded, steps that failed and why, and what the server lacks."""

    exit_code: int
    ok: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    lacks: list[str] = field(default_factory=list)

    def read(self, line: str) -> None:
        kind, _, rest = line.partition(" ")
        name, _, outcome = rest.partition(" ")
        if kind == "lacks:":
            self.lacks.append(name.rstrip(","))
        elif kind == "step" and outcome == "ok":
            self.ok.append(name)
        elif kind == "step" and outcome.startswith("FAIL"):
            self.failed[name] = outcome


def run_tour(command: tuple[str, ...], uri: str, restart: Callable[[], None], cwd: Path) -> Tour:
    """Runs a tour, and calls `restart` when it asks for a restart of the server. The tour writes the
    files of its imports to `cwd`."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"MILVINE_URI": uri, "MILVINE_TOKEN": TOKEN, "MILVINE_FILES": str(cwd)}
    tour = Tour(-1)
    with (cwd / "complaints").open("wb") as complaints:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        )
        assert process.stdin is not None and process.stdout is not None
        watchdog = threading.Timer(TOUR_SECONDS, process.kill)
        watchdog.start()
        try:
            for line in process.stdout:
                tour.read(line.strip())
                if line.strip() == "restart me":
                    restart()
                    process.stdin.write("done\n")
                    process.stdin.flush()
        finally:
            watchdog.cancel()
            tour.exit_code = process.wait()
    return tour


tours = pytest.mark.parametrize(
    "client", [client for client in CLIENTS if client.tour], ids=lambda client: client.label.replace(" ", "-")
)
each_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.label.replace(" ", "-"))


@each_client
def test_the_page_prints_the_documented_output(
    client: Client, build: Build, table: Table, guarded_server: Server, tmp_path: Path
) -> None:
    row = table.row(client)
    build(client)
    row[2] = "fails"
    code, lines, complaints = run(client.page, guarded_server, TOKEN, tmp_path)
    expected = PRINTED[client.name]
    assert code == 0, (lines, complaints)
    assert len(lines) == len(expected), lines
    assert [e for line, e in zip(lines, expected, strict=True) if not _same(line, e)] == [], lines
    row[2] = "ok"


@each_client
def test_a_wrong_password_raises_the_clients_authentication_error(
    client: Client, build: Build, guarded_server: Server, tmp_path: Path
) -> None:
    build(client)
    code, lines, complaints = run(client.page, guarded_server, "root:wrong", tmp_path)
    said = "\n".join((*lines, complaints))
    assert code != 0, said
    if client.name in ("curl (REST)", "milvus2-sdk-node HttpClient"):
        assert "user hasn't authenticated" in said or "401" in said, said
    else:
        assert "auth check failure, please check username and password are correct" in said, said


@tours
def test_every_step_of_the_tour_succeeds(
    client: Client, build: Build, table: Table, new_server: ServerFactory, tmp_path: Path
) -> None:
    row = table.row(client)
    build(client)
    server = new_server(env={**_WITH_AUTHORIZATION, "MILVINE_IMPORT_PATH": str(tmp_path)}, port=free_port())

    def restart() -> None:
        server.stop()
        server.start()

    tour = run_tour(client.tour, server.uri, restart, tmp_path)
    row[3] = f"{len(tour.ok)} of {len(tour.ok) + len(tour.failed)}"
    table.notes += [f"{client.label}: {name} {why}" for name, why in tour.failed.items()]
    table.notes.append(f"{client.label} lacks {', '.join(tour.lacks)}")
    assert tour.failed == {}
    assert set(tour.ok) >= ALWAYS
    assert tour.exit_code == 0, (tmp_path / "complaints").read_text()[-4000:]


@tours
def test_a_client_goes_on_with_the_standby_after_its_head_was_killed(
    client: Client, build: Build, new_server: ServerFactory, tmp_path: Path
) -> None:
    build(client)
    env = {**_WITH_AUTHORIZATION, "MILVINE_IMPORT_PATH": str(tmp_path)}
    head = new_server("--standby", env=env, port=free_port())
    standby = new_server("--standby", env=env, data_dir=head.data_dir, port=free_port(), start=False)
    standby.spawn()
    with closing(LoadBalancer([head.port, standby.wanted_port])) as balancer:
        balancer.wait_for(head.port)

        def restart() -> None:
            head.kill()
            standby.wait_ready()
            balancer.wait_for(standby.port)

        tour = run_tour(client.tour, balancer.uri, restart, tmp_path)
    assert tour.failed == {} and tour.exit_code == 0, (tmp_path / "complaints").read_text()[-4000:]
    assert "restart" in tour.ok
