"""`milvine.connect` shares one server among the users of a directory, and `milvine.Server` is one for tests."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from conftest import Server

import milvine
from milvine.directory_users import LastUser, server_pid

PATIENCE_SECONDS = 30.0
USER = """
import sys, milvine
client = milvine.connect(sys.argv[1])
print(client.list_collections(), flush=True)
sys.stdin.read()
"""


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def user_of(directory: Path) -> subprocess.Popen[str]:
    """Another process that has connected and stays."""
    command = [sys.executable, "-c", USER, str(directory)]
    user = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None
    assert user.stdout.readline().startswith("[")
    return user


def test_processes_of_one_directory_share_a_server_that_ends_with_the_last(tmp_path: Path) -> None:
    client = milvine.connect(tmp_path)
    pid = server_pid(tmp_path)
    assert pid
    assert os.getpgid(pid) == pid != os.getpgid(0)
    client.create_collection("notes", dimension=4)
    client.insert("notes", [{"id": 1, "vector": [1.0, 0.0, 0.0, 0.0]}])
    user = user_of(tmp_path)
    assert server_pid(tmp_path) == pid
    client.close()
    time.sleep(1.5)
    assert server_pid(tmp_path) == pid, "the other user is still there"
    user.kill()
    user.wait()
    until(lambda: server_pid(tmp_path) == 0, "the server outlives its last user")
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "the process stays")
    with milvine.connect(tmp_path) as again:
        assert again.query("notes", filter="id == 1", output_fields=["id"]) == [{"id": 1}]
    until(lambda: server_pid(tmp_path) == 0, "the server outlives its last user")


def test_users_that_come_at_once_start_one_server(tmp_path: Path) -> None:
    command = [sys.executable, "-c", USER, str(tmp_path)]
    users = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    try:
        assert [user.stdout.readline() for user in users if user.stdout is not None] == ["[]\n"] * 3
        servers = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or ())]
        assert server_pid(tmp_path) in [process.pid for process in servers]
    finally:
        for user in users:
            user.kill()
            user.communicate()
    until(lambda: server_pid(tmp_path) == 0, "the server outlives its last user")


def test_an_asynchronous_client_is_a_context_manager(server: Server, collection_name: str) -> None:
    async def use() -> list[str]:
        async with await milvine.connect_async(server.data_dir) as client:
            await client.create_collection(collection_name, dimension=4)
            assert not LastUser(server.data_dir).is_gone()
            names: list[str] = await client.list_collections()
            return names

    assert collection_name in asyncio.run(use())
    assert LastUser(server.data_dir).is_gone()


def test_a_server_that_runs_already_is_used_and_goes_on(server: Server, collection_name: str) -> None:
    server.client().create_collection(collection_name, dimension=4)
    with milvine.connect(server.data_dir) as client:
        assert collection_name in client.list_collections()
    time.sleep(1)
    assert server_pid(server.data_dir) == server.pid


def test_a_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(milvine.StartError, match="is a file"):
        milvine.connect(file)
    with pytest.raises(milvine.StartError, match="cannot make the data directory"):
        milvine.connect(file / "below")


def test_a_server_that_cannot_start_is_an_error_with_its_sentence(tmp_path: Path) -> None:
    with pytest.raises(milvine.StartError, match=r"setting memory\.limit: cannot read 'plenty'"):
        milvine.connect(tmp_path, settings={"memory.limit": "plenty"})
    with pytest.raises(milvine.StartError, match="did you mean MILVINE_MEMORY_LIMIT"):
        milvine.connect(tmp_path, settings={"memory.limt": "1GB"})


def test_connect_says_what_to_install_without_pymilvus(tmp_path: Path) -> None:
    code = "import sys; sys.modules['pymilvus'] = None; import milvine; milvine.connect(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "data")], capture_output=True, text=True, check=False
    )
    assert done.stderr.rstrip().endswith("ImportError: milvine.connect needs Milvus's client: pip install pymilvus")
    assert not (tmp_path / "data").exists()


def test_a_server_for_tests_has_temporary_data_and_ends_with_its_block() -> None:
    with milvine.Server(settings={"proxy.workerThreads": 2}) as server:
        directory, pid = server.data_dir, server.pid
        client = server.client()
        assert client.list_collections() == []
        client.close()
    assert not directory.exists()
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "the server stays")


def test_a_server_whose_owner_is_killed_ends(tmp_path: Path) -> None:
    code = "import sys, milvine; server = milvine.Server(sys.argv[1]); print(server.pid, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    owner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert int(owner.stdout.readline()) == server_pid(tmp_path)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    until(lambda: server_pid(tmp_path) == 0, "the server outlives its owner")


def test_the_package_brings_a_fixture(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "def test_one(milvine_client):\n"
        "    milvine_client.create_collection('c', dimension=4)\n"
        "def test_two(milvine_client, milvine_server):\n"
        "    assert milvine_client.list_collections() == []\n"
        "    assert milvine_server.uri.startswith('http://127.0.0.1:')\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
