"""One damaged file of a stopped data directory is named, and what does not need it is served."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from conftest import Server, ServerFactory
from crash_load import create, row_of, vector_of
from damage import (
    AS_IT_LIES,
    GRAPH,
    GRAPH_ROWS,
    OTHER,
    SMALL,
    SPARSE,
    collection_id,
    cut,
    damaged_log,
    filled_copy,
    flip_footer,
    flip_header,
    flip_middle,
    flip_record,
    log_files,
    one_file,
    remove,
    shown,
    write,
    zero_start,
)
from pymilvus import MilvusClient, MilvusException
from pymilvus.grpc_gen import common_pb2, milvus_pb2

from milvine.catalog.sqlite_file import open_catalog
from milvine.errors import DataIntegrityError

START_SECONDS = 20.0
WAIT_SECONDS = 90.0
NewServer = Callable[..., Any]


DAMAGES = [flip_middle, flip_footer, cut, remove]


@pytest.fixture
def data_dir(new_server: Any, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    return filled_copy(new_server, tmp_path_factory, tmp_path)


@dataclass(frozen=True)
class Running:
    """A server on a filled directory that tests share: each restores the files that it damages."""

    server: Server
    data_dir: Path
    client: MilvusClient

    @contextmanager
    def damaged(self, name: str, pattern: str, damage: Callable[[Path], None]) -> Iterator[Path]:
        """Damages a file of the collection, which is released; afterwards the collection loads again."""
        self.client.release_collection(name)
        path = one_file(self.data_dir, name, pattern)
        whole = path.read_bytes()
        damage(path)
        try:
            yield path
        finally:
            write(path, whole)
        self.client.load_collection(name)
        assert self.server.stub.CheckHealth(milvus_pb2.CheckHealthRequest()).isHealthy


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    factory = ServerFactory(tmp_path_factory.mktemp("running"))
    try:
        data_dir = filled_copy(factory, tmp_path_factory, tmp_path_factory.mktemp("filled"))
        server = factory(data_dir=data_dir, env=AS_IT_LIES)
        with closing(server.client()) as client:
            yield Running(server, data_dir, client)
    finally:
        factory.close()


def check_serves(client: MilvusClient, name: str, count: int) -> None:
    client.load_collection(name)
    assert client.query(name, filter="", output_fields=["count(*)"])[0]["count(*)"] == count
    assert client.search(name, [vector_of(5)], anns_field="vec", limit=1)[0][0]["id"] == 5


def ends_with_one_sentence(server: Any) -> str:
    """Starts the server, waits for its end, and returns its message."""
    server.spawn()
    deadline = time.monotonic() + START_SECONDS
    while server.process.poll() is None:
        if "milvine ready" in server.log:
            server.kill()
            raise AssertionError(f"the server is ready on damaged data:\n{server.log}")
        assert time.monotonic() < deadline, f"neither ready nor ended:\n{server.log}"
        time.sleep(0.02)
    log: str = server.log
    assert server.process.returncode != 0
    assert "Traceback" not in log, f"a traceback in place of a sentence:\n{log}"
    sentences = [line for line in log.splitlines() if line.startswith("milvine: ")]
    assert len(sentences) == 1, f"one sentence is expected:\n{log}"
    return sentences[0]


def test_the_sample_directory_is_undamaged(running: Running) -> None:
    client = running.client
    check_serves(client, OTHER, 200)
    check_serves(client, GRAPH, GRAPH_ROWS)
    client.load_collection(SMALL)
    assert client.query(SMALL, filter="id < 2000", output_fields=["count(*)"])[0]["count(*)"] == 300


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        (SMALL, "101.col"),
        (SMALL, "102.col"),
        (SMALL, SPARSE),
        (SMALL, "rows.seg"),
        (SMALL, "*.delta"),
        (GRAPH, "*.index"),
    ],
)
def test_the_load_names_a_damaged_file_and_other_collections_are_served(
    running: Running, name: str, pattern: str, damage: Callable[[Path], None]
) -> None:
    server, client = running.server, running.client
    logged = len(server.log)
    with running.damaged(name, pattern, damage) as path:
        with pytest.raises(MilvusException) as caught:
            client.load_collection(name, timeout=10)
        assert path.name in caught.value.message, f"the message does not name the file: {caught.value.message}"
        assert str(path) in server.log[logged:], "the log does not say which file"
        assert client.get_load_state(name)["state"].name == "NotLoad"
        health = server.stub.CheckHealth(milvus_pb2.CheckHealthRequest())
        assert not health.isHealthy
        assert any(path.name in reason for reason in health.reasons), health.reasons
        with pytest.raises(MilvusException) as refused:
            client.query(name, filter="id >= 0")
        assert refused.value.code == 101
        check_serves(client, OTHER, 200)
        client.upsert(name, [row_of(10**6, "still writable")])


@pytest.mark.parametrize(
    "damage", [cut, remove, flip_footer, zero_start], ids=["cut", "remove", "flip_footer", "zero_start"]
)
def test_raw_vectors_beside_an_index_are_checked_for_size_footer_and_structure(
    running: Running, damage: Callable[[Path], None]
) -> None:
    with running.damaged(GRAPH, "101.col", damage) as path:
        with pytest.raises(MilvusException) as caught:
            running.client.load_collection(GRAPH, timeout=10)
        assert path.name in caught.value.message
        check_serves(running.client, OTHER, 200)


@pytest.mark.one_process("a head that starts before its nodes maps files, which reads no whole file")
def test_a_start_reports_each_collection_with_a_damaged_file_and_serves_the_others(
    new_server: NewServer, data_dir: Path
) -> None:
    paths = {SMALL: one_file(data_dir, SMALL, "rows.seg"), GRAPH: one_file(data_dir, GRAPH, "*.index")}
    flip_middle(paths[SMALL])
    remove(paths[GRAPH])
    server = new_server(data_dir=data_dir)
    client = MilvusClient(uri=server.uri)
    check_serves(client, OTHER, 200)
    for name, path in paths.items():
        until(lambda name=name: client.get_load_state(name)["state"].name == "NotLoad", "the load has failed")  # type: ignore[misc]
        assert str(path) in server.log
        with pytest.raises(MilvusException, match=path.name):
            client.load_collection(name, timeout=10)
    reasons = server.stub.CheckHealth(milvus_pb2.CheckHealthRequest()).reasons
    assert all(any(path.name in reason for reason in reasons) for path in paths.values()), reasons
    client.close()


@pytest.mark.parametrize(
    "damages",
    [{SMALL: flip_record, GRAPH: flip_header}, {SMALL: remove}],
    ids=["flipped bits", "no file"],
)
def test_a_collection_with_a_damaged_log_answers_with_the_files_name_and_others_are_served(
    new_server: NewServer, data_dir: Path, damages: dict[str, Callable[[Path], None]]
) -> None:
    """A collection's log always has a file; without it acknowledged rows are lost. The server writes nothing over the
    damage, so restoring the file restores the collection."""
    paths = {name: damaged_log(data_dir, name, damage) for name, damage in damages.items()}
    whole = {name: path.read_bytes() for name, path in paths.items()}
    for name, damage in damages.items():
        damage(paths[name])
    server = new_server(data_dir=data_dir)
    client = MilvusClient(uri=server.uri)
    check_serves(client, OTHER, 200)
    for name, path in paths.items():
        check_answers_with(client, name, shown(path))
        assert shown(path) in server.log
    client.close()
    server.stop()
    for name, path in paths.items():
        path.write_bytes(whole[name])
    server.start()
    client = MilvusClient(uri=server.uri)
    for name in damages:
        client.load_collection(name)
        expected = {SMALL: 300, GRAPH: GRAPH_ROWS}[name]
        assert client.query(name, filter="", output_fields=["count(*)"])[0]["count(*)"] == expected
    client.close()


def check_answers_with(client: MilvusClient, name: str, log: str) -> None:
    """Every call for the collection is refused with the damaged log's name."""
    calls: list[Callable[[], object]] = [
        lambda: client.insert(name, [row_of(10**6, "refused")]),
        lambda: client.delete(name, ids=[5]),
        lambda: client.flush(name),
        lambda: client.load_collection(name, timeout=10),
        lambda: client.get_collection_stats(name),
    ]
    for call in calls:
        with pytest.raises(MilvusException, match=log) as caught:
            call()
        assert caught.value.code == 1009
    with pytest.raises(MilvusException) as refused:
        client.query(name, filter="id >= 0")
    assert refused.value.code == 101


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)


def forget_builds(data_dir: Path, name: str) -> None:
    """Makes the catalog as before the collection's segments are indexed."""
    with sqlite3.connect(data_dir / "catalog.sqlite") as connection:
        connection.execute(
            "DELETE FROM segment_indexes WHERE segment_id IN (SELECT segment_id FROM segments WHERE collection_id = ?)",
            (collection_id(data_dir, name),),
        )
    connection.close()


@pytest.mark.local_catalog("it changes the file of the catalog")
def test_a_damaged_collection_is_reported_and_does_not_delay_others(new_server: NewServer, data_dir: Path) -> None:
    """Its index is missing, so every kind of background work looks at it."""
    path = log_files(data_dir, GRAPH)[-1]
    flip_header(path)
    log = shown(path)
    forget_builds(data_dir, GRAPH)
    server = new_server(data_dir=data_dir, env={"MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "1"})
    client = MilvusClient(uri=server.uri)

    def health() -> Any:
        return server.stub.CheckHealth(milvus_pb2.CheckHealthRequest())

    create(client, "new", "HNSW")
    for start in range(0, 3 * GRAPH_ROWS, GRAPH_ROWS):
        client.insert("new", [row_of(k, "new") for k in range(start, start + GRAPH_ROWS)])
        client.flush("new")
    until(lambda: len(client.list_persistent_segments("new")) == 1, "the segments of another collection are merged")
    until(lambda: client.describe_index("new", "vec")["indexed_rows"] == 3 * GRAPH_ROWS, "and indexed")

    client.insert("new", [row_of(k, "new") for k in range(10**6, 10**6 + 50)])
    refused = f"1 of 4 collections were not flushed: default.{GRAPH}: .*{log}"
    with pytest.raises(MilvusException, match=refused) as caught:
        client.flush_all()
    assert caught.value.code == 1009
    for name, count in (("new", 3 * GRAPH_ROWS + 50), (OTHER, 200)):
        stored = client.list_persistent_segments(name)
        assert sum(s.num_rows for s in stored) == count, "the others are not flushed"

    ids = [s.segment_id for s in client.list_persistent_segments(OTHER)]
    url = f"{server.uri}/v2/vectordb/segments/describe"
    found_segments = requests.post(url, json={"collectionID": 0, "segmentIDs": ids}, timeout=30).json()["data"]
    assert len(found_segments["segmentInfos"]) == len(ids), "segments of any collection"
    indexes = server.stub.DescribeIndex(milvus_pb2.DescribeIndexRequest(collection_name=GRAPH)).index_descriptions
    assert {index.state for index in indexes} == {common_pb2.IndexState.Failed}
    assert all(log in index.index_state_fail_reason for index in indexes)
    found = health()
    assert not found.isHealthy
    assert len(found.reasons) == 1 and GRAPH in found.reasons[0] and log in found.reasons[0]
    assert requests.get(f"{server.uri}/healthz", timeout=10).status_code == 200, "the others serve"
    metrics = requests.get(f"{server.uri}/metrics", timeout=10).text
    assert 'milvine_background_failing{work="recovery"} 1.0' in metrics
    assert 'milvine_background_alive{work="compaction"} 1.0' in metrics
    client.drop_collection(GRAPH)
    assert health().isHealthy
    client.close()


def test_a_collection_whose_log_is_gone_can_be_dropped(new_server: NewServer, data_dir: Path) -> None:
    log = log_files(data_dir, SMALL)[0].parent
    shutil.rmtree(log)
    segments = data_dir / "segments" / log.name
    client = MilvusClient(uri=new_server(data_dir=data_dir).uri)
    client.drop_collection(SMALL)
    assert not segments.exists()
    assert SMALL not in client.list_collections()
    create(client, SMALL, "FLAT")
    client.insert(SMALL, [row_of(1, "new")])
    assert client.query(SMALL, filter="id >= 0", output_fields=["id"]) == [{"id": 1}]
    client.close()


@pytest.mark.local_log("no object is there in part")
def test_a_torn_tail_of_the_log_is_dropped_and_the_server_continues(new_server: NewServer, data_dir: Path) -> None:
    path = log_files(data_dir, SMALL)[-1]
    whole = path.stat().st_size
    for turn, key in enumerate((2000, 3000)):
        server = new_server(data_dir=data_dir)
        client = MilvusClient(uri=server.uri)
        client.load_collection(SMALL)
        logged = [r["id"] for r in client.query(SMALL, filter="id >= 1000", output_fields=["id"])]
        assert logged == [*range(1000, 1100), *([2000] if turn else [])]
        client.insert(SMALL, [row_of(key, "kept")])
        client.insert(SMALL, [row_of(key + 1, "torn")])
        client.close()
        server.kill()
        last = log_files(data_dir, SMALL)[-1]
        last.write_bytes(last.read_bytes()[:-9])
    assert path.stat().st_size == whole, "log files are never cut"
    client = MilvusClient(uri=new_server(data_dir=data_dir).uri)
    client.load_collection(SMALL)
    assert [r["id"] for r in client.query(SMALL, filter="id >= 2000", output_fields=["id"])] == [2000, 3000]
    client.close()


@pytest.mark.local_catalog("it changes the file of the catalog")
def test_a_start_with_a_damaged_catalog_fails_and_names_it(new_server: NewServer, data_dir: Path) -> None:
    path = data_dir / "catalog.sqlite"
    empty_journal(path)
    cut(path)
    assert str(path) in ends_with_one_sentence(new_server(data_dir=data_dir, start=False))


@pytest.mark.local_catalog("it changes the file of the catalog")
@pytest.mark.parametrize("damage", ["no database", "flipped page"])
def test_a_catalog_that_is_no_database_and_one_with_damaged_pages_are_named(data_dir: Path, damage: str) -> None:
    path = data_dir / "catalog.sqlite"
    empty_journal(path)
    data = bytearray(path.read_bytes())
    if damage == "no database":
        data = bytearray(np.random.default_rng(1).bytes(8192))
    for page in range(1, len(data) // 4096):
        data[page * 4096] = 0xFF
    path.write_bytes(data)
    with pytest.raises(DataIntegrityError, match=str(path)):
        open_catalog(path)


def empty_journal(catalog: Path) -> None:
    """Writes all commits into the database's own file."""
    with closing(sqlite3.connect(catalog)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_a_start_removes_files_that_the_catalog_does_not_name_and_no_others(
    new_server: NewServer, data_dir: Path
) -> None:
    segments = data_dir / "segments"
    own = segments / str(collection_id(data_dir, SMALL))
    before = {p for p in data_dir.rglob("*") if p.suffix in (".col", ".seg", ".delta", ".index")}
    segment = one_file(data_dir, SMALL, "rows.seg").parent
    garbage = [segments / "12345" / "6" / "100.col", own / "99" / "rows.seg", own / "98.delta", segment / "777.index"]
    garbage.append(data_dir / "wal" / "12345" / "0000000001.wal")
    for path in garbage:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"garbage")
    new_server(data_dir=data_dir, env=AS_IT_LIES)
    assert not [path for path in garbage if path.exists()]
    assert not (segments / "12345").exists()
    assert {p for p in data_dir.rglob("*") if p.suffix in (".col", ".seg", ".delta", ".index")} == before
