"""`milvine export` and `milvine import`: rows as they are at one moment, in files that come back as the same rows."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from cli_calls import runner
from conftest import Server
from directory_check import findings
from import_files import DIM, all_types_rows, all_types_schema
from pymilvus import DataType, MilvusClient

from milvine.cli import imports, main
from milvine.service.exporting import exports
from milvine.storage.files import walk_files

ROWS = 300
FORMATS = ("parquet", "jsonl", "lance")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("imports")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, places: Path) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("source"), env={"MILVINE_IMPORT_PATH": str(places)})
    try:
        yield server.start()
        server.stop()
        assert findings(server.data_dir) == [], "an export leaves nothing behind"
    finally:
        server.close()


@pytest.fixture(scope="module")
def client(source: Server) -> Iterator[MilvusClient]:
    client = source.client()
    yield client
    client.close()


@pytest.fixture
def run(source: Server, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: object, code: int = 0) -> Any:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments), "--uri", source.uri, "--json"])
        out, err = capsys.readouterr()
        assert ended.value.code == code, err
        return err if code and not out else json.loads(out)

    return run


VECTORS = {
    "vector": ("FLAT", "L2"),
    "half": ("FLAT", "L2"),
    "brain": ("FLAT", "L2"),
    "bits": ("BIN_FLAT", "HAMMING"),
    "bytes": ("HNSW", "L2"),
    "sparse": ("SPARSE_INVERTED_INDEX", "IP"),
}


def make(client: MilvusClient, name: str, **more: Any) -> None:
    if client.has_collection(name):
        client.drop_collection(name)
    indexes = client.prepare_index_params()
    for field, (index_type, metric) in VECTORS.items():
        indexes.add_index(field, index_type=index_type, metric_type=metric)
    client.create_collection(name, schema=all_types_schema(), index_params=indexes, **more)


def stored(client: MilvusClient, name: str, expression: str = "id >= 0") -> list[dict[str, Any]]:
    client.load_collection(name)
    client.refresh_load(name)
    found = client.query(name, expression, output_fields=["*"], consistency_level="Strong")
    return sorted((json.loads(json.dumps(dict(row), default=_plain)) for row in found), key=lambda row: int(row["id"]))


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else np.asarray(value).tolist()


@pytest.fixture(scope="module")
def filled(client: MilvusClient, source: Server) -> str:
    """Rows of every type in two segments, some of them deleted, and some that are not flushed."""
    make(client, "all_types")
    rows = all_types_rows(ROWS)

    def insert(some: list[dict[str, Any]]) -> None:
        body: Any = {"collectionName": "all_types", "data": some}
        answer = requests.post(f"{source.uri}/v2/vectordb/entities/insert", json=body, timeout=60).json()
        assert answer["code"] == 0, answer

    insert(rows[:100])
    client.flush("all_types")
    insert(rows[100:250])
    client.delete("all_types", ids=[3, 120])
    client.flush("all_types")
    insert(rows[250:])
    return "all_types"


@pytest.mark.parametrize("ending", FORMATS)
def test_rows_of_all_types_come_back(
    client: MilvusClient, filled: str, run: Any, places: Path, tmp_path: Path, ending: str
) -> None:
    if ending == "lance":
        pytest.importorskip("lance")
    target = tmp_path / f"rows.{ending}"
    done = run("export", filled, target)
    assert done["rows"] == ROWS - 2
    make(client, "back")
    imported = run("import", "back", target, "--through", places)
    assert (imported["state"], imported["importedRows"]) == ("Completed", ROWS - 2)
    assert stored(client, "back") == stored(client, filled)
    assert [*walk_files(places)] == [], "what was copied for the import is removed"


@pytest.mark.parametrize("ending", FORMATS[:2])
def test_json_that_is_no_object_comes_back(
    client: MilvusClient, run: Any, places: Path, tmp_path: Path, ending: str
) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("document", DataType.JSON, nullable=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params("vector", index_type="FLAT", metric_type="L2")
    texts = ("[[]]", "[1, 2.0]", "1", "1.0", '"x"', '"1"', '"{}"', '""', "true", "{}", '{"a": "1"}', None)
    for name in ("documents", "documents_back"):
        if client.has_collection(name):
            client.drop_collection(name)
        client.create_collection(name, schema=schema, index_params=index)
    client.insert("documents", [{"id": i, "document": text, "vector": [i, 1]} for i, text in enumerate(texts)])
    target = tmp_path / f"documents.{ending}"
    run("export", "documents", target)
    run("import", "documents_back", target, "--through", places)
    before, back = ([row["document"] for row in stored(client, name)] for name in ("documents", "documents_back"))
    assert len(before) == len(texts)
    assert list(map(repr, back)) == list(map(repr, before))


def test_numpy_files_that_are_copied_keep_their_fields(
    client: MilvusClient, run: Any, places: Path, tmp_path: Path
) -> None:
    client.create_collection("arrays", dimension=2, metric_type="L2")
    np.save(tmp_path / "id.npy", np.arange(20))
    np.save(tmp_path / "vector.npy", np.ones((20, 2), np.float32))
    imported = run("import", "arrays", tmp_path / "id.npy", tmp_path / "vector.npy", "--through", places)
    assert (imported["state"], imported["importedRows"]) == ("Completed", 20)
    assert [row["id"] for row in stored(client, "arrays")] == [*range(20)]
    assert [*(places / "milvine-import").iterdir()] == [], "what was copied for the import is removed"


def test_copies_of_a_killed_import_go_with_one_a_day_later(
    client: MilvusClient, filled: str, source: Server, run: Any, places: Path, tmp_path: Path
) -> None:
    target = tmp_path / "rows.parquet"
    run("export", filled, target, "--filter", "id < 50")
    make(client, "after_kill")
    command = [sys.executable, "-m", "milvine", "import", "after_kill", str(target), "--through", str(places)]
    # Nobody answers the port, so the command waits with its copy there.
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        process = subprocess.Popen([*command, "--uri", f"http://127.0.0.1:{deaf.getsockname()[1]}"])
        while not (copies := [path for path in walk_files(places) if path.suffix == target.suffix]):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait(30)
    (copy,) = copies
    run("import", "after_kill", target, "--through", places)
    assert [*walk_files(places)] == [copy], "it may be in use"
    yesterday = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - 25 * 3600))
    old = copy.rename(copy.with_name(yesterday + copy.name[len(yesterday) :]))
    old.with_name(f"{old.name}.1.unfinished").touch()
    run("import", "after_kill", target, "--through", places)
    assert [*walk_files(places)] == []


def test_a_file_below_the_import_path_needs_no_copy(client: MilvusClient, filled: str, run: Any, places: Path) -> None:
    target = places / "direct.parquet"
    run("export", filled, target, "--filter", "id < 50")
    make(client, "direct")
    run("import", "direct", target)
    assert [row["id"] for row in stored(client, "direct")] == [i for i in range(50) if i != 3]
    target.unlink()


def test_filters_partitions_and_fields_choose_the_rows(client: MilvusClient, run: Any, tmp_path: Path) -> None:
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection("parts", schema=schema)
    for number, name in enumerate(("a", "b")):
        client.create_partition("parts", name)
        rows = [{"id": 100 * number + i, "vector": [i, 0, 0, 0], "color": "red"} for i in range(100)]
        client.insert("parts", rows, partition_name=name)
    target = tmp_path / "some.parquet"
    fields = ("--fields", "id,$meta")
    assert run("export", "parts", target, "--partitions", "b", "--filter", "id < 120", *fields)["rows"] == 20
    table = pq.read_table(target)
    assert table.column_names == ["id", "$meta"]
    assert sorted(table["id"].to_pylist()) == list(range(100, 120))
    assert json.loads(table["$meta"][0].as_py()) == {"color": "red"}


def test_automatic_keys_are_left_out_or_kept(client: MilvusClient, run: Any, places: Path, tmp_path: Path) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True, auto_id=True)
    schema.add_field("part", DataType.VARCHAR, max_length=8, is_partition_key=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params("vector", index_type="FLAT", metric_type="L2")
    for name in ("autos", "new_ids", "same_ids"):
        client.create_collection(name, schema=schema, index_params=index, num_partitions=4)
    client.insert("autos", [{"part": f"p{i % 5}", "vector": [i, 1]} for i in range(50)])
    client.alter_collection_properties("same_ids", {"allow_insert_auto_id": "true"})

    run("export", "autos", tmp_path / "no_ids.parquet", "--without", "id")
    run("import", "new_ids", tmp_path / "no_ids.parquet", "--through", places)
    run("export", "autos", tmp_path / "ids.parquet")
    run("import", "same_ids", tmp_path / "ids.parquet", "--through", places)

    rows = {name: stored(client, name) for name in ("autos", "new_ids", "same_ids")}
    assert rows["same_ids"] == rows["autos"]
    assert sorted(row["vector"] for row in rows["new_ids"]) == sorted(row["vector"] for row in rows["autos"])
    assert not {row["id"] for row in rows["new_ids"]} & {row["id"] for row in rows["autos"]}
    partitioned = client.query("same_ids", "part == 'p1'", output_fields=["id"])
    assert len(partitioned) == 10


def test_outputs_of_functions_are_made_again(client: MilvusClient, run: Any, places: Path, tmp_path: Path) -> None:
    from pymilvus import Function, FunctionType

    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("text", DataType.VARCHAR, max_length=64, enable_analyzer=True)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["sparse"]))
    index = client.prepare_index_params("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    for name in ("texts", "texts_back"):
        client.create_collection(name, schema=schema, index_params=index)
    client.insert("texts", [{"id": i, "text": f"word{i} sea"} for i in range(20)])
    assert run("export", "texts", tmp_path / "texts.jsonl")["fields"] == ["id", "text"]
    run("import", "texts_back", tmp_path / "texts.jsonl", "--through", places)
    client.refresh_load("texts_back")
    found = client.search("texts_back", ["word7"], limit=3, consistency_level="Strong")[0]
    assert [hit["id"] for hit in found] == [7]
    assert "not allowed to retrieve raw data" in run(
        "export", "texts", tmp_path / "no.parquet", "--fields", "id,sparse", code=1
    )


def test_all_pages_show_one_moment(
    client: MilvusClient, source: Server, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes, deletes, a compaction and a drop go on between the pages."""
    make_small(client, "moving", 3000)
    base = f"{source.uri}/milvine/v1/export/"
    held = requests.post(base + "begin", json={"collectionName": "moving"}, timeout=60).json()["data"]
    names = {"exportId": held["exportId"], "collectionId": held["collectionId"]}
    client.delete("moving", ids=list(range(1500)))
    client.insert("moving", [{"id": 10_000 + i, "vector": [0.0] * DIM} for i in range(500)])
    client.flush("moving")
    client.compact("moving")
    client.drop_collection("moving")
    answer = requests.post(base + "read", json=names, timeout=60)
    assert answer.headers["Content-Type"] == "application/vnd.apache.arrow.stream"
    table = pa.ipc.open_stream(answer.content).read_all()
    assert sorted(table["id"].to_pylist()) == list(range(3000))
    assert table.schema.metadata[b"segment"] == b"-1"
    assert requests.post(base + "end", json=names, timeout=60).json()["code"] == 0
    refused = requests.post(base + "read", json=names, timeout=60).json()
    assert (refused["code"], "there is no export" in refused["message"]) == (1100, True)
    assert requests.post(base + "end", json=names, timeout=60).json()["code"] == 0, "ending twice is no error"


def make_small(client: MilvusClient, name: str, count: int) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection(name, schema=schema)
    client.insert(name, [{"id": i, "vector": [float(i)] * DIM} for i in range(count)])


def test_pages_are_bounded_and_continue_where_the_last_one_ended(client: MilvusClient, source: Server) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("text", DataType.VARCHAR, max_length=65535)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    client.create_collection("wide", schema=schema)
    # Small rows first, so that an average over all rows would make the last pages far too large.
    sizes = [10] * 500 + [60_000] * 500
    for start in range(0, 1000, 250):
        part = range(start, start + 250)
        client.insert("wide", [{"id": i, "text": "x" * sizes[i], "vector": [i, 0]} for i in part])
    base = f"{source.uri}/milvine/v1/export/"
    held = requests.post(base + "begin", json={"collectionName": "wide"}, timeout=60).json()["data"]
    body = {"exportId": held["exportId"], "collectionId": held["collectionId"]}
    seen: list[int] = []
    place, pages = {"segment": 0, "row": 0}, 0
    while place["segment"] >= 0:
        content = requests.post(base + "read", json={**body, **place}, timeout=60).content
        assert len(content) < 2 * exports.PAGE_BYTES
        batch = pa.ipc.open_stream(content).read_next_batch()
        seen += batch.column("id").to_pylist()
        place = {key: int(batch.schema.metadata[key.encode()]) for key in ("segment", "row")}
        pages += 1
    assert sorted(seen) == list(range(1000))
    assert pages >= sum(sizes) // exports.PAGE_BYTES
    requests.post(base + "end", json=body, timeout=60)


def test_a_snapshot_is_exported_as_it_was(client: MilvusClient, run: Any, tmp_path: Path) -> None:
    make_small(client, "shot", 40)
    client.flush("shot")
    client.create_snapshot("monday", "shot")
    client.delete("shot", ids=list(range(40)))
    client.flush("shot")
    assert run("export", "shot", tmp_path / "now.parquet")["rows"] == 0
    assert pq.read_schema(tmp_path / "now.parquet").names == ["id", "vector"]
    assert run("export", "shot", tmp_path / "monday.parquet", "--snapshot", "monday")["rows"] == 40
    assert "snapshot not found" in run("export", "shot", tmp_path / "x.parquet", "--snapshot", "none", code=1)


def test_mistakes_are_told_in_one_sentence_and_leave_no_file(
    client: MilvusClient, filled: str, run: Any, tmp_path: Path, places: Path
) -> None:
    taken = tmp_path / "taken.parquet"
    taken.write_bytes(b"mine")
    assert "exists already" in run("export", filled, taken, code=1)
    assert taken.read_bytes() == b"mine"
    assert "which says the format" in run("export", filled, tmp_path / "x.txt", code=1)
    assert "is not a directory" in run("export", filled, tmp_path / "none" / "x.parquet", code=1)
    assert "not found" in run("export", "nothing", tmp_path / "x.parquet", code=1)
    assert "cannot parse expression" in run("export", filled, tmp_path / "x.parquet", "--filter", "id <", code=1)
    assert "field nope not exist" in run("export", filled, tmp_path / "x.parquet", "--fields", "nope", code=1)
    assert "has no such field" in run("export", filled, tmp_path / "x.parquet", "--without", "nope", code=1)
    assert "partition name nope not found" in run(
        "export", filled, tmp_path / "x.parquet", "--partitions", "nope", code=1
    )
    assert [p.name for p in tmp_path.iterdir()] == ["taken.parquet"]
    assert "not below" in run("import", filled, taken, code=1)
    failed = run("import", filled, taken, "--through", places, code=1)
    assert (failed["state"], "parquet" in failed["reason"]) == ("Failed", True)
    assert "milvine-import" not in failed["reason"], "which is the copy"
    assert [*walk_files(places)] == []
    assert "--through" in run("import", filled, "x.lance", code=1)
    assert "KEY=VALUE" in run("import", filled, taken, "--option", "sep", code=1)


def test_an_export_that_cannot_be_written_leaves_nothing(
    filled: str, run: Any, source: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_batch", full)
    assert "No space left on device" in run("export", filled, tmp_path / "x.parquet", code=1)
    assert list(tmp_path.iterdir()) == []


def test_an_export_into_a_read_only_directory_is_refused(
    filled: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    target = tmp_path / "x.parquet"
    assert f"cannot write {target}: Read-only file system" in run("export", filled, target, code=1)


def test_an_interrupted_import_leaves_no_rows(
    client: MilvusClient, filled: str, run: Any, source: Server, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = places / "interrupted.jsonl"
    run("export", filled, target)
    make(client, "interrupted")

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(imports, "time", SimpleNamespace(sleep=interrupt))
    with pytest.raises(SystemExit) as ended:
        main(["import", "interrupted", str(target), "--uri", source.uri])
    assert ended.value.code == 130
    body = {"collectionName": "interrupted"}
    listed = requests.post(f"{source.uri}/v2/vectordb/jobs/import/list", json=body, timeout=30).json()["data"][
        "records"
    ]
    assert [job["state"] for job in listed] == ["Failed"]
    assert stored(client, "interrupted") == []


def test_an_import_whose_command_dies_leaves_no_rows(
    client: MilvusClient, filled: str, run: Any, source: Server, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = places / "dying.jsonl"
    run("export", filled, target)
    make(client, "dying")

    def die(_: float) -> None:
        raise SystemExit(9)

    with monkeypatch.context() as patched:
        patched.setattr(imports, "time", SimpleNamespace(sleep=die))
        patched.setattr(imports, "_COMMIT_TIME", "1s")
        with pytest.raises(SystemExit):
            main(["import", "dying", str(target), "--uri", source.uri])
    ends_at, states = time.monotonic() + 60, ["Uncommitted"]
    while states != ["Failed"]:
        assert time.monotonic() < ends_at, states
        body = {"collectionName": "dying"}
        answer = requests.post(f"{source.uri}/v2/vectordb/jobs/import/list", json=body, timeout=30).json()
        states = [job["state"] for job in answer["data"]["records"]]
        time.sleep(0.1)
    assert stored(client, "dying") == []
    assert run("import", "--partition", "_default", "dying", "--option", "auto_commit=true", target)["importedRows"]


def test_a_job_that_does_not_commit_itself_waits(
    client: MilvusClient,
    filled: str,
    run: Any,
    source: Server,
    places: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = places / "waiting.jsonl"
    run("export", filled, target)
    make(client, "waiting")
    check = runner(capsys)
    rows = check("check", source.uri)["rows"]
    waiting = run("import", "waiting", target, "--option", "auto_commit=false")
    assert waiting["state"] == "Uncommitted"
    assert check("check", source.uri)["rows"] == rows, "which counts what a search can find"
    (job,) = run("jobs", "waiting")
    assert (job["job"], job["kind"], job["state"]) == (waiting["jobId"], "import", "Uncommitted")
    (job,) = run("jobs", "--abort", job["job"], "waiting")
    assert (job["state"], job["reason"]) == ("Failed", "aborted by user")
    assert run("import", "waiting", target, "--option", "auto_commit=true")["importedRows"] == ROWS - 2
    assert len(stored(client, "waiting")) == ROWS - 2
    target.unlink()


def test_of_two_exports_to_one_file_one_is_whole_and_the_other_is_refused(
    filled: str, run: Any, source: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "rows.parquet"
    write_batch = pq.ParquetWriter.write_batch

    def write_after_the_other(writer: pq.ParquetWriter, batch: pa.RecordBatch) -> None:
        if not target.exists():
            other = [sys.executable, "-m", "milvine", "export", filled, str(target), "--uri", source.uri]
            subprocess.run([*other, "--filter", "id < 50"], check=True, timeout=60)
        write_batch(writer, batch)

    monkeypatch.setattr(pq.ParquetWriter, "write_batch", write_after_the_other)
    assert "exists already" in run("export", filled, target, code=1)
    assert pq.read_table(target).num_rows == 49
    assert list(tmp_path.iterdir()) == [target]


def test_exports_go_on_while_rows_are_written(client: MilvusClient, run: Any, tmp_path: Path) -> None:
    make_small(client, "busy", 1000)
    stop = threading.Event()

    def write() -> None:
        number = 10_000
        while not stop.is_set():
            client.insert("busy", [{"id": number + i, "vector": [1.0] * DIM} for i in range(100)])
            client.delete("busy", ids=list(range(number, number + 50)))
            number += 100

    writer = threading.Thread(target=write)
    writer.start()
    try:
        counts = [run("export", "busy", tmp_path / f"{i}.jsonl")["rows"] for i in range(3)]
    finally:
        stop.set()
        writer.join()
    assert counts == sorted(counts) and counts[0] >= 1000
    for i in range(3):
        ids = [json.loads(line)["id"] for line in (tmp_path / f"{i}.jsonl").read_text().splitlines()]
        assert len(ids) == len(set(ids)) == counts[i]
        assert set(range(1000)) <= set(ids)
