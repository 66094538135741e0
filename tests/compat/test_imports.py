"""Import jobs: files of all kinds, by REST and gRPC."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Server
from import_files import DIM, Jobs, all_types_rows, all_types_schema, make, stored, write_parquet
from pymilvus import DataType, Function, FunctionType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2

from milvine.model.timestamps import from_physical_ms

_MOMENT = from_physical_ms(1_700_000_000_000)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that imports may read."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def importer(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("importer"), env={"MILVINE_IMPORT_PATH": str(files)})
    try:
        yield server.start()
        server.stop()
    finally:
        server.close()


@pytest.fixture
def jobs(importer: Server) -> Jobs:
    return Jobs(importer)


@pytest.fixture(scope="module")
def client(importer: Server) -> Iterator[MilvusClient]:
    client = importer.client()
    yield client
    client.close()


@pytest.fixture
def name(client: MilvusClient, request: pytest.FixtureRequest) -> Iterator[str]:
    name = "c" + "".join(c if c.isalnum() else "_" for c in request.node.name)
    yield name
    client.drop_collection(name)


def written(rows: list[dict[str, Any]], client: MilvusClient, name: str) -> list[dict[str, Any]]:
    """The rows as a query gives them after an insert."""
    copy = f"{name}_copy"
    make(client, copy, all_types_schema())
    given = []
    for row in rows:
        half = None if row["half"] is None else np.array(row["half"], np.float16)
        brain = (np.array(row["brain"], np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        sparse = {int(k): v for k, v in row["sparse"].items()}
        more = {"half": half, "brain": brain, "bits": bytes(row["bits"]), "sparse": sparse}
        given.append({**row, **more, "bytes": np.array(row["bytes"], np.int8)})
    client.insert(copy, given)
    found = stored(client, copy)
    client.drop_collection(copy)
    return found


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps({"rows": rows}, indent=2))


def write_list(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows))


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="|")
        writer.writerow([*(k for k in rows[0] if k != "extra"), "$meta"])
        for row in rows:
            cells = [
                "NIL" if v is None else v if isinstance(v, str) else json.dumps(v)
                for k, v in row.items()
                if k != "extra"
            ]
            writer.writerow([*cells, json.dumps({"extra": row["extra"]})])


def write_views(path: Path, rows: list[dict[str, Any]]) -> None:
    """The columns as other writers have them in memory: views, and dictionaries inside lists."""
    write_parquet(path, rows)
    table = pq.read_table(path)
    words = table["words"].combine_chunks()
    columns = {name: table[name] for name in table.column_names}
    columns |= {name: table[name].cast(pa.string_view()) for name in ("text", "json")}
    columns["vector"] = pa.array(table["vector"].to_pylist(), pa.list_view(pa.float32()))
    columns["words"] = pa.ListArray.from_arrays(words.offsets, words.values.cast(pa.string()).dictionary_encode())
    pq.write_table(pa.table(columns), path)


WRITERS: dict[str, Any] = {
    "rows.parquet": write_parquet,
    "views.parquet": write_views,
    "rows.json": write_json,
    "list.json": write_list,
    "lines.jsonl": write_lines,
    "cells.csv": write_csv,
}


@pytest.mark.parametrize("file_name", WRITERS)
def test_a_file_holds_what_an_insert_of_its_rows_holds(
    client: MilvusClient, jobs: Jobs, files: Path, name: str, file_name: str
) -> None:
    rows = all_types_rows(60)
    WRITERS[file_name](files / file_name, rows)
    make(client, name, all_types_schema())
    done = jobs.run(name, [[file_name]], options={"sep": "|", "nullkey": "NIL"})
    assert done["state"] == "Completed", done
    assert (done["progress"], done["importedRows"], done["totalRows"]) == (100, 60, 60)
    assert done["details"][0]["fileSize"] == (files / file_name).stat().st_size
    assert stored(client, name) == written(rows, client, name)
    hits = client.search(name, [[0.0] * DIM], anns_field="vector", limit=3, consistency_level="Strong")
    assert len(hits[0]) == 3


def test_files_of_numpy_hold_what_an_insert_holds(client: MilvusClient, jobs: Jobs, files: Path, name: str) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("text", DataType.VARCHAR, max_length=20)
    schema.add_field("json", DataType.JSON)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("half", DataType.FLOAT16_VECTOR, dim=DIM)
    schema.add_field("missing", DataType.INT32, nullable=True)
    make(client, name, schema)
    vectors = np.arange(40 * DIM, dtype=np.float64).reshape(40, DIM)
    directory = files / "arrays"
    directory.mkdir()
    np.save(directory / "id.npy", np.arange(40))
    np.save(directory / "text.npy", np.array([f"ü{i}" for i in range(40)]))
    np.save(directory / "json.npy", np.array([json.dumps({"a": i}) for i in range(40)]))
    np.save(directory / "vector.npy", vectors)
    np.save(directory / "half.npy", vectors.astype(np.float16).view(np.uint8))
    names = [f"arrays/{field}.npy" for field in ("id", "text", "json", "vector", "half")]
    assert jobs.run(name, [names])["state"] == "Completed"
    found = stored(client, name)
    assert [row["text"] for row in found] == [f"ü{i}" for i in range(40)]
    assert [row["json"] for row in found] == [{"a": i} for i in range(40)]
    assert all(row["missing"] is None for row in found)
    assert np.array_equal([row["vector"] for row in found], vectors.astype(np.float32))
    assert np.array_equal([np.frombuffer(row["half"][0], np.float16) for row in found], vectors.astype(np.float16))


def simple_schema(**more: Any) -> Any:
    schema = MilvusClient.create_schema(**more)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("group", DataType.VARCHAR, max_length=8, is_partition_key=bool(more.get("num_partitions")))
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    return schema


def simple_rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": i, "group": f"g{i % 3}", "vector": [i, 1.0]} for i in range(first, first + count)]


def counted(client: MilvusClient, name: str, condition: str = "") -> int:
    found = client.query(name, condition, output_fields=["count(*)"], consistency_level="Strong")
    return int(found[0]["count(*)"])


def test_rows_go_to_the_partitions_of_their_keys_and_get_ids(
    client: MilvusClient, jobs: Jobs, files: Path, name: str
) -> None:
    make(client, name, simple_schema(auto_id=True, num_partitions=4))
    rows = [{k: v for k, v in row.items() if k != "id"} for row in simple_rows(90)]
    write_lines(files / "keys.ndjson", rows[:40])
    write_list(files / "more.json", rows[40:])
    refused = jobs.call("create", collectionName=name, partitionName="_default_0", files=[["keys.ndjson"]])
    assert refused["code"] == 2100
    assert "not allow to set partition name for collection with partition key" in refused["message"]
    done = jobs.run(name, [["keys.ndjson"], ["more.json"]])
    assert [one["totalRows"] for one in done["details"]] == [40, 50]
    found = stored(client, name)
    assert len({row["id"] for row in found}) == 90
    assert counted(client, name, "group == 'g1'") == 30
    write_list(files / "keyed.json", simple_rows(3))
    failed = jobs.run(name, [["keyed.json"]])
    assert failed["reason"].startswith("the primary key 'id' is auto-generated, no need to provide")
    assert counted(client, name) == 90


def test_functions_make_their_fields(client: MilvusClient, jobs: Jobs, files: Path, name: str) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("text", DataType.VARCHAR, max_length=100, enable_analyzer=True)
    schema.add_field("terms", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_field("sketch", DataType.BINARY_VECTOR, dim=512)
    schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["terms"]))
    schema.add_function(Function("minhash", FunctionType.MINHASH, ["text"], ["sketch"]))
    indexes = client.prepare_index_params()
    indexes.add_index("terms", index_type="AUTOINDEX", metric_type="BM25")
    indexes.add_index("sketch", index_type="MINHASH_LSH", metric_type="MHJACCARD", params={"mh_lsh_band": 8})
    client.create_collection(name, schema=schema, index_params=indexes)
    write_list(files / "texts.json", [{"id": i, "text": f"the {w} fox"} for i, w in enumerate(("red", "grey"))])
    assert jobs.run(name, [["texts.json"]])["state"] == "Completed"
    assert [hit["id"] for hit in client.search(name, ["grey"], anns_field="terms", limit=2)[0]] == [1]
    write_list(files / "outputs.json", [{"id": 1, "text": "x", "terms": {"1": 1.0}}])
    reason = jobs.run(name, [["outputs.json"]])["reason"]
    assert reason.startswith("not allowed to provide data for BM25 function output field 'terms'")


def test_rows_of_two_phases_appear_with_the_commit(
    client: MilvusClient, importer: Server, jobs: Jobs, files: Path, name: str
) -> None:
    make(client, name, simple_schema())
    client.create_partition(name, "part")
    write_list(files / "phases.json", simple_rows(30))
    two = {"options": {"auto_commit": "false"}}
    kept = jobs.create(name, [["phases.json"]], partitionName="part", **two)
    dropped = jobs.create(name, [["phases.json"]], **two)
    for job_id in (kept, dropped):
        found = jobs.wait(job_id, "Uncommitted")
        assert (found["state"], found["progress"], found["importedRows"]) == ("Uncommitted", 99, 30)
    assert counted(client, name) == 0
    assert jobs.call("abort", jobId=dropped) == {"code": 0, "data": {}}
    client.delete(name, ids=[0])
    assert jobs.call("commit", jobId=kept) == {"code": 0, "data": {}}
    assert counted(client, name) == 30, "a delete before the commit is older than the rows"
    assert jobs.call("commit", jobId=kept)["code"] == 0
    assert jobs.call("abort", jobId=dropped)["code"] == 0
    client.delete(name, ids=[1])
    assert counted(client, name) == 29
    told = jobs.call("abort", jobId=kept)["message"]
    assert told == f"job {kept} is in terminal/committed state Completed, abort not allowed: importing data failed"
    told = jobs.call("commit", jobId=dropped)["message"]
    assert told == f"job {dropped} is in state Failed, expected Uncommitted: importing data failed"
    assert jobs.describe(dropped)["reason"] == "aborted by user"
    alone = jobs.create(name, [["phases.json"]])
    jobs.wait(alone)
    told = jobs.call("abort", jobId=alone)["message"]
    assert "terminal/committed state Completed" in told


def test_rows_that_nobody_commits_go_after_their_time(
    client: MilvusClient, importer: Server, jobs: Jobs, files: Path, name: str
) -> None:
    make(client, name, simple_schema())
    write_list(files / "forgotten.json", simple_rows(30))
    options = {"auto_commit": "false", "commit_within": "1s"}
    found = jobs.wait(jobs.create(name, [["forgotten.json"]], options=options), "no state before the end")
    assert (found["state"], found["reason"]) == ("Failed", "no commit within 1s")
    assert counted(client, name) == 0
    segments = importer.data_dir / "segments" / str(client.describe_collection(name)["collection_id"])
    assert [*segments.iterdir()] == []


def test_a_commit_and_an_abort_at_once_agree(client: MilvusClient, jobs: Jobs, files: Path, name: str) -> None:
    make(client, name, simple_schema())
    write_list(files / "both.json", simple_rows(20))
    expected = 0
    with ThreadPoolExecutor(4) as pool:
        for _ in range(6):
            job_id = jobs.create(name, [["both.json"]], options={"auto_commit": "false"})
            jobs.wait(job_id, "Uncommitted")
            routes = ["commit", "abort", "abort", "commit"]
            answers = list(pool.map(jobs.call_of, routes, [job_id] * len(routes)))
            is_kept = jobs.describe(job_id)["state"] == "Completed"
            expected += 20 if is_kept else 0
            for route, answer in zip(routes, answers, strict=True):
                assert (answer["code"] == 0) == ((route == "commit") == is_kept), answer
                refusals = {
                    "commit": f"job {job_id} is in state Failed, expected Uncommitted: importing data failed",
                    "abort": f"job {job_id} is in terminal/committed state Completed, abort not allowed: "
                    "importing data failed",
                }
                assert answer["code"] == 0 or (answer["code"], answer["message"]) == (2100, refusals[route])
            assert counted(client, name) == expected


def test_a_failed_job_that_is_aborted_keeps_its_reason(jobs: Jobs, plain: str) -> None:
    failed = jobs.run(plain, [["no_such.json"]], options={"auto_commit": "false"})
    assert jobs.call("abort", jobId=failed["jobId"])["code"] == 0
    assert jobs.describe(failed["jobId"])["reason"] == failed["reason"]


def test_jobs_of_all_databases_are_listed(client: MilvusClient, importer: Server, jobs: Jobs, files: Path) -> None:
    write_list(files / "databases.json", simple_rows(3))
    other = importer.client()
    other.create_database("other")
    other.use_database("other")
    made = {}
    for one, database in ((client, "default"), (other, "other")):
        make(one, "shared", simple_schema())
        made[database] = jobs.create("shared", [["databases.json"]], dbName=database)
        jobs.wait(made[database])
        found = jobs.call("list", collectionName="shared", dbName=database)["data"]["records"]
        assert [record["jobId"] for record in found] == [made[database]]
        assert counted(one, "shared") == 3
    for body in ({}, {"dbName": "other"}):
        every = {record["jobId"] for record in jobs.call("list", **body)["data"]["records"]}
        assert every >= set(made.values())
    assert jobs.call("list", collectionName="shared", dbName="none")["code"] == 800
    for one in (client, other):
        one.drop_collection("shared")
    other.drop_database("other")


def test_jobs_are_listed_and_described_by_grpc(
    client: MilvusClient, importer: Server, jobs: Jobs, files: Path, name: str
) -> None:
    make(client, name, simple_schema())
    write_lines(files / "grpc.jsonl", simple_rows(20))
    request = milvus_pb2.ImportRequest(collection_name=name, files=["grpc.jsonl"])
    answer = importer.stub.Import(request)
    assert answer.status.code == 0
    (task,) = answer.tasks
    jobs.wait(str(task))
    state = importer.stub.GetImportState(milvus_pb2.GetImportStateRequest(task=task))
    assert (state.state, state.row_count) == (6, 20)
    assert {i.key: i.value for i in state.infos} == {"failed_reason": "", "progress_percent": "100"}
    tasks = importer.stub.ListImportTasks(milvus_pb2.ListImportTasksRequest(collection_name=name)).tasks
    assert [one.state for one in tasks] == [6]
    records = jobs.call("list", collectionName=name)["data"]["records"]
    assert records == [{"jobId": str(task), "collectionName": name, "state": "Completed", "progress": 100}]
    unknown = importer.stub.GetImportState(milvus_pb2.GetImportStateRequest(task=7)).status
    assert (unknown.code, unknown.reason) == (
        2101,
        "import job does not exist, jobID=7: importing data failed on server side",
    )


@pytest.fixture(scope="module")
def plain(client: MilvusClient) -> str:
    make(client, "plain", simple_schema())
    return "plain"


def test_bad_files_are_refused_with_their_row_and_leave_nothing(
    client: MilvusClient, importer: Server, jobs: Jobs, files: Path, plain: str
) -> None:
    write_list(files / "good.json", simple_rows(5))
    write_list(files / "bad.json", [*simple_rows(5), {"id": 5, "group": "g", "vector": [1.0]}])
    found = jobs.run(plain, [["good.json"], ["bad.json"]])
    assert (found["state"], found["progress"], found["importedRows"]) == ("Failed", 0, 0)
    assert found["reason"] == (
        "expected dim '2' for field 'vector' with type 'FloatVector', got dim '1', row number: 5, "
        "file: bad.json: importing data failed"
    )
    assert counted(client, plain) == 0
    directory = importer.data_dir / "segments" / str(client.describe_collection(plain)["collection_id"])
    assert not directory.exists() or list(directory.iterdir()) == []


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        ([["../secret.json"]], "must not have .."),
        ([["/etc/passwd.json"]], "is not below a directory or URI of the setting import.path"),
        ([["s3://bucket/a.json"]], "is not below a directory or URI of the setting import.path"),
        ([["http://127.0.0.1:1/a.json"]], "is not below a directory or URI of the setting import.path"),
        ([["a.txt"]], "unexpected file type, files=[a.txt]"),
        ([["a.json", "b.json"]], "for JSON import, accepts only one file"),
        ([["a.json", "b.csv"]], "inconsistency in file types, (a.json) vs (b.csv)"),
        ([[]], "import request is empty"),
        ([["a.json"]] * 1025, "The max number of import files should not exceed 1024, but got 1025"),
    ],
)
def test_paths_are_checked_when_a_job_is_made(jobs: Jobs, plain: str, groups: list[list[str]], text: str) -> None:
    answer = jobs.call("create", collectionName=plain, files=groups)
    assert answer["code"] in (1100, 2100)
    assert text in answer["message"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"auto_commit": "maybe"}, 'options.auto_commit must be one of "true" or "false"'),
        ({"timeout": "soon"}, 'parse timeout failed: time: invalid duration "soon"'),
        ({"sep": '"'}, 'unsupported csv separator: "'),
        ({"backup": "true"}, "partition not specified: missing parameter"),
        ({"l0_import": "true"}, "for l0 import, collection cannot be loaded, please release it first"),
        ({"ezk": "x"}, "is not supported by this version of Milvine"),
        ({"end_ts": "5"}, "is not supported by this version of Milvine"),
    ],
)
def test_options_are_checked_when_a_job_is_made(jobs: Jobs, plain: str, options: dict[str, str], text: str) -> None:
    answer = jobs.call("create", collectionName=plain, files=[["a.json"]], options=options)
    assert answer["code"] != 0
    assert text in answer["message"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "is not supported by this version of Milvine"),
        ({"storage_version": "2"}, "is not supported by this version of Milvine"),
        ({"storage_version": "x"}, 'parse storage_version failed, value=x, err=strconv.ParseInt: parsing "x": invalid'),
        ({"startTs": "x"}, 'parse startTs failed, value=x, err=strconv.ParseUint: parsing "x": invalid syntax'),
        ({"end_ts": "-1"}, 'parse end_ts failed, value=-1, err=strconv.ParseUint: parsing "-1": invalid syntax'),
        ({"start_ts": "6"}, "start_ts is not a valid hybrid timestamp, value=6"),
        (
            {"start_ts": f"{_MOMENT + 1}", "endTs": f"{_MOMENT}"},
            f"start_ts shouldn't be larger than end_ts, start_ts:{_MOMENT + 1}, end_ts:{_MOMENT}",
        ),
    ],
)
def test_binlogs_are_refused_after_their_options(jobs: Jobs, plain: str, options: dict[str, str], text: str) -> None:
    asked = {"partitionName": "_default", "options": {"backup": "true", **options}}
    answer = jobs.call("create", collectionName=plain, files=[["some/prefix"]], **asked)
    assert answer["code"] != 0
    assert text in answer["message"]


def test_links_lead_nowhere_outside(jobs: Jobs, files: Path, plain: str) -> None:
    write_list(files.parent / "secret.json", simple_rows(1))
    (files / "link.json").symlink_to(files.parent / "secret.json")
    (files / "loop.json").symlink_to(files / "loop.json")
    for file_name in ("link.json", "loop.json"):
        reason = jobs.run(plain, [[file_name]])["reason"]
        assert reason.startswith(f"failed to read the file '{file_name}', error: ")
        assert "secret" not in reason


def test_a_file_that_unpacks_to_more_than_the_memory_is_refused(
    client: MilvusClient, jobs: Jobs, files: Path, plain: str
) -> None:
    """A page of more than a gigabyte in a file of a few kilobytes."""
    huge = pa.array(["a" * (1 << 20)]).take(pa.array(np.zeros(1100, np.int64)))
    table = pa.table({"id": range(1100), "group": huge, "vector": [[1.0, 2.0]] * 1100})
    pq.write_table(table, files / "bomb.parquet", compression="zstd", use_dictionary=False, data_page_size=1 << 31)
    assert (files / "bomb.parquet").stat().st_size < 1 << 20
    found = jobs.run(plain, [["bomb.parquet"]])
    assert found["state"] == "Failed"
    assert "needs more memory than import.memory allows" in found["reason"] or "exceeds max_length" in found["reason"]
    assert counted(client, plain) == 0


def test_a_job_ends_with_its_collection_or_its_time(client: MilvusClient, jobs: Jobs, files: Path, name: str) -> None:
    make(client, name, simple_schema())
    write_list(files / "gone.json", simple_rows(10))
    job_id = jobs.create(name, [["gone.json"]], options={"auto_commit": "false"})
    jobs.wait(job_id, "Uncommitted")
    late = jobs.run(name, [["gone.json"]], options={"timeout": "1ms"})
    assert late["reason"].startswith("import timeout expired")
    client.drop_collection(name)
    assert "dropped" in jobs.call("commit", jobId=job_id)["message"]
    assert jobs.describe(job_id)["state"] == "Failed"


def test_many_jobs_of_one_collection_do_not_delay_those_of_another(
    client: MilvusClient, jobs: Jobs, files: Path, name: str
) -> None:
    write_parquet(files / "turns.parquet", all_types_rows(5))
    other = f"{name}_other"
    for one in (name, other):
        make(client, one, all_types_schema())
    many = [jobs.create(name, [["turns.parquet"]]) for _ in range(8)]
    assert jobs.wait(jobs.create(other, [["turns.parquet"]]))["state"] == "Completed"
    states = [jobs.describe(job)["state"] for job in many]
    assert states.count("Completed") < 5, states
    assert {jobs.wait(job)["state"] for job in many} == {"Completed"}
    client.drop_collection(other)
