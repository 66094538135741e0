"""The process: signals, refusals, children, memory."""

from __future__ import annotations

import importlib.util
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
from big_inserts import MIB, insert_message, make_plain, send
from conftest import HOST, Server, ServerFactory, free_port
from pymilvus.grpc_gen import milvus_pb2

from milvine.config import child_command

NIGHTLY = pytest.mark.nightly
LOOPBACKS = pytest.mark.parametrize(
    "family",
    [pytest.param(socket.AF_INET, id="127.0.0.1"), pytest.param(socket.AF_INET6, id="::1", marks=NIGHTLY)],
)


SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps it; other systems have no such folder."""


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=NIGHTLY)], ids=lambda number: number.name
)
def test_a_signal_ends_an_idle_server_cleanly(new_server: ServerFactory, number: signal.Signals) -> None:
    server = new_server()
    server.stub.GetVersion(milvus_pb2.GetVersionRequest())
    started = time.monotonic()
    server.stop(number)
    assert time.monotonic() - started < 5
    assert not (server.data_dir / "catalog.sqlite-wal").exists(), "the catalog was not closed"
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=NIGHTLY)], ids=lambda number: number.name
)
def test_a_signal_ends_a_busy_server_cleanly_without_losing_acknowledged_writes(
    new_server: ServerFactory, number: signal.Signals
) -> None:
    server = new_server()
    make_plain(server, "busy", 8)
    acknowledged: list[int] = []

    def write() -> None:
        first = 0
        while True:
            try:
                answer = send(server, insert_message("busy", first, np.zeros((10, 8), np.float32)))
            except grpc.RpcError:
                return
            if answer.status.code:
                return
            acknowledged.append(first)
            first += 10

    writer = threading.Thread(target=write)
    writer.start()
    assert _until(lambda: len(acknowledged) >= 20, 10)
    started = time.monotonic()
    server.stop(number)
    assert time.monotonic() - started < 5
    writer.join()
    server.start()
    client = server.client()
    rows = client.query("busy", filter="id >= 0", output_fields=["id"], consistency_level="Strong")
    assert {r["id"] for r in rows} >= {first + i for first in acknowledged for i in range(10)}
    server.stop()


def test_a_killed_server_starts_again_on_its_directory_and_leaves_no_shared_memory(new_server: ServerFactory) -> None:
    before = set(SHARED_MEMORY.glob("envoy*"))
    server = new_server()
    make_plain(server, "kept", 8)
    for round_number in range(2):
        send(server, insert_message("kept", 10 * round_number, np.ones((10, 8), np.float32)))
        server.kill()
        assert set(SHARED_MEMORY.glob("envoy*")) <= before
        server.start()
        client = server.client()
        assert client.query("kept", output_fields=["count(*)"])[0]["count(*)"] == 10 * (round_number + 1)
    server.stop()


def _refused(server: Server) -> str:
    """The sentence printed by a server that cannot start."""
    server.spawn()
    assert server.process.wait(10) == 1, server.log
    sentences = server.log.strip().splitlines()
    assert len(sentences) == 1, server.log
    assert sentences[0].startswith("milvine: ")
    return sentences[0]


def test_a_second_server_on_a_data_directory_is_refused_in_one_sentence(new_server: ServerFactory) -> None:
    first = new_server()
    second = new_server(data_dir=first.data_dir, start=False)
    sentence = _refused(second)
    assert str(first.data_dir) in sentence
    assert str(first.pid) in sentence
    assert first.stub.GetVersion(milvus_pb2.GetVersionRequest()).status.code == 0
    first.stop()
    second.start()
    second.stop()


@LOOPBACKS
def test_a_busy_port_is_refused_in_one_sentence(new_server: ServerFactory, family: int) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        holder.bind((HOST if family == socket.AF_INET else "::1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        server = new_server(port=port, start=False)
        assert str(port) in _refused(server)
    server.start()
    assert server.port == port
    server.stop()


def test_a_port_that_another_server_holds_is_refused(server: Server, new_server: ServerFactory) -> None:
    assert str(server.port) in _refused(new_server(port=server.port, start=False))
    assert server.stub.GetVersion(milvus_pb2.GetVersionRequest()).status.code == 0


def _spawn_front(server: Server) -> None:
    """Starts the front until it has the port and does not listen yet."""
    server.spawn()
    while psutil.Process(server.pid).name() != "envoy":
        time.sleep(0.002)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere two sockets cannot be bound to one port")
@LOOPBACKS
def test_the_port_of_a_starting_server_is_reserved(new_server: ServerFactory, family: int) -> None:
    port = free_port()
    server = new_server(port=port, start=False)
    _spawn_front(server)
    with socket.socket(family, socket.SOCK_STREAM) as thief, pytest.raises(OSError, match="in use"):
        thief.bind((HOST if family == socket.AF_INET else "::1", port))
    server.wait_ready()
    assert server.port == port
    server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere two sockets cannot be bound to one port")
def test_a_server_whose_port_is_taken_by_force_ends(new_server: ServerFactory) -> None:
    port = free_port()
    server = new_server(port=port, start=False)
    _spawn_front(server)
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind((HOST, port))
        thief.listen()
        assert server.process.wait(20) == 1
    assert f"cannot bind '{HOST}:{port}': Address already in use" in server.log
    server.start()


def test_a_data_directory_that_cannot_be_created_is_refused_in_one_sentence(
    new_server: ServerFactory, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    server = new_server(data_dir=tmp_path / "file" / "data", start=False)
    assert "file" in _refused(server)


def test_a_setting_that_cannot_be_read_is_refused_in_one_sentence(new_server: ServerFactory) -> None:
    server = new_server(env={"MILVINE_MEMORY_LIMIT": "plenty"}, start=False)
    assert "memory.limit" in _refused(server)


@pytest.mark.one_process("the nodes start, too")
def test_a_start_takes_a_small_multiple_of_importing_its_libraries(new_server: ServerFactory) -> None:
    """Both are timed in turn, so a busy machine slows both down; usually a start takes twice as long."""
    libraries = [sys.executable, "-c", "import faiss, google.protobuf.message, numpy, pyarrow.compute, sqlalchemy"]
    ratios: list[float] = []

    def is_quick() -> bool:
        started = time.monotonic()
        subprocess.run(libraries, check=True)
        loaded = time.monotonic()
        server = new_server()
        ratios.append((time.monotonic() - loaded) / (loaded - started))
        server.stop()
        return ratios[-1] < 8

    assert any(is_quick() for _ in range(3)), ratios


def _builders(server: Server) -> list[psutil.Process]:
    children: list[psutil.Process] = psutil.Process(server.pid).children(recursive=True)
    return children


def _start_a_long_build(server: Server) -> None:
    make_plain(server, "built", 96, load=False, index_type="HNSW")
    vectors = np.random.default_rng(2).random((30_000, 96), dtype=np.float32)
    assert send(server, insert_message("built", 0, vectors)).status.code == 0
    server.stub.Flush(milvus_pb2.FlushRequest(collection_names=["built"]))
    assert _until(lambda: bool(_builders(server)), 10)


def test_an_index_is_built_in_a_niced_child_that_ends(new_server: ServerFactory) -> None:
    server = new_server()
    make_plain(server, "built", 32, load=False, index_type="AUTOINDEX")
    vectors = np.random.default_rng(2).random((6000, 32), dtype=np.float32)
    assert send(server, insert_message("built", 0, vectors)).status.code == 0
    server.stub.Flush(milvus_pb2.FlushRequest(collection_names=["built"]))
    nice: list[int] = []

    def done() -> bool:
        for child in _builders(server):
            try:
                nice.append(child.nice())
            except psutil.NoSuchProcess:
                continue
        return bool(client.describe_index("built", "vec")["indexed_rows"] == 6000)

    client = server.client()
    assert _until(done, 60)
    assert nice
    assert max(nice) > 0
    assert _until(lambda: not _builders(server), 5)
    server.stop()


def _have_ended(processes: list[psutil.Process]) -> bool:
    return _until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes), 5)


def test_no_child_outlives_a_killed_server(new_server: ServerFactory) -> None:
    server = new_server()
    _start_a_long_build(server)
    children = _builders(server)
    server.kill()
    assert _have_ended(children)


def test_reads_and_writes_continue_during_a_build_which_a_stop_ends(new_server: ServerFactory) -> None:
    server = new_server()
    _start_a_long_build(server)
    make_plain(server, "other", 8)
    client = server.client()
    for rounds in range(1, 21):
        send(server, insert_message("other", rounds, np.ones((1, 8), np.float32)))
        assert len(client.search("other", [[1.0] * 8], limit=100)[0]) == rounds
    children = _builders(server)
    assert children, "the build ended before the reads and writes"
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 5
    assert _have_ended(children)


def _settled_rss(server: Server) -> int:
    """Resident bytes once they stop falling: freed pages are returned within a second."""
    process = psutil.Process(server.pid)
    lowest, since = process.memory_info().rss, time.monotonic()
    while time.monotonic() - since < 1.2:
        time.sleep(0.1)
        now = process.memory_info().rss
        if now < lowest - MIB:
            lowest, since = now, time.monotonic()
    settled: int = process.memory_info().rss
    return settled


@pytest.mark.one_process("it compares the memory of one replica in one process")
@pytest.mark.parametrize("index_type", [pytest.param("FLAT", marks=pytest.mark.nightly), "HNSW"])
def test_released_memory_is_returned_to_the_system(new_server: ServerFactory, index_type: str) -> None:
    """100,000 x 128 is 51 MB of vectors. The load precedes the HNSW build, so scanned memory must be freed too."""
    server = new_server()
    make_plain(server, "large", 128, load=False, index_type=index_type)
    vectors = np.random.default_rng(1).random((100_000, 128), dtype=np.float32)
    assert send(server, insert_message("large", 0, vectors)).status.code == 0
    server.stub.Flush(milvus_pb2.FlushRequest(collection_names=["large"]))
    client = server.client()
    unloaded = _settled_rss(server)
    client.load_collection("large")
    assert client.search("large", [vectors[42].tolist()], limit=1)[0][0]["id"] == 42
    loaded = _settled_rss(server)
    assert loaded - unloaded > 45 * MIB, (unloaded, loaded)
    client.release_collection("large")
    released = _settled_rss(server)
    assert released - unloaded < 15 * MIB, (unloaded, loaded, released)
    server.kill()


def test_the_server_does_not_import_pandas(server: Server, collection_name: str) -> None:
    """pyarrow looks for it when it makes its first array, and pymilvus brings it along."""
    assert importlib.util.find_spec("pandas") is not None, "without pandas this tests nothing"
    make_plain(server, collection_name, 4)
    assert send(server, insert_message(collection_name, 0, np.ones((3, 4), np.float32))).status.code == 0
    assert not any("/pandas/" in file.path for file in psutil.Process(server.pid).memory_maps())


def test_the_version_is_printed() -> None:
    printed = subprocess.run([sys.executable, "-m", "milvine", "--version"], capture_output=True, text=True, check=True)
    assert printed.stdout.startswith("milvine ")


def test_files_in_the_working_directory_replace_no_module_of_a_child(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('this is not the standard library')")
    command, environment = child_command("json.tool")
    child = subprocess.run(command, env=environment, cwd=tmp_path, input=b"{}", capture_output=True, check=False)
    assert (child.returncode, child.stdout) == (0, b"{}\n")
