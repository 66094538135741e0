"""Snapshots exported below snapshot.path, and restored from there by the same server and by another one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from conftest import Server, ServerFactory
from directory_check import findings
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2

from milvine.storage.files import walk_files

DIM = 8
ROWS = 300


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("places")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, places: Path) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("source"), env={"MILVINE_SNAPSHOT_PATH": str(places)})
    try:
        yield server.start()
        server.stop()
        assert findings(server.data_dir) == [], "exports leave nothing behind"
    finally:
        server.close()


@pytest.fixture(scope="module")
def client(source: Server) -> Iterator[MilvusClient]:
    client = source.client()
    yield client
    client.close()


def vector(key: int) -> list[float]:
    found: list[float] = np.random.default_rng(key).random(DIM).tolist()
    return found


def fill(client: MilvusClient, name: str) -> None:
    """Two segments in two partitions, an index, and flushed deletes: ROWS - 10 rows in the snapshot `s`."""
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params("vector", index_type="HNSW", metric_type="L2", M=8, efConstruction=64)
    client.create_collection(name, schema=schema, index_params=index, properties={"collection.ttl.seconds": "99999"})
    client.create_partition(name, "a")
    rows = [{"id": k, "vector": vector(k), "color": "red"} for k in range(ROWS)]
    client.insert(name, rows[:200])
    client.flush(name)
    client.insert(name, rows[200:], partition_name="a")
    client.delete(name, ids=[*range(10)])
    client.flush(name)
    client.create_snapshot("s", name, description="to move")


@pytest.fixture(scope="module")
def filled(client: MilvusClient) -> str:
    fill(client, "moving")
    return "moving"


def post(server: Server, route: str, **body: Any) -> Any:
    answer = requests.post(f"{server.uri}/v2/vectordb/jobs/snapshot/{route}", json=body, timeout=60).json()
    return answer["data"] if answer["code"] == 0 else (answer["code"], answer["message"])


def export(server: Server, name: str, target: str) -> str:
    uri: str = post(server, "export", collectionName=name, snapshotName="s", targetS3Path=target)["snapshotMetadataURI"]
    return uri


def ended(server: Server, job_id: Any) -> Any:
    deadline = time.monotonic() + 60
    while (job := post(server, "describe", jobId=str(job_id)))["state"].endswith(("Pending", "Executing")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return job


def restored(server: Server, uri: str, target: str) -> Any:
    body = {"targetCollectionName": target, "snapshotMetadataURI": uri}
    return ended(server, post(server, "restore_external", **body)["jobId"])


def check(client: MilvusClient, name: str) -> None:
    client.load_collection(name)
    assert client.query(name, "", output_fields=["count(*)"]) == [{"count(*)": ROWS - 10}]
    part = client.query(name, "", output_fields=["count(*)"], partition_names=["a"])
    assert part == [{"count(*)": ROWS - 200}]
    hits = client.search(name, [vector(44), vector(3)], limit=1, output_fields=["color"])
    assert (hits[0][0]["id"], hits[0][0]["entity"]["color"]) == (44, "red")
    assert hits[1][0]["id"] != 3, "deleted before the snapshot"
    assert client.describe_index(name, "vector")["index_type"] == "HNSW"
    assert client.describe_collection(name)["properties"]["collection.ttl.seconds"] == "99999"
    client.insert(name, [{"id": 9000, "vector": vector(9000)}])
    client.delete(name, ids=[50])
    client.flush(name)
    found = client.query(name, "", output_fields=["count(*)"], consistency_level="Strong")
    assert found == [{"count(*)": ROWS - 10}]


def test_another_server_restores_what_one_exported(
    source: Server, filled: str, client: MilvusClient, places: Path, new_server: ServerFactory
) -> None:
    uri = export(source, filled, "out")
    assert uri.startswith(f"{places}/out/s-") and uri.endswith("/metadata.json")
    there = new_server(env={"MILVINE_SNAPSHOT_PATH": str(places)})
    job = restored(there, uri, "moved")
    assert (job["state"], job["progress"], job["collectionName"]) == ("RestoreSnapshotCompleted", 100, "moved")
    elsewhere = there.client()
    check(elsewhere, "moved")
    elsewhere.close()
    there.kill()
    elsewhere = there.start().client()
    assert elsewhere.query("moved", "id == 44", output_fields=["color"])[0]["color"] == "red"
    elsewhere.close()
    there.stop()
    assert findings(there.data_dir) == []
    assert restored(source, uri.removeprefix(f"{places}/"), "beside")["state"] == "RestoreSnapshotCompleted"
    check(client, "beside")


def test_rpcs_export_and_restore(source: Server, filled: str) -> None:
    asked = milvus_pb2.ExportSnapshotRequest(name="s", collection_name=filled, target_s3_path="rpc")
    answer = source.stub.ExportSnapshot(asked)
    assert answer.status.code == 0 and answer.job_id
    info = source.stub.GetExportSnapshotState(milvus_pb2.GetExportSnapshotStateRequest(job_id=answer.job_id)).info
    assert (info.state, info.progress, info.snapshot_name, info.reason) == (3, 100, "s", "")
    assert info.total_files == info.copied_files > 4 and info.total_bytes > 1000
    assert info.snapshot_metadata_uri == answer.snapshot_metadata_uri
    back = milvus_pb2.RestoreExternalSnapshotRequest(
        target_collection_name="by_rpc", snapshot_metadata_uri=answer.snapshot_metadata_uri
    )
    job_id = source.stub.RestoreExternalSnapshot(back).job_id
    assert ended(source, job_id)["state"] == "RestoreSnapshotCompleted"
    again = source.stub.RestoreExternalSnapshot(back).status
    assert again.code == 1100 and "duplicate collection" in again.reason
    missing = source.stub.GetExportSnapshotState(milvus_pb2.GetExportSnapshotStateRequest(job_id=1)).status
    assert (missing.code, "export job not found" in missing.reason) == (2100, True)


def test_an_exported_snapshot_outlives_its_collection(source: Server, client: MilvusClient) -> None:
    fill(client, "gone")
    uri = export(source, "gone", "out")
    client.drop_collection("gone")
    assert restored(source, uri, "back")["state"] == "RestoreSnapshotCompleted"
    check(client, "back")


def test_what_is_damaged_or_hostile_is_refused_and_leaves_nothing(
    source: Server, filled: str, client: MilvusClient, places: Path
) -> None:
    uri = Path(export(source, filled, "broken"))
    victim = max(uri.parent.rglob("*.col"), key=lambda path: path.stat().st_size)
    content = victim.read_bytes()
    before = client.list_collections()

    def refusal(target: str) -> str:
        job = restored(source, str(uri), target)
        assert job["state"] == "RestoreSnapshotFailed"
        assert client.list_collections() == before
        reason: str = job["reason"]
        return reason

    victim.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    assert "checksum" in refusal("x1")
    other = min(uri.parent.rglob("*.col"), key=lambda path: path.stat().st_size)
    shutil.copy(other, victim)
    assert "is not the file of the snapshot" in refusal("x2")
    victim.write_bytes(content)
    metadata = uri.read_bytes()
    for damaged in (b"", b"[]", b"{}", metadata[:-40], metadata.replace(b"to move", b"to m0ve")):
        uri.write_bytes(damaged)
        code, text = post(source, "restore_external", targetCollectionName="x", snapshotMetadataURI=str(uri))
        assert code == 1009 and "metadata.json" in text
    uri.write_bytes(metadata)
    assert restored(source, str(uri), "whole")["state"] == "RestoreSnapshotCompleted"


def test_bad_requests_get_texts_of_milvus(source: Server, filled: str, places: Path, server: Server) -> None:
    def refused(route: str, **body: Any) -> tuple[int, str]:
        found: tuple[int, str] = post(source, route, **body)
        return found

    names = {"collectionName": filled, "snapshotName": "s", "targetS3Path": "out"}
    assert refused("export", **{**names, "snapshotName": "none"})[0] == 2600
    assert refused("export", **{**names, "snapshotName": "#1"})[0] == 1100
    assert refused("export", **{**names, "collectionName": "none"})[0] == 100
    assert refused("export", **names, externalSpec="x")[0] == 1100
    (places / "link").symlink_to("/tmp")
    for outside in ("/etc", "out/../..", "s3://bucket/x", "link/x", f"{places}x/y", "file:///etc"):
        assert refused("export", **{**names, "targetS3Path": outside})[0] == 1100, outside
        body = {"targetCollectionName": "t", "snapshotMetadataURI": f"{outside}/metadata.json"}
        assert refused("restore_external", **body)[0] == 1100, outside
    (places / "link").unlink()
    missing = refused("restore_external", targetCollectionName="t", snapshotMetadataURI="none/metadata.json")
    assert missing[0] == 1001 and "cannot read" in missing[1]
    nowhere = post(server, "restore_external", targetCollectionName="t", snapshotMetadataURI="x")
    assert nowhere[0] == 1100 and "snapshot.path" in nowhere[1], "the setting is empty there"
    left = [path for path in walk_files(places) if path.suffix == ".unfinished"]
    assert left == []


@pytest.mark.parametrize(
    "point",
    [
        "snapshot_export.file_stored",
        "restore.file_fetched",
        *(pytest.param(p, marks=pytest.mark.nightly) for p in ("snapshot_export.begun", "snapshot_export.stored")),
    ],
)
def test_a_crash_leaves_a_whole_snapshot_or_none(tmp_path: Path, new_server: ServerFactory, point: str) -> None:
    places = tmp_path / "places"
    places.mkdir()
    env = {"MILVINE_SNAPSHOT_PATH": str(places)}
    server = new_server(env=env)
    client = server.client()
    fill(client, "moving")
    uri = export(server, "moving", "first")
    client.close()
    server.stop()
    dying = new_server(data_dir=server.data_dir, env={**env, "MILVINE_CRASH_AT": point})
    with pytest.raises(requests.ConnectionError):
        if point.startswith("restore"):
            restored(dying, uri, "moved")
        else:
            export(dying, "moving", "second")
    again = new_server(data_dir=server.data_dir, env=env)
    client = again.client()
    if point.startswith("restore"):
        deadline = time.monotonic() + 30
        while not client.has_collection("moved"):
            assert time.monotonic() < deadline, "the next start begins again"
            time.sleep(0.05)
        check(client, "moved")
    else:
        finished = list((places / "second").rglob("metadata.json"))
        assert len(finished) == (point == "snapshot_export.stored")
        assert restored(again, export(again, "moving", "third"), "moved")["state"] == "RestoreSnapshotCompleted"
    client.close()
    again.stop()
    assert findings(server.data_dir) == []
