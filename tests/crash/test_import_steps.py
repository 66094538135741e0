"""kill -9 at the steps of an import: all of its rows are there or none, and the job ends."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from directory_check import damages
from pymilvus import DataType, MilvusClient

sys.path.append(str(Path(__file__).parents[1] / "compat"))
from import_files import Jobs
from load_calls import gate, ours
from test_child_failures import child_of, until

NAME = "imported"
ROWS = 3000
WAIT_SECONDS = 60.0


def create(client: MilvusClient) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    indexes = client.prepare_index_params()
    indexes.add_index("vector", index_type="HNSW", metric_type="L2", params={"M": 4, "efConstruction": 20})
    client.create_collection(NAME, schema=schema, index_params=indexes)
    client.insert(NAME, [{"id": -1, "vector": [0.0] * 4}])


def imported(client: MilvusClient) -> int:
    found = client.query(NAME, "id >= 0", output_fields=["count(*)"], consistency_level="Strong")
    return int(found[0]["count(*)"])


def write(directory: Path) -> dict[str, str]:
    directory.mkdir()
    rows = [{"id": i, "vector": [i, 1, 2, 3]} for i in range(ROWS)]
    (directory / "rows.json").write_text(json.dumps(rows))
    return {"MILVINE_IMPORT_PATH": str(directory)}


def check_files(data_dir: Path) -> None:
    assert damages(data_dir) == []


@pytest.mark.parametrize(
    "point",
    [
        "import.committed",
        *(
            pytest.param(point, marks=pytest.mark.nightly)
            for point in ("import.files_written", "import.stamped", "import.published")
        ),
    ],
)
def test_a_job_goes_on_after_a_crash_at(new_server: Callable[..., Any], tmp_path: Path, point: str) -> None:
    env = write(tmp_path / "files")
    server = new_server(env={**env, "MILVINE_CRASH_AT": point})
    client = server.client()
    create(client)
    job_id = Jobs(server).create(NAME, [["rows.json"]])
    assert server.process.wait(WAIT_SECONDS) == -signal.SIGKILL
    client.close()
    check_files(server.data_dir)
    again = new_server(data_dir=server.data_dir, env=env)
    client = again.client()
    client.load_collection(NAME)
    if point in ("import.committed", "import.published"):
        assert imported(client) == ROWS
    assert Jobs(again).wait(job_id)["state"] == "Completed"
    assert imported(client) == ROWS
    segments = list((again.data_dir / "segments" / str(client.describe_collection(NAME)["collection_id"])).iterdir())
    assert len(segments) == len(client.list_persistent_segments(NAME)), "garbage goes at start"
    client.close()


def test_rows_of_two_phases_survive_a_crash(new_server: Callable[..., Any], tmp_path: Path) -> None:
    env = write(tmp_path / "files")
    server = new_server(env=env)
    client = server.client()
    create(client)
    kept, dropped = (Jobs(server).create(NAME, [["rows.json"]], options={"auto_commit": "false"}) for _ in range(2))
    assert Jobs(server).wait(dropped, "Uncommitted")["state"] == "Uncommitted"
    client.close()
    server.kill()
    check_files(server.data_dir)
    again = new_server(data_dir=server.data_dir, env=env)
    client = again.client()
    client.load_collection(NAME)
    jobs = Jobs(again)
    assert imported(client) == 0
    assert jobs.call("abort", jobId=dropped)["code"] == 0
    assert jobs.call("commit", jobId=kept)["code"] == 0
    assert imported(client) == ROWS
    assert client.search(NAME, [[77.0, 1, 2, 3]], limit=1)[0][0]["id"] == 77
    client.close()
    again.kill()
    check_files(server.data_dir)


@pytest.mark.nightly
def test_a_child_that_always_crashes_ends_the_job(new_server: Callable[..., Any], tmp_path: Path) -> None:
    server = new_server(env={**write(tmp_path / "files"), "MILVINE_CRASH_AT": "import.child_done"})
    client = server.client()
    create(client)
    found = Jobs(server).run(NAME, [["rows.json"]])
    assert found["state"] == "Failed"
    assert "ended with -9" in found["reason"]
    assert imported(client) == 0
    client.close()
    assert not list((server.data_dir / "segments").glob("*/*"))


def test_a_build_of_an_import_is_shown_and_repeated_if_its_child_is_killed(
    new_server: Callable[..., Any], tmp_path: Path
) -> None:
    with gate(tmp_path, "build.index_written") as held:
        server = new_server(env={**write(tmp_path / "files"), **held.environment})
        client = server.client()
        create(client)
        jobs = Jobs(server)
        job_id = jobs.create(NAME, [["rows.json"]])

        def shown() -> Any:
            found = [one for one in ours(server, "work")["data"]["builds"] if one["indexedRows"]]
            return found and found[0]

        build = until(shown, "rows of the build")
        assert (build["jobId"], build["collectionName"], build["indexName"]) == (job_id, NAME, "vector")
        assert (build["totalRows"], build["indexedRows"], build["isRunning"]) == (ROWS, ROWS - 1, True)
        assert (jobs.describe(job_id)["state"], jobs.describe(job_id)["progress"]) == ("Importing", 97)
        child = child_of(server.pid)
        assert child is not None
        os.kill(child, signal.SIGKILL)
        until(lambda: not shown(), "the end of the build")
        until(shown, "another build")
        held.let_through()
        assert jobs.wait(job_id)["state"] == "Completed"
        assert ours(server, "work")["data"]["builds"] == []
        assert imported(client) == ROWS
        client.close()
