"""Object stores that fail or stall while rows go out or come in: a clear reason, nothing left, and it works later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from conftest import Server
from object_servers import BUCKET, KEYS, ObjectServer
from pymilvus import MilvusClient
from relay import Relay

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

NAME = "out"
DIM = 128
ROWS = 20_000
HALF_BYTES = 3 << 20
COMMAND_SECONDS = 240
FAULTS = ("broken", "deaf")


@pytest.fixture(scope="module")
def relay(objects: ObjectServer) -> Iterator[Relay]:
    started = Relay(int(objects.endpoint.rpartition(":")[2]))
    yield started
    started.close()


@pytest.fixture(autouse=True)
def mended(relay: Relay) -> Iterator[None]:
    yield
    relay.mend()


@pytest.fixture(scope="module")
def source(objects: ObjectServer, relay: Relay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {
        **KEYS,
        "MILVINE_SNAPSHOT_PATH": objects.uri("snapshots"),
        "MILVINE_IMPORT_PATH": objects.uri("imports"),
        "MILVINE_STORE_ENDPOINT": relay.endpoint,
        "MILVINE_STORE_REGION": "us-east-1",
    }
    server = Server(tmp_path_factory.mktemp("source"), env=env).start()
    client = server.client()
    client.create_collection(NAME, dimension=DIM)
    vectors = np.random.default_rng(1).random((ROWS, DIM), dtype=np.float32)
    for start in range(0, ROWS, 5_000):
        client.insert(NAME, [{"id": i, "vector": vectors[i]} for i in range(start, start + 5_000)])
    client.flush(NAME)
    client.create_snapshot("s", NAME)
    client.close()
    yield server
    server.close()


def milvine(relay: Relay, *arguments: str, code: int = 0) -> Any:
    """What the command says: JSON, or its sentence if it fails."""
    store = ["--endpoint", relay.endpoint, "--region", "us-east-1"]
    command = [sys.executable, "-m", "milvine", *arguments, *store, "--json"]
    done = subprocess.run(
        command, env={**os.environ, **KEYS}, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stderr + done.stdout if code else json.loads(done.stdout)


def names(objects: ObjectServer, prefix: str) -> list[str]:
    found = objects.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/")
    return sorted(one["Key"] for one in found.get("Contents", ()))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_backup_ends_with_a_reason_and_the_next_one_goes_on(
    source: Server, objects: ObjectServer, relay: Relay, fault: str
) -> None:
    place = objects.uri(f"backups-{fault}")
    relay.fail_after(HALF_BYTES, fault)
    said = milvine(relay, "backup", place, "--uri", source.uri, code=1)
    assert said.startswith(f"milvine: cannot write to {place}: ") and said.count("\n") == 1, said
    assert not list(source.data_dir.glob("backups/*")), "the server holds nothing any more"
    relay.mend()
    assert "has no backup" in milvine(relay, "restore", place, "--list", code=1)
    assert milvine(relay, "backup", place, "--uri", source.uri)["rows"] == ROWS


@pytest.mark.parametrize("fault", FAULTS)
def test_an_export_ends_with_a_reason_and_leaves_no_object(
    source: Server, objects: ObjectServer, relay: Relay, fault: str
) -> None:
    target = objects.uri(f"exports-{fault}/rows.parquet")
    relay.fail_after(HALF_BYTES, fault)
    said = milvine(relay, "export", NAME, target, "--uri", source.uri, code=1)
    assert "cannot write to" in said and said.count("\n") == 1, said
    relay.mend()
    assert names(objects, f"exports-{fault}") == []
    assert milvine(relay, "export", NAME, target, "--uri", source.uri)["rows"] == ROWS


@pytest.mark.parametrize("fault", FAULTS)
def test_a_snapshot_that_is_exported_ends_with_a_reason_and_is_no_snapshot(
    source: Server, objects: ObjectServer, relay: Relay, fault: str
) -> None:
    def post(route: str, **body: Any) -> Any:
        url = f"{source.uri}/v2/vectordb/jobs/snapshot/{route}"
        return requests.post(url, json=body, headers={"Request-Timeout": "2"}, timeout=COMMAND_SECONDS).json()

    relay.fail_after(HALF_BYTES, fault)
    asked = {"collectionName": NAME, "snapshotName": "s", "targetS3Path": objects.uri(f"snapshots/{fault}")}
    answer = post("export", **asked)
    if answer["code"] == 0:
        job: dict[str, Any] = {}
        ends_at = time.monotonic() + COMMAND_SECONDS
        while job.get("state") != "ExportSnapshotFailed":
            assert time.monotonic() < ends_at, job
            time.sleep(0.5)
            job = post("describe", jobId=str(answer["data"]["jobId"]))["data"]
        assert "cannot write to" in job["reason"], job
    else:
        assert "cannot" in answer["message"], answer
    relay.mend()
    assert not any(name.endswith("metadata.json") for name in names(objects, f"snapshots/{fault}"))
    exported = post("export", **asked)
    assert exported["code"] == 0, exported


@pytest.mark.parametrize("fault", FAULTS)
def test_a_restore_goes_on_where_the_store_failed(
    source: Server, objects: ObjectServer, relay: Relay, tmp_path: Path, fault: str
) -> None:
    place = objects.uri("restored")
    milvine(relay, "backup", place, "--uri", source.uri)
    target = tmp_path / "target"
    relay.fail_after(HALF_BYTES, fault)
    said = milvine(relay, "restore", place, str(target), code=1)
    assert "cannot read from" in said or "cannot list" in said, said
    assert said.count("\n") == 1 and not target.exists()
    relay.mend()
    assert milvine(relay, "restore", place, str(target))["isWhole"]


@pytest.mark.parametrize("fault", FAULTS)
def test_an_import_fails_with_a_reason_and_leaves_nothing(
    source: Server, objects: ObjectServer, relay: Relay, fault: str
) -> None:
    target = objects.uri("imports/rows.parquet")
    if not names(objects, "imports"):
        milvine(relay, "export", NAME, target, "--uri", source.uri)
    client: MilvusClient = source.client()
    name = f"into_{fault}"
    client.create_collection(name, dimension=DIM)
    segments = source.data_dir / "segments" / str(client.describe_collection(name)["collection_id"])
    relay.fail_after(HALF_BYTES, fault)
    said = milvine(relay, "import", name, target, "--uri", source.uri, code=1)
    assert "cannot read from" in said or "not found" in said, said
    assert not list(segments.glob("*")), "no file is left"
    relay.mend()
    assert milvine(relay, "import", name, target, "--uri", source.uri)["importedRows"] == ROWS
    client.drop_collection(name)
    client.close()
