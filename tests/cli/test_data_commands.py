"""The commands that look at a server's data and load it: tables for people, JSON for programs."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import HOST, Server, ServerFactory
from load_calls import until
from pymilvus import DataType

ROWS = 5


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a loaded collection of five rows."""
    server = Server(tmp_path_factory.mktemp("shop"))
    server.start()
    client = server.client()
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("name", DataType.VARCHAR, max_length=200)
    index = client.prepare_index_params("vector", index_type="FLAT", metric_type="L2")
    client.create_collection("books", schema=schema, index_params=index)
    names = ["zero", "one", "two\x1b[31m", "three", "four" * 40]
    client.insert("books", [{"id": i, "vector": [float(i), 0.0], "name": names[i]} for i in range(ROWS)])
    client.flush("books")
    yield server
    server.close()


def run(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "milvine", *arguments, f"--uri={server.uri}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def printed(server: Server, *arguments: str) -> list[str]:
    """The lines of a command that succeeds."""
    done = run(server, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def answered(server: Server, *arguments: str) -> Any:
    """What a command says to programs."""
    return json.loads("\n".join(printed(server, *arguments, "--json")))


def test_collections_are_listed_with_state_rows_and_memory(shop: Server) -> None:
    header, line = printed(shop, "collections")
    assert header.split()[:4] == ["collection", "state", "percent", "rows"]
    assert line.split()[:4] == ["books", "Loaded", "100", "5"]
    (found,) = answered(shop, "collections")
    assert (found["collection"], found["rows"], found["state"]) == ("books", ROWS, "Loaded")
    assert found["memoryBytes"] > 0


def test_a_database_without_collections_says_so(shop: Server) -> None:
    shop.client().create_database("empty")
    assert printed(shop, "collections", "--database=empty") == ["the database empty has no collections"]
    assert answered(shop, "collections", "--database=empty") == []


def test_stats_show_fields_indexes_and_partitions(shop: Server) -> None:
    found = answered(shop, "stats", "books")
    assert [field["name"] for field in found["fields"]] == ["id", "vector", "name"]
    assert [index["indexType"] for index in found["indexes"]] == ["FLAT"]
    assert found["partitions"] == [{"partition": "_default", "rows": ROWS}]
    lines = "\n".join(printed(shop, "stats", "books"))
    assert "VarChar" in lines
    assert "max_length=200" in lines


def test_rows_of_a_query_are_a_table_that_cannot_move_the_cursor(shop: Server) -> None:
    header, *lines = printed(shop, "query", "books", "id >= 2", "--fields=id,name")
    assert header.split() == ["id", "name"]
    assert [line.split()[0] for line in lines] == ["2", "3", "4"]
    assert lines[0].split()[1] == "two\\x1b[31m"
    assert lines[2].endswith("…")
    assert len(lines[2]) < 80
    rows = answered(shop, "query", "books", "id == 4")
    assert rows == [{"id": 4, "name": "four" * 40, "vector": [4.0, 0.0]}]
    assert len(answered(shop, "query", "books", "--limit=3")) == 3
    assert printed(shop, "query", "books", "id == 99") == ["no rows"]


def test_a_search_finds_the_nearest_rows_of_a_vector_a_file_and_a_row(shop: Server, tmp_path: Path) -> None:
    near = answered(shop, "search", "books", "--vector=[2.9, 0]", "--limit=2", "--fields=id")
    assert [row["id"] for row in near] == [3, 2]
    (tmp_path / "vector.json").write_text("[[0.0, 0.0]]")
    assert answered(shop, "search", "books", f"--file={tmp_path / 'vector.json'}", "--limit=1")[0]["id"] == 0
    beside = answered(shop, "search", "books", "--id=1", "--limit=2", "--filter=id != 1", "--fields=id")
    assert {row["id"] for row in beside} == {0, 2}
    assert printed(shop, "search", "books", "--vector=[2.9, 0]", "--limit=1", "--fields=name")[0].split() == [
        "distance",
        "id",
        "name",
    ]


def test_release_and_load_say_the_state(shop: Server) -> None:
    assert printed(shop, "release", "books") == ["books: NotLoad, 0 %"]
    refused = run(shop, "query", "books")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("milvine: ")
    assert "not loaded" in refused.stderr
    assert printed(shop, "load", "books") == ["books: Loaded, 100 %"]
    assert answered(shop, "load", "books") == {"collection": "books", "state": "LoadStateLoaded", "percent": 100}


def test_chosen_fields_and_partitions_are_loaded(shop: Server) -> None:
    printed(shop, "release", "books")
    assert printed(shop, "load", "books", "--fields=id,vector") == ["books: Loaded, 100 %"]
    refused = run(shop, "query", "books", "name == 'one'")
    assert "field name is not loaded" in refused.stderr
    assert printed(shop, "load", "books") == ["books: Loaded, 100 %"]
    assert len(answered(shop, "query", "books", "name == 'one'")) == 1
    printed(shop, "release", "books")
    assert printed(shop, "load", "books", "--partitions=_default") == ["books: Loaded, 100 %"]
    assert "nowhere" in run(shop, "load", "books", "--partitions=nowhere").stderr


def test_a_resting_collection_is_told(new_server: ServerFactory) -> None:
    server = new_server(env={"MILVINE_COLLECTION_IDLE_RELEASE_SECONDS": "1"})
    client = server.client()
    client.create_collection("books", dimension=2)
    client.insert("books", [{"id": 1, "vector": [0.0, 1.0]}])
    client.flush("books")
    until(lambda: answered(server, "collections")[0]["state"] == "Resting", "the collection does not rest")
    client.close()


def test_the_distance_of_a_hit_comes_first(shop: Server) -> None:
    assert printed(shop, "search", "books", "--id=1")[0].split() == ["distance", "id", "name", "vector"]


def test_an_estimate_is_json_for_programs(shop: Server) -> None:
    assert answered(shop, "estimate", "books")["fits"] is True


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("stats", "nope"), "collection=nope"),
        (("query", "books", "id ==="), "id ==="),
        (("search", "books", "--vector=[1,"), "--vector is not JSON"),
        (("search", "books", "--vector=3"), "--vector must be a vector"),
        (("search", "books", "--file=/no/such/file"), "cannot read /no/such/file"),
        (("load", "nope"), "collection=nope"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(shop: Server, arguments: tuple[str, ...], words: str) -> None:
    done = run(shop, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_token_comes_from_the_environment_too(shop: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILVINE_TOKEN", "root:Milvus")
    assert len(answered(shop, "collections")) == 1


def doctor(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    command = [sys.executable, "-m", "milvine", "doctor", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, {line["check"]: line for line in json.loads(done.stdout)}


def test_the_doctor_names_a_taken_port_and_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    code, found = doctor(f"--data-dir={tmp_path / 'data'}", "--port=0")
    assert (code, [one for one, line in found.items() if not line["ok"]]) == (0, [])
    with socket.socket() as holder:
        holder.bind((HOST, 0))
        holder.listen()
        port = holder.getsockname()[1]
        code, found = doctor("--data-dir=/proc/data", f"--port={port}")
    assert code == 1
    assert {one for one, line in found.items() if not line["ok"]} >= {"port", "directory"}
    assert str(port) in found["port"]["says"]
