"""Segment files in an object store: the data directory is a cache that may be empty, damaged or too small."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from conftest import Server, ServerFactory, free_port
from object_servers import BUCKET, ObjectServer
from pymilvus import MilvusClient, MilvusException
from stored_rows import NAME, ROWS, WAIT_SECONDS, answers, check, eventually, fill, local_files, metric, rows

from milvine.storage.files import walk_files


@pytest.fixture(scope="module")
def stored(objects: ObjectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server over the object store, with a loaded collection of one indexed segment and one delta file."""
    server = Server(
        tmp_path_factory.mktemp("stored"),
        env={
            **objects.environment("shared"),
            "MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "1000",
            "MILVINE_SNAPSHOT_PATH": objects.uri("snapshots"),
        },
        metrics_port=free_port(),
    ).start()
    client = server.client()
    fill(client)
    client.close()
    yield server
    server.close()


def test_each_sealed_file_is_an_object_of_the_same_name_and_size(stored: Server, objects: ObjectServer) -> None:
    assert objects.sizes("shared") == local_files(stored)
    assert {Path(name).suffix for name in local_files(stored)} == {".seg", ".col", ".index", ".delta"}


def test_a_loaded_collection_gives_the_same_answers_without_its_cache(stored: Server) -> None:
    client = stored.client()
    before, files = answers(client), local_files(stored)
    client.close()
    stored.stop()
    shutil.rmtree(stored.data_dir / "segments")
    stored.start()
    client = stored.client()
    assert answers(client) == before
    assert local_files(stored) == files, "the cache holds the same files again"
    assert metric(stored, "milvine_store_downloaded_bytes_total") == sum(files.values())
    client.close()


@pytest.mark.one_process("it looks at the files that one process has fetched")
def test_damaged_and_missing_copies_are_fetched_again(stored: Server) -> None:
    client = stored.client()
    before, files = answers(client), local_files(stored)
    client.release_collection(NAME)
    damaged, missing = (next(name for name in files if name.endswith(suffix)) for suffix in (".seg", ".delta"))
    content = bytearray((stored.data_dir / damaged).read_bytes())
    content[len(content) // 2] ^= 1
    (stored.data_dir / damaged).write_bytes(content)
    (stored.data_dir / missing).unlink()
    client.load_collection(NAME)
    assert answers(client) == before
    assert (stored.data_dir / damaged).read_bytes() != content
    assert local_files(stored) == files
    client.close()


@pytest.mark.one_process("it looks at the files that one process has fetched")
def test_objects_that_no_collection_needs_go_after_the_wait(stored: Server, objects: ObjectServer) -> None:
    client = stored.client()
    name = "short_lived"
    fill(client, name)
    client.insert(name, rows(ROWS, 2 * ROWS))
    client.flush(name)
    client.load_collection(name)
    sources = objects.sizes("shared").keys() - local_files(stored).keys()
    assert sources == set()
    job = client.compact(name)
    eventually(lambda: client.get_compaction_state(job) == "Completed")
    eventually(lambda: objects.sizes("shared") == local_files(stored))
    assert client.query(name, filter="", output_fields=["count(*)"])[0]["count(*)"] == 2 * ROWS - 10
    client.drop_collection(name)
    eventually(lambda: objects.sizes("shared") == local_files(stored))
    assert client.query(NAME, filter="", output_fields=["count(*)"])[0]["count(*)"] == ROWS - 10
    client.close()


def test_snapshots_keep_objects_and_are_restored_inside_the_store(stored: Server, objects: ObjectServer) -> None:
    client = stored.client()
    name = "photographed"
    fill(client, name)
    before = answers(client, name)
    client.create_snapshot("s", name)
    kept = objects.sizes("shared")
    client.truncate_collection(name)
    client.release_collection(name)
    own = f"segments/{client.describe_collection(name)['collection_id']}/"
    for path in walk_files(stored.data_dir / own):
        path.unlink()
    client.restore_snapshot("s", name, "developed")
    eventually(lambda: client.has_collection("developed"))
    assert objects.sizes("shared").items() >= kept.items(), "the snapshot keeps its objects"
    client.load_collection("developed")
    assert answers(client, "developed") == before, "also from objects without local copies"
    client.drop_snapshot("s", name)
    eventually(lambda: not any(found.startswith(own) for found in objects.sizes("shared")))
    assert answers(client, "developed") == before
    for one in (name, "developed"):
        client.drop_collection(one)
    eventually(lambda: objects.sizes("shared") == local_files(stored))
    client.close()


Milvine = Callable[..., Any]


@pytest.fixture
def milvine(objects: ObjectServer, tmp_path: Path) -> Milvine:
    """Runs a command over the object store and returns its JSON."""
    env = {**os.environ, **objects.environment("shared")}

    def run(*arguments: str) -> Any:
        at = [f"--endpoint={env['MILVINE_STORE_ENDPOINT']}", f"--region={env['MILVINE_STORE_REGION']}"]
        command = [sys.executable, "-m", "milvine", *arguments, "--json", *at]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_backup_fetches_what_is_not_local_and_may_be_in_a_store_itself(
    stored: Server, objects: ObjectServer, milvine: Milvine, tmp_path: Path
) -> None:
    place = objects.uri("backups")
    client = stored.client()
    client.release_collection(NAME)
    for path in walk_files(stored.data_dir / "segments"):
        path.unlink()
    made = milvine("backup", place, f"--uri={stored.uri}")
    assert made["newFiles"] == made["files"] > 0
    assert milvine("backup", place, f"--uri={stored.uri}")["newFiles"] == 0
    assert milvine("restore", place, str(tmp_path / "back"))["isWhole"]
    client.load_collection(NAME)
    client.close()


@pytest.mark.nightly
def test_an_encrypted_backup_may_be_in_a_store(
    stored: Server, objects: ObjectServer, milvine: Milvine, tmp_path: Path
) -> None:
    place, key = objects.uri("secret"), tmp_path / "key"
    key.write_text("a long enough secret")
    secret = f"--key-file={key}"
    made = milvine("backup", place, f"--uri={stored.uri}", secret)
    assert made["newFiles"] == made["files"] > 0
    assert milvine("backup", place, f"--uri={stored.uri}", secret, "--verify")["newFiles"] == 0
    assert milvine("restore", place, str(tmp_path / "back"), secret)["isWhole"]


def test_rows_are_exported_to_a_store(stored: Server, objects: ObjectServer, milvine: Milvine) -> None:
    counts = {}
    for ending in ("parquet", "jsonl"):
        target = objects.uri(f"out/rows.{ending}")
        counts[ending] = milvine("export", NAME, target, f"--uri={stored.uri}")["rows"]
    found = objects.s3.get_object(Bucket=BUCKET, Key="out/rows.parquet")["Body"].read()
    assert pq.read_table(pa.BufferReader(found)).num_rows == counts["parquet"] > 0
    lines = objects.s3.get_object(Bucket=BUCKET, Key="out/rows.jsonl")["Body"].read().splitlines()
    assert len(lines) == counts["jsonl"] == counts["parquet"]


def test_a_snapshot_is_exported_to_a_store_and_restored_from_there(stored: Server, objects: ObjectServer) -> None:
    client = stored.client()
    client.load_collection(NAME)
    before = answers(client, NAME)
    client.create_snapshot("out", NAME)

    def post(route: str, **body: Any) -> Any:
        answer = requests.post(f"{stored.uri}/v2/vectordb/jobs/snapshot/{route}", json=body, timeout=60).json()
        assert answer["code"] == 0, answer
        return answer["data"]

    client.release_collection(NAME)
    for path in walk_files(stored.data_dir / "segments"):
        path.unlink()
    uri = post("export", collectionName=NAME, snapshotName="out", targetS3Path=objects.uri("snapshots/a"))
    job = post("restore_external", targetCollectionName="from_out", snapshotMetadataURI=uri["snapshotMetadataURI"])[
        "jobId"
    ]
    eventually(lambda: post("describe", jobId=str(job))["progress"] == 100)
    for name in ("from_out", NAME):
        client.load_collection(name)
        assert answers(client, name) == before
    client.drop_collection("from_out")
    client.drop_snapshot("out", NAME)
    client.close()


def test_file_resources_come_from_the_store(stored: Server, objects: ObjectServer) -> None:
    for name, content in (("words/stop.txt", b"the\n"), ("empty.txt", b""), ("large.txt", b"x" * (9 << 20))):
        objects.s3.put_object(Bucket=BUCKET, Key=f"shared/{name}", Body=content)
    client = stored.client()
    client.add_file_resource("empty", "empty.txt")
    client.add_file_resource("stop", "words/stop.txt")
    objects.s3.delete_object(Bucket=BUCKET, Key="shared/words/stop.txt")
    words = {"type": "remote", "resource_name": "stop", "file_name": "stop.txt"}
    params = {"tokenizer": "standard", "filter": [{"type": "stop", "stop_words_file": words}]}
    assert list(client.run_analyzer("the fox", params).tokens) == ["fox"]
    own = next(iter(objects.sizes("shared")))
    for path, reason in ((own, "path not exist"), ("none.txt", "path not exist"), ("large.txt", "more than 8912896")):
        with pytest.raises(MilvusException, match=reason):
            client.add_file_resource("x", path)
    for name in ("empty", "stop"):
        client.remove_file_resource(name)
    client.close()


@pytest.mark.cluster
def test_a_store_serves_one_directory_and_a_directory_one_store(
    stored: Server, objects: ObjectServer, new_server: ServerFactory
) -> None:
    stored.stop()
    whole = check(stored, objects.environment("shared"))
    assert whole.returncode == 0, whole.stdout + whole.stderr
    named = next(name for name in objects.sizes("shared") if name.endswith(".col"))
    (stored.data_dir / named).unlink()
    objects.s3.copy_object(Bucket="segments", CopySource=f"segments/shared/{named}", Key=f"shared/{named}.kept")
    objects.s3.delete_object(Bucket="segments", Key=f"shared/{named}")
    lacking = check(stored, objects.environment("shared"))
    assert lacking.returncode == 1 and f"{objects.uri('shared')}/{named} is missing" in lacking.stdout
    objects.s3.copy_object(Bucket="segments", CopySource=f"segments/shared/{named}.kept", Key=f"shared/{named}")
    objects.s3.delete_object(Bucket="segments", Key=f"shared/{named}.kept")
    other = new_server(env=objects.environment("shared"), start=False)
    other.spawn()
    assert other.process.wait(WAIT_SECONDS) == 1
    assert f"{objects.uri('shared')} belongs to another data directory" in other.log
    stored.start()
    client = stored.client()
    assert client.query(NAME, filter="", output_fields=["count(*)"])[0]["count(*)"] == ROWS - 10
    client.close()


@pytest.mark.cluster
def test_a_store_that_was_never_reached_refuses_the_start(objects: ObjectServer, new_server: ServerFactory) -> None:
    env = {**objects.environment("other"), "MILVINE_STORE_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    server = new_server(env=env, start=False)
    server.spawn()
    assert server.process.wait(WAIT_SECONDS) == 1
    assert f"cannot read from {objects.uri('other')}" in server.log
    assert "Traceback" not in server.log


def crash(server: Server, client: MilvusClient, work: Callable[[], object]) -> None:
    with contextlib.suppress(MilvusException):
        work()
    assert server.process.wait(WAIT_SECONDS) == -9, "the server never passed the point"
    client.close()


@pytest.mark.cluster
@pytest.mark.parametrize("point", ["store.uploaded", "store.fetched", "store.swept"])
def test_a_crash_loses_nothing_and_leaves_nothing(objects: ObjectServer, new_server: ServerFactory, point: str) -> None:
    env = objects.environment(point)
    server = new_server(env=env)
    client = server.client()
    fill(client)
    before = answers(client)
    client.close()
    server.stop()
    shutil.rmtree(server.data_dir / "segments")
    dying = new_server(env={**env, "MILVINE_CRASH_AT": point}, data_dir=server.data_dir, start=False)
    dying.spawn()
    if point == "store.fetched":
        assert dying.process.wait(WAIT_SECONDS) == -9
    else:
        dying.wait_ready()
        client = dying.client()

        def work() -> None:
            client.insert(NAME, rows(ROWS, ROWS + 100), retry_times=0)
            client.flush(NAME, retry_times=0)
            client.drop_collection(NAME, retry_times=0)

        crash(dying, client, work)
    server.start()
    client = server.client()
    if point == "store.swept":
        assert not client.has_collection(NAME)
    elif point == "store.fetched":
        assert answers(client) == before
    else:
        assert answers(client)[1][0]["count(*)"] == ROWS - 10 + 100
        client.flush(NAME)
    eventually(lambda: objects.sizes(point) == local_files(server))
    client.close()
    server.stop()
    whole = check(server, env)
    assert whole.returncode == 0, whole.stdout + whole.stderr


@pytest.mark.cluster
@pytest.mark.parametrize("point", ["store.marked", "store.claimed"])
def test_a_crash_of_the_first_start_does_not_lock_the_directory_out(
    objects: ObjectServer, new_server: ServerFactory, point: str
) -> None:
    env = objects.environment(point)
    dying = new_server(env={**env, "MILVINE_CRASH_AT": point}, start=False)
    dying.spawn()
    assert dying.process.wait(WAIT_SECONDS) == -9
    new_server(env=env, data_dir=dying.data_dir).stop()


@pytest.mark.cluster
def test_copies_beyond_the_limit_go_unless_they_are_open(objects: ObjectServer, new_server: ServerFactory) -> None:
    server = new_server(env={**objects.environment("small"), "MILVINE_STORE_CACHE_LIMIT": "1000"})
    client = server.client()
    fill(client)
    before, loaded = answers(client), local_files(server)
    assert {Path(name).suffix for name in loaded} >= {".seg", ".col", ".index"}
    client.release_collection(NAME)
    eventually(lambda: sum(local_files(server).values()) <= 1000)
    client.load_collection(NAME)
    assert answers(client) == before
    client.close()


@pytest.mark.cluster
def test_copies_in_a_cache_that_is_full_at_the_start_stay_until_it_grows(
    objects: ObjectServer, new_server: ServerFactory
) -> None:
    server = new_server(env=objects.environment("full"))
    client = server.client()
    fill(client)
    fill(client, "other")
    client.release_collection("other")
    other = client.describe_collection("other")["collection_id"]
    client.close()
    server.stop()
    copies = local_files(server)
    lacking = next(iter(objects.sizes("full")))
    objects.s3.delete_object(Bucket=BUCKET, Key=f"full/{lacking}")
    small = new_server(
        env={**objects.environment("full"), "MILVINE_STORE_CACHE_LIMIT": "1000"},
        data_dir=server.data_dir,
        metrics_port=free_port(),
    )
    eventually(lambda: lacking in objects.sizes("full"))  # the first sweep, which an eviction would follow
    time.sleep(1.0)
    assert local_files(small) == copies
    assert metric(small, "milvine_store_cached_bytes") == sum(copies.values())
    client = small.client()
    client.load_collection("other")
    assert metric(small, "milvine_store_misses_total") == 0
    client.release_collection("other")
    client.insert(NAME, rows(ROWS, ROWS + 10))
    client.flush(NAME)
    eventually(lambda: not any(name.startswith(f"segments/{other}/") for name in local_files(small)))
    client.close()


@pytest.mark.cluster
def test_the_files_of_an_existing_directory_move_into_a_store(objects: ObjectServer, new_server: ServerFactory) -> None:
    alone = new_server()
    client = alone.client()
    fill(client)
    before = answers(client)
    client.close()
    alone.stop()
    env = objects.environment("moved")
    server = new_server(env=env, data_dir=alone.data_dir)
    eventually(lambda: objects.sizes("moved") == local_files(server))
    server.stop()
    shutil.rmtree(server.data_dir / "segments")
    server.start()
    client = server.client()
    assert answers(client) == before
    client.close()
